from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from data import painting

from impasto.errors import InputError
from impasto.images import write
from impasto.training.bank import DistillConfig
from impasto.training.classify import ClassifyConfig
from impasto.training.crops import DataConfig
from impasto.training.fit import TrainingConfig
from impasto.training.methods import TRAINABLE
from impasto.training.recipes import build, parse_set, read_toml, typed
from impasto.training.train import Stage, _with_weights, read_recipe, trainable


class Toy:
    """A method that can be trained, as far as recipes are concerned."""

    photographs_alone = False
    renames: ClassVar = {}

    @classmethod
    def untrained(
        cls,
        width: int = 4,
        rate: float = 1.0,
        loss: dict[str, float] | None = None,
        upsampling: Literal["nearest", "bilinear"] = "nearest",
        loss_network: str = "compact",
        loss_network_weights: Path | None = None,
    ) -> Toy:
        return cls()


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setitem(TRAINABLE, "toy", Toy)


def recipe(folder: Path, text: str) -> Path:
    (folder / "toy.toml").write_text(text, encoding="utf-8")
    return folder / "toy.toml"


def test_a_recipe_is_one_stage(tmp_path):
    text = (
        'method = "toy"\n[options]\nwidth = 6\nupsampling = "bilinear"\n'
        'loss_network_weights = "a.pth"\n'
        "[data]\nsize = 64\n[training]\nsteps = 7\nlearning_rate = 1\n"
    )
    (stage,) = read_recipe(recipe(tmp_path, text), "toy")
    weights = Path("a.pth")
    assert stage.options == {"width": 6, "upsampling": "bilinear", "loss_network_weights": weights}
    assert stage.data == DataConfig(size=64)
    assert stage.training == TrainingConfig(steps=7, learning_rate=1)


def test_no_recipe_is_the_defaults():
    (stage,) = read_recipe(None, "toy")
    assert (stage.options, stage.data, stage.training) == ({}, DataConfig(), TrainingConfig())


def test_stages_override_what_they_name(tmp_path):
    text = (
        "[options.loss]\nstyle = 2.0\ncontent = 1.0\n[training]\nsteps = 7\nbatch = 2\n"
        "[[stage]]\n"
        "[[stage]]\noptions = { loss_network = 'vgg19', loss = { style = 5.0 } }\n"
        "training = { steps = 3 }\ndata = { size = 128 }\n"
    )
    one, two = read_recipe(recipe(tmp_path, text), "toy")
    assert one.options == {"loss": {"style": 2.0, "content": 1.0}}
    assert two.options == {"loss": {"style": 5.0, "content": 1.0}, "loss_network": "vgg19"}
    assert (one.training.steps, one.training.batch, one.data.size) == (7, 2, 256)
    assert (two.training.steps, two.training.batch, two.data.size) == (3, 2, 128)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 3", r"toy\.toml: unknown key 'stepps'; the keys are method, options, data"),
        ("[training]\nstepps = 3", r"toy\.toml \[training\]: unknown key 'stepps'; the keys are"),
        ("[data]\nsizes = 3", r"\[data\]: unknown key 'sizes'"),
        ("[options]\nwide = 3", r"\[options\]: unknown key 'wide'; the keys are width, rate"),
        ("[options]\nwidth = 'wide'", r"width = 'wide' is not of type int"),
        ("[options]\nwidth = true", r"width = True is not of type int"),
        ("[options]\nupsampling = 3", r"upsampling = 3 is not of type Literal"),
        ("[options]\nloss = 3", r"loss = 3 is not of type"),
        ("[training]\nsteps = 'many'", r"steps = 'many' is not of type int"),
        ("[training]\nsteps = 0", r"\[training\]: steps = 0: must be 1 or more"),
        (
            "[training]\nlearning_rate = nan",
            "training.learning_rate is nan: must be a finite number",
        ),
        ("[training]\nsteps = 10000\nepochs = 2", r"\[training\]: has steps and epochs: leave one"),
        ("[training]\nepochs = -1", "epochs = -1: must be 0 or more"),
        ("[training]\nepochs = 0.5", "epochs = 0.5 is not of type int"),
        ("[training]\nbetas = [0.9]", "betas = .0.9,.: give two numbers from 0, below 1"),
        ("[training]\nbetas = [0.9, 1]", "betas = .0.9, 1.: give two numbers"),
        ("[training]\nbetas = ['a', 'b']", "betas = .'a', 'b'.: give two numbers"),
        ("[training]\nbetas = [0.9, 0.9]\noptimizer = 'sgd'", "betas and optimizer = 'sgd'"),
        ("[training]\naverage = 1.0", "average = 1.0: must be 0 or more, below 1"),
        ("[training]\nschedule = 'linear'", "schedule = 'linear': use constant, inverse, halving"),
        ("[training]\nclip = -1", "clip = -1: must be 0 or more"),
        ("[data]\nsize = 900", "size = 900: give 16 or more pixels, at most short_side = 512"),
        ("[data]\nvalidation = 0.7\ntest = 0.3", "give shares from 0, together below 1"),
        ("[data]\nworkers = -1", "workers = -1: must be 0 or more"),
        ("data = 3", "data = 3 is not of type table"),
        ("stage = [3]", r"stage: give tables"),
        ("[[stage]]\nstep = 3", r"toy\.toml, stage 1: unknown key 'step'"),
        ("[[stage]]\n[[stage]]\ntraining = {step = 3}", r"stage 2 \[training\]: unknown key"),
        ('method = "gatys"', "is a recipe for gatys, not for toy"),
        ("[data", "not a recipe, cannot be read as TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(recipe(tmp_path, text), "toy")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a recipe"):
        read_toml(tmp_path / "r.toml")
    with pytest.raises(InputError, match="not a recipe"):
        read_toml(tmp_path / "none.toml")


def test_lists_become_tuples():
    @dataclass(frozen=True)
    class Widths:
        widths: tuple[tuple[int, ...], ...] = ()

    assert build(Widths, {"widths": [[1, 2], [3]]}, "r.toml").widths == ((1, 2), (3,))


def test_methods_that_cannot_be_trained():
    with pytest.raises(InputError, match=r"'gatys' cannot be trained: use one of .*toy, encoder"):
        trainable("gatys")
    with pytest.raises(InputError, match=r"'ada' is unknown: use one of"):
        trainable("ada")
    assert trainable("toy") is Toy


@pytest.mark.parametrize(
    ("options", "filled"),
    [
        ({}, None),
        ({"loss_network": "vgg19"}, {"loss_network_weights"}),
        ({"encoder": "vgg19"}, {"encoder_weights"}),
        (
            {"encoder": "vgg19", "loss_network": "vgg19"},
            {"encoder_weights", "loss_network_weights"},
        ),
    ],
)
def test_vgg_goes_to_every_network_that_is_vgg(options, filled):
    vgg, cls = Path("vgg.pth"), TRAINABLE["adain"]
    stages = [Stage(o, DataConfig(), TrainingConfig()) for o in ({}, options)]
    assert _with_weights(stages, cls, None, None) == stages
    if filled is None:
        with pytest.raises(InputError, match='set encoder = "vgg19" or loss_network = "vgg19"'):
            _with_weights(stages, cls, vgg, "caffe")
        return
    plain, fitting = _with_weights(stages, cls, vgg, "caffe")
    assert plain == stages[0]
    given = {**dict.fromkeys(filled, vgg), "loss_convention": "caffe"}
    assert fitting.options == {**options, **given}


def test_every_recipe_in_the_repository_is_valid():
    recipes = Path(__file__).parent.parent / "recipes"
    for path in set(recipes.glob("**/*.toml")) - set(recipes.glob("sweeps/*")):
        method = read_toml(path).get("method")
        if method is not None:
            assert read_recipe(path, method)
    for path in recipes.glob("robust/*.toml"):
        assert build(ClassifyConfig, read_toml(path), path.name)


RECIPES = Path(__file__).parent.parent / "recipes"


def test_the_reports_recipes_have_their_losses_and_a_small_one_each():
    published, small = (
        {path.stem: path for path in (RECIPES / folder).glob("*.toml")}
        for folder in ("published", "small")
    )
    assert published.keys() <= small.keys()
    for path in (*published.values(), *small.values()):
        (stage,) = read_recipe(path, read_toml(path)["method"])
        assert stage.options["losses"] == "published", path
        assert stage.data.size == 96 or path in published.values()


@pytest.mark.parametrize("name", sorted(path.stem for path in (RECIPES / "small").glob("*.toml")))
def test_small_recipes_need_no_weights(name, tmp_path):
    path = RECIPES / "small" / f"{name}.toml"
    method = read_toml(path)["method"]
    (stage,) = read_recipe(path, method)
    options = dict(stage.options)
    if method == "johnson":
        write(tmp_path / "wave.png", painting())
        options["styles"] = [tmp_path / "wave.png"]
    assert trainable(method).untrained(**options).resolved["losses"] == "published"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("training.batch=2", "training.batch", 2),
        ("training.learning-rate = 1e-4", "training.learning_rate", 1e-4),
        ("data.size=1e+2", "data.size", 100.0),
        ("data.flips=false", "data.flips", False),
        ("options.loss_network_weights=none", "options.loss_network_weights", None),
        ("options.loss=style:2+content:1", "options.loss", {"style": 2.0, "content": 1.0}),
        ("options.loss={style = 2}", "options.loss", {"style": 2}),
        ("options.widths=8+16", "options.widths", [8, 16]),
        ("options.widths=[8]", "options.widths", [8]),
        ("options.upsampling='3'", "options.upsampling", "3"),
    ],
)
def test_values_beside_a_recipe(text, key, value):
    assert parse_set(text) == (key, value)
    (again,) = shlex.split(typed({key: value}))[1::2] if not isinstance(value, dict) else [text]
    assert parse_set(again) == (key, value)


def test_tables_are_typed_key_by_key():
    said = typed(
        {"options.loss": {"style": 2.0, "content": 1}, "options.w": Path("/home/me/v.pth")}
    )
    assert (
        said == " --set options.loss.style=2.0 --set options.loss.content=1 --set options.w=v.pth"
    )


@pytest.mark.parametrize("text", ["training.batch", "=2", "training.=2", "a.b=", "a=[1", "a=x:y"])
def test_values_that_cannot_be_read(text):
    with pytest.raises(InputError, match="write KEY=VALUE|cannot be read as TOML|is not a weight"):
        parse_set(text)


def test_set_goes_before_the_recipe_in_every_stage(tmp_path):
    text = (
        "[options.loss]\nstyle = 2.0\ncontent = 1.0\n[training]\nsteps = 7\nbatch = 2\n"
        "[[stage]]\n[[stage]]\ntraining = { steps = 3, batch = 4 }\n"
    )
    changes = {
        "training.batch": 6,
        "options.loss.style": 9,
        "options.loss_network_weights": "v.pth",
    }
    one, two = read_recipe(recipe(tmp_path, text), "toy", changes)
    assert (one.training.steps, one.training.batch) == (7, 6)
    assert (two.training.steps, two.training.batch) == (3, 6)
    for stage in (one, two):
        assert stage.options["loss"] == {"style": 9, "content": 1.0}
        assert stage.options["loss_network_weights"] == Path("v.pth")
    (alone,) = read_recipe(None, "toy", {"data.size": 64, "options.loss_network_weights": None})
    assert alone.data == DataConfig(size=64)
    assert alone.options == {"loss_network_weights": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, "changes: unknown key 'steps'; the keys are options, data, training"),
        ({"training": 3}, "changes: training = 3 is not of type table"),
        ({"training.batches": 3}, "changes training: unknown key 'batches'; the keys are steps"),
        ({"training.batch": "two"}, "changes training: batch = 'two' is not of type int"),
        ({"training.batch": 1.5}, "changes training: batch = 1.5 is not of type int"),
        ({"training.batch": 0}, r"toy.toml \[training\] with changes: batch = 0: must be 1"),
        ({"data.close": float("nan")}, "changes: data.close is nan: must be a finite number"),
        ({"data.close": float("inf")}, "changes: data.close is inf: must be a finite number"),
        ({"options.loss.style": float("nan")}, "changes: options.loss.style is nan"),
        ({"options.wide": 3}, "changes options: unknown key 'wide'; the keys are width, rate"),
        ({"data": 3, "data.size": 3}, "changes data.size: data is set to a value too"),
    ],
)
def test_mistakes_of_set_are_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(recipe(tmp_path, "[training]\nsteps = 3\n"), "toy", changes)
    assert "\n" not in str(caught.value)


def test_a_later_length_replaces_the_earlier(tmp_path):
    """Steps of a stage or by --set stand for the recipe's epochs, and the reverse."""
    text = "[training]\nsteps = 7\n[[stage]]\n[[stage]]\ntraining = { epochs = 2 }\n"
    one, two = read_recipe(recipe(tmp_path, text), "toy")
    assert (one.training.steps, one.training.epochs) == (7, 0)
    assert two.training.epochs == 2
    one, two = read_recipe(recipe(tmp_path, text), "toy", {"training.epochs": 3})
    assert one.training.epochs == two.training.epochs == 3
    one, two = read_recipe(recipe(tmp_path, text), "toy", {"training.steps": 5})
    assert (two.training.steps, two.training.epochs) == (5, 0)
    both = {"training.epochs": 3, "training.steps": 5}
    with pytest.raises(InputError, match="changes: has steps and epochs: leave one of them out"):
        read_recipe(recipe(tmp_path, text), "toy", both)
    with pytest.raises(InputError, match="steps = 5 and epochs = 2: leave one of them out"):
        TrainingConfig(steps=5, epochs=2)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "text", ["[data]\nclose = {}", "[options]\nrate = {}", "[options.loss]\nstyle = {}"]
)
def test_a_recipe_holds_finite_numbers(tmp_path, text, value):
    with pytest.raises(InputError, match=rf"is {value}: must be a finite number"):
        read_recipe(recipe(tmp_path, text.format(value)), "toy")


@pytest.mark.parametrize("config", [TrainingConfig, DataConfig, ClassifyConfig, DistillConfig])
def test_configurations_from_python(config):
    for field in fields(config):
        if field.type == "float":
            with pytest.raises(InputError, match=rf"{field.name} is inf: must be a finite number"):
                config(**{field.name: math.inf})
        if field.type in ("int", "float", "bool"):
            with pytest.raises(InputError, match=rf"{field.name} = 'x' is not of type"):
                config(**{field.name: "x"})


def test_a_recipe_by_its_name_alone(tmp_path):
    recipe(tmp_path, "[training]\nsteps = 3\n")
    assert read_recipe(str(tmp_path / "toy.toml"), "toy")[0].training.steps == 3
    with pytest.raises(InputError, match="recipe: give a path, not int"):
        read_recipe(3, "toy")
