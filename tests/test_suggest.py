from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from data import painting, photo, refused

from impasto.images import read, write
from impasto.paintings import store_style
from impasto.statistics import Moments
from impasto.study.metrics import gaussian_distance
from impasto.study.suggest import LAYERS, Suggestion, sheet, suggest, texture_distance


@pytest.fixture
def folder(tmp_path) -> Path:
    """A painting like the photograph, one with its colours alone, and one with neither."""
    place = tmp_path / "paintings"
    likeness = photo(56, 72)
    write(place / "near.png", likeness)
    rng = torch.Generator().manual_seed(0)
    order = torch.randperm(56 * 72, generator=rng)
    write(place / "shuffled.png", likeness.flatten(1)[:, order].reshape(3, 56, 72))
    write(place / "far.png", painting())
    return place


def ranked(folder, **options) -> list[Suggestion]:
    return suggest(photo(56, 72), folder, size=56, device="cpu", **options)


def names(found) -> list[str]:
    return [suggestion.name for suggestion in found]


def test_the_nearest_painting_comes_first(folder):
    found = ranked(folder)
    assert names(found) == ["near.png", "shuffled.png", "far.png"]
    assert [s.style for s in found] == [folder / name for name in names(found)]
    near, shuffled, far = found
    assert abs(near.color - shuffled.color) < 0.05 < far.color - near.color
    assert near.texture < -1 < 0 < shuffled.texture


def test_distances_are_in_standard_deviations_over_the_folder(folder):
    found = ranked(folder)
    for column in ("color", "texture"):
        values = torch.tensor([getattr(suggestion, column) for suggestion in found])
        assert float(values.mean()) == pytest.approx(0, abs=1e-6)
        assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert all(s.total == pytest.approx((s.color + s.texture) / 2) for s in found)


def test_one_painting_is_as_usual_as_it_can_be(tmp_path):
    write(tmp_path / "paintings" / "only.png", painting())
    (only,) = ranked(tmp_path / "paintings")
    assert (only.color, only.texture, only.total) == (0, 0, 0)


def test_a_stored_style_is_ranked_like_its_painting(folder, tmp_path):
    store_style([folder / "far.png"], "far", methods=["gatys"]).save(folder / "stored.style")
    found = {s.name: s for s in ranked(folder)}
    assert found["stored.style"].color == pytest.approx(found["far.png"].color, abs=0.01)
    assert found["stored.style"].texture == pytest.approx(found["far.png"].texture, abs=0.05)


def test_without_a_folder_the_named_styles_are_ranked():
    found = suggest(photo(), size=48, device="cpu")
    assert len(found) == 16
    assert "starry_night" in names(found)


def test_subfolders_are_searched_on_request(folder):
    write(folder / "more" / "deep.png", painting(seed=5))
    assert "deep.png" not in names(ranked(folder))
    assert "deep.png" in names(ranked(folder, recursive=True))


def test_broken_paintings_are_skipped_with_a_line(folder):
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.style").write_bytes(b"no style")
    store_style([folder / "far.png"], "far", methods=["adain"]).save(folder / "other.style")
    lines: list[str] = []
    assert len(ranked(folder, warn=lines.append)) == 3
    assert len(lines) == 3
    assert all(line.startswith("skipped: ") for line in lines)
    assert "broken.png" in lines[0]
    assert "broken.style" in lines[1]
    assert "other.style: style far: stored for adain" in lines[2]


def test_what_cannot_be_ranked_is_refused(folder, tmp_path):
    refused(lambda: suggest(tmp_path / "no.jpg", folder), "no.jpg")
    refused(lambda: ranked(tmp_path / "nowhere"), "nowhere")
    refused(lambda: ranked(folder / "far.png"), "far.png", "folder")
    (tmp_path / "empty" / "more").mkdir(parents=True)
    refused(lambda: ranked(tmp_path / "empty"), "empty", "no paintings", "recursive=True")
    (tmp_path / "empty" / "broken.png").write_bytes(b"no picture")
    broken = tmp_path / "empty"
    refused(lambda: ranked(broken, warn=lambda line: None), "no painting that can be read")
    refused(lambda: suggest(photo(), folder, size=2), "size is 2")


def test_a_stop_ranks_what_was_measured(folder):
    assert names(ranked(folder, on_progress=lambda done, total, name: done == 2)) == [
        "near.png",
        "far.png",
    ]
    assert ranked(folder, on_progress=lambda done, total, name: True) == []


def test_progress_counts_paintings(folder):
    calls = []
    ranked(folder, on_progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert calls[0][2] == "far.png"


def test_the_distance_of_gaussians_by_hand():
    one = Moments.uncorrelated(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 2.0]))
    two = Moments.uncorrelated(torch.tensor([4.0, 3.0]), torch.tensor([1.0, 5.0]))
    assert gaussian_distance(one, two) == pytest.approx(5)  # 4^2 + 3^2
    assert gaussian_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_layers_count_alike_whatever_their_scale():
    def layers(scale):
        rng = torch.Generator().manual_seed(0)
        pair = [torch.rand(4, 8, 8, generator=rng) for _ in LAYERS]
        return {
            tap: Moments.of(features * (scale if tap == LAYERS[1] else 1))
            for tap, features in zip(LAYERS, pair, strict=True)
        }

    def shifted(moments):
        return {tap: Moments.uncorrelated(m.mean * 2, m.deviation()) for tap, m in moments.items()}

    plain, scaled = layers(1), layers(100)
    assert texture_distance(plain, plain) == 0
    expected = texture_distance(plain, shifted(plain))
    assert texture_distance(scaled, shifted(scaled)) == pytest.approx(expected, rel=1e-3)


def test_the_sheet_shows_photograph_and_paintings(folder):
    store_style([folder / "far.png"], "far", methods=["gatys"]).save(folder / "stored.style")
    tiles = 1 + len(ranked(folder))
    shown = sheet(photo(), ranked(folder))
    assert shown.shape[0] == 3
    assert shown.shape[1] * shown.shape[2] > tiles * 200 * 200


# On the command line ---------------------------------------------------------------------------


def test_a_table_of_rank_name_color_texture_and_total(run, folder):
    write("photo.png", photo())
    code, out, said = run("suggest", "photo.png", folder, "--device", "cpu")
    assert code == 0
    assert said == ""
    head, *rows = out.splitlines()
    assert head.split() == ["rank", "painting", "color", "texture", "total"]
    assert rows[0].split()[:2] == ["1", "near.png"]
    assert len(rows) == 3


def test_top_json_and_a_sheet(run, folder):
    write("photo.png", photo())
    asked = ("suggest", "photo.png", folder, "--top", 2, "--device", "cpu")
    code, out, said = run(*asked, "--json", "-o", "best.png")
    assert code == 0
    assert said == "best.png\n"
    rows = json.loads(out)
    assert [row["rank"] for row in rows] == [1, 2]
    assert set(rows[0]) == {"rank", "style", "color", "texture", "total"}
    assert Path(rows[0]["style"]) == folder / "near.png"
    assert read("best.png").rgb.shape[-1] > 400


def test_skipped_pictures_are_told_and_the_code_is_1(run, folder):
    write("photo.png", photo())
    (folder / "broken.png").write_bytes(b"no picture")
    code, out, said = run("suggest", "photo.png", folder, "--device", "cpu")
    assert code == 1
    assert len(out.splitlines()) == 4
    assert said.startswith("impasto: skipped: ")
    assert "broken.png" in said


@pytest.mark.parametrize("sheet", ["photo.png", "paintings/far.png", "best.txt"])
def test_a_sheet_that_cannot_be_written_is_refused_before_any_work(run, folder, sheet):
    write("photo.png", photo())
    before = {path: path.read_bytes() for path in Path().rglob("*.png")}
    code, out, said = run("suggest", "photo.png", "paintings", "-o", sheet)
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert {path: path.read_bytes() for path in Path().rglob("*.png")} == before
