from __future__ import annotations

import pytest
import torch
from data import painting, photo, refused

from impasto.methods.gatys import Gatys
from impasto.methods.style_loss import (
    OF_FEATURES,
    POSITIONS,
    SAMPLE,
    by_features,
    remd,
    swd,
)
from impasto.paintings import store_style

STYLE = {"relu1_1": 0.5, "relu2_1": 0.5}
LOSSES = list(OF_FEATURES)


def gatys(net, loss, **options) -> Gatys:
    defaults = {"iterations": 5, "device": "cpu", "precision": "float32", "tolerance": 0}
    layers = {"style_layers": STYLE, "content_layers": ["relu3_1"]}
    return Gatys(net, style_loss=loss, **{**defaults, **layers, **options})


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layers_of(method, paintings, strength=1.0, weights=None, content=None):
    """The losses of layers, for a photograph."""
    content = photo() if content is None else content
    style = method.prepare(paintings, weights)
    return method._style_losses(style, content, strength)


def features_of(method, picture):
    return {tap: each[0] for tap, each in method.net(picture[None], STYLE).items()}


def flat(color: float, height: int = 40, width: int = 40) -> torch.Tensor:
    return torch.full((3, height, width), color)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_falls_and_the_picture_is_repeatable(small_net, loss):
    losses: list[float] = []
    method = gatys(small_net, loss, iterations=20, content_weight=0)
    style = method.prepare([painting()])
    first = method(photo(), style, on_step=lambda step: losses.append(step.style))
    assert min(losses[10:]) < 0.7 * losses[0]
    assert torch.equal(method(photo(), style), first)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_photographs_loss_is_one(small_net, loss):
    method = gatys(small_net, loss)
    layers = layers_of(method, [painting()])
    for tap, features in features_of(method, photo()).items():
        # Each value is by other directions and positions.
        values = [float(layers[tap](features)) for _ in range(20)]
        assert sum(values) / 20 == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_photograph_that_is_its_own_style_is_not_divided_by_nothing(small_net, loss):
    method = gatys(small_net, loss, iterations=3)
    result = method(photo(), method.prepare([photo()]))
    assert float((result - photo()).abs().mean()) < 0.05


def test_one_sample_is_kept_of_a_large_painting():
    features = {"a": torch.rand(1, 4, 60, 60), "b": torch.rand(1, 4, 5, 5)}
    style = gatys_style([painting()])
    layers = by_features(swd(rng()), style, photo(), 64, 1.0, lambda picture: features, rng())
    assert layers["a"].target.shape == (4, SAMPLE)
    assert layers["b"].target.shape == (4, 25)
    # Each vector is one of the painting's, and none is drawn twice.
    drawn = layers["b"].target.T.tolist()
    assert sorted(drawn) == sorted(features["b"][0].flatten(1).T.tolist())


def gatys_style(paintings, weights=None):
    method = Gatys("slim", style_layers=["relu1_1"], device="cpu")
    return method.prepare(paintings, weights)


def target_of(paintings, weights=None, strength=1.0, content=None):
    """The target where the features of a picture are its pixels."""
    layers = by_features(
        swd(rng()),
        gatys_style(paintings, weights),
        flat(0.0) if content is None else content,
        64,
        strength,
        lambda picture: {"pixels": picture[None]},
        rng(),
    )
    return layers["pixels"].target


def test_styles_are_mixed_by_samples_in_proportion_to_their_weights():
    target = target_of([flat(0.25), flat(0.75)], [1, 3])
    assert float((target == 0.75).float().mean()) == pytest.approx(0.75, abs=0.01)
    assert float((target == 0.25).float().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_is_the_share_of_the_paintings_vectors(strength):
    target = target_of([flat(0.5)], strength=strength, content=flat(1.0))
    assert float((target == 0.5).float().mean()) == pytest.approx(strength, abs=0.01)
    assert float((target == 1.0).float().mean()) == pytest.approx(1 - strength, abs=0.01)


def test_a_painting_that_is_measured_in_pieces_counts_by_area(monkeypatch):
    from impasto.styles import paintings

    monkeypatch.setattr(paintings, "PIECE", 32 * 32)
    halves = torch.cat([flat(0.25, 64, 48), flat(0.75, 64, 16)], 2)
    target = target_of([halves])
    assert float((target == 0.25).float().mean()) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("loss", LOSSES)
def test_at_no_strength_the_photograph_stays(small_net, loss):
    method = gatys(small_net, loss)
    style = method.prepare([painting()])
    unchanged, painted = (
        float((method(photo(), style, strength) - photo()).abs().mean()) for strength in (0.0, 1.0)
    )
    assert unchanged < 0.03 < painted


@pytest.mark.parametrize("loss", LOSSES)
def test_a_style_that_is_stored_is_refused_for_what_it_lacks(small_net, loss, tmp_path):
    words = "is stored as moments", "give the painting itself", "gram or moments"
    store_style([painting()], "mine", methods=["gatys"]).save(tmp_path / "mine.style")
    method = Gatys(style_loss=loss, device="cpu")
    stored = store_style([painting()], "mine", methods=["gatys"])
    refused(lambda: method.prepare([stored]), "style mine", *words)
    refused(lambda: method.prepare([painting(), "starry_night"]), "style starry_night", *words)
    other = Gatys(device="cpu").prepare([stored])  # for another style loss
    refused(lambda: method(photo(), other), "style mine", *words)


@pytest.mark.parametrize("loss", LOSSES)
def test_samples_do_not_exaggerate(small_net, loss):
    method = gatys(small_net, loss)
    style = method.prepare([painting()])
    refused(lambda: method(photo(), style, strength=1.5), "strength 1.5", "style_loss='gram'")


@pytest.mark.parametrize("loss", LOSSES)
def test_published_losses_have_no_other_style_loss(small_net, loss):
    refused(lambda: gatys(small_net, loss, losses="published"), "Gram", f"style_loss {loss}")


def test_the_earth_movers_distance_is_of_some_positions_that_change():
    loss = remd(rng())
    features = torch.randn(4, 8 * POSITIONS, generator=rng(1), requires_grad=True)
    target = torch.randn(4, 50, generator=rng(2))
    touched = []
    for _ in range(2):
        (gradient,) = torch.autograd.grad(loss(features, target), features)
        touched.append(gradient.abs().sum(0) > 0)
    assert 0 < int(touched[0].sum()) <= POSITIONS
    assert not torch.equal(*touched)


def test_directions_change_and_are_drawn_by_seed():
    features, target = torch.rand(6, 30), torch.rand(6, 40)
    one, two = swd(rng()), swd(rng())
    values = [float(one(features, target)) for _ in range(2)]
    assert values[0] != values[1]
    assert [float(two(features, target)) for _ in range(2)] == values
    other = swd(rng(1))
    assert float(other(features, target)) != values[0]


def test_sorting_counts_as_memory(small_net):
    bytes_of = {loss: gatys(small_net, loss).bytes_per_pixel() for loss in ("gram", "swd", "remd")}
    assert bytes_of["swd"] - bytes_of["gram"] == pytest.approx(1024)
    assert bytes_of["remd"] == bytes_of["gram"]


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_and_grey_pictures(small_net, loss):
    method = gatys(small_net, loss, precision="bfloat16", iterations=2)
    grey = photo().mean(0, keepdim=True).expand(3, -1, -1)
    style = method.prepare([painting().mean(0, keepdim=True).expand(3, -1, -1)])
    result = method(grey, style)
    assert result.isfinite().all()
    assert float(result.std(0).max()) < 1e-3
