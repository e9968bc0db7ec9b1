"""Checkpoints of an optimisation, from which interrupted work goes on to the same picture.

Work of more than a minute keeps its state in a file, once a minute: the picture, the best one, the
optimiser's memory, the state of the generator of random numbers, the losses so far, and the plan of
tiles. An iteration depends on nothing else, so that on a CPU the picture is the same bit for bit,
if as many threads compute.

The file is a .safetensors, whatever its name. Its header says what the picture is made of; a
checkpoint of anything else is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from .. import __version__
from ..errors import ImpastoError, InputError
from ..files import AnyPath, check_apart, path_of, reason_of, remove_parts, shown
from ..tensors import bytes_of, digest, load_tensors, read_header, save_tensors
from ..watch import Stopped, Watch

if TYPE_CHECKING:
    from .level import Progress

__all__ = [
    "Checkpoint",
    "checkpoint_of",
    "checkpoints",
    "identified",
    "is_checkpoint",
    "moved",
    "names_of",
]

EVERY = 60.0  # seconds from the start to the first checkpoint, and from each to the next
KIND = "impasto checkpoint"
SUFFIX = ".checkpoint"
LONGEST = 240  # bytes of a name, of which file systems take 255, with what is added to it
FAULTS = (ImpastoError, LookupError, TypeError, ValueError)  # of a file that is damaged


class Checkpoint:
    """The checkpoint of one optimisation.

    Args:
        watch: names the file (:attr:`Watch.checkpoint`; None keeps nothing). Work that goes on has
            the losses and the time that the file holds.
        inputs: returns all that the picture depends on, by name, as plain values.

    Attributes:
        size: number of the size that is worked on, from 1; 0 before the first.
        tiles: how each size is computed: the side of its tiles, None in one piece; None before it
            is planned.
        stopped: why the size before ended.
    """

    def __init__(self, watch: Watch, inputs: Callable[[], Mapping[str, object]]) -> None:
        self.size = 0
        self.tiles: list[int | None] | None = None
        self.stopped: Stopped | None = None
        self._watch, self._path, self._inputs = watch, watch.checkpoint, inputs
        self._state: Mapping[str, Any] | None = None
        self._begin = time.monotonic()  # of the whole work, as if it had not been interrupted
        self._next = self._begin + EVERY
        self._warned = False
        if self._path is not None:
            remove_parts(self._path)
            if os.path.lexists(self._path):
                self._read()

    @property
    def begin(self) -> float:
        """When the work began, by ``time.monotonic``, had it not been interrupted."""
        return self._begin

    @property
    def interrupted(self) -> bool:
        """Whether there is a state to go on from."""
        return self._state is not None

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self._path is not None and time.monotonic() >= self._next

    def taken(self) -> Mapping[str, Any] | None:
        """The state to go on from, once; its tensors are on the CPU."""
        state, self._state = self._state, None
        return state

    def offer(
        self, progress: Progress, done: int, state: Callable[[], Mapping[str, object]]
    ) -> None:
        """Write a checkpoint if it is time.

        A disk that is full ends nothing: a warning says so.

        Args:
            progress: of the current size.
            done: number of its iterations that are done.
            state: returns what the next iteration depends on: tensors, numbers, and lists and
                mappings of them.
        """
        if self._path is None or not self.due:
            return
        losses = torch.tensor(self._watch.losses, dtype=torch.float64, device="cpu")
        kept = {
            "size": self.size,
            "tiles": self.tiles,
            "stopped": self.stopped,
            "seconds": time.monotonic() - self._begin,
            "share": progress.share(done),
            "place": f"iteration {progress.done + done} of {progress.planned}, {progress.stage}",
            "losses": losses.reshape(-1, 3),
            "state": {"done": done, **state()},
        }
        tensors: dict[str, Tensor] = {}
        header = {
            "kind": KIND,
            "format": "1",
            "made_of": json.dumps(self._made_of),
            "kept": json.dumps(_without_tensors(kept, "", tensors)),
            "crc32": _checksum(tensors),
        }
        try:
            save_tensors(self._path, tensors, header)
        except ImpastoError as fault:
            if not self._warned:
                warnings.warn(f"{fault}; the work goes on without a checkpoint", stacklevel=2)
            self._warned = True
        self._next = time.monotonic() + EVERY

    def _read(self) -> None:
        """Go on from the file, if it is of this work; a warning says whether."""
        assert self._path is not None
        label = shown(self._path)
        try:
            header = read_header(self._path)
            if header["kind"] != KIND:
                raise KeyError
            made_of = json.loads(header["made_of"])
            names = sorted({*made_of, *self._made_of})
            other = [name for name in names if made_of.get(name) != self._made_of.get(name)]
            if other:
                self._say(f"{label}: begins anew: it is of other work ({', '.join(other)})")
                return
            tensors, _ = load_tensors(self._path, any_name=True)
            if header["crc32"] != _checksum(tensors):
                raise ValueError
            kept = _with_tensors(json.loads(header["kept"]), tensors)
            losses = [(total, content, style) for total, content, style in kept["losses"].tolist()]
            share, seconds, place = kept["share"], kept["seconds"], kept["place"]
            self.size, self.tiles, self.stopped = kept["size"], kept["tiles"], kept["stopped"]
            self._state = kept["state"]
        except FAULTS:
            self._say(f"{label}: begins anew: it is no checkpoint, or damaged")
            return
        self._begin -= seconds
        self._watch.resume(share, seconds, losses)
        self._say(f"{label}: goes on from {place}")

    @cached_property
    def _made_of(self) -> dict[str, object]:
        versions = {"impasto": __version__, "torch": torch.__version__}
        plain: dict[str, object] = json.loads(json.dumps({**versions, **self._inputs()}))
        return plain

    def _say(self, line: str) -> None:
        warnings.warn(line, stacklevel=4)


def is_checkpoint(path: Path | None) -> TypeGuard[Path]:
    """Whether there is a checkpoint, whatever it is of."""
    return path is not None and read_header(path).get("kind") == KIND


def checkpoints(
    path: AnyPath | None, sources: Iterable[Path], *, refined: bool
) -> tuple[Path | None, Path | None]:
    """The files for a method and for its refinement, which may both optimise.

    Args:
        path: of the checkpoint of what comes last; None keeps none.
        sources: files that are read.
        refined: there is a refinement.

    Raises:
        InputError: if a source or another file would be overwritten, or it is no name of a file.
    """
    if path is None:
        return None, None
    first, last = names_of(path)
    check_apart([first, last], sources)
    try:
        exists, is_folder = last.exists(), last.is_dir()
    except OSError as fault:  # its name is too long, for one
        raise InputError(f"{shown(last)}: {reason_of(fault)}; give another name") from fault
    if is_folder:
        raise InputError(f"{shown(last)}: is a folder; give the name of a file")
    # A damaged one, which is made anew, is known by its name alone.
    if exists and last.suffix != SUFFIX and not is_checkpoint(last):
        raise InputError(f"{shown(last)}: is no checkpoint and would be overwritten; name another")
    return (first, last) if refined else (last, None)


def names_of(path: AnyPath) -> tuple[Path, Path]:
    """The names for a method and for its refinement, of which a method alone has the latter.

    Raises:
        InputError: for what is no name of a file.
    """
    last = path_of(path, "checkpoint")
    if not last.name:
        raise InputError("checkpoint: an empty name, or a folder; give the name of a file")
    return last.with_name(f"{last.name}.first"), last


def checkpoint_of(target: Path) -> Path:
    """Where work on an output is kept: beside it."""
    name = f"{target.name}{SUFFIX}"
    if len(os.fsencode(name)) > LONGEST:
        name = f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}{SUFFIX}"
    return target.with_name(name)


def identified(picture: Tensor) -> str:
    """Stands for the pixels of a picture."""
    return digest([("", picture)], start=str(tuple(picture.shape)))


def moved(value: Any, device: torch.device) -> Any:
    """``value``, a tensor or lists and mappings of tensors, on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(each, device) for name, each in value.items()}
    return [moved(each, device) for each in value] if isinstance(value, list) else value


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Of all numbers; at 4 GB a second, hardly longer than to read them."""
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(bytes_of(tensors[name]), checksum)
    return f"{checksum:08x}"


def _without_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON takes it, with names in the place of tensors, which go into ``tensors``."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {
            key: _without_tensors(each, f"{name}.{key}", tensors) for key, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [
            _without_tensors(each, f"{name}.{place}", tensors) for place, each in enumerate(value)
        ]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value of which :func:`_without_tensors` was made; tuples are lists."""
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _with_tensors(each, tensors) for key, each in value.items()}
    return [_with_tensors(each, tensors) for each in value] if isinstance(value, list) else value
