"""Training any method's network by :mod:`impasto.training.loop`.

A run is a folder: ``last.ckpt``, ``losses.csv``, TensorBoard's log in ``tensorboard/``,
``losses.png``, ``samples-STEP.png``, and when it has ended ``network.safetensors``. Its checkpoint
is a pickle: trust a run's folder that comes from elsewhere as you would a program.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from .. import __version__
from ..device import arranged
from ..errors import InputError
from ..files import PARTS, path_of
from ..images import write
from ..tensors import load_tensors, read_header, save_tensors
from .accelerator import Accelerator, Hardware, accelerator, is_main
from .checkpoint import check_settings, plain
from .logs import history
from .loop import Loop, OnProgress, Plan, Task
from .methods.base import Trainable
from .optimizers import Plateau, Schedule, adam
from .recipes import check_fields
from .sets import Split
from .sheets import draw_losses, sheet
from .stream import Pairs, Stream, seed_of

__all__ = ["TrainingConfig", "check_run", "finished", "fit"]

Optimizer = Literal["adam", "sgd"]
Kind = Literal["constant", "inverse", "halving", "cosine", "plateau"]
CHECKPOINT, NETWORK = "last.ckpt", "network.safetensors"
SHEET = 4  # contents and styles of a sample sheet


@dataclass(frozen=True)
class TrainingConfig(Plan):
    """How a network is trained; the table ``[training]`` of a recipe.

    Attributes:
        steps: of the optimiser, in all; a run may go on with others, unless its schedule is
            ``cosine``.
        clip, average, graph, seed, validate_every, log_every, checkpoint_every, samples_every: see
            :class:`impasto.training.loop.Plan`.
        batch: pairs in a step, over all processes.
        start: crops that the method's start in closed form is fitted to; 0 starts with the weights
            as they are.
        optimizer: ``adam``, or ``sgd`` with ``momentum``.
        learning_rate: at the start.
        momentum: of SGD.
        schedule: of the learning rate: ``constant``; ``inverse``, divided by ``1 + decay step``
            (Huang & Belongie); ``halving``, halved every ``every`` steps; ``cosine``, falling to
            zero over ``steps`` as half a wave; ``plateau``, multiplied by ``factor`` when the
            validation loss has not fallen for ``patience`` validations.
        decay, every, factor, patience: see ``schedule``.
        validation: pairs in a validation, the same every time.

    Raises:
        InputError: for values out of range or of another type.
    """

    batch: int = 8
    start: int = 0
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    schedule: Kind = "constant"
    decay: float = 5e-5
    every: int = 10000
    factor: float = 0.5
    patience: int = 5
    validation: int = 64

    def __post_init__(self) -> None:
        check_fields(self)
        for name, known in (("optimizer", get_args(Optimizer)), ("schedule", get_args(Kind))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} = {getattr(self, name)!r}: use {', '.join(known)}")
        counts = ("steps", "batch", "every", "validate_every", "validation", "log_every")
        for name in (*counts, "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 1 or more")
        for name in ("decay", "patience", "clip", "samples_every", "seed", "start"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate = {self.learning_rate}: must be above 0")
        for name in ("momentum", "average", "factor"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more, below 1")
        if self.graph and self.optimizer != "adam":
            raise InputError(f"graph = true and optimizer = {self.optimizer!r}: use adam")


# What a run may be gone on with differently: it changes neither what was learnt nor what will be.
FREE = {"steps", "log_every", "checkpoint_every", "samples_every", "graph", "memory", "workers"}


class MethodTask(Task):
    """A method in training.

    Args:
        method: see :class:`Trainable`; frozen networks of its own are no part of a checkpoint.
        pairs: what it learns from.
        config: see :class:`TrainingConfig`.
        run: the folder that pictures go to.
        place: where it is trained.
    """

    def __init__(
        self,
        method: Trainable,
        pairs: Pairs,
        config: TrainingConfig,
        run: Path,
        place: Accelerator,
    ) -> None:
        self.method, self.pairs, self.config, self.run = method, pairs, config, run
        self.network, self.schedule, self.place = method.network, schedule_of(config), place

    def start(self) -> None:
        if not self.config.start:
            return
        contents, styles = self.pairs.batch(range(self.config.start))
        both = self.pairs.paintings is not None
        self.method.start(torch.cat([contents[::2], styles[1::2]]) if both else contents)

    def to(self, device: torch.device) -> None:
        arranged(self.network, device)
        self.method.to(device)

    def optimizers(self, device: torch.device) -> list[torch.optim.Optimizer]:
        weights, config = self.network.parameters(), self.config
        if config.optimizer == "sgd":
            return [torch.optim.SGD(weights, config.learning_rate, config.momentum)]
        return [adam(weights, config.learning_rate, device)]

    def batches(
        self, start: int, accelerator: Accelerator
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        where = (accelerator.rank, accelerator.world, accelerator.device)
        return iter(Stream(self.pairs, self.config.batch, start, *where))

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        return self.method.loss(arranged(contents), arranged(styles))

    def validate(self) -> dict[str, float]:
        return self.evaluate("validation")

    def evaluate(self, split: Split) -> dict[str, float]:
        """Mean of every term of the loss over pairs of a split, the same pairs every time.

        Every process evaluates all of them, so that all go on alike.
        """
        config, pairs = self.config, self.pairs.of(split)
        share = config.batch // self.place.world
        sums: dict[str, Tensor] = {}
        for start in range(0, config.validation, share):
            batch = pairs.batch(range(start, min(start + share, config.validation)))
            contents, styles = (crops.to(self.place.device) for crops in batch)
            torch.manual_seed(seed_of(config.seed, split, start))
            for name, term in self.method.loss(contents, styles).items():
                mean = term.float() * (len(contents) / config.validation)
                sums[name] = sums.get(name, 0.0) + mean
        return {name: float(total) for name, total in sums.items()}

    def draw(self, step: int) -> None:
        """Losses so far, and what the network makes of pictures that it does not learn from."""
        contents, styles = self.pairs.of("validation").batch(range(SHEET))
        alone = self.pairs.paintings is None
        columns = getattr(self.method, "columns", 1)
        shown = None if alone else styles
        picture = sheet(self.method.render, contents, shown, self.place.device, columns)
        write(self.run / f"samples-{step}.png", picture)
        draw_losses(history(self.run), self.run / "losses.png")


def schedule_of(config: TrainingConfig) -> Schedule:
    """See :class:`TrainingConfig`."""
    if config.schedule == "plateau":
        return Plateau(config.factor, config.patience)
    factors: dict[str, Callable[[int], float]] = {
        "constant": lambda step: 1.0,
        "inverse": lambda step: 1 / (1 + config.decay * step),
        "halving": lambda step: 0.5 ** (step // config.every),
        "cosine": lambda step: (1 + math.cos(math.pi * step / config.steps)) / 2,
    }
    return Schedule(factors[config.schedule])


def fit(
    method: Trainable,
    pairs: Pairs,
    config: TrainingConfig,
    run: Path,
    *,
    settings: Mapping[str, object] | None = None,
    resume: bool = False,
    hardware: Hardware | None = None,
    on_progress: OnProgress = lambda step, steps, loss: None,
    log: Callable[[str], None] = print,
) -> dict[str, object]:
    """Train ``method`` in place.

    Args:
        method: see :class:`Trainable`.
        pairs: what to learn from.
        config: see :class:`TrainingConfig`.
        run: folder of the checkpoint, logs and pictures.
        settings: what else, besides ``config`` and the data's, must be the same to go on.
        resume: go on with what ``run`` holds; without it, a folder that holds a run is refused.
        hardware: see :class:`Hardware`; None chooses.
        on_progress: see :data:`OnProgress`; the loss is the latest logged.
        log: called with a line of progress.

    Returns:
        Figures: losses of validation and test, the share of time spent waiting for data, steps,
        seed, versions and machine.

    Raises:
        InputError: if the run, the settings or the hardware cannot be used, or the loss is lost.
        Interrupted: if ``on_progress`` asked for the end.
    """
    run, place = path_of(run, "run"), accelerator(hardware or Hardware())
    if config.batch % place.world:
        raise InputError(
            f"batch = {config.batch} cannot be shared by {place.world} processes: give a "
            "multiple of their number"
        )
    if config.graph and place.world > 1:
        raise InputError("training.graph is for one process: leave it out, or --devices")
    check_run(run, resume)
    if is_main():
        for part in run.glob(PARTS):  # of runs that were killed while they wrote
            part.unlink(missing_ok=True)
    fixed = plain(_fixed(config, pairs) | dict(settings or {}))
    done = finished(run) if resume else None
    if done is not None and done["steps"] == config.steps:  # else more steps are asked for now
        tensors, header = load_tensors(run / NETWORK)
        check_settings(run, json.loads(header["settings"]), fixed)
        method.network.load_state_dict(tensors)
        return done
    task = MethodTask(method, pairs, config, run, place)
    loop = Loop(task, config, place, run / CHECKPOINT, fixed, resume, on_progress, log)
    loop.train()
    with loop.as_saved():
        test, validation = task.evaluate("test"), task.evaluate("validation")
    loop.finish()
    versions = {"impasto": __version__, "torch": torch.__version__}
    figures: dict[str, object] = {
        "validation": validation,
        "test": test,
        "waiting": round(loop.waiting, 4),
        "steps": loop.step,
        "seed": config.seed,
        "machine": place.machine,
        "versions": versions | place.versions | {"python": platform.python_version()},
    }
    if place.rank == 0:
        draw_losses(history(run), run / "losses.png")
        tensors = dict(method.network.state_dict())
        header = {"figures": json.dumps(figures), "settings": json.dumps(fixed)}
        save_tensors(run / NETWORK, tensors, header)
    return figures


def check_run(run: Path, resume: bool) -> None:
    """Raise InputError if the folder holds a run that is not to be gone on with."""
    if (run / CHECKPOINT).exists() and not resume and is_main():
        raise InputError(
            f"{run}: holds a run; go on with it by --resume, choose another --run, or delete it"
        )


def _fixed(config: TrainingConfig, pairs: Pairs) -> dict[str, object]:
    """What must be the same for a run to go on, named as in the recipe."""
    free = FREE - {"steps"} if config.schedule == "cosine" else FREE
    tables = {"training": asdict(config), "data": asdict(pairs.config)}
    fixed: dict[str, object] = {
        f"{table}.{name}": value
        for table, values in tables.items()
        for name, value in values.items()
        if name not in free
    }
    paintings = len(pairs.paintings.train) if pairs.paintings else 0
    return {**fixed, "photos": len(pairs.photos.train), "paintings": paintings}


def finished(run: Path) -> dict[str, object] | None:
    """The figures of a run that has ended; None if it has not, or has not begun."""
    run = path_of(run, "run")
    header = read_header(run / NETWORK)
    if not {"figures", "settings"} <= header.keys():  # a damaged file, or one of another origin
        return None
    figures: dict[str, object] = json.loads(header["figures"])
    return figures
