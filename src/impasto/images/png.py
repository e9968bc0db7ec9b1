"""PNG chunks: reading beyond the limits of Pillow, and writing of 16 bits per channel."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_LONGEST = 1 << 26  # most bytes of a text or profile that are read
_TEXTS = (b"impasto", b"XML:com.adobe.xmp", b"Raw profile type exif")


class Parts(io.RawIOBase):
    """A stream made of ranges (start, length) of another stream, and of bytes."""

    def __init__(self, stream: BinaryIO, parts: list[tuple[int, int] | bytes]) -> None:
        self.stream, self.parts, self.position = stream, parts, 0
        self.starts = np.cumsum([0, *(len(p) if isinstance(p, bytes) else p[1] for p in parts)])

    def readable(self) -> bool:
        """Always True."""
        return True

    def seekable(self) -> bool:
        """Always True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        """See :meth:`io.IOBase.seek`."""
        self.position = max(0, offset + (0, self.position, int(self.starts[-1]))[whence])
        return self.position

    def readinto(self, buffer: Any) -> int:
        """See :class:`io.RawIOBase`; reads at most to the end of a range."""
        index = int(np.searchsorted(self.starts, self.position, "right")) - 1
        if index >= len(self.parts):
            return 0
        part, skip = self.parts[index], self.position - int(self.starts[index])
        if isinstance(part, bytes):
            data = part[skip : skip + len(buffer)]
        else:
            self.stream.seek(part[0] + skip)
            data = self.stream.read(min(len(buffer), part[1] - skip))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def appended(stream: BinaryIO, tail: bytes) -> BinaryIO:
    """A stream of `stream` followed by `tail`."""
    length = stream.seek(0, io.SEEK_END)
    return io.BufferedReader(Parts(stream, [(0, length), tail]))


@dataclass
class Chunks:
    """The contents of a PNG file.

    stream: a PNG file with only the chunks that define its pixels.
    depth, color: bits per channel, and the type of colour: 0 grey, 2 RGB, 3 palette, 4 and 6 with
    alpha.
    key: the levels of the transparent colour of types 0 and 2.
    info: profile, EXIF, dots per inch and texts, by Pillow's names.
    """

    stream: BinaryIO
    depth: int
    color: int
    key: tuple[int, ...] | None = None
    info: dict[str, Any] = field(default_factory=dict)


def chunks(stream: BinaryIO) -> Chunks:
    """The chunks of a PNG file, which may be damaged after its header."""
    parts: list[tuple[int, int] | bytes] = [SIGNATURE]
    by_name: dict[bytes, bytes] = {}
    info: dict[str, Any] = {}
    depth, color = 8, 2
    stream.seek(len(SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        start = stream.tell()
        if name in _PIXELS or (name == b"tRNS" and color == 3):
            last = parts[-1]
            if isinstance(last, tuple) and last[0] + last[1] == start - 8:
                parts[-1] = (last[0], last[1] + length + 12)
            else:
                parts.append((start - 8, length + 12))
            if name == b"IHDR":
                depth, color = stream.read(10)[8:10]
        elif name in (b"tRNS", b"iCCP", b"eXIf", b"pHYs"):
            by_name.setdefault(name, stream.read(min(length, _LONGEST)))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            begin = stream.read(min(length, 80))
            if begin.partition(b"\0")[0] in _TEXTS:
                with suppress(Exception):
                    key, text = _text(name, begin + stream.read(min(length, _LONGEST) - len(begin)))
                    info.setdefault(key, text)
        stream.seek(start + length + 4)
        if name == b"IEND":
            break
    with suppress(Exception):
        profile = by_name[b"iCCP"].partition(b"\0")[2]
        info["icc_profile"] = inflate(profile[1:])
    if b"eXIf" in by_name:
        info["exif"] = b"Exif\0\0" + by_name[b"eXIf"]
    with suppress(Exception):
        across, down, unit = struct.unpack(">IIB", by_name[b"pHYs"])
        if unit == 1:
            info["dpi"] = (across * 0.0254, down * 0.0254)
    transparent: tuple[int, ...] | None = None
    values = by_name.get(b"tRNS", b"")
    if color in (0, 2) and len(values) >= (2 if color == 0 else 6):
        samples = struct.unpack(">H" if color == 0 else ">3H", values[: 2 if color == 0 else 6])
        transparent = tuple(level & ((1 << depth) - 1) for level in samples)
    return Chunks(io.BufferedReader(Parts(stream, parts)), depth, color, transparent, info)


def inflate(data: bytes) -> bytes:
    """`data` decompressed. Raises ValueError if the result would be longer than 64 MiB."""
    inflater = zlib.decompressobj()
    out = inflater.decompress(data, _LONGEST)
    if inflater.unconsumed_tail:
        raise ValueError("too long")
    return out


def _text(name: bytes, data: bytes) -> tuple[str, str]:
    key, _, rest = data.partition(b"\0")
    if name == b"tEXt":
        return key.decode("latin-1"), rest.decode("latin-1")
    if name == b"zTXt":
        return key.decode("latin-1"), inflate(rest[1:]).decode("latin-1")
    compressed, rest = rest[0], rest[2:].split(b"\0", 2)[2]
    return key.decode("latin-1"), (inflate(rest) if compressed else rest).decode("utf-8")


def low_bytes(stream: BinaryIO, color: int) -> Image.Image:
    """The low bytes of a PNG of 16 bits per channel, of which Pillow keeps only the high bytes.

    For grey with alpha, all four bytes: grey high, grey low, alpha high, alpha low.
    """
    stream.seek(0)
    image = PngImagePlugin.PngImageFile(stream)
    raw = {2: "RGB;16L", 4: "RGBA", 6: "RGBA;16L"}[color]
    image.tile = [(*tile[:3], raw) for tile in image.tile]  # type: ignore[misc]
    return image


# Writing ---------------------------------------------------------------------------------------


def encode16(
    strips: Iterable[NDArray[np.uint16]], shape: tuple[int, int, int], options: Mapping[str, Any]
) -> list[bytes]:
    """The parts of a PNG file of strips of rows, (h, W, 3) or (h, W, 4).

    shape: height, width and channels of all of them.
    options: options of Pillow's writer, which makes the chunks that hold no pixels.
    """
    height, width, channels = shape
    mode = "RGB" if channels == 3 else "RGBA"
    template = io.BytesIO()
    Image.new(mode, (1, 1)).save(template, "PNG", **options)
    out = [SIGNATURE]
    for name, data in _split(template.getvalue()):
        if name == b"IHDR":
            data = struct.pack(">II", width, height) + b"\x10" + data[9:]
        if name != b"IDAT":
            out.append(_chunk(name, data))
        else:
            out.extend(_chunk(name, part) for part in _compressed(strips, width * channels))
    return out


def _split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = len(SIGNATURE)
    while start < len(data):
        length, name = struct.unpack(">I4s", data[start : start + 8])
        yield name, data[start + 8 : start + 8 + length]
        start += length + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _compressed(strips: Iterable[NDArray[np.uint16]], samples: int) -> Iterator[bytes]:
    """The deflated rows, each with the one of two filters that leaves the smaller values.

    samples: in a row.
    """
    deflater = zlib.compressobj(6)
    above = np.zeros((1, 2 * samples), np.uint8)
    for levels in strips:
        reach = 2 * levels.shape[2]  # bytes of a pixel
        strip = levels.astype(">u2").view(np.uint8).reshape(-1, 2 * samples)
        sub = strip.copy()
        sub[:, reach:] -= strip[:, :-reach]
        up = strip - np.concatenate([above, strip[:-1]])
        above = strip[-1:]
        sums = [np.abs(kind.view(np.int8).astype(np.int16)).sum(1) for kind in (sub, up)]
        take_up = sums[1] < sums[0]
        lines = np.empty((len(strip), strip.shape[1] + 1), np.uint8)
        lines[:, 0] = 1 + take_up
        lines[:, 1:] = np.where(take_up[:, None], up, sub)
        yield deflater.compress(lines.tobytes())
    yield deflater.flush()
