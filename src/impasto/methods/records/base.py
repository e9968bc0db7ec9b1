"""The record of a method, and the options that several methods share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

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
    "Convention",
    "DeviceOptions",
    "EncoderOptions",
    "FlowOptions",
    "MethodRecord",
    "PassOptions",
    "Precision",
    "Preset",
    "StatisticsOptions",
    "StyleOptions",
    "TileOptions",
]

Convention = Literal["caffe", "torchvision"]
Precision = Literal["auto", "float32", "bfloat16"]
Statistics = Literal["thumbnail", "exact"]

MODELS = Path(__file__).parent.parent.parent / "models"


@dataclass(frozen=True)
class Preset:
    """A method with options chosen beforehand, under a name of its own.

    Attributes:
        title: description of one line.
        options: the options; others beside them override.
    """

    title: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class MethodRecord:
    """A description of a method that is known before its implementation is imported.

    Attributes:
        name: name of the method.
        title: description of one line.
        place: ``module:class`` in ``impasto.methods``, imported when the method is loaded.
        Options: the dataclass of its options.
        models: label of each variant -> the options that choose it; a bundled model's file has the
            label as its name.
        presets: name -> options under that name, besides the variants of ``models``.
        one_pass: it renders by a trained model in one pass; else it optimises each picture.
        learns_styles: it paints only styles that its model has learnt, by name; else it takes any
            painting, and styles can be stored for it.
        trainable: `impasto train` can train a model for it.
        photographs_alone: its training needs no folder of paintings.
    """

    name: str
    title: str
    place: str
    Options: type[Options]
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    one_pass: bool = True
    learns_styles: bool = False
    trainable: bool = True
    photographs_alone: bool = False

    def model(self, label: str) -> Path:
        """Path of the bundled model of this label; the file may not exist."""
        return MODELS / f"{label}.safetensors"

    def named(self) -> dict[str, Mapping[str, Any]]:
        """Every name that stands for this method -> the options that it stands for."""
        presets = {name: preset.options for name, preset in self.presets.items()}
        return {self.name: {}, **self.models, **presets}

    @property
    def ready(self) -> dict[str, Mapping[str, Any]]:
        """Those of ``models`` that can be used without training."""
        return {
            label: options
            for label, options in self.models.items()
            if not self.one_pass or self.model(label).exists()
        }


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    """Device and precision of the computation, see :mod:`impasto.device`."""

    device: str = option(
        "auto",
        Text(),
        "Device: auto, cpu, cuda, cuda:1 or mps.",
        SIZE,
        recorded=False,
    )
    precision: Precision = option(
        "auto",
        Choice(get_args(Precision)),
        "Precision of the computation: auto, float32 or bfloat16 (half the memory).",
        SIZE,
        expert=True,
        recorded=False,
    )


@dataclass(frozen=True, kw_only=True)
class PassOptions(DeviceOptions):
    """Options of methods of one pass."""

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
        "Leave out the repairs of grids, halos and colours.",
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
    """Options of methods of one pass that take any painting."""

    style_scale: float = option(
        1.0,
        Number(0, 100, above=True),
        "Size of the painting's features relative to the photograph; 0.5 gives finer strokes.",
        STYLE,
        expert=True,
    )


@dataclass(frozen=True, kw_only=True)
class TileOptions(Options):
    """Options of methods of one pass that can render a large picture in tiles."""

    tile: int | Literal["auto"] | None = option(
        "auto",
        Whole(64, words=("auto",)),
        "Side in pixels of the tiles of a large picture, whose borders do not show. auto: for "
        "pictures above 2 megapixels, as large as memory allows. none: in one piece.",
        SIZE,
        expert=True,
        none=True,
    )


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions(TileOptions):
    """Options of networks with normalisation layers."""

    statistics: Statistics = option(
        "thumbnail",
        Choice(get_args(Statistics)),
        "What the layers of a picture in tiles are normalised by: a reduced copy (thumbnail), or "
        "the whole as in one piece (exact: five to ten times the time).",
        SIZE,
        expert=True,
    )


@dataclass(frozen=True, kw_only=True)
class FlowOptions(StyleOptions):
    """Options of reversible networks, which must compute in float32."""

    shifts: Literal[1, 2, 4] = option(
        2,
        Whole(among=(1, 2, 4)),
        "Number of shifted results that are averaged, against the network's faint grid.",
    )
    brush: float | None = again(PassOptions, "brush", default=None)
    degrid: bool = option(True, Flag(), "Remove the network's faint grid from flat areas.")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(Options):
    """Options of methods whose model needs an encoder, which may be VGG-19."""

    backbone_weights: Path | None = option(
        None,
        File(),
        "File of the encoder's weights, if the model was made for VGG-19.",
        EXPERT,
        expert=True,
        was=("encoder_weights",),
    )
    convention: Convention | None = option(
        None,
        Choice(get_args(Convention)),
        "Input convention of the weights: caffe or torchvision. Default: by their header or name.",
        EXPERT,
        expert=True,
    )
