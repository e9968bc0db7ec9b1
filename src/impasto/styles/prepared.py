"""Prepared styles: one or several paintings, stored or learnt styles, measured for a method.

A painting has different moments at different sizes. They are measured when a method asks for a
size, cached, and mixed by the weights of the styles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..color import moments_of
from ..device import check_process
from ..errors import InputError, check_finite
from ..images import Picture, Source
from ..statistics import Moments, shares
from ..tensors import digest
from ..watch import divided
from .paintings import pieces_of, read_painting, reduce
from .stored import LayerMoments, LearntStyle, Part, StoredStyle, find_named, is_name

LARGEST = 1024  # largest short side in pixels at which a style is stored
Measure = Callable[[Tensor], LayerMoments]


@dataclass(repr=False)
class Style:
    """One or several styles with weights, prepared for a method.

    Attributes:
        names: names of the parts.
        parts: paintings ``(3, H, W)``, stored styles and learnt styles.
        weights: share of each part.
        method: name of the method that prepared the style.
        backbone: fingerprint of the network behind ``measure``.
        taps: layers that are measured.
        measure: returns the moments of the features of a picture ``(3, H, W)``, by tap.
        steps: number of sizes per octave at which the style is stored.
    """

    names: Sequence[str]
    parts: Sequence[Tensor | StoredStyle | LearntStyle]
    weights: Sequence[float]
    method: str
    backbone: str
    taps: Sequence[str]
    measure: Measure
    steps: int = 1
    _mixed: dict[int, LayerMoments] = field(default_factory=dict)
    _each: dict[int, list[LayerMoments]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<style {' + '.join(self.names)} prepared for {self.method}>"

    def fits(self, method: str, backbone: str, taps: Sequence[str]) -> bool:
        """Whether it was prepared by ``method`` for these layers of the same network."""
        same = (self.method, self.backbone) == (method, backbone)
        return same and set(taps) <= set(self.taps)

    @property
    def fingerprint(self) -> str:
        """Identifies everything that its moments depend on."""
        tensors: dict[str, Tensor] = {}
        about: list[object] = [self.backbone, list(self.taps), list(self.weights)]
        for number, part in enumerate(self.parts):
            if isinstance(part, Tensor):
                tensors[f"{number}"] = part
                about.append(tuple(part.shape))
            elif isinstance(part, StoredStyle):
                tensors |= part.color.tensors(f"{number}.color")
                for size, layers in part.parts[self.backbone].sizes.items():
                    for tap, moments in layers.items():
                        tensors |= moments.tensors(f"{number}.{size}.{tap}")
            else:
                about.append(part.name)
        return digest(tensors.items(), start=str(about))

    @cached_property
    def color(self) -> Moments:
        """Mixed moments of the RGB pixels."""
        colors = [
            moments_of(part) if isinstance(part, Tensor) else part.color for part in self.parts
        ]
        return Moments.mix(colors, self.weights).to(torch.float32)

    def at(self, short_side: int) -> LayerMoments:
        """Mixed moments with every painting reduced to ``short_side`` pixels (never enlarged)."""
        if short_side not in self._mixed:
            parts = self.each(short_side)
            self._mixed[short_side] = {
                tap: Moments.mix(
                    [layers[tap].to(parts[0][tap].first.device) for layers in parts], self.weights
                )
                for tap in self.taps
            }
        return self._mixed[short_side]

    def each(self, short_side: int) -> list[LayerMoments]:
        """As :meth:`at`, but for every part separately; empty for a learnt style."""
        check_process()

        def moments(part: Tensor | StoredStyle | LearntStyle) -> LayerMoments:
            if isinstance(part, Tensor):
                return self._measured(reduce(part, short_side))
            return part.parts[self.backbone].at(short_side) if isinstance(part, StoredStyle) else {}

        if short_side not in self._each:
            self._each[short_side] = list(map(moments, divided(self.parts)))
        return self._each[short_side]

    def _measured(self, painting: Tensor) -> LayerMoments:
        """Measure a painting; a large one in pieces, whose moments are averaged by area."""
        pieces = list(pieces_of(painting))
        if len(pieces) == 1:
            return self.measure(painting)
        measured = [self.measure(piece) for piece in divided(pieces)]
        areas = [float(piece[0].numel()) for piece in pieces]
        return {
            tap: Moments.mix([layers[tap] for layers in measured], areas) for tap in measured[0]
        }

    def store(self, name: str, joining: StoredStyle | None = None) -> StoredStyle:
        """Measure at 64, 128, ... pixels (and between), up to the size of the largest painting.

        Args:
            name: name of the style, for messages.
            joining: style of the same paintings, stored for other methods, which is extended; what
                it contains is not measured again.

        Raises:
            InputError: if a part is a stored style already.
        """
        paintings = [part for part in self.parts if isinstance(part, Tensor)]
        if len(paintings) < len(self.parts):
            raise InputError("a stored or learnt style cannot be stored again: name the paintings")
        stored = joining or StoredStyle(name, self.color, {})
        part = stored.parts.get(self.backbone)
        if part is not None and set(self.taps) <= set(part.taps):
            return stored.joined(self.backbone, Part(part.sizes, (self.method,)))
        limit = min(LARGEST, max(min(p.shape[-2:]) for p in paintings))
        ladder = [round(64 * 2 ** (step / self.steps)) for step in range(4 * self.steps)]
        sizes = [size for size in ladder if size < limit] + [limit]
        measured = {
            size: {tap: moments.to("cpu") for tap, moments in self.at(size).items()}
            for size in sizes
        }
        return stored.joined(self.backbone, Part(measured, (self.method,)))


def prepared(
    styles: Sequence[Source | StoredStyle | LearntStyle | Style],
    weights: Sequence[float] | None,
    method: str,
    backbone: str,
    taps: Sequence[str],
    measure: Measure,
    steps: int = 1,
) -> Style:
    """One or several styles, whose moments are averaged by ``weights``.

    Args:
        styles: paintings, stored styles, and styles that any method has prepared. Of the latter the
            parts are measured again, unless it is the only one and was prepared for the same.
        weights: share of each; None for equal shares.
        method: name of the method that prepares the styles.
        backbone: fingerprint of the network behind ``measure``.
        taps: layers that a stored style must have.
        measure, steps: see :class:`Style`.

    Raises:
        InputError: if a stored style lacks moments that the method needs, the weights do not fit
            the styles, or another network has learnt a style.
    """
    check_list(styles)
    one = styles[0] if len(styles) == 1 else None
    if isinstance(one, Style) and one.fits(method, backbone, taps):
        return one
    names: list[str] = []
    parts: list[Tensor | StoredStyle | LearntStyle] = []
    shares: list[float] = []
    for style, share in zip(styles, style_shares(len(styles), weights), strict=True):
        if isinstance(style, Style):
            mixture = list(zip(style.names, style.parts, style.weights, strict=True))
        else:
            name, part = _part(style)
            mixture = [(name, part, 1.0)]
        for name, part, of_share in mixture:
            if isinstance(part, StoredStyle):
                part.check(method, backbone, taps)
            elif isinstance(part, LearntStyle) and part.method != method:
                other = f", or use method {part.method}" if part.method else ""
                raise InputError(
                    f"style {part.name}: known to a network alone; give the painting here{other}"
                )
            names.append(name)
            parts.append(part)
            shares.append(share * of_share)
    return Style(names, parts, shares, method, backbone, list(taps), measure, steps)


def _part(
    style: Source | StoredStyle | LearntStyle,
) -> tuple[str, Tensor | StoredStyle | LearntStyle]:
    """A style that is not prepared yet, with its name."""
    if is_name(style):
        style = find_named(str(style))
    if isinstance(style, (StoredStyle, LearntStyle)):
        return style.name, style
    painting = read_painting(style)
    return painting.name, painting.rgb


def check_list(styles: object) -> None:
    """Raise InputError if ``styles`` is a single style, not a list."""
    one = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, np.ndarray, Tensor, Picture)
    single = isinstance(styles, (*one, StoredStyle, Style, LearntStyle)) or hasattr(styles, "read")
    if single or not isinstance(styles, Iterable):
        raise InputError(
            f"styles: a {type(styles).__name__} where a list belongs: give [PAINTING, ...]"
        )


def check_prepared(style: Any, method: str, backbone: str, taps: Sequence[str]) -> None:
    """Raise InputError unless ``style`` was prepared by ``method`` for the same features."""
    if not isinstance(style, Style):
        raise InputError(
            f"style: a {type(style).__name__} where a prepared style belongs: give what prepare("
            f"[PAINTING]) of method {method} returns, or use impasto.stylize()"
        )
    learnt = any(isinstance(p, LearntStyle) and p.method != method for p in style.parts)
    if learnt or style.backbone != backbone or not set(taps) <= set(style.taps):
        raise InputError(
            f"{style!r}: was prepared by method {style.method} for other features; call prepare() "
            f"of the method {method} that renders"
        )


def style_shares(count: int, weights: Sequence[float] | None = None) -> list[float]:
    """As :func:`impasto.statistics.shares`; InputError for negative weights too."""
    for weight in _several(weights):
        check_finite("a weight of a style", weight)
        if weight < 0:
            raise InputError("weights of styles must not be negative", option="weights")
    return shares(count, weights)


def _several(weights: object) -> Iterable[Any]:
    if weights is None:
        return ()
    if isinstance(weights, str) or not isinstance(weights, Iterable):
        raise InputError(
            f"weights are {weights!r}: give a list of numbers, one for each style", option="weights"
        )
    return list(weights)
