"""Training of :mod:`impasto.methods.styleflow`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...backbones import load_backbone, load_vgg
from ...color import recolored as in_other_colors
from ...linalg import ridge
from ...methods.records.base import Convention
from ...methods.records.styleflow import Mixture
from ...methods.reversible import whole
from ...methods.styleflow import StyleFlowConfig, StyleFlowModel
from ...operators.adain import EPS
from ...operators.rbmad import CodeRBMAD
from ...operators.san import SAN, style_code
from ...options import was
from ...statistics import Moments
from .mixtures import fit_code, fit_layer, turn
from .published import Losses
from .reversible import FlowTraining

__all__ = ["StyleFlowTraining", "fit_san", "untrained"]

OURS = {"content_weight": 1.0, "style_weight": 4.0, "tv_weight": 1.0, "kept": 0.8}
PENALTY = 0.01  # ridge penalty of the initialisation, best on held-out pictures
NARROW = 0.2  # deviation of tanh's inputs, in its nearly linear range
TURNED = 128  # crops that the rotation of RBMAD's channels is computed from
SPOTS = 12  # rows and columns of a crop that a layer is fitted at


@was(loss_network_weights="loss_weights")
def untrained(
    encoder: str = "slim",
    rbmad: Mixture = StyleFlowConfig.rbmad,
    blocks: int = StyleFlowConfig.blocks,
    steps: int = StyleFlowConfig.steps,
    hidden: int = StyleFlowConfig.hidden,
    affine: bool = StyleFlowConfig.affine,
    wide: int = StyleFlowConfig.wide,
    encoder_weights: Path | None = None,
    losses: Losses = "relative",
    content_weight: float | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    kept: float | None = None,
    loss_network: str = "compact",
    loss_network_weights: Path | None = None,
    loss_convention: Convention | None = None,
    recolored: float = 0.0,
) -> StyleFlowTraining:
    """The method with random weights, ready for training.

    Args:
        encoder, rbmad, blocks, steps, hidden, affine, wide: see :class:`StyleFlowConfig`.
        encoder_weights: see :class:`impasto.methods.styleflow.StyleFlow`.
        losses: ``relative`` (ours), or ``published``: those of Fan et al.'s code, which report 1
            trains with; see :mod:`impasto.training.methods.published`.
        content_weight, style_weight, kept: see
            :class:`impasto.training.methods.perceptual.Perceptual`. None for 1, 4 and 0.8, or as
            published.
        tv_weight, recolored: see :class:`impasto.training.methods.reversible.FlowTraining`. None
            for 1.0, or as published.
        loss_network, loss_network_weights, loss_convention: see
            :func:`impasto.backbones.load_vgg`.

    Raises:
        InputError: for options that are unknown or cannot be combined.
    """
    config = StyleFlowConfig(encoder, rbmad, blocks, steps, hidden, affine, wide)
    model = StyleFlowModel(config, load_vgg(encoder, encoder_weights, convention=loss_convention))
    judge = load_backbone(loss_network, loss_network_weights, convention=loss_convention)
    weights = {"content_weight": content_weight, "style_weight": style_weight}
    weights |= {"tv_weight": tv_weight, "kept": kept}
    return StyleFlowTraining.by(model, judge, losses, weights, OURS, recolored)


class StyleFlowTraining(FlowTraining):
    """See :class:`FlowTraining`; the initialisation includes SAN or RBMAD."""

    model: StyleFlowModel

    def fit(self, crops: Tensor) -> None:
        """Initialise the activation normalisations and each block's transfer.

        See :func:`fit_san`; with RBMAD :func:`turn`, and :func:`fit_code` or :func:`fit_layer`. The
        transfers are fitted to the crops and to recoloured copies of them.
        """
        model, flow, encoder = self.model, self.model.flow, self.model.encoder
        if model.config.rbmad in ("scm", "layers"):
            some = crops[:: -(-len(crops) // TURNED)]
            flow(whole(some, flow.unit), lambda number, x: turn(flow.blocks[number], x))
        else:
            super().fit(crops)
        layers = model.config.rbmad == "layers"
        inputs: list[list[Tensor]] = [[] for _ in model.transfers]
        targets: list[list[Tensor]] = [[] for _ in model.transfers]

        def record(number: int, features: Tensor) -> Tensor:
            targets[number].append(_spots(features) if layers else _statistics(features))
            return features

        for part in torch.split(torch.cat([crops, in_other_colors(crops, 1.0)]), 16):
            pictures = whole(part, flow.unit)
            if layers:
                features = encoder(pictures, model.taps)
                measured = [_spots(features[tap]) for tap in model.taps]
            else:
                measured = [style_code(model.measure(part))] * len(model.transfers)
            for block_inputs, new in zip(inputs, measured, strict=True):
                block_inputs.append(new)
            flow.inverse(flow(pictures), record)
        for number, transfer in enumerate(model.transfers):
            rows, target = torch.cat(inputs[number]), torch.cat(targets[number])
            if isinstance(transfer, SAN):
                fit_san(transfer, rows, target)
            elif isinstance(transfer, CodeRBMAD):
                fit_code(transfer, rows, target)
            else:
                fit_layer(transfer, rows, target)


def _statistics(features: Tensor) -> Tensor:
    """Mean and deviation by channel as AdaIN takes them, ``(n, 2 C)``."""
    moments = Moments.of(features)
    return torch.cat([moments.mean, moments.deviation(EPS)], -1)


def _spots(features: Tensor) -> Tensor:
    """Features at some positions of each picture, ``(n, C)``."""
    step = max(1, min(features.shape[-2:]) // SPOTS)
    return features[..., ::step, ::step].transpose(0, 1).flatten(1).T


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
