"""Messages and exit codes of the command line: errors, warnings, and terminal encodings."""

from __future__ import annotations

import codecs
import errno
import logging
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console

from ..errors import RUNTIME, ImpastoError, lacks_memory, lacks_runtime, out_of_memory
from ..options import Renamed

__all__ = ["INTERRUPTED", "begin", "ending", "is_own", "own_warnings_alone", "say", "unexpected"]

INTERRUPTED = 130
WINDOWS = os.name == "nt"
say = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def begin() -> None:
    """Tune the process for speed, at the start of commands that compute."""
    from ..device import tune

    tune()


def ending(error: BaseException) -> int:
    """Print one line about the error that ended the command; returns the exit code.

    Errors that the user can fix have exit code 2.
    """
    if isinstance(error, ImpastoError):
        return fail(str(error))
    if isinstance(error, KeyboardInterrupt):
        say.print("impasto: interrupted")
        return INTERRUPTED
    if is_unread(error):
        _close_output()
        return 1
    if lacks_memory(error):
        return fail(str(out_of_memory()))
    if lacks_runtime(error):
        return fail(RUNTIME)
    if isinstance(error, OSError):
        return fail(f"{error}: check the path and its permissions")
    if sys.flags.dev_mode:
        raise error
    return fail(f"{unexpected(error)}; `python -X dev -m impasto` shows where", 1)


def fail(line: str, code: int = 2) -> int:
    """Print an error line; returns ``code``."""
    say.print(f"impasto: {line}", style="red")
    return code


def unexpected(error: BaseException) -> str:
    """A line about an error that the user did not cause."""
    text = " ".join(str(error).split())[:200]
    return f"a bug in impasto, please report it: {type(error).__name__}: {text}"


def is_unread(error: BaseException) -> bool:
    """Whether the reader closed the pipe; on Windows it may be EINVAL (cpython#79935)."""
    if WINDOWS and isinstance(error, OSError) and error.errno == errno.EINVAL:
        return error.filename is None
    return isinstance(error, BrokenPipeError)


def _close_output() -> None:
    """Redirect standard output, so that its flush at exit does not write to the closed pipe."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


def encode_all() -> None:
    """Replace characters that a terminal without UTF-8 cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="impasto")


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replacement of characters that an encoding lacks: letters without accents, or escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    plain = unicodedata.normalize("NFKD", characters).encode("ascii", "ignore").decode()
    return plain or characters.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("impasto", _plainly)


@contextmanager
def own_warnings_alone() -> Iterator[None]:
    """Show impasto's warnings as lines, and those of libraries only if -W requests them."""
    requested = bool(sys.warnoptions)  # also set by PYTHONWARNINGS
    original, null_handler = warnings.showwarning, logging.NullHandler()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, Renamed):
            say.print(f"impasto: note: {message}")
        elif is_own(filename):
            say.print(f"impasto: {message}")
        elif requested:
            original(message, category, filename, lineno, file, line)

    if not requested:
        logging.getLogger().addHandler(null_handler)  # else logging writes to standard error
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", Renamed)
            warnings.showwarning = show
            yield
    finally:
        logging.getLogger().removeHandler(null_handler)


def is_own(filename: str) -> bool:
    """Whether a file is one of impasto's modules."""
    return Path(filename).is_relative_to(Path(__file__).parent.parent)
