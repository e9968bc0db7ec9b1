"""Training of any method's network with :mod:`impasto.training.loop`.

A run is a folder: ``last.ckpt``, ``losses.csv``, TensorBoard's log in ``tensorboard/``,
``losses.png``, ``samples-STEP.png``, and ``network.safetensors`` once it is complete. The
checkpoint is a pickle: treat a run folder from elsewhere like a program.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from .. import __version__
from ..device import arranged
from ..errors import InputError, spelled
from ..files import PARTS, path_of
from ..images import write
from ..tensors import load_tensors, read_header, save_tensors
from .accelerator import Accelerator, Hardware, choose_accelerator, is_main
from .checkpoint import check_settings, plain
from .logs import history
from .loop import Loop, OnProgress, Plan, Task
from .methods.base import Trainable
from .optimizers import Plateau, Schedule, adam
from .recipes import check_fields
from .sets import Split
from .sheets import draw_losses, sheet
from .stream import Pairs, Stream, seed_of

__all__ = ["TrainingConfig", "fit"]

Optimizer = Literal["adam", "sgd"]
Kind = Literal["constant", "inverse", "halving", "cosine", "plateau"]
CHECKPOINT, NETWORK = "last.ckpt", "network.safetensors"
SHEET = 4  # contents and styles in a sample sheet


@dataclass(frozen=True)
class TrainingConfig(Plan):
    """How a network is trained; the table ``[training]`` of a recipe.

    Attributes:
        steps: total steps of the optimiser; a run can resume with another number, unless its
            schedule is ``cosine``.
        epochs: passes over as many crops as there are training photographs, instead of ``steps``,
            which then follow from ``batch``; crops are drawn at random, so that a photograph may
            come twice in an epoch. 0 leaves it to ``steps``.
        clip, average, graph, seed, validate_every, log_every, checkpoint_every, samples_every: see
            :class:`impasto.training.loop.Plan`.
        batch: pairs per step, over all processes.
        start: crops for the method's closed-form initialisation; 0 skips it.
        optimizer: ``adam``, or ``sgd`` with ``momentum``.
        learning_rate: initial learning rate.
        betas: decay rates of Adam's averages of the gradient and of its square.
        momentum: of SGD.
        schedule: of the learning rate: ``constant``; ``inverse``, divided by ``1 + decay step``
            (Huang & Belongie); ``halving``, halved every ``every`` steps; ``cosine``, half a cosine
            wave down to zero over ``steps``; ``plateau``, multiplied by ``factor`` when the
            validation loss has not improved for ``patience`` validations.
        decay, every, factor, patience: see ``schedule``.
        validation: pairs per validation, always the same.

    Raises:
        InputError: for values out of range or of another type.
    """

    epochs: int = 0
    batch: int = 8
    start: int = 0
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    schedule: Kind = "constant"
    decay: float = 5e-5
    every: int = 10000
    factor: float = 0.5
    patience: int = 5
    validation: int = 64

    def __post_init__(self) -> None:
        check_fields(self)
        for name, choices in (("optimizer", get_args(Optimizer)), ("schedule", get_args(Kind))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} = {getattr(self, name)!r}: use {', '.join(choices)}")
        counts = ("steps", "batch", "every", "validate_every", "validation", "log_every")
        for name in (*counts, "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 1 or more")
        if self.epochs and self.steps != Plan.steps:
            raise InputError(
                f"steps = {self.steps} and epochs = {self.epochs}: leave one of them out"
            )
        for name in ("decay", "patience", "clip", "samples_every", "seed", "start", "epochs"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate = {self.learning_rate}: must be above 0")
        for name in ("momentum", "average", "factor"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more, below 1")
        rates = [beta for beta in self.betas if isinstance(beta, (int, float)) and 0 <= beta < 1]
        if len(self.betas) != 2 or len(rates) != 2:
            raise InputError(f"betas = {self.betas}: give two numbers from 0, below 1")
        if tuple(self.betas) != TrainingConfig.betas and self.optimizer != "adam":
            raise InputError(
                f"betas and optimizer = {self.optimizer!r}: leave betas out, or use adam"
            )
        if self.graph and self.optimizer != "adam":
            raise InputError(f"graph = true and optimizer = {self.optimizer!r}: use adam")


# Settings that may change when a run resumes, because they do not affect its weights.
FREE = {
    "steps",
    "epochs",
    "log_every",
    "checkpoint_every",
    "samples_every",
    "graph",
    "memory",
    "workers",
}


class MethodTask(Task):
    """A method in training.

    Args:
        method: see :class:`Trainable`; its frozen networks are not saved in checkpoints.
        pairs: training data.
        config: see :class:`TrainingConfig`.
        run: folder for sample sheets and loss curves.
        accelerator: where to train.
    """

    def __init__(
        self,
        method: Trainable,
        pairs: Pairs,
        config: TrainingConfig,
        run: Path,
        accelerator: Accelerator,
    ) -> None:
        self.method, self.pairs, self.config, self.run = method, pairs, config, run
        self.network, self.schedule = method.network, schedule_of(config)
        self.accelerator = accelerator

    def start(self) -> None:
        if not self.config.start:
            return
        contents, styles = self.pairs.batch(range(self.config.start))
        mixed = self.pairs.paintings is not None
        self.method.start(torch.cat([contents[::2], styles[1::2]]) if mixed else contents)

    def to(self, device: torch.device) -> None:
        arranged(self.network, device)
        self.method.to(device)

    def optimizers(self, device: torch.device) -> list[torch.optim.Optimizer]:
        weights, config = self.network.parameters(), self.config
        if config.optimizer == "sgd":
            return [torch.optim.SGD(weights, config.learning_rate, config.momentum)]
        return [adam(weights, config.learning_rate, device, config.betas)]

    def batches(
        self, start: int, accelerator: Accelerator
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        process = (accelerator.rank, accelerator.world, accelerator.device)
        return iter(Stream(self.pairs, self.config.batch, start, *process))

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        return self.method.loss(arranged(contents), arranged(styles))

    def validate(self) -> dict[str, float]:
        return self.evaluate("validation")

    def evaluate(self, split: Split) -> dict[str, float]:
        """Mean of every term of the loss over pairs of a split, the same pairs every time.

        Every process evaluates all pairs, so that their schedules stay the same.
        """
        config, pairs = self.config, self.pairs.of(split)
        share = config.batch // self.accelerator.world
        sums: dict[str, Tensor] = {}
        for start in range(0, config.validation, share):
            batch = pairs.batch(range(start, min(start + share, config.validation)))
            contents, styles = (crops.to(self.accelerator.device) for crops in batch)
            torch.manual_seed(seed_of(config.seed, split, start))
            for name, term in self.method.loss(contents, styles).items():
                mean = term.float() * (len(contents) / config.validation)
                sums[name] = sums.get(name, 0.0) + mean
        return {name: float(total) for name, total in sums.items()}

    def draw(self, step: int) -> None:
        """Draw the losses so far, and the network's results on validation pictures."""
        contents, styles = self.pairs.of("validation").batch(range(SHEET))
        columns = getattr(self.method, "columns", 1)
        shown_styles = None if self.pairs.paintings is None else styles
        device = self.accelerator.device
        picture = sheet(self.method.render, contents, shown_styles, device, columns)
        write(self.run / f"samples-{step}.png", picture)
        draw_losses(history(self.run), self.run / "losses.png")


def with_steps(config: TrainingConfig, photographs: int) -> TrainingConfig:
    """``config`` with the steps that its epochs of that many training photographs take."""
    if not config.epochs:
        return config
    return replace(config, steps=math.ceil(config.epochs * photographs / config.batch), epochs=0)


def schedule_of(config: TrainingConfig) -> Schedule:
    """The schedule of the learning rate, see :class:`TrainingConfig`."""
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
        pairs: training data.
        config: see :class:`TrainingConfig`.
        run: folder of the checkpoint, logs and pictures.
        settings: further settings, besides ``config`` and the data's, that must match to resume.
        resume: resume the run in ``run``; without it, a folder that holds a run is refused.
        hardware: see :class:`Hardware`; None uses its defaults.
        on_progress: see :data:`OnProgress`; the loss is the latest logged.
        log: called with each log line.

    Returns:
        Figures: losses of validation and test, the share of time spent waiting for data, steps,
        seed, versions and machine.

    Raises:
        InputError: if the run, the settings or the hardware cannot be used, or the loss is not
            finite.
        Interrupted: if ``on_progress`` returned True.
    """
    run, accelerator = path_of(run, "run"), choose_accelerator(hardware or Hardware())
    if config.batch % accelerator.world:
        raise InputError(
            f"batch = {config.batch} cannot be shared by {accelerator.world} processes: give a "
            "multiple of their number"
        )
    if config.graph and accelerator.world > 1:
        raise InputError(
            f"training.graph needs a single process: leave out graph or {spelled('devices')}"
        )
    config = with_steps(config, len(pairs.photos.train))
    check_run(run, resume)
    if is_main():
        for part in run.glob(PARTS):  # left by runs that were killed while writing
            part.unlink(missing_ok=True)
    fixed = plain(_fixed(config, pairs) | dict(settings or {}))
    final = finished(run) if resume else None
    if final is not None and final["steps"] == config.steps:  # otherwise train for more steps
        tensors, header = load_tensors(run / NETWORK)
        check_settings(run, json.loads(header["settings"]), fixed)
        method.network.load_state_dict(tensors)
        return final
    task = MethodTask(method, pairs, config, run, accelerator)
    loop = Loop(task, config, accelerator, run / CHECKPOINT, fixed, resume, on_progress, log)
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
        "machine": accelerator.machine,
        "versions": versions | accelerator.versions | {"python": platform.python_version()},
    }
    if accelerator.rank == 0:
        draw_losses(history(run), run / "losses.png")
        tensors = dict(method.network.state_dict())
        header = {"figures": json.dumps(figures), "settings": json.dumps(fixed)}
        save_tensors(run / NETWORK, tensors, header)
    return figures


def check_run(run: Path, resume: bool) -> None:
    """Raise InputError if the folder holds a run, unless ``resume`` is set."""
    if (run / CHECKPOINT).exists() and not resume and is_main():
        raise InputError(
            f"{run}: holds a run; continue it with {spelled('resume', True)}, choose another "
            f"{spelled('run')}, or delete it",
            option="run",
        )


def _fixed(config: TrainingConfig, pairs: Pairs) -> dict[str, object]:
    """The settings that must match for a run to resume, named as in the recipe."""
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
    """The figures of a completed run; None if it is not complete."""
    run = path_of(run, "run")
    header = read_header(run / NETWORK)
    if not {"figures", "settings"} <= header.keys():  # a damaged or foreign file
        return None
    figures: dict[str, object] = json.loads(header["figures"])
    return figures
