"""The reports' losses, each against a plain restatement of its formula."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from data import painting, refused

from impasto.backbones import load_backbone
from impasto.images import write
from impasto.losses import aligned_channels
from impasto.operators.adain import adain
from impasto.statistics import Moments
from impasto.training.methods import TRAINABLE, published
from impasto.training.methods.published import PUBLISHED


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


@pytest.mark.parametrize(
    "name", ["feature_mse", "half_squares", "feature_distance", "normalised_mse"]
)
def test_half_precision_is_not_summed_in_half_precision(name):
    loss = getattr(published, name)
    half, target = (100 * ONE).to(torch.float16), (100 * TWO).to(torch.float16)
    assert loss(half, target).dtype == torch.float32
    assert float(loss(half, target)) == pytest.approx(
        float(loss(half.double(), target.double())), 1e-2
    )


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
    distances, squares = [], []
    for f, p in zip(ONE, TWO, strict=True):
        (means, deviations), (mean_aims, aims) = plain_statistics(f), plain_statistics(p)
        between = [m - n for m, n in zip(means, mean_aims, strict=True)]
        apart = [d - e for d, e in zip(deviations, aims, strict=True)]
        lengths = [math.sqrt(sum(x**2 for x in part)) for part in (between, apart)]
        distances.append(sum(lengths))
        squares.append(mean([x**2 for x in between]) + mean([x**2 for x in apart]))
    pair = Moments.of(ONE), Moments.of(TWO)
    assert float(published.moments_distance(*pair)) == pytest.approx(mean(distances))
    assert float(published.moments_mse(*pair)) == pytest.approx(mean(squares))


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


FLOW = {"steps": 1, "hidden": 8}
SMALL = {
    ("adain", 2): {"widths": [[8], [8], [8], [8]], "report": 2},
    ("adain", 3): {"widths": [[8], [8], [8], [8]]},
    ("artflow", 1): FLOW,
    ("styleflow", 1): FLOW,
    ("johnson", 1): {"widths": [6, 8, 8], "blocks": 1, "noise": False, "report": 1},
    ("johnson", 4): {"widths": [6, 8, 8], "blocks": 1, "noise": False},
}


@pytest.fixture(scope="module")
def judge():
    return load_backbone("slim")


@pytest.fixture(scope="module")
def style(tmp_path_factory):
    path = tmp_path_factory.mktemp("styles") / "wave.png"
    write(path, painting())
    return path


def untrained(key, style, **options):
    options = {"loss_network": "slim", **SMALL[key], **options}
    if key[0] == "johnson":
        options["styles"] = [style]
    return TRAINABLE[key[0]].untrained(**{"losses": "published", **options})


@pytest.mark.parametrize("key", [("adain", 2), ("adain", 3), ("artflow", 1), ("styleflow", 1)])
def test_terms_of_any_style(judge, style, key):
    """Target, layers and weights: put together from the functions above."""
    losses, training = PUBLISHED[key], untrained(key, style)
    out, contents, styles = (torch.rand(2, 3, 32, 48) for _ in range(3))
    terms = training.perceptual(out, contents, styles)
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
    made, wanted, painted = (judge(x, layers) for x in (out, contents, styles))
    target = wanted["relu4_1"]
    if key[0] == "adain":
        target = adain(target, Moments.of(painted["relu4_1"]))
    content = losses.content_weight * losses.content(made["relu4_1"], target)
    total = 0.0
    for layer in layers:
        pair = Moments.of(made[layer]), Moments.of(painted[layer])
        channels = (aligned_channels(*pair, 0.8),) if key[0] == "styleflow" else ()
        total += float(losses.style(*pair, *channels))
    assert float(terms["content"]) == pytest.approx(float(content), rel=1e-4)
    assert float(terms["style"]) == pytest.approx(losses.style_weight * total, rel=1e-4)


@pytest.mark.parametrize("report", [1, 4])
def test_terms_of_johnson(style, judge, report):
    """Unclipped results at full strength; content as it is; the painting's own Gram matrices."""
    losses, training = PUBLISHED["johnson", report], untrained(("johnson", report), style)
    for weight in training.network.parameters():
        weight.requires_grad_(False)
    weight.add_(9)  # bias of the last layer: many pixels are above 1
    contents = torch.rand(2, 3, 32, 48)
    terms = training.loss(contents, contents)
    assert set(terms) == {"content", "style"}
    out = training.model(contents, torch.ones(1, 1), torch.ones(1))
    assert out.max() > 1
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
    made, wanted, painted = (judge(x, layers) for x in (out, contents, painting()[None]))
    content = losses.content(made["relu3_1"], wanted["relu3_1"])
    each = [losses.style(Moments.of(made[t]), Moments.of(painted[t])) for t in layers]
    total = float(sum(each)) / (len(each) if report == 1 else 1)
    assert float(terms["content"]) == pytest.approx(losses.content_weight * float(content), 1e-3)
    assert float(terms["style"]) == pytest.approx(losses.style_weight * total, 1e-3)


@pytest.mark.parametrize("key", list(SMALL))
def test_gradients_and_what_is_recorded(style, key):
    training = untrained(key, style)
    contents, styles = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    training.network.train()
    training.start(torch.rand(4, 3, 32, 32)) if key[0] in ("artflow", "styleflow") else None
    terms = training.loss(contents, styles)
    expected = {"content", "style"} | ({"tv"} if key[0] == "styleflow" else set())
    assert set(terms) == expected
    sum(terms.values()).backward()
    grads = [weight.grad for weight in training.network.parameters() if weight.grad is not None]
    assert grads
    assert all(bool(grad.isfinite().all()) for grad in grads)
    losses, resolved = PUBLISHED[key], training.resolved
    assert resolved["losses"] == "published"
    assert resolved["report"] == key[1]
    assert resolved["content_weight"] == losses.content_weight
    assert resolved["style_weight"] == losses.style_weight


@pytest.mark.parametrize("key", list(SMALL))
def test_weights_of_the_caller_go_first(style, key):
    training = untrained(key, style, content_weight=2.5, style_weight=0.0)
    assert training.resolved["content_weight"] == 2.5
    assert training.resolved["style_weight"] == 0.0
    terms = training.loss(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
    assert float(terms["style"].detach()) == 0


@pytest.mark.parametrize(
    ("key", "weights"),
    [
        (("adain", 3), {"content_weight": 1.0, "style_weight": 1.0, "target": "content"}),
        (("artflow", 1), {"content_weight": 1.0, "style_weight": 4.0, "tv_weight": 0.0, "kept": 1}),
        (("styleflow", 1), {"content_weight": 1, "style_weight": 4, "tv_weight": 1, "kept": 0.8}),
        (
            ("johnson", 4),
            {"content_weight": 1, "style_weight": 20, "color_weight": 3}
            | {"tv_weight": 1, "full": 0.75},
        ),
    ],
)
def test_our_losses_stay_as_they_were(style, key, weights):
    assert untrained(key, style, losses="relative").resolved == {"losses": "relative", **weights}


def test_published_weights():
    weights = {key: (p.content_weight, p.style_weight) for key, p in PUBLISHED.items()}
    assert weights["johnson", 4] == (1e5, 1e10)
    assert weights["johnson", 1][0] / weights["johnson", 1][1] == 1e-5
    assert weights["adain", 3] == (1.0, 0.1)
    assert weights["artflow", 1] == weights["styleflow", 1] == (0.1, 1.0)
    assert [key for key, p in PUBLISHED.items() if p.tv_weight] == [("styleflow", 1)]


@pytest.mark.parametrize(
    ("key", "options", "words"),
    [
        (("adain", 3), {"losses": "ours"}, ["losses = 'ours'", "relative or published"]),
        (("adain", 3), {"recolored": 0.5}, ["recolored = 0.5", "leave it out"]),
        (("adain", 3), {"target": "content"}, ["target = 'content'", "leave it out"]),
        (("adain", 3), {"report": 4}, ["report = 4", "no adain; use 2 or 3"]),
        (("adain", 3), {"losses": "relative", "report": 3}, ["report = 3", "leave it out"]),
        (("artflow", 1), {"recolored": 0.5}, ["recolored = 0.5", "leave it out"]),
        (("johnson", 4), {"color_weight": 1.0}, ["color_weight = 1.0", "leave it out"]),
        (("johnson", 4), {"full": 0.5}, ["full = 0.5", "leave it out"]),
        (("johnson", 4), {"report": 3}, ["report = 3", "no johnson; use 1 or 4"]),
    ],
)
def test_mistakes(style, key, options, words):
    refused(lambda: untrained(key, style, **options), *words)


def test_vgg16_as_published(style):
    """Report 4's loss network and layers; its activations are not brought to a unit mean."""
    options = {"loss_network": "vgg16", "loss_network_weights": Path("random")}
    training = untrained(("johnson", 4), style, **options)
    assert training.style_layers == ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    assert training.content_layer == "relu2_2"
    contents = torch.rand(1, 3, 32, 32)
    assert all(bool(term.isfinite()) for term in training.loss(contents, contents).values())


def test_activations_are_left_as_they_are(style, monkeypatch):
    asked = []

    def load(*args, **options):
        asked.append(options)
        return load_backbone("slim")

    monkeypatch.setattr("impasto.training.methods.johnson.load_backbone", load)
    for losses in ("published", "relative"):
        untrained(("johnson", 4), style, losses=losses)
    assert [options["normalise"] for options in asked] == [False, True]


def test_vgg16_as_the_encoder_of_styleflow(style):
    options = {"encoder": "vgg16", "encoder_weights": Path("random"), "wide": 8}
    training = untrained(("styleflow", 1), style, **options)
    contents = torch.rand(1, 3, 32, 32)
    assert training.render(contents, contents).shape == contents.shape


@pytest.mark.parametrize(
    ("key", "options"),
    [
        (("johnson", 4), {"loss_network": "vgg16"}),
        (("styleflow", 1), {"encoder": "vgg16"}),
    ],
)
def test_missing_weights_name_their_file(style, key, options):
    options = {**options, "loss_convention": "caffe"}
    refused(lambda: untrained(key, style, **options), "vgg16-00b39a1b.pth", "by hand")
