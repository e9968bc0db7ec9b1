"""WCT, any style never learnt: its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from ...controls import Variant
from ...options import EXPERT, Choice, Given, ListOf, Text, option
from .base import EncoderOptions, MethodRecord, StyleOptions

if TYPE_CHECKING:
    from ...backbones import VGG

__all__ = ["RECORD", "WCTOptions"]


@dataclass(frozen=True, kw_only=True)
class WCTOptions(EncoderOptions, StyleOptions):
    """Of the transform."""

    levels: Sequence[str] | None = option(
        None,
        ListOf(Text(), what="layers"),
        "Where to transfer, such as relu4_1,relu2_1: deep ones carry the large forms, shallow ones "
        "colours and grain. Default: all.",
    )
    variant: Variant = option(
        "monge",
        Choice(get_args(Variant)),
        "monge keeps the content best, eigenvalue is Li et al.'s; or cholesky.",
    )
    encoder: VGG | None = option(
        None,
        Given(),
        "A loaded encoder, which the model was made for.",
        EXPERT,
        expert=True,
        recorded=False,
    )


RECORD = MethodRecord(
    "wct",
    "Any style, never learnt: whitening and colouring, deep to shallow (Li et al. 2017).",
    "wct:WCT",
    WCTOptions,
    {"wct": {}},
    photographs_alone=True,
)
