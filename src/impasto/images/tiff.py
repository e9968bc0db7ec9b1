"""TIFF variants that Pillow cannot read correctly (deep, planar, float), and writing of TIFF.

Source: TIFF 6.0 (Adobe, 1992), and Adobe's technical notes on floating point and predictors.
"""

import io
import itertools
import math
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..errors import InputError
from .picture import STRIP

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Decoded by libtiff: none, LZW, deflate (two numbers), PackBits, LZMA, Zstandard.
_COMPRESSIONS = (1, 5, 8, 32946, 32773, 34925, 50000)


@dataclass
class Layout:
    """The layout of the pixels of a TIFF, from the tags of its first directory.

    bits: bits of each sample; kind: 1 unsigned, 2 signed, 3 float.
    photometric: 0 white is zero, 1 black is zero, 2 RGB.
    extra: the first sample after the colours: 1 premultiplied alpha, 2 alpha, 0 neither.
    """

    tags: Mapping[int, Any]
    order: str
    height: int
    width: int
    samples: int
    bits: int
    kind: int
    photometric: int
    extra: int
    planar: bool
    compression: int
    predictor: int

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes per pixel of the decoded samples."""
        return self.samples * self.dtype.itemsize

    @property
    def part(self) -> tuple[int, int]:
        """Height and width of a tile, or of a strip."""
        if 322 in self.tags:
            return int(self.tags[323]), int(self.tags[322])
        return int(min(self.tags.get(278, self.height), self.height)), self.width

    @property
    def bytes_decoding(self) -> int:
        """Most bytes that decoding takes: the samples, and a part that is decompressed whole."""
        bytes_whole = self.height * self.width * self.bytes_per_pixel
        if self.compression == 1:
            return bytes_whole
        return bytes_whole + math.prod(self.part) * self.bytes_per_pixel

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the decoded samples."""
        size = next(size for size in (8, 16, 32, 64) if self.bits <= size) // 8
        return np.dtype(f"{'uif'[self.kind - 1]}{size}")


def directory(stream: BinaryIO) -> ImageFileDirectory_v2:
    """The tags of the first picture."""
    stream.seek(0)
    head = stream.read(16)
    if head[:4] == b"MM\0+":  # a BigTIFF that Pillow treats as an ordinary TIFF
        tags = ImageFileDirectory_v2(head[:8])
        tags._bigtiff = True
        (tags.next,) = struct.unpack(">Q", head[8:])
    else:
        tags = ImageFileDirectory_v2(head if head[:4] == b"II+\0" else head[:8])
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def layout_of(stream: BinaryIO, label: str) -> Layout | None:
    """The layout of a TIFF that Pillow cannot read correctly; None if Pillow can read it.

    Raises InputError for a layout that this module cannot read either.
    """
    tags = directory(stream)

    def whole(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        return int(value[0] if isinstance(value, tuple) else value)

    samples, photometric = whole(277, 1), whole(262, 1)
    bits = tags.get(258, (1,))
    kinds = tags.get(339, (1,))
    colors = 3 if photometric == 2 else 1
    if photometric not in (0, 1, 2):
        return None
    planar = whole(284, 1) == 2 and samples > 1
    if not planar and max(bits) <= 8 and set(kinds) <= {1, 4} and _pillow_has(stream):
        return None
    extras = tags.get(338, (2,) if samples == colors + 1 else (0,))
    layout = Layout(
        tags,
        "<" if tags._endian == "<" else ">",
        whole(257, 0),
        whole(256, 0),
        samples,
        bits[0],
        kinds[0] if kinds[0] in (2, 3) else 1,
        photometric,
        (extras[0] if extras and extras[0] in (1, 2) else 0) if samples > colors else 0,
        planar,
        whole(259, 1),
        whole(317, 1),
    )
    if layout.compression not in _COMPRESSIONS:
        return None  # such as JPEG, which Pillow may decode
    fits = layout.kind != 3 or layout.bits in (16, 32, 64)
    if len({*bits}) > 1 or len({*kinds}) > 1 or not 1 <= layout.bits <= 64 or not fits:
        depths = ", ".join(map(str, bits[:4]))
        raise InputError(f"{label}: a TIFF of {depths} bits per sample; save it with 8 or 16")
    if samples < colors or samples > 64 or whole(266, 1) != 1:
        raise InputError(f"{label}: a TIFF with an unusual layout; save it with 8 bits per channel")
    odd = layout.bits not in (8, 16, 32, 64)
    if layout.predictor not in (1, 2, 3) or (odd and (layout.predictor != 1 or layout.bits > 32)):
        raise InputError(f"{label}: a TIFF of {bits[0]} bits, packed; save it with 8 or 16 bits")
    return layout


def _pillow_has(stream: BinaryIO) -> bool:
    stream.seek(0)
    try:
        TiffImagePlugin.TiffImageFile(stream)
    except Exception:  # an unsupported variant, or damaged
        return False
    return True


def decode(stream: BinaryIO, layout: Layout, forgiving: bool = False) -> NDArray[Any]:
    """The samples, (H, W, S).

    forgiving: leave missing parts black, unless all are missing.
    """
    tags = layout.tags
    tiled = 322 in tags
    tall, wide = layout.part
    if tall < 1 or wide < 1 or tall * wide > 1 << 31:
        raise ValueError(f"strips of {wide}x{tall}")
    offsets, counts = tags[324 if tiled else 273], tags.get(325 if tiled else 279)
    if counts is None:
        counts = [1 << 40] * len(offsets)
    planes = layout.samples if layout.planar else 1
    per_pixel = 1 if layout.planar else layout.samples
    out = np.zeros((layout.height, layout.width, layout.samples), layout.dtype)
    down, across = -(-layout.height // tall), -(-layout.width // wide)
    index = 0
    for plane in range(planes):
        for top in range(0, down * tall, tall):
            for left in range(0, across * wide, wide):
                rows = tall if tiled else min(tall, layout.height - top)
                try:
                    stream.seek(offsets[index])
                    lines = _lines(stream, counts[index], layout, rows, wide * per_pixel)
                    # A strip may be the whole picture: a few rows at a time.
                    step = max(1, STRIP // wide)
                    for first in range(0, rows, step):
                        count = min(step, rows - first)
                        block = _block(lines(first, first + count), layout, count, wide, per_pixel)
                        part = out[top + first : top + first + count, left : left + wide]
                        if layout.planar:
                            part = part[..., plane : plane + 1]
                        part[...] = block[: part.shape[0], : part.shape[1]]
                except (OSError, ValueError, IndexError, struct.error):
                    if forgiving and index:
                        return out
                    raise
                index += 1
    return out


def _lines(
    stream: BinaryIO, size: int, layout: Layout, rows: int, count: int
) -> Callable[[int, int], bytes]:
    """A function (first, last) -> bytes of these rows, in order, of the strip or tile that follows.

    size: bytes in the file; rows: of it; count: samples of a row.
    """
    length = -(-count * layout.bits // 8)
    if layout.compression == 1:

        def lines(first: int, last: int) -> bytes:
            return stream.read(max(0, min(size, last * length) - first * length))

        return lines
    data = stream.read(min(size, 2 * rows * length + (1 << 16)))
    image = _decompressed(data, layout, rows, length)
    return lambda first, last: image.crop((0, first, length, last)).tobytes()


def _block(raw: bytes, layout: Layout, rows: int, wide: int, samples: int) -> NDArray[Any]:
    """The samples, (rows, wide, samples), of rows of a strip or tile."""
    bits, count = layout.bits, wide * samples
    length = -(-count * bits // 8)
    if len(raw) < rows * length:
        raise ValueError("image file is truncated")
    lines = np.frombuffer(raw, np.uint8, rows * length).reshape(rows, length)
    if bits not in (8, 16, 32, 64):
        return _unpack(lines, bits, count, layout.dtype).reshape(rows, wide, samples)
    size = bits // 8
    if layout.predictor == 3:  # bytes of all samples, the highest first, as differences
        whole = np.cumsum(lines.reshape(rows, -1, samples), 1, np.uint8).reshape(rows, size, count)
        order, kind = ">", layout.dtype.kind
        lines = np.ascontiguousarray(whole.transpose(0, 2, 1)).reshape(rows, length)
    else:
        order, kind = layout.order, layout.dtype.kind
    values: NDArray[Any] = lines.view(f"{order}{kind}{size}").reshape(rows, wide, samples)
    if layout.predictor == 2:
        unsigned = np.dtype(f"u{size}")
        values = values.view(f"{order}u{size}").astype(unsigned)
        values = np.cumsum(values, 1, unsigned).view(layout.dtype)
    return values


def _unpack(lines: NDArray[np.uint8], bits: int, count: int, dtype: Any) -> NDArray[Any]:
    """Samples (rows, count) from any number of bits up to 32, packed without gaps."""
    start = np.arange(count) * bits
    first, shift = start // 8, start % 8
    padded = np.pad(lines, ((0, 0), (0, 5)))
    values = np.zeros((len(lines), count), np.uint64)
    for byte in range(5):
        values = values << np.uint64(8) | padded[:, first + byte]
    values = values >> (40 - bits - shift).astype(np.uint64) & np.uint64((1 << bits) - 1)
    if np.dtype(dtype).kind == "i":
        signed = values.astype(np.int64)
        return np.where(signed >> (bits - 1) & 1, signed - (1 << bits), signed).astype(dtype)
    return values.astype(dtype)


def _decompressed(data: bytes, layout: Layout, rows: int, length: int) -> Image.Image:
    """The bytes of a compressed strip or tile, as a grey picture.

    Uses the codecs of libtiff through Pillow: the strip is wrapped as a grey TIFF with as many
    pixels as it has bytes.
    """
    entries = (
        *((256, 4, length), (257, 4, rows), (258, 3, 8), (259, 3, layout.compression)),
        *((262, 3, 1), (273, 4, 8 + 2 + 10 * 12 + 4), (277, 3, 1), (278, 4, rows)),
        *((279, 4, len(data)), (284, 3, 1)),
    )
    mark = "II*\0" if layout.order == "<" else "MM\0*"
    file = mark.encode() + struct.pack(f"{layout.order}LH", 8, len(entries))
    for tag, kind, value in entries:
        packed = struct.pack(f"{layout.order}{'H' if kind == 3 else 'L'}", value)
        file += struct.pack(f"{layout.order}HHL", tag, kind, 1) + packed.ljust(4, b"\0")
    with TiffImagePlugin.TiffImageFile(io.BytesIO(file + bytes(4) + data)) as image:
        image.load()
        return image


# Writing ---------------------------------------------------------------------------------------


def encode(
    strips: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    depth: int,
    blocks: Mapping[int, Any],
    dpi: tuple[float, float] | None,
) -> Iterator[bytes]:
    """The parts of an uncompressed TIFF file, whose pixels are made while it is written.

    strips: strips of rows, (h, W, 3) or (h, W, 4), uint8 or uint16, as `depth` says.
    shape: height, width and channels of all of them.
    blocks: further tags: bytes, values, or a mapping for a separate directory.
    """
    height, width, channels = shape
    tags = ImageFileDirectory_v2(b"II*\0" + struct.pack("<L", 8))
    for tag, value in blocks.items():
        tags[tag] = value
    tags[256], tags[257], tags[277], tags[278] = width, height, channels, height
    tags[258] = (depth,) * channels
    tags[259], tags[262], tags[284] = 1, 2, 1
    tags[273], tags[279] = 0, height * width * channels * depth // 8  # follow the directory
    if channels == 4:
        tags[338] = 2
    if dpi:
        tags[282], tags[283] = dpi
        tags[296] = 2
    for tag in (273, 279):
        tags.tagtype[tag] = 4  # always 32 bits
    head = b"".join((b"II*\0", struct.pack("<L", 8), tags.tobytes(8)))
    return itertools.chain([head], (_little(strip) for strip in strips))


def _little(levels: NDArray[Any]) -> bytes:
    return levels.astype(levels.dtype.newbyteorder("<"), copy=False).tobytes()


def big_head(size: tuple[int, int], depth: int, tall: int) -> bytes:
    """The bytes of an uncompressed BigTIFF, RGB in strips of ``tall`` rows, before its first pixel.

    Source: the design of BigTIFF, https://www.awaresystems.be/imaging/tiff/bigtiff.html.
    """
    height, width = size
    row = width * 3 * depth // 8
    strips = -(-height // tall)
    counts = [min(tall, height - top) * row for top in range(0, height, tall)]
    tags = 10
    arrays = 16 + 8 + 20 * tags + 8  # where values stand that are longer than 8 bytes
    start = arrays + 2 * 8 * strips
    short, whole, long = (3, "H"), (4, "I"), (16, "Q")
    entries: list[tuple[int, tuple[int, str], list[int]]] = [
        (256, whole, [width]),
        (257, whole, [height]),
        (258, short, [depth] * 3),  # bits per sample
        (259, short, [1]),  # no compression
        (262, short, [2]),  # RGB
        (273, long, [start + number * tall * row for number in range(strips)]),
        (277, short, [3]),  # samples per pixel
        (278, whole, [tall]),
        (279, long, counts),
        (284, short, [1]),  # samples of a pixel are together
    ]
    order = "<" if sys.byteorder == "little" else ">"
    directory, beyond = struct.pack(f"{order}Q", tags), b""
    for tag, (kind, letter), values in entries:
        data = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(data) > 8:
            data, beyond = struct.pack(f"{order}Q", arrays + len(beyond)), beyond + data
        directory += struct.pack(f"{order}HHQ", tag, kind, len(values)) + data.ljust(8, b"\0")
    head = struct.pack(f"{order}2sHHHQ", b"II" if order == "<" else b"MM", 43, 8, 0, 16)
    return (head + directory + struct.pack(f"{order}Q", 0) + beyond).ljust(start, b"\0")
