"""Options that all methods share: the controls of a picture, and how its file is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from .options import (
    COLOR,
    PICTURES,
    SIZE,
    STYLE,
    Choice,
    Flag,
    ListOf,
    Number,
    Options,
    Text,
    Whole,
    option,
)

__all__ = ["Color", "Controls", "Saving", "SavingKeywords", "Variant"]

Color = Literal["match", "match-style", "luminance"]
Variant = Literal["eigenvalue", "cholesky", "monge"]
"""Which map between two covariances is used, see :func:`impasto.transport.transport`."""


class Limits(TypedDict):
    """What is refused; see :func:`impasto.images.read`."""

    max_pixels: int | None
    accept_truncated: bool


@dataclass(frozen=True, kw_only=True)
class Controls(Options):
    """Strength, size and colours of a picture, whatever the method.

    The colour controls ``match`` and ``luminance`` are those of Gatys et al., "Preserving Color in
    Neural Artistic Style Transfer", 2016; their variants are those of report 3, section IV. With
    ``luminance`` the content's chroma is kept exactly. A refinement starts from the method's result
    and improves it by method ``gatys``, only at the final size.
    """

    strength: float = option(
        1.0,
        Number(0, 100),
        "Strength of the style: 0 keeps the photograph, 1 is the full style.",
        STYLE,
    )
    weights: Sequence[float] | None = option(
        None,
        ListOf(Number(0), what="numbers"),
        "Shares of several styles, such as 2,1. Default: equal.",
        STYLE,
    )
    size: int | None = option(
        None, Whole(1), "Short side of the result in pixels. Default: the photograph's.", SIZE
    )
    color: Color | None = option(
        None,
        Choice(get_args(Color)),
        "match: recolour the painting like the photograph; match-style: the photograph like the "
        "painting; luminance: paint only the lightness.",
        COLOR,
    )
    color_variant: Variant = option(
        "eigenvalue",
        Choice(get_args(Variant)),
        "How colours are matched: eigenvalue, cholesky or monge.",
        COLOR,
        expert=True,
    )
    match_luminance: bool = option(
        False,
        Flag(),
        "With color luminance: first match the painting's lightness to the photograph's.",
        COLOR,
        expert=True,
    )
    background: str = option(
        "white", Text(), "Colour behind transparent parts: a name or #hex.", COLOR, expert=True
    )
    refine: int | None = option(
        None,
        Whole(1),
        "Number of iterations of gatys that improve the method's result; options of gatys apply to "
        "them.",
        STYLE,
        expert=True,
    )
    max_pixels: int | None = option(
        None,
        Whole(1),
        "Refuse pictures with more pixels. Default: as many as fit into memory.",
        PICTURES,
        expert=True,
        recorded=False,
    )
    accept_truncated: bool = option(
        False,
        Flag(),
        "Also read pictures whose file is truncated.",
        PICTURES,
        expert=True,
        recorded=False,
    )

    @property
    def recolors(self) -> bool:
        """Whether styles depend on the content; then they are prepared for each content."""
        return self.color == "match" or self.match_luminance

    @property
    def limits(self) -> Limits:
        """Keyword arguments for :func:`impasto.images.read`."""
        return {"max_pixels": self.max_pixels, "accept_truncated": self.accept_truncated}


class SavingKeywords(TypedDict, total=False):
    """The options of :class:`Saving` as keyword arguments; see :mod:`.methods.keywords`."""

    quality: int
    depth: Literal[8, 16]
    keep_gps: bool
    metadata: bool


@dataclass(frozen=True, kw_only=True)
class Saving(Options):
    """How a picture's file is written, see :func:`impasto.images.write`."""

    quality: int = option(95, Whole(1, 100), "Quality of JPEG, WebP, AVIF.", PICTURES)
    depth: Literal[8, 16] = option(
        8,
        Whole(among=(8, 16)),
        "Bits per channel: 8, or 16 for PNG and TIFF.",
        PICTURES,
        expert=True,
    )
    keep_gps: bool = option(
        False, Flag(), "Keep the place where the photograph was taken.", PICTURES, expert=True
    )
    metadata: bool = option(
        True, Flag(), "Write the photograph's metadata and the settings.", PICTURES, expert=True
    )

    @property
    def keywords(self) -> SavingKeywords:
        """Keyword arguments for :meth:`impasto.Result.save`."""
        return {
            "quality": self.quality,
            "depth": self.depth,
            "keep_gps": self.keep_gps,
            "metadata": self.metadata,
        }
