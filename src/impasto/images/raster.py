"""Rasters, the output of decoders, and their conversion to a tensor.

A decoder makes a `Raster`, which returns strips of rows as floats. `assemble` blends them with the
background, turns them upright and, if a small picture was requested, reduces them. So a large
picture is in memory twice at most: in its decoder, and as the tensor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..device import available_memory
from .picture import (
    MIN_SIDE,
    STRIP,
    Metadata,
    Picture,
    check_memory,
    fit,
    over,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """The options of `read`."""

    color: Floats
    size: int | None
    most_pixels: int | None
    max_pixels: int | None
    accept_truncated: bool


@dataclass
class Raster:
    """A decoded picture, as it is stored.

    rows: (top, bottom) -> the rows between them, (C, h, W), float32, 0..1, sRGB or grey; the last
    channel is the alpha if there is one.
    full: (height, width) as stored in the file, if the decoder has reduced it.
    scale: the factor of that reduction.
    """

    height: int
    width: int
    has_alpha: bool
    rows: Callable[[int, int], Floats]
    orientation: int = 1
    metadata: Metadata | None = None
    full: tuple[int, int] | None = None
    scale: int = 1


def reduction_of(height: int, width: int, request: Request) -> int:
    """The integer factor by which a picture may be reduced on decoding.

    Leaves three times the requested size, which the filter of the last resize needs.
    """
    by_size = 1 if request.size is None else min(height, width) // (3 * request.size)
    by_most = (
        1 if request.most_pixels is None else math.isqrt(height * width // request.most_pixels)
    )
    return max(1, by_size, by_most)


def check_decoding(
    full: tuple[int, int],
    has_alpha: bool,
    label: str,
    request: Request,
    decoded: Callable[[int], float] = lambda factor: 0.0,
) -> None:
    """Raise OutOfMemoryError if there is no memory to decode and assemble `full` (height, width).

    The message names the largest size that can.

    decoded: the factor of reduction -> the bytes that the decoder holds.
    """
    factor, available = reduction_of(*full, request), available_memory()

    def need(factor: int) -> float:
        return decoded(factor) + _tensor_bytes(*full, has_alpha, factor)

    side = 0
    if need(factor) > available and request.most_pixels is None:  # a painting has no size
        factors = range(factor + 1, min(full) // (3 * MIN_SIDE) + 1)
        fits = next((more for more in factors if need(more) <= available), None)
        side = 0 if fits is None else min(full) // (3 * fits)
    check_memory(need(factor), *full, label, side)


def _tensor_bytes(height: int, width: int, has_alpha: bool, factor: int) -> float:
    """Bytes of the tensors and strips of `assemble`."""
    channels = 4 if has_alpha else 3
    pixels = -(-height // factor) * -(-width // factor)
    strip = min(height, max(factor, STRIP // width)) * width
    return 4.0 * channels * (pixels + 4 * strip)


def assemble(raster: Raster, label: str, name: str, request: Request) -> Picture:
    """The picture, upright, blended with its background, and reduced as far as allowed."""
    height, width = raster.height, raster.width
    full = raster.full or (height, width)
    factor = reduction_of(height, width, request)
    turn = _TURNS.get(raster.orientation, _TURNS[1])
    down, across = (
        _edges(count, count / factor, length / raster.scale)
        for count, length in ((height, full[0]), (width, full[1]))
    )
    size = (len(down) - 1, len(across) - 1)
    shape = turn(np.empty((1, *size), np.bool_)).shape[1:]
    rgb = np.empty((3, *shape), np.float32)
    alpha = np.empty((1, *shape), np.float32) if raster.has_alpha else None
    # Views of the same memory, in the orientation of the file.
    back = _TURNS.get({6: 8, 8: 6}.get(raster.orientation, raster.orientation), _TURNS[1])
    stored_rgb, stored_alpha = back(rgb), None if alpha is None else back(alpha)
    rows = max(1, STRIP // width // factor)
    opaque = True
    for top in range(0, size[0], rows):
        edges = down[top : top + rows + 1]
        part = raster.rows(int(edges[0]), int(edges[-1]))
        rows_slice = slice(top, top + len(edges) - 1)
        if stored_alpha is not None:
            part, part_alpha = part[:-1], part[-1:]
            opaque = opaque and bool(part_alpha.min() >= 1)
            part = over(part, part_alpha, request.color)
            stored_alpha[:, rows_slice] = _means(part_alpha, edges, across)
        stored_rgb[:, rows_slice] = _means(part, edges, across)
    planes = [rgb] if alpha is None or opaque else [rgb, alpha]
    if request.size is not None and full != size:
        # The extent in pixels of the planes; a decoder rounds partial pixels at the edges up.
        covers = (float(size[0]), float(size[1]))
        if size == (height, width):
            covers = (full[0] / raster.scale, full[1] / raster.scale)
        final = fit(*full, request.size)
        planes = [
            np.ascontiguousarray(turn(_in_proportion(back(plane), covers, final, request.size)))
            for plane in planes
        ]
    tensors = [torch.from_numpy(plane) for plane in planes]
    return Picture(tensors[0], tensors[1] if len(tensors) > 1 else None, name, raster.metadata)


def _edges(count: int, parts: float, exact: float) -> NDArray[np.int64]:
    """The edges that divide `count` rows into `parts` of even height; the last is `count`.

    exact: the number of rows before the decoder rounded it.
    """
    whole_parts = max(1, int(parts))
    heights = min(exact, count) / whole_parts
    edges = np.round(np.arange(whole_parts + 1) * heights).astype(np.int64)
    edges[-1] = count
    return edges


def _means(part: Floats, down: NDArray[np.int64], across: NDArray[np.int64]) -> Floats:
    """(C, h, W): the means of the cells between the edges."""
    if part.shape[1:] == (len(down) - 1, len(across) - 1):
        return part
    sums = np.add.reduceat(part, across[:-1], 2)
    sums = np.add.reduceat(sums, down[:-1] - down[0], 1)
    sums /= np.outer(np.diff(down), np.diff(across)).astype(np.float32)
    return sums


def _in_proportion(
    planes: Floats, covers: tuple[float, float], final: tuple[int, int], short_side: int
) -> Floats:
    """Reduced planes of a size for which `fit` returns `final`, as it does for the full picture.

    covers: the exact (height, width) of their content, in their pixels: a decoder rounds partial
        pixels at the edges up.
    """
    height, width = planes.shape[-2:]
    short = min(height, width)
    size = (height, width)
    if fit(height, width, short_side) != final:
        long = round(max(final) * short / short_side)
        size = (height, long) if height <= width else (long, width)
    if size == (height, width) == covers:
        return planes
    # Not antialiased: the size is nearly the same, and with antialiasing torch ignores the scale
    # factor. The 1e-9 is needed because torch truncates the new size to a whole number.
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(planes))[None],
        scale_factor=(size[0] / covers[0] * (1 + 1e-9), size[1] / covers[1] * (1 + 1e-9)),
        mode="bicubic",
    )
    resized: Floats = scaled[0, :, : size[0], : size[1]].clamp(0, 1).numpy()
    return resized


def _quarters(count: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda planes: np.rot90(planes, count, (1, 2))


# EXIF orientation -> function that turns stored planes (C, H, W) upright.
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda planes: planes,
    2: lambda planes: planes[..., ::-1],
    3: lambda planes: planes[..., ::-1, ::-1],
    4: lambda planes: planes[..., ::-1, :],
    5: lambda planes: planes.swapaxes(1, 2),
    6: _quarters(-1),
    7: lambda planes: planes.swapaxes(1, 2)[..., ::-1, ::-1],
    8: _quarters(1),
}
