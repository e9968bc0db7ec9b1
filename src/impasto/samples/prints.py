"""Ink on paper: a wash, and a woodcut."""

from __future__ import annotations

import numpy as np

from .sheet import ASPECT, Array, Sheet, blend, bristles, brushed, eased, rgb_of


def ink_wash(sheet: Sheet) -> Array:
    """Washes of ink, far to near, on fibrous paper, with dry strokes, moss dots and splashes."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    fibre = sheet.noise(60, 3, 6) + sheet.noise(120, 3, 0.3)
    grain = sheet.noise(220, 2)
    bloom = sheet.noise(3, 5)
    pool = sheet.noise(9, 5)
    ink = 0.05 + 0.05 * eased(bloom, -0.3, 1.2) + 0.10 * np.exp(-np.abs(bloom - 0.45) / 0.05)
    ink *= 0.5 + 0.5 * eased(sheet.noise(2, 2), -0.6, 0.8)

    def brush(paths: Array, half: Array, dark: Array, dry: float, pointed: bool = True) -> None:
        marks = brushed(sheet, paths.astype(np.float32), half, pointed)
        hair = bristles(sheet, marks, len(half), 4 + 900 * float(half.mean()))
        # a drying brush leaves the hollows of the paper white, more so towards the stroke's end
        dryness = dry * (0.3 + marks.along) * 1.3 - 0.1
        cover = eased(hair - 0.10 * grain.ravel()[marks.where] - dryness, -0.12, 0.12)
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
        wet = eased(sheet.noise(2.5, 2, 2), -0.7, 0.7)  # where wet, the edge is blurred
        inside = eased(depth, 0, 0.0025) * (1 - wet) + eased(depth, -0.022, 0.02) * wet
        sky *= 1 - inside
        strength = 0.20 + 1.05 * near**1.4
        mist = 0.25 + 0.75 * eased(sheet.noise(2.5, 3, 3), -0.9, 0.6)
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
        shadow = eased(sheet.at(pool, points), -1.2, 0.8) * sheet.at(mist, points)
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
    # bamboo hangs from the corner opposite the sun: stems, then leaves in fans
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

    count = 90  # splashes: many small drops, few large ones, in two groups
    flight = sheet.uniform((0.1, 0.4), (ASPECT - 0.1, 0.9), (2, 2))[rng.integers(0, 2, count)]
    size = 0.0012 * (1 - sheet.uniform(0, 0.985, count)) ** -0.62
    spots = zip(flight + sheet.normal(count, 2) * (0.16, 0.10), size, strict=True)
    for (px, py), radius in spots:
        box = sheet.box(px, py, 2.5 * radius)
        away = np.hypot(x[:, box[1]] - px, y[box[0]] - py) / radius
        spot = away - 0.22 * pool[box] - 0.1 * grain[box]
        ink[box] += eased(spot, 1.12, 0.95) * (0.55 + 0.6 * eased(spot, 0.5, 1.0))
    ink = np.clip(ink, 0, None) * (1 + 0.10 * fibre * np.exp(-ink)) + 0.012 * grain
    paper = rgb_of("efe6d2") * (1 + 0.022 * fibre + 0.018 * grain + 0.02 * bloom)[..., None]
    sun = np.hypot(x - sun_x, y - sun_y) + 0.0015 * pool
    red = 0.62 + 0.16 * pool + 0.3 * np.exp(-np.abs(0.064 - sun) / 0.006)
    red *= eased(sun, 0.066, 0.062)
    u, v = (x - 1.235) / 0.034, (y - 0.90) / 0.034
    glyph = np.abs(np.sin(5.5 * u + 1.6 * np.sign(v - 0.1))) * np.abs(np.sin(6.5 * v + np.sign(u)))
    square = np.maximum(np.abs(u), np.abs(v)) + 0.03 * pool
    seal = eased(square, 1.0, 0.94) * np.maximum(eased(glyph, 0.2, 0.3), eased(square, 0.78, 0.84))
    seal *= eased(grain + 0.5 * pool, -1.9, -1.3)
    tone = np.exp(-ink[..., None] * np.array([1.55, 1.5, 1.42], np.float32))
    tinted = blend(paper, rgb_of("c8321e"), np.clip(red, 0, 0.92) * (0.12 + 0.88 * sky)) * tone
    return blend(tinted, rgb_of("b8261c"), 0.92 * seal)


def woodcut(sheet: Sheet) -> Array:
    """A black key block engraved with tapering lines over flat indigo and rust, on cream paper."""
    x, y, rng = sheet.x, sheet.y, sheet.rng
    shape = (sheet.h, sheet.w)
    hand = sheet.noise(5, 3)

    def hatch(phase: Array, tone: Array, per_unit: float, box: tuple[slice, ...] = ()) -> Array:
        """Lines at integer phases, with a width given by the tone (0..1) and irregular ends."""
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
    rust = eased(r, 0.127, 0.125)
    indigo = eased(beam + 0.2 * hand, 0.0, 0.15) * (r > 0.17)
    black = np.maximum(black, eased(np.abs(r - 0.127), 0.0034, 0.0022))

    def lay(top: Array, ink: Array, blue: Array | float, red: float) -> None:
        """Draw a hill or range below ``top`` over the picture: lines, flat inks and outline."""
        nonlocal black, indigo, rust
        inside = eased(y - top, -0.001, 0.001)
        rim = 0.0042 * np.clip(1 + 0.35 * hand, 0.4, 2)
        black = np.maximum(black + (ink - black) * inside, eased(np.abs(y - top) / rim, 1, 0.7))
        indigo = indigo + (blue - indigo) * inside
        rust = rust + (red - rust) * inside

    for k in range(2):  # mountains: lines run down from the ridge, denser on the shaded side
        ridge: Array = np.full((1, sheet.w), 0.57 + 0.07 * k)
        for i in range(6):
            high, steep = rng.uniform(0.08, 0.22), rng.uniform(0.8, 1.4)
            top = (i + rng.uniform(0.1, 0.9)) / 6 * ASPECT
            peak = 0.57 + 0.09 * k - high * (1 - 0.4 * k)
            ridge = np.minimum(ridge, peak + steep * np.abs(x - top))
        ridge = ridge.astype(np.float32) + 0.006 * sheet.curve(16, 3)
        depth = y - ridge
        # the crest between the faces meanders downwards
        bend = x + 0.02 * np.sin(38 * depth + 5 * x) * eased(depth, 0, 0.05) + 0.010 * hand
        steepness = np.broadcast_to(np.gradient(ridge, axis=1) * sheet.h, shape)
        face = sheet.at(steepness, np.stack([bend, y + 0 * bend], -1))
        fold = 0.5 * np.sin(48 * x + 26 * depth * np.sign(face) + 1.5 * hand)
        away = np.sign(face) * np.sign(x - sx)
        tone = 0.50 + 0.30 * away + 0.38 * fold - 0.9 * depth
        lines = hatch(75 * (x - 0.45 * depth * np.sign(face)), np.clip(tone, 0.1, 0.95), 75)
        lay(ridge, lines, eased(away + 0.3 * fold, -0.1, 0), 0)

    for k in range(5):  # fields: furrows alternately along the hill and towards a far point
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
        tx = (k * 4 % 11 + float(rng.uniform(0, 1))) / 11 * ASPECT  # spread, without an order
        ty, tall = 0.66 + 0.27 * near, 0.09 + 0.14 * near
        box = sheet.box(tx, ty - 0.6 * tall, 1.2 * tall)
        ux, uy = (x[:, box[1]] - tx) / tall, (y[box[0]] - ty) / tall + 0.6
        lobes = 0.04 * np.cos(9 * np.arctan2(uy, ux) + k) + 0.06 * hand[box]
        spread = np.hypot(ux * 1.9, uy) * (1 + lobes)
        crown = eased(spread, 0.56, 0.545)
        lit = 0.95 - 0.75 * np.clip(ux * np.sign(sx - tx) * 1.6 - uy * 0.7 + 0.1, 0, 1)
        lit = np.clip(lit + 0.15 * hand[box], 0.2, 0.86)
        rays = hatch(np.arctan2(uy - 0.45, ux) * 11, lit, 26 / tall, box)
        thick = 0.012 / (np.abs(uy - 0.75) + 0.3)
        stem = eased(np.abs(ux) - thick, 0.02, 0) * (uy > 0) * (uy < 0.66)
        black[box] *= eased(spread, 0.585, 0.605)  # a cleared line separates it from the background
        black[box] += crown * np.maximum(rays, eased(spread, 0.50, 0.515))
        black[box] = np.maximum(black[box], stem)
        indigo[box] *= 1 - crown
        rust[box] *= 1 - crown

    # printing: wood grain and thin patches in every ink, the flat blocks slightly out of register
    rings = np.sin(60 * (y + 0.05 * sheet.noise(1.5, 2, 4) + 0.004 * sheet.noise(40, 2, 12)) * 3)
    fleck = sheet.noise(190, 2) + 0.8 * sheet.noise(90, 2, 10)
    slip = round(0.003 * sheet.h)
    mottle = 0.015 * sheet.noise(150, 3) + 0.012 * sheet.noise(3, 3)
    cream = rgb_of("efe3c6") * (1 + mottle)[..., None]
    cover = 0.84 + 0.09 * rings + 0.07 * sheet.noise(3, 3) - 0.35 * eased(fleck, 1.3, 2.3)
    indigo[:, slip:] = indigo[:, : sheet.w - slip].copy()
    rust[slip:] = rust[: sheet.h - slip].copy()
    for plate, code in ((indigo, "2f4f86"), (rust, "c0562b")):
        cream = blend(cream, cream * rgb_of(code) * 1.05, np.clip(plate * cover, 0, 1))
    cover = 0.97 + 0.03 * rings - 0.5 * eased(fleck + 0.4 * hand, 2.0, 2.9)
    return blend(cream, rgb_of("17140f"), np.clip(black * cover, 0, 1))
