from __future__ import annotations

import dataclasses
import math
import time

import pytest
import torch
from data import painting, photo

from impasto.errors import InputError, OutOfMemoryError
from impasto.images import read, resize
from impasto.losses import gram_loss, total_variation
from impasto.methods import load
from impasto.methods.gatys import Gatys
from impasto.methods.schedule import schedule
from impasto.statistics import Moments
from impasto.styles import StoredStyle
from impasto.watch import Step

TAPS = ["relu1_1", "relu2_1", "relu3_1"]


def gatys(net, **options):
    defaults = {
        "style_layers": TAPS,
        "content_layers": ["relu3_1"],
        "iterations": 15,
        "device": "cpu",
        "precision": "float32",
    }
    return Gatys(net, **(defaults | options))


def run(method, content=None, strength=1.0, on_step=None, style=None):
    content = photo() if content is None else content
    prepared = method.prepare([painting()] if style is None else style)
    return method(content, prepared, strength, on_step)


def distance(method, picture, style) -> float:
    ours, theirs = method.measure(picture), method.measure(style)
    return sum(float(gram_loss(ours[tap], theirs[tap])) for tap in ours) / len(ours)


def test_gram_distance_falls_to_a_quarter(small_net):
    method = gatys(small_net, iterations=40, content_weight=0.1)
    out = run(method)
    before, after = distance(method, photo(), painting()), distance(method, out, painting())
    assert after < 0.25 * before
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


def test_bundled_backbone_makes_the_distance_fall_to_a_tenth():
    method = load("gatys", iterations=60, device="cpu", precision="float32")
    assert isinstance(method, Gatys)
    out = run(method, photo(64, 80))
    before = distance(method, photo(64, 80), painting())
    assert distance(method, out, painting()) < 0.1 * before


def test_losses_are_of_the_picture_as_it_is_returned(small_net):
    method = gatys(small_net, iterations=30, content_weight=0.1)
    white = (0.7 + painting(48, 48)).clamp(max=1)  # pulls many pixels out of range
    steps: list[Step] = []
    run(method, None, 1.0, steps.append, style=[white])
    best = min(steps, key=lambda step: step.loss)
    assert distance(method, best.picture(), white) == pytest.approx(best.style, rel=1e-3)


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (33, 47), (16, 90)])
def test_any_size_comes_back(small_net, height, width):
    assert run(gatys(small_net, iterations=3), photo(height, width)).shape == (3, height, width)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("style_loss", ["gram", "moments"])
def test_every_optimizer_lowers_every_loss(small_net, optimizer, style_loss):
    losses: list[float] = []
    method = gatys(small_net, optimizer=optimizer, style_loss=style_loss, iterations=25)
    run(method, on_step=lambda step: losses.append(step.loss))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("start", ["content", "content+noise", "noise", "grey"])
def test_every_start(small_net, start):
    first: list[torch.Tensor] = []
    run(gatys(small_net, start=start), on_step=lambda step: first.append(step.picture()) or True)
    spread = float((first[0] - photo()).std())
    expected = {"content": (0, 1e-6), "content+noise": (0.1, 0.25), "noise": (0.15, 0.5)}
    low, high = expected.get(start, (0.1, 0.3))
    assert low <= spread <= high
    if start == "grey":
        torch.testing.assert_close(first[0], torch.full_like(first[0], 0.5))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_the_default_start_has_the_styles_colours(small_net, tmp_path, strength):
    style = (0.3 + 0.3 * painting()).clamp(0, 1)  # no colour of it is clipped
    prepared = gatys(small_net).prepare([style])
    prepared.store("s").save(tmp_path / "s.style")
    first: list[torch.Tensor] = []

    def see(step: Step) -> bool:
        first.append(step.picture())
        return True

    for styles in ([style], [StoredStyle.load(tmp_path / "s.style")]):
        run(gatys(small_net), strength=strength, on_step=see, style=styles)
    assert torch.equal(*first)
    share = 0.9 * min(strength, 1)
    expected = photo().mean((1, 2)).lerp(style.mean((1, 2)), share)
    torch.testing.assert_close(first[0].mean((1, 2)), expected, atol=0.01, rtol=0)


def test_a_picture_as_start(small_net, painting_file):
    first: list[torch.Tensor] = []
    method = gatys(small_net, start=str(painting_file))
    run(method, painting(), on_step=lambda step: first.append(step.picture()) or True)
    torch.testing.assert_close(first[0], painting(), atol=1 / 255, rtol=0)


def test_seed_decides_the_noise(small_net):
    one, same, other = (run(gatys(small_net, start="noise", seed=s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_strength(small_net):
    method = gatys(small_net, iterations=30)
    none, half, full = (run(method, strength=s) for s in (0.0, 0.5, 1.0))
    torch.testing.assert_close(none, photo(), atol=1e-4, rtol=0)
    distances = [distance(method, picture, painting()) for picture in (none, half, full)]
    assert distances[0] > distances[1] > distances[2]


def test_several_styles_average_their_moments(small_net):
    method = gatys(small_net)
    a, b = painting(), photo(seed=9)
    mixed = method.prepare([a, b], [3, 1]).at(56)
    for tap, moments in mixed.items():
        expected = [Moments.of(method.net(p[None], [tap])[tap][0]) for p in (a, b)]
        torch.testing.assert_close(moments.gram, Moments.mix(expected, [3, 1]).gram)


def test_style_scale_shrinks_the_style(small_net):
    method = gatys(small_net, style_scale=0.5)
    aim = method._target(method.prepare([painting(96, 96)]), photo(64, 64), 1.0)
    expected = method.prepare([painting(96, 96)]).at(32)
    torch.testing.assert_close(aim["relu1_1"].gram, expected["relu1_1"].gram)


def test_layers_with_weights(small_net):
    method = gatys(small_net, style_layers={"relu1_1": 3, "relu3_1": 1})
    assert method.style_layers == {"relu1_1": 0.75, "relu3_1": 0.25}


def test_defaults_fall_back_to_the_layers_that_are_there(small_net):
    method = Gatys(small_net, device="cpu")
    assert list(method.style_layers) == TAPS
    assert list(method.content_layers) == ["relu3_1"]
    assert len(method.notes) == 2
    assert all("end at relu3_1" in note and "\n" not in note for note in method.notes)


def test_coarse_to_fine_plan():
    sizes = [size for size, _ in schedule(512, 768)]
    assert sizes == [(128, 192), (256, 384), (512, 768)]
    counts = [count for _, count in schedule(512, 768)]
    assert counts == sorted(counts, reverse=True)
    assert [count for _, count in schedule(3000, 4000)] == [80, 52, 34, 16, 16]  # 16: above 1,024
    stages = schedule(64, 80, [32, 48, 0], [5, 4, 3])
    assert stages == [((32, 40), 5), ((48, 60), 4), ((64, 80), 3)]


def test_every_size_is_worked_on(small_net):
    seen: list[tuple[int, int]] = []
    method = gatys(small_net, sizes=[24, 0], iterations=[4, 3], tolerance=0)
    run(method, on_step=lambda step: seen.append(step.size))
    assert seen == [(24, 32)] * 4 + [(48, 64)] * 3


def test_progress_counts_to_the_planned_total(small_net):
    steps = []
    run(gatys(small_net, iterations=6), on_step=lambda step: steps.append(step))
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5, 6]
    assert {step.iterations for step in steps} == {6}
    assert steps[-1].picture().shape == (3, 48, 64)


def test_on_step_can_stop(small_net):
    steps = []
    out = run(
        gatys(small_net, iterations=50),
        on_step=lambda step: steps.append(step) or len(steps) == 3,
    )
    assert len(steps) == 3
    assert out.shape == (3, 48, 64)


def test_it_stops_by_itself_when_converged(small_net):
    steps = []
    run(
        gatys(small_net, iterations=500, tolerance=0.05), on_step=lambda s: steps.append(s) and None
    )
    assert 20 <= len(steps) < 300
    last = sum(step.loss for step in steps[-10:])
    before = sum(step.loss for step in steps[-20:-10])
    assert before - last < 0.05 * last


def test_time_limit(small_net):
    began = time.monotonic()
    method = gatys(small_net, iterations=100000, tolerance=0, sizes=[24, 0], time_limit=1.0)
    seen = set()
    out = run(method, on_step=lambda step: seen.add(step.size))
    assert time.monotonic() - began < 5
    assert out.shape == (3, 48, 64)
    assert seen == {(24, 32), (48, 64)}


def test_a_loss_that_is_not_finite_takes_a_smaller_step(small_net, monkeypatch):
    method = gatys(small_net, iterations=20)
    calls = 0
    honest = Moments.of

    def poisoned(features, mask=None):
        nonlocal calls
        calls += 1
        moments = honest(features, mask)
        if calls == 20:
            return Moments(moments.weight, moments.first, moments.second * math.nan)
        return moments

    prepared = method.prepare([painting()])
    prepared.at(48)
    monkeypatch.setattr(Moments, "of", poisoned)
    losses: list[float] = []
    out = method(photo(), prepared, 1.0, lambda step: losses.append(step.loss))
    assert bool(torch.isfinite(out).all())
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


def test_a_hopeless_loss_ends_with_a_warning_and_the_best_picture(small_net):
    method = gatys(small_net, iterations=30, start="content")
    prepared = method.prepare([painting()])
    method.objective = dataclasses.replace(method.objective, style_weight=math.nan)
    with pytest.warns(UserWarning, match="smaller lr"):
        out = method(photo(), prepared)
    torch.testing.assert_close(out, photo())


def test_a_far_too_large_step_is_survived(small_net):
    method = gatys(small_net, optimizer="adam", lr=50.0, iterations=40)
    with pytest.warns(UserWarning, match="smaller lr"):
        out = run(method)
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("color", [0.0, 0.5, 1.0])
def test_single_colour_pictures_do_not_break_it(small_net, color):
    flat = torch.full((3, 40, 40), color)
    assert bool(torch.isfinite(run(gatys(small_net), flat)).all())
    assert bool(torch.isfinite(run(gatys(small_net), photo(), style=[flat])).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0}, "lr"),
        ({"style_weight": -1}, "style_weight is -1: must be 0 or more"),
        ({"content_weight": math.nan}, "content_weight"),
        ({"optimizer": "sgd"}, "lbfgs or adam"),
        ({"style_loss": "cosine"}, "gram, moments, swd or remd"),
        ({"start": "nowhere.png"}, "nowhere.png"),
        ({"style_layers": ["relu9_9"]}, "relu9_9"),
        ({"style_layers": {"relu1_1": 0.0}}, "not all zero"),
        ({"time_limit": -3}, "time_limit is -3: must be above 0"),
        ({"precision": "float8"}, "float32 or bfloat16"),
        ({"device": "tpu9"}, "device"),
    ],
)
def test_options_out_of_range(small_net, options, message):
    with pytest.raises(InputError, match=message):
        gatys(small_net, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [32]}, "48"),
        ({"sizes": [4, 0]}, "16 or more"),
        ({"sizes": [24, 0], "iterations": [1, 2, 3]}, "each of the 2 sizes"),
        ({"iterations": 0}, "positive"),
    ],
)
def test_plans_that_do_not_fit(small_net, options, message):
    with pytest.raises(InputError, match=message):
        run(gatys(small_net, **options))


def test_too_large_for_memory_says_which_size_would_do(small_net, monkeypatch):
    monkeypatch.setattr("impasto.methods.tiling.available_memory", lambda device: 10 * 2**20)
    with pytest.raises(OutOfMemoryError, match=r"GB of memory.*size=\d+"):
        run(gatys(small_net), photo(400, 400))


def test_weights_of_styles_must_fit(small_net):
    method = gatys(small_net)
    with pytest.raises(InputError, match="1 weights for 2 styles"):
        method.prepare([painting(), painting()], [1.0])
    with pytest.raises(InputError, match="negative"):
        method.prepare([painting(), painting()], [1.0, -0.5])


def test_bfloat16_reaches_the_style_too(small_net):
    method = gatys(small_net, iterations=20, precision="bfloat16")
    coarse = run(method)
    judge = gatys(small_net)
    before = distance(judge, photo(), painting())
    assert distance(judge, coarse, painting()) < 0.4 * before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(small_net):
    method = gatys(small_net, device="cuda", precision="auto", iterations=30)
    out = run(method)
    assert out.device.type == "cpu"
    assert distance(method, out, painting()) < 0.5 * distance(method, photo(), painting())


def test_unknown_methods_and_options_are_named():
    with pytest.raises(InputError, match="did you mean 'gatys'"):
        load("gatis")
    with pytest.raises(InputError, match="did you mean 'iterations'"):
        load("gatys", iteration=3)


@pytest.mark.parametrize("height", [48, 96])
@pytest.mark.parametrize("backbone", ["small", "compact", "loud"])
def test_defaults_serve_any_backbone_and_size(small_net, backbone, height):
    if backbone == "loud":  # the same features, a thousand times as large
        for conv in list(small_net.convs.values())[:1]:
            conv.weight.mul_(1000)
            conv.bias.mul_(1000)
    net = "compact" if backbone == "compact" else small_net
    method = Gatys(net, device="cpu", precision="float32", iterations=40)
    content, style = photo(height, height), painting(height, height)
    out = run(method, content, style=[style])
    assert distance(method, out, style) < 0.35 * distance(method, content, style)
    assert float((out - content).abs().mean()) < 0.4


def test_total_variation_smooths(small_net):
    rough, smooth = (run(gatys(small_net, tv_weight=w)) for w in (0.0, 100.0))
    assert float(total_variation(smooth)) < 0.5 * float(total_variation(rough))


def test_content_and_style_are_resampled_from_the_sources(small_net, monkeypatch):
    method = gatys(small_net, sizes=[24, 0], iterations=2)
    contents = []
    honest = Gatys._target
    monkeypatch.setattr(
        Gatys,
        "_target",
        lambda self, s, c, *more: contents.append(c) or honest(self, s, c, *more),
    )
    run(method)
    torch.testing.assert_close(contents[0], resize(photo(), (24, 32)))
    assert torch.equal(contents[1], photo())


def test_share_of_the_work_grows_to_one(small_net):
    shares = []
    method = gatys(small_net, sizes=[24, 0], iterations=5, tolerance=0)
    run(method, on_step=lambda step: shares.append(step.share))
    assert shares == sorted(shares)
    assert shares[4] == pytest.approx(0.2)  # a quarter of the pixels: a fifth of the cost
    assert shares[-1] == pytest.approx(1)


def test_a_backbone_that_is_given_is_left_alone(small_net):
    run(gatys(small_net, precision="bfloat16", iterations=2))
    assert next(small_net.parameters()).dtype == torch.float32


def test_a_loaded_method_takes_paths_and_pillow_images(small_net, photo_file, painting_file):
    method = gatys(small_net, iterations=2)
    out = method(photo_file, method.prepare([painting_file]))
    expected = method(read(photo_file).to_pil(), method.prepare([painting_file]))
    assert torch.equal(out, expected)
