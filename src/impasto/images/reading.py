"""Reading of pictures and settings from files, streams, images, arrays and tensors."""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from ..device import check_process
from ..errors import InputError, check_whole, spelled
from ..files import named, shown
from . import metadata as meta
from . import png, tiff
from .arrays import from_array, from_tensor
from .decoders import from_pil, from_png, from_tiff, kind_of, opened
from .picture import Bytes, Picture, Source, color_of, decoding
from .places import open_file
from .quiet import quiet
from .raster import Request, assemble

BYTES = "<bytes>"  # the name of bytes in messages


def read(
    source: Source,
    background: str = "white",
    *,
    size: int | None = None,
    most_pixels: int | None = None,
    max_pixels: int | None = None,
    accept_truncated: bool = False,
) -> Picture:
    """Read a picture: a path, a file's bytes, a file object, a Pillow image, an array or a tensor.

    A file, or a Pillow image, may have any usual mode and bit depth; it is turned upright (EXIF)
    and converted to sRGB by its colour profile. An array is (H, W) or (H, W, 1|3|4); a tensor is
    (1|3|4, H, W) or (1, 1|3|4, H, W). Their values may be bool; uint8 or uint16, with white at the
    maximum; floats in 0..1, where a small overshoot is clipped; or signed and wider integers. The
    white of the latter is the smallest of 255, 65535 and (for int8, int16, uint32 and uint64) the
    maximum of the type, at most of 32 bits, that no value exceeds. Transparent pixels are blended
    with `background`, a colour name or #hex. A Picture is returned unchanged.

    size: the short side, in pixels, that will be used: the picture may be decoded at a smaller
        size, but never with a short side below three times this.
    most_pixels: a sufficient number of pixels: a picture with at least four times as many is
        decoded at a smaller size.
    max_pixels: a picture with more pixels is refused before it is decoded.
    accept_truncated: read what can be decoded of a truncated or damaged file; the rest is black or
        grey.

    Raises InputError for anything that cannot be read or is no usable picture.
    """
    check_process()
    if isinstance(source, Picture):
        return source
    limits = {"size": size, "most_pixels": most_pixels, "max_pixels": max_pixels}
    for name, value in limits.items():
        if value is not None:
            check_whole(spelled(name), value)
    color = color_of(background).numpy()
    request = Request(color, size, most_pixels, max_pixels, accept_truncated)
    with quiet():
        if isinstance(source, Image.Image):
            file = getattr(source, "filename", "") or ""
            name = Path(os.fsdecode(file)).stem or "picture"
            label = shown(os.fsdecode(file) or "the picture")
            with decoding(label):
                return assemble(from_pil(source, label, request), label, name, request)
        if isinstance(source, np.ndarray):
            with decoding("the array", opaque=True):
                return assemble(
                    from_array(source, "the array", request), "the array", "picture", request
                )
        if isinstance(source, Tensor):
            with decoding("the tensor", opaque=True):
                return assemble(from_tensor(source, request), "the tensor", "picture", request)
        if isinstance(source, (str, os.PathLike)):
            path = named(source)
            with open_file(source) as stream:
                return _from_stream(stream, shown(path), path, request)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _from_stream(io.BytesIO(source), BYTES, "", request)
        if hasattr(source, "read"):
            stream, label, file = _opened(source)
            return _from_stream(stream, label, file, request)
    kind = type(source).__name__
    raise InputError(
        f"cannot read a picture from a {kind}; give a path, bytes, image, array or tensor"
    )


def read_settings(source: str | os.PathLike[str] | Bytes | BinaryIO) -> dict[str, Any]:
    """The settings that `write` embedded in a file, given by its path, its bytes or a file object.

    Raises InputError if the picture has none.
    """
    opened_file: BinaryIO
    if isinstance(source, (bytes, bytearray, memoryview)):
        opened_file, label, path = io.BytesIO(source), BYTES, ""
    elif hasattr(source, "read"):
        opened_file, label, path = _opened(source)
    else:
        path = named(source)
        opened_file, label = open_file(path), shown(path)
    with quiet(), opened_file as stream, decoding(label):
        settings = None
        kind = kind_of(stream, label, path)
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


def _opened(source: Any) -> tuple[BinaryIO, str, str]:
    """What a file object gives from its position on, a label for messages, and the file's name."""
    name = getattr(source, "name", "")
    name = name if isinstance(name, str) and not name.startswith("<") else ""
    label = shown(name or "<file object>")
    try:
        data = source.read()
    except (OSError, ValueError) as fault:
        raise InputError(f"{label}: cannot read it ({fault}); open it to read bytes") from fault
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(f"{label}: gives text, not bytes; open it in binary mode")
    if not data:
        raise InputError(f"{label}: gives no bytes; if it was read before, seek(0) first")
    return io.BytesIO(data), label, name


def _from_stream(stream: BinaryIO, label: str, path: str, request: Request) -> Picture:
    name = Path(path).stem or "picture"
    with decoding(label):
        kind = kind_of(stream, label, path)
        if kind == "PNG":
            raster = from_png(stream, label, request)
        elif kind == "TIFF" and (layout := tiff.layout_of(stream, label)):
            raster = from_tiff(stream, layout, label, request)
        else:
            if kind == "JPEG" and request.accept_truncated:
                stream = png.appended(stream, b"\xff\xd9")  # the end marker that its decoder needs
            raster = from_pil(opened(kind, stream, label), label, request, mutable=True)
        return assemble(raster, label, name, request)
