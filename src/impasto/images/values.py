"""Conversion of stored levels to shares of white, in sRGB."""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ..errors import InputError
from .picture import STRIP
from .raster import Floats

_SRGB = ImageCms.createProfile("sRGB")
_OVERSHOOT = 0.1  # tolerated below black and above white, as after sharpening and scaling


def planes_of(image: Image.Image) -> NDArray[Any]:
    """The levels of an image, ``(C, h, W)``."""
    levels = np.asarray(image)
    return levels[None] if levels.ndim == 2 else np.moveaxis(levels, 2, 0)


def unlike(levels: NDArray[Any], key: tuple[int, ...]) -> Floats:
    """(1, h, W): 0 where `levels` (C, h, W) equal `key`, 1 elsewhere."""
    same: NDArray[np.bool_] = (levels == np.asarray(key).reshape(-1, 1, 1)).all(0, keepdims=True)
    return (~same).astype(np.float32)


def as_shares(levels: NDArray[Any], white: float) -> Floats:
    """`levels` divided by `white`, in float64 where float32 cannot represent the levels."""
    wide = levels.dtype.itemsize > 4 or levels.dtype in (np.int32, np.uint32)
    values: NDArray[np.floating[Any]] = levels.astype(np.float64 if wide else np.float32)
    values /= white
    return values.astype(np.float32, copy=False)


def converter(mode: str, profile: bytes | None) -> Callable[[Image.Image], Image.Image] | None:
    """The conversion of strips of `mode` to sRGB; None without a profile, or if the profile is
    broken, does not fit the mode, or is practically sRGB.
    """
    if not profile:
        return None
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        source = "RGB" if mode == "L" and parsed.profile.xcolor_space.strip() == "RGB" else mode
        transform = ImageCms.buildTransform(parsed, _SRGB, source, "RGB")

        def convert(image: Image.Image) -> Image.Image:
            if image.mode != source:
                image = image.convert(source)
            return ImageCms.applyTransform(image, transform) or image

        probe = None
        if mode == "L":
            probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        elif mode == "RGB":
            steps = np.linspace(0, 255, 9).astype(np.uint8)
            probe = Image.fromarray(
                np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
            )
        if probe:
            before, after = (
                np.asarray(image, np.int16) for image in (probe.convert("RGB"), convert(probe))
            )
            if np.abs(before - after).max() <= 1:
                return None
        return convert
    return None


def by_8_bits(values: Floats, convert: Callable[[Image.Image], Image.Image]) -> Floats:
    """Deep values, (1|3, h, W), converted with 8 bits, the only depth that Pillow converts."""
    levels = np.moveaxis((values * 255).round().astype(np.uint8), 0, -1)
    image = Image.fromarray(np.ascontiguousarray(levels[..., 0] if len(values) == 1 else levels))
    return as_shares(planes_of(convert(image)), 255)


def white_of(
    strip: Callable[[int, int], NDArray[Any]],
    size: tuple[int, int],
    label: str,
    *levels: float,
    fixed: float | None = None,
) -> float:
    """The level of white: `fixed`, or the smallest of `levels` that no value exceeds.

    Floats may overshoot a little. Raises InputError if no level fits, also for floats above 1 that
    are not whole numbers.
    """
    if fixed is not None:
        return fixed
    height, width = size
    low, high, whole, real = np.inf, -np.inf, True, False
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        part = strip(top, min(height, top + rows))
        real = part.dtype.kind == "f"
        if real and not np.isfinite(part).all():
            raise InputError(f"{label}: it holds NaN or infinity; replace them by numbers in 0..1")
        low, high = min(low, part.min()), max(high, part.max())
        whole = whole and (not real or high <= 1 + _OVERSHOOT or bool((part == part.round()).all()))
    slack = _OVERSHOOT if real else 0
    white = next((level for level in levels if high <= level + slack), None)
    if white is not None and low >= -slack and (white == 1 or whole):
        return white
    if real and low >= -slack:
        remedy = "map high dynamic range to 0..1, or scale levels by their white"
    else:
        remedy = "scale them to 0..1"
    raise InputError(f"{label}: grey levels or colours from {low:g} to {high:g}; {remedy}")
