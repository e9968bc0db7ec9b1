"""Optimisers, schedules of the learning rate, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Average", "Plateau", "Schedule", "adam", "muon", "set_rate", "warm_cosine"]


def adam(
    weights: Iterable[Tensor],
    rate: float,
    device: torch.device,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Optimizer:
    """Adam (Kingma & Ba 2015); on CUDA it is capturable, with the learning rate on the device."""
    if device.type != "cuda":
        return torch.optim.Adam(weights, rate, betas)
    return torch.optim.Adam(weights, torch.tensor(rate, device=device), betas, capturable=True)


def muon(network: nn.Module, rate: float, device: torch.device) -> list[Optimizer]:
    """Muon (Jordan 2024) for kernels and matrices, Adam at three tenths of its rate for biases.

    torch's Muon accepts matrices only, so it gets the kernels as flattened views.
    """
    kernels = [weight for weight in network.parameters() if weight.ndim > 1]
    matrices = [nn.Parameter(weight.detach().view(len(weight), -1)) for weight in kernels]

    def copy_gradients(*_: Any) -> None:
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)

    optimizer = torch.optim.Muon(matrices, rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    optimizer.register_step_pre_hook(copy_gradients)
    biases = [weight for weight in network.parameters() if weight.ndim == 1]
    return [optimizer, adam(biases, 0.3 * rate, device)]


def set_rate(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set every learning rate to ``factor`` times its initial value."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if "first_rate" not in group:
                group["first_rate"] = float(group["lr"])
            rate = group["first_rate"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


class Schedule:
    """A factor of the learning rates.

    Args:
        factor: function from the number of completed steps to the factor.
    """

    def __init__(self, factor: Callable[[int], float] = lambda step: 1.0) -> None:
        self.factor = factor

    def __call__(self, step: int) -> float:
        """The factor after ``step`` steps."""
        return self.factor(step)

    def validated(self, loss: float) -> None:
        """Called after every validation with its loss."""

    def state(self) -> dict[str, float]:
        """The state for a checkpoint."""
        return {}

    def load(self, state: dict[str, float]) -> None:
        """Restore :meth:`state`."""


class Plateau(Schedule):
    """Multiplies the rate by ``decay`` after ``patience`` validations without an improvement.

    An improvement is a loss at least 0.01 % below the lowest so far.
    """

    def __init__(self, decay: float, patience: int) -> None:
        super().__init__(lambda step: self.current)
        self.decay, self.patience = decay, patience
        self.current, self.lowest, self.stalled = 1.0, math.inf, 0

    def validated(self, loss: float) -> None:
        """Reduce the factor if the loss has stalled."""
        self.stalled += 1
        if loss < self.lowest * (1 - 1e-4):
            self.lowest, self.stalled = loss, 0
        if self.stalled > self.patience:
            self.current, self.stalled = self.current * self.decay, 0

    def state(self) -> dict[str, float]:
        """See :class:`Schedule`."""
        return {"now": self.current, "least": self.lowest, "bad": self.stalled}

    def load(self, state: dict[str, float]) -> None:
        """See :class:`Schedule`."""
        self.current, self.lowest, self.stalled = state["now"], state["least"], int(state["bad"])


def warm_cosine(steps: int, warm_up: int) -> Schedule:
    """A cosine schedule to zero over ``steps``, with a linear warm-up over ``warm_up`` steps."""
    return Schedule(
        lambda step: (1 + math.cos(math.pi * step / steps)) / 2 * min(1.0, (step + 1) / warm_up)
    )


class Average:
    """The moving average of a network's weights (Polyak & Juditsky 1992).

    Args:
        network: the network to average.
        decay: decay of the average per step, 0..1; the average starts at the weights after the
            first step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.network = decay, network
        self.weights = [weight.detach().clone() for weight in network.parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after ``step`` steps."""
        share = 1.0 if step == 1 else 1 - self.decay
        torch._foreach_lerp_(self.weights, list(self.network.parameters()), share)

    def exchange(self) -> None:
        """Swap the network's weights with their average."""
        for weight, mean in zip(self.network.parameters(), self.weights, strict=True):
            weight.data, mean.data = mean.data, weight.data

    @torch.no_grad()
    def load(self, state: list[Tensor]) -> None:
        """Restore the average of a checkpoint."""
        for weight, saved in zip(self.weights, state, strict=True):
            weight.copy_(saved)
