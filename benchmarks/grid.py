"""Six styles by four photographs for the methods of one pass, and the trade-off of strength.

    python benchmarks/grid.py [--method adain wct]

Photographs are scikit-image's, paintings impasto's own; the sixth style is two of them in equal
shares. Writes docs/img/METHOD.jpg for each method and, for AdaIN, docs/img/tradeoff.jpg: strength
0, 0.25, 0.5, 0.75, 1.
"""

from __future__ import annotations

import argparse

import torch
from gallery import DOCS, beside, crop, painting, photo

from impasto import load
from impasto.images import fit, resize, write
from impasto.pipeline import stylize
from impasto.samples import STYLES

PHOTOS = ("coffee", "chelsea", "astronaut", "rocket")
SIZE = 256  # short side of a result in the grid
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", nargs="*", default=["adain", "wct"])
    args = parser.parse_args()
    drawn = {name: painting(name) for name in STYLES}
    styles = [[picture] for picture in drawn.values()]
    styles.append([drawn["swirls"], drawn["woodcut"]])
    contents = [photo(name) for name in PHOTOS]
    shape = fit(contents[0].shape[-2], contents[0].shape[-1], SIZE)
    contents = [resize(content, shape) for content in contents]
    head = [torch.ones(3, *shape)]
    head += [beside([crop(p, shape[0], shape[1] // len(s)) for p in s]) for s in styles]
    head = [crop(picture, *shape) for picture in head]
    for name in args.method:
        method = load(name)
        rows = [beside(head)]
        for content in contents:
            results = [stylize(content, style, method).picture.rgb for style in styles]
            rows.append(beside([content, *results]))
        write(DOCS / f"{name}.jpg", beside(rows, -2), quality=85)
        if name == "adain":
            pairs = [(contents[0], drawn["swirls"]), (contents[2], drawn["stained_glass"])]
            sheet = [
                beside([stylize(c, s, method, strength=a).picture.rgb for a in STRENGTHS])
                for c, s in pairs
            ]
            write(DOCS / "tradeoff.jpg", beside(sheet, -2), quality=85)


if __name__ == "__main__":
    main()
