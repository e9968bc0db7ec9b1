"""Pictures in and out: anything a person may hand over becomes a float32 RGB tensor, and back.

Inside impasto a picture is a tensor (3, H, W), float32, sRGB, 0..1. All that can be wrong with a
file is found here and said in one line (`InputError`).
"""

from .picture import MIN_SIDE, Metadata, Picture, Source, check_size, fit, resize
from .places import SUFFIXES, check_output, list_pictures
from .reading import read, read_settings
from .writing import encode, write

__all__ = [
    "MIN_SIDE",
    "SUFFIXES",
    "Metadata",
    "Picture",
    "Source",
    "check_output",
    "check_size",
    "encode",
    "fit",
    "list_pictures",
    "read",
    "read_settings",
    "resize",
    "write",
]
