from __future__ import annotations

import psutil
import pytest
import torch

from impasto import device
from impasto.errors import InputError


def test_auto_takes_what_is_there():
    expected = "cuda" if torch.cuda.is_available() else None
    chosen = device.choose_device().type
    assert chosen == (expected or chosen)
    assert device.choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_unknown_and_absent_devices_are_refused(name):
    with pytest.raises(InputError, match="use"):
        device.choose_device(name)


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_follows_the_hardware(monkeypatch, fast, dtype):
    monkeypatch.setattr(device, "_has_fast_bfloat16", lambda d: fast)
    assert device.choose_precision("auto", torch.device("cpu")) == dtype
    assert device.choose_precision("float32", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("abilities", "fast"),
    [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True}, False)],
)
def test_bfloat16_units_are_recognised(monkeypatch, abilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    assert device._has_fast_bfloat16(torch.device("cpu")) is fast


def test_memory_and_description():
    assert device.available_memory(torch.device("cpu")) > 2**20
    assert "CPU" in device.describe(torch.device("cpu"), torch.float32)
    device.tune()


@pytest.mark.parametrize("pixels", [1, 10**8])
def test_sparing_ends_whatever_happens_in_it(pixels):
    with pytest.raises(KeyError), device.sparing(pixels):
        assert torch.rand(300, 1000).sum() > 0
        raise KeyError
    assert torch.rand(300, 1000).sum() > 0


@pytest.mark.skipif(device._glibc() is None, reason="needs glibc")
def test_sparing_gives_freed_blocks_back():
    device.tune()
    process = psutil.Process()
    with device.sparing(10**8):
        before = process.memory_info().rss
        block = torch.ones(50_000_000)
        assert process.memory_info().rss > before + 150e6
        del block
        assert process.memory_info().rss < before + 50e6
