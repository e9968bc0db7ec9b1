"""Colour control: whose colours the result gets (paper 3, section V.A).

``match`` gives the style picture the content's colours before the transfer, ``match-style`` swaps
the roles, and ``luminance`` transfers on Y of YCbCr alone and puts the content's Cb and Cr back.

Paper 3 is Barone, Ninni & Zinesi, "Image Style Transfer using Deep Learning". Linear matching and
luminance are Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer"; the Monge map
is Pitie & Kokaram 2007. Pictures are ``(3, H, W)`` in sRGB 0..1; the arithmetic is in float64 and
results have the picture's dtype.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .device import check_process
from .errors import InputError
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
    "own_colors",
    "recolored",
    "restore_chroma",
    "to_ycbcr",
    "transfer_matrix",
    "with_colors_of",
]

MODES = ("match", "match-style", "luminance")

_LUMA = (0.299, 0.587, 0.114)  # BT.601
_CB, _CR = 1.772, 1.402  # 2 * (1 - weight of blue), 2 * (1 - weight of red)
_SURE = (1 / 255) ** 2  # variance of one level of an 8-bit picture: certainly seen
_GREY, _COLORED = 3 / 255, 9 / 255  # two channels' difference that is no colour, and that is one
_NOISE = _SURE / 12  # variance of rounding to 8 bits: certainly not


def transfer_matrix(
    source: Moments, target: Moments, variant: Variant = "eigenvalue"
) -> tuple[Tensor, Tensor]:
    """The map ``x' = A x + b`` that gives ``source`` the mean and covariance of ``target``.

    Paper 3, Eq. 5: ``b = mean_t - A mean_s`` and ``A S_s A^T = S_t``, with ``A`` one of
    :func:`impasto.transport.transport`: ``eigenvalue`` (Eq. 7, the paper's choice), ``cholesky``
    (Eq. 6) or ``monge``, which moves colours least.

    A direction in which the source does not vary cannot be matched. One counts as seen from a
    deviation of one 8-bit level upwards, as unseen where the variance is at most that of rounding
    to 8 bits; unseen directions keep gain 1, or a grey picture would get rainbow noise.
    The mean always matches.

    Args:
        source: moments of the picture to change; measure it in float64 (``rgb.double()``).
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

    matrix = transport(cov_s, cov_t, variant, _NOISE, _SURE)
    return matrix, mean_t - matrix @ mean_s


def match(
    picture: Tensor, target: Moments | Tensor, variant: Variant = "eigenvalue", clip: bool = True
) -> Tensor:
    """Give ``picture`` the mean and covariance of ``target``'s colours (paper 3, Eq. 5-7).

    Args:
        picture: ``(3, H, W)``: the style picture in mode ``match``, the content in ``match-style``.
        target: the other picture, or its moments.
        variant: see :func:`transfer_matrix`, also for grey pictures and single colours.
        clip: clip to 0..1, after which the statistics agree only nearly.

    Raises:
        InputError: for an unknown variant or something that is not an RGB picture.
    """
    rgb = _rgb(picture)
    moments = target if isinstance(target, Moments) else Moments.of(_rgb(target))
    return _apply(rgb, moments, variant, clip).to(picture.dtype)


def colorfulness(colors: Moments | Tensor) -> float:
    """Root mean square of the difference of two channels, of the pair that differs most, in 0..1.

    Args:
        colors: a picture ``(3, H, W)``, or moments of its RGB pixels.
    """
    pairs = [(0, 1), (1, 2), (2, 0)]
    if isinstance(colors, Tensor):
        apart = [float((colors[i] - colors[j]).square_().mean()) for i, j in pairs]
    else:
        gram = colors.gram.double()
        apart = [float(gram[i, i] + gram[j, j] - 2 * gram[i, j]) for i, j in pairs]
    return math.sqrt(max(0.0, *apart))


def own_colors(content: Tensor, style: Moments) -> float:
    """What share of the colours that a method makes are to be seen: none, if it had none to see.

    Networks that have learnt from coloured pictures tint grey ones. 0 where neither photograph nor
    painting has colours, as scans and JPEG have them (3 levels of 255 apart); from 9 levels on 1.
    """
    seen = max(colorfulness(content), colorfulness(style))
    return min(1.0, max(0.0, (seen - _GREY) / (_COLORED - _GREY)))


def with_colors_of(content: Tensor, out: Tensor, share: float = 0.0) -> Tensor:
    """``out`` by its luminance, in the colours of ``content`` and a ``share`` of its own.

    Args:
        content, out: ``(3, H, W)`` in 0..1 of the same size.
        share: 0..1.
    """
    if share == 1:
        return out
    light, before = (rgb.new_tensor(_LUMA) @ rgb.flatten(1) for rgb in (out, content))
    light, before = (plane.reshape(1, *out.shape[1:]) for plane in (light, before))
    colored = (content - before).lerp_(out - light, share)
    return colored.add_(light).clamp_(0, 1)


def to_ycbcr(rgb: Tensor) -> Tensor:
    """YCbCr by BT.601 at full range, as in JPEG: all in 0..1, grey at ``Cb = Cr = 0.5``."""
    wide = _rgb(rgb)
    y = _luma(wide)
    blue, red = (wide[2:] - y) / _CB + 0.5, (wide[:1] - y) / _CR + 0.5
    return torch.cat([y, blue, red]).to(rgb.dtype)


def from_ycbcr(ycc: Tensor) -> Tensor:
    """The inverse of :func:`to_ycbcr`; not clipped."""
    wide = _rgb(ycc)
    y = wide[:1]
    blue, red = y + _CB * (wide[1:2] - 0.5), y + _CR * (wide[2:] - 0.5)
    green = (y - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
    return torch.cat([red, green, blue]).to(ycc.dtype)


def luminance_of(rgb: Tensor) -> Tensor:
    """Y of YCbCr, ``(1, H, W)``."""
    return _luma(_rgb(rgb)).to(rgb.dtype)


def as_grey(rgb: Tensor) -> Tensor:
    """Luminance in all three channels: what a method sees in mode ``luminance``."""
    return luminance_of(rgb).repeat(3, 1, 1)


def match_luminance(style: Tensor, content: Tensor) -> Tensor:
    """The style picture in grey, with the content's luminance mean and deviation, clipped to 0..1.

    Gatys et al. 2016: ``L' = sigma_c / sigma_s (L - mu_s) + mu_c``. A style of (nearly) constant
    luminance keeps gain 1, as in :func:`transfer_matrix`, of which this is the 1-channel case.
    """
    target = Moments.of(_luma(_rgb(content)))
    return _apply(_luma(_rgb(style)), target, "eigenvalue", True).repeat(3, 1, 1).to(style.dtype)


def restore_chroma(stylised: Tensor, content: Tensor) -> Tensor:
    """Luminance of ``stylised`` with Cb and Cr of ``content`` (paper 3, section V.A), in 0..1.

    With Cb and Cr fixed, RGB is Y plus a constant colour, so being inside of the RGB cube is an
    interval of Y. Y is clamped to it: clipping RGB would change the chroma. The content's own Y is
    in it, so it is never empty. Saturated colours leave luminance little room, pure ones none.

    Raises:
        InputError: if the pictures differ in size.
    """
    if stylised.shape != content.shape:
        raise InputError(
            f"the stylised picture {tuple(stylised.shape)} and the content "
            f"{tuple(content.shape)} differ in size: resize the content"
        )
    original = _rgb(content).to(stylised.device).clamp(0, 1)
    colour = original - _luma(original)
    y = _luma(_rgb(stylised))
    y = torch.maximum(y, -colour.amin(0, keepdim=True))
    y = torch.minimum(y, 1 - colour.amax(0, keepdim=True))
    return (y + colour).clamp(0, 1).to(stylised.dtype)  # this clamp is for the last digit only


def _rgb(picture: Tensor) -> Tensor:
    check_process()
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise InputError(f"a picture of shape {tuple(picture.shape)}: give RGB as (3, H, W)")
    return picture.double()


def _luma(rgb: Tensor) -> Tensor:
    return _LUMA[0] * rgb[:1] + _LUMA[1] * rgb[1:2] + _LUMA[2] * rgb[2:]


def _apply(picture: Tensor, target: Moments, variant: Variant, clip: bool) -> Tensor:
    matrix, offset = transfer_matrix(Moments.of(picture), target, variant)
    result = (matrix @ picture.flatten(1) + offset[:, None]).reshape(picture.shape)
    return result.clamp(0, 1) if clip else result


def recolored(pictures: Tensor, share: float, rng: torch.Generator | None = None) -> Tensor:
    """Some pictures of a batch in random other colours: an augmentation of training.

    Their hues are turned by any angle, their saturation multiplied by 0.6 to 1.6, their contrast by
    0.8 to 1.3, their brightness moved by at most 0.1.

    Args:
        pictures: ``(B, 3, H, W)`` in 0..1.
        share: of the pictures, 0..1, on average.
        rng: of the random numbers; None takes torch's global ones.

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
