"""Training of :mod:`impasto.methods.artflow`."""

from __future__ import annotations

from pathlib import Path

from ...backbones import load_backbone
from ...methods.artflow import ArtFlowConfig, ArtFlowModel
from ...methods.records.artflow import Operator
from ...methods.records.base import Convention
from ...options import was
from .published import Losses
from .reversible import FlowTraining

__all__ = ["untrained"]

OURS = {"content_weight": 1.0, "style_weight": 4.0, "tv_weight": 0.0, "kept": 1.0}


@was(loss_network_weights="loss_weights")
def untrained(
    operator: Operator = "adain",
    blocks: int = ArtFlowConfig.blocks,
    steps: int = ArtFlowConfig.steps,
    hidden: int = ArtFlowConfig.hidden,
    affine: bool = ArtFlowConfig.affine,
    expansion: float = ArtFlowConfig.expansion,
    losses: Losses = "relative",
    content_weight: float | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    kept: float | None = None,
    loss_network: str = "compact",
    loss_network_weights: Path | None = None,
    loss_convention: Convention | None = None,
    recolored: float = 0.0,
) -> FlowTraining:
    """The method with random weights, ready for training.

    Args:
        operator, blocks, steps, hidden, affine, expansion: see :class:`ArtFlowConfig`.
        losses: ``relative`` (ours), or ``published``: those of An et al.'s code, which report 1
            trains with; see :mod:`impasto.training.methods.published`.
        content_weight, style_weight, kept: see
            :class:`impasto.training.methods.perceptual.Perceptual`. None for 1, 4 and 1.0, or as
            published.
        tv_weight, recolored: see :class:`impasto.training.methods.reversible.FlowTraining`. None
            for 0.0, or as published.
        loss_network, loss_network_weights, loss_convention: see
            :func:`impasto.backbones.load_backbone`.

    Raises:
        InputError: for options that are unknown or cannot be combined.
    """
    model = ArtFlowModel(ArtFlowConfig(operator, blocks, steps, hidden, affine, expansion))
    judge = load_backbone(loss_network, loss_network_weights, convention=loss_convention)
    weights = {"content_weight": content_weight, "style_weight": style_weight}
    weights |= {"tv_weight": tv_weight, "kept": kept}
    return FlowTraining.by(model, judge, losses, weights, OURS, recolored)
