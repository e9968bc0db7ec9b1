"""The errors that impasto raises, how their messages name arguments, and checks of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any, ClassVar

__all__ = [
    "RUNTIME",
    "DeviceError",
    "DiskError",
    "DownloadError",
    "ImpastoError",
    "InputError",
    "Interrupted",
    "OutOfMemoryError",
    "check_finite",
    "check_share",
    "check_strength",
    "check_whole",
    "flag_of",
    "lacks_memory",
    "lacks_runtime",
    "out_of_memory",
    "quoted",
    "spelled",
    "typed_names",
]

RUNTIME = (
    "torch cannot be loaded, because the Microsoft Visual C++ Redistributable is missing: install "
    "vc_redist.x64.exe from https://aka.ms/vs/17/release/vc_redist.x64.exe, then try again"
)


class ImpastoError(Exception):
    """What went wrong, in one line: the thing, the fault and the remedy. Its kinds say whose it is.

    The command line prints the line without a traceback and exits with code 2.

    Args:
        message: the line.
        option: name of the argument at fault, as in Python.

    Attributes:
        code: a short name of the kind, which stays the same from version to version.
        option: name of the Python argument at fault, such as ``"style_scale"``; None if it is none,
            or not known.

    Example:
        >>> from impasto import stylize
        >>> try:
        ...     stylize("photo.jpg", "monet", strength=-1)
        ... except ImpastoError as error:
        ...     print(error.code, error.option)
        input strength
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: object, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class InputError(ImpastoError, ValueError):
    """Invalid input: a picture, a file or a value that whoever asked can correct."""

    code = "input"


class OutOfMemoryError(ImpastoError, MemoryError):
    """A picture needs more memory than is free; a smaller one, or later, it may fit."""

    code = "memory"


class DiskError(ImpastoError, OSError):
    """A file cannot be written or read: the disk is full, or a permission is missing."""

    code = "disk"


class DownloadError(ImpastoError, OSError):
    """Weights cannot be downloaded: no network, or the server sends something else."""

    code = "download"


class DeviceError(ImpastoError):
    """A device that is missing, or that this process or this torch cannot use."""

    code = "device"


class Interrupted(ImpastoError):
    """The run was interrupted after a checkpoint of its last step.

    Attributes:
        steps: the number of steps that were done.
    """

    code = "interrupted"

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.steps = steps

    def __str__(self) -> str:
        return f"interrupted after step {self.steps}, with a checkpoint"


_typed: ContextVar[bool] = ContextVar("typed", default=False)


@contextmanager
def typed_names() -> Iterator[None]:
    """A context in which messages name arguments as they are typed: ``--size``, not ``size``."""
    token = _typed.set(True)
    try:
        yield
    finally:
        _typed.reset(token)


def flag_of(name: str) -> str:
    """An option's name as it is typed."""
    return f"--{name.replace('_', '-')}"


class _Spelled(str):
    """The name of an argument as a message writes it.

    Attributes:
        option: its name in Python.
    """

    option: str


def spelled(name: str, value: Any = None, flag: str | None = None) -> str:
    """An argument as the reader of a message writes it.

    Args:
        name: its name in Python.
        value: what to give it, if the message says so; True is a flag without a value, and a word
            in capitals stands for what the reader puts there.
        flag: its name as it is typed, if that is another.

    Example:
        >>> spelled("style_scale"), spelled("size", 640), spelled("backbone", "compact")
        ('style_scale', 'size=640', "backbone='compact'")
        >>> with typed_names():
        ...     spelled("style_scale"), spelled("size", 640), spelled("backbone", "compact")
        ('--style-scale', '--size 640', '--backbone compact')
    """
    if _typed.get():
        text = flag_of(flag or name)
        text = text if value is None or value is True else f"{text} {_typed_value(value)}"
    else:
        shown = value if isinstance(value, str) and value.isupper() else repr(value)
        text = name if value is None else f"{name}={shown}"
    out = _Spelled(text)
    out.option = name
    return out


def _typed_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_typed_value(each)}" for key, each in value.items())
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def quoted(name: str) -> str:
    """As :func:`spelled`, for a name that stands alone: in quotes in Python."""
    return flag_of(name) if _typed.get() else repr(name)


def out_of_memory() -> OutOfMemoryError:
    """The error for memory that ran out while a picture was rendered."""
    return OutOfMemoryError(
        f"out of memory: use a smaller {spelled('size')}, or {spelled('device', 'cpu')}"
    )


def lacks_memory(fault: BaseException) -> bool:
    """Whether ``fault`` means that memory ran out; the messages of libraries differ."""
    if isinstance(fault, MemoryError):
        return True
    phrases = (
        *("out of memory", "not enough memory", "allocate memory", "unable to allocate"),
        *("alloc_failed", "invalid buffer size"),  # cuDNN, cuBLAS; Apple's GPUs
        "paging file is too small",  # Windows
    )
    return any(phrase in str(fault).lower() for phrase in phrases)


def lacks_runtime(fault: BaseException) -> bool:
    """Whether a DLL was missing, or failed to initialise, when torch was imported.

    Windows reports error 126 or 1114; Python's importer reports only a message.
    """
    failed = isinstance(fault, ImportError) and "DLL load failed" in str(fault)
    return failed or getattr(fault, "winerror", None) in (126, 1114)


def check_finite(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is a finite number; ``name`` may be :func:`spelled`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise _wrong(name, f" is {value!r}: must be a number")
    if not math.isfinite(value):
        raise _wrong(name, f" is {value}: must be a finite number")


def check_whole(name: str, value: int, least: int = 1) -> None:
    """Raise InputError unless ``value`` is a whole number, ``least`` or more."""
    check_finite(name, value)
    if not isinstance(value, Integral):
        raise _wrong(name, f" is {value}: must be a whole number")
    if value < least:
        raise _wrong(name, f" is {value}: must be {least} or more")


def check_strength(value: float) -> None:
    """Raise InputError unless ``value`` is a strength, 0 to 100; results far above 1 are noise."""
    name = spelled("strength")
    check_finite(name, value)
    if not 0 <= value <= 100:
        raise _wrong(name, f" is {value}: must be 0 or more, and 100 at most")


def check_share(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is within 0..1."""
    check_finite(name, value)
    if not 0 <= value <= 1:
        raise _wrong(name, f" = {value}: must be a share, 0..1")


def _wrong(name: str, text: str) -> InputError:
    return InputError(f"{name}{text}", option=getattr(name, "option", None))
