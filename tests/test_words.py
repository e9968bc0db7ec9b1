"""One word for one thing: old names, names of methods, and the glossary."""

from __future__ import annotations

import json
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from data import painting, photo

import impasto
from impasto import cli
from impasto.cli.declared import with_new_flags
from impasto.controls import Controls, Saving
from impasto.errors import InputError, flag_of
from impasto.images import read_settings, write
from impasto.methods import METHODS, load, resolved
from impasto.methods.adain import AdaIN
from impasto.methods.johnson import FILES, Johnson, JohnsonModel
from impasto.options import Number, Options, Renamed, option, renamed, renames_of, was
from impasto.paintings import store_style
from impasto.pipeline import recorded
from impasto.study.compare import available, compare
from impasto.study.sweep import parse, sweep
from impasto.tensors import load_tensors, save_tensors
from impasto.training.methods import TRAINABLE
from impasto.training.train import read_recipe

ROOT = Path(__file__).parent.parent
CPU = {"device": "cpu", "precision": "float32"}
SETS = [Controls, Saving, *(record.Options for record in METHODS.values())]
OLD = {(old, new) for each in SETS for old, new in renames_of(each).items()}
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


# Old names --------------------------------------------------------------------------------------


def test_an_old_name_works_with_a_line_that_is_told_where_it_is_used():
    with pytest.warns(Renamed, match="^kind is network now: the old name goes with") as told:
        method = load("johnson", kind="bottleneck", **CPU)
    assert method.settings["network"] == "bottleneck"
    assert [each.filename for each in told] == [__file__]
    for call in (
        lambda: Johnson(kind="bottleneck", **CPU),
        lambda: impasto.stylize(photo(), "starry_night", "johnson", kind="bottleneck", **CPU),
        lambda: impasto.Session("johnson", "starry_night", kind="bottleneck", **CPU).close(),
        lambda: impasto.stylize(photo(), painting(), "wct", levels=["relu1_1"], **CPU),
    ):
        with pytest.warns(Renamed) as told:
            call()
        assert [each.filename for each in told] == [__file__]


def test_an_old_name_and_its_new_one_are_refused_together():
    with pytest.raises(InputError, match="kind is the old name of network, which is given too"):
        load("johnson", kind="bottleneck", network="residual")
    with pytest.raises(InputError, match=r"^a\.toml: kind is the old name of network"):
        renamed({"network": 1, "kind": 1}, {"kind": "network"}, "a.toml")


def test_an_old_name_is_no_name_of_another_option():
    """So that it can be told which is meant, whatever the method."""
    names = {name for each in SETS for name in each.declared()}
    assert not names & {old for old, _ in OLD}


def test_a_name_that_another_set_has_stays():
    @dataclass(frozen=True, kw_only=True)
    class Thin(Options):
        oil: float = option(0.5, Number(), "Of it.")

    @dataclass(frozen=True, kw_only=True)
    class Thick(Options):
        paint: float = option(0.5, Number(), "Of it.", was=("oil", "paste"))

    assert renames_of(Thick) == {"oil": "paint", "paste": "paint"}
    assert renames_of(Thin, Thick) == {"paste": "paint"}


def test_a_function_takes_its_old_names():
    @was(paint="oil")
    def brush(paint: int = 1) -> int:
        return paint

    with pytest.warns(Renamed, match="oil is paint now"):
        assert brush(oil=3) == 3
    with pytest.raises(InputError, match="leave one of them out"):
        brush(paint=1, oil=2)
    assert brush.renames == {"oil": "paint"}


def spoken(said):
    return [line for line in said.splitlines() if line.startswith("impasto: note: ")]


@pytest.mark.usefixtures("desk")
def test_old_flags_work_with_a_note(run):
    given = ["stylize", "photo.png", "-s", "starry_night", "-m", "johnson", "--device", "cpu"]
    for words in (["--kind", "bottleneck"], ["--kind=bottleneck"]):
        code, _, said = run(*given, *words, "-o", "out.png")
        assert code == 0, said
        note = "impasto: note: --kind is --network now: the old name goes with the next version"
        assert spoken(said) == [note]
        assert read_settings("out.png")["network"] == "bottleneck"
    assert spoken(run(*given, "-o", "out.png")[2]) == []
    code, out, said = run("styles", "--kind", "bottleneck")
    assert (code, len(spoken(said))) == (0, 1)
    assert "starry_night" in out
    few = ["--layers", "relu1_1", "--size", "32", "--iterations", "1", "--device", "cpu"]
    code, _, said = run("reconstruct", "photo.png", "-o", "r.png", "--weights", "random", *few)
    assert code == 0, said
    assert "note: --weights is --backbone-weights now" in said
    code, _, said = run("train", "wct", "--photos", ".", "--vgg", "a.pth")
    assert code == 2
    assert "note: --vgg is --backbone-weights now" in said


def test_flags_are_replaced_but_no_values():
    args = ["--dry-oil=1", "--no-dry-oil", "--dry-oil", "a", "--", "--dry-oil"]
    with pytest.warns(Renamed) as told:
        replaced = list(with_new_flags(args, {"--dry-oil": "--wet-oil"}))
    assert replaced == ["--wet-oil=1", "--no-wet-oil", "--wet-oil", "a", "--", "--dry-oil"]
    assert str(told[1].message).startswith("--no-dry-oil is --no-wet-oil now")


@pytest.mark.usefixtures("desk")
def test_old_names_in_sweeps(run, tmp_path):
    with pytest.warns(Renamed):
        assert parse("levels=relu1_1,relu2_1", "wct") == ("layers", [["relu1_1"], ["relu2_1"]])
    with pytest.warns(Renamed):
        assert parse("weights-file=random", "adain") == ("backbone_weights", [Path("random")])
    Path("old.toml").write_text(
        'method = "wct"\n[vary]\nlevels = [["relu1_1"], ["relu2_1"]]\n', encoding="utf-8"
    )
    fixed = [word for name, value in CPU.items() for word in ("--set", f"{name}={value}")]
    given = ["photo.png", "painting.png", "--recipe", "old.toml", "-o", "out", *fixed]
    code, listed, said = run("sweep", *given)
    assert code == 0, said
    assert spoken(said)[0].startswith("impasto: note: old.toml [vary]: levels is layers now")
    assert listed.startswith("layers=relu1_1")
    rows = sweep(photo(), painting(), tmp_path / "p", {"levels": [["relu1_1"]]}, method="wct")
    assert rows[0]["fault"] is None
    assert rows[0]["layers"] == "relu1_1"


def test_old_keys_of_recipes(tmp_path):
    recipe = tmp_path / "old.toml"
    recipe.write_text(
        'method = "johnson"\n[options]\nkind = "bottleneck"\nloss_weights = "a.pth"\n',
        encoding="utf-8",
    )
    with pytest.warns(Renamed) as told:
        (stage,) = read_recipe(recipe, "johnson", {"options.kind": "residual"})
    assert stage.options["network"] == "residual"
    assert stage.options["loss_network_weights"] == Path("a.pth")
    assert any(str(each.message).startswith(f"{recipe} [options]: kind is") for each in told)
    recipe.write_text(
        'method = "adain"\n[[stage]]\n[stage.options]\ntaps = ["relu4_1"]\n', encoding="utf-8"
    )
    with pytest.warns(Renamed, match=r"stage 1 \[options\]: taps is layers now"):
        (stage,) = read_recipe(recipe, "adain")
    assert stage.options == {"layers": ["relu4_1"]}
    with pytest.warns(Renamed):
        model = TRAINABLE["ghiasi"].untrained(kind="painter", widths=[4, 6, 8, 12], blocks=1)
    assert model.model.config.network == "painter"


@pytest.mark.usefixtures("desk")
def test_a_picture_of_an_earlier_version_is_made_again_without_a_word(run):
    new = impasto.stylize(photo(), "starry_night", "johnson", network="bottleneck", **CPU)
    old = dict(new.settings)
    old["kind"] = old.pop("network")
    write("old.png", new.picture.rgb, settings=old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recorded("old.png") == ("johnson", {"network": "bottleneck"})
    given = ["photo.png", "-s", "starry_night", "--like", "old.png", "-o", "out.png"]
    code, _, said = run("stylize", *given, "--device", "cpu")
    assert code == 0, said
    assert spoken(said) == []
    assert read_settings("out.png")["network"] == "bottleneck"


def test_a_model_of_an_earlier_version_is_read_without_a_word(tmp_path, small_model):
    def renamed_in(path, file, **names):
        tensors, header = load_tensors(path)
        config = json.loads(header["config"])
        for new, old in names.items():
            if new in config:
                config[old] = config.pop(new)
            assert old in config
        save_tensors(file, tensors, {**header, "config": json.dumps(config)})
        return file

    with warnings.catch_warnings():
        warnings.simplefilter("error", Renamed)
        old = renamed_in(FILES["bottleneck"], tmp_path / "old.safetensors", network="kind")
        assert JohnsonModel.load(old).config.network == "bottleneck"
        old = renamed_in(small_model, tmp_path / "adain.safetensors", layers="taps")
        assert AdaIN(old, **CPU).model.taps == ("relu4_1", "relu3_1", "relu2_1")


def test_a_comparison_takes_old_names(tmp_path, small_net):
    for folder in ("in", "by"):
        write(tmp_path / folder / "a.png", photo(32, 40))
    with pytest.warns(Renamed):
        means = compare(
            *(tmp_path / "in", tmp_path / "by", tmp_path / "out"),
            {"shallow": ("wct", {"levels": ["relu1_1"], **CPU})},
            load("gatys", **CPU).net,
            size=32,
        )
    assert "shallow" in means


# Names of methods -------------------------------------------------------------------------------

NAMES = [name for record in METHODS.values() for name in record.named()]
# Presets name networks whose weights are downloaded, and their layers.
QUICK = {"backbone": "compact", "content_layers": ["relu2_1"], "style_layers": ["relu1_1"]}


def test_every_name_of_a_comparison_is_a_name():
    assert set(available()) <= set(NAMES)
    assert len(NAMES) > len(METHODS) + 5


def test_every_name_is_listed(run):
    code, out, _ = run("methods")
    listed = [line.split()[0].rstrip(":") for line in out.splitlines()]
    assert (code, sorted(listed)) == (0, sorted(NAMES))
    assert "johnson-bottleneck: johnson with --network bottleneck" in out


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_the_same_everywhere(name, run, tmp_path, monkeypatch):
    record, chosen = resolved(name)
    options = QUICK | {"sizes": [0], "iterations": 1} if record.name == "gatys" else {}
    method = load(name, **options, **CPU)
    expected = {key: value for key, value in chosen.items() if key not in options}
    plain = json.loads(json.dumps(expected))
    assert plain.items() <= json.loads(json.dumps(method.settings)).items()
    style = "starry_night" if record.learns_styles else painting(32, 40)
    with impasto.Session(name, style, **options, **CPU) as session:
        made = session(photo(32, 40))
    assert plain.items() <= json.loads(json.dumps(made.settings)).items()
    assert available([name])[name] == (record.name, dict(chosen))
    # The command line, and a sweep.
    write("photo.png", photo(32, 40))
    write("wave.png", painting(32, 40))
    word = "starry_night" if record.learns_styles else "wave.png"
    typed = {key: v[0] if isinstance(v, list) else v for key, v in options.items()}
    flags = [text for key, v in {**typed, **CPU}.items() for text in (flag_of(key), v)]
    code, _, said = run("stylize", "photo.png", word, "-m", name, "-o", "out.png", *flags)
    assert code == 0, said
    settings = read_settings("out.png")
    assert settings["method"] == record.name
    assert plain.items() <= settings.items()
    rows = sweep(
        *("photo.png", word, tmp_path / "sweep", {"strength": [0.5]}),
        **{"method": name, "options": {**options, **CPU}},
    )
    assert rows[0]["fault"] is None
    settings = read_settings(tmp_path / "sweep" / rows[0]["picture"])
    assert plain.items() <= settings.items()


def test_a_style_is_stored_for_a_variant():
    stored = store_style([painting()], "wave", methods=["artflow-rbmad"])
    assert stored.methods == ["artflow"]
    assert len(stored.parts) == 1
    both = store_style([painting()], "wave", methods=["artflow"])
    assert set(stored.parts) <= set(both.parts)
    with pytest.raises(InputError, match="method johnson-bottleneck paints what it has learnt"):
        store_style([painting()], "wave", methods=["johnson-bottleneck"])


# The glossary -----------------------------------------------------------------------------------


def commands(group=None, path=()):
    """Every command of the command line, with its name."""
    group = group or typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def quoted(text):
    return set(re.findall(r"`([^`]+)`", text))


def test_the_glossary_names_what_there_is():
    flags = {flag for _, command in commands() for each in command.params for flag in each.opts}
    table = GLOSSARY.partition("## Old names")[0]
    assert {word for word in quoted(table) if word.startswith("--")} <= flags


def test_the_glossary_lists_the_old_names():
    table = GLOSSARY.partition("## Old names")[2]
    rows = {tuple(re.findall(r"`([^`]+)`", line)[:2]) for line in table.splitlines()}
    for _, command in commands():
        for old, new in getattr(command.callback, "renames", {}).items():
            assert (old, new) in rows
    for learner in TRAINABLE.values():
        for old, new in learner.renames.items():
            assert (old, new) in rows


def test_a_flag_that_commands_share_is_in_the_glossary():
    """Or it means the same in all of them, in the same words."""
    helps = defaultdict(set)
    for _, command in commands():
        for each in command.params:
            for flag in each.opts:
                if flag.startswith("--"):
                    helps[flag].add(getattr(each, "help", ""))
    ambiguous = {flag for flag, texts in helps.items() if len(texts) > 1}
    assert not ambiguous - quoted(GLOSSARY)


def test_an_option_is_in_a_table_of_its_method_or_on_a_page():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    tables = {name for page in pages for name in re.findall(r"<!-- options: (\w+) -->", page)}
    assert set(METHODS) <= tables
    shown = "\n".join(pages).replace("--no-", "--")
    for controls in (Controls, Saving):
        assert [each.flag for each in controls.declared().values() if each.flag not in shown] == []
