"""Files of weights, in the cache or downloaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import sys
import urllib.request
from contextlib import nullcontext
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError

from ..errors import DiskError, DownloadError, InputError, spelled
from ..files import home, reason_of, replacing
from ..progress import Bar, in_notebook
from ..tensors import check_pickle
from .records import WeightRecord

__all__ = ["fetch", "find"]

TIMEOUT = 30.0  # seconds without a byte from the server
CHUNK = 1 << 16


def find(record: WeightRecord) -> Path | None:
    """Path of the file of ``record`` in the cache; None if it is not there."""
    path = home() / record.filename
    return path if os.path.isfile(path) else None


class _Failed(Exception):
    """The reason why a download failed."""


class _Full(OSError):
    """The reason why a file does not fit."""


def fetch(record: WeightRecord, *, progress: bool = True) -> Path:
    """The file of ``record``, downloaded into the cache if necessary.

    Args:
        record: one of :data:`impasto.backbones.records.WEIGHTS`.
        progress: show a bar if standard error is a terminal, or in a notebook.

    Raises:
        DownloadError: if it cannot be downloaded; the cache is then unchanged.
        DiskError: if the cache cannot be written, or is full.
        InputError: if this torch cannot read such a file safely.
    """
    target = home() / record.filename
    # Checked before hundreds of megabytes are downloaded.
    try:
        check_pickle(target)
    except InputError as refusal:
        raise InputError(
            f"no weights {record.name}: {refusal}, or use {spelled('backbone', 'compact')}, which "
            "needs no download"
        ) from None
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
                "they are not downloaded, because their complete checksum is unknown ("
                + (check if record.sha256 else "check that you trust the file")
                + ")"
            )
        with replacing(target) as file:
            _download(record, file, progress)
    except (_Failed, OSError) as error:
        if isinstance(error, (_Failed, _Full)):
            reason = str(error)
        else:
            reason = f"cannot write to the cache folder {target.parent} ({reason_of(error)})"
        kind = DownloadError if isinstance(error, _Failed) else DiskError
        raise kind(
            f"no weights {record.name}: {reason}; download {record.address} by hand and put it at "
            f"{target}, or use {spelled('backbone', 'compact')}, which needs no download",
            option="backbone",
        ) from error
    return target


def _download(record: WeightRecord, file: BinaryIO, progress: bool) -> None:
    """Download into ``file`` and check it; an OSError is a fault of ``file``."""
    request = urllib.request.Request(record.address, headers={"User-Agent": "impasto"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        raise _Failed(f"the server answers HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        # The reason of a URLError is an exception, that of an SSLError a word.
        reason = error if isinstance(error, ssl.SSLError) else getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _Failed(
                f"cannot check the server's certificate ({reason_of(reason)}): with python.org's "
                'Python for macOS, run "Install Certificates.command" in its folder in '
                "Applications; else pip install certifi, and set SSL_CERT_FILE to the path that "
                "`python -m certifi` prints"
            ) from error
        raise _Failed(f"cannot reach the server ({reason_of(reason)}): no network?") from error
    with response:
        announced: int | None = response.length
        if record.size and announced is not None and announced != record.size:
            raise _Failed(f"the server has {announced} bytes instead of {record.size}")
        size = record.size or announced
        free = shutil.disk_usage(home()).free
        if size and size > free:
            raise _Full(f"{size} bytes do not fit on the disk of {home()}, {free} are free")
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
                    chunk, why = b"", f" ({reason_of(error)})"
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
