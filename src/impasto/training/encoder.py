"""``impasto train encoder``: the recipe of a bundled encoder, read and run."""

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
from ..backbones.records import BUNDLED
from ..device import arranged, choose_device, choose_precision
from ..errors import InputError
from ..files import check_apart, path_of
from ..progress import drawn
from .bank import DistillConfig, Teacher
from .distill import distill
from .loop import OnProgress
from .recipes import build, check, merged, nested, read_toml
from .sets import PictureSet, check_run_apart
from .teachers import CollaborativeTeacher

__all__ = ["read_recipe", "train"]

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def read_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> DistillConfig:
    """A recipe as a configuration, with ``changes`` such as ``{"batch": 4}`` in it.

    Raises InputError for unknown keys or values of a wrong type.
    """
    changed = nested(changes or {})
    known = {field.name: str(field.type) for field in dataclasses.fields(DistillConfig)}
    check(changed, known, "--set")
    table = merged(read_toml(path), changed)
    where = f"{path} with --set" if changed else str(path)
    config = build(DistillConfig, table, where)
    if not isinstance(config.layers, dict) or bool(config.layers) == bool(config.widths):
        raise InputError(f"{where}: give either widths or a table of layers; see recipes/")
    numbers = config.layers.values() if config.layers else config.widths
    if not all(
        isinstance(given, list | tuple) and given and all(type(n) is int for n in given)
        for given in numbers
    ):
        key = "layers" if config.layers else "widths"
        raise InputError(f"{where}: {key}: give lists of channels; see recipes/")
    layers = {conv: tuple(shape) for conv, shape in config.layers.items()}
    config = dataclasses.replace(config, layers=layers)
    if config.optimizer not in ("adam", "muon"):
        raise InputError(f"{where}: optimizer {config.optimizer!r} is unknown: use adam or muon")
    if config.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        raise InputError(f"{where}: optimizer 'muon' needs torch 2.9 or newer: install that")
    if layers:
        try:
            Compact(layers)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    if not isinstance(config.taps, dict) or any(
        tap not in TAPS or type(weight) not in (int, float) or weight < 0
        for tap, weight in config.taps.items()
    ):
        raise InputError(f"{where}: taps: give some of {', '.join(TAPS)} weights of 0 or more")
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
        photos, paintings: folders, searched with all that is below them.
        teacher, convention: VGG-19's weights, and what they expect of their input.
        teacher_relu5: a :class:`CollaborativeTeacher`'s, for relu5_1, if the teacher ends before.
        recipe: TOML with the keys of :class:`DistillConfig`.
        run: folder of the bank and the checkpoint; an interrupted run goes on.
        out: the encoder to write, ``.safetensors``.
        steps: instead of the recipe's.
        log: called with a line of progress.
        name: ``compact`` or ``slim``.
        changes: instead of the recipe's: its keys -> values.
        device: see :mod:`impasto.device`.
        on_progress: see :data:`impasto.training.loop.OnProgress`.
        progress: draw a bar, which notebooks draw too.

    Raises:
        InputError: if a folder, a file or the recipe cannot be used, or something read would be
            overwritten.
        Interrupted: if ``on_progress`` asked for the end.
    """
    if name not in BUNDLED:
        raise InputError(f"encoder {name!r} is unknown: use {' or '.join(BUNDLED)}")
    photos, paintings = path_of(photos, "photos"), path_of(paintings, "paintings")
    teacher, recipe = path_of(teacher, "teacher"), path_of(recipe, "recipe")
    run, out = path_of(run, "run"), path_of(out, "out")
    teacher_relu5 = None if teacher_relu5 is None else path_of(teacher_relu5, "teacher_relu5")
    if steps is not None and "steps" in (changes or {}):
        raise InputError("steps: given by --steps and --set; leave one out")
    config = read_recipe(recipe, changes)
    if bool(config.layers) != (name == "compact"):
        other = "slim" if name == "compact" else "compact"
        raise InputError(f"{recipe}: the recipe of a {other}: give --backbone {other}")
    if steps is not None:
        config = dataclasses.replace(config, steps=steps)
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name of an encoder ends in .safetensors")
    check_run_apart(run, [photos, paintings])
    check_apart(
        [out, run / "bank.pt", run / "last.pt", run / "losses.csv"],
        [teacher, teacher_relu5, recipe],
    )
    where = choose_device(device)
    vgg = arranged(load_vgg("vgg19", teacher, convention=convention, photos=photos))
    taps = [tap for tap in TAPS if tap in vgg.taps]
    fast = arranged(copy.deepcopy(vgg).to(choose_precision("auto", where)), where)

    def first(picture: Tensor) -> dict[str, Tensor]:
        features = fast(arranged(picture, where), taps)
        return {tap: values.float() for tap, values in features.items()}

    teachers: list[Teacher] = [first]
    if teacher_relu5 is not None and "relu5_1" not in taps:
        teachers.append(CollaborativeTeacher(teacher_relu5, device=where))
    pictures = PictureSet([photos, paintings], held_out=0.05, warn=log, leave_out=run)
    log(f"{len(pictures.train)} pictures to learn from, {len(pictures.validation)} held out")
    net, figures = distill(
        *(pictures, teachers, config, run, vgg, log), device=where, on_progress=on_progress
    )
    net.served = tuple(figures)
    save_encoder(net, out, {"validation": figures, "recipe": dataclasses.asdict(config)})
    log(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")
