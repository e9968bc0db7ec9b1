"""The bundled encoders, distilled from VGG-19 by ``impasto train encoder``.

``compact`` has nearly VGG-19's depth, with bottlenecks, and replaces it where a picture is
optimised. ``slim`` is a plain narrow VGG, whose layers a decoder can mirror; the methods of one
pass use it. See :mod:`impasto.training.distill` for their training and ``models/CARD.md`` for
their figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Set
from itertools import zip_longest
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import blank
from ..errors import InputError
from ..tensors import load_tensors, save_tensors
from .base import (
    PLAIN,
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
from .records import BUNDLED, VGG19, BackboneRecord, find_record
from .vgg import HALVING, VGG, average_pool

__all__ = ["Compact", "build", "load_encoder", "save_encoder"]


class Compact(Backbone):
    """Convolutions of VGG-19, each in a bottleneck, with a tap before and after every ReLU.

    Where features are wide, a layer is a 1x1 convolution to few channels, a 3x3 one between these,
    and a 1x1 one to the full width (Kim et al., "Compression of Deep Convolutional Neural Networks
    for Fast and Low Power Mobile Applications", ICLR 2016). So every ReLU acts on as many channels
    as in VGG-19, at the cost of a narrow network. Channels are most expensive at full size, so
    ``conv1_2`` is 4x4 with stride 2 and replaces VGG's layer and the pooling after it.

    Args:
        layers: some of VGG-19's convolutions, in order -> ``(width,)`` for a plain one, or
            ``(inner, rank, width)``: a 1x1 convolution to ``inner`` channels, a 3x3 one to
            ``rank``, and a 1x1 one to ``width``.
        convention, padding, pooling, name, served: see :class:`VGG`.

    Raises:
        InputError: for layers that VGG-19 lacks, in another order, or with other widths.

    Example:
        >>> net = Compact({"conv1_1": (4,), "conv1_2": (8,), "conv2_1": (4, 4, 16)})
        >>> tuple(net(torch.rand(1, 3, 16, 24), ["relu2_1"])["relu2_1"].shape)
        (1, 16, 8, 12)
    """

    style_layers: ClassVar[Mapping[str, float]] = VGG.style_layers
    content_layers: ClassVar[tuple[str, ...]] = VGG.content_layers

    def __init__(
        self,
        layers: Mapping[str, tuple[int, ...]],
        convention: InputConvention = PLAIN,
        padding: Padding = "replicate",
        pooling: Pooling = "max",
        name: str = "compact",
        served: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(convention, name, served)
        check_options(padding, pooling)
        vgg19 = [f"conv{i}_{j}" for i, b in enumerate(VGG19, 1) for j in range(1, len(b) + 1)]
        if [conv for conv in vgg19 if conv in layers] != list(layers) or "conv1_1" not in layers:
            raise InputError(
                f"layers {', '.join(layers)}: give some of {', '.join(vgg19)}, in this order, "
                "from conv1_1 on"
            )
        self.layers: dict[str, tuple[int, ...]] = {
            conv: tuple(shape) for conv, shape in layers.items()
        }
        self.padding: Padding = padding
        self.pooling: Pooling = pooling
        self.convs: nn.ModuleDict = nn.ModuleDict()
        previous = 3
        for conv, shape in self.layers.items():
            if len(shape) not in (1, 3) or min(shape) < 1:
                raise InputError(f"{conv} = {list(shape)}: give one number of channels, or three")
            kernel, stride = (4, 2) if conv == "conv1_2" else (3, 1)
            border = 0 if conv == "conv1_1" else 1
            inner, rank, width = shape if len(shape) == 3 else (previous, shape[0], shape[0])
            spatial = nn.Conv2d(inner, rank, kernel, stride, border, bias=len(shape) == 1)
            if len(shape) == 1:
                self.convs[conv] = nn.Sequential(spatial)
            else:
                reduction = nn.Conv2d(previous, inner, 1, bias=False)
                self.convs[conv] = nn.Sequential(reduction, spatial, nn.Conv2d(rank, width, 1))
            previous = width

    @property
    def every_tap(self) -> list[str]:
        """``relu1_1, relu2_1, ...`` without ``relu1_2``, which does not have VGG's resolution."""
        return ["relu" + conv[4:] for conv in self.convs if conv != "conv1_2"]

    @property
    def convolutions(self) -> list[str]:
        """``conv1_1, conv1_2, ...``; ``conv1_2`` at half of VGG's resolution."""
        return list(self.convs)

    def channels(self, tap: str) -> int:
        """Number of channels at ``tap``."""
        return self.layers["conv" + tap[4:]][-1]

    def numbers_per_pixel(self, tap: str) -> float:
        """See :class:`Backbone`."""
        values = 0.0
        for conv, shape in self.layers.items():
            halvings = 1 if conv == "conv1_2" else int(conv[4]) - 1
            values += 2 * sum(shape) / 4**halvings
            if conv[4:] == tap[4:]:
                break
        return values

    def windows(self, tap: str) -> list[Window]:
        """See :class:`Backbone`."""
        found: list[Window] = []
        for conv, layer in self.convs.items():
            if self.pools_before(conv):
                found.append(HALVING)
            assert isinstance(layer, nn.Sequential)
            for part in layer:
                found.append(window_of(part, padding=None if found else 1))
            if conv[4:] == tap[4:]:
                break
        return found

    def is_name(self, tap: str) -> bool:
        """Whether a VGG has such a tap."""
        return re.fullmatch(r"(conv|relu)[1-5]_[1-4]", tap) is not None

    def pools_before(self, conv: str) -> bool:
        """Whether the features are pooled between the previous layer and ``conv``."""
        first = next(layer for layer in self.layers if layer[4] == conv[4])
        pooled_already = conv[4] == "2" and "conv1_2" in self.layers
        return conv == first and conv != "conv1_1" and not pooled_already

    def pooled(self, features: Tensor) -> Tensor:
        """Features after 2x2 pooling of the kind :attr:`pooling`."""
        return (F.max_pool2d if self.pooling == "max" else average_pool)(features, 2)

    def padded(self, picture: Tensor) -> Tensor:
        """``picture``, normalised and padded for the first convolution."""
        x = self.normalised(picture).to(next(self.parameters()).dtype)
        return F.pad(x, (1, 1, 1, 1), mode="constant" if self.padding == "zero" else self.padding)

    def forward(self, picture: Tensor, taps: Iterable[str]) -> dict[str, Tensor]:
        """See :class:`Backbone`."""
        requested = set(taps)
        self.check(requested)
        features: dict[str, Tensor] = {}
        for tap, x in self._walk(picture, requested):
            if tap in requested:
                features[tap] = x
            if len(features) == len(requested):
                break
        return features

    def _walk(self, picture: Tensor, requested: Set[str]) -> Iterable[tuple[str, Tensor]]:
        """Features of each layer by tap: before its ReLU if ``requested``, and after it.

        Those after it are pooled already if not ``requested``.
        """
        x = self.padded(picture)
        for conv, following in zip_longest(self.convs, list(self.convs)[1:]):
            x = self.convs[conv](x)
            if conv in requested:
                yield conv, x
            relu = "relu" + conv[4:]
            pools = following is not None and self.pools_before(following)
            # Max pooling commutes with the ReLU, which then has a quarter of the values.
            early = pools and self.pooling == "max" and relu not in requested
            x = F.relu(self.pooled(x) if early else x, inplace=early or conv not in requested)
            yield relu, x
            x = self.pooled(x) if pools and not early else x

    def scale_(self, means: Mapping[str, Tensor]) -> Compact:
        """See :meth:`VGG.scale_`."""
        layers = []
        for conv, layer in self.convs.items():
            assert isinstance(layer, nn.Sequential)
            first, last = layer[0], layer[-1]
            assert isinstance(first, nn.Conv2d)
            assert isinstance(last, nn.Conv2d)
            layers.append(("relu" + conv[4:], first, last))
        divide_activations(layers, means)
        self._scaled(means)
        return self

    @torch.no_grad()
    def unit_means(self, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """See :class:`Backbone`; includes ``relu1_2``, which is no tap."""
        taps = set(self.every_tap)
        return mean_activations(pair for picture in pictures for pair in self._walk(picture, taps))


def load_encoder(name: str, path: Path | None = None) -> Compact | VGG:
    """The encoder in ``path``, or the bundled ``name``; see :func:`build`."""
    path = path or BUNDLED[name]
    return build(find_record(name), Stored(*load_tensors(path), PLAIN, str(path)))


def build(record: BackboneRecord, stored: Stored | None) -> Compact | VGG:
    """The encoder in a file, with the shape that its header gives.

    Raises:
        InputError: if the file is no encoder written by :func:`save_encoder`, or not one of the
            record's kind.
    """
    assert stored is not None, "for random weights too, the bundled file gives the shape"
    name = record.name
    try:
        config = json.loads(stored.header["config"])
        net: Compact | VGG
        if "layers" in config:
            layers = {conv: tuple(map(int, shape)) for conv, shape in config["layers"].items()}
            net = blank(lambda: Compact(layers, name=name, served=tuple(config["taps"])))
        else:
            widths = tuple(tuple(int(w) for w in block) for block in config["widths"])
            net = blank(lambda: VGG(widths, PLAIN, name=name, served=tuple(config["taps"])))
        net.load_state_dict({key: tensor.float() for key, tensor in stored.tensors.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, InputError):
        raise InputError(
            f"{stored.source}: not an encoder made by `impasto train encoder`; name another file"
        ) from None
    if isinstance(net, VGG) != record.mirrored:
        raise InputError(f"{stored.source}: not an encoder of {name}'s kind; name another file")
    return net.requires_grad_(False)


def save_encoder(net: Compact | VGG, path: Path, figures: dict[str, object]) -> None:
    """Write ``net`` as float16 with its configuration and ``figures`` in the header."""
    shape = {"layers": net.layers} if isinstance(net, Compact) else {"widths": net.widths}
    config = {**shape, "taps": net.taps, "convention": net.convention.name}
    header = {
        "config": json.dumps(config),
        "figures": json.dumps(figures),
        "format": "1",
        "licence": "MIT (impasto); distilled from VGG-19 (Simonyan & Zisserman, CC BY 4.0)",
        "training data": "photographs and paintings, see models/CARD.md",
    }
    tensors = {key: tensor.to(torch.float16) for key, tensor in net.state_dict().items()}
    save_tensors(path, tensors, header)
