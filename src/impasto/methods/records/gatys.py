"""Gatys' method, by optimisation: its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...options import (
    ByLayer,
    Choice,
    File,
    Layers,
    ListOf,
    Number,
    Whole,
    again,
    option,
)
from .base import DeviceOptions, MethodRecord, StyleOptions

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...backbones.base import Padding, Pooling
    from ...backbones.resnet import Smooth
    from ...images import Source

__all__ = ["OPTIMIZERS", "RECORD", "REFINED", "STARTS", "GatysOptions"]

STARTS = ("recoloured", "content", "content+noise", "noise", "grey")
OPTIMIZERS = {"lbfgs": 1.0, "adam": 0.02}  # with their default learning rates


@dataclass(frozen=True, kw_only=True)
class GatysOptions(DeviceOptions):
    """Of the loss, of the backbone that sees it, and of the descent."""

    gone: ClassVar[Mapping[str, str]] = {"weights_file": "use backbone_weights"}

    iterations: int | Sequence[int] | None = option(
        None,
        ListOf(Whole(0), one=True, what="whole numbers"),
        "For every size, or a list such as 200,100,50. Default: 80 at the coarsest, then a third "
        "fewer each, 30 at least.",
    )
    backbone: str | Backbone = option(
        "compact",
        Choice(("compact", "slim", "vgg19", "vgg16", "resnet50", "resnet18"), others=True),
        "compact or slim (bundled), vgg19, vgg16, resnet50 or resnet18.",
    )
    backbone_weights: Path | str | None = option(
        None,
        File(("imagenet", "robust", "random")),
        "A file of weights for the backbone, or imagenet (default), robust or random.",
        expert=True,
    )
    convention: str | None = option(
        None,
        Choice(("caffe", "torchvision")),
        "What that file expects of its input. Default: what its header or name says.",
        expert=True,
    )
    padding: Padding = option(
        "replicate",
        Choice(("replicate", "reflect", "zero")),
        "Of the first layer: replicate, reflect or zero.",
        expert=True,
    )
    pooling: Pooling | None = option(
        None,
        Choice(("max", "average")),
        "max or average. Default: max, of a ResNet average, for the sake of clean pixels.",
        expert=True,
    )
    smooth: Smooth | Mapping[str, Smooth] = option(
        "none",
        ByLayer(("none", "scale", "softmax")),
        "Against the peaky activations of a ResNet: none, scale or softmax, or by stage, such as "
        "rb3=softmax,rb4=softmax.",
        expert=True,
    )
    content_layers: Sequence[str] | Mapping[str, float] | None = option(
        None,
        Layers(),
        "Such as relu4_1 or relu3_1=0.3,relu4_1=0.7. Default: relu4_2, of the bundled relu4_1, of "
        "a ResNet rb2.",
    )
    style_layers: str | Sequence[str] | Mapping[str, float] | None = option(
        None,
        Layers(),
        "Such as relu1_1,relu2_1=0.5; of a ResNet also paper5. Default: relu1_1 to relu5_1, of a "
        "ResNet conv1 to rb3.",
    )
    content_weight: float = option(1.0, Number(0), "Alpha of the loss (paper 3, Eq. 4).")
    style_weight: float = option(100.0, Number(0), "Beta of the loss.")
    style_loss: str | None = option(
        None,
        Choice(("gram", "moments")),
        "gram, or moments (mean and deviation). Default: gram, of a ResNet moments.",
        expert=True,
    )
    tv_weight: float = option(0.0, Number(0), "Of total variation: smoother.", expert=True)
    start: str | Source = option(
        "recoloured",
        Choice(STARTS, others=True),
        "recoloured (the content in the style's colours, which saves half of the iterations), "
        "content, content+noise, noise, grey, or a picture's path.",
        expert=True,
    )
    optimizer: str = option("lbfgs", Choice(tuple(OPTIMIZERS)), "lbfgs or adam.", expert=True)
    lr: float | None = option(
        None,
        Number(0, above=True),
        "Learning rate. Default: 1 (L-BFGS) or 0.02 (Adam).",
        expert=True,
    )
    sizes: Sequence[int] | None = option(
        None,
        ListOf(Whole(0), what="whole numbers, short sides in pixels,"),
        "Short sides, coarse to fine, such as 128,256,0 (0: the final size). Default: halved as "
        "long as 256 are left.",
        expert=True,
    )
    style_scale: float = again(StyleOptions, "style_scale")
    tolerance: float = option(
        0.01,
        Number(0),
        "A size is done when the loss of its last 10 iterations is less than this share below that "
        "of the 10 before; 0 never stops early.",
        expert=True,
    )
    time_limit: float | None = option(
        None, Number(0, above=True), "Seconds for one picture, shared out over the sizes."
    )
    seed: int = option(0, Whole(0, 2**63 - 1), "Of the noise.", expert=True)


# Options that a refinement leaves open: it begins with a result, at the final size alone.
REFINED = frozenset(GatysOptions.declared()) - {"sizes", "iterations", "start"}

RECORD = MethodRecord(
    "gatys",
    "Style transfer by optimisation of the pixels, coarse to fine.",
    "gatys:Gatys",
    GatysOptions,
    {"gatys": {}},
    one_pass=False,
    trainable=False,
)
