"""Method ``wct``: its options and record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from ...controls import Variant
from ...options import EXPERT, Choice, Given, ListOf, Text, option
from .base import EncoderOptions, MethodRecord, StyleOptions, TileOptions

if TYPE_CHECKING:
    from ...backbones import VGG

__all__ = ["RECORD", "WCTOptions"]


@dataclass(frozen=True, kw_only=True)
class WCTOptions(TileOptions, EncoderOptions, StyleOptions):
    """The transform and its layers."""

    layers: Sequence[str] | None = option(
        None,
        ListOf(Text(), what="layers"),
        "Layers at which features are transformed, such as relu4_1,relu2_1: deep layers change "
        "large forms, shallow ones colours and grain. Default: all.",
        was=("levels",),
    )
    variant: Variant = option(
        "monge",
        Choice(get_args(Variant)),
        "The map between covariances: monge keeps the content best, eigenvalue is that of Li et "
        "al., or cholesky.",
    )
    encoder: VGG | None = option(
        None,
        Given(),
        "A loaded encoder; the model must have been made for it.",
        EXPERT,
        expert=True,
        recorded=False,
    )


RECORD = MethodRecord(
    "wct",
    "Any style, without training on styles: whitening and colouring (Li et al. 2017).",
    "wct:WCT",
    WCTOptions,
    {"wct": {}},
    photographs_alone=True,
)
