"""Training pictures: folders of files, kept in memory as far as it suffices."""

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

from ..errors import ImpastoError, InputError, check_share, spelled
from ..files import path_of, paths_of, same_file, within
from ..images import SUFFIXES, fit, list_pictures, read, resize
from .crops import below, random_crop
from .threads import cores, in_order

__all__ = ["PictureSet", "Split"]

Split = Literal["train", "validation", "test"]
KINDS, NAMED = 5, 3  # suffixes and names that are listed of files that are not pictures


class _Pool(Sequence[Tensor]):
    """Pictures ``(3, H, W)`` uint8, in memory or decoded on access.

    A file that cannot be decoded is replaced by the next one, with one warning.
    """

    def __init__(self, short_side: int, warn: Callable[[str], None]) -> None:
        self.items: list[Tensor | Path] = []
        self.schools: dict[str, list[int]] = {}  # school -> indices of its pictures
        self.broken: set[int] = set()
        self._lock = Lock()
        self.short_side, self.warn = short_side, warn

    def __len__(self) -> int:
        return len(self.items)

    def add(self, item: Tensor | Path, path: Path) -> None:
        """Append the picture of ``path``, decoded or not."""
        self.schools.setdefault(school_of(path), []).append(len(self.items))
        self.items.append(item)

    def draw(self, rng: torch.Generator, balanced: bool = False) -> Tensor:
        """A random picture; ``balanced``: of a random school, see :func:`school_of`."""
        if not balanced:
            return self[below(len(self), rng)]
        indices = self.schools[sorted(self.schools)[below(len(self.schools), rng)]]
        return self[indices[below(len(indices), rng)]]

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
            except ImpastoError as error:
                with self._lock:  # only one of several threads warns
                    is_new = position not in self.broken
                    self.broken.add(position)
                if is_new:
                    self.warn(f"skipped: {error}")
        raise InputError("no picture of the set can be read any more; check its folder")


class PictureSet:
    """The pictures of some folders as 8-bit tensors with a given short side.

    Args:
        folders: searched recursively, see :func:`impasto.images.list_pictures`; pictures of the
            same name in different folders are all used.
        short_side: pixels; pictures are resized to it, not cropped.
        held_out, test: shares (0..1) for validation and test, selected by a stable hash of the file
            name, so that a picture is in the same split in every run and on every machine.
        warn: called with one line for each file that cannot be read, and one line for all files
            whose suffix is not a picture's; such files are skipped.
        minimum: minimum number of training pictures.
        memory: GB of decoded pictures to keep in memory; further ones are decoded on access.
        leave_out: a folder to skip if it lies in one of ``folders``: the folder of the run, which
            contains sample sheets.

    Attributes:
        train, validation, test: sequences of ``(3, H, W)`` uint8 tensors.

    Raises:
        InputError: if the folders hold fewer training pictures than ``minimum``.
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
        for name, share in (("held_out", held_out), ("test", test)):
            check_share(name, share)
        if not memory >= 0:
            raise InputError(f"memory is {memory}: must be 0 GB or more")
        self.train, self.validation, self.test = (_Pool(short_side, warn) for _ in range(3))
        self._unreadable, free_bytes = 0, memory * 1e9
        paths: list[Path] = []
        for folder in folders:
            paths += _without(list_pictures(folder, recursive=True), folder, leave_out)
            name_others(folder, warn, leave_out)
        with closing(decoded(paths, short_side)) as pictures:
            for path in paths:
                place = place_of(path)
                held_out_pool = self.validation if place < held_out else self.test
                pool = held_out_pool if place < held_out + test else self.train
                if free_bytes <= 0:
                    pool.add(path, path)
                    continue
                picture = next(pictures)
                if isinstance(picture, ImpastoError):
                    warn(f"skipped: {picture}")
                    self._unreadable += 1
                    continue
                pool.add(picture, path)
                free_bytes -= picture.numel()
        if len(self.train) < max(minimum, 1):
            names = ", ".join(map(str, folders))
            count = f"only {len(self.train)}" if self.train else "no"
            needed = f" ({minimum} are needed)" if self.train else ""
            raise InputError(
                f"{names}: {count} pictures to train on{needed}; name a folder of JPEG or PNG files"
            )

    @property
    def skipped(self) -> int:
        """Number of files that could not be read so far."""
        pools = (self.train, self.validation, self.test)
        return self._unreadable + sum(len(pool.broken) for pool in pools)

    def crop(self, size: int, rng: torch.Generator, held_out: bool = False) -> Tensor:
        """One random crop at several scales, see :func:`random_crop`."""
        pool = self.validation if held_out else self.train
        return random_crop(pool.draw(rng), size, rng)


def name_others(folder: Path, warn: Callable[[str], None], leave_out: Path | None = None) -> None:
    """Warn in one line of files in and below ``folder`` whose suffix is not a picture's.

    Hidden files are ignored.
    """
    others: list[Path] = []
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # Links may form cycles.
        folders[:] = [] if real in visited else sorted(name for name in folders if name[0] != ".")
        if real not in visited:
            visited.add(real)
            others += (Path(parent, name) for name in sorted(files) if name[0] != ".")
    others = [path for path in others if path.suffix.lower() not in SUFFIXES]
    others = _without(others, folder, leave_out)
    if others:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in others)
        counted = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(KINDS))
        counted += ", ..." if len(kinds) > KINDS else ""
        names = ", ".join(str(path.relative_to(folder)) for path in others[:NAMED])
        names += ", ..." if len(others) > NAMED else ""
        noun = "file that is not a picture" if len(others) == 1 else "files that are not pictures"
        line = f"{folder}: skipped {len(others)} {noun} ({counted}): {names}"
        warn("".join(c if c.isprintable() else "?" for c in line))


def check_run_apart(run: Path, folders: Iterable[Path]) -> None:
    """Raise InputError if the folder of a run, which writes pictures, is one of ``folders``."""
    for folder in folders:
        if same_file(run, folder):
            raise InputError(
                f"{run}: is a folder of training pictures, and the run would write into it; choose "
                f"another {spelled('run')}",
                option="run",
            )


def _without(paths: list[Path], folder: Path, leave_out: Path | None) -> list[Path]:
    """The paths that are not in ``leave_out``, if that lies in ``folder``."""
    if leave_out is None or not within(leave_out, folder):
        return paths
    return [path for path in paths if not within(path, leave_out)]


def school_of(path: Path) -> str:
    """The school of a painting: what precedes the first ``_`` of its name, or else its folder."""
    school, underscore, _ = path.stem.partition("_")
    return school if underscore and school else path.parent.name


def place_of(path: Path) -> float:
    """A number in 0..1 from a hash of the file name, the same in every run and on every machine.

    Pictures with a number below a given share are held out.
    """
    return int(sha256(path.name.encode()).hexdigest()[:8], 16) / 2**32


def decode(path: Path, short_side: int) -> Tensor:
    """A picture ``(3, H, W)`` uint8, resized to ``short_side``."""
    rgb = read(path_of(path, "path"), size=short_side).rgb
    resized = resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))
    return (resized * 255).round().to(torch.uint8)


def decoded(paths: Iterable[Path], short_side: int) -> Generator[Tensor | ImpastoError, None, None]:
    """The pictures of ``paths`` in order, decoded by one thread per core.

    For a file that cannot be read, the error is yielded.
    """

    def decode_or_error(path: Path) -> Tensor | ImpastoError:
        try:
            return decode(path, short_side)
        except ImpastoError as error:
            return error

    return in_order(decode_or_error, paths, cores())
