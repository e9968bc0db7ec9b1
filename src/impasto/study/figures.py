"""Figures: pictures with labels, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..images import Picture, read

__all__ = ["labelled"]

GAP, HEAD = 6, 22  # white pixels around a picture, and above it for its label


def labelled(pictures: Sequence[tuple[str, Tensor]], columns: int | None = None) -> Tensor:
    """A sheet of pictures with a name above each, ``(3, H, W)`` in 0..1.

    A name that is wider than its picture is cut, with an ellipsis.

    Args:
        pictures: names, and ``(3, H, W)`` in 0..1, all of one size.
        columns: of the sheet; None makes it about as wide as high.
    """
    height, width = pictures[0][1].shape[-2:]
    count = columns or math.ceil(math.sqrt(len(pictures) * height / width))
    rows = math.ceil(len(pictures) / count)
    size = (count * (width + GAP) + GAP, rows * (height + HEAD + GAP))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for index, (name, picture) in enumerate(pictures):
        x = GAP + index % count * (width + GAP)
        y = index // count * (height + HEAD + GAP)
        text = name
        while len(text) > 1 and pen.textlength(text, font) > width:
            text = text.rstrip("\u2026")[:-1] + "\u2026"
        pen.text((x, y + 2), text, fill="black", font=font)
        sheet.paste(Picture(picture, None, name).to_pil(), (x, y + HEAD))
    return read(sheet).rgb
