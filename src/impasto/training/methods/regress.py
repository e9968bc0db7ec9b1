"""Closed-form starts: every layer of a network fitted by least squares, before any training.

An encoder's convolution over its own features is the linear regression onto the teacher's features
before the ReLU, for as many of the teacher's channels as there is room for: those that explain the
others best. A decoder's is the regression onto the encoder's features one step shallower. It takes
a minute and stands where random weights get to after hours of gradient steps (He et al., "Channel
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
    """Student's convolution -> the teacher's that it imitates: first and last of a block agree."""
    pairs: dict[str, str] = {}
    for block, widths in enumerate(student.widths, 1):
        if block > len(teacher.widths):
            break
        ours, theirs = len(widths), len(teacher.widths[block - 1])
        for index in range(min(ours, theirs)):
            last = index == ours - 1 and ours > 1
            pairs[f"conv{block}_{index + 1}"] = f"conv{block}_{theirs if last else index + 1}"
    return pairs


def choose_channels(features: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` channels that explain the others best.

    Pivoted Cholesky decomposition of the second moments: each next channel is the one with most
    left that the chosen ones do not explain linearly.

    Args:
        features: ``(N, C)``, after the ReLU.
        count: at most ``C``.
    """
    left = (features.T @ features / len(features)).double()
    chosen: list[int] = []
    for _ in range(count):
        gain = left.square().sum(0) / left.diagonal().clamp_min(1e-9)
        if chosen:
            gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        column = left[:, best].clone()
        left -= torch.outer(column, column) / column[best].clamp_min(1e-9)
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
    """Fit the student's convolutions in place, as deep as there is something to imitate.

    Args:
        student, teacher: float32 networks; the student's pooling and padding are its own.
        crops: ``(n, 3, H, W)`` in 0..1 to regress on.
        targets: further targets, student's convolution -> ``(n, C, h, w)`` before the ReLU, where
            the teacher has none.
        per_crop: positions of a crop that enter the regression.
        seed: of the positions.
    """
    rng = torch.Generator().manual_seed(seed)
    pairs = counterparts(student, teacher)
    state, block = student.normalised(crops), 1
    for name, conv in student.convs.items():
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        if int(name[4]) != block:
            state, block = F.max_pool2d(state, 2), int(name[4])
        first = name == "conv1_1"
        padded = F.pad(state, (1, 1, 1, 1), mode="replicate" if first else "constant")
        target: Tensor | None = None
        if name in pairs:
            chunks = [teacher(chunk, [pairs[name]])[pairs[name]] for chunk in torch.split(crops, 8)]
            target = torch.cat(chunks)
        elif targets is not None:
            target = targets.get(name)
        if target is not None:
            rows, answers = _sample(padded, target, per_crop, rng)
            kept = choose_channels(answers.clamp_min(0), conv.out_channels)
            weight, bias = ridge(rows, answers[:, kept])
            # The chosen channels are the strong ones: bring the dot products of features, divided
            # by the number of channels, back to the teacher's.
            ours = (rows @ weight.T + bias).clamp_min(0).square().mean()
            gain = (answers.clamp_min(0).square().mean() / ours.clamp_min(1e-9)).sqrt()
            conv.weight.copy_((gain * weight).reshape(conv.weight.shape))
            conv.bias.copy_(gain * bias)
        state = _convolved(padded, conv)


@torch.no_grad()
def fit_bottlenecks(
    student: Compact,
    teacher: VGG,
    crops: Tensor,
    targets: Mapping[str, Tensor] | None = None,
    per_crop: int = 160,
    seed: int = 0,
) -> None:
    """As :func:`fit_layers`, for a student with bottlenecks that has the teacher's own layers.

    Of each layer's input, the 1x1 convolution keeps the directions that its regression makes most
    of; the regression on these, cut to its rank by the principal components of what it predicts
    (Zhang et al., "Accelerating Very Deep Convolutional Networks", TPAMI 2016), gives the others.

    Args:
        student, teacher, crops, targets, per_crop, seed: see :func:`fit_layers`; a target may be
            features after the ReLU.
    """
    rng = torch.Generator().manual_seed(seed)
    targets = targets or {}
    state = student.normalised(crops)
    for name, layer in student.convs.items():
        assert isinstance(layer, nn.Sequential)
        convs = [conv for conv in layer if isinstance(conv, nn.Conv2d)]
        spatial = convs[0] if len(convs) == 1 else convs[1]
        kernel, stride = spatial.kernel_size[0], spatial.stride[0]
        if student.pools_before(name):
            state = student.pooled(state)
        if name in targets:
            target = targets[name]
        else:
            target = torch.cat([teacher(part, [name])[name] for part in torch.split(crops, 8)])
        target = F.max_pool2d(target, 2) if stride == 2 else target
        mode = "replicate" if name == "conv1_1" else "constant"
        # The first layer sees the picture itself: its regression is exact.
        penalty = 1e-7 if name == "conv1_1" else 1e-4
        padded = F.pad(state, (1, 1, 1, 1), mode=mode)
        at = _positions(target, per_crop, rng)
        rows, answers = _patches(padded, at, kernel, stride), _gathered(target, at)
        kept = choose_channels(answers.clamp_min(0), min(convs[-1].out_channels, target.shape[1]))
        answers = answers[:, kept]
        weight, bias = ridge(rows, answers, penalty)
        if len(convs) == 3:
            into = _telling(state, weight, convs[0].out_channels, kernel)
            convs[0].weight.copy_(into[..., None, None])
            padded = F.conv2d(padded, convs[0].weight)
            rows = _patches(padded, at, kernel, stride)
            weight, bias = ridge(rows, answers, penalty)
            predicted = rows @ weight.T
            out = principal(torch.cov(predicted.T), spatial.out_channels).float()
            bias = answers.mean(0) - out @ (out.T @ (weight @ rows.mean(0)))
            spatial.weight.copy_((out.T @ weight).reshape(spatial.weight.shape))
            weight = out
        # The chosen channels are the strong ones, see fit_layers().
        last = convs[-1]
        assert last.bias is not None
        last.weight.zero_()
        last.bias.zero_()
        last.weight[: len(kept)] = weight.reshape(len(kept), *last.weight.shape[1:])
        last.bias[: len(kept)] = bias
        state = torch.cat([F.relu(_through(part, convs)) for part in torch.split(padded, 8)])
        theirs = target.clamp_min(0).square().mean()
        gain = (theirs / state.square().mean().clamp_min(1e-9)).sqrt()
        last.weight.mul_(gain)
        last.bias.mul_(gain)
        state = state * gain


def _through(padded: Tensor, convs: list[nn.Conv2d]) -> Tensor:
    """The spatial convolution, of an input that is padded and projected, and the one after it."""
    spatial = convs[0] if len(convs) == 1 else convs[1]
    x = F.conv2d(padded, spatial.weight, spatial.bias, spatial.stride)
    return x if len(convs) == 1 else F.conv2d(x, convs[2].weight, convs[2].bias)


def _telling(state: Tensor, weight: Tensor, count: int, kernel: int) -> Tensor:
    """``(count, C)``: the directions of ``state`` that a convolution by ``weight`` depends on most.

    Both are seen where the channels of ``state`` are uncorrelated.
    """
    flat = state.transpose(0, 1).flatten(1)[:, ::7]
    values, vectors = torch.linalg.eigh((flat @ flat.T / flat.shape[1]).double())
    values = values.clamp_min(1e-6 * values.max()).sqrt()
    root, inverse = compose(values, vectors), compose(1 / values, vectors)
    taken = weight.double().reshape(len(weight), -1, kernel**2).transpose(0, 1).flatten(1)
    return (principal(root @ taken @ taken.T @ root, count).T @ inverse).float()


@torch.no_grad()
def fit_decoder(
    decoder: Decoder,
    encoder: VGG,
    taps: Mapping[int, str],
    crops: Tensor,
    per_crop: int = 192,
    seed: int = 0,
) -> None:
    """Fit a decoder in place so that it inverts the encoder: the start of its training.

    Layer by layer, its convolutions are regressed onto the encoder's features that they mirror, see
    :func:`_mirrored`, the last one onto the picture.

    Args:
        decoder: mirrors ``encoder`` from ``taps[0]`` on.
        encoder: float32.
        taps: the decoder's block -> tap that it is given.
        crops: ``(n, 3, H, W)`` in 0..1; they are cut to whole cells of ``taps[0]``.
    """
    rng = torch.Generator().manual_seed(seed)
    deepest = int(taps[0][4])
    cell = 2 ** (deepest - 1)
    crops = crops[..., : crops.shape[-2] // cell * cell, : crops.shape[-1] // cell * cell]
    state = _features(encoder, taps[0], crops)
    for index, block in enumerate(decoder.blocks):
        if index:
            state = F.interpolate(state, scale_factor=2, mode=decoder.upsampling)
        if index in decoder.skips:
            state = torch.cat([state, _features(encoder, taps[index], crops)], 1)
        assert isinstance(block, nn.ModuleList)
        convs = [layer for layer in block if isinstance(layer, nn.Conv2d)]
        ways = _mirrored(encoder, deepest - index, taps.get(index), len(convs))
        for conv, (tap, halved) in zip(convs, ways, strict=True):
            target = _features(encoder, tap, crops)
            target = F.max_pool2d(target, 2) if halved else target
            around = padded(state)
            rows, answers = _sample(around, target, per_crop, rng)
            count = min(conv.out_channels, answers.shape[1])
            weight, bias = ridge(rows, answers[:, choose_channels(answers, count)])
            conv.weight[:count] = weight.reshape(count, *conv.weight.shape[1:])
            assert conv.bias is not None
            conv.bias[:count] = bias
            state = _convolved(around, conv)
    weight, bias = ridge(*_sample(padded(state), crops, per_crop, rng))
    decoder.last.weight.copy_(weight.reshape(decoder.last.weight.shape))
    assert decoder.last.bias is not None
    decoder.last.bias.copy_(bias)


def _mirrored(encoder: VGG, level: int, tap: str | None, count: int) -> list[tuple[str, bool]]:
    """For each of ``count`` convolutions of a decoder's block: a tap, and whether to pool it.

    The encoder's layers of this resolution in reverse, then what its block above hands down. A
    block that is given ``tap`` has those before it left; the first repeats if they are too few.
    """
    last = len(encoder.widths[level - 1]) if tap is None else int(tap[6:])
    ways = [(f"relu{level}_{j}", False) for j in range(last - 1, 0, -1)]
    if level > 1:
        above = f"relu{level - 1}_{len(encoder.widths[level - 2])}"
        ways.append((above, True))
    ways = ways or [("relu1_1", False)]
    return [ways[0]] * (count - len(ways)) + ways[-count:]


def _features(encoder: VGG, tap: str, crops: Tensor) -> Tensor:
    served, encoder.served = encoder.served, None  # layers between the taps are wanted here
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
    """3x3 patches ``(M, 9 C_in)`` and the teacher's answers ``(M, C)`` at random positions."""
    at = _positions(target, per_crop, rng)
    return _patches(padded, at), _gathered(target, at)


def _positions(target: Tensor, per_crop: int, rng: torch.Generator) -> list[Tensor]:
    """Indices into the flattened map of each picture."""
    count = target.shape[-2] * target.shape[-1]
    return [torch.randperm(count, generator=rng)[:per_crop] for _ in target]


def _patches(padded: Tensor, at: list[Tensor], kernel: int = 3, stride: int = 1) -> Tensor:
    """What a convolution sees at the positions, ``(M, C_in * kernel^2)``."""
    rows = []
    for picture, index in zip(padded, at, strict=True):
        patches = F.unfold(picture[None], kernel, stride=stride)[0]  # (C_in kernel^2, H * W)
        rows.append(patches[:, index].T)
    return torch.cat(rows)


def _gathered(target: Tensor, at: list[Tensor]) -> Tensor:
    """The answers at the positions, ``(M, C)``."""
    pairs = zip(target, at, strict=True)
    return torch.cat([answer.flatten(1)[:, index].T for answer, index in pairs])
