"""The pictures of README's and of the guides: the project's own paintings, free photographs.

    python benchmarks/gallery.py [hero] [gallery] [gatys] [methods] [styles] [color] [strength]

Writes docs/img/NAME.jpg for each name (all, if none is given) and prints the seconds of every
result. hero is a photograph, a painting and the result by the default method, as `impasto stylize`
makes it of the samples; gallery, six results by the default method, and gatys, the same by Gatys'
method, have photograph and painting small at their sides; methods is one pair by every bundled
method; styles, one photograph in every style that comes by name; color and strength are the colour
modes and four strengths of Gatys' method.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import torch
from common import sheet
from torch import Tensor

from impasto.images import fit, read, resize
from impasto.methods import Method, load
from impasto.pipeline import stylize
from impasto.samples import draw, photograph
from impasto.study.compare import available
from impasto.styles import named_styles

PAIRS = [
    ("coffee", "swirls"),
    ("chelsea", "stained_glass"),
    ("astronaut", "swirls"),
    ("rocket", "swirls"),
    ("chelsea", "ink_wash"),
    ("astronaut", "woodcut"),
]
ORDER = (
    *("gatys", "ghiasi", "johnson", "johnson-bottleneck", "wct"),
    *("adain", "styleflow", "styleflow-rbmad", "artflow", "artflow-rbmad"),
)  # from the most painted to the most like the photograph
ALL = ("chelsea", "stained_glass")  # by every method; johnson has learnt this painting
HEIGHT, WIDTH = 400, 600
GAP = 8
SMALL = 256  # short side of a result in the strips of color and strength


def crop(rgb: Tensor, height: int, width: int) -> Tensor:
    """The middle of ``rgb``, scaled to fill ``height`` x ``width``."""
    scale = max(height / rgb.shape[-2], width / rgb.shape[-1])
    size = (round(rgb.shape[-2] * scale), round(rgb.shape[-1] * scale))
    large = resize(rgb, (max(height, size[0]), max(width, size[1])))
    top, left = (large.shape[-2] - height) // 2, (large.shape[-1] - width) // 2
    return large[:, top : top + height, left : left + width]


def photo(name: str) -> Tensor:
    """A sample photograph at the gallery's size."""
    return crop(photograph(name), HEIGHT, WIDTH)


def painting(name: str) -> Tensor:
    """A sample painting, ``(3, H, W)`` in 0..1."""
    return read(draw(name)).rgb


def beside(pictures: list[Tensor], axis: int = -1) -> Tensor:
    """Pictures side by side (or, along axis -2, one below the other) with white gaps."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [torch.ones(shape), picture]
    return torch.cat(parts, axis)


@functools.cache
def rendered(content: str, style: str, method: str, **options: Any) -> Tensor:
    """The result for a pair at the gallery's size, its seconds printed."""
    loaded = load_for(method)
    known = style if style in (loaded.learnt or ()) else painting(style)
    result = stylize(photo(content), known, loaded, **options)
    print(f"{method}: {content} x {style}: {result.settings['seconds']} s", flush=True)
    return result.picture.rgb


@functools.cache
def load_for(label: str) -> Method:
    """A method by its label, such as ``artflow-rbmad``, with the bundled model."""
    name, options = available([label])[label]
    return load(name, **options)


def hero() -> None:
    content, style = PAIRS[0]
    whole = crop(painting(style), HEIGHT, WIDTH)
    result = rendered(content, style, "ghiasi")
    sheet(
        "hero", [("a photograph", photo(content)), ("a painting", whole), ("the result", result)], 3
    )


def gallery(name: str = "gallery", method: str = "ghiasi") -> None:
    cells = []
    for content, style in PAIRS:
        inputs = [crop(p, (HEIGHT - GAP) // 2, 200) for p in (photo(content), painting(style))]
        framed = beside([beside(inputs, -2), rendered(content, style, method)])
        cells.append((f"{content} by {style}", framed))
    sheet(name, cells, 2, SMALL)


def methods() -> None:
    content, style = ALL
    cells = [("photograph", photo(content)), ("painting", crop(painting(style), HEIGHT, WIDTH))]
    cells += [(label, rendered(content, style, label)) for label in ORDER]
    sheet("methods", cells, 3, SMALL)


def strip(name: str, content: str, key: str, values: dict[str, Any]) -> None:
    """One photograph in swirls by Gatys' method, by several values of a control."""
    small = resize(photo(content), fit(HEIGHT, WIDTH, SMALL))
    cells = []
    for label, value in values.items():
        result = stylize(small, painting("swirls"), load_for("gatys"), **{key: value})
        print(f"{name}: {label}: {result.settings['seconds']} s", flush=True)
        cells.append((label, result.picture.rgb))
    sheet(name, cells, len(cells))


def styles() -> None:
    """As `impasto styles --sheet FILE` makes it."""
    coffee, ghiasi = photo("coffee"), load_for("ghiasi")
    cells = [("photograph", coffee)]
    cells += [(name, stylize(coffee, name, ghiasi).picture.rgb) for name in named_styles()]
    sheet("styles", cells, 6, 160)


COLORS = {"no --color": None} | {f"--color {m}": m for m in ("match", "match-style", "luminance")}
PICTURES = {
    "hero": hero,
    "gallery": gallery,
    "gatys": functools.partial(gallery, "gatys", "gatys"),
    "methods": methods,
    "styles": styles,
    "color": functools.partial(strip, "color", "astronaut", "color", COLORS),
    "strength": functools.partial(
        strip, "strength", "rocket", "strength", {f"--strength {s}": s for s in (0.25, 0.5, 1, 1.5)}
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    args = parser.parse_args()
    for name in args.pictures or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main()
