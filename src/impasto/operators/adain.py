"""Adaptive instance normalisation.

Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017; paper 3, Eq. 12, and paper 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..statistics import Moments

__all__ = ["adain", "normalise", "overshot"]

EPS = 1e-5


def normalise(features: Tensor, moments: Moments | None = None, eps: float = EPS) -> Tensor:
    """``(F - mean) / deviation`` for every channel: instance normalisation.

    Args:
        features: ``(..., C, H, W)``.
        moments: of ``features``, where they are known already (of the whole picture, when
            ``features`` is a tile of it); None measures them.
        eps: added to the variance.
    """
    own = Moments.of(features) if moments is None else moments
    mean, deviation = own.mean[..., None, None], own.deviation(eps)[..., None, None]
    return ((features - mean) / deviation).to(features.dtype)


def adain(
    features: Tensor,
    style: Moments,
    strength: float = 1.0,
    moments: Moments | None = None,
    eps: float = EPS,
) -> Tensor:
    """``sigma(s) (F - mu(c)) / sigma(c) + mu(s)``, mixed with ``F`` by ``strength``.

    Args:
        features: the content's, ``(..., C, H, W)``.
        style: moments of the style's features, of the same leading shape or of one that
            broadcasts to it.
        strength: alpha of paper 3; 0 gives ``features`` back, above 1 extrapolates.
        moments: see :func:`normalise`.
        eps: added to the variances of both, so that ``adain(F, Moments.of(F)) == F``.

    Returns:
        Features of the shape and data type of ``features``.

    Example:
        >>> content, style = torch.rand(3, 8, 8), Moments.of(torch.rand(3, 5, 9))
        >>> out = Moments.of(adain(content, style))
        >>> torch.allclose(out.mean, style.mean, atol=1e-5)
        True
    """
    if strength == 0:
        return features
    own = Moments.of(features) if moments is None else moments
    # One scale and one shift for each channel: one pass over the features.
    scale = style.deviation(eps) / own.deviation(eps)
    shift = strength * (style.mean - scale * own.mean)
    scale = 1 + strength * (scale - 1)
    return torch.addcmul(shift[..., None, None], features, scale[..., None, None]).to(
        features.dtype
    )


def overshot(aim: Moments, wanted: Moments, got: Moments, limit: float = 2.0) -> Moments:
    """``aim``, moved by what ``got`` misses of ``wanted``: what to ask a decoder for.

    The difference of means is added, the deviation multiplied by the quotient of deviations.

    Args:
        aim, wanted, got: moments of which mean and deviation count.
        limit: of the quotient, and of its inverse.

    Returns:
        Moments of uncorrelated channels, of the shape of all three together.
    """
    quotient = (wanted.deviation() / got.deviation()).clamp(1 / limit, limit)
    mean = aim.mean + wanted.mean - got.mean
    return Moments.uncorrelated(mean, aim.deviation() * quotient)
