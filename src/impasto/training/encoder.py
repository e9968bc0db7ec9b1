"""``impasto train encoder``: the recipe of the bundled encoder, read and run."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ..backbones import load_backbone
from ..backbones.compact import save_compact
from ..device import channels_last, tune_process
from ..errors import InputError
from .data import PictureSet
from .distill import DistillConfig, Teacher, distill
from .teachers import CollaborativeTeacher

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_recipe", "train"]

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def read_recipe(path: Path) -> DistillConfig:
    """A recipe as a configuration. Raises InputError for unknown keys or values of a wrong type."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a recipe that can be read ({error}); see recipes/") from None
    known = {field.name: field for field in dataclasses.fields(DistillConfig)}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}; the keys are {', '.join(known)}")
        kinds: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float)}
        kind = kinds.get(str(known[key].type), (list,))
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            raise InputError(f"{path}: {key} = {value!r} is not of type {known[key].type}")
    widths = values.get("widths")
    if not widths or not all(
        isinstance(b, list) and all(type(w) is int for w in b) for b in widths
    ):
        raise InputError(f"{path}: widths: give lists of channels, such as [[16, 16], [32]]")
    for key in ("crops", "validation", "size", "positions", "steps", "batch"):
        if values.get(key, 1) < 1:
            raise InputError(f"{path}: {key} = {values[key]} must be 1 or more")
    values["widths"] = tuple(tuple(block) for block in values["widths"])
    values["rounds"] = tuple(values.get("rounds", ()))
    return DistillConfig(**values)


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
    vgg = channels_last(load_backbone("vgg19", teacher, convention=convention, photos=photos))
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
