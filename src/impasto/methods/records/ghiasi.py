"""Method ``ghiasi``: its options and record."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import Flag, Number, option
from .base import MethodRecord, StatisticsOptions, StyleOptions

__all__ = ["RECORD", "GhiasiOptions"]


@dataclass(frozen=True, kw_only=True)
class GhiasiOptions(StatisticsOptions, StyleOptions):
    """The network that renders."""

    noise: float | None = option(
        None,
        Number(0),
        "Amount of noise that strokes in flat areas are made from. Default: as trained.",
    )
    degrid: bool = option(True, Flag(), "Remove the network's faint grid from flat areas.")


RECORD = MethodRecord(
    "ghiasi",
    "Any style in one pass, predicted: the default (Ghiasi et al. 2017).",
    "ghiasi:Ghiasi",
    GhiasiOptions,
    {"ghiasi": {}},
)
