"""Repairs of pictures: which a model wants, and how they are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from data import painting, photo
from safetensors import safe_open

import impasto
from impasto.errors import InputError
from impasto.finish import REPAIRS, Origin, finished
from impasto.images import read, read_settings, write
from impasto.methods import METHODS
from impasto.methods.model import MODELS
from impasto.statistics import Moments
from impasto.tensors import load_tensors, save_tensors
from impasto.training.methods import TRAINABLE
from impasto.training.methods.ghiasi import untrained

CPU = {"device": "cpu", "precision": "float32"}
WANTED = {
    "adain": ["palette", "dehalo"],
    "artflow": ["degrid"],
    "artflow-rbmad": ["degrid"],
    "ghiasi": ["degrid"],
    "johnson": ["degrid"],
    "johnson-bottleneck": ["degrid"],
    "styleflow": ["degrid"],
    "styleflow-rbmad": ["degrid"],
    "wct": [],
}
# Label of every bundled model -> its method, the options that choose it.
VARIANTS = {
    label: (name, dict(options))
    for name, record in METHODS.items()
    if record.one_pass
    for label, options in record.models.items()
}
TYPED = ("--device", "cpu", "--precision", "float32")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    training = untrained("residual", (4, 8, 8), blocks=1, rows=5)
    path = tmp_path_factory.mktemp("models") / "m.safetensors"
    training.save(path, {})
    return path


def with_header(path: Path, to: Path, **changes: str | None) -> Path:
    tensors, header = load_tensors(path)
    header = {**header, **changes}
    save_tensors(to, tensors, {key: value for key, value in header.items() if value is not None})
    return to


def test_every_bundled_model_says_which_it_wants():
    found = {}
    for path in MODELS.glob("*.safetensors"):
        with safe_open(path, "np") as stored:
            header = stored.metadata()
        if "method" in header:
            found[path.stem] = json.loads(header["finish"])
    assert found == WANTED
    assert {name for names in WANTED.values() for name in names} == set(REPAIRS)


def test_the_file_decides(model, tmp_path):
    assert json.loads(load_tensors(model)[1]["finish"]) == ["degrid"]
    assert impasto.load("ghiasi", model=model, **CPU).finish == ("degrid",)
    none = with_header(model, tmp_path / "none.safetensors", finish="[]")
    assert impasto.load("ghiasi", model=none, **CPU).finish == ()
    old = with_header(model, tmp_path / "old.safetensors", finish=None)
    assert impasto.load("ghiasi", model=old, **CPU).finish == ("degrid",)


@pytest.mark.parametrize(
    ("finish", "match"),
    [
        ('["sepia"]', "wants the repair 'sepia' .* there are degrid, dehalo, palette: update"),
        ("7", "not a model made by"),
        ("[[]]", "not a model made by"),
        ("degrid", "not a model made by"),
    ],
)
def test_a_file_that_wants_what_there_is_not_is_refused(finish, match, model, tmp_path):
    path = with_header(model, tmp_path / "odd.safetensors", finish=finish)
    with pytest.raises(InputError, match=match):
        impasto.load("ghiasi", model=path, **CPU)


@pytest.mark.parametrize("name", TRAINABLE)
def test_training_writes_what_the_class_wants(name, tmp_path):
    styles = {"styles": [write(tmp_path / "blue.png", painting())]} if name == "johnson" else {}
    training = TRAINABLE[name].untrained(**styles)
    training.save(tmp_path / "m.safetensors", {})
    assert json.loads(load_tensors(tmp_path / "m.safetensors")[1]["finish"]) == WANTED[name]


@pytest.fixture(scope="module")
def sky() -> torch.Tensor:
    """A slope, in which every repair finds something."""
    return 0.9 * torch.linspace(0, 1, 80).expand(3, 64, 80) + 0.05


def style_of(method: str) -> list[object]:
    return ["woodcut"] if method == "johnson" else [painting(60, 50)]


@pytest.mark.parametrize("label", VARIANTS)
def test_raw_turns_all_off_and_an_option_one(label, sky):
    name, chosen = VARIANTS[label]
    assert METHODS[name].Options.declared()["raw"].default is False

    def render(**options):
        method = impasto.load(name, **CPU, **chosen, **options)
        return method, method(sky, method.prepare(style_of(name)))

    wanted = WANTED[label]
    usual, usual_picture = render()
    raw, raw_picture = render(raw=True)
    assert (usual.finish, raw.finish) == (tuple(wanted), ())
    assert (usual.settings["raw"], raw.settings["raw"]) == (False, True)
    assert torch.equal(raw_picture, usual_picture) == (not wanted)
    for repair in wanted:
        method, picture = render(**{repair: False})
        assert method.finish == tuple(each for each in wanted if each != repair)
        assert method.settings[repair] is False
        assert usual.settings[repair] is True
        assert not torch.equal(picture, usual_picture)
    assert torch.equal(raw_picture, render(**dict.fromkeys(wanted, False))[1])


@pytest.mark.parametrize("label", VARIANTS)
def test_so_on_the_command_line(label, sky, run, tmp_path):
    name, chosen = VARIANTS[label]
    write(tmp_path / "sky.png", sky)
    [style] = style_of(name)
    if name != "johnson":
        style = write(tmp_path / "painting.png", style)
    options = [word for key, value in chosen.items() for word in (f"--{key}", value)]

    def render(to, *words):
        typed = ("stylize", "sky.png", style, "-m", name, *options, *TYPED, *words, "-o", to)
        code, _, said = run(*typed)
        assert code == 0, said
        return read_settings(tmp_path / to), read(tmp_path / to).rgb

    usual, picture = render("usual.png")
    raw, without = render("raw.png", "--raw")
    off, each_off = render("off.png", *(f"--no-{repair}" for repair in WANTED[label]))
    assert (usual["raw"], raw["raw"], off["raw"]) == (False, True, False)
    assert torch.equal(picture, without) == (not WANTED[label])
    assert torch.equal(without, each_off)
    assert [off[repair] for repair in WANTED[label]] == [False] * len(WANTED[label])
    # And so again from the record, unless the option says otherwise.
    again, like = render("again.png", "--like", "raw.png")
    assert again["raw"] is True
    assert torch.equal(like, without)


def test_they_are_made_in_the_order_named():
    pictures, contents = photo(40, 48)[None], photo(40, 48, seed=1)[None]
    origin = Origin(contents, Moments.of(painting().double()).normalised())
    one = finished(pictures.clone(), origin, ["palette", "dehalo"])
    step = REPAIRS["palette"](pictures.clone(), origin)
    torch.testing.assert_close(one, REPAIRS["dehalo"](step, origin))
    assert torch.equal(finished(pictures, origin, []), pictures)


@pytest.mark.parametrize("name", REPAIRS)
def test_at_strength_0_the_photograph_stays(name):
    content = photo(40, 48)[None]
    origin = Origin(content, Moments.of(painting().double()).normalised(), 0.0)
    torch.testing.assert_close(REPAIRS[name](content.clone(), origin), content)
