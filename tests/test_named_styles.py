"""Styles by name: bundled, offline, and given wherever a style is."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from data import painting, photo, refused

import impasto
from impasto.errors import InputError
from impasto.images import read, read_settings, write
from impasto.methods.johnson import learnt_names
from impasto.paintings import read_style, store_style
from impasto.statistics import Moments
from impasto.study.sweep import sweep
from impasto.styles import Part, StoredStyle, is_name
from impasto.styles.stored import NAMED
from impasto.tensors import load_tensors, save_tensors
from impasto.training.recipes import read_toml

ROOT = Path(__file__).parent.parent
CPU = {"device": "cpu", "precision": "float32"}
QUICK = ["--device", "cpu"]
WANTED = {
    *("great_wave", "starry_night", "the_kiss", "turner_storm", "wanderer", "wheat_field"),
    *("van_gogh", "monet", "titian", "chinese_landscape", "indian_miniature"),
}


@pytest.fixture(scope="module")
def named():
    return impasto.named_styles()


@pytest.fixture(scope="module")
def ghiasi():
    return impasto.load(**CPU)


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "recipes" / "named_styles.py"
    spec = importlib.util.spec_from_file_location("named_styles", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look
    spec.loader.exec_module(module)
    yield module
    monkeypatch.undo()


@pytest.fixture
def desk(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write("photo.png", photo(32, 40))
    write("painting.png", painting(32, 40))


# What is bundled ------------------------------------------------------------------------------


def test_a_dozen_or_more_with_all_that_johnson_has_learnt(named):
    assert len(named) >= 14
    assert set(named) >= WANTED
    assert set(named) >= {*learnt_names(), *learnt_names("bottleneck")}
    for name, style in named.items():
        assert style.name == name and style.title and is_name(name)
        assert style.methods == ["gatys", "ghiasi"]
        (part,) = style.parts.values()
        (level,) = part.sizes
        assert 256 <= level <= 512
    night = named["starry_night"]
    assert (night.painter, night.year) == ("Vincent van Gogh", "1889")


def test_the_files_are_small_and_hold_statistics_alone():
    files = list(NAMED.iterdir())
    assert {path.suffix for path in files} == {".style"}
    assert all(100e3 <= path.stat().st_size <= 300e3 for path in files)
    assert sum(path.stat().st_size for path in files) <= 4e6
    tensors, _ = load_tensors(files[0])
    assert {tuple(tensor.shape)[1:] for tensor in tensors.values()} == {()}


def test_the_wheel_has_them():
    config = read_toml(ROOT / "pyproject.toml")
    patterns = config["tool"]["setuptools"]["package-data"]["impasto"]
    package = Path(impasto.__file__).parent
    for path in NAMED.iterdir():
        name = path.relative_to(package).as_posix()
        assert any(
            fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns
        )


def test_the_card_and_the_recipe_know_every_one(named, recipe):
    card = (NAMED.parent / "CARD.md").read_text(encoding="utf-8")
    assert not [name for name in named if f"| {name} |" not in card]
    made = {**recipe.GALLERY, **recipe.WORKS, **recipe.DRAWN}
    assert made.keys() == named.keys()
    for name, about in made.items():
        assert (about.painter, about.year) == (named[name].painter, named[name].year)


def test_each_paints_and_in_its_own_way(named, ghiasi):
    content = photo(64, 80)
    made = {name: ghiasi(content, ghiasi.prepare([style])) for name, style in named.items()}
    names = list(made)
    for number, name in enumerate(names):
        assert bool(made[name].isfinite().all())
        assert float((made[name] - content).abs().mean()) > 0.02
        for other in names[:number]:
            assert float((made[name] - made[other]).abs().mean()) > 0.005, (name, other)


def test_gatys_takes_them(named):
    method = impasto.load("gatys", iterations=3, **CPU)
    for name in ("van_gogh", "titian", "starry_night"):  # two averages, and one work
        result = impasto.stylize(photo(64, 80), name, method)
        assert bool(result.picture.rgb.isfinite().all())
        assert result.losses[-1] < result.losses[0]
    for style in named.values():
        (part,) = style.parts.values()
        for layers in part.sizes.values():
            for moments in layers.values():
                values = torch.linalg.eigvalsh(moments.covariance.double())
                assert float(values[0]) > -1e-3 * float(values[-1])


# Given by name ----------------------------------------------------------------------------------


def test_the_command_line_takes_one_offline(run, desk, monkeypatch):
    def offline(*args, **given):
        raise AssertionError("no network is there")

    monkeypatch.setattr(socket.socket, "connect", offline)
    code, _, said = run("stylize", "photo.png", "starry_night", *QUICK)
    assert code == 0, said
    settings = read_settings(Path("photo-starry_night.png"))
    assert (settings["method"], settings["styles"]) == ("ghiasi", ["starry_night"])


def test_python_takes_one(named, ghiasi):
    made = impasto.stylize(photo(), "monet", ghiasi)
    assert made.settings["styles"] == ["monet"]
    direct = ghiasi(photo(), ghiasi.prepare([named["monet"]]))
    torch.testing.assert_close(made.picture.rgb, direct)


def test_they_mix_by_weight_and_with_paintings(run, desk, ghiasi):
    words = ["starry_night", "monet", "--weights", "2,1", "-o", "mixed.png", *QUICK]
    code, _, said = run("stylize", "photo.png", *words)
    assert code == 0, said
    settings = read_settings(Path("mixed.png"))
    assert (settings["styles"], settings["weights"]) == (["starry_night", "monet"], [2, 1])
    one, two, both = (
        impasto.stylize("photo.png", styles, ghiasi).picture.rgb
        for styles in (["starry_night"], ["painting.png"], ["starry_night", "painting.png"])
    )
    assert not torch.allclose(both, one, atol=0.01) and not torch.allclose(both, two, atol=0.01)


def test_a_mixture_of_names_is_no_mistake_for_photographs(run, desk):
    _, _, said = run("stylize", "photo.png", "starry_night", "monet", "-o", "a.png", *QUICK)
    assert "--style" not in said
    _, _, said = run("stylize", "photo.png", "painting.png", "monet", "-o", "b.png", *QUICK)
    assert "--style" in said


def test_several_photographs_by_style(run, desk):
    write("other.png", photo(32, 40, seed=2))
    words = ["photo.png", "other.png", "--style", "woodcut", "-o", "out/", *QUICK]
    code, _, said = run("stylize", *words)
    assert code == 0, said
    assert sorted(os.listdir("out")) == ["other-woodcut.png", "photo-woodcut.png"]


def test_a_file_or_a_folder_of_that_name_wins(run, desk):
    os.rename("painting.png", "starry_night")
    style = read_style("starry_night")
    assert torch.equal(style.rgb, read("starry_night").rgb)
    assert not is_name("starry_night")
    os.mkdir("monet")
    write("monet/poppies.png", painting(32, 40))
    code, _, said = run("stylize", "photo.png", "monet", "-o", "out/", *QUICK)
    assert code == 0, said
    assert os.listdir("out") == ["photo-poppies.png"]


def test_a_sweep_takes_one(desk, tmp_path):
    (row,) = sweep("photo.png", "swirls", tmp_path / "out", {"strength": [1.0]}, method="ghiasi")
    assert row["fault"] is None
    report = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert report["style"] == "swirls"


def test_johnson_goes_on_painting_what_it_has_learnt(desk):
    method = impasto.load("johnson", **CPU)
    learnt = impasto.stylize("photo.png", "starry_night", method)
    assert learnt.settings["method"] == "johnson"
    refused(lambda: impasto.stylize("photo.png", "monet", method), "monet", "method ghiasi")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("starry_nite", ["starry_nite: no such file, and no style", "did you mean starry_night?"]),
        ("Starry-Night", ["did you mean starry_night?"]),
        ("van gogh", ["did you mean van_gogh?"]),
        ("xyzzy", ["xyzzy: no such file, and no style of that name", "impasto styles"]),
        ("folder/starry_night", ["No such file"]),
        ("starry_night.png", ["No such file"]),
        ("starry_night.style", ["starry_night.style"]),
    ],
)
def test_a_wrong_name_suggests_the_nearest(run, desk, name, words):
    refused(lambda: impasto.stylize("photo.png", name), *words)
    code, _, said = run("stylize", "photo.png", name, "-o", "out.png", *QUICK)
    assert code == 2
    assert all(word in said for word in words)
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("adain", {}),
        ("wct", {}),
        ("artflow", {}),
        ("styleflow", {}),
        ("gatys", {"backbone": "slim", "iterations": 2}),
    ],
)
def test_methods_with_other_features_refuse_them(method, options):
    words = ["style monet", f"method {method}", "give the painting"]
    takers = [] if method == "gatys" else ["use method gatys or ghiasi"]
    refused(
        lambda: impasto.stylize(photo(), "monet", method, device="cpu", **options), *words, *takers
    )


def test_what_needs_the_picture_refuses_them():
    for color in ("match", "luminance"):
        refused(lambda c=color: impasto.stylize(photo(), "monet", color=c), "give the painting")
    with pytest.raises(InputError):
        store_style(["monet"], "x")


# The list ---------------------------------------------------------------------------------------


def test_they_are_listed_in_columns(run, named):
    code, out, _ = run("styles")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[: len(named)]] == sorted(named)
    at = {line.index(named[line.split()[0]].title) for line in lines[: len(named)]}
    assert len(at) == 1
    (night,) = (line for line in lines if line.startswith("starry_night"))
    assert "Vincent van Gogh  " in night and night.endswith("1889")
    assert lines[-1] == f"with --method johnson: {', '.join(learnt_names())}"


def test_with_a_network_its_own_alone_are_listed(run):
    code, out, _ = run("styles", "--network", "bottleneck")
    assert (code, out.split()) == (0, learnt_names("bottleneck"))


def test_the_sheet_shows_all(run, desk, named):
    code, _, said = run("styles", "--sheet", "sheet.jpg", "--photo", "photo.png")
    assert code == 0, said
    height, width = read("sheet.jpg").rgb.shape[-2:]
    assert height * width > (1 + len(named)) * 200 * 250


def test_the_sheet_of_the_docs_is_small():
    assert (ROOT / "docs" / "img" / "styles.jpg").stat().st_size <= 500e3


# In a file --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def style():
    return store_style([painting(65, 90)], "waves", methods=["gatys"], device="cpu")


def test_float16_keeps_means_and_deviations(style, tmp_path):
    style.save(tmp_path / "whole.style")
    style.save(tmp_path / "half.style", half=True)
    sizes = [(tmp_path / f"{name}.style").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    again = StoredStyle.load(tmp_path / "half.style")
    assert again.methods == style.methods
    assert torch.equal(again.color.second, style.color.second)
    for key, part in style.parts.items():
        for size, layers in part.sizes.items():
            for tap, moments in layers.items():
                got = again.parts[key].sizes[size][tap]
                assert got.first.dtype == got.second.dtype == torch.float32
                torch.testing.assert_close(got.mean, moments.mean, atol=1e-3, rtol=1e-3)
                torch.testing.assert_close(
                    got.deviation(), moments.deviation(), atol=1e-3, rtol=1e-3
                )


def test_a_small_deviation_survives_float16():
    generator = torch.Generator().manual_seed(0)
    features = 5 + 0.01 * torch.randn(3, 40, 40, generator=generator, dtype=torch.float64)
    moments = Moments.of(features)
    again = Moments.from_tensors(moments.tensors("x", half=True), "x")
    given, got = (m.to(torch.float64).deviation(0) for m in (moments, again))
    torch.testing.assert_close(got, given, rtol=0.02, atol=0)


def test_what_float16_cannot_hold_is_refused(tmp_path):
    huge = Moments.of(1e4 * torch.rand(3, 8, 8))
    style = StoredStyle("huge", Moments.of(torch.rand(3, 8, 8)), {"net": Part({64: {"a": huge}})})
    refused(lambda: style.save(tmp_path / "huge.style", half=True), "huge", "float16")
    assert not list(tmp_path.glob("*.style"))
    style.save(tmp_path / "huge.style")


def test_title_painter_and_year_are_kept(style, tmp_path):
    known = replace(style, title="Wellen über Wellen", painter="N. N.", year="c. 1900")
    known.save(tmp_path / "known.style")
    again = StoredStyle.load(tmp_path / "known.style")
    assert (again.title, again.painter, again.year) == (known.title, known.painter, known.year)
    again = again.joined("net", Part({64: {}}))
    assert again.title == known.title
    style.save(tmp_path / "plain.style")  # as files of old are
    _, header = load_tensors(tmp_path / "plain.style")
    assert not {"title", "painter", "year"} & header.keys()
    plain = StoredStyle.load(tmp_path / "plain.style")
    assert (plain.title, plain.painter, plain.year) == ("", "", "")


def test_the_same_style_gives_the_same_bytes(style, tmp_path):
    for number in range(6):
        replace(style, title="x", year="1").save(tmp_path / f"{number}.style", half=True)
    assert len({path.read_bytes() for path in tmp_path.glob("*.style")}) == 1
    tensors = {"b": torch.rand(3), "a": torch.rand(2, 5).half()}
    header = {"über": "ä", "kind": "x"}
    save_tensors(tmp_path / "odd.safetensors", tensors, header)
    got, metadata = load_tensors(tmp_path / "odd.safetensors")
    assert metadata == header
    assert all(torch.equal(got[name], tensors[name]) for name in tensors)


# How they are made ------------------------------------------------------------------------------


def test_the_mean_of_one_is_itself_and_of_two_between(recipe):
    generator = torch.Generator().manual_seed(0)
    mixing = torch.rand(4, 4, generator=generator, dtype=torch.float64)
    one = Moments.of((mixing @ torch.rand(4, 900, generator=generator).double()).reshape(4, 30, 30))
    two = Moments.of(3 * torch.rand(4, 30, 30, generator=generator, dtype=torch.float64))
    same = recipe.mean_code([one])
    torch.testing.assert_close(same.mean, one.mean)
    torch.testing.assert_close(same.covariance, one.covariance)
    both = recipe.mean_code([one, two])
    for ours, first, second in [
        (both.mean, one.mean, two.mean),
        (both.deviation(0), one.deviation(0), two.deviation(0)),
    ]:
        torch.testing.assert_close(ours.log1p(), (first.log1p() + second.log1p()) / 2)
    assert float(torch.linalg.eigvalsh(both.covariance)[0]) > 0
    pooled = Moments.mix([one, two])
    assert bool((both.deviation(0) < pooled.deviation(0) + 1e-9).any())


def test_a_style_of_works_is_made_again_alike(recipe, tmp_path):
    gatys = impasto.load("gatys", **CPU)
    works = [painting(64, 80), painting(70, 64, seed=3)]
    about = recipe.About("The mean of {}", "N. N.", "1900")
    for number in (1, 2):
        recipe.stored("two", about, works, gatys).save(tmp_path / f"{number}.style", half=True)
    assert (tmp_path / "1.style").read_bytes() == (tmp_path / "2.style").read_bytes()
    style = StoredStyle.load(tmp_path / "1.style")
    assert (style.title, style.painter, style.year) == ("The mean of 2", "N. N.", "1900")
    (part,) = style.parts.values()
    assert list(part.sizes) == [64]
    refused(lambda: recipe.stored("none", about, [], gatys), "none", "folder")
