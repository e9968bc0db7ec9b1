"""``impasto train METHOD``: a recipe, read and run.

A recipe is TOML: ``method``, and the tables ``[options]`` (of the method's ``untrained``),
``[data]`` (:class:`DataConfig`) and ``[training]`` (:class:`TrainingConfig`). With ``[[stage]]``
tables, each holding some of these three anew, the stages are run one after another, each from the
last's weights: a model may begin with a cheap loss network and small crops and end with VGG-19.
Single values may be given beside it, for all stages: ``--set training.batch=2``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from ..backbones.records import BUNDLED
from ..device import choose_device
from ..errors import InputError
from ..files import check_apart, check_name, path_of, paths_of, same_file
from ..methods import METHODS
from ..progress import drawn
from .accelerator import Hardware, is_main
from .crops import DataConfig
from .fit import CHECKPOINT, NETWORK, TrainingConfig, check_run, fit
from .loop import OnProgress
from .methods import TRAINABLE
from .recipes import build, check, merged, nested, read_toml, typed
from .sets import PictureSet, check_run_apart
from .stream import Pairs

__all__ = ["Stage", "read_recipe", "train", "trainable"]

TABLES = {"options": "table", "data": "table", "training": "table"}
WEIGHTS = {"encoder": "encoder_weights", "loss_network": "loss_weights"}  # options: network, file


@dataclass(frozen=True)
class Stage:
    """One stretch of a training: options of the method, its data, its training."""

    options: dict[str, Any]
    data: DataConfig
    training: TrainingConfig


def trainable(name: str) -> Any:
    """What can be trained, by name: see :class:`impasto.training.methods.Learner`.

    Raises:
        InputError: for another name.
    """
    if name not in TRAINABLE:
        what = "cannot be trained" if name in METHODS else "is unknown"
        known = ", ".join([*TRAINABLE, "encoder"])
        raise InputError(f"method {name!r} {what}: use one of {known}")
    return TRAINABLE[name]


def read_recipe(
    recipe: Path | None, name: str, changes: Mapping[str, Any] | None = None
) -> list[Stage]:
    """The stages of a recipe, one if it names none; None stands for every default.

    Args:
        recipe: a file of TOML.
        name: of the method.
        changes: values in the place of the recipe's, in every stage: such as
            ``{"training.batch": 2}``.

    Raises:
        InputError: for unknown keys, wrong types, values out of range, or another method's recipe.
    """
    parameters = inspect.signature(trainable(name).untrained).parameters
    options = {key: _annotation(parameter) for key, parameter in parameters.items()}
    values = {} if recipe is None else read_toml(recipe)
    check(values, {"method": "str", **TABLES, "stage": "tables"}, str(recipe))
    if values.get("method", name) != name:
        raise InputError(f"{recipe}: is a recipe for {values['method']}, not for {name}")
    changed = nested(changes or {})
    check(changed, TABLES, "--set")
    kinds = {"options": options, "data": _types(DataConfig), "training": _types(TrainingConfig)}
    for table, own in changed.items():
        check(own, kinds[table], f"--set {table}")
    stages = []
    for number, own in enumerate(values.get("stage", [{}]), 1):
        where = f"{recipe}, stage {number}" if "stage" in values else str(recipe)
        check(own, TABLES, where)
        tables = {table: merged(values.get(table, {}), own.get(table, {})) for table in TABLES}
        check(tables["options"], options, f"{where} [options]")
        tables = merged(tables, changed)

        def of(table: str, where: str = where) -> str:
            """Where the table is from, for messages."""
            place = f"{where} [{table}]"
            if table not in changed:
                return place
            return f"--set {table}" if recipe is None else f"{place} with --set"

        data = build(DataConfig, tables["data"], of("data"))
        training = build(TrainingConfig, tables["training"], of("training"))
        chosen = {k: _paths(v) if "Path" in options[k] else v for k, v in tables["options"].items()}
        stages.append(Stage(chosen, data, training))
    return stages


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
    vgg: Path | None = None,
    convention: str | None = None,
    hardware: Hardware | None = None,
    on_progress: OnProgress = lambda step, steps, loss: None,
    progress: bool = False,
    log: Callable[[str], None] = print,
) -> None:
    """Train a method and write it to ``out`` with its figures in the header.

    Args:
        name: of the method.
        photos, paintings: folders, searched with all that is below them; paintings may be None for
            a method of photographs alone.
        recipe: see :mod:`impasto.training.train`; None takes the defaults.
        run: folder of the run; of ``stage-1`` and so on in it, if the recipe has stages.
        out: the model to write, ``.safetensors``.
        resume: go on with what ``run`` holds.
        steps: instead of the recipe's.
        options: of the method, instead of the recipe's: the paintings that it learns.
        changes: instead of the recipe's, see :func:`read_recipe`.
        vgg, convention: weights of VGG, where the encoder or the loss network is one, and what
            they expect.
        hardware, on_progress: see :func:`impasto.training.fit.fit`.
        progress: draw a bar, which notebooks draw too.
        log: called with a line of progress, in the main process.

    Raises:
        InputError: if a folder, a file or the recipe cannot be used, or something read would be
            overwritten.
        Interrupted: if ``on_progress`` asked for the end.
    """
    cls = trainable(name)
    photos, run, out = path_of(photos, "photos"), path_of(run, "run"), path_of(out, "out")
    paintings = None if paintings is None else path_of(paintings, "paintings")
    recipe = None if recipe is None else path_of(recipe, "recipe")
    vgg = None if vgg is None else path_of(vgg, "vgg")
    options = dict(options or {})
    if "styles" in options:
        options["styles"] = paths_of(options["styles"], "styles")
    log = log if is_main() else lambda line: None
    stages = read_recipe(recipe, name, changes)
    twice = {"training.steps"} if steps is not None else set()
    twice |= {f"options.{key}" for key in options}
    twice &= set(changes or {})
    if twice:
        flags = ", ".join(_flag(key.split(".")[1]) for key in sorted(twice))
        raise InputError(f"{', '.join(sorted(twice))}: given by {flags} and --set; leave one out")
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name of a model ends in .safetensors")
    if paintings is None and not cls.photographs_alone:
        raise InputError(f"method {name} learns from paintings too: name a folder, --paintings DIR")
    if paintings is not None and "styles" in inspect.signature(cls.untrained).parameters:
        raise InputError(f"method {name} learns the paintings of --style: leave out --paintings")
    if steps is not None:
        if len(stages) > 1:
            raise InputError(
                f"{recipe}: has {len(stages)} stages; set the steps of each in it, or "
                "those of all by --set training.steps=N"
            )
        stages = [replace(stages[0], training=replace(stages[0].training, steps=steps))]
    stages = _with_options(stages, cls, name, options)
    stages = _with_vgg(stages, cls, vgg, convention)
    folders = [run / f"stage-{n}" for n in range(1, len(stages) + 1)] if len(stages) > 1 else [run]
    _check_places(folders, run, out, stages, [photos, paintings, recipe])
    choose_device((hardware or Hardware()).device)  # before the pictures are read
    for folder in folders:
        check_run(folder, resume)
    method, learnt, figures = None, None, []
    pictures: tuple[object, PictureSet, PictureSet | None] | None = None
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True), 1):
        torch.manual_seed(stage.training.seed)
        method = cls.untrained(**stage.options)
        training = stage.training
        if learnt is not None:
            method.network.load_state_dict(learnt)
            training = replace(training, start=0)
        if pictures is None or pictures[0] != _decoding(stage.data):
            pictures = (_decoding(stage.data), *_read(photos, paintings, stage.data, run, log))
        sets = pictures[1:]
        if len(stages) > 1:
            log(f"stage {number} of {len(stages)}")
        plain = {key: _plain(value) for key, value in stage.options.items()}
        result = fit(
            method,
            Pairs(*sets, stage.data, stage.training.seed),
            training,
            folder,
            settings={"method": name, "options": plain},
            resume=resume,
            hardware=hardware,
            on_progress=on_progress,
            log=log,
        )
        recorded = {"options": plain, "data": asdict(stage.data), **asdict(training)}
        figures.append({**result, "recipe": recorded})
        learnt = method.network.state_dict()
        log(
            f"{folder}: {stage.training.steps} steps, {_losses(result)}, "
            f"{result['waiting']:.1%} of the time waiting for data"
        )
    assert method is not None
    assert pictures is not None
    if is_main():
        command = f"impasto train {name} --photos PHOTOS"
        command += " --paintings PAINTINGS" if paintings else ""
        command += f" --recipe {recipe.name}" if recipe else ""
        command += f" --steps {steps}" if steps else ""
        command += f" --vgg {vgg.name}" if vgg else ""
        command += f" --convention {convention}" if convention else ""
        command += typed(_without_folders(changes or {}, cls))
        for key, value in options.items():
            values = value if isinstance(value, list) else [value]
            command += "".join(f" {_flag(key)} {getattr(v, 'name', v)}" for v in values)
        counts = [len(s.train) for s in pictures[1:] if s is not None]
        header = {"command": command, "pictures": counts, **figures[-1]}
        if len(figures) > 1:
            header["stages"] = figures
        method.save(out, header)
        log(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")


# What _read() takes of a DataConfig; where it is the same, so are the pictures.
_decoding = attrgetter("short_side", "validation", "test", "minimum", "memory")


def _check_places(
    folders: list[Path], run: Path, out: Path, stages: list[Stage], given: list[Path | None]
) -> None:
    """Raise InputError if what is written would overwrite what is read, the run's own files too."""
    for place in (out, *(folder / NETWORK for folder in folders)):
        check_name(place)
    *pictures, recipe = given
    check_run_apart(run, [folder for folder in pictures if folder is not None])
    files = [recipe]
    for stage in stages:
        for value in stage.options.values():
            each = value if isinstance(value, (list, tuple)) else [value]
            files += [path for path in each if isinstance(path, Path)]
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
    """Photographs and paintings, counted in a line each."""

    def one(kind: str, folder: Path, minimum: int) -> PictureSet:
        shares = {"held_out": config.validation, "test": config.test, "memory": config.memory}
        found = PictureSet(
            [folder], config.short_side, warn=log, minimum=minimum, leave_out=run, **shares
        )
        log(
            f"{len(found.train)} {kind} to learn from, {len(found.validation)} for validation, "
            f"{len(found.test)} for test, {found.skipped} skipped"
        )
        return found

    contents = one("photographs", photos, config.minimum)
    return contents, None if paintings is None else one("paintings", paintings, 1)


def _with_options(
    stages: list[Stage], cls: Any, name: str, options: Mapping[str, Any]
) -> list[Stage]:
    """The stages with ``options`` of the method in the place of theirs."""
    unknown = [key for key in options if key not in inspect.signature(cls.untrained).parameters]
    if unknown:
        flags = ", ".join(map(_flag, unknown))
        raise InputError(f"method {name} has no option {flags}: leave it out")
    return [replace(stage, options={**stage.options, **options}) for stage in stages]


def _flag(option: str) -> str:
    """As it is typed."""
    return {"styles": "--style"}.get(option, f"--{option.replace('_', '-')}")


def _paths(value: Any) -> Any:
    """A file's path, or those of several."""
    if isinstance(value, (list, tuple)):
        return [Path(each) for each in value]
    return None if value is None else Path(value)


def _plain(value: Any) -> Any:
    """An option as it is recorded: a file by its name, paintings to learn with a digest too.

    A run that goes on must see what it has seen, not another painting of the same name.
    """
    if isinstance(value, (list, tuple)):
        return [_known(each) if isinstance(each, Path) else _plain(each) for each in value]
    return value.name if isinstance(value, Path) else value


def _known(path: Path) -> str:
    return f"{path.name} sha256:{sha256(path.read_bytes()).hexdigest()[:12]}"


def _with_vgg(
    stages: list[Stage], cls: Any, vgg: Path | None, convention: str | None
) -> list[Stage]:
    """The stages with the weights given for each of their networks that is not bundled."""
    if vgg is None and convention is None:
        return stages
    parameters = inspect.signature(cls.untrained).parameters
    places = {k: v for k, v in WEIGHTS.items() if k in parameters and v in parameters}

    def given(stage: Stage) -> dict[str, Any]:
        networks = {k: stage.options.get(k, parameters[k].default) for k in places}
        files = [places[k] for k, network in networks.items() if network not in (None, *BUNDLED)]
        options = {**dict.fromkeys(files, vgg), "loss_convention": convention} if files else {}
        return {key: value for key, value in options.items() if value is not None}

    if not any(map(given, stages)):
        raise InputError(
            "--vgg and --convention are for an encoder or a loss network that is VGG: set "
            'encoder = "vgg19" or loss_network = "vgg19" under [options] in the recipe'
        )
    return [replace(stage, options={**stage.options, **given(stage)}) for stage in stages]


def _without_folders(changes: Mapping[str, Any], cls: Any) -> dict[str, Any]:
    """Changes with files by their names alone, as all that is recorded."""
    parameters = inspect.signature(cls.untrained).parameters

    def named(key: str, value: Any) -> Any:
        table, _, option = key.partition(".")
        if table != "options" or "Path" not in _annotation(parameters[option.split(".")[0]]):
            return value
        if isinstance(value, (list, tuple)):
            return [Path(each).name for each in value]
        return value if value is None else Path(value)

    return {key: named(key, value) for key, value in changes.items()}


def _types(config: Any) -> dict[str, str]:
    return {field.name: str(field.type) for field in fields(config)}


def _annotation(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation
    return kind if isinstance(kind, str) else inspect.formatannotation(kind)


def _losses(figures: Mapping[str, Any]) -> str:
    splits = ("validation", "test")
    return ", ".join(f"{split} loss {sum(figures[split].values()):.4g}" for split in splits)
