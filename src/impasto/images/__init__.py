"""Reading and writing of pictures: files, images and arrays to float32 RGB tensors, and back.

Inside impasto a picture is a tensor (3, H, W), float32, sRGB, 0..1. Faults of a file are detected
here and reported in one line (`InputError`).
"""

from .picture import MIN_SIDE, Metadata, Picture, Source, check_size, fit, resize, strips
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
    "strips",
    "write",
]
