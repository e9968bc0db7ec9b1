"""Training of :mod:`impasto.methods.adain`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...backbones import load_backbone, load_vgg
from ...color import recolored as in_other_colors
from ...device import arranged
from ...errors import check_share
from ...methods.adain import AdaINConfig, AdaINModel, Operator
from ...methods.model import tuples
from ...methods.records.base import Convention
from ...options import was
from .base import ModelTraining
from .mixtures import begin
from .perceptual import STYLE_LAYERS, Perceptual, Target
from .published import Losses, build_perceptual, settle
from .regress import fit_decoder

__all__ = ["AdaINTraining", "untrained"]

OURS = {"content_weight": 1.0, "style_weight": 1.0, "target": "content"}


@was(layers="taps", loss_network_weights="loss_weights")
def untrained(
    encoder: str = "slim",
    layers: Sequence[str] = AdaINConfig.layers,
    widths: Sequence[Sequence[int]] = AdaINConfig.widths,
    upsampling: Literal["nearest", "bilinear"] = "nearest",
    feedback: bool = False,
    operator: Operator = "adain",
    encoder_weights: Path | None = None,
    losses: Losses = "relative",
    report: int | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    target: Target | None = None,
    style_layers: Sequence[str] = STYLE_LAYERS,
    loss_network: str = "compact",
    loss_network_weights: Path | None = None,
    loss_convention: Convention | None = None,
    recolored: float = 0.0,
) -> AdaINTraining:
    """The method with random weights, ready for training.

    Args:
        encoder, layers, widths, upsampling, feedback, operator: see :class:`AdaINConfig`.
        encoder_weights: see :class:`impasto.methods.adain.AdaIN`.
        losses: ``relative`` (ours), or ``published``: those of ``report`` 3 (Eq. 12 to 14), which
            is the default, or 2; see :mod:`impasto.training.methods.published`.
        report: see ``losses``.
        content_weight, style_weight, target, style_layers: see
            :class:`impasto.training.methods.perceptual.Perceptual`; the content layer is the
            deepest layer. None for 1, 1 and ``content``, or as published.
        recolored: see :class:`AdaINTraining`.
        loss_network, loss_network_weights, loss_convention: the network whose features are
            compared; see :func:`impasto.backbones.load_vgg`.

    Raises:
        InputError: for options that are unknown or cannot be combined.
    """
    config = AdaINConfig(encoder, tuples(layers), tuples(widths), upsampling, feedback, operator)
    model = AdaINModel(config, load_vgg(encoder, encoder_weights, convention=loss_convention))
    judge = load_backbone(loss_network, loss_network_weights, convention=loss_convention)
    weights = {"content_weight": content_weight, "style_weight": style_weight, "target": target}
    only_ours = {"target": target, "recolored": recolored}
    published, chosen, resolved = settle("adain", losses, report, weights, OURS, only_ours)
    compared = {"content_layer": config.layers[0], "style_layers": style_layers}
    training = AdaINTraining(
        model, build_perceptual(published, judge, **compared, **chosen), recolored
    )
    training.resolved = resolved
    return training


class AdaINTraining(ModelTraining):
    """Training of the method, see :class:`impasto.training.methods.base.Trainable`.

    Args:
        model: the model whose decoder is trained.
        perceptual: the loss.
        recolored: share (0..1) of the training paintings that are recoloured, see
            :func:`impasto.color.recolored`: a small set has few palettes.

    Raises:
        InputError: for a share out of range.
    """

    model: AdaINModel

    def __init__(self, model: AdaINModel, perceptual: Perceptual, recolored: float = 0.0) -> None:
        check_share("recolored", recolored)
        super().__init__(model)
        self.perceptual, self.recolored = perceptual, recolored

    def start(self, crops: Tensor) -> None:
        """Fit the decoder to invert the encoder, see :func:`fit_decoder`.

        RBMAD is initialised as AdaIN of half of the channels, see :func:`begin`.
        """
        fit_decoder(self.model.decoder, self.model.encoder, self.model.inputs, crops)
        for rbmad in self.model.rbmads.values():
            begin(rbmad)

    def to(self, device: torch.device) -> None:
        """Move all networks to ``device``."""
        for net in (self.model.encoder, self.network, self.perceptual.judge):
            arranged(net, device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """``content`` and ``style``, weighted."""
        if self.network.training and self.recolored:
            styles = in_other_colors(styles, self.recolored)
        return self.perceptual(self._stylized(contents, styles), contents, styles)

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        return self._stylized(contents, styles).clamp(0, 1)

    def _stylized(self, contents: Tensor, styles: Tensor) -> Tensor:
        style = self.model.measure(styles)
        feedback = self.model.config.feedback
        target = self.model.beyond(style, contents, style) if feedback else style
        return self.model(contents, target)
