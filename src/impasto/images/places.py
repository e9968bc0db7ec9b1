"""Paths of pictures: names, folders, links, and the limits of formats."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import features

from .. import files
from ..errors import DiskError, InputError
from ..files import check_name, disk_fault, is_device, named, reason_of, shown

WRITERS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".pjpeg": "JPEG",
    ".pjp": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}
HEIF_SUFFIXES = (".heic", ".heif", ".hif")

SUFFIXES = (*WRITERS, *HEIF_SUFFIXES, ".apng", ".mpo")
"""The suffixes, in lower case, of the formats that `read` supports."""

KEEPS_ALPHA = {"PNG", "WEBP", "AVIF", "TIFF"}
DEPTHS = {"PNG": (8, 16), "TIFF": (8, 16)}  # the others: 8 bits only
_SIDES = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "AVIF": 32768}
_AREAS = {"AVIF": 16384 * 16384}  # the limit of AVIF decoders
_BYTES = {"TIFF": 2**32 - 2**24, "BMP": 2**32 - 2**12}  # leaves room for headers


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """`path` opened for reading. Raises InputError unless it is a regular file with content."""
    label = shown(named(path))
    if files.WINDOWS and is_device(os.path.basename(os.fspath(path))):
        raise InputError(f"{label}: is a device of Windows; give a picture file")
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size:  # opening a pipe would block
            return open(path, "rb")
    except (OSError, ValueError) as fault:
        raise disk_fault(
            fault,
            f"{label}: cannot open it ({reason_of(fault)}); check the path and its permissions",
        ) from fault
    kinds = {stat.S_IFREG: "is empty", stat.S_IFDIR: "is a folder"}
    fault_name = kinds.get(stat.S_IFMT(status.st_mode), "is no regular file")
    raise InputError(f"{label}: {fault_name}; give a picture file")


def list_pictures(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """The files in `folder` with one of `SUFFIXES`, sorted, without hidden ones.

    recursive: include subfolders, except hidden ones. Links to folders are followed; no folder is
    visited twice, whatever the paths to it.

    Raises InputError if the folder cannot be read.
    """
    named(folder)
    visited: set[str] = set()
    return sorted(_pictures(Path(folder), recursive, visited))


def _pictures(folder: Path, recursive: bool, visited: set[str]) -> Iterator[Path]:
    visited.add(os.path.realpath(folder))
    try:
        entries = sorted(path for path in folder.iterdir() if path.name[0] != ".")
        folders = [path for path in entries if recursive and path.is_dir()]
        files = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
    except (OSError, ValueError) as fault:
        raise disk_fault(
            fault,
            f"{shown(folder)}: cannot list it ({reason_of(fault)}); give a folder of pictures",
        ) from fault
    yield from files
    # Folders before links to folders, so that each picture is listed by its direct path.
    for path in sorted(folders, key=lambda path: path.is_symlink()):
        if os.path.realpath(path) not in visited:
            yield from _pictures(path, recursive, visited)


def check_output(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    *,
    alpha: bool = False,
    depth: int = 8,
) -> Path:
    """`path` as a Path, if `write` can write a picture there. Writes and creates nothing.

    size: (height, width) of the picture, or None if unknown; the format must support it.
    alpha: whether the picture has an alpha channel.
    depth: bits per channel.

    Raises InputError if the suffix names no writable format, if the format cannot hold the picture,
    or as `check_place` does.
    """
    check_name(named(path))
    path = Path(path)
    label = shown(path)
    check_format(kind_of(path.suffix, label), label, size, alpha, depth)
    return check_place(path)


def check_place(path: Path) -> Path:
    """`path`, if a file can be written there. Writes and creates nothing.

    Raises InputError if the path is a folder, or if the name is invalid on Windows and
    the system is Windows; DiskError if its folder can neither be written to nor created.
    """
    check_name(path)
    label = shown(path)
    try:
        is_folder = path.is_dir()
        folder = next((parent for parent in path.parents if parent.exists()), path.parent)
    except (OSError, ValueError) as fault:
        message = f"{label}: no usable path ({reason_of(fault)}); give another"
        raise disk_fault(fault, message) from fault
    if is_folder:
        raise InputError(f"{label}: is a folder; give the name of a file")
    if not folder.is_dir():
        raise InputError(f"{label}: {shown(folder)} is a file, not a folder; give another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiskError(f"{label}: cannot write in the folder {shown(folder)}; give another path")
    if len(os.fsencode(path.name)) > 255:  # the limit of all common file systems
        raise InputError(f"{label}: the name is too long; give another")
    return path


def kind_of(suffix: str, label: str) -> str:
    """The format of a suffix or of a format's name."""
    if not suffix:
        raise InputError(f"{label}: has no ending; give {label}.png, or {label}/ for a folder")
    kind = suffix.upper()
    if kind not in WRITERS.values():
        kind = WRITERS.get(f".{suffix.lower().removeprefix('.')}", "")
    if not kind:
        suffixes = " ".join(WRITERS)
        raise InputError(f"{label}: cannot write the format {suffix!r}; use one of {suffixes}")
    return kind


def check_format(
    kind: str, label: str, size: tuple[int, int] | None, alpha: bool, depth: int
) -> None:
    """Raise InputError if the format `kind` cannot hold such a picture."""
    if depth not in (8, 16) or isinstance(depth, bool):
        raise InputError(f"depth is {depth!r}: must be 8 or 16 bits per channel", option="depth")
    if depth not in DEPTHS.get(kind, (8,)):
        raise InputError(f"{label}: {kind} holds no {depth} bits per channel; choose .png or .tif")
    if kind == "AVIF":
        check_avif(f"{label}: writing AVIF")
    if size is None:
        return
    height, width = size
    channels = 4 if alpha and kind in KEEPS_ALPHA else 3
    longest, area = _SIDES.get(kind, 2**31 - 1), height * width
    limit = ""
    if max(height, width) > longest:
        limit = f"{longest} pixels a side"
    elif area > _AREAS.get(kind, area):
        limit = f"{_AREAS[kind]} pixels in all"
    elif area * channels * depth // 8 > _BYTES.get(kind, 2**63):
        limit = "4 GiB"
    if limit:
        raise InputError(
            f"{label}: {kind} holds at most {limit} and the picture has {width}x{height}; "
            "choose .png, or a smaller size"
        )


def check_quality(quality: object) -> None:
    """Raise InputError for a quality that is no whole number from 1 to 100."""
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise InputError(
            f"quality is {quality!r}: must be a whole number, 1 to 100", option="quality"
        )


def check_avif(action: str) -> None:
    """Raise InputError, with the remedy, if this Pillow lacks AVIF; `action` begins the message."""
    if "avif" not in features.modules or not features.check("avif"):
        raise InputError(f"{action} needs a Pillow that was built with it; pip install -U pillow")
