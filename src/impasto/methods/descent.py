"""Optimisers of a picture, of which the host need not know anything before the end.

``torch.optim`` asks the device some ten times in an iteration of L-BFGS what came out (is this pair
of use, is that step too short), and each time a GPU stands still until the host has gone on. Here
every such answer is a number on the device, and what follows from it is chosen there.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["LBFGS", "Adam", "Optimizer"]

HISTORY = 10  # curvature pairs of L-BFGS: more costs memory and gains little here
RADIUS = 0.025  # greatest change of pixels in a step of L-BFGS at full rate, root mean square
CURVED = 1e-10  # of a pair, to be of use


class Optimizer(Protocol):
    """Makes one step after another down a slope, and forgets what it knows where told to."""

    def step(self, x: Tensor, slope: Tensor, rate: Tensor) -> None:
        """Change ``x`` in place.

        Args:
            x: ``(B, C, H, W)``.
            slope: the gradient there, of the same shape.
            rate: share of the full learning rate, ``()``.
        """
        ...

    def restart(self, where: Tensor) -> None:
        """Begin anew if ``where`` ``()`` is true."""
        ...


class LBFGS:
    """Limited-memory BFGS (Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", 1980).

    No line search, which would cost further passes through the network: a step that changes pixels
    by more than ``RADIUS`` is shortened, since early ones know the curvature along few lines and
    overshoot. The first, which knows none, gets half of that.

    Args:
        lr: learning rate: 1 is the full step.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        # Pixels, slopes, and the inverse of their product: 0 for pairs that do not count.
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=HISTORY)
        self.latest: tuple[Tensor, Tensor] | None = None  # slope, and change of pixels
        self.fresh: Tensor  # whether nothing is known of the curvature
        self.scale: Tensor  # of the inverse curvature, where nothing else is known

    def step(self, x: Tensor, slope: Tensor, rate: Tensor) -> None:
        """See :class:`Optimizer`."""
        slope = slope.flatten()
        if self.latest is None:
            self.fresh = torch.ones_like(rate, dtype=torch.bool)
            self.scale = torch.ones_like(rate)
        else:
            self._learn(slope, *self.latest)
        direction = self._direction(slope)
        length = direction.square().mean().sqrt()
        radius = RADIUS * rate
        step = torch.where(self.fresh, radius / 2, torch.minimum(self.lr * rate * length, radius))
        # A direction that leads upwards, or nowhere, is not gone.
        down = (slope.dot(direction) <= 0) & (length > 0)
        step = torch.where(down, step / length, torch.zeros_like(length))
        change = direction.mul_(step)
        x.add_(change.view_as(x))
        self.latest = slope, change
        self.fresh = torch.zeros_like(self.fresh)

    def restart(self, where: Tensor) -> None:
        """See :class:`Optimizer`."""
        self.fresh = self.fresh | where
        self.scale = torch.where(where, torch.ones_like(self.scale), self.scale)
        zero = torch.zeros_like(self.scale)
        self.pairs = deque(
            ((s, y, torch.where(where, zero, rho)) for s, y, rho in self.pairs), HISTORY
        )

    def _learn(self, slope: Tensor, before: Tensor, change: Tensor) -> None:
        """Keep how the slope has changed with the pixels."""
        bend = slope - before
        product = bend.dot(change)
        use = (product > CURVED) & ~self.fresh
        zero = torch.zeros_like(product)
        # Not multiplied by zero: what is not finite would stay so.
        pair = torch.where(use, change, zero), torch.where(use, bend, zero)
        self.pairs.append((*pair, torch.where(use, 1 / product, zero)))
        self.scale = torch.where(use, product / bend.dot(bend), self.scale)

    def _direction(self, slope: Tensor) -> Tensor:
        """The two-loop recursion: minus the slope, by the inverse of the curvature."""
        direction = slope.neg()
        shares = []
        for change, bend, rho in reversed(self.pairs):
            shares.append(change.dot(direction) * rho)
            direction.addcmul_(bend, shares[-1], value=-1)
        direction.mul_(self.scale)
        for (change, bend, rho), share in zip(self.pairs, reversed(shares), strict=True):
            direction.addcmul_(change, share - bend.dot(direction) * rho)
        return direction


class Adam:
    """Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

    Args:
        lr: learning rate.
        betas: decays of the means of slopes and of their squares.
    """

    def __init__(self, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.lr, self.betas = lr, betas
        self.state: list[Tensor] = []

    def step(self, x: Tensor, slope: Tensor, rate: Tensor) -> None:
        """See :class:`Optimizer`."""
        if not self.state:
            self.state = [torch.zeros_like(slope), torch.zeros_like(slope), torch.zeros_like(rate)]
        mean, square, count = self.state
        mean.lerp_(slope, 1 - self.betas[0])
        square.lerp_(slope.square(), 1 - self.betas[1])
        count.add_(1)
        one, two = (1 - beta**count for beta in self.betas)
        x.addcmul_(mean / ((square / two).sqrt() + 1e-8), self.lr * rate / one, value=-1)

    def restart(self, where: Tensor) -> None:
        """See :class:`Optimizer`."""
        for kept in self.state:
            kept.copy_(torch.where(where, torch.zeros_like(kept), kept))
