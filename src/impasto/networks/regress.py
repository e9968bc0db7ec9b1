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

from ..backbones.vgg import VGG
from .decoder import Decoder, padded

__all__ = ["choose_channels", "counterparts", "fit_decoder", "fit_layers", "ridge"]

RIDGE = 1e-3


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
    rows, answers = [], []
    for picture, answer in zip(padded, target, strict=True):
        height, width = answer.shape[-2:]
        patches = F.unfold(picture[None], 3)[0]  # (9 C_in, H * W)
        index = torch.randperm(height * width, generator=rng)[:per_crop]
        rows.append(patches[:, index].T)
        answers.append(answer.flatten(1)[:, index].T)
    return torch.cat(rows), torch.cat(answers)


def ridge(rows: Tensor, answers: Tensor, penalty: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Weights ``(C, D)`` and bias ``(C,)`` of the regression of ``answers`` on ``rows``.

    The ``penalty`` of the weights' squares is relative to the mean variance of the ``rows``.
    """
    mean, centre = rows.mean(0), answers.mean(0)
    x, y = rows - mean, answers - centre
    normal = (x.T @ x).double()
    normal.diagonal().add_(penalty * normal.diagonal().mean())
    weight = torch.linalg.solve(normal, (x.T @ y).double()).T.float()
    return weight, centre - weight @ mean
