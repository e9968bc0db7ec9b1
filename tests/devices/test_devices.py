"""Every method, training and study, small, on stand-ins for Apple's GPUs and NVIDIA's older cards.

What they do on the devices themselves stands to reason; docs/platforms.md says what was tested.
"""

from __future__ import annotations

import math

import pytest
import torch
from data import painting, photo
from standins import APPLE, Card, Far, no_bfloat16, playing
from test_flows import SMALL as FLOW
from test_ghiasi import SMALL as GHIASI
from test_johnson import NARROW as JOHNSON
from test_manners import EVERY, style_for

import impasto
from impasto.backbones import load_backbone
from impasto.device import arranged
from impasto.images import read, write
from impasto.study import compare as comparing
from impasto.study.compare import available, compare
from impasto.study.leak import leak
from impasto.study.reconstruct import reconstruct
from impasto.study.sweep import sweep
from impasto.training.accelerator import Hardware
from impasto.training.classify import classify
from impasto.training.learn import learn
from impasto.training.methods import TRAINABLE
from impasto.training.train import train

CARDS = {
    "apple": lambda **given: Card("mps", APPLE, **given),
    "turing": lambda **given: Card("cuda", (no_bfloat16,), capability=(7, 5), **given),
}


@pytest.fixture(params=CARDS)
def card(request, monkeypatch):
    if request.param == "apple" and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8):
        pytest.skip("on macOS impasto takes torch from 2.8 on")
    with playing(CARDS[request.param](), monkeypatch) as played:
        yield played


def ran(card) -> bool:
    """Whether the work was done there."""
    return "convolution" in card.operations


@pytest.mark.parametrize("label", EVERY)
def test_every_method_paints_there_as_on_the_cpu(monkeypatch, label):
    name, options = EVERY[label]
    content = photo(50, 67)
    given = {"strength": 0.8, "color": "match-style"}
    options = {"precision": "float32"} | options
    cpu = impasto.stylize(content, style_for(name), name, device="cpu", **given, **options)
    for make in CARDS.values():
        with playing(make(), monkeypatch) as card:
            out = impasto.stylize(content, style_for(name), name, **given, **options).picture.rgb
            assert ran(card)
            assert not isinstance(out, Far)
        torch.testing.assert_close(out, cpu.picture.rgb, atol=5e-3, rtol=0)


@pytest.mark.parametrize("label", ["ghiasi", "wct", "johnson", "artflow"])
def test_brush_mixtures_and_refinement(card, label):
    name, options = EVERY[label]
    styles = ["woodcut", "the_kiss"] if name == "johnson" else [painting(), painting(60, 60, 3)]
    options = {**options, "brush": 12}  # a working size of 42 px
    refine = {} if name == "johnson" else {"refine": 2}
    out = impasto.stylize(photo(70, 94), styles, name, weights=[2, 1], **refine, **options)
    assert ran(card)
    assert out.picture.rgb.isfinite().all()


@pytest.mark.parametrize(("backbone", "optimizer"), [("slim", "adam"), ("resnet18", "lbfgs")])
def test_gatys_with_every_kind_of_backbone(card, backbone, optimizer):
    weights = {} if backbone == "slim" else {"backbone_weights": "random"}
    given = {"iterations": 2, "optimizer": optimizer, "tv_weight": 1.0, "pooling": "average"}
    out = impasto.stylize(photo(), painting(), "gatys", backbone=backbone, **given, **weights)
    assert ran(card)
    assert len(out.losses) == 2
    assert all(map(math.isfinite, out.losses))


TRAININGS = {
    "adain": ("adain", {"widths": [[8], [8], [8], [8]], "feedback": True, "recolored": 0.5}),
    "wct": ("wct", {}),
    "ghiasi": ("ghiasi", GHIASI["residual"]),
    "ghiasi-painter": ("ghiasi", GHIASI["painter"]),
    "johnson": ("johnson", JOHNSON),
    "johnson-bottleneck": ("johnson", {**JOHNSON, "network": "bottleneck"}),
    "artflow": ("artflow", {**FLOW, "recolored": 0.5}),
    "artflow-rbmad": ("artflow", {**FLOW, "operator": "rbmad"}),
    "styleflow": ("styleflow", {**FLOW, "wide": 16}),
    "styleflow-rbmad": ("styleflow", {**FLOW, "wide": 16, "rbmad": "san"}),
}


def test_every_training_is_listed():
    known = set(TRAINABLE)
    assert {name for name, _ in TRAININGS.values()} == known


@pytest.fixture
def training(request, tmp_path):
    name, options = options_of(request.param, tmp_path)
    torch.manual_seed(0)
    return TRAINABLE[name].untrained(**options)


def options_of(label, folder):
    name, options = TRAININGS[label]
    if name == "johnson":
        options = {**options, "styles": [write(folder / "night.png", painting(64, 80))]}
    return name, options


def crops(make, count=4):
    return torch.stack([make(32, 32, seed=seed) for seed in range(count)])


@pytest.mark.parametrize("training", TRAININGS, indirect=True)
def test_every_training_takes_steps_there_and_does_not_wait(card, training):
    device = torch.device(card.kind)
    training.network.train()
    arranged(training.network, device)
    training.to(device)
    contents, styles = crops(photo).to(device), crops(painting).to(device)
    optimizer = torch.optim.Adam(training.network.parameters(), 1e-4)
    for step in range(3):
        if step == 1:
            card.waits.clear()  # the first may look at its data, to begin with them
        terms = training.loss(contents, styles)
        optimizer.zero_grad()
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        optimizer.step()
    waits = list(card.waits)
    assert ran(card)
    assert all(math.isfinite(float(term.detach())) for term in terms.values())
    shown = training.render(contents, styles)
    assert shown.isfinite().all()
    if card.kind == "cuda":
        assert waits == []


def test_the_comparison(card, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "_peak", lambda *given: 1.0)
    write(tmp_path / "c" / "one.png", photo(40, 52))
    write(tmp_path / "s" / "wave.png", painting(48, 60))
    judge = load_backbone("compact")
    names = ["ghiasi", "wct", "gatys"]
    places = (tmp_path / "c", tmp_path / "s", tmp_path / "out")
    means = compare(*places, available(names), judge, size=36)
    assert list(means) == names
    assert ran(card)


def test_the_sweep(card, tmp_path):
    write(tmp_path / "c.png", photo(40, 52))
    write(tmp_path / "s.png", painting(48, 60))
    varied = {"style_weight": [10.0, 100.0]}
    places = (tmp_path / "c.png", tmp_path / "s.png", tmp_path / "out")
    sweep(*places, varied, options={"iterations": 2})
    assert ran(card)
    assert read(tmp_path / "out" / "sheet.png").rgb.isfinite().all()


@pytest.mark.parametrize("kind", ["content", "style"])
def test_reconstructions(card, kind):
    nets = {"compact": load_backbone("compact")}
    sheet = reconstruct(photo(), nets, kind, ["relu1_1", "relu3_1"], size=40, iterations=2)
    assert ran(card)
    assert sheet.isfinite().all()


def test_the_leak(card, tmp_path):
    write(tmp_path / "c.png", photo(40, 52))
    write(tmp_path / "s" / "wave.png", painting(48, 60))
    methods = {"artflow": ("artflow", {"shifts": 1}), "adain": ("adain", {})}
    places = (tmp_path / "c.png", tmp_path / "s", tmp_path / "out")
    curves = leak(*places, methods, size=36, rounds=2)
    assert ran(card)
    assert all(map(math.isfinite, curves["artflow"] + curves["adain"]))


def test_learning_one_painting(card):
    kept = learn(painting(64, 80), size=64, steps=3, mixable=False)
    assert ran(card)
    assert kept.rows.isfinite().all()
    out = impasto.stylize(photo(), kept).picture.rgb
    assert out.isfinite().all()


def test_a_classifier(card, tmp_path):
    for label in ("a", "b"):
        for number in range(3):
            make = photo if label == "a" else painting
            write(tmp_path / "p" / label / f"{number}.png", make(40, 44, seed=number))
    changes = {"size": 32, "short_side": 36, "batch": 2, "attacks": 2, "adversarial": True}
    figures = classify(
        *("resnet18", [tmp_path / "p"], None, tmp_path / "run", tmp_path / "w.safetensors"),
        steps=2,
        changes=changes,
        log=lambda line: None,
    )
    assert ran(card)
    assert set(figures) == {"clean", "attacked"}


def test_the_training_loop_and_going_on_elsewhere(monkeypatch, tmp_path):
    """All of a run on Apple's GPU; its checkpoint goes on on a CPU."""
    for number in range(10):
        write(tmp_path / "photos" / f"{number}.png", photo(40, 50, seed=number))
        write(tmp_path / "paintings" / f"{number}.png", painting(40, 50, seed=number))
    places = (tmp_path / "photos", tmp_path / "paintings", None, tmp_path / "run")
    small = {"size": 32, "short_side": 32, "validation": 0.2, "minimum": 1}
    often = {"batch": 2, "validation": 2, "validate_every": 3, "samples_every": 3, "average": 0.5}
    changes = {f"data.{k}": v for k, v in small.items()}
    changes |= {f"training.{k}": v for k, v in often.items()}
    changes |= {"training.checkpoint_every": 3, "options.widths": [[8], [8], [8], [8]]}
    said: list[str] = []
    given = {"changes": changes, "log": said.append}
    with playing(CARDS["apple"](), monkeypatch) as card:
        train("adain", *places, tmp_path / "m.safetensors", steps=3, **given)
    assert ran(card)
    assert not [wait for wait in card.waits if "adain.py" in wait or "perceptual.py" in wait]
    cpu = Hardware("cpu", "float32")
    train("adain", *places, tmp_path / "n.safetensors", steps=6, resume=True, hardware=cpu, **given)
    assert any("resuming from" in line for line in said)
    out = impasto.stylize(photo(), painting(), "adain", model=tmp_path / "n.safetensors")
    assert out.picture.rgb.isfinite().all()
