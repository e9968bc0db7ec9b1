"""What ArtFlow and StyleFlow share: a reversible network's face, and its grid.

Paper 1, sections 3.2 to 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..device import LARGE, sparing
from ..networks.flow import Flow
from ..statistics import Moments
from ..styles import Style
from .feedforward import AnyStyle
from .model import StyleModel
from .records.base import FlowOptions

__all__ = ["SHIFTS", "FlowModel", "FlowStyle", "whole"]

# Down and to the right, in pixels. A squeeze treats pixels by where they stand in a cell of 2 or 4;
# here each row and each column of a cell comes once.
SHIFTS = ((0, 0), (2, 1), (1, 3), (3, 2))


class FlowModel(StyleModel):
    """A model with a flow."""

    reversible = True
    finish = ("degrid",)
    flow: Flow

    @property
    def period(self) -> int:  # type: ignore[override]
        """A cell of all squeezes."""
        return self.flow.unit

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """Six of the picture: all but some rows of a coupling's work is done in place."""
        return torch.finfo(dtype).bits / 8 * 3 * 6


class FlowStyle(AnyStyle):
    """A method of a reversible network.

    Results of pictures shifted by some pixels are averaged, against the faint grid of the network's
    squeezes, at so many times the work.

    Args:
        model: is frozen and moved.
        options: of the method.
        resolved: see :class:`impasto.methods.feedforward.OnePass`.
    """

    model: FlowModel

    def __init__(self, model: FlowModel, options: FlowOptions, **resolved: Any) -> None:
        self.shifts = SHIFTS[: options.shifts]
        super().__init__(model, options, **resolved)

    def paint(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`."""
        aim = self.aim(pictures, style)
        with sparing(pictures.shape[-2] * pictures.shape[-1]):
            total = self._shifted(pictures, aim, strength, self.shifts[0])
            for shift in self.shifts[1:]:
                total.add_(self._shifted(pictures, aim, strength, shift))
        if len(self.shifts) > 1:
            total.div_(len(self.shifts))
        return total

    def _shifted(
        self,
        pictures: Tensor,
        aim: Mapping[str, Moments],
        strength: float,
        shift: tuple[int, int],
    ) -> Tensor:
        height, width = pictures.shape[-2:]
        down, right = shift
        moved = whole(pictures, self.model.flow.unit, down, right)
        return self.model(moved, aim, strength)[..., down : down + height, right : right + width]

    def _on_device(self, picture: Tensor) -> Tensor:
        if picture.shape[-2] * picture.shape[-1] > LARGE:
            return picture[None].to(self.device)  # no copy: a flow begins with one
        return super()._on_device(picture)


def whole(pictures: Tensor, unit: int, down: int = 0, right: int = 0) -> Tensor:
    """Pictures moved and continued by reflection, to sides that are multiples of ``unit``."""
    height, width = pictures.shape[-2:]
    return _continued(pictures, (right, -(width + right) % unit, down, -(height + down) % unit))


def _continued(pictures: Tensor, by: tuple[int, int, int, int]) -> Tensor:
    """By reflection; by replication where they are too small to reflect."""
    if not any(by):
        return pictures
    fits = max(by) < min(pictures.shape[-2:])
    return F.pad(pictures, by, mode="reflect" if fits else "replicate")
