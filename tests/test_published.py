"""Published losses against plain restatements, and what becomes of their optimisation."""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch
from data import painting, photo

from impasto import stylize
from impasto.backbones.base import CAFFE
from impasto.backbones.resnet import ResNet
from impasto.backbones.vgg import VGG
from impasto.errors import InputError
from impasto.images import read_settings
from impasto.methods import METHODS, load, record_of
from impasto.methods.gatys import Gatys
from impasto.methods.level import Progress
from impasto.methods.published import LOSSES, PublishedLevel
from impasto.methods.records.gatys import GatysOptions
from impasto.methods.style_loss import ByMoments
from impasto.statistics import Moments
from impasto.study.compare import available

STYLE = {"relu1_1": 0.5, "relu2_1": 2.0}
ALONE = Progress()


def gatys(net="compact", **options):
    defaults = {"iterations": 3, "sizes": [0], "device": "cpu", "precision": "float32"}
    return Gatys(net, **(defaults | options))


def features(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)))


def gram_of(f, per_position):
    channels, height, width = f.shape
    gram = torch.zeros(channels, channels, dtype=torch.float64)
    for i in range(channels):
        for j in range(channels):
            gram[i, j] = (f[i].double() * f[j].double()).sum()
    return gram / (height * width) if per_position else gram


def test_losses_of_gatys_et_al_are_their_formulas():
    f, p, a = features(5, 4, 6), features(5, 4, 6) * 0.7, features(5, 4, 6) ** 2
    content = sum((x - y) ** 2 for x, y in zip(f.flatten(), p.flatten(), strict=True)) / 2
    assert float(LOSSES["published"].content(f, p)) == pytest.approx(float(content), rel=1e-5)
    channels, positions = 5, 24
    error = (gram_of(f, False) - gram_of(a, False)).square().sum()
    style = error / (4 * channels**2 * positions**2)
    ours = LOSSES["published"].style(Moments.of(f), Moments.of(a).normalised())
    assert float(ours) == pytest.approx(float(style), rel=1e-5)


def test_losses_of_report_5_are_its_formulas():
    f, p, a = features(5, 4, 6), features(5, 4, 6) * 0.7, features(5, 3, 7) ** 2
    content = sum((x - y) ** 2 for x, y in zip(f.flatten(), p.flatten(), strict=True))
    assert float(LOSSES["report5"].content(f, p)) == pytest.approx(float(content), rel=1e-5)
    style = (gram_of(f, True) - gram_of(a, True)).square().sum()
    ours = LOSSES["report5"].style(Moments.of(f), Moments.of(a))
    assert float(ours) == pytest.approx(float(style), rel=1e-5)


@pytest.mark.parametrize("losses", ["published", "report5"])
def test_the_total_is_their_weighted_sum(small_net, losses):
    options = {"content_weight": 0.3, "style_weight": 7.0, "tv_weight": 2.0}
    method = gatys(
        small_net, losses=losses, content_layers=["relu3_1"], style_layers=STYLE, **options
    )
    content = photo()[None]
    aim = method.measure(painting())
    style_losses = {tap: ByMoments(LOSSES[losses].style, aim[tap]) for tap in STYLE}
    level = PublishedLevel(method.objective, content, style_losses)
    x = (features(1, *content.shape[1:]) - 0.5) * 2  # beyond 0..1 as a picture: nothing is clipped
    total, content_loss, style_loss = level.losses(x)
    picture = x * level.unit + level.offset
    taps = ["relu3_1", *STYLE]
    f, p = small_net(picture, taps), small_net(content, taps)
    parts = LOSSES[losses]
    expected = parts.content(f["relu3_1"], p["relu3_1"])
    styles = [
        weight * parts.style(Moments.of(f[tap][0]), aim[tap]) for tap, weight in STYLE.items()
    ]
    assert float(content_loss) == pytest.approx(float(expected))
    assert float(style_loss) == pytest.approx(float(sum(styles)), rel=1e-5)
    variation = sum(float(x.diff(dim=side).square().sum()) for side in (-1, -2))
    whole = 0.3 * expected + 7.0 * sum(styles) + 2.0 * variation
    assert float(total) == pytest.approx(float(whole), rel=1e-5)


def test_the_picture_is_in_the_units_of_the_networks_input():
    net = VGG(((4, 4), (4,)), CAFFE)
    method = gatys(net, losses="published", content_layers=["relu1_1"], style_layers=["relu1_1"])
    level = PublishedLevel(method.objective, photo()[None], {})
    assert torch.allclose(level.unit.flatten(), torch.full((3,), 1 / 255))
    red, _, blue = (level.offset.flatten() * 255).tolist()
    assert (round(red, 2), round(blue, 2)) == (123.68, 103.94)


def test_defaults_are_the_reports():
    method = gatys(losses="published")
    settings = method.settings
    assert settings["losses"] == "published"
    resolved = settings["resolved"]
    assert (resolved["content_weight"], resolved["style_weight"]) == (1e-2, 1.0)
    assert (resolved["tolerance"], resolved["lr"]) == (0.0, 1.0)
    assert set(method.style_layers.values()) == {1 / 5}
    assert gatys(losses="report5", optimizer="adam").settings["resolved"]["lr"] == 0.05
    ours = gatys().settings["resolved"]
    assert (ours["content_weight"], ours["style_weight"], ours["tolerance"]) == (1.0, 100.0, 0.01)


def test_published_losses_are_computed_in_float32_unless_told(small_net, monkeypatch):
    monkeypatch.setattr("impasto.device.choice._has_fast_bfloat16", lambda device: True)
    layers = {"content_layers": ["relu3_1"], "style_layers": STYLE}
    for precision, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        method = gatys(small_net, losses="published", precision=precision, **layers)
        assert method.dtype is dtype


def test_weights_of_layers_are_absolute():
    small_resnet = ResNet((1, 1, 1, 1), bottleneck=False, width=8)
    method = gatys(small_resnet, losses="report5", style_layers="paper5", content_layers=["rb2"])
    assert list(method.style_layers.values()) == [1e5, 1e4, 1e3, 1e2]
    ours = gatys(small_resnet, style_layers="paper5", content_layers=["rb2"])
    assert sum(ours.style_layers.values()) == pytest.approx(1)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_loss_falls(optimizer):
    losses = []
    options = {"optimizer": optimizer, "lr": {"lbfgs": 1.0, "adam": 0.05}[optimizer]}
    method = gatys(
        losses="published", content_weight=1e-5, iterations=25, start="content", **options
    )
    out = method(
        photo(), method.prepare([painting()]), on_step=lambda step: losses.append(step.loss)
    )
    assert len(losses) == 25
    assert losses[-1] < 0.5 * losses[0]
    assert out.shape == photo().shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_descent_that_diverges_keeps_the_last_finite_picture(optimizer):
    method = gatys(losses="published", iterations=30, optimizer=optimizer, lr=1e25)
    steps = []
    with pytest.warns(UserWarning, match=r"diverged at iteration \d+: the last finite picture"):
        out = method(photo(), method.prepare([painting()]), on_step=steps.append and None)
    assert bool(out.isfinite().all())
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_large_rates_saturate_pixels():
    """Report 3, Fig. 4: nothing holds the pixels in their range."""

    def saturated(lr):
        method = gatys(losses="published", iterations=15, optimizer="adam", lr=lr, start="content")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = method(photo(), method.prepare([painting()]))
        return float(((out == 0) | (out == 1)).float().mean())

    assert saturated(10.0) > 0.5
    assert saturated(0.01) < 0.1


def test_the_command_ends_well_and_says_it_in_a_line(run, photo_file, painting_file):
    args = ["stylize", photo_file, painting_file, "-m", "gatys", "--losses", "published"]
    args += ["--lr", "1e25", "--iterations", "9", "--device", "cpu", "-o", "out.png"]
    code, out, err = run(*args)
    assert code == 0, err
    (line,) = [line for line in (out + err).splitlines() if "diverged" in line]
    assert "iteration" in line
    assert read_settings("out.png")["losses"] == "published"


def test_on_step_stops_it_and_time_does():
    method = gatys(losses="published", iterations=50)
    steps = []

    def stop(step):
        steps.append(step)
        assert step.picture().shape == photo().shape
        return step.iteration == 4

    method(photo(), method.prepare([painting()]), on_step=stop)
    assert len(steps) == 4
    steps.clear()
    method = gatys(losses="published", iterations=5000, time_limit=0.2)
    method(photo(), method.prepare([painting()]), on_step=steps.append and None)


def test_sizes_go_coarse_to_fine():
    method = gatys(losses="published", sizes=[24, 0], iterations=[3, 2])
    sizes = []
    method(
        photo(),
        method.prepare([painting()]),
        on_step=lambda step: sizes.append(min(step.size)),
    )
    assert sizes == [24, 24, 24, *[min(photo().shape[1:])] * 2]


def test_grey_pictures_stay_grey():
    grey, style = (x.mean(0, keepdim=True).expand_as(x).clone() for x in (photo(), painting()))
    method = gatys(losses="published", iterations=5)
    out = method(grey, method.prepare([style]))
    assert float((out - out.mean(0)).abs().max()) < 1e-3


def test_strength_0_is_the_photograph():
    method = gatys(losses="published", iterations=5, start="content")
    out = method(photo(), method.prepare([painting()]), 0.0)
    assert torch.allclose(out, photo(), atol=2e-3)


def test_adam_takes_its_betas(small_net):
    outs = []
    for losses in ("relative", "published"):
        for betas in ((0.9, 0.9), (0.5, 0.999)):
            method = gatys(
                small_net,
                losses=losses,
                optimizer="adam",
                betas=betas,
                style_layers=STYLE,
                content_layers=["relu3_1"],
            )
            outs.append(method(photo(), method.prepare([painting()])))
            assert method.settings["betas"] == list(betas)
    assert not torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[2], outs[3])


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan)])
def test_betas_out_of_range(betas):
    with pytest.raises(InputError, match="betas"):
        gatys(betas=betas, optimizer="adam")


def test_betas_are_adams_alone():
    with pytest.raises(InputError, match="betas are for optimizer adam, not lbfgs"):
        gatys(betas=(0.9, 0.9))


def test_published_losses_are_of_gram_matrices():
    with pytest.raises(InputError, match="losses published are of Gram matrices"):
        gatys(losses="published", style_loss="moments")


def test_presets_are_methods_under_a_name_of_their_own(run, photo_file, painting_file):
    for name, preset in METHODS["gatys"].presets.items():
        GatysOptions.of(name, preset.options)
        assert record_of(name) is METHODS["gatys"]
    net = VGG(((4, 4), (4, 4), (4,)))
    method = load("gatys-report4", backbone=net, iterations=2, device="cpu")
    assert list(method.style_layers) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    assert (list(method.content_layers), method.start) == (["conv2_2"], "noise")
    args = ["stylize", photo_file, painting_file, "--method", "gatys-report4", "-o", "out.png"]
    layers = ["--content-layers", "relu1_1", "--style-layers", "relu1_1"]
    args += ["--backbone", "compact", "--iterations", "2", "--start", "grey", *layers]
    code, _, err = run(*args)
    assert code == 0, err
    settings = read_settings("out.png")
    assert (settings["method"], settings["losses"]) == ("gatys", "published")
    assert (settings["start"], settings["content_layers"]) == ("grey", {"relu1_1": 1})
    assert "gatys-report4" in run("methods")[1]
    assert "Method gatys" in run("stylize", "--method", "gatys-report4", "--help")[1]
    with pytest.raises(InputError, match="did you mean 'gatys-report4'"):
        load("gatys-repot4")


def test_a_comparison_takes_presets_that_are_named():
    assert not any("report" in label for label in available())
    assert available(["gatys-report3", "adain"])["gatys-report3"][0] == "gatys"


def test_layers_that_the_weights_lack_are_named_with_the_remedy():
    net = VGG(((4,), (4,), (4,), (4,)), CAFFE, name="vgg19")
    layers = ["conv1_1", "conv2_1", "conv3_1", "conv4_1"]
    match = rf"no layer conv5_1: .*: style_layers={re.escape(str(layers))}$"
    with pytest.raises(InputError, match=match):
        load("gatys-report3", backbone=net)
    options = {"backbone": net, "style_layers": layers}
    with pytest.raises(InputError, match=r"no layer conv4_2: .*: content_layers=\['conv4_1'\]$"):
        load("gatys-report3", **options)
    load("gatys-report3", **options, content_layers=["conv4_1"])
    with pytest.raises(InputError, match="layer 'conv' is unknown to vgg19: use one like relu4_1"):
        gatys(net, content_layers=["conv"])


def test_presets_are_methods_for_python_and_for_sweeps(run, tmp_path, photo_file, painting_file):
    options = {"backbone": "compact", "iterations": 1, "device": "cpu"}
    result = stylize(photo(), painting(), "gatys-report4", **options)
    assert (result.settings["method"], result.settings["start"]) == ("gatys", "noise")
    fixed = [text for name, value in options.items() for text in ("--set", f"{name}={value}")]
    args = ["sweep", photo_file, painting_file, "-o", "out", "-m", "gatys-report4", *fixed]
    code, _, err = run(*args, "--vary", "lr=0.5,1", "--size", "32")
    assert code == 0, err
    (first, _) = sorted(tmp_path.glob("out/0*.png"))
    settings = read_settings(first)
    assert (settings["losses"], settings["start"], settings["lr"]) == ("published", "noise", 0.5)


def test_presets_are_the_reports_settings():
    presets = {name: preset.options for name, preset in METHODS["gatys"].presets.items()}
    report3, report5 = presets["gatys-report3"], presets["gatys-report5"]
    assert list(presets) == [f"gatys-report{x}" for x in ("3", "3-highres", "4", "5")]
    expected = ("vgg19", "published", "content+noise", 600, [0], ["conv4_2"])
    names = ("backbone", "losses", "start", "iterations", "sizes", "content_layers")
    assert tuple(map(report3.get, names)) == expected
    assert report3["style_layers"] == [f"conv{block}_1" for block in range(1, 6)]
    assert presets["gatys-report3-highres"]["iterations"] == [600, 100]
    expected = ("resnet50", "report5", "noise", 500, [0], ["rb3"])
    assert tuple(map(report5.get, names)) == expected
    assert report5["style_layers"] == "paper5"
    assert presets["gatys-report4"]["content_weight"] == 1e-4
    # Padding and pooling are those of the networks as trained.
    assert all((each["padding"], each["pooling"]) == ("zero", "max") for each in presets.values())


def test_help_and_the_list_name_the_presets(run):
    for words in (["methods"], ["stylize", "--method", "gatys", "--help"]):
        assert all(name in run(*words)[1] for name in METHODS["gatys"].presets)


def test_a_variant_is_loaded_by_its_label():
    assert load("johnson-bottleneck", device="cpu").settings["network"] == "bottleneck"
