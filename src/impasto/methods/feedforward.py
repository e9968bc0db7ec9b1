"""The face of the methods of one pass: with a brush, and for any style."""

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
    check_memory,
    unmixed,
)
from ..errors import InputError
from ..finish import Origin, finished
from ..images import MIN_SIDE, Source, fit, resize
from ..statistics import Moments
from ..styles import (
    LayerMoments,
    LearntStyle,
    StoredStyle,
    Style,
    check_prepared,
    prepared,
)
from .base import OnStep
from .face import Face
from .model import Model, StyleModel
from .records.base import PassOptions, StyleOptions

__all__ = ["AnyStyle", "OnePass"]

WORKING = 512  # short side in pixels at which a brush of 1 paints
KEPT = ((4, 1.0), (1, 0.4))  # what of the first pass is kept: from how coarse on, what share


class OnePass(Face, ABC):
    """A method of one pass, see :class:`impasto.methods.base.Method`.

    A network's strokes have a size in pixels. With a ``brush`` they have one in proportion to the
    picture: it is painted at a working size, then what came out is enlarged and painted again, in
    steps of about two, up to the full size (Wang et al., "Multimodal Transfer", CVPR 2017, with one
    network for all sizes). Every further pass gives the enlarged strokes sharp edges; tones and, in
    part, forms that it changed are taken from the first (back-projection; in full it leaves ghosts
    beside edges that have moved).

    A brush of 1 makes strokes as in one pass at a short side of 512 px, 2 twice as large ones (a
    working size of 256 px). A picture that is not larger than the working size is painted in one
    pass as it is; without a brush, a picture of any size is.

    Args:
        model: is frozen and moved.
        options: of the method.
        resolved: what they came to, for the record.

    Attributes:
        finish: the repairs that are made, in their order; see :mod:`impasto.finish`.

    Raises:
        InputError: for a precision that a reversible network cannot compute in.
    """

    def __init__(self, model: Model, options: PassOptions, **resolved: Any) -> None:
        exact = model.reversible and options.precision == "auto"
        super().__init__(model.method, options, "float32" if exact else None)
        if model.reversible and self.dtype != torch.float32:
            raise InputError(
                f"method {self.name} reverses its network, and in {options.precision} it does not "
                "come back: use --precision float32"
            )
        self.brush = options.brush
        for net in model.networks:
            arranged(net.eval().requires_grad_(False).to(self.dtype), self.device)
        for net in model.exact:
            arranged(net.eval().requires_grad_(False), self.device)
        self.model = model
        wanted = () if options.raw else model.finish
        self.finish = tuple(name for name in wanted if getattr(options, name, True))
        self.record(model=model.name, **resolved)

    @abstractmethod
    def paint(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, from pictures and a prepared style."""

    def render(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """:meth:`paint`, then :meth:`finished`."""
        return self.finished(self.paint(pictures, style, strength), pictures, style, strength)

    def finished(
        self, pictures: Tensor, contents: Tensor, style: Any, strength: float = 1.0
    ) -> Tensor:
        """``pictures`` made of ``contents``, after the repairs."""
        origin = Origin(contents, self.colors(style), strength, self.model.period)
        return finished(pictures, origin, self.finish)

    @abstractmethod
    def colors(self, style: Any) -> Moments:
        """Moments of a prepared style's colours; InputError if this method did not prepare it."""

    @torch.no_grad()
    @unmixed()
    def __call__(
        self,
        content: Source,
        style: Any,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Render ``content`` ``(3, H, W)`` in 0..1; the result has its size and is on the CPU.

        ``strength``: 0 gives the content itself, 1 the full style.

        Raises:
            InputError: if the picture is too small or needs more memory than there is,
                ``strength`` is negative, or ``style`` is not what :meth:`prepare` returned.
        """
        colors = self.colors(style)
        rgb = self.checked(content, strength)
        height, width = rgb.shape[-2:]
        beside = 36 if len(self.sizes((height, width))) > 1 else 0  # three pictures in float32
        needed = self.model.bytes_per_pixel(self.dtype) + beside
        check_memory((height, width), needed, self.device)
        out = self._brushed(self._on_device(rgb), style, strength)[0].cpu()
        return with_colors_of(rgb, out, own_colors(rgb, colors))

    def _brushed(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """:meth:`render` with the brush, in 0..1."""
        first, *larger = self.sizes((pictures.shape[-2], pictures.shape[-1]))
        if not larger:
            return self.render(pictures, style, strength).clamp_(0, 1)
        kept = max(0.0, 1 - strength)  # of the photograph, also of what only the full size shows
        seen = resize(pictures, first)
        # What is enlarged and corrected is what was painted beyond the photograph that is kept.
        out = base = self.render(seen, style, strength).clamp_(0, 1).sub_(seen, alpha=kept)
        for size in larger:
            times = size[0] / seen.shape[-2]
            out, seen = _resized(out, size), resize(pictures, size)
            coarse = out.add(seen, alpha=kept).clamp_(0, 1)
            fine = self.render(coarse, style, strength).clamp_(0, 1).sub_(seen, alpha=kept)
            # Of a picture that is hardly enlarged, a second pass would only double the first.
            out = _held(out.lerp_(fine, min(1.0, 2 * math.log2(times))), base)
        return out.add_(seen, alpha=kept).clamp_(0, 1)

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes ``(H, W)`` of the passes for a picture of ``size``, which is the last of them."""
        if self.brush is None or min(size) * self.brush <= WORKING:
            return [size]
        working = WORKING / self.brush
        octaves = math.log2(min(size) / working)
        steps = max(1, round(octaves))
        shorts = [working * 2 ** (octaves * step / steps) for step in range(steps)]
        smaller = [fit(*size, round(short)) for short in shorts]
        return [*(each for each in smaller if each != size), size]

    def _on_device(self, picture: Tensor) -> Tensor:
        return arranged(picture[None].to(torch.float32), self.device)


class AnyStyle(OnePass):
    """A method of one pass that takes any painting, by the moments of its features.

    ``strength`` mixes the features with their transferred ones at every tap (paper 3, alpha). Below
    1, the same share of what the decoder loses of the picture is put back, so that 0 gives the
    content itself.

    Args:
        model: is frozen and moved.
        options: of the method.
        resolved: see :class:`OnePass`.
    """

    model: StyleModel

    def __init__(self, model: StyleModel, options: StyleOptions, **resolved: Any) -> None:
        self.style_scale = options.style_scale
        super().__init__(model, options, features=model.fingerprint, **resolved)

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle],
        weights: Sequence[float] | None = None,
    ) -> Style:
        """Get ready for one or several styles; see :func:`impasto.styles.prepared`."""
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
        """The moments to give to ``pictures``: those of the style at their size."""
        layers = style.at(max(MIN_SIDE, round(min(pictures.shape[-2:]) * self.style_scale)))
        return {tap: layers[tap].to(self.device) for tap in self.model.taps}

    def paint(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`."""
        return self.model(pictures, self.aim(pictures, style), strength)


def _held(pictures: Tensor, base: Tensor) -> Tensor:
    """``pictures`` with what is coarse from ``base``, which is smaller; see :data:`KEPT`."""
    size = (pictures.shape[-2], pictures.shape[-1])
    for times, share in KEPT:
        coarse = fit(*size, max(1, min(base.shape[-2:]) // times))
        missing = _resized(base, coarse) - _resized(pictures, coarse)
        pictures.add_(_resized(missing, size), alpha=share)
    return pictures


def _resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """As :func:`impasto.images.resize`, also of what is negative."""
    return F.interpolate(pictures, size=size, mode="bicubic", antialias=True)
