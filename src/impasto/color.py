"""Colour control: which picture the colours of the result come from (report 3, section V.A).

``match`` gives the painting the photograph's colours before the transfer. ``match-style`` gives the
photograph the painting's colours. ``luminance`` transfers only Y of YCbCr and restores the
photograph's Cb and Cr afterwards.

Report 3 is Barone, Ninni & Zinesi, "Image Style Transfer using Deep Learning". Linear matching and
luminance are Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer"; the Monge map
is Pitie & Kokaram 2007. Pictures are ``(3, H, W)`` in sRGB 0..1; the arithmetic is in float64, a
strip of rows at a time, and results have the picture's dtype.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import torch
from torch import Tensor

from .device import check_process
from .errors import InputError
from .images import strips
from .statistics import Moments
from .transport import Variant, check_variant, transport

__all__ = [
    "MODES",
    "Variant",
    "as_grey",
    "colorfulness",
    "from_ycbcr",
    "luminance_of",
    "match",
    "match_luminance",
    "moments_of",
    "restore_chroma",
    "to_ycbcr",
    "transfer_matrix",
]

MODES = ("match", "match-style", "luminance")

_LUMA = (0.299, 0.587, 0.114)  # BT.601
_CB, _CR = 1.772, 1.402  # 2 * (1 - weight of blue), 2 * (1 - weight of red)
_VISIBLE = (1 / 255) ** 2  # a deviation of one 8-bit level: visible
_GREY, _COLORED = 3 / 255, 9 / 255  # differences of channels: up to the first a picture is grey
_NOISE = _VISIBLE / 12  # variance of rounding to 8 bits: not visible


def moments_of(rgb: Tensor) -> Moments:
    """Moments of the colours of a picture ``(3, H, W)``, in float64.

    Raises:
        InputError: for something that is not an RGB picture.
    """
    return _measured(_checked(rgb), lambda strip: strip)


def transfer_matrix(
    source: Moments, target: Moments, variant: Variant = "eigenvalue"
) -> tuple[Tensor, Tensor]:
    """The map ``x' = A x + b`` that gives ``source`` the mean and covariance of ``target``.

    Report 3, Eq. 5: ``b = mean_t - A mean_s`` and ``A S_s A^T = S_t``, with ``A`` one of
    :func:`impasto.transport.transport`: ``eigenvalue`` (Eq. 7, the report's choice), ``cholesky``
    (Eq. 6) or ``monge``, which moves colours least.

    A direction in which the source does not vary cannot be matched. A direction is matched in full
    from a deviation of one 8-bit level upwards. Up to the variance of rounding to 8 bits it keeps
    gain 1; otherwise a grey picture would get rainbow noise. The mean always matches.

    Args:
        source: moments of the picture to change, in float64; see :func:`moments_of`.
        target: moments to reach.
        variant: which of the solutions.

    Returns:
        ``A``, ``(C, C)``, and ``b``, ``(C,)``, in float64 on the source's device.

    Raises:
        InputError: for an unknown variant, moments that are not finite, or unequal channels.
    """
    check_variant(variant)
    if source.first.shape != target.first.shape or source.first.ndim != 1:
        raise InputError(
            f"cannot match colours of shape {tuple(source.first.shape)} to "
            f"{tuple(target.first.shape)}: give two RGB pictures"
        )
    target = target.to(source.first.device)
    mean_s, mean_t = source.mean.double(), target.mean.double()
    cov_s, cov_t = source.covariance.double(), target.covariance.double()
    if not all(bool(t.isfinite().all()) for t in (mean_s, mean_t, cov_s, cov_t)):
        raise InputError("a picture has no pixels or values that are not finite: check the file")

    matrix = transport(cov_s, cov_t, variant, _NOISE, _VISIBLE)
    return matrix, mean_t - matrix @ mean_s


def match(
    picture: Tensor, target: Moments | Tensor, variant: Variant = "eigenvalue", clip: bool = True
) -> Tensor:
    """Give ``picture`` the mean and covariance of ``target``'s colours (report 3, Eq. 5-7).

    Args:
        picture: ``(3, H, W)``: the style picture in mode ``match``, the content in ``match-style``.
        target: the other picture, or its moments.
        variant: see :func:`transfer_matrix`, also for grey pictures and single colours.
        clip: clip to 0..1; afterwards the statistics match only approximately.

    Raises:
        InputError: for an unknown variant or something that is not an RGB picture.
    """
    moments = target if isinstance(target, Moments) else moments_of(target)
    return _matched(picture, lambda strip: strip, moments, variant, clip)


def colorfulness(colors: Moments | Tensor) -> float:
    """Largest root mean square of the difference of two colour channels, in 0..1.

    Args:
        colors: a picture ``(3, H, W)``, or moments of its RGB pixels.
    """
    pairs = [(0, 1), (1, 2), (2, 0)]
    if isinstance(colors, Tensor):
        squares = [0.0, 0.0, 0.0]
        for rows in strips(colors):
            red_green_blue = colors[:, rows]
            share = red_green_blue.shape[1] / colors.shape[1]
            for number, (i, j) in enumerate(pairs):
                difference = red_green_blue[i] - red_green_blue[j]
                squares[number] += share * float(difference.square_().mean())
    else:
        gram = colors.gram.double()
        squares = [float(gram[i, i] + gram[j, j] - 2 * gram[i, j]) for i, j in pairs]
    return math.sqrt(max(0.0, *squares))


def own_colors(content: Tensor, style: Moments) -> float:
    """Share of the method's colours to keep: 0 if photograph and painting are grey, else 1.

    Networks trained on coloured pictures tint grey ones. A picture counts as grey if its channels
    differ by at most 3 of 255 levels, as those of grey scans and JPEG files do, and as coloured
    from 9 levels on; in between the share rises linearly.
    """
    color = max(colorfulness(content), colorfulness(style))
    return min(1.0, max(0.0, (color - _GREY) / (_COLORED - _GREY)))


def with_colors_of(content: Tensor, out: Tensor, share: float = 0.0) -> Tensor:
    """The luminance of ``out``, with its colours mixed with those of ``content``.

    Args:
        content, out: ``(3, H, W)`` in 0..1 of the same size.
        share: share of the colours of ``out``, 0..1; the rest are those of ``content``.
    """
    if share == 1:
        return out
    mixed = out.new_empty(out.shape)
    for rows in strips(out):
        parts = out[:, rows], content[:, rows]
        out_y, content_y = (
            (rgb.new_tensor(_LUMA) @ rgb.flatten(1)).reshape(1, *rgb.shape[1:]) for rgb in parts
        )
        chroma = (parts[1] - content_y).lerp_(parts[0] - out_y, share)
        mixed[:, rows] = chroma.add_(out_y).clamp_(0, 1)
    return mixed


def to_ycbcr(rgb: Tensor) -> Tensor:
    """YCbCr by BT.601 at full range, as in JPEG: all in 0..1, grey at ``Cb = Cr = 0.5``."""

    def change(wide: Tensor) -> Tensor:
        y = _luma(wide)
        return torch.cat([y, (wide[2:] - y) / _CB + 0.5, (wide[:1] - y) / _CR + 0.5])

    return _changed(change, _checked(rgb))


def from_ycbcr(ycc: Tensor) -> Tensor:
    """The inverse of :func:`to_ycbcr`; not clipped."""

    def change(wide: Tensor) -> Tensor:
        y = wide[:1]
        blue, red = y + _CB * (wide[1:2] - 0.5), y + _CR * (wide[2:] - 0.5)
        green = (y - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
        return torch.cat([red, green, blue])

    return _changed(change, _checked(ycc))


def luminance_of(rgb: Tensor) -> Tensor:
    """Y of YCbCr, ``(1, H, W)``."""
    return _changed(_luma, _checked(rgb))


def as_grey(rgb: Tensor) -> Tensor:
    """Luminance in all three channels: the input of a method in mode ``luminance``.

    The channels are views of the same memory: not to be written to.
    """
    return luminance_of(rgb).expand(3, -1, -1)


def match_luminance(style: Tensor, content: Tensor) -> Tensor:
    """The style picture in grey, with the content's luminance mean and deviation, clipped to 0..1.

    Gatys et al. 2016: ``L' = sigma_c / sigma_s (L - mu_s) + mu_c``. A style of (nearly) constant
    luminance keeps gain 1. This is the 1-channel case of :func:`transfer_matrix`. The channels are
    views of the same memory: not to be written to.
    """
    target = _measured(_checked(content), _luma)
    return _matched(style, _luma, target, "eigenvalue", True).expand(3, -1, -1)


def restore_chroma(stylised: Tensor, content: Tensor) -> Tensor:
    """Luminance of ``stylised`` with Cb and Cr of ``content`` (report 3, section V.A), in 0..1.

    With Cb and Cr fixed, RGB is Y plus a constant colour, so that RGB lies in 0..1 for an interval
    of Y. Y is clamped to this interval, because clipping RGB would change the chroma. The interval
    is never empty: it contains the content's Y. Saturated colours leave luminance little room; pure
    colours leave none.

    Args:
        stylised: ``(3, H, W)``, or its luminance ``(1, H, W)``.
        content: ``(3, H, W)``.

    Raises:
        InputError: if the pictures differ in size.
    """
    if stylised.shape[-2:] != content.shape[-2:]:
        raise InputError(
            f"the stylised picture {tuple(stylised.shape)} and the content "
            f"{tuple(content.shape)} differ in size: resize the content"
        )
    if len(stylised) != 1:
        _checked(stylised)

    def change(wide: Tensor, original: Tensor) -> Tensor:
        original = original.clamp(0, 1)
        chroma = original - _luma(original)
        y = wide if len(wide) == 1 else _luma(wide)
        y = torch.maximum(y, -chroma.amin(0, keepdim=True))
        y = torch.minimum(y, 1 - chroma.amax(0, keepdim=True))
        return (y + chroma).clamp(0, 1)  # this clamp removes rounding errors

    return _changed(change, stylised, _checked(content))


def _checked(picture: Tensor) -> Tensor:
    check_process()
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise InputError(f"a picture of shape {tuple(picture.shape)}: give RGB as (3, H, W)")
    return picture


def _changed(change: Callable[..., Tensor], first: Tensor, *others: Tensor) -> Tensor:
    """What ``change`` makes of pictures in float64, strip by strip, as ``first`` in dtype."""
    out: Tensor | None = None
    for rows in strips(first):
        parts = (picture[:, rows].double().to(first.device) for picture in (first, *others))
        part = change(*parts)
        if out is None:
            out = first.new_empty((len(part), *first.shape[1:]))
        out[:, rows] = part
    assert out is not None
    return out


def _measured(picture: Tensor, change: Callable[[Tensor], Tensor]) -> Moments:
    """Moments of what ``change`` makes of a picture in float64, added up over strips."""
    parts = (Moments.of(change(picture[:, rows].double())) for rows in strips(picture))
    return functools.reduce(operator.add, parts)


def _luma(rgb: Tensor) -> Tensor:
    return _LUMA[0] * rgb[:1] + _LUMA[1] * rgb[1:2] + _LUMA[2] * rgb[2:]


def _matched(
    picture: Tensor,
    part: Callable[[Tensor], Tensor],
    target: Moments,
    variant: Variant,
    clip: bool,
) -> Tensor:
    """``part`` of a picture, its colours or its luminance, with the moments of ``target``."""
    matrix, offset = transfer_matrix(_measured(_checked(picture), part), target, variant)

    def change(strip: Tensor) -> Tensor:
        values = part(strip)
        result = (matrix @ values.flatten(1) + offset[:, None]).reshape(values.shape)
        return result.clamp(0, 1) if clip else result

    return _changed(change, picture)


def recolored(pictures: Tensor, share: float, rng: torch.Generator | None = None) -> Tensor:
    """Change the colours of some pictures of a batch at random: an augmentation for training.

    Hues are rotated by any angle, saturation is multiplied by 0.6 to 1.6, contrast by 0.8 to 1.3,
    and brightness shifted by at most 0.1.

    Args:
        pictures: ``(B, 3, H, W)`` in 0..1.
        share: average share of the pictures that are changed, 0..1.
        rng: source of random numbers; None takes torch's global one.

    Returns:
        Pictures of the same shape, in 0..1.
    """
    where = pictures.device if rng is None else rng.device
    shape = (5, len(pictures), 1, 1)
    drawn = torch.rand(shape, generator=rng, dtype=torch.float32, device=where).to(pictures)
    angle, saturation, contrast = 2 * math.pi * drawn[0], 0.6 + drawn[1], 0.8 + drawn[2] / 2
    eye = pictures.new_ones(3).diag()
    grey = pictures.new_full((3, 3), 1 / 3)  # projects onto the axis that hues turn around
    across = torch.linalg.cross(pictures.new_ones(3, 3) / math.sqrt(3), eye)
    turn = angle.cos() * (eye - grey) + angle.sin() * across.T
    colors = grey + saturation * turn
    mean = pictures.mean((-2, -1))[..., None]
    shift = colors @ mean - contrast * (colors @ mean) + 0.2 * (drawn[3] - 0.5)
    changed = (contrast * colors) @ pictures.flatten(-2) + shift
    chosen = (drawn[4] < share)[..., None]
    return torch.where(chosen, changed.reshape(pictures.shape).clamp(0, 1), pictures)
