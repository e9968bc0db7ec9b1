"""A grey photograph in a grey painting stays grey, and nothing else is made grey."""

from __future__ import annotations

import pytest
import torch
from data import painting, photo
from PIL import Image
from test_stored import CPU, TAKERS

import impasto
from impasto.color import as_grey, greyed, is_grey, is_grey_picture, luminance_of
from impasto.images import read, write
from impasto.pipeline import store_style
from impasto.statistics import Moments

PHOTO, PAINTING = as_grey(photo(64, 80)), as_grey(painting(70, 90))


def chroma(rgb: torch.Tensor) -> float:
    """Mean of the largest less the least channel, of 255."""
    return 255 * float((rgb.amax(0) - rgb.amin(0)).mean())


@pytest.mark.parametrize("label", TAKERS)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_grey_by_grey_is_grey(label, strength):
    name, options = TAKERS[label]
    out = impasto.stylize(PHOTO, PAINTING, name, strength=strength, **CPU, **options)
    assert chroma(out.picture.rgb) < 3
    if strength == 0:
        torch.testing.assert_close(out.picture.rgb, PHOTO, atol=2e-2, rtol=0)
    else:
        assert float((out.picture.rgb - PHOTO).abs().mean()) > 0.002


@pytest.mark.parametrize("start", ["noise", "grey", "recoloured", "content"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_an_optimisation_is_grey_at_every_step(start, optimizer):
    seen = []
    options = {"iterations": 4, "start": start, "optimizer": optimizer, **CPU}
    impasto.stylize(
        PHOTO, PAINTING, "gatys", on_step=lambda s: seen.append(s.picture()) and False, **options
    )
    assert len(seen) == 4
    assert max(map(chroma, seen)) < 0.1


def test_a_grey_jpeg_is_grey(tmp_path):
    """Its channels differ by a level here and there."""
    paths = [write(tmp_path / f"{n}.jpg", rgb) for n, rgb in (("a", PHOTO), ("b", PAINTING))]
    assert chroma(impasto.stylize(*paths, "artflow", **CPU).picture.rgb) == 0
    Image.open(paths[0]).convert("L").save(tmp_path / "l.png")
    assert chroma(impasto.stylize(tmp_path / "l.png", paths[1], **CPU).picture.rgb) == 0


def test_stored_and_mixed_grey_styles():
    stored = store_style([PAINTING], "grey", methods=["adain"], device="cpu")
    out = impasto.stylize(PHOTO, [stored, as_grey(painting(seed=4))], "adain", **CPU)
    assert chroma(out.picture.rgb) == 0
    out = impasto.stylize(PHOTO, [stored, painting()], "adain", **CPU)
    assert chroma(out.picture.rgb) > 5


@pytest.mark.parametrize("label", TAKERS)
def test_colours_of_either_stay(label):
    """Both a coloured photograph and a coloured painting give colour."""
    name, options = TAKERS[label]
    method = impasto.load(name, **CPU, **options)
    assert chroma(impasto.stylize(photo(64, 80), PAINTING, method).picture.rgb) > 0.5
    assert chroma(impasto.stylize(PHOTO, painting(70, 90), method).picture.rgb) > 3


@pytest.mark.parametrize(("tint", "grey"), [(0.0, True), (0.5 / 255, True), (4 / 255, False)])
def test_a_tint_is_a_colour(tint, grey):
    sepia = (PHOTO + tint * torch.tensor([1.0, 0.0, -1.0])[:, None, None]).clamp(0, 1)
    assert is_grey_picture(sepia) is grey
    assert is_grey(Moments.of(sepia)) is grey
    assert is_grey(Moments.of(sepia).normalised()) is grey


def test_greyed_keeps_the_luminance():
    rgb = photo()
    torch.testing.assert_close(greyed(rgb)[:1], luminance_of(rgb))
    assert chroma(greyed(rgb)) == 0
    assert greyed(rgb).dtype == torch.float32
    assert read(rgb).rgb.shape == greyed(rgb).shape
