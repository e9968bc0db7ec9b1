"""Pictures read and written part by part, so that one of a gigapixel needs little memory.

By libvips, the extra ``huge``, imported late. It gives regions of JPEG, PNG and TIFF alike, and
writes them from a stream. Pillow decodes a whole picture before it gives a part of it; tifffile
knows one of the three, and most compressions only with imagecodecs.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import DiskError, InputError
from ..files import disk_fault, named, reason_of, replacing, scratch, shown
from . import metadata as meta
from .decoders import kind_of
from .picture import Picture, check_pixels, color_of, decoding, levels, resize
from .places import check_format, check_output, check_quality, open_file
from .places import kind_of as kind_of_suffix
from .tiff import big_head

__all__ = ["CanvasWriter", "FileCanvas"]

Compression = Literal["deflate", "lzw", "jpeg", "none"]
_LOADERS = {"JPEG": "jpegload", "PNG": "pngload", "TIFF": "tiffload", "WEBP": "webpload"}
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_WHITES = {"uchar": 255, "ushort": 65535}
_STRIP = 16  # rows of the uncompressed TIFF that a writer collects its picture in
_TILE = 512  # pixels, of the TIFF that it writes
_LOOK = 0.1  # seconds between two looks at the work of libvips
_CLASSIC = 2**32 - 2**27  # bytes of pixels beyond which a TIFF may need the offsets of BigTIFF


def _vips() -> Any:
    """The module pyvips. Raises InputError, with the remedy, if it is not installed."""
    try:
        import pyvips
    except (ImportError, OSError) as fault:  # the latter where libvips itself is missing
        raise InputError(
            'pictures that are read in parts need pyvips: pip install "impasto[huge]"'
        ) from fault
    return pyvips


def _reason(fault: Exception) -> str:
    """The last line of an error of libvips, which says what was wrong."""
    return (str(fault).strip().splitlines() or [""])[-1].strip()


class FileCanvas:
    """A picture file that is seen part by part: JPEG, PNG, TIFF or WebP, of 8 or 16 bits.

    It is upright (EXIF), in sRGB by its colour profile, and blended with the background, as by
    :func:`impasto.images.read`. Tiled TIFFs are read tile by tile. Other files are decoded when a
    part is wanted first; above 100 MB the pixels are kept in a temporary file of libvips, which is
    in the folder that the environment names (TMPDIR).

    Args:
        path: the file.
        background: a colour behind transparent pixels.

    Attributes:
        size: ``(H, W)``.

    Raises:
        InputError: if it cannot be read, also later, when a part of it is found to be damaged; or
            pyvips is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], background: str = "white") -> None:
        vips = _vips()
        path = named(path)
        self._label, color = shown(path), color_of(background)
        with open_file(path) as stream:
            kind = kind_of(stream, self._label, path)
        if kind not in _LOADERS:
            raise InputError(
                f"{self._label}: {kind} cannot be read in parts; give JPEG, PNG, TIFF or WebP"
            )
        with decoding(self._label):
            try:
                # Without `revalidate` an earlier file of this name could be taken from the cache.
                load = getattr(vips.Image, _LOADERS[kind])
                image = load(path, access="random", fail_on="error", revalidate=True).autorot()
                self._image = _in_srgb(image, self._label, color)
            except vips.Error as fault:
                raise ValueError(_reason(fault)) from fault
        self.size = (int(self._image.height), int(self._image.width))
        self._white = _WHITES[self._image.format]
        check_pixels(*self.size, self._label)

    def region(self, rows: slice, columns: slice) -> Tensor:
        """Pixels ``(1, 3, h, w)``, float32, 0..1, on the CPU."""
        top, left = rows.start, columns.start
        check_region(rows, columns, self.size, self._label)
        return self._pixels(self._image, left, top, columns.stop - left, rows.stop - top)

    def at(self, size: tuple[int, int]) -> Tensor:
        """The whole at another ``size``, antialiased bicubic: ``(1, 3, *size)`` in 0..1."""
        height, width = size
        if height > self.size[0] or width > self.size[1]:  # so it is small itself
            return resize(self.region(slice(0, self.size[0]), slice(0, self.size[1])), size)
        down, across = height / self.size[0], width / self.size[1]
        image = self._image.cast("float").resize(across, vscale=down, kernel="cubic")
        return self._pixels(image, 0, 0, width, height).clamp_(0, 1)

    def _pixels(self, image: Any, left: int, top: int, width: int, height: int) -> Tensor:
        vips = _vips()
        with decoding(self._label):
            try:
                data = vips.Region.new(image).fetch(left, top, width, height)
            except vips.Error as fault:
                raise ValueError(_reason(fault)) from fault
        pixels = np.frombuffer(data, _DTYPES[image.format]).reshape(height, width, 3)
        values = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
        return values.contiguous()[None].div_(self._white)


def _in_srgb(image: Any, label: str, color: Tensor) -> Any:
    """RGB of 8 or 16 bits, without alpha."""
    if image.coding != "none":
        raise InputError(f"{label}: its colours are packed ({image.coding}); save it as RGB")
    if image.format not in ("uchar", "ushort"):
        raise InputError(f"{label}: its pixels are no levels ({image.format}); save 8 or 16 bits")
    depth = 8 if image.format == "uchar" else 16
    profile = "icc-profile-data"
    if image.get_typeof(profile) and bytes(image.get(profile)) != meta.srgb_profile():
        options = {"embedded": True, "intent": "perceptual", "depth": depth}
        image = image.icc_transform("srgb", **options)
    white = (1 << depth) - 1
    if image.interpretation == "cmyk":  # as Pillow converts it where there is no profile
        inks = white - image
        image = (inks[:3] * inks[3] / white).rint()
        kind = ("uchar", "srgb") if depth == 8 else ("ushort", "rgb16")
        image = image.cast(kind[0]).copy(interpretation=kind[1])
    image = image.colourspace("srgb" if depth == 8 else "rgb16")
    if image.hasalpha():
        background = [value * white for value in color.flatten().tolist()]
        image = image.cast("float").flatten(background=background, max_alpha=white)
        image = image.rint().cast("uchar" if depth == 8 else "ushort")
    if image.bands != 3:
        raise InputError(f"{label}: has {image.bands} channels; save it as RGB")
    return image


class CanvasWriter:
    """Writes a picture whose parts come in any order: TIFF, in tiles, or JPEG or PNG.

    The parts are collected in a file beside the output: an uncompressed TIFF, which libvips then
    reads strip by strip. (A mapping of that file would count as memory of the process.) The
    collected file goes at the end of the context, whatever happens; the output is written whole or
    not at all. TIFFs above 4 GB are BigTIFFs.

    Args:
        path: of the output; its suffix names the format.
        size: ``(H, W)``.
        depth: bits per channel: 8, or 16 for TIFF and PNG.
        quality: 1..100, for JPEG, also within a TIFF.
        compression: of a TIFF.
        pyramid: whether a TIFF also holds the picture at half, a quarter, ... of its size.

    Raises:
        InputError: for an invalid path, format, size or combination, or if pyvips is not installed.
        DiskError: if the disk has no room for the picture, or refuses it.

    Example:
        >>> with CanvasWriter("out.tif", (2, 16)) as writer:  # doctest: +SKIP
        ...     for row in range(2):
        ...         writer.put(slice(row, row + 1), slice(0, 16), torch.rand(3, 1, 16))
        ...     path = writer.finish()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        depth: Literal[8, 16] = 8,
        *,
        quality: int = 95,
        compression: Compression = "deflate",
        pyramid: bool = False,
    ) -> None:
        _vips()
        self.path, self.size, self.depth = check_output(path, depth=depth), size, depth
        self._label = shown(self.path)
        self._kind = kind_of_suffix(self.path.suffix, self._label)
        if self._kind not in ("TIFF", "JPEG", "PNG"):
            raise InputError(
                f"{self._label}: {self._kind} cannot be written in parts; choose .tif, .jpg or .png"
            )
        check_pixels(*size, self._label)
        if self._kind == "TIFF":
            if compression not in get_args(Compression):
                known = ", ".join(get_args(Compression))
                raise InputError(f"compression {compression!r} is unknown: use {known}")
            if compression == "jpeg" and depth == 16:
                raise InputError(f"{self._label}: JPEG holds no 16 bits; choose deflate or lzw")
        else:
            check_format(self._kind, self._label, size, False, depth)
        check_quality(quality)
        self._quality, self._compression, self._pyramid = quality, compression, pyramid
        self._head = big_head(size, depth, _STRIP)
        self._bytes = size[0] * size[1] * 3 * depth // 8
        self._parts: list[tuple[slice, slice]] = []
        self._stack = ExitStack()

    def __enter__(self) -> CanvasWriter:
        folder = next(parent for parent in self.path.absolute().parents if parent.exists())
        free = shutil.disk_usage(folder).free
        if free < 2 * self._bytes:  # collected, and written
            raise DiskError(
                f"{self._label}: {self.size[1]}x{self.size[0]} pixels need up to "
                f"{2 * self._bytes / 2**30:.1f} GiB while they are written, and {free / 2**30:.1f} "
                "GiB are free; free some space or give another path"
            )
        try:
            self._file: BinaryIO = self._stack.enter_context(scratch(self.path))
            self._file.write(self._head)
        except OSError as fault:
            raise self._refused(fault) from fault
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def put(self, rows: slice, columns: slice, pixels: Tensor) -> None:
        """Add a part ``(3, h, w)`` or ``(1, 3, h, w)`` in 0..1; every pixel belongs to one part.

        Raises:
            InputError: for NaN or infinity, or a part that does not fit or was put before.
            DiskError: if the disk is full.
        """
        check_region(rows, columns, self.size, self._label)
        if any(_overlap(rows, down) and _overlap(columns, across) for down, across in self._parts):
            raise InputError(f"{self._label}: a part was put there before; put each pixel once")
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if pixels.shape[-3:] != (3, height, width) or pixels.numel() != 3 * height * width:
            raise InputError(
                f"{self._label}: a part of shape {tuple(pixels.shape)} where 3x{height}x{width} "
                "belongs"
            )
        pixels = pixels.reshape(3, height, width)
        if not all(value.isfinite() for value in pixels.aminmax()):
            raise InputError(f"{self._label}: the picture holds NaN or infinity; correct it")
        strips = levels(Picture(pixels, None, ""), self.depth)
        # Whole rows lie together in the file.
        lines = strips if width == self.size[1] else itertools.chain.from_iterable(strips)
        number = 0
        try:
            for line in lines:
                before = (rows.start + number) * self.size[1] + columns.start
                self._file.seek(len(self._head) + before * 3 * self.depth // 8)
                self._file.write(line.tobytes())
                number += line.size // (3 * width)
        except OSError as fault:
            raise self._refused(fault) from fault
        self._parts.append((rows, columns))

    def finish(
        self,
        settings: Mapping[str, object] | None = None,
        on_progress: Callable[[float, float], object] | None = None,
    ) -> Path:
        """Write the output from the parts.

        Args:
            settings: embedded as JSON for :func:`impasto.images.read_settings`.
            on_progress: called with the share that is written, and 1.

        Raises:
            InputError: if parts are missing.
            DiskError: if the disk is full, or refuses the file.
        """
        missing = self.size[0] * self.size[1] - sum(map(_area, self._parts))
        if missing:
            raise InputError(f"{self._label}: {missing} pixels are missing; add their parts")
        vips = _vips()
        try:
            self._file.flush()
            options = {"access": "sequential", "fail_on": "error", "revalidate": True}
            image = vips.Image.tiffload(self._file.name, **options)
            image = self._with_metadata(image, settings)
            with replacing(self.path) as file:
                self._save_watched(image, file.name, on_progress)
        except vips.Error as fault:
            raise DiskError(self._refusal(_reason(fault))) from fault
        except OSError as fault:
            raise self._refused(fault) from fault
        return self.path

    def _with_metadata(self, image: Any, settings: Mapping[str, object] | None) -> Any:
        """With the profile, and the settings where ``read_settings`` looks for them."""
        vips = _vips()
        image = image.copy()
        blob, text = vips.GValue.blob_type, vips.GValue.gstr_type
        image.set_type(blob, "icc-profile-data", meta.srgb_profile())
        if settings is None:
            return image
        if self._kind == "PNG":
            image.set_type(text, f"png-comment-0-{meta.MARK}", meta.dump(settings))
        else:
            room = meta.room_in_jpeg() if self._kind == "JPEG" else None
            image.set_type(blob, "xmp-data", meta.packet(settings, room))
        return image

    def _save_watched(
        self, image: Any, name: str, on_progress: Callable[[float, float], object] | None
    ) -> None:
        """Save in another thread: this one draws the bar, and Ctrl-C reaches it at once."""
        shares = [0.0]
        image.set_progress(True)
        image.signal_connect("eval", lambda _, progress: shares.append(progress.percent / 100))
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self._save, image, name)
            try:
                while wait([work], _LOOK).not_done:
                    if on_progress is not None:
                        on_progress(shares[-1], 1.0)
            except BaseException:
                image.set_kill(True)
                raise
            work.result()
        if on_progress is not None:
            on_progress(1.0, 1.0)

    def _save(self, image: Any, name: str) -> None:
        if self._kind == "PNG":
            image.pngsave(name)
        elif self._kind == "JPEG":
            image.jpegsave(name, Q=self._quality, subsample_mode="off")
        else:
            image.tiffsave(
                name,
                tile=True,
                tile_width=min(_TILE, _whole_16(self.size[1])),
                tile_height=min(_TILE, _whole_16(self.size[0])),
                compression=self._compression,
                predictor="horizontal",
                Q=self._quality,
                pyramid=self._pyramid,
                bigtiff=self._bytes * (4 / 3 if self._pyramid else 1) > _CLASSIC,
            )

    def _refused(self, fault: OSError) -> Exception:
        return disk_fault(fault, self._refusal(reason_of(fault)))

    def _refusal(self, reason: str) -> str:
        return f"{self._label}: cannot write it ({reason}); free some space or give another path"


def check_region(rows: slice, columns: slice, size: tuple[int, int], label: str) -> None:
    """Raise InputError for what is no part of a picture of ``size`` ``(H, W)``."""
    spans = zip((rows, columns), size, strict=True)
    if not all(0 <= span.start < span.stop <= length for span, length in spans):
        across, down = (f"{span.start}..{span.stop}" for span in (columns, rows))
        raise InputError(
            f"{label}: columns {across} and rows {down} are no part of {size[1]}x{size[0]} pixels"
        )


def _overlap(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)


def _area(part: tuple[slice, slice]) -> int:
    rows, columns = part
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _whole_16(length: int) -> int:
    """``length`` or a little more: sides of tiles are multiples of 16."""
    return -(-length // 16) * 16
