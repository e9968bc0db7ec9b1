"""Rasters from files and Pillow's images: one decoder for each format."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..errors import InputError
from . import metadata as meta
from . import png, tiff
from .picture import check_pixels
from .places import HEIF_SUFFIXES, check_avif
from .quiet import unlimited
from .raster import Floats, Raster, Request, check_decoding, reduction_of
from .values import as_shares, by_8_bits, converter, planes_of, unlike, white_of

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_ORIENTATION = 0x0112


def kind_of(stream: BinaryIO, label: str, path: str) -> str:
    """The format of a file, from its first bytes."""
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


def opened(kind: str, stream: BinaryIO, label: str) -> Image.Image:
    """The picture before its pixels are decoded.

    Calls the decoder directly: Pillow's `open` would pass other formats, such as EPS, to programs.
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
        # Pillow keeps the part that it decoded before the end of the file.
        if not accept_truncated or getattr(image, "_im", getattr(image, "im", None)) is None:
            raise
        image.tile = []  # type: ignore[attr-defined]


def from_pil(image: Image.Image, label: str, request: Request, mutable: bool = False) -> Raster:
    """A raster from a Pillow image; with `mutable` a JPEG may be decoded at a smaller scale."""
    full = image.height, image.width
    check_pixels(*full, label, request.max_pixels)
    reducible = mutable and image.format == "JPEG" and bool(getattr(image, "tile", None))
    kept = 0.0
    if reducible and (image.info.get("progressive") or image.info.get("progression")):
        kept = 2.0 * len(image.getbands())  # its coefficients
    # Libraries that pass the whole picture to Pillow as bytes hold a second copy.
    copies = 2 if image.format in ("WEBP", "AVIF", "HEIF") else 1
    per_pixel = _pixel_bytes(image) * copies

    def scale_of(factor: int) -> int:
        return next((scale for scale in (8, 4, 2) if reducible and scale <= factor), 1)

    def decoded(factor: int) -> float:
        return full[0] * full[1] * (kept + per_pixel / scale_of(factor) ** 2)

    has_alpha = image.has_transparency_data
    check_decoding(full, has_alpha, label, request, decoded)
    scale = scale_of(reduction_of(*full, request))
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    height, width = image.height, image.width
    _load(image, request.accept_truncated)
    if (image.width, image.height) == (height, width):  # some versions rotate a TIFF on loading
        height, width, full = width, height, full[::-1]
    metadata = meta.gather(image)
    orientation = 1
    with suppress(Exception):  # a broken EXIF block is no reason to refuse the picture
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    rows, has_alpha = _pil_rows(image, label)
    return Raster(height, width, has_alpha, rows, orientation, metadata, full, scale)


def _pixel_bytes(image: Image.Image) -> int:
    return {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;") else 4)


def _pil_rows(
    image: Image.Image, label: str, key: tuple[int, ...] | None = None
) -> tuple[Callable[[int, int], Floats], bool]:
    """The rows of a decoded image, and whether they have an alpha channel.

    key: the levels of the transparent colour, unless the image has one in its info.
    """
    width, profile = image.width, image.info.get("icc_profile")

    def strip(top: int, bottom: int) -> Image.Image:
        with unlimited(width * (bottom - top)):  # Pillow before 13 checks the limit here too
            return image.crop((0, top, width, bottom))

    if image.mode == "F" or image.mode.startswith("I"):
        white = white_of(
            lambda top, bottom: np.asarray(strip(top, bottom)),
            (image.height, width),
            label,
            *((1, 255, 65535) if image.mode == "F" else (255, 65535)),
            fixed=65535 if image.mode.startswith("I;") else None,
        )
        if key is None and isinstance(image.info.get("transparency"), int):
            key = (image.info["transparency"],)
        convert = converter("L", profile)

        def deep(top: int, bottom: int) -> Floats:
            levels = np.asarray(strip(top, bottom))[None]
            values = as_shares(levels, white).clip(0, 1)
            if convert:
                values = by_8_bits(values, convert)
            return values if key is None else np.concatenate([values, unlike(levels, key)])

        return deep, key is not None

    grey = image.mode in ("1", "L", "LA", "La")
    has_alpha = image.has_transparency_data
    base = "L" if grey else image.mode if image.mode in ("CMYK", "LAB") else "RGB"
    convert = converter(base, profile)

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
            alpha = unlike(planes_of(part), key) * 255
        part = convert(part) if convert else part if grey else part.convert("RGB")
        levels = planes_of(part)
        if alpha is not None:
            levels = np.concatenate([levels, alpha])
        return as_shares(levels, 255)

    return rows, has_alpha or key is not None


def from_png(stream: BinaryIO, label: str, request: Request) -> Raster:
    """A raster from a PNG file; of 16 bits, Pillow alone would keep only 8."""
    parts = png.chunks(stream)
    image = PngImagePlugin.PngImageFile(parts.stream)
    image.info.update(parts.info)
    height, width = image.height, image.width
    check_pixels(height, width, label, request.max_pixels)
    deep = parts.depth == 16 and parts.color != 0
    has_alpha = parts.key is not None or image.has_transparency_data
    need = height * width * _pixel_bytes(image) * (2 if deep else 1)
    check_decoding((height, width), has_alpha, label, request, lambda factor: need)
    low = png.low_bytes(parts.stream, parts.color) if deep else None
    if low is not None:
        _load(low, request.accept_truncated)
    parts.stream.seek(0)
    if parts.color != 4 or not deep:
        image = PngImagePlugin.PngImageFile(parts.stream)
        image.info.update(parts.info)
        _load(image, request.accept_truncated)
    metadata = meta.gather(image)
    orientation = 1
    with suppress(Exception):
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    if low is None:
        key = parts.key
        if key and parts.depth < 8:
            key = tuple(level * 255 // ((1 << parts.depth) - 1) for level in key)
        rows, has_alpha = _pil_rows(image, label, key)
        return Raster(height, width, has_alpha, rows, orientation, metadata)
    rows, has_alpha = _deep_rows(image, low, parts)
    return Raster(height, width, has_alpha, rows, orientation, metadata)


def _deep_rows(
    high: Image.Image, low: Image.Image, parts: png.Chunks
) -> tuple[Callable[[int, int], Floats], bool]:
    """The rows of 16 bits per channel, from the images of the high and the low bytes."""
    convert = converter("L" if parts.color == 4 else "RGB", parts.info.get("icc_profile"))
    has_alpha = parts.color in (4, 6)

    def rows(top: int, bottom: int) -> Floats:
        box = (0, top, low.width, bottom)
        lower = planes_of(low.crop(box)).astype(np.uint16)
        if parts.color == 4:
            levels = lower[::2] * 256 + lower[1::2]
        else:
            levels = planes_of(high.crop(box)).astype(np.uint16) * 256 + lower
        values = as_shares(levels, 65535)
        if convert:
            colors = len(values) - has_alpha
            values = np.concatenate([by_8_bits(values[:colors], convert), values[colors:]])
        if parts.key is None:
            return values
        return np.concatenate([values, unlike(levels, parts.key)])

    return rows, has_alpha or parts.key is not None


def from_tiff(stream: BinaryIO, layout: tiff.Layout, label: str, request: Request) -> Raster:
    """A raster from a TIFF that Pillow cannot read, or reads incorrectly."""
    height, width = layout.height, layout.width
    check_pixels(height, width, label, request.max_pixels)
    need = layout.bytes_decoding
    check_decoding((height, width), bool(layout.extra), label, request, lambda factor: need)
    samples = tiff.decode(stream, layout, request.accept_truncated)
    colors = 3 if layout.photometric == 2 else 1
    used = samples[..., :colors]
    if layout.kind == 3 and not np.isfinite(samples).all():  # the alpha channel too
        raise InputError(f"{label}: it holds NaN or infinity; replace them by numbers in 0..1")
    deepest = (1 << layout.bits) - 1
    levels: tuple[float, ...] = (1, 255, 65535)
    fixed: float | None = None
    if layout.kind == 1 and layout.bits < 32:
        fixed = deepest
    elif layout.kind != 3:
        most = deepest >> 1 if layout.kind == 2 else deepest
        levels = (*(level for level in (255, 65535) if level < most), most)
    white = white_of(
        lambda top, bottom: used[top:bottom], (height, width), label, *levels, fixed=fixed
    )
    opaque = {1: deepest, 2: deepest >> 1, 3: 1}[layout.kind] if fixed is None else fixed
    profile = layout.tags.get(34675)
    convert = converter("RGB" if colors == 3 else "L", profile)

    def rows(top: int, bottom: int) -> Floats:
        part = np.moveaxis(samples[top:bottom], 2, 0)
        color = as_shares(part[:colors], white)
        alpha = as_shares(part[colors : colors + bool(layout.extra)], opaque).clip(0, 1)
        if layout.photometric == 0:
            color = 1 - color
        if layout.extra == 1:
            with np.errstate(all="ignore"):
                color = np.where(alpha > 0, color / alpha, np.float32(0))
        color = color.clip(0, 1)
        if convert:
            color = by_8_bits(color, convert)
        return np.concatenate([color, alpha]) if layout.extra else color

    orientation, metadata = 1, None
    with suppress(Exception):
        exif = Image.Exif()
        exif.endian, exif.bigtiff = layout.tags._endian, layout.tags._bigtiff  # type: ignore[attr-defined]
        exif.load_from_fp(stream, layout.tags._offset)  # type: ignore[attr-defined]
        image = Image.new("1", (1, 1))
        image._exif = exif
        exif._loaded = True
        unit = {2: 1, 3: 2.54}.get(layout.tags.get(296, 2), 0)
        across, down = layout.tags.get(282, 0), layout.tags.get(283, 0)
        metadata = meta.gather(image, (float(across) * unit, float(down) * unit))
    with suppress(Exception):
        orientation = int(layout.tags.get(274, 1))
    return Raster(height, width, bool(layout.extra), rows, orientation, metadata)
