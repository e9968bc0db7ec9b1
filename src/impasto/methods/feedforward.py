"""Base class of the methods that render in one forward pass of a network.

It checks the picture and its memory, runs the network, and repairs its result. It can also run the
network at several sizes, coarse to fine, so that strokes grow with the picture.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..color import own_colors, with_colors_of
from ..device import (
    arranged,
    lacking_memory,
    memory,
    sparing,
    unmixed,
)
from ..errors import InputError, check_strength, spelled
from ..finish import Origin, finished, reach_of
from ..images import Source, fit, resize
from ..images.canvas import Canvas, Whole, reduced
from ..images.picture import check_pixels
from ..networks.tiling import THUMBNAIL, Paint, Run, Tileable, measured
from ..statistics import Moments
from ..watch import OnStep, portion, so_far, watching
from .brush import STORED, Passes
from .face import Face
from .model import Model
from .records.base import PassOptions

__all__ = ["OnePass", "with_lost_detail"]

SIDES = (3072, 768, 512)  # pixels, of tiles that are chosen by themselves
COPY = 12  # bytes for each pixel of a picture in float32
PICTURES = 3  # content, result, and the last pass or a margin
WHOLE = 2_000_000  # pixels of the largest picture that is rendered in one piece by default
LONGEST = 1.3  # octaves of a step, where that saves one: at 4000x3000 a sixth of the time
WORKING = 512  # short side in pixels of the first pass with a brush of 1
ROWS = 256  # of a streamed result that are given at a time
# Rough shares of the work, for its progress: a repair, of a pass; and what comes after the last
# pass, so that the last step shows the result
REPAIR, LAST = 0.02, 0.01


class OnePass(Face, ABC):
    """A method of one pass, see :class:`impasto.methods.base.Method`.

    Strokes are proportional to the picture, see :mod:`impasto.methods.brush`.

    A brush of 1 paints strokes as large as one pass at a short side of 512 px does; a brush of 2
    paints them twice as large (a working size of 256 px). A picture that is not larger than the
    working size is painted in one pass. Without a brush, a picture of any size is.

    Args:
        model: the model; it is moved to the device and frozen.
        options: options of the method.
        resolved: the values that the options were resolved to, recorded in ``settings``.

    Attributes:
        finish: the repairs that are applied, in order; see :mod:`impasto.finish`.

    Raises:
        InputError: for a precision that a reversible network cannot compute in.
    """

    thumbnail = THUMBNAIL  # short side in pixels of the largest picture that is measured whole

    def __init__(self, model: Model, options: PassOptions, **resolved: Any) -> None:
        # In bfloat16, statistics of the whole by tiles would differ from it by 4 of 255 levels.
        self.exact = getattr(options, "statistics", None) == "exact"
        needs_float32 = (model.reversible or self.exact) and options.precision == "auto"
        super().__init__(model.method, options, "float32" if needs_float32 else None)
        if model.reversible and self.dtype != torch.float32:
            raise InputError(
                f"method {self.name} reverses its network, and in {options.precision} it does not "
                f"come back: use {spelled('precision', 'float32')}",
                option="precision",
            )
        self.brush = options.brush
        for net in model.networks:
            arranged(net.eval().requires_grad_(False).to(self.dtype), self.device)
        for net in model.exact:
            arranged(net.eval().requires_grad_(False), self.device)
        self.model = model
        repairs = () if options.raw else model.finish
        self.finish = tuple(name for name in repairs if getattr(options, name, True))
        self.record(model=model.name, **resolved)

    @property
    def local(self) -> bool:
        """Whether :meth:`by_tile` is there, and the model suits tiles."""
        return type(self).by_tile is not OnePass.by_tile and self.model.halo > 0

    @property
    def reach(self) -> tuple[int, int]:
        """Where pictures may be cut into tiles, and the halo of these, with that of the repairs."""
        unit, margin = reach_of(self.finish, self.model.period)
        unit = math.lcm(unit, self.model.unit)
        return unit, unit * math.ceil((self.model.halo + margin) / unit)

    def sides(self, size: tuple[int, int], stored: bool = False) -> list[int | None]:
        """For each of the :meth:`sizes`, the side in pixels of its tiles; None: in one piece.

        ``auto`` renders in one piece what is small and fits; a large picture in tiles, even if one
        is enough: it needs less memory. ``stored``: large pictures are in files.
        """
        tile, sizes = getattr(self.options, "tile", None), self.sizes(size)
        if tile is None or not self.local:
            return [None] * len(sizes)
        if tile != "auto":
            return [int(tile) if max(each) > tile else None for each in sizes]
        free = memory.available_memory(self.device)
        largest = [side for side in SIDES if side <= self.model.side and not self.exact]

        def chosen(each: tuple[int, int]) -> int | None:
            whole = [None] if each[0] * each[1] <= WHOLE else []
            sides = [*whole, *largest]
            fitting = (s for s in sides if self._bytes(each, s, size, stored) <= free)
            return next(fitting, SIDES[-1])

        return [chosen(each) for each in sizes]

    def by_tile(
        self, canvas: Canvas, style: Any, strength: float, side: int | None, stored: bool = False
    ) -> Paint:
        """Measure what is of the whole picture; returns what renders a part of it, not clipped.

        Args:
            canvas: the picture.
            style, strength: see :meth:`__call__`.
            side: of tiles; None for the picture in one piece.
            stored: keep what is as large as the picture in temporary files.
        """
        raise NotImplementedError

    def paint(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """Run the network once: pictures ``(B, 3, H, W)``, not repaired."""
        rows, columns = (slice(0, side) for side in pictures.shape[-2:])
        paint = self.by_tile(Whole(pictures), style, strength, None)
        return paint(pictures, rows, columns).clamp_(0, 1)

    def measured(
        self, network: Tileable, run: Run, canvas: Canvas, side: int | None, share: float = 1.0
    ) -> Paint:
        """See :func:`impasto.networks.tiling.measured`."""

        def on_device(pictures: Tensor, noise: Tensor | None) -> Tensor:
            return run(self.arranged(pictures), noise)

        return measured(network, on_device, canvas, side, self.exact, share)

    def render(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """:meth:`paint`, then :meth:`finished`."""
        with portion(1 - REPAIR * len(self.finish)):
            painted = self.paint(pictures, style, strength)
            so_far(lambda: painted.clamp(0, 1), (painted.shape[-2], painted.shape[-1]))
        return self.finished(painted, pictures, style, strength)

    def finished(
        self, pictures: Tensor, contents: Tensor, style: Any, strength: float = 1.0
    ) -> Tensor:
        """Repair ``pictures``, which were rendered from ``contents``."""
        origin = Origin(contents, self.colors(style), strength, self.model.period)
        return finished(pictures, origin, self.finish)

    @abstractmethod
    def colors(self, style: Any) -> Moments:
        """Colour moments of a prepared style; InputError if this method did not prepare it."""

    @torch.no_grad()
    @unmixed()
    def __call__(
        self,
        content: Source,
        style: Any,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Render ``content``. The result, ``(3, H, W)`` in 0..1, has its size and is on the CPU.

        ``strength``: 0 returns the content itself, 1 is the full style.

        Raises:
            InputError: if the picture is too small or needs more memory than is available,
                ``strength`` is negative, or ``style`` is not what :meth:`prepare` returned.
        """
        colors = self.colors(style)
        rgb = self.checked(content, strength)
        size = (rgb.shape[-2], rgb.shape[-1])
        self._check_memory(size)
        shown = _shown(Whole(rgb[None]), own_colors(rgb, colors))
        with watching(on_step, rgb[None], shown) as watch:
            content = rgb[None] if self.device.type == "cpu" else self._on_device(rgb)
            passes = Passes(self, Whole(content), style, strength)
            tiled = passes.sides[-1] is not None
            # In tiles, pictures are the largest blocks; whole features are faster in a kept heap.
            with portion(1 - LAST), sparing(size[0] * size[1] if tiled else 0, block=1 << 25):
                result = passes()
                out = result.region(slice(0, size[0]), slice(0, size[1]))
            so_far(out, keep=True)
        return resize(watch.picture(), size)

    @torch.no_grad()
    @unmixed()
    def streamed(
        self,
        canvas: Canvas,
        style: Any,
        put: Callable[[slice, slice, Tensor], None],
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> None:
        """Render a picture of any size, region by region: neither it nor the result is held.

        Args:
            canvas: the photograph.
            style, strength, on_step: see :meth:`__call__`.
            put: called with rows, columns, and the result there, ``(3, h, w)`` in 0..1 on the CPU;
                the regions are the whole, each pixel once. Not called if the work is cancelled.

        Raises:
            InputError: as :meth:`__call__`; also for a method that needs the picture whole, and
                for what is no canvas of one picture.
        """
        colors = self.colors(style)
        check_strength(strength)
        if not self.local:
            raise InputError(f"method {self.name} needs the picture whole: use another method")
        if not isinstance(canvas, Canvas):
            raise InputError(f"canvas: a {type(canvas).__name__}: give a FileCanvas, or a Whole")
        size = canvas.size
        check_pixels(*size, "canvas")
        self._check_memory(size, stored=True)
        small = canvas.at(reduced(size, WORKING))
        if small.ndim != 4 or small.shape[:2] != (1, 3) or not small.isfinite().all():
            raise InputError("canvas: is no (1, 3, H, W), or holds NaN or infinity: correct it")
        colored = own_colors(small[0], colors)
        with watching(on_step, small, _shown(canvas, colored)) as watch:
            with portion(1 - LAST), sparing(size[0] * size[1], block=1 << 25):
                result = Passes(self, canvas, style, strength, stored=True)()
            if not watch.cancelled:
                for top in range(0, size[0], ROWS):
                    rows, columns = slice(top, min(top + ROWS, size[0])), slice(0, size[1])
                    out = result.region(rows, columns)[0].cpu()
                    if colored < 1:
                        out = with_colors_of(canvas.region(rows, columns)[0].cpu(), out, colored)
                    put(rows, columns, out)

    def _bytes(
        self,
        size: tuple[int, int],
        side: int | None,
        final: tuple[int, int],
        stored: bool = False,
    ) -> float:
        """Bytes of memory for a pass of ``size`` on the way to a result of size ``final``."""
        model = self.model
        network = model.bytes_per_pixel(self.dtype) * math.prod(size)
        copies = PICTURES if len(self.sizes(final)) > 1 else 0
        if side is not None:
            height, width = (min(side, length) + 2 * self.reach[1] for length in size)
            small = math.prod(reduced(size, self.thumbnail)) * model.bytes_per_pixel(self.dtype)
            network = max(height * width * model.bytes_per_pixel_of_tile(self.dtype), small)
            copies = PICTURES + model.copies
        if stored:  # content and result are not in memory, only the smaller passes
            return network + COPY * (copies - 1) * min(math.prod(final), STORED)
        return network + COPY * copies * math.prod(final)

    def _needed(self, size: tuple[int, int], stored: bool = False) -> float:
        """Bytes of memory for a picture of ``size``."""
        passes = zip(self.sizes(size), self.sides(size, stored), strict=True)
        return max(self._bytes(each, side, size, stored) for each, side in passes)

    def _check_memory(self, size: tuple[int, int], stored: bool = False) -> None:
        """Raise OutOfMemoryError for a picture that needs too much."""
        available = memory.available_memory(self.device)
        needed = self._needed(size, stored)
        if needed <= available:
            return
        instead, sides = "", self.sides(size, stored)
        if self.local and any(side is None or side > SIDES[-1] for side in sides):
            least = max(self._bytes(each, SIDES[-1], size, stored) for each in self.sizes(size))
            instead = f", or {spelled('tile', SIDES[-1])}" if least <= available else ""
        most = self._most_pixels(size, available, stored)
        raise lacking_memory(size, needed, available, most, instead)

    def _most_pixels(self, size: tuple[int, int], available: float, stored: bool) -> float:
        """How many pixels in the proportion of ``size`` there is memory for."""
        low, high = 0, min(size)
        while high - low > 1:
            short = (low + high) // 2
            smaller = fit(*size, short)
            if self._needed(smaller, stored) <= available:
                low = short
            else:
                high = short
        return (low / min(size)) ** 2 * size[0] * size[1]

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes ``(H, W)`` of the passes for a picture of ``size``; the last one is ``size``."""
        if self.brush is None or min(size) * self.brush <= WORKING:
            return [size]
        working = WORKING / self.brush
        octaves = math.log2(min(size) / working)
        steps = max(1, min(round(octaves), math.ceil(octaves / LONGEST)))
        shorts = [working * 2 ** (octaves * step / steps) for step in range(steps)]
        smaller = [fit(*size, round(short)) for short in shorts]
        return [*(pass_size for pass_size in smaller if pass_size != size), size]

    def arranged(self, pictures: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` on the device, in float32 and the network's layout."""
        return arranged(pictures.to(torch.float32), self.device)

    def _on_device(self, picture: Tensor) -> Tensor:
        return self.arranged(picture[None])


def _shown(canvas: Canvas, share: float) -> Callable[[Tensor], Tensor]:
    """What makes of a picture so far ``(1, 3, H, W)`` that of a :class:`Step`.

    Args:
        canvas: the photograph.
        share: of the method's colours, see :func:`impasto.color.with_colors_of`.
    """

    def shown(pictures: Tensor) -> Tensor:
        out = pictures[0].cpu()
        if share == 1:
            return out
        return with_colors_of(canvas.at((out.shape[-2], out.shape[-1]))[0].cpu(), out, share)

    return shown


def with_lost_detail(styled: Paint, plain: Paint, share: float) -> Paint:
    """``styled``, with a share of what ``plain``, the picture in its own manner, loses of it."""

    def paint(pictures: Tensor, rows: slice, columns: slice) -> Tensor:
        lost = pictures - plain(pictures, rows, columns)
        return styled(pictures, rows, columns).add_(lost, alpha=share)

    return paint
