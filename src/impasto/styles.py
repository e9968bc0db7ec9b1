"""What is kept of a painting: its moments at several sizes, measured when asked for or stored.

Paper 4 names it the major drawback of Gatys' method that it "cannot store picture styles". It can:
the style loss needs the moments of the painting's features and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from .backbones.weights import load_tensors, save_tensors
from .errors import InputError
from .images import Source, fit, read, resize
from .statistics import Moments, shares

__all__ = [
    "SUFFIX",
    "LayerMoments",
    "LearntStyle",
    "StoredStyle",
    "Style",
    "prepared",
    "reduce",
    "style_shares",
]

SUFFIX = ".style"
KIND = "impasto style"
LayerMoments = Mapping[str, Moments]
Measure = Callable[[Tensor], LayerMoments]


@dataclass(frozen=True)
class StoredStyle:
    """Moments of one style (or a mixture) at several sizes.

    Attributes:
        name: for messages.
        backbone: fingerprint of the backbone that measured it.
        color: moments of its RGB pixels.
        levels: short side in pixels -> tap -> normalised moments.
    """

    name: str
    backbone: str
    color: Moments
    levels: Mapping[int, LayerMoments]

    @property
    def taps(self) -> list[str]:
        """The layers that were measured."""
        return list(next(iter(self.levels.values())))

    def save(self, path: Path) -> None:
        """Write to ``path`` (safetensors, whole or not at all)."""
        tensors = self.color.tensors("color")
        for size, layers in self.levels.items():
            for tap, moments in layers.items():
                tensors |= moments.tensors(f"{size}.{tap}")
        header = {
            "kind": KIND,
            "name": self.name,
            "backbone": self.backbone,
            "sizes": json.dumps(sorted(self.levels)),
            "taps": json.dumps(self.taps),
        }
        save_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> StoredStyle:
        """Read what :meth:`save` wrote. Raises InputError for anything else."""
        tensors, header = load_tensors(path)
        try:
            sizes, taps = json.loads(header["sizes"]), json.loads(header["taps"])
            if header["kind"] != KIND or not sizes or not taps:
                raise KeyError
            return cls(
                name=header["name"],
                backbone=header["backbone"],
                color=Moments.from_tensors(tensors, "color"),
                levels={
                    int(size): {tap: Moments.from_tensors(tensors, f"{size}.{tap}") for tap in taps}
                    for size in sizes
                },
            )
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(f"{path}: not a style stored by `impasto style`") from None

    def check(self, backbone: str, taps: Sequence[str]) -> None:
        """Raise InputError unless it was measured by ``backbone`` at ``taps``."""
        if self.backbone != backbone:
            raise InputError(
                f"style {self.name}: stored for backbone {self.backbone}, not {backbone}; store it "
                "again with this backbone, or give the painting"
            )
        missing = [tap for tap in taps if tap not in self.taps]
        if missing:
            raise InputError(
                f"style {self.name}: has no layer {', '.join(missing)} (it has "
                f"{', '.join(self.taps)}); choose among these, or give the painting"
            )

    def at(self, short_side: int) -> LayerMoments:
        """Moments at a size, interpolated between the two stored sizes around it."""
        sizes = sorted(self.levels)
        below = max((s for s in sizes if s <= short_side), default=sizes[0])
        above = min((s for s in sizes if s >= short_side), default=sizes[-1])
        if above <= below:
            return self.levels[min(below, sizes[-1])]
        share = math.log(short_side / below) / math.log(above / below)
        low, high = self.levels[below], self.levels[above]
        return {tap: Moments.mix([low[tap], high[tap]], [1 - share, share]) for tap in low}


@dataclass(frozen=True)
class LearntStyle:
    """A painting that a network has learnt; what is left of it here is its name.

    Attributes:
        name: of the painting.
        color: moments of its RGB pixels.
    """

    name: str
    color: Moments


@dataclass
class Style:
    """One or several styles, by weight, as a method that optimises sees them.

    Attributes:
        parts: paintings ``(3, H, W)`` and stored styles.
        weights: share of each.
        measure: features' moments of a picture ``(3, H, W)``, by tap.
    """

    parts: Sequence[Tensor | StoredStyle]
    weights: Sequence[float]
    measure: Measure
    _known: dict[int, LayerMoments] = field(default_factory=dict)

    @cached_property
    def color(self) -> Moments:
        """Mixed moments of the RGB pixels."""
        colors = [
            part.color if isinstance(part, StoredStyle) else Moments.of(part.double())
            for part in self.parts
        ]
        return Moments.mix(colors, self.weights).to(torch.float32)

    def at(self, short_side: int) -> LayerMoments:
        """Mixed moments with every painting reduced to ``short_side`` pixels (never enlarged)."""
        if short_side not in self._known:
            each = [
                part.at(short_side)
                if isinstance(part, StoredStyle)
                else self.measure(reduce(part, short_side))
                for part in self.parts
            ]
            self._known[short_side] = {
                tap: Moments.mix(
                    [layers[tap].to(each[0][tap].first.device) for layers in each], self.weights
                )
                for tap in each[0]
            }
        return self._known[short_side]

    def store(self, name: str, backbone: str, largest: int = 1024) -> StoredStyle:
        """Measure at 64, 128, ... pixels, to the size of the largest painting, and keep it.

        Args:
            name: of the style, for messages.
            backbone: fingerprint of the backbone behind ``measure``.
            largest: short side in pixels beyond which nothing is measured.

        Raises:
            InputError: if a part is a stored style already.
        """
        paintings = [part for part in self.parts if isinstance(part, Tensor)]
        if len(paintings) < len(self.parts):
            raise InputError("a stored style cannot be stored again: name the paintings")
        limit = min(largest, max(min(p.shape[-2:]) for p in paintings))
        sizes = [size for size in (64, 128, 256, 512, 1024, 2048) if size < limit] + [limit]
        levels = {
            size: {tap: moments.to("cpu") for tap, moments in self.at(size).items()}
            for size in sizes
        }
        return StoredStyle(name, backbone, self.color, levels)


def prepared(
    styles: Sequence[Source | StoredStyle | LearntStyle],
    weights: Sequence[float] | None,
    backbone: str,
    taps: Sequence[str],
    measure: Measure,
) -> Style:
    """One or several styles, whose moments are averaged by ``weights``.

    Args:
        styles: paintings and stored styles.
        weights: share of each; None for equal shares.
        backbone: fingerprint of the backbone behind ``measure``.
        taps: that a stored style must have.
        measure: see :class:`Style`.

    Raises:
        InputError: if a stored style does not fit the backbone or the taps, the weights do not fit
            the styles, or a style is known to a network alone.
    """
    parts: list[Tensor | StoredStyle] = []
    for style in styles:
        if isinstance(style, StoredStyle):
            style.check(backbone, taps)
            parts.append(style)
        elif isinstance(style, LearntStyle):
            raise InputError(
                f"style {style.name}: known to a network alone; give the painting here"
            )
        else:
            parts.append(read(style).rgb)
    return Style(parts, style_shares(len(parts), weights), measure)


def style_shares(count: int, weights: Sequence[float] | None = None) -> list[float]:
    """As :func:`impasto.statistics.shares`; InputError for negative weights too."""
    if weights is not None and any(weight < 0 for weight in weights):
        raise InputError("weights of styles must not be negative")
    return shares(count, weights)


def reduce(picture: Tensor, short_side: int) -> Tensor:
    """The picture with that short side, or as it is if it is smaller."""
    height, width = picture.shape[-2:]
    if min(height, width) <= short_side:
        return picture
    return resize(picture, fit(height, width, short_side))
