"""What an optimisation or a training makes small.

All losses are relative to the target's own size, so that they are free of the scale of features, of
the width of a backbone and of the size of a picture. That is what lets one set of weights serve
every backbone, layer and size (paper 5, section 3.3, calls the opposite "hyper-dependency on
hyper-parameters").
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError, check_finite
from .statistics import Moments

__all__ = [
    "aligned_channels",
    "content_loss",
    "content_spread",
    "covariance_loss",
    "gram_loss",
    "moments_loss",
    "palette_loss",
    "range_loss",
    "relaxed_emd",
    "total_variation",
]

EPS = 1e-8


def content_spread(target: Tensor) -> Tensor:
    """How much features ``(..., C, H, W)`` vary over the picture: what distances are relative to.

    Their mean variance, and at least a hundredth of their mean square.
    """
    target = target.to(torch.promote_types(target.dtype, torch.float32))
    spread = (target - target.mean((-2, -1), keepdim=True)).square().mean()
    floor = 0.01 * target.square().mean()  # a flat picture must not drown the style
    return torch.maximum(spread, floor) + EPS


def content_loss(features: Tensor, target: Tensor, spread: Tensor | None = None) -> Tensor:
    """Squared distance of features, relative to how much the target's vary over the picture.

    ``|F - P|^2 / |P - mean(P)|^2``: Gatys' content loss (paper 3, Eq. 1) but for a constant.
    0 for equal features, 1 for a picture that has only the mean.

    Args:
        features, target: ``(..., C, H, W)``.
        spread: :func:`content_spread` of the target, if it is known.
    """
    spread = content_spread(target) if spread is None else spread
    wide = torch.promote_types(features.dtype, torch.float32)
    return (features.to(wide) - target.to(wide)).square().mean() / spread


def gram_loss(moments: Moments, target: Moments, beside: Moments | None = None) -> Tensor:
    """Squared distance of Gram matrices, relative to the target's: ``|G - A|^2 / |A|^2``.

    Paper 3, Eq. 3, with both matrices divided by their number of positions, so that pictures of
    different size compare, and the constant replaced by the target's squared norm. One value for
    each picture of a batch.

    Args:
        moments, target: of the result, and what they should be.
        beside: of the photograph: the distance is relative to the mean of its squared norm and the
            target's, so that the few flat crops among many paintings do not rule.
    """
    aim = target.gram
    size = aim.square().sum((-2, -1))
    if beside is not None:
        size = (size + beside.gram.square().sum((-2, -1))) / 2
    return (moments.gram - aim).square().sum((-2, -1)) / (size + EPS)


def moments_loss(moments: Moments, target: Moments, channels: Tensor | None = None) -> Tensor:
    """Squared distance of channel means and deviations, relative to the target's.

    The style loss of AdaIN (Huang & Belongie 2017; paper 3, Eq. 14). One value for each picture of
    a batch.

    Args:
        moments, target: of the same leading shape, or of one that broadcasts to it.
        channels: indices ``(..., n)`` of those that count, for each picture; None for all.
    """
    mean, deviation = target.mean, target.deviation()
    distance = (moments.mean - mean).square() + (moments.deviation() - deviation).square()
    size = (mean.square() + deviation.square()).expand_as(distance)
    if channels is not None:
        distance, size = distance.gather(-1, channels), size.gather(-1, channels)
    return distance.sum(-1) / (size.sum(-1) + EPS)


def covariance_loss(moments: Moments, target: Moments) -> Tensor:
    """Squared distances of means and of covariances, each relative to how the target varies.

    ``|m - n|^2 / tr S + |R - S|^2 / |S|^2`` for means ``m, n`` and covariances ``R, S``. Where
    Gram matrices are mostly means, as those of pixels are, this tells a flat picture (1) from one
    that varies as the target does (0). One value for each picture of a batch.
    """
    aim = target.covariance
    spread = aim.diagonal(dim1=-2, dim2=-1).sum(-1)
    means = (moments.mean - target.mean).square().sum(-1) / (spread + EPS)
    distance = (moments.covariance - aim).square().sum((-2, -1))
    return means + distance / (aim.square().sum((-2, -1)) + EPS)


def relaxed_emd(features: Tensor, target: Tensor) -> Tensor:
    """Relaxed earth mover's distance of two sets of features, for each picture of a batch.

    Every feature vector goes to its nearest in the other set, and the larger of the two mean
    distances counts, with the cosine distance between vectors (0..2): Kolkin, Salavon &
    Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity", CVPR 2019,
    Eq. 6 to 8. Gram matrices are satisfied by a texture of the right correlations; this asks that
    what is in one picture be found in the other.

    Args:
        features, target: ``(B, C, H, W)`` and ``(B, C, h, w)``. Memory grows with ``HW hw``.
    """
    # What runs under autocast would compare vectors of three digits.
    with torch.autocast(features.device.type, enabled=False):
        one, two = (
            F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2), dim=1)
            for x in (features, target)
        )
        distance = 1 - one.mT @ two
        return torch.maximum(distance.amin(1).mean(1), distance.amin(2).mean(1))


def palette_loss(
    pictures: Tensor, target: Tensor, beside: Tensor, strength: Tensor, directions: Tensor
) -> Tensor:
    """Sliced Wasserstein distance of colours, relative to how much the target's vary.

    Along each direction of the colour space, sorted pixels are compared with the target's: the
    whole distribution, where moments would be met by the mean of two colours that a painting has.
    Rabin, Peyre, Delon & Bernot, "Wasserstein Barycenter and its Application to Texture Mixing",
    SSVM 2011. One value for each picture of a batch.

    Args:
        pictures, target, beside: results, paintings and photographs, ``(B, 3, H, W)`` of one size.
        strength: ``(B,)``: what is aimed at lies so far from the photograph's colours to the
            painting's.
        directions: unit vectors ``(3, n)``.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        each = (directions.mT @ x.float().flatten(2) for x in (pictures, target, beside))
        ours, theirs, own = (x.sort(2).values for x in each)
        aim = own.lerp(theirs, strength[:, None, None])
        return (ours - aim).square().mean((1, 2)) / (aim.var(2).mean(1) + 1e-3)


def aligned_channels(moments: Moments, target: Moments, kept: float = 0.8) -> Tensor:
    """The channels that can follow the target: StyleFlow's aligned style.

    Where content and style differ too much, forcing every channel spoils the picture. The share
    ``kept`` of channels with the smallest squared difference of means counts. See
    :func:`moments_loss`, whose ``channels`` they are.

    Raises:
        InputError: for a share outside of 0..1 or of nothing.
    """
    check_finite("kept", kept)
    if not 0 < kept <= 1:
        raise InputError(f"kept is {kept}: must be a share above 0, at most 1")
    off = (moments.mean.detach() - target.mean.detach()).square()
    count = max(1, round(kept * moments.channels))
    return off.topk(count, -1, largest=False).indices


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of ``(..., H, W)``, both directions."""
    down = (picture[..., 1:, :] - picture[..., :-1, :]).square().mean()
    right = (picture[..., :, 1:] - picture[..., :, :-1]).square().mean()
    return down + right


def range_loss(picture: Tensor) -> Tensor:
    """Mean squared excess of pixels over 0..1.

    An optimiser that ignores the bounds saturates large areas (paper 3, Fig. 4). One that sees the
    picture clipped has no gradient where it is; this brings such pixels back.
    """
    # The nearest picture in range is no function to go through: its slope is zero outside.
    return (picture - picture.detach().clamp(0, 1)).square().mean()
