"""Johnson's method, a few paintings learnt: its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...options import Choice, Flag, Number, option
from .base import MethodRecord, PassOptions

__all__ = ["RECORD", "JohnsonOptions", "Kind"]

Kind = Literal["residual", "bottleneck"]


@dataclass(frozen=True, kw_only=True)
class JohnsonOptions(PassOptions):
    """Of the network that has learnt some paintings."""

    kind: Kind | None = option(
        None,
        Choice(get_args(Kind)),
        "residual (paper 4) or bottleneck (paper 1; faster, smaller). Default: residual, or what "
        "the model is.",
    )
    noise: float | None = option(
        None,
        Number(0),
        "What strokes in flat areas are made of; more is stronger, and spots at last. Default: as "
        "trained.",
    )
    degrid: bool = option(True, Flag(), "Take away what repeats from cell to cell in flat areas.")


RECORD = MethodRecord(
    "johnson",
    "A few paintings, learnt once: one fast pass (Johnson et al. 2016).",
    "johnson:Johnson",
    JohnsonOptions,
    {"johnson": {}, "johnson-bottleneck": {"kind": "bottleneck"}},
    learns_styles=True,
    photographs_alone=True,  # beside the paintings to learn
)
