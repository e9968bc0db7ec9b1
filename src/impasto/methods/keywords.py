"""Types of keyword arguments, by method: `make keywords` makes them of the declared options.

``load`` takes ``GhiasiKeywords``, where ``method`` is a ``GhiasiName``; ``stylize`` and ``Session``
take ``GhiasiWithControls``, which has the controls and the options of a refinement too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from ..backbones import VGG, Backbone
    from ..controls import Controls
    from ..images import Source
    from .custom_loss import LossFunction
    from .gatys import Gatys

AdaINName = Literal["adain"]
ArtFlowName = Literal["artflow", "artflow-rbmad"]
GatysName = Literal[
    "gatys", "gatys-report3", "gatys-report3-highres", "gatys-report4", "gatys-report5"
]
GhiasiName = Literal["ghiasi"]
JohnsonName = Literal["johnson", "johnson-bottleneck"]
StyleFlowName = Literal["styleflow", "styleflow-rbmad"]
WCTName = Literal["wct"]


class DeviceKeywords(TypedDict, total=False):
    """Those of every method."""

    device: str
    precision: Literal["auto", "float32", "bfloat16"]


class ControlKeywords(TypedDict, total=False):
    """Those of a session with a loaded method."""

    strength: float
    weights: Sequence[float] | None
    size: int | None
    color: Literal["match", "match-style", "luminance"] | None
    color_variant: Literal["eigenvalue", "cholesky", "monge"]
    match_luminance: bool
    background: str
    refine: int | Gatys | None
    max_pixels: int | None
    accept_truncated: bool
    controls: Controls | None


class WithControls(ControlKeywords, DeviceKeywords, total=False):
    """Those of a session with any method by name."""


class RefinementKeywords(TypedDict, total=False):
    """Those of a refinement, of no method."""

    backbone: str | Backbone
    padding: Literal["replicate", "reflect", "zero"]
    pooling: Literal["max", "average"] | None
    smooth: Literal["none", "scale", "softmax"] | Mapping[str, Literal["none", "scale", "softmax"]]
    content_layers: Sequence[str] | Mapping[str, float] | None
    style_layers: str | Sequence[str] | Mapping[str, float] | None
    losses: Literal["relative", "published", "report5"]
    content_weight: float | None
    style_weight: float | None
    content_loss: LossFunction | None
    style_loss: Literal["gram", "moments", "swd", "remd"] | LossFunction | None
    tv_weight: float
    optimizer: Literal["lbfgs", "adam"]
    lr: float | None
    betas: Sequence[float] | None
    tolerance: float | None
    time_limit: float | None
    seed: int


class AdaINKeywords(DeviceKeywords, total=False):
    """Those of method ``adain``."""

    model: str | PathLike[str] | None
    raw: bool
    brush: float | None
    style_scale: float
    backbone_weights: str | PathLike[str] | None
    convention: Literal["caffe", "torchvision"] | None
    tile: int | Literal["auto"] | None
    dehalo: bool
    palette: bool


class AdaINWithControls(ControlKeywords, AdaINKeywords, RefinementKeywords, total=False):
    """Those of method ``adain`` in a session."""


class ArtFlowKeywords(DeviceKeywords, total=False):
    """Those of method ``artflow``."""

    model: str | PathLike[str] | None
    raw: bool
    brush: float | None
    style_scale: float
    shifts: Literal[1, 2, 4]
    degrid: bool
    operator: Literal["adain", "wct", "rbmad"] | None


class ArtFlowWithControls(ControlKeywords, ArtFlowKeywords, RefinementKeywords, total=False):
    """Those of method ``artflow`` in a session."""

    backbone_weights: str | PathLike[str] | None
    convention: Literal["caffe", "torchvision"] | None
    tile: int | Literal["auto"] | None


class GatysKeywords(DeviceKeywords, total=False):
    """Those of method ``gatys``."""

    iterations: int | Sequence[int] | None
    backbone: str | Backbone
    backbone_weights: str | PathLike[str] | None
    convention: Literal["caffe", "torchvision"] | None
    padding: Literal["replicate", "reflect", "zero"]
    pooling: Literal["max", "average"] | None
    smooth: Literal["none", "scale", "softmax"] | Mapping[str, Literal["none", "scale", "softmax"]]
    content_layers: Sequence[str] | Mapping[str, float] | None
    style_layers: str | Sequence[str] | Mapping[str, float] | None
    losses: Literal["relative", "published", "report5"]
    content_weight: float | None
    style_weight: float | None
    content_loss: LossFunction | None
    style_loss: Literal["gram", "moments", "swd", "remd"] | LossFunction | None
    tv_weight: float
    start: str | Source
    optimizer: Literal["lbfgs", "adam"]
    lr: float | None
    betas: Sequence[float] | None
    sizes: Sequence[int] | None
    style_scale: float
    tolerance: float | None
    tile: int | Literal["auto"] | None
    time_limit: float | None
    seed: int


class GatysWithControls(ControlKeywords, GatysKeywords, total=False):
    """Those of method ``gatys`` in a session."""


class GhiasiKeywords(DeviceKeywords, total=False):
    """Those of method ``ghiasi``."""

    model: str | PathLike[str] | None
    raw: bool
    brush: float | None
    style_scale: float
    tile: int | Literal["auto"] | None
    statistics: Literal["thumbnail", "exact"]
    noise: float | None
    degrid: bool


class GhiasiWithControls(ControlKeywords, GhiasiKeywords, RefinementKeywords, total=False):
    """Those of method ``ghiasi`` in a session."""

    backbone_weights: str | PathLike[str] | None
    convention: Literal["caffe", "torchvision"] | None


class JohnsonKeywords(DeviceKeywords, total=False):
    """Those of method ``johnson``."""

    model: str | PathLike[str] | None
    raw: bool
    brush: float | None
    tile: int | Literal["auto"] | None
    statistics: Literal["thumbnail", "exact"]
    network: Literal["residual", "bottleneck"] | None
    noise: float | None
    degrid: bool


class JohnsonWithControls(ControlKeywords, JohnsonKeywords, total=False):
    """Those of method ``johnson`` in a session."""


class StyleFlowKeywords(DeviceKeywords, total=False):
    """Those of method ``styleflow``."""

    model: str | PathLike[str] | None
    raw: bool
    brush: float | None
    style_scale: float
    shifts: Literal[1, 2, 4]
    degrid: bool
    backbone_weights: str | PathLike[str] | None
    convention: Literal["caffe", "torchvision"] | None
    operator: Literal["san", "rbmad"] | None


class StyleFlowWithControls(ControlKeywords, StyleFlowKeywords, RefinementKeywords, total=False):
    """Those of method ``styleflow`` in a session."""

    tile: int | Literal["auto"] | None


class WCTKeywords(DeviceKeywords, total=False):
    """Those of method ``wct``."""

    model: str | PathLike[str] | None
    raw: bool
    brush: float | None
    style_scale: float
    backbone_weights: str | PathLike[str] | None
    convention: Literal["caffe", "torchvision"] | None
    tile: int | Literal["auto"] | None
    layers: Sequence[str] | None
    variant: Literal["eigenvalue", "cholesky", "monge"]
    encoder: VGG | None


class WCTWithControls(ControlKeywords, WCTKeywords, RefinementKeywords, total=False):
    """Those of method ``wct`` in a session."""
