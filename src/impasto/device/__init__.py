"""Device and precision of the computation, its memory, and checks of the process."""

from .choice import (
    bfloat16_units,
    choose_device,
    choose_precision,
    describe,
    missing_cuda,
    obstacle,
)
from .compute import arranged, blank, fetched, full_precision, layout, mixed, searching, unmixed
from .memory import (
    LARGE,
    available_memory,
    check_memory,
    lacking_memory,
    release,
    sparing,
    trim,
    tune,
)
from .process import check_process

__all__ = [
    "LARGE",
    "arranged",
    "available_memory",
    "bfloat16_units",
    "blank",
    "check_memory",
    "check_process",
    "choose_device",
    "choose_precision",
    "describe",
    "fetched",
    "full_precision",
    "lacking_memory",
    "layout",
    "missing_cuda",
    "mixed",
    "obstacle",
    "release",
    "searching",
    "sparing",
    "trim",
    "tune",
    "unmixed",
]
