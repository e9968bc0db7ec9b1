"""Attacks on a classifier: small changes of its input that increase its loss.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["attack"]


def attack(model: nn.Module, pictures: Tensor, labels: Tensor, radius: float, steps: int) -> Tensor:
    """Adversarial pictures near ``pictures``: projected gradient ascent from a random start.

    Each step has length ``2.5 radius / steps`` along the gradient of the loss (Madry et al.), and
    is projected onto the ball of ``radius`` and onto 0..1. The model is in evaluation mode
    meanwhile. A random start keeps a network from masking its gradient at the pictures alone (Wong
    et al., "Fast is better than free", ICLR 2020).

    Args:
        model: maps pictures to scores.
        pictures: ``(B, 3, H, W)`` in 0..1.
        labels: ``(B,)``.
        radius: maximum L2 norm of a change.
        steps: gradient steps.
    """
    training = model.training
    model.eval()
    noise = torch.randn_like(pictures)
    share = torch.rand(len(pictures), 1, 1, 1, device=pictures.device)  # of the radius
    change = (pictures + radius * share * noise / _norm(noise)).clamp(0, 1) - pictures
    for _ in range(steps):
        change.requires_grad_(True)
        loss = F.cross_entropy(model(pictures + change), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, change)
        with torch.no_grad():
            change = change + 2.5 * radius / steps * gradient / (_norm(gradient) + 1e-12)
            change = change * (radius / (_norm(change) + 1e-12)).clamp(max=1)
            change = (pictures + change).clamp(0, 1) - pictures
    model.train(training)
    return pictures + change.detach()


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norm
