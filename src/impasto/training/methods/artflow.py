"""Training of :mod:`impasto.methods.artflow`."""

from __future__ import annotations

from pathlib import Path

from ...backbones import load_backbone
from ...methods.artflow import ArtFlowConfig, ArtFlowModel
from ...methods.records.artflow import Operator
from .perceptual import Perceptual
from .reversible import FlowTraining

__all__ = ["untrained"]


def untrained(
    operator: Operator = "adain",
    blocks: int = ArtFlowConfig.blocks,
    steps: int = ArtFlowConfig.steps,
    hidden: int = ArtFlowConfig.hidden,
    affine: bool = ArtFlowConfig.affine,
    expansion: float = ArtFlowConfig.expansion,
    content_weight: float = 1.0,
    style_weight: float = 4.0,
    tv_weight: float = 0.0,
    kept: float = 1.0,
    loss_network: str = "compact",
    loss_weights: Path | None = None,
    loss_convention: str | None = None,
    recolored: float = 0.0,
) -> FlowTraining:
    """The method with random weights, ready for training.

    Args:
        operator, blocks, steps, hidden, affine, expansion: see :class:`ArtFlowConfig`.
        content_weight, style_weight, kept: see
            :class:`impasto.training.methods.perceptual.Perceptual`.
        tv_weight, recolored: see :class:`impasto.training.methods.reversible.FlowTraining`.
        loss_network, loss_weights, loss_convention: see
            :func:`impasto.backbones.load_backbone`.

    Raises:
        InputError: for options that are unknown or cannot be combined.
    """
    model = ArtFlowModel(ArtFlowConfig(operator, blocks, steps, hidden, affine, expansion))
    judge = load_backbone(loss_network, loss_weights, convention=loss_convention)
    perceptual = Perceptual(
        judge, content_weight=content_weight, style_weight=style_weight, kept=kept
    )
    return FlowTraining(model, perceptual, tv_weight, recolored)
