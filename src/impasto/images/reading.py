"""Anything that a person may hand over becomes a float32 RGB tensor.

A decoder makes a `Raster`, which gives strips of rows as floats; `_assemble` lays them over the
background, turns them upright and, where little is wanted, makes them smaller. So a large picture
is in memory twice at most: as its decoder has it, and as the tensor.
"""

import io
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from torch import Tensor

from ..device import check_process
from ..errors import InputError, check_whole
from ..files import named, shown
from . import metadata as meta
from . import png, tiff
from .picture import (
    STRIP,
    Metadata,
    Picture,
    Source,
    check_memory,
    check_pixels,
    colour_of,
    decoding,
    fit,
    over,
)
from .places import HEIF_SUFFIXES, check_avif, open_file
from .quiet import quiet, unlimited

Floats = NDArray[np.float32]

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_ORIENTATION = 0x0112
_SRGB = ImageCms.createProfile("sRGB")
_OVERSHOOT = 0.1  # what sharpening and scaling leave below black and above white


@dataclass(frozen=True)
class _Wish:
    """What the caller of `read` asked for."""

    colour: Floats
    size: int | None
    most_pixels: int | None
    max_pixels: int | None
    accept_truncated: bool


@dataclass
class Raster:
    """A decoded picture, as it is stored.

    rows: of (top, bottom), the rows between them: (C, h, W), float32, 0..1, sRGB, or grey; the
    last channel is the alpha if there is one.
    full: (height, width) as stored in the file, where the decoder has made it smaller.
    scale: by how much.
    """

    height: int
    width: int
    has_alpha: bool
    rows: Callable[[int, int], Floats]
    orientation: int = 1
    metadata: Metadata | None = None
    full: tuple[int, int] | None = None
    scale: int = 1


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
    colour = colour_of(background).numpy()
    wish = _Wish(colour, size, most_pixels, max_pixels, accept_truncated)
    with quiet():
        if isinstance(source, Image.Image):
            file = getattr(source, "filename", "") or ""
            name = Path(os.fsdecode(file)).stem or "picture"
            label = shown(os.fsdecode(file) or "the picture")
            with decoding(label):
                return _assemble(_from_pil(source, label, wish), label, name, wish)
        if isinstance(source, np.ndarray):
            with decoding("the array", opaque=True):
                return _assemble(
                    _from_array(source, "the array", wish), "the array", "picture", wish
                )
        if isinstance(source, Tensor):
            with decoding("the tensor", opaque=True):
                return _assemble(_from_tensor(source, wish), "the tensor", "picture", wish)
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
        kind = _kind(stream, label, str(path))
        if kind == "PNG":
            image = Image.new("1", (1, 1))
            image.format = "PNG"
            image.info.update(png.chunks(stream).info)
            settings = meta.embedded(image)
        else:
            with suppress(InputError, OSError, SyntaxError):
                settings = meta.embedded(_opened(kind, stream, label))
    if settings is None:
        raise InputError(
            f"{label}: carries no impasto settings; give a picture that impasto wrote "
            "(not BMP, and not edited since)"
        )
    return settings


# Files -----------------------------------------------------------------------------------------


def _from_object(source: Any, wish: _Wish) -> Picture:
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


def _from_stream(stream: BinaryIO, label: str, path: str, wish: _Wish) -> Picture:
    name = Path(path).stem or "picture"
    with decoding(label):
        kind = _kind(stream, label, path)
        if kind == "PNG":
            raster = _from_png(stream, label, wish)
        elif kind == "TIFF" and (layout := tiff.layout(stream, label)):
            raster = _from_tiff(stream, layout, label, wish)
        else:
            if kind == "JPEG" and wish.accept_truncated:
                stream = png.appended(stream, b"\xff\xd9")  # its decoder then ends in peace
            raster = _from_pil(_opened(kind, stream, label), label, wish, ours=True)
        return _assemble(raster, label, name, wish)


def _kind(stream: BinaryIO, label: str, path: str) -> str:
    """The format of the file, by its first bytes."""
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    for start, kind in (
        (b"\xff\xd8\xff", "JPEG"),
        (png.SIGNATURE, "PNG"),
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        *((magic, "TIFF") for magic in tiff.MAGICS),
    ):
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        length = int.from_bytes(head[:4], "big")
        brands = {head[i : i + 4] for i in (8, *range(16, min(length, 64), 4))}
        if brands & {*_AVIF_BRANDS} and head[8:12] not in (b"heic", b"heix"):
            return "AVIF"
        if head[8:12] in _HEIF_BRANDS:
            return "HEIF"
    if Path(path).suffix.lower() in HEIF_SUFFIXES:
        return "HEIF"
    raise InputError(
        f"{label}: not a picture; give a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or HEIC file"
    )


def _opened(kind: str, stream: BinaryIO, label: str) -> Image.Image:
    """The picture, its pixels not yet decoded.

    By its decoder itself: Pillow's `open` would hand other formats, such as EPS, to programs.
    """
    stream.seek(0)
    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError as fault:
            raise InputError(
                f"{label}: reading HEIC needs a plugin; pip install pillow-heif"
            ) from fault
        pillow_heif.register_heif_opener()
        return Image.OPEN["HEIF"][0](stream, "")
    if kind == "AVIF":
        check_avif(f"{label}: reading AVIF")
        from PIL import AvifImagePlugin

        return AvifImagePlugin.AvifImageFile(stream)
    decoders: dict[str, Callable[[BinaryIO], Image.Image]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
    }
    try:
        try:
            return decoders[kind](stream)
        except Image.DecompressionBombError:
            stream.seek(0)
            with unlimited():
                return decoders[kind](stream)
    except SyntaxError as fault:
        if kind == "TIFF" and "mode" in str(fault):
            raise InputError(
                f"{label}: a TIFF with an unusual layout; save it as RGB with 8 or 16 bits"
            ) from fault
        raise


def _load(image: Image.Image, accept_truncated: bool = False) -> None:
    try:
        with unlimited(image.width * image.height):
            image.load()
    except OSError:
        # Pillow has by then what it could decode, and only the file's end to complain of.
        if not accept_truncated or getattr(image, "_im", getattr(image, "im", None)) is None:
            raise
        image.tile = []  # type: ignore[attr-defined]


# Rasters of Pillow's images --------------------------------------------------------------------


def _from_pil(image: Image.Image, label: str, wish: _Wish, ours: bool = False) -> Raster:
    """Of an image that is ours to change, or not."""
    full = image.height, image.width
    check_pixels(*full, label, wish.max_pixels)
    need, scale = 0.0, 1
    if ours and image.format == "JPEG" and getattr(image, "tile", None):
        if image.info.get("progressive") or image.info.get("progression"):
            need = full[0] * full[1] * 2 * len(image.getbands())  # its coefficients
        factor = _factor(*full, wish)
        scale = next((scale for scale in (8, 4, 2) if scale <= factor), 1)
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
    height, width = image.height, image.width
    has_alpha = image.has_transparency_data
    # Of the whole from a library, handed to Pillow in bytes, there are two.
    twice = 2 if image.format in ("WEBP", "AVIF", "HEIF") else 1
    need += height * width * _pixel_bytes(image) * twice
    check_memory(need + _tensor_bytes(height, width, has_alpha, wish), *full, label)
    _load(image, wish.accept_truncated)
    if (image.width, image.height) == (height, width):  # a TIFF: some versions turn it on loading
        height, width, full = width, height, full[::-1]
    kept = meta.gather(image)
    orientation = 1
    with suppress(Exception):  # a broken EXIF block is no reason to refuse the picture
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    rows, has_alpha = _pil_rows(image, label)
    return Raster(height, width, has_alpha, rows, orientation, kept, full, scale)


def _pixel_bytes(image: Image.Image) -> int:
    return {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;") else 4)


def _pil_rows(
    image: Image.Image, label: str, key: tuple[int, ...] | None = None
) -> tuple[Callable[[int, int], Floats], bool]:
    """The rows of a decoded image, and whether they have an alpha.

    key: the levels of a colour that is transparent, unless the image knows of one itself.
    """
    width, profile = image.width, image.info.get("icc_profile")

    def strip(top: int, bottom: int) -> Image.Image:
        with unlimited(width * (bottom - top)):  # of which Pillow below 13 wants to hear here too
            return image.crop((0, top, width, bottom))

    if image.mode == "F" or image.mode.startswith("I"):
        white = _white(
            lambda top, bottom: np.asarray(strip(top, bottom)),
            (image.height, width),
            label,
            *((1, 255, 65535) if image.mode == "F" else (255, 65535)),
            fixed=65535 if image.mode.startswith("I;") else None,
        )
        if key is None and isinstance(image.info.get("transparency"), int):
            key = (image.info["transparency"],)
        convert = _converter("L", profile)

        def deep(top: int, bottom: int) -> Floats:
            levels = np.asarray(strip(top, bottom))[None]
            values = _shares(levels, white).clip(0, 1)
            if convert:
                values = _by_8_bits(values, convert)
            return values if key is None else np.concatenate([values, _unlike(levels, key)])

        return deep, key is not None

    grey = image.mode in ("1", "L", "LA", "La")
    has_alpha = image.has_transparency_data
    base = "L" if grey else image.mode if image.mode in ("CMYK", "LAB") else "RGB"
    convert = _converter(base, profile)

    def rows(top: int, bottom: int) -> Floats:
        part = strip(top, bottom)
        alpha: NDArray[Any] | None = None
        if has_alpha:
            if part.mode == "La":
                part = part.convert("LA")
            part = part.convert("RGBA")
            alpha = np.asarray(part.getchannel("A"))[None]
            part = part.getchannel("R") if grey else part.convert("RGB")
        elif part.mode != base:
            part = part.convert(base)
        if key is not None:
            alpha = _unlike(_channels(part), key) * 255
        part = convert(part) if convert else part if grey else part.convert("RGB")
        levels = _channels(part)
        if alpha is not None:
            levels = np.concatenate([levels, alpha])
        return _shares(levels, 255)

    return rows, has_alpha or key is not None


def _channels(image: Image.Image) -> NDArray[Any]:
    """(C, h, W)"""
    levels = np.asarray(image)
    return levels[None] if levels.ndim == 2 else np.moveaxis(levels, 2, 0)


def _unlike(levels: NDArray[Any], key: tuple[int, ...]) -> Floats:
    """(1, h, W): 0 where `levels` (C, h, W) are those of `key`, 1 elsewhere."""
    same: NDArray[np.bool_] = (levels == np.asarray(key).reshape(-1, 1, 1)).all(0, keepdims=True)
    return (~same).astype(np.float32)


def _shares(levels: NDArray[Any], white: float) -> Floats:
    """`levels` as shares of `white`: by way of float64 where float32 would not hold them."""
    wide = levels.dtype.itemsize > 4 or levels.dtype in (np.int32, np.uint32)
    values: NDArray[np.floating[Any]] = levels.astype(np.float64 if wide else np.float32)
    values /= white
    return values.astype(np.float32, copy=False)


def _converter(mode: str, profile: bytes | None) -> Callable[[Image.Image], Image.Image] | None:
    """How strips of `mode` become sRGB; None without a profile, or where it is broken, does not
    fit, or is as good as sRGB.
    """
    if not profile:
        return None
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        source = "RGB" if mode == "L" and found.profile.xcolor_space.strip() == "RGB" else mode
        change = ImageCms.buildTransform(found, _SRGB, source, "RGB")

        def convert(image: Image.Image) -> Image.Image:
            if image.mode != source:
                image = image.convert(source)
            return ImageCms.applyTransform(image, change) or image

        probe = None
        if mode == "L":
            probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        elif mode == "RGB":
            steps = np.linspace(0, 255, 9).astype(np.uint8)
            probe = Image.fromarray(
                np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
            )
        if probe:
            before, after = (
                np.asarray(image, np.int16) for image in (probe.convert("RGB"), convert(probe))
            )
            if np.abs(before - after).max() <= 1:
                return None
        return convert
    return None


def _by_8_bits(values: Floats, convert: Callable[[Image.Image], Image.Image]) -> Floats:
    """Deep values, (1|3, h, W), converted as levels of 8 bits, which is all that profiles take."""
    levels = np.moveaxis((values * 255).round().astype(np.uint8), 0, -1)
    image = Image.fromarray(np.ascontiguousarray(levels[..., 0] if len(values) == 1 else levels))
    return _shares(_channels(convert(image)), 255)


# PNG -------------------------------------------------------------------------------------------


def _from_png(stream: BinaryIO, label: str, wish: _Wish) -> Raster:
    parts = png.chunks(stream)
    image = PngImagePlugin.PngImageFile(parts.stream)
    image.info.update(parts.info)
    height, width = image.height, image.width
    check_pixels(height, width, label, wish.max_pixels)
    deep = parts.depth == 16 and parts.colour != 0
    has_alpha = parts.key is not None or image.has_transparency_data
    need = height * width * _pixel_bytes(image) * (2 if deep else 1)
    check_memory(need + _tensor_bytes(height, width, has_alpha, wish), height, width, label)
    low = png.low_bytes(parts.stream, parts.colour) if deep else None
    if low is not None:
        _load(low, wish.accept_truncated)
    parts.stream.seek(0)
    if parts.colour != 4 or not deep:
        image = PngImagePlugin.PngImageFile(parts.stream)
        image.info.update(parts.info)
        _load(image, wish.accept_truncated)
    kept = meta.gather(image)
    orientation = 1
    with suppress(Exception):
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    if low is None:
        key = parts.key
        if key and parts.depth < 8:
            key = tuple(level * 255 // ((1 << parts.depth) - 1) for level in key)
        rows, has_alpha = _pil_rows(image, label, key)
        return Raster(height, width, has_alpha, rows, orientation, kept)
    rows, has_alpha = _deep_rows(image, low, parts)
    return Raster(height, width, has_alpha, rows, orientation, kept)


def _deep_rows(
    high: Image.Image, low: Image.Image, parts: png.Chunks
) -> tuple[Callable[[int, int], Floats], bool]:
    """The rows of 16 bits a channel, of which there are two halves."""
    convert = _converter("L" if parts.colour == 4 else "RGB", parts.info.get("icc_profile"))
    has_alpha = parts.colour in (4, 6)

    def rows(top: int, bottom: int) -> Floats:
        box = (0, top, low.width, bottom)
        lower = _channels(low.crop(box)).astype(np.uint16)
        if parts.colour == 4:
            levels = lower[::2] * 256 + lower[1::2]
        else:
            levels = _channels(high.crop(box)).astype(np.uint16) * 256 + lower
        values = _shares(levels, 65535)
        if convert:
            colours = len(values) - has_alpha
            values = np.concatenate([_by_8_bits(values[:colours], convert), values[colours:]])
        if parts.key is None:
            return values
        return np.concatenate([values, _unlike(levels, parts.key)])

    return rows, has_alpha or parts.key is not None


# TIFF ------------------------------------------------------------------------------------------


def _from_tiff(stream: BinaryIO, layout: tiff.Layout, label: str, wish: _Wish) -> Raster:
    """Of a TIFF that Pillow lacks or garbles."""
    height, width = layout.height, layout.width
    check_pixels(height, width, label, wish.max_pixels)
    need = height * width * layout.bytes_per_pixel
    check_memory(
        need + _tensor_bytes(height, width, bool(layout.extra), wish), height, width, label
    )
    samples = tiff.decode(stream, layout, wish.accept_truncated)
    colours = 3 if layout.photometric == 2 else 1
    used = samples[..., :colours]
    if layout.kind == 3 and not np.isfinite(samples).all():  # an alpha may be what is not
        raise InputError(f"{label}: it holds NaN or infinity; replace them by numbers in 0..1")
    deepest = (1 << layout.bits) - 1
    levels: tuple[float, ...] = (1, 255, 65535)
    fixed: float | None = None
    if layout.kind == 1 and layout.bits < 32:
        fixed = deepest
    elif layout.kind != 3:
        most = deepest >> 1 if layout.kind == 2 else deepest
        levels = (*(level for level in (255, 65535) if level < most), most)
    white = _white(
        lambda top, bottom: used[top:bottom], (height, width), label, *levels, fixed=fixed
    )
    opaque = {1: deepest, 2: deepest >> 1, 3: 1}[layout.kind] if fixed is None else fixed
    profile = layout.tags.get(34675)
    convert = _converter("RGB" if colours == 3 else "L", profile)

    def rows(top: int, bottom: int) -> Floats:
        part = np.moveaxis(samples[top:bottom], 2, 0)
        colour = _shares(part[:colours], white)
        alpha = _shares(part[colours : colours + bool(layout.extra)], opaque).clip(0, 1)
        if layout.photometric == 0:
            colour = 1 - colour
        if layout.extra == 1:
            with np.errstate(all="ignore"):
                colour = np.where(alpha > 0, colour / alpha, np.float32(0))
        colour = colour.clip(0, 1)
        if convert:
            colour = _by_8_bits(colour, convert)
        return np.concatenate([colour, alpha]) if layout.extra else colour

    orientation, kept = 1, None
    with suppress(Exception):
        exif = Image.Exif()
        exif.endian, exif.bigtiff = layout.tags._endian, layout.tags._bigtiff  # type: ignore[attr-defined]
        exif.load_from_fp(stream, layout.tags._offset)  # type: ignore[attr-defined]
        image = Image.new("1", (1, 1))
        image._exif = exif
        exif._loaded = True
        unit = {2: 1, 3: 2.54}.get(layout.tags.get(296, 2), 0)
        across, down = layout.tags.get(282, 0), layout.tags.get(283, 0)
        kept = meta.gather(image, (float(across) * unit, float(down) * unit))
    with suppress(Exception):
        orientation = int(layout.tags.get(274, 1))
    return Raster(height, width, bool(layout.extra), rows, orientation, kept)


# Arrays and tensors ----------------------------------------------------------------------------


def _from_array(array: NDArray[Any], label: str, wish: _Wish) -> Raster:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            f"{label}: its shape is {array.shape}; give (H, W), (H, W, 3) or (H, W, 4)"
        )
    return _from_planes(
        *(array.shape[0], array.shape[1], array.shape[2], array.dtype.name),
        lambda top, bottom: np.moveaxis(array[top:bottom], 2, 0),
        label,
        wish,
    )


def _from_tensor(tensor: Tensor, wish: _Wish) -> Raster:
    label = "the tensor"
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or planes.shape[0] not in (1, 3, 4):
        raise InputError(f"{label}: its shape is {tuple(tensor.shape)}; give one (3, H, W)")

    def strip(top: int, bottom: int) -> NDArray[Any]:
        part = planes[:, top:bottom].detach().cpu()
        if part.is_floating_point() and part.dtype not in (torch.float32, torch.float64):
            part = part.float()  # numpy has not all that torch has
        found: NDArray[Any] = part.resolve_conj().resolve_neg().numpy()
        return found

    kind = str(tensor.dtype).removeprefix("torch.")
    return _from_planes(
        *(planes.shape[1], planes.shape[2], planes.shape[0], kind), strip, label, wish
    )


def _from_planes(
    height: int,
    width: int,
    channels: int,
    dtype: str,
    strip: Callable[[int, int], NDArray[Any]],
    label: str,
    wish: _Wish,
) -> Raster:
    check_pixels(height, width, label, wish.max_pixels)
    check_memory(_tensor_bytes(height, width, channels == 4, wish), height, width, label)
    fixed = {"bool": 1, "uint8": 255, "uint16": 65535}.get(dtype)
    levels: tuple[float, ...] = {
        "int8": (127,),
        "int16": (255, 32767),
        "int32": (255, 65535),
        "int64": (255, 65535),
        "uint32": (255, 65535, 2**32 - 1),
        "uint64": (255, 65535, 2**32 - 1),
    }.get(dtype, ())
    if "float" in dtype and "complex" not in dtype:
        levels = (1,)
    if fixed is None and not levels:
        raise InputError(f"{label}: its type is {dtype}; give float in 0..1, or uint8")
    white = _white(strip, (height, width), label, *levels, fixed=fixed)

    def rows(top: int, bottom: int) -> Floats:
        return _shares(strip(top, bottom), white).clip(0, 1)

    return Raster(height, width, channels == 4, rows)


def _white(
    strip: Callable[[int, int], NDArray[Any]],
    size: tuple[int, int],
    label: str,
    *levels: float,
    fixed: float | None = None,
) -> float:
    """The level that is white: `fixed`, or the least of `levels` that no value is above.

    Floats may be a little above and below: that is cut off. Those that are above 1 and not whole
    numbers are neither shares of white nor levels. Raises InputError for values without a white.
    """
    if fixed is not None:
        return fixed
    height, width = size
    low, high, whole, real = np.inf, -np.inf, True, False
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        part = strip(top, min(height, top + rows))
        real = part.dtype.kind == "f"
        if real and not np.isfinite(part).all():
            raise InputError(f"{label}: it holds NaN or infinity; replace them by numbers in 0..1")
        low, high = min(low, part.min()), max(high, part.max())
        whole = whole and (not real or high <= 1 + _OVERSHOOT or bool((part == part.round()).all()))
    slack = _OVERSHOOT if real else 0
    white = next((level for level in levels if high <= level + slack), None)
    if white is not None and low >= -slack and (white == 1 or whole):
        return white
    if real and low >= -slack:
        remedy = "map high dynamic range to 0..1, or scale levels by their white"
    else:
        remedy = "scale them to 0..1"
    raise InputError(f"{label}: grey levels or colours from {low:g} to {high:g}; {remedy}")


# From a raster to a picture --------------------------------------------------------------------


def _factor(height: int, width: int, wish: _Wish) -> int:
    """By how much a picture may be made smaller.

    To three times the size that is wanted: by less, and the filter of the last step would find too
    little.
    """
    by_size = 1 if wish.size is None else min(height, width) // (3 * wish.size)
    by_most = 1 if wish.most_pixels is None else math.isqrt(height * width // wish.most_pixels)
    return max(1, by_size, by_most)


def _tensor_bytes(height: int, width: int, has_alpha: bool, wish: _Wish) -> float:
    """Of the tensors that `_assemble` makes, and its strips."""
    factor = _factor(height, width, wish)
    channels = 4 if has_alpha else 3
    pixels = -(-height // factor) * -(-width // factor)
    strip = min(height, max(factor, STRIP // width)) * width
    return 4.0 * channels * (pixels + 4 * strip)


def _assemble(raster: Raster, label: str, name: str, wish: _Wish) -> Picture:
    height, width = raster.height, raster.width
    full = raster.full or (height, width)
    factor = _factor(height, width, wish)
    turn = _TURNS.get(raster.orientation, _TURNS[1])
    down, across = (
        _edges(count, count / factor, length / raster.scale)
        for count, length in ((height, full[0]), (width, full[1]))
    )
    size = (len(down) - 1, len(across) - 1)
    shape = turn(np.empty((1, *size), np.bool_)).shape[1:]
    rgb = np.empty((3, *shape), np.float32)
    alpha = np.empty((1, *shape), np.float32) if raster.has_alpha else None
    # The same memory as it would be if the picture lay as it is stored.
    back = _TURNS.get({6: 8, 8: 6}.get(raster.orientation, raster.orientation), _TURNS[1])
    stored_rgb, stored_alpha = back(rgb), None if alpha is None else back(alpha)
    rows = max(1, STRIP // width // factor)
    opaque = True
    for top in range(0, size[0], rows):
        edges = down[top : top + rows + 1]
        part = raster.rows(int(edges[0]), int(edges[-1]))
        here = slice(top, top + len(edges) - 1)
        if stored_alpha is not None:
            part, clear = part[:-1], part[-1:]
            opaque = opaque and bool(clear.min() >= 1)
            part = over(part, clear, wish.colour)
            stored_alpha[:, here] = _means(clear, edges, across)
        stored_rgb[:, here] = _means(part, edges, across)
    planes = [rgb] if alpha is None or opaque else [rgb, alpha]
    if wish.size is not None and full != size:
        # In its own pixels; a decoder makes whole ones of what is left at the edges.
        covers = (float(size[0]), float(size[1]))
        if size == (height, width):
            covers = (full[0] / raster.scale, full[1] / raster.scale)
        wanted = fit(*full, wish.size)
        planes = [
            np.ascontiguousarray(turn(_in_proportion(back(plane), covers, wanted, wish.size)))
            for plane in planes
        ]
    tensors = [torch.from_numpy(plane) for plane in planes]
    return Picture(tensors[0], tensors[1] if len(tensors) > 1 else None, name, raster.metadata)


def _edges(count: int, wanted: float, exact: float) -> NDArray[np.int64]:
    """Where to part `count` rows to get `wanted` of even height; the last is at their end.

    exact: how many rows there would be, not rounded, if the decoder had not made them whole.
    """
    pieces = max(1, int(wanted))
    edges = np.round(np.arange(pieces + 1) * (min(exact, count) / pieces)).astype(np.int64)
    edges[-1] = count
    return edges


def _means(part: Floats, down: NDArray[np.int64], across: NDArray[np.int64]) -> Floats:
    """(C, h, W) by the means of the fields between the edges."""
    if part.shape[1:] == (len(down) - 1, len(across) - 1):
        return part
    sums = np.add.reduceat(part, across[:-1], 2)
    sums = np.add.reduceat(sums, down[:-1] - down[0], 1)
    sums /= np.outer(np.diff(down), np.diff(across)).astype(np.float32)
    return sums


def _in_proportion(
    planes: Floats, covers: tuple[float, float], wanted: tuple[int, int], short_side: int
) -> Floats:
    """Reduced planes such that `fit` gives the size `wanted`, as it does for the full picture.

    covers: the (height, width) that they stand for, in pixels of theirs: a decoder makes whole
        ones of what is left at the edges.
    """
    height, width = planes.shape[-2:]
    short = min(height, width)
    size = (height, width)
    if fit(height, width, short_side) != wanted:
        long = round(max(wanted) * short / short_side)
        size = (height, long) if height <= width else (long, width)
    if size == (height, width) == covers:
        return planes
    # Not antialiased, for the size is nearly the same, and torch then ignores what is covered. A
    # hair more, for the new size is the old one times this, cut off to a whole number.
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(planes))[None],
        scale_factor=(size[0] / covers[0] * (1 + 1e-9), size[1] / covers[1] * (1 + 1e-9)),
        mode="bicubic",
    )
    found: Floats = scaled[0, :, : size[0], : size[1]].clamp(0, 1).numpy()
    return found


def _quarters(count: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda planes: np.rot90(planes, count, (1, 2))


# By EXIF's orientation, how stored planes (C, H, W) are turned upright.
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda planes: planes,
    2: lambda planes: planes[..., ::-1],
    3: lambda planes: planes[..., ::-1, ::-1],
    4: lambda planes: planes[..., ::-1, :],
    5: lambda planes: planes.swapaxes(1, 2),
    6: _quarters(-1),
    7: lambda planes: planes.swapaxes(1, 2)[..., ::-1, ::-1],
    8: _quarters(1),
}
