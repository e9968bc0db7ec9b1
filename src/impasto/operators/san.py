"""SAN: the statistics to give to the content, foretold from both pictures.

The style-aware normalisation of StyleFlow (Fan et al., "StyleFlow for Content-Fixed Image to Image
Translation", 2022), which paper 1 compares with. AdaIN takes the style's own mean and deviation;
here a network foretells them from the content's features and a code of the style.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.bottleneck import ResBottleneck
from ..networks.decoder import padded
from ..statistics import Moments
from .adain import normalise

__all__ = ["SAN", "style_code"]


def style_code(moments: Mapping[str, Moments]) -> Tensor:
    """Mean and deviation of every channel at every tap, one after another, ``(B, 2 sum C)``.

    For VGG-19's relu1_1..relu4_1 these are 1920 numbers.
    """
    return torch.cat([part for m in moments.values() for part in (m.mean, m.deviation())], -1)


class SAN(nn.Module):
    """Style-aware normalisation: ``deviation normalise(x) + mean``, both foretold.

    The content's branch: 3x3 convolution, instance normalisation, PReLU, mean over the picture, two
    linear layers. The style's branch: three linear layers and tanh. Two heads read both.

    Args:
        channels: of the content's features.
        code: length of the style's code, see :func:`style_code`.
        wide: of the content branch's inner layer.
        bottleneck: a ResBottleneck selects from the content before (paper 1, section 4.7).

    Raises:
        InputError: for numbers that there cannot be.

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
        self.style = nn.Sequential(
            *(nn.Linear(code, 1024), nn.PReLU(), nn.Linear(1024, 512), nn.PReLU()),
            *(nn.Linear(512, 2 * channels), nn.Tanh()),
        )
        self.mean, self.deviation = (
            nn.Sequential(
                nn.Linear(4 * channels, channels), nn.PReLU(), nn.Linear(channels, channels)
            )
            for _ in range(2)
        )
        # A flow's features have deviation 1 at first: it starts near what it is given.
        nn.init.ones_(self.deviation.get_parameter("2.bias"))

    def forward(self, x: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        """Features of the shape of ``x``.

        Args:
            x: the content's features, ``(B, C, H, W)``.
            code: of the style, ``(B or 1, code)``.
            strength: 0 gives ``x`` back.
        """
        if strength == 0:
            return x
        seen = self.conv(padded(self.select(x)))
        seen = self.bend(normalise(seen)).mean((-2, -1))
        both = torch.cat([self.content(seen), self.style(code).expand(len(x), -1)], -1)
        mean, deviation = (head(both)[..., None, None] for head in (self.mean, self.deviation))
        out: Tensor = deviation * normalise(x) + mean
        return out if strength == 1 else x + strength * (out - x)
