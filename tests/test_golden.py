"""Golden pictures: what every method makes of six cases, against figures taken before.

Figures are a lattice of pixels of each picture, in `golden.npz`. A change of pictures that is meant
is listed in `CHANGED` with its reason, and its figures are taken anew by

    python tests/test_golden.py METHOD/CASE ...    (no name: those that are missing)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data import painting, photo

import impasto
from impasto import color
from impasto.images import fit, read, resize
from impasto.samples import draw, photograph

FILE = Path(__file__).with_name("golden.npz")
POINTS = 40  # of the lattice, along the longer side
LEVELS = 65535

# Method/case -> why its picture is another one than at first.
GREY = "a grey photograph in a grey painting stays grey"
LEARNT = "the bundled network learnt longer"
CELLS = "halos are measured in cells of six pixels, also at the picture's end"
CHANGED: dict[str, str] = {
    **{f"adain/{case}": CELLS for case in ("plain", "odd", "mixed", "recoloured")},
    **{
        f"ghiasi/{case}": LEARNT
        for case in ("plain", "odd", "grey", "large", "mixed", "recoloured")
    },
    "adain/grey": GREY,
    "wct/grey": GREY,
    "gatys/grey": GREY,
    "gatys/large": "sums are rounded otherwise in our own L-BFGS, and three steps blow that up",
    "artflow/grey": GREY,
    "artflow-wct/grey": GREY,
    "artflow-rbmad/grey": GREY,
    "styleflow/grey": GREY,
    "styleflow-rbmad/grey": GREY,
}

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "adain": ("adain", {}),
    "wct": ("wct", {}),
    "ghiasi": ("ghiasi", {}),
    "gatys": ("gatys", {"iterations": 3, "tolerance": 0.0}),
    "johnson": ("johnson", {}),
    "johnson-bottleneck": ("johnson", {"network": "bottleneck"}),
    "artflow": ("artflow", {}),
    "artflow-wct": ("artflow", {"operator": "wct"}),
    "artflow-rbmad": ("artflow", {"operator": "rbmad"}),
    "styleflow": ("styleflow", {}),
    "styleflow-rbmad": ("styleflow", {"operator": "rbmad"}),
}


def _small(name: str, short_side: int) -> torch.Tensor:
    rgb = photograph(name)
    return resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))


def _drawn(name: str, height: int) -> torch.Tensor:
    return read(draw(name, height)).rgb


# Case -> content, styles, learnt styles in their place, controls.
CASES: dict[str, Any] = {
    "plain": lambda: (photo(), [painting()], ["woodcut"], {}),
    "odd": lambda: (_small("chelsea", 67), [_drawn("stained_glass", 93)], ["the_kiss"], {}),
    "grey": lambda: (
        color.as_grey(_small("coffee", 96)),
        [color.as_grey(painting(99, 131))],
        ["woodcut"],
        {},
    ),
    "large": lambda: (
        _small("coffee", 384),
        [_drawn("swirls", 384)],
        ["starry_night"],
        {},
    ),
    "mixed": lambda: (
        _small("coffee", 80),
        [painting(), _drawn("woodcut", 120)],
        ["wheat_field", "starry_night"],
        {"weights": [2, 1], "strength": 0.6},
    ),
    "recoloured": lambda: (
        photo(71, 58),
        [_drawn("pointillism", 110)],
        ["turner_storm"],
        {"color": "match-style"},
    ),
}


def render(label: str, case: str) -> np.ndarray:
    """The lattice, ``(3, h, w)`` in 0..1."""
    method, options = METHODS[label]
    content, styles, learnt, controls = CASES[case]()
    ready = impasto.load(method, device="cpu", precision="float32", **options)
    given = learnt if method == "johnson" else styles
    out = impasto.stylize(content, given, ready, **controls).picture.rgb
    step = -(-max(out.shape) // POINTS) | 1  # odd, so that every place in a cell of 4 comes
    return out[:, ::step, ::step].numpy()


@pytest.fixture
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("label", METHODS)
def test_the_picture_is_the_same(label, case):
    with np.load(FILE) as figures:
        before = figures[f"{label}/{case}"].astype(np.float64) / LEVELS
    far = np.abs(render(label, case) - before).max() * 255
    assert far <= (5 if label == "gatys" else 1)  # torch 2.6 and 2.13 differ by 4.2 in one


def test_every_figure_belongs_to_a_case():
    names = {f"{label}/{case}" for label in METHODS for case in CASES}
    with np.load(FILE) as figures:
        assert set(figures.files) == names
    assert set(CHANGED) <= names


if __name__ == "__main__":
    torch.set_num_threads(1)
    kept = dict(np.load(FILE)) if FILE.exists() else {}
    every = [f"{label}/{case}" for label in METHODS for case in CASES]
    for name in sys.argv[1:] or [name for name in every if name not in kept]:
        kept[name] = (render(*name.split("/")) * LEVELS).round().astype(np.uint16)
    np.savez_compressed(FILE, **kept)
