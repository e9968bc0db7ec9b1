"""Networks with normalisation layers that render a picture in tiles.

A tile is a rectangle of the picture, its *core*, with a *halo* of pixels around it that the network
sees too. If the halo is as wide as the network sees beyond the core, and cuts are at multiples of
its strides, the output of the core is that of the whole picture, but for the statistics of the
normalisation layers: those must be of the whole picture, or tiles would differ at their borders.
There are two ways to get them, see :func:`measured`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ..images.canvas import Canvas, reduced
from ..watch import divided, portion
from .norm import Statistics, StyledNorm

__all__ = [
    "Paint",
    "Run",
    "Span",
    "Tile",
    "Tileable",
    "measured",
    "spans_of",
    "thumbnail",
    "tiles_of",
]

THUMBNAIL = 512  # short side in pixels of the reduced copy


@dataclass(frozen=True)
class Span:
    """The rows or the columns of a tile, in pixels.

    Attributes:
        begin, end: of the core.
        first, last: of the core with its halo.
        final: whether the core ends where the picture does.
    """

    begin: int
    end: int
    first: int
    last: int
    final: bool

    @property
    def seen(self) -> slice:
        """What the network sees, in the picture."""
        return slice(self.first, self.last)

    @property
    def kept(self) -> slice:
        """The core, in the picture."""
        return slice(self.begin, self.end)

    @property
    def core(self) -> slice:
        """The core, in what the network sees."""
        return slice(self.begin - self.first, self.end - self.first)

    def features(self, stride: int) -> slice:
        """The core's among the features of what the network sees, one for ``stride`` pixels.

        At the end of the picture a network may have one feature more, or less, than whole strides.
        """
        end = None if self.final else self.core.stop // stride
        return slice(self.core.start // stride, end)


@dataclass(frozen=True)
class Tile:
    """A tile: its rows and its columns."""

    rows: Span
    columns: Span

    def seen(self, pictures: Tensor) -> Tensor:
        """The part of ``(..., H, W)`` that the network sees."""
        return pictures[..., self.rows.seen, self.columns.seen]

    def core(self, seen: Tensor) -> Tensor:
        """The core of what the network made of :meth:`seen`."""
        return seen[..., self.rows.core, self.columns.core]

    def core_of(self, features: Tensor, stride: int, fully: bool = False) -> Tensor:
        """The features of the core, one for ``stride`` pixels, of a picture in padded cells.

        A last one that stands for fewer pixels counts too, unless ``fully``.
        """
        rows, columns = (
            slice(
                span.core.start // stride,
                span.core.stop // stride if fully else math.ceil(span.core.stop / stride),
            )
            for span in (self.rows, self.columns)
        )
        return features[..., rows, columns]

    def put(self, out: Tensor, seen: Tensor) -> None:
        """Write the core of ``seen`` to its place in ``out``, ``(..., H, W)``."""
        out[..., self.rows.kept, self.columns.kept] = self.core(seen)


def spans_of(length: int, side: int, unit: int, halo: int) -> list[Span]:
    """The rows or columns of :func:`tiles_of`, in a picture of ``length`` pixels."""
    step = unit * math.ceil(length / math.ceil(length / side) / unit)
    return [
        Span(begin, end, max(0, begin - halo), min(length, end + halo), end == length)
        for begin in range(0, length, step)
        for end in [min(begin + step, length)]
    ]


def tiles_of(size: tuple[int, int], side: int, unit: int, halo: int) -> list[Tile]:
    """A picture in tiles of nearly equal size, row by row.

    Args:
        size: of the picture, ``(H, W)``.
        side: of the cores in pixels, rounded up to a multiple of ``unit``.
        unit, halo: see :class:`Tileable`.

    Example:
        >>> [(tile.rows.begin, tile.rows.last) for tile in tiles_of((100, 40), 64, 16, 16)]
        [(0, 80), (64, 100)]
    """
    rows, columns = (spans_of(length, side, unit, halo) for length in size)
    return [Tile(*pair) for pair in itertools.product(rows, columns)]


class Tileable(Protocol):
    """A network that can render in tiles.

    Attributes:
        unit: pictures can be cut at multiples of it.
        halo: pixels that it sees beyond its output, a multiple of ``unit``.
    """

    @property
    def unit(self) -> int: ...  # noqa: D102

    @property
    def halo(self) -> int: ...  # noqa: D102

    def noise_of(self, height: int, width: int) -> Callable[[slice, slice], Tensor]: ...  # noqa: D102

    def modules(self) -> object: ...  # noqa: D102


Run = Callable[[Tensor, Tensor | None], Tensor]
"""Renders pictures ``(B, 3, H, W)`` with noise as the network's ``noise_of`` returns it; None: with
that of the whole."""

Paint = Callable[[Tensor, slice, slice], Tensor]
"""Renders a part of a picture, ``(B, 3, h, w)``, which has these rows and columns."""


def measured(
    network: Tileable,
    run: Run,
    canvas: Canvas,
    side: int | None,
    exact: bool = False,
    share: float = 1.0,
) -> Paint:
    """``run``, for a part of a picture: of the whole, it has the statistics and the noise.

    * By default statistics are those of a reduced copy (Chen, Wang, Xie, Lu & Luo, "Towards
      Ultra-Resolution Neural Style Transfer via Thumbnail Instance Normalization", AAAI 2022).
    * ``exact``: as in one piece. Each layer's statistics depend on those before it. So every
      normalisation takes a pass over all tiles that computes everything before it again: with
      ``n`` of them, about ``n / 2`` times the time.

    Args:
        network: the network.
        run: runs the network on a part of the picture.
        canvas: the picture.
        side: side of the tiles in pixels, without halo; None for the picture in one piece, which
            measures itself.
        exact: see above.
        share: of the work on the picture, where several mixtures of styles render it.
    """
    if side is None:
        return lambda pictures, rows, columns: run(pictures, None)
    noise = network.noise_of(*canvas.size)
    statistics = Statistics()
    if exact:
        assert isinstance(network, nn.Module)
        count = sum(isinstance(module, StyledNorm) for module in network.modules())
        tiles = tiles_of(canvas.size, side, network.unit, network.halo)
        with portion(share * count / (count + 2)):
            for _ in divided(range(count), "statistics", range(1, count + 1)):
                for tile in divided(tiles):
                    rows, columns = tile.rows.seen, tile.columns.seen
                    with statistics.adding(*_sized(tile, network.unit)):
                        run(canvas.region(rows, columns), noise(rows, columns))
                statistics.added()
    else:
        small = thumbnail(canvas)
        height, width = small.shape[-2:]
        part = height * width / (height * width + canvas.size[0] * canvas.size[1])
        with portion(share * part), statistics.measuring():
            run(small, network.noise_of(height, width)(slice(0, height), slice(0, width)))

    def paint(pictures: Tensor, rows: slice, columns: slice) -> Tensor:
        with statistics.given():
            return run(pictures, noise(rows, columns))

    return paint


def thumbnail(canvas: Canvas) -> Tensor:
    """The picture, ``(B, 3, h, w)``, reduced to a short side of 512 px if it is larger."""
    size = reduced(canvas.size, THUMBNAIL)
    if size == canvas.size:
        return canvas.region(*(slice(0, side) for side in size))
    return canvas.at(size).clamp(0, 1)


def _sized(tile: Tile, unit: int) -> tuple[tuple[int, int], tuple[slice, slice]]:
    """Size of what the network computes of a tile, and the core: both in whole units."""
    spans = (tile.rows, tile.columns)
    height, width = (unit * math.ceil((span.last - span.first) / unit) for span in spans)
    rows, columns = (
        slice(span.core.start, unit * math.ceil(span.core.stop / unit)) for span in spans
    )
    return (height, width), (rows, columns)
