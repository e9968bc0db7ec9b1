"""A session: loaded once, called with picture after picture, from several threads, and closed."""

from __future__ import annotations

import gc
import io
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from data import as_uint8, painting, photo, refused
from PIL import Image
from test_manners import EVERY, style_for
from test_stored import CPU

import impasto
from impasto import Session, stylize
from impasto.controls import Controls
from impasto.errors import InputError, OutOfMemoryError
from impasto.images import write
from impasto.methods.adain import AdaIN
from impasto.methods.gatys import Gatys

PHOTOS = [photo(40, 52, seed=n) for n in range(4)]


@pytest.fixture
def method(small_model):
    return AdaIN(small_model, **CPU)


@pytest.mark.parametrize("label", EVERY)
def test_threads_get_what_one_after_another_gets(label):
    """Bit for bit, also if all of them are the first to ask for the style at this size."""
    name, options = EVERY[label]

    def session():
        return Session(name, style_for(name), strength=0.7, **CPU, **options)

    with session() as one:
        alone = [one(picture) for picture in PHOTOS]
    with session() as shared, ThreadPoolExecutor(4) as pool:
        together = list(pool.map(shared, PHOTOS * 2))
    for result, expected in zip(together, alone * 2, strict=True):
        assert torch.equal(result.picture.rgb, expected.picture.rgb)
        assert result.losses == expected.losses


def test_steps_are_told_to_the_call_they_are_of():
    with Session("gatys", painting(), iterations=3, **CPU) as session:
        heard: list[list[tuple[int, int]]] = [[], []]
        sizes = [(40, 52), (48, 50)]

        def render(number):
            return session(
                photo(*sizes[number]), on_step=lambda step: heard[number].append(step.size)
            )

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(render, range(2)))
    assert heard == [[size] * 3 for size in sizes]
    assert [len(result.losses) for result in results] == [3, 3]


def test_it_is_what_stylize_makes(method, photo_file, painting_file):
    controls = {"strength": 0.8, "color": "match", "size": 32}
    with Session(method, painting_file, **controls) as session:
        result = session(photo_file)
    expected = stylize(photo_file, painting_file, method, **controls)
    assert torch.equal(result.picture.rgb, expected.picture.rgb)
    assert {**result.settings, "seconds": 0} == {**expected.settings, "seconds": 0}
    assert set(result.sources) == {photo_file, painting_file}


def test_it_loads_and_measures_once(monkeypatch):
    loaded, measured = [], []
    make, measure = AdaIN.__init__, AdaIN.measure
    monkeypatch.setattr(AdaIN, "__init__", lambda *a, **k: loaded.append(1) or make(*a, **k))
    monkeypatch.setattr(AdaIN, "measure", lambda *a: measured.append(1) or measure(*a))
    with Session("adain", painting(), **CPU) as session:
        for _ in range(3):
            session(photo())
    assert (len(loaded), len(measured)) == (1, 1)
    assert "anew" in stylize.__doc__ and "Session" in stylize.__doc__


def test_styles_are_whatever_a_painting_can_be(method, painting_file, tmp_path):
    with Image.open(painting_file) as image:
        picture = image.copy()
    array = as_uint8(painting())
    data = painting_file.read_bytes()
    stored = method.prepare([painting_file]).store("stored")
    stored.save(tmp_path / "stored.style")
    expected = stylize(photo(), painting_file, method).picture.rgb
    styles = [painting_file, str(painting_file), data, io.BytesIO(data), picture, array]
    styles += [method.prepare([painting_file]), [method.prepare([painting_file])]]
    for style in styles:
        assert torch.equal(Session(method, style)(photo()).picture.rgb, expected)
    expected = method(photo(), method.prepare([stored]))
    for style in (stored, tmp_path / "stored.style"):
        assert torch.equal(Session(method, style)(photo()).picture.rgb, expected)


# Prepared styles ---------------------------------------------------------------------------------


def test_a_prepared_style_is_taken_with_what_was_measured(method, monkeypatch):
    style = method.prepare([painting()])
    expected = method(photo(), style)
    monkeypatch.setattr(AdaIN, "measure", None)  # nothing is measured again
    assert torch.equal(stylize(photo(), style, method).picture.rgb, expected)
    assert method.prepare([style]) is style


def test_a_prepared_mixture_is_its_paintings_in_their_shares(method):
    one, two, three = (painting(seed=n) for n in range(3))
    mixture = method.prepare([one, two], [3, 1])
    result = stylize(photo(), [mixture, three], method, weights=[2, 1])
    plain = stylize(photo(), [one, two, three], method, weights=[6, 2, 4])
    torch.testing.assert_close(result.picture.rgb, plain.picture.rgb, atol=1e-5, rtol=0)
    assert result.settings["styles"] == ["picture"] * 3
    assert result.settings["weights"] == pytest.approx([0.5, 1 / 6, 1 / 3])
    other = Gatys(iterations=2, **CPU)  # measures it for itself
    ours = stylize(photo(), mixture, other).picture.rgb
    assert torch.equal(ours, stylize(photo(), [one, two], other, weights=[3, 1]).picture.rgb)


@pytest.mark.parametrize("color", ["match", "match-style", "luminance"])
def test_a_prepared_style_can_be_recoloured(method, color):
    style = method.prepare([painting()])
    result = stylize(photo(), style, method, color=color).picture.rgb
    assert torch.equal(result, stylize(photo(), painting(), method, color=color).picture.rgb)


def test_what_johnson_prepared_is_a_style_too():
    johnson = impasto.load("johnson", **CPU)
    names = list(johnson.learnt)[:2]
    shares = johnson.prepare(names, [3, 1])
    result = stylize(photo(), shares, johnson)
    assert torch.equal(result.picture.rgb, johnson(photo(), shares))
    assert result.settings["styles"] == names
    assert torch.equal(johnson.prepare([shares]), shares)
    refused(lambda: stylize(photo(), torch.ones(1, 99), johnson), "99 styles")


def test_a_prepared_style_can_be_stored(method):
    from impasto.paintings import store_style

    stored = store_style([method.prepare([painting()])], "waves", methods=["gatys"])
    assert stored.methods == ["gatys"]


# Closing -----------------------------------------------------------------------------------------


def test_it_cannot_be_used_after_it_is_closed(small_model):
    session = Session("adain", painting(), model=small_model, **CPU)
    session(photo())
    session.close()
    session.close()
    refused(lambda: session(photo()), "session is closed")
    with Session("adain", painting(), model=small_model, **CPU) as session:
        pass
    refused(lambda: session(photo()), "session is closed")


def test_closing_frees_the_model(small_model):
    session = Session("adain", painting(), model=small_model, **CPU)
    result = session(photo())
    model = weakref.ref(session.method.model.network)
    session.close()
    gc.collect()
    assert model() is None
    assert result.picture.rgb.shape == (3, 48, 64)  # and the result stays


def test_a_method_that_was_given_stays(method):
    with Session(method, painting()) as session:
        expected = session(photo())
    with Session(method, painting()) as session:
        assert torch.equal(session(photo()).picture.rgb, expected.picture.rgb)


def test_what_runs_when_it_is_closed_ends_first():
    session = Session("gatys", painting(), iterations=3, **CPU)
    result = session(photo(), on_step=lambda step: session.close())
    assert len(result.losses) == 3
    refused(lambda: session(photo()), "session is closed")


# What is wrong -----------------------------------------------------------------------------------


def test_options_are_checked(method):
    refused(lambda: Session("adain", painting(), pooling="max"), "no option 'pooling'")
    refused(lambda: Session(method, painting(), brush=2.0), "'brush' belongs to impasto.load()")
    refused(lambda: Session(AdaIN, painting()), "a name, or what impasto.load() returned")
    refused(lambda: Session(method, painting(), controls=3), "controls: a int")
    refused(lambda: Session(method, []), "style")
    refused(lambda: Session(method, painting())(photo(), on_step=3), "on_step: a int")
    one = Session(method, painting(), controls=Controls(size=32), strength=0.5)
    assert (one.controls.size, one.controls.strength) == (32, 0.5)


def test_memory_that_runs_out_is_its_own_error(method, monkeypatch):
    def fail(*args):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(AdaIN, "__call__", fail)
    with pytest.raises(OutOfMemoryError, match="use a smaller size, or device='cpu'") as caught:
        Session(method, painting())(photo())
    assert caught.value.code == "memory"
    assert not isinstance(caught.value, InputError)


def test_sources_are_left_alone(method, photo_file, tmp_path):
    write(tmp_path / "p.png", painting())
    result = Session(method, tmp_path / "p.png")(photo_file)
    refused(lambda: result.save(tmp_path / "p.png"), "made from this file")


def test_a_content_is_read_at_the_size_of_the_result(method):
    """So that what a folder's loop keeps for the next style is not the full-size picture."""
    rgba = torch.rand(4, 60, 80, generator=torch.Generator().manual_seed(0))
    session = Session(method, painting(), size=24)
    content = session.read(rgba)
    assert content.rgb.shape == (3, 24, 32)
    assert content.alpha.shape == (1, 24, 32)
    assert session.size_of(content) == (24, 32)
    assert session.read(content) is content
    assert torch.equal(session(content).picture.rgb, session(rgba).picture.rgb)
    assert torch.equal(session(rgba).picture.alpha, content.alpha)


def test_memory_is_counted_once_and_a_size_that_fits_is_offered(method, monkeypatch):
    photo = torch.rand(3, 30, 40)
    pixels = 300 * 400
    monkeypatch.setattr("impasto.images.picture.available_memory", lambda: 12 * pixels)
    assert Session(method, painting(), size=300).read(photo).height == 300
    monkeypatch.setattr("impasto.images.picture.available_memory", lambda: 12 * pixels - 1)
    refused(lambda: Session(method, painting(), size=300)(photo), "400x300", "use size=284 or")
    assert Session(method, painting(), size=284).read(photo).height == 284
