"""Whitening and colouring transform (WCT): match the full covariance, not only its diagonal.

Li et al., "Universal Style Transfer via Feature Transforms", NeurIPS 2017; report 2. AdaIN matches
each channel on its own. WCT applies one linear map to all channels: it removes the covariance of
the content's features (whitening), then gives them that of the style's features (colouring).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..linalg import widened
from ..statistics import Moments
from ..transport import Variant, transport

__all__ = ["measure", "wct"]

# Variance of a direction that counts as noise, as a share of the mean square of a channel. It lies
# above the rounding errors of float32 (1e-13) and below the variances of photographs (from 1e-5 on,
# at the taps of `slim`).
NOISE = 1e-7
MATCHED = 10.0  # directions with this multiple of the noise are matched in full
FLAT = 1e-10  # least noise, for features that are all zero


def measure(features: Tensor) -> Moments:
    """Moments in float64: whitening divides by variances that float32 would round away.

    Args:
        features: ``(..., C, H, W)``. Apple's GPUs have no float64. There the mean is subtracted
            first, so that sums in float32 are exact enough; the moments are on the CPU.
    """
    if features.device.type != "mps":
        return Moments.of(features.double())
    mean32 = features.float().mean((-2, -1), keepdim=True)
    centred = Moments.of(features.float() - mean32)
    weight, first, second = map(widened, (centred.weight, centred.first, centred.second))
    centred = Moments(weight, first, second)
    mean = widened(mean32)[..., 0, 0] + centred.mean
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

    Only directions in which the content varies can get the style's covariance. Directions with less
    variance than ``noise`` keep their small variance; only their mean becomes the style's. Flat
    features therefore stay flat, at the style's mean. If there are fewer positions than channels,
    only the directions that the positions span are matched.

    Args:
        features: features of the content, ``(..., C, H, W)``.
        style: moments of the style's features, with the same leading shape or one that broadcasts
            to it.
        strength: 0 returns ``features``, above 1 extrapolates.
        moments: moments of ``features``, if they are known (those of the whole picture, if
            ``features`` is a tile); None takes :func:`measure`.
        variant: see :func:`impasto.transport.transport`. ``eigenvalue`` is that of Li et al.;
            ``monge`` reaches the same covariance with the least change of the content.
        noise: variance, as a share of the mean square of a channel, up to which a direction counts
            as flat; directions with ten times this variance or more are matched in full.

    Returns:
        Features of the shape and data type of ``features``. Their gradient treats the map ``A`` as
        constant.

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
    content = measure(features.detach()) if moments is None else moments
    matrix, mean, style_mean = _map(content, style, variant, noise)
    wide = torch.promote_types(features.dtype, torch.float32)
    matrix, mean, style_mean = (t.to(features.device, wide) for t in (matrix, mean, style_mean))
    colored = matrix @ (features.flatten(-2).to(wide) - mean) + style_mean
    out = colored.reshape(features.shape).to(features.dtype)
    return out if strength == 1 else features + strength * (out - features)


@torch.no_grad()
def _map(
    content: Moments, style: Moments, variant: Variant, noise: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The map ``A (..., C, C)`` and both means ``(..., C, 1)``, in float64 on the CPU.

    The CPU gives the same result for all devices. It is not slower for a matrix of a few hundred
    rows.
    """
    content, style = (m.to("cpu").to(torch.float64) for m in (content, style))
    mean_square = content.gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    low = (noise * mean_square).clamp_min(FLAT)
    matrix = transport(content.covariance, style.covariance, variant, low, MATCHED * low)
    return matrix, content.mean[..., None], style.mean[..., None]
