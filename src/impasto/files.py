"""Identity and validity of paths, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from .errors import DiskError, ImpastoError, InputError

__all__ = [
    "PARTS",
    "check_apart",
    "check_name",
    "disk_fault",
    "files_among",
    "folded",
    "home",
    "identity",
    "is_device",
    "named",
    "part_name",
    "path_of",
    "paths_of",
    "reason_of",
    "remove_parts",
    "replacing",
    "same_file",
    "save",
    "scratch",
    "shown",
    "unfit",
    "within",
]

AnyPath = str | os.PathLike[str]
WINDOWS: bool = sys.platform == "win32"
LONGEST = 259  # characters of a path on Windows, unless long paths are enabled
_PORTS = {f"{port}{number}" for port in ("COM", "LPT") for number in "123456789\u00b9\u00b2\u00b3"}
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *_PORTS}


def shown(path: object) -> str:
    """``path`` for a message: on one line, without control characters."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def reason_of(fault: BaseException) -> str:
    """The message of ``fault`` in one line; for a missing file the same on every system."""
    if isinstance(fault, FileNotFoundError):
        return os.strerror(errno.ENOENT)
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return " ".join(text.split())


def disk_fault(fault: BaseException, message: str) -> ImpastoError:
    """The error for a file that could not be read or written, which is not there or is refused.

    A name that leads to no such file is invalid input; a full disk, or a missing permission, is a
    fault of the disk.
    """
    wrong = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
    wrong |= {errno.EINVAL, errno.ELOOP}
    is_disk = isinstance(fault, OSError) and fault.errno not in wrong
    return DiskError(message) if is_disk else InputError(message)


def path_of(value: Any, label: str) -> Path:
    """``value`` as a Path. Raises InputError, which names ``label``, unless it is str or Path."""
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{label}: give a path, not {type(value).__name__}")
    return Path(value)


def paths_of(values: Any, label: str) -> list[Path]:
    """A list of paths. Raises InputError, which names ``label``, for anything else."""
    if isinstance(values, (str, bytes, os.PathLike)) or not isinstance(values, Iterable):
        raise InputError(f"{label}: give a list of paths, not {type(values).__name__}")
    return [path_of(value, label) for value in values]


def named(path: object) -> str:
    """``path`` as text. Raises InputError for an empty name, or a web address."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise InputError(f"a {type(path).__name__} is no path; give the name of a file")
    text = os.fspath(path)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text.strip():
        raise InputError("an empty name; give the name of a picture file")
    address = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])", text)
    if address and not os.path.lexists(text):
        raise InputError(
            f"{shown(f'{address[1]}://{text[address.end() :]}')}: is a web address, and only files "
            "can be read and written; download it, and give the file"
        )
    return text


def same_file(a: AnyPath, b: AnyPath) -> bool:
    """Whether two paths name one file, also by links, or by names that differ only in case.

    If a file does not exist yet, the paths are compared.
    """
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one does not exist yet
        pass
    try:
        first, second = (os.path.realpath(path) for path in (a, b))
    except (OSError, ValueError):
        return False
    if first == second:
        return True
    return first.casefold() == second.casefold() and _ignores_case(first)


def _ignores_case(path: str) -> bool:
    """Whether the file system at ``path`` ignores case in names."""
    existing = next((str(p) for p in (Path(path), *Path(path).parents) if p.exists()), path)
    swapped = existing.swapcase()
    if swapped == existing:
        return os.path.normcase("A") == "a"
    return os.path.exists(swapped) and os.path.samefile(existing, swapped)


def check_apart(outs: AnyPath | Iterable[AnyPath], inputs: Iterable[AnyPath | int | None]) -> None:
    """Raise InputError if an output would overwrite an input.

    Compares the files, not the spelling of their paths. A file that does not exist yet overwrites
    nothing.

    Args:
        outs: one path or several.
        inputs: paths, or descriptors of open files; None is ignored.
    """
    by_identity = {identity(path): path for path in inputs if path is not None}
    for out in [outs] if isinstance(outs, (str, os.PathLike)) else outs:
        out_identity = identity(out)
        if out_identity is None or out_identity not in by_identity:
            continue
        overwritten = by_identity[out_identity]
        name, other = shown(out), shown(overwritten)
        same_name = name == other or isinstance(overwritten, int)
        target = "a picture that is read" if same_name else f"{other}, which is read"
        raise InputError(f"{name}: would overwrite {target}; give another name")


def identity(path: AnyPath | int) -> tuple[int, int] | None:
    """Device and inode, the same for all names of a file; None if it does not exist."""
    try:
        real = path if isinstance(path, int) else os.path.realpath(path)
        status = os.stat(real)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def within(path: AnyPath, folder: AnyPath) -> bool:
    """Whether ``path`` lies in ``folder`` or below it, regardless of spelling."""
    try:
        return any(same_file(parent, folder) for parent in Path(os.path.realpath(path)).parents)
    except (OSError, ValueError):
        return False


def folded(path: AnyPath) -> str:
    """A key that is equal for names that some file system treats as the same."""
    return unicodedata.normalize("NFC", os.path.normpath(path)).casefold()


def is_device(name: str) -> bool:
    """Whether Windows treats a file name as one of its devices, such as ``nul.png``."""
    return name.partition(".")[0].partition(":")[0].rstrip(" ").upper() in _DEVICES


def unfit(path: AnyPath, windows: bool, longest: int | None = LONGEST) -> str:
    """What is wrong with the name of an output file, as text; empty if it is valid.

    Args:
        path: path of the file.
        windows: whether to apply the rules of Windows; other systems accept all names.
        longest: most characters of the whole path; None for no limit.
    """
    if not windows:
        return ""
    parts = PureWindowsPath(path)
    for part in parts.parts[bool(parts.anchor) :]:
        wrong = next((c for c in part if c in '<>:"|?*' or ord(c) < 32), "")
        if is_device(part):
            return f"Windows reserves the name {part!r} for a device"
        if wrong:
            return f"Windows allows no {wrong!r} in a name"
        if part != ".." and part[-1] in ". ":
            return f"Windows allows no dot or blank at the end of a name, as in {part!r}"
    whole = Path(os.path.abspath(path))
    # The file is written under a temporary name first.
    longer = str(whole.parent / max(whole.name, part_name(), key=len))
    length = len(longer.encode("utf-16-le", "surrogatepass")) // 2
    prefixed = os.fspath(path).startswith("\\\\?\\")  # such a path has no limit
    if longest is not None and length > longest and not prefixed:
        return (
            f"the whole path has {length} characters, and Windows allows {longest} unless long "
            "paths are enabled"
        )
    return ""


def check_name(path: AnyPath) -> None:
    """Raise InputError if the name of a file is invalid on this system."""
    fault = unfit(path, WINDOWS, None if _takes_long_paths() else LONGEST)
    if fault:
        raise InputError(f"{shown(path)}: {fault}; give another")


def _takes_long_paths() -> bool:
    """Whether long paths are enabled in this Windows."""
    if sys.platform != "win32":
        return False
    import winreg

    key_name = r"SYSTEM\CurrentControlSet\Control\FileSystem"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key_name) as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def home() -> Path:
    """The cache folder: ``$IMPASTO_HOME``, or the system's folder for caches.

    Raises InputError if the user has no home folder, as in a container without a user name.
    """
    try:
        folder = Path(os.environ.get("IMPASTO_HOME") or _cache_folder())
        return folder.expanduser().absolute()
    except RuntimeError as error:
        raise InputError(
            "no home folder for downloaded weights: set IMPASTO_HOME to a folder"
        ) from error


def _cache_folder() -> str:
    """The system's folder for caches, also without platformdirs, which training does not need."""
    try:
        from platformdirs import user_cache_dir
    except ImportError:
        if WINDOWS:
            local = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
            return os.path.join(local, "impasto", "impasto", "Cache")
        if sys.platform == "darwin":
            return "~/Library/Caches/impasto"
        return os.path.join(os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache", "impasto")
    return user_cache_dir("impasto")


PARTS = ".impasto-*.part"


def part_name(name: str = "") -> str:
    """An unpredictable name for the file ``name`` while it is written; hidden in listings."""
    return PARTS.replace("*", f"{_key(name)}-{secrets.token_hex(8)}")


def remove_parts(path: AnyPath) -> None:
    """Remove what processes left that were killed while they wrote ``path``."""
    target = Path(os.path.realpath(path))
    with suppress(OSError):
        for part in target.parent.glob(PARTS.replace("*", f"{_key(target.name)}-*")):
            part.unlink(missing_ok=True)


def _key(name: str) -> str:
    return f"{zlib.crc32(os.fsencode(name)):08x}"


@contextmanager
def replacing(path: AnyPath) -> Iterator[BinaryIO]:
    """A new binary file that replaces ``path`` on success and is deleted on failure.

    Other processes see the old file or the new one, never a part. The target of a link is replaced;
    the link stays. Missing folders are created.

    Raises InputError for an invalid name, see :func:`check_name`.
    """
    check_name(path)
    target = Path(os.path.realpath(path))
    part = target.with_name(part_name(target.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def scratch(near: AnyPath) -> Iterator[BinaryIO]:
    """A new binary file in the folder of ``near``, which is deleted at the end.

    Missing folders are created.
    """
    target = Path(os.path.realpath(near))
    part = target.with_name(part_name())
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "xb") as file:
            yield file
    finally:
        part.unlink(missing_ok=True)


def save(path: AnyPath, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all, and create missing folders.

    Args:
        path: path of the file.
        content: bytes; text, written as UTF-8; or a function that writes to the open file.

    Raises:
        DiskError: if the file cannot be written.
        InputError: if its name is invalid.
    """
    try:
        with replacing(path) as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as fault:
        raise disk_fault(
            fault,
            f"{shown(path)}: cannot write it ({reason_of(fault)}); free some space or give another "
            "path",
        ) from fault


def files_among(sources: Iterable[object]) -> tuple[Path, ...]:
    """Absolute paths of those ``sources`` that are files."""
    paths = [Path(source) for source in sources if isinstance(source, (str, os.PathLike))]
    return tuple(path.absolute() for path in paths if os.path.isfile(path))
