"""What `impasto.images` takes, what it gives, and what it says of pictures that will not do."""

import builtins
import errno
import io
import json
import os
import re
import struct
import sys
import types
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from data import refused
from PIL import Image, ImageCms, PngImagePlugin

from impasto import images

SIDE = 24
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (SIDE, SIDE + 8, 3), dtype=np.uint8)
WRITABLE = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".webp", ".avif"),
    *(".tif", ".tiff", ".bmp", ".gif"),
)
FORMATS = {
    suffix: "JPEG" if "j" in suffix else {".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    for suffix in WRITABLE
}
ORIENTATION = 0x0112


@pytest.fixture
def noise():
    """(3, 24, 32), 0..1, in whole 8-bit levels."""
    return torch.from_numpy(NOISE).permute(2, 0, 1).contiguous().float() / 255


def smooth(height=SIDE, width=SIDE + 8):
    """(3, H, W), 0..1: a gradient, which lossy formats keep well."""
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    across = torch.linspace(0, 1, width)[None].expand(height, width)
    return torch.stack([down, across, 1 - down])


def plain(mode, colour, size=(SIDE, SIDE)):
    return Image.new(mode, size, colour)


def levels(picture):
    """The colour of the first pixel, in 0..255."""
    return [round(value * 255) for value in picture.rgb[:, 0, 0].tolist()]


def png16(pixels):
    """A PNG file with 16 bits a channel, of (H, W, C) uint16."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff16(pixels, planar=False):
    """An uncompressed TIFF file with 16 bits a channel, of (H, W, C) uint16."""
    height, width, channels = pixels.shape
    planes = [np.moveaxis(pixels, 2, 0)[i] for i in range(channels)] if planar else [pixels]
    data = [plane.astype("<u2").tobytes() for plane in planes]
    tables, body = b"", b""
    count = 11
    base = 8 + 2 + count * 12 + 4
    at = base + 3 * 4 * channels
    offsets = [at + sum(map(len, data[:i])) for i in range(len(data))]

    def entry(tag, kind, values):
        nonlocal tables
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            where = base + len(tables)
            tables += packed
            packed = struct.pack("<I", where)
        return struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")

    for tag, kind, values in (
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [16] * channels),
        (259, 3, [1]),
        (262, 3, [2 if channels >= 3 else 1]),
        (273, 4, offsets),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(plane) for plane in data]),
        (284, 3, [2 if planar else 1]),
        (338, 3, [2]) if channels in (2, 4) else (339, 3, [1] * channels),
    ):
        body += entry(tag, kind, values)
    start = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", count) + body + bytes(4)
    return start + tables.ljust(at - base, b"\0") + b"".join(data)


def icc(space, tags, kind=b"mntr", pcs=b"XYZ "):
    """A minimal ICC profile, version 2."""
    blank = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)  # the D50 white point
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"x\0",
        b"wtpt": b"XYZ " + bytes(4) + blank,
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"", 0x2100000, kind, space, pcs
    )
    header += bytes(12) + b"acsp" + bytes(28) + blank + bytes(48)
    return header + table + body


LINEAR = b"curv" + bytes(4) + struct.pack(">I", 0)
SRGB_COLUMNS = {
    b"r": (0.43607, 0.22249, 0.01392),
    b"g": (0.38515, 0.71687, 0.09708),
    b"b": (0.14307, 0.06061, 0.71410),
}


def swapped_rgb_profile():
    """Linear, with the primaries of sRGB but red and green swapped."""
    tags = {}
    for name, column in zip("rgb", (b"g", b"r", b"b"), strict=True):
        numbers = [round(value * 65536) for value in SRGB_COLUMNS[column]]
        tags[f"{name}XYZ".encode()] = b"XYZ " + bytes(4) + struct.pack(">3i", *numbers)
        tags[f"{name}TRC".encode()] = LINEAR
    return icc(b"RGB ", tags)


def grey_profile():
    """Linear grey: the level 128 is 188 in sRGB."""
    return icc(b"GRAY", {b"kTRC": LINEAR})


def cmyk_profile():
    """A press whose full cyan, of all inks, prints white and whose blank paper is black."""
    ramp = bytes(range(256))
    corners = b"".join(bytes((255 if node & 8 else 0, 128, 128)) for node in range(16))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + ramp * 4 + corners + ramp * 3
    return icc(b"CMYK", {b"A2B0": lut}, kind=b"prtr", pcs=b"Lab ")


# Files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", WRITABLE)
def test_reads_every_format(tmp_path, suffix):
    path = tmp_path / f"a picture{suffix}"
    flat = plain("RGB", (200, 100, 50), (40, SIDE))
    flat.save(path, FORMATS[suffix], **({"quality": 95} if suffix == ".webp" else {}))
    for source in (path, str(path)):
        picture = images.read(source)
        assert (picture.name, picture.height, picture.width) == ("a picture", SIDE, 40)
        assert picture.rgb.dtype == torch.float32
        assert picture.rgb.shape == (3, SIDE, 40)
        assert picture.rgb.is_contiguous()
        assert picture.alpha is None
        torch.testing.assert_close(
            picture.rgb[:, 3, 3], torch.tensor([200, 100, 50]) / 255, atol=3 / 255, rtol=0
        )


def test_reads_the_content_whatever_the_suffix(tmp_path):
    path = tmp_path / "really.jpg"
    plain("RGB", (1, 2, 3)).save(path, "PNG")
    assert levels(images.read(path)) == [1, 2, 3]


def test_reads_the_first_frame_of_a_gif(tmp_path):
    path = tmp_path / "moving.gif"
    frames = [plain("RGB", colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert levels(images.read(path)) == [255, 0, 0]


def test_does_not_open_other_formats(tmp_path):
    path = tmp_path / "page.eps"
    plain("RGB", "red").save(path)
    refused(lambda: images.read(path), path, "not a picture")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_a_picture_upright(tmp_path, orientation):
    undo = [
        lambda a: a,
        np.fliplr,
        lambda a: np.rot90(a, 2),
        np.flipud,
        lambda a: a.transpose(1, 0, 2),
        np.rot90,
        lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        lambda a: np.rot90(a, -1),
    ]
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation - 1](NOISE))).save(path, exif=exif)
    rgb = images.read(path).rgb.permute(1, 2, 0).mul(255).round().numpy()
    np.testing.assert_array_equal(rgb, NOISE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_is_ignored(tmp_path):
    path = tmp_path / "odd.jpg"
    plain("RGB", "red").save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert images.read(path).height == SIDE


# Modes and bit depths --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255, 255, 255]),
        ("L", 100, [100, 100, 100]),
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("CMYK", (255, 0, 0, 0), [0, 255, 255]),
        ("YCbCr", (128, 128, 128), [128, 128, 128]),
        ("LAB", (255, 128, 128), [255, 255, 255]),
        ("I", 100, [100, 100, 100]),
        ("I", 25700, [100, 100, 100]),
        ("I;16", 25700, [100, 100, 100]),
        ("F", 0.2, [51, 51, 51]),
        ("F", 51.0, [51, 51, 51]),
        ("HSV", (0, 255, 255), [255, 0, 0]),
    ],
)
def test_reads_every_mode(mode, colour, expected):
    picture = images.read(plain(mode, colour))
    assert picture.alpha is None
    assert picture.name == "picture"
    assert picture.rgb.dtype == torch.float32
    assert picture.rgb.shape == (3, SIDE, SIDE)
    assert levels(picture) == pytest.approx(expected, abs=1)


def test_the_scale_of_i_and_f_is_that_of_the_whole_picture():
    image = plain("F", 51.0)
    image.putpixel((3, 3), 40000.0)
    assert images.read(image).rgb[0, 0, 0].item() == pytest.approx(51 / 65535)


@pytest.mark.parametrize(("mode", "value"), [("I", 70000), ("I", -1), ("F", -0.5)])
def test_refuses_grey_levels_that_make_no_sense(mode, value):
    image = plain(mode, 0)
    image.putpixel((5, 5), value)
    refused(lambda: images.read(image), "grey levels", f"{value:g}", "scale them")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_grey_levels_that_are_no_numbers(value):
    image = plain("F", 0)
    image.putpixel((5, 5), value)
    refused(lambda: images.read(image), "NaN or infinity")


def test_reads_a_palette(tmp_path):
    path = tmp_path / "p.png"
    image = plain("P", 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    image.save(path)
    picture = images.read(path)
    assert levels(picture) == [9, 8, 7]
    assert picture.alpha is None


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_reads_a_palette_with_a_transparent_colour(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    image = plain("P", 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    image.putpixel((0, 0), 0)
    image.save(path, transparency=0)
    picture = images.read(path, background="#0000ff")
    assert levels(picture) == [0, 0, 255]
    assert picture.alpha[0, 0, :2].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("mode", "colour", "transparent"), [("RGB", (9, 8, 7), (9, 8, 7)), ("L", 9, 9)]
)
def test_reads_a_transparent_colour_of_a_png_without_alpha(tmp_path, mode, colour, transparent):
    path = tmp_path / "t.png"
    plain(mode, colour).save(path, transparency=transparent)
    picture = images.read(path)
    assert picture.alpha.max() == 0
    assert levels(picture) == [255, 255, 255]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [png16, tiff16])
def test_scales_16_bits(tmp_path, make, channels):
    path = tmp_path / "deep"
    ramp = np.linspace(0, 65535, SIDE * SIDE * channels).astype(np.uint16)
    pixels = ramp.reshape(SIDE, SIDE, channels)
    path.write_bytes(make(pixels))
    picture = images.read(path, background="black")
    scaled = torch.from_numpy(pixels / 65535).float().permute(2, 0, 1)
    expected = scaled[:3] if channels > 2 else scaled[:1].expand(3, -1, -1)
    if channels in (2, 4):
        torch.testing.assert_close(picture.alpha, scaled[-1:])
        expected = expected * scaled[-1:]
    torch.testing.assert_close(picture.rgb, expected)


def test_reads_a_planar_16_bit_tiff(tmp_path):
    path = tmp_path / "planar.tif"
    pixels = RNG.integers(0, 65536, (SIDE, SIDE, 3), dtype=np.uint16)
    path.write_bytes(tiff16(pixels, planar=True))
    expected = torch.from_numpy(pixels / 65535).float().permute(2, 0, 1)
    torch.testing.assert_close(images.read(path).rgb, expected)


def test_a_damaged_tiff_that_pillow_lacks(tmp_path):
    path = tmp_path / "deep.tif"
    data = tiff16(np.zeros((SIDE, SIDE, 2), np.uint16))
    path.write_bytes(data[: len(data) // 2])
    refused(lambda: images.read(path), path, "damaged")


def test_heic_without_the_plugin(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name, data in (
        ("phone.heic", b"anything"),
        ("phone.HEIF", b"anything"),
        ("renamed.jpg", b"\0\0\0\x18ftypheic"),
    ):
        (tmp_path / name).write_bytes(data)
        refused(lambda path=tmp_path / name: images.read(path), name, "pip install pillow-heif")


def test_a_real_heic_file(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif")
    pillow_heif.register_heif_opener()
    Image.new("RGB", (40, 32), (200, 40, 90)).save(tmp_path / "a.heic", quality=95)
    rgb = images.read(tmp_path / "a.heic").rgb
    assert rgb.shape == (3, 32, 40)
    expected = torch.tensor([200, 40, 90]).view(3, 1, 1) / 255
    assert float((rgb - expected).abs().max()) < 0.05


def test_heic_with_the_plugin(tmp_path, monkeypatch):
    def register():
        Image.register_open("HEIF", lambda stream, name: plain("RGB", (7, 8, 9)), lambda head: True)

    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    plugin = types.SimpleNamespace(register_heif_opener=register)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic")
    assert levels(images.read(path)) == [7, 8, 9]


# Colour profiles -------------------------------------------------------------------------------


def test_converts_an_rgb_profile(tmp_path):
    path = tmp_path / "wide.png"
    plain("RGB", (255, 0, 0)).save(path, icc_profile=swapped_rgb_profile())
    assert levels(images.read(path)) == pytest.approx([0, 255, 0], abs=3)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_converts_a_grey_profile(tmp_path, mode):
    path = tmp_path / "grey.png"
    colour = {"L": 128, "LA": (128, 200), "I;16": 128 * 257}[mode]
    plain(mode, colour).save(path, icc_profile=grey_profile())
    picture = images.read(path, background="#bcbcbc")
    assert levels(picture) == pytest.approx([188] * 3, abs=2)
    assert (picture.alpha is not None) == (mode == "LA")


def test_converts_a_grey_picture_with_an_rgb_profile(tmp_path):
    path = tmp_path / "grey.png"
    plain("L", 128).save(path, icc_profile=swapped_rgb_profile())
    assert levels(images.read(path)) == pytest.approx([188] * 3, abs=3)


def test_keeps_the_alpha_of_a_picture_with_a_profile(tmp_path):
    path = tmp_path / "wide.png"
    plain("RGBA", (255, 0, 0, 102)).save(path, icc_profile=swapped_rgb_profile())
    picture = images.read(path, background="lime")
    assert levels(picture) == pytest.approx([0, 255, 0], abs=3)
    assert picture.alpha[0, 0, 0].item() == pytest.approx(0.4)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_converts_cmyk_with_its_profile(tmp_path, suffix):
    path = tmp_path / f"press{suffix}"
    plain("CMYK", (255, 0, 0, 0)).save(path, icc_profile=cmyk_profile())
    assert levels(images.read(path)) == pytest.approx([255] * 3, abs=4)


@pytest.mark.parametrize(
    "profile", [b"nonsense", swapped_rgb_profile()[:150], grey_profile(), cmyk_profile()]
)
def test_a_broken_or_unfit_profile_is_ignored(tmp_path, profile):
    path = tmp_path / "odd.png"
    plain("RGB", (200, 100, 50)).save(path, icc_profile=profile)
    assert levels(images.read(path)) == [200, 100, 50]


def test_an_srgb_profile_changes_nothing(tmp_path, noise):
    path = tmp_path / "srgb.png"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(NOISE).save(path, icc_profile=profile)
    torch.testing.assert_close(images.read(path).rgb, noise, atol=1.01 / 255, rtol=0)


# Transparency ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("background", "expected"), [("white", [255, 153, 153]), ("#00f", [102, 0, 153])]
)
def test_lays_a_transparent_picture_over_the_background(background, expected):
    picture = images.read(plain("RGBA", (255, 0, 0, 102)), background)
    assert levels(picture) == expected
    assert picture.alpha.shape == (1, SIDE, SIDE)
    assert picture.alpha.dtype == torch.float32
    assert picture.alpha.unique().tolist() == pytest.approx([0.4])


def test_white_is_the_background_unless_told():
    assert levels(images.read(plain("LA", (0, 0)))) == [255, 255, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_becomes_none(mode):
    assert images.read(plain(mode, (9, 255) if mode == "LA" else (9, 9, 9, 255))).alpha is None


def test_refuses_an_unknown_background():
    refused(lambda: images.read(plain("RGB", "red"), "wite"), "wite", "#hex")


# Arrays, tensors, Picture ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "white"),
    [("uint8", 255), ("uint16", 65535), ("float32", 1), ("float64", 1), ("bool", 1)],
)
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_reads_an_array(dtype, white, channels):
    shape = (SIDE, 20) if channels is None else (SIDE, 20, channels)
    array = RNG.random(shape)
    array = array > 0.5 if dtype == "bool" else (array * white).astype(dtype)
    before = array.copy()
    picture = images.read(array, background="black")
    planes = torch.from_numpy(array.astype(np.float64).reshape(SIDE, 20, -1) / white)
    planes = planes.permute(2, 0, 1).float()
    expected = planes[:3].expand(3, -1, -1)
    if channels == 4:
        torch.testing.assert_close(picture.alpha, planes[3:])
        expected = expected * planes[3:]
    torch.testing.assert_close(picture.rgb, expected)
    assert picture.name == "picture"
    assert picture.rgb.is_contiguous()
    np.testing.assert_array_equal(array, before)


def test_reads_an_array_that_is_a_reversed_view(noise):
    torch.testing.assert_close(images.read(NOISE[:, ::-1]).rgb, noise.flip(2))


@pytest.mark.parametrize("lead", [(), (1,)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
def test_reads_a_tensor(lead, channels, dtype):
    tensor = torch.rand(*lead, channels, SIDE, 20)
    tensor = (tensor * 255).to(dtype) if dtype == torch.uint8 else tensor.to(dtype)
    picture = images.read(tensor, background="black")
    planes = tensor.reshape(channels, SIDE, 20).float() / (255 if dtype == torch.uint8 else 1)
    expected = planes[:3].expand(3, -1, -1) * (planes[3:] if channels == 4 else 1)
    torch.testing.assert_close(picture.rgb, expected)
    assert (picture.alpha is not None) == (channels == 4)


def test_a_picture_has_nothing_in_common_with_its_tensor(noise):
    source = noise.clone().requires_grad_()
    picture = images.read(source)
    with torch.no_grad():
        source.zero_()
    assert not picture.rgb.requires_grad
    torch.testing.assert_close(picture.rgb, noise)


@pytest.mark.parametrize(
    "shape", [(SIDE,), (3, SIDE, SIDE), (SIDE, SIDE, 2), (SIDE, SIDE, 5), (1, SIDE, SIDE, 3)]
)
def test_refuses_other_array_shapes(shape):
    refused(lambda: images.read(np.zeros(shape)), "the array", shape, "(H, W, 3)")


@pytest.mark.parametrize(
    "shape",
    [(SIDE, SIDE), (SIDE, SIDE, 3), (2, SIDE, SIDE), (2, 3, SIDE, SIDE), (0, 3, SIDE, SIDE)],
)
def test_refuses_other_tensor_shapes(shape):
    refused(lambda: images.read(torch.zeros(shape)), "the tensor", shape, "(3, H, W)")


@pytest.mark.parametrize("value", [-0.5, 1.5, 255.0])
@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_refuses_values_out_of_range(make, value):
    data = np.zeros((SIDE, SIDE, 3) if make is np.array else (3, SIDE, SIDE), np.float32)
    data[1, 1, 1] = value
    refused(lambda: images.read(make(data)), f"{value:g}", "0..1")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_values_that_are_no_numbers(value):
    array = np.full((SIDE, SIDE), value)
    refused(lambda: images.read(array), "the array", "NaN")
    refused(lambda: images.read(torch.from_numpy(array)[None]), "the tensor", "NaN")


def test_values_a_rounding_error_out_of_range_are_clamped():
    picture = images.read(torch.tensor([-1e-6, 1 + 1e-6]).repeat(3, SIDE, SIDE))
    assert (picture.rgb.min(), picture.rgb.max()) == (0, 1)


@pytest.mark.parametrize("dtype", ["complex64"])
def test_refuses_other_types_of_number(dtype):
    zeros = np.zeros((SIDE, SIDE), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(lambda: images.read(zeros), dtype, "uint8")
        refused(lambda: images.read(torch.from_numpy(zeros)[None]), dtype, "uint8")


@pytest.mark.parametrize("source", [None, 3, [1, 2]])
def test_refuses_other_sources(source):
    refused(lambda: images.read(source), type(source).__name__, "path")


def test_returns_a_picture_as_it_is(noise):
    picture = images.Picture(noise, None, "it")
    assert images.read(picture) is picture


def test_names_a_pillow_image_by_its_file_and_leaves_it_alone(tmp_path):
    path = tmp_path / "dunes.png"
    plain("RGBA", (1, 2, 3, 0)).save(path)
    with Image.open(path) as image:
        assert images.read(image).name == "dunes"
        assert image.mode == "RGBA"
        assert image.getpixel((0, 0)) == (1, 2, 3, 0)


def test_to_pil_rounds_and_keeps_alpha(noise):
    image = images.Picture(noise, None, "it").to_pil()
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), NOISE)
    rgb = torch.tensor([-0.2, 0.4999, 1.2]).reshape(3, 1, 1).expand(3, 4, 5)
    image = images.Picture(rgb, torch.full((1, 4, 5), 0.4), "it").to_pil()
    assert (image.mode, image.size) == ("RGBA", (5, 4))
    assert image.getpixel((0, 0)) == (0, 127, 255, 102)


# Files that will not do ------------------------------------------------------------------------


def test_refuses_a_missing_file(tmp_path):
    refused(lambda: images.read(tmp_path / "no.png"), tmp_path / "no.png", "No such file", "check")


def test_refuses_a_folder(tmp_path):
    refused(lambda: images.read(tmp_path), tmp_path, "is a folder")


def test_refuses_an_empty_file(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    refused(lambda: images.read(path), path, "is empty")


@pytest.mark.posix("named pipes that are files")
def test_refuses_a_pipe_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(lambda: images.read(tmp_path / "pipe.png"), "no regular file")


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png"])
def test_refuses_an_impossible_name(name):
    refused(lambda: images.read(name), "cannot open")


def test_a_line_break_in_a_name_stays_out_of_the_message():
    refused(lambda: images.read("two\nlines.png"), r"two\nlines.png")


def test_refuses_what_is_not_a_picture(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("just some text", encoding="utf-8")
    refused(lambda: images.read(path), path, "not a picture", "JPEG")


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif"])
def test_refuses_a_truncated_picture(tmp_path, suffix, part):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.tile(NOISE, (3, 3, 1))).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    message = refused(lambda: images.read(path), path)
    assert "damaged" in message or "not a picture" in message


def test_refuses_a_picture_damaged_inside(tmp_path):
    path = tmp_path / "broken.png"
    Image.fromarray(NOISE).save(path)
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    refused(lambda: images.read(path), path, "damaged", "whole copy")


def test_refuses_a_pillow_image_cut_short(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(NOISE).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with Image.open(path) as image:
        refused(lambda: images.read(image), path, "damaged")


def test_running_out_of_memory_is_not_damage(tmp_path, monkeypatch):
    def load(self):
        raise MemoryError

    image = plain("RGB", "red")
    monkeypatch.setattr(Image.Image, "load", load)
    refused(lambda: images.read(image), "not enough memory", "scale it down")


def test_refuses_an_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    plain("RGB", "red").save(path)
    true_open = builtins.open

    def closed(file, *args, **kwargs):
        if Path(file) == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return true_open(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", closed)
    refused(lambda: images.read(path), path, "Permission denied", "permissions")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", ".gif", ".bmp"])
def test_the_limit_of_pillow_is_not_ours_and_stays_as_it_is(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"large{suffix}"
    plain("RGB", "red", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        assert images.read(path).width == 40
        assert warnings.filters == filters
    assert not seen
    assert Image.MAX_IMAGE_PIXELS == 40


def test_refuses_more_pixels_than_asked_for_before_decoding(tmp_path):
    path = tmp_path / "large.png"
    plain("RGB", "red", (40, 30)).save(path)
    assert images.read(path, max_pixels=1200).width == 40
    path.write_bytes(path.read_bytes()[:60])  # decoding it would end in another error
    for source in (path, np.zeros((30, 40)), torch.zeros(1, 30, 40), plain("L", 0, (40, 30))):
        refused(lambda source=source: images.read(source, max_pixels=1199), "40x30", 1200, 1199)
    for wrong in (0, -1):
        refused(lambda wrong=wrong: images.read(path, max_pixels=wrong), "max_pixels", wrong)
    refused(lambda: images.check_size(30, 40, "it", 1199), "it", 1200, 1199)


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (15, 16), (16, 15)])
def test_refuses_a_strip(tmp_path, size):
    path = tmp_path / "strip.png"
    plain("RGB", "red", size).save(path)
    refused(lambda: images.read(path), path, f"{size[0]}x{size[1]}", "at least 16")
    refused(lambda: images.read(np.zeros(size[::-1])), "the array", "at least 16")
    refused(lambda: images.read(torch.zeros(3, size[1], size[0])), "the tensor", "at least 16")


def test_takes_a_picture_of_the_least_size():
    assert images.MIN_SIDE == 16
    assert images.read(plain("RGB", "red", (16, 16))).width == 16


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", "deep.tif"])
def test_refuses_what_does_not_fit_in_memory_before_decoding(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"big{suffix}"
    if suffix == "deep.tif":
        path.write_bytes(tiff16(np.zeros((3000, 4000, 1), np.uint16)))
    else:
        plain("RGB", "red", (4000, 3000)).save(path)
    pixels = 4000 * 3000
    free = types.SimpleNamespace(available=30 * pixels)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    assert images.read(path, size=20).width < 4000
    free.available = 12 * pixels  # enough for the tensor, not for what the decoder makes too
    if suffix != ".webp":  # which is looked at as a whole
        path.write_bytes(path.read_bytes()[:-20])  # decoding it would end in another error
    message = refused(lambda: images.read(path), path, "4000x3000", "memory", "scale it down")
    assert "137.3 MiB" in message  # what is free, beside what is needed
    assert message.count("iB") == 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", "progressive.jpg"])
def test_what_does_not_fit_is_offered_at_a_size_that_does(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"big{suffix}"
    plain("RGB", "red", (4000, 3000)).save(path, **{"progressive": True} if len(suffix) > 4 else {})
    pixels = 4000 * 3000
    # The tensor, the decoder's pixels, and strips; a progressive JPEG's coefficients too.
    enough = (25 if len(suffix) > 4 else 18) * pixels
    free = types.SimpleNamespace(available=enough)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    assert images.read(path).width == 4000
    free.available = enough // 2
    message = refused(lambda: images.read(path), "4000x3000", "use size=")
    size = int(re.search(r"use size=(\d+)", message)[1])
    assert size >= 333
    assert size <= min(images.read(path, size=size).rgb.shape[1:]) < 3000
    refused(lambda: images.read(path, most_pixels=pixels), "free; scale it down")
    free.available = pixels // 20  # for no size
    refused(lambda: images.read(path), "free; scale it down")


def test_a_check_of_size_counts_what_is_free(monkeypatch):
    free = types.SimpleNamespace(available=400 * 300 * 12)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    images.check_size(300, 400, "it")
    free.available -= 1
    refused(lambda: images.check_size(300, 400, "it"), "it", "400x300", "memory", "size=284 or")
    images.check_size(284, 378, "it")


@pytest.mark.parametrize("size", [(50, 71), (300, 90), (100, 120)])
@pytest.mark.parametrize("shape", [(3, 100, 120), (1, 100, 120), (2, 3, 100, 120)])
def test_a_large_picture_is_resized_by_channel_to_the_same(monkeypatch, shape, size):
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    before = picture.clone()
    whole = images.resize(picture, size)
    monkeypatch.setattr("impasto.images.picture.STRIP", 1000)
    assert torch.equal(images.resize(picture, size), whole)
    assert torch.equal(picture, before)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_tiff_in_one_strip_is_read_a_few_rows_at_a_time(monkeypatch, compression):
    picture = torch.rand(4, 40, 30, generator=torch.Generator().manual_seed(0))
    data = images.encode(".tif", picture[:3], picture[3:], depth=16)
    if compression:
        tifffile = pytest.importorskip("tifffile")
        file, levels = io.BytesIO(), tifffile.imread(io.BytesIO(data))
        kinds = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
        tifffile.imwrite(file, levels, compression=compression, rowsperstrip=40, **kinds)
        data = file.getvalue()
    whole = images.read(data)
    monkeypatch.setattr("impasto.images.tiff.STRIP", 7 * 30)
    again = images.read(data)
    assert torch.equal(again.rgb, whole.rgb)
    assert torch.equal(again.alpha, whole.alpha)
    torch.testing.assert_close(again.alpha, picture[3:], rtol=0, atol=1e-5)
    refused(lambda: images.read(data[:-1000]), "damaged or cut short")


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp"])
def test_strips_write_the_same_file(monkeypatch, suffix, depth, alpha):
    if depth == 16 and suffix not in (".png", ".tif"):
        pytest.skip("a format of 8 bits")
    rgb, share = torch.rand(4, 50, 40, generator=torch.Generator().manual_seed(0)).split((3, 1))
    parts = (rgb, share if alpha else None)
    whole = images.read(images.encode(suffix, *parts, depth=depth))
    monkeypatch.setattr("impasto.images.picture.STRIP", 7 * 40)
    again = images.read(images.encode(suffix, *parts, depth=depth))
    assert torch.equal(again.rgb, whole.rgb)
    assert again.alpha is whole.alpha is None or torch.equal(again.alpha, whole.alpha)


# Sizes -----------------------------------------------------------------------------------------


def test_resize_gives_the_size_and_keeps_the_range(noise):
    hard = (noise > 0.5).float()
    for size in ((60, 70), (7, 9), (SIDE, 10)):
        scaled = images.resize(hard, size)
        assert scaled.shape == (3, *size)
        assert scaled.min() >= 0
        assert scaled.max() <= 1


def test_resize_takes_any_leading_shape(noise):
    stack = torch.stack([noise, 1 - noise]).reshape(2, 1, *noise.shape)
    scaled = images.resize(stack, (10, 12))
    assert scaled.shape == (2, 1, 3, 10, 12)
    torch.testing.assert_close(scaled[1, 0], images.resize(1 - noise, (10, 12)))


def test_resize_to_the_same_size_is_the_identity(noise):
    assert torch.equal(images.resize(noise * 3 - 1, (SIDE, SIDE + 8)), noise * 3 - 1)


def test_resize_is_antialiased_and_bicubic():
    stripes = (torch.arange(240) % 2).float().expand(1, 24, 240)
    inner = images.resize(stripes, (24, 30))[..., 5:-5]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.02, rtol=0)
    ramp = smooth(32, 32)
    image = Image.fromarray(ramp[0].numpy())
    expected = np.asarray(image.resize((12, 12), Image.Resampling.BICUBIC))
    torch.testing.assert_close(
        images.resize(ramp, (12, 12))[0], torch.tensor(expected), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((600, 800), 300, (300, 400)),
        ((800, 600), 300, (400, 300)),
        ((333, 1000), 100, (100, 300)),
        ((16, 16), 256, (256, 256)),
        ((3000, 2999), 1, (1, 1)),
        ((7, 11), 7, (7, 11)),
        ((10, 19), 0, (1, 1)),
    ],
)
def test_fit(size, short, expected):
    assert images.fit(*size, short) == expected


# Writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*WRITABLE, ".PNG"])
def test_writes_what_it_reads(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"out{suffix}"
    rgb = smooth()
    assert images.write(str(path), rgb[None]) == path
    with Image.open(path) as image:
        assert image.format == FORMATS[suffix.lower()]
    tolerance = {".png": 0.51, ".bmp": 0.51, ".tif": 0.51, ".tiff": 0.51, ".gif": 48, ".PNG": 0.51}
    back = images.read(path).rgb
    torch.testing.assert_close(back, rgb, atol=tolerance.get(suffix, 12) / 255, rtol=0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_keeps_the_alpha_where_the_format_can(tmp_path, suffix):
    alpha = torch.ones(1, SIDE, SIDE + 8)
    alpha[..., :10] = 0.4
    path = images.write(tmp_path / f"out{suffix}", smooth(), alpha)
    torch.testing.assert_close(images.read(path).alpha, alpha, atol=1 / 255, rtol=0)
    with Image.open(path) as image:  # the colours are kept as they are, not laid over anything
        assert image.mode == "RGBA"
        assert image.getpixel((4, 0))[2] == pytest.approx(255, abs=12)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".gif"])
def test_lays_over_the_background_where_the_format_cannot(tmp_path, suffix):
    red = torch.tensor([1.0, 0, 0]).reshape(3, 1, 1).expand(3, SIDE, SIDE)
    alpha = torch.full((1, SIDE, SIDE), 0.4)
    path = images.write(tmp_path / f"out{suffix}", red, alpha)
    assert levels(images.read(path)) == pytest.approx([255, 153, 153], abs=3)
    images.write(path, red, alpha, background="#0000ff")
    assert levels(images.read(path)) == pytest.approx([102, 0, 153], abs=3)


def test_an_alpha_of_another_size_is_resized(tmp_path):
    path = images.write(tmp_path / "out.png", smooth(), torch.full((1, 5, 6), 0.4))
    assert images.read(path).alpha.unique().tolist() == pytest.approx([0.4])


def test_jpeg_has_full_chroma_and_the_quality_asked_for(tmp_path, noise):
    path = images.write(tmp_path / "out.jpg", noise)
    with Image.open(path) as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}
        tables = image.quantization
    with Image.open(images.write(tmp_path / "default.jpg", noise, quality=95)) as image:
        assert image.quantization == tables
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, "JPEG", quality=95)
    assert Image.open(stream).quantization == tables
    small = images.write(tmp_path / "small.jpg", noise, quality=30)
    assert small.stat().st_size < path.stat().st_size


def test_webp_has_the_quality_asked_for(tmp_path, noise):
    sizes = [
        images.write(tmp_path / "out.webp", noise, **options).stat().st_size
        for options in ({}, {"quality": 95}, {"quality": 30})
    ]
    assert sizes[0] == sizes[1] > sizes[2]


@pytest.mark.posix("Windows has no permission bits")
def test_new_files_have_normal_permissions(tmp_path, noise):
    umask = os.umask(0o027)
    try:
        path = images.write(tmp_path / "out.png", noise)
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("moment", ["write", "replace"])
@pytest.mark.parametrize("old", [True, False])
def test_a_failure_leaves_all_as_it_was(tmp_path, monkeypatch, noise, moment, old):
    path = tmp_path / "out.png"
    if old:
        path.write_bytes(b"the old file")

    class Full(io.FileIO):
        def write(self, data):
            super().write(bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    if moment == "write":
        monkeypatch.setattr(builtins, "open", lambda file, mode: Full(file, mode))
    else:

        def replace(source, target):
            assert Path(source).parent == tmp_path
            assert Path(source).read_bytes().startswith(b"\x89PNG")
            assert path.exists() == old
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "replace", replace)
    refused(lambda: images.write(path, noise), path, "No space left")
    assert list(tmp_path.iterdir()) == ([path] if old else [])
    assert not old or path.read_bytes() == b"the old file"


def test_an_interruption_leaves_no_part(tmp_path, monkeypatch, noise):
    def replace(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        images.write(tmp_path / "out.png", noise)
    assert not list(tmp_path.iterdir())


def test_replaces_an_old_file(tmp_path, noise):
    path = tmp_path / "out.png"
    path.write_bytes(b"the old file")
    images.write(path, noise)
    torch.testing.assert_close(images.read(path).rgb, noise)


def test_refuses_a_picture_that_the_format_cannot_hold(tmp_path):
    path = tmp_path / "long.webp"
    refused(lambda: images.write(path, torch.zeros(3, 16, 17000)), path, "17000x16", ".png")
    assert not path.exists()


@pytest.mark.parametrize("shape", [(1, 20, 20), (4, 20, 20), (2, 3, 20, 20), (20, 20), (3, 0, 9)])
def test_refuses_to_write_other_shapes(tmp_path, shape):
    refused(lambda: images.write(tmp_path / "a.png", torch.zeros(shape)), "a.png", shape)


def test_refuses_to_write_nan(tmp_path):
    refused(lambda: images.write(tmp_path / "a.png", torch.full((3, 9, 9), torch.nan)), "NaN")


def test_refuses_to_write_over_an_unknown_background(tmp_path, noise):
    refused(lambda: images.write(tmp_path / "a.png", noise, background="wite"), "wite")


# Settings --------------------------------------------------------------------------------------

SETTINGS = {
    "method": "gatys",
    "weights": [1, 0.5, None],
    "title": "Vétheuil, 雪 🎨 \n",
    "deep": {"a": True},
}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif"])
@pytest.mark.parametrize("alpha", [None, torch.full((1, SIDE, SIDE + 8), 0.5)])
def test_settings_come_back(tmp_path, suffix, alpha):
    path = images.write(tmp_path / f"out{suffix}", smooth(), alpha, settings=SETTINGS)
    assert images.read_settings(str(path)) == SETTINGS
    assert images.read(path).width == SIDE + 8


def test_settings_are_where_png_readers_look(tmp_path):
    path = images.write(tmp_path / "out.png", smooth(), settings=SETTINGS)
    with Image.open(path) as image:
        assert json.loads(image.text["impasto"]) == SETTINGS


def test_settings_of_other_types_become_text(tmp_path):
    path = images.write(tmp_path / "out.png", smooth(), settings={"style": Path("a.jpg")})
    assert images.read_settings(path) == {"style": "a.jpg"}


def test_bmp_carries_no_settings(tmp_path):
    path = images.write(tmp_path / "out.bmp", smooth(), settings=SETTINGS)
    refused(lambda: images.read_settings(path), path, "no impasto settings", "BMP")


@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_picture_without_settings_says_so(tmp_path, suffix):
    path = images.write(tmp_path / f"out{suffix}", smooth())
    refused(lambda: images.read_settings(path), path, "no impasto settings")


def test_the_comments_of_others_are_no_settings(tmp_path):
    gif, jpg, png = (tmp_path / name for name in ("a.gif", "a.jpg", "a.png"))
    image = plain("RGB", "red")
    image.save(gif, comment=b'{"a": 1}')
    exif = Image.Exif()
    exif[0x0131] = "someone else"
    exif.get_ifd(0x8769)[0x9286] = b'ASCII\0\0\0{"a": 1}'
    image.save(jpg, exif=exif)
    text = PngImagePlugin.PngInfo()
    text.add_text("impasto", "{broken")
    image.save(png, pnginfo=text)
    for path in (gif, jpg, png):
        refused(lambda path=path: images.read_settings(path), path, "no impasto settings")


def test_settings_too_long_for_a_jpeg_are_cut(tmp_path):
    path = tmp_path / "out.jpg"
    settings = {"prompt": "x" * 70000, "method": "adain", "names": ["a"] * 40000}
    found = images.read_settings(images.write(path, smooth(), settings=settings))
    assert found["method"] == "adain"
    assert found["prompt"] == "x" * 200 + "…"
    assert images.read(path).width == SIDE + 8
    many = {f"name {i}": i for i in range(9000)}
    assert images.read_settings(images.write(path, smooth(), settings=many)).items() < many.items()
    for suffix in (".png", ".webp", ".avif", ".tif", ".gif"):
        path = images.write(tmp_path / f"out{suffix}", smooth(), settings=settings)
        assert images.read_settings(path) == settings


def test_read_settings_refuses_what_is_no_picture(tmp_path):
    refused(lambda: images.read_settings(tmp_path / "no.png"), "No such file")
    (tmp_path / "notes.png").write_text("text", encoding="utf-8")
    refused(lambda: images.read_settings(tmp_path / "notes.png"), "not a picture")


# Folders and outputs ---------------------------------------------------------------------------


def test_lists_the_pictures_of_a_folder(tmp_path):
    for name in ("b.JPG", "a.png", "c.heic", "notes.txt", "._a.png", "d.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.list_pictures(str(tmp_path))] == [
        "a.png",
        "b.JPG",
        "c.heic",
        "d.webp",
    ]


def test_lists_no_folder_that_is_not_there(tmp_path):
    refused(lambda: images.list_pictures(tmp_path / "no"), tmp_path / "no", "No such file")
    (tmp_path / "file").touch()
    refused(lambda: images.list_pictures(tmp_path / "file"), tmp_path / "file", "a folder")


def test_suffixes():
    assert set(images.SUFFIXES) == {*WRITABLE, ".heic", ".heif", ".hif", ".apng", ".mpo"}


def test_check_output_makes_nothing(tmp_path):
    path = tmp_path / "new" / "folder" / "a.png"
    assert images.check_output(str(path)) == path
    assert not list(tmp_path.iterdir())


CHECKS = [images.check_output, lambda path: images.write(path, smooth())]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", ["a.xyz", "a.heic"])
def test_refuses_an_unknown_suffix(tmp_path, check, name):
    refused(lambda: check(tmp_path / name), tmp_path / name, "cannot write the format", ".png")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", ["a", ".png", ""])
def test_refuses_a_name_without_an_ending(tmp_path, check, name):
    path = tmp_path / name
    refused(lambda: check(path), path, "has no ending", f"{path}.png", f"{path}/")


@pytest.mark.parametrize("check", CHECKS)
def test_refuses_a_folder_as_output(tmp_path, check):
    (tmp_path / "a.png").mkdir()
    refused(lambda: check(tmp_path / "a.png"), tmp_path / "a.png", "is a folder")


@pytest.mark.parametrize("check", CHECKS)
def test_refuses_a_file_as_the_folder_of_an_output(tmp_path, check):
    (tmp_path / "file").touch()
    refused(lambda: check(tmp_path / "file" / "new" / "a.png"), "not a folder")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", ["a.png", "new/a.png"])
def test_refuses_a_read_only_folder(tmp_path, monkeypatch, check, name):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path or mode == os.R_OK)
    refused(lambda: check(tmp_path / name), tmp_path / name, "cannot write in the folder")


@pytest.mark.parametrize("check", CHECKS)
def test_refuses_an_impossible_output(tmp_path, check):
    refused(lambda: check(tmp_path / ("x" * 5000 + ".png")), "give another")


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "out.png"
    link.symlink_to(tmp_path / "elsewhere" / "real.png")
    for value in (0.0, 1.0):
        images.write(link, torch.full((3, 16, 20), value))
        assert link.is_symlink()
        assert float(images.read(tmp_path / "elsewhere" / "real.png").rgb.mean()) == value
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real.png"]
