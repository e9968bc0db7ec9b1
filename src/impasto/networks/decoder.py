"""The decoder of AdaIN and WCT: it turns the features of an encoder back into a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

__all__ = ["HUANG", "Decoder", "padded"]

Upsampling = Literal["nearest", "bilinear"]

# Mirrors VGG-19 from relu4_1 on (Huang & Belongie 2017): 3,505,219 parameters from 512 channels.
HUANG = ((256,), (256, 256, 256, 128), (128, 64), (64,))


class Decoder(nn.Module):
    """Convolutions and upsampling, mirroring a VGG-shaped encoder.

    Blocks, deep to shallow, consist of 3x3 convolutions with reflection padding and ReLU. Between
    blocks, features are upsampled by two. A last, linear convolution gives RGB. There are no
    normalisation layers: they would remove the statistics that the transfer has given to the
    features. Upsampling before a convolution, instead of a transposed convolution, avoids
    checkerboard patterns.

    Args:
        channels: channels of the deepest features.
        widths: channels of the convolutions, block by block, deep to shallow.
        skips: block (0 is the deepest) -> channels of further features, which are concatenated to
            its input at its resolution.
        upsampling: ``nearest`` (Huang & Belongie) or ``bilinear`` (report 2).

    Raises:
        InputError: for invalid widths or an invalid upsampling.

    Example:
        >>> decoder = Decoder(8, ((8,), (6, 4)), skips={1: 5})
        >>> decoder(torch.rand(1, 8, 6, 7), {1: torch.rand(1, 5, 12, 14)}).shape
        torch.Size([1, 3, 12, 14])
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[Sequence[int]] = HUANG,
        skips: Mapping[int, int] | None = None,
        upsampling: Upsampling = "nearest",
    ) -> None:
        super().__init__()
        if upsampling not in get_args(Upsampling):
            raise InputError(f"upsampling {upsampling!r} is unknown: use nearest or bilinear")
        if not _whole(widths):
            raise InputError(f"widths {widths}: give a list of channels, 1 or more, for each block")
        self.upsampling = upsampling
        self.skips = dict(skips or {})
        self.blocks = nn.ModuleList()
        for index, block in enumerate(widths):
            channels += self.skips.get(index, 0)
            layers: list[nn.Module] = []
            for width in block:
                layers += [nn.Conv2d(channels, width, 3), nn.ReLU(inplace=True)]
                channels = width
            self.blocks.append(nn.ModuleList(layers))
        self.last = nn.Conv2d(channels, 3, 3)

    def reaches(self) -> list[int]:
        """For each block, how many features of its input the output depends on beyond its own."""
        reach, found = 1, []  # of the last convolution; then from block to block, back to the first
        for block in reversed(self.blocks):
            assert isinstance(block, nn.ModuleList)
            reach += len(block) // 2
            found.append(reach)
            reach = math.ceil(reach / 2) + (self.upsampling == "bilinear")
        return found[::-1]

    def forward(self, features: Tensor, skips: Mapping[int, Tensor] | None = None) -> Tensor:
        """Decode features ``(B, C, h, w)`` to a picture ``(B, 3, H, W)``, not clipped.

        ``H = h * 2^(blocks - 1)``.
        """
        x = features
        for index, block in enumerate(self.blocks):
            if index:
                x = F.interpolate(x, scale_factor=2, mode=self.upsampling)
            if index in self.skips:
                assert skips is not None
                x = torch.cat([x, skips[index]], 1)
            assert isinstance(block, nn.ModuleList)
            for layer in block:
                x = layer(padded(x) if isinstance(layer, nn.Conv2d) else x)
        out: Tensor = self.last(padded(x))
        return out


def padded(x: Tensor, by: int = 1) -> Tensor:
    """Extend ``x`` by reflection, or by replication if it is too small to reflect."""
    fits = min(x.shape[-2:]) > by
    return F.pad(x, (by, by, by, by), mode="reflect" if fits else "replicate")


def padded_rows(x: Tensor, low: int, high: int, height: int, first: int = 0) -> Tensor:
    """Rows ``low`` to ``high`` of ``padded(x)``, with its columns; row 0 is the first of ``x``.

    Args:
        x: the features, or only their rows from ``first`` on.
        low, high: from -1 to ``height + 1``.
        height: height of the whole features.
        first: index of the first row of ``x``.
    """
    reflect = min(x.shape[-1], height) > 1
    rows = torch.arange(low, high, device=x.device)
    if reflect:
        rows = rows.abs()
        rows = torch.where(rows < height, rows, 2 * (height - 1) - rows)
    rows = rows.clamp(0, height - 1) - first
    inside = x.index_select(-2, rows)
    return F.pad(inside, (1, 1, 0, 0), mode="reflect" if reflect else "replicate")


def _whole(widths: object) -> bool:
    def lists(value: object) -> bool:
        return isinstance(value, (list, tuple)) and len(value) > 0

    return lists(widths) and all(
        lists(block) and all(type(width) is int and width > 0 for width in block)
        for block in widths  # type: ignore[attr-defined]
    )
