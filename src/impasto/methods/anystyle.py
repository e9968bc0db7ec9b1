"""Base class of the methods of one pass that take any painting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..device import unmixed
from ..images import MIN_SIDE, Source
from ..images.canvas import Canvas, Whole
from ..statistics import Moments
from ..styles import LayerMoments, LearntStyle, StoredStyle, Style, check_prepared, prepared
from ..watch import portion
from .feedforward import OnePass
from .model import StyleModel
from .records.base import StyleOptions

__all__ = ["AIM", "AnyStyle"]

AIM = 0.1  # rough share of a pass that measuring the style takes the first time


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

    def aim(self, canvas: Canvas, style: Style) -> dict[str, Moments]:
        """The target moments for a picture: those of the style at its size."""
        layers = style.at(max(MIN_SIDE, round(min(canvas.size) * self.style_scale)))
        return {tap: layers[tap].to(self.device) for tap in self.model.taps}

    def paint(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`."""
        if self.local:
            return super().paint(pictures, style, strength)
        with portion(AIM):
            aim = self.aim(Whole(pictures), style)
        return self.model(pictures, aim, strength)
