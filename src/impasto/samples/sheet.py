"""A sheet to draw on: random fields, colours, lighting, and brush marks.

Lengths are in units of the picture's height, and the number of random draws does not depend on the
size, so a seed gives the same picture at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]  # float32 fields; counts and indices are integers
Bound = float | tuple[float, ...]
ASPECT = 4 / 3


class Sheet:
    """A picture being drawn: its random generator, and pixel coordinates (y from 0 to 1)."""

    def __init__(self, height: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.h, self.w = height, round(height * ASPECT)
        self.x = ((np.arange(self.w, dtype=np.float32) + 0.5) / height)[None, :]
        self.y = ((np.arange(self.h, dtype=np.float32) + 0.5) / height)[:, None]

    def noise(
        self, cells: float, octaves: int = 4, stretch: float = 1.0, gain: float = 0.5
    ) -> Array:
        """Smooth noise of deviation near 1: a sum of enlarged random grids, each twice as fine.

        ``cells`` is the number of cells of the coarsest grid along the height. ``stretch`` is the
        ratio of width to height of the features.
        """
        total = np.zeros((self.h, self.w), np.float32)
        power = 0.0
        for octave in range(octaves):
            rows = max(2, round(cells * 2**octave))
            columns = max(2, round(cells * 2**octave * ASPECT / stretch))
            total += gain**octave * self.enlarge(self.normal(rows, columns))
            power += 0.5 * gain ** (2 * octave)  # the bicubic enlargement halves the variance
        return total / np.float32(np.sqrt(power))

    def curve(self, cells: int, octaves: int = 4, gain: float = 0.5) -> Array:
        """Noise along x only, as a row."""
        total = np.zeros((1, self.w), np.float32)
        for octave in range(octaves):
            grid = self.normal(1, round(cells * 2**octave * ASPECT))
            row = Image.fromarray(grid).resize((self.w, 1), Image.Resampling.BICUBIC)
            total += gain**octave * np.asarray(row)
        return total

    def normal(self, *shape: int) -> Array:
        """Numbers of mean 0 and deviation 1, float32."""
        return self.rng.standard_normal(shape, dtype=np.float32)

    def enlarge(self, grid: Array) -> Array:
        """A coarse field at the size of the sheet."""
        return np.asarray(
            Image.fromarray(grid).resize((self.w, self.h), Image.Resampling.BICUBIC), np.float32
        )

    def at(self, field: Array, points: Array) -> Array:
        """The field's values at points (..., 2) of (x, y); points outside use the border."""
        column = np.clip((points[..., 0] * self.h).astype(np.int32), 0, self.w - 1)
        row = np.clip((points[..., 1] * self.h).astype(np.int32), 0, self.h - 1)
        return field[row, column]

    def scatter(self, count: int) -> Array:
        """Points spread over the sheet and a little beyond, in random order."""
        return self.uniform((-0.03, -0.03), (ASPECT + 0.03, 1.03), (count, 2))

    def box(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """The rows and columns within reach of a point."""
        (top, bottom), (left, right) = (
            [max(0, int((v + d * reach) * self.h) + (d > 0)) for d in (-1, 1)] for v in (y, x)
        )
        return slice(top, bottom), slice(left, right)

    def uniform(self, low: Bound, high: Bound, shape: int | tuple[int, ...]) -> Array:
        """Numbers between two bounds, float32."""
        return np.asarray(self.rng.uniform(low, high, shape), np.float32)


def rgb_of(code: str) -> Array:
    """The colour of six hex digits, in 0..1."""
    return np.array([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32)


def ramp(t: Array, codes: str) -> Array:
    """Colours (..., 3) at t in 0..1 along a row of colours."""
    colors = np.stack([rgb_of(code) for code in codes.split()])
    stops, fine = np.linspace(0, 1, len(colors)), np.linspace(0, 1, 1024)
    channels = [np.interp(fine, stops, channel) for channel in colors.T]
    table: Array = np.stack(channels, -1).astype(np.float32)
    return table[(np.clip(t, 0, 1) * 1023).astype(np.int32)]


def eased(value: Array, low: float, high: float) -> Array:
    """A smooth step: 0 below low, 1 above high; low > high reverses it."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def blend(below: Array, above: Array, amount: Array) -> Array:
    """``above`` blended over ``below`` by an amount per pixel."""
    mixed: Array = below + (above - below) * amount[..., None]
    return mixed


def lit_by(height: Array, strength: float) -> Array:
    """Brightness of a relief lit from the upper left; 1 for level areas."""
    scale = strength * len(height)
    down, across = np.gradient(height)
    lit: Array = np.clip(1 - scale * (down + across), 0.45, 1.6).astype(np.float32)
    return lit


@dataclass
class _Marks:
    """The pixels under brush strokes, with the topmost stroke and the position in it."""

    where: Array  # flat indices of pixels
    stroke: Array
    along: Array  # 0..1 from a stroke's start to its end
    across: Array  # -1..1 from side to side


def brushed(sheet: Sheet, paths: Array, half: Array, pointed: bool = False) -> _Marks:
    """Strokes over one another along paths (N, K, 2), each of half-width ``half`` (N).

    A dense grid of samples of every stroke is written to a map of sample indices, later strokes
    over earlier ones (numpy guarantees that the last value at a repeated index stays). So colour is
    computed once per pixel, not per sample.
    """
    n, knots = paths.shape[:2]
    steps = np.linalg.norm(np.diff(paths, axis=1), axis=2).sum(1)
    n_along = max(4, int(np.ceil(float(steps.max()) * sheet.h / 0.7)))
    n_across = max(3, int(np.ceil(float(half.max()) * 2 * sheet.h / 0.7)))
    t = np.linspace(0, 1, n_along, dtype=np.float32)
    lower = np.minimum((t * (knots - 1)).astype(int), knots - 2)
    part = (t * (knots - 1) - lower)[None, :, None].astype(np.float32)
    tangent = np.gradient(paths, axis=1)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-9
    across = np.linspace(-1, 1, n_across, dtype=np.float32)
    power = 1.2 if pointed else 3.0
    profile = np.clip(1 - np.abs(2 * t - 1) ** power, 0, 1) ** (0.9 if pointed else 0.5)
    top = np.full((sheet.h + 2, sheet.w + 2), -1, np.int32)  # the frame collects samples outside
    flat_top = top.reshape(-1)
    batch = max(1, 1_500_000 // (n_along * n_across))
    for start in range(0, n, batch):
        p, d = paths[start : start + batch], tangent[start : start + batch]
        mid = (p[:, lower] * (1 - part) + p[:, lower + 1] * part) * sheet.h
        side = d[:, lower] * (1 - part) + d[:, lower + 1] * part
        side *= (half[start : start + batch, None] * profile * sheet.h)[..., None]
        x = np.clip(mid[..., 0, None] - side[..., 1, None] * across + 1, 0, sheet.w + 1)
        y = np.clip(mid[..., 1, None] + side[..., 0, None] * across + 1, 0, sheet.h + 1)
        flat = y.astype(np.int32) * (sheet.w + 2) + x.astype(np.int32)
        first = start * n_along * n_across
        flat_top[flat.ravel()] = np.arange(first, first + flat.size, dtype=np.int32)
    inner = top[1:-1, 1:-1].ravel()
    where = np.flatnonzero(inner >= 0)
    stroke, sample = np.divmod(inner[where], n_along * n_across)
    return _Marks(where, stroke, t[sample // n_across], across[sample % n_across])


def bristles(sheet: Sheet, marks: _Marks, count: int, hairs: float, runs: float = 3) -> Array:
    """Streaks along each stroke, as from the hairs of a brush: about 0..1 per marked pixel."""
    grid = Image.fromarray(sheet.uniform(0, 1, (256, 64)))
    texture: Array = np.asarray(grid.resize((512, 512), Image.Resampling.BICUBIC))
    row, column = sheet.uniform(0, 512, (2, count))
    r = (row[marks.stroke] + marks.across * hairs).astype(np.int32) % 512
    c = (column[marks.stroke] + marks.along * runs * 8).astype(np.int32) % 512
    streaks: Array = texture[r, c]
    return streaks


def trace(sheet: Sheet, points: Array, flow: tuple[Array, Array], length: Array) -> Array:
    """Paths (N, 13, 2) that follow a unit flow through points for the given lengths."""
    halves = []
    for sign in (-1, 1):
        p, path = points, []
        for _ in range(6):
            ahead = p  # midpoint steps: Euler steps would leave the vortices
            for part in (0.5, 1):
                d = np.stack([sheet.at(flow[0], ahead), sheet.at(flow[1], ahead)], -1)
                ahead = p + sign * d * (part * length / 12)[:, None]
            p = ahead
            path.append(p)
        halves.append(path)
    return np.stack([*halves[0][::-1], points, *halves[1]], 1)
