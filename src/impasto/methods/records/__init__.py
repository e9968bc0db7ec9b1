"""The records of all methods: title, options and bundled models, known without importing torch.

A method's implementation is imported only when it is loaded; its record says where it is.
"""

from __future__ import annotations

from ...errors import InputError
from ...options import hint_of
from . import adain, artflow, gatys, ghiasi, johnson, styleflow, wct
from .base import MethodRecord

__all__ = ["DEFAULT", "METHODS", "MethodRecord", "record_of"]

DEFAULT = "ghiasi"
# In the order in which a style is stored for them: StyleFlow comes before AdaIN, because both use
# the same encoder and StyleFlow measures more layers.
METHODS: dict[str, MethodRecord] = {
    module.RECORD.name: module.RECORD
    for module in (styleflow, adain, wct, ghiasi, gatys, artflow, johnson)
}


def record_of(method: str) -> MethodRecord:
    """The record of a method. Raises InputError for an unknown one."""
    if not isinstance(method, str):
        raise InputError(f"method: a {type(method).__name__} where a name belongs")
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown{hint_of(method, METHODS)}")
    return METHODS[method]
