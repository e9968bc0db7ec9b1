from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from data import painting, photo

from impasto import cli
from impasto.backbones import load_backbone
from impasto.errors import InputError
from impasto.images import read, read_settings, write
from impasto.methods import load, options_of
from impasto.study.cases import combined
from impasto.study.sweep import parse, read_recipe, sweep
from impasto.training.methods import TRAINABLE

FAST = {"iterations": 2, "device": "cpu", "size": 32}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "photo.png", photo(40, 52))
    write(tmp_path / "wave.png", painting(48, 60))
    return tmp_path


def run(folder, vary, **options):
    places = (folder / "photo.png", folder / "wave.png", folder / "out")
    return sweep(*places, vary, **{"options": FAST, **options})


@pytest.mark.parametrize(
    ("text", "option", "values"),
    [
        ("lr=1e-3,1,10", "lr", [0.001, 1, 10]),
        ("optimizer=lbfgs, adam", "optimizer", ["lbfgs", "adam"]),
        ("match-luminance=true,false", "match_luminance", [True, False]),
        ("sizes=0,64+0", "sizes", [[0], [64, 0]]),
        (
            "style-layers=relu1_1,relu1_1+relu2_1:0.5",
            "style_layers",
            [{"relu1_1": 1.0}, {"relu1_1": 1.0, "relu2_1": 0.5}],
        ),
        ("color=none,match", "color", [None, "match"]),
    ],
)
def test_what_is_typed(text, option, values):
    assert parse(text) == (option, values)


@pytest.mark.parametrize("text", ["lr", "lr=", "=1", ""])
def test_what_cannot_be_read(text):
    with pytest.raises(InputError, match="OPTION=VALUE"):
        parse(text)


def test_every_combination_is_made(folder):
    rows = run(folder, {"strength": [0.5, 1.0], "optimizer": ["lbfgs", "adam"]})
    assert [row["label"] for row in rows] == [
        "strength=0.5, optimizer=lbfgs",
        "strength=0.5, optimizer=adam",
        "strength=1, optimizer=lbfgs",
        "strength=1, optimizer=adam",
    ]
    for row in rows:
        made = read_settings(folder / "out" / row["picture"])
        assert made["strength"] == float(row["strength"])
        assert made["optimizer"] == row["optimizer"]
        assert row["iterations"] == len(row["losses"]) == 2
        assert row["loss"] == row["losses"][-1]
    with open(folder / "out" / "results.csv", newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [row["optimizer"] for row in table] == ["lbfgs", "adam"] * 2
    assert float(table[1]["loss"]) == pytest.approx(rows[1]["loss"])
    for name in ("sheet.png", "curves.png"):
        assert read(folder / "out" / name).rgb.shape[-1] > 60


def test_it_goes_on_and_takes_further_values(folder):
    ended = run(folder, {"strength": [0.5, 1.0]}, on_progress=lambda done, *rest: done == 1)
    assert [row["label"] for row in ended] == ["strength=0.5"]
    picture = (folder / "out" / ended[0]["picture"]).read_bytes()
    seen = []
    rows = run(
        folder,
        {"strength": [0.5, 1.0, 1.5]},
        on_progress=lambda d, t, name, step: seen.append(name),
    )
    assert set(seen) == {"strength=1", "strength=1.5", ""}
    assert len(rows) == 3
    assert (folder / "out" / ended[0]["picture"]).read_bytes() == picture
    with pytest.raises(InputError, match=r"another sweep \(method differ\)"):
        run(folder, {"strength": [1.0]}, method="wct", options=FAST)
    (folder / "out" / "results.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="no sweep that can be resumed"):
        run(folder, {"strength": [1.0]})


def test_paired_values_are_taken_together(folder):
    rows = run(
        folder,
        {"sizes": [[0], [20, 0]], "iterations": [4, [3, 1]]},
        paired=True,
        options={"device": "cpu", "size": 32},
    )
    assert [row["label"] for row in rows] == [
        "sizes=0, iterations=4",
        "sizes=20+0, iterations=3+1",
    ]
    assert [row["fault"] for row in rows] == [None, None]
    assert [row["iterations"] for row in rows] == [4, 4]
    with pytest.raises(InputError, match=r"equally many \(lr 2, strength 1\)"):
        run(folder, {"lr": [1, 2], "strength": [1.0]}, paired=True)


def test_cases_name_options_that_belong_together(folder):
    cases = {"alone": {"sizes": [0], "iterations": 3}, "coarse": {"sizes": [20, 0]}}
    options = {"device": "cpu", "size": 32}
    cases["coarse"]["iterations"] = [2, 1]
    rows = run(folder, {"strength": [0.5, 1.0]}, cases=cases, options=options)
    assert [row["label"] for row in rows] == [
        *("alone, strength=0.5", "alone, strength=1"),
        *("coarse, strength=0.5", "coarse, strength=1"),
    ]
    assert [row["fault"] for row in rows] == [None] * 4
    assert rows[2]["options"] == {"sizes": "20+0", "iterations": "2+1", "strength": "0.5"}
    table = (folder / "out" / "results.csv").read_text(encoding="utf-8")
    assert table.startswith("label,")
    done = []
    again = run(
        folder,
        {"strength": [0.5, 1.0]},
        cases=cases,
        options=options,
        on_progress=lambda d, t, name, step: done.append(name),
    )
    assert done == [""]
    assert again == rows
    with pytest.raises(InputError, match=r"'alone, strength=0.5' with other options"):
        run(folder, {"strength": [0.5]}, cases={"alone": {"iterations": 2}}, options=options)


def test_cases_that_are_none(folder):
    for cases, message in (
        (["a"], "cases: give label -> options, not list"),
        ({"a": 3}, "cases: a: give a dictionary of options, not int"),
        ({" ": {"lr": 1.0}}, "the label ' ' is no text"),
        ({"a": {"speed": 3}}, "has no option 'speed'"),
        ({"a": {"lr": float("nan")}}, "must be a finite number"),
        ({"a": {"iterations": 3}}, "iterations: both fixed and varied"),
    ):
        with pytest.raises(InputError, match=message):
            run(folder, None, cases=cases)
    with pytest.raises(InputError, match="lr: both fixed and varied"):
        run(folder, {"lr": [1.0]}, cases={"a": {"lr": 0.5}})
    assert not (folder / "out").exists()


def test_another_model_in_a_case_is_no_going_on(folder):
    torch.manual_seed(0)
    model = folder / "n.safetensors"
    for seed in (0, 1):
        torch.manual_seed(seed)
        TRAINABLE["adain"].untrained(widths=[[8], [8], [8], [8]]).save(model, {})
        arguments = {"cases": {"mine": {"model": model}}, "method": "adain"}
        if seed == 0:
            assert run(folder, None, options={"device": "cpu"}, **arguments)[0]["fault"] is None
    with pytest.raises(InputError, match=r"another sweep \(mine model n.safetensors differ"):
        run(folder, None, options={"device": "cpu"}, **arguments)


def test_every_row_has_its_peak_memory(folder):
    """That of a large picture is more, also where a small one follows it."""
    options = {"iterations": 2, "device": "cpu", "sizes": [0]}
    rows = run(folder, {"size": [256, 32]}, options=options)
    large, small = (row["megabytes"] for row in rows)
    assert large > 2 * max(small, 1)
    assert large > 20
    table = (folder / "out" / "results.csv").read_text(encoding="utf-8")
    assert "megabytes" in table.splitlines()[0]


def test_one_pass_has_no_curves(folder):
    rows = run(folder, {"strength": [0.0, 1.0]}, method="adain", options={"device": "cpu"})
    assert [row["loss"] for row in rows] == [None, None]
    assert not (folder / "out" / "curves.png").exists()


def test_what_cannot_be_made_is_a_row_with_its_fault(folder):
    rows = run(folder, {"optimizer": ["lbfgs", "newton"]})
    assert rows[0]["fault"] is None
    assert "newton" in rows[1]["fault"]
    assert (
        json.loads((folder / "out" / "results.json").read_text(encoding="utf-8"))["rows"][1][
            "picture"
        ]
        is None
    )


def test_what_does_not_go_together(folder):
    with pytest.raises(InputError, match="name what varies"):
        run(folder, {})
    with pytest.raises(InputError, match="leave one of them out"):
        run(folder, {"size": [32, 40]})


def test_by_the_command(folder, monkeypatch, capsys):
    words = ["sweep", folder / "photo.png", folder / "wave.png", "-o", folder / "out"]
    words += ["--vary", "strength=0,1", "--set", "device=cpu", "-m", "adain"]

    def command(*more: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["impasto", *map(str, words), *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, listed, _ = command()
    assert code == 0
    assert listed.splitlines()[0].startswith("strength=0  ")
    code, _, said = command("--vary", "strength=-1")
    assert code == 2
    assert said == "impasto: --vary strength is -1.0: must be 0 or more, and 100 at most\n"
    code, listed, _ = command("--vary", "model=gone.safetensors")
    assert code == 1
    assert "gone.safetensors" in listed
    code, _, said = command("--set", "size=1,2")
    assert code == 2
    assert "give one value" in said


RECIPES = sorted((Path(__file__).parent.parent / "recipes" / "sweeps").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_name_what_there_is(recipe):
    method, same, vary, cases = read_recipe(recipe)
    known = set(options_of(method)) | {"size", "color", "color_variant"}
    assert vary or cases
    assert set(same) | set(vary) | {name for case in cases.values() for name in case} <= known
    if "backbone" in same:  # what runs without a download, loaded once
        same |= {"backbone": load_backbone("resnet18", "random")}
    sets = [{name: value} for name, values in vary.items() for value in values]
    for chosen in [*sets, *cases.values()]:
        if all(isinstance(value, float) for value in chosen.values()):
            continue
        assert load(method, **{k: v for k, v in (same | chosen).items() if k in options_of(method)})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_no_recipe_makes_a_picture_twice(recipe):
    """A variant of colour matching changes nothing where no colours are matched."""
    _, same, vary, cases = read_recipe(recipe)
    seen = []
    for chosen in combined(vary, cases, False).values():
        options = {**same, **chosen}
        if options.get("color") not in ("match", "match-style"):
            options.pop("color_variant", None)
        assert options not in seen
        seen.append(options)


def test_report_3_s_coarse_to_fine():
    """At every size its 600 + 100 iterations, and the full size alone with 600 and with 700."""
    _, same, _, cases = read_recipe(RECIPES[0].with_name("high-resolution.toml"))
    plans = {}
    for case in cases.values():
        case["size"], (*coarse, final) = case["size"], case["sizes"]
        assert final == 0
        assert all(side < case["size"] for side in coarse)
        plans.setdefault(case["size"], []).append((len(coarse), case["iterations"]))
    expected = [(0, 600), (0, 700), (1, [600, 100])]
    assert plans == {512: expected, 720: expected, 1080: expected}
    assert same["tolerance"] == 0


@pytest.mark.parametrize("name", ["color", "layers", "learning-rate", "optimizer"])
def test_report_3_s_figures_take_600_iterations(name):
    _, same, _, _ = read_recipe(RECIPES[0].with_name(f"{name}.toml"))
    assert same["iterations"] == 600
    assert same["sizes"] == [0]
    assert same["start"] == "content+noise"


def test_a_recipe_is_the_same_as_typing_it(folder, monkeypatch, capsys):
    recipe = folder / "recipe.toml"
    recipe.write_text(
        'method = "adain"\n[set]\ndevice = "cpu"\nstrength = 0.5\n'
        '[vary]\nsize = [32, 40]\ncolor = ["none", "match"]\n',
        encoding="utf-8",
    )
    words = ["sweep", folder / "photo.png", folder / "wave.png", "-o", folder / "out"]
    words += ["--recipe", recipe, "--set", "size=36", "--set", "strength=1"]
    monkeypatch.setattr("sys.argv", ["impasto", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("color=none", "color=match"),
    ]
    made = read_settings(next((folder / "out").glob("000*.png")))
    assert made["strength"] == 1
    assert made["method"] == "adain"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed = 3", "unknown key"),
        ("[vary]\nlr = 3", "list of values"),
        ("[vary]\nlr = []", "list of values"),
        ("vary = 3", "not of type"),
        ("case = 3", "not of type"),
        ("[[case]]\nlr = 3", "label = None: give each case its own label"),
        ('[[case]]\nlabel = "a"\n[[case]]\nlabel = "a"', "label = 'a': give each case its own"),
    ],
)
def test_recipes_that_are_none(folder, text, words):
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_recipe(folder / "recipe.toml")


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Run `impasto sweep`; gives exit code, what it prints and what it says."""

    def call(*words, style="wave.png") -> tuple[int, str, str]:
        words = ("sweep", folder / "photo.png", folder / style, "-o", folder / "out", *words)
        monkeypatch.setattr("sys.argv", ["impasto", *map(str, words), "--set", "device=cpu"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_paired_and_cases_by_the_command(folder, command):
    words = ("--vary", "sizes=0,20+0", "--vary", "iterations=2,1+1", "--size", "32")
    code, listed, said = command(*words, "--paired")
    assert code == 0, said
    assert [line.split("  ")[0] for line in listed.splitlines()] == [
        *("sizes=0, iterations=2", "sizes=20+0, iterations=1+1"),
    ]
    assert " MB  loss " in listed.splitlines()[0]
    code, _, said = command(*words, "--vary", "lr=1", "--paired")
    assert code == 2
    assert said == (
        "impasto: paired values must be equally many (sizes 2, iterations 2, lr 1); give as many "
        "of each\n"
    )
    (folder / "r.toml").write_text(
        '[set]\nsize = 32\n[[case]]\nlabel = "one"\niterations = 3\nlr = 0.5\n'
        '[[case]]\nlabel = "two"\niterations = 2\ncolor = "none"\n',
        encoding="utf-8",
    )
    code, listed, said = command(
        *("--recipe", folder / "r.toml", "--set", "iterations=1", "-o", folder / "cases")
    )
    assert code == 0, said
    assert [line.split("  ")[0] for line in listed.splitlines()] == ["one", "two"]
    made = [read_settings(path) for path in sorted((folder / "cases").glob("0*.png"))]
    assert [settings["iterations"] for settings in made] == [1, 1]
    assert [settings["lr"] for settings in made] == [0.5, None]


def test_size_is_the_same_for_all(folder, command):
    code, _, said = command("--vary", "strength=0,1", "--size", "24", "-m", "adain")
    assert code == 0, said
    for path in (folder / "out").glob("0*.png"):
        assert read(path).rgb.shape[1] == 24
    for words, message in (
        (
            ("--vary", "size=24,32", "--size", "24"),
            "--size and --vary size=: leave one of them out",
        ),
        (("--vary", "lr=1", "--size", "24", "--set", "size=32"), "--size and --set size="),
        (("--vary", "lr=1", "--size", "15"), "16"),
    ):
        code, _, said = command(*words)
        assert code == 2
        assert message in said


def test_size_goes_before_a_recipe(folder, command):
    (folder / "r.toml").write_text(
        'method = "adain"\n[vary]\nsize = [32, 40]\nstrength = [0.5, 1.0]\n', encoding="utf-8"
    )
    code, listed, said = command("--recipe", folder / "r.toml", "--size", "20")
    assert code == 0, said
    assert [line.split("  ")[0] for line in listed.splitlines()] == ["strength=0.5", "strength=1"]
    assert {read(path).rgb.shape[1] for path in (folder / "out").glob("0*.png")} == {20}


def test_a_stored_style_serves_like_its_painting(folder, command):
    gatys = load("gatys", device="cpu", precision="float32")
    stored = gatys.prepare([folder / "wave.png"]).store("wave")
    stored.save(folder / "wave.style")
    words = ("--vary", "strength=0.5,1", "--size", "32", "-m", "gatys", "--set", "iterations=3")
    code, _, said = command(*words, style="wave.style")
    assert code == 0, said
    assert len(list((folder / "out").glob("0*.png"))) == 2
    made = read_settings(next((folder / "out").glob("000*.png")))
    assert made["styles"] == ["wave"]
    places = (folder / "photo.png", folder / "wave.png", folder / "painted")
    rows = sweep(*places, {"strength": [0.5]}, options={**FAST, "iterations": 3})
    painted = read(folder / "painted" / rows[0]["picture"]).rgb
    stored_too = read(folder / "out" / "000 strength=0.5.png").rgb
    assert float((painted - stored_too).abs().mean()) < 0.05  # the sizes measured are not the same


def test_a_learnt_style_by_its_name(folder):
    names = [folder / "wave.png"]
    TRAINABLE["johnson"].untrained(styles=names, widths=[6, 8, 8], blocks=1).save(
        folder / "m.safetensors", {}
    )
    options = {"device": "cpu", "model": folder / "m.safetensors"}
    places = (folder / "photo.png", "wave", folder / "out")
    rows = sweep(*places, {"strength": [0.5, 1.0]}, method="johnson", options=options)
    assert [row["fault"] for row in rows] == [None, None]


@pytest.mark.parametrize(
    "text", ["lr=nan", "lr=0.1,inf", "lr=-inf", "style-layers=a:nan", "lr=1e999"]
)
def test_what_is_no_finite_number(folder, command, text):
    with pytest.raises(InputError, match="must be a finite number") as caught:
        parse(text)
    assert str(caught.value).startswith(f"--vary {text.split('=')[0].replace('-', '_')}")
    code, _, said = command("--vary", "strength=1", "--set", "lr=nan")
    assert code == 2
    assert "--set lr is nan: must be a finite number" in said
    for table in ("vary]\nlr = [nan]", "set]\nlr = inf"):
        (folder / "r.toml").write_text(f"[{table}", encoding="utf-8")
        with pytest.raises(InputError, match=r"r\.toml: (vary|set)\.lr is (nan|inf): must be"):
            read_recipe(folder / "r.toml")
    for vary, options in (({"lr": [float("nan")]}, {}), ({"lr": [1]}, {"tv_weight": float("inf")})):
        with pytest.raises(InputError, match="must be a finite number"):
            run(folder, vary, options=options)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["sheet.png", "curves.png", "000 strength=1.png"])
@pytest.mark.parametrize("what", ["photo", "wave", "start"])
def test_what_is_read_is_not_overwritten(folder, name, what):
    picture = folder / name
    write(picture, photo(40, 52, seed=7))
    before = picture.read_bytes()
    content = picture if what == "photo" else folder / "photo.png"
    style = picture if what == "wave" else folder / "wave.png"
    options = {**FAST, "start": picture} if what == "start" else FAST
    with pytest.raises(InputError, match="would overwrite"):
        sweep(content, style, folder, {"strength": [1.0]}, options=options)
    assert picture.read_bytes() == before
    assert not (folder / "results.json").exists()
    if what != "start":
        sweep(content, style, folder / "out", {"strength": [1.0]}, options=options)


def test_misuse_from_python(folder):
    assert run(folder, {"strength": (1.0,)})[0]["fault"] is None
    strings = [str(folder / name) for name in ("photo.png", "wave.png", "out")]
    assert sweep(*strings, {"strength": [1.0]}, options=FAST)
    for vary, options, message in (
        (["lr"], {}, "vary: give a dictionary of options, not list"),
        ("lr=1", {}, "vary: give a dictionary of options, not str"),
        ({"optimizer": "adam"}, {}, "vary: optimizer = 'adam': give a list of values"),
        ({"lr": [1]}, {"options": ["size"]}, "options: give a dictionary of options, not list"),
        ({"lr": [1]}, {"options": {"size": 8}}, "size is 8: the short side needs 16"),
        ({"lr": [1]}, {"options": {"size": "big"}}, "size is 'big': give a whole number"),
        ({"speed": [1]}, {"options": {}}, "has no option 'speed'"),
        ({"content": ["a"]}, {"options": {}}, "has no option 'content'"),
        ({"method": ["wct"]}, {"options": {}}, "has no option 'method'"),
        ({"lr": [1]}, {"method": "x"}, "method 'x' is unknown"),
        ({"lr": [1]}, {"method": ["adain"]}, "method: give a name, not list"),
    ):
        options = {"options": {}, **options}
        places = (*strings[:2], folder / "other")
        with pytest.raises(InputError, match=message):
            sweep(*places, vary, **options)
    assert not (folder / "other").exists()
    with pytest.raises(InputError, match="out: give a path, not NoneType"):
        sweep(*strings[:2], None, {"lr": [1]})


def test_another_model_of_the_same_name_is_no_going_on(folder):
    for place, seed in (("a", 0), ("b", 1)):
        (folder / place).mkdir()
        torch.manual_seed(seed)
        TRAINABLE["adain"].untrained(widths=[[8], [8], [8], [8]]).save(
            folder / place / "network.safetensors", {}
        )
    places = (folder / "photo.png", folder / "wave.png", folder / "models")

    def swept(place):
        model = {"model": folder / place / "network.safetensors"}
        given = {"method": "adain", "options": {"device": "cpu", **model}}
        return sweep(*places, {"strength": [0.5]}, **given)

    swept("a")
    swept("a")
    with pytest.raises(InputError, match=r"another sweep \(model network.safetensors differ"):
        swept("b")
    written = (folder / "models" / "results.json").read_text(encoding="utf-8")
    assert str(folder) not in written
