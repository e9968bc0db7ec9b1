"""Tensors in files: one way to read them, one to write them, one to look at a header.

A ``.safetensors`` (and a ``.style``, which is one) holds tensors by name and a header of texts, and
nothing that could run. A ``.pt``, ``.pth`` or ``.ckpt`` is a pickle: torch unpickles tensors only
(``weights_only``), but before 2.10 a file made for it could run code all the same (CVE-2026-24747),
so there it is refused.

What impasto writes says in its header what it is (``kind``, or a model's ``method``), how it is
laid out (``format``), and whose features or weights it goes with (a :func:`digest`).
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .device import check_process
from .errors import InputError
from .files import AnyPath, disk_fault, named, reason_of, save, shown

__all__ = [
    "FORMAT",
    "PICKLES",
    "bytes_of",
    "check_pickle",
    "digest",
    "load_tensors",
    "read_header",
    "save_tensors",
]

FORMAT = 2  # the latest layout of what impasto writes that this version reads
PICKLES = (".pt", ".pth", ".ckpt")
SAFE = (".safetensors", ".style")
DTYPES: Mapping[torch.dtype, str] = {  # what safetensors calls them, in its order
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}


def load_tensors(
    path: AnyPath, *, any_name: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file, on the CPU, and its header (only .safetensors has any).

    Args:
        path: ``.safetensors``, or ``.pt``, ``.pth`` or ``.ckpt`` with a flat state dict of tensors,
            which may lie under the key ``state_dict`` or ``model``. Other pickled objects are
            refused, not run; below torch 2.10 all pickles are.
        any_name: a .safetensors, whatever its name ends in.

    Raises:
        InputError: if it is no such file, a pickle and torch is too old, or a file of a later
            impasto.
    """
    named(path)
    path = Path(path)
    label, suffix = shown(path), SAFE[0] if any_name else path.suffix.lower()
    check_process()
    _check_readable(path)
    if suffix not in (*SAFE, *PICKLES):
        raise InputError(f"{label} is no file of weights: give a .safetensors, .pt or .pth file")
    if suffix in PICKLES:
        check_pickle(path)
    loaded: object
    header: dict[str, str] = {}
    try:
        if suffix in SAFE:
            # safetensors below 0.7 would take the default device, which is the host's to set.
            with safe_open(path, framework="pt") as stored, torch.device("cpu"):
                header = dict(stored.metadata() or {})
                # Copies, for Windows lets nobody replace a file that tensors are mapped from.
                names = stored.keys()
                loaded = {name: stored.get_tensor(name).clone() for name in names}
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken or hostile file can raise anything
        if isinstance(error, UnpicklingError) or "TorchScript" in str(error):
            raise InputError(
                f"{label} is damaged or holds other objects than tensors, which are never loaded: "
                "give a file with nothing but a state dict"
            ) from error
        raise InputError(f"{label} is damaged or cut off: download or copy it again") from error
    _check_format(header, label)
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{label} holds no state dict: save a dict of names and tensors")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            key = " ".join(repr(name).split())[:80]
            raise InputError(f"{label} holds {key} that is no tensor: save a flat state dict")
    return {name: value.detach() for name, value in loaded.items()}, header


def read_header(path: AnyPath) -> dict[str, str]:
    """The header of a ``.safetensors`` or ``.style`` alone; empty of any other file, or of none."""
    try:
        with safe_open(path, framework="np") as stored:
            return dict(stored.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def save_tensors(path: AnyPath, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a .safetensors file; ``path`` is replaced whole or left as it was.

    The same tensors and header give the same bytes. Tensors are written one by one, so that no more
    than one of them is in memory twice.

    Raises:
        DiskError: if it cannot be written.
        InputError: if its name is invalid.
    """
    named(path)
    save(path, partial(_write, tensors, header))


def _write(tensors: Mapping[str, Tensor], header: Mapping[str, str], file: BinaryIO) -> None:
    """The layout of safetensors, with its order of tensors: large types first, for alignment."""
    ranks = list(DTYPES)
    names = sorted(tensors, key=lambda name: (-ranks.index(tensors[name].dtype), name))
    entries: dict[str, object] = {"__metadata__": dict(sorted(header.items()))}
    end = 0
    for name in names:
        tensor, begin = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(bytes_of(tensors[name]))


def bytes_of(tensor: Tensor) -> memoryview:
    """The numbers of a tensor, row by row; not copied, if that is how they are in memory."""
    numbers = tensor.detach().cpu().contiguous().flatten()
    return numbers.view(torch.uint8).numpy().data if len(numbers) else memoryview(b"")


def digest(
    tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype = torch.float32, start: str = ""
) -> str:
    """Twelve hex digits that stand for tensors and their names.

    Args:
        tensors: name and tensor; another order gives another digest.
        dtype: that they are compared in: what differs less is the same.
        start: what else it stands for.
    """
    sha = hashlib.sha256(start.encode())
    for name, tensor in tensors:
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().to(dtype).contiguous().numpy().tobytes())
    return sha.hexdigest()[:12]


def check_pickle(path: Path) -> None:
    """Raise InputError if ``path`` is a pickle and this torch could run code that is in it."""
    if path.suffix.lower() in PICKLES and not _unpickles_safely():
        raise InputError(
            f"{shown(path)} is a pickle, which can run code in torch {torch.__version__} "
            "(CVE-2026-24747): install torch 2.10 or newer, or give the weights as .safetensors"
        )


def _unpickles_safely() -> bool:
    """Whether this torch unpickles tensors alone: from 2.10 on, but for its early builds."""
    found = re.match(r"(\d+)\.(\d+)[\d.]*(a|b|rc|dev)?", torch.__version__)
    return found is not None and (int(found[1]), int(found[2]), not found[3]) >= (2, 10, True)


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{shown(path)} is a folder: give the file of weights in it")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise disk_fault(
            error, f"cannot read {shown(path)} ({reason_of(error)}): check the path"
        ) from error
    if empty:
        raise InputError(f"{shown(path)} is empty: download or copy it again")


def _check_format(header: Mapping[str, str], label: str) -> None:
    """Of a file that is not impasto's, ``format`` may be any word."""
    stated = header.get("format", "")
    if stated.isdecimal() and int(stated) > FORMAT:
        raise InputError(f"{label}: written by a later impasto (format {stated}): update impasto")
