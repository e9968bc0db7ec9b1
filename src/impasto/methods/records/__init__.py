"""The records of all methods: title, options and bundled models, known without importing torch.

A method's implementation is imported only when it is loaded; its record says where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ...options import hint_of
from . import adain, artflow, gatys, ghiasi, johnson, styleflow, wct
from .base import MethodRecord, Preset

__all__ = ["DEFAULT", "METHODS", "MethodRecord", "Preset", "record_of", "resolved"]

DEFAULT = "ghiasi"
# In the order in which a style is stored for them: StyleFlow comes before AdaIN, because both use
# the same encoder and StyleFlow measures more layers.
METHODS: dict[str, MethodRecord] = {
    module.RECORD.name: module.RECORD
    for module in (styleflow, adain, wct, ghiasi, gatys, artflow, johnson)
}


def record_of(method: str) -> MethodRecord:
    """The record of a method, by its name, or that of a variant or preset.

    Raises InputError for an unknown name.
    """
    return resolved(method)[0]


def resolved(method: str) -> tuple[MethodRecord, Mapping[str, Any]]:
    """A method's record, and the options that the name stands for: none if it is the method's own.

    Raises:
        InputError: for an unknown name.

    Example:
        >>> record, options = resolved("johnson-bottleneck")
        >>> record.name, options
        ('johnson', {'network': 'bottleneck'})
    """
    if not isinstance(method, str):
        raise InputError(f"method: a {type(method).__name__} where a name belongs")
    names: dict[str, tuple[MethodRecord, Mapping[str, Any]]] = {}
    for record in METHODS.values():
        names |= {name: (record, options) for name, options in record.named().items()}
    if method not in names:
        raise InputError(
            f"method {method!r} is unknown{hint_of(method, sorted(METHODS), names)}",
            option="method",
        )
    record, options = names[method]
    return record, {} if method == record.name else options
