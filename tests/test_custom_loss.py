"""Style and content losses that are functions from outside."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from data import painting, photo, refused

import impasto
from impasto.images import read_settings
from impasto.losses import gram_loss
from impasto.methods.gatys import Gatys
from impasto.paintings import store_style
from impasto.pipeline import recorded
from impasto.statistics import Moments

QUICK = {"iterations": 5, "device": "cpu", "precision": "float32", "tolerance": 0}
LAYERS = {"style_layers": {"relu1_1": 0.5, "relu2_1": 0.5}, "content_layers": ["relu3_1"]}


def means(features, target_features):
    return (features.mean((1, 2)) - target_features.mean((1, 2))).square().sum()


def squared_error(features, target_features):
    return (features - target_features).square().mean()


class Scaled(torch.nn.Module):
    def forward(self, features, target_features):
        return 3 * means(features, target_features)


def gatys(net, **options) -> Gatys:
    return Gatys(net, **{**QUICK, **LAYERS, **options})


def test_the_style_loss_falls(small_net):
    losses = []
    method = gatys(small_net, style_loss=means, iterations=20, content_weight=0)
    style = method.prepare([painting()])
    first = method(photo(), style, on_step=lambda step: losses.append(step.style))
    assert min(losses[10:]) < 0.5 * losses[0]
    assert torch.equal(method(photo(), style), first)


def test_it_is_called_for_each_layer_with_maps_of_features(small_net):
    shapes = set()

    def watched(features, target_features):
        shapes.add((tuple(features.shape), tuple(target_features.shape)))
        return means(features, target_features)

    method = gatys(small_net, style_loss=watched, style_scale=0.5)
    method(photo(48, 64), method.prepare([painting(96, 96)]))
    # As large as the photograph and the reduced painting are at relu1_1 and relu2_1.
    between = {((8, 48, 64), (8, 24, 24)), ((12, 24, 32), (12, 12, 12))}
    assert between <= shapes
    assert {features for features, _ in shapes} >= {(8, 48, 64), (12, 24, 32)}


def test_the_photographs_style_loss_is_one(small_net):
    method = gatys(small_net, style_loss=means)
    layers = method._style_losses(method.prepare([painting()]), photo(), 1.0)
    for tap, features in method.net(photo()[None], LAYERS["style_layers"]).items():
        assert float(layers[tap](features[0])) == pytest.approx(1, abs=1e-4)


def test_a_factor_of_a_loss_changes_nothing(small_net):
    pictures = [
        (method := gatys(small_net, style_loss=loss))(photo(), method.prepare([painting()]))
        for loss in (means, Scaled())
    ]
    torch.testing.assert_close(*pictures, atol=2e-3, rtol=0)


def test_the_squared_error_is_the_content_loss_of_impasto(small_net):
    pictures = [
        (method := gatys(small_net, content_loss=loss))(photo(), method.prepare([painting()]))
        for loss in (None, squared_error)
    ]
    torch.testing.assert_close(*pictures, atol=1e-4, rtol=0)


def test_a_content_loss_holds_the_photograph(small_net):
    def distance(weight):
        options = {"content_loss": squared_error, "start": "content"}
        method = gatys(small_net, content_weight=weight, **options)
        return float((method(photo(), method.prepare([painting()])) - photo()).abs().mean())

    assert distance(1000) < 0.5 * distance(0)


def test_impastos_losses_can_be_used(small_net):
    def gram(features, target_features):
        return gram_loss(Moments.of(features), Moments.of(target_features))

    losses = []
    method = gatys(small_net, style_loss=gram)
    method(photo(), method.prepare([painting()]), on_step=lambda step: losses.append(step.loss))
    assert losses[-1] < losses[0]


def test_styles_are_added_in_their_shares(small_net):
    method = gatys(small_net, style_loss=means)
    paintings = [painting(), photo(seed=4)]
    features = method.net(photo(seed=9)[None], LAYERS["style_layers"])["relu1_1"][0]

    def value(styles, weights=None, strength=1.0):
        layers = method._style_losses(method.prepare(styles, weights), photo(), strength)
        return float(layers["relu1_1"](features) * layers["relu1_1"].unit)

    first, second, content = value(paintings[:1]), value(paintings[1:]), value([photo()])
    assert value(paintings, [1, 3]) == pytest.approx(0.25 * first + 0.75 * second, rel=1e-4)
    assert value(paintings, [1, 0]) == pytest.approx(first, rel=1e-4)
    assert value(paintings[:1], strength=0.3) == pytest.approx(
        0.3 * first + 0.7 * content, rel=1e-4
    )


def test_at_no_strength_the_photograph_is_the_optimum(small_net):
    method = gatys(small_net, style_loss=means)
    out = method(photo(), method.prepare([painting()]), strength=0)
    assert float((out - photo()).abs().mean()) < 0.01


def test_what_features_cannot_do_is_refused(small_net):
    method = gatys(small_net, style_loss=means)
    style = method.prepare([painting()])
    refused(lambda: method(photo(), style, strength=1.5), "strength 1.5", "up to 1", "gram")
    stored = store_style([painting()], "strokes", methods=["gatys"], backbone="slim")
    method = gatys("slim", style_loss=means, content_layers=["relu3_1"])
    refused(lambda: method.prepare([stored]), "strokes", "moments", "give the painting itself")


BAD = {
    "a map": (lambda f, t: (f - f.mean()).square(), "shape (8, 48, 64)", ".mean()"),
    "one in a list": (lambda f, t: f.mean()[None], "shape (1,)", ".mean()"),
    "a float": (lambda f, t: f.mean().item(), "returns 0", "must be a tensor"),
    "nothing": (lambda f, t: None, "returns None", "must be a tensor"),
    "no number": (lambda f, t: f.mean() * float("nan"), "is nan", "finite"),
    "infinity": (lambda f, t: f.mean() / 0, "is inf", "finite"),
    "negative": (lambda f, t: -f.square().mean(), "is -", "0 or more"),
    "cut off": (lambda f, t: f.detach().square().mean(), "no gradient", "detach"),
    "of the target alone": (lambda f, t: t.square().mean(), "no gradient", "features"),
    "of its own parameter": (
        lambda f, t: torch.ones((), requires_grad=True) * t.square().mean(),
        "no gradient",
        "features",
    ),
    "an infinite slope": (lambda f, t: (f * 0).square().sum().sqrt(), "not finite", "root"),
}


@pytest.mark.parametrize("option", ["style_loss", "content_loss"])
@pytest.mark.parametrize("loss", [pytest.param(name, id=name) for name in BAD])
def test_a_function_that_cannot_be_optimised_is_named(small_net, option, loss):
    function, *words = BAD[loss]
    layers = {"style_layers": ["relu1_1"], "content_layers": ["relu1_1"]}
    method = gatys(small_net, **layers, **{option: function})
    style = method.prepare([painting()])
    before = torch.is_grad_enabled()
    refused(lambda: method(photo(), style), option, "test_custom_loss", "layer relu1_1", *words)
    assert torch.is_grad_enabled() == before


@pytest.mark.parametrize("option", ["style_loss", "content_loss"])
@pytest.mark.parametrize("value", [3, "mean", Scaled])
def test_what_is_no_function(option, value):
    refused(lambda: Gatys(**{option: value}), option, "a function of (features, target_features)")


@pytest.mark.parametrize("option", ["style_loss", "content_loss"])
@pytest.mark.parametrize("losses", ["published", "report5"])
def test_published_losses_have_their_own(option, losses):
    refused(
        lambda: Gatys(losses=losses, **{option: means}), losses, option, "test_custom_loss.means"
    )


def test_memory_is_estimated_with_the_paintings_features(small_net):
    plain, custom = (gatys(small_net, style_loss=loss) for loss in ("gram", means))
    # Channels of relu1_1 at every pixel, and of relu2_1 at every fourth, as float32.
    more = custom.bytes_per_pixel() - plain.bytes_per_pixel()
    assert more == pytest.approx(4 * (8 + 12 / 4))


def test_a_refinement_takes_them(small_model, tmp_path):
    options = {"model": small_model, "refine": 2, "backbone": "slim", "device": "cpu"}
    plain = impasto.stylize(photo(), painting(), "adain", **options)
    result = impasto.stylize(
        *(photo(), painting(), "adain"), style_loss=means, content_loss=squared_error, **options
    )
    assert not torch.equal(result.picture.rgb, plain.picture.rgb)
    assert result.settings["refinement"]["style_loss"] == "test_custom_loss.means"


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (means, "test_custom_loss.means"),
        (Scaled(), "test_custom_loss.Scaled"),
        (functools.partial(means), "test_custom_loss.means"),
    ],
)
def test_the_record_has_the_functions_name(small_net, tmp_path, loss, name):
    method = gatys(small_net, style_loss=loss, content_loss=loss)
    path = impasto.stylize(photo(), painting(), method).save(tmp_path / "out.png")
    settings = read_settings(path)
    assert settings["style_loss"] == settings["content_loss"] == name
    assert json.dumps(settings)
    refused(lambda: recorded(path), name, "give the function itself")


def test_the_command_line_takes_names(run, desk):
    words = ("stylize", "photo.png", "painting.png", "-m", "gatys", "-o", "out.png")
    code, _, said = run(*words, "--style-loss", "mine.loss")
    assert code == 2
    assert said == (
        "impasto: --style-loss 'mine.loss' is unknown: use gram, moments, swd or remd; only Python "
        "takes a function\n"
    )
    assert run(*words, "--content-loss", "mine.loss")[0] == 2
