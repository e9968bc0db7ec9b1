"""Names of an earlier version, which work for one more: each use is told in a line.

An option says its old names where it is declared (``was``), a function by :func:`was`, a command by
:func:`impasto.cli.declared.was`. In files that impasto wrote, old names are read without a word.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from ..errors import InputError, spelled

__all__ = ["Renamed", "renamed", "say_renamed", "was"]

PACKAGE = str(Path(__file__).parent.parent)
Function = TypeVar("Function", bound=Callable[..., Any])


class Renamed(DeprecationWarning):
    """An option was given by the name that it had in an earlier version."""


def renamed(
    values: Mapping[str, Any], names: Mapping[str, str], where: str = "", *, silent: bool = False
) -> dict[str, Any]:
    """``values`` under the names of this version, with a warning for each old name.

    Args:
        values: values by name.
        names: old name -> new name.
        where: the file that the names stand in, for messages; empty for arguments.
        silent: do not warn: the names stand in a file that impasto wrote.

    Raises:
        InputError: for a value under its old name and its new one.

    Example:
        >>> renamed({"kind": "bottleneck"}, {"kind": "network"}, silent=True)
        {'network': 'bottleneck'}
    """
    out: dict[str, Any] = {}
    for name, value in values.items():
        new = names.get(name, name)
        if new != name:
            old_text, text = (f"{where}: {name}", new) if where else (spelled(name), spelled(new))
            if new in values or new in out:
                raise InputError(
                    f"{old_text} is the old name of {text}, which is given too: leave one of them "
                    "out",
                    option=new,
                )
            if not silent:
                say_renamed(old_text, text)
        out[new] = value
    return out


def say_renamed(old: str, new: str) -> None:
    """Warn of an old name, where the caller of impasto used it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{old} is {new} now: the old name goes with the next version", Renamed, stacklevel=level
    )


def was(**names: str) -> Callable[[Function], Function]:
    """A decorator of functions whose keyword arguments have new names: ``was(new="old")``.

    The function has the names in ``renames``, old -> new.
    """
    renames = {old: new for new, old in names.items()}

    def decorate(function: Function) -> Function:
        @wraps(function)
        def wrapped(*args: Any, **keywords: Any) -> Any:
            return function(*args, **renamed(keywords, renames))

        wrapped.renames = renames  # type: ignore[attr-defined]
        return cast("Function", wrapped)

    return decorate
