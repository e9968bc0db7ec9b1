"""Figures: pictures with labels side by side, and curves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from ..images import Picture, read

__all__ = ["labelled", "matplotlib_figure", "save", "save_figure"]

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


def save(path: Path, what: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(what.encode("utf-8") if isinstance(what, str) else what)
    part.replace(path)


def matplotlib_figure() -> Any:
    """Matplotlib's class of figures, which are drawn without a window; InputError if it is absent.

    Experiments ask for it before their work, not after.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("figures need Matplotlib: pip install 'impasto[study]'") from None
    return Figure


def save_figure(path: Path, draw: Callable[[Any], None]) -> None:
    """Write what ``draw`` puts on Matplotlib's axes as PNG."""
    figure = matplotlib_figure()(figsize=(7.5, 5.5), dpi=110, layout="constrained")
    draw(figure.add_subplot())
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    save(path, stream.getvalue())
