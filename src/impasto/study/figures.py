"""Figures: sheets of labelled pictures, and curves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from ..files import path_of, save
from ..images import Picture, fit, read, resize

__all__ = ["labelled", "look", "matplotlib_figure", "save_figure", "square"]

GAP, HEAD = 6, 22  # white pixels around a picture, and above it for its label
LINES, LINE = 3, 17  # most lines of a label, and pixels for each line after the first

# Colours that the colour-blind can tell apart (Okabe & Ito, "Color Universal Design", 2008). Series
# differ in marker too; two networks of one method share its colour, and the second is dashed.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, RED, PURPLE = "#0072b2", "#d55e00", "#cc79a7"
LOOKS = {
    "gatys": (BLACK, "o", "-"),
    "ghiasi": (BLUE, "s", "-"),
    "adain": (ORANGE, "^", "-"),
    "wct": (GREEN, "D", "-"),
    "johnson": (RED, "v", "-"),
    "johnson-bottleneck": (RED, "P", "--"),
    "artflow": (PURPLE, "<", "-"),
    "artflow-rbmad": (PURPLE, "X", "--"),
    "styleflow": (SKY, ">", "-"),
    "styleflow-rbmad": (SKY, "*", "--"),
}
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
MARKERS, DASHES = "osD^vP*X<>d", ("-", "--", "-.", ":")


def labelled(pictures: Sequence[tuple[str, Tensor]], columns: int | None = None) -> Tensor:
    """A sheet of pictures with a name above each, ``(3, H, W)`` in 0..1.

    A name that is wider than its picture is broken into up to three lines; the rest is replaced
    by an ellipsis.

    Args:
        pictures: names, and tensors ``(3, H, W)`` in 0..1, all of one size.
        columns: number of columns; None makes the sheet about square.

    Raises:
        InputError: if ``pictures`` is empty.
    """
    if not pictures:
        raise InputError("no pictures for a sheet: give some")
    height, width = pictures[0][1].shape[-2:]
    count = columns or math.ceil(math.sqrt(len(pictures) * height / width))
    rows = math.ceil(len(pictures) / count)
    font = ImageFont.load_default(14)
    names = [_broken(name, lambda text: font.getlength(text) <= width) for name, _ in pictures]
    head = HEAD + LINE * (max(map(len, names)) - 1)
    size = (count * (width + GAP) + GAP, rows * (height + head + GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for index, (lines, (name, picture)) in enumerate(zip(names, pictures, strict=True)):
        x = GAP + index % count * (width + GAP)
        y = index // count * (height + head + GAP)
        for number, line in enumerate(lines):
            pen.text((x, y + 2 + LINE * number), line, fill="black", font=font)
        sheet.paste(Picture(picture, None, name).to_pil(), (x, y + head))
    return read(sheet).rgb


def _broken(name: str, fits: Callable[[str], bool]) -> list[str]:
    """A name in up to three lines, broken after a blank or one of ``,+=/`` where possible."""
    lines: list[str] = []
    while not fits(name) and len(lines) < LINES - 1:
        cut = next((end for end in range(len(name), 1, -1) if fits(name[:end])), 1)
        breaks = [end for end in range(cut, 1, -1) if name[end - 1] in " ,+=/"]
        cut = breaks[0] if breaks else cut
        lines.append(name[:cut].rstrip())
        name = name[cut:].lstrip()
    while len(name) > 1 and not fits(name):
        name = name.rstrip("\u2026")[:-1] + "\u2026"
    return [*lines, name]


def square(picture: Tensor, side: int) -> Tensor:
    """The centre of a picture ``(3, H, W)``, resized to ``(3, side, side)``."""
    small = resize(picture, fit(picture.shape[-2], picture.shape[-1], side))
    top, left = ((length - side) // 2 for length in small.shape[-2:])
    return small[:, top : top + side, left : left + side]


def look(label: str, number: int = 0) -> dict[str, str]:
    """Colour, marker and dashes of a series for Matplotlib; those of a method are always the same.

    Args:
        label: a method as :func:`impasto.study.compare.available` labels it, or another name.
        number: of the series in its figure, which tells apart what is no method.
    """
    color, marker, dashes = LOOKS.get(
        label,
        (
            COLORS[number % len(COLORS)],
            MARKERS[number % len(MARKERS)],
            DASHES[number // len(COLORS) % len(DASHES)],
        ),
    )
    return {"color": color, "marker": marker, "linestyle": dashes}


def matplotlib_figure() -> Any:
    """Matplotlib's Figure class, which needs no window. Raises InputError if it is not installed.

    Experiments call this before they start, so that a missing package is reported early.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError('figures need Matplotlib: pip install "impasto[study]"') from None
    return Figure


def save_figure(path: Path, draw: Callable[[Any], None]) -> None:
    """Write a PNG of what ``draw`` plots on Matplotlib's axes."""
    figure = matplotlib_figure()(figsize=(7.5, 5.5), dpi=110, layout="constrained")
    draw(figure.add_subplot())
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    save(path_of(path, "path"), stream.getvalue())
