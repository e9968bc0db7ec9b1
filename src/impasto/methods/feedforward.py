"""Base classes of the methods that render in one forward pass of a network.

:class:`OnePass` checks the picture, runs the network, and repairs its result. It can also run the
network at several sizes, coarse to fine, so that strokes grow with the picture. :class:`AnyStyle`
adds styles that are measured as moments of features.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..color import own_colors, with_colors_of
from ..device import (
    arranged,
    lacking_memory,
    memory,
    sparing,
    unmixed,
)
from ..errors import InputError, spelled
from ..finish import Origin, finished
from ..images import MIN_SIDE, Source, fit, resize
from ..networks.tiling import Run, Tileable, in_tiles
from ..statistics import Moments
from ..styles import (
    LayerMoments,
    LearntStyle,
    StoredStyle,
    Style,
    check_prepared,
    prepared,
)
from ..watch import OnStep, divided, portion, so_far, watching
from .face import Face
from .model import Model, StyleModel
from .records.base import PassOptions, StyleOptions

__all__ = ["AnyStyle", "OnePass"]

SIDE = 512  # pixels, of tiles
# Bytes for each pixel of a picture in tiles, for copies in float32: measured at 12 megapixels, 97
# by ghiasi and 135 by adain
PICTURES = 140
WHOLE = 2_000_000  # pixels of the largest picture that is rendered in one piece by default
WORKING = 512  # short side in pixels of the first pass with a brush of 1
# Back-projection: from each scale (divisor of the first pass's size) on, the share that is restored
RESTORED = ((4, 1.0), (1, 0.4))
# Rough shares of the work, for its progress: a repair, and measuring the style the first time, of
# a pass; and what comes after the last pass, so that the last step shows the result
REPAIR, AIM, LAST = 0.02, 0.1, 0.01


class OnePass(Face, ABC):
    """A method of one pass, see :class:`impasto.methods.base.Method`.

    A network paints strokes of a fixed size in pixels. With a ``brush``, the size of the strokes is
    proportional to the picture: the picture is painted at a working size, then the result is
    enlarged and painted again, in steps of about two, up to the full size (Wang et al., "Multimodal
    Transfer", CVPR 2017, with one network for all sizes). Every further pass sharpens the edges of
    the enlarged strokes. It also changes tones and forms; tones, and a part of the forms, are
    restored from the first pass (back-projection; full back-projection leaves ghosts beside edges
    that have moved).

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

    def __init__(self, model: Model, options: PassOptions, **resolved: Any) -> None:
        needs_float32 = model.reversible and options.precision == "auto"
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

    def side(self, size: tuple[int, int]) -> int | None:
        """Side in pixels of the tiles for a picture of ``size``; None: in one piece."""
        tile = getattr(self.options, "tile", None)
        if tile == "auto":
            tile = SIDE if size[0] * size[1] > WHOLE else None
        if tile is None or not self.model.halo or max(size) <= tile:
            return None
        return int(tile)

    def normalised(self, network: Tileable, run: Run, pictures: Tensor) -> Tensor:
        """``run`` of a network with normalisation layers, in tiles if the picture is large."""
        side = self.side((pictures.shape[-2], pictures.shape[-1]))
        if side is None:
            return run(pictures, None)
        exact = getattr(self.options, "statistics", None) == "exact"
        return in_tiles(network, run, pictures, side, exact)

    @abstractmethod
    def paint(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """Run the network once: pictures ``(B, 3, H, W)``, not clipped, and not repaired."""

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
        colored = own_colors(rgb, colors)

        def shown(pictures: Tensor) -> Tensor:
            out = pictures[0].cpu()
            alike = resize(rgb, (out.shape[-2], out.shape[-1]))
            return with_colors_of(alike, out, colored)

        with watching(on_step, rgb[None], shown) as watch:
            # In tiles, pictures are the largest blocks; whole features are faster in a kept heap.
            pixels = 0 if self.side(size) is None else size[0] * size[1]
            with portion(1 - LAST), sparing(pixels):
                out = self._brushed(self._on_device(rgb), style, strength)
            so_far(out, keep=True)
        return resize(watch.picture(), size)

    def _check_memory(self, size: tuple[int, int]) -> None:
        """Raise OutOfMemoryError for a picture that needs too much."""
        sizes, per_pixel = self.sizes(size), self.model.bytes_per_pixel(self.dtype)

        def of_tiles(side: int) -> float:
            """Bytes of a tile with its halo, or of a smaller pass in one piece."""
            tile = (side + 2 * self.model.halo) ** 2
            smaller = [h * w for h, w in sizes[:-1] if self.side((h, w)) is None]
            return per_pixel * max(tile, *smaller, 0)

        pixels = size[0] * size[1]
        available = memory.available_memory(self.device)
        one_piece = per_pixel + (36 if len(sizes) > 1 else 0)  # three pictures in float32
        side = self.side(size)
        fixed, rate = (0.0, one_piece) if side is None else (of_tiles(side), PICTURES)
        needed = fixed + rate * pixels
        if needed <= available:
            return
        tiled = of_tiles(SIDE) + PICTURES * pixels
        possible = side is None and self.model.halo and max(size) > SIDE and tiled <= available
        raise lacking_memory(
            size,
            needed,
            available,
            max((available - fixed) / rate, available / one_piece),
            f", or {spelled('tile', SIDE)}" if possible else "",
        )

    def _brushed(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """Run :meth:`render` at every size of the brush, coarse to fine; pictures in 0..1."""
        sizes = self.sizes((pictures.shape[-2], pictures.shape[-1]))
        if len(sizes) == 1:
            return self.render(pictures, style, strength).clamp_(0, 1)
        passes = divided(sizes, "brush", [height * width for height, width in sizes])
        content_share = max(0.0, 1 - strength)  # of the photograph, with its finest detail
        content = resize(pictures, next(passes))
        so_far(content, painted=False)
        # Only the difference to the photograph's share is enlarged and corrected.
        out = self.render(content, style, strength).clamp_(0, 1)
        out = base = out.sub_(content, alpha=content_share)

        def painted() -> Tensor:
            return out.add(content, alpha=content_share).clamp_(0, 1)

        so_far(painted, sizes[0], keep=True)
        for size in passes:
            factor = size[0] / content.shape[-2]
            out, content = _resized(out, size), resize(pictures, size)
            so_far(painted, size, keep=True)
            fine = self.render(painted(), style, strength).clamp_(0, 1)
            fine.sub_(content, alpha=content_share)
            # If the picture is hardly enlarged, a second pass would only repeat the first.
            out = _back_projected(out.lerp_(fine, min(1.0, 2 * math.log2(factor))), base)
        return out.add_(content, alpha=content_share).clamp_(0, 1)

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes ``(H, W)`` of the passes for a picture of ``size``; the last one is ``size``."""
        if self.brush is None or min(size) * self.brush <= WORKING:
            return [size]
        working = WORKING / self.brush
        octaves = math.log2(min(size) / working)
        steps = max(1, round(octaves))
        shorts = [working * 2 ** (octaves * step / steps) for step in range(steps)]
        smaller = [fit(*size, round(short)) for short in shorts]
        return [*(pass_size for pass_size in smaller if pass_size != size), size]

    def _on_device(self, picture: Tensor) -> Tensor:
        return arranged(picture[None].to(torch.float32), self.device)


class AnyStyle(OnePass):
    """A method of one pass that takes any painting and measures the moments of its features.

    ``strength`` mixes the content's features with the stylised features at every tap (report 3,
    alpha). Below 1, the same share of the detail that the decoder loses is added back, so that 0
    returns the content itself.

    Args:
        model: the model; it is moved to the device and frozen.
        options: options of the method.
        resolved: see :class:`OnePass`.
    """

    model: StyleModel

    def __init__(self, model: StyleModel, options: StyleOptions, **resolved: Any) -> None:
        self.style_scale = options.style_scale
        super().__init__(model, options, features=model.fingerprint, **resolved)

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle | Style],
        weights: Sequence[float] | None = None,
    ) -> Style:
        """Measure one or several styles; see :func:`impasto.styles.prepared`."""
        model = self.model
        return prepared(
            *(styles, weights, model.method, model.fingerprint, model.taps, self.measure),
            model.steps,
        )

    def colors(self, style: Style) -> Moments:
        """See :class:`OnePass`."""
        check_prepared(style, self.model.method, self.model.fingerprint, self.model.taps)
        return style.color

    @torch.no_grad()
    @unmixed()
    def measure(self, picture: Tensor) -> LayerMoments:
        """Normalised moments of a picture ``(3, H, W)`` at the taps, in float32."""
        moments = self.model.measure(self._on_device(picture))
        return {
            tap: Moments(m.weight[0], m.first[0], m.second[0]).normalised().to(torch.float32)
            for tap, m in moments.items()
        }

    def aim(self, pictures: Tensor, style: Style) -> dict[str, Moments]:
        """The target moments for ``pictures``: those of the style at their size."""
        layers = style.at(max(MIN_SIDE, round(min(pictures.shape[-2:]) * self.style_scale)))
        return {tap: layers[tap].to(self.device) for tap in self.model.taps}

    def paint(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`."""
        with portion(AIM):
            aim = self.aim(pictures, style)
        return self.model(pictures, aim, strength)


def _back_projected(pictures: Tensor, base: Tensor) -> Tensor:
    """Replace the coarse scales of ``pictures`` by those of ``base``; see :data:`RESTORED`.

    ``base`` is smaller than ``pictures``.
    """
    size = (pictures.shape[-2], pictures.shape[-1])
    for divisor, share in RESTORED:
        coarse = fit(*size, max(1, min(base.shape[-2:]) // divisor))
        missing = _resized(base, coarse) - _resized(pictures, coarse)
        pictures.add_(_resized(missing, size), alpha=share)
    return pictures


def _resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """As :func:`impasto.images.resize`, but without clipping: values may be negative."""
    return F.interpolate(pictures, size=size, mode="bicubic", antialias=True)
