"""Weights of the pretrained networks: which there are, where they are kept, how they are read.

Files of weights are read as tensors alone. A ``.safetensors`` holds nothing that could run. A
``.pt``, ``.pth`` or ``.ckpt`` is a pickle: torch unpickles tensors only (``weights_only``), but
before 2.10 a file made for it could run code all the same (CVE-2026-24747), so there it is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import ssl
import sys
import urllib.request
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO
from urllib.error import HTTPError

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..device import check_process
from ..errors import InputError
from ..files import home, replacing
from ..images.places import named
from ..progress import Bar, in_notebook

__all__ = ["RECORDS", "WeightRecord", "fetch", "find", "home", "load_tensors", "save_tensors"]

PICKLES = (".pt", ".pth", ".ckpt")
TIMEOUT = 30.0  # seconds without a byte from the server
CHUNK = 1 << 16


@dataclass(frozen=True)
class WeightRecord:
    """A file of weights, which is downloaded if it is :attr:`pinned`.

    Attributes:
        name: how people ask for it, such as ``vgg19-caffe``.
        backbone: ``vgg19``, ``vgg16``, ``resnet50`` or ``resnet18``.
        filename: its name in the cache folder.
        address: where it is.
        size: bytes, if known.
        sha256: the digest, or of those that are not downloaded its first hex digits, if known.
        convention: what it expects of its input, ``caffe`` or ``torchvision``.
        licence: of the weights.
        kind: ``imagenet``, or ``robust`` for those trained against adversarial perturbations.
    """

    name: str
    backbone: str
    filename: str
    address: str
    size: int | None
    sha256: str | None
    convention: str
    licence: str
    kind: str = "imagenet"

    @property
    def pinned(self) -> bool:
        """Whether it is known which file the address gives, to the last bit."""
        return bool(re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256 or ""))


def _robust(backbone: str) -> WeightRecord:
    # L2 perturbations up to 3 (Salman et al., "Do Adversarially Robust ImageNet Models Transfer
    # Better?", NeurIPS 2020); paper 5 took Engstrom's, made alike. No checksum is known.
    filename = f"{backbone}_l2_eps3.ckpt"
    address = "https://huggingface.co/madrylab/robust-imagenet-models/resolve/main/" + filename
    licence = "MIT (Salman et al.), trained on ImageNet"
    name = f"{backbone}-robust"
    return WeightRecord(
        name, backbone, filename, address, None, None, "torchvision", licence, "robust"
    )


def _torchvision(backbone: str, size: int, sha256: str) -> WeightRecord:
    filename = f"{backbone}-{sha256[:8]}.pth"
    address = "https://download.pytorch.org/models/" + filename
    licence = "BSD-3-Clause (torchvision), trained on ImageNet"
    name = f"{backbone}-torchvision"
    return WeightRecord(name, backbone, filename, address, size, sha256, "torchvision", licence)


def _caffe(backbone: str, sha256: str) -> WeightRecord:
    # The pixels these expect and their addresses: github.com/jcjohnson/pytorch-vgg. Of the digest,
    # no more is known than the names have.
    filename = f"{backbone}-{sha256}.pth"
    address = "https://web.eecs.umich.edu/~justincj/models/" + filename
    licence = "CC BY 4.0 (Simonyan & Zisserman, Oxford), converted by Justin Johnson"
    return WeightRecord(
        f"{backbone}-caffe", backbone, filename, address, None, sha256, "caffe", licence
    )


RECORDS: dict[str, WeightRecord] = {
    record.name: record
    for record in (
        _caffe("vgg19", "d01eb7cb"),
        _caffe("vgg16", "00b39a1b"),
        _torchvision(
            "vgg19", 574673361, "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44"
        ),
        _torchvision(
            "vgg16", 553433881, "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
        ),
        _torchvision(
            "resnet50",
            102530333,
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        ),
        _torchvision(
            "resnet18", 46830571, "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
        ),
        _robust("resnet50"),
        _robust("resnet18"),
    )
}


def find(record: WeightRecord) -> Path | None:
    """Where the file of ``record`` lies in the cache; None if it does not."""
    path = home() / record.filename
    return path if os.path.isfile(path) else None


class _Failed(Exception):
    """Why a download failed."""


def fetch(record: WeightRecord, *, progress: bool = True) -> Path:
    """The file of ``record``, downloaded into the cache if it is not there yet.

    Args:
        record: one of ``RECORDS``.
        progress: show a bar if standard error is a terminal, or in a notebook.

    Raises:
        InputError: if it can't be had; the cache is then as it was before.
    """
    target = home() / record.filename
    # Said before hundreds of megabytes are downloaded.
    if target.suffix in PICKLES and not _unpickles_safely():
        raise InputError(
            f"no weights {record.name}: {_refusal(target)}, or use --backbone compact, which needs "
            "no download"
        )
    try:
        if find(record):
            size = target.stat().st_size
            if record.size not in (None, size):
                raise _Failed(f"{target} has {size} bytes instead of {record.size}, delete it")
            return target
        if os.path.lexists(target):
            raise _Failed(f"{target} is in the way and is not a file")
        if not record.pinned:
            check = f"check that its SHA-256 begins with {record.sha256}"
            raise _Failed(
                "they are not downloaded, for no whole checksum of them is known ("
                + (check if record.sha256 else "check yourself that you trust the file")
                + ")"
            )
        with replacing(target) as part, open(part, "xb") as file:
            _download(record, file, progress)
    except (_Failed, OSError) as error:
        if isinstance(error, _Failed):
            what = str(error)
        else:
            what = f"cannot write to the cache folder {target.parent} ({_words(error)})"
        raise InputError(
            f"no weights {record.name}: {what}; download {record.address} by hand and put it at "
            f"{target}, or use --backbone compact, which needs no download"
        ) from error
    return target


def _download(record: WeightRecord, file: BinaryIO, progress: bool) -> None:
    """Write what lies at the address into ``file`` and check it; OSError is about ``file``."""
    request = urllib.request.Request(record.address, headers={"User-Agent": "impasto"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        raise _Failed(f"the server answers HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        # Of URLError an exception; but of SSLError a word.
        reason = error if isinstance(error, ssl.SSLError) else getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _Failed(
                f"cannot check the server's certificate ({_words(reason)}): of python.org's Python "
                'for Macs, run "Install Certificates.command" in its folder in Applications; else '
                "pip install certifi, and set SSL_CERT_FILE to what `python -m certifi` prints"
            ) from error
        raise _Failed(f"cannot reach the server ({_words(reason)}): no network?") from error
    with response:
        announced: int | None = response.length
        if record.size and announced is not None and announced != record.size:
            raise _Failed(f"the server has {announced} bytes instead of {record.size}")
        size = record.size or announced
        free = shutil.disk_usage(home()).free
        if size and size > free:
            raise _Failed(f"{size} bytes do not fit on the disk of {home()}, {free} are free")
        digest, done = hashlib.sha256(), 0
        terminal = sys.stderr is not None and sys.stderr.isatty()
        shown = progress and (terminal or in_notebook())
        units: dict[str, Any] = {"unit": "B", "unit_scale": True, "leave": False}
        with Bar(record.name, **units) if shown else nullcontext() as bar:
            while size is None or done <= size:
                why = ""
                try:
                    chunk = response.read(CHUNK)
                except (OSError, HTTPException) as error:
                    chunk, why = b"", f" ({_words(error)})"
                if not chunk and (why or done < (size or 0)):
                    raise _Failed(f"cut off after {done} of {size or 'unknown'} bytes{why}")
                if not chunk:
                    break
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if bar is not None:
                    bar(done, size)
    if size is not None and done > size:
        raise _Failed(f"the server sends more than {size} bytes")
    if digest.hexdigest() != (record.sha256 or "").lower():
        raise _Failed(f"wrong checksum, SHA-256 {digest.hexdigest()} instead of {record.sha256}")


def _unpickles_safely() -> bool:
    """Whether this torch unpickles tensors alone: from 2.10 on, but for its early builds."""
    found = re.match(r"(\d+)\.(\d+)[\d.]*(a|b|rc|dev)?", torch.__version__)
    return found is not None and (int(found[1]), int(found[2]), not found[3]) >= (2, 10, True)


def _refusal(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run code in torch {torch.__version__} (CVE-2026-24747): "
        "install torch 2.10 or newer, or give the weights as .safetensors"
    )


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file, on the CPU, and its metadata (only .safetensors has any).

    Args:
        path: ``.safetensors``, or ``.pt``, ``.pth`` or ``.ckpt`` with a flat state dict of tensors,
            which may lie under the key ``state_dict`` or ``model``. Other pickled objects are
            refused, not run; below torch 2.10 all pickles are.

    Raises:
        InputError: if it is no such file, or a pickle and torch is too old.
    """
    named(path)
    path = Path(path)
    suffix = path.suffix.lower()
    check_process()
    loaded: object
    metadata: dict[str, str] = {}
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: give the file of weights in it")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InputError(f"cannot read {path} ({_words(error)}): check the path") from error
    if empty:
        raise InputError(f"{path} is empty: download or copy it again")
    if suffix not in (".safetensors", ".style", *PICKLES):
        raise InputError(f"{path} is no file of weights: give a .safetensors, .pt or .pth file")
    if suffix in PICKLES and not _unpickles_safely():
        raise InputError(_refusal(path))
    try:
        if suffix in (".safetensors", ".style"):
            # safetensors below 0.7 would take the default device, which is the host's to set.
            with safe_open(path, framework="pt") as stored, torch.device("cpu"):
                metadata = dict(stored.metadata() or {})
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
                f"{path} is damaged or holds other objects than tensors, which are never loaded: "
                "give a file with nothing but a state dict"
            ) from error
        raise InputError(f"{path} is damaged or cut off: download or copy it again") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path} holds no state dict: save a dict of names and tensors")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{path} holds {_words(repr(name))[:80]} that is no tensor: save a flat state dict"
            )
    return {name: value.detach() for name, value in loaded.items()}, metadata


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a .safetensors file; ``path`` is replaced whole or left as it was.

    The same tensors and metadata give the same bytes.

    Raises:
        InputError: if it can't be written.
    """
    named(path)
    path = Path(path)
    own = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    try:
        with replacing(path) as part:
            part.write_bytes(_in_order(save(own, metadata)))
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({_words(error)}): choose another place or free it"
        ) from error


def _in_order(data: bytes) -> bytes:
    """A .safetensors file with its metadata sorted, which safetensors shuffles at every run."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return len(text).to_bytes(8, "little") + text + data[start:]


def _words(error: object) -> str:
    """What went wrong, on one line."""
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split()) or type(error).__name__
