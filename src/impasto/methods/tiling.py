"""When an optimisation is computed in tiles, and in which ones.

Features of the core of a tile (:mod:`impasto.networks.tiling`) are exactly those of the whole
picture on two conditions:

* Cuts are at multiples of the largest stride, so that poolings and strides fall on the same pixels.
* The halo is at least as wide as a receptive field reaches beyond the core
  (:attr:`impasto.backbones.Field.halo`), so that what layers pad at the border of a tile does not
  reach the core. At the borders of the picture there is no halo, and layers pad as for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from ..backbones import Backbone
from ..device import LARGE, available_memory, lacking_memory
from ..errors import InputError, spelled
from ..networks.tiling import Tile, tiles_of

__all__ = ["Needs", "Reach", "Tiling", "costs_of", "planned", "reach_of"]

SIDES = (1024, 768, 512, 384, 256)  # of tiles that are chosen by the memory that is free
SHARE = 0.75  # of the free memory, which may be used: needs are estimates
MOST = 3_300_000_000  # bytes of the CPU's memory that are used if less would do, only slower
FETCHED = 1 << 20  # pixels from which on memory for a size is not kept
TILES = 1.15  # or, of both, this times what the pictures need: small tiles are mostly halo


@dataclass(frozen=True)
class Reach:
    """What tiles have to suit.

    Attributes:
        unit: the largest stride: where a picture may be cut.
        halo: least halo for exact features, a multiple of ``unit``.
    """

    unit: int
    halo: int

    @property
    def least(self) -> int:
        """Least side of a tile: more than three halos, else most of the work is in the halos."""
        return 3 * self.halo + self.unit

    @property
    def sides(self) -> list[int]:
        """Sides to choose from, large to small; the last one is the least."""
        return [*(side for side in SIDES if side > self.least), self.least]

    def check(self, side: int) -> None:
        """Raise InputError for a tile that is too small."""
        if side < self.least:
            raise InputError(
                f"tile is {side}: these layers see {self.halo} pixels beyond a tile, which must be "
                f"less than a third of it: use {spelled('tile', self.least)} or more",
                option="tile",
            )


def reach_of(net: Backbone, taps: Iterable[str]) -> Reach:
    """The reach of the features at ``taps``."""
    fields = [net.field(tap) for tap in taps]
    unit = max(field.stride for field in fields)
    return Reach(unit, unit * math.ceil(max(field.halo for field in fields) / unit))


@dataclass(frozen=True)
class Tiling:
    """A picture in tiles of nearly equal size.

    Attributes:
        size: of the picture, ``(H, W)``.
        side: largest side of a core, in pixels.
        reach: see :func:`reach_of`.

    Example:
        >>> tiling = Tiling((100, 40), 64, Reach(unit=16, halo=16))
        >>> [(tile.rows.begin, tile.rows.last) for tile in tiling.tiles]
        [(0, 80), (64, 100)]
    """

    size: tuple[int, int]
    side: int
    reach: Reach

    @property
    def tiles(self) -> list[Tile]:
        """The tiles, row by row."""
        return tiles_of(self.size, self.side, self.reach.unit, self.reach.halo)

    @property
    def overlap(self) -> float:
        """What the network sees in all tiles, in pictures."""
        return sum(map(_seen, self.tiles)) / (self.size[0] * self.size[1])

    @property
    def largest(self) -> int:
        """Most pixels that the network sees at a time."""
        return max(map(_seen, self.tiles))


def _seen(tile: Tile) -> int:
    """Number of pixels that the network sees."""
    rows, columns = tile.rows, tile.columns
    return (rows.last - rows.first) * (columns.last - columns.first)


@dataclass(frozen=True)
class Needs:
    """Bytes of memory that an optimisation needs.

    Attributes:
        whole: for each pixel of a picture that is computed in one piece.
        picture, tile: for each pixel of a picture in tiles, and of a tile with its halo.
        untiled: why tiles are impossible, as a clause of a message; empty if they are not.
    """

    whole: float
    picture: float
    tile: float
    untiled: str = ""

    def of(self, size: tuple[int, int], tiling: Tiling | None) -> float:
        """For a picture of ``size`` ``(H, W)``."""
        if tiling is None:
            return self.whole * size[0] * size[1]
        return self.picture * size[0] * size[1] + self.tile * tiling.largest

    def most(self, sizes: Sequence[tuple[int, int]], plan: Sequence[Tiling | None]) -> float:
        """For the size of a plan that needs most."""
        return max(map(self.of, sizes, plan))


def costs_of(
    plan: Sequence[tuple[tuple[int, int], int]], tilings: Sequence[Tiling | None]
) -> list[float]:
    """About the time that each size takes, in any unit: halos, and two passes, are more of it.

    Beside tiles, a large size in one piece takes more too: its memory is fetched anew each time.

    Args:
        plan: sizes ``(H, W)`` with their iterations.
        tilings: of each.
    """
    fetched = 1.5 if any(tilings) else 1.0
    return [
        size[0]
        * size[1]
        * count
        * (2 * tiling.overlap if tiling else fetched if size[0] * size[1] > FETCHED else 1.0)
        for (size, count), tiling in zip(plan, tilings, strict=True)
    ]


def planned(
    choice: int | str | list[int | None] | None,
    sizes: Sequence[tuple[int, int]],
    reach: Reach,
    needs: Needs,
    device: torch.device,
) -> list[Tiling | None]:
    """How each size of an optimisation is computed: in tiles, or in one piece (None).

    Tiles take nearly twice the time. So ``auto`` takes them where a picture needs more than three
    quarters of the free memory; for results above 4 megapixels on a CPU, also where it needs more
    than 3.3 GB. It takes the largest that stay below that, or, if the pictures alone need nearly as
    much, below what is free.

    Args:
        choice: the option: ``auto``, None for one piece, or the side of a tile; a list has
            the last two for each size, as interrupted work had them.
        sizes: ``(H, W)``.
        reach: of the layers.
        needs: of the optimisation.
        device: whose memory counts.

    Raises:
        OutOfMemoryError: if the memory that is free does not suffice.
    """
    available = available_memory(device)
    largest = max(height * width for height, width in sizes)
    limit = max(SHARE * available, min(available, TILES * needs.picture * largest))
    if device.type == "cpu" and largest > LARGE:
        limit = min(limit, max(MOST, TILES * needs.picture * largest))

    def tiled(side: int, limit: float = 0) -> list[Tiling | None]:
        """In tiles those sizes that are larger, and in one piece need more than ``limit``."""
        return [
            Tiling(size, side, reach) if max(size) > side and needs.of(size, None) > limit else None
            for size in sizes
        ]

    automatic: list[Tiling | None] = [None] * len(sizes)
    if not needs.untiled:
        plans = (tiled(side, limit) for side in reach.sides)
        automatic = next(
            (plan for plan in plans if needs.most(sizes, plan) <= limit), tiled(reach.least, limit)
        )
    plan = automatic
    if isinstance(choice, list):
        pairs = zip(sizes, choice, strict=True)
        plan = [None if side is None else Tiling(size, side, reach) for size, side in pairs]
    elif choice != "auto":
        plan = [None] * len(sizes) if choice is None else tiled(int(choice))
    needed = needs.most(sizes, plan)
    if needed <= available:
        return plan
    pixels, instead = available / needs.whole, f"; {needs.untiled}" if needs.untiled else ""
    if choice != "auto" and needs.most(sizes, automatic) <= available:
        again = "begin anew, without the checkpoint"
        instead = f", or {again if isinstance(choice, list) else spelled('tile', 'auto')}"
    elif isinstance(choice, list):
        pass  # other programs have taken the memory that there was
    elif choice is not None and not needs.untiled:
        side = reach.least if choice == "auto" else int(choice)
        left = available - needs.tile * (side + 2 * reach.halo) ** 2
        pixels = max(pixels, left / needs.picture)
    raise lacking_memory(max(sizes), needed, available, pixels, instead)
