"""The student of a distillation: an encoder with linear maps to its teachers' features."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.base import PLAIN
from ..backbones.compact import Compact
from ..backbones.vgg import VGG
from ..device import arranged, choose_precision, mixed
from ..linalg import ridge
from ..losses import content_loss, gram_loss
from ..statistics import Moments
from .bank import Bank, DistillConfig, Teacher
from .methods.regress import fit_bottlenecks, fit_layers

__all__ = ["Student", "dream", "evaluate"]


class Student(nn.Module):
    """The student with its linear maps, which are discarded after training."""

    def __init__(self, config: DistillConfig, bank: Bank) -> None:
        super().__init__()
        self.net: Compact | VGG = (
            Compact(config.layers) if config.layers else VGG(config.widths, PLAIN, name="slim")
        )
        for conv in self.net.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        self.maps = nn.ModuleDict(
            {
                tap: nn.Linear(self.net.channels(tap), features.shape[-1])
                for tap, features in bank.features.items()
            }
        )

    @torch.no_grad()
    def start(self, bank: Bank, teacher: VGG, others: Sequence[Teacher]) -> None:
        """Fit layers and maps by least squares on the CPU, see :mod:`.methods.regress`."""
        crops = bank.crops[: 240 if isinstance(self.net, Compact) else 400].float() / 255
        targets: dict[str, Tensor] = {}
        for other in others:
            by_crop = [other(crop[None]) for crop in crops]
            targets |= {
                "conv" + tap[4:]: torch.cat([features[tap] for features in by_crop]).cpu()
                for tap in by_crop[0]
            }
        if isinstance(self.net, Compact):
            fit_bottlenecks(self.net, teacher, crops, targets)
        else:
            fit_layers(self.net, teacher, crops, targets)
        for tap in bank.features:
            rows, answers = [], []
            for index in torch.split(torch.arange(len(crops)), 8):
                student, teacher_features = self._sampled(bank.at(index), tap)
                rows.append(student[:, :128].flatten(0, 1))
                answers.append(teacher_features[:, :128].flatten(0, 1))
            weight, bias = ridge(torch.cat(rows), torch.cat(answers))
            linear = self.maps[tap]
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)

    def _sampled(self, batch: Bank, tap: str) -> tuple[Tensor, Tensor]:
        """Student's and teacher's features at the batch's positions, ``(B, p, C)`` each."""
        return _gathered(self.net(_pictures(batch), [tap])[tap], batch, tap)

    def losses(self, batch: Bank, gram: bool = True) -> dict[str, dict[str, Tensor]]:
        """Per tap: ``map``, ``kernel``, ``gram`` (shares of unexplained variance), ``unit``."""
        pictures = _pictures(batch)
        losses: dict[str, dict[str, Tensor]] = {}
        with _mixed(pictures.device):
            taps = self.net(pictures, batch.features)
        for tap, features in taps.items():
            student, teacher = _gathered(features, batch, tap)
            mapped = self.maps[tap](student)
            error = F.mse_loss(mapped, teacher) / batch.scale[tap]
            count = max(1, 512 // len(pictures))  # positions per crop in the kernel
            student_rows = student[:, :count].flatten(0, 1)
            teacher_rows = teacher[:, :count].flatten(0, 1)
            kernel = student_rows @ student_rows.T / student_rows.shape[1]
            target = teacher_rows @ teacher_rows.T / teacher_rows.shape[1]
            losses[tap] = {
                "map": error,
                "kernel": F.mse_loss(kernel, target) / target.var(),
                "unit": (student.mean((0, 1)) - 1).square().mean(),
            }
            if gram:
                losses[tap]["gram"] = _residual_gram(mapped, teacher)
        return losses


def _pictures(batch: Bank) -> Tensor:
    return arranged(batch.crops.float().div(255))


def _gathered(features: Tensor, batch: Bank, tap: str) -> tuple[Tensor, Tensor]:
    """The student's features and the teacher's, float32, at the batch's positions."""
    flat = features.float().flatten(2).transpose(1, 2)  # (B, N, C)
    positions = batch.positions[tap].long()
    student = flat.gather(1, positions[..., None].expand(-1, -1, flat.shape[-1]))
    return student, batch.features[tap].float()


def _residual_gram(mapped: Tensor, teacher: Tensor) -> Tensor:
    """The cross terms of ``mapped`` and its residual in the Gram matrices of ``(B, p, C)``.

    ``|P^T E + E^T P|^2 / |T^T T|^2`` for ``T = P + E``, mean over the crops.
    """
    with _mixed(mapped.device):
        cross = mapped.transpose(1, 2) @ (teacher - mapped)
        gram = teacher.transpose(1, 2) @ teacher
    cross_energy = (cross + cross.transpose(1, 2)).float().square().sum((1, 2))
    return (cross_energy / gram.float().square().sum((1, 2))).mean()


def _mixed(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 on devices where it is fast."""
    return mixed(device, choose_precision("auto", device))


def dream(net: Compact | VGG, crops: Tensor, rng: torch.Generator, taps: Sequence[str]) -> Tensor:
    """Intermediate results of an optimisation through ``net``, ``(24, 3, H, W)`` uint8.

    Eight random crops are optimised towards the Gram matrices of eight others at ``taps``, as in
    Gatys' method (Adam, 36 steps, a weak content term). Three results of each are returned.
    """
    net.requires_grad_(False)
    results: list[Tensor] = []
    content_tap = taps[-2]
    indices = torch.randint(len(crops), (2, 8), generator=rng)
    device = next(net.parameters()).device
    content, style = (arranged(crops[index].float() / 255, device) for index in indices)
    with torch.no_grad(), _mixed(device):
        content_features = net(content, [content_tap])[content_tap]
        targets = {tap: Moments.of(features) for tap, features in net(style, taps).items()}
    x = content.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([x], 0.04, betas=(0.9, 0.99))
    for step in range(1, 37):
        optimizer.param_groups[0]["lr"] = 0.04 * min(1.0, (37 - step) / 18)
        with _mixed(device):
            features = net(x, taps)
        losses = [gram_loss(Moments.of(features[tap]), targets[tap]) for tap in taps]
        loss = 100 * torch.stack(losses).mean(0).sum() + content_loss(
            features[content_tap], content_features
        )
        (x.grad,) = torch.autograd.grad(loss, x)
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
        if step % 12 == 0:
            results.append((x.detach() * 255).round().to(torch.uint8))
    net.requires_grad_(True)
    return torch.cat(results).cpu().contiguous()


@torch.no_grad()
def evaluate(student: Student, bank: Bank, batch: int) -> dict[str, dict[str, float]]:
    """Mean losses over a bank; ``map`` and ``kernel`` are shares of unexplained variance."""
    device = next(student.parameters()).device
    sums: dict[str, dict[str, Tensor]] = {}
    for index in torch.split(torch.arange(len(bank.crops)), batch):
        for tap, losses in student.losses(bank.at(index).to(device)).items():
            row = sums.setdefault(tap, {})
            for name, value in losses.items():
                row[name] = row.get(name, 0.0) + value * len(index) / len(bank.crops)
    return {tap: {name: float(value) for name, value in row.items()} for tap, row in sums.items()}
