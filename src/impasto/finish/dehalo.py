"""Remove the halos that a coarse decoder leaves around what stands before a flat ground.

A decoder paints from features of cells of 8 pixels, whose receptive fields reach farther: near a
dark tower those of the sky depend on the tower, and the sky changes its colour along it. Where the
photograph is flat, the change of colour should depend on its luminance alone; the brush's fine
texture stays.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CELL", "MARGIN", "dehalo"]

CELL = 6  # pixels; what is finer is texture, which stays
REACH = 7  # cells on either side that must agree: more than a halo is wide
MARGIN = CELL * (2 * REACH + 2)  # pixels that a result depends on beyond itself
EDGE = 0.003  # variance of light from which on neighbours may be told apart by it
FLAT = 0.01  # deviation of light within a cell among which little is done


def dehalo(pictures: Tensor, contents: Tensor) -> Tensor:
    """``pictures`` whose coarse change of ``contents`` follows their light, where they are flat.

    A fast guided filter (He & Sun, "Fast Guided Filter", 2015) of the change, guided by the
    photograph's light: what cells of some pixels have on average becomes a locally linear function
    of it, and finer detail stays as it is.

    Args:
        pictures, contents: ``(B, 3, H, W)`` in 0..1 of the same size: results and what they were
            made of.
    """
    height, width = contents.shape[-2:]
    beyond = (0, -width % CELL, 0, -height % CELL)

    def coarse(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, CELL)

    def fine(x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=CELL, mode="bilinear", align_corners=False)
        return x[..., :height, :width]

    light = contents.mean(1, keepdim=True)
    whole = F.pad(light, beyond, mode="replicate")
    guide = coarse(whole)
    change = coarse(F.pad(pictures - contents, beyond, mode="replicate"))
    within = (coarse(whole.square()) - guide.square()).clamp_min(0)
    flat = 1 / (1 + within / FLAT**2)
    level, shift = _mean(guide, REACH), _mean(change, REACH)
    spread = _mean(guide.square(), REACH) - level.square()
    slope = (_mean(guide * change, REACH) - level * shift) / (spread.clamp_min(0) + EDGE)
    offset = _mean(shift - slope * level, REACH) - change
    target = fine(_mean(slope, REACH)).mul_(light).add_(fine(offset))
    return target.mul_(fine(flat)).add_(pictures)


def _mean(x: Tensor, reach: int) -> Tensor:
    """Mean over a square of ``2 reach + 1``, at the borders over what there is of it."""
    for dim in (-2, -1):
        at = torch.arange(x.shape[dim], device=x.device)
        low, high = (at - reach).clamp_min(0), (at + reach + 1).clamp_max(len(at))
        sums = F.pad(x.cumsum(dim), (0, 0, 1, 0) if dim == -2 else (1, 0))
        total = sums.index_select(dim, high) - sums.index_select(dim, low)
        count = (high - low).to(total)
        x = total / (count[:, None] if dim == -2 else count)
    return x
