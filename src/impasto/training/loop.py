"""The one training loop: of methods, encoders and classifiers.

A step is counted from 0 and depends on the seed, its number and the weights alone: data and random
numbers are drawn anew for every step. So a run that was killed goes on from its last checkpoint to
the same losses, bit for bit on a CPU. Nothing in a step waits for a GPU, and the figures of a step
are read when the next is under way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..device import arranged, fetched
from ..errors import InputError, Interrupted
from .accelerator import Accelerator
from .capture import Captured
from .checkpoint import FORMAT, check_settings, load_checkpoint, load_optimizers, plain, save_state
from .logs import Log
from .optimizers import Average, Schedule, set_rate
from .stream import seed_of

__all__ = ["Loop", "OnProgress", "Plan", "Task"]

AGREE = 10  # steps after which several processes ask each other whether to end

OnProgress = Callable[[int, int, float], bool | None]
"""Called after every step with the steps done, those planned, and the latest loss (nan as long as
there is none); True ends the run, with a checkpoint."""


@dataclass(frozen=True)
class Plan:
    """What happens when.

    Attributes:
        steps: of the optimisers, in all.
        clip: greatest norm of the gradient; 0 does not clip.
        average: decay of the moving average of the weights, which then is what is validated and
            saved; 0 saves the weights themselves.
        validate_every, log_every, checkpoint_every, samples_every: steps between validations,
            entries in the logs, checkpoints and sample sheets; 0 validates never and draws none.
        graph: capture the step as a CUDA graph, see :mod:`impasto.training.capture`; other devices
            take no notice.
        seed: of initial weights, data and whatever a loss draws.
    """

    steps: int = 10000
    clip: float = 0.0
    average: float = 0.0
    validate_every: int = 500
    log_every: int = 50
    checkpoint_every: int = 500
    samples_every: int = 1000
    graph: bool = False
    seed: int = 0


class Task:
    """What the loop trains; a training says what is its own.

    Attributes:
        network: its weights are learnt and kept.
        schedule: of the learning rates.
    """

    network: nn.Module
    schedule = Schedule()

    def start(self) -> None:
        """Set the network to a start, before the first step of a run."""

    def to(self, device: torch.device) -> None:
        """Move the network and all that :meth:`loss` uses."""
        arranged(self.network, device)

    def optimizers(self, device: torch.device) -> list[Optimizer]:
        """Of the network's weights, which are on ``device``."""
        raise NotImplementedError

    def batches(self, start: int, accelerator: Accelerator) -> Generator[Sequence[Any], None, None]:
        """What :meth:`loss` takes, on the device, for step ``start`` and all that follow."""
        raise NotImplementedError

    def loss(self, *batch: Any) -> dict[str, Tensor]:
        """The terms of the loss by name; what is minimised is their sum."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Terms of the loss on what is not learnt from."""
        return {}

    def draw(self, step: int) -> None:
        """Show what the network makes now."""

    def report(self, step: int, steps: int, loss: float, validation: Mapping[str, float]) -> str:
        """A line for people."""
        validated = f", validation {sum(validation.values()):.4g}" if validation else ""
        return f"step {step} of {steps}: loss {loss:.4g}{validated}"

    def state(self) -> Any:
        """What else a checkpoint has to keep."""
        return None

    def load(self, state: Any) -> None:
        """Take up :meth:`state`."""


class Loop:
    """A task, trained as planned.

    Args:
        task, plan, accelerator: see there.
        checkpoint: the file to keep; its folder is that of the run.
        settings: what must be the same for a run to go on; kept in the checkpoint.
        resume: go on from the checkpoint, if there is one.
        on_progress: see :data:`OnProgress`; the loss is the latest logged.
        log: called with a line of progress.

    Attributes:
        step: steps done.
        loss: the latest that is known; nan as long as there is none.
        waiting: share (0..1) of the time since the first batch that was spent waiting for batches.
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        accelerator: Accelerator,
        checkpoint: Path,
        settings: Mapping[str, object],
        resume: bool = False,
        on_progress: OnProgress = lambda step, steps, loss: None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.task, self.plan, self.accelerator = task, plan, accelerator
        self.checkpoint, self.run, self.settings = checkpoint, checkpoint.parent, plain(settings)
        self.resume, self.on_progress, self.log = resume, on_progress, log
        self.average: Average | None = None
        self.step, self.loss, self.waiting = 0, math.nan, 0.0
        self._asked = False  # for the end
        self._late: Callable[[], None] | None = None  # reads figures that are on their way

    def train(self) -> None:
        """Take all steps that are left.

        Raises:
            InputError: if the checkpoint cannot be used or written, or the loss is lost.
            Interrupted: if ``on_progress`` asked for the end.
        """
        self._prepare()
        task, plan, device = self.task, self.plan, self.accelerator.device
        captured = plan.graph and device.type == "cuda"
        advance = Captured(self.advance, self._seed) if captured else self.advance
        began, waited = 0.0, 0.0
        with closing(task.batches(self.step, self.accelerator)) as batches, closing(self._writer):
            task.network.train()
            while self.step < plan.steps:
                asked = perf_counter()
                batch = next(batches)
                came = perf_counter()
                if began:  # the start of the threads that prepare batches does not count
                    waited += came - asked
                    self.waiting = waited / (came - began)
                else:
                    began = came
                self._seed()
                set_rate(self.optimizers, task.schedule(self.step))
                terms = advance(*batch)
                self.step += 1
                if self.average is not None:
                    self.average.update(self.step)
                self._attend(terms)

    def advance(self, *batch: Any) -> dict[str, Tensor]:
        """One step: forward, backward, update. Gives the terms of the loss."""
        self._model.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            terms: dict[str, Tensor] = self._model(*batch)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.accelerator.backward(loss)
        if self.plan.clip:
            self.accelerator.unscale(self.optimizers)
            nn.utils.clip_grad_norm_(self.task.network.parameters(), self.plan.clip)
        for optimizer in self._steppers:
            optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    @contextmanager
    def as_saved(self) -> Iterator[None]:
        """The network as it is saved: averaged, in evaluation mode, without gradients; and the
        precision of training."""
        network = self.task.network
        self._exchange()
        network.eval()
        try:
            with torch.no_grad(), self.accelerator.autocast():
                yield
        finally:
            network.train()
            self._exchange()

    def finish(self) -> None:
        """Leave the network as it is saved."""
        self._exchange()
        self.task.network.eval()

    def _prepare(self) -> None:
        """Bring everything to where the last checkpoint left it, or to the start."""
        task, accelerator = self.task, self.accelerator
        kept = None
        if self.resume and self.checkpoint.exists():
            kept = load_checkpoint(self.checkpoint)
            check_settings(self.run, kept["settings"], self.settings)
            self.log(f"{self.run}: going on from {self.checkpoint.name} at step {kept['step']}")
            task.network.load_state_dict(kept["network"])
            task.load(kept["task"])
        else:
            task.start()
        accelerator.launch()
        task.to(accelerator.device)
        if self.plan.average:
            self.average = Average(task.network, self.plan.average)
        self.optimizers = task.optimizers(accelerator.device)
        set_rate(self.optimizers, 1.0)
        if kept is not None:
            self.step = kept["step"]
            load_optimizers(self.optimizers, kept["optimizers"])
            task.schedule.load(kept["schedule"])
            accelerator.load(kept["precision"])
            if self.average is not None:
                self.average.load(kept["average"])
        self._model, self._steppers = accelerator.setup(_Forward(task), self.optimizers)
        self._writer = Log(self.run, self.step, write=accelerator.rank == 0)

    def _seed(self) -> None:
        torch.manual_seed(seed_of(self.plan.seed, "step", self.step, self.accelerator.rank))

    def _attend(self, terms: dict[str, Tensor]) -> None:
        """Log, validate, draw and keep, in this order, so that a checkpoint holds all."""
        plan, step, accelerator = self.plan, self.step, self.accelerator
        self._read_late()
        keep = step % plan.checkpoint_every == 0 or step == plan.steps
        validates = plan.validate_every > 0 and step % plan.validate_every == 0
        if keep or validates or step == 1 or step % plan.log_every == 0:
            self._note(terms)
        if validates:
            self._validate()
        if plan.samples_every and step % plan.samples_every == 0 and accelerator.rank == 0:
            with self.as_saved():
                self.task.draw(step)
        self._asked |= bool(self.on_progress(step, plan.steps, self.loss))
        agreed = accelerator.world == 1 or step % AGREE == 0
        ends = agreed and accelerator.any(self._asked)
        if keep or ends:
            self._keep()
        if ends:
            raise Interrupted(step)

    def _note(self, terms: dict[str, Tensor]) -> None:
        """Log the step's terms, mean over the processes: of a GPU when the next is under way."""
        step, names, waiting = self.step, list(terms), self.waiting
        first: float = self.optimizers[0].param_groups[0]["first_rate"]
        rate = first * self.task.schedule(step)
        values = torch.stack([term.float() for term in terms.values()])
        get = fetched(self.accelerator.mean(values))

        def read() -> None:
            row = dict(zip(names, get(), strict=True))
            self.loss = sum(row.values())
            if not math.isfinite(self.loss):
                raise InputError(
                    f"{self.run}: the loss is {self.loss} at step {step}; lower learning_rate or "
                    "set clip, and start anew in another folder"
                )
            logged = {"train": self.loss, **{f"train/{name}": row[name] for name in names}}
            self._writer.add(step, {**logged, "learning_rate": rate, "waiting": waiting})

        self._late = read
        if self.accelerator.device.type != "cuda":
            self._read_late()

    def _read_late(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late()

    def _validate(self) -> None:
        self._read_late()
        with self.as_saved():
            row = self.task.validate()
        total = sum(row.values())
        self.task.schedule.validated(total)
        if row:
            logged = {f"validation/{name}": value for name, value in row.items()}
            self._writer.add(self.step, {"validation": total, **logged})
        self.log(self.task.report(self.step, self.plan.steps, self.loss, row))

    def _keep(self) -> None:
        """Write the checkpoint; a kill at any moment leaves the one before whole."""
        self._read_late()  # a lost loss is not kept
        self._writer.flush()
        if self.accelerator.rank:
            return
        state = {
            "format": FORMAT,
            "step": self.step,
            "settings": self.settings,
            "network": self.task.network.state_dict(),
            "average": None if self.average is None else self.average.weights,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedule": self.task.schedule.state(),
            "precision": self.accelerator.state(),
            "task": self.task.state(),
        }
        remedy = "free some space, and go on by the same command and --resume"
        save_state(self.checkpoint, state, "the checkpoint", remedy)

    def _exchange(self) -> None:
        if self.average is not None:
            self.average.exchange()


class _Forward(nn.Module):
    """The loss as a module's forward pass, which is where strategies take hold."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network, self._loss = task.network, task.loss

    def forward(self, *batch: Any) -> dict[str, Tensor]:
        """See :meth:`Task.loss`."""
        return self._loss(*batch)
