"""``impasto train encoder``: the recipe of a bundled encoder, read and run."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..backbones import load_vgg
from ..backbones.compact import Compact, save_encoder
from ..device import channels_last, choose_precision
from ..errors import InputError
from .data import PictureSet
from .distill import DistillConfig, Teacher, distill
from .recipes import build, read_toml
from .teachers import CollaborativeTeacher

__all__ = ["read_recipe", "train"]

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def read_recipe(path: Path) -> DistillConfig:
    """A recipe as a configuration. Raises InputError for unknown keys or values of a wrong type."""
    table = read_toml(path)
    config = build(DistillConfig, table, str(path))
    if not isinstance(config.layers, dict) or bool(config.layers) == bool(config.widths):
        raise InputError(f"{path}: give either widths or a table of layers; see recipes/")
    numbers = config.layers.values() if config.layers else config.widths
    if not all(
        isinstance(given, list | tuple) and given and all(type(n) is int for n in given)
        for given in numbers
    ):
        key = "layers" if config.layers else "widths"
        raise InputError(f"{path}: {key}: give lists of channels; see recipes/")
    layers = {conv: tuple(shape) for conv, shape in config.layers.items()}
    config = dataclasses.replace(config, layers=layers)
    if config.optimizer not in ("adam", "muon"):
        raise InputError(f"{path}: optimizer {config.optimizer!r} is unknown: use adam or muon")
    if config.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        raise InputError(f"{path}: optimizer 'muon' needs torch 2.9 or newer: install that")
    if layers:
        try:
            Compact(layers)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    if not isinstance(config.taps, dict) or any(
        tap not in TAPS or type(weight) not in (int, float) or weight < 0
        for tap, weight in config.taps.items()
    ):
        raise InputError(f"{path}: taps: give some of {', '.join(TAPS)} weights of 0 or more")
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
    name: str = "compact",
) -> None:
    """Distil the encoder ``name`` and write it to ``out`` with its figures in the header.

    Raises:
        InputError: if a folder, a file or the recipe cannot be used.
    """
    config = read_recipe(recipe)
    if bool(config.layers) != (name == "compact"):
        other = "slim" if name == "compact" else "compact"
        raise InputError(f"{recipe}: the recipe of a {other}: give --backbone {other}")
    if steps is not None:
        config = dataclasses.replace(config, steps=steps)
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name of an encoder ends in .safetensors")
    vgg = channels_last(load_vgg("vgg19", teacher, convention=convention, photos=photos))
    taps = [tap for tap in TAPS if tap in vgg.taps]
    fast = copy.deepcopy(vgg).to(choose_precision("auto", torch.device("cpu")))

    def first(picture: Tensor) -> dict[str, Tensor]:
        picture = picture.contiguous(memory_format=torch.channels_last)
        return {tap: features.float() for tap, features in fast(picture, taps).items()}

    teachers: list[Teacher] = [first]
    if teacher_relu5 is not None and "relu5_1" not in taps:
        teachers.append(CollaborativeTeacher(teacher_relu5))
    pictures = PictureSet([photos, paintings], held_out=0.05, warn=log)
    log(f"{len(pictures.train)} pictures to learn from, {len(pictures.validation)} held out")
    net, figures = distill(pictures, teachers, config, run, vgg, log)
    net.served = tuple(figures)
    save_encoder(net, out, {"validation": figures, "recipe": dataclasses.asdict(config)})
    log(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")
