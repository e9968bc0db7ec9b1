"""How near a result is to its style and to its content, by a judge that may be another backbone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..color import luminance_of
from ..errors import InputError
from ..linalg import root
from ..operators.adain import normalise
from ..statistics import Moments

__all__ = [
    "Judge",
    "Remembering",
    "color_distance",
    "content_distance",
    "feature_distance",
    "grid_energy",
    "luminance_ssim",
    "paint_share",
    "relative_gram_distance",
    "relative_moments_distance",
]

JUDGED = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")

Judge = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]
"""A backbone in float32: what it sees in ``(1, 3, H, W)`` at some taps."""


class Remembering:
    """A judge that keeps what it has seen in the latest pictures.

    Several measures of a result, and results of one content, cost fewer passes by it.

    Args:
        judge: a backbone with the layers that the measures of this module take.
        room: for so many pictures.
    """

    def __init__(self, judge: Judge, room: int = 3) -> None:
        self.judge, self.room = judge, room
        # The pictures are kept too: their places in memory, which tell them apart, stay theirs.
        self.seen: dict[tuple[int, torch.Size], tuple[Tensor, Mapping[str, Tensor]]] = {}

    def __call__(self, picture: Tensor, taps: Sequence[str]) -> Mapping[str, Tensor]:
        """See :data:`Judge`."""
        key = (picture.data_ptr(), picture.shape)
        kept = self.seen.pop(key, None) or (picture, self.judge(picture, JUDGED))
        self.seen[key] = kept
        if len(self.seen) > self.room:
            del self.seen[next(iter(self.seen))]
        return {tap: kept[1][tap] for tap in taps}


def relative_gram_distance(
    judge: Judge,
    out: Tensor,
    content: Tensor,
    style: Tensor,
    taps: Sequence[str] = JUDGED,
) -> dict[str, float]:
    """``|G(out) - G(style)|^2 / |G(content) - G(style)|^2`` for every tap.

    0 for the style's Gram matrices, 1 for the content left as it is; nan where the content has the
    style's already, so that there is nothing to be relative to.

    Args:
        judge: a backbone in float32.
        out, content, style: ``(3, H, W)`` in 0..1, of any sizes.
        taps: layers to judge.

    Returns:
        The distance by tap; their mean is the figure that the documentation quotes.

    Raises:
        InputError: for pictures of other shapes, or with NaN or infinity, and for no layers.
    """
    return _relative(lambda moments: moments.gram, judge, (out, content, style), taps)


def relative_moments_distance(
    judge: Judge,
    out: Tensor,
    content: Tensor,
    style: Tensor,
    taps: Sequence[str] = JUDGED,
) -> dict[str, float]:
    """As :func:`relative_gram_distance`, with mean and deviation of every channel instead.

    ``(|mu - mu_s|^2 + |sigma - sigma_s|^2)``, relative to the content's own.
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
    """How far the first picture is from the third, relative to the second."""
    for picture in pictures:
        _check(picture)
    _check_taps(taps)
    distances = {}
    by_picture = [judge(picture[None], taps) for picture in pictures]
    for tap in taps:
        ours, before, aim = (statistic(Moments.of(features[tap][0])) for features in by_picture)
        whole = float((before - aim).square().sum())
        distances[tap] = float((ours - aim).square().sum()) / whole if whole else math.nan
    return distances


@torch.no_grad()
def paint_share(
    judge: Judge, out: Tensor, content: Tensor, style: Tensor, tap: str = "relu4_1"
) -> float:
    """How much of the way from the photograph to the painting a result has gone.

    ``1 - d(out) / d(content)`` by the relaxed earth mover's distance ``d`` of features at half the
    size to the painting's (see :func:`impasto.losses.relaxed_emd`): whether what is seen in a
    region of the result is seen somewhere in the painting. Statistics hardly tell a recoloured
    photograph from a painting; this does. 0 for the content left as it is, 1 for what is all in
    the painting, nan where the content is.

    Args:
        judge: a backbone in float32.
        out, content: ``(3, H, W)`` in 0..1, of the same size.
        style: ``(3, h, w)`` in 0..1, with its strokes at the scale at which they are looked for:
            as a rule with the content's short side.
        tap: layer to judge.

    Raises:
        InputError: as :func:`content_distance`.
    """
    _check(out, content)
    _check(style)
    each = [judge(F.avg_pool2d(x[None], 2), [tap])[tap][0] for x in (style, out, content)]
    aim, ours, before = (F.normalize(features.flatten(1).T, dim=1) for features in each)
    away = _relaxed_emd(before, aim)
    return 1 - _relaxed_emd(ours, aim) / away if away > 1e-6 else math.nan


def _relaxed_emd(one: Tensor, two: Tensor) -> float:
    """Of two sets of unit vectors ``(n, C)``, a part of the distances at a time."""
    there, back = [], torch.full((len(two),), torch.inf, device=two.device)
    for part in torch.split(one, 2048):
        distance = 1 - part @ two.T
        there.append(distance.amin(1))
        back = torch.minimum(back, distance.amin(0))
    return max(float(torch.cat(there).mean()), float(back.mean()))


@torch.no_grad()
def content_distance(judge: Judge, out: Tensor, content: Tensor, tap: str = "relu4_1") -> float:
    """Half the mean squared difference of instance-normalised features.

    0 for the content itself, 1 for features that have nothing to do with it; free of the statistics
    that a transfer means to change.

    Args:
        judge: a backbone in float32.
        out, content: ``(3, H, W)`` in 0..1, of the same size.
        tap: layer to judge.

    Raises:
        InputError: for pictures of other shapes, or with NaN or infinity.
    """
    _check(out, content)
    ours, theirs = (normalise(judge(picture[None], [tap])[tap]) for picture in (out, content))
    return float((ours - theirs).square().mean() / 2)


@torch.no_grad()
def feature_distance(
    judge: Judge, out: Tensor, content: Tensor, taps: Sequence[str] = JUDGED
) -> float:
    """How different two pictures look to a network: 0 for the same, at most 4.

    Features of each position scaled to length one, squared difference, mean over positions and
    ``taps`` (Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018, without
    its learnt weights).

    Args:
        judge: a backbone in float32.
        out, content: ``(3, H, W)`` in 0..1, of the same size.
        taps: layers to judge.

    Raises:
        InputError: as :func:`content_distance`, and for no layers.
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
    """How far the colours of two pictures are from each other, in units of RGB, 0..1.

    The Wasserstein distance between the Gaussians of their pixels: of means and covariances.

    Args:
        out, style: ``(3, H, W)`` in 0..1, of any sizes.

    Raises:
        InputError: for pictures of other shapes, or with NaN or infinity.
    """
    for picture in (out, style):
        _check(picture)
    one, two = (Moments.of(picture.double()) for picture in (out, style))
    half = root(one.covariance)
    both = root(half @ two.covariance @ half)
    spread = (one.covariance + two.covariance - 2 * both).trace()
    return math.sqrt(max(0.0, float((one.mean - two.mean).square().sum() + spread)))


def grid_energy(picture: Tensor, window: int = 32) -> float:
    """How strong a pattern repeats every 2 or 4 pixels: its rms in luminance, 0..1.

    In each window, the luminance less the mean of its 4x4 cell is averaged over all cells: what
    stays is what all of them share. A flow's squeezes print such a pattern; a photograph's own
    value, from what it shows, is the measure of it.

    Args:
        picture: ``(3, H, W)`` in 0..1, ``window`` pixels or more on each side.
        window: side of a window, a multiple of 4: small enough that a pattern has one phase in it.

    Raises:
        InputError: for a picture smaller than a window, or no multiple of 4.
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
    split = split - split.mean((2, 5), keepdim=True)  # each cell less its mean
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
    ours, theirs = (luminance_of(picture)[0].double().numpy() for picture in (out, content))
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            ours,
            theirs,
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
