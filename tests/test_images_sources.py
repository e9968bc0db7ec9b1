"""Where pictures come from and go to: bytes, names, folders, limits, damage, memory."""

import io
import logging
import os
import random
import struct
import subprocess
import sys
import textwrap
import threading
import types
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from data import refused
from PIL import Image, features

from impasto import files, images
from impasto.errors import InputError

HEIGHT, WIDTH = 40, 52
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
RGB = torch.from_numpy(NOISE).permute(2, 0, 1).float() / 255
KINDS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")


def saved(kind, pixels=NOISE, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


# Bytes and file objects ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_reads_bytes_and_file_objects(tmp_path, kind):
    data = saved(kind)
    path = tmp_path / "dunes.at night.bin"
    path.write_bytes(data)
    expected = images.read(path)
    for source in (data, bytearray(data), io.BytesIO(data)):
        picture = images.read(source)
        assert torch.equal(picture.rgb, expected.rgb)
        assert picture.name == "picture"
    with open(path, "rb") as stream:
        assert images.read(stream).name == "dunes.at night"
        assert not stream.closed


def test_reads_a_pipe():
    down, up = os.pipe()
    data = saved("PNG")

    def send():
        with open(up, "wb") as stream:
            stream.write(data)

    writer = threading.Thread(target=send)
    writer.start()
    with open(down, "rb") as stream:
        picture = images.read(stream)
    writer.join()
    assert torch.equal(picture.rgb, RGB)
    assert picture.name == "picture"


def test_refuses_bytes_and_file_objects_that_are_no_pictures(tmp_path):
    refused(lambda: images.read(b""), "<bytes>", "not a picture")
    refused(lambda: images.read(b"a.png"), "<bytes>", "not a picture")
    refused(lambda: images.read(io.StringIO("text")), "binary")
    refused(lambda: images.read(io.BytesIO(saved("PNG")[:200])), "<file object>", "damaged")
    with open(tmp_path / "only to write", "wb") as stream:
        refused(lambda: images.read(stream), "only to write", "cannot read")


# Names -----------------------------------------------------------------------------------------

ADDRESSES = ["https://host/a.jpg", "http://host:80/a b.jpg?x=1", "s3://bucket/a.png"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("make", [str, Path])
@pytest.mark.parametrize("call", [images.read, images.check_output, images.read_settings])
def test_an_address_is_no_file(call, make, address):
    refused(lambda: call(make(address)), address, "address", "files", "download")


@pytest.mark.posix("Windows has no colon in names")
def test_a_file_with_a_name_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("http:").mkdir()
    Path("http:/a.png").write_bytes(saved("PNG"))
    assert images.read("http:/a.png").name == "a"


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    "call",
    [
        images.read,
        images.check_output,
        images.read_settings,
        images.list_pictures,
        lambda path: images.write(path, RGB),
    ],
)
def test_an_empty_name_is_refused_as_empty(call, empty):
    refused(lambda: call(empty), "empty name")


def test_files_of_jpeg_are_read_in_folders_as_by_name(tmp_path):
    names = ["a.jfif", "b.JPE", "c.pjpeg", "d.pjp", "e.jpg", "f.jpeg", "g.avif", "h.hif"]
    for name in names:
        (tmp_path / name).write_bytes(saved("JPEG"))
    assert [path.name for path in images.list_pictures(tmp_path)] == names
    for name in names[:6]:
        assert images.read(tmp_path / name).width == WIDTH


# Folders ---------------------------------------------------------------------------------------


def test_lists_the_folders_in_a_folder_when_asked(tmp_path):
    for name in ("b.png", "deep/er/a.jpg", "deep/c.png", ".hidden/d.png", "deep/.e.png", "f.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in images.list_pictures(tmp_path, True)]
    assert found == ["b.png", "deep/c.png", "deep/er/a.jpg"]
    assert [path.name for path in images.list_pictures(tmp_path)] == ["b.png"]


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").touch()
    (tmp_path / "in" / "b" / "y.png").touch()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "in")  # a circle
    (tmp_path / "in" / "b" / "up").symlink_to("..")  # another
    (tmp_path / "in" / "c").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "d").symlink_to(tmp_path / "other")  # the same once more
    (tmp_path / "in" / "z.png").symlink_to("nowhere")
    found = images.list_pictures(tmp_path / "in", recursive=True)
    relative = [path.relative_to(tmp_path / "in").as_posix() for path in found]
    assert relative == ["b/y.png", "c/x.png"]


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_same_file(tmp_path):
    a, b, hard, soft = (tmp_path / name for name in ("a.png", "b.png", "hard.png", "soft.png"))
    a.touch()
    b.touch()
    hard.hardlink_to(a)
    soft.symlink_to("a.png")
    for other in (a, hard, soft, tmp_path / "x" / ".." / "a.png", os.path.relpath(a)):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert files.same_file(a, other)
        refused(lambda other=other: files.check_apart(other, [None, b, a]), "overwrite", other)
    assert not files.same_file(a, b)
    files.check_apart(b, [None, a, hard])
    files.check_apart(b, [])


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_same_file_of_files_that_are_not_there_yet(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert files.same_file(tmp_path / "new.png", tmp_path / "link" / "new.png")
    assert not files.same_file(tmp_path / "new.png", tmp_path / "link" / "other.png")
    upper = files.same_file(tmp_path / "new.png", tmp_path / "NEW.PNG")
    (tmp_path / "probe").touch()
    assert upper == (tmp_path / "PROBE").exists()
    monkeypatch.setattr("impasto.files._ignores_case", lambda path: True)
    assert files.same_file(tmp_path / "new.png", tmp_path / "NEW.PNG")
    assert not files.same_file("a\0b", tmp_path / "a")


# Limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "side"), [(".webp", 16383), (".jpg", 65500), (".gif", 65535), (".avif", 32768)]
)
@pytest.mark.parametrize("clear", [False, True])
def test_a_format_holds_what_it_is_said_to_hold_and_no_more(tmp_path, suffix, side, clear):
    path = tmp_path / f"long{suffix}"
    for size in ((16, side + 1), (side + 1, 16)):
        shape = f"{size[1]}x{size[0]}"
        refused(lambda size=size: images.check_output(path, size, alpha=clear), side, shape, ".png")
        alpha = torch.ones(1, *size) if clear else None
        picture = torch.zeros(3, *size)
        refused(
            lambda picture=picture, alpha=alpha: images.write(path, picture, alpha), side, shape
        )
    assert not path.exists()
    assert images.check_output(path, (16, side), alpha=clear) == path
    alpha = torch.rand(1, 16, side) if clear else None
    source = images.Metadata({0x010F: "Maker"})
    images.write(path, torch.zeros(3, 16, side), alpha, {"a": 1}, source=source)
    assert images.read(path).width == side
    assert images.read_settings(path) == {"a": 1}


def test_limits_of_bytes_and_areas_are_said():
    refused(lambda: images.check_output("a.tif", (40000, 40000)), "TIFF", "4 GiB")
    images.check_output("a.tif", (30000, 40000))
    refused(lambda: images.check_output("a.tif", (30000, 40000), alpha=True), "4 GiB")
    refused(lambda: images.check_output("a.tif", (30000, 40000), depth=16), "4 GiB")
    refused(lambda: images.check_output("a.bmp", (40000, 40000)), "BMP", "4 GiB")
    images.check_output("a.bmp", (30000, 40000), alpha=True)  # which BMP has not
    refused(lambda: images.check_output("a.avif", (20000, 20000)), "AVIF", "pixels in all")
    images.check_output("a.png", (200000, 200000), alpha=True, depth=16)


def test_avif_needs_a_pillow_that_has_it(tmp_path, monkeypatch):
    data = saved("AVIF")
    monkeypatch.setattr(features, "modules", {})
    refused(lambda: images.read(data), "AVIF", "pip install -U pillow")
    refused(lambda: images.check_output(tmp_path / "a.avif"), "AVIF", "pip install -U pillow")


@pytest.mark.parametrize("shape", [(3, 40, 52), (52,), (1, 0, 5), (2, 1, 40, 52)])
def test_refuses_an_alpha_of_another_shape(tmp_path, shape):
    refused(lambda: images.write(tmp_path / "a.png", RGB, torch.ones(shape)), "alpha", shape)


def test_whatever_an_encoder_raises_is_an_input_error(tmp_path, monkeypatch):
    for fault in (struct.error("ushort format"), KeyError("x"), SystemError("bad"), zlib.error()):

        def save(self, *args, fault=fault, **kwargs):
            raise fault

        monkeypatch.setattr(Image.Image, "save", save)
        for suffix in (".jpg", ".png", ".gif"):
            path = tmp_path / f"a{suffix}"
            refused(lambda path=path: images.write(path, RGB), path, "cannot hold")
            assert not path.exists()


# A small size asked for ------------------------------------------------------------------------


def scene(height, width):
    """(H, W, 3) uint8: fine detail and large shapes."""
    down, across = np.mgrid[0:height, 0:width]
    waves = [np.sin(across / 9), np.cos(down / 7 + across / 31), np.sin((across * down) / 5000)]
    noise = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return (np.stack(waves, -1) * 100 + 128 + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("size", [(701, 1003), (1003, 701)])
@pytest.mark.parametrize("orientation", [1, 3, 4, 6, 7])
def test_a_reduced_decode_is_nearly_the_same(kind, size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(kind, scene(*size), exif=exif)
    full = images.read(data)
    for short in (20, 37, 64, 160, 350, 351, 700, 2000):
        small = images.read(data, size=short)
        assert min(small.height, small.width) >= min(3 * short, 701)
        if 6 * short <= 701:
            assert max(small.height, small.width) < 1003
        wanted = images.fit(full.height, full.width, short)
        assert images.fit(small.height, small.width, short) == wanted
        a, b = (images.resize(picture.rgb, wanted) for picture in (full, small))
        assert float((a - b).abs().mean()) <= 2 / 255


def test_the_size_is_that_of_the_full_picture_whatever_the_proportion():
    rng = random.Random(0)
    for _ in range(60):
        height, width = rng.randrange(200, 900), rng.randrange(200, 900)
        picture = np.zeros((height, width), np.uint8)
        for source in (picture, saved("JPEG", picture)):
            short = rng.randrange(16, 100)
            small = images.read(source, size=short)
            expected = images.fit(height, width, short)
            assert images.fit(small.height, small.width, short) == expected
            assert min(small.height, small.width) >= min(3 * short, height, width)


def test_a_reduced_alpha_goes_with_its_picture():
    pixels = np.dstack([scene(400, 600), np.tile(np.arange(600) * 255 // 599, (400, 1))])
    data = saved("PNG", pixels.astype(np.uint8))
    full, small = images.read(data, "black"), images.read(data, "black", size=40)
    assert small.alpha.shape == (1, small.height, small.width)
    for name in ("rgb", "alpha"):
        a, b = (images.resize(getattr(picture, name), (40, 60)) for picture in (full, small))
        assert float((a - b).abs().mean()) <= 2 / 255


def test_a_pillow_image_stays_as_it_is():
    image = Image.open(io.BytesIO(saved("JPEG", scene(400, 600))))
    small = images.read(image, size=20)
    assert min(small.height, small.width) < 100
    assert image.size == (600, 400)


@pytest.mark.parametrize("size", [0, -3, True])
def test_refuses_a_size_that_is_none(size):
    refused(lambda: images.read(NOISE, size=size), "size")


def large_jpeg(height, width):
    """A JPEG of one colour, by repeating the code of its first 16 rows."""
    stream = io.BytesIO()
    row = Image.new("RGB", (width, 16), (90, 120, 200))
    row.save(stream, "JPEG", subsampling=2, restart_marker_rows=1)
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 7] = height.to_bytes(2, "big")
    at = data.index(b"\xff\xda")
    at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    code = bytes(data[at:-2])
    rows = [code + bytes((0xFF, 0xD0 + i % 8)) for i in range(height // 16)]
    return bytes(data[:at]) + b"".join(rows)[:-2] + b"\xff\xd9"


@pytest.mark.linux("its /proc counts memory")
def test_200_megapixels_for_a_small_picture_take_little_memory(tmp_path):
    path = tmp_path / "phone.jpg"
    path.write_bytes(large_jpeg(10000, 20000))
    script = f"""
        from impasto import images
        def used():  # not what the process had that started this one
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        before = used()
        picture = images.read({str(path)!r}, size=64)
        levels = [round(float(value) * 255) for value in picture.rgb.mean((1, 2))]
        print(picture.height, picture.width, *levels, used() - before, used())
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    height, width, red, green, blue, more, peak = map(int, out.stdout.split())
    assert 192 <= height < 400
    assert width == pytest.approx(2 * height, abs=2)
    assert (red, green, blue) == pytest.approx((90, 120, 200), abs=3)
    assert more < 500 * 1024  # KiB
    assert peak < 1024 * 1024
    assert out.stderr == ""


# Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        OSError("out of memory error when reading image file"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        ValueError("Unable to allocate 5.00 GiB for an array"),
    ],
)
def test_no_memory_is_no_damage(monkeypatch, fault):
    def load(self):
        raise fault

    data = saved("PNG")
    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for source in (data, Image.new("RGB", (40, 40))):
        message = refused(lambda source=source: images.read(source), "not enough memory", "iB")
        assert "damaged" not in message


def test_no_memory_to_encode_is_said(monkeypatch, tmp_path):
    def save(self, *args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "save", save)
    refused(lambda: images.write(tmp_path / "a.jpg", RGB), "not enough memory", "smaller")


@pytest.mark.linux("it holds to a limit of address space")
def test_a_limit_of_the_process_counts(tmp_path):
    path = tmp_path / "huge.jpg"
    path.write_bytes(large_jpeg(9008, 9008))
    script = f"""
        import resource
        import psutil
        from impasto.errors import OutOfMemoryError
        from impasto import images
        limit = psutil.Process().memory_info().vms + 600 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            images.read({str(path)!r})
        except OutOfMemoryError as error:
            print("OutOfMemoryError", error)
        print(images.read({str(path)!r}, size=64).width)
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    message, width = out.stdout.splitlines()
    assert message.startswith("OutOfMemoryError")
    assert "9008x9008" in message
    assert "memory" in message
    assert message.count("iB") == 2
    assert int(width) < 300
    assert out.stderr == ""


def test_a_limit_of_a_container_counts(monkeypatch):
    files = {
        "memory.max": "2000000\n",
        "memory.current": "1500000\n",
        "memory.stat": "anon 5\ninactive_file 300000\n",
    }
    true_read = Path.read_text

    def read_text(self, *args, **kwargs):
        if str(self.parent) == "/sys/fs/cgroup":
            return files[self.name]
        return true_read(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    free = types.SimpleNamespace(available=10**9)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    message = refused(lambda: images.check_size(300, 300, "it"), "it", "memory")
    assert "0.8 MiB" in message  # 2,000,000 - 1,500,000 + 300,000
    files["memory.max"] = "max\n"
    images.check_size(300, 300, "it")


# Damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "BMP", "GIF", "TIFF", "deep"])
def test_accepts_what_is_there_of_a_truncated_picture(kind):
    pixels = scene(120, 160)
    if kind == "deep":
        rgb = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        data = images.encode(".png", rgb, depth=16)
    elif kind == "progressive":
        data = saved("JPEG", pixels, progressive=True, quality=95)
    else:
        data = saved(kind, pixels, **({"quality": 95} if kind == "JPEG" else {}))
    whole = images.read(data).rgb
    cut = data[: int(len(data) * 0.6)]
    refused(lambda: images.read(cut), "damaged")
    rgb = images.read(cut, accept_truncated=True).rgb
    part = slice(0, 12) if kind != "BMP" else slice(-12, None)  # which is stored upside down
    tolerance = 0.12 if kind == "progressive" else 1e-6  # whose fine detail comes last
    assert rgb.shape == whole.shape
    assert float((rgb[:, part] - whole[:, part]).abs().mean()) < tolerance
    assert torch.equal(images.read(data, accept_truncated=True).rgb, whole)


def test_refuses_a_truncated_picture_without_pixels_even_so():
    for kind in KINDS:
        refused(lambda kind=kind: images.read(saved(kind)[:14], accept_truncated=True))


def everything():
    """By name, sound files of many sorts."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    files = {kind: saved(kind) for kind in KINDS}
    files |= {f"{kind} exif": saved(kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "AVIF")}
    files["progressive"] = saved("JPEG", progressive=True)
    files["palette"] = saved("PNG", NOISE[..., 0] // 16)
    files["clear"] = saved("WEBP", np.dstack([NOISE, NOISE[..., :1]]), lossless=True)
    for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        files[name] = saved("TIFF", compression=name)
    files["fax"] = saved("TIFF", NOISE[..., 0] > 128, compression="group4")
    for suffix in (".png", ".tif"):
        for depth in (8, 16):
            alpha = RGB[:1]
            files[f"{suffix} {depth}"] = images.encode(suffix, RGB, alpha, {"a": 1}, depth=depth)
    return files


def outcome(call):
    """Whether it gave something, rather than an InputError of one line."""
    try:
        found = call()
    except InputError as error:
        message = str(error)
    else:
        return isinstance(found, dict) or bool(found.rgb.isfinite().all())
    assert len(message.splitlines()) == 1
    assert len(message) < 400
    return False


def test_damaged_files_end_in_a_picture_or_a_line_and_nothing_else(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=10**8))
    lines = []
    handler = logging.Handler()
    handler.emit = lines.append
    logging.getLogger().addHandler(handler)
    rng = random.Random(5)
    taken = 0
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for round_ in range(16):
                for data in everything().values():
                    broken = bytearray(data)
                    if round_ % 4 == 0:
                        del broken[rng.randrange(len(data)) :]
                    elif round_ % 4 == 1:
                        start = rng.randrange(len(data))
                        del broken[start : start + rng.randrange(1, 30)]
                    else:
                        end = len(data) if round_ % 4 == 2 else min(300, len(data))
                        for _ in range(rng.randrange(1, 12)):
                            broken[rng.randrange(end)] = rng.randrange(256)
                    path = tmp_path / "broken"
                    path.write_bytes(broken or b"x")
                    forgiving = round_ % 3 == 0
                    taken += outcome(partial(images.read, path, accept_truncated=forgiving))
                    outcome(partial(images.read_settings, path))
    finally:
        logging.getLogger().removeHandler(handler)
    assert taken > 50
    assert not [str(warning.message) for warning in seen]
    assert not [line.getMessage() for line in lines]
    assert capfd.readouterr() == ("", "")


def test_threads_that_read_at_once_leave_the_process_as_it_was():
    before = (list(warnings.filters), logging.getLogger("PIL").propagate, Image.MAX_IMAGE_PIXELS)
    data = saved("PNG")
    broken = saved("TIFF", compression="tiff_lzw")[:-900]
    found = []

    def work():
        for _ in range(20):
            found.append(torch.equal(images.read(data).rgb, RGB))
            refused(lambda: images.read(broken))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80
    after = (list(warnings.filters), logging.getLogger("PIL").propagate, Image.MAX_IMAGE_PIXELS)
    assert before == after
