"""Method ``johnson``: its options and record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...options import Choice, Flag, Number, option
from .base import MethodRecord, PassOptions, StatisticsOptions

__all__ = ["RECORD", "JohnsonOptions", "Network"]

Network = Literal["residual", "bottleneck"]


@dataclass(frozen=True, kw_only=True)
class JohnsonOptions(StatisticsOptions, PassOptions):
    """The network that has learnt a few paintings."""

    network: Network | None = option(
        None,
        Choice(get_args(Network)),
        "The network: residual (report 4) or bottleneck (report 1; faster, smaller). Default: "
        "residual, or that of the model.",
        was=("kind",),
    )
    noise: float | None = option(
        None,
        Number(0),
        "Amount of noise that strokes in flat areas are made from; too much gives spots. Default: "
        "as trained.",
    )
    degrid: bool = option(True, Flag(), "Remove the network's faint grid from flat areas.")


RECORD = MethodRecord(
    "johnson",
    "A few paintings, learnt once: one fast pass (Johnson et al. 2016).",
    "johnson:Johnson",
    JohnsonOptions,
    {"johnson": {}, "johnson-bottleneck": {"network": "bottleneck"}},
    learns_styles=True,
    photographs_alone=True,  # besides the paintings to learn
)
