"""RBMAD: AdaIN towards a mixture of style and content, the operator of report 1, section 3.3.

AdaIN gives every photograph the same statistics, those of the painting. RBMAD adapts them to the
photograph. A ResBottleneck selects from the content's features, another from the style's; an
invertible 1x1 convolution reduces each to half of the channels. The two halves together are the
*style and content mixture* (SCM). The content's features get its mean and deviation. They are only
scaled and shifted by channel, so that their instance-normalised form stays the same (Eq. 10): the
content is not biased.

The report describes three forms of it:

* :class:`RBMAD`, of features of both pictures (sections 3.3 and 4.5). The style's may be those of
  another network, with another number of channels (section 3.4, Fig. 9: layers of VGG).
* :class:`CodeRBMAD`, of a style that is known by its statistics alone (section 4.7).
* SAN behind a ResBottleneck (section 4.7 as well, if "RBMAD" there means its bottleneck in front of
  StyleFlow's own normalisation), see :class:`impasto.operators.san.SAN`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.bottleneck import ResBottleneck
from ..networks.flow import InvertibleConv
from ..statistics import Moments
from .adain import adain
from .san import StandardCode

__all__ = ["RBMAD", "CodeRBMAD"]


class RBMAD(nn.Module):
    """Residual bottleneck mixed with AdaIN.

    The report does not say how an invertible convolution halves the channels. Here it mixes all of
    them, and the first of its output are used, half as many as the content has. Only mean and
    deviation by channel of the mixture are needed. Those of a concatenation are those of its two
    halves. Content and style may therefore differ in size, and the moments of its half are enough
    to describe a style.

    Args:
        channels: number of channels of the content's features; even.
        expansion: expansion of the bottlenecks.
        style_channels: number of channels of the style's features, at least half of ``channels``;
            None for as many as the content's.

    Raises:
        InputError: for an odd number of channels, or too few of the style.

    Example:
        >>> operator = RBMAD(4)
        >>> content, style = torch.rand(1, 4, 6, 7), torch.rand(1, 4, 9, 5)
        >>> operator(content, operator.measure(style)).shape
        torch.Size([1, 4, 6, 7])
    """

    def __init__(
        self, channels: int, expansion: float = 2, style_channels: int | None = None
    ) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise InputError(f"RBMAD of {channels} channels: give an even number, 2 or more")
        self.width = channels // 2
        style_channels = channels if style_channels is None else style_channels
        if style_channels < self.width:
            raise InputError(
                f"RBMAD of {channels} channels with {style_channels} of the style: give "
                f"{self.width} or more"
            )
        self.content = ResBottleneck(channels, channels, expansion)
        self.style = self._selection(style_channels, expansion)
        self.content_mix = InvertibleConv(channels)
        self.style_mix = InvertibleConv(style_channels)

    def _selection(self, channels: int, expansion: float) -> nn.Module:
        """What selects from the style's features."""
        return ResBottleneck(channels, channels, expansion)

    def measure(self, style: Tensor) -> Moments:
        """Moments of the style's half of the mixture; ``style`` is ``(B, C, H, W)``."""
        return self._half(self.style_mix, Moments.of(self.style(style)))

    def mixture(self, content: Tensor, style: Moments) -> Moments:
        """Moments of the mixture (SCM): as many channels as the content has.

        Args:
            content: features of the content, ``(B, C, H, W)``.
            style: moments from :meth:`measure`, one for each picture or one for all.
        """
        content_half = self._half(self.content_mix, Moments.of(self.content(content)))
        return _concatenated(content_half, style)

    def forward(self, content: Tensor, style: Moments, strength: float = 1.0) -> Tensor:
        """``AdaIN(content, SCM)``, Eq. 6.

        Args:
            content, style: see :meth:`mixture`.
            strength: see :func:`impasto.operators.adain.adain`.
        """
        if strength == 0:
            return content
        return adain(content, self.mixture(content, style), strength)

    def _half(self, mix: InvertibleConv, selected: Moments) -> Moments:
        """Moments of the first channels of the features that ``mix`` makes of ``selected``."""
        left, right = mix.factors()
        return selected.mapped((left @ right)[: self.width])


class CodeRBMAD(RBMAD):
    """RBMAD of a style's code: of statistics, not of features (report 1, section 4.7).

    "Since the size of the style feature extracted by Styleflow is very small, we only apply
    ResBottleneck on the content feature." StyleFlow's style feature is its code, mean and deviation
    of VGG's channels: one position, of which a 3x3 convolution and an instance normalisation leave
    nothing. (The alternative, to send the painting through the flow and take its features there,
    would have had features as large as the content's, and no need of that sentence.) The code does
    not have the content's channels. A linear layer therefore predicts from it mean and deviation of
    as many channels; they count as uncorrelated. From there on all is as in section 3.3.

    Args:
        channels, expansion: see :class:`RBMAD`.
        code: length of the code, see :func:`impasto.operators.san.style_code`.

    Raises:
        InputError: for an odd number of channels, or a code of no numbers.

    Example:
        >>> operator = CodeRBMAD(6, code=20)
        >>> operator(torch.rand(2, 6, 5, 8), operator.measure(torch.rand(1, 20))).shape
        torch.Size([2, 6, 5, 8])
    """

    def __init__(self, channels: int, code: int, expansion: float = 2) -> None:
        super().__init__(channels, expansion)
        if code < 1:
            raise InputError(f"RBMAD of a code of {code} numbers: give 1 or more")
        self.standard = StandardCode(code)
        self.predict = nn.Linear(code, 2 * channels)

    def _selection(self, channels: int, expansion: float) -> nn.Module:
        return nn.Identity()

    def measure(self, style: Tensor) -> Moments:
        """Moments of the style's half of the mixture; ``style`` is the code, ``(B, code)``."""
        mean, log_deviation = self.predict(self.standard(style)).chunk(2, -1)
        return self._half(self.style_mix, Moments.uncorrelated(mean, log_deviation.exp()))


def _concatenated(content: Moments, style: Moments) -> Moments:
    """Moments of the channels of both; covariances between channels are left out."""
    lead = (content.weight + style.weight).shape
    parts = [part.normalised() for part in (content, style)]
    first = torch.cat([part.first.expand(*lead, -1) for part in parts], -1)
    diagonals = [part.second.diagonal(dim1=-2, dim2=-1).expand(*lead, -1) for part in parts]
    return Moments(first.new_ones(lead), first, torch.diag_embed(torch.cat(diagonals, -1)))
