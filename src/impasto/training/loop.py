"""The training loop for methods, encoders and classifiers.

Steps are counted from 0. A step depends only on the seed, its number and the weights, because the
random generators are seeded for every step. A killed run therefore resumes from its last checkpoint
with the same losses, bit for bit on a CPU. No step waits for a GPU: the figures of a step are read
during the next one.
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
from ..errors import InputError, Interrupted, spelled
from .accelerator import Accelerator
from .capture import Captured
from .checkpoint import FORMAT, check_settings, load_checkpoint, load_optimizers, plain, save_state
from .logs import Log
from .optimizers import Average, Schedule, set_rate
from .stream import seed_of

__all__ = ["Loop", "OnProgress", "Plan", "Task"]

AGREE = 10  # steps between the exchanges of processes about whether to stop

OnProgress = Callable[[int, int, float], bool | None]
"""Called after every step with the steps done, the total steps and the latest loss (nan before the
first). Returning True writes a checkpoint and ends the run."""


@dataclass(frozen=True)
class Plan:
    """The schedule of a run.

    Attributes:
        steps: total steps of the optimisers.
        clip: maximum norm of the gradient; 0 does not clip.
        average: decay of a moving average of the weights, which is validated and saved in their
            place; 0 uses the weights themselves.
        validate_every, log_every, checkpoint_every, samples_every: steps between validations, log
            entries, checkpoints and sample sheets; 0 disables validation or sample sheets.
        graph: capture the step as a CUDA graph, see :mod:`impasto.training.capture`; other devices
            ignore it.
        seed: random seed of initial weights, data and losses.
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
    """What the loop trains; subclasses define the data, the loss and the optimisers.

    Attributes:
        network: the network whose weights are trained and saved.
        schedule: schedule of the learning rates.
    """

    network: nn.Module
    schedule = Schedule()

    def start(self) -> None:
        """Initialise the network before the first step of a run."""

    def to(self, device: torch.device) -> None:
        """Move the network and everything that :meth:`loss` uses to ``device``."""
        arranged(self.network, device)

    def optimizers(self, device: torch.device) -> list[Optimizer]:
        """The optimisers of the network's weights, which are on ``device``."""
        raise NotImplementedError

    def batches(self, start: int, accelerator: Accelerator) -> Generator[Sequence[Any], None, None]:
        """The arguments of :meth:`loss` on the device, for all steps from ``start`` on."""
        raise NotImplementedError

    def loss(self, *batch: Any) -> dict[str, Tensor]:
        """The terms of the loss by name; their sum is minimised."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """The terms of the loss on held-out data."""
        return {}

    def draw(self, step: int) -> None:
        """Write a sample sheet of the current network's results."""

    def report(self, step: int, steps: int, loss: float, validation: Mapping[str, float]) -> str:
        """A log line."""
        validated = f", validation {sum(validation.values()):.4g}" if validation else ""
        return f"step {step} of {steps}: loss {loss:.4g}{validated}"

    def state(self) -> Any:
        """Further state for a checkpoint."""
        return None

    def load(self, state: Any) -> None:
        """Restore :meth:`state`."""


class Loop:
    """Trains a task according to a plan.

    Args:
        task, plan, accelerator: see :class:`Task`, :class:`Plan` and :class:`Accelerator`.
        checkpoint: the checkpoint file; its folder is the folder of the run.
        settings: settings that must match for a run to resume; saved in the checkpoint.
        resume: resume from the checkpoint, if there is one.
        on_progress: see :data:`OnProgress`; the loss is the latest logged.
        log: called with each log line.

    Attributes:
        step: number of completed steps.
        loss: the latest logged loss; nan before the first.
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
        self._stop = False  # whether on_progress asked to stop
        self._pending: Callable[[], None] | None = None  # logs the figures once they have arrived

    def train(self) -> None:
        """Run the remaining steps.

        Raises:
            InputError: if the checkpoint cannot be used or written, or the loss is not finite.
            Interrupted: if ``on_progress`` returned True.
        """
        self._prepare()
        task, plan, device = self.task, self.plan, self.accelerator.device
        captured = plan.graph and device.type == "cuda"
        advance = Captured(self.advance, self._seed) if captured else self.advance
        first_arrival, waited = 0.0, 0.0
        with closing(task.batches(self.step, self.accelerator)) as batches, closing(self._writer):
            task.network.train()
            while self.step < plan.steps:
                request = perf_counter()
                batch = next(batches)
                arrival = perf_counter()
                if first_arrival:  # the first batch includes the start of the threads
                    waited += arrival - request
                    self.waiting = waited / (arrival - first_arrival)
                else:
                    first_arrival = arrival
                self._seed()
                set_rate(self.optimizers, task.schedule(self.step))
                terms = advance(*batch)
                self.step += 1
                if self.average is not None:
                    self.average.update(self.step)
                self._after_step(terms)

    def advance(self, *batch: Any) -> dict[str, Tensor]:
        """One step: forward, backward, update. Returns the terms of the loss."""
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
        """A context with the network as it is saved: averaged, in evaluation mode, without
        gradients, and in the precision of training."""
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
        """Replace the weights by their average and switch to evaluation mode."""
        self._exchange()
        self.task.network.eval()

    def _prepare(self) -> None:
        """Restore the last checkpoint, or initialise the task."""
        task, accelerator = self.task, self.accelerator
        state = None
        if self.resume and self.checkpoint.exists():
            state = load_checkpoint(self.checkpoint)
            check_settings(self.run, state["settings"], self.settings)
            self.log(f"{self.run}: resuming from {self.checkpoint.name} at step {state['step']}")
            task.network.load_state_dict(state["network"])
            task.load(state["task"])
        else:
            task.start()
        accelerator.launch()
        task.to(accelerator.device)
        if self.plan.average:
            self.average = Average(task.network, self.plan.average)
        self.optimizers = task.optimizers(accelerator.device)
        set_rate(self.optimizers, 1.0)
        if state is not None:
            self.step = state["step"]
            load_optimizers(self.optimizers, state["optimizers"])
            task.schedule.load(state["schedule"])
            accelerator.load(state["precision"])
            if self.average is not None:
                self.average.load(state["average"])
        self._model, self._steppers = accelerator.setup(_Forward(task), self.optimizers)
        self._writer = Log(self.run, self.step, write=accelerator.rank == 0)

    def _seed(self) -> None:
        torch.manual_seed(seed_of(self.plan.seed, "step", self.step, self.accelerator.rank))

    def _after_step(self, terms: dict[str, Tensor]) -> None:
        """Log, validate, draw and save, in this order, so that a checkpoint includes them."""
        plan, step, accelerator = self.plan, self.step, self.accelerator
        self._flush_pending()
        saves = step % plan.checkpoint_every == 0 or step == plan.steps
        validates = plan.validate_every > 0 and step % plan.validate_every == 0
        if saves or validates or step == 1 or step % plan.log_every == 0:
            self._log_terms(terms)
        if validates:
            self._validate()
        if plan.samples_every and step % plan.samples_every == 0 and accelerator.rank == 0:
            with self.as_saved():
                self.task.draw(step)
        self._stop |= bool(self.on_progress(step, plan.steps, self.loss))
        exchanges = accelerator.world == 1 or step % AGREE == 0
        stops = exchanges and accelerator.any(self._stop)
        if saves or stops:
            self._save()
        if stops:
            raise Interrupted(step)

    def _log_terms(self, terms: dict[str, Tensor]) -> None:
        """Log the terms' means over the processes; for a GPU during the next step."""
        step, names, waiting = self.step, list(terms), self.waiting
        initial_rate: float = self.optimizers[0].param_groups[0]["first_rate"]
        rate = initial_rate * self.task.schedule(step)
        values = torch.stack([term.float() for term in terms.values()])
        fetch = fetched(self.accelerator.mean(values))

        def write() -> None:
            row = dict(zip(names, fetch(), strict=True))
            self.loss = sum(row.values())
            if not math.isfinite(self.loss):
                raise InputError(
                    f"{self.run}: the loss is {self.loss} at step {step}; lower learning_rate or "
                    "set clip, and start again in another folder"
                )
            logged = {"train": self.loss, **{f"train/{name}": row[name] for name in names}}
            self._writer.add(step, {**logged, "learning_rate": rate, "waiting": waiting})

        self._pending = write
        if self.accelerator.device.type != "cuda":
            self._flush_pending()

    def _flush_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending()

    def _validate(self) -> None:
        self._flush_pending()
        with self.as_saved():
            row = self.task.validate()
        total = sum(row.values())
        self.task.schedule.validated(total)
        if row:
            logged = {f"validation/{name}": value for name, value in row.items()}
            self._writer.add(self.step, {"validation": total, **logged})
        self.log(self.task.report(self.step, self.plan.steps, self.loss, row))

    def _save(self) -> None:
        """Write the checkpoint atomically: a kill leaves the previous one intact."""
        self._flush_pending()  # raises for a loss that is not finite
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
        remedy = f"free some space, and continue with {spelled('resume', True)}"
        save_state(self.checkpoint, state, "the checkpoint", remedy)

    def _exchange(self) -> None:
        if self.average is not None:
            self.average.exchange()


class _Forward(nn.Module):
    """The loss as a module's forward pass, which Fabric's strategies wrap."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network, self._loss = task.network, task.loss

    def forward(self, *batch: Any) -> dict[str, Tensor]:
        """See :meth:`Task.loss`."""
        return self._loss(*batch)
