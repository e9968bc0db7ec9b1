from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from data import painting, photo

from impasto import cli
from impasto.backbones.vgg import VGG
from impasto.images import write
from impasto.training.methods import TRAINABLE

# What the tests start speaks as they read it, on Windows too.
os.environ.setdefault("PYTHONIOENCODING", "utf-8")


def system():
    return os.name, sys.platform


def pytest_runtest_setup(item):
    """Skip what the system lacks: `posix("why")` on Windows, `linux("why")` on macOS too."""
    name, platform = system()
    for mark, lacking in (("posix", name == "nt"), ("linux", platform != "linux")):
        for found in item.iter_markers(mark) if lacking else ():
            pytest.skip(f"needs {mark}: {found.args[0]}")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "home"))


@pytest.fixture
def small_net() -> VGG:
    """A small VGG with random weights, for what does not depend on having learnt."""
    torch.manual_seed(0)
    net = VGG(((8, 8), (12,), (16,)), name="small")
    net.weights = "1"
    return net.eval().requires_grad_(False)


@pytest.fixture
def photo_file(tmp_path) -> Path:
    return write(tmp_path / "photo.png", photo())


@pytest.fixture
def painting_file(tmp_path) -> Path:
    return write(tmp_path / "painting.png", painting())


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in an empty folder; gives exit code, what it prints, what it says."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["impasto", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        monkeypatch.setattr(sys, "argv", ["pytest"])
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return call


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """A model of AdaIN that has learnt nothing, and is quick."""
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    TRAINABLE["adain"].untrained(widths=[[8], [8], [8], [8]]).save(path, {})
    return path


@pytest.fixture
def desk(monkeypatch, tmp_path, small_model) -> None:
    """In the current folder lie a photograph, a painting and a small model."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(small_model, "small.safetensors")
    write("photo.png", photo(32, 40))
    write("painting.png", painting(32, 40))
