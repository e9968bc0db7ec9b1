"""impasto is a guest in the process: it leaves it as it was, and says what is wrong in a line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from data import painting, photo
from test_stored import CPU, TAKERS

import impasto
from impasto import device
from impasto.device import process
from impasto.errors import DeviceError, InputError
from impasto.styles import LearntStyle

EVERY = {
    **TAKERS,
    "johnson": ("johnson", {}),
    "johnson-bottleneck": ("johnson", {"network": "bottleneck"}),
    "gatys-noise": ("gatys", {"iterations": 2, "start": "noise"}),
    "gatys-random": ("gatys", {"iterations": 2, "backbone": "slim", "backbone_weights": "random"}),
}


PHOTO, PAINTING = photo(), painting()


def style_for(name):
    return "woodcut" if name == "johnson" else PAINTING


def stylized(label):
    name, options = EVERY[label]
    return impasto.stylize(PHOTO, style_for(name), name, **CPU, **options).picture.rgb


@pytest.mark.parametrize("label", EVERY)
def test_random_numbers_are_left_alone(label):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = stylized(label)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(stylized(label), one)


@pytest.mark.parametrize("label", EVERY)
def test_the_default_data_type_does_not_matter(label):
    expected = stylized(label)
    torch.set_default_dtype(torch.float64)
    try:
        out = stylized(label)
    finally:
        torch.set_default_dtype(torch.float32)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("label", EVERY)
def test_inference_mode_is_as_no_grad(label):
    name, options = EVERY[label]
    with torch.no_grad():
        expected = stylized(label)
    with torch.inference_mode():
        out = stylized(label)
        method = impasto.load(name, **CPU, **options)
        style = method.prepare([style_for(name)])
        again = method(PHOTO, style, strength=0.5)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    outside = method(PHOTO, style, strength=0.5)
    torch.testing.assert_close(again, outside, atol=1e-5, rtol=0)


def test_constructors_and_rendering_do_not_tune_the_process():
    code = """
import ctypes, torch, impasto
from impasto.device import memory
class Refusing:
    def __getattr__(self, name): raise AssertionError(name)
memory._glibc = lambda: Refusing()
threads = torch.get_num_threads()
photo, painting = torch.rand(3, 40, 50), torch.rand(3, 40, 50)
for name in impasto.methods():
    options = {"iterations": 2} if name == "gatys" else {}
    given = "woodcut" if name == "johnson" else painting
    impasto.stylize(photo, given, name, device="cpu", **options)
tiny = torch.tensor([1e-310], dtype=torch.float64)
assert float(tiny * 0.5) > 0, "denormals are flushed"
assert torch.get_num_threads() == threads
memory._glibc = lambda: None
impasto.tune()
assert float(tiny * 0.5) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)


FORKING = """
import multiprocessing, torch, impasto
torch.set_num_threads(2)
photo, painting = torch.rand(3, 96, 128), torch.rand(3, 96, 128)
name, options = NAME
method = impasto.load(name, device="cpu", **options)
style = method.prepare([painting])
def work(way):
    if way == "anew":
        return float(impasto.stylize(photo, painting, name, device="cpu", **options).array.mean())
    return float(method(photo, style).mean())
if __name__ == "__main__":
    work("anew"), work("again")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map_async(work, ["anew", "again"]).get(60))
"""


@pytest.mark.linux("a fork that can compute")
@pytest.mark.parametrize("label", ["ghiasi", "adain", "gatys", "artflow"])
def test_a_forked_worker_renders(label):
    code = FORKING.replace("NAME", repr(TAKERS[label]))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_a_fork_that_cannot_compute_says_so(monkeypatch):
    monkeypatch.setattr(process, "_forked", True)
    with pytest.raises(DeviceError, match="spawn"):
        device.check_process(torch.device("cuda"))
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DeviceError, match="spawn"):
        device.check_process()


# Misuse from Python.


@pytest.mark.parametrize("name", impasto.methods())
def test_something_else_where_a_prepared_style_belongs(name, painting_file):
    method = impasto.load(name, **({"iterations": 1} if name == "gatys" else {}), **CPU)
    for wrong in (painting_file, str(painting_file), painting(), None, LearntStyle("x", None)):
        with pytest.raises(InputError, match="where a prepared style belongs"):
            method(photo(), wrong)


@pytest.mark.parametrize("name", impasto.methods())
def test_one_style_where_a_list_belongs(name, painting_file):
    method = impasto.load(name, **CPU)
    for wrong in (painting_file, str(painting_file), painting(), painting().numpy(), None, 3):
        with pytest.raises(InputError, match="where a list belongs"):
            method.prepare(wrong)


@pytest.mark.parametrize("name", sorted(impasto.methods().keys() - {"johnson"}))
def test_a_style_prepared_by_another_method(name):
    method = impasto.load(name, **CPU)
    others = sorted(impasto.methods().keys() - {name})
    # What sees all that this one sees, by the same features: that style serves.
    serving = {("adain", "styleflow"), ("gatys", "ghiasi"), ("ghiasi", "gatys")}
    others = [other for other in others if (name, other) not in serving]
    for other in others:
        style = impasto.load(other, **CPU).prepare([style_for(other)])
        with pytest.raises(InputError, match="prepare"):
            method(photo(), style)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "2,1"}, "give a list of numbers"),
        ({"weights": 2}, "give a list of numbers"),
        ({"weights": ["a"]}, "must be a number"),
        ({"strength": "0.5"}, "must be a number"),
        ({"strength": float("nan")}, "is nan: must be a finite number"),
        ({"strength": float("inf")}, "is inf: must be a finite number"),
        ({"weights": [float("nan")]}, "is nan: must be a finite number"),
        ({"style_scale": float("nan")}, "is nan: must be a finite number"),
        ({"style": 3}, "cannot read a picture from a int"),
        ({"style": []}, "name at least one"),
        ({"content": None}, "cannot read a picture"),
        ({"method": 3}, "method"),
        ({"method": "gatys", "style_weight": float("inf")}, "is inf: must be a finite number"),
        ({"method": "gatys", "lr": "x"}, "must be a number"),
        (
            {"method": "gatys", "style_layers": {"relu1_1": float("nan")}},
            "relu1_1 is nan: must be a finite number",
        ),
        ({"method": "johnson", "style": "woodcut", "noise": float("nan")}, "noise is nan"),
    ],
)
def test_wrong_values_are_refused_for_what_they_are(given, message):
    sources = {"content": photo(), "style": painting(), "method": "adain", **given}
    with pytest.raises(InputError, match=message):
        impasto.stylize(**sources)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "64", 40.5, True, -1])
@pytest.mark.parametrize("name", ["size", "max_pixels", "refine", "iterations", "seed", "sizes"])
def test_whole_numbers_are_whole_numbers(name, wrong):
    options = {} if name in ("size", "max_pixels", "refine") else {"method": "gatys"}
    given = [wrong] if name == "sizes" else wrong
    with pytest.raises(InputError, match=rf"{name.replace('_', '.')}.* is |sizes|iterations"):
        impasto.stylize(photo(), painting(), **options, **{name: given})


CONTENT = """
import multiprocessing, torch, impasto
torch.set_num_threads(2)
large = (torch.rand(1500, 1500, 3) * 255).byte().numpy()
small = torch.rand(3, 96, 128)
method = impasto.load("adain", device="cpu")
style = method.prepare([small])
def work(way):
    if way == "read": return len(method.prepare([large]).parts)
    if way == "at": return len(method.prepare([small]).at(64))
    return float(impasto.stylize(small, large, method).picture.rgb.mean())
if __name__ == "__main__":
    method(small, style)
    for way in ("read", "at", "stylize"):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            print(pool.map_async(work, [way]).get(60))
"""


@pytest.mark.linux("a fork that can compute")
def test_a_forked_worker_does_whatever_comes_first():
    subprocess.run([sys.executable, "-c", CONTENT], check=True, timeout=200)


@pytest.mark.parametrize("label", EVERY)
def test_the_default_device_does_not_matter(label, tmp_path):
    name, options = EVERY[label]
    expected = stylized(label)
    torch.set_default_device("meta")  # on which nothing can be computed
    try:
        out = stylized(label)
        if name != "johnson":
            stored = impasto.load(name, **CPU, **options).prepare([PAINTING]).store("x")
            stored.save(tmp_path / "x.style")
            again = impasto.stylize(PHOTO, tmp_path / "x.style", name, **CPU, **options)
            assert again.picture.rgb.device.type == "cpu"
    finally:
        torch.set_default_device(None)
        # Which torch 2.6 keeps as a device of no kind.
        vars(torch._GLOBAL_DEVICE_CONTEXT).pop("device_context", None)
    assert out.device.type == "cpu"
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("label", ["adain", "wct", "gatys", "johnson", "artflow", "styleflow"])
def test_autocast_of_the_host_is_left_outside(label):
    expected = stylized(label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = stylized(label)
        assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)
