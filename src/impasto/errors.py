"""The error for invalid input, the exception for an interrupted run, and checks of numbers."""

import math
from numbers import Integral, Real

__all__ = [
    "RUNTIME",
    "InputError",
    "Interrupted",
    "check_finite",
    "check_scale",
    "check_share",
    "check_strength",
    "check_whole",
    "lacks_memory",
    "lacks_runtime",
]

RUNTIME = (
    "torch cannot be loaded, because the Microsoft Visual C++ Redistributable is missing: install "
    "vc_redist.x64.exe from https://aka.ms/vs/17/release/vc_redist.x64.exe, then try again"
)


class InputError(ValueError):
    """Invalid input. The message names, in one line, the input, the fault and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):
    """The run was interrupted after a checkpoint of its last step. Holds the number of steps."""


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
    """Raise InputError unless ``value`` is a finite number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InputError(f"{name} is {value!r}: must be a number")
    if not math.isfinite(value):
        raise InputError(f"{name} is {value}: must be a finite number")


def check_whole(name: str, value: int, least: int = 1) -> None:
    """Raise InputError unless ``value`` is a whole number, ``least`` or more."""
    check_finite(name, value)
    if not isinstance(value, Integral):
        raise InputError(f"{name} is {value}: must be a whole number")
    if value < least:
        raise InputError(f"{name} is {value}: must be {least} or more")


def check_strength(value: float) -> None:
    """Raise InputError unless ``value`` is a strength, 0 to 100; results far above 1 are noise."""
    check_finite("strength", value)
    if not 0 <= value <= 100:
        raise InputError(f"strength is {value}: must be 0 or more, and 100 at most")


def check_scale(value: float) -> None:
    """Raise InputError unless ``value`` is a scale of styles, above 0 and at most 100."""
    check_finite("style-scale", value)
    if not 0 < value <= 100:
        raise InputError(f"style-scale is {value}: must be above 0, and 100 at most")


def check_share(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is within 0..1."""
    check_finite(name, value)
    if not 0 <= value <= 1:
        raise InputError(f"{name} = {value}: must be a share, 0..1")
