"""Every depth, sort of grey and transparency that PNG and TIFF files, arrays and tensors have."""

import struct
import zlib

import numpy as np
import pytest
import torch
from data import refused
from PIL import Image

from impasto import images

HEIGHT, WIDTH = 21, 26
DOWN, ACROSS = np.mgrid[0:HEIGHT, 0:WIDTH]
RAMPS = np.stack(
    [ACROSS / (WIDTH - 1), DOWN / (HEIGHT - 1), (DOWN * ACROSS % 17) / 16], -1
)  # (H, W, 3), 0..1
CLEAR = np.where(ACROSS < 9, 0.0, np.where(ACROSS < 18, 0.5, 1.0))[..., None]


def planes(pixels):
    """(3, H, W) float32 tensor of (H, W, 1|3)."""
    found = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 2, 0))).float()
    return found.expand(3, -1, -1)


def close(picture, expected, alpha=None):
    """Whether it is `expected` (H, W, 1|3), laid over black by `alpha` (H, W, 1)."""
    if alpha is None or alpha.min() >= 1:
        assert picture.alpha is None
    else:
        torch.testing.assert_close(picture.alpha, planes(alpha)[:1], atol=1e-6, rtol=0)
        expected = expected * alpha
    torch.testing.assert_close(picture.rgb, planes(expected), atol=1e-6, rtol=0)


def packed(rows, bits):
    """The bytes of whole levels (H, N), each row's bits without gaps, the highest first."""
    return [
        int(
            "".join(f"{level:0{bits}b}" for level in row).ljust(-(-len(row) * bits // 8) * 8, "0"),
            2,
        ).to_bytes(-(-len(row) * bits // 8), "big")
        for row in rows.tolist()
    ]


# PNG -------------------------------------------------------------------------------------------

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_SORTS = [
    *((0, depth) for depth in (1, 2, 4, 8, 16)),
    *((3, depth) for depth in (1, 2, 4, 8)),
    *((colour, depth) for colour in (2, 4, 6) for depth in (8, 16)),
]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(levels, depth, colour, *extra, interlaced=False):
    """A PNG file of whole levels (H, W, C)."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [
            *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)),
            (1, 0, 2, 1),
        ]
    data = b""
    for top, left, down, across in passes:
        part = levels[top::down, left::across]
        data += b"".join(b"\0" + row for row in packed(part.reshape(len(part), -1), depth))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize(("colour", "depth"), PNG_SORTS)
def test_reads_every_png(colour, depth, clear, interlaced):
    white = (1 << depth) - 1
    pixels = {0: RAMPS[..., :1], 4: np.concatenate([RAMPS[..., :1], CLEAR], -1)}.get(colour, RAMPS)
    if colour == 6:
        pixels = np.concatenate([RAMPS, CLEAR], -1)
    if colour == 3:
        pixels = RAMPS[..., :1]
    levels = (pixels * white).round().astype(int)
    extra, alpha = [], None
    shares = levels / white
    if colour == 3:
        table = np.random.default_rng(0).integers(0, 256, (white + 1, 3), dtype=np.uint8)
        extra.append(chunk(b"PLTE", table.tobytes()))
        shares = table[levels[..., 0]] / 255
    if clear and colour == 3:
        opacity = np.linspace(0, 255, white + 1).astype(np.uint8)
        extra.append(chunk(b"tRNS", opacity.tobytes()))
        alpha = opacity[levels] / 255
    elif clear and colour in (0, 2):
        key = levels[3, 4]
        extra.append(chunk(b"tRNS", key.astype(">u2").tobytes()))
        alpha = 1.0 - (levels == key).all(-1, keepdims=True)
    elif colour in (4, 6):
        shares, alpha = shares[..., :-1], shares[..., -1:]
    data = png(levels, depth, colour, *extra, interlaced=interlaced)
    close(images.read(data, "black"), shares, alpha)


def test_a_transparent_colour_of_16_bits_is_that_colour_alone():
    levels = (RAMPS * 65535).round().astype(int)
    levels[5, 5], levels[5, 6] = (1000, 2000, 3000), (1001, 2000, 3000)  # the same in 8 bits
    data = png(levels, 16, 2, chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000)))
    alpha = images.read(data).alpha[0]
    assert (alpha[5, 5], alpha[5, 6], alpha.sum()) == (0, 1, HEIGHT * WIDTH - 1)


@pytest.mark.parametrize("name", [b"iTXt", b"zTXt", b"iCCP"])
def test_reads_a_png_with_large_chunks(name):
    text = bytes(np.random.default_rng(0).integers(97, 123, 3_000_000, dtype=np.uint8))
    head = {
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0",
        b"zTXt": b"workflow\0\0",
        b"iCCP": b"profile\0\0",
    }
    levels = (RAMPS * 255).round().astype(int)
    extra = chunk(name, head[name] + zlib.compress(text))
    close(images.read(png(levels, 8, 2, extra)), levels / 255)


def test_a_bomb_of_text_takes_no_memory():
    levels = (RAMPS * 255).round().astype(int)
    extra = chunk(b"zTXt", b"impasto\0\0" + zlib.compress(bytes(1 << 28)))
    close(images.read(png(levels, 8, 2, extra)), levels / 255)


# TIFF ------------------------------------------------------------------------------------------


def tiff(samples, bits, photometric, order="<", kind=1, planar=False, extra=None, rows=HEIGHT):
    """A TIFF file of samples (H, W, S), in strips of some rows, each deflated."""
    channels = samples.shape[2]
    strips = []
    for plane in np.moveaxis(samples, 2, 0)[..., None] if planar else [samples]:
        for top in range(0, HEIGHT, rows):
            part = plane[top : top + rows]
            if bits in (8, 16, 32, 64):
                code = f"{order}{'uif'[kind - 1]}{bits // 8}"
                data = part.astype(code).tobytes()
            else:
                data = b"".join(packed(part.reshape(len(part), -1), bits))
            strips.append(zlib.compress(data))
    entries = [
        *((256, [WIDTH]), (257, [HEIGHT]), (258, [bits] * channels), (259, [8])),
        *((262, [photometric]), (273, [0] * len(strips)), (277, [channels]), (278, [rows])),
        *((279, list(map(len, strips))), (284, [2 if planar else 1])),
        *([] if extra is None else [(338, [extra])]),
        (339, [kind] * channels),
    ]
    at = 8 + 2 + 12 * len(entries) + 4
    first = at + sum(4 * len(values) for _, values in entries if len(values) > 1)
    offsets = np.cumsum([first, *map(len, strips)])[:-1].tolist()
    body, tables = b"", b""
    for tag, values in entries:
        data = struct.pack(f"{order}{len(values)}L", *(offsets if tag == 273 else values))
        if len(values) > 1:
            data, tables = struct.pack(f"{order}L", at + len(tables)), tables + data
        body += struct.pack(f"{order}HHL", tag, 4, len(values)) + data
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}LH", 8, len(entries))
    return head + body + bytes(4) + tables + b"".join(strips)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1, 2])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32])
@pytest.mark.parametrize("planar", [False, True])
def test_reads_tiff_of_every_depth(bits, photometric, order, planar):
    pixels = RAMPS if photometric == 2 else RAMPS[..., :1]
    white = (1 << bits) - 1
    levels = (pixels * white).round().astype(np.int64)
    stored = white - levels if photometric == 0 else levels
    data = tiff(stored, bits, photometric, order, planar=planar, rows=8)
    close(images.read(data), levels / white)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("extra", [0, 1, 2, None])
def test_reads_the_alpha_of_a_tiff(bits, order, planar, colours, extra):
    alpha = CLEAR if extra != 1 else np.maximum(CLEAR, 0.5)
    white = (1 << bits) - 1
    rgb = RAMPS[..., :colours]
    stored = rgb * alpha if extra == 1 else rgb
    levels = (np.concatenate([stored, alpha], -1) * white).round().astype(np.int64)
    data = tiff(levels, bits, 2 if colours == 3 else 1, order, planar=planar, extra=extra)
    picture = images.read(data, "black")
    tolerance = 2.1 / 255 if bits == 8 else 1e-4
    expected = rgb if extra == 0 else rgb * alpha
    torch.testing.assert_close(picture.rgb, planes(expected), atol=tolerance, rtol=0)
    assert (picture.alpha is None) == (extra == 0)


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_reads_tiff_of_floats(bits, photometric):
    pixels = RAMPS if photometric == 2 else RAMPS[..., :1]
    stored = (1 - pixels if photometric == 0 else pixels).astype(f"f{bits // 8}")
    expected = stored.astype(float)
    if photometric == 0:
        expected = 1 - expected
    close(images.read(tiff(stored, bits, photometric, kind=3)), expected)


def test_floats_a_hair_above_1_are_neither_black_nor_refused():
    for white in (1.00001, 1.05):
        data = tiff(RAMPS[..., :1] * white, 32, 1, kind=3)
        close(images.read(data), (RAMPS[..., :1] * white).clip(0, 1))
        image = Image.fromarray((RAMPS[..., 0] * white).astype(np.float32))
        close(images.read(image), (RAMPS[..., :1] * white).clip(0, 1))


def test_high_dynamic_range_is_refused_for_what_it_is():
    data = tiff(RAMPS * 7.3, 32, 2, kind=3)
    refused(lambda: images.read(data), "7.3", "dynamic range", "0..1")
    image = Image.fromarray((RAMPS[..., 0] * 7.3).astype(np.float32))
    refused(lambda: images.read(image), "7.3", "dynamic range")
    refused(lambda: images.read(tiff(RAMPS * np.nan, 32, 2, kind=3)), "NaN")


def test_refuses_a_tiff_of_mixed_depths():
    data = bytearray(tiff((RAMPS * 65535).astype(int), 16, 2))
    at = data.index(struct.pack("<3L", 16, 16, 16))
    data[at : at + 12] = struct.pack("<3L", 16, 8, 16)
    refused(lambda: images.read(bytes(data)), "16, 8, 16 bits")


# Arrays and tensors ----------------------------------------------------------------------------

WHITES = {
    "bool": (1,),
    "uint8": (255,),
    "uint16": (65535,),
    "uint32": (255, 65535, 2**32 - 1),
    "uint64": (255, 65535, 2**32 - 1),
    "int16": (255, 32767),
    "int32": (255, 65535),
    "int64": (255, 65535),
    "float16": (1,),
    "float32": (1,),
    "float64": (1,),
}


@pytest.mark.parametrize(
    ("dtype", "white"), [(dtype, white) for dtype, levels in WHITES.items() for white in levels]
)
def test_reads_every_type_of_number(dtype, white):
    shares = RAMPS.round() if dtype == "bool" else RAMPS
    array = shares * white
    array = array.astype(dtype) if "float" in dtype else array.round().astype(dtype)
    expected = array.astype(float) / white
    close(images.read(array), expected)
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, 2, 0)))
    close(images.read(tensor), expected)


def test_reads_a_tensor_of_bfloat16():
    tensor = planes(RAMPS).bfloat16()
    assert torch.equal(images.read(tensor).rgb, tensor.float())


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
def test_refuses_levels_below_0_and_above_white(dtype):
    for value in (-1, {"int16": -5}.get(dtype, 70000)):
        array = np.zeros((20, 20), dtype)
        array[1, 1] = value
        refused(lambda array=array: images.read(array), "the array", value, "0..1")


def test_a_small_overshoot_is_cut_off_and_a_large_one_is_not():
    wide = RAMPS * 1.16 - 0.08
    close(images.read(wide), wide.clip(0, 1))
    refused(lambda: images.read(RAMPS * 1.2), "1.2", "0..1")
    refused(lambda: images.read(RAMPS - 0.2), "-0.2", "0..1")


@pytest.mark.parametrize(("dtype", "white"), [("int8", 127), ("int16", 32767), ("int32", 65535)])
def test_signed_levels_by_their_white(dtype, white):
    array = np.linspace(0, white, 400).reshape(20, 20).astype(dtype)
    rgb = images.read(array).rgb
    assert float(rgb.max()) == 1
    assert float(rgb.mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("channel", [0, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_a_tiff_with_values_that_are_no_numbers(tmp_path, channel, value):
    samples = np.full((HEIGHT, WIDTH, 4), 0.5, np.float32)
    samples[3, 4, channel] = value
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(samples, 32, 2, kind=3, extra=2))
    refused(lambda: images.read(path), path, "NaN or infinity")


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_signed_tiffs_reach_white(bits, order, photometric):
    pixels = RAMPS if photometric == 2 else RAMPS[..., :1]
    white = (1 << (bits - 1)) - 1
    levels = ((1 - pixels if photometric == 0 else pixels) * white).round().astype(np.int64)
    assert levels.max() == white
    rgb = images.read(tiff(levels, bits, photometric, order, kind=2)).rgb
    torch.testing.assert_close(rgb, planes(pixels), atol=2 / 127, rtol=0)
