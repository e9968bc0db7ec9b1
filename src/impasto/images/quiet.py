"""Libraries kept from speaking: no warning of theirs reaches a terminal."""

import ctypes
import ctypes.util
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import PIL
from PIL import Image

_lock = threading.Lock()
_large = threading.RLock()
_users = 0
_undo: list[Callable[[], object]] = []


@contextmanager
def quiet() -> Iterator[None]:
    """Meanwhile Pillow does not warn, and libtiff does not print.

    Both are the process's, not the thread's, so the first that comes in changes it and the last
    that goes out takes just that back: what others set meanwhile stays.
    """
    global _users
    with _lock:
        if _users == 0:
            _begin()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _end()


@contextmanager
def unlimited(pixels: float = math.inf) -> Iterator[None]:
    """Meanwhile Pillow has no limit of pixels, for one picture above it at a time: ours decides."""
    if pixels < math.inf and pixels <= (Image.MAX_IMAGE_PIXELS or math.inf):
        yield
        return
    with _large:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _begin() -> None:
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)(\.|$)")
    _undo.append(partial(_drop, warnings.filters[0]))
    set_handler = _libtiff()
    if set_handler:
        _undo.append(partial(set_handler, set_handler(None)))


def _drop(entry: Any) -> None:
    with suppress(ValueError):  # the host may have dropped it, with all others
        cast("list[Any]", warnings.filters).remove(entry)


def _end() -> None:
    while _undo:
        _undo.pop()()


@lru_cache(maxsize=1)
def _libtiff() -> Any:
    """`TIFFSetErrorHandler` of the libtiff that Pillow has loaded, which prints by itself.

    None where it is not to be found, as it is part of Pillow's own library on Windows.
    """
    home = Path(PIL.__file__).parent
    bundled = [*home.parent.glob("pillow.libs/libtiff[-.]*"), *home.glob(".dylibs/libtiff[-.]*")]
    for name in map(str, bundled) if bundled else [ctypes.util.find_library("tiff")]:
        with suppress(OSError, AttributeError):
            if name:
                set_handler = ctypes.CDLL(name).TIFFSetErrorHandler
                set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
                return set_handler
    return None
