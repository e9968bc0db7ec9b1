"""Whitening and colouring: features with the style's full covariance, not only its diagonal.

Li et al., "Universal Style Transfer via Feature Transforms", NeurIPS 2017; paper 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..linalg import widened
from ..statistics import Moments
from ..transport import Variant, transport

__all__ = ["measure", "wct"]

# Variance in a direction, as a share of the mean square of a channel, that says nothing: above what
# float32 rounds (1e-13) and below what photographs have (from 1e-5 on, at the taps of `slim`).
NOISE = 1e-7
SURE = 10.0  # times the noise: fully matched
FLAT = 1e-10  # the least noise, for features that are all zero


def measure(features: Tensor) -> Moments:
    """Moments in float64: whitening divides by what float32 would cancel.

    Args:
        features: ``(..., C, H, W)``. On Apple's GPUs, which have no float64, float32 sums of what
            has no mean are enough; the moments are on the CPU.
    """
    if features.device.type != "mps":
        return Moments.of(features.double())
    middle = features.float().mean((-2, -1), keepdim=True)
    own = Moments.of(features.float() - middle)
    weight, first, second = map(widened, (own.weight, own.first, own.second))
    centred = Moments(weight, first, second)
    mean = widened(middle)[..., 0, 0] + centred.mean
    gram = centred.covariance + mean[..., :, None] * mean[..., None, :]
    return Moments(weight, weight[..., None] * mean, weight[..., None, None] * gram)


def wct(
    features: Tensor,
    style: Moments,
    strength: float = 1.0,
    moments: Moments | None = None,
    variant: Variant = "monge",
    noise: float = NOISE,
) -> Tensor:
    """``A (F - mu(c)) + mu(s)`` with ``A S(c) A^T = S(s)``, mixed with ``F`` by ``strength``.

    Only directions in which the content varies can get the style's covariance: those of less
    variance than ``noise`` keep the little they have, and get the style's mean. So a flat content
    becomes flat at the style's mean, and one of fewer positions than channels gets what its
    positions span.

    Args:
        features: the content's, ``(..., C, H, W)``.
        style: moments of the style's features, of the same leading shape or of one that
            broadcasts to it.
        strength: 0 gives ``features`` back, above 1 extrapolates.
        moments: of ``features``, where they are known already (of the whole picture, when
            ``features`` is a tile of it); None takes :func:`measure`.
        variant: see :func:`impasto.transport.transport`. ``eigenvalue`` is Li et al.'s; ``monge``
            reaches the same covariance with the least change of the content.
        noise: variance of a direction, as a share of the mean square of a channel, up to which it
            counts as not varying; from ten times that on it is matched in full.

    Returns:
        Features of the shape and data type of ``features``. The gradient with respect to them takes
        the map ``A`` as fixed.

    Raises:
        InputError: for an unknown variant.

    Example:
        >>> content, style = torch.rand(3, 8, 8), Moments.of(torch.rand(3, 5, 9))
        >>> out = Moments.of(wct(content, style))
        >>> torch.allclose(out.covariance, style.covariance, atol=1e-5)
        True
    """
    if strength == 0:
        return features
    own = measure(features.detach()) if moments is None else moments
    matrix, mean, aim = _map(own, style, variant, noise)
    wide = torch.promote_types(features.dtype, torch.float32)
    matrix, mean, aim = (t.to(features.device, wide) for t in (matrix, mean, aim))
    rows = matrix @ (features.flatten(-2).to(wide) - mean) + aim
    out = rows.reshape(features.shape).to(features.dtype)
    return out if strength == 1 else features + strength * (out - features)


@torch.no_grad()
def _map(
    own: Moments, style: Moments, variant: Variant, noise: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``A (..., C, C)`` and both means ``(..., C, 1)``, in float64 on the CPU.

    There the result is the same whatever the device, and a matrix of a few hundred rows is not
    slower.
    """
    own, style = (m.to("cpu").to(torch.float64) for m in (own, style))
    size = own.gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    unseen = (noise * size).clamp_min(FLAT)
    matrix = transport(own.covariance, style.covariance, variant, unseen, SURE * unseen)
    return matrix, own.mean[..., None], style.mean[..., None]
