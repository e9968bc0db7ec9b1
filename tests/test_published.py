"""The reports' losses, each against a plain restatement of its formula."""

from __future__ import annotations

import math

import pytest
import torch
from data import refused

from impasto.backbones import load_backbone
from impasto.statistics import Moments
from impasto.training.methods import published
from impasto.training.methods.published import PUBLISHED, PublishedPerceptual, check_losses


def features(seed: int = 0, count: int = 2, height: int = 5, width: int = 7) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, 6, height, width, generator=rng, dtype=torch.float64)


ONE, TWO, LARGE = features(0), features(1), features(2, height=9, width=8)


def plain_gram(picture):
    """Sums over positions of products of channels."""
    channels = range(len(picture))
    return [[float((picture[i] * picture[j]).sum()) for j in channels] for i in channels]


def plain_statistics(picture):
    means = [float(channel.mean()) for channel in picture]
    deviations = [math.sqrt(float(channel.var(correction=0)) + 1e-5) for channel in picture]
    return means, deviations


def mean(values):
    return sum(values) / len(values)


def test_feature_losses():
    each = [float(((f - p) ** 2).sum()) for f, p in zip(ONE, TWO, strict=True)]
    size = 6 * 5 * 7
    assert float(published.feature_mse(ONE, TWO)) == pytest.approx(mean(each) / size)
    assert float(published.half_squares(ONE, TWO)) == pytest.approx(mean(each) / 2)
    lengths = [math.sqrt(total) for total in each]
    assert float(published.feature_distance(ONE, TWO)) == pytest.approx(mean(lengths))


def test_normalised_feature_loss():
    def normal(channel):
        return (channel - channel.mean()) / math.sqrt(float(channel.var(correction=0)) + 1e-5)

    each = [
        float((normal(f) - normal(p)).square().mean())
        for one, two in zip(ONE, TWO, strict=True)
        for f, p in zip(one, two, strict=True)
    ]
    assert float(published.normalised_mse(ONE, TWO)) == pytest.approx(mean(each))
    assert float(published.normalised_mse(ONE, 3 * ONE + 1)) < 1e-4


def test_gram_losses():
    """Report 4's Gram matrices are divided by C H W and compared by MSELoss; report 1's Eq. 2."""
    four, one = [], []
    for f, p in zip(ONE, TWO, strict=True):
        pairs = [
            (g, a)
            for grams, aims in zip(plain_gram(f), plain_gram(p), strict=True)
            for g, a in zip(grams, aims, strict=True)
        ]
        four.append(mean([((g - a) / (6 * 5 * 7)) ** 2 for g, a in pairs]))
        one.append(sum((g - a) ** 2 for g, a in pairs) / (4 * 6**2 * (5 * 7) ** 2))
    moments, target = Moments.of(ONE), Moments.of(TWO)
    assert float(published.gram_mse(moments, target)) == pytest.approx(mean(four))
    assert float(published.gram_squares(moments, target)) == pytest.approx(mean(one))


@pytest.mark.parametrize("name", ["gram_mse", "gram_squares", "moments_mse", "moments_distance"])
def test_a_painting_may_have_another_size(name):
    loss = getattr(published, name)
    tiled = LARGE[:1].repeat(1, 1, 1, 2)
    assert float(loss(Moments.of(tiled), Moments.of(LARGE[:1]))) == pytest.approx(0, abs=1e-12)
    assert float(loss(Moments.of(ONE), Moments.of(LARGE))) > 0


def test_moments_losses():
    distances, squares, variances = [], [], []
    for f, p in zip(ONE, TWO, strict=True):
        (means, deviations), (mean_aims, aims) = plain_statistics(f), plain_statistics(p)
        between = [m - n for m, n in zip(means, mean_aims, strict=True)]
        apart = [d - e for d, e in zip(deviations, aims, strict=True)]
        spread = [d**2 - e**2 for d, e in zip(deviations, aims, strict=True)]
        lengths = [math.sqrt(sum(x**2 for x in part)) for part in (between, apart)]
        distances.append(sum(lengths))
        squares.append(mean([x**2 for x in between]) + mean([x**2 for x in apart]))
        variances.append(mean([x**2 for x in between]) + mean([x**2 for x in spread]))
    pair = Moments.of(ONE), Moments.of(TWO)
    assert float(published.moments_distance(*pair)) == pytest.approx(mean(distances))
    assert float(published.moments_mse(*pair)) == pytest.approx(mean(squares))
    assert float(published.variance_mse(*pair)) == pytest.approx(mean(variances))


def test_aligned_channels_alone_count():
    channels = torch.tensor([[0, 3], [5, 1]])
    each = []
    for f, p, chosen in zip(ONE, TWO, channels.tolist(), strict=True):
        (means, deviations), (mean_aims, aims) = plain_statistics(f), plain_statistics(p)
        each.append(
            mean([(means[c] - mean_aims[c]) ** 2 for c in chosen])
            + mean([(deviations[c] - aims[c]) ** 2 for c in chosen])
        )
    loss = published.moments_mse(Moments.of(ONE), Moments.of(TWO), channels)
    assert float(loss) == pytest.approx(mean(each))


@pytest.fixture(scope="module")
def judge():
    return load_backbone("slim")


@pytest.mark.parametrize("key", [("adain", 2), ("adain", 3), ("artflow", 1), ("styleflow", 1)])
def test_terms_of_any_style(judge, key):
    """Target, layers and weights: put together from the functions above."""
    from impasto.losses import aligned_channels
    from impasto.operators.adain import adain

    losses = PUBLISHED[key]
    out, contents, styles = (torch.rand(2, 3, 32, 48) for _ in range(3))
    terms = PublishedPerceptual(judge, losses)(out, contents, styles)
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
    made, wanted, painted = (judge(x, layers) for x in (out, contents, styles))
    target = wanted["relu4_1"]
    if key[0] == "adain":
        target = adain(target, Moments.of(painted["relu4_1"]))
    content = losses.content_weight * losses.content(made["relu4_1"], target)
    style = 0.0
    for layer in layers:
        pair = Moments.of(made[layer]), Moments.of(painted[layer])
        more = (aligned_channels(*pair, 0.8),) if key[0] == "styleflow" else ()
        style += float(losses.style(*pair, *more))
    assert float(terms["content"]) == pytest.approx(float(content), rel=1e-4)
    assert float(terms["style"]) == pytest.approx(losses.style_weight * style, rel=1e-4)


def test_published_weights():
    weights = {key: (p.content_weight, p.style_weight) for key, p in PUBLISHED.items()}
    assert weights["johnson", 4] == (1e5, 1e10)
    assert weights["johnson", 1][0] / weights["johnson", 1][1] == 1e-5
    assert weights["adain", 3] == (1.0, 0.1)
    assert weights["artflow", 1] == weights["styleflow", 1] == (0.1, 1.0)
    assert {key: p.tv_weight for key, p in PUBLISHED.items() if p.tv_weight} == {
        ("styleflow", 1): 1.0
    }


def test_mistakes():
    assert not check_losses("relative", {"recolored": 0.5})
    assert check_losses("published", {"recolored": 0.0, "color_weight": None})
    refused(lambda: check_losses("ours", {}), "losses = 'ours'", "relative or published")
    refused(lambda: check_losses("published", {"recolored": 0.5}), "recolored = 0.5", "leave one")
    refused(lambda: published.find_published("johnson", 3), "report = 3", "johnson", "1 or 4")
