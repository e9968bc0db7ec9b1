"""What all trainings share: how they say how far they are, and files written whole or not at all.

Experiments write by it too.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..images import check_apart

__all__ = ["OnProgress", "check_outputs", "path_of", "paths_of", "replacing", "save", "save_state"]

OnProgress = Callable[[int, int, float], bool | None]
"""Called after every step with the steps done, those planned, and the latest loss (nan as long as
there is none); True ends the run, with a checkpoint."""


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


def check_outputs(outs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Raise InputError if one of the files to be written is one of those that are read.

    What counts is the file, not how its path is spelled.
    """
    read = [path for path in inputs if path is not None]
    known = {_identity(path) for path in read} - {None}
    for out in outs:
        if _identity(out) in known:
            check_apart(out, read)


def _identity(path: Path) -> tuple[int, int] | None:
    """Of the file that is there, if there is one."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def save(path: Path, what: str | bytes) -> None:
    """Write a file whole or not at all, its folder too; text as UTF-8.

    Raises:
        InputError: if it cannot be written.
    """
    data = what.encode("utf-8") if isinstance(what, str) else what
    with replacing(path) as part:
        part.write_bytes(data)


def save_state(path: Path, state: Any) -> None:
    """As :func:`save`, what ``torch.load`` reads: a checkpoint."""
    with replacing(path) as part:
        torch.save(state, part)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to: it takes its place at the end, or vanishes."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError) as fault:  # torch's own writer raises the latter
        if isinstance(fault, RuntimeError) and "write" not in str(fault):
            raise
        reason = getattr(fault, "strerror", None) or str(fault)
        raise InputError(
            f"{path}: cannot write it ({' '.join(reason.split())}); free some space or choose "
            "another place"
        ) from fault
