"""The stand-ins themselves: they refuse what they are there to refuse, and compute as the CPU."""

from __future__ import annotations

import gc

import pytest
import torch
from standins import APPLE, Card, no_bfloat16, playing
from torch import nn
from torch.nn import functional as F

from impasto.errors import lacks_memory


@pytest.fixture
def apple(monkeypatch):
    with playing(Card("mps", APPLE), monkeypatch) as card:
        yield card


def on(x):
    return x.to("mps")


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (lambda: on(torch.ones(2)).double(), "float64"),
        (lambda: on(torch.ones(2, dtype=torch.float64)), "float64"),
        (lambda: torch.zeros(2, dtype=torch.float64, device="mps"), "float64"),
        (lambda: F.interpolate(on(torch.ones(1, 1, 5, 5)), (2, 2), mode="area"), "divisible"),
        (lambda: F.adaptive_avg_pool2d(on(torch.ones(1, 1, 4, 5)), (2, 2)), "divisible"),
        (lambda: F.conv2d(on(torch.ones(1, 2, 5, 5)), on(torch.ones(1)).expand(2, 2, 3, 3)), "mis"),
        (
            lambda: F.conv2d(on(torch.ones(1, 3, 5, 5)), on(torch.ones(3, 2)).T[..., None, None]),
            "mis",
        ),
        (lambda: F.max_pool2d(on(torch.ones(1, 2, 4, 4).to(memory_format=LAST)), 2), "aborts"),
        (lambda: F.avg_pool2d(on(torch.ones(1, 2, 4, 4).to(memory_format=LAST)), 2), "aborts"),
        (lambda: torch.linalg.eigh(on(torch.eye(3))), "not currently implemented"),
        (lambda: on(torch.ones(2)) + torch.ones(2), "same device"),
        (lambda: on(torch.ones(2)).numpy(), "numpy"),
    ],
)
@pytest.mark.usefixtures("apple")
def test_what_apple_refuses(what, error):
    with pytest.raises((RuntimeError, TypeError, NotImplementedError, AssertionError), match=error):
        what()


LAST = torch.channels_last


def test_it_computes_and_differentiates_as_the_cpu(apple):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    x = torch.rand(2, 3, 9, 11)
    here = x.clone().requires_grad_()
    expected = net(here).square().mean()
    expected.backward()
    slopes = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net.to("mps")
    there = x.to("mps").requires_grad_()
    out = net(there).square().mean()
    out.backward()
    assert out.device.type == there.grad.device.type == net[0].weight.device.type == "mps"
    torch.testing.assert_close(out.cpu(), expected)
    torch.testing.assert_close(there.grad.cpu(), here.grad)
    for weight, slope in zip(net.parameters(), slopes, strict=True):
        torch.testing.assert_close(weight.grad.cpu(), slope)


def test_waiting_is_noticed(monkeypatch):
    with playing(Card("cuda"), monkeypatch) as card:
        x = torch.rand(4, device="cuda")
        (x + 1).sum()
        x[:2] = 3
        x.to("cpu", non_blocking=True)
        assert card.waits == []
        float(x.sum()), x.cpu(), x.tolist(), bool((x > 0).all()), x[x > 2], x.nonzero()
        torch.zeros(4).copy_(x), torch.linalg.inv(x.diag() + 1), torch.equal(x, x)
        assert len(card.waits) == 9


def test_a_card_without_bfloat16(monkeypatch):
    with playing(Card("cuda", (no_bfloat16,)), monkeypatch):
        assert torch.zeros(2, device="cuda").dtype == torch.float32
        with pytest.raises(RuntimeError, match="BFloat16"):
            torch.zeros(2, dtype=torch.bfloat16, device="cuda")


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_memory_that_ends_and_comes_back(monkeypatch, kind):
    with playing(Card(kind, memory=10_000), monkeypatch) as card:
        kept = torch.zeros(1500, device=kind)
        with pytest.raises(RuntimeError) as caught:
            torch.zeros(1500, device=kind)
        gc.collect()
        assert lacks_memory(caught.value)
        view = kept.view(30, 50)
        assert card.free() == 4000
        del kept, view
        gc.collect()
        torch.zeros(2400, device=kind)
        assert card.free() >= 400
