"""Instance normalisation with one scale and shift for each of several styles.

Ulyanov et al., "Improved Texture Networks", CVPR 2017, normalise every picture of a batch on its
own. Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017, find that styles can
share all weights except scale and shift: one network then paints in many styles, and a mixture of
scales and shifts is a mixture of styles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StyledNorm"]

EPS = 1e-5


class _Normalise(torch.autograd.Function):
    """``scale (x - mean) / deviation + shift``, of ``(B, C, H, W)`` with ``(B or 1, C)``.

    Torch's instance normalisation converts channels-last features to another layout and back. Sums
    and one multiply-add, forwards and backwards, take a quarter of the time.
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
        shift_grad = grad.sum((-2, -1), dtype=mean.dtype)
        scale_grad = inverse * ((grad * x).sum((-2, -1), dtype=mean.dtype) - mean * shift_grad)
        factor = scale * inverse
        slope = -factor * inverse * scale_grad / count
        rest = _scaled(x, slope, -factor * shift_grad / count - slope * mean)
        rest = rest.addcmul_(grad, factor[..., None, None].to(grad.dtype))
        return rest, scale_grad.sum_to_size(scale.shape), shift_grad.sum_to_size(scale.shape)


def _scaled(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    factor, shift = factor.to(x.dtype), shift.to(x.dtype)
    return torch.addcmul(shift[..., None, None], x, factor[..., None, None])


class StyledNorm(nn.Module):
    """``scale (x - mean) / deviation + shift``, with mean and deviation over the picture.

    Args:
        channels: channels of the features.
        rows: number of rows of scales and shifts, one for each style.

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
        """Normalise ``x``, ``(B, C, H, W)``.

        Args:
            x: features.
            mix: shares of the rows, ``(B or 1, rows)``; None takes the first row.
        """
        out: Tensor = _Normalise.apply(x, *self._mixed(mix))  # type: ignore[no-untyped-call]
        return out

    def measured(
        self, parts: Iterable[Tensor], mix: Tensor | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Return a function that normalises any part of the features, in place.

        Its results are those of :meth:`forward` for the whole.

        Args:
            parts: the parts of the features, ``(B, C, h, w)``; together they are the whole.
            mix: see :meth:`forward`.
        """
        count, first, second = 0, self.scale.new_zeros(()), self.scale.new_zeros(())
        for part in parts:
            count += part.shape[-1] * part.shape[-2]
            wide = part.to(torch.promote_types(part.dtype, torch.float32))
            first, second = first + wide.sum((-2, -1)), second + wide.square().sum((-2, -1))
        mean = first / count
        scale, shift = self._mixed(mix)
        factor = scale * ((second / count - mean.square()).clamp_min(0) + EPS).rsqrt()
        shift = shift - mean * factor
        return lambda x: x.mul_(factor[..., None, None]).add_(shift[..., None, None])

    def _mixed(self, mix: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scale and shift ``(B or 1, C)``."""
        if mix is None:
            return self.scale[:1], self.shift[:1]
        rows = mix.to(self.scale.dtype)
        return rows @ self.scale, rows @ self.shift
