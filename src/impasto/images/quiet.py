"""Suppression of the warnings that imaging libraries print."""

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
    """A context in which Pillow does not warn, and libtiff does not print.

    Both settings are global to the process, not per thread: the first user changes them and the
    last one undoes only that, so that changes by other code stay.
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
    """A context without Pillow's limit of pixels, which impasto checks itself.

    Only one picture above the limit is decoded at a time.
    """
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
    with suppress(ValueError):  # other code may have reset the filters
        cast("list[Any]", warnings.filters).remove(entry)


def _end() -> None:
    while _undo:
        _undo.pop()()


@lru_cache(maxsize=1)
def _libtiff() -> Any:
    """`TIFFSetErrorHandler` of the libtiff that Pillow has loaded, which prints errors itself.

    None if it is not found; on Windows it is linked into Pillow's own library.
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
