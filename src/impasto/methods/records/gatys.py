"""Method ``gatys``: its options and record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ...errors import InputError
from ...options import (
    SIZE,
    ByLayer,
    Choice,
    File,
    Function,
    Layers,
    ListOf,
    Number,
    Whole,
    again,
    name_of,
    option,
)
from .base import Convention, DeviceOptions, MethodRecord, Preset, StyleOptions

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...backbones.base import Padding, Pooling
    from ...backbones.resnet import Smooth
    from ...images import Source
    from ..custom_loss import LossFunction

__all__ = ["BETAS", "DEFAULTS", "OF_BACKBONE", "RECORD", "REFINED", "STARTS", "GatysOptions"]

STARTS = ("recoloured", "content", "content+noise", "noise", "grey")
Losses = Literal["relative", "published", "report5"]
StyleLoss = Literal["gram", "moments", "swd", "remd"]
Optimizer = Literal["lbfgs", "adam"]
LOSS_ARGUMENTS = "(features, target_features)"
LEARNING_RATES: Mapping[Optimizer, float] = {"lbfgs": 1.0, "adam": 0.02}
BETAS = (0.9, 0.99)
# Losses -> option -> its default: ours, those of report 3 (section IV.B), and of report 5.
DEFAULTS: Mapping[Losses, Mapping[str, float | Mapping[Optimizer, float]]] = {
    "relative": {
        "content_weight": 1.0,
        "style_weight": 100.0,
        "tolerance": 0.01,
        "lr": LEARNING_RATES,
    },
    "published": {
        "content_weight": 1e-2,
        "style_weight": 1.0,
        "tolerance": 0.0,
        "lr": {"lbfgs": 1.0, "adam": 1.0},
    },
    "report5": {
        "content_weight": 1.0,
        "style_weight": 1.0,
        "tolerance": 0.0,
        "lr": {"lbfgs": 1.0, "adam": 0.05},
    },
}


@dataclass(frozen=True, kw_only=True)
class GatysOptions(DeviceOptions):
    """The backbone, the loss, and the optimisation."""

    iterations: int | Sequence[int] | None = option(
        None,
        ListOf(Whole(0), one=True, what="whole numbers"),
        "Number of iterations for every size, or a list such as 200,100,50. Default: 80 at the "
        "coarsest size, a third fewer at each further one, at least 30; 16 above 1,024 px.",
    )
    backbone: str | Backbone = option(
        "compact",
        Choice(("compact", "slim", "vgg19", "vgg16", "resnet50", "resnet18"), others=True),
        "The network of the losses: compact or slim (bundled), vgg19, vgg16, resnet50 or resnet18.",
    )
    backbone_weights: Path | str | None = option(
        None,
        File(("imagenet", "robust", "random")),
        "Weights of the backbone: a file, or imagenet (default), robust or random.",
        expert=True,
        was=("weights_file",),
    )
    convention: Convention | None = option(
        None,
        Choice(get_args(Convention)),
        "Input convention of the weights: caffe or torchvision. Default: by their header or name.",
        expert=True,
    )
    padding: Padding = option(
        "replicate",
        Choice(("replicate", "reflect", "zero")),
        "Padding of the first layer: replicate, reflect or zero.",
        expert=True,
    )
    pooling: Pooling | None = option(
        None,
        Choice(("max", "average")),
        "Pooling of the backbone: max or average. Default: max; for a ResNet average, which gives "
        "cleaner pixels.",
        expert=True,
    )
    smooth: Smooth | Mapping[str, Smooth] = option(
        "none",
        ByLayer(("none", "scale", "softmax")),
        "Smoothing of a ResNet's peaky activations: none, scale or softmax, or by stage, such as "
        "rb3=softmax,rb4=softmax.",
        expert=True,
    )
    content_layers: Sequence[str] | Mapping[str, float] | None = option(
        None,
        Layers(),
        "Layers of the content loss, such as relu4_1 or relu3_1=0.3,relu4_1=0.7. Default: relu4_2; "
        "for bundled backbones relu4_1, for a ResNet rb2.",
    )
    style_layers: str | Sequence[str] | Mapping[str, float] | None = option(
        None,
        Layers(),
        "Layers of the style loss, such as relu1_1,relu2_1=0.5; for a ResNet also paper5. Default: "
        "relu1_1 to relu5_1; for a ResNet conv1 to rb3.",
    )
    losses: Losses = option(
        "relative",
        Choice(get_args(Losses)),
        "relative (ours: independent of size and backbone), published (Gatys et al., with the "
        "weights of report 3) or report5 (its Eq. 2.1 to 2.3). Published losses may diverge.",
        expert=True,
    )
    content_weight: float | None = option(
        None,
        Number(0),
        "Weight of the content loss (alpha of report 3, Eq. 4). Default: 1; published: 0.01.",
    )
    style_weight: float | None = option(
        None,
        Number(0),
        "Weight of the style loss (beta of report 3, Eq. 4). Default: 100; published, report5: 1.",
    )
    content_loss: LossFunction | None = option(
        None,
        Function(LOSS_ARGUMENTS, typed=False),
        "The content loss: a function of (features, target_features), called for each layer. "
        "Default: the squared error.",
        expert=True,
    )
    style_loss: StyleLoss | LossFunction | None = option(
        None,
        Function(LOSS_ARGUMENTS, get_args(StyleLoss)),
        "The style loss: gram, moments (mean, deviation); swd or remd (sliced Wasserstein or "
        "relaxed earth mover's distance) need the painting itself. Default: gram; ResNets: "
        "moments; published: gram alone.",
        expert=True,
    )
    tv_weight: float = option(
        0.0, Number(0), "Weight of total variation: more gives a smoother picture.", expert=True
    )
    start: str | Source = option(
        "recoloured",
        Choice(STARTS, others=True),
        "Initial picture: recoloured (the content in the style's colours, which saves half of the "
        "iterations), content, content+noise, noise, grey, or a file.",
        expert=True,
    )
    optimizer: Optimizer = option(
        "lbfgs", Choice(get_args(Optimizer)), "The optimiser: lbfgs or adam.", expert=True
    )
    lr: float | None = option(
        None,
        Number(0, above=True),
        "Learning rate. Default: 1 (L-BFGS) or 0.02 (Adam); with published losses, whose unit is "
        "that of the network's input, Adam's is 1, with report5's 0.05.",
        expert=True,
    )
    betas: Sequence[float] | None = option(
        None,
        ListOf(Number(0, 1), what="two numbers"),
        "Adam's decay rates of the means of gradients and of their squares. Default: 0.9,0.99.",
        expert=True,
    )
    sizes: Sequence[int] | None = option(
        None,
        ListOf(Whole(0), what="whole numbers (short sides in pixels)"),
        "Short sides in pixels, coarse to fine, such as 128,256,0 (0 is the final size). Default: "
        "the final size, halved while it is 256 or more.",
        expert=True,
    )
    style_scale: float = again(StyleOptions, "style_scale")
    tolerance: float | None = option(
        None,
        Number(0),
        "Stop a size early when 10 iterations lower the loss by less than this share; 0 never "
        "stops early. Default: 0.01; with published losses 0.",
        expert=True,
    )
    tile: int | Literal["auto"] | None = option(
        "auto",
        Whole(1, words=("auto",)),
        "Compute large pictures in tiles, to the same result in less memory: auto (where memory "
        "demands it), none, or the side of a tile in pixels.",
        SIZE,
        expert=True,
        none=True,
    )
    time_limit: float | None = option(
        None, Number(0, above=True), "Most seconds for one picture, shared among the sizes."
    )
    seed: int = option(0, Whole(0, 2**63 - 1), "Seed of the random noise.", expert=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.betas is not None and (len(self.betas) != 2 or max(self.betas) >= 1):
            raise InputError(
                f"betas are {self.betas}: give two numbers from 0 to below 1", option="betas"
            )
        if self.betas is not None and self.optimizer != "adam":
            raise InputError(
                f"betas are for optimizer adam, not {self.optimizer}: leave them out",
                option="betas",
            )
        if self.absolute and (callable(self.style_loss) or self.style_loss not in (None, "gram")):
            loss = name_of(self.style_loss) if callable(self.style_loss) else self.style_loss
            raise InputError(
                f"losses {self.losses} are of Gram matrices: leave out style_loss {loss}",
                option="style_loss",
            )
        if self.absolute and self.content_loss is not None:
            raise InputError(
                f"losses {self.losses} have a content loss of their own: leave out content_loss "
                f"{name_of(self.content_loss)}",
                option="content_loss",
            )

    @property
    def absolute(self) -> bool:
        """Whether losses and layer weights are used as they are, with no common scale."""
        return self.losses != "relative"

    def value(self, name: str) -> float:
        """Value of an option whose default depends on the losses (and optimiser)."""
        given: float | None = getattr(self, name)
        default = DEFAULTS[self.losses][name]
        if given is not None:
            return given
        return default[self.optimizer] if isinstance(default, Mapping) else default


# Options of a refinement, which starts from a result and works only at the final size.
REFINED = tuple(
    name for name in GatysOptions.declared() if name not in ("sizes", "iterations", "start")
)
# Those that choose the backbone: of the refinement alone if the method has no option `backbone`.
OF_BACKBONE = frozenset({"backbone", "backbone_weights", "convention"})

# Report 3 (section III) calls the layers convi_j, and says that a ReLU of a similar name follows
# each: its conv names are taken before the ReLU, as report 4 prints them. Padding and pooling are
# those of the networks as trained, which report 4 prints too.
REPORT3 = {
    "losses": "published",
    "backbone": "vgg19",
    "padding": "zero",
    "pooling": "max",
    "content_layers": ["conv4_2"],
    "style_layers": ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"],
    "start": "content+noise",
    "sizes": [0],
    "iterations": 600,
}
# Report 4 gives no weights: alpha is one of the two of the article that it follows (Gatys, Ecker &
# Bethge, "A Neural Algorithm of Artistic Style", 2015).
PRESETS = {
    "gatys-report3": Preset("as report 3, section IV.B: VGG-19, 600 iterations", REPORT3),
    "gatys-report3-highres": Preset(
        "as report 3, section V.B: 600 iterations at 512 px, 100 at full size",
        REPORT3 | {"sizes": [512, 0], "iterations": [600, 100]},
    ),
    "gatys-report4": Preset(
        "as report 4, section 2.2: the first five convolutions, from noise",
        REPORT3
        | {
            "content_weight": 1e-4,
            "content_layers": ["conv2_2"],
            "style_layers": ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"],
            "start": "noise",
        },
    ),
    "gatys-report5": Preset(
        "as report 5, section 3.1: ResNet-50, from noise",
        {
            "losses": "report5",
            "backbone": "resnet50",
            "padding": "zero",
            "pooling": "max",
            "content_layers": ["rb3"],
            "style_layers": "paper5",
            "start": "noise",
            "sizes": [0],
            "iterations": 500,
        },
    ),
}

RECORD = MethodRecord(
    "gatys",
    "Style transfer by optimisation of the pixels, coarse to fine.",
    "gatys:Gatys",
    GatysOptions,
    {"gatys": {}},
    PRESETS,
    one_pass=False,
    trainable=False,
)
