"""What runs where torch, numpy, Pillow, safetensors and typer are all that is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from impasto.device import memory
from impasto.files import home
from impasto.progress import bar

# Of `impasto`'s dependencies, those without which it still trains.
ABSENT = ("platformdirs", "psutil", "tqdm", "lightning", "tensorboard", "matplotlib", "skimage")


def without(*names: str) -> str:
    """Code at whose end none of ``names`` can be imported."""
    return f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=100, check=True
    )


ROOMS = "backbones.loading images samples styles operators networks methods pipeline"


def test_the_rooms_below_training_import_without_what_is_not_needed():
    code = without(*ABSENT)
    run(code + "".join(f"import impasto.{room}\n" for room in ROOMS.split()))


def test_cache_memory_and_progress_without_their_packages():
    code = without("platformdirs", "psutil", "tqdm", "tqdm.auto")
    code += """
from impasto.device import available_memory
from impasto.files import home
from impasto.progress import bar
print(home(), available_memory())
with bar("sheep") as on_progress:
    for number in range(3):
        on_progress(number + 1, 3, "Dolly", 0.25)
"""
    done = run(code)
    folder, memory = done.stdout.split()
    assert Path(folder) == home()
    assert int(memory) > 2**20
    assert done.stderr.splitlines() == ["sheep 1/3 Dolly  loss 0.25", "sheep 3/3 Dolly  loss 0.25"]


@pytest.mark.parametrize(
    ("platform", "given", "folder"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/impasto"),
        ("linux", {}, "~/.cache/impasto"),
        ("darwin", {}, "~/Library/Caches/impasto"),
    ],
)
def test_where_the_cache_is_without_platformdirs(monkeypatch, platform, given, folder):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("IMPASTO_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert home() == Path(folder).expanduser().absolute()


@pytest.mark.linux("/proc")
def test_memory_without_psutil_is_what_psutil_says(monkeypatch):
    free, addressed = memory._free(), memory._addressed()
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert abs(memory._free() - free) < 2**30
    assert abs(memory._addressed() - addressed) < 2**28
    monkeypatch.setattr(Path, "read_text", lambda *args, **more: "")
    assert memory._free() > free  # of a system that tells the whole alone


def test_lines_of_another_stage_and_of_no_end(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr("impasto.progress.SECONDS", 0)
    with bar("sheep") as on_progress:
        on_progress(5, None)
        on_progress(1, 2)
        on_progress(2, 2)
    assert capsys.readouterr().err.splitlines() == ["sheep 5 ", "sheep 1/2 ", *["sheep 2/2 "] * 2]
