"""Method ``adain``: its options and record."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import Flag, option
from .base import EncoderOptions, MethodRecord, StyleOptions, TileOptions

__all__ = ["RECORD", "AdaINOptions"]


@dataclass(frozen=True, kw_only=True)
class AdaINOptions(TileOptions, EncoderOptions, StyleOptions):
    """Repairs of the decoder's picture."""

    dehalo: bool = option(True, Flag(), "Remove halos around objects before flat backgrounds.")
    palette: bool = option(True, Flag(), "Remove colours that are far from all of the painting's.")


RECORD = MethodRecord(
    "adain",
    "Any style in one pass: adaptive instance normalisation (Huang & Belongie 2017).",
    "adain:AdaIN",
    AdaINOptions,
    {"adain": {}},
)
