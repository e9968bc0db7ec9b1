"""Starts of RBMAD in closed form, so that training begins where the style is transferred already.

The mixture's first half has the content's statistics, its second half the style's. At the start,
the bottlenecks change nothing and the convolutions select whole channels. The first half of the
channels then keeps its own mean and deviation, and the second half gets those of the style.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...linalg import principal, ridge
from ...networks.bottleneck import ResBottleneck
from ...networks.flow import InvertibleConv
from ...networks.norm import StyledNorm
from ...operators.rbmad import RBMAD, CodeRBMAD

__all__ = ["begin", "fit_code", "fit_layer", "turn"]

PENALTY = 0.01  # of the weights that read a code, see fit_san()


@torch.no_grad()
def begin(rbmad: RBMAD) -> None:
    """AdaIN of the second half of the channels by the style's own, which has as many channels."""
    eye = torch.eye(2 * rbmad.width)
    rbmad.content_mix.assign(eye)
    rbmad.style_mix.assign(eye.roll(rbmad.width, 1))
    for part in (rbmad.content, rbmad.style):
        if isinstance(part, ResBottleneck):
            _last(part).scale.zero_()


@torch.no_grad()
def fit_code(rbmad: CodeRBMAD, codes: Tensor, targets: Tensor) -> None:
    """Fit it to predict a style's own mean and deviation, by least squares.

    Args:
        rbmad: is changed.
        codes: of pictures, ``(n, code)``.
        targets: mean and deviation of every channel that the network has of them here,
            ``(n, 2 channels)``.
    """
    begin(rbmad)
    mean, deviation = targets.chunk(2, -1)
    rows = rbmad.standard(codes)
    weight, bias = ridge(rows, torch.cat([mean, deviation.log()], -1), PENALTY)
    rbmad.predict.weight.copy_(weight)
    rbmad.predict.bias.copy_(bias)


@torch.no_grad()
def fit_layer(rbmad: RBMAD, rows: Tensor, targets: Tensor) -> None:
    """Fit it to predict the features that the network has from those of a layer, position for
    position, by least squares; their moments follow.

    Args:
        rbmad: is changed.
        rows: features of the layer, ``(n, style_channels)``.
        targets: features of the network at the same positions, ``(n, channels)``.
    """
    rbmad.content_mix.assign(torch.eye(2 * rbmad.width))
    assert isinstance(rbmad.content, ResBottleneck)
    assert isinstance(rbmad.style, ResBottleneck)
    weight, bias = (part.double() for part in ridge(rows, targets[:, rbmad.width :]))
    others = torch.linalg.svd(weight).Vh[rbmad.width :]  # what is not used, to be invertible
    rbmad.style_mix.assign(torch.cat([weight, others]))
    _last(rbmad.style).shift.copy_(torch.linalg.pinv(weight) @ bias)
    for part in (rbmad.content, rbmad.style):
        _last(part).scale.zero_()


@torch.no_grad()
def turn(block: nn.ModuleList, features: Tensor) -> Tensor:
    """Rotate a block's channels so that the second half are those whose means vary most.

    That half gets the style: at the start, it then has the painting's colours and light.

    Args:
        block: of a flow whose couplings are still the identity; is changed.
        features: of pictures after the block, ``(n, C, H, W)``.

    Returns:
        ``features``, rotated.
    """
    means = features.mean((-2, -1))
    rotation = principal(torch.cov(means.T), means.shape[-1]).T.float()
    conv = block[-2]
    assert isinstance(conv, InvertibleConv)
    left, right = conv.factors()
    conv.assign(rotation @ left @ right)
    return F.conv2d(features, rotation[..., None, None])


def _last(bottleneck: ResBottleneck) -> StyledNorm:
    norm = bottleneck.norms[-1]
    assert isinstance(norm, StyledNorm)
    return norm
