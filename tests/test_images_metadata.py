"""What files carry beside their pixels: what is kept of a source, what is written, what is read."""

import io
import json
import struct

import numpy as np
import pytest
import torch
from data import refused
from PIL import Image, ImageCms, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from impasto import images

HEIGHT, WIDTH = 24, 32
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
RGB = torch.from_numpy(NOISE).permute(2, 0, 1).float() / 255
SETTINGS = {"method": "gatys", "title": "Vétheuil, 雪 🎨 <&> \n", "weights": [1, 0.5, None]}
EXIF, GPS = 0x8769, 0x8825
WITH_EXIF = [".jpg", ".png", ".webp", ".avif", ".tif"]
DEEP = [(".png", 16), (".tif", 16)]
THUMBNAIL = b"\xff\xd8\xff\xe0 a small photograph \xff\xd9"


def camera(orientation=6):
    """The EXIF block of a phone: camera, dates, lens, place, maker's note, sizes, a thumbnail."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Maker", "Phone 3", "1.2.3"
    exif[0x0112] = orientation
    exif[0x0132] = "2024:05:06 07:08:09"
    exif[0x0100], exif[0x0101] = 4000, 3000
    exif[EXIF] = {
        0x9003: "2024:05:06 07:08:09",
        0x9011: "+02:00",
        0x829A: IFDRational(1, 250),
        0x8827: 100,
        0xA434: "28 mm",
        0xA002: 4000,
        0xA003: 3000,
        0x927C: b"maker's own " * 50,
        0x9286: b'ASCII\0\0\0{"method": "of another program"}',
    }
    exif[GPS] = {1: "N", 2: (IFDRational(48), IFDRational(12), IFDRational(5))}
    # The second directory, with the thumbnail, is put in by hand: the last thing in the block.
    data = exif.tobytes()
    tiff = data[6:]
    order = "<" if tiff[:2] == b"II" else ">"
    (first,) = struct.unpack(f"{order}L", tiff[4:8])
    (count,) = struct.unpack(f"{order}H", tiff[first : first + 2])
    link = first + 2 + 12 * count
    at = len(tiff)
    table = struct.pack(f"{order}H", 3)
    for tag, value in ((0x0103, 6), (0x0201, at + 2 + 36 + 4), (0x0202, len(THUMBNAIL))):
        table += struct.pack(f"{order}HHLL", tag, 4, 1, value)
    tiff = tiff[:link] + struct.pack(f"{order}L", at) + tiff[link + 4 :]
    return data[:6] + tiff + table + bytes(4) + THUMBNAIL


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(NOISE).save(path, exif=camera(), dpi=(300, 300), quality=95)
    assert THUMBNAIL in path.read_bytes()
    return path


def written(tmp_path, suffix, depth=8, **options):
    return images.write(tmp_path / f"out{suffix}", RGB, depth=depth, **options)


# What is kept of a source ----------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "depth"), [*((suffix, 8) for suffix in WITH_EXIF), *DEEP])
@pytest.mark.parametrize("keep_gps", [False, True])
def test_keeps_dates_and_camera_and_no_more(tmp_path, photo, suffix, depth, keep_gps):
    source = images.read(photo)
    assert (source.width, source.height) == (HEIGHT, WIDTH)  # turned upright
    path = written(
        *(tmp_path, suffix, depth), source=source.metadata, keep_gps=keep_gps, settings=SETTINGS
    )
    with Image.open(path) as image:
        exif = image.getexif()
        inner, place = exif.get_ifd(EXIF), exif.get_ifd(GPS)
        assert (exif[0x010F], exif[0x0110], exif[0x0131]) == ("Maker", "Phone 3", "1.2.3")
        assert exif[0x0132] == inner[0x9003] == "2024:05:06 07:08:09"
        assert (inner[0x9011], inner[0x8827], inner[0xA434]) == ("+02:00", 100, "28 mm")
        assert float(inner[0x829A]) == pytest.approx(1 / 250)
        assert exif.get(0x0112, 1) == 1
        assert not {0xA002, 0xA003, 0x927C} & set(inner)
        assert suffix == ".tif" or not {0x0100, 0x0101} & set(exif)
        assert (place[1] == "N" and place[2] == (48, 12, 5)) if keep_gps else not place
    data = path.read_bytes()
    assert b"a small photograph" not in data
    assert b"maker's own" not in data
    again = images.read(path)
    assert (again.width, again.height) == (WIDTH, HEIGHT)
    assert images.read_settings(path) == SETTINGS
    assert again.metadata.about[0x0110] == "Phone 3"
    assert bool(again.metadata.place) == keep_gps


@pytest.mark.parametrize("suffix", WITH_EXIF)
def test_reads_the_metadata_of_every_format(tmp_path, suffix):
    path = tmp_path / f"source{suffix}"
    exif = Image.Exif()
    exif.load(camera(orientation=3))
    if suffix == ".tif":  # whose own they are
        del exif[0x0100], exif[0x0101]
    Image.fromarray(NOISE).save(path, exif=exif)
    picture = images.read(path)
    assert picture.metadata.about[0x010F] == "Maker"
    assert picture.metadata.exposure[0x9003] == "2024:05:06 07:08:09"
    assert picture.metadata.place[1] == "N"
    assert picture.rgb.shape == (3, HEIGHT, WIDTH)
    if suffix in (".png", ".tif"):
        assert torch.equal(picture.rgb, RGB.flip(1, 2))


def test_reads_the_metadata_of_a_deep_tiff(tmp_path, photo):
    path = written(tmp_path, ".tif", 16, source=images.read(photo).metadata, keep_gps=True)
    again = images.read(path).metadata
    assert again.about[0x010F] == "Maker"
    assert again.exposure[0x8827] == 100
    assert again.place[1] == "N"
    assert again.dpi == (300, 300)


@pytest.mark.parametrize(("suffix", "depth"), [*((s, 8) for s in (*WITH_EXIF, ".bmp")), *DEEP])
def test_keeps_dots_per_inch(tmp_path, photo, suffix, depth):
    source = images.read(photo).metadata
    assert source.dpi == (300, 300)
    path = written(tmp_path, suffix, depth, source=source)
    assert images.read(path).metadata.dpi == pytest.approx((300, 300), abs=0.1)
    plain = images.read(written(tmp_path, suffix, depth)).metadata.dpi
    assert plain is None or plain[0] < 100


def test_arrays_have_no_metadata():
    assert images.read(NOISE).metadata is None
    assert images.read(RGB).metadata is None


def test_metadata_is_no_part_of_what_makes_pictures_equal():
    a, b = (images.Picture(RGB, None, "it", images.Metadata(dpi=(n, n))) for n in (72, 300))
    assert "metadata" not in repr(a)
    assert images.Picture(RGB, None, "it") == images.Picture(RGB, None, "it", a.metadata)
    assert a == b


@pytest.mark.parametrize(("suffix", "depth"), [*((s, 8) for s in (*WITH_EXIF, ".gif")), *DEEP])
def test_no_metadata_is_none_at_all(tmp_path, photo, suffix, depth):
    options = {"source": images.read(photo).metadata, "settings": SETTINGS, "keep_gps": True}
    path = written(tmp_path, suffix, depth, metadata=False, **options)
    refused(lambda: images.read_settings(path), "no impasto settings")
    with Image.open(path) as image:
        exif = image.getexif()
        assert not exif.get_ifd(EXIF)
        assert not exif.get_ifd(GPS)
        assert not {0x010F, 0x0110, 0x0131, 0x0132, 0x02BC} & set(exif)
        assert not {"xmp", "exif", "comment"} & set(image.info)
    for word in (b"gatys", b"Maker", b"2024", b"xpacket", b"impasto", b"tEXt", b"iTXt", b"pHYs"):
        assert word not in path.read_bytes()


@pytest.mark.parametrize("suffix", WITH_EXIF)
def test_a_damaged_exif_block_is_no_reason_for_anything(tmp_path, suffix, capfd):
    whole = camera()
    rng = np.random.default_rng(1)
    for _ in range(25):
        broken = bytearray(whole)
        for at in rng.integers(6, len(whole), 12):
            broken[at] = rng.integers(0, 256)
        stream = io.BytesIO()
        exif = bytes(broken[: rng.integers(20, len(broken))])
        try:
            Image.fromarray(NOISE).save(stream, {".jpg": "JPEG"}.get(suffix, "PNG"), exif=exif)
        except Exception:  # Pillow would not even write it
            continue
        picture = images.read(stream.getvalue())
        path = written(tmp_path, suffix, source=picture.metadata, keep_gps=True, settings=SETTINGS)
        assert images.read_settings(path) == SETTINGS
    assert capfd.readouterr() == ("", "")


def test_what_is_too_long_for_a_segment_is_left_out(tmp_path):
    words = dict.fromkeys(range(36867, 36867 + 60), "x" * 3500)
    source = images.Metadata({0x0110: "Phone 3"}, words, {})
    path = written(tmp_path, ".jpg", source=source, settings={"a": 1})
    with Image.open(path) as image:
        assert image.getexif()[0x0110] == "Phone 3"
    assert images.read_settings(path) == {"a": 1}


def test_what_cannot_be_encoded_never_costs_the_picture(tmp_path):
    source = images.Metadata({0x0110: object()}, {0x9003: {"no": "date"}}, {})
    for suffix in WITH_EXIF:
        assert images.read(written(tmp_path, suffix, source=source)).width == WIDTH


# The profile -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "depth"), [*((suffix, 8) for suffix in WITH_EXIF), *DEEP])
def test_an_srgb_profile_is_embedded(tmp_path, suffix, depth):
    path = written(tmp_path, suffix, depth)
    with Image.open(path) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert written(tmp_path, suffix, depth).read_bytes() == path.read_bytes()
    if depth == 16:  # and does not make 8 bits of 16 when it is read again
        deep = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
        back = images.read(images.write(path, deep, depth=16)).rgb
        torch.testing.assert_close(back, deep, atol=0.51 / 65535, rtol=0)


# Depth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("clear", [False, True])
def test_writes_16_bits_a_channel(tmp_path, suffix, clear):
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(3, 40, 56, generator=generator)
    rgb[:, :20] = torch.linspace(0, 1, 56)
    alpha = torch.rand(1, 40, 56, generator=generator) if clear else None
    path = images.write(tmp_path / f"deep{suffix}", rgb, alpha, SETTINGS, depth=16)
    with Image.open(path) as image:  # others read it too
        assert image.size == (56, 40)
        eight = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(eight - (rgb.permute(1, 2, 0).numpy() * 255)).max() <= 1
    back = images.read(path, "black")
    expected = rgb if alpha is None else rgb * alpha
    torch.testing.assert_close(back.rgb, expected, atol=1.01 / 65535, rtol=0)
    if clear:
        torch.testing.assert_close(back.alpha, alpha, atol=0.51 / 65535, rtol=0)
    assert images.read_settings(path) == SETTINGS


def test_16_bits_by_an_independent_reader(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = images.write(tmp_path / "deep.tif", RGB, depth=16)
    np.testing.assert_array_equal(tifffile.imread(path), NOISE.astype(np.uint16) * 257)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".bmp", ".gif"])
def test_refuses_16_bits_where_the_format_has_none(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for call in (
        lambda: images.check_output(path, depth=16),
        lambda: images.write(path, RGB, depth=16),
        lambda: images.encode(suffix, RGB, depth=16),
    ):
        refused(call, "16 bits", ".png or .tif")


@pytest.mark.parametrize("depth", [1, 12, 32, None, True])
def test_refuses_other_depths(tmp_path, depth):
    refused(lambda: images.write(tmp_path / "a.png", RGB, depth=depth), "depth", "8 or 16")


@pytest.mark.parametrize("quality", [0, 101, -5, 90.5, True, None, "95", float("nan")])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_refuses_other_qualities(tmp_path, suffix, quality):
    path = tmp_path / f"a{suffix}"
    refused(lambda: images.write(path, RGB, quality=quality), "quality", "1 to 100")
    assert not path.exists()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_quality_is_for_three_formats(suffix):
    sizes = [len(images.encode(suffix, RGB, quality=quality)) for quality in (1, 50, 95, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


# Settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".tif"])
def test_settings_are_in_a_packet_of_their_own_name(tmp_path, suffix):
    path = written(tmp_path, suffix, settings=SETTINGS)
    with Image.open(path) as image:
        exif = image.getexif()
        assert 0x0131 not in exif
        assert 0x9286 not in exif.get_ifd(EXIF)
        packet = image.tag_v2[700] if suffix == ".tif" else image.info["xmp"]
    assert b"urn:impasto:settings/" in packet


def old(suffix, settings, software="impasto"):
    """A picture as impasto once wrote it: settings in a comment, by a software of its name."""
    exif = Image.Exif()
    exif[0x0131] = software
    exif[EXIF] = {0x9286: b"ASCII\0\0\0" + json.dumps(settings).encode("ascii")}
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, suffix, exif=exif.tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_pictures_of_older_versions_are_still_ours(tmp_path, kind):
    path = tmp_path / "old"
    path.write_bytes(old(kind, SETTINGS))
    assert images.read_settings(path) == SETTINGS
    path.write_bytes(old(kind, SETTINGS, "Camera 1.0"))
    refused(lambda: images.read_settings(path), "no impasto settings")


def test_the_settings_of_a_source_are_not_those_of_what_is_made_of_it(tmp_path):
    source = images.read(old("JPEG", SETTINGS)).metadata
    for suffix in WITH_EXIF:
        path = written(tmp_path, suffix, source=source)
        refused(lambda path=path: images.read_settings(path), "no impasto settings")


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".tif"])
def test_packets_of_others_are_no_settings(tmp_path, suffix):
    path = written(tmp_path, suffix, settings={"a": 1}, source=None)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"urn:impasto:settings/", b"urn:another:settings/"))
    refused(lambda: images.read_settings(path), "no impasto settings")
    path.write_bytes(data.replace(b"</impasto:settings>", b"</impasto:settingz>"))
    refused(lambda: images.read_settings(path), "no impasto settings")


def test_settings_survive_a_program_that_writes_packets_its_own_way(tmp_path):
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:ns1="urn:impasto:settings/" ns1:settings="{&quot;a&quot;: 1}"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    path = tmp_path / "a.webp"
    Image.fromarray(NOISE).save(path, xmp=packet.encode())
    assert images.read_settings(path) == {"a": 1}


def test_a_packet_that_grows_without_end_is_no_settings(tmp_path):
    path = tmp_path / "a.webp"
    entities = "".join(
        f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "x" * 10}">' for i in range(12)
    )
    packet = (
        f'<!DOCTYPE a [{entities}]><a xmlns:i="urn:impasto:settings/"><i:settings>&e11;'
        "</i:settings></a>"
    )
    Image.fromarray(NOISE).save(path, xmp=packet.encode())
    refused(lambda: images.read_settings(path), "no impasto settings")


def test_large_settings_come_back_from_a_png(tmp_path):
    settings = {"prompt": "x" * 3_000_000}
    path = written(tmp_path, ".png", settings=settings)
    assert images.read_settings(path) == settings
    text = PngImagePlugin.PngInfo()
    text.add_text("impasto", json.dumps(settings), zip=True)
    Image.fromarray(NOISE).save(path, pnginfo=text)
    assert images.read_settings(path) == settings


def test_encode_gives_what_write_writes(tmp_path, photo):
    options = {"settings": SETTINGS, "quality": 80, "source": images.read(photo).metadata}
    for suffix in WITH_EXIF:
        data = images.encode(suffix, RGB, **options)
        assert images.write(tmp_path / f"a{suffix}", RGB, **options).read_bytes() == data
    assert images.encode("PNG", RGB) == images.encode(".PNG", RGB) == images.encode("png", RGB)
    refused(lambda: images.encode(".xyz", RGB), ".xyz", ".png")
