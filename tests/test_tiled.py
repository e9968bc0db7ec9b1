"""Gatys' method in tiles: the same losses, gradient and picture as in one piece."""

from __future__ import annotations

import json
import random
import re

import pytest
import torch
from data import painting, photo, refused

import impasto
from impasto.backbones import load_backbone
from impasto.backbones.resnet import ResNet
from impasto.backbones.vgg import VGG
from impasto.images import fit
from impasto.methods.descent import HISTORY, LBFGS, optimizer_of
from impasto.methods.gatys import Gatys
from impasto.methods.level import Level
from impasto.methods.published import PublishedLevel
from impasto.methods.records.gatys import GatysOptions
from impasto.methods.schedule import schedule
from impasto.methods.tiling import Needs, Reach, Tiling, planned
from impasto.watch import watching

MB = 1 << 20


def narrow(name):
    """A backbone of full depth with few channels: its receptive fields are the real ones."""
    torch.manual_seed(0)
    if name == "compact":
        return load_backbone("compact", None)
    if name == "vgg19":
        net = VGG(((4, 4), (8, 8), (8,) * 4, (16,) * 4, (16,)))
    else:
        net = ResNet((2, 2, 2, 2), False, pooling=name.removeprefix("resnet18-"), width=8)
    net.weights = "1"
    return net.eval().requires_grad_(False)


def gatys(net, **options):
    defaults = {"device": "cpu", "precision": "float32", "tv_weight": 0.1, "sizes": [0]}
    return Gatys(net, **(defaults | options))


def detailed(height, width):
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(3))
    return (0.7 * photo(height, width) + 0.3 * noise).clamp(0, 1)


def gradients(method, size, *tilings):
    """Of every tiling the losses, and the gradient of the total."""
    content = detailed(*size)
    losses = method._style_losses(method.prepare([painting()]), photo(), 1.0)
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(4))
    for tiling in tilings:
        kind = PublishedLevel if method.options.absolute else Level
        level = kind(method.objective, method._on_device(content), losses, tiling=tiling)
        x = method._on_device(content[None] + 0.1 * noise).clone().requires_grad_(True)
        values = level.losses(x)
        yield [value.item() for value in values], torch.autograd.grad(values[0], x)[0]


def error(ours, whole):
    return float((ours - whole).norm() / whole.norm())


@pytest.mark.parametrize(
    ("name", "halo", "size"),
    [
        ("compact", 48, (345, 371)),
        ("vgg19", 80, (531, 560)),
        ("resnet18-max", 112, (723, 768)),
        ("resnet18-average", 128, (817, 850)),
    ],
)
def test_the_gradient_is_that_of_the_whole(name, halo, size):
    method = gatys(narrow(name))
    assert method.reach.halo == halo < method.reach.least / 3
    exact = Tiling(size, method.reach.least, method.reach)
    assert len(exact.tiles) == 9
    short = Tiling(size, exact.side, Reach(exact.reach.unit, halo // 3 // 16 * 16))
    whole, tiled, cut = gradients(method, size, None, exact, short)
    assert tiled[0] == pytest.approx(whole[0], rel=1e-5)
    assert error(tiled[1], whole[1]) < 1e-4
    assert error(cut[1], whole[1]) > 1e-4  # it is the halo that makes it exact


@pytest.mark.long
@pytest.mark.parametrize("name", ["vgg19", "resnet50"])
def test_the_gradient_of_a_network_of_full_width(name):
    method = gatys(load_backbone(name, "random"))
    size = tuple(min(700, 3 * method.reach.least) - less for less in (5, 10))
    whole, tiled = gradients(method, size, None, Tiling(size, method.reach.least, method.reach))
    assert tiled[0] == pytest.approx(whole[0], rel=1e-5)
    assert error(tiled[1], whole[1]) < 1e-4


@pytest.mark.parametrize("losses", ["relative", "published", "report5"])
@pytest.mark.parametrize("style_loss", ["gram", "moments"])
def test_every_loss_of_moments(small_net, losses, style_loss):
    if losses != "relative" and style_loss == "moments":
        return
    method = gatys(
        small_net,
        losses=losses,
        style_loss=style_loss,
        style_layers=["relu1_1", "relu3_1"],
        content_layers=["conv2_1", "relu3_1"],
    )
    size = (3 * method.reach.least - 5, 3 * method.reach.least - 10)
    whole, tiled = gradients(method, size, None, Tiling(size, method.reach.least, method.reach))
    assert tiled[0] == pytest.approx(whole[0], rel=1e-4)
    assert error(tiled[1], whole[1]) < 1e-4


@pytest.mark.parametrize("size", [(96, 130), (97, 64), (400, 33), (64, 64)])
def test_cores_are_the_picture(size):
    tiling = Tiling(size, 64, Reach(8, 16))
    seen = torch.zeros(size)
    for tile in tiling.tiles:
        assert max(tile.rows.end - tile.rows.begin, tile.columns.end - tile.columns.begin) <= 64
        for span, length in zip((tile.rows, tile.columns), size, strict=True):
            assert span.begin % 8 == span.first % 8 == 0
            assert span.begin - span.first == min(16, span.begin)
            assert span.last - span.end == min(16, length - span.end)
        seen[tile.rows.begin : tile.rows.end, tile.columns.begin : tile.columns.end] += 1
    assert bool((seen == 1).all())
    assert tiling.largest <= 96**2


def test_moments_of_tiles_are_those_of_the_whole(small_net):
    method = gatys(small_net, style_layers=["relu1_1", "relu2_1"], content_layers=["relu2_1"])
    picture, side = detailed(101, 87), method.reach.least
    whole = method.measure(picture)
    tiled = method.measure(picture, Tiling((101, 87), side, method.reach))
    for tap, moments in whole.items():
        torch.testing.assert_close(tiled[tap].first, moments.first, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(tiled[tap].second, moments.second, rtol=1e-5, atol=1e-6)


OPTIONS = {
    "lbfgs": {},
    "adam": {"optimizer": "adam"},
    "published": {"losses": "published", "content_weight": 1e-5, "tv_weight": 0.0},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_picture_is_that_of_one_piece(small_net, monkeypatch, options, strength):
    """With an optimiser that remembers as much."""
    place = "impasto.methods.level.optimizer_of"
    monkeypatch.setattr(place, lambda *given, sparing: optimizer_of(*given))
    content, style = detailed(120, 101), painting()
    layers = {
        "style_layers": ["relu1_1", "relu2_1"],
        "content_layers": ["relu2_1"],
        "iterations": 5,
    }
    pictures = []
    for tile in (None, 40):
        method = gatys(small_net, tile=tile, **layers, **options)
        pictures.append(method(content, method.prepare([style]), strength))
    assert float((pictures[0] - content).abs().mean()) > 0.02
    torch.testing.assert_close(*pictures, atol=2 / 255, rtol=0)
    assert float((pictures[0] - pictures[1]).abs().mean()) < 2e-4


def test_grey_stays_grey(small_net):
    grey = impasto.color.as_grey(detailed(90, 101))
    method = gatys(
        small_net, tile=40, style_layers=["relu2_1"], content_layers=["relu2_1"], iterations=3
    )
    out = method(grey, method.prepare([impasto.color.as_grey(painting())]))
    assert float((out - out.mean(0)).abs().max()) < 1e-5


def test_the_network_sees_no_more_than_a_tile(small_net):
    sizes = []
    small_net.register_forward_pre_hook(lambda net, args: sizes.append(args[0].shape[-2:]))
    method = gatys(
        small_net, tile=40, style_layers=["relu2_1"], content_layers=["relu2_1"], iterations=2
    )
    style = method.prepare([painting(40, 40)])
    method(detailed(120, 130), style, 0.5)
    assert max(max(size) for size in sizes) <= 40 + 2 * method.reach.halo


# Choice of tiles

NEEDS = Needs(whole=2000, picture=200, tile=1500)
REACH = Reach(16, 48)
SIZES = [(300, 400), (1500, 2000), (3000, 4000)]


def plan_with(free, monkeypatch, choice="auto", needs=NEEDS, device="cpu"):
    monkeypatch.setattr("impasto.methods.tiling.available_memory", lambda device: free * MB)
    plan = planned(choice, SIZES, REACH, needs, torch.device(device))
    return [tiling and tiling.side for tiling in plan]


def test_tiles_are_chosen_by_the_free_memory(monkeypatch):
    assert plan_with(40_000, monkeypatch, device="meta") == [None, None, None]
    assert plan_with(20_000, monkeypatch, device="meta") == [None, None, 1024]
    assert plan_with(40_000, monkeypatch) == [None, 512, 512]  # of the CPU's at most 3.3 GB
    assert plan_with(3_500, monkeypatch) == [None, 384, 384]
    assert plan_with(2_600, monkeypatch) == [None, 256, 256]  # the pictures need nearly all
    assert plan_with(40_000, monkeypatch, None) == [None, None, None]
    assert plan_with(40_000, monkeypatch, 512) == [None, 512, 512]


def test_no_memory_is_said_where_it_is_true(monkeypatch):
    refused(
        lambda: plan_with(2_000, monkeypatch),
        *("4000x3000 pixels need about 2.3 GB", "2.0 GB are free", "use size="),
    )
    said = refused(lambda: plan_with(4_000, monkeypatch, None), "need about 22.4 GB")
    assert said.endswith("or smaller, or tile='auto'")
    untiled = Needs(2000, 200, 1500, "swd compares features")
    said = refused(lambda: plan_with(4_000, monkeypatch, needs=untiled), "need about 22.4 GB")
    assert said.endswith("or smaller; swd compares features")


def test_the_size_that_is_offered_fits(monkeypatch):
    for free in (400, 1_000, 2_000):
        said = refused(lambda free=free: plan_with(free, monkeypatch))
        side = int(said.split("size=")[1].split()[0])
        sizes = [(side, side * 4 // 3)]
        assert planned("auto", sizes, REACH, NEEDS, torch.device("cpu"))


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"tile": 512}])
def test_what_is_offered_for_a_picture_is_not_refused(monkeypatch, options):
    method, rng = gatys(narrow("compact"), **options), random.Random(0)
    offered = 0
    for _ in range(60):
        short, free = round(2 ** rng.uniform(9, 12)), 2 ** rng.uniform(27, 31)
        size = (short, round(short * rng.uniform(1, 4)))
        place = "impasto.methods.tiling.available_memory"
        monkeypatch.setattr(place, lambda device, free=free: free)

        def plan(height, width, method=method):
            sizes = [size for size, _ in schedule(height, width)]
            given = (sizes, method.reach, method._needs(), method.device)
            return planned(method.options.tile, *given)

        try:
            plan(*size)
        except impasto.OutOfMemoryError as error:
            offer = re.search(r"size=(\d+)", str(error))
            if offer:
                plan(*fit(*size, int(offer[1])))
                offered += 1
    assert offered > 3


def test_a_tile_is_a_number_or_a_word():
    declared = GatysOptions.declared()["tile"]
    assert [declared.parse(text) for text in ("auto", "none", "512")] == ["auto", None, 512]
    for text in ("big", "0", "5.5"):
        refused(lambda text=text: declared.parse(text), "--tile")
    assert "auto" in refused(lambda: declared.parse("big"))


def test_a_tile_must_be_larger_than_three_halos():
    net = narrow("resnet18-average")
    refused(lambda: gatys(net, tile=256), "tile is 256", "128 pixels", "tile=400")
    gatys(net, tile=400)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"style_loss": "swd"}, "swd"),
        ({"style_loss": "remd"}, "remd"),
        ({"content_loss": lambda ours, theirs: (ours - theirs).abs().mean()}, "lambda"),
    ],
)
def test_losses_of_features_are_of_the_whole(small_net, monkeypatch, options, name):
    layers = {"style_layers": ["relu2_1"], "content_layers": ["relu2_1"]}
    refused(lambda: gatys(small_net, tile=64, **layers, **options), "tile 64", name, "one piece")
    method = gatys(small_net, **layers, **options)
    monkeypatch.setattr("impasto.methods.tiling.available_memory", lambda device: MB)
    style = method.prepare([painting()])
    refused(lambda: method(photo(400, 400), style), "one piece", name, "size=")


def test_the_plan_is_recorded(small_net, tmp_path, monkeypatch):
    options = {"style_layers": ["relu2_1"], "content_layers": ["relu2_1"], "iterations": 2}
    method = gatys(small_net, tile=40, **options | {"sizes": [32, 0]})
    result = impasto.stylize(detailed(80, 90), painting(), method)
    assert (result.settings["tile"], result.settings["resolved"]["tile"]) == (40, ["none", 40])
    assert result.settings["resolved"]["halo"] == method.reach.halo
    json.dumps(result.settings)
    assert "tile" not in method.settings["resolved"]
    refined = impasto.stylize(photo(), painting(), "ghiasi", refine=1, tile=None, size=48)
    assert refined.settings["refinement"]["resolved"]["tile"] == ["none"]


# Progress


def test_every_tile_tells(small_net):
    method = gatys(
        small_net, tile=40, style_layers=["relu2_1"], content_layers=["relu2_1"], iterations=3
    )
    steps = []
    method(detailed(80, 100), method.prepare([painting()]), 1.0, steps.append)
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert [step.iteration for step in steps if step.iterations] == [1, 2, 3]
    tiles = [step for step in steps if not step.iterations]
    assert len(tiles) >= 3 * 2 * 6
    assert tiles[0].stage == "size 1/1, tile 1/6"
    assert all(step.share < 1 for step in steps[:-1])
    assert steps[-1].iterations == 3


@pytest.mark.parametrize("losses", ["relative", "published"])
@pytest.mark.parametrize("stop", [2, 9, 17])
def test_a_rendering_ends_within_a_tile(small_net, losses, stop):
    method = gatys(
        small_net,
        tile=40,
        style_layers=["relu2_1"],
        content_layers=["relu2_1"],
        iterations=3,
        start="content",
        losses=losses,
    )
    steps, content = [], detailed(80, 100)

    def on_step(step):
        steps.append(step.picture())
        return len(steps) == stop

    with watching(on_step, content) as watch:
        out = method(content, method.prepare([painting()]), 1.0, watch)
    assert (len(steps), watch.stopped) == (stop, "cancelled")
    assert out.shape == content.shape
    torch.testing.assert_close(out, steps[-1])


# Memory of L-BFGS


def test_sparing_lbfgs_is_nearly_as_good():
    matrix = torch.diag(torch.linspace(0.1, 3, 30))
    left = {}
    for sparing in (False, True):
        x, optimizer = torch.ones(1, 1, 5, 6), LBFGS(1.0, sparing)
        for _ in range(60):
            optimizer.step(x, (matrix @ x.flatten()).view_as(x), torch.ones(()))
        left[sparing] = float(x.flatten() @ matrix @ x.flatten())
        assert len(optimizer.pairs) == (HISTORY // 2 if sparing else HISTORY)
        expected = torch.bfloat16 if sparing else torch.float32
        assert {t.dtype for pair in optimizer.pairs for t in pair[:2]} == {expected}
    assert left[True] < max(10 * left[False], 1e-6)
