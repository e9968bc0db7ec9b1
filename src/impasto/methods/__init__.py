"""Every method behind one face, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from importlib import import_module
from typing import Any

from ..options import check_known
from .base import Method, OnStep, Step
from .records import DEFAULT, METHODS, MethodRecord, record_of

__all__ = [
    "DEFAULT",
    "METHODS",
    "Method",
    "MethodRecord",
    "OnStep",
    "Step",
    "check_options",
    "list_methods",
    "load",
    "options_of",
    "record_of",
]


def list_methods() -> dict[str, str]:
    """Names of the methods, each with what it is in a line."""
    return {name: METHODS[name].title for name in sorted(METHODS)}


def load(method: str = DEFAULT, **options: Any) -> Method:
    """A method by name, ready to prepare styles and render pictures.

    Args:
        method: one of :func:`list_methods`.
        options: of that method, such as ``backbone`` or ``iterations``; `impasto stylize --method
            METHOD --help` tells them all.

    Raises:
        InputError: for an unknown method or option, or a value out of range.

    Example:
        >>> gatys = load("gatys", iterations=20, device="cpu", precision="float32")
        >>> import torch
        >>> style = gatys.prepare([torch.rand(3, 48, 64)])
        >>> gatys(torch.rand(3, 40, 50), style).shape
        torch.Size([3, 40, 50])
    """
    record = record_of(method)
    check_options(f"method {method}", record, options)
    module, _, name = record.place.partition(":")
    made: Method = getattr(import_module(f".{module}", __name__), name)(**options)
    return made


def options_of(method: str) -> list[str]:
    """The options that a method has. Raises InputError for an unknown method."""
    return list(record_of(method).Options.declared())


def check_options(
    who: str,
    known: MethodRecord | Collection[str],
    given: Iterable[str],
    spelled: Callable[[str], str] = repr,
) -> None:
    """Raise InputError for an option that is not known.

    Args:
        who: does not know it, for the message.
        known: a method, or names of options.
        given: names of options.
        spelled: how the message writes such a name.
    """
    names = known.Options.declared() if isinstance(known, MethodRecord) else known
    gone = {name: words for each in METHODS.values() for name, words in each.Options.gone.items()}

    def elsewhere(option: str) -> str:
        others = [name for name in sorted(METHODS) if option in options_of(name)]
        return f": method {' or '.join(others)} has" if others else ""

    check_known(who, names, given, spelled, gone=gone, elsewhere=elsewhere)
