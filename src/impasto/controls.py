"""What may be set for every method: the controls of a picture, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

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

__all__ = ["Color", "Controls", "Saving", "Variant"]

Color = Literal["match", "match-style", "luminance"]
Variant = Literal["eigenvalue", "cholesky", "monge"]
"""How one covariance is carried into another, see :func:`impasto.transport.transport`."""


@dataclass(frozen=True, kw_only=True)
class Controls(Options):
    """How much of which style a picture gets, at what size and in whose colours.

    Gatys et al., "Preserving Color in Neural Artistic Style Transfer", 2016, have ``match`` and
    ``luminance``; paper 3, section IV, has their variants. With ``luminance`` the content's chroma
    is kept exactly. A refinement takes the texture from the method, in one pass, and the finish
    from gatys, at the final size alone.
    """

    strength: float = option(
        1.0, Number(0, 100), "0 leaves the photograph as it is, 1 is the full style.", STYLE
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
        "match: the painting takes the photograph's colours; match-style: the other way round; "
        "luminance: lightness alone is painted.",
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
        "With luminance: match its mean and deviation before.",
        COLOR,
        expert=True,
    )
    background: str = option(
        "white", Text(), "Colour behind transparent parts, a name or #hex.", COLOR, expert=True
    )
    refine: int | None = option(
        None,
        Whole(1),
        "So many iterations of gatys that begin with the method's result; its options are for them "
        "too.",
        STYLE,
        expert=True,
    )
    max_pixels: int | None = option(
        None,
        Whole(1),
        "Refuse larger pictures. Default: what memory suffices for.",
        PICTURES,
        expert=True,
        recorded=False,
    )
    accept_truncated: bool = option(
        False,
        Flag(),
        "Take pictures that are cut short too.",
        PICTURES,
        expert=True,
        recorded=False,
    )

    @property
    def limits(self) -> dict[str, Any]:
        """Keywords of :func:`impasto.images.read`."""
        return {"max_pixels": self.max_pixels, "accept_truncated": self.accept_truncated}


@dataclass(frozen=True, kw_only=True)
class Saving(Options):
    """How a picture is written, see :func:`impasto.images.write`."""

    quality: int = option(95, Whole(1, 100), "Of JPEG, WebP and AVIF.", PICTURES)
    depth: int = option(
        8,
        Whole(among=(8, 16)),
        "Bits of each channel: 8, or 16 in PNG and TIFF.",
        PICTURES,
        expert=True,
    )
    keep_gps: bool = option(
        False, Flag(), "Keep where the photograph was taken.", PICTURES, expert=True
    )
    metadata: bool = option(
        True, Flag(), "Write the photograph's, and the settings.", PICTURES, expert=True
    )
