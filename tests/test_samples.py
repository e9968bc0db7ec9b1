"""The sample paintings: size, mode, determinism, richness, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from impasto.errors import InputError
from impasto.samples import STYLES, draw, paintings, write_samples
from impasto.samples.sheet import Sheet

every_style = pytest.mark.parametrize("name", list(STYLES))


def pixels(picture: Image.Image) -> NDArray[np.float32]:
    return np.asarray(picture, np.float32) / np.float32(255)


def test_every_style_is_described_and_has_a_painter() -> None:
    assert set(STYLES) == set(paintings._PAINTERS)
    assert all(text and "\n" not in text for text in STYLES.values())


@every_style
@pytest.mark.parametrize("size", [64, 97, 160])
def test_size_and_mode(name: str, size: int) -> None:
    picture = draw(name, size)
    assert picture.mode == "RGB"
    assert picture.size == (round(size * 4 / 3), size)


@every_style
def test_a_seed_fixes_the_picture(name: str) -> None:
    first = draw(name, 96, seed=5).tobytes()
    assert draw(name, 96, seed=5).tobytes() == first
    assert draw(name, 96, seed=6).tobytes() != first


@every_style
def test_the_same_picture_at_another_size(name: str) -> None:
    small = draw(name, 96)
    large = draw(name, 192).resize(small.size, Image.Resampling.BOX)
    blurred = [pixels(p.filter(ImageFilter.GaussianBlur(4))).ravel() for p in (small, large)]
    assert np.asarray(np.corrcoef(blurred))[0, 1] > 0.9


@every_style
def test_rich_in_tone_and_in_fine_texture_throughout(name: str) -> None:
    picture = draw(name, 160)
    assert pixels(picture).std() > 0.12
    grey = pixels(picture.convert("L"))
    fine = np.abs(grey - pixels(picture.convert("L").filter(ImageFilter.GaussianBlur(2))))
    assert fine.mean() > 0.012
    blocks = fine[:160, :208].reshape(10, 16, 13, 16).mean((1, 3))
    assert blocks.min() > 0.001  # no part of it is flat


@pytest.mark.parametrize("seed", range(2, 6))
@every_style
def test_any_seed_gives_a_finite_picture(name: str, seed: int) -> None:
    field = paintings._PAINTERS[name](Sheet(96, seed))
    assert field.shape == (96, 128, 3)
    assert np.isfinite(field).all()


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'wodcut'.*did you mean 'woodcut'\?"):
        draw("wodcut")
    with pytest.raises(InputError, match="swirls, stained_glass"):
        draw("zzz")


@pytest.mark.parametrize("size", [0, 63, 4097, -5])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"64 to 4096, not {size}"):
        draw("swirls", size)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="0 or more, not -1"):
        draw("swirls", 64, seed=-1)


def test_write_samples_makes_the_folder_and_every_file(tmp_path: Path) -> None:
    paths = write_samples(tmp_path / "a" / "b", size=64, seed=2)
    assert [path.name for path in paths] == [f"{name}.png" for name in STYLES]
    for path in paths:
        with Image.open(path) as read:
            assert read.convert("RGB").tobytes() == draw(path.stem, 64, seed=2).tobytes()
