from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from data import painting, photo

from impasto import cli
from impasto.backbones import load_backbone
from impasto.errors import InputError
from impasto.images import read, write
from impasto.methods.johnson import Johnson
from impasto.study import compare as study
from impasto.study.compare import available, compare, front
from impasto.study.figures import _broken, labelled
from impasto.study.metrics import color_distance, feature_distance


@pytest.fixture(scope="module")
def judge():
    return load_backbone("compact")


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    for i in range(2):
        write(tmp_path / "c" / f"photo {i}.png", photo(40, 52, seed=i))
    write(tmp_path / "s" / "50% wave#1.png", painting(48, 60))
    return tmp_path / "c", tmp_path / "s"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch, request):
    """A process of its own for every method takes seconds; one test pays for it."""
    if "process_of_its_own" not in request.node.name:
        monkeypatch.setattr(study, "_peak", lambda *given: 12.5)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def run(folders, out, names, judge, **options):
    return compare(*folders, out, available(names), judge, size=36, device="cpu", **options)


def test_a_comparison_holds_everything(folders, tmp_path, judge):
    out = tmp_path / "out"
    means = run(folders, out, ["adain", "wct"], judge)
    assert list(means) == ["adain", "wct"]
    assert len(rows(out)) == 4
    for row in rows(out):
        assert 0 < float(row["style"]) < 2
        assert 0 < float(row["content"]) < 2
        assert 0 < float(row["ssim"]) < 1
        assert float(row["seconds"]) > 0
    own = [float(row["style"]) for row in rows(out) if row["method"] == "wct"]
    mean, error = means["wct"]["style"]
    assert mean == pytest.approx(sum(own) / 2)
    assert error == pytest.approx(abs(own[0] - own[1]) / 2)  # of two: half their difference
    result = read(out / "pictures" / "adain" / "photo 0 50% wave#1.png").rgb
    assert result.shape == read(out / "pictures" / "contents" / "photo 0.png").rgb.shape
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "judged by compact" in table
    assert "| wct | 2 |" in table
    assert len((out / "table.csv").read_text().splitlines()) == 3
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "pictures/adain/photo%200%2050%25%20wave%231.png" in page
    assert "http" not in page
    assert read(out / "sheet.png").rgb.shape[-1] > 4 * 160
    assert read(out / "scatter.png").rgb.shape[-1] > 500


def test_what_is_there_is_not_made_again(folders, tmp_path, judge, monkeypatch):
    out = tmp_path / "out"
    seen: list[str] = []
    stop = run(folders, out, ["adain"], judge, on_progress=lambda done, total, name: done == 1)
    assert len(rows(out)) == 1
    assert stop["adain"]["style"][1] == 0.0  # one result has no error
    first = rows(out)[0]
    run(folders, out, ["adain"], judge, on_progress=lambda d, t, name: seen.append(name))
    assert seen == ["adain: photo 1 x 50% wave#1", ""]
    assert rows(out)[0] == first
    assert len(rows(out)) == 2
    run(folders, out, ["wct"], judge)  # joins it
    assert [row["method"] for row in rows(out)] == ["adain", "adain", "wct", "wct"]
    with pytest.raises(InputError, match=r"other settings \(size\)"):
        compare(*folders, out, available(["adain"]), judge, size=40, device="cpu")
    other = {"adain": ("adain", {"style_scale": 0.5})}
    with pytest.raises(InputError, match=r"other settings \(adain\)"):
        compare(*folders, out, other, judge, size=36, device="cpu")
    assert len(rows(out)) == 4


@pytest.mark.parametrize("text", ["[]", "{", '{"methods": 3}'])
def test_a_folder_of_something_else_is_refused(folders, tmp_path, judge, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.json").write_text(text)
    with pytest.raises(InputError, match="no comparison that can go on"):
        run(folders, tmp_path / "out", ["adain"], judge)
    assert (tmp_path / "out" / "comparison.json").read_text() == text


def test_a_broken_picture_is_named_and_left_out(folders, tmp_path, judge):
    (folders[0] / "broken.png").write_bytes(b"no picture")
    said: list[str] = []
    run(folders, tmp_path / "out", ["adain"], judge, warn=said.append)
    assert len(said) == 1
    assert "broken.png" in said[0]
    assert len(rows(tmp_path / "out")) == 2


def test_nothing_to_compare(folders, tmp_path, judge):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture to compare"):
        run((folders[0], tmp_path / "empty"), tmp_path / "out", ["adain"], judge)
    write(folders[0] / "photo 0.jpg", photo())
    with pytest.raises(InputError, match="has the same name"):
        run(folders, tmp_path / "out", ["adain"], judge)


def test_a_network_that_has_learnt_a_style_is_asked_for_that_alone(folders, tmp_path, judge):
    write(folders[1] / "night.png", painting(48, 60, seed=4))
    training = Johnson.untrained(styles=[folders[1] / "night.png"], widths=[6, 8, 8], blocks=1)
    training.save(tmp_path / "m.safetensors", {})
    methods = {"own": ("johnson", {"model": tmp_path / "m.safetensors"})}
    means = compare(*folders, tmp_path / "out", methods, judge, size=36, device="cpu")
    assert [row["style_picture"] for row in rows(tmp_path / "out")] == ["night", "night"]
    assert means["own"]["style"][0] > 0


def test_memory_is_measured_in_a_process_of_its_own(folders, tmp_path, judge):
    run((folders[0], folders[1]), tmp_path / "out", ["adain"], judge)
    assert 5 < float(rows(tmp_path / "out")[0]["megabytes"]) < 2000


def test_available_methods():
    assert {"adain", "gatys", "wct"} <= set(available())
    assert list(available(["wct", "adain"])) == ["wct", "adain"]
    with pytest.raises(InputError, match="'x' is unknown"):
        available(["x"])


def test_front():
    points = {"a": (1.0, 5.0), "b": (2.0, 2.0), "c": (3.0, 3.0), "d": (5.0, 1.0), "e": (2.0, 2.5)}
    assert front(points) == ["a", "b", "d"]


def test_feature_distance(judge):
    picture = photo(48, 64)
    assert feature_distance(judge, picture, picture) == 0
    near, far = (
        feature_distance(judge, picture + 0.02, picture),
        feature_distance(judge, painting(48, 64), picture),
    )
    assert 0 < near < far < 4


def test_color_distance():
    torch.manual_seed(0)
    picture = torch.rand(3, 20, 30)
    assert color_distance(picture, picture.flip(-1)) == pytest.approx(0, abs=1e-6)
    assert color_distance(picture + 0.1, picture) == pytest.approx(math.sqrt(0.03), abs=1e-6)
    mean = picture.mean((1, 2), keepdim=True)
    deviation = picture.var((1, 2), correction=0).sum().sqrt()
    flat = mean.expand_as(picture)
    assert color_distance(flat, picture) == pytest.approx(float(deviation), abs=1e-5)


def test_a_sheet_may_repeat_names():
    sheet = labelled([("a", torch.zeros(3, 8, 10)), ("a", torch.ones(3, 8, 10))], columns=1)
    assert sheet.shape[-2] > 2 * 8


def test_by_the_command(folders, tmp_path, monkeypatch, capsys):
    words = ["compare", "--contents", folders[0], "--styles", folders[1], "-o", tmp_path / "out"]
    words += ["--size", "36", "--device", "cpu", "--methods", "adain"]

    def command() -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["impasto", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, table, _ = command()
    assert code == 0
    assert "| adain | 2 |" in table
    (folders[0] / "broken.png").write_bytes(b"no picture")
    code, _, said = command()
    assert code == 1
    assert "broken.png" in said


def test_long_names_go_over_several_lines():
    lines = _broken("style_layers=relu1_1+relu2_1+relu3_1", lambda text: len(text) <= 14)
    assert lines == ["style_layers=", "relu1_1+", "relu2_1+relu3…"]
    assert _broken("short", lambda text: len(text) <= 14) == ["short"]
    assert _broken("a" * 30, lambda text: len(text) <= 14) == ["a" * 14, "a" * 14, "aa"]
    one, three = (labelled([(name, torch.zeros(3, 8, 60))]) for name in ("a", "a b " * 20))
    assert three.shape[-2] > one.shape[-2]
    assert three.shape[-1] == one.shape[-1]
