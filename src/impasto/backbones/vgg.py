"""VGG-shaped perceptual networks with a named tap after every layer.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015.
3x3 convolutions with ReLU in blocks, 2x2 pooling between blocks. A *tap* is a place where features
can be read: ``conv4_2`` before the ReLU, ``relu4_2`` after it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import blank
from ..errors import InputError
from .base import (
    AVERAGE_POOL_GAIN,
    PLAIN,
    TORCHVISION,
    Backbone,
    InputConvention,
    Padding,
    Pooling,
    Stored,
    Window,
    check_options,
    divide_activations,
    mean_activations,
    window_of,
)
from .records import VGG_CONTENT, VGG_STYLE, BackboneRecord, find_record

__all__ = ["HALVING", "VGG", "average_pool", "build", "build_vgg"]

HALVING: Window = (2, 2, 0)  # the pooling between blocks


class VGG(Backbone):
    """A VGG-shaped network that returns the features at the requested taps.

    Args:
        widths: channels of every convolution, block by block; ``VGG19``, ``VGG16`` or smaller.
        convention: the input that the weights expect.
        padding: padding of the first convolution. Zero padding (as trained) causes a dark frame in
            optimised pictures, replication does not; deeper layers pad with zeros as trained.
        pooling: ``max`` (as trained) or ``average``, rescaled to keep the magnitude of activations
            (Gatys et al. 2016 find that it gives slightly smoother pictures).
        name: used in messages and stored styles.
        served: the taps that may be requested besides the convolutions; None means all.

    Attributes:
        seamless: True makes every layer pad by replication. As trained (False), all but the first
            pad with zeros; where features are transferred and decoded, that causes a frame, because
            the unusual features at the border enter the statistics and are amplified.

    Example:
        >>> net = VGG(((4, 4), (8,)))
        >>> features = net(torch.rand(1, 3, 16, 24), ["relu1_2", "conv2_1"])
        >>> [tuple(features[tap].shape) for tap in ("relu1_2", "conv2_1")]
        [(1, 4, 16, 24), (1, 8, 8, 12)]
    """

    style_layers: ClassVar[Mapping[str, float]] = dict.fromkeys(VGG_STYLE, 1.0)
    content_layers: ClassVar[tuple[str, ...]] = VGG_CONTENT

    def __init__(
        self,
        widths: tuple[tuple[int, ...], ...],
        convention: InputConvention = PLAIN,
        padding: Padding = "replicate",
        pooling: Pooling = "max",
        name: str = "vgg",
        served: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(convention, name, served)
        check_options(padding, pooling)
        self.widths = widths
        self.padding: Padding = padding
        self.pooling: Pooling = pooling
        self.seamless = False
        self.convs: nn.ModuleDict = nn.ModuleDict()
        previous = 3
        for block, block_widths in enumerate(widths, 1):
            for index, width in enumerate(block_widths, 1):
                first = not self.convs
                self.convs[f"conv{block}_{index}"] = nn.Conv2d(
                    previous, width, 3, padding=0 if first else 1
                )
                previous = width

    def _other_options(self) -> list[str]:
        return ["seamless"] if self.seamless else []

    @property
    def every_tap(self) -> list[str]:
        """``conv1_1, relu1_1, conv1_2, ...``."""
        return [kind + name[4:] for name in self.convs for kind in ("conv", "relu")]

    @property
    def convolutions(self) -> list[str]:
        """``conv1_1, conv1_2, ...``, whatever is :attr:`served`."""
        return list(self.convs)

    def channels(self, tap: str) -> int:
        """Number of channels at ``tap``."""
        conv = self.convs["conv" + tap[4:]]
        assert isinstance(conv, nn.Conv2d)
        return conv.out_channels

    def numbers_per_pixel(self, tap: str) -> float:
        """See :class:`Backbone`."""
        values = 0.0
        for name, conv in self.convs.items():
            # Each layer keeps its output for the backward pass and passes a gradient of that size.
            assert isinstance(conv, nn.Conv2d)
            values += 2 * conv.out_channels / 4 ** (int(name[4]) - 1)
            if name[4:] == tap[4:]:
                break
        return values

    def windows(self, tap: str) -> list[Window]:
        """See :class:`Backbone`."""
        found: list[Window] = []
        for name, conv in self.convs.items():
            if name[5:] == "_1" and found:
                found.append(HALVING)
            found.append(window_of(conv, padding=1))
            if name[4:] == tap[4:]:
                break
        return found

    def is_name(self, tap: str) -> bool:
        """Whether a VGG has such a tap."""
        return re.fullmatch(r"(conv|relu)[1-5]_[1-4]", tap) is not None

    def forward(self, picture: Tensor, taps: Iterable[str]) -> dict[str, Tensor]:
        """See :class:`Backbone`."""
        requested = set(taps)
        self.check(requested)
        x = self.normalised(picture).to(next(self.parameters()).dtype)
        mode = "constant" if self.padding == "zero" else self.padding
        x = F.pad(x, (1, 1, 1, 1), mode=mode)
        pool = F.max_pool2d if self.pooling == "max" else average_pool
        features: dict[str, Tensor] = {}
        block = 1
        for name, conv in self.convs.items():
            if int(name[4]) != block:
                x = pool(x, 2)
                block += 1
            if self.seamless and name != "conv1_1":
                assert isinstance(conv, nn.Conv2d)
                x = F.pad(x, (1, 1, 1, 1), mode="replicate")
                x = F.conv2d(x, conv.weight, conv.bias)
            else:
                x = conv(x)
            if name in requested:
                features[name] = x
            x = F.relu(x, inplace=name not in requested)
            relu = "relu" + name[4:]
            if relu in requested:
                features[relu] = x
            if len(features) == len(requested):
                break
        return features

    def scale_(self, means: Mapping[str, Tensor]) -> VGG:
        """Divide the activations of every layer by ``means`` (``relu1_1 -> (C,)``), in place.

        Positive factors commute with ReLU and pooling, so the network computes the same features up
        to their scale (Gatys et al. 2016, section 2: "normalised" VGG).
        """
        layers = []
        for name, conv in self.convs.items():
            assert isinstance(conv, nn.Conv2d)
            layers.append(("relu" + name[4:], conv, conv))
        divide_activations(layers, means)
        self._scaled(means)
        return self

    @torch.no_grad()
    def unit_means(self, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """See :class:`Backbone`."""
        relus = [tap for tap in self.taps if tap.startswith("relu")]
        return mean_activations(pair for x in pictures for pair in self(x, relus).items())


def average_pool(x: Tensor, size: int) -> Tensor:
    """Average pooling over ``size`` x ``size``, rescaled to the magnitude of max pooling."""
    return F.avg_pool2d(x, size) * AVERAGE_POOL_GAIN


def build(record: BackboneRecord, stored: Stored | None) -> VGG:
    """The network of a record, from a file, or blank for random weights."""
    if stored is None:
        (widths,) = record.shape
        return blank(lambda: VGG(widths, TORCHVISION, name=record.name))
    return build_vgg(record.name, stored.tensors, stored.convention, source=stored.source)


def build_vgg(
    name: str,
    tensors: Mapping[str, Tensor],
    convention: InputConvention,
    padding: Padding = "replicate",
    pooling: Pooling = "max",
    source: str = "weights",
) -> VGG:
    """A VGG from tensors with torchvision's names, ``features.N.weight``, of the depth they have.

    Raises:
        InputError: if the first layer is missing or a shape is not the network's.
    """
    full: tuple[tuple[int, ...], ...] = find_record(name).shape[0]
    prefix = "" if "0.weight" in tensors else "features."
    numbers: dict[str, int] = {}  # of the layers in torchvision's names
    index = 0
    for block, block_widths in enumerate(full, 1):
        for position in range(1, len(block_widths) + 1):
            numbers[f"conv{block}_{position}"] = index
            index += 2  # convolution, ReLU
        index += 1  # pooling
    available = list(
        itertools.takewhile(lambda conv: f"{prefix}{numbers[conv]}.weight" in tensors, numbers)
    )
    depths = Counter(int(conv[4]) for conv in available)
    widths = [full[block - 1][:depth] for block, depth in depths.items()]
    if not available:
        raise InputError(
            f"{source}: not {name} weights (no {prefix}0.weight); see `impasto backbones`"
        )
    net = blank(lambda: VGG(tuple(widths), convention, padding, pooling, name))
    state = {}
    for conv in available:
        for part in ("weight", "bias"):
            key = f"{prefix}{numbers[conv]}.{part}"
            expected = getattr(net.convs[conv], part).shape
            if key not in tensors or tensors[key].shape != expected:
                raise InputError(f"{source}: {key} does not fit {name}'s {conv}; use other weights")
            state[f"convs.{conv}.{part}"] = tensors[key].float()
    net.load_state_dict(state)
    return net.requires_grad_(False)
