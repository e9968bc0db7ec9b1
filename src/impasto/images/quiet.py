"""Libraries kept from speaking: no warning or log line of theirs reaches a terminal."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

_lock = threading.Lock()
_users = 0
_undo: list[tuple[object, str, object]] = []
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


def _set(thing: object, name: str, value: object) -> None:
    _undo.append((thing, name, getattr(thing, name)))
    setattr(thing, name, value)


def _end() -> None:
    global _filters
    while _undo:
        thing, name, value = _undo.pop()
        setattr(thing, name, value)
    if _filters is not None:
        _filters.__exit__(None, None, None)
    _filters = None
