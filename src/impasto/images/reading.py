"""Anything that a person may hand over becomes a float32 RGB tensor."""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from ..device import check_process
from ..errors import InputError, check_whole
from ..files import named, shown
from . import metadata as meta
from . import png, tiff
from .arrays import from_array, from_tensor
from .decoders import from_pil, from_png, from_tiff, kind_of, opened
from .picture import Picture, Source, color_of, decoding
from .places import open_file
from .quiet import quiet
from .raster import Wish, assemble


def read(
    source: Source,
    background: str = "white",
    *,
    size: int | None = None,
    most_pixels: int | None = None,
    max_pixels: int | None = None,
    accept_truncated: bool = False,
) -> Picture:
    """Read a picture from a file, its bytes, a Pillow image, an array or a tensor.

    A file, or a Pillow image, may have any usual mode and bit depth; it is turned upright (EXIF)
    and converted to sRGB by its colour profile. An array is (H, W) or (H, W, 1|3|4); a tensor is
    (1|3|4, H, W) or (1, 1|3|4, H, W); both hold bool, unsigned integers whose white is their
    greatest value, floats in 0..1, of which a small overshoot is cut off, or signed and wide
    integers, whose white is the least that no value is above of 255, 65535 and, of int8, int16 and
    the wide unsigned ones, the greatest of the type (of 32 bits). Transparent pixels are laid over
    `background`, a colour name or #hex. A Picture is returned as it is.

    size: the short side, in pixels, that will be asked for: the picture may then be decoded
        smaller than it is, never with a short side below three times the size.
    most_pixels: so many are enough: a picture of four times as many, or more, is decoded smaller.
    max_pixels: a picture of more is refused before it is decoded.
    accept_truncated: of a file cut short or damaged, what can be decoded is taken, the rest is
        black or grey.

    Raises InputError, in one line, for whatever cannot be read or is no usable picture.
    """
    check_process()
    if isinstance(source, Picture):
        return source
    for what, value in (("size", size), ("most-pixels", most_pixels), ("max-pixels", max_pixels)):
        if value is not None:
            check_whole(what, value)
    color = color_of(background).numpy()
    wish = Wish(color, size, most_pixels, max_pixels, accept_truncated)
    with quiet():
        if isinstance(source, Image.Image):
            file = getattr(source, "filename", "") or ""
            name = Path(os.fsdecode(file)).stem or "picture"
            label = shown(os.fsdecode(file) or "the picture")
            with decoding(label):
                return assemble(from_pil(source, label, wish), label, name, wish)
        if isinstance(source, np.ndarray):
            with decoding("the array", opaque=True):
                return assemble(from_array(source, "the array", wish), "the array", "picture", wish)
        if isinstance(source, Tensor):
            with decoding("the tensor", opaque=True):
                return assemble(from_tensor(source, wish), "the tensor", "picture", wish)
        if isinstance(source, (str, os.PathLike)):
            path = named(source)
            with open_file(source) as stream:
                return _from_stream(stream, shown(path), path, wish)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _from_stream(io.BytesIO(source), "the bytes", "", wish)
        if hasattr(source, "read"):
            return _from_object(source, wish)
    kind = type(source).__name__
    raise InputError(
        f"cannot read a picture from a {kind}; give a path, bytes, image, array or tensor"
    )


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that `write` embedded. Raises InputError if the picture carries none."""
    label = shown(named(path))
    with quiet(), open_file(path) as stream, decoding(label):
        settings = None
        kind = kind_of(stream, label, str(path))
        if kind == "PNG":
            image = Image.new("1", (1, 1))
            image.format = "PNG"
            image.info.update(png.chunks(stream).info)
            settings = meta.embedded(image)
        else:
            with suppress(InputError, OSError, SyntaxError):
                settings = meta.embedded(opened(kind, stream, label))
    if settings is None:
        raise InputError(
            f"{label}: carries no impasto settings; give a picture that impasto wrote "
            "(not BMP, and not edited since)"
        )
    return settings


def _from_object(source: Any, wish: Wish) -> Picture:
    """Of a file object, from where it stands."""
    name = getattr(source, "name", "")
    name = name if isinstance(name, str) and not name.startswith("<") else ""
    label = shown(name or "the file object")
    try:
        data = source.read()
    except (OSError, ValueError) as fault:
        raise InputError(f"{label}: cannot read it ({fault}); open it to read bytes") from fault
    if not isinstance(data, bytes):
        raise InputError(f"{label}: gives text, not bytes; open it in binary mode")
    return _from_stream(io.BytesIO(data), label, name, wish)


def _from_stream(stream: BinaryIO, label: str, path: str, wish: Wish) -> Picture:
    name = Path(path).stem or "picture"
    with decoding(label):
        kind = kind_of(stream, label, path)
        if kind == "PNG":
            raster = from_png(stream, label, wish)
        elif kind == "TIFF" and (layout := tiff.layout(stream, label)):
            raster = from_tiff(stream, layout, label, wish)
        else:
            if kind == "JPEG" and wish.accept_truncated:
                stream = png.appended(stream, b"\xff\xd9")  # its decoder then ends in peace
            raster = from_pil(opened(kind, stream, label), label, wish, ours=True)
        return assemble(raster, label, name, wish)
