from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data import painting, photo

from impasto.backbones.vgg import VGG
from impasto.images import write


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
