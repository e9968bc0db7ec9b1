"""Method ``artflow``: its options and record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...options import Choice, option
from .base import FlowOptions, MethodRecord

__all__ = ["RECORD", "ArtFlowOptions", "Operator"]

Operator = Literal["adain", "wct", "rbmad"]


@dataclass(frozen=True, kw_only=True)
class ArtFlowOptions(FlowOptions):
    """The transfer between the network and its inverse."""

    operator: Operator | None = option(
        None,
        Choice(get_args(Operator)),
        "How features get the style: adain, wct (with a network trained for adain) or rbmad "
        "(report 1). Default: adain, or the one that the model was trained with.",
    )


RECORD = MethodRecord(
    "artflow",
    "Any style by a reversible network, which loses nothing of the content (An et al. 2021).",
    "artflow:ArtFlow",
    ArtFlowOptions,
    {"artflow": {}, "artflow-rbmad": {"operator": "rbmad"}},
)
