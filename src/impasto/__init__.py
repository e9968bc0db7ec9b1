"""impasto renders a photograph in the manner of a painting.

>>> import impasto
>>> result = impasto.stylize("photo.jpg", "painting.jpg")  # doctest: +SKIP
>>> result.save("out.png")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .device import tune
    from .methods import list_methods, load
    from .pipeline import stylize
    from .styles import named_styles
    from .training.learn import learn

__all__ = ["__version__", "learn", "list_methods", "load", "named_styles", "stylize", "tune"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds: `impasto --help` should not wait for it.
    rooms = {
        "learn": ".training.learn",
        "list_methods": ".methods",
        "load": ".methods",
        "named_styles": ".styles",
        "stylize": ".pipeline",
        "tune": ".device",
    }
    if name in rooms:
        try:
            return getattr(import_module(rooms[name], __name__), name)
        except (ImportError, OSError) as fault:
            from .errors import RUNTIME, InputError, lacks_runtime

            if lacks_runtime(fault):
                raise InputError(RUNTIME) from fault
            raise
    raise AttributeError(f"module 'impasto' has no attribute {name!r}")
