"""The bank that an encoder is distilled from: crops and the teachers' features of them.

The teachers are slow, so their features are measured once, at random positions of a fixed set of
crops. The student then trains on this set for any number of epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from .recipes import check_fields
from .sets import PictureSet
from .stream import to_device

__all__ = ["Bank", "DistillConfig", "Teacher", "examine", "joined", "measure"]

Teacher = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class DistillConfig:
    """The settings of a distillation; the keys of its recipe.

    Attributes:
        widths: channels of the student's convolutions, block by block: a narrow VGG.
        layers: the layers of a :class:`Compact`, instead of ``widths``.
        crops: size of the bank.
        validation: crops held out of it.
        size: side of a crop, pixels.
        noise, blend: share of the crops with white noise (deviation up to 0.2) added, and share of
            the crops that average two pictures. Optimisation starts from such pictures and passes
            through them; a student trained on natural pictures alone has large errors there.
        positions: maximum number of positions per crop and tap.
        steps, batch, optimizer, learning_rate: training, with a cosine schedule to zero. The
            optimiser is ``adam``; or ``muon`` (Jordan 2024), whose steps change all directions of
            a weight equally, for the convolutions and maps, with Adam at three tenths of the rate
            for the biases.
        dreams, dream_every: every ``dream_every`` steps, 24 pictures are optimised through the
            current student, and half of every batch is drawn from the latest ``dreams`` of them.
            If a student trains on real pictures alone, optimisation through it can match the
            statistics in ways that the teacher rejects, even if the error on real pictures is
            small. Here the student keeps learning the teacher's features of its latest pictures.
        kernel, gram, unit: weights relative to the map loss: of the kernel loss, of the Gram loss,
            and of the term that pulls mean activations towards one.
        taps: weights of the taps; the default of each is 1.
        seed: random seed of crops, positions, initial weights and order.

    Raises:
        InputError: for values out of range or of another type.
    """

    widths: tuple[tuple[int, ...], ...] = ()
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    crops: int = 8000
    validation: int = 200
    size: int = 128
    noise: float = 0.15
    blend: float = 0.15
    positions: int = 256
    steps: int = 10000
    batch: int = 8
    dreams: int = 0
    dream_every: int = 60
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    kernel: float = 1.0
    gram: float = 0.0
    unit: float = 0.05
    taps: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("crops", "validation", "size", "positions", "steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 1 or more")


@dataclass
class Bank:
    """Crops and the teachers' features of them.

    Attributes:
        crops: ``(n, 3, size, size)`` uint8.
        positions: tap -> ``(n, p)`` indices into the flattened feature map.
        features: tap -> ``(n, p, C)`` float16.
        scale: tap -> variance of the teacher's features, mean over channels; losses are relative
            to it, so that all taps have equal weight.
    """

    crops: Tensor
    positions: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)

    def at(self, index: Tensor) -> Bank:
        """The crops with these indices, with their features."""
        positions = {tap: values[index] for tap, values in self.positions.items()}
        features = {tap: values[index] for tap, values in self.features.items()}
        return Bank(self.crops[index], positions, features, self.scale)

    def to(self, device: torch.device) -> Bank:
        """The bank on ``device``."""
        positions = {tap: to_device(values, device) for tap, values in self.positions.items()}
        features = {tap: to_device(values, device) for tap, values in self.features.items()}
        return Bank(to_device(self.crops, device), positions, features, self.scale)


def measure(
    pictures: PictureSet,
    teachers: Sequence[Teacher],
    config: DistillConfig,
    held_out: bool,
    progress: Callable[[int, int], None],
) -> Bank:
    """Cut random crops and measure the teachers' features of them."""
    rng = torch.Generator().manual_seed(config.seed + int(held_out))
    count = config.validation if held_out else config.crops
    use_held_out = held_out and bool(pictures.validation)
    crops = torch.empty(count, 3, config.size, config.size, dtype=torch.uint8)

    def draw() -> Tensor:
        return pictures.crop(config.size, rng, use_held_out)

    for i in range(count):
        crop = draw()
        choice = float(torch.rand((), generator=rng))
        if choice < config.noise:
            deviation = 0.2 * float(torch.rand((), generator=rng))
            crop = crop + deviation * torch.randn(crop.shape, generator=rng)
        elif choice < config.noise + config.blend:
            crop = (crop + draw()) / 2
        crops[i] = (crop.clamp(0, 1) * 255).round().to(torch.uint8)
    return examine(crops, teachers, config.positions, rng, progress)


@torch.no_grad()
def examine(
    crops: Tensor,
    teachers: Sequence[Teacher],
    positions: int,
    rng: torch.Generator,
    progress: Callable[[int, int], None],
) -> Bank:
    """The teachers' features of ``crops``, at ``positions`` random positions of each."""
    bank = Bank(crops)
    count = len(crops)
    for i in range(count):
        for teacher in teachers:
            for tap, features in teacher(crops[i : i + 1].float() / 255).items():
                flat = features[0].flatten(1).T  # (N, C)
                sampled = min(positions, len(flat))
                if tap not in bank.features:
                    shape = (count, sampled, flat.shape[1])
                    bank.features[tap] = torch.empty(shape, dtype=torch.float16)
                    bank.positions[tap] = torch.empty(count, sampled, dtype=torch.int32)
                index = torch.randperm(len(flat), generator=rng)[:sampled]
                bank.positions[tap][i] = index.int()
                bank.features[tap][i] = flat[index.to(flat.device)].half()
        progress(i + 1, count)
    for tap, features in bank.features.items():
        sample = features[:500].float().flatten(0, 1)
        bank.scale[tap] = float(sample.var(0).mean())
    return bank


def joined(first: Bank, second: Bank, limit: int | None = None) -> Bank:
    """Both banks concatenated, truncated to ``limit`` crops."""
    return Bank(
        torch.cat([first.crops, second.crops])[:limit],
        {tap: torch.cat([p, second.positions[tap]])[:limit] for tap, p in first.positions.items()},
        {tap: torch.cat([f, second.features[tap]])[:limit] for tap, f in first.features.items()},
        first.scale,
    )
