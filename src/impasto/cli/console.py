"""What the command line says, and how it ends: errors, warnings, and what a terminal can show."""

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

from ..errors import RUNTIME, InputError, lacks_memory, lacks_runtime

__all__ = ["INTERRUPTED", "begin", "ending", "is_own", "own_warnings_alone", "say", "unexpected"]

INTERRUPTED = 130
WINDOWS = os.name == "nt"
say = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def begin() -> None:
    """At the start of commands that compute: what makes the process faster."""
    from ..device import tune

    tune()


def ending(error: BaseException) -> int:
    """Say in a line what ended the work, and give the exit code.

    Errors that a person can mend have exit code 2.
    """
    if isinstance(error, InputError):
        return fail(str(error))
    if isinstance(error, KeyboardInterrupt):
        say.print("impasto: interrupted")
        return INTERRUPTED
    if is_unread(error):
        _close_output()
        return 1
    if lacks_memory(error):
        return fail("out of memory: use a smaller --size, or --device cpu")
    if lacks_runtime(error):
        return fail(RUNTIME)
    if isinstance(error, OSError):
        return fail(f"{error}: check the path and its permissions")
    if sys.flags.dev_mode:
        raise error
    return fail(f"{unexpected(error)}; `python -X dev -m impasto` shows where", 1)


def fail(line: str, code: int = 2) -> int:
    """Say what is wrong; gives ``code``."""
    say.print(f"impasto: {line}", style="red")
    return code


def unexpected(error: BaseException) -> str:
    """A line about a fault that is not the user's."""
    text = " ".join(str(error).split())[:200]
    return f"a fault of impasto's, please report it: {type(error).__name__}: {text}"


def is_unread(error: BaseException) -> bool:
    """Whether who reads the output has seen enough; Windows may call it invalid (cpython#79935)."""
    if WINDOWS and isinstance(error, OSError) and error.errno == errno.EINVAL:
        return error.filename is None
    return isinstance(error, BrokenPipeError)


def _close_output() -> None:
    """So that nothing more is written to a pipe that nobody reads, at the end either."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


def encode_all() -> None:
    """Let a terminal without UTF-8 show what it can."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="impasto")


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for characters that an encoding lacks: letters without accents, or codes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = unicodedata.normalize("NFKD", lacking).encode("ascii", "ignore").decode()
    return plain or lacking.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("impasto", _plainly)


@contextmanager
def own_warnings_alone() -> Iterator[None]:
    """Warnings of impasto's are a line; those of libraries are shown where -W asks for them."""
    asked = bool(sys.warnoptions)  # by PYTHONWARNINGS too
    before, nowhere = warnings.showwarning, logging.NullHandler()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if is_own(filename):
            say.print(f"impasto: {message}")
        elif asked:
            before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    if not asked:
        logging.getLogger().addHandler(nowhere)  # instead of standard error
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    finally:
        warnings.showwarning = before
        logging.getLogger().removeHandler(nowhere)


def is_own(filename: str) -> bool:
    """Whether a file is one of impasto's modules."""
    return Path(filename).is_relative_to(Path(__file__).parent.parent)
