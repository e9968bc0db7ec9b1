"""Instance normalisation with one scale and shift for each of several styles.

Ulyanov et al., "Improved Texture Networks", CVPR 2017, normalise every picture of a batch by
itself; Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017, find that scale
and shift alone can tell one painting from another: one network then paints in many manners, and
mixing rows mixes manners.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["StyledNorm"]


class StyledNorm(nn.Module):
    """``scale (x - mean) / deviation + shift``, mean and deviation over the picture.

    Args:
        channels: of the features.
        rows: of scales and shifts, one for each style.

    Example:
        >>> norm = StyledNorm(4, rows=3)
        >>> norm(torch.rand(2, 4, 5, 6), torch.tensor([[0.0, 0.5, 0.5]])).shape
        torch.Size([2, 4, 5, 6])
    """

    def __init__(self, channels: int, rows: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(rows, channels))
        self.shift = nn.Parameter(torch.zeros(rows, channels))

    def forward(self, x: Tensor, mix: Tensor | None = None) -> Tensor:
        """Normalised ``x``, ``(B, C, H, W)``.

        Args:
            x: features.
            mix: shares of the rows, ``(B or 1, rows)``; None takes the first row.
        """
        rows = mix.to(self.scale.dtype) if mix is not None else None
        scale = self.scale[:1] if rows is None else rows @ self.scale
        shift = self.shift[:1] if rows is None else rows @ self.shift
        if len(scale) == 1:  # the whole in one pass over the features
            return F.instance_norm(x, weight=scale[0], bias=shift[0])
        return torch.addcmul(shift[..., None, None], F.instance_norm(x), scale[..., None, None])
