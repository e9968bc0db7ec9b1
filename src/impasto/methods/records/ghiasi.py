"""Ghiasi's method, any style predicted: its options."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import Flag, Number, option
from .base import MethodRecord, StyleOptions

__all__ = ["RECORD", "GhiasiOptions"]


@dataclass(frozen=True, kw_only=True)
class GhiasiOptions(StyleOptions):
    """Of the network that paints."""

    noise: float | None = option(
        None,
        Number(0),
        "What strokes in flat areas are made of; more is stronger. Default: as trained.",
    )
    degrid: bool = option(True, Flag(), "Take away what repeats from cell to cell in flat areas.")


RECORD = MethodRecord(
    "ghiasi",
    "Any style in one pass, predicted: the default (Ghiasi et al. 2017).",
    "ghiasi:Ghiasi",
    GhiasiOptions,
    {"ghiasi": {}},
)
