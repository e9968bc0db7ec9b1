"""Pictures to learn from: folders, decoded once where memory allows."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Literal, overload

import torch
from torch import Tensor

from ..errors import InputError, check_share
from ..files import path_of, paths_of, same_file, within
from ..images import SUFFIXES, fit, list_pictures, read, resize
from .crops import below, random_crop
from .threads import cores, in_order

__all__ = [
    "PictureSet",
    "Split",
    "check_run_apart",
    "decode",
    "decoded",
    "name_others",
    "place_of",
]

Split = Literal["train", "validation", "test"]
KINDS, NAMED = 5, 3  # of files that are no pictures: kinds and names that are said


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
        with closing(decoded(found, short_side)) as pictures:
            for path in found:
                share = place_of(path)
                aside = self.validation if share < held_out else self.test
                pool = aside if share < held_out + test else self.train
                if left <= 0:
                    pool.items.append(path)
                    continue
                picture = next(pictures)
                if isinstance(picture, InputError):
                    warn(f"skipped: {picture}")
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
        return random_crop(pool[below(len(pool), rng)], size, rng)


def name_others(folder: Path, warn: Callable[[str], None], leave_out: Path | None = None) -> None:
    """Say in a line which files in and below ``folder`` are no pictures by their names.

    Hidden ones are passed over without a word.
    """
    others: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # No link is followed in a circle.
        folders[:] = [] if real in seen else sorted(name for name in folders if name[0] != ".")
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


def decode(path: Path, short_side: int) -> Tensor:
    """A picture ``(3, H, W)`` uint8 of that short side."""
    rgb = read(path_of(path, "path"), size=short_side).rgb
    small = resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))
    return (small * 255).round().to(torch.uint8)


def decoded(paths: Iterable[Path], short_side: int) -> Generator[Tensor | InputError, None, None]:
    """The pictures of ``paths`` in their order, decoded by as many threads as there are cores.

    Of a file that cannot be read, the error.
    """

    def one(path: Path) -> Tensor | InputError:
        try:
            return decode(path, short_side)
        except InputError as error:
            return error

    return in_order(one, paths, cores())
