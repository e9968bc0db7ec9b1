"""Which path is which file, how it is named in a message, and writing whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError

__all__ = [
    "check_apart",
    "path_of",
    "paths_of",
    "reason_of",
    "replacing",
    "same_file",
    "save",
    "shown",
]

AnyPath = str | os.PathLike[str]


def shown(path: object) -> str:
    """``path`` for a message: on one line, and without codes for the terminal."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def reason_of(fault: BaseException) -> str:
    """What ``fault`` says, in one line; of a missing file, the same on every system."""
    if isinstance(fault, FileNotFoundError):
        return os.strerror(errno.ENOENT)
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return " ".join(text.split())


def path_of(value: Any, what: str) -> Path:
    """A path given as str or Path. Raises InputError, which names ``what``, for anything else."""
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{what}: give a path, not {type(value).__name__}")
    return Path(value)


def paths_of(values: Any, what: str) -> list[Path]:
    """A list of paths. Raises InputError, which names ``what``, for anything else, one path too."""
    if isinstance(values, (str, bytes, os.PathLike)) or not isinstance(values, Iterable):
        raise InputError(f"{what}: give a list of paths, not {type(values).__name__}")
    return [path_of(value, what) for value in values]


def same_file(a: AnyPath, b: AnyPath) -> bool:
    """Whether two paths are one file: by links of both kinds, and where case does not count.

    Of files that do not exist yet, the paths are compared.
    """
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one is not there: they may still become one
        pass
    try:
        first, second = (os.path.realpath(path) for path in (a, b))
    except (OSError, ValueError):
        return False
    if first == second:
        return True
    same = first.casefold() == second.casefold()
    return same and _ignores_case(first)


def _ignores_case(path: str) -> bool:
    """Whether the file system at ``path`` takes names that differ in case for the same."""
    place = next((str(p) for p in (Path(path), *Path(path).parents) if p.exists()), path)
    other = place.swapcase()
    if other == place:
        return os.path.normcase("A") == "a"
    return os.path.exists(other) and os.path.samefile(place, other)


def check_apart(outs: AnyPath | Iterable[AnyPath], inputs: Iterable[AnyPath | int | None]) -> None:
    """Raise InputError if a file to be written is one of those that are read.

    What counts is the file, not how its path is spelled; what is not there yet overwrites nothing.

    Args:
        outs: one path or several.
        inputs: paths, or descriptors of files that are open; those that are None are passed over.
    """
    read = {_identity(path): path for path in inputs if path is not None}
    for out in [outs] if isinstance(outs, (str, os.PathLike)) else outs:
        identity = _identity(out)
        if identity is None or identity not in read:
            continue
        name, other = shown(out), shown(read[identity])
        same = name == other or isinstance(read[identity], int)
        what = "a picture that is read" if same else f"{other}, which is read"
        raise InputError(f"{name}: would overwrite {what}; give another name")


def _identity(path: AnyPath | int) -> tuple[int, int] | None:
    """Of the file that is there, if there is one, or that would be, once missing folders are."""
    try:
        real = path if isinstance(path, int) else os.path.realpath(path)
        status = os.stat(real)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """A name to write to, which takes the place of ``path`` at the end, or vanishes.

    Others see the old file or the new one, never a part. Of a link, what it points to is replaced,
    and the link stays. Missing folders are made.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".impasto-{secrets.token_hex(8)}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def save(path: AnyPath, what: str | bytes) -> None:
    """Write a file whole or not at all, its folder too; text as UTF-8.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        with replacing(path) as part, open(part, "xb") as file:
            file.write(what.encode("utf-8") if isinstance(what, str) else what)
    except OSError as fault:
        raise InputError(
            f"{shown(path)}: cannot write it ({reason_of(fault)}); free some space or give another "
            "path"
        ) from fault
