"""Every method behind one face, by name."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Collection, Iterable
from types import ModuleType
from typing import Any

from ..errors import InputError
from .adain import AdaIN
from .artflow import ArtFlow
from .base import Method, OnStep, Step
from .gatys import Gatys
from .ghiasi import Ghiasi
from .johnson import Johnson
from .styleflow import StyleFlow
from .wct import WCT

__all__ = [
    "DEFAULT",
    "METHODS",
    "STORED",
    "Method",
    "OnStep",
    "Step",
    "check_options",
    "load",
    "methods",
    "options_of",
]

METHODS: dict[str, type[Method]] = {
    "adain": AdaIN,
    "artflow": ArtFlow,
    "gatys": Gatys,
    "ghiasi": Ghiasi,
    "johnson": Johnson,
    "styleflow": StyleFlow,
    "wct": WCT,
}
DEFAULT = "ghiasi"
# Methods that take any painting, so that a style can be stored for them; each with the options of
# its bundled networks that see a painting in different ways. StyleFlow comes before AdaIN, which
# sees less by the same encoder.
STORED: dict[str, tuple[dict[str, Any], ...]] = {
    "styleflow": ({},),
    "adain": ({},),
    "wct": ({},),
    "ghiasi": ({},),
    "gatys": ({},),
    "artflow": ({}, {"operator": "rbmad"}),
}


def methods() -> dict[str, str]:
    """Names of the methods, each with what it is in a line."""
    return {name: (cls.__doc__ or "").strip().split("\n")[0] for name, cls in METHODS.items()}


def load(method: str = DEFAULT, **options: Any) -> Method:
    """A method by name, ready to prepare styles and render pictures.

    Args:
        method: one of :func:`methods`.
        options: of that method, such as ``backbone`` or ``iterations``; see its class.

    Raises:
        InputError: for an unknown method or option, or a value out of range.

    Example:
        >>> gatys = load("gatys", iterations=20, device="cpu", precision="float32")
        >>> import torch
        >>> style = gatys.prepare([torch.rand(3, 48, 64)])
        >>> gatys(torch.rand(3, 40, 50), style).shape
        torch.Size([3, 40, 50])
    """
    check_options(f"method {method}", options_of(method), options)
    return METHODS[method](**options)


def options_of(method: str) -> list[str]:
    """The options that a method has. Raises InputError for an unknown method."""
    if not isinstance(method, str):
        raise InputError(f"method: a {type(method).__name__} where a name belongs")
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown{_hint(method, METHODS)}")
    return list(inspect.signature(METHODS[method]).parameters)


def check_options(
    who: str,
    known: Collection[str],
    given: Iterable[str],
    spelled: Callable[[str], str] = repr,
) -> None:
    """Raise InputError for an option that is not known.

    Args:
        who: does not know it, for the message.
        known, given: names of options.
        spelled: how the message writes such a name.
    """
    for option in given:
        if option not in known:
            others = [name for name in METHODS if option in options_of(name)]
            hint = f": method {' or '.join(others)} has" if others else _hint(option, known)
            raise InputError(f"{who} has no option {spelled(option)}{hint}")


class _Room(ModuleType):
    """``impasto.methods`` is this package and, called, the list of methods."""

    def __call__(self) -> dict[str, str]:
        return methods()


sys.modules[__name__].__class__ = _Room


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else f": use one of {', '.join(known)}"
