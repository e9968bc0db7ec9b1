"""Sample paintings drawn by code, to try style transfer with where no picture is at hand.

Every picture is made from random fields and brush marks alone (numpy, and Pillow to resize), so
it is original work of this project. Lengths are in units of the picture's height and all random
numbers are drawn in amounts that do not depend on the size: a seed gives the same picture at any
size.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PHOTOGRAPHS", "STYLES", "draw", "photograph", "write_photographs", "write_samples"]

Array = NDArray[Any]  # float32 fields; counts and indices are integers
_Bound = float | tuple[float, ...]
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
ASPECT = 4 / 3
SMALLEST, LARGEST = 64, 4096
FULL_DETAIL = 1280  # pictures are drawn at twice their size up to this height, for smooth edges

STYLES: dict[str, str] = {
    "swirls": "thick oil strokes turning in blue and gold whorls",
    "stained_glass": "jewel-coloured glass in lead lines around a sun",
    "ink_wash": "mountains in mist, brush and ink on rice paper",
    "pointillism": "a bay at evening in dots of pure colour",
    "woodcut": "hills and sun in engraved black line with indigo and rust",
}


# ---------------------------------------------------------------- the sheet and random fields


class _Sheet:
    """A picture under work: its random numbers, and its pixels' coordinates (y from 0 to 1)."""

    def __init__(self, height: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.h, self.w = height, round(height * ASPECT)
        self.x = ((np.arange(self.w, dtype=np.float32) + 0.5) / height)[None, :]
        self.y = ((np.arange(self.h, dtype=np.float32) + 0.5) / height)[:, None]

    def noise(
        self, cells: float, octaves: int = 4, stretch: float = 1.0, gain: float = 0.5
    ) -> Array:
        """Smooth noise of deviation near 1: random grids, each twice as fine, made large and added.

        ``cells`` counts the coarsest grid's cells down the height; ``stretch`` > 1 makes the
        features that much longer across than they are high.
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
        """Noise along x alone, as a row."""
        total = np.zeros((1, self.w), np.float32)
        for octave in range(octaves):
            grid = self.normal(1, round(cells * 2**octave * ASPECT))
            row = Image.fromarray(grid).resize((self.w, 1), Image.Resampling.BICUBIC)
            total += gain**octave * np.asarray(row)
        return total

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape, dtype=np.float32)

    def enlarge(self, grid: Array) -> Array:
        return np.asarray(
            Image.fromarray(grid).resize((self.w, self.h), Image.Resampling.BICUBIC), np.float32
        )

    def at(self, field: Array, points: Array) -> Array:
        """The field's values at points (..., 2) of (x, y); those outside take the border's."""
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

    def uniform(self, low: _Bound, high: _Bound, shape: int | tuple[int, ...]) -> Array:
        return np.asarray(self.rng.uniform(low, high, shape), np.float32)


def _rgb(code: str) -> Array:
    return np.array([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32)


def _ramp(t: Array, codes: str) -> Array:
    """Colours (..., 3) at t in 0..1 along a row of colours."""
    colours = np.stack([_rgb(code) for code in codes.split()])
    stops, fine = np.linspace(0, 1, len(colours)), np.linspace(0, 1, 1024)
    channels = [np.interp(fine, stops, channel) for channel in colours.T]
    table: Array = np.stack(channels, -1).astype(np.float32)
    return table[(np.clip(t, 0, 1) * 1023).astype(np.int32)]


def _step(value: Array, low: float, high: float) -> Array:
    """0 below low, 1 above high (low > high turns it round), smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _mix(below: Array, above: Array, amount: Array) -> Array:
    mixed: Array = below + (above - below) * amount[..., None]
    return mixed


def _light(height: Array, strength: float) -> Array:
    """Brightness of a relief lit from the upper left; 1 where it is level."""
    scale = strength * len(height)
    down, across = np.gradient(height)
    lit: Array = np.clip(1 - scale * (down + across), 0.45, 1.6).astype(np.float32)
    return lit


# ---------------------------------------------------------------- brush marks


@dataclass
class _Marks:
    """The pixels that brush strokes reach, and what part of which stroke lies on top at each."""

    where: Array  # flat pixel numbers
    stroke: Array
    along: Array  # 0..1 from a stroke's start to its end
    across: Array  # -1..1 from side to side


def _marks(sheet: _Sheet, paths: Array, half: Array, pointed: bool = False) -> _Marks:
    """Lay strokes over one another along paths (N, K, 2), each of half-width ``half`` (N).

    A dense grid of samples of every stroke is written to a map of sample numbers, later strokes
    over earlier ones (numpy promises that the last value at a repeated index stays); colour is
    then worked out once for each pixel, not for each sample.
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
    top = np.full((sheet.h + 2, sheet.w + 2), -1, np.int32)  # its frame takes what falls outside
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


def _bristles(sheet: _Sheet, marks: _Marks, count: int, hairs: float, runs: float = 3) -> Array:
    """Streaks along each stroke, as of a brush's hairs: values near 0..1 for each marked pixel."""
    grid = Image.fromarray(sheet.uniform(0, 1, (256, 64)))
    bank: Array = np.asarray(grid.resize((512, 512), Image.Resampling.BICUBIC))
    row, column = sheet.uniform(0, 512, (2, count))
    r = (row[marks.stroke] + marks.across * hairs).astype(np.int32) % 512
    c = (column[marks.stroke] + marks.along * runs * 8).astype(np.int32) % 512
    streaks: Array = bank[r, c]
    return streaks


def _trace(sheet: _Sheet, points: Array, flow: tuple[Array, Array], length: Array) -> Array:
    """Paths (N, 13, 2) that follow a unit flow through points for the given lengths."""
    halves = []
    for sign in (-1, 1):
        p, path = points, []
        for _ in range(6):
            ahead = p  # midpoint steps: plain ones would be flung out of the vortices
            for part in (0.5, 1):
                d = np.stack([sheet.at(flow[0], ahead), sheet.at(flow[1], ahead)], -1)
                ahead = p + sign * d * (part * length / 12)[:, None]
            p = ahead
            path.append(p)
        halves.append(path)
    return np.stack([*halves[0][::-1], points, *halves[1]], 1)


# ---------------------------------------------------------------- swirls


def _swirls(sheet: _Sheet) -> Array:
    """Oil strokes, coarse to fine, on the flow of a stream function: vortices and noise."""
    psi = 0.05 * sheet.noise(2.2, 2) + 0.35 * sheet.y - 0.1 * sheet.x
    glow = np.zeros_like(psi)
    rings = np.zeros_like(psi)
    centres: list[Array] = []
    for i in range(9):
        options = sheet.uniform((0.08, 0.08), (ASPECT - 0.08, 0.92), (12, 2))
        gaps = [min([float(np.linalg.norm(o - c)) for c in centres] or [1]) for o in options]
        centre = options[int(np.argmax(gaps))]
        centres.append(centre)
        radius = (0.25, 0.19, 0.17, 0.14, 0.12, 0.11, 0.09, 0.08, 0.07)[i]
        r = np.hypot(sheet.x - centre[0], sheet.y - centre[1]) / np.float32(radius)
        psi += (1 if i % 2 else -1) * radius * 0.95 * np.exp(-(r**2))
        rings += np.exp(-(r**2)) * np.cos(r * 9)
        if i % 3 != 2:
            glow = np.maximum(glow, np.exp(-((r / 0.62) ** 2)))
    dy, dx = np.gradient(psi)
    speed = np.hypot(dx, dy) + 1e-9
    flow = (dy / speed, -dx / speed)
    tone = 0.5 + 0.33 * np.sin(psi * 42 + sheet.noise(3, 3)) + 0.13 * sheet.noise(4, 3)
    warm = glow + 0.22 * rings + 0.08 * sheet.noise(7, 2)
    thread = _step(np.sin(psi * 17 + 1.5) + 0.35 * sheet.noise(5, 2), 0.95, 1.25)

    under = _ramp(np.clip(tone, 0, 0.8), "10143f 1a2a78 1f4aa8 2f7cc4 6fb3d2 d9e6e0")
    paint = _mix(under, _rgb("b9812c"), _step(warm, 0.2, 0.5)).reshape(-1, 3)
    height = np.zeros(sheet.h * sheet.w, np.float32)
    layers = ((0.020, 0.18, 900), (0.013, 0.14, 1300), (0.0085, 0.11, 1500), (0.0048, 0.06, 1100))
    for half, length, count in layers:
        points = sheet.scatter(count)
        paths = _trace(sheet, points, flow, length * sheet.uniform(0.6, 1.15, count))
        marks = _marks(sheet, paths, half * sheet.uniform(0.6, 1.0, count))
        t = np.clip(sheet.at(tone, points) + 0.13 * sheet.normal(count), 0, 1)
        colour = _ramp(t, "10143f 1a2a78 1f4aa8 2f7cc4 6fb3d2 d9e6e0")
        heat = sheet.at(warm, points) + 0.10 * sheet.normal(count)
        gold = _ramp(np.clip(heat, 0, 1), "3c6f86 8f8a4a c4882a e9b41f f7d54a fdf3c4")
        colour = _mix(colour, gold, _step(heat, 0.22, 0.42))
        ochre = _ramp(sheet.uniform(0, 1, count), "a8702c d9a03a e6c98a")
        colour = _mix(colour, ochre, sheet.at(thread, points) * (sheet.uniform(0, 1, count) < 0.6))
        colour += 0.035 * sheet.normal(count, 3)
        hair = _bristles(sheet, marks, count, half * 900)
        shade = (hair - 0.5) * 0.28
        paint[marks.where] = colour[marks.stroke] * (1 + shade[:, None]) + 0.10 * shade[:, None]
        rim = np.abs(marks.across) ** 3  # the brush pushes paint to its sides, and leaves a crest
        crest = _step(marks.along, 0.75, 0.97)
        body = (1 - rim**3) * (0.45 + 0.55 * hair + 0.3 * rim + 0.3 * crest)
        height[marks.where] = 0.35 * height[marks.where] + half**0.6 * body
    lit = _light(height.reshape(sheet.h, sheet.w), 0.010)[..., None]
    return paint.reshape(sheet.h, sheet.w, 3) * lit + 0.12 * np.clip(lit - 1.05, 0, 1)


# ---------------------------------------------------------------- stained glass


def _cells(sheet: _Sheet, count: int) -> tuple[Array, Array, Array]:
    """Voronoi cells of relaxed seeds: each pixel's cell, its distance to the cell's side, seeds."""
    seeds, cloud = sheet.scatter(count), sheet.scatter(6000)
    for _ in range(2):  # Lloyd's relaxation on a cloud of points: cells of more even size
        nearest = np.argmin(((cloud[:, None] - seeds) ** 2).sum(2), 1)
        for i in range(count):
            seeds[i] = cloud[nearest == i].mean(0) if (nearest == i).any() else seeds[i]
    first = np.full((sheet.h, sheet.w), 9, np.float32)
    second, cell, other = first.copy(), np.zeros(first.shape, int), np.zeros(first.shape, int)
    reach = 2.6 * np.sqrt(ASPECT / count)  # far enough to be among any pixel's two nearest
    for i, (sx, sy) in enumerate(seeds):
        box = sheet.box(sx, sy, reach)
        d = (sheet.x[:, box[1]] - sx) ** 2 + (sheet.y[box[0]] - sy) ** 2
        f, s, c, o = first[box], second[box], cell[box], other[box]
        nearer, between = d < f, (d >= f) & (d < s)
        s[nearer], o[nearer] = f[nearer], c[nearer]
        s[between], o[between] = d[between], i
        f[nearer], c[nearer] = d[nearer], i
    apart = np.linalg.norm(seeds[cell] - seeds[other], axis=2) + 1e-6
    return cell, ((second - first) / (2 * apart)).astype(np.float32), seeds


def _stained_glass(sheet: _Sheet) -> Array:
    """Voronoi panes cut by rings, curved rays and hills; mottled, painted glass in lit lead."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    cell, side, seeds = _cells(sheet, 210)
    sx, sy = sheet.uniform((0.72, 0.34), (0.9, 0.44), 2)
    r = np.hypot(x - sx, y - sy)
    spin = 0.9 * np.sqrt(r)  # the rays curl as they go out
    turn = (np.arctan2(y - sy, x - sx) + spin + np.pi) / (2 * np.pi)

    def rays(number: int, shift: float) -> tuple[Array, Array]:
        t = turn * number + shift
        away = np.abs(t - np.round(t)) * 2 * np.pi / number * r
        slope = 0.45 * np.sqrt(r)
        return np.floor(t).astype(int) % number, away / np.sqrt(1 + slope**2)

    # zones from the sun outwards, then hills over them; each with its rays, palette and leads
    bounds = (0.075, 0.165, 0.275)
    zone = np.digitize(r, bounds)
    lead = np.minimum.reduce([np.abs(r - b) / 0.0062 for b in bounds])
    part = np.zeros_like(cell)
    for k, (number, width) in enumerate(((1, 1), (12, 0.0045), (18, 0.0045), (11, 0.0075))):
        index, away = rays(number, 0.5 * k)
        inside = zone == k
        part[inside] = index[inside]
        if k:
            lead[inside] = np.minimum(lead, away / width)[inside]
    plain = (zone > 0) & (zone < 3)  # the sun's petals are whole panes
    hills = ((0.70, 0.055, 5.2), (0.80, 0.06, 4.1), (0.91, 0.04, 6.0))
    for k, (base, rise, long) in enumerate(hills):
        phase = long * x + float(rng.uniform(0, 6))
        away = (y - base - rise * np.sin(phase)) / np.sqrt(1 + (rise * long * np.cos(phase)) ** 2)
        hill = away > 0
        lead = np.where(hill, np.abs(away) / 0.0075, np.minimum(lead, np.abs(away) / 0.0075))
        zone[hill], part[hill], plain[hill] = 4 + k, 0, False
    panes = side / (0.0030 + 0.0012 * np.sin(7.0 * seeds[cell, 0] + 9 * seeds[cell, 1]))
    lead = np.where(plain | (zone == 0), lead, np.minimum(lead, panes))

    palettes = [
        "fff2b0 ffd23f ffe27a", "f4a31a e8541c f7c02b", "b3122e d62a3c 8f0f3a e2552b",
        "123c9c 1b5fc4 0f2a78 2e8fd0 3a2a90 5b2f9e 58b6d8 143f8f", "0f6f5c 1f9a6a 2fae8e 0b5060",
        "2f8f2f 7fb52a 166b3a c7c63a", "5a1f7a 8a1f6a 2a2a8a b0305a 3f1a5f",
    ]  # fmt: skip
    key = np.where(plain | (zone == 0), 0, cell) * 7919 + part * 104729 + zone * 1299709
    dice = sheet.uniform(0, 1, (4096, 5))[key % 4096]
    colour = np.empty((*key.shape, 3), np.float32)
    for k, codes in enumerate(palettes):
        inside = zone == k
        colour[inside] = _ramp(dice[inside, 0], codes)
    # the glass: brighter to one side, streaked one of two ways, seedy, with dark paint at its edges
    centre = seeds[cell]
    lean = (x - centre[..., 0]) * (dice[..., 1] - 0.5) + (y - centre[..., 1]) * (dice[..., 2] - 0.5)
    streak = np.where(dice[..., 3] < 0.5, sheet.noise(5, 5, 5), sheet.noise(26, 4, 0.2))
    swirl = np.sin(5 * sheet.noise(5, 4) + 2 * streak)
    grain = sheet.noise(170, 2)
    lean[plain | (zone == 0)] = 0
    value = 1.06 + 0.30 * (dice[..., 4] - 0.5) + 6 * lean + 0.10 * streak + 0.13 * swirl
    value += 0.04 * grain + 0.25 * np.exp(-r / 0.3)
    edge = np.exp(-np.maximum(lead - 1, 0) / 1.6)
    across = 900 * (x * (dice[..., 1] - 0.5) + y * (dice[..., 2] - 0.5))
    hatch = _step(np.sin(across + 3 * swirl), 0.2, 0.9)
    painted = np.clip(edge * 1.5 + 0.5 * sheet.noise(14, 3) * edge, 0, 1)
    value *= 1 - 0.48 * painted * (0.75 + 0.25 * hatch) - 0.10 * hatch * (dice[..., 3] < 0.35)
    glass = colour * np.clip(value, 0.12, 1.4)[..., None]
    glass += 0.42 * np.clip(value - 0.95, 0, 1)[..., None]
    glass = np.where(_step(sheet.noise(110, 1), 2.1, 2.5)[..., None] > 0.5, glass * 1.25, glass)
    wobble = 1 + 0.14 * sheet.noise(30, 2)
    came = _step(lead / wobble, 1.12, 0.92)
    ridge = np.sqrt(np.clip(1 - (lead / wobble) ** 2, 0, 1)) * 0.006
    metal = 0.13 * _light(ridge + 0.0002 * grain, 0.5) ** 1.8 + 0.012 * grain
    return _mix(glass, _rgb("d8dce6") * metal[..., None], came)


# ---------------------------------------------------------------- ink wash


def _ink_wash(sheet: _Sheet) -> Array:
    """Washes of ink, far to near, on fibrous paper, with dry strokes, moss dots and splashes."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    fibre = sheet.noise(60, 3, 6) + sheet.noise(120, 3, 0.3)
    grain = sheet.noise(220, 2)
    bloom = sheet.noise(3, 5)
    pool = sheet.noise(9, 5)
    ink = 0.05 + 0.05 * _step(bloom, -0.3, 1.2) + 0.10 * np.exp(-np.abs(bloom - 0.45) / 0.05)
    ink *= 0.5 + 0.5 * _step(sheet.noise(2, 2), -0.6, 0.8)

    def brush(paths: Array, half: Array, dark: Array, dry: float, pointed: bool = True) -> None:
        marks = _marks(sheet, paths.astype(np.float32), half, pointed)
        hair = _bristles(sheet, marks, len(half), 4 + 900 * float(half.mean()))
        # a drying brush leaves the paper's hollows white, more so towards the stroke's end
        left = dry * (0.3 + marks.along) * 1.3 - 0.1
        cover = _step(hair - 0.10 * grain.ravel()[marks.where] - left, -0.12, 0.12)
        amount = dark[marks.stroke] * cover * (0.85 + 0.15 * hair)
        flat = ink.reshape(-1)
        flat[marks.where] = np.maximum(flat[marks.where], amount) + 0.25 * amount

    sky = np.ones_like(ink)
    for k in range(6):
        near = k / 5
        base, rise = 0.36 + 0.55 * near, 0.27 - 0.10 * near
        ridge = base + 0.05 * sheet.curve(2, 2) * (1 - near) + 0.018 * sheet.curve(14, 4, 0.55)
        for _ in range(4 - k // 2):
            top, width = rng.uniform(-0.05, ASPECT + 0.05), rng.uniform(0.05, 0.16)
            reach = np.abs(x - top) / np.float32(width)
            ridge = ridge - np.float32(rng.uniform(0.3, 1) * rise) * np.exp(-(reach**1.3))
        depth = y - ridge + 0.002 * pool
        wet = _step(sheet.noise(2.5, 2, 2), -0.7, 0.7)  # here the edge runs, there it is crisp
        inside = _step(depth, 0, 0.0025) * (1 - wet) + _step(depth, -0.022, 0.02) * wet
        sky *= 1 - inside
        strength = 0.20 + 1.05 * near**1.4
        mist = 0.25 + 0.75 * _step(sheet.noise(2.5, 3, 3), -0.9, 0.6)
        fall = np.exp(-np.clip(depth, 0, None) / (0.11 - 0.02 * near)) * mist
        rim = 0.45 * np.exp(-np.abs(depth - 0.003) / 0.004) * (1 - wet)
        lobes = 0.35 * np.exp(-np.abs(pool - 0.4) / 0.12) + 0.25 * pool
        wash = strength * inside * (fall * (0.75 + lobes) + rim * mist)
        ink = ink * (1 - 0.35 * inside * (1 - fall)) + np.clip(wash, 0, None) * (1 + 0.07 * grain)
        if k < 2:
            continue
        t = np.linspace(0, 1, 7, dtype=np.float32)
        count = 420 + 90 * k  # hemp-fibre strokes, fanning down from the peaks, in the shadows
        px = sheet.uniform(0, ASPECT, count)
        crest, left, right = (np.interp(px + d, x[0], ridge[0]) for d in (0, -0.03, 0.03))
        points = np.stack([px, crest + 0.004 + sheet.rng.exponential(0.05, count)], 1)
        way = 0.75 * np.tanh((right - left) / 0.06) + 0.14 * sheet.normal(count)
        waver = 0.05 * np.sin(6 * t + 6 * sheet.uniform(0, 1, (count, 1)))
        sag = t**1.4 * way[:, None] + waver
        length = sheet.uniform(0.02, 0.10, (count, 1))
        paths = points[:, None] + length[..., None] * np.stack([sag, t + 0 * sag], -1)
        shadow = _step(sheet.at(pool, points), -1.2, 0.8) * sheet.at(mist, points)
        dark = (0.3 + 0.8 * near) * sheet.uniform(0.4, 1, count) * shadow
        brush(paths, sheet.uniform(0.0008, 0.0036, count), dark, 0.25)
        groups = sheet.uniform(0, ASPECT, (count // 26, 1))  # moss dots in rows along the ridge
        px = (groups + 0.02 * sheet.normal(count // 26, 9)).ravel()
        crest = np.interp(px, x[0], ridge[0]) + 0.010 * sheet.normal(px.size)
        tick = sheet.uniform((0.004, -0.003), (0.009, 0.001), (px.size, 2))[:, None]
        paths = np.stack([px, crest], 1)[:, None] + tick * t[:, None]
        dark = (0.35 + 1.3 * near) * sheet.uniform(0.4, 1, px.size)
        dark *= sheet.at(mist, paths[:, 0])
        brush(paths, (0.0012 + 0.004 * near) * sheet.uniform(0.3, 1.3, px.size), dark, 0, False)

    t = np.linspace(0, 1, 13, dtype=np.float32)
    n = 6  # broad "flying white" strokes for the near bank
    start = sheet.uniform((-0.25, 0.93), (-0.05, 1.01), (n, 2))
    start[:, 0] += 0.2 * np.arange(n)
    bend = sheet.uniform(-0.05, 0.05, (n, 1)) * np.sin(np.pi * t)
    bend = bend - sheet.uniform(0, 0.05, (n, 1)) * t
    sweep = np.stack([sheet.uniform(0.3, 0.75, (n, 1)) * t, bend], -1)
    brush(start[:, None] + sweep, sheet.uniform(0.014, 0.04, n), sheet.uniform(0.8, 1.8, n), 0.5)
    # a spray of bamboo hangs from the corner away from the sun: stems, then leaves in fans
    sun_x, sun_y = sheet.uniform((0.45, 0.13), (0.9, 0.2), 2)
    corner = 0.0 if sun_x > ASPECT / 2 else ASPECT
    inward = 1 if corner == 0 else -1
    stems = np.stack([corner + inward * t * 0.42, 0.02 + 0.10 * t + 0.16 * t**2.2], -1)
    shift = np.array([[(0, 0)], [(-0.16 * inward, 0.03)], [(-0.2 * inward, 0.06)]])
    stems = stems * [[(1, 1)], [(1, 0.4)], [(1, 1.25)]] + shift
    brush(stems, np.array([0.0030, 0.0024, 0.0034], np.float32), np.full(3, 1.3, np.float32), 0.2)
    node = sheet.rng.integers(2, 13, 22)
    root = np.repeat(stems[sheet.rng.integers(0, 3, 22), node], 4, 0)
    angle = np.pi / 2 - inward * (0.35 + 0.5 * sheet.normal(88))
    line = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None] * t[:, None]
    droop = np.stack([0 * t, 0.25 * t**2], -1)
    leaves = root[:, None] + sheet.uniform(0.04, 0.12, (88, 1, 1)) * (line + droop)
    brush(leaves, sheet.uniform(0.004, 0.0085, 88), sheet.uniform(0.5, 2.2, 88), 0.08)

    count = 90  # splashes: many small drops, few large, in two flights
    flight = sheet.uniform((0.1, 0.4), (ASPECT - 0.1, 0.9), (2, 2))[rng.integers(0, 2, count)]
    size = 0.0012 * (1 - sheet.uniform(0, 0.985, count)) ** -0.62
    spots = zip(flight + sheet.normal(count, 2) * (0.16, 0.10), size, strict=True)
    for (px, py), radius in spots:
        box = sheet.box(px, py, 2.5 * radius)
        away = np.hypot(x[:, box[1]] - px, y[box[0]] - py) / radius
        spot = away - 0.22 * pool[box] - 0.1 * grain[box]
        ink[box] += _step(spot, 1.12, 0.95) * (0.55 + 0.6 * _step(spot, 0.5, 1.0))
    ink = np.clip(ink, 0, None) * (1 + 0.10 * fibre * np.exp(-ink)) + 0.012 * grain
    paper = _rgb("efe6d2") * (1 + 0.022 * fibre + 0.018 * grain + 0.02 * bloom)[..., None]
    sun = np.hypot(x - sun_x, y - sun_y) + 0.0015 * pool
    red = 0.62 + 0.16 * pool + 0.3 * np.exp(-np.abs(0.064 - sun) / 0.006)
    red *= _step(sun, 0.066, 0.062)
    u, v = (x - 1.235) / 0.034, (y - 0.90) / 0.034
    glyph = np.abs(np.sin(5.5 * u + 1.6 * np.sign(v - 0.1))) * np.abs(np.sin(6.5 * v + np.sign(u)))
    square = np.maximum(np.abs(u), np.abs(v)) + 0.03 * pool
    seal = _step(square, 1.0, 0.94) * np.maximum(_step(glyph, 0.2, 0.3), _step(square, 0.78, 0.84))
    seal *= _step(grain + 0.5 * pool, -1.9, -1.3)
    tone = np.exp(-ink[..., None] * np.array([1.55, 1.5, 1.42], np.float32))
    tinted = _mix(paper, _rgb("c8321e"), np.clip(red, 0, 0.92) * (0.12 + 0.88 * sky)) * tone
    return _mix(tinted, _rgb("b8261c"), 0.92 * seal)


# ---------------------------------------------------------------- pointillism


def _pointillism(sheet: _Sheet) -> Array:
    """Dabs of divided colour, large to small: each near the scene's hue, or its complement."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    shape = (sheet.h, sheet.w)
    sx = float(rng.uniform(0.75, 1.0))
    codes = "2747b0 3f78d0 7fb4e4 b8b4e0 f6b8a0 fbb040 f4803a"
    sky = _ramp(y / 0.52 + 0.06 * sheet.noise(3, 3, 3), codes)
    halo = np.hypot(x - sx, y - 0.35)
    cloud = _step(sheet.noise(8, 3, 4), 0.1, 1.3) * _step(y + 0 * x, 0.42, 0.2)
    scene = _mix(sky, _rgb("f58fa6"), 0.75 * cloud)
    scene += (1 - scene) * _rgb("ffd060") * 0.9 * np.exp(-((halo / 0.14) ** 2))[..., None]
    scene = _mix(scene, _rgb("fff6b0"), _step(halo, 0.066, 0.06))
    lean = np.zeros(shape, np.float32)  # the way the dabs point
    for base, rise, codes in ((0.47, 0.07, "6f6fc0 9a86c8"), (0.515, 0.055, "3f5fa0 4f8f90")):
        top = base - rise * np.clip(0.55 + 0.5 * sheet.curve(3, 4), 0, 2)
        inside = _step(y - top, 0, 0.004)
        scene = _mix(scene, _ramp((y - top) / 0.1 + 0.1 * sheet.noise(8, 2), codes), inside)
    water = y > 0.525
    codes = "e89a78 a898c8 4f90cc 2466b4 1d4694"
    sea = _ramp((y - 0.525) / 0.3 + 0.05 * sheet.noise(6, 3, 6), codes)
    glint = sheet.noise(48, 2, 6)
    path = 1.9 - 1.9 * np.abs(x - sx) / (0.05 + 0.22 * np.clip(y - 0.5, 0, 1))
    sea = _mix(sea, _rgb("ffcf4a"), _step(path + glint, 0.7, 1.0))
    sea = _mix(sea, _rgb("45b8bc"), 0.7 * _step(-glint - 0.3 * path, 1.3, 1.6))
    scene = np.where(water[..., None], sea, scene)
    bank = 0.30 * np.exp(-((x / 0.62) ** 2)) + 0.06 * np.exp(-(((x - 1.4) / 0.3) ** 2))
    shore = y - 0.99 + bank + 0.012 * sheet.curve(8, 3)
    grass = _ramp(0.5 + shore * 1.6 + 0.28 * sheet.noise(5, 3, 2), "1f5f5a 2f8a4a 8fb43a e6c83f")
    scene = _mix(scene, grass, _step(shore, 0, 0.004))
    lean += np.where(shore > 0, 1.2 + 0.3 * sheet.noise(4, 2), 0) + 0.25 * sheet.noise(4, 2)
    for k in range(4):  # trees on the bank
        tx = 0.08 + 0.125 * k + rng.uniform(-0.03, 0.03)
        tall = rng.uniform(0.42, 0.68) - 0.06 * k
        foot = 0.80 + 0.04 * k
        v = (foot - y) / tall
        wide = 0.055 * np.sqrt(np.clip(v * (1 - v) * 4, 0, 1)) * (1.25 - 0.6 * v)
        leaf = wide * (1 + 0.16 * sheet.noise(14, 2)) - np.abs(x - tx - 0.01 * np.sin(6 * v))
        shade = 0.5 + (x - tx) * 8 + 0.15 * sheet.noise(14, 2)
        tree = _ramp(np.clip(shade, 0, 1), "1a2466 1f3f6a 1f6a50 3f8f3a a8b83a")
        inside = _step(leaf, 0, 0.004)
        scene = _mix(scene, tree, inside)
        lean = lean + inside * (1.4 - lean)

    canvas = _rgb("eadfc4") * (1 + 0.03 * sheet.noise(200, 2))[..., None]
    paint = _mix(canvas, scene, np.full(shape, 0.75, np.float32)).reshape(-1, 3)
    height = np.zeros(sheet.h * sheet.w, np.float32)
    for half, count in ((0.0095, 4500), (0.0068, 9000), (0.0046, 15000), (0.0030, 14000)):
        points = sheet.scatter(count)
        colour = _divide(sheet, sheet.at(scene, points))
        angle = sheet.at(lean, points) + 0.35 * sheet.normal(count)
        reach = half * sheet.uniform(0.75, 1.35, count)[:, None, None]
        step = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None] * reach
        paths = points[:, None] + step * np.linspace(-1, 1, 3, dtype=np.float32)[:, None]
        marks = _marks(sheet, paths.astype(np.float32), half * sheet.uniform(0.65, 1.0, count))
        hair = _bristles(sheet, marks, count, 6, 1)
        paint[marks.where] = colour[marks.stroke] * (0.92 + 0.16 * hair)[:, None]
        round_off = (1 - marks.across**2) * (1 - (2 * marks.along - 1) ** 2)
        height[marks.where] = half * (np.sqrt(np.clip(round_off, 0, 1)) + 0.25 * hair)
    lit = _light(height.reshape(shape), 0.0009)
    return paint.reshape(*shape, 3) * lit[..., None]


def _divide(sheet: _Sheet, colour: Array) -> Array:
    """Divide colours as the neo-impressionists did: a pure hue to either side, or its opposite."""
    n = len(colour)
    dice = sheet.uniform(0, 1, n)
    grey = colour @ np.array([0.3, 0.59, 0.11], np.float32)
    vivid = (colour - grey[:, None]) * sheet.uniform(1.0, 1.6, n)[:, None]
    # turn the colour about the grey axis: a little, or half round for one dab in eight
    turn = np.where(dice < 0.12, np.pi + 0.3 * sheet.normal(n), 0.36 * sheet.normal(n))
    axis = np.full(3, 3**-0.5, np.float32)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    vivid = vivid * cos + np.cross(axis, vivid) * sin + axis * (vivid @ axis)[:, None] * (1 - cos)
    light = grey + 0.055 * sheet.normal(n) + np.where(dice > 0.94, 0.12, 0)
    divided: Array = np.clip(light[:, None] + vivid, 0.03, 1).astype(np.float32)
    return divided


# ---------------------------------------------------------------- woodcut


def _woodcut(sheet: _Sheet) -> Array:
    """A black key block engraved with tapering lines over flat indigo and rust, on cream paper."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    shape = (sheet.h, sheet.w)
    hand = sheet.noise(5, 3)

    def hatch(phase: Array, tone: Array, per_unit: float, box: tuple[slice, ...] = ()) -> Array:
        """Lines at whole phases, as broad as the tone asks (0..1); each begins and ends apart."""
        phase = phase + 0.10 * hand[box]
        line = np.round(phase)
        ragged = np.sin(line * 12.9898) * 0.10 + np.sin(line * 78.233 + 9 * (x + y)[box]) * 0.10
        wide = tone + ragged * (1 - tone) - 0.06
        soft = 3 * per_unit / sheet.h
        cut: Array = np.clip((wide - 2 * np.abs(phase - line)) / soft + 0.5, 0, 1) * (wide > 0.02)
        return cut

    sx, sy = sheet.uniform((0.75, 0.27), (0.98, 0.33), 2)
    r, theta = np.hypot(x - sx, y - sy), np.arctan2(y - sy, x - sx)
    beam = np.cos(theta * 14 + 0.5 * np.sin(9 * r))
    beam = np.tanh(3 * beam + 0.8 * sheet.noise(4, 3)) * (r > 0.185)
    tone = 0.46 + 0.24 * beam + 0.30 * (r - 0.45) - 0.12 * y
    black = hatch(62 * (r + 0.012 * sheet.noise(3, 2)), np.clip(tone, 0.2, 0.9), 62)
    bars = hatch(70 * (y + 0.01 * np.sin(18 * x)), 0.02 + 2.2 * (y - sy), 70)
    black = np.where(r < 0.125, bars, np.where(r < 0.158, 0, black))
    rust = _step(r, 0.127, 0.125)
    indigo = _step(beam + 0.2 * hand, 0.0, 0.15) * (r > 0.17)
    black = np.maximum(black, _step(np.abs(r - 0.127), 0.0034, 0.0022))

    def lay(top: Array, ink: Array, blue: Array | float, red: float) -> None:
        """A hill or range below ``top``, over what is there: its lines, flat inks and outline."""
        nonlocal black, indigo, rust
        inside = _step(y - top, -0.001, 0.001)
        rim = 0.0042 * np.clip(1 + 0.35 * hand, 0.4, 2)
        black = np.maximum(black + (ink - black) * inside, _step(np.abs(y - top) / rim, 1, 0.7))
        indigo = indigo + (blue - indigo) * inside
        rust = rust + (red - rust) * inside

    for k in range(2):  # mountains: lines run down from the ridge, dense on the side off the sun
        ridge: Array = np.full((1, sheet.w), 0.57 + 0.07 * k)
        for i in range(6):
            high, steep = rng.uniform(0.08, 0.22), rng.uniform(0.8, 1.4)
            top = (i + rng.uniform(0.1, 0.9)) / 6 * ASPECT
            peak = 0.57 + 0.09 * k - high * (1 - 0.4 * k)
            ridge = np.minimum(ridge, peak + steep * np.abs(x - top))
        ridge = ridge.astype(np.float32) + 0.006 * sheet.curve(16, 3)
        depth = y - ridge
        # the crest between the faces wanders as it comes down
        bend = x + 0.02 * np.sin(38 * depth + 5 * x) * _step(depth, 0, 0.05) + 0.010 * hand
        steepness = np.broadcast_to(np.gradient(ridge, axis=1) * sheet.h, shape)
        face = sheet.at(steepness, np.stack([bend, y + 0 * bend], -1))
        fold = 0.5 * np.sin(48 * x + 26 * depth * np.sign(face) + 1.5 * hand)
        away = np.sign(face) * np.sign(x - sx)
        tone = 0.50 + 0.30 * away + 0.38 * fold - 0.9 * depth
        lines = hatch(75 * (x - 0.45 * depth * np.sign(face)), np.clip(tone, 0.1, 0.95), 75)
        lay(ridge, lines, _step(away + 0.3 * fold, -0.1, 0), 0)

    for k in range(5):  # fields: furrows by turns along the brow of the hill and to a far point
        near = k / 4
        wave = np.sin((3.2 + k) * x + rng.uniform(0, 6))
        top = 0.63 + 0.22 * near**1.2 + (0.03 + 0.02 * near) * wave
        depth = y - top
        across = float(rng.uniform(0.2, 1.1))
        if k % 2:
            phase = (x - across) / (depth + 0.12) * (5.5 - near) + hand * 0.2
            rate = 45.0
        else:
            phase = np.sqrt(np.clip(depth, 0, None) + 0.01) * (26 + 6 * near)
            rate = 70.0
        shade = 0.45 + 0.25 * np.sin(4 * x + 7 * k) - 1.6 * np.clip(depth, 0, 0.25) + 0.25 * near
        shade = shade + 0.16 * sheet.noise(6, 2)
        lay(top, hatch(phase, np.clip(shade, 0.08, 0.95), rate), k == 2, k in (1, 4))

    for k in range(11):  # trees: black crowns cut with rays, the far ones small and drawn first
        near = k / 10
        tx = (k * 4 % 11 + float(rng.uniform(0, 1))) / 11 * ASPECT  # spread, in no plain order
        ty, tall = 0.66 + 0.27 * near, 0.09 + 0.14 * near
        box = sheet.box(tx, ty - 0.6 * tall, 1.2 * tall)
        ux, uy = (x[:, box[1]] - tx) / tall, (y[box[0]] - ty) / tall + 0.6
        lobes = 0.04 * np.cos(9 * np.arctan2(uy, ux) + k) + 0.06 * hand[box]
        spread = np.hypot(ux * 1.9, uy) * (1 + lobes)
        crown = _step(spread, 0.56, 0.545)
        lit = 0.95 - 0.75 * np.clip(ux * np.sign(sx - tx) * 1.6 - uy * 0.7 + 0.1, 0, 1)
        lit = np.clip(lit + 0.15 * hand[box], 0.2, 0.86)
        rays = hatch(np.arctan2(uy - 0.45, ux) * 11, lit, 26 / tall, box)
        thick = 0.012 / (np.abs(uy - 0.75) + 0.3)
        stem = _step(np.abs(ux) - thick, 0.02, 0) * (uy > 0) * (uy < 0.66)
        black[box] *= _step(spread, 0.585, 0.605)  # a cleared line parts it from what is behind
        black[box] += crown * np.maximum(rays, _step(spread, 0.50, 0.515))
        black[box] = np.maximum(black[box], stem)
        indigo[box] *= 1 - crown
        rust[box] *= 1 - crown

    # printing: wood grain and starved patches in every ink, the flat blocks a hair out of register
    rings = np.sin(60 * (y + 0.05 * sheet.noise(1.5, 2, 4) + 0.004 * sheet.noise(40, 2, 12)) * 3)
    fleck = sheet.noise(190, 2) + 0.8 * sheet.noise(90, 2, 10)
    slip = round(0.003 * sheet.h)
    mottle = 0.015 * sheet.noise(150, 3) + 0.012 * sheet.noise(3, 3)
    cream = _rgb("efe3c6") * (1 + mottle)[..., None]
    cover = 0.84 + 0.09 * rings + 0.07 * sheet.noise(3, 3) - 0.35 * _step(fleck, 1.3, 2.3)
    indigo[:, slip:] = indigo[:, : sheet.w - slip].copy()
    rust[slip:] = rust[: sheet.h - slip].copy()
    for plate, code in ((indigo, "2f4f86"), (rust, "c0562b")):
        cream = _mix(cream, cream * _rgb(code) * 1.05, np.clip(plate * cover, 0, 1))
    cover = 0.97 + 0.03 * rings - 0.5 * _step(fleck + 0.4 * hand, 2.0, 2.9)
    return _mix(cream, _rgb("17140f"), np.clip(black * cover, 0, 1))


# ---------------------------------------------------------------- drawing

_PAINTERS: dict[str, Callable[[_Sheet], Array]] = {
    "swirls": _swirls,
    "stained_glass": _stained_glass,
    "ink_wash": _ink_wash,
    "pointillism": _pointillism,
    "woodcut": _woodcut,
}


def draw(name: str, size: int = 768, seed: int = 0) -> Image.Image:
    """Draw a sample painting: an RGB picture ``size`` high and 4/3 as wide.

    A seed gives the same picture each time, and much the same at every size (64 to 4096).
    At 768 it takes a few seconds and some 500 MB. Raises InputError for a name that is not in
    STYLES, and for a size or seed out of range.
    """
    if name not in STYLES:
        close = difflib.get_close_matches(name, STYLES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the styles are {', '.join(STYLES)}"
        raise InputError(f"no sample painting is called {name!r}; {hint}")
    if not SMALLEST <= size <= LARGEST:
        raise InputError(f"a sample painting's size must be {SMALLEST} to {LARGEST}, not {size}")
    if seed < 0:
        raise InputError(f"a sample painting's seed must be 0 or more, not {seed}")
    sheet = _Sheet(max(size, min(2 * size, FULL_DETAIL)), seed)
    pixels = np.clip(_PAINTERS[name](sheet) * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((round(size * ASPECT), size), Image.Resampling.LANCZOS)


def write_samples(folder: Path, size: int = 768, seed: int = 0) -> list[Path]:
    """Write every style as ``<name>.png`` into a folder, made if need be; return the paths.

    Raises InputError as `draw` does, and where a file cannot be written.
    """
    # here, not above: drawing needs neither torch nor the readers of picture files
    import torch

    from impasto.images.places import check_place

    check_place(folder / f"{max(STYLES, key=len)}.png")  # before minutes of drawing
    paths = []
    for name in STYLES:
        pixels = torch.from_numpy(np.array(draw(name, size, seed)))
        settings = {"sample": name, "size": size, "seed": seed}
        paths.append(_keep(folder / f"{name}.png", pixels.permute(2, 0, 1).float() / 255, settings))
    return paths


def _keep(path: Path, rgb: Any, settings: dict[str, Any]) -> Path:
    """Write a sample; a picture of that name that is not one is somebody's own and stays."""
    from impasto import images

    if path.exists():
        try:
            sample = "sample" in images.read_settings(path)
        except InputError:
            sample = False
        if not sample:
            raise InputError(f"{path}: exists and is no sample; choose another folder")
    return images.write(path, rgb, settings=settings)


def photograph(name: str) -> Tensor:
    """One of scikit-image's free sample photographs (:data:`PHOTOGRAPHS`), ``(3, H, W)`` in 0..1.

    Raises InputError if scikit-image is not installed.
    """
    from impasto import images

    try:
        from skimage import data
    except ImportError:
        raise InputError(
            "the sample photographs need scikit-image: pip install scikit-image"
        ) from None
    return images.read(getattr(data, name)()).rgb


def write_photographs(folder: Path) -> list[Path]:
    """Write all of them as ``<name>.png``; return the paths.

    Raises InputError if scikit-image is not installed, or where a file cannot be written.
    """
    return [
        _keep(folder / f"{name}.png", photograph(name), {"sample": name}) for name in PHOTOGRAPHS
    ]
