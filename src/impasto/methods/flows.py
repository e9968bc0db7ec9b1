"""What ArtFlow and StyleFlow share: a reversible network's face, its training, and its grid.

Paper 1, sections 3.2 to 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..color import recolored
from ..device import LARGE, arranged, sparing
from ..errors import InputError, check_share
from ..losses import total_variation
from ..networks.flow import Flow
from ..operators.degrid import degrid
from ..statistics import Moments
from ..styles import Style
from .onepass import AnyStyle, StyleModel
from .perceptual import Perceptual

__all__ = ["SHIFTS", "FlowModel", "FlowStyle", "FlowTraining", "whole"]

# Down and to the right, in pixels. A squeeze treats pixels by where they stand in a cell of 2 or 4;
# here each row and each column of a cell comes once.
SHIFTS = ((0, 0), (2, 1), (1, 3), (3, 2))


class FlowModel(StyleModel):
    """A model with a flow."""

    reversible = True
    flow: Flow

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """Six of the picture: all but some rows of a coupling's work is done in place."""
        return torch.finfo(dtype).bits / 8 * 3 * 6

    def start(self, crops: Tensor) -> None:
        """What is set from data before training: the activation normalisations."""
        self.flow(whole(crops[:32], self.flow.unit))


class FlowStyle(AnyStyle):
    """A method of a reversible network.

    Args:
        model: is frozen and moved.
        shifts: 1, 2 or 4 results of pictures shifted by some pixels are averaged, against the faint
            grid of the network's squeezes, at so many times the work.
        degrid: take away what is left of it where the photograph is flat, see
            :func:`impasto.operators.degrid.degrid`.
        style_scale, brush, device, precision, settings: see
            :class:`impasto.methods.onepass.AnyStyle`.

    Raises:
        InputError: for an option out of its range.
    """

    model: FlowModel

    def __init__(
        self,
        model: FlowModel,
        shifts: int,
        degrid: bool,
        style_scale: float,
        brush: float | None,
        device: str,
        precision: str,
        **settings: object,
    ) -> None:
        if shifts not in (1, 2, 4):
            raise InputError(f"shifts = {shifts}: use 1, 2 or 4")
        self.shifts, self.degrid = SHIFTS[:shifts], degrid
        super().__init__(
            model, style_scale, brush, device, precision, **settings, shifts=shifts, degrid=degrid
        )

    def render(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`."""
        aim = self.aim(pictures, style)
        with sparing(pictures.shape[-2] * pictures.shape[-1]):
            total = self._shifted(pictures, aim, strength, self.shifts[0])
            for shift in self.shifts[1:]:
                total.add_(self._shifted(pictures, aim, strength, shift))
        if len(self.shifts) > 1:
            total.div_(len(self.shifts))
        return degrid(total, pictures, self.model.flow.unit) if self.degrid else total

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


class FlowTraining:
    """A flow as training sees it, see :class:`impasto.methods.base.Trainable`.

    Args:
        model: with a flow to train.
        perceptual: the loss.
        tv_weight: of total variation.
        recolored: share (0..1) of the paintings that are seen in other colours while training, see
            :func:`impasto.color.recolored`: a small set knows few palettes.

    Raises:
        InputError: for a share out of range.
    """

    def __init__(
        self,
        model: FlowModel,
        perceptual: Perceptual,
        tv_weight: float = 0.0,
        recolored: float = 0.0,
    ) -> None:
        check_share("recolored", recolored)
        self.model, self.network = model, model.network
        self.perceptual, self.tv_weight, self.recolored = perceptual, tv_weight, recolored

    def start(self, crops: Tensor) -> None:
        """See :meth:`FlowModel.start`."""
        training = self.network.training
        self.network.train()
        with torch.no_grad():
            self.model.start(crops)
        self.network.train(training)

    def to(self, device: torch.device) -> None:
        """Move all networks to ``device``."""
        for net in (*self.model.networks, self.perceptual.judge):
            arranged(net, device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """``content`` and ``style``, and ``tv`` if it counts, weighted."""
        if self.network.training and self.recolored:
            styles = recolored(styles, self.recolored)
        out = self.model(contents, self.model.measure(styles))
        terms = self.perceptual(out, contents, styles)
        if self.tv_weight:
            terms["tv"] = self.tv_weight * total_variation(out)
        return terms

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        return self.model(contents, self.model.measure(styles)).clamp(0, 1)

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """See :meth:`impasto.methods.onepass.Model.save`."""
        self.model.save(path, figures)


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
