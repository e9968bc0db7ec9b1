"""What a decoder gives, and how it becomes the tensor.

A decoder makes a `Raster`, which gives strips of rows as floats; `assemble` lays them over the
background, turns them upright and, where little is wanted, makes them smaller. So a large picture
is in memory twice at most: as its decoder has it, and as the tensor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .picture import (
    STRIP,
    Metadata,
    Picture,
    fit,
    over,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Wish:
    """What the caller of `read` asked for."""

    color: Floats
    size: int | None
    most_pixels: int | None
    max_pixels: int | None
    accept_truncated: bool


@dataclass
class Raster:
    """A decoded picture, as it is stored.

    rows: of (top, bottom), the rows between them: (C, h, W), float32, 0..1, sRGB, or grey; the
    last channel is the alpha if there is one.
    full: (height, width) as stored in the file, where the decoder has made it smaller.
    scale: by how much.
    """

    height: int
    width: int
    has_alpha: bool
    rows: Callable[[int, int], Floats]
    orientation: int = 1
    metadata: Metadata | None = None
    full: tuple[int, int] | None = None
    scale: int = 1


def reduction_of(height: int, width: int, wish: Wish) -> int:
    """By how much a picture may be made smaller.

    To three times the size that is wanted: by less, and the filter of the last step would find too
    little.
    """
    by_size = 1 if wish.size is None else min(height, width) // (3 * wish.size)
    by_most = 1 if wish.most_pixels is None else math.isqrt(height * width // wish.most_pixels)
    return max(1, by_size, by_most)


def tensor_bytes(height: int, width: int, has_alpha: bool, wish: Wish) -> float:
    """Of the tensors that `assemble` makes, and its strips."""
    factor = reduction_of(height, width, wish)
    channels = 4 if has_alpha else 3
    pixels = -(-height // factor) * -(-width // factor)
    strip = min(height, max(factor, STRIP // width)) * width
    return 4.0 * channels * (pixels + 4 * strip)


def assemble(raster: Raster, label: str, name: str, wish: Wish) -> Picture:
    """The picture, upright, over its background, as small as it may be."""
    height, width = raster.height, raster.width
    full = raster.full or (height, width)
    factor = reduction_of(height, width, wish)
    turn = _TURNS.get(raster.orientation, _TURNS[1])
    down, across = (
        _edges(count, count / factor, length / raster.scale)
        for count, length in ((height, full[0]), (width, full[1]))
    )
    size = (len(down) - 1, len(across) - 1)
    shape = turn(np.empty((1, *size), np.bool_)).shape[1:]
    rgb = np.empty((3, *shape), np.float32)
    alpha = np.empty((1, *shape), np.float32) if raster.has_alpha else None
    # The same memory as it would be if the picture lay as it is stored.
    back = _TURNS.get({6: 8, 8: 6}.get(raster.orientation, raster.orientation), _TURNS[1])
    stored_rgb, stored_alpha = back(rgb), None if alpha is None else back(alpha)
    rows = max(1, STRIP // width // factor)
    opaque = True
    for top in range(0, size[0], rows):
        edges = down[top : top + rows + 1]
        part = raster.rows(int(edges[0]), int(edges[-1]))
        rows_slice = slice(top, top + len(edges) - 1)
        if stored_alpha is not None:
            part, clear = part[:-1], part[-1:]
            opaque = opaque and bool(clear.min() >= 1)
            part = over(part, clear, wish.color)
            stored_alpha[:, rows_slice] = _means(clear, edges, across)
        stored_rgb[:, rows_slice] = _means(part, edges, across)
    planes = [rgb] if alpha is None or opaque else [rgb, alpha]
    if wish.size is not None and full != size:
        # In its own pixels; a decoder makes whole ones of what is left at the edges.
        covers = (float(size[0]), float(size[1]))
        if size == (height, width):
            covers = (full[0] / raster.scale, full[1] / raster.scale)
        wanted = fit(*full, wish.size)
        planes = [
            np.ascontiguousarray(turn(_in_proportion(back(plane), covers, wanted, wish.size)))
            for plane in planes
        ]
    tensors = [torch.from_numpy(plane) for plane in planes]
    return Picture(tensors[0], tensors[1] if len(tensors) > 1 else None, name, raster.metadata)


def _edges(count: int, wanted: float, exact: float) -> NDArray[np.int64]:
    """Where to part `count` rows to get `wanted` of even height; the last is at their end.

    exact: how many rows there would be, not rounded, if the decoder had not made them whole.
    """
    pieces = max(1, int(wanted))
    edges = np.round(np.arange(pieces + 1) * (min(exact, count) / pieces)).astype(np.int64)
    edges[-1] = count
    return edges


def _means(part: Floats, down: NDArray[np.int64], across: NDArray[np.int64]) -> Floats:
    """(C, h, W) by the means of the fields between the edges."""
    if part.shape[1:] == (len(down) - 1, len(across) - 1):
        return part
    sums = np.add.reduceat(part, across[:-1], 2)
    sums = np.add.reduceat(sums, down[:-1] - down[0], 1)
    sums /= np.outer(np.diff(down), np.diff(across)).astype(np.float32)
    return sums


def _in_proportion(
    planes: Floats, covers: tuple[float, float], wanted: tuple[int, int], short_side: int
) -> Floats:
    """Reduced planes such that `fit` gives the size `wanted`, as it does for the full picture.

    covers: the (height, width) that they stand for, in pixels of theirs: a decoder makes whole
        ones of what is left at the edges.
    """
    height, width = planes.shape[-2:]
    short = min(height, width)
    size = (height, width)
    if fit(height, width, short_side) != wanted:
        long = round(max(wanted) * short / short_side)
        size = (height, long) if height <= width else (long, width)
    if size == (height, width) == covers:
        return planes
    # Not antialiased, for the size is nearly the same, and torch then ignores what is covered. A
    # hair more, for the new size is the old one times this, cut off to a whole number.
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(planes))[None],
        scale_factor=(size[0] / covers[0] * (1 + 1e-9), size[1] / covers[1] * (1 + 1e-9)),
        mode="bicubic",
    )
    found: Floats = scaled[0, :, : size[0], : size[1]].clamp(0, 1).numpy()
    return found


def _quarters(count: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda planes: np.rot90(planes, count, (1, 2))


# By EXIF's orientation, how stored planes (C, H, W) are turned upright.
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
