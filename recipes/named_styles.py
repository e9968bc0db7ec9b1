"""Makes the styles that come by name, src/impasto/models/styles/NAME.style, again.

    python recipes/named_styles.py --gallery GALLERY --paintings PAINTINGS

GALLERY holds the six paintings of ``GALLERY`` below; PAINTINGS holds many works, whose names are
those of their painter or school with a number, as in ``WORKS``; the rest impasto draws itself. The
same pictures, read by the same versions of the libraries, give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import impasto
from impasto.errors import InputError
from impasto.samples import draw
from impasto.statistics import Moments
from impasto.styles import SUFFIX, Part, StoredStyle, read_painting
from impasto.styles.stored import NAMED

SIDE = 512  # short side in pixels at which a work is looked at, at most
METHODS = ("ghiasi", "gatys")  # which look at paintings through `compact`
NONE = 1e-12  # the variance of a channel that is constant


@dataclass(frozen=True)
class About:
    """What a style is: title, painter and year, and what it is measured from."""

    title: str
    painter: str = ""
    year: str = ""
    works: str = ""
    """Names of files without their numbers and endings, and the numbers; all of them if none."""


GALLERY = {
    "great_wave": About(
        "The Great Wave off Kanagawa, in later colours", "after Katsushika Hokusai", "after 1831"
    ),
    "starry_night": About("The Starry Night", "Vincent van Gogh", "1889"),
    "the_kiss": About("The Kiss", "Gustav Klimt", "1907-1908"),
    "turner_storm": About("A ship in a storm", "J. M. W. Turner"),
    "wanderer": About("Wanderer above the Sea of Fog", "Caspar David Friedrich", "c. 1818"),
    "wheat_field": About("Wheat Field with Cypresses", "Vincent van Gogh", "1889"),
}
WORKS = {
    "chinese_landscape": About(
        "The mean of {} Chinese ink landscapes", "", "", "chinese 0032 0076 0088 0136 0168 0176"
    ),
    "indian_miniature": About(
        "The mean of {} Indian miniatures",
        *("", "", "indian 0010 0050 0100 0150 0185 0210 0215 0245"),
    ),
    # The mean of all is grey.
    "monet": About("Red Boats, Argenteuil", "Claude Monet", "1875", "monet 0080"),
    "red_chalk": About("A drawing in red chalk", works="various 0013"),
    # The mean of all is nearly black.
    "titian": About(
        "The mean of {} works with a landscape",
        *("Titian", "", "titian 0000 0015 0048 0069 0081 0099 0111 0120"),
    ),
    "van_gogh": About("The mean of {} works", "Vincent van Gogh", "", "vangogh"),
}
DRAWN = {
    "ink_wash": About("Ink wash, drawn by impasto"),
    "stained_glass": About("Stained glass, drawn by impasto"),
    "swirls": About("Swirls, drawn by impasto"),
    "woodcut": About("A woodcut, drawn by impasto"),
}


def mean_code(each: Sequence[Moments]) -> Moments:
    """What lies between several works, as method ghiasi sees them: the mean of their codes.

    Mean and deviation of every channel are averaged as ``log(1 + x)``, correlations as they are, so
    that the covariance stays one. The moments of all works together (:meth:`Moments.mix`) would
    count what differs between works as if every one of them varied so much.
    """
    means = torch.stack([m.mean for m in each])
    spread = torch.stack([m.deviation(NONE) for m in each])
    correlation = torch.stack(
        [m.covariance / s[:, None] / s[None] for m, s in zip(each, spread, strict=True)]
    ).mean(0)
    mean, deviation = (x.log1p().mean(0).expm1() for x in (means, spread))
    second = correlation * deviation[:, None] * deviation[None] + mean[:, None] * mean[None]
    return Moments(mean.new_ones(()), mean, second)


def stored(name: str, about: About, works: Sequence[Any], seen_by: Any) -> StoredStyle:
    """A style of one work, or the mean code of several.

    Args:
        name: of the style.
        about: see :class:`About`.
        works: paintings, as :func:`impasto.images.read` takes them.
        seen_by: a loaded method gatys.
    """
    if not works:
        raise InputError(f"{name}: no work for it there; name the folder that holds them")
    layers, colors, sides = [], [], []
    for work in works:
        painting = read_painting(work).rgb
        seen = seen_by.prepare([painting]).at(SIDE)
        layers.append({tap: moments.to(torch.float64) for tap, moments in seen.items()})
        colors.append(Moments.of(painting.double()).normalised())
        sides.append(min(SIDE, *painting.shape[-2:]))
    one = len(works) == 1
    level = {tap: layers[0][tap] if one else mean_code([of[tap] for of in layers]) for tap in seen}
    color = colors[0] if one else mean_code(colors)
    part = Part({min(sides): level}, METHODS)
    title = about.title.format(len(works))
    parts = {seen_by.net.fingerprint: part}
    return StoredStyle(name, color, parts, title, about.painter, about.year)


def works_of(about: About, folder: Path) -> list[Path]:
    """The files of a style of ``WORKS``."""
    kind, *numbers = about.works.split()
    return sorted(
        path
        for path in folder.glob(f"{kind}_*")
        if not numbers or path.stem.removeprefix(f"{kind}_") in numbers
    )


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gallery", type=Path, required=True, help="folder of six paintings")
    parser.add_argument("--paintings", type=Path, required=True, help="folder of many works")
    parser.add_argument("--out", type=Path, default=NAMED, help="folder to write to")
    given = parser.parse_args()
    gatys = impasto.load("gatys", device="cpu", precision="float32")
    for name, about, works in [
        *((name, about, [given.gallery / f"{name}.jpg"]) for name, about in GALLERY.items()),
        *((name, about, works_of(about, given.paintings)) for name, about in WORKS.items()),
        *((name, about, [draw(name)]) for name, about in DRAWN.items()),
    ]:
        path = given.out / f"{name}{SUFFIX}"
        stored(name, about, works, gatys).save(path, half=True)
        print(f"{path}  ({path.stat().st_size / 1e3:.0f} kB, {len(works)} works)", flush=True)


if __name__ == "__main__":
    main()
