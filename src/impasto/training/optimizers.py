"""How weights follow their gradients: optimisers, schedules of their rate, the mean over steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Average", "Plateau", "Schedule", "adam", "muon", "set_rate", "warm_cosine"]


def adam(weights: Iterable[Tensor], rate: float, device: torch.device) -> Optimizer:
    """Adam (Kingma & Ba 2015); on CUDA with its rate on the device, so that a graph can hold it."""
    if device.type != "cuda":
        return torch.optim.Adam(weights, rate)
    return torch.optim.Adam(weights, torch.tensor(rate, device=device), capturable=True)


def muon(network: nn.Module, rate: float, device: torch.device) -> list[Optimizer]:
    """Muon (Jordan 2024) for kernels and matrices, Adam at three tenths of its rate for biases.

    torch's Muon takes matrices, so kernels are handed to it flattened, as views of the same memory.
    """
    kernels = [weight for weight in network.parameters() if weight.ndim > 1]
    matrices = [nn.Parameter(weight.detach().view(len(weight), -1)) for weight in kernels]

    def hand_over(*_: Any) -> None:
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)

    first = torch.optim.Muon(matrices, rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    first.register_step_pre_hook(hand_over)
    others = [weight for weight in network.parameters() if weight.ndim == 1]
    return [first, adam(others, 0.3 * rate, device)]


def set_rate(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set every learning rate to ``factor`` times what it was at first."""
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
        factor: of the steps done before.
    """

    def __init__(self, factor: Callable[[int], float] = lambda step: 1.0) -> None:
        self.factor = factor

    def __call__(self, step: int) -> float:
        """The factor when ``step`` steps are done."""
        return self.factor(step)

    def validated(self, loss: float) -> None:
        """Hear of a validation."""

    def state(self) -> dict[str, float]:
        """What a checkpoint has to keep."""
        return {}

    def load(self, state: dict[str, float]) -> None:
        """Take up :meth:`state`."""


class Plateau(Schedule):
    """Multiplied by ``decay`` when the validation loss has not fallen for ``patience`` validations.

    It has fallen if it is a ten-thousandth less than the least so far.
    """

    def __init__(self, decay: float, patience: int) -> None:
        super().__init__(lambda step: self.now)
        self.decay, self.patience = decay, patience
        self.now, self.least, self.bad = 1.0, math.inf, 0

    def validated(self, loss: float) -> None:
        """Lower the factor if it is time."""
        self.bad += 1
        if loss < self.least * (1 - 1e-4):
            self.least, self.bad = loss, 0
        if self.bad > self.patience:
            self.now, self.bad = self.now * self.decay, 0

    def state(self) -> dict[str, float]:
        """See :class:`Schedule`."""
        return {"now": self.now, "least": self.least, "bad": self.bad}

    def load(self, state: dict[str, float]) -> None:
        """See :class:`Schedule`."""
        self.now, self.least, self.bad = state["now"], state["least"], int(state["bad"])


def warm_cosine(steps: int, warm: int) -> Schedule:
    """Growing over ``warm`` steps, and falling to zero over all of them as half a wave."""
    return Schedule(
        lambda step: (1 + math.cos(math.pi * step / steps)) / 2 * min(1.0, (step + 1) / warm)
    )


class Average:
    """The moving average of a network's weights (Polyak & Juditsky 1992).

    Args:
        decay: of the average in a step, 0..1; it begins with the weights after the first.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.network = decay, network
        self.weights = [weight.detach().clone() for weight in network.parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After ``step`` steps."""
        share = 1.0 if step == 1 else 1 - self.decay
        torch._foreach_lerp_(self.weights, list(self.network.parameters()), share)

    def exchange(self) -> None:
        """Swap the network's weights with their average."""
        for weight, mean in zip(self.network.parameters(), self.weights, strict=True):
            weight.data, mean.data = mean.data, weight.data

    @torch.no_grad()
    def load(self, state: list[Tensor]) -> None:
        """Take up what a checkpoint kept."""
        for weight, kept in zip(self.weights, state, strict=True):
            weight.copy_(kept)
