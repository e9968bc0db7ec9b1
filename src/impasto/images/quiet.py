"""Libraries kept from speaking: no warning or log line of theirs reaches a terminal."""

import ctypes
import ctypes.util
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

_lock = threading.Lock()
_users = 0
_undo: list[tuple[Any, str, Any]] = []
_filters: Any = None


@contextmanager
def quiet() -> Iterator[None]:
    """Meanwhile Pillow warns and logs nothing, and has no limit of pixels: ours decides.

    All that is the process's, not the thread's, so the first that comes in changes it and the last
    that goes out puts it back; threads do not wait for each other.
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


def _begin() -> None:
    global _filters
    _filters = warnings.catch_warnings()
    _filters.__enter__()
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)(\.|$)")
    logger = logging.getLogger("PIL")
    _set(logger, "handlers", [logging.NullHandler()])
    _set(logger, "propagate", False)
    _set(Image, "MAX_IMAGE_PIXELS", None)
    set_handler = _libtiff()
    if set_handler:
        _undo.append((set_handler, "", set_handler(None)))


def _set(thing: Any, name: str, value: object) -> None:
    _undo.append((thing, name, getattr(thing, name)))
    setattr(thing, name, value)


def _end() -> None:
    global _filters
    while _undo:
        thing, name, value = _undo.pop()
        if name:
            setattr(thing, name, value)
        else:
            thing(value)
    if _filters is not None:
        _filters.__exit__(None, None, None)
    _filters = None


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
