from __future__ import annotations

import math

import pytest
import torch
from data import painting, photo

from impasto.backbones import load_vgg
from impasto.errors import InputError
from impasto.study.metrics import (
    Remembering,
    color_distance,
    content_distance,
    feature_distance,
    grid_energy,
    luminance_ssim,
    paint_share,
    relative_gram_distance,
    relative_moments_distance,
)

TAPS = ["relu1_1", "relu2_1", "relu3_1"]


@pytest.mark.parametrize("distance", [relative_gram_distance, relative_moments_distance])
def test_zero_for_the_style_and_one_for_the_content(distance, small_net):
    content, style = photo(), painting()
    assert set(distance(small_net, style, content, style, TAPS).values()) == {0.0}
    for value in distance(small_net, content, content, style, TAPS).values():
        assert value == pytest.approx(1)


@pytest.mark.parametrize("distance", [relative_gram_distance, relative_moments_distance])
def test_between_for_a_blend(distance, small_net):
    content, style = photo(56, 72), painting()
    blend = distance(small_net, 0.3 * content + 0.7 * style, content, style, TAPS)
    assert all(0 < value < 1 for value in blend.values())


@pytest.mark.parametrize("distance", [relative_gram_distance, relative_moments_distance])
def test_nan_for_a_content_that_has_the_style(distance, small_net):
    for out in (painting(), photo()):
        values = distance(small_net, out, painting(), painting(), TAPS).values()
        assert all(math.isnan(value) for value in values)


def test_content_distance_is_free_of_the_statistics(small_net):
    content, other = photo(56, 72), painting(56, 72)
    assert content_distance(small_net, content, content, "relu3_1") == 0
    # Two pictures that have nothing in common: half of the two variances, one each.
    assert 0.6 < content_distance(small_net, other, content, "relu3_1") < 1.4
    same = content_distance(small_net, 0.9 * content, content, "conv1_1")
    assert same == pytest.approx(0, abs=1e-2)


def test_ssim_is_one_for_the_same_luminance():
    content = photo(56, 72)
    assert luminance_ssim(content, content) == pytest.approx(1)
    noisy = (content + 0.2 * torch.randn_like(content)).clamp(0, 1)
    assert luminance_ssim(noisy, content) < 0.8


def test_a_judge_that_remembers_sees_each_picture_once():
    passes, compact = [], load_vgg("slim")

    def judge(picture, taps):
        passes.append(tuple(taps))
        return compact(picture, taps)

    content, style, out = photo(56, 72), painting(), photo(56, 72).flip(-1)
    seen = Remembering(judge)
    for distance in (relative_gram_distance, relative_moments_distance):
        assert distance(seen, out, content, style) == distance(compact, out, content, style)
    assert content_distance(seen, out, content) == content_distance(compact, out, content)
    assert len(passes) == 3
    other = out.clone()
    assert feature_distance(seen, other, content) == feature_distance(compact, out, content)
    assert len(passes) == 4
    content_distance(seen, other, content)
    relative_gram_distance(seen, out, content, style)  # the style made room
    assert len(passes) == 5


def test_what_cannot_be_measured(small_net):
    content, style = photo(56, 72), painting(56, 72)
    broken = content.clone()
    broken[0, 0, 0] = math.nan
    for measure in (
        lambda out: luminance_ssim(out, content),
        lambda out: content_distance(small_net, out, content, "relu3_1"),
        lambda out: feature_distance(small_net, out, content, TAPS),
        lambda out: color_distance(out, content),
        lambda out: relative_gram_distance(small_net, out, content, style, TAPS),
        lambda out: relative_moments_distance(small_net, content, style, out, TAPS),
        grid_energy,
    ):
        measure(style)
        for wrong, message in (
            (broken, "holds NaN or infinity"),
            (content[None], r"is \(1, 3, 56, 72\): give a tensor \(3, H, W\)"),
            ("photo.png", "is str: give a tensor"),
        ):
            with pytest.raises(InputError, match=message):
                measure(wrong)
    with pytest.raises(InputError, match="64x48 and 72x56: resize one"):
        luminance_ssim(photo(), content)
    for taps in ((), "relu1_1"):
        with pytest.raises(InputError, match="taps: give a list of layers"):
            feature_distance(small_net, style, content, taps)
    for window in (6, 0, math.nan):
        with pytest.raises(InputError, match=f"window is {window}: must be a multiple of 4"):
            grid_energy(content, window)


def test_paint_is_the_share_of_the_way_to_the_painting(small_net):
    content, style = photo(56, 72), painting(60, 90)
    assert paint_share(small_net, content, content, style, "relu3_1") == pytest.approx(0)
    same = paint_share(small_net, style, photo(60, 90), style, "relu3_1")
    assert same == pytest.approx(1, abs=1e-5)
    assert math.isnan(paint_share(small_net, photo(60, 90), style, style, "relu3_1"))
    blend = 0.4 * photo(60, 90) + 0.6 * style
    assert 0 < paint_share(small_net, blend, photo(60, 90), style, "relu3_1") < 1


def test_paint_of_large_pictures_is_measured_in_parts(small_net):
    from impasto.study import metrics

    features = torch.rand(5000, 7)
    one, two = (torch.nn.functional.normalize(x, dim=1) for x in (features, features[:300] + 0.1))
    whole = 1 - one @ two.T
    expected = max(float(whole.amin(1).mean()), float(whole.amin(0).mean()))
    assert metrics._relaxed_emd(one, two) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="resize one to the other"):
        paint_share(small_net, photo(32, 32), photo(32, 40), painting())
