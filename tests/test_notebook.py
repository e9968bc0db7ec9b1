"""A Result shows itself in a notebook, and leaves alone what it was made from."""

from __future__ import annotations

import io

import pytest
import torch
from data import LINKS, painting, photo
from PIL import Image

import impasto
from impasto.errors import InputError
from impasto.images import Picture, read, write
from impasto.methods.gatys import Gatys
from impasto.result import SHOWN, Result


@pytest.fixture
def method(small_net):
    return Gatys(small_net, device="cpu", precision="float32", iterations=2, start="content")


def shown(rgb, alpha=None):
    result = Result(Picture(rgb, alpha, "x", None), [], [], [], {"a": 1})
    return Image.open(io.BytesIO(result._repr_png_()))


def test_a_notebook_shows_the_picture(method):
    result = impasto.stylize(photo(), painting(), method)
    with Image.open(io.BytesIO(result._repr_png_())) as image:
        assert image.format == "PNG"
        assert image.size == (64, 48)
        assert image.convert("RGB").tobytes() == result.image.tobytes()


def test_its_words_are_few(method):
    words = repr(impasto.stylize(photo(), painting(), method))
    assert "64x48" in words
    assert "tensor" not in words
    assert "\n" not in words


@pytest.mark.parametrize("size", [(3000, 2000), (2000, 3000), (16, 5000), (1024, 1024)])
def test_a_large_one_is_reduced(size):
    height, width = size
    image = shown(torch.rand(3, height, width))
    assert max(image.size) == SHOWN
    assert image.width / image.height == pytest.approx(width / height, rel=0.2)


def test_its_alpha_is_shown():
    alpha = torch.zeros(1, 2000, 1600)
    alpha[:, :1000] = 1
    image = shown(torch.rand(3, 2000, 1600), alpha)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 255
    assert image.getpixel((0, image.height - 1))[3] == 0


def test_a_result_encodes_what_it_saves(method, tmp_path):
    result = impasto.stylize(photo(), painting(), method)
    for suffix in (".png", ".jpg", ".tif"):
        path = result.save(tmp_path / f"out{suffix}")
        assert torch.equal(read(result.to_bytes(suffix)).rgb, read(path).rgb)
    small, large = result.to_bytes(".jpg", quality=20), result.to_bytes(".jpg", quality=95)
    assert len(small) < len(large)
    assert result.to_bytes(depth=16)[24] == 16  # IHDR's bit depth


@pytest.mark.parametrize("link", [None, *LINKS])
@pytest.mark.parametrize("name", ["photo.png", "painting.png", "start.png"])
def test_what_it_was_made_from_is_left_alone(small_net, photo_file, painting_file, name, link):
    folder = photo_file.parent
    start = write(folder / "start.png", photo(seed=3))
    made = Gatys(small_net, device="cpu", precision="float32", iterations=1, start=start)
    result = impasto.stylize(photo_file, [str(painting_file)], made)
    assert "sources" not in result.settings
    file = folder / name
    out = folder / "out.png" if link else file
    if link:
        link(file, out)
    before = file.read_bytes()
    with pytest.raises(InputError, match="overwrite=True") as caught:
        result.save(out)
    assert str(out) in str(caught.value)
    assert file.read_bytes() == before
    result.save(out, overwrite=True)
    assert out.read_bytes() != before
    result.save(folder / "other.png")


def test_a_start_among_the_options_is_left_alone(photo_file, painting_file):
    options = {
        "device": "cpu",
        "precision": "float32",
        "iterations": 1,
        "start": str(painting_file),
    }
    result = impasto.stylize(photo_file, painting(), "gatys", **options)
    with pytest.raises(InputError, match="overwrite=True"):
        result.save(painting_file)


def test_what_it_was_made_from_is_known_from_other_folders(
    method, photo_file, painting_file, monkeypatch
):
    monkeypatch.chdir(photo_file.parent)
    result = impasto.stylize("photo.png", "painting.png", method)
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match="overwrite=True"):
        result.save(photo_file)


def test_limits_of_what_is_read(method, photo_file, painting_file, tmp_path):
    for pictures in ((photo_file, painting()), (photo(), painting_file)):
        with pytest.raises(InputError, match="1,?000"):
            impasto.stylize(*pictures, method, max_pixels=1000)
    noise = torch.rand(3, 64, 64)
    whole = write(tmp_path / "whole.jpg", noise).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.jpg"):
        impasto.stylize(tmp_path / "cut.jpg", painting(), method)
    made = impasto.stylize(tmp_path / "cut.jpg", painting(), method, accept_truncated=True)
    assert made.picture.rgb.shape == (3, 64, 64)
