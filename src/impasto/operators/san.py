"""SAN: normalisation whose mean and deviation are predicted from content and style.

The style-aware normalisation of StyleFlow (Fan et al., "StyleFlow for Content-Fixed Image to Image
Translation", 2022), which report 1 compares with. AdaIN gives the content the mean and deviation of
the style. Here a network predicts both from the content's features and a code of the style.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.bottleneck import ResBottleneck
from ..networks.decoder import padded, padded_rows
from ..networks.flow import FromData
from ..statistics import Moments
from .adain import EPS, normalise

__all__ = ["SAN", "StandardCode", "style_code"]

STRIP = 4_000_000  # numbers that the content's branch computes at a time


def style_code(moments: Mapping[str, Moments]) -> Tensor:
    """The code of a style: mean and deviation of every channel at every tap, ``(B, 2 sum C)``.

    For VGG-19's relu1_1..relu4_1 these are 1920 numbers.
    """
    return torch.cat([part for m in moments.values() for part in (m.mean, m.deviation())], -1)


class StandardCode(FromData):
    """Standardises codes by the mean and deviation of the first batch in training.

    The numbers of a code differ far more from each other than from style to style; without this
    layer, the style's branch could hardly distinguish styles. The code is also scaled to a length
    of about one: it has hundreds of numbers, and otherwise one step at a usual learning rate would
    change the output of the next layer completely.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise codes, ``(B, code)``."""
        if self.training and len(x) > 1 and not self.is_set():
            deviation, mean = torch.std_mean(x.detach(), 0, correction=0)
            self.center.copy_(mean)
            self.spread.copy_(deviation + 0.05)  # numbers that hardly vary are not amplified
            self.mark_set()
        return (x - self.center) / (self.spread * math.sqrt(x.shape[-1]))


class SAN(nn.Module):
    """Style-aware normalisation: ``deviation normalise(x) + mean``, both predicted.

    The content's branch: 3x3 convolution, instance normalisation, PReLU, mean over the picture, two
    linear layers. The style's branch: the standardised code, three linear layers and tanh. Two
    heads read both branches; one predicts the mean, the other the deviation.

    Args:
        channels: number of channels of the content's features.
        code: length of the style's code, see :func:`style_code`.
        wide: width of the content branch's inner layer.
        bottleneck: select from the content by a ResBottleneck first (report 1, section 4.7).

    Raises:
        InputError: for invalid numbers.

    Example:
        >>> SAN(6, code=20)(torch.rand(2, 6, 5, 8), torch.rand(1, 20)).shape
        torch.Size([2, 6, 5, 8])
    """

    def __init__(self, channels: int, code: int, wide: int = 768, bottleneck: bool = False) -> None:
        super().__init__()
        if min(channels, code, wide) < 1:
            raise InputError(
                f"SAN of {channels} channels, code {code}, {wide} wide: give 1 or more"
            )
        self.select = ResBottleneck(channels, channels, 2) if bottleneck else nn.Identity()
        self.conv = nn.Conv2d(channels, channels, 3, bias=False)
        self.bend = nn.PReLU()
        self.content = nn.Sequential(
            nn.Linear(channels, wide), nn.PReLU(), nn.Linear(wide, 2 * channels), nn.PReLU()
        )
        first, second = max(1024, 2 * channels), max(512, 2 * channels)
        self.style = nn.Sequential(
            StandardCode(code),
            *(nn.Linear(code, first), nn.PReLU(), nn.Linear(first, second), nn.PReLU()),
            *(nn.Linear(second, 2 * channels), nn.Tanh()),
        )
        self.mean, self.deviation = (
            nn.Sequential(
                nn.Linear(4 * channels, channels), nn.PReLU(), nn.Linear(channels, channels)
            )
            for _ in range(2)
        )
        # Features of an untrained flow have deviation 1: predicting 1 changes them little.
        nn.init.ones_(self.deviation.get_parameter("2.bias"))

    def forward(
        self, x: Tensor, code: Tensor, strength: float = 1.0, inplace: bool = False
    ) -> Tensor:
        """Features of the shape of ``x``.

        Args:
            x: the content's features, ``(B, C, H, W)``.
            code: code of the style, ``(B or 1, code)``.
            strength: 0 returns ``x``.
            inplace: overwrite ``x`` if gradients are off.
        """
        if strength == 0:
            return x
        selected = self.select(x)
        pool = self._pooled if torch.is_grad_enabled() else self._pooled_in_strips
        content = self.content(pool(selected))
        both = torch.cat([content, self.style(code).expand(len(x), -1)], -1)
        mean, deviation = self.mean(both), self.deviation(both)
        moments = Moments.of(x)
        scale = deviation / moments.deviation(EPS)
        shift = strength * (mean - scale * moments.mean)
        scale = 1 + strength * (scale - 1)
        out = x if inplace and not torch.is_grad_enabled() else None
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None], out=out)

    def _pooled(self, x: Tensor) -> Tensor:
        """The convolutional part of the content's branch, averaged over the picture: ``(B, C)``."""
        return self.bend(normalise(self.conv(padded(x)))).mean((-2, -1))  # type: ignore[no-any-return]

    def _pooled_in_strips(self, x: Tensor) -> Tensor:
        """As :meth:`_pooled`, but a few rows at a time, which needs little memory."""
        height, width = x.shape[-2:]
        rows = max(8, STRIP // (x.numel() // height))

        def strips() -> Iterator[Tensor]:
            for top in range(0, height, rows):
                end = min(top + rows, height)
                yield self.conv(padded_rows(x, top - 1, end + 1, height))

        parts = [Moments.of(strip) for strip in strips()]
        whole = sum(parts[1:], parts[0])
        total = sum(self.bend(normalise(strip, whole)).sum((-2, -1)) for strip in strips())
        return total / (height * width)  # type: ignore[no-any-return]
