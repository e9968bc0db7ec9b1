"""``impasto train encoder``: reads the recipe of a bundled encoder and distils it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbones import load_vgg
from ..backbones.compact import Compact, save_encoder
from ..backbones.records import BACKBONES, BUNDLED
from ..device import arranged, choose_device, choose_precision
from ..errors import InputError, spelled
from ..files import check_apart, path_of
from ..progress import drawn
from .bank import DistillConfig, Teacher
from .distill import distill
from .loop import OnProgress
from .recipes import build, changes_named, check, given_twice, merged, nested, read_toml
from .sets import PictureSet, check_run_apart
from .teachers import CollaborativeTeacher

__all__ = ["read_recipe", "train"]

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def read_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> DistillConfig:
    """The configuration of a recipe, overridden by ``changes`` such as ``{"batch": 4}``.

    Raises InputError for unknown keys or values of a wrong type.
    """
    changed = nested(changes or {})
    types = {field.name: str(field.type) for field in dataclasses.fields(DistillConfig)}
    check(changed, types, changes_named())
    table = merged(read_toml(path), changed)
    where = f"{path} with {changes_named()}" if changed else str(path)
    config = build(DistillConfig, table, where)
    if not isinstance(config.layers, dict) or bool(config.layers) == bool(config.widths):
        raise InputError(f"{where}: give either widths or a table of layers; see recipes/")
    channel_lists = config.layers.values() if config.layers else config.widths
    if not all(
        isinstance(channels, list | tuple) and channels and all(type(n) is int for n in channels)
        for channels in channel_lists
    ):
        key = "layers" if config.layers else "widths"
        raise InputError(f"{where}: {key}: give lists of channels; see recipes/")
    layers = {conv: tuple(shape) for conv, shape in config.layers.items()}
    config = dataclasses.replace(config, layers=layers)
    if config.optimizer not in ("adam", "muon"):
        raise InputError(f"{where}: optimizer {config.optimizer!r} is unknown: use adam or muon")
    if config.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        raise InputError(f"{where}: optimizer 'muon' needs torch 2.9 or newer: update torch")
    if layers:
        try:
            Compact(layers)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    if not isinstance(config.taps, dict) or any(
        tap not in TAPS or type(weight) not in (int, float) or weight < 0
        for tap, weight in config.taps.items()
    ):
        raise InputError(f"{where}: taps: give weights of 0 or more for some of {', '.join(TAPS)}")
    return config


@drawn("training")
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
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    on_progress: OnProgress = lambda step, steps, loss: None,
    progress: bool = False,
) -> None:
    """Distil the encoder ``name`` and write it to ``out`` with its figures in the header.

    Args:
        photos, paintings: folders, searched recursively.
        teacher, convention: weights of VGG-19, and the input convention that they expect.
        teacher_relu5: weights of a :class:`CollaborativeTeacher` for relu5_1, if the teacher has
            no such layer.
        recipe: TOML with the keys of :class:`DistillConfig`.
        run: folder of the bank and the checkpoint; an interrupted run resumes.
        out: the encoder to write, ``.safetensors``.
        steps: overrides the recipe.
        log: called with each log line.
        name: ``compact`` or ``slim``.
        changes: override further keys of the recipe: key -> value.
        device: see :mod:`impasto.device`.
        on_progress: see :data:`impasto.training.loop.OnProgress`.
        progress: draw a progress bar, in notebooks too.

    Raises:
        InputError: if a folder, a file or the recipe cannot be used, or an input file would be
            overwritten.
        Interrupted: if ``on_progress`` returned True.
    """
    if name not in BUNDLED:
        raise InputError(f"encoder {name!r} is unknown: use {' or '.join(BUNDLED)}")
    photos, paintings = path_of(photos, "photos"), path_of(paintings, "paintings")
    teacher, recipe = path_of(teacher, "teacher"), path_of(recipe, "recipe")
    run, out = path_of(run, "run"), path_of(out, "out")
    teacher_relu5 = None if teacher_relu5 is None else path_of(teacher_relu5, "teacher_relu5")
    if steps is not None and "steps" in (changes or {}):
        raise given_twice("steps", "steps")
    config = read_recipe(recipe, changes)
    is_vgg = BACKBONES[name].mirrored  # a plain VGG has widths, others have layers
    if bool(config.layers) == is_vgg:
        other = next(key for key in BUNDLED if BACKBONES[key].mirrored != is_vgg)
        raise InputError(
            f"{recipe}: the recipe of a {other}: give {spelled('name', other, 'backbone')}",
            option="name",
        )
    if steps is not None:
        config = dataclasses.replace(config, steps=steps)
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name of an encoder ends in .safetensors")
    check_run_apart(run, [photos, paintings])
    check_apart(
        [out, run / "bank.pt", run / "last.pt", run / "losses.csv"],
        [teacher, teacher_relu5, recipe],
    )
    target_device = choose_device(device)
    vgg = arranged(load_vgg("vgg19", teacher, convention=convention, photos=photos))
    taps = [tap for tap in TAPS if tap in vgg.taps]
    precision = choose_precision("auto", target_device)
    fast_vgg = arranged(copy.deepcopy(vgg).to(precision), target_device)

    def vgg_teacher(picture: Tensor) -> dict[str, Tensor]:
        features = fast_vgg(arranged(picture, target_device), taps)
        return {tap: values.float() for tap, values in features.items()}

    teachers: list[Teacher] = [vgg_teacher]
    if teacher_relu5 is not None and "relu5_1" not in taps:
        teachers.append(CollaborativeTeacher(teacher_relu5, device=target_device))
    pictures = PictureSet([photos, paintings], held_out=0.05, warn=log, leave_out=run)
    log(f"{len(pictures.train)} pictures for training, {len(pictures.validation)} held out")
    net, figures = distill(
        *(pictures, teachers, config, run, vgg, log), device=target_device, on_progress=on_progress
    )
    net.served = tuple(figures)
    save_encoder(net, out, {"validation": figures, "recipe": dataclasses.asdict(config)})
    log(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")
