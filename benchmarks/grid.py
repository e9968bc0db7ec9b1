"""Six styles by four photographs for the methods of one pass, and the trade-off of strength.

    python benchmarks/grid.py [--method adain wct]

Photographs are scikit-image's, paintings impasto's own; the sixth style is two of them in equal
shares. Writes docs/img/METHOD.jpg for each method and, for AdaIN, docs/img/tradeoff.jpg: strength
0, 0.25, 0.5, 0.75, 1.
"""

from __future__ import annotations

import argparse

import torch
from common import sheet
from gallery import HEIGHT, WIDTH, beside, crop, painting, photo

from impasto import load
from impasto.images import fit, resize
from impasto.pipeline import stylize
from impasto.samples import STYLES

PHOTOS = ("coffee", "chelsea", "astronaut", "rocket")
SIZE, SHOWN = 256, 144  # short side of a result, and of its picture in the grid
TRADED = (("coffee", "swirls"), ("astronaut", "stained_glass"))
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", nargs="*", default=["adain", "wct"])
    args = parser.parse_args()
    drawn = {name: painting(name) for name in STYLES}
    styles = {name: [picture] for name, picture in drawn.items()}
    styles["swirls and woodcut"] = [drawn["swirls"], drawn["woodcut"]]
    shape = fit(HEIGHT, WIDTH, SIZE)
    contents = {name: resize(photo(name), shape) for name in PHOTOS}
    head = [("", torch.ones(3, *shape))]
    for name, pictures in styles.items():
        parts = [crop(picture, shape[0], shape[1] // len(pictures)) for picture in pictures]
        head.append((name, crop(beside(parts), *shape)))
    for name in args.method:
        method = load(name)
        cells = list(head)
        for content, picture in contents.items():
            cells.append((content, picture))
            cells += [
                ("", stylize(picture, style, method).picture.rgb) for style in styles.values()
            ]
        sheet(name, cells, 1 + len(styles), SHOWN)
        if name == "adain":
            cells = [
                (
                    f"--strength {a:g}",
                    stylize(contents[c], drawn[s], method, strength=a).picture.rgb,
                )
                for c, s in TRADED
                for a in STRENGTHS
            ]
            sheet("tradeoff", cells, len(STRENGTHS), SHOWN)


if __name__ == "__main__":
    main()
