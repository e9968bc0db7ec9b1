"""The optimisation of a picture's pixels at one size."""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..backbones import Backbone
from ..device import arranged, fetched
from ..losses import content_loss, content_spread, range_loss, total_variation
from ..statistics import Moments
from .base import OnStep, Step
from .descent import Optimizer

__all__ = ["Level", "Objective", "Progress", "usable"]

RANGE_WEIGHT = 1e4  # only to bring pixels back: what lies outside is not seen
WINDOW = 10
SMALL = 1e-6  # of a loss: what is below differs by rounding
SETBACKS = 5  # in a row, of an optimisation that does not converge


@dataclass(frozen=True)
class Progress:
    """Where a size stands in the whole: iterations before it, and shares of the cost."""

    done: int
    planned: int
    share: float
    each: float


@dataclass(frozen=True)
class Objective:
    """What is minimised, and how: see the options of :class:`impasto.methods.gatys.Gatys`."""

    net: Backbone
    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    content_weight: float
    style_weight: float
    style_loss: Callable[[Moments, Moments], Tensor]
    tv_weight: float
    tolerance: float
    optimizer: Callable[[], Optimizer]


class Level:
    """The optimisation at one size.

    Args:
        objective: what is minimised.
        content: the photograph at this size, ``(1, 3, H, W)`` where the network is.
        aim: moments wanted at the style layers.
        grey: of a picture whose colours stay as they are.
    """

    def __init__(
        self,
        objective: Objective,
        content: Tensor,
        aim: Mapping[str, Moments],
        grey: bool = False,
    ) -> None:
        self.objective, self.grey = objective, grey
        self.aim = aim
        self.size = (content.shape[-2], content.shape[-1])
        with torch.no_grad():
            self.content = objective.net(content, objective.content_layers)
            self.spread = {tap: content_spread(target) for tap, target in self.content.items()}

    def losses(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Total, content and style loss of ``(1, 3, H, W)``, clipped as the result will be."""
        objective = self.objective
        taps = set(objective.content_layers) | set(objective.style_layers)
        clipped = picture.clamp(0, 1)
        features = objective.net(clipped, taps)
        content = torch.stack(
            [
                weight * content_loss(features[tap], self.content[tap], self.spread[tap])
                for tap, weight in objective.content_layers.items()
            ]
        ).sum()
        style = torch.stack(
            [
                weight * objective.style_loss(Moments.of(features[tap].squeeze(0)), self.aim[tap])
                for tap, weight in objective.style_layers.items()
            ]
        ).sum()
        total = objective.content_weight * content + objective.style_weight * style
        total = total + RANGE_WEIGHT * range_loss(picture)
        if objective.tv_weight:
            total = total + objective.tv_weight * total_variation(clipped)
        return total, content, style

    def optimise(
        self,
        picture: Tensor,
        count: int,
        deadline: float | None,
        on_step: OnStep | None,
        progress: Progress,
    ) -> tuple[Tensor, bool]:
        """Run ``count`` iterations; returns the best picture ``(3, H, W)`` and if told to stop.

        What is decided in an iteration is decided on the device, and the host reads the figures of
        a GPU's while the next one runs: see :mod:`impasto.methods.descent`.
        """
        x = arranged(picture.detach().clone()).requires_grad_(True)
        optimizer = self.objective.optimizer()
        state = State(x)
        history: list[float] = []
        pending: deque[tuple[int, Callable[[], list[float]], Tensor]] = deque()
        behind = int(x.device.type == "cuda")

        def read() -> tuple[bool, Tensor | None]:
            """Whether an iteration was the last, and the picture if it was told to be."""
            iteration, get, best = pending.popleft()
            loss, content, style, bad, setbacks = get()
            if bad and setbacks == SETBACKS:
                if min(history, default=math.inf) > SMALL:  # else it began where it was to end
                    warnings.warn(
                        "the optimisation does not converge: the best picture so far is kept; "
                        "use a smaller --lr",
                        stacklevel=2,
                    )
                return True, None
            if not bad:
                history.append(loss)
            if math.isfinite(loss) and on_step is not None:
                step = Step(
                    progress.done + iteration,
                    progress.planned,
                    progress.share + iteration * progress.each,
                    self.size,
                    loss,
                    content,
                    style,
                    lambda: shown(best),
                )
                if on_step(step):
                    return True, best
            return self._converged(history), None

        for iteration in range(1, count + 1):
            losses = self._descend(x, optimizer, state)
            figures = torch.stack([*losses, state.bad.float(), state.setbacks])
            pending.append((iteration, fetched(figures), state.best))
            late = deadline is not None and time.monotonic() > deadline
            while len(pending) > (0 if late or iteration == count else behind):
                ends, chosen = read()
                if chosen is not None:
                    return shown(chosen), True
                if ends:
                    late = True
                    pending.clear()
            if late:
                break
        with torch.no_grad():  # the loss of the last step's picture is not known yet
            best = torch.where(self.losses(x)[0] < state.loss, x, state.best)
        return shown(best), False

    def _descend(
        self, x: Tensor, optimizer: Optimizer, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One iteration; gives the losses before it."""
        before = x.detach().clone()
        losses = self.losses(x)
        # Gradients of a mean over pixels are tiny; L-BFGS drops curvature that is.
        slope = torch.autograd.grad(losses[0] * float(self.size[0] * self.size[1]), x)[0]
        if self.grey:
            slope = slope.mean(1, keepdim=True).expand_as(x)
        total, content, style = (part.detach() for part in losses)
        with torch.no_grad():
            optimizer.step(x, slope.contiguous(), state.rate)
            state.judge(x, before, total)
            optimizer.restart(state.bad)
        return total, content, style

    def _converged(self, history: Sequence[float]) -> bool:
        tolerance = self.objective.tolerance
        if not tolerance or len(history) < 2 * WINDOW:
            return False
        last = sum(history[-WINDOW:])
        return sum(history[-2 * WINDOW : -WINDOW]) - last <= tolerance * last


class State:
    """How an optimisation stands, on the device.

    Attributes:
        best, loss: the picture of the least loss so far, and that.
        rate: share of the full learning rate.
        setbacks: how often in a row, but for iterations at less than the full rate, the loss was
            not finite or far above the best: then the best picture is gone back to, at half the
            rate.
        bad: whether this is such an iteration.
    """

    def __init__(self, x: Tensor) -> None:
        self.best = x.detach().clone()
        self.rate = x.new_ones((), requires_grad=False)
        self.loss = self.rate * math.inf
        self.setbacks = torch.zeros_like(self.rate)
        self.bad = self.setbacks > 0

    def judge(self, x: Tensor, before: Tensor, loss: Tensor) -> None:
        """Take ``x`` back to the best, or ``before``, of which ``loss`` is, for the best."""
        fine = loss.isfinite() & x.isfinite().all()
        self.bad = ~fine | (loss > 2 * self.loss + SMALL)
        x.copy_(torch.where(self.bad, self.best, x))
        better = ~self.bad & (loss < self.loss)
        self.best = torch.where(better, before, self.best)
        self.loss = torch.where(better, loss, self.loss)
        self.rate = torch.where(self.bad, self.rate / 2, (1.1 * self.rate).clamp_max(1.0))
        none = torch.zeros_like(self.setbacks)
        recovered = torch.where(self.rate == 1, none, self.setbacks)
        self.setbacks = torch.where(self.bad, self.setbacks + 1, recovered)


def shown(x: Tensor) -> Tensor:
    """``(1, 3, H, W)`` as a picture on the CPU."""
    return x.detach()[0].clamp(0, 1).cpu()


AnyTensors = TypeVar("AnyTensors", Tensor, Moments)


def usable(given: AnyTensors) -> AnyTensors:
    """Fit for autograd: what was made in inference mode is copied."""
    if isinstance(given, Moments):
        return Moments(*(usable(t) for t in (given.weight, given.first, given.second)))
    return given.clone() if given.is_inference() else given
