"""Paintings in full colour: oil in swirls, stained glass, and dots of pure colour."""

from __future__ import annotations

import numpy as np

from .sheet import (
    ASPECT,
    Array,
    Sheet,
    blend,
    bristles,
    brushed,
    eased,
    lit_by,
    ramp,
    rgb_of,
    trace,
)


def swirls(sheet: Sheet) -> Array:
    """Oil strokes, coarse to fine, along the flow of a stream function of vortices and noise."""
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
    thread = eased(np.sin(psi * 17 + 1.5) + 0.35 * sheet.noise(5, 2), 0.95, 1.25)

    under = ramp(np.clip(tone, 0, 0.8), "10143f 1a2a78 1f4aa8 2f7cc4 6fb3d2 d9e6e0")
    paint = blend(under, rgb_of("b9812c"), eased(warm, 0.2, 0.5)).reshape(-1, 3)
    height = np.zeros(sheet.h * sheet.w, np.float32)
    layers = ((0.020, 0.18, 900), (0.013, 0.14, 1300), (0.0085, 0.11, 1500), (0.0048, 0.06, 1100))
    for half, length, count in layers:
        points = sheet.scatter(count)
        paths = trace(sheet, points, flow, length * sheet.uniform(0.6, 1.15, count))
        marks = brushed(sheet, paths, half * sheet.uniform(0.6, 1.0, count))
        t = np.clip(sheet.at(tone, points) + 0.13 * sheet.normal(count), 0, 1)
        color = ramp(t, "10143f 1a2a78 1f4aa8 2f7cc4 6fb3d2 d9e6e0")
        heat = sheet.at(warm, points) + 0.10 * sheet.normal(count)
        gold = ramp(np.clip(heat, 0, 1), "3c6f86 8f8a4a c4882a e9b41f f7d54a fdf3c4")
        color = blend(color, gold, eased(heat, 0.22, 0.42))
        ochre = ramp(sheet.uniform(0, 1, count), "a8702c d9a03a e6c98a")
        color = blend(color, ochre, sheet.at(thread, points) * (sheet.uniform(0, 1, count) < 0.6))
        color += 0.035 * sheet.normal(count, 3)
        hair = bristles(sheet, marks, count, half * 900)
        shade = (hair - 0.5) * 0.28
        paint[marks.where] = color[marks.stroke] * (1 + shade[:, None]) + 0.10 * shade[:, None]
        rim = np.abs(marks.across) ** 3  # the brush pushes paint to its sides and leaves a crest
        crest = eased(marks.along, 0.75, 0.97)
        body = (1 - rim**3) * (0.45 + 0.55 * hair + 0.3 * rim + 0.3 * crest)
        height[marks.where] = 0.35 * height[marks.where] + half**0.6 * body
    lit = lit_by(height.reshape(sheet.h, sheet.w), 0.010)[..., None]
    return paint.reshape(sheet.h, sheet.w, 3) * lit + 0.12 * np.clip(lit - 1.05, 0, 1)


def _cells(sheet: Sheet, count: int) -> tuple[Array, Array, Array]:
    """Voronoi cells of relaxed seeds: cell and distance to the cell's edge per pixel, and seeds."""
    seeds, cloud = sheet.scatter(count), sheet.scatter(6000)
    for _ in range(2):  # Lloyd's relaxation on a cloud of points, for cells of more even size
        nearest = np.argmin(((cloud[:, None] - seeds) ** 2).sum(2), 1)
        for i in range(count):
            seeds[i] = cloud[nearest == i].mean(0) if (nearest == i).any() else seeds[i]
    first = np.full((sheet.h, sheet.w), 9, np.float32)
    second, cell, other = first.copy(), np.zeros(first.shape, int), np.zeros(first.shape, int)
    reach = 2.6 * np.sqrt(ASPECT / count)  # covers every pixel whose two nearest seeds include one
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


def stained_glass(sheet: Sheet) -> Array:
    """Voronoi panes cut by rings, curved rays and hills: mottled, painted glass in lit lead."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    cell, side, seeds = _cells(sheet, 210)
    sx, sy = sheet.uniform((0.72, 0.34), (0.9, 0.44), 2)
    r = np.hypot(x - sx, y - sy)
    spin = 0.9 * np.sqrt(r)  # curves the rays outwards
    turn = (np.arctan2(y - sy, x - sx) + spin + np.pi) / (2 * np.pi)

    def rays(number: int, shift: float) -> tuple[Array, Array]:
        t = turn * number + shift
        away = np.abs(t - np.round(t)) * 2 * np.pi / number * r
        slope = 0.45 * np.sqrt(r)
        return np.floor(t).astype(int) % number, away / np.sqrt(1 + slope**2)

    # zones from the sun outwards, then hills over them, each with its rays, palette and leads
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
    color = np.empty((*key.shape, 3), np.float32)
    for k, codes in enumerate(palettes):
        inside = zone == k
        color[inside] = ramp(dice[inside, 0], codes)
    # the glass: brighter on one side, streaked in one of two directions, with dark paint at edges
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
    hatch = eased(np.sin(across + 3 * swirl), 0.2, 0.9)
    painted = np.clip(edge * 1.5 + 0.5 * sheet.noise(14, 3) * edge, 0, 1)
    value *= 1 - 0.48 * painted * (0.75 + 0.25 * hatch) - 0.10 * hatch * (dice[..., 3] < 0.35)
    glass = color * np.clip(value, 0.12, 1.4)[..., None]
    glass += 0.42 * np.clip(value - 0.95, 0, 1)[..., None]
    glass = np.where(eased(sheet.noise(110, 1), 2.1, 2.5)[..., None] > 0.5, glass * 1.25, glass)
    wobble = 1 + 0.14 * sheet.noise(30, 2)
    came = eased(lead / wobble, 1.12, 0.92)
    ridge = np.sqrt(np.clip(1 - (lead / wobble) ** 2, 0, 1)) * 0.006
    metal = 0.13 * lit_by(ridge + 0.0002 * grain, 0.5) ** 1.8 + 0.012 * grain
    return blend(glass, rgb_of("d8dce6") * metal[..., None], came)


def pointillism(sheet: Sheet) -> Array:
    """Dabs of divided colour, large to small: each near the scene's hue, or its complement."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    shape = (sheet.h, sheet.w)
    sx = float(rng.uniform(0.75, 1.0))
    codes = "2747b0 3f78d0 7fb4e4 b8b4e0 f6b8a0 fbb040 f4803a"
    sky = ramp(y / 0.52 + 0.06 * sheet.noise(3, 3, 3), codes)
    halo = np.hypot(x - sx, y - 0.35)
    cloud = eased(sheet.noise(8, 3, 4), 0.1, 1.3) * eased(y + 0 * x, 0.42, 0.2)
    scene = blend(sky, rgb_of("f58fa6"), 0.75 * cloud)
    scene += (1 - scene) * rgb_of("ffd060") * 0.9 * np.exp(-((halo / 0.14) ** 2))[..., None]
    scene = blend(scene, rgb_of("fff6b0"), eased(halo, 0.066, 0.06))
    lean = np.zeros(shape, np.float32)  # the direction of the dabs
    for base, rise, codes in ((0.47, 0.07, "6f6fc0 9a86c8"), (0.515, 0.055, "3f5fa0 4f8f90")):
        top = base - rise * np.clip(0.55 + 0.5 * sheet.curve(3, 4), 0, 2)
        inside = eased(y - top, 0, 0.004)
        scene = blend(scene, ramp((y - top) / 0.1 + 0.1 * sheet.noise(8, 2), codes), inside)
    water = y > 0.525
    codes = "e89a78 a898c8 4f90cc 2466b4 1d4694"
    sea = ramp((y - 0.525) / 0.3 + 0.05 * sheet.noise(6, 3, 6), codes)
    glint = sheet.noise(48, 2, 6)
    path = 1.9 - 1.9 * np.abs(x - sx) / (0.05 + 0.22 * np.clip(y - 0.5, 0, 1))
    sea = blend(sea, rgb_of("ffcf4a"), eased(path + glint, 0.7, 1.0))
    sea = blend(sea, rgb_of("45b8bc"), 0.7 * eased(-glint - 0.3 * path, 1.3, 1.6))
    scene = np.where(water[..., None], sea, scene)
    bank = 0.30 * np.exp(-((x / 0.62) ** 2)) + 0.06 * np.exp(-(((x - 1.4) / 0.3) ** 2))
    shore = y - 0.99 + bank + 0.012 * sheet.curve(8, 3)
    grass = ramp(0.5 + shore * 1.6 + 0.28 * sheet.noise(5, 3, 2), "1f5f5a 2f8a4a 8fb43a e6c83f")
    scene = blend(scene, grass, eased(shore, 0, 0.004))
    lean += np.where(shore > 0, 1.2 + 0.3 * sheet.noise(4, 2), 0) + 0.25 * sheet.noise(4, 2)
    for k in range(4):  # trees on the bank
        tx = 0.08 + 0.125 * k + rng.uniform(-0.03, 0.03)
        tall = rng.uniform(0.42, 0.68) - 0.06 * k
        foot = 0.80 + 0.04 * k
        v = (foot - y) / tall
        wide = 0.055 * np.sqrt(np.clip(v * (1 - v) * 4, 0, 1)) * (1.25 - 0.6 * v)
        leaf = wide * (1 + 0.16 * sheet.noise(14, 2)) - np.abs(x - tx - 0.01 * np.sin(6 * v))
        shade = 0.5 + (x - tx) * 8 + 0.15 * sheet.noise(14, 2)
        tree = ramp(np.clip(shade, 0, 1), "1a2466 1f3f6a 1f6a50 3f8f3a a8b83a")
        inside = eased(leaf, 0, 0.004)
        scene = blend(scene, tree, inside)
        lean = lean + inside * (1.4 - lean)

    canvas = rgb_of("eadfc4") * (1 + 0.03 * sheet.noise(200, 2))[..., None]
    paint = blend(canvas, scene, np.full(shape, 0.75, np.float32)).reshape(-1, 3)
    height = np.zeros(sheet.h * sheet.w, np.float32)
    for half, count in ((0.0095, 4500), (0.0068, 9000), (0.0046, 15000), (0.0030, 14000)):
        points = sheet.scatter(count)
        color = _divide(sheet, sheet.at(scene, points))
        angle = sheet.at(lean, points) + 0.35 * sheet.normal(count)
        reach = half * sheet.uniform(0.75, 1.35, count)[:, None, None]
        step = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None] * reach
        paths = points[:, None] + step * np.linspace(-1, 1, 3, dtype=np.float32)[:, None]
        marks = brushed(sheet, paths.astype(np.float32), half * sheet.uniform(0.65, 1.0, count))
        hair = bristles(sheet, marks, count, 6, 1)
        paint[marks.where] = color[marks.stroke] * (0.92 + 0.16 * hair)[:, None]
        round_off = (1 - marks.across**2) * (1 - (2 * marks.along - 1) ** 2)
        height[marks.where] = half * (np.sqrt(np.clip(round_off, 0, 1)) + 0.25 * hair)
    lit = lit_by(height.reshape(shape), 0.0009)
    return paint.reshape(*shape, 3) * lit[..., None]


def _divide(sheet: Sheet, color: Array) -> Array:
    """Divide colours as the neo-impressionists did: into neighbouring or complementary hues."""
    n = len(color)
    dice = sheet.uniform(0, 1, n)
    grey = color @ np.array([0.3, 0.59, 0.11], np.float32)
    vivid = (color - grey[:, None]) * sheet.uniform(1.0, 1.6, n)[:, None]
    # rotate the colour about the grey axis: a little, or by half a turn for one dab in eight
    turn = np.where(dice < 0.12, np.pi + 0.3 * sheet.normal(n), 0.36 * sheet.normal(n))
    axis = np.full(3, 3**-0.5, np.float32)
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    vivid = vivid * cos + np.cross(axis, vivid) * sin + axis * (vivid @ axis)[:, None] * (1 - cos)
    light = grey + 0.055 * sheet.normal(n) + np.where(dice > 0.94, 0.12, 0)
    divided: Array = np.clip(light[:, None] + vivid, 0.03, 1).astype(np.float32)
    return divided
