"""Repairs of pictures: what is done to a result after its network, by name.

Which of them a model wants stands in its file, under ``finish``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from ..statistics import Moments
from ..watch import divided
from . import degrid, dehalo, palette

__all__ = ["REPAIRS", "Origin", "Repair", "finished", "reach_of"]


@dataclass(frozen=True)
class Origin:
    """What pictures were made of, and how.

    Attributes:
        contents: photographs ``(B, 3, H, W)`` in 0..1.
        colors: moments of the style's colours.
        strength: 0 is the photograph itself.
        period: side in pixels of the cells in which the network may print a grid.
    """

    contents: Tensor
    colors: Moments
    strength: float = 1.0
    period: int = 4


Repair = Callable[[Tensor, Origin], Tensor]
"""Of pictures ``(B, 3, H, W)``; the result has their shape."""

REPAIRS: dict[str, Repair] = {
    "degrid": lambda pictures, origin: degrid.degrid(pictures, origin.contents, origin.period),
    "dehalo": lambda pictures, origin: dehalo.dehalo(pictures, origin.contents),
    "palette": lambda pictures, origin: pictures.lerp(
        palette.confined(pictures, origin.colors), min(origin.strength, 1.0)
    ),
}


def reach_of(repairs: Iterable[str], period: int) -> tuple[int, int]:
    """Where a picture may be cut to be repaired in tiles, and how far results depend on it.

    Returns:
        ``unit``: tiles begin at multiples of it; ``margin``: pixels that they see beyond.
    """
    reaches = {"degrid": (1, degrid.margin_of(period)), "dehalo": (dehalo.CELL, dehalo.MARGIN)}
    used = [reaches[name] for name in repairs if name in reaches]
    return math.lcm(*(unit for unit, _ in used)), sum(margin for _, margin in used)


def finished(pictures: Tensor, origin: Origin, repairs: Iterable[str]) -> Tensor:
    """``pictures`` after the ``repairs`` named, one after another."""
    names = list(repairs)
    for name in divided(names, [f"repair {name}" for name in names]):
        pictures = REPAIRS[name](pictures, origin)
    return pictures
