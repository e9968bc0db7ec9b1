"""RBMAD: AdaIN towards a mixture of style and content, the operator of paper 1, section 3.3.

AdaIN gives every photograph the same statistics, those of the painting. RBMAD adapts them to the
photograph. A ResBottleneck selects from the content's features, another from the style's; an
invertible 1x1 convolution reduces each to half of the channels. The two halves together are the
*style and content mixture* (SCM). The content's features get its mean and deviation. They are only
scaled and shifted by channel, so that their instance-normalised form stays the same (Eq. 10): the
content is not biased.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.bottleneck import ResBottleneck
from ..networks.flow import InvertibleConv
from ..statistics import Moments
from .adain import adain

__all__ = ["RBMAD"]


class RBMAD(nn.Module):
    """Residual bottleneck mixed with AdaIN.

    The paper does not say how an invertible convolution halves the channels. Here it mixes all of
    them, and the first half is used. Only mean and deviation by channel of the mixture are needed.
    Those of a concatenation are those of its two halves. Content and style may therefore differ in
    size, and the moments of its half are enough to describe a style.

    Args:
        channels: number of channels of the features; even.
        expansion: expansion of the bottlenecks.

    Raises:
        InputError: for an odd number of channels.

    Example:
        >>> operator = RBMAD(4)
        >>> content, style = torch.rand(1, 4, 6, 7), torch.rand(1, 4, 9, 5)
        >>> operator(content, operator.measure(style)).shape
        torch.Size([1, 4, 6, 7])
    """

    def __init__(self, channels: int, expansion: float = 2) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise InputError(f"RBMAD of {channels} channels: give an even number, 2 or more")
        self.width = channels // 2
        self.content = ResBottleneck(channels, channels, expansion)
        self.style = ResBottleneck(channels, channels, expansion)
        self.content_mix = InvertibleConv(channels)
        self.style_mix = InvertibleConv(channels)

    def measure(self, style: Tensor) -> Moments:
        """Moments of the style's half of the mixture; ``style`` is ``(B, C, H, W)``."""
        return self._half(self.style_mix, self.style(style))

    def forward(self, content: Tensor, style: Moments, strength: float = 1.0) -> Tensor:
        """``AdaIN(content, SCM)``, Eq. 6.

        Args:
            content: features of the content, ``(B, C, H, W)``.
            style: moments from :meth:`measure`, one for each picture or one for all.
            strength: see :func:`impasto.operators.adain.adain`.
        """
        content_half = self._half(self.content_mix, self.content(content))
        return adain(content, _concatenated(content_half, style), strength)

    def _half(self, mix: InvertibleConv, selected: Tensor) -> Moments:
        """Moments of the first half of the channels of ``mix(selected)``."""
        left, right = mix.factors()
        return Moments.of(selected).mapped((left @ right)[: self.width])


def _concatenated(content: Moments, style: Moments) -> Moments:
    """Moments of the channels of both; covariances between channels are left out."""
    lead = (content.weight + style.weight).shape
    parts = [part.normalised() for part in (content, style)]
    first = torch.cat([part.first.expand(*lead, -1) for part in parts], -1)
    diagonals = [part.second.diagonal(dim1=-2, dim2=-1).expand(*lead, -1) for part in parts]
    return Moments(first.new_ones(lead), first, torch.diag_embed(torch.cat(diagonals, -1)))
