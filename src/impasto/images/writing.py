"""Writing of pictures with their metadata."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from ..errors import ImpastoError, InputError, OutOfMemoryError, lacks_memory
from ..files import reason_of, save, shown
from . import metadata as meta
from . import png, tiff
from .picture import (
    Bytes,
    Metadata,
    Picture,
    color_of,
    image_of,
    levels,
    resize,
    strips,
)
from .places import KEEPS_ALPHA, check_format, check_output, check_quality, kind_of
from .quiet import quiet

# Measured at 6 and 12 megapixels: level 3 makes a PNG file 4 to 7 % larger in 0.8 of the time of
# Pillow's default, 6, and of a grainy photograph in 0.3.
_LARGE, _QUICK = 4_000_000, 3

Parts: TypeAlias = Iterable[Bytes]
"""The parts of a file, in order."""


def write(
    path: str | os.PathLike[str],
    rgb: Tensor,
    alpha: Tensor | None = None,
    settings: Mapping[str, object] | None = None,
    background: str = "white",
    quality: int = 95,
    *,
    depth: Literal[8, 16] = 8,
    source: Metadata | None = None,
    metadata: bool = True,
    keep_gps: bool = False,
) -> Path:
    """Write `rgb`, (3, H, W) or (1, 3, H, W), 0..1, in the format that the suffix of `path` names.

    The file is written whole or not at all; missing folders are created. PNG, WebP, AVIF and TIFF
    keep `alpha` (1, H, W), resized to the picture; other formats are blended with `background`.

    quality: 1..100, for JPEG (4:4:4), WebP and AVIF.
    settings: embedded as JSON for `read_settings`; values of other types are written as str().
        BMP cannot hold them; JPEG holds 64 KB, and longer settings are cut.
    depth: bits per channel: 8, or 16 for PNG and TIFF.
    source: metadata of the picture that this one was made from: camera, dates and dots per inch
        are kept if the format supports them.
    metadata: False writes no settings and no metadata of the source.
    keep_gps: whether to keep the GPS position of the source.

    Raises InputError for an invalid path, format, size or tensor, and DiskError if the disk is full
    or refuses the file.
    """
    path = check_output(path, depth=depth)
    options = (settings, background, quality)
    parts = _encoded(
        kind_of(path.suffix, shown(path)),
        shown(path),
        *(rgb, alpha, *options),
        depth=depth,
        source=source,
        metadata=metadata,
        keep_gps=keep_gps,
    )
    save(path, lambda file: file.writelines(parts))
    return path


def encode(
    kind_or_suffix: str,
    rgb: Tensor,
    alpha: Tensor | None = None,
    settings: Mapping[str, object] | None = None,
    background: str = "white",
    quality: int = 95,
    *,
    depth: Literal[8, 16] = 8,
    source: Metadata | None = None,
    metadata: bool = True,
    keep_gps: bool = False,
) -> bytes:
    """The bytes of the file that `write` would write, in a format such as ".png" or "PNG".

    Raises InputError as `write` does.
    """
    kind = kind_of(kind_or_suffix, "the picture")
    options = (settings, background, quality)
    parts = _encoded(
        *(kind, "the picture", rgb, alpha, *options),
        depth=depth,
        source=source,
        metadata=metadata,
        keep_gps=keep_gps,
    )
    return b"".join(parts)


def _encoded(
    kind: str,
    label: str,
    rgb: Tensor,
    alpha: Tensor | None,
    settings: Mapping[str, object] | None,
    background: str,
    quality: int,
    *,
    depth: int,
    source: Metadata | None,
    metadata: bool,
    keep_gps: bool,
) -> Parts:
    """The parts of a file, some of which may be made while the others are written."""
    check_quality(quality)
    color = color_of(background)
    rgb = rgb.detach().cpu().float()
    if rgb.numel() == 0 or rgb.shape[-3:-2] != (3,) or rgb.shape[:-3] not in ((), (1,)):
        raise InputError(f"{label}: cannot write shape {tuple(rgb.shape)}; give (3, H, W)")
    size = (rgb.shape[-2], rgb.shape[-1])
    check_format(kind, label, size, alpha is not None, depth)
    _check_finite(rgb, "picture", label)
    rgb = rgb.reshape(3, *size)
    if alpha is not None:
        if (
            alpha.ndim < 2
            or alpha.numel() != alpha.shape[-2] * alpha.shape[-1]
            or not alpha.numel()
        ):
            raise InputError(f"{label}: its alpha has shape {tuple(alpha.shape)}; give (1, H, W)")
        alpha = alpha.detach().cpu().float().reshape(1, *alpha.shape[-2:])
        _check_finite(alpha, "alpha", label)
        alpha = resize(alpha, size)
    if not metadata:
        settings = source = None
    try:
        pixels = Pixels(Picture(rgb, alpha, ""), depth, None if kind in KEEPS_ALPHA else color)
        exif = None
        with suppress(Exception):
            exif = meta.exif_of(source, keep_gps)
        dpi = source.dpi if source else None
        # If the metadata cannot be written, write the picture without it.
        for embedded, block in ((settings, exif), (settings, None), (None, None)):
            try:
                with quiet():
                    return _ENCODERS[kind](pixels, embedded, block, dpi, quality)
            except Exception as fault:
                if lacks_memory(fault) or (embedded is None and block is None):
                    raise
        raise AssertionError("not reached")
    except ImpastoError:
        raise
    except Exception as fault:  # encoders raise many kinds of exceptions
        shape = f"{size[1]}x{size[0]} pixels"
        if lacks_memory(fault):
            raise OutOfMemoryError(
                f"{label}: not enough memory to encode {shape} as {kind}; choose a smaller size"
            ) from fault
        alternative = ".tif" if kind == "PNG" else ".png"
        raise InputError(
            f"{label}: {kind} cannot hold this picture of {shape} ({reason_of(fault)}); "
            f"choose {alternative}"
        ) from fault


def _check_finite(values: Tensor, name: str, label: str) -> None:
    if not all(
        value.isfinite() for rows in strips(values) for value in values[..., rows, :].aminmax()
    ):
        raise InputError(f"{label}: the {name} to write holds NaN or infinity; correct it")


# Formats ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pixels:
    """What an encoder writes; see `levels` for `color`."""

    picture: Picture
    depth: int
    color: Tensor | None

    def save(self, kind: str, **options: Any) -> Parts:
        """Encode by Pillow, which holds the levels once, and what it has encoded."""
        stream = io.BytesIO()
        image_of(self.picture, self.color).save(
            stream, kind, **{name: value for name, value in options.items() if value is not None}
        )
        return [stream.getbuffer()]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        has_alpha = self.picture.alpha is not None and self.color is None
        return self.picture.height, self.picture.width, 4 if has_alpha else 3

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return levels(self.picture, self.depth, self.color)


def _bytes(exif: Image.Exif | None) -> bytes | None:
    return None if exif is None else exif.tobytes()


def _jpeg(pixels: Pixels, settings: Any, exif: Any, dpi: Any, quality: int) -> Parts:
    parts = pixels.save(
        "JPEG",
        quality=quality,
        subsampling=0,
        exif=_bytes(exif),
        icc_profile=meta.srgb_profile(),
        dpi=dpi and tuple(round(number) for number in dpi),
    )
    if settings is None:
        return parts
    return [meta.into_jpeg(b"".join(parts), meta.packet(settings, meta.room_in_jpeg()))]


def _webp(pixels: Pixels, settings: Any, exif: Any, dpi: Any, quality: int) -> Parts:
    return pixels.save(
        "WEBP",
        quality=quality,
        exif=_bytes(exif),
        icc_profile=meta.srgb_profile(),
        xmp=None if settings is None else meta.packet(settings),
    )


def _avif(pixels: Pixels, settings: Any, exif: Any, dpi: Any, quality: int) -> Parts:
    return pixels.save(
        "AVIF",
        quality=quality,
        subsampling="4:4:4",
        exif=_bytes(exif),
        icc_profile=meta.srgb_profile(),
        xmp=None if settings is None else meta.packet(settings),
    )


def _png(pixels: Pixels, settings: Any, exif: Any, dpi: Any, quality: int) -> Parts:
    options: dict[str, Any] = {"icc_profile": meta.srgb_profile()}
    if exif is not None:
        options["exif"] = exif.tobytes()
    if dpi:
        options["dpi"] = dpi
    if settings is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(meta.MARK, meta.dump(settings))
    if pixels.depth == 16:
        return png.encode16(pixels, pixels.shape, options)
    height, width, _ = pixels.shape
    quick = _QUICK if height * width > _LARGE else None
    return pixels.save("PNG", compress_level=quick, **options)


def _tiff(pixels: Pixels, settings: Any, exif: Any, dpi: Any, quality: int) -> Parts:
    blocks: dict[int, Any] = {} if exif is None else dict(exif)
    blocks[34675] = meta.srgb_profile()
    if settings is not None:
        blocks[700] = meta.packet(settings)
    return tiff.encode(pixels, pixels.shape, pixels.depth, blocks, dpi)


def _bmp(pixels: Pixels, settings: Any, exif: Any, dpi: Any, quality: int) -> Parts:
    return pixels.save("BMP", dpi=dpi)


def _gif(pixels: Pixels, settings: Any, exif: Any, dpi: Any, quality: int) -> Parts:
    comment = None if settings is None else f"{meta.MARK} {meta.dump(settings)}".encode("ascii")
    return pixels.save("GIF", comment=comment)


_ENCODERS = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "AVIF": _avif,
    "TIFF": _tiff,
    "BMP": _bmp,
    "GIF": _gif,
}
