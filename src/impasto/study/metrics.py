"""Distances of a result to its style and its content, by a judge that may be any backbone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..color import luminance_of, moments_of
from ..errors import InputError
from ..linalg import root
from ..operators.adain import normalise
from ..statistics import Moments

__all__ = [
    "Judge",
    "color_distance",
    "content_distance",
    "feature_distance",
    "gaussian_distance",
    "grid_energy",
    "luminance_ssim",
    "paint_share",
    "relative_gram_distance",
    "relative_moments_distance",
]

JUDGED = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")

Judge = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]
"""A backbone in float32: picture ``(1, 3, H, W)`` and taps -> features by tap."""


class Remembering:
    """A judge that caches the features of the latest pictures.

    Several measures of one result, and several results of one content, then need fewer passes.

    Args:
        judge: a backbone with the layers that the measures of this module use.
        room: number of pictures in the cache.
    """

    def __init__(self, judge: Judge, room: int = 3) -> None:
        self.judge, self.room = judge, room
        # The key is a picture's address; the cache holds the picture, so that it is not reused.
        self._cache: dict[tuple[int, torch.Size], tuple[Tensor, Mapping[str, Tensor]]] = {}

    def __call__(self, picture: Tensor, taps: Sequence[str]) -> Mapping[str, Tensor]:
        """See :data:`Judge`."""
        key = (picture.data_ptr(), picture.shape)
        entry = self._cache.pop(key, None) or (picture, self.judge(picture, JUDGED))
        self._cache[key] = entry
        if len(self._cache) > self.room:
            del self._cache[next(iter(self._cache))]
        features = entry[1]
        return {tap: features[tap] for tap in taps}


def relative_gram_distance(
    judge: Judge,
    out: Tensor,
    content: Tensor,
    style: Tensor,
    taps: Sequence[str] = JUDGED,
) -> dict[str, float]:
    """``|G(out) - G(style)|^2 / |G(content) - G(style)|^2`` for every tap.

    0 for the style's Gram matrices, 1 for the unchanged content; nan where content and style have
    the same Gram matrix, so that the ratio is undefined.

    Args:
        judge: a backbone in float32.
        out, content, style: ``(3, H, W)`` in 0..1, of any sizes.
        taps: layers to compare.

    Returns:
        The distance by tap; the documentation quotes the mean over the taps.

    Raises:
        InputError: for pictures of other shapes, or with NaN or infinity, or if ``taps`` is empty.
    """
    return _relative(lambda moments: moments.gram, judge, (out, content, style), taps)


def relative_moments_distance(
    judge: Judge,
    out: Tensor,
    content: Tensor,
    style: Tensor,
    taps: Sequence[str] = JUDGED,
) -> dict[str, float]:
    """As :func:`relative_gram_distance`, for the mean and deviation of every channel.

    ``|mu - mu_s|^2 + |sigma - sigma_s|^2``, divided by the same distance for the content.
    """

    def statistic(moments: Moments) -> Tensor:
        return torch.cat([moments.mean, moments.deviation()])

    return _relative(statistic, judge, (out, content, style), taps)


@torch.no_grad()
def _relative(
    statistic: Callable[[Moments], Tensor],
    judge: Judge,
    pictures: tuple[Tensor, Tensor, Tensor],
    taps: Sequence[str],
) -> dict[str, float]:
    """Distance of the first picture to the third, divided by that of the second to the third."""
    for picture in pictures:
        _check(picture)
    _check_taps(taps)
    distances = {}
    by_picture = [judge(picture[None], taps) for picture in pictures]
    for tap in taps:
        result, start, target = (statistic(Moments.of(features[tap][0])) for features in by_picture)
        whole = float((start - target).square().sum())
        distances[tap] = float((result - target).square().sum()) / whole if whole else math.nan
    return distances


@torch.no_grad()
def paint_share(
    judge: Judge, out: Tensor, content: Tensor, style: Tensor, tap: str = "relu4_1"
) -> float:
    """How much of the way from the photograph to the painting a result has gone.

    ``1 - d(out) / d(content)``, where ``d`` is the relaxed earth mover's distance to the painting
    (see :func:`impasto.losses.relaxed_emd`), of features at half the size. It measures whether the
    features of each region of the result occur somewhere in the painting. It separates a recoloured
    photograph from a painting, which statistics hardly do. 0 for the unchanged content, 1 if all
    features occur in the painting, nan if those of the content do already.

    Args:
        judge: a backbone in float32.
        out, content: ``(3, H, W)`` in 0..1, of the same size.
        style: ``(3, h, w)`` in 0..1, at the scale at which its strokes should appear; usually with
            the content's short side.
        tap: layer to compare.

    Raises:
        InputError: as :func:`content_distance`.
    """
    _check(out, content)
    _check(style)
    by_picture = [judge(F.avg_pool2d(x[None], 2), [tap])[tap][0] for x in (style, out, content)]
    target, result, start = (F.normalize(features.flatten(1).T, dim=1) for features in by_picture)
    whole = _relaxed_emd(start, target)
    return 1 - _relaxed_emd(result, target) / whole if whole > 1e-6 else math.nan


def _relaxed_emd(one: Tensor, two: Tensor) -> float:
    """Relaxed earth mover's distance of unit vectors ``(n, C)`` and ``(m, C)``, in chunks."""
    forward, backward = [], torch.full((len(two),), torch.inf, device=two.device)
    for part in torch.split(one, 2048):
        distance = 1 - part @ two.T
        forward.append(distance.amin(1))
        backward = torch.minimum(backward, distance.amin(0))
    return max(float(torch.cat(forward).mean()), float(backward.mean()))


@torch.no_grad()
def content_distance(judge: Judge, out: Tensor, content: Tensor, tap: str = "relu4_1") -> float:
    """Half the mean squared difference of instance-normalised features.

    0 for the content itself, 1 for unrelated features. The normalisation removes the statistics,
    which a transfer is meant to change.

    Args:
        judge: a backbone in float32.
        out, content: ``(3, H, W)`` in 0..1, of the same size.
        tap: layer to compare.

    Raises:
        InputError: for pictures of other shapes, or with NaN or infinity.
    """
    _check(out, content)
    one, two = (normalise(judge(picture[None], [tap])[tap]) for picture in (out, content))
    return float((one - two).square().mean() / 2)


@torch.no_grad()
def feature_distance(
    judge: Judge, out: Tensor, content: Tensor, taps: Sequence[str] = JUDGED
) -> float:
    """Perceptual distance of two pictures: 0 for identical ones, at most 4.

    The squared difference of features, scaled to unit length at each position, averaged over
    positions and ``taps`` (Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR
    2018, without its learnt weights).

    Args:
        judge: a backbone in float32.
        out, content: ``(3, H, W)`` in 0..1, of the same size.
        taps: layers to compare.

    Raises:
        InputError: as :func:`content_distance`, or if ``taps`` is empty.
    """
    _check(out, content)
    _check_taps(taps)
    by_picture = [judge(picture[None], taps) for picture in (out, content)]
    distances = []
    for tap in taps:
        one, two = (F.normalize(features[tap], dim=1) for features in by_picture)
        distances.append(float((one - two).square().sum(1).mean()))
    return sum(distances) / len(distances)


def color_distance(out: Tensor, style: Tensor) -> float:
    """Distance between the colours of two pictures, in units of RGB, 0..1.

    The 2-Wasserstein distance between Gaussians with the means and covariances of their pixels.

    Args:
        out, style: ``(3, H, W)`` in 0..1, of any sizes.

    Raises:
        InputError: for pictures of other shapes, or with NaN or infinity.
    """
    for picture in (out, style):
        _check(picture)
    return gaussian_distance(moments_of(out), moments_of(style))


def gaussian_distance(one: Moments, two: Moments) -> float:
    """Wasserstein distance of the Gaussians with these means and covariances.

    ``|m - n|^2 + tr(R + S - 2 (R^1/2 S R^1/2)^1/2)``, of which the root, for means ``m, n`` and
    covariances ``R, S``: in the units of the features.
    """
    one, two = one.to(torch.float64), two.to(torch.float64)
    half = root(one.covariance)
    both = root(half @ two.covariance @ half)
    spread = (one.covariance + two.covariance - 2 * both).trace()
    return math.sqrt(max(0.0, float((one.mean - two.mean).square().sum() + spread)))


def grid_energy(picture: Tensor, window: int = 32) -> float:
    """Strength of a pattern that repeats every 2 or 4 pixels: its RMS in luminance, 0..1.

    In each window, the luminance minus the mean of its 4x4 cell is averaged over all cells, which
    leaves the pattern that the cells share. The squeeze layers of a flow cause such a pattern.
    Compare the value with that of the photograph, whose content alone gives a value above 0.

    Args:
        picture: ``(3, H, W)`` in 0..1, ``window`` pixels or more on each side.
        window: side of a window, a multiple of 4; small enough that the pattern keeps one phase.

    Raises:
        InputError: if the picture is smaller than a window, or ``window`` no multiple of 4.
    """
    _check(picture)
    if not (isinstance(window, int) and window >= 4 and window % 4 == 0):
        raise InputError(f"window is {window}: must be a multiple of 4 pixels")
    height, width = (side // window * window for side in picture.shape[-2:])
    if not (height and width):
        raise InputError(f"the picture is smaller than {window}x{window}: give a larger one")
    grey = luminance_of(picture.double())[0, :height, :width]
    rows, columns, cells = height // window, width // window, window // 4
    split = grey.reshape(rows, cells, 4, columns, cells, 4)
    split = split - split.mean((2, 5), keepdim=True)  # each cell minus its mean
    pattern = split.mean((1, 4))  # (rows, 4, columns, 4)
    return math.sqrt(float(pattern.square().mean()))


def luminance_ssim(out: Tensor, content: Tensor) -> float:
    """Structural similarity of the luminance (Wang et al. 2004, Gaussian window), -1..1.

    Args:
        out, content: ``(3, H, W)`` in 0..1, of the same size.

    Raises:
        InputError: if scikit-image is not installed, or as :func:`content_distance`.
    """
    _check(out, content)
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise InputError('SSIM needs scikit-image: pip install "impasto[photos]"') from None
    one, two = (luminance_of(picture)[0].double().numpy() for picture in (out, content))
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            one,
            two,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def _check(*pictures: Tensor) -> None:
    """Raise InputError unless these are pictures ``(3, H, W)``, all of one size."""
    for picture in pictures:
        if not isinstance(picture, Tensor) or picture.ndim != 3 or picture.shape[0] != 3:
            shape = tuple(picture.shape) if isinstance(picture, Tensor) else type(picture).__name__
            raise InputError(f"a picture to measure is {shape}: give a tensor (3, H, W)")
        if not picture.isfinite().all():
            raise InputError("a picture to measure holds NaN or infinity: give numbers in 0..1")
    sizes = {tuple(picture.shape[-2:]) for picture in pictures}
    if len(sizes) > 1:
        shown = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise InputError(f"the pictures are {shown}: resize one to the other")


def _check_taps(taps: Sequence[str]) -> None:
    if isinstance(taps, str) or not taps:
        raise InputError(f"taps: give a list of layers, such as {list(JUDGED)}")
