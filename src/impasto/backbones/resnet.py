"""Residual networks with a tap after every stage: ResNet-50 and ResNet-18.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; style transfer with them:
report 5. Their activations are *peaky*: residual sums let a few channels grow far above the rest,
and these dominate the Gram matrix (Wang, Li & Vasconcelos, "Rethinking and Improving the Robustness
of Image Style Transfer", CVPR 2021, who smooth the features).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import blank
from ..errors import InputError
from .base import (
    AVERAGE_POOL_GAIN,
    TORCHVISION,
    Backbone,
    InputConvention,
    Padding,
    Pooling,
    Stored,
    Window,
    check_options,
    mean_activations,
    window_of,
)
from .records import RESNET_CONTENT, RESNET_STYLE, BackboneRecord, find_record

__all__ = ["ResNet", "Smooth", "build", "build_resnet"]

Smooth = Literal["none", "scale", "softmax"]


class _Block(nn.Module):
    """A residual block: two 3x3 convolutions, or one between two 1x1 ones (bottleneck)."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        out = 4 * width if bottleneck else width
        if bottleneck:
            self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.conv3 = nn.Conv2d(width, out, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(out)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != out:
            conv = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(out))

    def windows(self, dense: bool) -> list[Window]:
        """Of the convolutions; the way past them sees less."""
        convs = [self.conv1, self.conv2, *([self.conv3] if self.bottleneck else [])]
        return [window for conv in convs for window in _windows_of(conv, dense)]

    def forward(self, x: Tensor, dense: bool) -> Tensor:
        """With ``dense``, convolutions of stride 2 run with stride 1 and are averaged."""
        reduced = _dense if dense else nn.Conv2d.forward
        y = F.relu(self.bn1(reduced(self.conv1, x)), inplace=True)
        y = self.bn2(reduced(self.conv2, y))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y, inplace=True)))
        rest = x
        if self.downsample is not None:
            conv, norm = self.downsample
            assert isinstance(conv, nn.Conv2d)
            rest = norm(reduced(conv, x))
        return F.relu(y + rest, inplace=True)


class ResNet(Backbone):
    """ResNet with taps ``conv1`` (after its ReLU) and ``rb1`` to ``rb4``, the stages' outputs.

    Modules have torchvision's names, so that its files fit. Features are relative to the layer's
    mean activation, see :meth:`scale_`.

    Args:
        depths: number of blocks of each stage.
        bottleneck: whether the blocks are bottlenecks.
        convention: the input that the weights expect.
        padding: padding of the first convolution; the others pad with zeros as trained.
        pooling: ``max`` (as trained) or ``average``, rescaled to keep the magnitude: pooling and
            convolutions of stride 2 then run with stride 1 and are averaged with weights 1, 2, 1
            (Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019). Strides give
            some pixels more weight than others, which causes a visible grid in optimised pictures.
        smooth: smoothing of peaky activations, for all taps or as tap -> kind: ``none``; ``scale``
            gives every channel, not the layer as a whole, unit mean; ``softmax`` over the channels
            at every position, times their number, so that no position and no channel dominates.
        name: used in messages and stored styles.
        served: the taps that may be requested; None means all.
        width: channels of the first stage.

    Raises:
        InputError: for an option that does not exist.

    Example:
        >>> net = ResNet((1, 1, 1, 1), bottleneck=False, width=4).eval()
        >>> features = net(torch.rand(1, 3, 64, 96), ["conv1", "rb2"])
        >>> [tuple(features[tap].shape) for tap in ("conv1", "rb2")]
        [(1, 4, 32, 48), (1, 8, 8, 12)]
    """

    # A few peaky channels affect means and deviations less than Gram matrices. conv1, before the
    # residual sums, encodes colours. Report 5 uses rb3 for the content, and Gram matrices with the
    # preset's weights (1e5, 1e4, 1e3, 1e2).
    style_layers: ClassVar[Mapping[str, float]] = dict.fromkeys(RESNET_STYLE, 1.0)
    content_layers: ClassVar[tuple[str, ...]] = RESNET_CONTENT
    style_loss: ClassVar[str] = "moments"
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "paper5": {"rb1": 1e5, "rb2": 1e4, "rb3": 1e3, "rb4": 1e2}
    }

    def __init__(
        self,
        depths: tuple[int, ...],
        bottleneck: bool,
        convention: InputConvention = TORCHVISION,
        padding: Padding = "replicate",
        pooling: Pooling = "max",
        smooth: Smooth | Mapping[str, Smooth] = "none",
        name: str = "resnet",
        served: tuple[str, ...] | None = None,
        width: int = 64,
    ) -> None:
        super().__init__(convention, name, served)
        check_options(padding, pooling)
        self.padding: Padding = padding
        self.pooling: Pooling = pooling
        self.conv1: nn.Conv2d = nn.Conv2d(3, width, 7, 2, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.sizes: dict[str, int] = {"conv1": width}
        channels = width
        for number, depth in enumerate(depths):
            inner = width * 2**number
            blocks = []
            for index in range(depth):
                stride = 2 if number and not index else 1
                blocks.append(_Block(channels, inner, stride, bottleneck))
                channels = 4 * inner if bottleneck else inner
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
            self.sizes[f"rb{number + 1}"] = channels
        self.smooth: Mapping[str, Smooth] = self.smoothing(smooth)
        ones = partial(torch.ones, dtype=torch.float32, device="cpu")
        self.means: Mapping[str, Tensor] = {tap: ones(size) for tap, size in self.sizes.items()}

    def smoothing(self, smooth: Smooth | Mapping[str, Smooth]) -> dict[str, Smooth]:
        """The kind of smoothing at every tap; see the class."""
        by_tap: Mapping[str, Smooth]
        if isinstance(smooth, str):
            by_tap = dict.fromkeys(self.sizes, smooth)
        else:
            self.check(smooth)
            by_tap = smooth
        for kind in by_tap.values():
            if kind not in get_args(Smooth):
                raise InputError(
                    f"smooth {kind!r} is unknown: use none, scale or softmax", option="smooth"
                )
        return {tap: by_tap.get(tap, "none") for tap in self.sizes}

    def _other_options(self) -> list[str]:
        return [",".join(self.smooth.values())]

    @property
    def every_tap(self) -> list[str]:
        """``conv1``, ``rb1`` and so on."""
        return list(self.sizes)

    def channels(self, tap: str) -> int:
        """Number of channels at ``tap``."""
        return self.sizes[tap]

    def is_name(self, tap: str) -> bool:
        """Whether a ResNet has such a tap."""
        return tap in ("conv1", "rb1", "rb2", "rb3", "rb4")

    def stage(self, tap: str) -> nn.Sequential:
        """The blocks of a stage, ``rb1`` to ``rb4``."""
        blocks = self.get_submodule(f"layer{tap[2:]}")
        assert isinstance(blocks, nn.Sequential)
        return blocks

    def numbers_per_pixel(self, tap: str) -> float:
        """See :class:`Backbone`."""
        # Convolution, normalisation and in-place ReLU keep two outputs and pass one gradient.
        dense = 1 if self.pooling == "max" else 4  # computed positions per output of a stride
        values = 3 * self.conv1.out_channels * dense / 4
        for number, name in enumerate(self.every_tap[1:], 2):
            if self.every_tap.index(tap) < number - 1:
                break
            convs = (m for m in self.stage(name).modules() if isinstance(m, nn.Conv2d))
            outputs = (conv.out_channels * (dense if conv.stride[0] > 1 else 1) for conv in convs)
            values += 3 * sum(outputs) / 4**number
        return values

    def windows(self, tap: str) -> list[Window]:
        """See :class:`Backbone`."""
        dense = self.pooling == "average"
        found = _windows_of(self.conv1, dense, padding=3)
        if tap == "conv1":
            return found
        found.append(BLUR if dense else (3, 2, 1))
        for name in self.every_tap[1 : self.every_tap.index(tap) + 1]:
            for block in self.stage(name):
                assert isinstance(block, _Block)
                found += block.windows(dense)
        return found

    def stages(self, x: Tensor) -> Iterable[tuple[str, Tensor]]:
        """Taps and features of a normalised picture, shallow to deep, not scaled or smoothed."""
        mode = "constant" if self.padding == "zero" else self.padding
        stride = 2 if self.pooling == "max" else 1
        x = F.conv2d(F.pad(x, (3, 3, 3, 3), mode=mode), self.conv1.weight, stride=stride)
        x = F.relu(self.bn1(x), inplace=True)
        x = x if self.pooling == "max" else _blurred(x)
        yield "conv1", x
        x = F.max_pool2d(x, 3, 2, 1) if self.pooling == "max" else AVERAGE_POOL_GAIN * _blurred(x)
        for tap in self.every_tap[1:]:
            for block in self.stage(tap):
                x = block(x, self.pooling == "average")
            yield tap, x

    def forward(self, picture: Tensor, taps: Iterable[str]) -> dict[str, Tensor]:
        """See :class:`Backbone`."""
        requested = set(taps)
        self.check(requested)
        features: dict[str, Tensor] = {}
        for tap, x in self.stages(self.normalised(picture).to(self.conv1.weight.dtype)):
            if tap in requested:
                features[tap] = self._smoothed(tap, x)
            if len(features) == len(requested):
                break
        return features

    def _smoothed(self, tap: str, x: Tensor) -> Tensor:
        means, smooth = self.means[tap].to(x), self.smooth[tap]
        if smooth == "scale":
            return x / means[:, None, None]
        x = x / means.mean()
        return x if smooth == "none" else x.softmax(-3) * x.shape[-3]

    def scale_(self, means: Mapping[str, Tensor]) -> ResNet:
        """Set the mean activations that features are relative to, ``means`` (``rb1 -> (C,)``).

        Residual sums do not allow to absorb them in the weights, as in VGG's normalised form, so
        the features are divided at the taps.
        """
        self.means = {tap: means[tap].clone() for tap in self.sizes if tap in means}
        self._scaled(means)
        return self

    @torch.no_grad()
    def unit_means(self, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """See :class:`Backbone`."""
        stages = (stage for x in pictures for stage in self.stages(self.normalised(x)))
        return mean_activations((tap, x) for tap, x in stages if tap in self.taps)


def _windows_of(conv: nn.Conv2d, dense: bool, padding: int | None = None) -> list[Window]:
    """Of a convolution; see :func:`_dense`."""
    kernel, stride, padding = window_of(conv, padding)
    return [(kernel, 1, padding), BLUR] if dense and stride > 1 else [(kernel, stride, padding)]


def _dense(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution; one of stride 2 runs with stride 1 and is averaged."""
    y = F.conv2d(x, conv.weight, padding=conv.padding)
    return y if conv.stride == (1, 1) else _blurred(y)


BLUR: Window = (3, 2, 1)


def _blurred(x: Tensor) -> Tensor:
    """Blur with weights 1, 2, 1 in both directions, then every second row and column."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, 1), 2, 2)


def build(record: BackboneRecord, stored: Stored | None) -> ResNet:
    """The network of a record, from a file, or blank for random weights."""
    if stored is None:
        depths, bottleneck = record.shape
        return blank(lambda: ResNet(depths, bottleneck, name=record.name))
    return build_resnet(record.name, stored.tensors, stored.convention, stored.source)


def build_resnet(
    name: str,
    tensors: Mapping[str, Tensor],
    convention: InputConvention = TORCHVISION,
    source: str = "weights",
) -> ResNet:
    """A ResNet from tensors with torchvision's names; only complete stages are served.

    Names may begin with ``module.`` or ``module.model.``, as in networks that were trained on
    several GPUs and in the robust ones.

    Raises:
        InputError: if the first layer is missing or a shape is not the network's.
    """
    stem = next((key for key in tensors if key in _stems("conv1.weight")), None)
    if stem is None:
        raise InputError(f"{source}: not {name} weights (no conv1.weight); see `impasto backbones`")
    prefix = stem.removesuffix("conv1.weight")
    by_name = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    depths, bottleneck = find_record(name).shape
    net = blank(lambda: ResNet(depths, bottleneck, convention, name=name))
    state = net.state_dict()
    taps = ["conv1"]
    for tap in net.every_tap[1:]:
        keys = [key for key in state if key.startswith(f"layer{tap[2:]}.")]
        if not all(key in by_name or key.endswith("num_batches_tracked") for key in keys):
            break
        taps.append(tap)
    for key, blank_tensor in state.items():
        served = not key.startswith("layer") or f"rb{key[5]}" in taps
        if not served or key.endswith("num_batches_tracked"):
            continue
        if key not in by_name or by_name[key].shape != blank_tensor.shape:
            raise InputError(f"{source}: {key} does not fit {name}; use other weights")
        state[key] = by_name[key].float()
    net.load_state_dict(state)
    net.served = None if len(taps) == len(net.every_tap) else tuple(taps)
    return net.eval().requires_grad_(False)


def _stems(key: str) -> list[str]:
    return [prefix + key for prefix in ("", "module.", "model.", "module.model.")]
