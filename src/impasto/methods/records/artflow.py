"""ArtFlow: its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...options import Choice, option
from .base import FlowOptions, MethodRecord

__all__ = ["RECORD", "ArtFlowOptions", "Operator"]

Operator = Literal["adain", "wct", "rbmad"]


@dataclass(frozen=True, kw_only=True)
class ArtFlowOptions(FlowOptions):
    """Of the transfer between the network's ways there and back."""

    operator: Operator | None = option(
        None,
        Choice(get_args(Operator)),
        "adain, wct (by a network trained for adain) or rbmad (paper 1). Default: adain, or what "
        "the model was trained with.",
    )


RECORD = MethodRecord(
    "artflow",
    "Any style by a reversible network, which loses nothing of the content (An et al. 2021).",
    "artflow:ArtFlow",
    ArtFlowOptions,
    {"artflow": {}, "artflow-rbmad": {"operator": "rbmad"}},
)
