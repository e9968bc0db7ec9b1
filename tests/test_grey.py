"""A grey photograph in a grey painting stays grey, and nothing else is made grey."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from data import painting, photo
from PIL import Image
from test_stored import CPU, TAKERS

import impasto
from impasto.color import as_grey, colorfulness, own_colors, to_ycbcr, with_colors_of
from impasto.images import write
from impasto.paintings import store_style
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
    assert chroma(impasto.stylize(*paths, "artflow", **CPU).picture.rgb) < 1
    Image.open(paths[0]).convert("L").save(tmp_path / "l.png")
    assert chroma(impasto.stylize(tmp_path / "l.png", paths[1], **CPU).picture.rgb) < 0.01


def test_stored_and_mixed_grey_styles():
    stored = store_style([PAINTING], "grey", methods=["adain"], device="cpu")
    out = impasto.stylize(PHOTO, [stored, as_grey(painting(seed=4))], "adain", **CPU)
    assert chroma(out.picture.rgb) < 0.01
    out = impasto.stylize(PHOTO, [stored, painting()], "adain", **CPU)
    assert chroma(out.picture.rgb) > 5


@pytest.mark.parametrize("label", TAKERS)
def test_colours_of_either_stay(label):
    """Both a coloured photograph and a coloured painting give colour."""
    name, options = TAKERS[label]
    method = impasto.load(name, **CPU, **options)
    assert chroma(impasto.stylize(photo(64, 80), PAINTING, method).picture.rgb) > 3
    assert chroma(impasto.stylize(PHOTO, painting(70, 90), method).picture.rgb) > 3


@pytest.mark.parametrize("label", ["adain", "wct", "gatys", "artflow", "styleflow"])
def test_colours_come_in_gradually(label):
    """No switch: a little more noise in a scan does not make a rainbow of it."""
    name, options = TAKERS[label]
    method = impasto.load(name, **CPU, **options)
    tint = torch.tensor([1.0, 0.0, -1.0])[:, None, None] / 255
    seen = []
    for levels in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0):
        content, style = ((x + levels / 2 * tint).clamp(0, 1) for x in (PHOTO, PAINTING))
        out = impasto.stylize(content, style, method).picture.rgb
        seen.append(chroma(out) - levels)
    full = impasto.stylize((PHOTO + 10 * tint).clamp(0, 1), PAINTING, method).picture.rgb
    assert max(map(abs, seen[:3])) < 1
    jumps = [after - before for before, after in pairwise(seen)]
    assert max(jumps) <= max(1.0, 0.5 * chroma(full))


@pytest.mark.parametrize("label", ["adain", "artflow", "wct"])
def test_a_spot_of_colour_in_a_grey_photograph_stays(label):
    content = PHOTO.clone()
    content[:, 20:21, 30:32] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    name, options = TAKERS[label]
    method = impasto.load(name, **CPU, **options)
    same = impasto.stylize(content, PAINTING, method, strength=0).picture.rgb
    torch.testing.assert_close(same, content, atol=2e-2, rtol=0)
    out = impasto.stylize(content, PAINTING, method).picture.rgb
    assert float(out[0, 20, 30:32].mean() - out[2, 20, 30:32].mean()) > 0.2


def test_the_measure_of_colour():
    tint = torch.tensor([0.0, 6 / 255, 0.0])[:, None, None]
    assert colorfulness(PHOTO) == pytest.approx(0, abs=1e-6)
    for colors in (PHOTO + tint, Moments.of((PHOTO + tint).double())):
        assert colorfulness(colors) == pytest.approx(6 / 255, rel=1e-3)
    assert own_colors(PHOTO + tint, Moments.of(PHOTO.double())) == pytest.approx(0.5, abs=1e-3)
    assert own_colors(PHOTO, Moments.of((PHOTO + 2 * tint).double())) == 1
    assert own_colors(PHOTO, Moments.of((PHOTO + tint / 3).double())) == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_light_of_the_one_and_colours_of_both(share):
    content, out = 0.3 + 0.4 * photo(), 0.3 + 0.4 * photo(seed=3)
    mixed = to_ycbcr(with_colors_of(content, out, share))
    before, after = to_ycbcr(content), to_ycbcr(out)
    torch.testing.assert_close(mixed[0], after[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[1:], before[1:].lerp(after[1:], share), atol=1e-5, rtol=0)
