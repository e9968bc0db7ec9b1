"""VGG-shaped perceptual networks with a named tap after every layer.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015.
3x3 convolutions with ReLU in blocks, 2x2 pooling between blocks. A *tap* is the place where
features are read: ``conv4_2`` before the ReLU, ``relu4_2`` after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

__all__ = [
    "CAFFE",
    "PLAIN",
    "TORCHVISION",
    "VGG",
    "VGG16",
    "VGG19",
    "InputConvention",
    "check_options",
]

Padding = Literal["replicate", "reflect", "zero"]
Pooling = Literal["max", "average"]

VGG19: tuple[tuple[int, ...], ...] = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
VGG16: tuple[tuple[int, ...], ...] = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)


@dataclass(frozen=True)
class InputConvention:
    """What a family of weights expects of its input: ``(x[order] * scale - mean) / std``.

    Attributes:
        name: how files name it.
        bgr: True if channels come blue first.
        scale: factor that takes RGB in 0..1 to the network's range.
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

# How much the mean activation of 2x2 maxima exceeds that of 2x2 averages: average pooling is
# rescaled by it so that deeper layers still see the magnitudes they were trained on.
AVERAGE_POOL_GAIN = 2.0


class VGG(nn.Module):
    """A VGG-shaped network that returns the features at the taps it is asked for.

    Args:
        widths: channels of every convolution, block by block; ``VGG19``, ``VGG16`` or smaller.
        convention: what the weights expect of their input.
        padding: of the first convolution. Zero padding (as trained) prints a dark frame into
            optimised pictures, replication does not; deeper layers pad with zeros as trained.
        pooling: ``max`` (as trained) or ``average``, rescaled to keep the magnitude of activations
            (Gatys et al. 2016 find that it gives slightly smoother pictures).
        name: for messages and stored styles.
        served: the taps that may be asked for; None means all.

    Attributes:
        seamless: True makes every layer continue its input by replication. As trained (False), all
            but the first pad with zeros; where features are transferred and decoded, that prints a
            frame, because the odd features at the rim enter the statistics and are amplified.

    Example:
        >>> net = VGG(((4, 4), (8,)))
        >>> features = net(torch.rand(1, 3, 16, 24), ["relu1_2", "conv2_1"])
        >>> [tuple(features[tap].shape) for tap in ("relu1_2", "conv2_1")]
        [(1, 4, 16, 24), (1, 8, 8, 12)]
    """

    def __init__(
        self,
        widths: tuple[tuple[int, ...], ...],
        convention: InputConvention = PLAIN,
        padding: Padding = "replicate",
        pooling: Pooling = "max",
        name: str = "vgg",
        served: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        check_options(padding, pooling)
        self.widths = widths
        self.convention = convention
        self.padding = padding
        self.pooling = pooling
        self.name = name
        self.served = served
        self.seamless = False
        self.fingerprint = ""
        self.convs = nn.ModuleDict()
        previous = 3
        for block, block_widths in enumerate(widths, 1):
            for index, width in enumerate(block_widths, 1):
                first = not self.convs
                self.convs[f"conv{block}_{index}"] = nn.Conv2d(
                    previous, width, 3, padding=0 if first else 1
                )
                previous = width

    @property
    def taps(self) -> list[str]:
        """Every tap served, shallow to deep: ``conv1_1, relu1_1, conv1_2, ...``."""
        every = [kind + name[4:] for name in self.convs for kind in ("conv", "relu")]
        return every if self.served is None else [tap for tap in every if tap in self.served]

    def channels(self, tap: str) -> int:
        """Number of channels at ``tap``."""
        conv = self.convs["conv" + tap[4:]]
        assert isinstance(conv, nn.Conv2d)
        return conv.out_channels

    def check(self, taps: Iterable[str]) -> None:
        """Raise InputError if one of ``taps`` does not exist here."""
        known = self.taps
        for tap in taps:
            if tap in known:
                continue
            if re.fullmatch(r"(conv|relu)[1-5]_[1-4]", str(tap)):
                raise InputError(
                    f"{self.name} has no layer {tap}: these weights serve {', '.join(known)}; "
                    "choose one of these, or other weights"
                )
            raise InputError(f"layer {tap!r} is unknown to {self.name}: use one like {known[-1]}")

    def normalised(self, picture: Tensor) -> Tensor:
        """``picture`` ``(B, 3, H, W)``, RGB in 0..1, as the weights expect it."""
        x = picture.flip(-3) if self.convention.bgr else picture
        mean = x.new_tensor(self.convention.mean).view(3, 1, 1)
        std = x.new_tensor(self.convention.std).view(3, 1, 1)
        return (x * self.convention.scale - mean) / std

    def forward(self, picture: Tensor, taps: Iterable[str]) -> dict[str, Tensor]:
        """Features of ``picture`` at ``taps``; nothing deeper than the deepest is computed.

        Args:
            picture: ``(B, 3, H, W)``, RGB in 0..1, float32 or float64. The features have the data
                type of the weights, so a bfloat16 network takes a float32 picture.
            taps: names such as ``relu3_1``.

        Raises:
            InputError: for a tap that this network or its weights do not have.
        """
        wanted = set(taps)
        self.check(wanted)
        x = self.normalised(picture).to(next(self.parameters()).dtype)
        mode = "constant" if self.padding == "zero" else self.padding
        x = F.pad(x, (1, 1, 1, 1), mode=mode)
        pool = F.max_pool2d if self.pooling == "max" else _average_pool
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
            if name in wanted:
                features[name] = x
            x = F.relu(x, inplace=name not in wanted)
            relu = "relu" + name[4:]
            if relu in wanted:
                features[relu] = x
            if len(features) == len(wanted):
                break
        return features

    @torch.no_grad()
    def scale_(self, means: Mapping[str, Tensor]) -> VGG:
        """Divide the activations of every layer by ``means`` (``relu1_1 -> (C,)``), in place.

        Positive factors pass through ReLU and pooling, so the network computes the same features
        but for their scale (Gatys et al. 2016, section 2: "normalised" VGG).
        """
        before: Tensor | None = None
        for name, conv in self.convs.items():
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            after = means["relu" + name[4:]].to(conv.weight)
            if before is not None:
                conv.weight.mul_(before.view(1, -1, 1, 1))
            conv.weight.div_(after.view(-1, 1, 1, 1))
            conv.bias.div_(after)
            before = after
        return self

    @torch.no_grad()
    def unit_means(self, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """Mean activation of every channel over ``pictures`` (each ``(B, 3, H, W)``, 0..1).

        Give them to :meth:`scale_` for the normalised form: features of unit mean, in which loss
        weights carry over between layers and networks. A channel that never fires counts as one
        hundredth of its layer's mean, so that it is not blown up.
        """
        relus = [tap for tap in self.taps if tap.startswith("relu")]
        sums: dict[str, Tensor] = {}
        pixels: dict[str, int] = dict.fromkeys(relus, 0)
        for picture in pictures:
            for tap, features in self(picture, relus).items():
                sums[tap] = sums.get(tap, 0) + features.double().sum((0, 2, 3))
                pixels[tap] += features.shape[0] * features.shape[2] * features.shape[3]
        if not sums:
            raise InputError("no photographs to normalise with: give a folder that has some")
        means = {tap: sums[tap] / pixels[tap] for tap in relus}
        return {
            tap: m.clamp_min(0.01 * float(m.mean()) + 1e-12).float() for tap, m in means.items()
        }


def check_options(padding: str, pooling: str) -> None:
    """Raise InputError for a padding or pooling that does not exist."""
    if padding not in ("replicate", "reflect", "zero"):
        raise InputError(f"padding {padding!r} is unknown: use replicate, reflect or zero")
    if pooling not in ("max", "average"):
        raise InputError(f"pooling {pooling!r} is unknown: use max or average")


def _average_pool(x: Tensor, size: int) -> Tensor:
    return F.avg_pool2d(x, size) * AVERAGE_POOL_GAIN
