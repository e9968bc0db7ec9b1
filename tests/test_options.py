"""Options are declared once: the checks, the command line, sweeps and records derive from that."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from data import painting, photo

import impasto
from impasto import cli
from impasto.controls import Controls, Saving, Variant
from impasto.errors import InputError
from impasto.images import read, read_settings, write
from impasto.methods import METHODS, load, options_of, record_of
from impasto.methods.records.gatys import REFINED, GatysOptions
from impasto.options import (
    ByLayer,
    Choice,
    File,
    Flag,
    Given,
    Layers,
    ListOf,
    Number,
    Options,
    Whole,
    again,
    option,
)
from impasto.pipeline import recorded
from impasto.result import Result
from impasto.study.sweep import parse

SETS = [Controls, Saving, *(record.Options for record in METHODS.values())]
EVERY = {
    f"{each.__name__}.{name}": declared
    for each in SETS
    for name, declared in each.declared().items()
}
each_option = pytest.mark.parametrize("declared", EVERY.values(), ids=EVERY)
CPU = {"device": "cpu", "precision": "float32"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oil(Options):
    thinner: float = option(0.5, Number(0, 1), "Share.", was=("turps",))
    coats: int | None = option(None, Whole(1, 9), "Of paint. Default: as it needs.")
    brush: str = option("flat", Choice(("flat", "round")), "flat or round.")
    dry: bool = option(False, Flag(), "Wait.")
    canvas: Path | None = option(None, File(("none yet",)), "A file.")
    sizes: list | int | None = option(None, ListOf(Whole(0), one=True), "Some.")
    layers: dict | None = option(None, Layers(), "Of paint.")
    smooth: str | dict = option("none", ByLayer(("none", "much")), "How.")
    easel: object = option(None, Given(), "An object.", recorded=False)


# What is declared -------------------------------------------------------------------------------


def test_nothing_that_declares_options_loads_torch():
    code = (
        "import sys, impasto.methods, impasto.controls, impasto.cli\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@each_option
def test_an_option_says_what_it_is(declared):
    assert declared.help.endswith((".", ";")) and len(declared.help) < 200
    assert declared.group
    if declared.default is None:
        typed = declared.kind.typed
        optional = "default" in declared.help.lower() or declared.name in (
            *("model", "color", "refine", "time_limit", "backbone_weights", "brush"),
        )
        assert optional or not typed, "what None stands for"
    assert declared.check(declared.default) == declared.default


def test_a_control_is_no_methods_option():
    for name in METHODS:
        assert not {*Controls.declared(), *Saving.declared()} & {*options_of(name)}


def test_what_is_said_in_the_records_is_so():
    for name, record in METHODS.items():
        assert record.name == name
        method = load(name, device="cpu")
        assert (method.learnt is not None) == record.learns_styles
        assert method.settings["method"] == name
        assert {*record.ready} == {*record.models}, "all are bundled"
    files = {label for record in METHODS.values() if record.one_pass for label in record.models}
    bundled = {path.stem for path in (Path(impasto.__file__).parent / "models").glob("*.s*")}
    assert files == bundled - {"compact", "slim"}


def test_the_variants_of_matching_stand_once():
    words = {*get_args(Variant)}
    assert {*Controls.declared()["color_variant"].kind.words} == words
    assert {*record_of("wct").Options.declared()["variant"].kind.words} == words


@pytest.mark.parametrize(
    ("function", "sets"),
    [
        (impasto.stylize, [Controls]),
        (Result.save, [Saving]),
        (Result.to_bytes, [Saving]),
        (impasto.Session, [Controls]),
        (impasto.methods.gatys.Gatys, [GatysOptions]),
    ],
)
def test_signatures_show_the_options(function, sets):
    shown = inspect.signature(function).parameters
    for each in sets:
        for field in (field for field in dataclasses.fields(each) if field.name != "backbone"):
            assert shown[field.name].default == field.default
            assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY


# What is checked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("thinner", "0.25", 0.25),
        ("thinner", "1", 1.0),
        ("coats", "3", 3),
        ("coats", "none", None),
        ("brush", "round", "round"),
        ("dry", "true", True),
        ("dry", "no", False),
        ("canvas", "a.png", Path("a.png")),
        ("canvas", "none yet", "none yet"),
        ("sizes", "64", 64),
        ("sizes", "64, 0", [64, 0]),
        ("layers", "a,b=0.5", {"a": 1.0, "b": 0.5}),
        ("smooth", "much", "much"),
        ("smooth", "a=much,b=none", {"a": "much", "b": "none"}),
    ],
)
def test_what_is_typed(name, text, value):
    read = Oil.declared()[name].parse(text)
    assert read == value and type(read) is type(value)
    assert getattr(Oil(**{name: read}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("thinner", "1.5", "--thinner is 1.5: must be 0 or more, and 1 at most"),
        ("thinner", "nan", "--thinner is nan: must be a finite number"),
        ("thinner", "x", "--thinner 'x': give a number"),
        ("thinner", "none", "--thinner 'none': give a number"),
        ("coats", "0", "--coats is 0: must be 1 or more"),
        ("coats", "1.5", "--coats: '1.5' is not a whole number"),
        ("coats", "inf", "--coats is inf: must be a finite number"),
        ("brush", "fan", "--brush 'fan' is unknown: use flat or round"),
        ("dry", "perhaps", "--dry 'perhaps': give true or false"),
        ("sizes", "1,,2", "--sizes '1,,2': give values separated by commas"),
        ("sizes", "1,x", "--sizes 'x': give a number"),
        ("layers", "a=b", "--layers 'b': give a number"),
        ("layers", "a=inf", "--layers is inf: must be a finite number"),
        ("layers", ",", "--layers ',': give layers"),
        ("smooth", "a=lots", "--smooth 'lots' is unknown: use none or much"),
    ],
)
def test_what_cannot_be_meant(name, text, words):
    with pytest.raises(InputError) as caught:
        Oil.declared()[name].parse(text)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"thinner": "much"}, "thinner is 'much': must be a number"),
        ({"thinner": None}, "thinner is None: must be a number"),
        ({"coats": True}, "coats is True: must be a number"),
        ({"coats": 2.5}, "coats is 2.5: must be a whole number"),
        ({"dry": 1}, "dry is 1: give True or False"),
        ({"canvas": 3}, "canvas is 3: give a path"),
        ({"sizes": "64"}, "sizes is '64': must be a number"),
        ({"sizes": [1, -1]}, "sizes is -1: must be 0 or more"),
        ({"layers": 3}, "layers: give a list of layers, not 3"),
        ({"layers": {"a": float("nan")}}, "the weight of layer a is nan"),
        ({"thiner": 1}, "oil has no option 'thiner': did you mean 'thinner'?"),
        ({"turps": 1, "thinner": 1}, "turps is the old name of thinner, which is given too"),
    ],
)
def test_what_python_is_refused(values, words):
    with pytest.raises(InputError) as caught:
        Oil.of("oil", values)
    assert str(caught.value).startswith(words)


def test_numbers_of_numpy_are_numbers():
    made = Oil(thinner=np.float32(0.5), coats=np.int64(2))
    assert json.dumps(made.record()) == json.dumps(Oil(thinner=0.5, coats=2).record())
    layers = GatysOptions(
        style_layers={"relu1_1": np.float32(0.5)}, content_layers=iter(["relu4_1"])
    )
    assert json.loads(json.dumps(layers.record()))["style_layers"] == {"relu1_1": 0.5}
    assert layers.content_layers == ["relu4_1"]


def test_an_option_of_another_set_with_another_default():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Thin(Oil):
        thinner: float = again(Oil, "thinner", default=0.9)

    assert Thin().thinner == 0.9
    assert [*Thin.declared()] == [*Oil.declared()]
    with pytest.raises(InputError):
        Thin(thinner=2)


def test_a_record_is_plain():
    oil = Oil(canvas=Path("deep/a.png"), layers={"a": 1.0}, sizes=(1, 2), easel=object())
    made = json.loads(json.dumps(oil.record()))
    assert (made["canvas"], made["layers"], made["sizes"]) == ("a.png", {"a": 1.0}, [1, 2])
    assert "easel" not in made
    assert json.dumps(Oil(thinner=np.float32(0.5), coats=np.int64(2)).record())


# The command line -------------------------------------------------------------------------------


def help_of(capsys, monkeypatch, *words):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    monkeypatch.setattr(sys, "argv", ["impasto", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    return capsys.readouterr().out


def test_the_first_help_is_one_screen(capsys, monkeypatch):
    text = help_of(capsys, monkeypatch, "stylize", "--help")
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 80
    for flag in ("--out", "--method", "--strength", "--size", "--color", "--like", "--help-all"):
        assert f"{flag} " in text
    assert "--lr" not in text
    assert [text.index(f" {panel} ─") for panel in ("Pictures", "Style", "Colour")]


def test_the_long_help_has_every_option(capsys, monkeypatch):
    text = help_of(capsys, monkeypatch, "stylize", "--help-all")
    for declared in EVERY.values():
        assert (f"{declared.flag} " in text) == declared.kind.typed
    for panel in ("Expert", "Several methods", "Method gatys", "Method wct"):
        assert f" {panel} ─" in text


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("typed", ["--method {}", "-m {}", "-m{}", "--method={}"])
def test_the_help_of_a_method_has_its_options(capsys, monkeypatch, name, typed):
    text = help_of(capsys, monkeypatch, "stylize", *typed.format(name).split(), "--help")
    shown = {word for word in text.split() if word.startswith("--") and "no-" not in word}
    own = {d.flag for d in record_of(name).Options.declared().values() if d.kind.typed}
    assert shown - {"--help", "--help-all"} == own


def test_every_option_can_be_typed():
    params = {p.name for p in typer.main.get_command(cli.app).commands["stylize"].params}
    for declared in EVERY.values():
        assert (declared.name in params) == declared.kind.typed


def test_sweeps_read_options_as_they_are_declared():
    assert parse("iterations=3,4+5") == ("iterations", [3, [4, 5]])
    assert parse("brush=none,2", "adain") == ("brush", [None, 2.0])
    assert parse("smooth=softmax,rb3:scale") == ("smooth", ["softmax", {"rb3": "scale"}])
    with pytest.raises(InputError, match="--vary lr is -1.0: must be above 0"):
        parse("lr=-1")
    with pytest.raises(InputError, match="method adain has no option 'variant': method wct"):
        parse("variant=monge", "adain")


# A picture like another -------------------------------------------------------------------------


def test_a_picture_is_made_again_from_its_record(tmp_path):
    first = impasto.stylize(
        *(photo(40, 52), painting(48, 60), "gatys"),
        **{"iterations": [3], "sizes": [0], "style_layers": {"relu1_1": 1.0, "relu2_1": 0.5}},
        **{"strength": 0.7, "color": "match-style", "start": "noise", "seed": 3, **CPU},
    )
    path = first.save(tmp_path / "first.png")
    method, options = recorded(path)
    assert method == "gatys"
    assert "device" not in options and "precision" not in options
    again = impasto.stylize(photo(40, 52), painting(48, 60), method, **options, **CPU)
    assert (again.array == first.array).all()


def test_a_refined_picture_is_made_again(tmp_path, small_model):
    options = {"model": small_model, "refine": 2, "style_weight": 50.0, "backbone": "slim", **CPU}
    first = impasto.stylize(photo(40, 52), painting(48, 60), "adain", **options)
    method, options = recorded(first.save(tmp_path / "first.png"))
    assert options["model"] == Path(small_model.name), "of a file its name alone"
    options["model"] = small_model
    again = impasto.stylize(photo(40, 52), painting(48, 60), method, **options, **CPU)
    assert (again.array == first.array).all()


def test_a_refined_picture_of_a_preset_is_made_again(tmp_path):
    options = {"backbone": "compact", "content_layers": ["relu4_1"], "style_layers": ["relu1_1"]}
    options |= {"iterations": 1, "refine": 1, **CPU}
    first = impasto.stylize(photo(40, 52), painting(48, 60), "gatys-report3", **options)
    assert first.settings["refinement"]["losses"] == "published"
    method, options = recorded(first.save(tmp_path / "first.png"))
    again = impasto.stylize(photo(40, 52), painting(48, 60), method, **options, **CPU)
    assert (again.array == first.array).all()


def test_like_a_refined_picture_whose_backbone_has_weights_by_word(run, tmp_path, small_model):
    write(tmp_path / "photo.png", photo(40, 52))
    write(tmp_path / "wave.png", painting(48, 60))
    both = ["stylize", "photo.png", "wave.png", "--device", "cpu", "--precision", "float32"]
    refined = ["--method", "adain", "--model", small_model, "--refine", "1"]
    random = ["--backbone", "resnet18", "--backbone-weights", "random"]
    code, _, said = run(*both, *refined, *random, "-o", "first.png")
    assert code == 0, said
    code, _, said = run(*both, "--like", "first.png", "--model", small_model, "-o", "again.png")
    assert code == 0, said
    assert bool((read(tmp_path / "first.png").rgb == read(tmp_path / "again.png").rgb).all())


def test_like_another_picture(run, tmp_path):
    write(tmp_path / "photo.png", photo(40, 52))
    write(tmp_path / "wave.png", painting(48, 60))
    cpu = ["--device", "cpu", "--precision", "float32"]
    first = ["-o", "first.png", "-m", "gatys", "--iterations", "2", "--sizes", "0"]
    both = ["stylize", "photo.png", "wave.png", *cpu]
    assert run(*both, *first, "--strength", "0.5", "--color", "luminance")[0] == 0
    assert run(*both, "--like", "first.png", "-o", "again.png")[0] == 0
    one, two = (read_settings(tmp_path / name) for name in ("first.png", "again.png"))
    for name in ("method", "iterations", "sizes", "strength", "color"):
        assert one[name] == two[name]
    assert bool((read(tmp_path / "first.png").rgb == read(tmp_path / "again.png").rgb).all())
    beside = ["--strength", "1", "--iterations", "1"]
    assert run(*both, "--like", "first.png", *beside, "-o", "other.png")[0] == 0
    other = read_settings(tmp_path / "other.png")
    assert (other["strength"], other["iterations"], other["color"]) == (1.0, 1, "luminance")
    # Another method takes what it has an option for.
    code, _, said = run(*both, "--like", "first.png", "-m", "adain", "-o", "adain.png")
    assert code == 0, said
    assert read_settings(tmp_path / "adain.png")["strength"] == 0.5


def test_what_is_like_nothing(run, tmp_path):
    write(tmp_path / "photo.png", photo(40, 52))
    write(tmp_path / "wave.png", painting(48, 60))
    for name, settings in (
        ("preview", {"preview": 5}),
        ("model", {"method": "adain", "model": "mine.safetensors"}),
        ("start", {"method": "gatys", "start": "sketch"}),
    ):
        write(tmp_path / f"{name}.png", photo(40, 52), settings=settings)
    for picture, words in (
        ("photo.png", "carries no impasto settings"),
        ("none.png", "none.png"),
        ("preview.png", "a preview"),
        ("model.png", "made with --model mine.safetensors, which does not exist"),
        ("start.png", "made with --start sketch, which does not exist"),
    ):
        code, _, said = run("stylize", "photo.png", "wave.png", "--like", picture)
        assert (code, len(said.splitlines())) == (2, 1)
        assert words in said
    write(tmp_path / "foreign.png", photo(40, 52), settings={"method": "oil"})
    code, _, said = run("stylize", "photo.png", "wave.png", "--like", "foreign.png")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "'oil' is unknown" in said


def test_the_picture_that_it_is_like_is_left_alone(run, tmp_path):
    write(tmp_path / "photo.png", photo(40, 52))
    write(tmp_path / "like.png", painting(48, 60), settings={"method": "adain"})
    code, _, said = run("stylize", "photo.png", "photo.png", "--like", "like.png", "-o", "like.png")
    assert code == 2
    assert "would overwrite" in said


def test_another_method_leaves_what_means_something_else_to_it(run, tmp_path):
    write(tmp_path / "photo.png", photo(40, 52))
    write(tmp_path / "wave.png", painting(48, 60))
    made = {"method": "artflow", "model": "mine.safetensors", "operator": "wct", "style_scale": 0.5}
    write(tmp_path / "like.png", photo(40, 52), settings=made)
    words = ["--like", "like.png", "-m", "styleflow", "-o", "out.png", "--device", "cpu"]
    code, _, said = run("stylize", "photo.png", "wave.png", *words)
    assert code == 0, said
    found = read_settings(tmp_path / "out.png")
    assert (found["operator"], found["model"], found["style_scale"]) == (None, None, 0.5)


def test_help_of_an_unknown_method_says_so(run):
    code, _, said = run("stylize", "-m", "adian", "--help")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "did you mean 'adain'" in said


def test_the_last_method_has_its_help(capsys, monkeypatch):
    shown = help_of(capsys, monkeypatch, "stylize", "-m", "wct", "-m", "adain", "--help")
    assert "--palette" in shown
    assert "--variant" not in shown


def test_an_option_without_its_value_is_one_line_of_ours(run):
    code, _, said = run("stylize", "photo.png", "wave.png", "--like")
    assert code == 2
    assert said.startswith("impasto: ")


def test_names_that_are_no_text(tmp_path):
    with pytest.raises(InputError, match="layers"):
        load("wct", layers=[3])
    result = impasto.stylize(photo(40, 52), painting(48, 60), **CPU)
    for path in (3, None):
        with pytest.raises(InputError, match="path"):
            result.save(path)
    with pytest.raises(InputError, match="format"):
        result.to_bytes(3)


def test_options_are_listed_in_one_order():
    assert [*REFINED] == [name for name in GatysOptions.declared() if name in REFINED]


def test_the_signature_of_stylize_takes_options_of_methods():
    inspect.signature(impasto.stylize).bind("photo.png", "wave.png", strength=0.5, brush=2)


def test_weights_of_other_styles_are_left_out(run, tmp_path):
    write(tmp_path / "photo.png", photo(40, 52))
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.png", painting(48, 60))
    fast = ["-m", "adain", "--device", "cpu"]
    mixed = ["stylize", "photo.png", "a.png", "b.png", *fast]
    assert run(*mixed, "--weights", "2,1", "-o", "both.png")[0] == 0
    for styles, weights in ((["b.png", "c.png"], [2, 1]), (["c.png"], None)):
        words = ["stylize", "photo.png", *styles, "--like", "both.png", "-o", "out.png"]
        code, _, said = run(*words, "--device", "cpu")
        assert code == 0, said
        assert read_settings(tmp_path / "out.png")["weights"] == weights
    code, _, said = run(*mixed, "--like", "both.png", "--weights", "1", "-o", "out.png")
    assert code == 2
    assert "weight" in said
