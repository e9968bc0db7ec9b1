"""impasto renders a photograph in the manner of a painting.

>>> import impasto
>>> result = impasto.stylize("photo.jpg", "painting.jpg")  # doctest: +SKIP
>>> result.save("out.png")  # doctest: +SKIP
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backbones import load_backbone
    from .device import tune
    from .errors import (
        DeviceError,
        DiskError,
        DownloadError,
        ImpastoError,
        InputError,
        Interrupted,
        OutOfMemoryError,
    )
    from .images import read, write
    from .methods import Step, load

    # When the program runs, this is the package, which can be called (see there). To type checkers
    # it is the function: a package that can be called is beyond them, and
    # `from impasto.methods import NAME` goes by the path.
    from .methods import list_methods as methods
    from .pipeline import stylize
    from .result import Result
    from .session import Session
    from .statistics import Moments
    from .styles import Style, named_styles
    from .training.learn import learn

__version__ = "0.1.0"
__all__ = [
    "DeviceError",
    "DiskError",
    "DownloadError",
    "ImpastoError",
    "InputError",
    "Interrupted",
    "Moments",
    "OutOfMemoryError",
    "Result",
    "Session",
    "Step",
    "Style",
    "__version__",
    "learn",
    "load",
    "load_backbone",
    "methods",
    "named_styles",
    "read",
    "stylize",
    "tune",
    "write",
]

_ROOMS = {
    ".backbones": ("load_backbone",),
    ".device": ("tune",),
    ".errors": (
        *("DeviceError", "DiskError", "DownloadError", "ImpastoError", "InputError"),
        *("Interrupted", "OutOfMemoryError"),
    ),
    ".images": ("read", "write"),
    ".methods": ("Step", "load"),
    ".pipeline": ("stylize",),
    ".result": ("Result",),
    ".session": ("Session",),
    ".statistics": ("Moments",),
    ".styles": ("Style", "named_styles"),
    ".training.learn": ("learn",),
}
_OLD = {"list_methods": "methods"}  # each for one version


def __dir__() -> list[str]:
    return __all__


def _loaded(name: str) -> object:
    # Importing torch takes seconds: `impasto --help` should not wait for it.
    if name in _OLD:
        warnings.warn(
            f"impasto.{name} is impasto.{_OLD[name]} now, and goes with the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        name = _OLD[name]
    if name == "methods":
        return import_module(".methods", __name__)
    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is None:
        raise AttributeError(f"module 'impasto' has no attribute {name!r}")
    try:
        found: object = getattr(import_module(room, __name__), name)
        return found
    except (ImportError, OSError) as fault:
        from .errors import RUNTIME, InputError, lacks_runtime

        if lacks_runtime(fault):
            raise InputError(RUNTIME) from fault
        raise


if not TYPE_CHECKING:  # to type checkers every name would be there
    __getattr__ = _loaded
