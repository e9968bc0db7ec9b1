"""The recipe for pictures that are never in memory whole, with a method that only inverts."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from data import photo

from impasto.errors import InputError
from impasto.images import read, read_settings, resize, write

pytest.importorskip("pyvips", reason="needs the extra huge")

PATH = Path(__file__).parent.parent / "recipes" / "gigapixel.py"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason="needs the repository")

HEIGHT, WIDTH = 60, 80
# What main() runs in a process of its own, to be interrupted.
WAITING = """
import runpy, sys, time
import impasto, torch
class Method:
    learnt, settings = None, {}
    def prepare(self, styles): pass
    def streamed(self, canvas, style, put, strength, on_step):
        put(slice(0, 30), slice(0, 80), torch.zeros(3, 30, 80))
        print("painting", flush=True)
        time.sleep(60)
impasto.load = lambda *_, **__: Method()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Inverting:
    """A method whose picture is the negative, in parts of 17 pixels."""

    learnt = None

    def __init__(self, name, **options):
        self.options, self.settings = options, {"method": name, **options}

    def prepare(self, styles):
        return [style.name for style in styles]

    def streamed(self, canvas, style, put, strength=1.0, on_step=None):
        assert style == ["wave"]
        height, width = canvas.size
        for top in range(0, height, 17):
            for left in range(0, width, 17):
                rows = slice(top, min(top + 17, height))
                columns = slice(left, min(left + 17, width))
                region = canvas.region(rows, columns)
                assert region.shape == (1, 3, rows.stop - top, columns.stop - left)
                put(rows, columns, 1 - strength * region[0])
            on_step(SimpleNamespace(share=rows.stop / height, iterations=0, stage="tile"))


@pytest.fixture
def recipe(monkeypatch):
    spec = importlib.util.spec_from_file_location("gigapixel", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load", Inverting)
    return module


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("photo.png", photo(HEIGHT, WIDTH))
    write("wave.png", photo(HEIGHT, WIDTH, 1))
    return tmp_path


def test_a_picture_is_painted_in_parts(desk, recipe, capsys):
    recipe.main(["photo.png", "wave.png", "-o", "out.tif", "--device", "cpu", "--brush", "2"])
    assert capsys.readouterr().out.strip() == "out.tif"
    assert float((read("out.tif").rgb - 1 + read("photo.png").rgb).abs().max()) < 1 / 255
    settings = read_settings("out.tif")
    assert settings["method"] == "ghiasi" and settings["brush"] == 2.0
    assert settings["content"] == "photo" and settings["styles"] == ["wave"]
    assert settings["pixels"] == f"{WIDTH}x{HEIGHT}" and settings["seconds"] >= 0
    assert {path.name for path in desk.iterdir()} == {"photo.png", "wave.png", "out.tif"}


def test_a_photograph_is_enlarged(desk, recipe):
    words = ["photo.png", "wave.png", "-o", "out.png", "--megapixels", "0.03", "--brush", "none"]
    recipe.main([*words, "--depth", "16"])
    made = read("out.png").rgb
    assert made.shape == (3, 150, 200)
    assert float((made - 1 + resize(read("photo.png").rgb, (150, 200))).abs().max()) < 1 / 255
    assert read_settings("out.png")["brush"] is None


def test_the_proportion_is_kept(recipe):
    assert recipe.enlarged((3000, 4000), 1000) == (27386, 36515)
    for wrong in (0, -1, float("nan"), 1e9):
        with pytest.raises(InputError, match="--megapixels"):
            recipe.enlarged((3000, 4000), wrong)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png", "wave.png", "-o", "out.tif"], "none.png: cannot open it"),
        (["photo.png", "none.png", "-o", "out.tif"], "none.png: cannot open it"),
        (["photo.png", "wave.png", "-o", "photo.png"], "photo.png: would overwrite"),
        (["photo.png", "wave.png", "-o", "out.webp"], "WEBP cannot be written in parts"),
        (["photo.png", "wave.png", "-o", "out.tif", "--megapixels", "-2"], "must be above 0"),
        (["photo.png", "wave.png", "-o", "out.tif", "--megapixels", "1e-9"], "too small"),
    ],
)
def test_what_is_wrong_is_one_line(desk, recipe, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        recipe.main(words)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("gigapixel: ") and message in said and said.count("\n") == 1
    assert {path.name for path in desk.iterdir()} == {"photo.png", "wave.png"}


def test_a_method_that_needs_the_whole_says_so(desk, recipe, monkeypatch, capsys):
    monkeypatch.setattr(recipe, "load", lambda *_, **__: SimpleNamespace(learnt=None))
    with pytest.raises(SystemExit):
        recipe.main(["photo.png", "wave.png", "-o", "out.tif", "--method", "gatys"])
    assert (
        "method gatys needs the picture whole: use ghiasi, adain or wct" in capsys.readouterr().err
    )


@pytest.mark.posix("sends SIGINT")
def test_ctrl_c_leaves_nothing(desk):
    words = [str(PATH), "photo.png", "wave.png", "-o", "out.tif"]
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout.readline() == "painting\n"
        assert len(list(desk.iterdir())) == 3
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.endswith("gigapixel: interrupted; nothing is written\n")
    assert {path.name for path in desk.iterdir()} == {"photo.png", "wave.png"}
