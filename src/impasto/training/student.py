"""The student of a distillation: an encoder with the maps to its teachers' features."""

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
    """The student with the linear maps that are dropped when it has learnt."""

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
        """Layers and maps by least squares, see :mod:`.methods.regress`; on the CPU."""
        crops = bank.crops[: 240 if isinstance(self.net, Compact) else 400].float() / 255
        targets: dict[str, Tensor] = {}
        for other in others:
            features = [other(crop[None]) for crop in crops]
            targets |= {
                "conv" + tap[4:]: torch.cat([s[tap] for s in features]).cpu() for tap in features[0]
            }
        if isinstance(self.net, Compact):
            fit_bottlenecks(self.net, teacher, crops, targets)
        else:
            fit_layers(self.net, teacher, crops, targets)
        part = bank.at(torch.arange(len(crops)))
        for tap in bank.features:
            rows, answers = [], []
            for index in torch.split(torch.arange(len(crops)), 8):
                ours, theirs = self._sampled(part.at(index), tap)
                rows.append(ours[:, :128].flatten(0, 1))
                answers.append(theirs[:, :128].flatten(0, 1))
            weight, bias = ridge(torch.cat(rows), torch.cat(answers))
            linear = self.maps[tap]
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)

    def _sampled(self, batch: Bank, tap: str) -> tuple[Tensor, Tensor]:
        """Student's and teacher's features at the batch's positions, ``(B, p, C)`` each."""
        return _gathered(self.net(_pictures(batch), [tap])[tap], batch, tap)

    def losses(self, batch: Bank, gram: bool = True) -> dict[str, dict[str, Tensor]]:
        """Per tap: ``map``, ``kernel``, ``gram`` (shares of variance not explained), ``unit``."""
        pictures = _pictures(batch)
        out: dict[str, dict[str, Tensor]] = {}
        with _mixed(pictures.device):
            taps = self.net(pictures, batch.features)
        for tap, features in taps.items():
            student, teacher = _gathered(features, batch, tap)
            mapped = self.maps[tap](student)
            error = F.mse_loss(mapped, teacher) / batch.scale[tap]
            few = slice(0, max(1, 512 // len(pictures)))
            ours = student[:, few].flatten(0, 1)
            theirs = teacher[:, few].flatten(0, 1)
            kernel = ours @ ours.T / ours.shape[1]
            target = theirs @ theirs.T / theirs.shape[1]
            out[tap] = {
                "map": error,
                "kernel": F.mse_loss(kernel, target) / target.var(),
                "unit": (student.mean((0, 1)) - 1).square().mean(),
            }
            if gram:
                out[tap]["gram"] = _unseen(mapped, teacher)
        return out


def _pictures(batch: Bank) -> Tensor:
    return arranged(batch.crops.float().div(255))


def _gathered(features: Tensor, batch: Bank, tap: str) -> tuple[Tensor, Tensor]:
    """The student's features and the teacher's, float32, at the batch's positions."""
    flat = features.float().flatten(2).transpose(1, 2)  # (B, N, C)
    positions = batch.positions[tap].long()
    student = flat.gather(1, positions[..., None].expand(-1, -1, flat.shape[-1]))
    return student, batch.features[tap].float()


def _unseen(mapped: Tensor, teacher: Tensor) -> Tensor:
    """Of ``(B, p, C)``: the squared part of Gram matrices in which ``mapped`` meets what it lacks.

    ``|P^T E + E^T P|^2 / |T^T T|^2`` for ``T = P + E``, mean over the crops.
    """
    with _mixed(mapped.device):
        cross = mapped.transpose(1, 2) @ (teacher - mapped)
        gram = teacher.transpose(1, 2) @ teacher
    missing = (cross + cross.transpose(1, 2)).float().square().sum((1, 2))
    return (missing / gram.float().square().sum((1, 2))).mean()


def _mixed(device: torch.device) -> AbstractContextManager[Any]:
    """Convolutions in bfloat16 where that is fast."""
    return mixed(device, choose_precision("auto", device))


def dream(net: Compact | VGG, crops: Tensor, rng: torch.Generator, taps: Sequence[str]) -> Tensor:
    """Pictures on the way of an optimisation through ``net``, ``(24, 3, H, W)`` uint8.

    Eight random crops take the Gram matrices of eight others at ``taps`` (Adam, 36 steps, weak
    content term), as in Gatys' method; three pictures of each are kept.
    """
    net.requires_grad_(False)
    kept: list[Tensor] = []
    deep = taps[-2]
    chosen = torch.randint(len(crops), (2, 8), generator=rng)
    device = next(net.parameters()).device
    content, style = (arranged(crops[index].float() / 255, device) for index in chosen)
    with torch.no_grad(), _mixed(device):
        content_features = net(content, [deep])[deep]
        aim = {tap: Moments.of(f) for tap, f in net(style, taps).items()}
    x = content.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([x], 0.04, betas=(0.9, 0.99))
    for step in range(1, 37):
        optimizer.param_groups[0]["lr"] = 0.04 * min(1.0, (37 - step) / 18)
        with _mixed(device):
            features = net(x, taps)
        losses = [gram_loss(Moments.of(features[tap]), aim[tap]) for tap in taps]
        loss = 100 * torch.stack(losses).mean(0).sum() + content_loss(
            features[deep], content_features
        )
        (x.grad,) = torch.autograd.grad(loss, x)
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
        if step % 12 == 0:
            kept.append((x.detach() * 255).round().to(torch.uint8))
    net.requires_grad_(True)
    return torch.cat(kept).cpu().contiguous()


@torch.no_grad()
def evaluate(student: Student, bank: Bank, batch: int) -> dict[str, dict[str, float]]:
    """Mean losses over a bank; ``map`` and ``kernel`` are shares of variance not explained."""
    device = next(student.parameters()).device
    sums: dict[str, dict[str, Tensor]] = {}
    for index in torch.split(torch.arange(len(bank.crops)), batch):
        for tap, losses in student.losses(bank.at(index).to(device)).items():
            row = sums.setdefault(tap, {})
            for name, value in losses.items():
                row[name] = row.get(name, 0.0) + value * len(index) / len(bank.crops)
    return {tap: {name: float(value) for name, value in row.items()} for tap, row in sums.items()}
