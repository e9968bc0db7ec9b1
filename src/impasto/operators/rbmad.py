"""RBMAD: AdaIN towards a mixture of style and content, the operator of paper 1, section 3.3.

The same painting asks for other statistics with another photograph. A ResBottleneck selects what
matters of the content's features and of the style's, an invertible 1x1 convolution brings each to
half of the channels, and together they are the *style and content mixture* (SCM), whose mean and
deviation the content's features get. They are only scaled and shifted by channel, so their
instance-normalised form stays (Eq. 10): the content is not biased.
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

    The paper leaves open how an invertible convolution halves the channels: here it mixes all of
    them, and the first half goes on. Of the mixture only mean and deviation by channel are used,
    and those of a concatenation are the two halves' own, so content and style may differ in size,
    and a style is known by the moments of its half.

    Args:
        channels: of the features, even.
        expansion: of the bottlenecks.

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
        self.kept = channels // 2
        self.content = ResBottleneck(channels, channels, expansion)
        self.style = ResBottleneck(channels, channels, expansion)
        self.content_mix = InvertibleConv(channels)
        self.style_mix = InvertibleConv(channels)

    def measure(self, style: Tensor) -> Moments:
        """Moments of the style's half of the mixture, of features ``(B, C, H, W)``."""
        return self._half(self.style_mix, self.style(style))

    def forward(self, content: Tensor, style: Moments, strength: float = 1.0) -> Tensor:
        """``AdaIN(content, SCM)``, Eq. 6.

        Args:
            content: features ``(B, C, H, W)``.
            style: from :meth:`measure`, for each picture or for all.
            strength: see :func:`impasto.operators.adain.adain`.
        """
        own = self._half(self.content_mix, self.content(content))
        return adain(content, _beside(own, style), strength)

    def _half(self, mix: InvertibleConv, selected: Tensor) -> Moments:
        """Moments of the channels of ``mix(selected)`` that go on."""
        left, right = mix.factors()
        return Moments.of(selected).mapped((left @ right)[: self.kept])


def _beside(one: Moments, two: Moments) -> Moments:
    """Mean and deviation of the channels of both; what two channels have in common is left out."""
    lead = (one.weight + two.weight).shape
    parts = [part.normalised() for part in (one, two)]
    first = torch.cat([part.first.expand(*lead, -1) for part in parts], -1)
    diagonals = [part.second.diagonal(dim1=-2, dim2=-1).expand(*lead, -1) for part in parts]
    return Moments(first.new_ones(lead), first, torch.diag_embed(torch.cat(diagonals, -1)))
