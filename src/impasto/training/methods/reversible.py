"""Training of reversible networks, which ArtFlow and StyleFlow share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from ...backbones import Backbone
from ...color import recolored as in_other_colors
from ...device import arranged
from ...errors import check_share
from ...losses import total_variation
from ...methods.reversible import FlowModel, whole
from .base import ModelTraining
from .perceptual import Perceptual
from .published import Losses, build_perceptual, settle

__all__ = ["FlowTraining"]

AnyTraining = TypeVar("AnyTraining", bound="FlowTraining")


class FlowTraining(ModelTraining):
    """Training of a flow, see :class:`impasto.training.methods.base.Trainable`.

    Args:
        model: the model whose flow is trained.
        perceptual: the loss.
        tv_weight: weight of total variation.
        recolored: share (0..1) of the training paintings that are recoloured, see
            :func:`impasto.color.recolored`: a small set has few palettes.

    Raises:
        InputError: for a share out of range.
    """

    model: FlowModel

    def __init__(
        self,
        model: FlowModel,
        perceptual: Perceptual,
        tv_weight: float = 0.0,
        recolored: float = 0.0,
    ) -> None:
        check_share("recolored", recolored)
        super().__init__(model)
        self.perceptual, self.tv_weight, self.recolored = perceptual, tv_weight, recolored

    @classmethod
    def by(
        cls: type[AnyTraining],
        model: FlowModel,
        judge: Backbone,
        losses: Losses,
        weights: Mapping[str, float | None],
        ours: Mapping[str, float],
        recolored: float,
    ) -> AnyTraining:
        """The training by our losses or as published; see :func:`.published.settle`."""
        published, chosen, resolved = settle(
            model.method, losses, None, weights, ours, {"recolored": recolored}
        )
        tv = chosen.pop("tv_weight")
        training = cls(model, build_perceptual(published, judge, **chosen), tv, recolored)
        training.resolved = resolved
        return training

    def start(self, crops: Tensor) -> None:
        """Initialise the activation normalisations from data."""
        training = self.network.training
        self.network.train()
        with torch.no_grad():
            self.fit(crops)
        self.network.train(training)

    def fit(self, crops: Tensor) -> None:
        """See :meth:`start`; called in training mode, without gradients."""
        flow = self.model.flow
        flow(whole(crops[:32], flow.unit))

    def to(self, device: torch.device) -> None:
        """Move all networks to ``device``."""
        for net in (*self.model.networks, self.perceptual.judge):
            arranged(net, device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """``content``, ``style`` and, if its weight is not 0, ``tv``, weighted."""
        if self.network.training and self.recolored:
            styles = in_other_colors(styles, self.recolored)
        out = self.model(contents, self.model.measure(styles))
        terms = self.perceptual(out, contents, styles)
        if self.tv_weight:
            terms["tv"] = self.tv_weight * total_variation(out)
        return terms

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        return self.model(contents, self.model.measure(styles)).clamp(0, 1)
