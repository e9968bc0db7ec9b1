"""The losses that an optimisation or a training minimises.

Every loss is divided by the size of its target. It therefore does not depend on the scale of the
features, the width of the backbone or the size of the picture, and one set of loss weights suits
every backbone, layer and size (report 5, section 3.3, calls the opposite "hyper-dependency on
hyper-parameters").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError, check_finite
from .statistics import Moments

__all__ = [
    "aligned_channels",
    "clipped",
    "content_loss",
    "content_spread",
    "covariance_loss",
    "gram_loss",
    "moments_loss",
    "palette_loss",
    "range_loss",
    "relaxed_emd",
    "sliced_wasserstein",
    "total_variation",
]

ROWS = 512  # of pixels that are worked on at a time

EPS = 1e-8


def content_spread(target: Tensor) -> Tensor:
    """Mean variance of features ``(..., C, H, W)`` over the picture: the unit of content losses.

    At least a hundredth of their mean square.
    """
    target = target.to(torch.promote_types(target.dtype, torch.float32))
    spread = (target - target.mean((-2, -1), keepdim=True)).square().mean()
    floor = 0.01 * target.square().mean()  # a flat picture must not drown the style
    return torch.maximum(spread, floor) + EPS


def content_loss(features: Tensor, target: Tensor, spread: Tensor | None = None) -> Tensor:
    """Squared distance of features, relative to the variance of the target over the picture.

    ``|F - P|^2 / |P - mean(P)|^2``: Gatys' content loss (report 3, Eq. 1) up to a constant factor.
    It is 0 for equal features and 1 for a picture whose features are everywhere the mean.

    Args:
        features, target: ``(..., C, H, W)``.
        spread: :func:`content_spread` of the target, if it is known.
    """
    spread = content_spread(target) if spread is None else spread
    wide = torch.promote_types(features.dtype, torch.float32)
    return (features.to(wide) - target.to(wide)).square().mean() / spread


def gram_loss(moments: Moments, target: Moments, beside: Moments | None = None) -> Tensor:
    """Squared distance of Gram matrices, relative to the target's: ``|G - A|^2 / |A|^2``.

    Report 3, Eq. 3, with both matrices divided by their number of positions, so that pictures of
    different size compare, and the constant replaced by the target's squared norm. One value for
    each picture of a batch.

    Args:
        moments: moments of the result.
        target: moments that the result should have.
        beside: moments of the photograph; the distance is then relative to the mean of its squared
            norm and the target's, so that a few flat crops among many paintings do not dominate.
    """
    gram = target.gram
    size = gram.square().sum((-2, -1))
    if beside is not None:
        size = (size + beside.gram.square().sum((-2, -1))) / 2
    return (moments.gram - gram).square().sum((-2, -1)) / (size + EPS)


def moments_loss(moments: Moments, target: Moments, channels: Tensor | None = None) -> Tensor:
    """Squared distance of channel means and deviations, relative to the target's.

    The style loss of AdaIN (Huang & Belongie 2017; report 3, Eq. 14). One value for each picture of
    a batch.

    Args:
        moments, target: moments of the same leading shape, or of shapes that broadcast.
        channels: indices ``(..., n)`` of the channels to compare, for each picture; None for all.
    """
    mean, deviation = target.mean, target.deviation()
    distance = (moments.mean - mean).square() + (moments.deviation() - deviation).square()
    size = (mean.square() + deviation.square()).expand_as(distance)
    if channels is not None:
        distance, size = distance.gather(-1, channels), size.gather(-1, channels)
    return distance.sum(-1) / (size.sum(-1) + EPS)


def covariance_loss(moments: Moments, target: Moments) -> Tensor:
    """Squared distances of means and of covariances, each relative to the target's variance.

    ``|m - n|^2 / tr S + |R - S|^2 / |S|^2`` for means ``m, n`` and covariances ``R, S``. Gram
    matrices of pixels are dominated by the means; this loss distinguishes a flat picture (1) from
    one that varies like the target (0). One value for each picture of a batch.
    """
    covariance = target.covariance
    spread = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    means = (moments.mean - target.mean).square().sum(-1) / (spread + EPS)
    distance = (moments.covariance - covariance).square().sum((-2, -1))
    return means + distance / (covariance.square().sum((-2, -1)) + EPS)


def relaxed_emd(features: Tensor, target: Tensor) -> Tensor:
    """Relaxed earth mover's distance of two sets of features, for each picture of a batch.

    Every feature vector is compared with its nearest neighbour in the other set by the cosine
    distance (0..2). The mean over a set is computed for both directions; the larger mean is the
    loss. Kolkin, Salavon & Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and
    Self-Similarity", CVPR 2019, Eq. 6 to 8. Gram matrices only require a texture with the right
    correlations; this loss requires that every feature of one picture occurs in the other.

    Args:
        features, target: ``(B, C, H, W)`` and ``(B, C, h, w)``. Memory grows with ``HW hw``.
    """
    # Autocast would compare vectors with a precision of three digits.
    with torch.autocast(features.device.type, enabled=False):
        vectors, targets = (
            F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2), dim=1)
            for x in (features, target)
        )
        distance = 1 - vectors.mT @ targets
        return torch.maximum(distance.amin(1).mean(1), distance.amin(2).mean(1))


def sliced_wasserstein(features: Tensor, target: Tensor, directions: Tensor) -> Tensor:
    """Sliced Wasserstein distance of two sets of features, squared, for each picture of a batch.

    Features are projected onto each direction, sorted, and compared with the target's; mean over
    positions and directions. Sets of different size are compared at the quantiles of ``features``,
    between which the target's are interpolated. Where Gram matrices compare second moments, this
    compares the whole distribution of features. Heitz, Vanhoey, Chambon & Belcour, "A Sliced
    Wasserstein Loss for Neural Texture Synthesis", CVPR 2021, Eq. 6 and 7.

    Args:
        features, target: ``(B, C, N)`` and ``(B, C, M)``.
        directions: unit vectors ``(C, n)``.
    """
    # Autocast would project with a precision of three digits.
    with torch.autocast(features.device.type, enabled=False):
        ours, theirs = (_quantiles(x, directions) for x in (features, target))
        if theirs.shape[-1] != ours.shape[-1]:
            theirs = F.interpolate(theirs, ours.shape[-1], mode="linear")
        return (ours - theirs).square().mean((1, 2))


def _quantiles(vectors: Tensor, directions: Tensor) -> Tensor:
    """Sorted projections ``(B, n, N)`` of ``(B, C, N)`` onto ``(C, n)``."""
    wide = torch.promote_types(vectors.dtype, torch.float32)
    return (directions.mT.to(wide) @ vectors.to(wide)).sort(-1).values


def palette_loss(
    pictures: Tensor, target: Tensor, beside: Tensor, strength: Tensor, directions: Tensor
) -> Tensor:
    """Sliced Wasserstein distance of colours, relative to the target's variance.

    Pixels are projected onto each direction of the colour space, sorted, and compared with the
    target's. This compares the whole distribution; moments alone could also be matched by a colour
    between two colours of the painting.
    Rabin, Peyre, Delon & Bernot, "Wasserstein Barycenter and its Application to Texture Mixing",
    SSVM 2011. One value for each picture of a batch.

    Args:
        pictures, target, beside: results, paintings and photographs, ``(B, 3, H, W)`` of one size.
        strength: ``(B,)``; the target distribution is interpolated by it, from the photograph's
            (0) to the painting's (1).
        directions: unit vectors ``(3, n)``.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        colors = (x.float().flatten(2) for x in (pictures, target, beside))
        result, painting, photograph = (_quantiles(x, directions) for x in colors)
        goal = photograph.lerp(painting, strength[:, None, None])
        return (result - goal).square().mean((1, 2)) / (goal.var(2).mean(1) + 1e-3)


def aligned_channels(moments: Moments, target: Moments, kept: float = 0.8) -> Tensor:
    """Select the channels whose means are closest to the target: StyleFlow's aligned style.

    If content and style differ too much, a loss over all channels spoils the picture. Selected is
    the share ``kept`` of channels with the smallest squared difference of means, to be passed to
    :func:`moments_loss` as ``channels``.

    Raises:
        InputError: for a share that is not above 0 and at most 1.
    """
    check_finite("kept", kept)
    if not 0 < kept <= 1:
        raise InputError(f"kept is {kept}: must be a share above 0, at most 1")
    distance = (moments.mean.detach() - target.mean.detach()).square()
    count = max(1, round(kept * moments.channels))
    return distance.topk(count, -1, largest=False).indices


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of ``(..., H, W)``, both directions."""
    down = (picture[..., 1:, :] - picture[..., :-1, :]).square().mean()
    right = (picture[..., :, 1:] - picture[..., :, :-1]).square().mean()
    return down + right


def range_loss(picture: Tensor) -> Tensor:
    """Mean squared distance of pixels from the range 0..1.

    An optimiser that ignores the range saturates large areas (report 3, Fig. 4). If other losses
    see the clipped picture, they have no gradient at clipped pixels; this loss brings these back.
    """
    return clipped(picture)[1]


def clipped(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels ``(..., H, W)`` clipped to 0..1, and their :func:`range_loss`."""
    pixels, loss = _Clipped.apply(picture)  # type: ignore[no-untyped-call]
    return pixels, loss


class _Clipped(torch.autograd.Function):
    """:func:`clipped`, some rows at a time: autograd would keep several pictures of it."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(picture)
        ctx.set_materialize_grads(False)
        parts = torch.split(picture, ROWS, -2)
        sums = [(part - part.clamp(0, 1)).square().sum() for part in parts]
        return picture.clamp(0, 1), torch.stack(sums).sum() / picture.numel()

    @staticmethod
    def backward(ctx: Any, by_pixels: Tensor | None, by_loss: Tensor | None) -> Tensor:
        (picture,) = ctx.saved_tensors
        gradient = torch.zeros_like(picture) if by_pixels is None else by_pixels.clone()
        pieces = (torch.split(x, ROWS, -2) for x in (picture, gradient))
        for pixels, out in zip(*pieces, strict=True):
            outside = pixels - pixels.clamp(0, 1)
            out.masked_fill_(outside != 0, 0)
            if by_loss is not None:
                out.add_(by_loss * outside, alpha=2 / picture.numel())
        return gradient
