"""Closed-form initialisation: every layer of a network is fitted by least squares before training.

A student's convolution is the linear regression from its input features to the teacher's features
before the ReLU. Its channels are the subset of the teacher's that explains the others best. A
decoder's convolution is the regression onto the encoder's features one layer shallower. This takes
a minute and reaches the loss of hours of gradient steps from random weights (He et al., "Channel
Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, reconstruct layers in this way).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.compact import Compact
from ...backbones.vgg import VGG
from ...linalg import compose, principal, ridge
from ...networks.decoder import Decoder, padded

__all__ = [
    "choose_channels",
    "counterparts",
    "fit_bottlenecks",
    "fit_decoder",
    "fit_layers",
]


def counterparts(student: VGG, teacher: VGG) -> dict[str, str]:
    """Student's convolution -> its target in the teacher; first and last of a block correspond."""
    pairs: dict[str, str] = {}
    for block, widths in enumerate(student.widths, 1):
        if block > len(teacher.widths):
            break
        depth, teacher_depth = len(widths), len(teacher.widths[block - 1])
        for index in range(min(depth, teacher_depth)):
            is_last = index == depth - 1 and depth > 1
            number = teacher_depth if is_last else index + 1
            pairs[f"conv{block}_{index + 1}"] = f"conv{block}_{number}"
    return pairs


def choose_channels(features: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` channels that explain the others best.

    Pivoted Cholesky decomposition of the second moments: each step adds the channel that linearly
    explains most of the remaining second moments.

    Args:
        features: ``(N, C)``, after the ReLU.
        count: at most ``C``.
    """
    residual = (features.T @ features / len(features)).double()
    chosen: list[int] = []
    for _ in range(count):
        gain = residual.square().sum(0) / residual.diagonal().clamp_min(1e-9)
        if chosen:
            gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        column = residual[:, best].clone()
        residual -= torch.outer(column, column) / column[best].clamp_min(1e-9)
    return torch.tensor(chosen)


@torch.no_grad()
def fit_layers(
    student: VGG,
    teacher: VGG,
    crops: Tensor,
    targets: Mapping[str, Tensor] | None = None,
    per_crop: int = 192,
    seed: int = 0,
) -> None:
    """Fit the student's convolutions in place, up to the deepest that has a target.

    Args:
        student, teacher: float32 networks; their pooling and padding may differ.
        crops: ``(n, 3, H, W)`` in 0..1 for the regression.
        targets: student's convolution -> ``(n, C, h, w)`` before the ReLU, for convolutions that
            the teacher lacks.
        per_crop: positions per crop in the regression.
        seed: random seed of the positions.
    """
    rng = torch.Generator().manual_seed(seed)
    pairs = counterparts(student, teacher)
    features, block = student.normalised(crops), 1
    for name, conv in student.convs.items():
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        if int(name[4]) != block:
            features, block = F.max_pool2d(features, 2), int(name[4])
        mode = "replicate" if name == "conv1_1" else "constant"
        padded = F.pad(features, (1, 1, 1, 1), mode=mode)
        target: Tensor | None = None
        if name in pairs:
            chunks = [teacher(chunk, [pairs[name]])[pairs[name]] for chunk in torch.split(crops, 8)]
            target = torch.cat(chunks)
        elif targets is not None:
            target = targets.get(name)
        if target is not None:
            rows, target_rows = _sample(padded, target, per_crop, rng)
            channels = choose_channels(target_rows.clamp_min(0), conv.out_channels)
            weight, bias = ridge(rows, target_rows[:, channels])
            # The chosen channels are strong ones: rescale their mean square, and with it the dot
            # products of features per channel, to the teacher's.
            energy = (rows @ weight.T + bias).clamp_min(0).square().mean()
            gain = (target_rows.clamp_min(0).square().mean() / energy.clamp_min(1e-9)).sqrt()
            conv.weight.copy_((gain * weight).reshape(conv.weight.shape))
            conv.bias.copy_(gain * bias)
        features = _convolved(padded, conv)


@torch.no_grad()
def fit_bottlenecks(
    student: Compact,
    teacher: VGG,
    crops: Tensor,
    targets: Mapping[str, Tensor] | None = None,
    per_crop: int = 160,
    seed: int = 0,
) -> None:
    """As :func:`fit_layers`, for a student with the teacher's layers as bottlenecks.

    The first 1x1 convolution of a layer projects its input onto the directions that matter most in
    the regression. The regression on these, reduced to the bottleneck's rank by the principal
    components of its predictions (Zhang et al., "Accelerating Very Deep Convolutional Networks",
    TPAMI 2016), gives the other two.

    Args:
        student, teacher, crops, targets, per_crop, seed: see :func:`fit_layers`; a target may be
            features after the ReLU.
    """
    rng = torch.Generator().manual_seed(seed)
    targets = targets or {}
    features = student.normalised(crops)
    for name, layer in student.convs.items():
        assert isinstance(layer, nn.Sequential)
        convs = [conv for conv in layer if isinstance(conv, nn.Conv2d)]
        spatial = convs[0] if len(convs) == 1 else convs[1]
        kernel, stride = spatial.kernel_size[0], spatial.stride[0]
        if student.pools_before(name):
            features = student.pooled(features)
        if name in targets:
            target = targets[name]
        else:
            target = torch.cat([teacher(part, [name])[name] for part in torch.split(crops, 8)])
        target = F.max_pool2d(target, 2) if stride == 2 else target
        mode = "replicate" if name == "conv1_1" else "constant"
        # The input of the first layer is the picture itself, so its regression is exact.
        penalty = 1e-7 if name == "conv1_1" else 1e-4
        padded = F.pad(features, (1, 1, 1, 1), mode=mode)
        positions = _positions(target, per_crop, rng)
        rows = _patches(padded, positions, kernel, stride)
        target_rows = _gathered(target, positions)
        count = min(convs[-1].out_channels, target.shape[1])
        target_rows = target_rows[:, choose_channels(target_rows.clamp_min(0), count)]
        weight, bias = ridge(rows, target_rows, penalty)
        if len(convs) == 3:
            projection = _input_directions(features, weight, convs[0].out_channels, kernel)
            convs[0].weight.copy_(projection[..., None, None])
            padded = F.conv2d(padded, convs[0].weight)
            rows = _patches(padded, positions, kernel, stride)
            weight, bias = ridge(rows, target_rows, penalty)
            predicted = rows @ weight.T
            basis = principal(torch.cov(predicted.T), spatial.out_channels).float()
            bias = target_rows.mean(0) - basis @ (basis.T @ (weight @ rows.mean(0)))
            spatial.weight.copy_((basis.T @ weight).reshape(spatial.weight.shape))
            weight = basis
        last = convs[-1]
        assert last.bias is not None
        last.weight.zero_()
        last.bias.zero_()
        last.weight[:count] = weight.reshape(count, *last.weight.shape[1:])
        last.bias[:count] = bias
        features = torch.cat([F.relu(_applied(convs, part)) for part in torch.split(padded, 8)])
        # Rescale to the teacher's mean square, see fit_layers().
        energy = target.clamp_min(0).square().mean()
        gain = (energy / features.square().mean().clamp_min(1e-9)).sqrt()
        last.weight.mul_(gain)
        last.bias.mul_(gain)
        features = features * gain


def _applied(convs: list[nn.Conv2d], padded: Tensor) -> Tensor:
    """Apply the spatial convolution and the one after it to a padded, projected input."""
    spatial = convs[0] if len(convs) == 1 else convs[1]
    x = F.conv2d(padded, spatial.weight, spatial.bias, spatial.stride)
    return x if len(convs) == 1 else F.conv2d(x, convs[2].weight, convs[2].bias)


def _input_directions(features: Tensor, weight: Tensor, count: int, kernel: int) -> Tensor:
    """``(count, C)``: the directions of ``features`` that a convolution depends on most.

    They are computed for whitened features and transformed back.
    """
    flat = features.transpose(0, 1).flatten(1)[:, ::7]
    values, vectors = torch.linalg.eigh((flat @ flat.T / flat.shape[1]).double())
    values = values.clamp_min(1e-6 * values.max()).sqrt()
    root, inverse = compose(values, vectors), compose(1 / values, vectors)
    by_channel = weight.double().reshape(len(weight), -1, kernel**2).transpose(0, 1).flatten(1)
    return (principal(root @ by_channel @ by_channel.T @ root, count).T @ inverse).float()


@torch.no_grad()
def fit_decoder(
    decoder: Decoder,
    encoder: VGG,
    taps: Mapping[int, str],
    crops: Tensor,
    per_crop: int = 192,
    seed: int = 0,
) -> None:
    """Fit a decoder in place to invert the encoder, as the initialisation of its training.

    Layer by layer, its convolutions are regressed onto the mirrored features of the encoder, see
    :func:`_mirrored`, and the last one onto the picture.

    Args:
        decoder: mirrors ``encoder`` from ``taps[0]`` on.
        encoder: a float32 network.
        taps: the decoder's block -> tap whose features are its input.
        crops: ``(n, 3, H, W)`` in 0..1; they are cropped to a multiple of the stride of
            ``taps[0]``.
        per_crop, seed: see :func:`fit_layers`.
    """
    rng = torch.Generator().manual_seed(seed)
    deepest = int(taps[0][4])
    stride = 2 ** (deepest - 1)
    height, width = (side // stride * stride for side in crops.shape[-2:])
    crops = crops[..., :height, :width]
    features = _features(encoder, taps[0], crops)
    for index, block in enumerate(decoder.blocks):
        if index:
            features = F.interpolate(features, scale_factor=2, mode=decoder.upsampling)
        if index in decoder.skips:
            features = torch.cat([features, _features(encoder, taps[index], crops)], 1)
        assert isinstance(block, nn.ModuleList)
        convs = [layer for layer in block if isinstance(layer, nn.Conv2d)]
        mirrored = _mirrored(encoder, deepest - index, taps.get(index), len(convs))
        for conv, (tap, pool) in zip(convs, mirrored, strict=True):
            target = _features(encoder, tap, crops)
            target = F.max_pool2d(target, 2) if pool else target
            conv_input = padded(features)
            rows, target_rows = _sample(conv_input, target, per_crop, rng)
            count = min(conv.out_channels, target_rows.shape[1])
            weight, bias = ridge(rows, target_rows[:, choose_channels(target_rows, count)])
            conv.weight[:count] = weight.reshape(count, *conv.weight.shape[1:])
            assert conv.bias is not None
            conv.bias[:count] = bias
            features = _convolved(conv_input, conv)
    weight, bias = ridge(*_sample(padded(features), crops, per_crop, rng))
    decoder.last.weight.copy_(weight.reshape(decoder.last.weight.shape))
    assert decoder.last.bias is not None
    decoder.last.bias.copy_(bias)


def _mirrored(encoder: VGG, level: int, tap: str | None, count: int) -> list[tuple[str, bool]]:
    """The targets of ``count`` convolutions of a decoder's block: a tap, and whether to pool it.

    The targets are the encoder's layers of this resolution in reverse, from the layer before
    ``tap`` (or the last) on, then the pooled output of the shallower block. The first repeats if
    there are too few.
    """
    last = len(encoder.widths[level - 1]) if tap is None else int(tap[6:])
    targets = [(f"relu{level}_{number}", False) for number in range(last - 1, 0, -1)]
    if level > 1:
        shallower = f"relu{level - 1}_{len(encoder.widths[level - 2])}"
        targets.append((shallower, True))
    targets = targets or [("relu1_1", False)]
    return [targets[0]] * (count - len(targets)) + targets[-count:]


def _features(encoder: VGG, tap: str, crops: Tensor) -> Tensor:
    served, encoder.served = encoder.served, None  # the layers between the taps are needed too
    try:
        return torch.cat([encoder(chunk, [tap])[tap] for chunk in torch.split(crops, 8)])
    finally:
        encoder.served = served


def _convolved(padded: Tensor, conv: nn.Conv2d) -> Tensor:
    chunks = torch.split(padded, 8)
    return torch.cat([F.relu(F.conv2d(chunk, conv.weight, conv.bias)) for chunk in chunks])


def _sample(
    padded: Tensor, target: Tensor, per_crop: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """3x3 patches ``(M, 9 C_in)`` and targets ``(M, C)`` at random positions."""
    positions = _positions(target, per_crop, rng)
    return _patches(padded, positions), _gathered(target, positions)


def _positions(target: Tensor, per_crop: int, rng: torch.Generator) -> list[Tensor]:
    """Random indices into the flattened feature map of each picture."""
    count = target.shape[-2] * target.shape[-1]
    return [torch.randperm(count, generator=rng)[:per_crop] for _ in target]


def _patches(padded: Tensor, positions: list[Tensor], kernel: int = 3, stride: int = 1) -> Tensor:
    """The input patches of a convolution at the positions, ``(M, C_in * kernel^2)``."""
    rows = []
    for picture, index in zip(padded, positions, strict=True):
        patches = F.unfold(picture[None], kernel, stride=stride)[0]  # (C_in kernel^2, H * W)
        rows.append(patches[:, index].T)
    return torch.cat(rows)


def _gathered(target: Tensor, positions: list[Tensor]) -> Tensor:
    """The targets at the positions, ``(M, C)``."""
    pairs = zip(target, positions, strict=True)
    return torch.cat([features.flatten(1)[:, index].T for features, index in pairs])
