"""One painting learnt well: the file, what is made with it, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data import painting, photo, refused

import impasto
from impasto.images import write
from impasto.methods.adain import AdaIN
from impasto.methods.ghiasi import Ghiasi
from impasto.methods.learnt import Learnt
from impasto.paintings import read_style, store_style
from impasto.session import Session
from impasto.tensors import load_tensors, save_tensors
from impasto.training import learn as room
from impasto.training.learn import learn
from impasto.training.methods import TRAINABLE

QUICK = {"size": 64, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module", params=["residual", "painter"])
def model(request, tmp_path_factory):
    """A small network that has learnt nothing."""
    torch.manual_seed(0)
    widths = {"residual": (4, 8, 8), "painter": (4, 8, 8, 8)}[request.param]
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    TRAINABLE["ghiasi"].untrained(request.param, widths, blocks=1, rows=5).save(path, {})
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(2):
        write(folder / f"{number}.png", photo(64, 80, number))
    return folder


@pytest.fixture(scope="module")
def method(model):
    return Ghiasi(model, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def fine(model, photos):
    """A painting whose last layers were learnt too."""
    return learn(painting(64, 80), photos, steps=2, model=model, **QUICK)


@pytest.fixture(scope="module")
def mixable(model, photos):
    return learn(painting(64, 80), photos, steps=2, model=model, mixable=True, **QUICK)


def made(method, *styles, strength=1.0, weights=None):
    return method(photo(), method.prepare(styles, weights), strength)


# What is learnt ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mixable", [False, True])
def test_begins_with_what_is_predicted(method, model, photos, mixable):
    seen = painting(64, 80)
    start = learn(seen, photos, steps=0, model=model, mixable=mixable, **QUICK)
    # At the painting's size, at which it was looked at.
    content = photo(64, 80)
    ours, predicted = (method(content, method.prepare([style])) for style in (start, seen))
    assert (ours - predicted).abs().max() < 2e-3


def test_learns_rows_and_last_layers_and_nothing_else(method, fine, photos, model):
    start = learn(painting(64, 80), photos, steps=0, model=model, **QUICK)
    assert (fine.rows - start.rows).abs().max() > 1e-4
    for name, layer in fine.layers.items():
        assert (layer - start.layers[name]).abs().max() > 1e-5
    assert "painter.last.weight" in fine.layers
    assert made(method, fine).sub(made(method, start)).abs().max() > 1e-4


def test_mixable_leaves_the_layers_alone(mixable):
    assert mixable.layers == {}


def test_the_loss_falls(model, photos):
    learnt = learn(painting(64, 80), photos, steps=60, model=model, **QUICK)
    first, last = learnt.figures["loss"]
    assert last < 0.9 * first
    assert learnt.figures["steps"] == 60


def test_a_seed_gives_the_same(fine, model, photos):
    before = torch.random.get_rng_state()
    again = learn(painting(64, 80), photos, steps=2, model=model, **QUICK)
    other = learn(painting(64, 80), photos, steps=2, model=model, seed=1, **QUICK)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(again.rows, fine.rows)
    assert all(torch.equal(layer, fine.layers[name]) for name, layer in again.layers.items())
    assert not torch.equal(other.rows, fine.rows)


def test_a_budget_in_minutes(model, photos):
    seen = []
    on_progress = lambda done, total, loss: seen.append((done, total))  # noqa: E731
    given = {**QUICK, "on_progress": on_progress}
    learnt = learn(painting(64, 80), photos, minutes=0.01, model=model, **given)
    assert learnt.figures["steps"] == len(seen)
    assert {total for _, total in seen} == {1}  # whole seconds
    assert learnt.figures["seconds"] == 1


def test_what_ends_it_keeps_what_was_learnt(model, photos, fine):
    seen = []

    def on_progress(done, total, loss):
        seen.append((done, total))
        return len(seen) == 2

    given = {**QUICK, "on_progress": on_progress}
    learnt = learn(painting(64, 80), photos, steps=9, model=model, **given)
    assert seen == [(1, 9), (2, 9)]
    assert learnt.figures["steps"] == 2
    assert not torch.equal(
        learnt.rows, learn(painting(64, 80), steps=0, photos=photos, model=model, **QUICK).rows
    )


# The file ---------------------------------------------------------------------------------------


def test_a_file_holds_all(method, fine, tmp_path):
    fine.save(tmp_path / "mine.safetensors")
    back = Learnt.load(tmp_path / "mine.safetensors")
    assert torch.equal(back.rows, fine.rows)
    assert (back.name, back.model, back.figures) == (fine.name, fine.model, fine.figures)
    assert torch.equal(made(method, back), made(method, fine))
    assert torch.allclose(back.color.mean, fine.color.mean, atol=1e-6)
    _, header = load_tensors(tmp_path / "mine.safetensors")
    assert header["kind"] == "impasto learnt style"
    assert json.loads(header["figures"])["steps"] == 2
    assert json.loads(header["mixable"]) is False


def test_given_where_a_painting_is(fine, model, tmp_path):
    path = tmp_path / "mine.safetensors"
    fine.save(path)
    options = {"model": model, "device": "cpu", "precision": "float32"}
    result = impasto.stylize(photo(), path, **options)
    assert result.settings["styles"] == [f"{fine.name} (learnt)"]
    assert torch.equal(result.picture.rgb, impasto.stylize(photo(), fine, **options).picture.rgb)
    with pytest.raises(impasto.errors.InputError, match="made from this file"):
        result.save(path)


# Rendering --------------------------------------------------------------------------------------


def test_strength_0_is_the_photograph(method, fine):
    assert (made(method, fine, strength=0.0) - photo()).abs().max() < 1e-5


def test_strengths_between(method, fine):
    away = [(made(method, fine, strength=s) - photo()).square().mean() for s in (0, 0.5, 1)]
    assert away[0] < away[1] < away[2]


def test_rows_mix(method, mixable):
    other = painting(64, 80, 3).flip(0)
    ends = [made(method, mixable, other, weights=w) for w in ([1, 0], [0, 1])]
    assert torch.allclose(ends[0], made(method, mixable), atol=1e-5)
    assert torch.allclose(ends[1], made(method, other), atol=1e-5)
    half = made(method, mixable, other)
    assert all((half - end).abs().mean() > 1e-4 for end in ends)
    assert torch.allclose(half, made(method, other, mixable), atol=1e-5)
    twice = made(method, mixable, mixable, weights=[1, 3])
    assert torch.allclose(twice, ends[0], atol=1e-5)


def test_styles_in_turn_leave_the_network_alone(method, fine, mixable):
    """What is prepared for one style does not show in another, and nothing grows."""
    size = sum(t.numel() for t in method.model.network.state_dict().values())
    styles = [method.prepare([style]) for style in (fine, painting(), mixable)]
    styles.append(method.prepare([mixable, painting()]))
    first = [method(photo(), style) for style in styles]
    again = [method(photo(), style) for style in reversed(styles)][::-1]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert size == sum(t.numel() for t in method.model.network.state_dict().values())


@pytest.mark.parametrize("color", ["match-style", "luminance"])
def test_colours(method, fine, color):
    out = Session(method, [fine], color=color)(photo()).picture.rgb
    assert (out - photo()).abs().max() > 1e-3


# Refusals ---------------------------------------------------------------------------------------


def test_layers_that_were_learnt_do_not_mix(method, fine):
    refused(lambda: method.prepare([fine, painting()]), "not mix", "mixable=True")


def test_colours_that_need_the_painting(method, fine):
    refused(lambda: Session(method, [fine], color="match"), "recoloured")
    luminance = {"color": "luminance", "match_luminance": True}
    refused(lambda: Session(method, [fine], **luminance), "recoloured")


def test_a_refinement_needs_the_painting(fine, model):
    options = {"model": model, "device": "cpu"}
    message = refused(lambda: impasto.stylize(photo(), fine, refine=2, **options), "refinement")
    assert "give the painting" in message
    assert "adain" not in message


def test_another_model(fine):
    other = Ghiasi(device="cpu")
    refused(lambda: other.prepare([fine]), "another model", "(model)")


def test_other_methods(fine, small_model):
    refused(lambda: AdaIN(small_model).prepare([fine]), "give the painting", "ghiasi")
    refused(lambda: impasto.stylize(photo(), fine, "gatys", iterations=1), "ghiasi")
    named = replace(fine, name="starry_night")
    refused(lambda: impasto.stylize(photo(), named, "johnson"), "johnson")


def test_a_style_prepared_by_another_model(fine, method):
    other = Ghiasi(device="cpu", precision="float32")
    style = method.prepare([fine])
    refused(lambda: other(photo(), style), "another model", "(model)")


def test_a_style_prepared_for_another_method(fine, method):
    gatys = impasto.load("gatys", iterations=1, device="cpu")
    refused(lambda: gatys(photo(), method.prepare([fine])), "prepare", "ghiasi")


def test_not_stored(method, fine, tmp_path):
    fine.save(tmp_path / "mine.safetensors")
    refused(lambda: store_style([tmp_path / "mine.safetensors"], "x"), "mine")
    refused(lambda: method.prepare([fine]).store("x"), "cannot be stored again")


@pytest.mark.parametrize("fault", ["nan", "rows", "layer", "norm", "short"])
def test_damaged_files(method, fine, tmp_path, fault):
    path = tmp_path / "mine.safetensors"
    fine.save(path)
    tensors, header = load_tensors(path)
    if fault == "nan":
        tensors["rows"][0, 0] = float("nan")
    elif fault == "rows":
        tensors["rows"] = tensors["rows"][:, 1:].contiguous()
    elif fault == "layer":
        tensors["layers.painter.last.weight"] = torch.zeros(1)
    elif fault == "norm":
        tensors["layers.painter.first.norm.scale"] = torch.zeros(5, 4)
    save_tensors(path, tensors, header)
    if fault == "short":
        path.write_bytes(path.read_bytes()[:-9])
    refused(lambda: method.prepare([read_style(path)]), "damaged")


def test_files_of_another_kind(model, tmp_path):
    refused(lambda: read_style(model), "small.safetensors", "by model")
    save_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)}, {})
    refused(lambda: read_style(tmp_path / "x.safetensors"), "impasto learn")
    refused(lambda: read_style(tmp_path / "none.safetensors"), "none.safetensors")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"steps": 1.5},
        {"minutes": 0},
        {"minutes": float("nan")},
        {"size": 32},
        {"size": 2000},
        {"seed": -1},
        {"device": "abacus"},
        {"precision": "float7"},
    ],
)
def test_wrong_numbers(photos, wrong):
    refused(lambda: learn(painting(64, 80), photos, **{**QUICK, **wrong}), *wrong)


def test_a_painting_too_small(photos):
    refused(lambda: learn(painting(40, 80), photos, steps=1, **QUICK), "80x40", "64")


def test_without_samples_photographs_are_asked_for(monkeypatch):
    def none(name):
        raise impasto.errors.InputError("the sample photographs need scikit-image: pip install it")

    monkeypatch.setattr(room, "photograph", none)
    refused(lambda: learn(painting(64, 80), steps=1, **QUICK), "scikit-image", "(photos)")


# The command line -------------------------------------------------------------------------------


@pytest.fixture
def desk(run, model, photos, tmp_path):
    """A painting, a photograph and a model in the current folder; gives what learns there."""
    write("painting.png", painting(64, 80))
    write("photo.png", photo())
    shutil.copy(model, "model.safetensors")
    shutil.copytree(photos, "photos")
    (tmp_path / "folder.safetensors").mkdir()
    options = ["--photos", "photos", "--model", "model.safetensors", "--size", 64]

    def call(*more, out="mine.safetensors"):
        return run("learn", "painting.png", "-o", out, *options, "--device", "cpu", *more)

    return call


def test_learn_and_stylize(desk, run, tmp_path):
    code, _, said = desk("--steps", 1)
    assert code == 0
    assert "mine.safetensors  (steps: 1, " in said
    shutil.copy("model.safetensors", "trained.safetensors")
    code, _, said = desk("--steps", 1, out="trained.safetensors")
    assert code == 2
    assert "trained.safetensors: exists and is no learnt style" in said
    given = ["--model", "model.safetensors", "-o", "out.png"]
    assert run("stylize", "photo.png", "mine.safetensors", *given)[0] == 0
    _, shown, _ = run("show", "out.png", "--json")
    settings = json.loads(shown)
    assert settings["styles"] == ["painting (learnt)"]
    assert settings["resolved"]["weights_digest"] == Ghiasi("model.safetensors").digest


def test_learnt_styles_in_a_folder(desk, run, tmp_path):
    (tmp_path / "styles").mkdir()
    for number in range(2):
        assert desk("--steps", 1, out=f"styles/{number}.safetensors")[0] == 0
    shutil.copy("model.safetensors", "styles/model.safetensors")  # is no style
    given = ["--model", "model.safetensors", "-o", "made/", "--device", "cpu"]
    assert run("stylize", "photo.png", "styles", *given)[0] == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "photo-0.png",
        "photo-1.png",
    ]


def test_the_name_of_a_bundled_style_is_no_painting(run):
    for command in ("learn", "style"):
        suffix = {"learn": "safetensors", "style": "style"}[command]
        code, _, said = run(command, "monet", "-o", f"x.{suffix}")
        assert code == 2
        assert "monet: of a style by name there are statistics and no picture" in said


def test_suffixes_in_capitals(fine, tmp_path):
    fine.save(tmp_path / "MINE.SAFETENSORS")
    assert read_style(tmp_path / "MINE.SAFETENSORS").name == fine.name
    assert fine != replace(fine, name="x")


@pytest.mark.parametrize("size", [100, 101])
def test_any_size_is_learnt_at(model, photos, size):
    options = {**QUICK, "size": size}
    assert learn(painting(128, 140), photos, steps=1, model=model, **options).rows.isfinite().all()


def test_ctrl_c_keeps_what_was_learnt(desk, monkeypatch, tmp_path):
    honest = room._Learner.step

    def interrupt(self, contents, share):
        signal.raise_signal(signal.SIGINT)
        return honest(self, contents, share)

    monkeypatch.setattr(room._Learner, "step", interrupt)
    code, _, said = desk("--steps", 5)
    assert code == 130
    assert "what was learnt is written" in said
    before = Path("mine.safetensors").read_bytes()
    assert Learnt.load("mine.safetensors").figures["steps"] == 1
    code, _, said = desk("--steps", 500)  # hardly begun: what was learnt before is worth more
    assert code == 130
    assert "interrupted before anything was learnt; nothing is written" in said
    assert Path("mine.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("out", "more", "word"),
    [
        ("mine.style", [], ".safetensors"),
        ("model.safetensors", [], "overwrite"),
        ("photos", [], "ends in"),
        ("folder.safetensors", [], "is a folder"),
        ("photo.png/x.safetensors", [], "not a folder"),
        ("x.safetensors", ["--steps", 1, "--minutes", 1], "--steps"),
        ("x.safetensors", ["--photos", "none"], "none"),
        ("x.safetensors", ["--minutes", "nan"], "minutes"),
    ],
)
def test_bad_words(desk, out, more, word, tmp_path):
    before = sorted(tmp_path.iterdir())
    code, printed, said = desk(*more, out=out)
    assert code == 2
    assert printed == ""
    assert len(said.splitlines()) == 1
    assert word in said
    assert sorted(tmp_path.iterdir()) == before


def test_the_painting_is_not_written_over(run, desk, tmp_path):
    shutil.copy("painting.png", "painting.safetensors")
    code, _, said = run("learn", "painting.safetensors", "-o", "painting.safetensors")
    assert code == 2
    assert "overwrite" in said
