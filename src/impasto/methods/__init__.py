"""All methods of style transfer, by name, with one interface.

:func:`load` returns a method that is ready to use. Its module is imported only then, because it
needs torch; names, titles and options are known without it, see :mod:`impasto.methods.records`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, overload

from ..options import check_known, renamed, renames_of
from ..watch import OnStep, Step, Stopped
from .base import Method
from .records import DEFAULT, METHODS, MethodRecord, record_of, resolved

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from ..styles import Style
    from . import keywords as kw
    from .gatys import Gatys

__all__ = [
    "DEFAULT",
    "METHODS",
    "Method",
    "MethodRecord",
    "OnStep",
    "Step",
    "Stopped",
    "check_options",
    "load",
    "options_of",
    "record_of",
    "resolved",
]


def list_methods() -> dict[str, str]:
    """Names of the methods, each with a description of one line: ``impasto.methods()``."""
    return {name: METHODS[name].title for name in sorted(METHODS)}


class _Methods(ModuleType):
    """This package, which lists the methods when it is called: ``impasto.methods()``.

    A function ``methods`` in :mod:`impasto` would hide the package, or be hidden by it as soon as
    anything imports it.
    """

    def __call__(self) -> dict[str, str]:
        return list_methods()


sys.modules[__name__].__class__ = _Methods


# Of a name that only the run knows, type checkers do not know the options.
@overload
def load(method: kw.GhiasiName = ..., **options: Unpack[kw.GhiasiKeywords]) -> Method[Style]: ...
@overload
def load(method: kw.GatysName, **options: Unpack[kw.GatysKeywords]) -> Gatys: ...
@overload
def load(method: kw.AdaINName, **options: Unpack[kw.AdaINKeywords]) -> Method[Style]: ...
@overload
def load(method: kw.ArtFlowName, **options: Unpack[kw.ArtFlowKeywords]) -> Method[Style]: ...
@overload
def load(method: kw.StyleFlowName, **options: Unpack[kw.StyleFlowKeywords]) -> Method[Style]: ...
@overload
def load(method: kw.WCTName, **options: Unpack[kw.WCTKeywords]) -> Method[Style]: ...
@overload
def load(method: kw.JohnsonName, **options: Unpack[kw.JohnsonKeywords]) -> Method[Tensor]: ...
@overload
def load(method: str, **options: Unpack[kw.DeviceKeywords]) -> Method[object]: ...
def load(method: str = DEFAULT, **options: object) -> object:
    """Load a method by name, ready to prepare styles and render pictures.

    Args:
        method: one of ``impasto.methods()``, or a variant or preset, such as
            ``johnson-bottleneck`` or ``gatys-report3``, whose options others override.
        options: options of that method, such as ``backbone`` or ``iterations``; `impasto stylize
            --method METHOD --help` lists them all.

    Raises:
        InputError: for an unknown method or option, or a value out of range.
        DeviceError: for a device that is missing.
        DownloadError: for weights that cannot be downloaded.

    Example:
        >>> gatys = load("gatys", iterations=20, device="cpu", precision="float32")
        >>> import torch
        >>> style = gatys.prepare([torch.rand(3, 48, 64)])
        >>> gatys(torch.rand(3, 40, 50), style).shape
        torch.Size([3, 40, 50])
    """
    record, chosen = resolved(method)
    options = renamed(options, renames_of(record.Options))
    check_options(f"method {method}", record, options)
    module, _, class_name = record.place.partition(":")
    loaded: object = getattr(import_module(f".{module}", __name__), class_name)(
        **{**chosen, **options}
    )
    return loaded


def options_of(method: str) -> list[str]:
    """The options that a method has. Raises InputError for an unknown method."""
    return list(record_of(method).Options.declared())


def check_options(
    who: str,
    declared: MethodRecord | Collection[str],
    options: Iterable[str],
) -> None:
    """Raise InputError for an unknown option.

    Args:
        who: the method or command that the message names.
        declared: a method, or the names of the declared options.
        options: names of the options to check.
    """
    names = declared.Options.declared() if isinstance(declared, MethodRecord) else declared

    def elsewhere(option: str) -> str:
        others = [name for name in sorted(METHODS) if option in options_of(name)]
        return f": method {' or '.join(others)} has" if others else ""

    check_known(who, names, options, elsewhere=elsewhere)
