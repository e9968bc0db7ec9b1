"""Pictures inside impasto: types, conversions, limits of size, and errors of decoders."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor
from torch import Tensor
from torch.nn import functional

from ..device import available_memory, check_process
from ..errors import ImpastoError, InputError, OutOfMemoryError, lacks_memory, spelled
from ..files import reason_of

MIN_SIDE = 16
"""Smallest height and width, in pixels, of a picture that `read` accepts."""

STRIP = 1 << 18
"""Pixels that are converted at a time, so that no second float copy of a large picture is held."""


@dataclass(frozen=True)
class Metadata:
    """Metadata kept from the file of a picture, by the numbers of EXIF's tags.

    about: tags of the file: camera, date, author, rights, description.
    exposure: tags of the photograph: dates, exposure, lens.
    place: the GPS block, which `write` drops unless `keep_gps` is set.
    dpi: dots per inch, (across, down), or None.
    """

    about: Mapping[int, object] = field(default_factory=dict)
    exposure: Mapping[int, object] = field(default_factory=dict)
    place: Mapping[int, object] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """A picture, ready for use.

    rgb: (3, H, W) float32, 0..1, sRGB, blended with the background where the source is transparent.
    alpha: (1, H, W) float32, 0..1, or None if the picture is opaque.
    name: the stem of the source file, or "picture".
    metadata: metadata of the source file for `write`; None if the source was no file.
    """

    rgb: Tensor
    alpha: Tensor | None
    name: str
    metadata: Metadata | None = field(default=None, repr=False, compare=False)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.rgb.shape[-2]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.rgb.shape[-1]

    def to_pil(self) -> Image.Image:
        """The picture with 8 bits per channel: mode RGBA if it has an alpha, RGB otherwise."""
        return image_of(self)


Bytes: TypeAlias = bytes | bytearray | memoryview

Source: TypeAlias = (
    str | os.PathLike[str] | Bytes | BinaryIO | Image.Image | NDArray[np.generic] | Tensor | Picture
)
"""What `read` takes, and every function that takes a picture."""


def strips(picture: Tensor) -> Iterator[slice]:
    """The rows of a picture (.., H, W), in strips of about `STRIP` pixels."""
    height, width = picture.shape[-2:]
    rows = max(1, STRIP // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, max(1, height), rows))


def levels(picture: Picture, depth: int, color: Tensor | None = None) -> Iterator[NDArray[Any]]:
    """Strips of rows (h, W, 3), or (h, W, 4) with an alpha, in integer levels of 8 or 16 bits.

    color: (3, 1, 1), a background to blend with instead of keeping the alpha.
    """
    dtype = np.uint8 if depth == 8 else np.uint16
    for rows in strips(picture.rgb):
        strip = picture.rgb[:, rows].detach().cpu().float()
        if picture.alpha is not None:
            alpha = picture.alpha[:, rows].detach().cpu().float()
            strip = torch.cat([strip, alpha]) if color is None else over(strip, alpha, color)
        strip = strip.clamp(0, 1).mul_((1 << depth) - 1).round_()
        yield strip.permute(1, 2, 0).numpy().astype(dtype, "C")


def image_of(picture: Picture, color: Tensor | None = None) -> Image.Image:
    """The picture with 8 bits per channel, RGB or RGBA, made strip by strip; see `levels`."""
    keeps_alpha = picture.alpha is not None and color is None
    image = Image.new("RGBA" if keeps_alpha else "RGB", (picture.width, picture.height))
    top = 0
    for strip in levels(picture, 8, color):
        image.paste(Image.fromarray(strip), (0, top))
        top += len(strip)
    return image


def resize(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """`rgb` (.., C, H, W), 0..1, at `size` (height, width): antialiased bicubic, clamped to 0..1.

    Returns the tensor itself if it has that size already.
    """
    check_process()
    if tuple(rgb.shape[-2:]) == tuple(size):
        return rgb
    batch = rgb.reshape(-1, *rgb.shape[-3:])
    if max(math.prod(rgb.shape[-2:]), math.prod(size)) <= STRIP:
        return _scaled(batch, size).clamp(0, 1).reshape(*rgb.shape[:-2], *size)
    # A large picture by channel: between its two directions another copy is held.
    planes = batch.flatten(0, 1)
    out = planes.new_empty((len(planes), *size))
    for number, plane in enumerate(planes):
        out[number] = _scaled(plane[None, None], size)[0, 0].clamp_(0, 1)
    return out.reshape(*rgb.shape[:-2], *size)


def _scaled(batch: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(batch, size=tuple(size), mode="bicubic", antialias=True)


def fit(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The (height, width), at least 1 each, with that short side and, rounded, that ratio."""
    short = min(height, width)
    return max(1, round(height * short_side / short)), max(1, round(width * short_side / short))


def over(rgb: Any, alpha: Any, color: Any) -> Any:
    """Blend `rgb` (3, H, W) by `alpha` (1, H, W) with a background `color` (3, 1, 1)."""
    return rgb * alpha + color * (1 - alpha)


def color_of(background: str) -> Tensor:
    """A colour as (3, 1, 1), 0..1. Raises InputError for an unknown colour."""
    try:
        channels = ImageColor.getrgb(background)[:3]
    except (ValueError, AttributeError, TypeError) as fault:
        raise InputError(
            f"{spelled('background')} {background!r}: not a known colour; give a name such as "
            "white, or #hex",
            option="background",
        ) from fault
    return torch.tensor(channels, dtype=torch.float32, device="cpu").reshape(3, 1, 1) / 255


# Sizes and memory ------------------------------------------------------------------------------


def check_size(height: int, width: int, label: str, max_pixels: int | None = None) -> None:
    """Raise InputError for a picture that is too small, or has more than `max_pixels` pixels.

    Raise OutOfMemoryError if a float32 copy with three channels does not fit in the free memory:
    what a method needs beside it, the method checks.
    """
    check_pixels(height, width, label, max_pixels)
    need, short = 12 * height * width, min(height, width)
    side = int(0.95 * short * math.sqrt(min(1, available_memory() / need)))
    check_memory(need, height, width, label, side)


def check_pixels(height: int, width: int, label: str, max_pixels: int | None = None) -> None:
    """As `check_size`, without the check of memory."""
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{label}: {width}x{height} pixels is too small; each side needs at least {MIN_SIDE}"
        )
    if max_pixels is not None and height * width > max_pixels:
        raise InputError(
            f"{label}: {width}x{height} are {height * width} pixels, more than the limit of "
            f"{max_pixels}; scale it down",
            option="max_pixels",
        )


def check_memory(need: float, height: int, width: int, label: str, side: int = 0) -> None:
    """Raise OutOfMemoryError, with both numbers, if fewer than `need` bytes are free.

    side: the short side for which there is memory; 0 if it is not known or there is none.
    """
    available = available_memory()
    if need > available:
        smaller = f"use {spelled('size', side)} or smaller, or " if side >= MIN_SIDE else ""
        raise OutOfMemoryError(
            f"{label}: {width}x{height} pixels need {_gibibytes(need)} of memory and "
            f"{_gibibytes(available)} are free; {smaller}scale it down",
            option="size" if smaller else None,
        )


def _gibibytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"


# Messages --------------------------------------------------------------------------------------


@contextmanager
def decoding(label: str, opaque: bool = False) -> Iterator[None]:
    """Turn any exception of a decoder into an InputError, or an OutOfMemoryError.

    opaque: for a source that is no file, where the advice to get a whole copy does not apply.
    """
    try:
        yield
    except ImpastoError:
        raise
    except Exception as fault:
        if lacks_memory(fault):
            raise OutOfMemoryError(
                f"{label}: not enough memory to decode it ({_gibibytes(available_memory())} are "
                "free); scale it down"
            ) from fault
        if opaque:
            raise InputError(f"{label}: no picture can be made of it ({reason_of(fault)})") from (
                fault
            )
        raise InputError(
            f"{label}: damaged or cut short ({reason_of(fault)}); get a whole copy"
        ) from fault
