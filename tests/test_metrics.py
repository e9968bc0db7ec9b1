from __future__ import annotations

import pytest
from data import painting, photo

from impasto.study.metrics import relative_gram_distance

TAPS = ["relu1_1", "relu2_1", "relu3_1"]


def test_zero_for_the_style_and_one_for_the_content(small_net):
    content, style = photo(), painting()
    assert set(relative_gram_distance(small_net, style, content, style, TAPS).values()) == {0.0}
    for value in relative_gram_distance(small_net, content, content, style, TAPS).values():
        assert value == pytest.approx(1)


def test_between_for_a_blend(small_net):
    content, style = photo(56, 72), painting()
    blend = relative_gram_distance(small_net, 0.3 * content + 0.7 * style, content, style, TAPS)
    assert all(0 < value < 1 for value in blend.values())
