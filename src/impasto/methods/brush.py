"""The passes of a method of one pass, coarse to fine, each in one piece or in tiles.

A network paints strokes of a fixed size in pixels. With a brush, the picture is painted at a small
size, then the result is enlarged and painted again, in steps of about two, up to the full size
(Wang et al., "Multimodal Transfer", CVPR 2017, with one network for all sizes). Every further pass
sharpens the edges of the enlarged strokes. It also changes tones and forms; tones, and a part of
the forms, are restored from the first pass (back-projection; full back-projection leaves ghosts
beside edges that have moved).

A pass in tiles holds one picture, its result: what it starts from is enlarged tile by tile, and the
repairs are made tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..images import fit
from ..images.canvas import Buffer, Canvas, Reduction, Resized, Whole, device_of, sized
from ..networks.tiling import tiles_of
from ..watch import divided, portion, so_far

if TYPE_CHECKING:
    from .feedforward import OnePass

__all__ = ["STORED", "Passes"]

# Back-projection: from each scale (divisor of the first pass's size) on, the share that is restored
RESTORED = ((4, 1.0), (1, 0.4))
ROWS = 256  # of a whole picture that are worked on at a time
STORED = 1 << 26  # pixels of a pass from which on it is kept in a file, if only regions are wanted


class Passes:
    """The passes of one rendering; call it for the result.

    Where the strength is below 1, only the difference to the photograph's share is enlarged and
    corrected, so that the photograph keeps its finest detail.

    Args:
        method: the method.
        content: the photograph.
        style, strength: see :meth:`OnePass.__call__`.
        stored: keep large passes in temporary files.
    """

    def __init__(
        self,
        method: OnePass,
        content: Canvas,
        style: Any,
        strength: float,
        stored: bool = False,
    ) -> None:
        self.method, self.content, self.style, self.strength = method, content, style, strength
        self.stored = stored
        self.sizes = method.sizes(content.size)
        self.sides = method.sides(content.size, stored)
        self.share = max(0.0, 1 - strength) if len(self.sizes) > 1 else 0.0  # of the photograph

    def __call__(self) -> Canvas:
        """The result, ``(1, 3, H, W)``, clipped."""
        result: Canvas | None = None
        first: Tensor | None = None
        passes = divided(self.sizes, "brush", [height * width for height, width in self.sizes])
        for size, side in zip(passes, self.sides, strict=True):
            source = self._source(size, whole=side is None)
            if result is None:
                _tell(source, painted=False)
                before, amount = None, 1.0
            else:
                # If the picture is hardly enlarged, a second pass would only repeat the first.
                amount = min(1.0, 2 * math.log2(size[0] / result.size[0]))
                before = self._before(result, size, whole=side is None)
                _tell(self._shown(before, source))
            if side is None:
                result = self._in_one_piece(source, before, amount, first)
            else:
                result = self._in_tiles(source, before, amount, first, side)
            if len(self.sizes) > 1:
                first = _all(result) if first is None else first
                _tell(self._shown(result, source))
        return self._finally(result)

    def _source(self, size: tuple[int, int], whole: bool) -> Canvas:
        """The photograph at ``size``."""
        if size == self.content.size:
            return Whole(_all(self.content)) if whole else self.content
        return Whole(self.content.at(size)) if whole else Resized(self.content, size)

    def _before(self, result: Canvas, size: tuple[int, int], whole: bool) -> Canvas:
        """The result of the last pass, enlarged to ``size``."""
        return Whole(result.at(size), False) if whole else Resized(result, size, clipped=False)

    def _shown(self, painted: Canvas, source: Canvas) -> Canvas:
        """``painted`` with the photograph's share; clipped."""
        return _Sum(painted, source, self.share)

    def _in_one_piece(
        self, source: Canvas, before: Canvas | None, amount: float, first: Tensor | None
    ) -> Canvas:
        content = self.method.arranged(_all(source))
        pictures = content
        if before is not None:
            pictures = self.method.arranged(_all(self._shown(before, source)))
        fine = self.method.render(pictures, self.style, self.strength).clamp_(0, 1)
        if self.share:
            fine.sub_(content, alpha=self.share)
        if before is None or first is None:
            return Whole(fine, clipped=False)
        return Whole(_back_projected(_all(before).lerp(fine, amount), first), clipped=False)

    def _in_tiles(
        self,
        source: Canvas,
        before: Canvas | None,
        amount: float,
        first: Tensor | None,
        side: int,
    ) -> Canvas:
        method, size = self.method, source.size
        canvas = source if before is None else self._shown(before, source)
        stored = self.stored and size[0] * size[1] > STORED
        paint = method.by_tile(canvas, self.style, self.strength, side, stored)
        out = Buffer(size, device_of(source), stored)
        reductions = [] if first is None else [Reduction(size, c) for c in _coarse(size, first)]
        for tile in divided(tiles_of(size, side, *method.reach), "tile"):
            rows, columns = tile.rows.seen, tile.columns.seen
            pictures = method.arranged(canvas.region(rows, columns))
            fine = paint(pictures, rows, columns).clamp_(0, 1)
            with portion(0):  # a tile is one step
                fine = method.finished(fine, pictures, self.style, self.strength).clamp_(0, 1)
            kept = tile.rows.kept, tile.columns.kept
            core = tile.core(fine)
            if self.share:
                core = core.sub(source.region(*kept).to(core.device), alpha=self.share)
            if before is not None and amount < 1:
                core = before.region(*kept).to(core.device).lerp(core, amount)
            out.put(*kept, core)
            for reduction in reductions:
                reduction.add(core, *kept)
        if first is not None:
            _restore(out, first, [reduction.pictures for reduction in reductions])
        return out

    def _finally(self, result: Canvas | None) -> Canvas:
        """The result with the photograph's share, clipped; in place where it is in memory."""
        assert result is not None
        if isinstance(result, Buffer) and not result.stored:
            for rows, columns in _strips(result.size):
                part = result.region(rows, columns)
                if self.share:
                    part.add_(self.content.region(rows, columns).to(part.device), alpha=self.share)
                part.clamp_(0, 1)
            return result
        shown = self._shown(result, self._source(result.size, whole=False))
        return shown if isinstance(result, Buffer) else Whole(_all(shown))


class _Sum:
    """A canvas and a share of another one of its size, clipped to 0..1."""

    def __init__(self, one: Canvas, other: Canvas, share: float) -> None:
        self.one, self.other, self.share, self.size = one, other, share, one.size

    def region(self, rows: slice, columns: slice) -> Tensor:
        """See :class:`impasto.images.canvas.Canvas`."""
        return self._sum(lambda canvas: canvas.region(rows, columns))

    def at(self, size: tuple[int, int]) -> Tensor:
        """See :class:`impasto.images.canvas.Canvas`."""
        return self._sum(lambda canvas: canvas.at(size))

    def _sum(self, part: Callable[[Canvas], Tensor]) -> Tensor:
        one = part(self.one)
        if not self.share:
            return one.clamp(0, 1)
        return one.add(part(self.other).to(one.device), alpha=self.share).clamp_(0, 1)


def _all(canvas: Canvas) -> Tensor:
    return canvas.region(*(slice(0, side) for side in canvas.size))


def _tell(canvas: Canvas, painted: bool = True) -> None:
    """Say that the picture so far is ``canvas``."""
    so_far(lambda: _all(canvas), canvas.size, keep=painted, painted=painted)


def _strips(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, size[0], ROWS):
        yield slice(top, min(top + ROWS, size[0])), slice(0, size[1])


def _coarse(size: tuple[int, int], first: Tensor) -> list[tuple[int, int]]:
    """The sizes at which a picture of ``size`` is compared with the first pass."""
    short = min(first.shape[-2:])
    return [fit(*size, max(1, short // divisor)) for divisor, _ in RESTORED]


def _restore(out: Buffer, first: Tensor, reduced: Iterable[Tensor]) -> None:
    """As :func:`_back_projected`, in place; ``reduced`` is the picture at each scale.

    What one scale has restored is added to the picture at the next: reduced, the enlarged
    correction is nearly itself.
    """
    corrections: list[Tensor] = []
    for (_, share), pictures in zip(RESTORED, reduced, strict=True):
        size = (pictures.shape[-2], pictures.shape[-1])
        for correction in corrections:
            pictures = pictures + sized(correction, size)
        corrections.append(share * (sized(first.to(pictures.device), size) - pictures))
    enlarged = [Resized(Whole(part, False), out.size, clipped=False) for part in corrections]
    for rows, columns in _strips(out.size):
        part = out.region(rows, columns)
        for canvas in enlarged:
            part = part.add_(canvas.region(rows, columns).to(part.device))
        if out.stored:
            out.put(rows, columns, part)


def _back_projected(pictures: Tensor, first: Tensor) -> Tensor:
    """Replace the coarse scales of ``pictures`` by those of ``first``; see :data:`RESTORED`.

    ``first`` is smaller than ``pictures``.
    """
    size = (pictures.shape[-2], pictures.shape[-1])
    for coarse, (_, share) in zip(_coarse(size, first), RESTORED, strict=True):
        missing = sized(first, coarse) - sized(pictures, coarse)
        pictures.add_(sized(missing, size), alpha=share)
    return pictures
