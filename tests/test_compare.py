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
from impasto.methods import load
from impasto.study import compare as study
from impasto.study.compare import available, compare, of_files
from impasto.study.figures import _broken, labelled
from impasto.study.metrics import color_distance, feature_distance, luminance_ssim
from impasto.study.report import front
from impasto.training.methods.johnson import untrained


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
        assert -1 < float(row["ssim"]) < 1
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
    assert len((out / "table.csv").read_text(encoding="utf-8").splitlines()) == 3
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
    assert list(dict.fromkeys(seen)) == ["adain: photo 1 x 50% wave#1", ""]
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
    (tmp_path / "out" / "comparison.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="no comparison that can be resumed"):
        run(folders, tmp_path / "out", ["adain"], judge)
    assert (tmp_path / "out" / "comparison.json").read_text(encoding="utf-8") == text


def test_a_broken_picture_is_named_and_left_out(folders, tmp_path, judge):
    (folders[0] / "broken.png").write_bytes(b"no picture")
    said: list[str] = []
    run(folders, tmp_path / "out", ["adain"], judge, warn=said.append)
    assert len(said) == 1
    assert "broken.png" in said[0]
    assert len(rows(tmp_path / "out")) == 2


def test_nothing_to_compare(folders, tmp_path, judge):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in this folder"):
        run((folders[0], tmp_path / "empty"), tmp_path / "out", ["adain"], judge)
    write(folders[0] / "photo 0.jpg", photo())
    with pytest.raises(InputError, match="has the same name"):
        run(folders, tmp_path / "out", ["adain"], judge)


def test_a_network_that_has_learnt_a_style_is_asked_for_that_alone(folders, tmp_path, judge):
    write(folders[1] / "night.png", painting(48, 60, seed=4))
    training = untrained(styles=[folders[1] / "night.png"], widths=[6, 8, 8], blocks=1)
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


def test_identity_is_the_photograph_by_itself_once_for_each(folders, tmp_path, judge, monkeypatch):
    write(folders[1] / "night.png", painting(48, 60, seed=4))
    out, made, call = tmp_path / "out", [], study._identity

    def counted(method, content, on_step):
        made.append(content)
        return call(method, content, on_step)

    monkeypatch.setattr(study, "_identity", counted)
    run(folders, out, ["adain"], judge, on_progress=lambda done, total, name: done == 2)
    means = run(folders, out, ["adain", "wct"], judge)
    assert len(made) == 4  # two photographs by two methods, whatever the paintings
    method, each = load("adain", device="cpu"), {}
    for name in ("photo 0", "photo 1"):
        content = read(out / "pictures" / "contents" / f"{name}.png").rgb
        picture = method(content, method.prepare([content]))
        each[name] = luminance_ssim(picture, content)
    for row in rows(out):
        if row["method"] == "adain":
            wanted = each[row["content_picture"]]
            assert float(row["identity"]) == pytest.approx(wanted, abs=0.02)  # of 8 bits
    mean, error = means["adain"]["identity"]
    ours = sorted({float(row["identity"]) for row in rows(out) if row["method"] == "adain"})
    assert len(ours) == 2
    assert mean == pytest.approx(sum(ours) / 2)
    assert error == pytest.approx((ours[1] - ours[0]) / 2)  # of two photographs, not of four rows
    assert "identity" in (out / "table.csv").read_text(encoding="utf-8").splitlines()[0]
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| identity |" in table
    assert "- identity: ssim of the photograph rendered with itself" in table
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<th>identity" in page
    assert "<dt>identity<dd>" in page


def test_a_comparison_without_identity_goes_on(folders, tmp_path, judge):
    out = tmp_path / "out"
    run(folders, out, ["adain"], judge, on_progress=lambda done, total, name: done == 1)
    old = [{k: v for k, v in row.items() if k != "identity"} for row in rows(out)]
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(old[0]))
        table.writeheader()
        table.writerows(old)
    means = run(folders, out, ["adain"], judge)
    one, two = rows(out)
    assert one == {**old[0], "identity": "nan"}
    assert means["adain"]["identity"] == (pytest.approx(float(two["identity"])), 0.0)


def test_a_network_of_learnt_paintings_has_no_identity(folders, tmp_path, judge):
    training = untrained(styles=[folders[1] / "50% wave#1.png"], widths=[6, 8, 8], blocks=1)
    training.save(tmp_path / "m.safetensors", {})
    methods = {"own": ("johnson", {"model": tmp_path / "m.safetensors"})}
    means = compare(*folders, tmp_path / "out", methods, judge, size=36, device="cpu")
    assert math.isnan(means["own"]["identity"][0])
    assert {row["identity"] for row in rows(tmp_path / "out")} == {"nan"}
    assert "| nan |" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_gatys_at_its_own_picture(judge):
    gatys = load("gatys", iterations=2, device="cpu", precision="float32")
    assert study._identity(gatys, photo(40, 52), None) > 0.95  # there is nothing to change


@pytest.mark.parametrize("place", ["c", "s", "link", "c/../c"])
@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_results_are_not_written_among_what_is_read(folders, tmp_path, judge, place):
    (tmp_path / "link").symlink_to(folders[0], target_is_directory=True)
    before = {p: p.read_bytes() for f in folders for p in f.iterdir()}
    with pytest.raises(InputError, match="written among the input pictures of .* such as"):
        run(folders, tmp_path / place, ["adain"], judge)
    assert {p: p.read_bytes() for f in folders for p in f.iterdir()} == before


def test_a_comparisons_own_pictures_as_contents(folders, tmp_path, judge):
    out = tmp_path / "out"
    write(out / "pictures" / "contents" / "a.png", photo(60, 80))
    before = (out / "pictures" / "contents" / "a.png").read_bytes()
    with pytest.raises(InputError, match="written among the input pictures"):
        run((out / "pictures" / "contents", folders[1]), out, ["adain"], judge)
    (out / "pictures" / "adain").mkdir()
    painted = out / "pictures" / "adain" / "photo 0 50% wave#1.png"
    painted.hardlink_to(folders[0] / "photo 0.png")
    with pytest.raises(InputError, match="would overwrite"):
        run(folders, out, ["adain"], judge)
    assert (out / "pictures" / "contents" / "a.png").read_bytes() == before
    assert painted.samefile(folders[0] / "photo 0.png")
    assert not (out / "comparison.json").exists()


def test_two_results_of_one_name(folders, tmp_path, judge):
    for folder, names in zip(folders, (("a b", "a"), ("c", "b c")), strict=True):
        for name in names:
            write(folder / f"{name}.png", photo(40, 52))
    with pytest.raises(InputError, match="would be written to one file; rename one"):
        run(folders, tmp_path / "out", ["adain"], judge)


def test_stored_styles_are_no_paintings_to_compare(folders, tmp_path, judge):
    (folders[0] / "wave.style").write_bytes(b"some moments")
    for given in (folders[0] / "wave.style", tmp_path / "none.style"):
        with pytest.raises(InputError, match="a stored style has no pixels; name a folder"):
            run((folders[0], given), tmp_path / "out", ["adain"], judge)
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored" / "wave.style").write_bytes(b"some moments")
    with pytest.raises(InputError, match="no picture in this folder, and stored styles have no"):
        run((folders[0], tmp_path / "stored"), tmp_path / "out", ["adain"], judge)
    with pytest.raises(InputError, match="is a file; name the folder"):
        run((folders[0], folders[0] / "photo 0.png"), tmp_path / "out", ["adain"], judge)


def test_misuse_from_python(folders, tmp_path, judge):
    out = tmp_path / "out"
    given = {"size": 36, "device": "cpu"}
    assert compare(*map(str, folders), str(out), available(["wct"]), judge, **given)
    for methods, message in (
        (["wct"], r"methods: give label -> \(method, options\)"),
        ({"wct": "wct"}, r"methods: wct: give \(method, options\)"),
        ({"contents": ("wct", {})}, "'contents' cannot name a folder"),
        ({"../x": ("wct", {})}, "cannot name a folder"),
        ({"x": ("x", {})}, "method 'x' is unknown"),
        ({"x": ("wct", {"speed": 3})}, "has no option 'speed'"),
    ):
        with pytest.raises(InputError, match=message):
            compare(*folders, out, methods, judge, **given)
    for wrong, message in (
        ((folders[0], [folders[1]], out, available(["wct"]), judge), "styles: give a path, not"),
        ((*folders, None, available(["wct"]), judge), "out: give a path"),
        ((*folders, out, available(["wct"]), "compact"), "judge: give a loaded backbone, not str"),
    ):
        with pytest.raises(InputError, match=message):
            compare(*wrong, **given)
    for size in (8, "36", 36.5, float("nan"), None):
        with pytest.raises(InputError, match="size is"):
            compare(*folders, out, available(["wct"]), judge, size=size, device="cpu")
    with pytest.raises(InputError, match="methods: give a list of names"):
        available("wct")


def test_the_least_size(folders, tmp_path, judge):
    means = compare(*folders, tmp_path / "o", available(["adain"]), judge, size=16, device="cpu")
    assert 0 < means["adain"]["ssim"][0] < 1
    assert read(tmp_path / "o" / "pictures" / "adain" / "photo 0 50% wave#1.png").rgb.shape[1] == 16


def test_model_files_are_methods_by_their_names(small_model, tmp_path):
    assert of_files([small_model]) == {"small": ("adain", {"model": small_model})}
    (tmp_path / "small.safetensors").write_bytes(small_model.read_bytes())
    with pytest.raises(InputError, match="two models have this name"):
        of_files([small_model, tmp_path / "small.safetensors"])
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="other.safetensors"):
        of_files([tmp_path / "other.safetensors"])


def test_the_command_takes_model_files(run, desk, small_model):
    Path("contents").mkdir()
    Path("styles").mkdir()
    write("contents/photo.png", photo(32, 40))
    write("styles/painting.png", painting(32, 40))
    args = ["--contents", "contents", "--styles", "styles", "-o", "out", "--methods", "adain"]
    code, out, err = run("compare", *args, "--model", small_model, "--size", "32")
    assert code == 0, err
    assert "| small |" in out
    Path("adain.safetensors").write_bytes(small_model.read_bytes())
    code, _, err = run("compare", *args, "--model", "adain.safetensors")
    assert code == 2
    assert "adain.safetensors: a method has this name" in err
