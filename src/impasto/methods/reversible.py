"""Base classes of ArtFlow and StyleFlow, the methods with a reversible network.

Report 1, sections 3.2 to 3.4. The network regroups pixels into cells of 2x2 or 4x4 ("squeeze").
Pixels at different places of a cell are treated differently, so that a faint grid shows in the
result. To weaken it, the results of a few shifted copies of the picture are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..device import LARGE, sparing
from ..images.canvas import Whole
from ..networks.flow import Flow
from ..statistics import Moments
from ..styles import Style
from ..watch import divided, portion, so_far
from .anystyle import AIM, AnyStyle
from .model import StyleModel
from .records.base import FlowOptions

__all__ = ["SHIFTS", "WAY", "FlowModel", "FlowStyle", "whole"]

# Down and to the right, in pixels. With all four, every row and every column of a cell of 4x4
# pixels is used once.
SHIFTS = ((0, 0), (2, 1), (1, 3), (3, 2))
WAY = 0.48  # share of the work, for the progress: the network one way; the rest is the transfer


class FlowModel(StyleModel):
    """A model whose network contains a flow."""

    reversible = True
    finish = ("degrid",)
    flow: Flow

    @property
    def period(self) -> int:  # type: ignore[override]
        """Side of the cell of all squeezes together."""
        return self.flow.unit

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """Six copies of the picture: couplings work in place, on a few rows at a time."""
        return torch.finfo(dtype).bits / 8 * 3 * 6


class FlowStyle(AnyStyle):
    """A method with a reversible network.

    The results of shifted copies of the picture are averaged, against the faint grid of the
    network's squeezes. The work grows with the number of copies.

    Args:
        model: the model; it is moved to the device and frozen.
        options: options of the method.
        resolved: see :class:`impasto.methods.feedforward.OnePass`.
    """

    model: FlowModel

    def __init__(self, model: FlowModel, options: FlowOptions, **resolved: Any) -> None:
        self.shifts = SHIFTS[: options.shifts]
        super().__init__(model, options, **resolved)

    def paint(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`."""
        with portion(AIM):
            target = self.aim(Whole(pictures), style)
        size = (pictures.shape[-2], pictures.shape[-1])
        shifts = divided(self.shifts, "shift")
        with sparing(size[0] * size[1]):
            total = self._shifted(pictures, target, strength, next(shifts))
            count = 1
            so_far(lambda: (total / count).clamp_(0, 1), size)
            for shift in shifts:
                total.add_(self._shifted(pictures, target, strength, shift))
                count += 1
        if len(self.shifts) > 1:
            total.div_(len(self.shifts))
        return total

    def _shifted(
        self,
        pictures: Tensor,
        target: Mapping[str, Moments],
        strength: float,
        shift: tuple[int, int],
    ) -> Tensor:
        height, width = pictures.shape[-2:]
        down, right = shift
        moved = whole(pictures, self.model.flow.unit, down, right)
        return self.model(moved, target, strength)[..., down : down + height, right : right + width]

    def _on_device(self, picture: Tensor) -> Tensor:
        if picture.shape[-2] * picture.shape[-1] > LARGE:
            return picture[None].to(self.device)  # no copy: the flow copies it anyway
        return super()._on_device(picture)


def whole(pictures: Tensor, unit: int, down: int = 0, right: int = 0) -> Tensor:
    """Shift pictures and extend them by reflection, so that sides are multiples of ``unit``."""
    height, width = pictures.shape[-2:]
    return _continued(pictures, (right, -(width + right) % unit, down, -(height + down) % unit))


def _continued(pictures: Tensor, by: tuple[int, int, int, int]) -> Tensor:
    """Extend pictures by reflection, or by replication if they are too small to reflect."""
    if not any(by):
        return pictures
    fits = max(by) < min(pictures.shape[-2:])
    return F.pad(pictures, by, mode="reflect" if fits else "replicate")
