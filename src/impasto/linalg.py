"""Least squares and roots of covariances, in the digits that they need.

Two things are the same everywhere, and so stand here once:

* **float64.** A covariance has the squares of the features' numbers, and what is divided by its
  small eigenvalues has lost twice the digits: of float32's seven none would be left. The matrices
  have a few hundred rows, so that this costs nothing beside a convolution.
* **Symmetric eigendecomposition.** A covariance is ``V diag(l) V^T`` with orthonormal ``V`` and
  ``l >= 0``: its root, its inverse and its principal directions are functions of ``l`` alone. It
  never fails to converge, as an SVD of features may, and takes directions without variance, of
  which a Cholesky decomposition fails. Eigenvalues that rounding made negative count as zero.

Where something has to be inverted, each user says what is too little to be: :func:`ridge` by a
penalty, :func:`impasto.transport.transport` by directions that keep what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["compose", "principal", "ridge", "root", "widened"]

RIDGE = 1e-3


def widened(x: Tensor) -> Tensor:
    """``x`` in float64: on the CPU where its device has none, as Apple's GPUs have not."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def compose(values: Tensor, vectors: Tensor) -> Tensor:
    """``V diag(values) V^T``, ``(..., C, C)``, of eigenvalues ``(..., C)`` and eigenvectors."""
    return (vectors * values[..., None, :]) @ vectors.mT


def root(symmetric: Tensor) -> Tensor:
    """The symmetric square root of ``(..., C, C)`` that has no negative eigenvalues.

    Rounding may have made it a little asymmetric, or some eigenvalues negative.

    Example:
        >>> half = root(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> torch.allclose(half @ half, torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        True
    """
    values, vectors = torch.linalg.eigh((symmetric + symmetric.mT) / 2)
    return compose(values.clamp_min(0).sqrt(), vectors)


def principal(symmetric: Tensor, count: int) -> Tensor:
    """``(C, count)``, float64: eigenvectors of the largest eigenvalues, the largest last."""
    _, vectors = torch.linalg.eigh(symmetric.double())
    largest: Tensor = vectors[:, -count:]
    return largest


def ridge(rows: Tensor, answers: Tensor, penalty: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Weights ``(C, D)`` and bias ``(C,)`` of the regression of ``answers`` on ``rows``.

    By the normal equations, whose matrix is ``(D, D)`` however many rows there are. The penalty of
    the weights' squares keeps it invertible where inputs depend on each other, and weights small
    where they nearly do; the bias has none.

    Args:
        rows: inputs ``(N, D)``, float32.
        answers: ``(N, C)``, float32.
        penalty: relative to the mean variance of the ``rows``, so that no unit matters.
    """
    mean, centre = rows.mean(0), answers.mean(0)
    x, y = rows - mean, answers - centre
    normal = (x.T @ x).double()
    normal.diagonal().add_(penalty * normal.diagonal().mean())
    weight = torch.linalg.solve(normal, (x.T @ y).double()).T.float()
    return weight, centre - weight @ mean
