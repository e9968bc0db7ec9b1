"""The losses of a picture, and their gradient, in tiles: exact, in memory that does not grow.

The losses depend on the features ``F_l`` ``(C, N)`` of the layers only through sums over positions,

    s_l = sum_n F_l[:, n],   S_l = sum_n F_l[:, n] F_l[:, n]^T,
    d_l = sum_n |F_l[:, n] - P_l[:, n]|^2

(the moments for the style, the distance to the photograph's features ``P_l`` for the content), and
a sum over positions is a sum over tiles. So they are computed in two passes (Galerne, Raad, Lezama
& Morel, "Scaling Painting Style Transfer", 2023):

1. without gradients, the sums of every tile are added up; the losses ``L(s, S, d)`` and their
   gradient by these small sums follow by autograd;
2. every tile is computed again, and the gradient of the sums is propagated back through it:

       dL/dF_l[:, n] = dL/ds_l + (dL/dS_l + dL/dS_l^T) F_l[:, n] + 2 dL/dd_l (F_l[:, n] - P_l[:, n])

   for positions ``n`` of its core. It reaches the pixels of the core and of the halo; those of all
   tiles are added up in the gradient of the picture.

The core's features are exact with a halo of one receptive field (:mod:`impasto.methods.tiling`),
and so is the gradient: features of a core do not depend on pixels beyond its halo. To cut the
gradient to the core instead would take a halo twice as wide.

The second pass costs the first one again: 4 passes through the network instead of 3 (a pass back
counts as 2), times the halos. Terms of the pixels themselves (total variation, range) are computed
on the whole picture, so that no pair of pixels at a border of tiles is left out or counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any

import torch
from torch import Tensor

from ..backbones import Backbone
from ..device import arranged, layout
from ..losses import EPS
from ..networks.tiling import Tile
from ..statistics import Moments
from ..watch import divided, portion
from .style_loss import ByMoments, LayerLoss
from .tiling import Tiling

__all__ = ["TiledLosses", "TiledSums"]

FIRST = 0.25  # share of the first pass in the work

Distance = Callable[[Tensor, Tensor], Tensor]
"""Features and target ``(C, H, W)`` -> ``()``, a sum over positions."""


class TiledSums:
    """Sums over the positions of a picture's features, differentiable by the picture.

    Args:
        net: the network.
        tiling: see :class:`impasto.methods.tiling.Tiling`.
        style_layers: taps whose moments are computed.
        distance: of features and ``targets``.
        targets: for each tile, tap -> features ``(C, h, w)`` of its core.
    """

    def __init__(
        self,
        net: Backbone,
        tiling: Tiling,
        style_layers: Sequence[str],
        distance: Distance | None = None,
        targets: Sequence[Mapping[str, Tensor]] = (),
    ) -> None:
        self.net, self.tiles, self.style_layers = net, tiling.tiles, list(style_layers)
        self.distance, self.targets = distance, targets
        self.content_layers = list(targets[0]) if targets else []

    def __call__(self, picture: Tensor) -> tuple[dict[str, Tensor], dict[str, Moments]]:
        """Distances of the content layers, and moments of the style layers, of ``(1, 3, H, W)``.

        Raises:
            Cancelled: after a tile, here or in the pass back, if ``on_step`` returns True.
        """
        sums: Sequence[Tensor] = _Sums.apply(picture, self)  # type: ignore[no-untyped-call]
        moments, distances = sums[: 3 * len(self.style_layers)], sums[3 * len(self.style_layers) :]
        triples = zip(moments[0::3], moments[1::3], moments[2::3], strict=True)
        return (
            dict(zip(self.content_layers, distances, strict=True)),
            {tap: Moments(*triple) for tap, triple in zip(self.style_layers, triples, strict=True)},
        )

    @torch.no_grad()
    def sums(self, picture: Tensor) -> tuple[Tensor, ...]:
        """The first pass: weights, first and second moments, and distances."""
        total: list[Tensor] = []
        with portion(FIRST):
            for number in divided(range(len(self.tiles)), "tile"):
                part = self._sums_of(number, _cut(picture, self.tiles[number]))
                total = [a + b for a, b in zip(total, part, strict=True)] if total else part
        return tuple(total)

    def gradient(self, picture: Tensor, by_sums: Sequence[Tensor | None]) -> Tensor:
        """The second pass: the gradient by the picture, from the gradient by the sums."""
        gradient = torch.zeros_like(picture)
        for number in divided(range(len(self.tiles)), "tile"):
            tile = self.tiles[number]
            pixels = _cut(picture, tile).detach().requires_grad_(True)
            with torch.enable_grad():
                sums = self._sums_of(number, pixels)
            used = [
                (value, by_value)
                for value, by_value in zip(sums, by_sums, strict=True)
                if by_value is not None and value.requires_grad
            ]
            if used:
                values, by_values = zip(*used, strict=True)
                (part,) = torch.autograd.grad(values, pixels, by_values)
                tile.seen(gradient).add_(part)
        return gradient

    def _sums_of(self, number: int, pixels: Tensor) -> list[Tensor]:
        """The sums over the core of a tile, ``pixels`` with its halo."""
        taps = {*self.style_layers, *self.content_layers}
        features = _core(self.net, taps, pixels, self.tiles[number])
        sums = []
        for tap in self.style_layers:
            moments = Moments.of(features[tap])
            sums += [moments.weight, moments.first, moments.second]
        for tap in self.content_layers:
            assert self.distance is not None
            target = self.targets[number][tap].to(pixels.device, non_blocking=True)
            sums.append(self.distance(features[tap], target))
        return sums


class _Sums(torch.autograd.Function):
    """The two passes of :class:`TiledSums` as one function that autograd knows."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, sums: TiledSums) -> tuple[Tensor, ...]:
        ctx.save_for_backward(picture)
        ctx.set_materialize_grads(False)
        # On a GPU, gradients are computed in another thread, which does not see our progress.
        ctx.gradient, ctx.run = sums.gradient, copy_context().run
        return sums.sums(picture)

    @staticmethod
    def backward(ctx: Any, *by_sums: Tensor | None) -> tuple[Tensor, None]:
        return ctx.run(ctx.gradient, *ctx.saved_tensors, by_sums), None


class TiledLosses:
    """The content and style loss of every layer, in tiles.

    The photograph's features are computed once, tile by tile, and kept on the CPU at the resolution
    of their layer and in the network's data type: ``relu4_1`` of ``compact`` takes 24 bytes for
    each pixel of the picture, ``relu4_2`` of VGG-19 32. To compute them anew in every iteration
    would cost a quarter of its time.

    Args:
        net, tiling: see :class:`TiledSums`.
        content: the photograph, ``(1, 3, H, W)``.
        content_layers: taps of the content loss.
        style_losses: tap -> loss of its moments.
        published: content loss that is a sum over positions, see :data:`Distance`; None takes
            :func:`impasto.losses.content_loss`.
    """

    def __init__(
        self,
        net: Backbone,
        tiling: Tiling,
        content: Tensor,
        content_layers: Sequence[str],
        style_losses: Mapping[str, LayerLoss],
        published: Distance | None = None,
    ) -> None:
        self.style_losses = {
            tap: loss for tap, loss in style_losses.items() if isinstance(loss, ByMoments)
        }
        assert len(self.style_losses) == len(style_losses)
        targets = []
        with torch.no_grad():
            for tile in tiling.tiles:
                features = _core(net, set(content_layers), _cut(content, tile), tile)
                targets.append({tap: features[tap].cpu() for tap in content_layers})
        self.units = {
            tap: 1.0 if published else _unit([target[tap] for target in targets])
            for tap in content_layers
        }
        distance = published or _squared_error
        self.sums = TiledSums(net, tiling, list(style_losses), distance, targets)

    def __call__(self, picture: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Content and style loss of every layer, for ``picture`` ``(1, 3, H, W)``."""
        distances, moments = self.sums(picture)
        return (
            {tap: distance / self.units[tap] for tap, distance in distances.items()},
            {tap: loss.of(moments[tap]) for tap, loss in self.style_losses.items()},
        )


def _squared_error(features: Tensor, target: Tensor) -> Tensor:
    wide = torch.promote_types(features.dtype, torch.float32)
    return (features.to(wide) - target.to(wide)).square().sum()


def _unit(parts: Sequence[Tensor]) -> float:
    """The number of features, times :func:`impasto.losses.content_spread` of them all."""
    count = sum(part.numel() for part in parts)
    first = torch.stack([part.double().sum((-2, -1)) for part in parts]).sum(0)
    square = float(torch.stack([part.double().square().sum() for part in parts]).sum())
    positions = count / len(first)
    spread = (square - float(first.square().sum()) / positions) / count
    return count * (max(spread, 0.01 * square / count) + EPS)


def _cut(picture: Tensor, tile: Tile) -> Tensor:
    return arranged(tile.seen(picture))


def _core(net: Backbone, taps: set[str], pixels: Tensor, tile: Tile) -> dict[str, Tensor]:
    """Features ``(C, h, w)`` of the core of a tile, from ``pixels`` with its halo."""
    core = {}
    for tap, features in net(pixels, taps).items():
        stride = net.field(tap).stride
        rows, columns = tile.rows.features(stride), tile.columns.features(stride)
        core[tap] = _Crop.apply(features, rows, columns)[0]  # type: ignore[no-untyped-call]
    return core


class _Crop(torch.autograd.Function):
    """Rows and columns of features, in the memory layout of the network, there and back.

    Autograd's own gradient of a slice is contiguous, which slows all layers before it.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: slice, columns: slice) -> Tensor:
        ctx.shape, ctx.region = features.shape, (..., rows, columns)
        return arranged(features[..., rows, columns])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        device = gradient.device
        whole = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=device, memory_format=layout(device)
        ).zero_()
        whole[ctx.region] = gradient
        return whole, None, None
