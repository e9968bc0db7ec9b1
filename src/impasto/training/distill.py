"""Distillation of a small encoder from VGG-19: how the bundled ``compact`` and ``slim`` are made.

The student has VGG's layers, narrow or in bottlenecks. It minimises these losses at every tap, on
random crops of photographs and paintings:

* **map**: a linear map of its features reproduces the teacher's (Wang et al., "Collaborative
  Distillation for Ultra-Resolution Universal Style Transfer", CVPR 2020). The map is discarded
  after training.
* **kernel**: the dot products of its features between positions equal the teacher's,
  ``F_s^T F_s / C_s = F_t^T F_t / C_t``. Style transfer depends on these: the squared distance of
  two Gram matrices is a function of the dot products alone,
  ``|A A^T - B B^T|^2 = |A^T A|^2 + |B^T B|^2 - 2 |A^T B|^2``,
  so a student with the teacher's kernel has the teacher's style loss, regardless of its width.
* **gram** (optional): in each crop, the residual of the map is uncorrelated with the mapped
  features. Least squares removes this correlation over all crops together, but not in a single
  picture. That share of its Gram matrix is invisible to an optimisation through the student.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbones.compact import Compact
from ..backbones.vgg import VGG
from ..errors import InputError, Interrupted
from ..files import path_of
from .accelerator import Accelerator, Hardware, choose_accelerator
from .bank import Bank, DistillConfig, Teacher, examine, joined, measure
from .checkpoint import save_state
from .loop import Loop, OnProgress, Plan, Task
from .optimizers import adam, muon, warm_cosine
from .sets import PictureSet
from .stream import seed_of
from .student import Student, dream, evaluate

__all__ = ["distill"]

CLIP, WARM_UP = 5.0, 100  # norm of the gradient; steps in which the learning rate grows


class Distillation(Task):
    """A student in training.

    Args:
        student: see :class:`Student`.
        bank, held_out: crops for training and for validation.
        teachers, config, start, log: see :func:`distill`.
        every: steps between validations.
    """

    network: Student

    def __init__(
        self,
        student: Student,
        bank: Bank,
        held_out: Bank,
        teachers: Sequence[Teacher],
        config: DistillConfig,
        start: VGG | None,
        log: Callable[[str], None],
        every: int,
    ) -> None:
        self.network, self.bank, self.held_out = student, bank, held_out
        self.teachers, self.config, self.teacher = teachers, config, start
        self.log, self.every, self.began = log, every, time.monotonic()
        self.schedule = warm_cosine(config.steps, WARM_UP)
        self.weights = {"map": 1.0, "kernel": config.kernel, "gram": config.gram}
        self.weights["unit"] = config.unit
        self.dreams: Bank | None = None

    def start(self) -> None:
        if self.teacher is not None:
            self.network.start(self.bank, self.teacher, self.teachers[1:])
            self.log(_line("by least squares", self.figures()))

    def to(self, device: torch.device) -> None:
        self.network.to(device)

    def optimizers(self, device: torch.device) -> list[torch.optim.Optimizer]:
        rate = self.config.learning_rate
        if self.config.optimizer == "muon":
            return muon(self.network, rate, device)
        return [adam(self.network.parameters(), rate, device)]

    def batches(self, start: int, accelerator: Accelerator) -> Generator[tuple[Bank], None, None]:
        """Random crops of the bank; half of each batch is from :attr:`dreams`, if there are any."""
        size = self.config.batch
        for step in count(start):
            if self.config.dreams and step and step % self.config.dream_every == 0:
                self._dream(step)
            rng = torch.Generator().manual_seed(seed_of(self.config.seed, "batch", step))
            batch = self.bank.at(torch.randint(len(self.bank.crops), (size,), generator=rng))
            if self.dreams is not None:
                index = torch.randint(len(self.dreams.crops), (size // 2,), generator=rng)
                batch = joined(batch.at(torch.arange(size // 2, size)), self.dreams.at(index))
            yield (batch.to(accelerator.device),)

    def loss(self, batch: Bank) -> dict[str, Tensor]:
        losses = self.network.losses(batch, gram=self.config.gram > 0)
        return {
            f"{tap}/{name}": self.config.taps.get(tap, 1.0) * self.weights[name] * term
            for tap, row in losses.items()
            for name, term in row.items()
        }

    def figures(self) -> dict[str, dict[str, float]]:
        """Losses by tap on the held-out crops."""
        return evaluate(self.network, self.held_out, self.config.batch)

    def validate(self) -> dict[str, float]:
        figures = self.figures()
        return {f"{tap}/{name}": value for tap in figures for name, value in figures[tap].items()}

    def report(self, step: int, steps: int, loss: float, validation: Mapping[str, float]) -> str:
        figures: dict[str, dict[str, float]] = {}
        for key, value in validation.items():
            tap, name = key.split("/")
            figures.setdefault(tap, {})[name] = value
        seconds = time.monotonic() - self.began
        return _line(f"step {step}/{steps} {seconds:.0f} s  loss {loss:.3f}", figures)

    def state(self) -> dict[str, Any] | None:
        return None if self.dreams is None else vars(self.dreams)

    def load(self, state: dict[str, Any] | None) -> None:
        self.dreams = None if state is None else Bank(**state)

    def _dream(self, step: int) -> None:
        """Add pictures optimised through the current student, and the teachers' features."""
        config, bank = self.config, self.bank
        rng = torch.Generator().manual_seed(config.seed + step)
        crops = dream(self.network.net, bank.crops, rng, list(bank.features))
        latest = examine(crops, self.teachers, config.positions, rng, lambda done, total: None)
        latest.scale = bank.scale
        if step % self.every < config.dream_every:
            figures = evaluate(self.network, latest, config.batch)
            self.log(_line("  pictures just optimised through the student:", figures))
        self.dreams = latest if self.dreams is None else joined(latest, self.dreams, config.dreams)


def distill(
    pictures: PictureSet,
    teachers: Sequence[Teacher],
    config: DistillConfig,
    run: Path,
    start: VGG | None = None,
    log: Callable[[str], None] = print,
    every: int = 250,
    device: torch.device = torch.device("cpu"),  # noqa: B008
    on_progress: OnProgress = lambda step, steps, loss: None,
) -> tuple[Compact | VGG, dict[str, dict[str, float]]]:
    """Train a student; an interrupted run resumes from its last checkpoint.

    Args:
        pictures: photographs and paintings.
        teachers: functions from ``(1, 3, H, W)`` to features by tap name.
        config: see :class:`DistillConfig`.
        run: folder of the bank (``bank.pt``), checkpoint (``last.pt``) and log (``losses.csv``).
        start: the first teacher's network, on the CPU, for an initialisation by least squares
            instead of random weights.
        log: called with each log line.
        every: steps between validations and checkpoints.
        device: the device to train on.
        on_progress: see :data:`impasto.training.loop.OnProgress`; also called with step 0 while
            the teachers' features are measured.

    Returns:
        The student, and its validation losses by tap.

    Raises:
        InputError: if the run folder holds a run of another configuration.
        Interrupted: if ``on_progress`` returned True.
    """
    run = path_of(run, "run")
    bank, held_out = _banks(pictures, teachers, config, run, log, on_progress)
    torch.manual_seed(config.seed)
    student = Student(config, bank)
    task = Distillation(student, bank, held_out, teachers, config, start, log, every)
    plan = Plan(
        steps=config.steps,
        clip=CLIP,
        validate_every=every,
        log_every=10,
        checkpoint_every=every,
        samples_every=0,
        seed=config.seed,
    )
    # Losses are float32: the student sets the precision of its convolutions itself.
    accelerator = choose_accelerator(Hardware(str(device), "float32"))
    settings = asdict(config)
    loop = Loop(task, plan, accelerator, run / "last.pt", settings, True, on_progress, log)
    loop.train()
    figures = task.figures()
    log(_line("at the end", figures))
    return student.net.cpu().eval().requires_grad_(False), figures


def _line(head: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    """A log line with the map and kernel error of every tap."""
    errors = (f"{tap} {row['map']:.3f}/{row['kernel']:.3f}" for tap, row in figures.items())
    return f"{head}  {'  '.join(errors)}"


def _banks(
    pictures: PictureSet,
    teachers: Sequence[Teacher],
    config: DistillConfig,
    run: Path,
    log: Callable[[str], None],
    on_progress: OnProgress,
) -> tuple[Bank, Bank]:
    """Banks for training and validation, from ``bank.pt`` or measured and saved there."""
    path = run / "bank.pt"
    names = ("crops", "size", "noise", "blend", "positions", "validation", "seed")
    settings = {name: getattr(config, name) for name in names}
    if path.exists():
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            saved_settings = saved["settings"]
            banks = Bank(**saved["train"]), Bank(**saved["validation"])
        except (PermissionError, MemoryError):
            raise
        except Exception as error:  # a broken file can raise anything
            raise InputError(f"{path} is damaged or cut off: delete it to measure again") from error
        if saved_settings == settings:
            return banks
        log("the bank was measured with other settings: measuring again")

    def progress(done: int, total: int) -> None:
        if done % 500 == 0 or done == total:
            log(f"teachers measured on {done} of {total} crops")
        if on_progress(0, config.steps, math.nan):
            raise Interrupted(0)

    train = measure(pictures, teachers, config, False, progress)
    validation = measure(pictures, teachers, config, True, progress)
    saved = {"settings": settings, "train": vars(train), "validation": vars(validation)}
    save_state(path, saved)
    return train, validation
