"""Training of :mod:`impasto.methods.styleflow`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...backbones import load_backbone, load_vgg
from ...color import recolored as in_other_colors
from ...linalg import ridge
from ...methods.reversible import whole
from ...methods.styleflow import StyleFlowConfig, StyleFlowModel
from ...operators.adain import EPS
from ...operators.san import SAN, style_code
from ...statistics import Moments
from .perceptual import Perceptual
from .reversible import FlowTraining

__all__ = ["StyleFlowTraining", "fit_san", "untrained"]

PENALTY = 0.01  # ridge penalty of the initialisation, best on held-out pictures
NARROW = 0.2  # deviation of tanh's inputs, in its nearly linear range


def untrained(
    encoder: str = "slim",
    rbmad: bool = False,
    blocks: int = StyleFlowConfig.blocks,
    steps: int = StyleFlowConfig.steps,
    hidden: int = StyleFlowConfig.hidden,
    affine: bool = StyleFlowConfig.affine,
    wide: int = StyleFlowConfig.wide,
    encoder_weights: Path | None = None,
    content_weight: float = 1.0,
    style_weight: float = 4.0,
    tv_weight: float = 1.0,
    kept: float = 0.8,
    loss_network: str = "compact",
    loss_weights: Path | None = None,
    loss_convention: str | None = None,
    recolored: float = 0.0,
) -> StyleFlowTraining:
    """The method with random weights, ready for training.

    Args:
        encoder, rbmad, blocks, steps, hidden, affine, wide: see :class:`StyleFlowConfig`.
        encoder_weights: see :class:`impasto.methods.styleflow.StyleFlow`.
        content_weight, style_weight, kept: see
            :class:`impasto.training.methods.perceptual.Perceptual`.
        tv_weight, recolored: see :class:`impasto.training.methods.reversible.FlowTraining`.
        loss_network, loss_weights, loss_convention: see
            :func:`impasto.backbones.load_vgg`.

    Raises:
        InputError: for options that are unknown or cannot be combined.
    """
    config = StyleFlowConfig(encoder, rbmad, blocks, steps, hidden, affine, wide)
    model = StyleFlowModel(config, load_vgg(encoder, encoder_weights, convention=loss_convention))
    judge = load_backbone(loss_network, loss_weights, convention=loss_convention)
    perceptual = Perceptual(
        judge, content_weight=content_weight, style_weight=style_weight, kept=kept
    )
    return StyleFlowTraining(model, perceptual, tv_weight, recolored)


class StyleFlowTraining(FlowTraining):
    """See :class:`FlowTraining`; the initialisation includes SAN."""

    model: StyleFlowModel

    def fit(self, crops: Tensor) -> None:
        """Initialise the activation normalisations and SAN, see :func:`fit_san`.

        SAN is fitted to the crops and to recoloured copies of them.
        """
        super().fit(crops)
        model, flow = self.model, self.model.flow
        codes: list[Tensor] = []
        targets: list[list[Tensor]] = [[] for _ in model.sans]

        def record(number: int, features: Tensor) -> Tensor:
            moments = Moments.of(features)
            targets[number].append(torch.cat([moments.mean, moments.deviation(EPS)], -1))
            return features

        for part in torch.split(torch.cat([crops, in_other_colors(crops, 1.0)]), 16):
            codes.append(style_code(model.measure(part)))
            flow.inverse(flow(whole(part, flow.unit)), record)
        for san, target in zip(model.sans, targets, strict=True):
            assert isinstance(san, SAN)
            fit_san(san, torch.cat(codes), torch.cat(target))


@torch.no_grad()
def fit_san(san: SAN, codes: Tensor, targets: Tensor) -> None:
    """Fit ``san`` in place by least squares to predict a style's mean and deviation, as in AdaIN.

    This is the initialisation of training: gradient steps would need thousands of styles to reach
    this map. The activations' slopes are set so that the layers are linear.

    Args:
        san: the network to fit.
        codes: style codes of pictures, ``(n, code)``.
        targets: mean and deviation of every channel of their features, ``(n, 2 channels)``.
    """
    size = targets.shape[-1]
    channels = size // 2
    spread, centre = torch.std_mean(targets, 0)
    spread = spread.clamp_min(1e-6)
    rows = san.style[0](codes)
    for part in (san.style, san.mean, san.deviation):
        for layer in part.children():
            if isinstance(layer, nn.PReLU):
                layer.weight.fill_(1)
    first, *others = _linear(san.style)
    weight, bias = ridge(rows, NARROW * (targets - centre) / spread, PENALTY)
    first.weight[:size], first.bias[:size] = weight, bias
    for layer in others:
        layer.weight[:size] = torch.eye(*layer.weight[:size].shape)
        layer.bias[:size] = 0
    for head, offset in ((san.mean, 0), (san.deviation, channels)):
        hidden, output = _linear(head)
        span = slice(offset, offset + channels)
        hidden.weight.zero_()
        hidden.weight[:, size:][:, span] = torch.diag(spread[span] / NARROW)
        hidden.bias.zero_()
        output.weight.copy_(torch.eye(channels))
        output.bias.copy_(centre[span])


def _linear(layers: nn.Module) -> list[nn.Linear]:
    return [layer for layer in layers.children() if isinstance(layer, nn.Linear)]
