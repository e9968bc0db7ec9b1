"""Adaptive instance normalisation (AdaIN).

Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017; report 3, Eq. 8, and report 2. Every channel of the content's features is normalised to
mean 0 and deviation 1, then scaled and shifted to the mean and deviation of the same channel in the
style's features.
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
        moments: moments of ``features``, if they are known (those of the whole picture, if
            ``features`` is a tile); None measures them.
        eps: added to the variance.
    """
    moments = Moments.of(features) if moments is None else moments
    mean, deviation = moments.mean[..., None, None], moments.deviation(eps)[..., None, None]
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
        features: features of the content, ``(..., C, H, W)``.
        style: moments of the style's features, with the same leading shape or one that broadcasts
            to it.
        strength: alpha of report 3; 0 returns ``features``, above 1 extrapolates.
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
    content = Moments.of(features) if moments is None else moments
    # Combined into one scale and one shift by channel: a single pass over the features.
    scale = style.deviation(eps) / content.deviation(eps)
    shift = strength * (style.mean - scale * content.mean)
    scale = 1 + strength * (scale - 1)
    return torch.addcmul(shift[..., None, None], features, scale[..., None, None]).to(
        features.dtype
    )


def overshot(aim: Moments, style: Moments, measured: Moments, limit: float = 2.0) -> Moments:
    """Correct the target ``aim`` by the error of a first result, so that the second is closer.

    A decoder does not reach its target in full. The difference of means ``style - measured`` is
    added to the mean of ``aim``; its deviation is multiplied by the quotient of deviations.

    Args:
        aim: the target of the first result.
        style: the moments that the result should have.
        measured: the moments that the first result has. Only mean and deviation are used.
        limit: largest quotient, and inverse of the smallest.

    Returns:
        Moments of uncorrelated channels; their shape is that of the arguments, broadcast.
    """
    quotient = (style.deviation() / measured.deviation()).clamp(1 / limit, limit)
    mean = aim.mean + style.mean - measured.mean
    return Moments.uncorrelated(mean, aim.deviation() * quotient)
