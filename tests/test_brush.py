"""Strokes in proportion to the picture."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from data import painting, photo

import impasto
from impasto.color import colorfulness, luminance_of
from impasto.device import memory
from impasto.errors import InputError, OutOfMemoryError
from impasto.images import Picture, fit, read, read_settings, resize, write
from impasto.methods import METHODS
from impasto.methods.ghiasi import Ghiasi
from impasto.paintings import store_style
from impasto.samples import draw, photograph
from impasto.study.metrics import luminance_ssim
from impasto.study.sweep import sweep

CPU = {"device": "cpu", "precision": "float32"}
PAINTED = {"adain", "ghiasi", "johnson", "wct"}
ONE_PASS = {name for name, record in METHODS.items() if record.one_pass}
BROAD = 16  # a working size of 32 px


def stylized(name, content, strength=1.0, **options):
    style = "woodcut" if name == "johnson" else painting()
    return impasto.stylize(content, style, name, strength=strength, **CPU, **options).picture.rgb


def at(picture, side):
    return resize(picture, fit(*picture.shape[-2:], side))


def gradient(picture):
    light = luminance_of(picture)[0]
    return float(light.diff(dim=0).abs().mean() + light.diff(dim=1).abs().mean())


def test_every_method_of_one_pass_has_it():
    for name, record in METHODS.items():
        brush = record.Options.declared().get("brush")
        assert (brush is not None) == (name in ONE_PASS), name
        if brush is not None:
            assert brush.default == (1.0 if name in PAINTED else None), name


@pytest.mark.parametrize("name", sorted(ONE_PASS))
def test_a_small_picture_is_painted_in_one_pass_as_it_is(name):
    content = photo(32, 45)
    assert torch.equal(stylized(name, content, brush=BROAD), stylized(name, content, brush=None))


@pytest.mark.parametrize("name", sorted(ONE_PASS))
@pytest.mark.parametrize("size", [(33, 50), (81, 70), (140, 97)])
def test_a_larger_one_is_not(name, size):
    content = photo(*size)
    out = stylized(name, content, brush=BROAD)
    assert out.shape == content.shape
    assert 0 <= out.min() <= out.max() <= 1
    assert not torch.allclose(out, stylized(name, content, brush=None), atol=0.01)


@pytest.mark.parametrize("name", sorted(ONE_PASS))
def test_strength_0_is_the_photograph(name):
    content = torch.rand(3, 97, 140, generator=torch.Generator().manual_seed(0))
    out = stylized(name, content, strength=0, brush=BROAD)
    torch.testing.assert_close(out, content, atol=2e-3, rtol=0)


def test_strength_goes_from_the_photograph_on():
    content = photo(97, 140)
    outs = [stylized("ghiasi", content, s, brush=BROAD) for s in (0.1, 0.5, 1.0, 1.5)]
    away = [float((out - content).abs().mean()) for out in outs]
    assert away == sorted(away)
    assert away[0] < 0.3 * away[2]


@pytest.mark.parametrize("side", [513, 600, 800, 1200, 2048, 3000, 9000])
@pytest.mark.parametrize("brush", [0.5, 1.0, 2.0])
def test_sizes_grow_evenly_from_the_working_size(side, brush):
    sizes = Ghiasi(brush=brush, **CPU).sizes((side, round(side * 1.5)))
    shorts = [min(size) for size in sizes]
    assert sizes[-1] == (side, round(side * 1.5))
    if side <= 512 / brush:
        assert len(sizes) == 1
        return
    assert shorts[0] == 512 / brush
    steps = [larger / smaller for smaller, larger in pairwise(shorts)]
    assert max(steps) / min(steps) < 1.02
    assert max(steps) < 2.9
    assert min(steps) > 1.4 or len(steps) == 1


def test_none_is_one_pass_at_any_size():
    assert Ghiasi(brush=None, **CPU).sizes((5000, 7000)) == [(5000, 7000)]


@pytest.mark.parametrize("subject", ["coffee", "astronaut"])
def test_a_large_picture_is_the_small_one_and_sharp(subject):
    pytest.importorskip("skimage")
    content, style = photograph(subject), read(draw("swirls", 256)).rgb
    small, large = at(content, 128), at(content, 384)
    made = {
        brush: impasto.stylize(large, style, "ghiasi", brush=brush, **CPU).picture.rgb
        for brush in (4.0, None)
    }
    first = impasto.stylize(small, style, "ghiasi", brush=4.0, **CPU).picture.rgb
    alike = {brush: luminance_ssim(at(out, 128), first) for brush, out in made.items()}
    sharp = {brush: gradient(out) for brush, out in made.items()}
    enlarged = at(first, 384)
    assert alike[4.0] >= 0.8
    assert sharp[4.0] >= 0.6 * sharp[None]
    assert alike[None] < 0.8  # its strokes are finer
    assert gradient(enlarged) < 0.6 * sharp[None]  # it is blurred


def test_a_little_larger_than_the_working_size_is_nearly_one_pass():
    pytest.importorskip("skimage")
    content = photo(97, 128)
    method = impasto.load("ghiasi", brush=BROAD / 3, **CPU)  # 96 px
    style = method.prepare([painting()])
    small, large = method(at(content, 96), style), method(content, style)
    assert luminance_ssim(at(large, 96), small) > 0.9


def test_controls_go_with_it(tmp_path):
    alpha = torch.ones(1, 70, 96)
    alpha[:, :, :30] = 0
    store_style([painting()], "strokes", methods=["ghiasi"], **CPU).save(tmp_path / "s.style")
    out = impasto.stylize(
        Picture(photo(70, 96), alpha, "photo"),
        [tmp_path / "s.style", painting(seed=4)],
        *("ghiasi",),
        weights=[2, 1],
        color="match-style",
        size=81,
        brush=BROAD,
        **CPU,
    )
    assert out.picture.rgb.shape[-2:] == (81, 111)
    assert out.picture.alpha is not None
    assert out.settings["brush"] == BROAD


def test_what_is_grey_stays_grey():
    grey = [luminance_of(picture)[:1].expand(3, -1, -1) for picture in (photo(70, 96), painting())]
    out = impasto.stylize(*grey, "ghiasi", brush=BROAD, **CPU).picture.rgb
    assert colorfulness(out) < 1e-3


def test_memory_is_that_of_the_largest_pass(monkeypatch):
    method = impasto.load("ghiasi", brush=BROAD, **CPU)
    style = method.prepare([painting()])
    needed = method.model.bytes_per_pixel(method.dtype) * 97 * 140
    monkeypatch.setattr(memory, "available_memory", lambda device: needed)
    with pytest.raises(OutOfMemoryError, match="GB of memory"):
        method(photo(97, 140), style)
    monkeypatch.setattr(memory, "available_memory", lambda device: 1.1 * needed)
    assert method(photo(97, 140), style).shape == (3, 97, 140)


@pytest.mark.parametrize("wrong", [0, -1, 17, float("nan"), float("inf"), "2", True])
def test_a_brush_that_there_cannot_be(wrong):
    with pytest.raises(InputError, match="brush is") as caught:
        impasto.load("ghiasi", brush=wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("given", "brush"), [("2", 2.0), ("0.5", 0.5), ("none", None)])
def test_the_command_line_has_it(run, photo_file, painting_file, given, brush):
    options = ["-m", "ghiasi", "--device", "cpu", "--brush", given]
    code, _, said = run("stylize", photo_file, painting_file, "-o", "out.png", *options)
    assert code == 0, said
    assert read_settings("out.png")["brush"] == brush


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--brush", "broad"], "--brush 'broad': give a number such as 0.5 or 2"),
        (["--brush", "0"], "--brush is 0.0: must be 0.0625 or more, and 16 at most"),
        (["--brush", "nan"], "brush is nan: must be a finite number"),
        (["--brush", "2", "-m", "gatys"], "method gatys has no option --brush"),
        (["--brush", "none", "-m", "gatys"], "method gatys has no option --brush"),
    ],
)
def test_the_command_line_refuses_others(run, photo_file, painting_file, tmp_path, options, words):
    code, _, said = run("stylize", photo_file, painting_file, "-o", "out.png", *options)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert words in said
    assert not (tmp_path / "out.png").exists()


def test_a_sweep_has_it(tmp_path):
    content, style = tmp_path / "photo.png", tmp_path / "painting.png"
    write(content, photo(64, 70))
    write(style, painting())
    vary = {"brush": [None, BROAD]}
    rows = sweep(content, style, tmp_path / "out", vary, method="ghiasi", options=CPU)
    assert [row["fault"] for row in rows] == [None, None]
