"""Gatys' method as it is published: the losses with their constants, and plain optimisers.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016;
reports 1 (section 3.1), 3 (section III), 4 (section 2.2) and 5 (section 2).
:mod:`impasto.methods.level` optimises a better conditioned loss, in steps of a limited length. Here
nothing limits a step or the range of a pixel, so that the optimisation may diverge, and large
learning rates saturate pixels (report 3, Fig. 4).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..backbones.base import InputConvention
from ..errors import spelled
from ..statistics import Moments
from ..watch import Cancelled, OnStep, Stopped, portion, so_far
from .checkpoint import Checkpoint
from .descent import HISTORY
from .level import Objective, Progress, converged, shown
from .style_loss import LayerLoss
from .tiled import TiledLosses
from .tiling import Tiling

__all__ = [
    "LOSSES",
    "PublishedLevel",
    "PublishedLosses",
    "gatys_style",
    "half_squared_error",
]


@dataclass(frozen=True)
class PublishedLosses:
    """The two losses of one layer, as sums without a common scale; one value for each picture.

    Attributes:
        content: of features and target, ``(..., C, H, W)`` both.
        style: of moments and target. Both Gram matrices are per position: report 3's ``G / M``.
    """

    content: Callable[[Tensor, Tensor], Tensor]
    style: Callable[[Moments, Moments], Tensor]


def half_squared_error(features: Tensor, target: Tensor) -> Tensor:
    """``1/2 sum (P - X)^2``: reports 1 and 3, Eq. 1."""
    return squared_error(features, target) / 2


def squared_error(features: Tensor, target: Tensor) -> Tensor:
    """``sum (P - X)^2``: report 5's "L2 loss"."""
    wide = torch.promote_types(features.dtype, torch.float32)
    return (features.to(wide) - target.to(wide)).square().sum((-3, -2, -1))


def gatys_style(moments: Moments, target: Moments) -> Tensor:
    """``1 / (4 N^2 M^2) sum (A - G)^2`` for ``N`` channels, ``M`` positions: report 3, Eq. 2 and 3.

    If painting and picture differ in size, so does ``M``; each Gram matrix is then divided by its
    own.
    """
    return gram_error(moments, target) / (4 * moments.channels**2)


def gram_error(moments: Moments, target: Moments) -> Tensor:
    """``sum (A - G)^2`` for ``G = F F^T / n``: report 5, Eq. 2.1 and 2.3."""
    return (moments.gram - target.gram).square().sum((-2, -1))


LOSSES: Mapping[str, PublishedLosses] = {
    "published": PublishedLosses(half_squared_error, gatys_style),
    "report5": PublishedLosses(squared_error, gram_error),
}


class PublishedLevel:
    """The optimisation at one size, with the interface of :class:`impasto.methods.level.Level`.

    The variable is the picture in the units of the network's input, but RGB: 0..255 less the mean
    for Caffe's weights. It is clipped to 0..1 only when it is shown.

    Args:
        objective: the losses and their optimiser; weights of layers are used as they are.
        content: the photograph at this size, ``(1, 3, H, W)`` on the device of the network.
        style_losses: the loss of each style layer.
        grey: change only the lightness of the picture.
        tiling: compute the features in tiles.
    """

    def __init__(
        self,
        objective: Objective,
        content: Tensor,
        style_losses: Mapping[str, LayerLoss],
        grey: bool = False,
        tiling: Tiling | None = None,
    ) -> None:
        self.objective, self.style_losses, self.grey = objective, style_losses, grey
        self.losses_of = LOSSES[objective.losses]
        self.size = (content.shape[-2], content.shape[-1])
        self.offset, self.unit = _units(objective.net.convention, content)
        self.tiled: TiledLosses | None = None
        if tiling is not None:
            self.tiled = TiledLosses(
                *(objective.net, tiling, content, list(objective.content_layers), style_losses),
                self.losses_of.content,
            )
            return
        with torch.no_grad():
            self.content = objective.net(content, objective.content_layers)

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Total, content and style loss of ``x`` ``(1, 3, H, W)``, in the network's units."""
        objective = self.objective
        picture = x * self.unit + self.offset
        layer_losses = self._layer_losses if self.tiled is None else self.tiled
        contents, styles = layer_losses(picture)
        content = x.new_zeros(())
        for tap, weight in objective.content_layers.items():
            content = content + weight * contents[tap]
        style = x.new_zeros(())
        for tap, weight in objective.style_layers.items():
            style = style + weight * styles[tap]
        total = objective.content_weight * content + objective.style_weight * style
        if objective.tv_weight:
            down, right = x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]
            total = total + objective.tv_weight * (down.square().sum() + right.square().sum())
        return total, content, style

    def _layer_losses(self, picture: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Content and style loss of every layer."""
        objective = self.objective
        features = objective.net(picture, {*objective.content_layers, *objective.style_layers})
        content = self.losses_of.content
        return (
            {tap: content(features[tap], self.content[tap])[0] for tap in objective.content_layers},
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
        """Run ``count`` iterations; see :meth:`impasto.methods.level.Level.optimise`.

        Returns:
            The last finite picture ``(3, H, W)``, and why the work ended before ``count``
            iterations.
        """
        x = ((picture.detach() - self.offset) / self.unit).contiguous().requires_grad_(True)
        optimizer = self._optimizer(x)
        latest = torch.zeros(3)
        finite = x.detach().clone()
        history: list[float] = []
        share = 0.0 if self.tiled is None else progress.of_tiles

        def closure() -> Tensor:
            nonlocal latest
            losses = self.losses(x)
            (gradient,) = torch.autograd.grad(losses[0], x)
            if self.grey:
                gradient = gradient.mean(1, keepdim=True).expand_as(x)
            x.grad = gradient.contiguous()
            latest = torch.stack([loss.detach() for loss in losses])
            return losses[0]

        def kept() -> dict[str, object]:
            losses = torch.tensor(history, dtype=torch.float64, device="cpu")
            return {"x": x, "finite": finite, "history": losses, "optimizer": optimizer.state[x]}

        done, interrupted = 0, checkpoint.taken()
        if interrupted is None:
            checkpoint.offer(progress, 0, kept)
        else:
            done, history = interrupted["done"], interrupted["history"].tolist()
            with torch.no_grad():
                x.copy_(interrupted["x"])
                finite.copy_(interrupted["finite"])
            states = {0: interrupted["optimizer"]}
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
            del interrupted, states  # pictures
        for iteration in range(done + 1, count + 1):
            before = x.detach().clone()
            if self.tiled is not None:
                so_far(partial(self._shown, before), self.size)
            try:
                with portion(share, progress.stage):
                    optimizer.step(closure)  # type: ignore[arg-type]
            except Cancelled:
                return self._shown(before), "cancelled"
            loss, content, style = latest.tolist()  # of the picture before this step
            if not bool(latest.isfinite().all() & x.isfinite().all()):
                finite = before if bool(latest.isfinite().all()) else finite
                warnings.warn(
                    f"the optimisation diverged at iteration {progress.done + iteration}: the last "
                    f"finite picture is kept; use a smaller {spelled('lr')}",
                    stacklevel=2,
                )
                return self._shown(finite), "diverged"
            finite = before
            history.append(loss)
            stopped: Stopped | None = None
            if converged(history, self.objective.tolerance):
                stopped = "converged"
            elif deadline is not None and time.monotonic() > deadline and iteration < count:
                stopped = "time"
            if on_step is not None:
                last = stopped is not None or iteration == count
                figures = (loss, content, style), lambda: self._shown(x), last
                if on_step(progress.step(iteration, self.size, *figures)):
                    return self._shown(x), "cancelled"
            if stopped is not None:
                break
            if iteration < count:
                checkpoint.offer(progress, iteration, kept)
        return self._shown(x), stopped

    def _optimizer(self, x: Tensor) -> torch.optim.Optimizer:
        """L-BFGS without a line search or tolerances, or Adam: PyTorch's."""
        objective = self.objective
        if objective.optimizer == "adam":
            return torch.optim.Adam([x], objective.lr, objective.betas)
        return torch.optim.LBFGS(
            [x],
            objective.lr,
            max_iter=1,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=HISTORY,
        )

    def _shown(self, x: Tensor) -> Tensor:
        return shown(x.detach() * self.unit + self.offset)


def _units(convention: InputConvention, like: Tensor) -> tuple[Tensor, Tensor]:
    """Offset and unit, ``(3, 1, 1)`` in RGB: ``x * unit + offset`` is a picture in 0..1."""
    mean, std = (
        torch.tensor(values) / convention.scale for values in (convention.mean, convention.std)
    )
    if convention.bgr:
        mean, std = mean.flip(0), std.flip(0)
    return mean.to(like)[:, None, None], std.to(like)[:, None, None]
