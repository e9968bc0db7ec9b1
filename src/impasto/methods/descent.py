"""Optimisers of a picture that never wait for the device.

``torch.optim.LBFGS`` reads numbers from the device about ten times in an iteration (is this pair
useful, is that step too short). Each time, a GPU stands idle until the host has answered. Here all
such decisions are tensors on the device, and ``torch.where`` selects the result.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["LBFGS", "Adam", "Optimizer", "optimizer_of"]

HISTORY = 10  # curvature pairs of L-BFGS: more costs memory and gains little here
RADIUS = 0.025  # largest change of pixels in a step of L-BFGS at full rate, root mean square
CURVED = 1e-10  # least product of the changes of pixels and gradient for a pair to be used


class Optimizer(Protocol):
    """Changes a picture step by step, so that its loss falls."""

    def step(self, x: Tensor, gradient: Tensor, rate: Tensor) -> None:
        """Change ``x`` in place.

        Args:
            x: ``(B, C, H, W)``.
            gradient: the gradient of the loss at ``x``, of the same shape.
            rate: share of the full learning rate, ``()``.
        """
        ...

    def restart(self, condition: Tensor) -> None:
        """Forget the past steps if ``condition`` ``()`` is true."""
        ...


class LBFGS:
    """Limited-memory BFGS (Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", 1980).

    There is no line search, which would cost further passes through the network. Instead, a step
    that changes pixels by more than ``RADIUS`` is shortened: early steps know the curvature only
    along few directions and would overshoot. The first step knows none; its length is half of
    ``RADIUS``.

    Args:
        lr: learning rate: 1 is the full step.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        # Changes of pixels (s), of the gradient (y), and 1 / (s y): 0 for pairs that are not used.
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=HISTORY)
        self.latest: tuple[Tensor, Tensor] | None = None  # gradient, and change of pixels
        self.fresh: Tensor  # whether nothing is known about the curvature
        self.scale: Tensor  # initial inverse curvature, for directions without a pair

    def step(self, x: Tensor, gradient: Tensor, rate: Tensor) -> None:
        """See :class:`Optimizer`."""
        gradient = gradient.flatten()
        if self.latest is None:
            self.fresh = torch.ones_like(rate, dtype=torch.bool)
            self.scale = torch.ones_like(rate)
        else:
            self._learn(gradient, *self.latest)
        direction = self._direction(gradient)
        length = direction.square().mean().sqrt()
        radius = RADIUS * rate
        step = torch.where(self.fresh, radius / 2, torch.minimum(self.lr * rate * length, radius))
        # No step along a direction that leads upwards or has length 0.
        down = (gradient.dot(direction) <= 0) & (length > 0)
        step = torch.where(down, step / length, torch.zeros_like(length))
        change = direction.mul_(step)
        x.add_(change.view_as(x))
        self.latest = gradient, change
        self.fresh = torch.zeros_like(self.fresh)

    def restart(self, condition: Tensor) -> None:
        """See :class:`Optimizer`."""
        self.fresh = self.fresh | condition
        self.scale = torch.where(condition, torch.ones_like(self.scale), self.scale)
        zero = torch.zeros_like(self.scale)
        self.pairs = deque(
            ((s, y, torch.where(condition, zero, rho)) for s, y, rho in self.pairs), HISTORY
        )

    def _learn(self, gradient: Tensor, before: Tensor, change: Tensor) -> None:
        """Store how the gradient has changed with the pixels."""
        gradient_change = gradient - before
        product = gradient_change.dot(change)
        use = (product > CURVED) & ~self.fresh
        zero = torch.zeros_like(product)
        # where(), not a product with zero: NaN and infinity times zero would stay NaN.
        pair = torch.where(use, change, zero), torch.where(use, gradient_change, zero)
        self.pairs.append((*pair, torch.where(use, 1 / product, zero)))
        self.scale = torch.where(use, product / gradient_change.dot(gradient_change), self.scale)

    def _direction(self, gradient: Tensor) -> Tensor:
        """The two-loop recursion: minus the inverse curvature times the gradient."""
        direction = gradient.neg()
        alphas = []
        for s, y, rho in reversed(self.pairs):
            alphas.append(s.dot(direction) * rho)
            direction.addcmul_(y, alphas[-1], value=-1)
        direction.mul_(self.scale)
        for (s, y, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            direction.addcmul_(s, alpha - y.dot(direction) * rho)
        return direction


class Adam:
    """Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

    Args:
        lr: learning rate.
        betas: decay rates of the running means of gradients and of their squares.
    """

    def __init__(self, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.lr, self.betas = lr, betas
        self.state: list[Tensor] = []

    def step(self, x: Tensor, gradient: Tensor, rate: Tensor) -> None:
        """See :class:`Optimizer`."""
        if not self.state:
            self.state = [
                torch.zeros_like(gradient),
                torch.zeros_like(gradient),
                torch.zeros_like(rate),
            ]
        mean, square, count = self.state
        mean.lerp_(gradient, 1 - self.betas[0])
        square.lerp_(gradient.square(), 1 - self.betas[1])
        count.add_(1)
        mean_bias, square_bias = (1 - beta**count for beta in self.betas)
        step = self.lr * rate / mean_bias
        x.addcmul_(mean / ((square / square_bias).sqrt() + 1e-8), step, value=-1)

    def restart(self, condition: Tensor) -> None:
        """See :class:`Optimizer`."""
        for value in self.state:
            value.copy_(torch.where(condition, torch.zeros_like(value), value))


def optimizer_of(name: str, lr: float, betas: tuple[float, float]) -> Optimizer:
    """``lbfgs`` or ``adam``, at the start of a descent; ``betas`` are of Adam."""
    return Adam(lr, betas) if name == "adam" else LBFGS(lr)
