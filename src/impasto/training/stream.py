"""The data of a step: pairs of crops, prepared in advance. Each depends only on its index."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from hashlib import sha256
from itertools import count

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .crops import DataConfig, Packed, Window, cropped, cut
from .sets import PictureSet, Split
from .threads import cores, in_order

__all__ = ["Pairs", "Stream"]


def seed_of(*key: object) -> int:
    """A seed, 0..2^63 - 1, that is a hash of ``key``, the same on every machine."""
    return int.from_bytes(sha256(repr(key).encode()).digest()[:8], "big") >> 1


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to ``device`` without waiting for its running work."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """An endless set of content and style crops; sample ``i`` depends only on the seed and ``i``.

    A run that resumes at step ``k`` therefore gets the same data, regardless of the number of
    workers and processes.

    Args:
        photos: pictures for contents.
        paintings: pictures for styles; None uses the content as its own style.
        config: see :class:`DataConfig`.
        seed: random seed of the order and the crops.
        split: which pictures to use; for an empty split, the training pictures are used.

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
        """A batch of contents and one of styles, each ``(B, 3, size, size)``, on the CPU."""
        contents, styles = zip(*(self[index] for index in indices), strict=True)
        return torch.stack(contents), torch.stack(styles)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        content, style = self.windows(index)
        crop = cropped(content, self.config.size)
        return crop, crop if style is content else cropped(style, self.config.size)

    def windows(self, index: int) -> tuple[Window, Window]:
        """The windows of a sample's crops; the same window twice without paintings."""
        rng = self._rng(index)
        content = self._cut(self.photos, rng)
        return content, content if self.paintings is None else self._cut(self.paintings, rng)

    def windows_of(self, step: int, indices: Sequence[int]) -> list[Window]:
        """The windows of a training step: contents, then styles if there are paintings.

        With ``shared_style``, the single style of the step, see :class:`DataConfig`.
        """
        if self.paintings is not None and self.config.shared_style:
            contents = [self._cut(self.photos, self._rng(index)) for index in indices]
            return [*contents, self._cut(self.paintings, self._rng("shared style", step))]
        contents, styles = map(list, zip(*map(self.windows, indices), strict=True))
        return contents if self.paintings is None else [*contents, *styles]

    def _rng(self, *sample: object) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, self.split, *sample))

    def _cut(self, pictures: PictureSet, rng: torch.Generator) -> Window:
        pool = getattr(pictures, self.split) or pictures.train
        config = self.config
        picture = pool.draw(rng, config.balanced and pictures is self.paintings)
        return cut(picture, config.size, rng, config.scales, config.flips, config.close)


class Stream:
    """An endless stream of batches of pairs, prepared in advance.

    Threads decode the pictures and cut the windows. They share the decoded pictures, start quickly
    on every system, and spend their time outside of Python's lock. For a CPU they also compute the
    crops; a GPU gets the windows of a batch in one copy and computes the crops itself.

    Args:
        pairs: see :class:`Pairs`.
        batch: pairs per step, over all processes.
        start: the first step.
        rank, world: the number of this process, and the count of processes that share a batch.
        device: the device of the batches.

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
        photos_only = self.pairs.paintings is None
        size, share = self.pairs.config.size, self.share
        for crops in crops_of(self._windows, size, self.start, self.workers, self.device):
            contents, styles = (crops, crops) if photos_only else (crops[:share], crops[share:])
            if len(styles) < share:  # one for all
                styles = styles.repeat(share, 1, 1, 1)
            yield contents, styles

    def _windows(self, step: int) -> list[Window]:
        first = step * self.batch + self.rank * self.share
        return self.pairs.windows_of(step, range(first, first + self.share))


def crops_of(
    windows: Callable[[int], Sequence[Window]],
    size: int,
    start: int,
    workers: int,
    device: torch.device,
) -> Generator[Tensor, None, None]:
    """Crops ``(n, 3, size, size)`` in 0..1 on ``device`` for every step from ``start`` on.

    Args:
        windows: function from a step to its windows; called in threads, see :func:`in_order`.
        size: side of the crops, pixels.
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
