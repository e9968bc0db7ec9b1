"""SAN: the statistics to give to the content, predicted from both pictures.

The style-aware normalisation of StyleFlow (Fan et al., "StyleFlow for Content-Fixed Image to Image
Translation", 2022), which paper 1 compares with. AdaIN takes the style's own mean and deviation;
here a network predicts them from the content's features and a code of the style.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..linalg import ridge
from ..networks.bottleneck import ResBottleneck
from ..networks.decoder import padded, padded_rows
from ..networks.flow import FromData
from ..statistics import Moments
from .adain import EPS, normalise

__all__ = ["SAN", "style_code"]

PENALTY = 0.01  # of the start's weights: best on pictures kept aside
NARROW = 0.2  # of tanh: where it is nearly linear
STRIP = 4_000_000  # numbers that the content's branch makes at a time


def style_code(moments: Mapping[str, Moments]) -> Tensor:
    """Mean and deviation of every channel at every tap, one after another, ``(B, 2 sum C)``.

    For VGG-19's relu1_1..relu4_1 these are 1920 numbers.
    """
    return torch.cat([part for m in moments.values() for part in (m.mean, m.deviation())], -1)


class _Standard(FromData):
    """Numbers relative to their mean and deviation in the first batch in training.

    A code's numbers differ far more from each other than from style to style; as they are, the
    style's branch would hardly tell one from another. A code as a whole is of length one, or steps
    of a usual learning rate would overturn what a layer makes of its hundreds of numbers.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 1 and not self.is_set():
            deviation, mean = torch.std_mean(x.detach(), 0, correction=0)
            self.center.copy_(mean)
            self.spread.copy_(deviation + 0.05)  # what hardly ever differs is not blown up
            self.mark_set()
        return (x - self.center) / (self.spread * math.sqrt(x.shape[-1]))


class SAN(nn.Module):
    """Style-aware normalisation: ``deviation normalise(x) + mean``, both predicted.

    The content's branch: 3x3 convolution, instance normalisation, PReLU, mean over the picture, two
    linear layers. The style's branch: the code relative to those of the first batch in training,
    three linear layers and tanh. Two heads read both.

    Args:
        channels: of the content's features.
        code: length of the style's code, see :func:`style_code`.
        wide: of the content branch's inner layer.
        bottleneck: a ResBottleneck selects from the content before (paper 1, section 4.7).

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
            _Standard(code),
            *(nn.Linear(code, first), nn.PReLU(), nn.Linear(first, second), nn.PReLU()),
            *(nn.Linear(second, 2 * channels), nn.Tanh()),
        )
        self.mean, self.deviation = (
            nn.Sequential(
                nn.Linear(4 * channels, channels), nn.PReLU(), nn.Linear(channels, channels)
            )
            for _ in range(2)
        )
        # A flow's features have deviation 1 at first: it starts near what it is given.
        nn.init.ones_(self.deviation.get_parameter("2.bias"))

    @torch.no_grad()
    def start(self, codes: Tensor, answers: Tensor) -> None:
        """Foretell a style's own mean and deviation, as AdaIN takes them, by least squares.

        Training goes on from there: thousands of styles would have to be seen before gradient steps
        had found that map. The layers are given the slopes at which they are linear.

        Args:
            codes: of pictures, ``(n, code)``.
            answers: mean and deviation of every channel that the network has of them here,
                ``(n, 2 channels)``.
        """
        size = answers.shape[-1]
        channels = size // 2
        spread, centre = torch.std_mean(answers, 0)
        spread = spread.clamp_min(1e-6)
        rows = self.style[0](codes)
        for part in (self.style, self.mean, self.deviation):
            for layer in part.children():
                if isinstance(layer, nn.PReLU):
                    layer.weight.fill_(1)
        one, *others = _linear(self.style)
        weight, bias = ridge(rows, NARROW * (answers - centre) / spread, PENALTY)
        one.weight[:size], one.bias[:size] = weight, bias
        for layer in others:
            layer.weight[:size] = torch.eye(*layer.weight[:size].shape)
            layer.bias[:size] = 0
        for head, begin in ((self.mean, 0), (self.deviation, channels)):
            into, out = _linear(head)
            own = slice(begin, begin + channels)
            into.weight.zero_()
            into.weight[:, size:][:, own] = torch.diag(spread[own] / NARROW)
            into.bias.zero_()
            out.weight.copy_(torch.eye(channels))
            out.bias.copy_(centre[own])

    def forward(
        self, x: Tensor, code: Tensor, strength: float = 1.0, inplace: bool = False
    ) -> Tensor:
        """Features of the shape of ``x``.

        Args:
            x: the content's features, ``(B, C, H, W)``.
            code: of the style, ``(B or 1, code)``.
            strength: 0 gives ``x`` back.
            inplace: without gradients, the memory of ``x`` is used.
        """
        if strength == 0:
            return x
        selected = self.select(x)
        seen = self._seen(selected) if torch.is_grad_enabled() else self._seen_in_strips(selected)
        both = torch.cat([self.content(seen), self.style(code).expand(len(x), -1)], -1)
        mean, deviation = self.mean(both), self.deviation(both)
        own = Moments.of(x)
        scale = deviation / own.deviation(EPS)
        shift = strength * (mean - scale * own.mean)
        scale = 1 + strength * (scale - 1)
        given = shift[..., None, None], x, scale[..., None, None]
        return torch.addcmul(*given, out=x if inplace and not torch.is_grad_enabled() else None)

    def _seen(self, x: Tensor) -> Tensor:
        """What the content's branch sees, on the mean of the picture: ``(B, C)``."""
        return self.bend(normalise(self.conv(padded(x)))).mean((-2, -1))  # type: ignore[no-any-return]

    def _seen_in_strips(self, x: Tensor) -> Tensor:
        """The same, some rows at a time."""
        height, width = x.shape[-2:]
        rows = max(8, STRIP // (x.numel() // height))

        def strips() -> Iterator[Tensor]:
            for top in range(0, height, rows):
                end = min(top + rows, height)
                yield self.conv(padded_rows(x, top - 1, end + 1, height))

        parts = [Moments.of(strip) for strip in strips()]
        own = sum(parts[1:], parts[0])
        total = sum(self.bend(normalise(strip, own)).sum((-2, -1)) for strip in strips())
        return total / (height * width)  # type: ignore[no-any-return]


def _linear(layers: nn.Module) -> list[nn.Linear]:
    return [layer for layer in layers.children() if isinstance(layer, nn.Linear)]
