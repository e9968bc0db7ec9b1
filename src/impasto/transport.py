"""Linear maps from one covariance to another, which colour matching and WCT share.

A linear map ``A`` changes the covariance ``S`` of features to ``A S A^T``. :func:`transport` finds
maps that give them a target covariance.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from .controls import Variant
from .errors import InputError
from .linalg import compose, root

__all__ = ["Variant", "transport"]

_TINY = 1e-12  # smallest eigenvalue of a matrix that is inverted, relative; far below any noise


def check_variant(variant: str) -> None:
    """Raise InputError for an unknown variant."""
    if variant not in get_args(Variant):
        known = ", ".join(get_args(Variant))
        raise InputError(f"matching variant {variant!r} is unknown: use one of {known}")


def transport(
    source: Tensor,
    target: Tensor,
    variant: Variant,
    noise: float | Tensor,
    sure: float | Tensor,
) -> Tensor:
    """A matrix ``A`` with ``A S A^T = T``: it maps features of covariance ``S`` to ``T``.

    There is one solution for every rotation between the two square roots. The variants are

    * ``eigenvalue``: ``T^1/2 S^-1/2``, whitening and colouring (Li et al. 2017; report 3, Eq. 7);
    * ``cholesky``: ``L_T L_S^-1`` with ``S = L L^T`` (report 3, Eq. 6); depends on the channels'
      order;
    * ``monge``: ``S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2`` (Pitie & Kokaram 2007; for features Lu et
      al., "A Closed-form Solution to Universal Style Transfer", ICCV 2019), the symmetric solution:
      the optimal transport, which moves features least.

    All are the identity for ``S = T``.

    A direction in which the source does not vary cannot be matched: the inverse would amplify
    rounding errors. (A grey picture varies in only one direction, a single colour in none; features
    with fewer positions than channels do not vary in most.) Therefore each principal direction of
    the source gets a share ``w``: 1 (exactly the formulas above) from a variance of ``sure``
    upwards, 0 up to ``noise``, linear in between. The rest of the direction, ``1 - w``, keeps gain
    1. With ``W = U diag(w) U^T``, the result is ``A W + (I - W)``, or for Monge
    ``W^1/2 A W^1/2 + (I - W)``, which stays symmetric and positive semidefinite. A ridge, or a
    floor under the eigenvalues, would disturb every match and still amplify the noise.

    Args:
        source, target: covariances ``(..., C, C)`` in float64, of leading shapes that broadcast.
        variant: which of the solutions.
        noise, sure: variances, ``0 < noise < sure``; ``(..., 1)`` if they differ over a batch.

    Raises:
        InputError: for an unknown variant.
    """
    check_variant(variant)
    values, vectors = torch.linalg.eigh(source)
    share = ((values - noise) / (sure - noise)).clamp(0, 1)
    floored = _floor(values)

    def of_source(diagonal: Tensor) -> Tensor:
        return compose(diagonal, vectors)

    if variant == "eigenvalue":
        matched = root(target) @ of_source(share / floored.sqrt())
    elif variant == "cholesky":
        values_t, vectors_t = torch.linalg.eigh(target)
        lower_t = torch.linalg.cholesky(compose(_floor(values_t), vectors_t))
        lower_s = torch.linalg.cholesky(of_source(floored))
        matched = lower_t @ torch.linalg.solve_triangular(lower_s, of_source(share), upper=False)
    else:
        outer, inner = of_source((share / floored).sqrt()), of_source(floored.sqrt())
        matched = outer @ root(inner @ target @ inner) @ outer
        matched = (matched + matched.mT) / 2
    return matched + of_source(1 - share)


def _floor(values: Tensor) -> Tensor:
    return torch.maximum(values, _TINY * values[..., -1:].clamp_min(1.0))
