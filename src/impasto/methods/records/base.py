"""What a record of a method holds, and the options that several methods share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...options import (
    EXPERT,
    SIZE,
    STYLE,
    Choice,
    File,
    Flag,
    Number,
    Options,
    Text,
    Whole,
    again,
    option,
)

__all__ = [
    "DeviceOptions",
    "EncoderOptions",
    "FlowOptions",
    "MethodRecord",
    "PassOptions",
    "StyleOptions",
]

MODELS = Path(__file__).parent.parent.parent / "models"


@dataclass(frozen=True)
class MethodRecord:
    """A method, before anything of it is imported.

    Attributes:
        name: of the method.
        title: what it is, in a line.
        place: ``module:class`` in ``impasto.methods``, imported when it is loaded.
        Options: what it can be set to.
        models: label of each variant -> the options that choose it; the file of a model that comes
            with the package is called like its label.
        one_pass: it needs a model; else it optimises each picture.
        learns_styles: it paints what its model has learnt alone, by name; else it takes any
            painting, and styles can be stored for it.
        trainable: `impasto train` makes a model for it.
        photographs_alone: for which no folder of paintings is needed.
    """

    name: str
    title: str
    place: str
    Options: type[Options]
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    one_pass: bool = True
    learns_styles: bool = False
    trainable: bool = True
    photographs_alone: bool = False

    def model(self, label: str) -> Path:
        """Where the model of that label is, if it is bundled."""
        return MODELS / f"{label}.safetensors"

    @property
    def ready(self) -> dict[str, Mapping[str, Any]]:
        """Those of ``models`` that can be used at once."""
        return {
            label: options
            for label, options in self.models.items()
            if not self.one_pass or self.model(label).exists()
        }


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    """Where and how precisely to compute, see :mod:`impasto.device`."""

    device: str = option(
        "auto",
        Text(),
        "auto, cpu, cuda, cuda:1 or mps.",
        SIZE,
        recorded=False,
    )
    precision: str = option(
        "auto",
        Choice(("auto", "float32", "bfloat16")),
        "auto, float32 or bfloat16 (half the memory).",
        SIZE,
        expert=True,
        recorded=False,
    )


@dataclass(frozen=True, kw_only=True)
class PassOptions(DeviceOptions):
    """Of methods of one pass."""

    model: Path | None = option(
        None,
        File(),
        "A model made by `impasto train`, instead of the bundled one.",
        EXPERT,
        expert=True,
    )
    raw: bool = option(
        False,
        Flag(),
        "The picture as the network makes it: no repairs of grids, halos or colours.",
        EXPERT,
        expert=True,
    )
    brush: float | None = option(
        1.0,
        Number(1 / 16, 16),
        "Size of the strokes: 1 as in one pass at 512 px, 2 twice as large; none: one pass.",
        STYLE,
        none=True,
    )


@dataclass(frozen=True, kw_only=True)
class StyleOptions(PassOptions):
    """Of methods of one pass that take any painting."""

    style_scale: float = option(
        1.0,
        Number(0, 100, above=True),
        "Size of the painting's features relative to the photograph; 0.5 gives finer strokes.",
        STYLE,
        expert=True,
    )


@dataclass(frozen=True, kw_only=True)
class FlowOptions(StyleOptions):
    """Of reversible networks, which must compute in float32."""

    shifts: int = option(
        2,
        Whole(among=(1, 2, 4)),
        "So many results of shifted pictures are averaged, against the network's faint grid.",
    )
    brush: float | None = again(PassOptions, "brush", default=None)
    degrid: bool = option(True, Flag(), "Take away what is left of the grid in flat areas.")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(Options):
    """Of methods whose model goes with an encoder, which may be VGG-19."""

    gone: ClassVar[Mapping[str, str]] = {"encoder_weights": "use backbone_weights"}

    backbone_weights: Path | None = option(
        None,
        File(),
        "Weights of the encoder, where the model names VGG-19.",
        EXPERT,
        expert=True,
    )
    convention: str | None = option(
        None,
        Choice(("caffe", "torchvision")),
        "What that file expects of its input. Default: what its header or name says.",
        EXPERT,
        expert=True,
    )
