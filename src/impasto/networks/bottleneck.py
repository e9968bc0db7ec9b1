"""The ResBottleneck of paper 1: a residual block at a fraction of the multiplications.

Paper 1, section 3.1, after MobileNetV2 (Sandler et al., CVPR 2018): a 1x1 convolution widens, a 3x3
depthwise one looks around, a 1x1 one narrows again; each is instance-normalised.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .decoder import padded, padded_rows
from .norm import StyledNorm

__all__ = ["ResBottleneck"]

LARGE = 64_000_000  # numbers between the layers, beyond which it works in strips: 256 MB
STRIP = 4_000_000  # and those of a strip


class ResBottleneck(nn.Module):
    """Expand, depthwise, project; the input is added where shapes agree.

    Args:
        channels, out: of input and output.
        expansion: channels between, as a multiple of ``channels``.
        stride: of the depthwise convolution.
        rows: styles, see :class:`StyledNorm`.

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
        if self.adds and not torch.is_grad_enabled() and wide * x.shape[-2] > LARGE:
            return self._in_strips(x, mix, max(8, STRIP // wide))
        y: Tensor = F.relu6(first(self.expand(x), mix), inplace=True)
        y = F.relu6(second(self.depthwise(padded(y)), mix), inplace=True)
        y = last(self.project(y), mix)
        return x + y if self.adds else y

    def _in_strips(self, x: Tensor, mix: Tensor | None, rows: int) -> Tensor:
        """The same, so many rows at a time; each pass measures what the next normalises by.

        What is wide is made anew in every pass, which takes twice the time, and never there as a
        whole.
        """
        height = x.shape[-2]
        ends = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        norms = [norm for norm in self.norms if isinstance(norm, StyledNorm)]
        one = norms[0].measured((self.expand(x[..., top:end, :]) for top, end in ends), mix)

        def seen(top: int, end: int) -> Tensor:
            # What is done to each pixel alone may as well be done to the padded ones.
            y = one(self.expand(padded_rows(x, top - 1, end + 1, height)))
            return self.depthwise(F.relu6(y, inplace=True))  # type: ignore[no-any-return]

        two = norms[1].measured((seen(*each) for each in ends), mix)
        out = torch.empty_like(x)
        for top, end in ends:
            y = F.relu6(two(seen(top, end)), inplace=True)
            out[..., top:end, :] = self.project(y)
        three = norms[2].measured((out[..., top:end, :] for top, end in ends), mix)
        return three(out).add_(x)
