"""What a step is given: pairs of crops, prepared in advance, each by its number alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from hashlib import sha256
from itertools import count

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .crops import DataConfig, Packed, Window, below, cropped, cut
from .sets import PictureSet, Split
from .threads import cores, in_order

__all__ = ["Pairs", "Stream", "crops_of", "seed_of", "to_device"]


def seed_of(*what: object) -> int:
    """A seed, 0..2^63 - 1, that depends on ``what`` alone, on every machine."""
    return int.from_bytes(sha256(repr(what).encode()).digest()[:8], "big") >> 1


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``, without waiting for the work that is under way there."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Content and style crops, without end: sample ``i`` depends on the seed and ``i`` alone.

    So a run that goes on at step ``k`` sees what it would have seen, whatever the number of workers
    and processes.

    Args:
        photos: what contents are cut from.
        paintings: what styles are cut from; None repeats the content in the style's place.
        config: see :class:`DataConfig`.
        seed: of the order and the crops.
        split: which pictures; where a set has none kept aside, those to train on are taken.

    Each sample is two tensors ``(3, size, size)`` in 0..1.
    """

    def __init__(
        self,
        photos: PictureSet,
        paintings: PictureSet | None,
        config: DataConfig,
        seed: int = 0,
        split: Split = "train",
    ) -> None:
        self.photos, self.paintings = photos, paintings
        self.config, self.seed, self.split = config, seed, split

    def of(self, split: Split) -> Pairs:
        """The same pairs of another split."""
        return Pairs(self.photos, self.paintings, self.config, self.seed, split)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Samples as ``(B, 3, size, size)`` of contents and styles, on the CPU."""
        contents, styles = zip(*(self[index] for index in indices), strict=True)
        return torch.stack(contents), torch.stack(styles)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        content, style = self.windows(index)
        crop = cropped(content, self.config.size)
        return crop, crop if style is content else cropped(style, self.config.size)

    def windows(self, index: int) -> tuple[Window, Window]:
        """What the crops of a sample are made of; one window twice without paintings."""
        rng = torch.Generator().manual_seed(seed_of(self.seed, self.split, index))
        content = self._cut(self.photos, rng)
        return content, content if self.paintings is None else self._cut(self.paintings, rng)

    def _cut(self, pictures: PictureSet, rng: torch.Generator) -> Window:
        pool: Sequence[Tensor] = getattr(pictures, self.split) or pictures.train
        picture = pool[below(len(pool), rng)]
        config = self.config
        return cut(picture, config.size, rng, config.scales, config.flips, config.close)


class Stream:
    """Batches of pairs from a step on, without end, prepared in advance.

    Threads decode and cut them: they share the decoded pictures, start at once on every system, and
    what takes time is done outside of Python's lock. For a CPU they make the crops too; a GPU is
    given a batch's windows in one copy and makes its crops itself.

    Args:
        pairs: see :class:`Pairs`.
        batch: pairs in a step, over all processes.
        start: the step to begin with.
        rank, world: this process and how many there are; each has its share of every batch.
        device: where the batches are needed.

    Each batch is contents and styles ``(batch / world, 3, size, size)`` in 0..1.
    """

    def __init__(
        self,
        pairs: Pairs,
        batch: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self.pairs, self.start, self.device = pairs, start, device
        self.batch, self.share, self.rank = batch, batch // world, rank
        self.workers = min(pairs.config.workers, cores())

    def __iter__(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        alone = self.pairs.paintings is None
        size = self.pairs.config.size
        for crops in crops_of(self._windows, size, self.start, self.workers, self.device):
            yield (crops, crops) if alone else (crops[: self.share], crops[self.share :])

    def _windows(self, step: int) -> list[Window]:
        """Those of the contents, then those of the styles if they are others."""
        first = step * self.batch + self.rank * self.share
        pairs = [self.pairs.windows(index) for index in range(first, first + self.share)]
        contents, styles = zip(*pairs, strict=True)
        return [*contents] if self.pairs.paintings is None else [*contents, *styles]


def crops_of(
    windows: Callable[[int], Sequence[Window]],
    size: int,
    start: int,
    workers: int,
    device: torch.device,
) -> Generator[Tensor, None, None]:
    """Crops ``(n, 3, size, size)`` in 0..1 on ``device`` for every step from ``start`` on.

    Args:
        windows: of a step; called in threads, see :func:`in_order`.
        size: side of the crops.
        start, workers, device: see :class:`Stream`.
    """
    if device.type == "cpu":

        def stacked(step: int) -> Tensor:
            return torch.stack([cropped(window, size) for window in windows(step)])

        yield from in_order(stacked, count(start), workers)
        return
    pin = device.type == "cuda"
    for packed in in_order(lambda step: Packed(windows(step), pin), count(start), workers):
        yield packed.crops(size, device)
