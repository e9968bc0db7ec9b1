"""Pictures to train on: folders, decoded once where memory allows, cut into random crops."""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Barrier, Lock
from time import perf_counter
from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..errors import InputError, check_share
from ..files import path_of, paths_of, same_file, within
from ..images import SUFFIXES, fit, list_pictures, read, resize
from .recipes import check_fields

__all__ = [
    "DataConfig",
    "Pairs",
    "PictureSet",
    "Split",
    "Stream",
    "check_run_apart",
    "decode",
    "name_others",
    "place_of",
    "random_crop",
    "seed_of",
]

Split = Literal["train", "validation", "test"]
KINDS, NAMED = 5, 3  # of files that are no pictures: kinds and names that are said


@dataclass(frozen=True)
class DataConfig:
    """How pictures become crops; the table ``[data]`` of a recipe.

    Attributes:
        size: side of a crop, pixels.
        short_side: pixels; every picture is resized to it before it is cut.
        scales: cut windows between ``size`` and the short side and reduce them to ``size``, so that
            a network meets textures at several scales; otherwise the window is ``size``.
        close: share of the crops that are close-ups, enlarged two to eight times: their grounds are
            as smooth as those of much larger pictures.
        flips: mirror half of the crops.
        validation, test: shares (0..1) of the pictures kept aside; 0.2 and 0.1 are paper 2's.
        minimum: photographs to learn from, at least; fewer are refused.
        memory: GB of decoded pictures of a set that are kept; the others are decoded anew whenever
            they are drawn.
        workers: threads that prepare crops in advance, no more than there are cores; 0 prepares
            them between the steps.

    Raises:
        InputError: for values out of range or of another type.
    """

    size: int = 256
    short_side: int = 512
    scales: bool = False
    close: float = 0.0
    flips: bool = True
    validation: float = 0.2
    test: float = 0.1
    minimum: int = 8
    memory: float = 2.0
    workers: int = 2

    def __post_init__(self) -> None:
        check_fields(self)
        if not 16 <= self.size <= self.short_side:
            raise InputError(
                f"size = {self.size}: give 16 or more pixels, at most short_side = "
                f"{self.short_side}"
            )
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise InputError(
                f"validation = {self.validation}, test = {self.test}: give shares from 0, together "
                "below 1"
            )
        check_share("close", self.close)
        for name in ("memory", "workers"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more")


class _Pool(Sequence[Tensor]):
    """Pictures ``(3, H, W)`` uint8, kept or decoded when drawn.

    A file that turns out broken when it is drawn gives way to the next one, and is named once.
    """

    def __init__(self, short_side: int, warn: Callable[[str], None]) -> None:
        self.items: list[Tensor | Path] = []
        self.broken: set[int] = set()
        self._lock = Lock()
        self.short_side, self.warn = short_side, warn

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self):
            raise IndexError(index)
        for position in (*range(index, len(self)), *range(index)):
            item = self.items[position]
            if isinstance(item, Tensor):
                return item
            if position in self.broken:
                continue
            try:
                return decode(item, self.short_side)
            except InputError as error:
                with self._lock:  # of several threads that found it, one says it
                    known = position in self.broken
                    self.broken.add(position)
                if not known:
                    self.warn(f"skipped: {error}")
        raise InputError("no picture of the set can be read any more; check its folder")


class PictureSet:
    """The pictures of some folders as 8-bit tensors with a given short side.

    Args:
        folders: searched with all that is below them, see :func:`impasto.images.list_pictures`;
            every picture counts, those of the same name in other folders too.
        short_side: pixels; pictures are resized to it, never cropped.
        held_out, test: shares (0..1) kept aside for validation and test, chosen by a stable hash of
            the file name, so that the same picture is on the same side in every run and on every
            machine.
        warn: called with one line for each file that cannot be read, and one for those that are no
            pictures by their names; such files are skipped.
        minimum: pictures to train on, at least.
        memory: GB of decoded pictures to keep; those beyond are decoded when they are drawn.
        leave_out: a folder whose pictures do not count, where it lies in one of the others: that of
            the run, which writes some.

    Attributes:
        train, validation, test: sequences of ``(3, H, W)`` uint8 tensors.

    Raises:
        InputError: if the folders hold fewer pictures to train on.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        short_side: int = 256,
        held_out: float = 0.0,
        warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
        test: float = 0.0,
        minimum: int = 1,
        memory: float = float("inf"),
        leave_out: Path | None = None,
    ) -> None:
        folders = paths_of(folders, "folders")
        for what, share in (("held_out", held_out), ("test", test)):
            check_share(what, share)
        if not memory >= 0:
            raise InputError(f"memory is {memory}: must be 0 GB or more")
        self.train, self.validation, self.test = (_Pool(short_side, warn) for _ in range(3))
        self._unreadable, left = 0, memory * 1e9
        found: list[Path] = []
        for folder in folders:
            found += _without(list_pictures(folder, recursive=True), folder, leave_out)
            name_others(folder, warn, leave_out)
        for path in found:
            share = place_of(path)
            aside = self.validation if share < held_out else self.test
            pool = aside if share < held_out + test else self.train
            if left <= 0:
                pool.items.append(path)
                continue
            try:
                picture = decode(path, short_side)
            except InputError as error:
                warn(f"skipped: {error}")
                self._unreadable += 1
                continue
            pool.items.append(picture)
            left -= picture.numel()
        if len(self.train) < max(minimum, 1):
            listed = ", ".join(map(str, folders))
            few = f"only {len(self.train)}" if self.train else "no"
            needed = f" ({minimum} are needed)" if self.train else ""
            raise InputError(
                f"{listed}: {few} pictures to train on{needed}; name a folder of JPEG or PNG files"
            )

    @property
    def skipped(self) -> int:
        """Files that could not be read, so far."""
        pools = (self.train, self.validation, self.test)
        return self._unreadable + sum(len(pool.broken) for pool in pools)

    def crop(self, size: int, rng: torch.Generator, held_out: bool = False) -> Tensor:
        """One random crop at several scales, see :func:`random_crop`."""
        pool = self.validation if held_out else self.train
        return random_crop(pool[_below(len(pool), rng)], size, rng)


def random_crop(
    picture: Tensor,
    size: int,
    rng: torch.Generator,
    scales: bool = True,
    flips: bool = True,
    close: float = 0.0,
) -> Tensor:
    """One random crop of ``(3, H, W)`` uint8 as ``(3, size, size)`` float32 in 0..1.

    With ``scales`` the window is between ``size`` and the picture's short side, then reduced to
    ``size``, so a network meets textures at several scales. With ``flips`` it is mirrored half of
    the time. A share ``close`` has windows of a half to an eighth of ``size``, enlarged.
    """
    height, width = picture.shape[-2:]
    most = min(height, width)
    side = min(size, most)
    if close and torch.rand((), generator=rng) < close:
        side = max(size // 8 + _below(size // 2 - size // 8 + 1, rng), 1)
    elif scales and most > size:
        side += _below(most - size + 1, rng)
    top, left = _below(height - side + 1, rng), _below(width - side + 1, rng)
    window = picture[:, top : top + side, left : left + side].float() / 255
    if flips and _below(2, rng):
        window = window.flip(-1)
    if side == size:
        return window
    small = F.interpolate(window[None], (size, size), mode="bilinear", antialias=True)
    return small[0].clamp(0, 1)


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

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(seed_of(self.seed, self.split, index))
        content = self._crop(self.photos, rng)
        return content, content if self.paintings is None else self._crop(self.paintings, rng)

    def _crop(self, pictures: PictureSet, rng: torch.Generator) -> Tensor:
        pool: Sequence[Tensor] = getattr(pictures, self.split) or pictures.train
        picture = pool[_below(len(pool), rng)]
        config = self.config
        return random_crop(picture, config.size, rng, config.scales, config.flips, config.close)


class Stream:
    """Batches of pairs from a step on, without end, prepared in advance; measures the waiting.

    Threads prepare them: they share the decoded pictures, start at once on every system, and what
    takes time (decoding, cutting, resizing) is done outside of Python's lock.

    Args:
        pairs: see :class:`Pairs`.
        batch: pairs in a step, over all processes.
        start: the step to begin with.
        rank, world: this process and how many there are; each has its share of every batch.
        pin: into memory that a GPU can fetch by itself.

    Each batch is contents and styles ``(batch / world, 3, size, size)`` in 0..1.
    """

    def __init__(
        self,
        pairs: Pairs,
        batch: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        pin: bool = False,
    ) -> None:
        self.pairs, self.start, self.pin = pairs, start, pin
        self.batch, self.share, self.rank = batch, batch // world, rank
        self.workers = min(pairs.config.workers, _cores())
        self._begun, self._waited = 0.0, 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self._in_advance() if self.workers else map(self._batch, count(self.start))
        while True:
            before = perf_counter()
            batch = next(batches)
            if self._begun:
                self._waited += perf_counter() - before
            else:
                self._begun = perf_counter()  # the start of the workers does not count
            yield batch

    @property
    def waiting(self) -> float:
        """Share (0..1) of the time since the first batch that was spent waiting for batches."""
        return self._waited / max(perf_counter() - self._begun, 1e-9) if self._begun else 0.0

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        first = step * self.batch + self.rank * self.share
        samples = [self.pairs[index] for index in range(first, first + self.share)]
        contents, styles = (torch.stack(each) for each in zip(*samples, strict=True))
        return (contents.pin_memory(), styles.pin_memory()) if self.pin else (contents, styles)

    def _in_advance(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batches, two for each worker ahead."""
        with one_thread_each(self.workers) as pool:
            steps = count(self.start)
            ahead = deque(pool.submit(self._batch, next(steps)) for _ in range(2 * self.workers))
            try:
                while True:
                    ahead.append(pool.submit(self._batch, next(steps)))
                    yield ahead.popleft().result()
            finally:
                for batch in ahead:
                    batch.cancel()


@contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch computes with that thread alone.

    Each would otherwise start as many more as there are cores.
    """
    own = torch.get_num_threads()
    met = Barrier(workers + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        met.wait()

    pool = ThreadPoolExecutor(workers, "impasto-data")
    try:
        for _ in range(workers):
            pool.submit(begin)
        met.wait()
        torch.set_num_threads(own)  # torch takes the latest for all threads to come
        yield pool
    finally:
        met.abort()  # of those that still wait, where the start was cut short
        pool.shutdown(wait=True, cancel_futures=True)


def name_others(folder: Path, warn: Callable[[str], None], leave_out: Path | None = None) -> None:
    """Say in a line which files in and below ``folder`` are no pictures by their names.

    Hidden ones are passed over without a word.
    """
    others: list[Path] = []
    seen: set[str] = set()
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # No link is followed in a circle.
        below[:] = [] if real in seen else sorted(name for name in below if name[0] != ".")
        if real not in seen:
            seen.add(real)
            others += (Path(place, name) for name in sorted(files) if name[0] != ".")
    others = [path for path in others if path.suffix.lower() not in SUFFIXES]
    others = _without(others, folder, leave_out)
    if others:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in others)
        counted = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(KINDS))
        counted += ", ..." if len(kinds) > KINDS else ""
        names = ", ".join(str(path.relative_to(folder)) for path in others[:NAMED])
        names += ", ..." if len(others) > NAMED else ""
        what = "file that is no picture" if len(others) == 1 else "files that are no pictures"
        line = f"{folder}: skipped {len(others)} {what} ({counted}): {names}"
        warn("".join(c if c.isprintable() else "?" for c in line))


def check_run_apart(run: Path, folders: Iterable[Path]) -> None:
    """Raise InputError if the folder of a run, which draws pictures, is one of ``folders``."""
    for folder in folders:
        if same_file(run, folder):
            raise InputError(
                f"{run}: is a folder of pictures to learn, and the run would write among them; "
                "choose another --run"
            )


def _without(paths: list[Path], folder: Path, leave_out: Path | None) -> list[Path]:
    """Those that are not in ``leave_out``, if that lies in ``folder``."""
    if leave_out is None or not within(leave_out, folder):
        return paths
    return [path for path in paths if not within(path, leave_out)]


def place_of(path: Path) -> float:
    """Where a picture stands in 0..1 by a hash of its name: the same in every run and everywhere.

    Those below a share are kept aside.
    """
    return int(sha256(path.name.encode()).hexdigest()[:8], 16) / 2**32


def seed_of(*what: object) -> int:
    """A seed, 0..2^63 - 1, that depends on ``what`` alone, on every machine."""
    return int.from_bytes(sha256(repr(what).encode()).digest()[:8], "big") >> 1


def decode(path: Path, short_side: int) -> Tensor:
    """A picture ``(3, H, W)`` uint8 of that short side."""
    rgb = read(path_of(path, "path"), size=short_side).rgb
    small = resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))
    return (small * 255).round().to(torch.uint8)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _below(limit: int, rng: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=rng))
