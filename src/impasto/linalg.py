"""Least squares and square roots of covariances, in sufficient precision.

Two decisions are the same for all of them:

* **float64.** A covariance contains squares of the features. Dividing by its small eigenvalues
  loses twice as many digits, and none of float32's seven digits would remain. The matrices have a
  few hundred rows, so that float64 costs little compared with a convolution.
* **Symmetric eigendecomposition.** A covariance is ``V diag(l) V^T`` with orthonormal ``V`` and
  ``l >= 0``. Its root and its inverse change only ``l``; its principal directions are columns of
  ``V``. The decomposition always converges, while an SVD of features may not. It also works for
  directions without variance, while a Cholesky decomposition does not. Eigenvalues that rounding
  errors have made negative count as zero.

An inverse must be protected against values near zero: :func:`ridge` adds a penalty;
:func:`impasto.transport.transport` leaves such directions unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["compose", "principal", "ridge", "root", "widened"]

RIDGE = 1e-3


def widened(x: Tensor) -> Tensor:
    """``x`` in float64; on the CPU if its device is an Apple GPU, which has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def compose(values: Tensor, vectors: Tensor) -> Tensor:
    """``V diag(values) V^T``, ``(..., C, C)``, of eigenvalues ``(..., C)`` and eigenvectors."""
    return (vectors * values[..., None, :]) @ vectors.mT


def root(symmetric: Tensor) -> Tensor:
    """The symmetric square root of ``(..., C, C)`` without negative eigenvalues.

    Rounding errors may have made the matrix slightly asymmetric, or some eigenvalues negative.

    Example:
        >>> half = root(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> torch.allclose(half @ half, torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        True
    """
    values, vectors = torch.linalg.eigh((symmetric + symmetric.mT) / 2)
    return compose(values.clamp_min(0).sqrt(), vectors)


def principal(symmetric: Tensor, count: int) -> Tensor:
    """Eigenvectors of the ``count`` largest eigenvalues, ``(C, count)``, float64; largest last."""
    _, vectors = torch.linalg.eigh(symmetric.double())
    largest: Tensor = vectors[:, -count:]
    return largest


def ridge(rows: Tensor, answers: Tensor, penalty: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Weights ``(C, D)`` and bias ``(C,)`` of the regression of ``answers`` on ``rows``.

    It solves the normal equations, whose matrix is ``(D, D)`` for any number of rows. The penalty
    on the squared weights keeps the matrix invertible if inputs depend on each other, and weights
    small if they nearly do. The bias has no penalty.

    Args:
        rows: inputs ``(N, D)``, float32.
        answers: outputs ``(N, C)``, float32.
        penalty: relative to the mean variance of ``rows``, so that their unit does not matter.
    """
    mean, centre = rows.mean(0), answers.mean(0)
    x, y = rows - mean, answers - centre
    normal = (x.T @ x).double()
    normal.diagonal().add_(penalty * normal.diagonal().mean())
    weight = torch.linalg.solve(normal, (x.T @ y).double()).T.float()
    return weight, centre - weight @ mean
