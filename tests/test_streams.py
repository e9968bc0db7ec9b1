"""Pictures read and written in parts: what ``read`` and ``write`` would give, without the whole."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data import photo
from PIL import Image

from impasto.errors import DiskError, InputError
from impasto.images import read, read_settings, resize, streams, write
from impasto.images.streams import CanvasWriter, FileCanvas

pyvips = pytest.importorskip("pyvips", reason="needs the extra huge")

HEIGHT, WIDTH = 60, 88


@pytest.fixture
def rgb():
    return photo(HEIGHT, WIDTH)


def whole(canvas):
    return canvas.region(slice(0, canvas.size[0]), slice(0, canvas.size[1]))[0]


def parts(size, side=23):
    """Slices of parts that do not suit the strips and tiles of files, last to first."""
    starts = itertools.product(*(range(0, length, side) for length in size))
    for top, left in reversed(list(starts)):
        yield slice(top, min(top + side, size[0])), slice(left, min(left + side, size[1]))


def written(path, rgb, settings=None, **options):
    size = (rgb.shape[-2], rgb.shape[-1])
    with CanvasWriter(path, size, **options) as writer:
        for rows, columns in parts(size):
            writer.put(rows, columns, rgb[:, rows, columns])
        return writer.finish(settings)


def alike(one, other, levels=1.01):
    assert one.shape == other.shape
    assert float((one - other).abs().max()) * 255 <= levels


# Reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_regions_are_those_of_read(tmp_path, rgb, suffix):
    path = write(tmp_path / f"photo{suffix}", rgb)
    canvas, whole_picture = FileCanvas(path), read(path).rgb
    assert canvas.size == (HEIGHT, WIDTH)
    region = canvas.region(slice(13, 50), slice(7, 80))
    assert region.shape == (1, 3, 37, 73) and region.dtype == torch.float32
    alike(region[0], whole_picture[:, 13:50, 7:80], 2 if suffix == ".webp" else 1.01)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_kept(tmp_path, rgb, suffix):
    path = write(tmp_path / f"deep{suffix}", rgb, depth=16)
    alike(whole(FileCanvas(path)), rgb, 0.01)


def test_a_tiled_tiff(tmp_path, rgb):
    path = write(tmp_path / "photo.png", rgb)
    tiled = tmp_path / "tiled.tif"
    pyvips.Image.pngload(str(path)).tiffsave(
        str(tiled), tile=True, tile_width=16, tile_height=16, compression="deflate", bigtiff=True
    )
    for rows, columns in parts((HEIGHT, WIDTH)):
        alike(FileCanvas(tiled).region(rows, columns)[0], rgb[:, rows, columns])


def test_a_photograph_is_upright(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    read(rgb).to_pil().save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    canvas = FileCanvas(tmp_path / "turned.jpg")
    assert canvas.size == (WIDTH, HEIGHT)
    alike(whole(canvas), read(tmp_path / "turned.jpg").rgb)


def test_grey_palette_and_cmyk_become_rgb(tmp_path, rgb):
    image = read(rgb).to_pil()
    for mode, suffix in (("L", "png"), ("P", "png"), ("1", "tif")):
        path = tmp_path / f"{mode}.{suffix}"
        image.convert(mode).save(path)
        alike(whole(FileCanvas(path)), read(path).rgb)
    for path in (tmp_path / "ink.jpg", tmp_path / "ink.tif"):
        image.convert("CMYK").save(path)
        alike(whole(FileCanvas(path)), read(path).rgb)


def test_cmyk_of_16_bits_becomes_rgb(tmp_path, rgb):
    tifffile = pytest.importorskip("tifffile")
    inks = np.asarray(read(rgb).to_pil().convert("CMYK")).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "ink.tif", inks, photometric="separated")
    alike(whole(FileCanvas(tmp_path / "ink.tif")), rgb)


def test_what_is_no_part_is_refused(tmp_path, rgb):
    path = write(tmp_path / "photo.png", rgb)
    message = r"photo.png: columns 0\.\.89 and rows 0\.\.9 are no part of 88x60 pixels"
    with pytest.raises(InputError, match=message):
        FileCanvas(path).region(slice(0, 9), slice(0, WIDTH + 1))
    with CanvasWriter(tmp_path / "out.tif", (HEIGHT, WIDTH)) as writer:
        for rows in (slice(-1, 9), slice(9, 9), slice(50, HEIGHT + 1)):
            with pytest.raises(InputError, match="are no part of 88x60 pixels"):
                writer.put(rows, slice(0, 9), rgb)
        with pytest.raises(InputError, match=r"shape \(3, 60, 88\) where 3x9x9 belongs"):
            writer.put(slice(0, 9), slice(0, 9), rgb)
        writer.put(slice(0, 9), slice(0, 9), rgb[:, :9, :9])
        with pytest.raises(InputError, match="put there before"):
            writer.put(slice(8, 20), slice(8, 20), rgb[:, 8:20, 8:20])
        writer.put(slice(9, HEIGHT), slice(0, 9), rgb[:, 9:, :9])
        writer.put(slice(0, HEIGHT), slice(9, WIDTH), rgb[..., 9:])
        alike(read(writer.finish()).rgb, rgb)


def test_transparent_pixels_are_blended(tmp_path, rgb):
    alpha = torch.linspace(0, 1, WIDTH).expand(1, HEIGHT, WIDTH)
    path = write(tmp_path / "glass.png", rgb, alpha)
    alike(whole(FileCanvas(path)), read(path).rgb, 0.51)
    alike(whole(FileCanvas(path, "#204060")), read(path, "#204060").rgb, 0.51)


def test_colours_are_in_srgb_by_the_profile(tmp_path, rgb):
    image = pyvips.Image.pngload(str(write(tmp_path / "photo.png", rgb)))
    image.icc_transform("p3").pngsave(str(tmp_path / "p3.png"))
    path = tmp_path / "p3.png"
    stored = torch.from_numpy(np.asarray(Image.open(path)) / 255).movedim(2, 0)
    assert float((stored - rgb).abs().max()) > 0.01
    alike(whole(FileCanvas(path)), read(path).rgb, 3.01)


def test_at_another_size_it_is_resized_as_everywhere(tmp_path, rgb):
    canvas = FileCanvas(write(tmp_path / "photo.png", rgb))
    for size in ((30, 44), (15, 22), (91, 133), (HEIGHT, WIDTH)):
        small = canvas.at(size)
        assert small.shape == (1, 3, *size)
        assert float((small[0] - resize(rgb, size)).abs().mean()) < 1 / 255


def test_a_file_that_is_written_again_is_read_again(tmp_path, rgb):
    path = write(tmp_path / "photo.png", rgb)
    whole(FileCanvas(path))
    write(path, 1 - rgb)
    alike(whole(FileCanvas(path)), 1 - rgb)


def test_files_that_cannot_be_read(tmp_path, rgb):
    path = write(tmp_path / "photo.jpg", rgb)
    data = path.read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    (tmp_path / "empty.jpg").touch()
    write(tmp_path / "photo.gif", rgb)
    pyvips.Image.black(64, 64, bands=3).cast("float").tiffsave(str(tmp_path / "float.tif"))
    pyvips.Image.black(64, 8, bands=3).copy(interpretation="srgb").pngsave(
        str(tmp_path / "low.png")
    )
    for name, message in (
        ("cut.jpg", r"cut\.jpg: damaged or cut short \(.*premature end.*\); get a whole copy"),
        ("text.jpg", "text.jpg: not a picture"),
        ("empty.jpg", "empty.jpg: is empty"),
        ("none.jpg", "none.jpg: cannot open it"),
        ("photo.gif", "photo.gif: GIF cannot be read in parts; give JPEG, PNG, TIFF or WebP"),
        ("float.tif", "float.tif: its pixels are no levels .float.; save 8 or 16 bits"),
        ("low.png", "64x8 pixels is too small"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            whole(FileCanvas(tmp_path / name))
        assert "\n" not in str(caught.value)


LARGE = """
import resource, sys
sys.path[:0] = {path!r}
from impasto.images.streams import FileCanvas
import pyvips
column = pyvips.Image.xyz(8000, 5000)
picture = column[0].bandjoin([column[1], column[0] + column[1]]) % 256
options = dict(tile=True, tile_width=256, tile_height=256, compression="lzw")
picture.cast("uchar").copy(interpretation="srgb").tiffsave("large.tif", **options)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
canvas = FileCanvas("large.tif")
assert canvas.size == (5000, 8000)
for top in range(0, 4500, 500):
    region = canvas.region(slice(top, top + 512), slice(4000, 4512))
    assert region[0, 0, 0, 0] * 255 == 4000 % 256 and region[0, 1, 5, 0] * 255 == (top + 5) % 256
small = canvas.at((320, 512))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.linux("asks the system for a peak of memory")
def test_memory_does_not_grow_with_the_picture(tmp_path):
    """40 megapixels are 120 MB in 8 bits, and 480 MB in float32."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE.format(path=sys.path)],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 100


# Writing ---------------------------------------------------------------------------------------

SETTINGS = {"method": "ghiasi", "content": "é <&>.jpg", "brush": 1.0, "pixels": "88x60"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.tif", {}),
        ("out.tif", {"compression": "lzw"}),
        ("out.tif", {"compression": "none"}),
        ("out.tif", {"depth": 16}),
        ("out.tif", {"pyramid": True}),
        ("out.png", {}),
        ("out.png", {"depth": 16}),
        ("out.jpg", {}),
        ("out.tif", {"compression": "jpeg"}),
    ],
)
def test_what_is_put_is_written(tmp_path, rgb, name, options):
    path = written(tmp_path / name, rgb, settings=SETTINGS, **options)
    exact = "jpeg" not in options.values() and path.suffix != ".jpg"
    limit = 0.01 if options.get("depth") == 16 else 0.51 if exact else 16
    alike(read(path).rgb, rgb, limit)
    alike(whole(FileCanvas(path)), rgb, limit)
    assert read_settings(path) == SETTINGS
    assert list(tmp_path.iterdir()) == [path]


def test_a_tiff_is_tiled_and_may_be_a_bigtiff(tmp_path, rgb, monkeypatch):
    path = written(tmp_path / "out.tif", rgb)
    assert path.read_bytes()[:4] == b"II*\0"
    assert pyvips.Image.tiffload(str(path), revalidate=True).get("tile-width") == 96
    monkeypatch.setattr(streams, "_CLASSIC", 100)
    path = written(tmp_path / "big.tif", rgb, settings=SETTINGS)
    assert path.read_bytes()[:4] == b"II+\0"
    alike(read(path).rgb, rgb, 0.51)
    assert read_settings(path) == SETTINGS


def test_long_settings_in_a_jpeg_are_cut(tmp_path, rgb):
    path = written(tmp_path / "out.jpg", rgb, settings={"method": "a", "long": ["x"] * 50_000})
    assert read_settings(path) == {"method": "a", "long": "…"}


def test_the_end_has_a_bar(tmp_path, rgb):
    shares = []
    with CanvasWriter(tmp_path / "out.tif", (HEIGHT, WIDTH)) as writer:
        writer.put(slice(0, HEIGHT), slice(0, WIDTH), rgb[None])
        writer.finish(on_progress=lambda done, total: shares.append(done / total))
    assert shares and sorted(shares) == shares and shares[-1] == 1


@pytest.mark.linux("looks at /proc")
def test_no_file_stays_open(tmp_path, rgb):
    """Windows would not delete the file that was collected in."""
    written(tmp_path / "out.tif", rgb)
    opened = {os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()}
    assert not [path for path in opened if str(tmp_path) in path]


INTERRUPTED = """
import os, signal, sys, threading
sys.path[:0] = {path!r}
import torch
from impasto.images.streams import CanvasWriter
with CanvasWriter("out.tif", (4000, 4000)) as writer:
    writer.put(slice(0, 4000), slice(0, 4000), torch.rand(3, 4000, 4000))
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    writer.finish()
"""


@pytest.mark.posix("sends SIGINT")
def test_ctrl_c_ends_the_writing_and_leaves_nothing(tmp_path):
    """While libvips compresses noise, which takes seconds."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(path=sys.path)],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert not list(tmp_path.iterdir())


def interrupt(done, total):
    raise KeyboardInterrupt


def test_nothing_is_left_of_what_was_not_finished(tmp_path, rgb):
    out, rows, columns = tmp_path / "out.tif", slice(0, HEIGHT), slice(0, WIDTH)
    out.write_bytes(b"an earlier picture")
    with (
        pytest.raises(InputError, match="out.tif: 88 pixels are missing"),
        CanvasWriter(out, (HEIGHT + 1, WIDTH)) as writer,
    ):
        writer.put(rows, columns, rgb)
        writer.finish()
    for wrong in (float("nan"), float("inf")):
        with (
            pytest.raises(InputError, match="out.tif: the picture holds NaN or infinity"),
            CanvasWriter(out, (HEIGHT, WIDTH)) as writer,
        ):
            writer.put(rows, columns, torch.full_like(rgb, wrong))
    with (
        pytest.raises(KeyboardInterrupt),
        CanvasWriter(out, (HEIGHT, WIDTH)) as writer,
    ):
        writer.put(rows, columns, rgb)
        writer.finish(on_progress=interrupt)
    assert out.read_bytes() == b"an earlier picture"
    assert list(tmp_path.iterdir()) == [out]


def test_an_error_of_libvips_is_one_of_the_disk(tmp_path, rgb, monkeypatch):
    def full(*_, **__):
        raise pyvips.Error("unable to call tiffsave\n  write error\n  No space left on device\n")

    monkeypatch.setattr(streams.CanvasWriter, "_save", full)
    with pytest.raises(DiskError, match=r"out.tif: cannot write it \(No space left on device\)"):
        written(tmp_path / "out.tif", rgb)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_before(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    message = (
        r"out.tif: 40000x30000 pixels need up to 6.7 GiB while they are written, and 1.0 GiB are"
    )
    with (
        pytest.raises(DiskError, match=message),
        CanvasWriter(tmp_path / "new" / "out.tif", (30000, 40000)),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("out.webp", (60, 88), {}, "WEBP cannot be written in parts; choose .tif, .jpg or .png"),
        ("out", (60, 88), {}, "has no ending"),
        ("out.jpg", (60, 70000), {}, "JPEG holds at most 65500 pixels a side"),
        ("out.jpg", (60, 88), {"depth": 16}, "JPEG holds no 16 bits"),
        ("out.jpg", (60, 88), {"quality": 300}, "quality is 300: must be a whole number, 1 to 100"),
        ("out.tif", (60, 88), {"depth": 16, "compression": "jpeg"}, "JPEG holds no 16 bits"),
        ("out.tif", (60, 88), {"compression": "zip"}, "compression 'zip' is unknown: use deflate"),
        ("out.tif", (0, 88), {}, "out.tif"),
    ],
)
def test_what_cannot_be_written_is_said_before(tmp_path, name, size, options, message):
    with pytest.raises(InputError, match=message):
        CanvasWriter(tmp_path / name, size, **options)
    assert not list(tmp_path.iterdir())


def test_without_pyvips_the_remedy_is_named(tmp_path, monkeypatch, rgb):
    monkeypatch.setitem(sys.modules, "pyvips", None)
    for call in (
        lambda: FileCanvas(write(tmp_path / "photo.png", rgb)),
        lambda: CanvasWriter(tmp_path / "out.tif", (60, 88)),
    ):
        with pytest.raises(InputError, match=r'need pyvips: pip install "impasto\[huge\]"'):
            call()
