"""The bank that an encoder is distilled from: crops, and what its teachers see in them.

The teachers are the costly part, so their features are measured once, at random positions of a
fixed set of crops, and the student then goes over it as often as the time allows.
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
    """Everything that a distillation depends on; a recipe holds these as TOML.

    Attributes:
        widths: channels of the student's convolutions, block by block: a narrow VGG.
        layers: instead of these, the layers of a :class:`Compact`.
        crops: size of the bank; validation: crops held out of it.
        size: side of a crop, pixels.
        noise, blend: share of the crops with white noise (deviation up to 0.2) added, and of those
            that are an average of two pictures. Optimisation starts from such pictures and passes
            through them, and a student that only knows natural pictures can be fooled there.
        positions: per crop and tap, at most.
        steps, batch, optimizer, learning_rate: with a cosine schedule to zero. ``adam``; or
            ``muon`` (Jordan 2024), whose steps change all directions of a weight alike, for the
            convolutions and maps, and Adam at three tenths of its rate for the biases.
        dreams, dream_every: every so many steps, 24 pictures are optimised through the student as
            it is, and half of every batch is from the latest ``dreams`` of them. A student that has
            only seen pictures from outside lets its statistics be satisfied in ways that the
            teacher does not accept, however small its error on those pictures; here it learns
            again and again what the teacher makes of the latest ones.
        kernel, gram, unit: weights of the kernel loss, of the Gram loss and of the pull of mean
            activations to one, relative to the map loss.
        taps: weights of the taps, 1 where none is given.
        seed: of crops, positions, initial weights and order.

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
    """Crops and what the teachers see in them.

    Attributes:
        crops: ``(n, 3, size, size)`` uint8.
        positions: tap -> ``(n, p)`` indices into the flattened feature map.
        features: tap -> ``(n, p, C)`` float16.
        scale: tap -> variance of the teacher's features, mean over channels; losses are relative
            to it, so that every tap counts alike.
    """

    crops: Tensor
    positions: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)

    def at(self, index: Tensor) -> Bank:
        """The crops of these numbers, with what is known of them."""
        positions = {tap: values[index] for tap, values in self.positions.items()}
        features = {tap: values[index] for tap, values in self.features.items()}
        return Bank(self.crops[index], positions, features, self.scale)

    def to(self, device: torch.device) -> Bank:
        """The same on ``device``."""
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
    """Cut crops and measure the teachers on them, once."""
    rng = torch.Generator().manual_seed(config.seed + int(held_out))
    count = config.validation if held_out else config.crops
    use_held_out = held_out and bool(pictures.validation)
    crops = torch.empty(count, 3, config.size, config.size, dtype=torch.uint8)

    def crop() -> Tensor:
        return pictures.crop(config.size, rng, use_held_out)

    for i in range(count):
        picture = crop()
        kind = float(torch.rand((), generator=rng))
        if kind < config.noise:
            deviation = 0.2 * float(torch.rand((), generator=rng))
            picture = picture + deviation * torch.randn(picture.shape, generator=rng)
        elif kind < config.noise + config.blend:
            picture = (picture + crop()) / 2
        crops[i] = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    return examine(crops, teachers, config.positions, rng, progress)


@torch.no_grad()
def examine(
    crops: Tensor,
    teachers: Sequence[Teacher],
    positions: int,
    rng: torch.Generator,
    progress: Callable[[int, int], None],
) -> Bank:
    """What the teachers see in ``crops``, at ``positions`` random positions of each."""
    bank = Bank(crops)
    count = len(crops)
    for i in range(count):
        for teacher in teachers:
            for tap, features in teacher(crops[i : i + 1].float() / 255).items():
                flat = features[0].flatten(1).T  # (N, C)
                kept = min(positions, len(flat))
                if tap not in bank.features:
                    shape = (count, kept, flat.shape[1])
                    bank.features[tap] = torch.empty(shape, dtype=torch.float16)
                    bank.positions[tap] = torch.empty(count, kept, dtype=torch.int32)
                index = torch.randperm(len(flat), generator=rng)[:kept]
                bank.positions[tap][i] = index.int()
                bank.features[tap][i] = flat[index.to(flat.device)].half()
        progress(i + 1, count)
    for tap, features in bank.features.items():
        sample = features[:500].float().flatten(0, 1)
        bank.scale[tap] = float(sample.var(0).mean())
    return bank


def joined(first: Bank, second: Bank, most: int | None = None) -> Bank:
    """The crops of both in one, ``most`` of them at most."""
    return Bank(
        torch.cat([first.crops, second.crops])[:most],
        {tap: torch.cat([p, second.positions[tap]])[:most] for tap, p in first.positions.items()},
        {tap: torch.cat([f, second.features[tap]])[:most] for tap, f in first.features.items()},
        first.scale,
    )
