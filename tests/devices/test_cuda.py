"""Every method and training on an NVIDIA card itself, beside the CPU."""

from __future__ import annotations

import json
import math

import pytest
import torch
from data import painting, photo
from test_devices import TRAININGS, options_of
from test_manners import EVERY, style_for

import impasto
from impasto.errors import lacks_memory
from impasto.images import write
from impasto.tensors import read_header
from impasto.training.accelerator import Hardware
from impasto.training.learn import learn
from impasto.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA's")


@pytest.mark.parametrize("label", EVERY)
def test_float32_paints_as_on_the_cpu(label):
    name, options = EVERY[label]
    options = {"precision": "float32"} | options
    content, given = photo(90, 121), {"strength": 0.8, "color": "match-style"}
    on_cpu, on_card = (
        impasto.stylize(content, style_for(name), name, device=device, **given, **options)
        for device in ("cpu", "cuda")
    )
    difference = (on_cpu.picture.rgb - on_card.picture.rgb).abs()
    assert on_card.settings["device"] != on_cpu.settings["device"]
    assert float(difference.mean()) < 1 / 255
    if name != "gatys":  # an optimisation magnifies differences
        assert float(difference.max()) < 4 / 255


@pytest.mark.parametrize("label", EVERY)
def test_auto_precision_paints_nearly_the_same(label):
    name, options = EVERY[label]
    on_cpu = impasto.stylize(
        photo(90, 121), style_for(name), name, device="cpu", **{"precision": "float32"} | options
    )
    on_card = impasto.stylize(photo(90, 121), style_for(name), name, device="cuda", **options)
    difference = (on_cpu.picture.rgb - on_card.picture.rgb).abs()
    assert float(difference.mean()) < (12 if name == "wct" else 4) / 255


@pytest.mark.parametrize("label", ["ghiasi", "artflow"])
def test_the_same_card_repeats_itself(label):
    name, options = EVERY[label]
    first, second = (
        impasto.stylize(photo(90, 121), style_for(name), name, device="cuda", **options)
        for _ in range(2)
    )
    assert float((first.picture.rgb - second.picture.rgb).abs().max()) < 1 / 255


def test_a_full_card_is_told_as_such():
    method = impasto.load("adain", device="cuda", precision="float32")
    style = method.prepare([painting()])
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**29 / total)
    try:
        with pytest.raises(Exception, match="memory") as caught:
            method(photo(1500, 2000), style)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert lacks_memory(caught.value)
    assert method(photo(), style).isfinite().all()


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("label", TRAININGS)
def test_every_training_runs_through_and_is_captured(label, graph, tmp_path):
    for number in range(10):
        write(tmp_path / "photos" / f"{number}.png", photo(40, 50, seed=number))
        write(tmp_path / "paintings" / f"{number}.png", painting(40, 50, seed=number))
    name, options = options_of(label, tmp_path)
    styles = {key: options.pop(key) for key in ("styles",) if key in options}
    changes = {"data.size": 32, "data.short_side": 32, "data.minimum": 1, "data.workers": 2}
    changes |= {"training.batch": 2, "training.validation": 2, "training.validate_every": 4}
    changes |= {"training.samples_every": 0, "training.graph": graph, "training.average": 0.5}
    changes |= {"training.log_every": 1} | {f"options.{key}": options[key] for key in options}
    photos, paintings = tmp_path / "photos", None if styles else tmp_path / "paintings"
    train(
        *(name, photos, paintings, None, tmp_path / "run", tmp_path / "m.safetensors"),
        steps=8,
        options=styles,
        changes=changes,
        hardware=Hardware("cuda"),
        log=lambda line: None,
    )
    figures = json.loads(read_header(tmp_path / "m.safetensors")["figures"])
    assert "NVIDIA" in figures["machine"]
    assert all(map(math.isfinite, figures["validation"].values()))


def test_learning_one_painting():
    kept = learn(painting(64, 80), size=64, steps=3, mixable=False)
    out = impasto.stylize(photo(), kept, device="cuda").picture.rgb
    assert out.isfinite().all()
