"""The README's pictures: six results from the project's own paintings and free photographs.

    python benchmarks/gallery.py

Writes docs/img/hero.jpg (photograph, painting, result in one pass) and docs/img/gallery.jpg
(photograph and painting small, result large, six times), by the default method; docs/img/gatys.jpg
(the same by Gatys' method), docs/img/color.jpg (the colour modes) and docs/img/strength.jpg, by
Gatys' method.
"""

from __future__ import annotations

from pathlib import Path

import torch
from skimage import data
from torch import Tensor

from impasto import load
from impasto.images import fit, read, resize, write
from impasto.methods import Method
from impasto.pipeline import stylize
from impasto.samples import draw

DOCS = Path(__file__).parent.parent / "docs" / "img"
PAIRS = [
    ("coffee", "swirls"),
    ("chelsea", "stained_glass"),
    ("astronaut", "swirls"),
    ("rocket", "swirls"),
    ("chelsea", "ink_wash"),
    ("astronaut", "woodcut"),
]
HEIGHT, WIDTH = 400, 600
GAP = 8


def crop(rgb: Tensor, height: int, width: int) -> Tensor:
    """The middle of ``rgb``, scaled to fill ``height`` x ``width``."""
    scale = max(height / rgb.shape[-2], width / rgb.shape[-1])
    size = (round(rgb.shape[-2] * scale), round(rgb.shape[-1] * scale))
    large = resize(rgb, (max(height, size[0]), max(width, size[1])))
    top, left = (large.shape[-2] - height) // 2, (large.shape[-1] - width) // 2
    return large[:, top : top + height, left : left + width]


def photo(name: str) -> Tensor:
    """A sample photograph at the gallery's size."""
    return crop(read(getattr(data, name)()).rgb, HEIGHT, WIDTH)


def painting(name: str) -> Tensor:
    """A sample painting."""
    return read(draw(name)).rgb


def beside(pictures: list[Tensor], axis: int = -1) -> Tensor:
    """Pictures side by side (or, along axis -2, one below the other) with white gaps."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [torch.ones(shape), picture]
    return torch.cat(parts, axis)


def framed(content: str, style: str, result: Tensor) -> Tensor:
    """A result with its photograph and painting small at its side."""
    small = [crop(p, (HEIGHT - GAP) // 2, 200) for p in (photo(content), painting(style))]
    return beside([beside(small, -2), result])


def main() -> None:
    gatys: Method = load("gatys", iterations=[100, 80])
    for name, method in (("gallery", load()), ("gatys", gatys)):
        results: dict[tuple[str, str], Tensor] = {}
        for content, style in PAIRS:
            result = stylize(photo(content), painting(style), method)
            results[content, style] = result.picture.rgb
            print(f"{name}: {content} x {style}: {result.settings['seconds']} s", flush=True)
        rows = [
            beside([framed(*pair, results[pair]) for pair in PAIRS[i : i + 2]])
            for i in range(0, len(PAIRS), 2)
        ]
        write(DOCS / f"{name}.jpg", beside(rows, -2), quality=88)
        if name == "gallery":
            hero = PAIRS[0]
            parts = [photo(hero[0]), crop(painting(hero[1]), HEIGHT, WIDTH), results[hero]]
            write(DOCS / "hero.jpg", beside(parts), quality=88)

    small = fit(HEIGHT, WIDTH, 256)
    content, style = resize(photo("astronaut"), small), painting("swirls")
    modes = [None, "match", "match-style", "luminance"]
    write(
        DOCS / "color.jpg",
        beside([stylize(content, style, gatys, color=mode).picture.rgb for mode in modes]),
        quality=88,
    )
    steps = [0.25, 0.5, 1.0, 1.5]
    content = resize(photo("rocket"), small)
    write(
        DOCS / "strength.jpg",
        beside([stylize(content, style, gatys, strength=s).picture.rgb for s in steps]),
        quality=88,
    )


if __name__ == "__main__":
    main()
