"""Figures: series that can be told apart without their colours."""

from __future__ import annotations

from itertools import combinations

import pytest

from impasto.study.compare import available
from impasto.study.figures import COLORS, DASHES, LOOKS, MARKERS, look
from impasto.study.leak import _draw


def test_every_method_has_a_look_of_its_own_and_one_colour():
    labels = list(available())
    assert set(labels) == set(LOOKS)
    assert len({look(label)["marker"] for label in labels}) == len(labels)
    for one, two in combinations(labels, 2):
        same = one.split("-")[0] == two.split("-")[0]
        assert (look(one)["color"] == look(two)["color"]) == same, (one, two)


def test_other_series_differ_in_more_than_hue():
    count = len(COLORS) * len(DASHES)
    seen = {(look("", n)["marker"], look("", n)["linestyle"]) for n in range(count)}
    assert len(seen) == count
    assert {look("", n)["color"] for n in range(count)} == set(COLORS)
    assert {look("", n)["marker"] for n in range(count)} == set(MARKERS)


def test_a_plot_draws_each_method_by_its_look(monkeypatch, tmp_path):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    _draw(tmp_path / "leak.png", {"wct": [0.9, 0.5], "artflow-rbmad": [0.9, 0.8]})
    for line in drawn[0].axes[0].lines:
        series = look(line.get_label())
        assert (line.get_color(), line.get_marker()) == (series["color"], series["marker"])
        assert line.get_linestyle() == series["linestyle"]
