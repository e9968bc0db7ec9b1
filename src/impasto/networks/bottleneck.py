"""The ResBottleneck of paper 1: a residual block at a fraction of the multiplications.

Paper 1, section 3.1, after MobileNetV2 (Sandler et al., CVPR 2018): a 1x1 convolution widens, a 3x3
depthwise one looks around, a 1x1 one narrows again; each is instance-normalised.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .decoder import padded
from .norm import StyledNorm

__all__ = ["ResBottleneck"]


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
        y: Tensor = F.relu6(first(self.expand(x), mix), inplace=True)
        y = F.relu6(second(self.depthwise(padded(y)), mix), inplace=True)
        y = last(self.project(y), mix)
        return x + y if self.adds else y
