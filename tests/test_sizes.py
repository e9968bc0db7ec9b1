"""The benchmark of sizes: measures what is missing, keeps each figure, reports what is there."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="needs the repository"),
    pytest.mark.posix("asks the system what a process took"),
]


@pytest.fixture
def sizes(monkeypatch, tmp_path):
    for name in ("skimage", "matplotlib"):
        pytest.importorskip(name)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("sizes")
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(module, "OUT", tmp_path / "sizes.md")
    monkeypatch.setattr(module, "FIGURE", tmp_path / "img" / "sizes.png")
    yield module
    for name in ("sizes", "common"):
        sys.modules.pop(name, None)


@pytest.fixture
def call(sizes, monkeypatch, capsys):
    def called(*words):
        monkeypatch.setattr(sys, "argv", ["sizes.py", *map(str, words)])
        sizes.main()
        return capsys.readouterr().out

    return called


def row(label, megapixels, seconds=1.0, **more):
    pixels = round(megapixels * 1e6)
    figures = {"seconds": seconds, "processor": 2 * seconds, "peak": 0.5, "machine": "a machine"}
    return {"method": label, "megapixels": megapixels, "pixels": pixels, **figures, **more}


def keep(sizes, *rows):
    sizes.BUILD.mkdir(parents=True)
    lines = "".join(json.dumps(each) + "\n" for each in rows)
    (sizes.BUILD / "rows.jsonl").write_text(lines, encoding="utf-8")


def test_pictures_of_4_to_3_have_the_megapixels(sizes):
    assert sizes.sides(12) == (4000, 3000)
    for megapixels in sizes.SIZES:
        width, height = sizes.sides(megapixels)
        assert 3 * width == 4 * height
        assert width * height / 1e6 == pytest.approx(megapixels, rel=0.005)


def test_it_measures_what_is_missing_by_the_command_line(sizes, call):
    keep(sizes, row("johnson", 0.02))
    call("--methods", "johnson", "--sizes", 0.03, 0.02)
    first, second = sizes.rows().values()
    assert first == row("johnson", 0.02)
    assert second["megapixels"] == 0.03
    assert 0.2 < second["seconds"] < 600
    assert 0.2 < second["processor"] < 600
    assert 0.1 < second["peak"] < 4  # GB: Python, torch and a small network
    assert "fault" not in second
    assert {path.name for path in sizes.BUILD.iterdir()} == {
        *("rows.jsonl", "coffee-0.03.jpg"),
    }
    assert sizes.FIGURE.read_bytes().startswith(b"\x89PNG")


def test_every_method_is_typed_as_it_is_labelled(sizes, tmp_path):
    sizes.BUILD.mkdir()
    for label, (name, options) in sizes.available().items():
        words = sizes.command(label, tmp_path / "photo.jpg", tmp_path / "out.jpg")
        assert words[words.index("--method") + 1] == name
        assert set(map(str, options.values())) <= set(words)
    assert "bottleneck" in sizes.command("johnson-bottleneck", Path("p"), Path("o"))


def test_a_fault_is_kept_with_its_line(sizes, monkeypatch):
    sizes.BUILD.mkdir()
    monkeypatch.setattr(sizes, "command", lambda *_: [sys.executable, "-c", "exit('no memory')"])
    assert sizes.measured("ghiasi", 0.02, None)["fault"] == "no memory"


def test_above_the_limit_nothing_is_run_or_kept(sizes, monkeypatch, call):
    keep(sizes, row("ghiasi", 1, 100.0))
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(sizes, "command", lambda *_: sleeping)
    monkeypatch.setattr(sizes, "photograph", lambda megapixels: Path("photo.jpg"))
    said = call("--methods", "ghiasi", "adain", "--sizes", 4, "--limit-seconds", 0.5)
    assert "ghiasi, 4 megapixels: not run, above 0.5 s" in said
    assert "adain, 4 megapixels: not run" in said
    assert list(sizes.rows()) == [("ghiasi", 1)]


def test_slow_methods_end_at_24_megapixels(sizes, monkeypatch):
    run = []
    monkeypatch.setattr(sizes, "measured", lambda label, size, limit: run.append((label, size)))
    sizes.run(list(sizes.available()), [24, 50], 1.0)
    assert {label for label, size in run if size == 24} == set(sizes.available())
    fifty = {label for label, size in run if size == 50}
    assert fifty == {"ghiasi", "adain", "wct", "johnson", "johnson-bottleneck"}


def test_the_table_relates_times_to_12_megapixels(sizes, call):
    full = {"fault": "impasto: out of memory: use a smaller --size"}
    keep(
        sizes,
        row("ghiasi", 1, 2.0),
        row("ghiasi", 12, 12.0),
        row("ghiasi", 100, 120.0),
        row("wct", 1, 1.0),
        row("wct", 12, **full),
    )
    lines = call("--report").splitlines()
    assert "| method | | 1 | 12 | 100 |" in lines
    assert "| ghiasi | processor seconds | 4.00 | 24.0 | 240 |" in lines
    assert "|  | peak GB | 0.50 | 0.50 | 0.50 |" in lines
    assert "|  | processor seconds a megapixel, beside 12 | 2.00 | 1.00 | 1.20 |" in lines
    assert "| wct | processor seconds | 2.00 | no memory | not run |" in lines


def test_nothing_measured_is_said(sizes, call):
    with pytest.raises(SystemExit, match="nothing is measured yet"):
        call("--report")
