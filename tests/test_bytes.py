"""Pictures as bytes, as they come to a service, wherever a picture is taken."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from data import as_uint8, painting, photo, refused
from PIL import Image
from test_stored import CPU

import impasto
from impasto import Session, stylize
from impasto.images import read, read_settings
from impasto.methods.adain import AdaIN
from impasto.methods.gatys import Gatys
from impasto.pipeline import recorded
from impasto.styles import list_paintings

DATA = io.BytesIO()
Image.fromarray(as_uint8(photo())).save(DATA, "PNG")
BYTES = DATA.getvalue()
ARRAY = as_uint8(photo())
EXACT = torch.from_numpy(ARRAY).permute(2, 0, 1).float() / 255
FORMS = {
    "path": lambda folder: folder / "photo.png",
    "text": lambda folder: str(folder / "photo.png"),
    "bytes": lambda _: BYTES,
    "bytearray": lambda _: bytearray(BYTES),
    "memoryview": lambda _: memoryview(BYTES),
    "BytesIO": lambda _: io.BytesIO(BYTES),
    "file": lambda folder: (folder / "photo.png").open("rb"),
    "Pillow": lambda _: Image.open(io.BytesIO(BYTES)),
    "uint8": lambda _: ARRAY,
    "float": lambda _: ARRAY.astype(np.float32) / 255,
    "tensor": lambda _: EXACT.clone(),
}


@pytest.fixture
def method(small_model):
    return AdaIN(small_model, **CPU)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_taken_everywhere(form, tmp_path, method, small_net):
    (tmp_path / "photo.png").write_bytes(BYTES)
    opened = []

    def picture():
        source = FORMS[form](tmp_path)
        opened.extend([source] if form == "file" else [])
        return source

    assert torch.equal(impasto.read(picture()).rgb, EXACT)
    expected = method(EXACT, method.prepare([EXACT]))
    assert torch.equal(method(picture(), method.prepare([picture()])), expected)
    assert torch.equal(stylize(picture(), picture(), method).picture.rgb, expected)
    assert torch.equal(stylize(picture(), [picture()], method).picture.rgb, expected)
    assert torch.equal(Session(method, picture())(picture()).picture.rgb, expected)
    gatys = {"iterations": 1, "sizes": [0], **CPU}
    from_start = stylize(picture(), painting(), Gatys(small_net, start=picture(), **gatys))
    plain = stylize(EXACT, painting(), Gatys(small_net, start=EXACT, **gatys))
    assert torch.equal(from_start.picture.rgb, plain.picture.rgb)
    by_name = stylize(picture(), painting(), "gatys", start=picture(), **gatys)
    assert by_name.picture.rgb.shape == EXACT.shape
    for file in opened:
        file.close()


def test_alpha_of_arrays_and_bytes_is_kept(method):
    array = np.dstack([ARRAY, np.full(ARRAY.shape[:2], 128, np.uint8)])
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    for source in (array, stream.getvalue(), array.astype(np.float64) / 255):
        result = stylize(source, painting(), method)
        assert result.array.shape == (48, 64, 4)
        assert float(result.picture.alpha.mean()) == pytest.approx(128 / 255)


def test_limits_hold_for_bytes(method):
    for source in (BYTES, io.BytesIO(BYTES), ARRAY):
        for call in (
            lambda source: stylize(source, painting(16, 16), method, max_pixels=1000),
            lambda source: stylize(photo(16, 16), source, method, max_pixels=1000),
            lambda source: stylize(
                *(photo(16, 16), painting(16, 16), "gatys"), start=source, max_pixels=1000, **CPU
            ),
            lambda source: impasto.read(source, max_pixels=1000),
        ):
            if isinstance(source, io.BytesIO):
                source.seek(0)
            message = refused(lambda: call(source), "3072 pixels, more than the limit of 1000")  # noqa: B023
            assert message.startswith(("<bytes>", "<file object>", "the array"))


def test_messages_name_bytes_and_files(method, tmp_path):
    refused(lambda: stylize(b"no picture", painting(), method), "<bytes>: not a picture")
    named = io.BytesIO(b"no picture")
    named.name = "upload.jpg"
    refused(lambda: stylize(named, painting(), method), "upload.jpg: not a picture")
    read_once = io.BytesIO(BYTES)
    stylize(read_once, painting(), method)
    refused(lambda: stylize(read_once, painting(), method), "<file object>", "seek(0)")
    refused(lambda: method.prepare(BYTES), "where a list belongs")
    refused(lambda: method.prepare(io.BytesIO(BYTES)), "where a list belongs")
    assert list_paintings(tmp_path) == []


@pytest.mark.parametrize("kind", ["jpeg", "JPEG", "jpg", ".jpg", "png", "webp", "tiff"])
def test_a_result_as_bytes(method, kind):
    result = stylize(BYTES, painting(), method, strength=0.5)
    data = result.to_bytes(kind)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == {"JPG": "JPEG"}.get(kind.strip(".").upper(), kind.upper())
    assert read(data).rgb.shape == (3, 48, 64)
    assert read_settings(data)["strength"] == 0.5
    assert read_settings(io.BytesIO(data)) == read_settings(bytearray(data))
    assert recorded(data)[1]["strength"] == 0.5


def test_saving_options_reach_the_bytes(method):
    result = stylize(BYTES, painting(), method)
    assert len(result.to_bytes("jpeg", quality=20)) < len(result.to_bytes("jpeg", quality=95))
    refused(lambda: result.to_bytes("xyz"), "'xyz'", ".png")
    with pytest.warns(DeprecationWarning, match=r"encode is Result\.to_bytes now"):
        assert result.encode(".png") == result.to_bytes()
