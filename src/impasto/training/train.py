"""``impasto train METHOD``: reads a recipe and trains a method.

A recipe is TOML: ``method``, and the tables ``[options]`` (of the method's ``untrained``),
``[data]`` (:class:`DataConfig`) and ``[training]`` (:class:`TrainingConfig`). A recipe can have
several stages, ``[[stage]]`` tables that override parts of these three. Each stage starts from the
weights of the previous one: for example, a cheap loss network and small crops first, VGG-19 last.
Command-line values override the recipe in all stages: ``--set training.batch=2``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from ..backbones.records import BUNDLED
from ..device import choose_device
from ..errors import InputError, flag_of, spelled
from ..files import check_apart, check_name, path_of, paths_of, same_file
from ..methods import METHODS
from ..options import renamed, was
from ..progress import drawn
from .accelerator import Hardware, is_main
from .crops import DataConfig
from .fit import CHECKPOINT, NETWORK, TrainingConfig, check_run, fit
from .loop import OnProgress
from .methods import TRAINABLE
from .recipes import (
    FLAGS,
    as_paths,
    build,
    changes_named,
    check,
    check_length,
    nested,
    option_named,
    overridden,
    present,
    read_toml,
    recorded,
    typed,
)
from .sets import PictureSet, check_run_apart
from .stream import Pairs

__all__ = ["Stage", "read_recipe", "train"]

TABLES = {"options": "table", "data": "table", "training": "table"}
# Option that names a network -> option of its file.
WEIGHTS = {"encoder": "encoder_weights", "loss_network": "loss_network_weights"}


@dataclass(frozen=True)
class Stage:
    """One stage of training: options of the method, its data, its training."""

    options: dict[str, Any]
    data: DataConfig
    training: TrainingConfig


def trainable(name: str) -> Any:
    """The method's :class:`impasto.training.methods.Learner`, by name.

    Raises:
        InputError: for a method that is unknown or cannot be trained.
    """
    if name not in TRAINABLE:
        fault = "cannot be trained" if name in METHODS else "is unknown"
        choices = ", ".join([*TRAINABLE, "encoder"])
        raise InputError(f"method {name!r} {fault}: use one of {choices}")
    return TRAINABLE[name]


def read_recipe(
    recipe: Path | None, name: str, changes: Mapping[str, Any] | None = None
) -> list[Stage]:
    """The stages of a recipe; a recipe without ``[[stage]]`` has one.

    Args:
        recipe: a TOML file; None uses the defaults.
        name: name of the method.
        changes: values that override the recipe in every stage, such as ``{"training.batch": 2}``.

    Raises:
        InputError: for unknown keys, wrong types, values out of range, or another method's recipe.
    """
    learner = trainable(name)
    parameters = inspect.signature(learner.untrained).parameters
    option_types = {key: _annotation(parameter) for key, parameter in parameters.items()}
    values = {} if recipe is None else read_toml(recipe)
    check(values, {"method": "str", **TABLES, "stage": "tables"}, str(recipe))
    if values.get("method", name) != name:
        raise InputError(f"{recipe}: is a recipe for {values['method']}, not for {name}")
    changed, by_set = nested(present(changes or {}, learner.renames)), changes_named()
    check(changed, TABLES, by_set)
    types = {"options": option_types, "data": _types(DataConfig)}
    types["training"] = _types(TrainingConfig)
    for table, table_changes in changed.items():
        check(table_changes, types[table], f"{by_set} {table}")
    if "options" in values:
        values["options"] = renamed(values["options"], learner.renames, f"{recipe} [options]")
    stages = []
    for number, stage in enumerate(values.get("stage", [{}]), 1):
        where = f"{recipe}, stage {number}" if "stage" in values else str(recipe)
        check(stage, TABLES, where)
        if "options" in stage:
            stage["options"] = renamed(stage["options"], learner.renames, f"{where} [options]")
        tables = overridden({table: values.get(table, {}) for table in TABLES}, stage)
        check(tables["options"], option_types, f"{where} [options]")
        tables = overridden(tables, changed)

        def source_of(table: str, where: str = where) -> str:
            """The origin of the table, for messages."""
            source = f"{where} [{table}]"
            if table not in changed:
                return source
            return f"{by_set} {table}" if recipe is None else f"{source} with {by_set}"

        check_length(tables["training"], source_of("training"))
        data = build(DataConfig, tables["data"], source_of("data"))
        training = build(TrainingConfig, tables["training"], source_of("training"))
        options = {
            key: as_paths(value) if "Path" in option_types[key] else value
            for key, value in tables["options"].items()
        }
        stages.append(Stage(options, data, training))
    return stages


@was(backbone_weights="vgg")
@drawn("training")
def train(
    name: str,
    photos: Path,
    paintings: Path | None,
    recipe: Path | None,
    run: Path,
    out: Path,
    *,
    resume: bool = False,
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    backbone_weights: Path | None = None,
    convention: str | None = None,
    hardware: Hardware | None = None,
    on_progress: OnProgress = lambda step, steps, loss: None,
    progress: bool = False,
    log: Callable[[str], None] = print,
) -> None:
    """Train a method and write it to ``out`` with its figures in the header.

    Args:
        name: name of the method.
        photos, paintings: folders, searched recursively; paintings may be None for a method that
            needs photographs only.
        recipe: see :mod:`impasto.training.train`; None uses the defaults.
        run: folder of the run; several stages use its subfolders ``stage-1`` and so on.
        out: the model to write, ``.safetensors``.
        resume: resume the run in ``run``.
        steps: overrides the recipe.
        options: options of the method that override the recipe, such as the paintings to learn.
        changes: further values that override the recipe, see :func:`read_recipe`.
        backbone_weights, convention: weights of VGG, if it is the encoder or the loss network, and
            the input convention that they expect.
        hardware, on_progress: see :func:`impasto.training.fit.fit`.
        progress: draw a progress bar, in notebooks too.
        log: called with each log line, in the main process.

    Raises:
        InputError: if a folder, a file or the recipe cannot be used, or an input file would be
            overwritten.
        Interrupted: if ``on_progress`` returned True.
    """
    learner = trainable(name)
    photos, run, out = path_of(photos, "photos"), path_of(run, "run"), path_of(out, "out")
    paintings = None if paintings is None else path_of(paintings, "paintings")
    recipe = None if recipe is None else path_of(recipe, "recipe")
    if backbone_weights is not None:
        backbone_weights = path_of(backbone_weights, "backbone_weights")
    options = renamed(options or {}, learner.renames)
    changes = present(changes or {}, learner.renames)
    if "styles" in options:
        options["styles"] = paths_of(options["styles"], "styles")
    log = log if is_main() else lambda line: None
    stages = read_recipe(recipe, name, changes)
    by_set, of_paintings = changes_named(), spelled("paintings")
    conflicts = {"training.steps"} if steps is not None else set()
    conflicts |= {f"options.{key}" for key in options}
    conflicts &= set(changes)
    if conflicts:
        keys = sorted(conflicts)
        flags = ", ".join(option_named(key.split(".")[1]) for key in keys)
        raise InputError(f"{', '.join(keys)}: given by {flags} and {by_set}; leave one out")
    if steps is not None and "training.epochs" in changes:
        raise InputError(f"training.epochs by {by_set} and {spelled('steps')}: leave one out")
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name of a model ends in .safetensors")
    if paintings is None and not learner.photographs_alone:
        needed = f"name a folder, {spelled('paintings', 'DIR')}"
        raise InputError(f"method {name} learns from paintings too: {needed}", option="paintings")
    for key in ("shared_style", "balanced"):
        if paintings is None and any(getattr(stage.data, key) for stage in stages):
            raise InputError(f"data.{key}: is of a folder of paintings, {of_paintings}")
    if paintings is not None and "styles" in inspect.signature(learner.untrained).parameters:
        raise InputError(
            f"method {name} learns paintings of {option_named('styles')}: leave out {of_paintings}"
        )
    if steps is not None:
        if len(stages) > 1:
            raise InputError(
                f"{recipe}: has {len(stages)} stages; set the steps of each in it, or those of "
                f"all with {spelled('changes', {'training.steps': 'N'}, 'set')}"
            )
        stages = [replace(stages[0], training=replace(stages[0].training, steps=steps, epochs=0))]
    stages = _with_options(stages, learner, name, options)
    stages = _with_weights(stages, learner, backbone_weights, convention)
    folders = [run / f"stage-{n}" for n in range(1, len(stages) + 1)] if len(stages) > 1 else [run]
    _check_places(folders, run, out, stages, [photos, paintings, recipe])
    choose_device((hardware or Hardware()).device)  # before the pictures are read
    for folder in folders:
        check_run(folder, resume)
    method, weights, figures = None, None, []
    pictures: tuple[object, PictureSet, PictureSet | None] | None = None
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True), 1):
        torch.manual_seed(stage.training.seed)
        method = learner.untrained(**stage.options)
        training = stage.training
        if weights is not None:
            method.network.load_state_dict(weights)
            training = replace(training, start=0)
        if pictures is None or pictures[0] != _decoding(stage.data):
            pictures = (_decoding(stage.data), *_read(photos, paintings, stage.data, run, log))
        sets = pictures[1:]
        if len(stages) > 1:
            log(f"stage {number} of {len(stages)}")
        stage_options = {key: recorded(value) for key, value in stage.options.items()}
        result = fit(
            method,
            Pairs(*sets, stage.data, stage.training.seed),
            training,
            folder,
            settings={"method": name, "options": stage_options},
            resume=resume,
            hardware=hardware,
            on_progress=on_progress,
            log=log,
        )
        known_options = {**stage_options, **getattr(method, "resolved", {})}
        tables = {"options": known_options, "data": asdict(stage.data), **asdict(training)}
        figures.append({**result, "recipe": {**tables, "steps": result["steps"]}})
        weights = method.network.state_dict()
        log(
            f"{folder}: {result['steps']} steps, {_losses(result)}, "
            f"{result['waiting']:.1%} of the time waiting for data"
        )
    assert method is not None
    assert pictures is not None
    if is_main():
        command = f"impasto train {name} --photos PHOTOS"
        command += " --paintings PAINTINGS" if paintings else ""
        command += f" --recipe {recipe.name}" if recipe else ""
        command += f" --steps {steps}" if steps else ""
        command += f" --backbone-weights {backbone_weights.name}" if backbone_weights else ""
        command += f" --convention {convention}" if convention else ""
        command += typed(_without_folders(changes, learner))
        for key, value in options.items():
            values = value if isinstance(value, list) else [value]
            flag = flag_of(FLAGS.get(key, key))
            command += "".join(f" {flag} {getattr(item, 'name', item)}" for item in values)
        counts = [len(pool.train) for pool in pictures[1:] if pool is not None]
        header = {"command": command, "pictures": counts, **figures[-1]}
        if len(figures) > 1:
            header["stages"] = figures
        method.save(out, header)
        log(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")


# The settings of a DataConfig that _read() uses: stages in which they are equal share pictures.
_decoding = attrgetter("short_side", "validation", "test", "minimum", "memory")


def _check_places(
    folders: list[Path], run: Path, out: Path, stages: list[Stage], inputs: list[Path | None]
) -> None:
    """Raise InputError if an output would overwrite an input or a file of the run."""
    for path in (out, *(folder / NETWORK for folder in folders)):
        check_name(path)
    *pictures, recipe = inputs
    check_run_apart(run, [folder for folder in pictures if folder is not None])
    files = [recipe]
    for stage in stages:
        for value in stage.options.values():
            values = value if isinstance(value, (list, tuple)) else [value]
            files += [path for path in values if isinstance(path, Path)]
    for folder in folders:
        if any(same_file(out, folder / name) for name in (NETWORK, CHECKPOINT)):
            raise InputError(f"{out}: is a file of the run itself; choose another -o")
        written = [folder / name for name in (NETWORK, CHECKPOINT, "losses.png")]
        check_apart([*written, *folder.glob("samples-*.png")], files)
    check_apart([out], files)


def _read(
    photos: Path,
    paintings: Path | None,
    config: DataConfig,
    run: Path,
    log: Callable[[str], None],
) -> tuple[PictureSet, PictureSet | None]:
    """Read photographs and paintings, and log their counts."""

    def read_folder(kind: str, folder: Path, minimum: int) -> PictureSet:
        limits = {"held_out": config.validation, "test": config.test, "memory": config.memory}
        pictures = PictureSet(
            [folder], config.short_side, warn=log, minimum=minimum, leave_out=run, **limits
        )
        log(
            f"{len(pictures.train)} {kind} for training, {len(pictures.validation)} for "
            f"validation, {len(pictures.test)} for test, {pictures.skipped} skipped"
        )
        return pictures

    contents = read_folder("photographs", photos, config.minimum)
    return contents, None if paintings is None else read_folder("paintings", paintings, 1)


def _with_options(
    stages: list[Stage], learner: Any, name: str, options: Mapping[str, Any]
) -> list[Stage]:
    """The stages with their options overridden by ``options``."""
    unknown = [key for key in options if key not in inspect.signature(learner.untrained).parameters]
    if unknown:
        flags = ", ".join(map(option_named, unknown))
        raise InputError(f"method {name} has no option {flags}: leave it out")
    return [replace(stage, options={**stage.options, **options}) for stage in stages]


def _with_weights(
    stages: list[Stage], learner: Any, weights: Path | None, convention: str | None
) -> list[Stage]:
    """The stages with ``weights`` for each network that is not bundled."""
    if weights is None and convention is None:
        return stages
    parameters = inspect.signature(learner.untrained).parameters
    file_options = {
        network: file
        for network, file in WEIGHTS.items()
        if network in parameters and file in parameters
    }

    def weights_of(stage: Stage) -> dict[str, Any]:
        networks = {key: stage.options.get(key, parameters[key].default) for key in file_options}
        keys = [file_options[key] for key, name in networks.items() if name not in (None, *BUNDLED)]
        options = {**dict.fromkeys(keys, weights), "loss_convention": convention} if keys else {}
        return {key: value for key, value in options.items() if value is not None}

    if not any(map(weights_of, stages)):
        raise InputError(
            f"{spelled('backbone_weights')} and {spelled('convention')} are for networks that are "
            'VGG: set encoder = "vgg19" or loss_network = "vgg19" under [options] in the recipe'
        )
    return [replace(stage, options={**stage.options, **weights_of(stage)}) for stage in stages]


def _without_folders(changes: Mapping[str, Any], learner: Any) -> dict[str, Any]:
    """``changes`` with files reduced to their names, as in all records."""
    parameters = inspect.signature(learner.untrained).parameters

    def without_folder(key: str, value: Any) -> Any:
        table, _, option = key.partition(".")
        if table != "options" or "Path" not in _annotation(parameters[option.split(".")[0]]):
            return value
        if isinstance(value, (list, tuple)):
            return [Path(item).name for item in value]
        return value if value is None else Path(value)

    return {key: without_folder(key, value) for key, value in changes.items()}


def _types(config: Any) -> dict[str, str]:
    return {field.name: str(field.type) for field in fields(config)}


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _losses(figures: Mapping[str, Any]) -> str:
    splits = ("validation", "test")
    return ", ".join(f"{split} loss {sum(figures[split].values()):.4g}" for split in splits)
