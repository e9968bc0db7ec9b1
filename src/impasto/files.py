"""Which path is which file, which names there can be, and writing whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from .errors import InputError

__all__ = [
    "PARTS",
    "check_apart",
    "check_name",
    "folded",
    "home",
    "identity",
    "is_device",
    "named",
    "part_name",
    "path_of",
    "paths_of",
    "reason_of",
    "replacing",
    "same_file",
    "save",
    "shown",
    "unfit",
    "within",
]

AnyPath = str | os.PathLike[str]
WINDOWS: bool = sys.platform == "win32"
LONGEST = 259  # characters of a path, where Windows is not set to take longer ones
_PORTS = {f"{port}{number}" for port in ("COM", "LPT") for number in "123456789\u00b9\u00b2\u00b3"}
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *_PORTS}


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


def named(path: object) -> str:
    """``path`` as text. Raises InputError for an empty name, or an address of the web."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise InputError(f"a {type(path).__name__} where a path belongs; give the name of a file")
    text = os.fspath(path)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text.strip():
        raise InputError("an empty name; give the name of a picture file")
    address = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])", text)
    if address and not os.path.lexists(text):
        raise InputError(
            f"{shown(f'{address[1]}://{text[address.end() :]}')}: is an address, and pictures, "
            "styles and models are read from files and written to files; download it, give the file"
        )
    return text


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
    read = {identity(path): path for path in inputs if path is not None}
    for out in [outs] if isinstance(outs, (str, os.PathLike)) else outs:
        out_identity = identity(out)
        if out_identity is None or out_identity not in read:
            continue
        name, other = shown(out), shown(read[out_identity])
        same = name == other or isinstance(read[out_identity], int)
        what = "a picture that is read" if same else f"{other}, which is read"
        raise InputError(f"{name}: would overwrite {what}; give another name")


def identity(path: AnyPath | int) -> tuple[int, int] | None:
    """What all names of a file have in common, once missing folders are made; None if none is."""
    try:
        real = path if isinstance(path, int) else os.path.realpath(path)
        status = os.stat(real)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def within(path: AnyPath, folder: AnyPath) -> bool:
    """Whether ``path`` lies in ``folder`` or below it, however the two are spelled."""
    try:
        return any(same_file(parent, folder) for parent in Path(os.path.realpath(path)).parents)
    except (OSError, ValueError):
        return False


def folded(path: AnyPath) -> str:
    """The same for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", os.path.normpath(path)).casefold()


def is_device(name: str) -> bool:
    """Whether Windows takes a name in a folder for one of its devices, as it does ``nul.png``."""
    return name.partition(".")[0].partition(":")[0].rstrip(" ").upper() in _DEVICES


def unfit(path: AnyPath, windows: bool, longest: int | None = LONGEST) -> str:
    """What is wrong with the name of a file to be written, in words; nothing, if nothing is.

    Args:
        path: of the file.
        windows: whether it is for Windows; elsewhere all names will do.
        longest: characters of the whole path; None for any number.
    """
    if not windows:
        return ""
    parts = PureWindowsPath(path)
    for part in parts.parts[bool(parts.anchor) :]:
        wrong = next((c for c in part if c in '<>:"|?*' or ord(c) < 32), "")
        if is_device(part):
            return f"Windows keeps the name {part!r} for a device"
        if wrong:
            return f"Windows allows no {wrong!r} in a name"
        if part != ".." and part[-1] in ". ":
            return f"Windows allows no dot or blank at the end of a name, as in {part!r}"
    whole = Path(os.path.abspath(path))
    # What is written has another name at first.
    room = str(whole.parent / max(whole.name, part_name(), key=len))
    length = len(room.encode("utf-16-le", "surrogatepass")) // 2
    prefixed = os.fspath(path).startswith("\\\\?\\")  # whose length is free
    if longest is not None and length > longest and not prefixed:
        return (
            f"the whole path takes {length} characters, and Windows allows {longest} until it is "
            "set to take long paths"
        )
    return ""


def check_name(path: AnyPath) -> None:
    """Raise InputError if a file of that name cannot be, or could not be used, on this system."""
    fault = unfit(path, WINDOWS, None if _takes_long_paths() else LONGEST)
    if fault:
        raise InputError(f"{shown(path)}: {fault}; give another")


def _takes_long_paths() -> bool:
    """Whether this Windows is set to."""
    if sys.platform != "win32":
        return False
    import winreg

    place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def home() -> Path:
    """The cache folder: ``$IMPASTO_HOME``, or where the system keeps caches.

    Raises InputError where nobody is at home: in a container, say, with a user of no name.
    """
    try:
        folder = Path(os.environ.get("IMPASTO_HOME") or _cache_folder())
        return folder.expanduser().absolute()
    except RuntimeError as error:
        raise InputError(
            "no home folder is known to keep weights in: set IMPASTO_HOME to a folder"
        ) from error


def _cache_folder() -> str:
    """Where the system keeps caches; platformdirs need not be installed to train."""
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


def part_name() -> str:
    """A name, that nobody can foresee, for a file that is being written; hidden, so no picture."""
    return PARTS.replace("*", secrets.token_hex(8))


@contextmanager
def replacing(path: AnyPath) -> Iterator[BinaryIO]:
    """A new file, open to write bytes, which takes the place of ``path`` at the end, or vanishes.

    Others see the old file or the new one, never a part. Of a link, what it points to is replaced,
    and the link stays. Missing folders are made.

    Raises InputError for an invalid name, see :func:`check_name`.
    """
    check_name(path)
    target = Path(os.path.realpath(path))
    part = target.with_name(part_name())
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def save(path: AnyPath, what: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all, its folder too.

    Args:
        path: of the file.
        what: its bytes; text, which becomes UTF-8; or a function that writes them to the open file.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        with replacing(path) as file:
            if callable(what):
                what(file)
            else:
                file.write(what.encode("utf-8") if isinstance(what, str) else what)
    except OSError as fault:
        raise InputError(
            f"{shown(path)}: cannot write it ({reason_of(fault)}); free some space or give another "
            "path"
        ) from fault
