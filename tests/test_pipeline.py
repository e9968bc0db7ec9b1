from __future__ import annotations

import numpy as np
import pytest
import torch
from data import as_uint8, painting, photo
from PIL import Image

import impasto
from impasto import color
from impasto.errors import InputError
from impasto.images import read, read_settings, write
from impasto.images.raster import assemble
from impasto.methods.gatys import Gatys
from impasto.pipeline import stylize
from impasto.refinement import refiner
from impasto.session import Session


@pytest.fixture
def method(small_net):
    return Gatys(small_net, device="cpu", precision="float32", iterations=8, start="content")


@pytest.mark.parametrize("kind", ["path", "str", "pil", "array", "tensor"])
def test_whatever_holds_a_picture_is_taken(method, photo_file, painting_file, kind):
    def given(path):
        rgb = read(path).rgb
        return {
            "path": path,
            "str": str(path),
            "pil": Image.fromarray(as_uint8(rgb)),
            "array": as_uint8(rgb),
            "tensor": rgb,
        }[kind]

    expected = stylize(photo_file, painting_file, method).picture.rgb
    result = stylize(given(photo_file), given(painting_file), method)
    assert torch.equal(result.picture.rgb, expected)
    assert result.image.size == (64, 48)
    assert result.array.shape == (48, 64, 3)
    assert result.array.dtype == np.uint8


def test_result_tells_how_it_was_made(method, photo_file, painting_file, tmp_path):
    result = stylize(photo_file, painting_file, method, strength=0.8)
    assert len(result.losses) == len(result.content_losses) == len(result.style_losses) == 8
    assert result.losses[-1] < result.losses[0]
    for suffix in ("png", "jpg", "webp", "tiff"):
        saved = read_settings(result.save(tmp_path / f"out.{suffix}"))
        assert saved["method"] == "gatys"
        assert saved["impasto"] == impasto.__version__
        assert saved["styles"] == ["painting"]
        assert saved["strength"] == 0.8
        assert saved["seed"] == 0
        assert saved["seconds"] >= 0
        assert saved["iterations_done"] == 8


def test_the_same_settings_make_the_same_picture(method, photo_file, painting_file):
    one, two = (stylize(photo_file, painting_file, method) for _ in range(2))
    assert torch.equal(one.picture.rgb, two.picture.rgb)


def test_size_is_the_contents_unless_said(method, painting_file):
    assert stylize(photo(40, 90), painting_file, method).picture.rgb.shape == (3, 40, 90)
    assert stylize(photo(40, 90), painting_file, method, size=20).picture.rgb.shape == (3, 20, 45)


def test_alpha_is_kept(method, painting_file, tmp_path):
    alpha = torch.zeros(1, 48, 64)
    alpha[:, :, 20:] = 1
    write(tmp_path / "cut.png", photo(), alpha)
    result = stylize(tmp_path / "cut.png", painting_file, method)
    assert result.picture.alpha is not None
    assert torch.equal(result.picture.alpha, alpha)
    for suffix, mode in (("png", "RGBA"), ("jpg", "RGB")):
        with Image.open(result.save(tmp_path / f"out.{suffix}")) as saved:
            assert saved.mode == mode


def test_match_gives_the_style_the_contents_colours(method, monkeypatch):
    seen = []
    prepare = method.prepare
    monkeypatch.setattr(
        method, "prepare", lambda styles, weights: seen.extend(styles) or prepare(styles, weights)
    )
    stylize(photo(), painting(), method, color="match")
    expected = color.match(painting(), photo())
    torch.testing.assert_close(seen[0].rgb, expected)


def test_match_style_recolours_the_content(method):
    first = []
    stylize(
        photo(),
        painting(),
        method,
        color="match-style",
        on_step=lambda step: first.append(step.picture()) or True,
    )
    torch.testing.assert_close(first[0], color.match(photo(), painting()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("matched", [False, True])
def test_luminance_keeps_the_chroma_exactly(method, matched):
    out = stylize(photo(), painting(), method, color="luminance", match_luminance=matched)
    ours, theirs = color.to_ycbcr(out.picture.rgb), color.to_ycbcr(photo())
    torch.testing.assert_close(ours[1:], theirs[1:], atol=1e-5, rtol=0)
    assert float((ours[0] - theirs[0]).abs().mean()) > 0.005


@pytest.mark.parametrize("mode", color.MODES)
@pytest.mark.parametrize("flat", ["content", "style", "both"])
def test_grey_and_single_colours_do_not_break_colour_control(method, mode, flat):
    grey = torch.full((3, 40, 40), 0.5)
    content = grey if flat != "style" else photo()
    style = grey if flat != "content" else painting()
    out = stylize(content, style, method, color=mode).picture.rgb
    assert bool(torch.isfinite(out).all())


def test_stored_styles_cannot_be_recoloured_but_can_recolour(method, tmp_path):
    stored = method.prepare([painting()]).store("waves")
    stored.save(tmp_path / "waves.style")
    for mode in ("match", "luminance"):
        with pytest.raises(InputError, match="cannot be recoloured"):
            stylize(photo(), tmp_path / "waves.style", method, color=mode)
    out = stylize(photo(), tmp_path / "waves.style", method, color="match-style")
    assert out.settings["styles"] == ["waves"]


def test_strength_and_weights_reach_the_method(method):
    same = stylize(photo(), painting(), method, strength=0).picture.rgb
    torch.testing.assert_close(same, photo(), atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="3 weights for 2 styles"):
        stylize(photo(), [painting(), photo()], method, weights=[1, 2, 3])


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"color": "sepia"}, "match, match-style or luminance"),
        ({"size": 0}, "size"),
        ({"size": 8}, "16 pixels"),
        ({"color_variant": "x"}, "eigenvalue"),
        ({"match_luminance": True}, "color='luminance'"),
        ({"strength": -1}, "strength"),
        ({"iterations": 3}, "load"),
    ],
)
def test_controls_out_of_range(method, controls, message):
    with pytest.raises(InputError, match=message):
        stylize(photo(), painting(), method, **controls)


def test_the_background_is_kept_for_formats_without_alpha(method, painting_file, tmp_path):
    write(tmp_path / "clear.png", photo(), torch.zeros(1, 48, 64))
    result = stylize(tmp_path / "clear.png", painting_file, method, background="black")
    saved = read(result.save(tmp_path / "out.bmp")).rgb
    assert float(saved.max()) == 0


def test_previews_are_finished_pictures(method):
    seen = []
    stylize(
        photo(), painting(), method, color="luminance", on_step=lambda s: seen.append(s.picture())
    )
    ours, theirs = color.to_ycbcr(seen[-1]), color.to_ycbcr(photo())
    torch.testing.assert_close(ours[1:], theirs[1:], atol=1e-5, rtol=0)


def test_refinement_begins_with_the_methods_result(small_net, method, photo_file, painting_file):
    plain = stylize(photo_file, painting_file, method)
    finer = Gatys(small_net, device="cpu", precision="float32", sizes=[0], iterations=6)
    refined = stylize(photo_file, painting_file, method, refine=finer)
    assert len(refined.losses) == 6
    assert refined.losses[0] <= 1.01 * plain.losses[-1]
    assert refined.losses[-1] < refined.losses[0]
    assert refined.settings["refinement"]["iterations"] == 6
    assert refined.settings["iterations_done"] == 6
    assert refined.settings["iterations"] == 8


class Spy(Gatys):
    """Keeps what it is given."""

    def prepare(self, styles, weights=None):
        self.styles = styles
        return super().prepare(styles, weights)

    def __call__(self, content, *args, **kwargs):
        self.content = content
        return super().__call__(content, *args, **kwargs)


@pytest.mark.parametrize("mode", color.MODES)
def test_refinement_sees_the_controlled_pictures(small_net, method, mode):
    finer = Spy(small_net, device="cpu", precision="float32", sizes=[0], iterations=3)
    out = stylize(photo(), painting(), method, refine=finer, color=mode).picture.rgb
    content, style = {
        "match": (photo(), color.match(painting(), photo())),
        "match-style": (color.match(photo(), painting()), painting()),
        "luminance": (color.as_grey(photo()), color.as_grey(painting())),
    }[mode]
    torch.testing.assert_close(finer.content, content, atol=1e-5, rtol=0)
    torch.testing.assert_close(finer.styles[0].rgb, style, atol=1e-5, rtol=0)
    if mode == "luminance":
        chroma = color.to_ycbcr(out)[1:] - color.to_ycbcr(photo())[1:]
        assert float(chroma.abs().max()) < 0.02


def test_a_method_that_is_stopped_is_not_refined(small_net, method):
    finer = Gatys(small_net, device="cpu", precision="float32", sizes=[0], iterations=3)
    stopped = stylize(photo(), painting(), method, refine=finer, on_step=lambda step: True)
    assert len(stopped.losses) == 1
    assert "refinement" not in stopped.settings
    plain = stylize(photo(), painting(), method, on_step=lambda step: True)
    assert torch.equal(stopped.picture.rgb, plain.picture.rgb)


def test_options_reach_the_refinement_too():
    options = {"device": "cpu", "precision": "float32", "style_weight": 7.0, "style_scale": 0.5}
    result = stylize(photo(), painting(), "gatys", iterations=2, refine=1, **options)
    for made in (result.settings, result.settings["refinement"]):
        assert (made["style_weight"], made["style_scale"]) == (7, 0.5)
        assert made["device"].endswith("float32")
    assert (result.settings["iterations"], result.settings["refinement"]["iterations"]) == (2, 1)


@pytest.mark.parametrize("option", ["sizes", "iterations", "start", "model"])
def test_options_that_a_refinement_has_not(method, option):
    with pytest.raises(InputError, match=f"a refinement has no option '{option}'"):
        refiner(2, method, **{option: 1})


def test_styles_are_looked_at_before_any_content(method):
    stored = method.prepare([painting()]).store("waves")
    method.net.weights = "2"
    with pytest.raises(
        InputError, match="stored for method gatys by small:.*:1, not by small:.*:2"
    ):
        Session(method, [stored])
    for mode in (None, "match"):
        with pytest.raises(InputError, match="weights is -1.0: must be 0 or more"):
            Session(method, [read(painting())] * 2, weights=[3.0, -1.0], color=mode)


def test_a_number_refines_on_the_methods_device(photo_file, painting_file):
    method = Gatys("compact", device="cpu", iterations=2)
    result = stylize(photo_file, painting_file, method, refine=2)
    assert len(result.losses) == 2
    assert result.settings["refinement"]["device"].startswith("CPU")


@pytest.mark.parametrize("count", [0, -3])
def test_no_iterations_of_refinement_are_refused(method, count):
    with pytest.raises(InputError, match="refine is"):
        refiner(count, method)


def test_pictures_are_read_and_checked_once(method, photo_file, painting_file, monkeypatch):
    """What the public face has read, nothing below it reads again."""
    read = []

    def counting(raster, label, *more):
        read.append(label)
        return assemble(raster, label, *more)

    monkeypatch.setattr("impasto.images.reading.assemble", counting)
    for mode in (None, "match", "match-style", "luminance"):
        stylize(photo_file, painting_file, method, color=mode)
        assert len(read) == 2, mode
        read.clear()
