"""``impasto train encoder``: the recipe of the bundled encoder, read and run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ..backbones import load_vgg
from ..backbones.compact import save_compact
from ..device import channels_last, tune_process
from ..errors import InputError
from .data import PictureSet
from .distill import DistillConfig, Teacher, distill
from .recipes import build, read_toml
from .teachers import CollaborativeTeacher

__all__ = ["read_recipe", "train"]

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def read_recipe(path: Path) -> DistillConfig:
    """A recipe as a configuration. Raises InputError for unknown keys or values of a wrong type."""
    config = build(DistillConfig, {"widths": [], **read_toml(path)}, str(path))
    if not config.widths or not all(
        isinstance(b, tuple) and all(type(w) is int for w in b) for b in config.widths
    ):
        raise InputError(f"{path}: widths: give lists of channels, such as [[16, 16], [32]]")
    for key in ("crops", "validation", "size", "positions", "steps", "batch"):
        if getattr(config, key) < 1:
            raise InputError(f"{path}: {key} = {getattr(config, key)} must be 1 or more")
    return config


def train(
    photos: Path,
    paintings: Path,
    teacher: Path,
    convention: str | None,
    teacher_relu5: Path | None,
    recipe: Path,
    run: Path,
    out: Path,
    steps: int | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Distil an encoder and write it to ``out`` with its figures in the header.

    Raises:
        InputError: if a folder, a file or the recipe cannot be used.
    """
    config = read_recipe(recipe)
    if steps is not None:
        config = dataclasses.replace(config, steps=steps)
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name of an encoder ends in .safetensors")
    tune_process()
    vgg = channels_last(load_vgg("vgg19", teacher, convention=convention, photos=photos))
    taps = [tap for tap in TAPS if tap in vgg.taps]

    def first(picture: Tensor) -> dict[str, Tensor]:
        return dict(vgg(picture, taps))

    teachers: list[Teacher] = [first]
    if teacher_relu5 is not None and "relu5_1" not in taps:
        teachers.append(CollaborativeTeacher(teacher_relu5))
    pictures = PictureSet([photos, paintings], held_out=0.05, warn=log)
    log(f"{len(pictures.train)} pictures to learn from, {len(pictures.validation)} held out")
    net, figures = distill(pictures, teachers, config, run, vgg, log)
    net.served = tuple(figures)
    save_compact(net, out, {"validation": figures, "recipe": dataclasses.asdict(config)})
    log(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")
