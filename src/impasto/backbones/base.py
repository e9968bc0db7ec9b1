"""The base class of perceptual networks: named layers ("taps"), and the input they expect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..device import check_process
from ..errors import InputError
from ..tensors import digest

__all__ = [
    "AVERAGE_POOL_GAIN",
    "CAFFE",
    "CONVENTIONS",
    "PLAIN",
    "TORCHVISION",
    "Backbone",
    "Field",
    "InputConvention",
    "Padding",
    "Pooling",
    "Stored",
    "Window",
    "check_options",
    "divide_activations",
    "mean_activations",
    "window_of",
]

Padding = Literal["replicate", "reflect", "zero"]
Pooling = Literal["max", "average"]

# Ratio of the mean activation of 2x2 maxima to that of 2x2 averages. Average pooling is rescaled
# by it, so that deeper layers receive the magnitudes they were trained on.
AVERAGE_POOL_GAIN = 2.0


@dataclass(frozen=True)
class InputConvention:
    """The input that a family of weights expects: ``(x[order] * scale - mean) / std``.

    Attributes:
        name: its name in files.
        bgr: True if the channels are in the order blue, green, red.
        scale: factor from RGB in 0..1 to the network's range.
        mean, std: per channel, in the network's order and range.
    """

    name: str
    bgr: bool
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CAFFE = InputConvention("caffe", True, 255.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCHVISION = InputConvention(
    "torchvision", False, 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
)
PLAIN = InputConvention("plain", False, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


CONVENTIONS = {convention.name: convention for convention in (CAFFE, TORCHVISION, PLAIN)}


@dataclass(frozen=True)
class Stored:
    """The contents of a file of weights.

    Attributes:
        tensors, header: see :func:`impasto.tensors.load_tensors`.
        convention: the input that the weights expect.
        source: path of the file, for messages.
    """

    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]
    convention: InputConvention
    source: str


Window = tuple[int, int, int]
"""Kernel, stride and padding of a convolution or pooling, the same in both directions."""


@dataclass(frozen=True)
class Field:
    """The receptive field of the features at a tap, the same in both directions.

    Feature ``i`` of a row or column depends on ``size`` pixels from ``offset + i * stride`` on, as
    far as these are in the picture (Araujo, Norris & Sim, "Computing Receptive Fields of
    Convolutional Neural Networks", Distill 2019).

    Attributes:
        size: pixels.
        stride: pixels from one feature to the next.
        offset: first pixel of feature 0; below 0 where layers are padded.

    Example:
        >>> Field().after((3, 1, 1)).after((2, 2, 0))
        Field(size=4, stride=2, offset=-1)
    """

    size: int = 1
    stride: int = 1
    offset: int = 0

    def after(self, window: Window) -> Field:
        """The field after one more layer."""
        kernel, stride, padding = window
        return Field(
            self.size + (kernel - 1) * self.stride,
            self.stride * stride,
            self.offset - padding * self.stride,
        )

    @property
    def halo(self) -> int:
        """Pixels that a feature depends on beyond its own ``stride`` pixels, at the wider side.

        With so many pixels around it, a tile that begins and ends at multiples of the stride has
        the features of the whole picture.
        """
        return max(-self.offset, self.offset + self.size - self.stride, 0)


class Backbone(nn.Module, ABC):
    """A network that returns the features at the requested taps.

    Attributes:
        style_layers, content_layers: taps that optimisation uses by default, the style layers with
            weights; of the content layers, it uses the first that the weights include.
        style_loss: the default style loss, see :class:`impasto.methods.gatys.Gatys`.
        presets: named style layers with weights.
        convention: the input that the weights expect.
        name: used in messages and stored styles.
        served: the taps that may be requested; None means all.
        weights: digest of the weights in :attr:`fingerprint`, usually as they were in the file.
        scaled_by: identifies the means by which the weights were then divided, by default by a
            digest; empty if they were not.
        as_loaded: digest of the network after loading; empty if unknown.
    """

    style_layers: ClassVar[Mapping[str, float]]
    content_layers: ClassVar[tuple[str, ...]]
    style_loss: ClassVar[str] = "gram"
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    convention: InputConvention
    name: str
    served: tuple[str, ...] | None
    weights: str
    scaled_by: str
    as_loaded: str
    padding: Padding
    pooling: Pooling

    def __init__(
        self, convention: InputConvention, name: str, served: tuple[str, ...] | None = None
    ) -> None:
        super().__init__()
        self.convention, self.name, self.served = convention, name, served
        self.weights, self.scaled_by, self.as_loaded = "", "", ""

    @property
    def fingerprint(self) -> str:
        """Identifies everything that features depend on: the weights and the options.

        Stored styles contain it, and so do models that need a backbone.
        """
        parts = [self.name, self.padding, self.pooling, self.weights, *self._other_options()]
        return ":".join([*parts, self.scaled_by] if self.scaled_by else parts)

    def _scaled(self, means: Mapping[str, Tensor]) -> None:
        """Record in :attr:`scaled_by` that activations were divided by ``means``."""
        self.scaled_by = digest(sorted(means.items()), torch.float64, self.scaled_by)

    def _other_options(self) -> list[str]:
        """Further options that features depend on."""
        return []

    @property
    @abstractmethod
    def every_tap(self) -> list[str]:
        """All taps of the network, shallow to deep, including those that the weights lack."""

    @property
    def taps(self) -> list[str]:
        """The taps that may be requested, shallow to deep."""
        return [tap for tap in self.every_tap if self.served is None or tap in self.served]

    @property
    def convolutions(self) -> list[str]:
        """Taps before a ReLU that may be requested besides :attr:`taps`, shallow to deep."""
        return []

    @abstractmethod
    def channels(self, tap: str) -> int:
        """Number of channels at ``tap``."""

    @abstractmethod
    def numbers_per_pixel(self, tap: str) -> float:
        """Estimated number of activations kept per pixel for a pass to ``tap`` and back."""

    @abstractmethod
    def windows(self, tap: str) -> list[Window]:
        """Convolutions and poolings from the picture to ``tap``, in order.

        Where there are several ways, those of the way that sees most.
        """

    def field(self, tap: str) -> Field:
        """The receptive field of the features at ``tap``.

        Raises:
            InputError: for a tap that this network or its weights lack.
        """
        self.check([tap])
        return reduce(Field.after, self.windows(tap), Field())

    @abstractmethod
    def forward(self, picture: Tensor, taps: Iterable[str]) -> dict[str, Tensor]:
        """Features of ``picture`` at ``taps``; computes no layer beyond the deepest of them.

        Args:
            picture: ``(B, 3, H, W)``, RGB in 0..1, float32 or float64. The features have the data
                type of the weights; a bfloat16 network accepts a float32 picture.
            taps: names such as ``relu3_1``.

        Raises:
            InputError: for a tap that this network or its weights lack.
        """

    @abstractmethod
    def unit_means(self, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """Mean activation of every channel over ``pictures`` (each ``(B, 3, H, W)``, 0..1).

        Pass them to :meth:`scale_` for the normalised form, in which loss weights are comparable
        between layers and networks. The mean of a channel is at least one hundredth of its layer's
        mean, so that inactive channels are not amplified.
        """

    @abstractmethod
    def scale_(self, means: Mapping[str, Tensor]) -> Backbone:
        """Make activations relative to ``means`` (tap -> ``(C,)``), in place."""

    def check(self, taps: Iterable[str]) -> None:
        """Raise InputError if this network or its weights lack one of ``taps``."""
        served = self.taps
        for tap in taps:
            if tap in served or tap in self.convolutions:
                continue
            if tap in self.every_tap or self.is_name(str(tap)):
                raise InputError(
                    f"{self.name} has no layer {tap}: these weights serve {', '.join(served)}; "
                    "choose one of these, or other weights"
                )
            raise InputError(f"layer {tap!r} is unknown to {self.name}: use one like {served[-1]}")

    def is_name(self, tap: str) -> bool:
        """Whether another network of this family might have such a tap."""
        return False

    def normalised(self, picture: Tensor) -> Tensor:
        """``picture`` ``(B, 3, H, W)``, RGB in 0..1, converted to the input the weights expect."""
        check_process()
        x = picture.flip(-3) if self.convention.bgr else picture
        mean, std = (_filled(x, values) for values in (self.convention.mean, self.convention.std))
        return x * (self.convention.scale / std) - mean / std


def _filled(like: Tensor, values: Iterable[float]) -> Tensor:
    """``(n, 1, 1)``, filled on the device: a copy from the host would synchronise every pass."""
    return torch.cat([like.new_full((1, 1, 1), value) for value in values])


def check_options(padding: str, pooling: str) -> None:
    """Raise InputError for a padding or pooling that does not exist."""
    if padding not in ("replicate", "reflect", "zero"):
        raise InputError(
            f"padding {padding!r} is unknown: use replicate, reflect or zero", option="padding"
        )
    if pooling not in ("max", "average"):
        raise InputError(f"pooling {pooling!r} is unknown: use max or average", option="pooling")


def mean_activations(maps: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of every channel over all ``maps``, pairs of a tap and ``(B, C, H, W)``, floored.

    Raises:
        InputError: if ``maps`` is empty.
    """
    sums: dict[str, Tensor] = {}
    pixels: dict[str, int] = {}
    for tap, features in maps:
        sums[tap] = sums.get(tap, 0) + features.double().sum((0, 2, 3))
        pixels[tap] = pixels.get(tap, 0) + features[:, 0].numel()
    if not sums:
        raise InputError("no photographs to normalise with: give a folder of photographs")
    return {tap: _floored(total / pixels[tap]) for tap, total in sums.items()}


def window_of(conv: nn.Module, padding: int | None = None) -> Window:
    """The window of a convolution with square kernel; ``padding`` replaces its own."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(conv.padding[0], int)
    return conv.kernel_size[0], conv.stride[0], conv.padding[0] if padding is None else padding


@torch.no_grad()
def divide_activations(
    layers: Iterable[tuple[str, nn.Conv2d, nn.Conv2d]], means: Mapping[str, Tensor]
) -> None:
    """Divide the activations of a chain of layers by ``means``, in place.

    Args:
        layers: in order, the tap after each, its first and its last convolution (often the same).
        means: tap -> ``(C,)``, positive, because only such factors commute with ReLU and pooling.
    """
    input_mean: Tensor | None = None
    for tap, first, last in layers:
        assert last.bias is not None
        output_mean = means[tap].to(last.weight)
        if input_mean is not None:
            first.weight.mul_(input_mean.view(1, -1, 1, 1))
        last.weight.div_(output_mean.view(-1, 1, 1, 1))
        last.bias.div_(output_mean)
        input_mean = output_mean


def _floored(mean: Tensor) -> Tensor:
    """Means of the channels of a layer, at least one hundredth of the layer's mean."""
    return mean.clamp_min(0.01 * float(mean.mean()) + 1e-12).float()
