"""The optimisation of the pixels of a picture at one size: the inner loop of Gatys' method.

An iteration computes the loss of the picture by a backbone and changes the pixels by one step of an
optimiser. The picture with the least loss is kept. The loop stops when the loss no longer falls.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..backbones import Backbone
from ..device import arranged, fetched
from ..errors import spelled
from ..losses import clipped, content_loss, content_spread, total_variation
from ..statistics import Moments
from ..watch import Cancelled, OnStep, Step, Stopped, portion, so_far
from .checkpoint import Checkpoint, moved
from .custom_loss import LossFunction, content_by_function
from .descent import Optimizer, optimizer_of
from .style_loss import ByFeatures, LayerLoss
from .tiled import TiledLosses
from .tiling import Tiling

__all__ = ["Level", "Objective", "Progress", "converged", "shown", "usable"]

RANGE_WEIGHT = 1e4  # pulls pixels back into 0..1; the other losses see clipped pixels
WINDOW = 10  # iterations whose losses are summed to test convergence
SMALL = 1e-6  # losses below this differ only by rounding errors
SETBACKS = 5  # setbacks in a row after which the optimisation is given up


@dataclass(frozen=True)
class Progress:
    """The position of this size in the whole optimisation.

    Attributes:
        done, count, planned: iterations before this size, of this size, and of all sizes.
        begin, end: share of the total cost before and after this size, 0..1.
        stage: see :class:`impasto.watch.Step`.
    """

    done: int = 0
    count: int = 1
    planned: int = 1
    begin: float = 0.0
    end: float = 1.0
    stage: str = ""

    @property
    def of_tiles(self) -> float:
        """Share of the tiles of one iteration in the total cost: nearly the whole iteration."""
        return 0.99 * (self.end - self.begin) / self.count

    def share(self, iteration: int) -> float:
        """Share of the total cost after an iteration of this size."""
        return self.begin + iteration / self.count * (self.end - self.begin)

    def step(
        self,
        iteration: int,
        size: tuple[int, int],
        losses: tuple[float, float, float],
        picture: Callable[[], Tensor],
        last: bool,
    ) -> Step:
        """What ``on_step`` is told of an iteration of this size.

        ``losses`` are the total, the content's and the style's; ``last`` is true of the last
        iteration, which may come before the planned one.
        """
        share = self.share(self.count if last else iteration)
        done = self.done + iteration
        return Step(done, self.planned, share, size, *losses, picture, self.stage)


@dataclass(frozen=True)
class Objective:
    """The loss and its optimiser: see the options of :class:`impasto.methods.gatys.Gatys`."""

    net: Backbone
    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    content_weight: float
    style_weight: float
    tv_weight: float
    tolerance: float
    optimizer: str
    lr: float
    betas: tuple[float, float]
    losses: str = "relative"
    content_loss: LossFunction | None = None


class Level:
    """The optimisation at one size.

    Args:
        objective: the loss and its optimiser.
        content: the photograph at this size, ``(1, 3, H, W)`` on the device of the network.
        style_losses: the loss of each style layer.
        grey: change only the lightness of the picture; its colours stay as they are.
        tiling: compute the features in tiles; then all style losses are of moments, and the content
            loss is no function from outside.
    """

    def __init__(
        self,
        objective: Objective,
        content: Tensor,
        style_losses: Mapping[str, LayerLoss],
        grey: bool = False,
        tiling: Tiling | None = None,
    ) -> None:
        self.objective, self.grey = objective, grey
        self.style_losses = style_losses
        drawing = [loss.rng for loss in style_losses.values() if isinstance(loss, ByFeatures)]
        self.rng = drawing[0] if drawing else None  # all layers draw from one
        self.size = (content.shape[-2], content.shape[-1])
        self.tiled: TiledLosses | None = None
        if tiling is not None:
            self.tiled = TiledLosses(
                objective.net, tiling, content, list(objective.content_layers), style_losses
            )
            return
        with torch.no_grad():
            targets = objective.net(content, objective.content_layers)
        self.content_losses = {
            tap: _content_loss(objective.content_loss, target.squeeze(0), tap)
            for tap, target in targets.items()
        }

    def losses(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Total, content and style loss of ``(1, 3, H, W)``, which is clipped to 0..1 first."""
        objective = self.objective
        pixels, beyond = clipped(picture)
        contents, styles = self._layer_losses(pixels) if self.tiled is None else self.tiled(pixels)
        content, style = (
            torch.stack([weight * losses[tap] for tap, weight in weights.items()]).sum()
            for losses, weights in (
                (contents, objective.content_layers),
                (styles, objective.style_layers),
            )
        )
        total = objective.content_weight * content + objective.style_weight * style
        total = total + RANGE_WEIGHT * beyond
        if objective.tv_weight:
            total = total + objective.tv_weight * total_variation(pixels)
        return total, content, style

    def _layer_losses(self, picture: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Content and style loss of every layer."""
        objective = self.objective
        taps = set(objective.content_layers) | set(objective.style_layers)
        features = objective.net(picture, taps)
        return (
            {
                tap: self.content_losses[tap](features[tap].squeeze(0))
                for tap in objective.content_layers
            },
            {
                tap: self.style_losses[tap](features[tap].squeeze(0))
                for tap in objective.style_layers
            },
        )

    def optimise(
        self,
        picture: Tensor,
        count: int,
        deadline: float | None,
        on_step: OnStep | None,
        progress: Progress,
        checkpoint: Checkpoint,
    ) -> tuple[Tensor, Stopped | None]:
        """Run ``count`` iterations, or those that are left of an interrupted work.

        All decisions within an iteration are made on the device. The host reads the figures of an
        iteration on a GPU while the next one runs: see :mod:`impasto.methods.descent`.

        Returns:
            The best picture ``(3, H, W)``, and why the work ended before ``count`` iterations.
        """
        objective, tiled = self.objective, self.tiled is not None
        x = picture.detach().clone(memory_format=torch.contiguous_format)
        del picture
        x = (x if tiled else arranged(x)).requires_grad_(True)  # tiles are arranged one by one
        optimizer = optimizer_of(objective.optimizer, objective.lr, objective.betas, sparing=tiled)
        state = State(x)
        history: list[float] = []
        pending: deque[tuple[int, Callable[[], list[float]], Tensor]] = deque()
        # Iterations that the host reads later; one in tiles is long.
        lag = int(x.device.type == "cuda" and not tiled)
        share = progress.of_tiles if tiled else 0.0

        def kept() -> dict[str, object]:
            losses = torch.tensor(history, dtype=torch.float64, device="cpu")
            rng = None if self.rng is None else self.rng.get_state()
            return {
                **{"x": x, "history": losses, "rng": rng},
                **{"optimizer": optimizer.kept(), "progress": vars(state)},
            }

        done, interrupted = 0, checkpoint.taken()
        if interrupted is None:
            checkpoint.offer(progress, 0, kept)
        else:
            done, history = self._restore(interrupted, x, optimizer, state)
            del interrupted  # pictures

        def read(last: bool) -> tuple[Stopped | None, Tensor | None]:
            """Why to stop after the oldest pending iteration; its picture if it was cancelled."""
            iteration, get, best = pending.popleft()
            loss, content, style, bad, setbacks = get()
            if bad and setbacks == SETBACKS:
                if min(history, default=math.inf) <= SMALL:
                    return "converged", None  # it started at the optimum
                warnings.warn(
                    "the optimisation does not converge: the best picture so far is kept; "
                    f"use a smaller {spelled('lr')}",
                    stacklevel=2,
                )
                return "diverged", None
            if not bad:
                history.append(loss)
            settled = converged(history, objective.tolerance)
            if math.isfinite(loss) and on_step is not None:
                figures = (loss, content, style), lambda: shown(best), last or settled
                if on_step(progress.step(iteration, self.size, *figures)):
                    return "cancelled", best
            return "converged" if settled else None, None

        for iteration in range(done + 1, count + 1):
            if tiled:
                so_far(lambda: shown(state.best), self.size)
            try:
                with portion(share, progress.stage):
                    losses = self._descend(x, optimizer, state)
            except Cancelled:
                return shown(state.best), "cancelled"
            figures = torch.stack([*losses, state.bad.float(), state.setbacks])
            pending.append((iteration, fetched(figures), state.best))
            late = deadline is not None and time.monotonic() > deadline
            ends = late or iteration == count
            stopped: Stopped | None = "time" if late and iteration < count else None
            while len(pending) > (0 if ends or checkpoint.due else lag):
                reason, chosen = read(last=ends and len(pending) == 1)
                if chosen is not None:
                    return shown(chosen), reason
                if reason is not None:
                    ends, stopped = True, reason
                    pending.clear()
            if ends:
                break
            if not pending:
                checkpoint.offer(progress, iteration, kept)
        with torch.no_grad(), portion(0):  # the loss after the last step is not known yet
            best = x if bool(self.losses(x)[0] < state.loss) else state.best
        return shown(best), stopped

    def _restore(
        self, kept: Mapping[str, Any], x: Tensor, optimizer: Optimizer, state: State
    ) -> tuple[int, list[float]]:
        """Go on from a checkpoint; returns the number of iterations done, and their losses."""
        with torch.no_grad():  # in place: tensors keep their layout in memory
            x.copy_(kept["x"])
            for name, value in vars(state).items():
                value.copy_(kept["progress"][name])
        optimizer.restore(moved(kept["optimizer"], x.device))
        if self.rng is not None:
            self.rng.set_state(kept["rng"])
        return kept["done"], kept["history"].tolist()

    def _descend(
        self, x: Tensor, optimizer: Optimizer, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one iteration; returns the losses before it."""
        losses = self.losses(x)
        # The loss is a mean over pixels: its gradient is so small that L-BFGS would drop the
        # curvature. The gradient of the sum over pixels is not.
        gradient = torch.autograd.grad(losses[0] * float(self.size[0] * self.size[1]), x)[0]
        if self.grey:
            gradient = gradient.mean(1, keepdim=True).expand_as(x)
        total, content, style = (loss.detach() for loss in losses)
        gradient = gradient.contiguous()
        before = x.detach().clone()
        with torch.no_grad():
            optimizer.step(x, gradient, state.rate)
            state.judge(x, before, total)
            optimizer.restart(state.bad)
        return total, content, style


def _content_loss(loss: LossFunction | None, target: Tensor, tap: str) -> LayerLoss:
    """The content loss of a layer; ``target`` are the photograph's features ``(C, H, W)``."""
    if loss is not None:
        return content_by_function(loss, target, tap)
    return partial(content_loss, target=target, spread=content_spread(target))


class State:
    """The state of an optimisation, on the device.

    A setback is an iteration whose loss is not finite or far above the best. After a setback the
    optimisation goes on from the best picture, at half the learning rate.

    Attributes:
        best, loss: the picture with the least loss so far, and its loss.
        rate: share of the full learning rate.
        setbacks: number of setbacks since an iteration was last good at the full rate.
        bad: whether the latest iteration is a setback.
    """

    def __init__(self, x: Tensor) -> None:
        self.best = x.detach().clone()
        self.rate = x.new_ones((), requires_grad=False)
        self.loss = self.rate * math.inf
        self.setbacks = torch.zeros_like(self.rate)
        self.bad = self.setbacks > 0

    def judge(self, x: Tensor, before: Tensor, loss: Tensor) -> None:
        """Update the state after a step from ``before``, which has ``loss``, to ``x``.

        After a setback, ``x`` is set back to the best picture, in place.
        """
        finite = loss.isfinite() & x.isfinite().all()
        self.bad = ~finite | (loss > 2 * self.loss + SMALL)
        better = ~self.bad & (loss < self.loss)
        if x.device.type == "cpu":  # without pictures that are only selected from
            if self.bad:
                x.copy_(self.best)
            self.best = before if better else self.best
        else:
            x.copy_(torch.where(self.bad, self.best, x))
            self.best = torch.where(better, before, self.best)
        self.loss = torch.where(better, loss, self.loss)
        self.rate = torch.where(self.bad, self.rate / 2, (1.1 * self.rate).clamp_max(1.0))
        none = torch.zeros_like(self.setbacks)
        recovered = torch.where(self.rate == 1, none, self.setbacks)
        self.setbacks = torch.where(self.bad, self.setbacks + 1, recovered)


def converged(history: Sequence[float], tolerance: float) -> bool:
    """Whether the last ``WINDOW`` losses are less than ``tolerance`` below those before them."""
    if not tolerance or len(history) < 2 * WINDOW:
        return False
    last = sum(history[-WINDOW:])
    return sum(history[-2 * WINDOW : -WINDOW]) - last <= tolerance * last


def shown(x: Tensor) -> Tensor:
    """``(1, 3, H, W)`` as a picture on the CPU."""
    return x.detach()[0].clamp(0, 1).cpu()


AnyTensors = TypeVar("AnyTensors", Tensor, Moments)


def usable(value: AnyTensors) -> AnyTensors:
    """Make tensors usable in autograd: those created in inference mode are copied."""
    if isinstance(value, Moments):
        return Moments(*(usable(t) for t in (value.weight, value.first, value.second)))
    return value.clone() if value.is_inference() else value
