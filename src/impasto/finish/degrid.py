"""Remove the grid that squeezes and upsampling print.

A flow's squeeze makes channels of the pixels of a cell, and what is done to them by channel repeats
from cell to cell; so does what an upsampling network makes of a pixel of its smallest size. The
period separates such a pattern from the picture: it is what stays when a pixel is averaged with
those a whole number of cells away. Nothing of it needs to be learnt.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..watch import divided

__all__ = ["degrid", "margin_of"]

REACH = 2  # cells on either side that are averaged
FLAT = 0.03  # fine detail of the photograph (rms, in 0..1) from which on the pattern stays
ROWS = 256  # worked on at a time


def degrid(pictures: Tensor, contents: Tensor, period: int = 4) -> Tensor:
    """``pictures`` without what they have beyond ``contents`` that repeats every ``period`` pixels.

    The fine detail of their difference is averaged over the pixels that stand alike in their cells,
    near by and where the photograph is flat; the average is taken away where the photograph is
    flat. Elsewhere its detail hides the pattern and would be taken for one.

    Args:
        pictures, contents: ``(B, 3, H, W)`` in 0..1 of the same size: results and what they were
            made of.
        period: side of a cell in pixels; patterns that repeat more often go too.
    """
    height, width = pictures.shape[-2:]
    out = torch.empty_like(pictures)
    margin = margin_of(period)
    columns = _reflected(-margin, width + margin, width, pictures.device)
    for top in divided(range(0, height, ROWS)):
        end = min(top + ROWS, height)
        rows = _reflected(top - margin, end + margin, height, pictures.device)
        picture, content = (x[..., rows, :][..., columns] for x in (pictures, contents))
        activity = _fine(content, period).square().mean(1, keepdim=True)
        flat = 1 / (1 + F.max_pool2d(activity, 3, 1) / FLAT**2)
        beyond = flat * _fine(picture.sub_(content), period)[..., 1:-1, 1:-1]
        pattern = _comb(beyond, period) / _comb(flat, period)
        weight = flat[..., REACH * period : -REACH * period, REACH * period : -REACH * period]
        out[..., top:end, :] = pictures[..., top:end, :] - weight * pattern
    return out


def margin_of(period: int) -> int:
    """Pixels that a result depends on beyond itself."""
    return (REACH + 1) * period


def _reflected(low: int, high: int, size: int, device: torch.device) -> Tensor:
    """Indices ``low`` to ``high`` of something of ``size``, turning back at its ends."""
    turn = max(1, 2 * (size - 1))
    at = torch.arange(low, high, device=device) % turn
    return torch.minimum(at, turn - at).clamp(max=size - 1)


def _fine(x: Tensor, period: int) -> Tensor:
    """``x`` without what is coarser than a cell, less ``period - 1`` pixels at each side.

    A triangle of two cells, which is a mean over a cell twice, holds nothing of a pattern that
    repeats from cell to cell: all of that stays.
    """
    cut = slice(period - 1, 1 - period)
    ramp = torch.arange(1.0, period + 1, device="cpu")
    kernel = torch.cat([ramp, ramp.flip(0)[1:]]) / period**2
    return x[..., cut, cut] - _spread(x, kernel, 1)


def _comb(x: Tensor, period: int) -> Tensor:
    """``x``, less ``REACH`` cells at each side, averaged over alike places of the cells near by."""
    offsets = torch.arange(-REACH, REACH + 1.0, device="cpu")
    kernel = torch.exp(-0.5 * (1.5 * offsets / REACH).square())
    return _spread(x, kernel / kernel.sum(), period)


def _spread(x: Tensor, kernel: Tensor, step: int) -> Tensor:
    """Convolved with ``kernel`` both ways, its weights ``step`` pixels apart.

    A sum of shifted pictures: a quarter of the time of a convolution of each channel by itself.
    """
    for dim in (-1, -2):
        length = x.shape[dim] - step * (len(kernel) - 1)
        out = torch.zeros_like(x.narrow(dim, 0, length))
        for number, weight in enumerate(kernel.tolist()):
            out.add_(x.narrow(dim, number * step, length), alpha=weight)
        x = out
    return x
