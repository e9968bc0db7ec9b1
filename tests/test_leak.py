from __future__ import annotations

import csv
import math

import pytest
import torch
from data import painting, photo

from impasto import cli
from impasto.errors import InputError
from impasto.images import read, write
from impasto.methods.johnson import Johnson
from impasto.study.leak import leak
from impasto.study.metrics import grid_energy
from impasto.training.methods import TRAINABLE


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "photo.png", photo(40, 52))
    for i in range(2):
        write(tmp_path / "styles" / f"{i}.png", painting(48, 60, seed=i))
    return tmp_path


def run(folder, methods, **options):
    places = (folder / "photo.png", folder / "styles", folder / "out")
    return leak(*places, methods, size=36, device="cpu", **options)


def test_a_reversible_network_comes_back_and_the_curves_are_kept(folder):
    training = TRAINABLE["artflow"].untrained(steps=2, hidden=8)
    training.start(torch.rand(4, 3, 32, 32))
    training.save(folder / "flow.safetensors", {})
    methods = {
        "flow": ("artflow", {"model": folder / "flow.safetensors", "shifts": 1}),
        "wct": ("wct", {}),
    }
    said = []
    curves = run(folder, methods, rounds=3, on_progress=lambda *given: said.append(given))
    assert list(curves) == ["flow", "wct"]
    assert all(len(values) == 3 and -1 < v < 1 for values in curves.values() for v in values)
    assert said[0] == (0, 6, "flow")
    assert said[-1] == (6, 6, "")
    with open(folder / "out" / "leak.csv", newline="", encoding="utf-8") as stream:
        table = list(csv.reader(stream))
    assert table[0] == ["round", "flow", "wct"]
    assert [float(value) for value in table[3][1:]] == [curves["flow"][2], curves["wct"][2]]
    for name in ("leak.png", "rounds.png", "back.png"):
        assert read(folder / "out" / name).rgb.shape[-1] > 3 * 36


def test_a_network_that_has_learnt_styles_takes_these(folder):
    names = [folder / "styles" / "0.png", folder / "styles" / "1.png"]
    training = TRAINABLE["johnson"].untrained(styles=names, widths=[6, 8, 8], blocks=1)
    training.save(folder / "m.safetensors", {})
    curves = run(folder, {"own": ("johnson", {"model": folder / "m.safetensors"})}, rounds=2)
    assert len(curves["own"]) == 2
    assert not (folder / "out" / "back.png").exists()


def test_it_paints_what_the_others_paint_where_it_can(folder, monkeypatch):
    for name in ("a", "b", "c"):
        write(folder / "styles" / f"{name}.png", painting(48, 60))
    (folder / "styles" / "0.png").unlink()
    (folder / "styles" / "1.png").unlink()
    names = [folder / "styles" / "c.png", folder / "styles" / "a.png"]
    training = TRAINABLE["johnson"].untrained(styles=names, widths=[6, 8, 8], blocks=1)
    training.save(folder / "m.safetensors", {})
    taken, prepare = [], Johnson.prepare
    monkeypatch.setattr(
        Johnson, "prepare", lambda self, styles: taken.extend(styles) or prepare(self, styles)
    )
    run(folder, {"own": ("johnson", {"model": folder / "m.safetensors"})}, rounds=4)
    assert taken == ["a", "a", "c", "a"]  # b it does not know


def test_it_ends_when_asked_and_refuses_what_it_cannot_do(folder):
    assert run(folder, {"wct": ("wct", {})}, on_progress=lambda *given: True) == {}
    assert not (folder / "out").exists()
    two = {"wct": ("wct", {}), "adain": ("adain", {})}
    kept = run(folder, two, rounds=2, on_progress=lambda done, total, name: done == 3)
    assert list(kept) == ["wct"]  # the second method was not through
    assert (folder / "out" / "leak.csv").read_text(encoding="utf-8").splitlines()[0] == "round,wct"
    with pytest.raises(InputError, match="rounds = 0"):
        run(folder, {"wct": ("wct", {})}, rounds=0)
    (folder / "styles" / "0.png").unlink()
    (folder / "styles" / "1.png").unlink()
    with pytest.raises(InputError, match="no picture"):
        run(folder, {"wct": ("wct", {})})


def test_by_the_command(folder, monkeypatch, capsys):
    words = ["study", "leak", folder / "photo.png", "--styles", folder / "styles"]
    words += ["-o", folder / "out", "--rounds", "2", "--size", "36", "--methods", "adain"]
    monkeypatch.setattr("sys.argv", ["impasto", *map(str, words), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("adain ")


@pytest.mark.parametrize("period", [2, 4])
def test_grid_energy_is_the_grids_rms(period):
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    wave = 0.1 * torch.cos(2 * math.pi * x / period) * torch.cos(2 * math.pi * y / period)
    smooth = 0.5 + 0.2 * torch.sin(x / 40)
    picture = (smooth + wave).expand(3, -1, -1)
    assert grid_energy(picture) == pytest.approx(float(wave.square().mean().sqrt()), rel=0.03)
    assert grid_energy(smooth.expand(3, -1, -1)) < 0.005
    other = 0.1 * torch.cos(2 * math.pi * x / 3)  # no grid of a squeeze
    assert grid_energy((0.5 + other).expand(3, -1, -1)) < 0.02


def test_grid_energy_of_noise_is_small_and_of_a_strip_refused():
    torch.manual_seed(0)
    noise = torch.rand(3, 128, 128)
    assert grid_energy(noise) < 0.2 * float(noise.std())
    with pytest.raises(InputError, match="smaller"):
        grid_energy(torch.rand(3, 20, 100))


@pytest.mark.parametrize("name", ["rounds.png", "back.png", "leak.png"])
def test_what_is_read_is_not_overwritten(folder, name):
    write(folder / name, photo(40, 52))
    before = (folder / name).read_bytes()
    with pytest.raises(InputError, match="would overwrite"):
        leak(folder / name, folder / "styles", folder, {"wct": ("wct", {})}, size=36)
    (folder / "out").mkdir()
    (folder / "out" / name).hardlink_to(folder / "styles" / "0.png")
    with pytest.raises(InputError, match="would overwrite"):
        run(folder, {"wct": ("wct", {})})
    assert (folder / name).read_bytes() == before
    assert not (folder / "leak.csv").exists()


def test_results_do_not_become_paintings(folder):
    with pytest.raises(InputError, match="written among the input pictures"):
        leak(folder / "photo.png", folder / "styles", folder / "styles", {"wct": ("wct", {})})
    assert len(list((folder / "styles").iterdir())) == 2


def test_misuse_from_python(folder):
    wct = {"wct": ("wct", {})}
    places = [str(folder / name) for name in ("photo.png", "styles", "out")]
    assert leak(*places, wct, rounds=1, size=36, device="cpu")
    (folder / "wave.style").write_bytes(b"moments")
    for given, message in (
        ((*places, ["wct"]), "methods: give label"),
        ((places[0], [places[1]], places[2], wct), "styles: give a path, not list"),
        ((places[0], str(folder / "wave.style"), places[2], wct), "a stored style has no pixels"),
        ((str(folder / "wave.style"), *places[1:], wct), "a stored style has no pixels"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            leak(*given, rounds=1, size=36)
        assert "\n" not in str(caught.value)
    for wrong in ({"size": 8}, {"size": float("nan")}, {"rounds": 1.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            leak(*places, wct, **{"size": 36, **wrong})
