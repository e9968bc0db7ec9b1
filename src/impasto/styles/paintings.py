"""Paintings: they are read, reduced, and cut into pieces that can be measured one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..images import Picture, Source, fit, list_pictures, read, resize
from .stored import SUFFIX, bundled_names, is_name

MOST = 1 << 24  # largest number of pixels; a larger painting is reduced
PIECE = 1 << 21  # pixels that are measured at a time
UNIT = 16  # pixels: pieces are whole cells of the deepest layers


def list_paintings(folder: Path, recursive: bool = False) -> list[Path]:
    """The pictures and stored styles of a folder, sorted, without hidden ones.

    Args:
        folder: the folder.
        recursive: search its subfolders too.

    Raises:
        InputError: if it cannot be listed.
    """
    pictures = list_pictures(folder, recursive)
    files = folder.rglob(f"*{SUFFIX}") if recursive else folder.glob(f"*{SUFFIX}")
    stored = [path for path in files if path.name[0] != "." and path.is_file()]
    return sorted([*pictures, *stored])


def read_painting(
    source: Source,
    background: str = "white",
    *,
    max_pixels: int | None = None,
    accept_truncated: bool = False,
) -> Picture:
    """As :func:`impasto.images.read`; a picture of more than 16 megapixels is reduced.

    Raises InputError also for the name of a bundled style, which has no picture.
    """
    if isinstance(source, (str, Path)) and is_name(source) and Path(source).name in bundled_names():
        raise InputError(
            f"{source}: of a style by name there are statistics and no picture; name the file of "
            "the painting"
        )
    limits: dict[str, Any] = {"max_pixels": max_pixels, "accept_truncated": accept_truncated}
    picture = read(source, background, most_pixels=MOST, **limits)
    pixels = picture.height * picture.width
    if pixels <= MOST:
        return picture
    short = int(min(picture.height, picture.width) * math.sqrt(MOST / pixels))
    small = resize(picture.rgb, fit(picture.height, picture.width, short))
    return Picture(small, None, picture.name)


def reduce(picture: Tensor, short_side: int) -> Tensor:
    """Reduce a picture to a short side of ``short_side`` pixels; a smaller one is not changed."""
    height, width = picture.shape[-2:]
    if min(height, width) <= short_side:
        return picture
    return resize(picture, fit(height, width, short_side))


def pieces_of(picture: Tensor) -> Iterator[Tensor]:
    """Cut a picture ``(3, H, W)`` into nearly square pieces of at most ``PIECE`` pixels.

    Each piece is measured as a separate picture: a cut counts as a border.
    """
    height, width = picture.shape[-2:]
    if height * width <= PIECE:
        yield picture
        return
    for rows in torch.split(picture, _even(height), -2):
        yield from torch.split(rows, _even(width), -1)


def _even(length: int) -> list[int]:
    """Divide ``length`` into nearly equal parts; all except the last are whole cells."""
    count = math.ceil(length / math.isqrt(PIECE))
    cuts = [UNIT * round(part * length / count / UNIT) for part in range(count)] + [length]
    return [end - begin for begin, end in itertools.pairwise(cuts)]
