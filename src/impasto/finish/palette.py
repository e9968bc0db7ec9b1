"""Bring colours that a painting does not have back to those it has."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..statistics import Moments

__all__ = ["confined"]

SPARE = 0.02**2  # variance that every colour may have


def confined(pictures: Tensor, target: Moments, reach: float = 3.5) -> Tensor:
    """``pictures`` without colours that lie farther out than nearly all of the target's.

    A colour more than ``reach`` deviations from the target's mean, in the direction in which it
    lies (its Mahalanobis distance), is brought back to ``reach`` along the line to the mean.

    Args:
        pictures: ``(..., 3, H, W)`` in 0..1.
        target: moments of the colours, of one picture.
        reach: of normally distributed colours, 99 in 100 are within 3.4.

    Raises:
        InputError: for a reach that is not above 0.
    """
    if not reach > 0:
        raise InputError(f"reach is {reach}: must be above 0")
    covariance = target.covariance.cpu().double() + SPARE * torch.eye(
        3, dtype=torch.float64, device="cpu"
    )
    whiten = torch.linalg.cholesky(covariance).inverse().to(pictures)
    mean = target.mean.to(pictures)[:, None, None]
    off = pictures - mean
    far = (whiten @ off.flatten(-2)).square().sum(-2).sqrt().unflatten(-1, off.shape[-2:])
    return off.mul_((reach / far.clamp_min(reach))[..., None, :, :]).add_(mean)
