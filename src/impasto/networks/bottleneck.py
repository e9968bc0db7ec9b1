"""The ResBottleneck of report 1: a residual block that needs far fewer multiplications.

Report 1, section 3.1, after MobileNetV2 (Sandler et al., CVPR 2018). A 1x1 convolution adds
channels, a 3x3 depthwise convolution combines neighbouring pixels, and a 1x1 convolution reduces
the channels again. Each is followed by instance normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .decoder import padded, padded_rows
from .norm import Statistics, StyledNorm

__all__ = ["ResBottleneck"]

LARGE = 64_000_000  # inner features larger than this (256 MB) are computed in strips
STRIP = 4_000_000  # numbers in the inner features of a strip


class ResBottleneck(nn.Module):
    """Expand, depthwise, project; the input is added if its shape is that of the output.

    Args:
        channels, out: channels of the input and of the output.
        expansion: inner channels, as a multiple of ``channels``.
        stride: stride of the depthwise convolution.
        rows: number of styles, see :class:`StyledNorm`.

    Example:
        >>> import torch
        >>> ResBottleneck(8, 16, expansion=2, stride=2)(torch.rand(1, 8, 6, 7)).shape
        torch.Size([1, 16, 3, 4])
    """

    def __init__(
        self, channels: int, out: int, expansion: float = 1, stride: int = 1, rows: int = 1
    ) -> None:
        super().__init__()
        wide = max(1, round(channels * expansion))
        self.expand = nn.Conv2d(channels, wide, 1, bias=False)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride, groups=wide, bias=False)
        self.project = nn.Conv2d(wide, out, 1, bias=False)
        self.norms = nn.ModuleList(StyledNorm(width, rows) for width in (wide, wide, out))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor, mix: Tensor | None = None) -> Tensor:
        """Features ``(B, out, ceil(H / stride), ceil(W / stride))``; see :class:`StyledNorm`."""
        first, second, last = self.norms
        wide = len(x) * self.expand.out_channels * x.shape[-1]
        large = wide * x.shape[-2] > LARGE and not Statistics.used()
        if self.adds and large and not torch.is_grad_enabled():
            return self._in_strips(x, mix, max(8, STRIP // wide))
        y: Tensor = F.relu6(first(self.expand(x), mix), inplace=True)
        y = F.relu6(second(self.depthwise(padded(y)), mix), inplace=True)
        y = last(self.project(y), mix)
        return x + y if self.adds else y

    def _in_strips(self, x: Tensor, mix: Tensor | None, rows: int) -> Tensor:
        """As :meth:`forward`, but ``rows`` rows at a time.

        Every normalisation needs statistics of the whole picture, so that each takes a pass over
        all strips. The wide inner features are computed again in every pass, which takes twice the
        time, but they are never in memory as a whole.
        """
        height = x.shape[-2]
        ends = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        norms = [norm for norm in self.norms if isinstance(norm, StyledNorm)]
        first = norms[0].measured((self.expand(x[..., top:end, :]) for top, end in ends), mix)

        def depthwise(top: int, end: int) -> Tensor:
            # These layers work on each pixel alone: padding may come before them.
            y = first(self.expand(padded_rows(x, top - 1, end + 1, height)))
            return self.depthwise(F.relu6(y, inplace=True))  # type: ignore[no-any-return]

        second = norms[1].measured((depthwise(top, end) for top, end in ends), mix)
        out = torch.empty_like(x)
        for top, end in ends:
            y = F.relu6(second(depthwise(top, end)), inplace=True)
            out[..., top:end, :] = self.project(y)
        last = norms[2].measured((out[..., top:end, :] for top, end in ends), mix)
        return last(out).add_(x)
