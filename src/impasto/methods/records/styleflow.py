"""Method ``styleflow``: its options and record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...options import Choice, option
from .base import EncoderOptions, FlowOptions, MethodRecord

__all__ = ["RECORD", "Mixture", "Operator", "StyleFlowOptions"]

Operator = Literal["san", "rbmad"]
Mixture = Literal["none", "san", "scm", "layers"]  # how a network was trained with RBMAD, if so


@dataclass(frozen=True, kw_only=True)
class StyleFlowOptions(EncoderOptions, FlowOptions):
    """The transfer at every block of the inverse."""

    operator: Operator | None = option(
        None,
        Choice(get_args(Operator)),
        "How features get the style: san (Fan et al.) or rbmad (report 1). Default: san, or the "
        "one that the model was trained with.",
    )


RECORD = MethodRecord(
    "styleflow",
    "Any style by a reversible network styled block by block (Fan et al. 2022).",
    "styleflow:StyleFlow",
    StyleFlowOptions,
    {"styleflow": {}, "styleflow-rbmad": {"operator": "rbmad"}},
)
