from __future__ import annotations

import pytest
import torch

from impasto.losses import content_loss, gram_loss, moments_loss, range_loss, total_variation
from impasto.statistics import Moments


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_content_loss_by_hand():
    target = torch.tensor([[[0.0, 2.0], [0.0, 2.0]]])
    assert float(content_loss(target, target)) == 0
    assert float(content_loss(torch.ones_like(target), target)) == pytest.approx(1, abs=1e-6)
    assert float(content_loss(target + 1, target)) == pytest.approx(1, abs=1e-6)


def test_gram_loss_by_hand():
    ones = Moments.of(torch.ones(1, 2, 2))
    twos = Moments.of(2 * torch.ones(1, 3, 5))
    assert float(gram_loss(twos, ones)) == pytest.approx(9)  # (4 - 1)^2 / 1^2
    assert float(gram_loss(ones, ones)) == 0


def test_moments_loss_by_hand():
    target = Moments.of(torch.tensor([[[0.0, 2.0]]], dtype=torch.float64))  # mean 1, deviation 1
    other = Moments.of(torch.tensor([[[2.0, 4.0]]], dtype=torch.float64))  # mean 3, deviation 1
    assert float(moments_loss(other, target)) == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("loss", [gram_loss, moments_loss])
def test_style_losses_ignore_scale_of_features_and_order_of_positions(loss):
    a, b = features(4, 6, 6), features(4, 8, 8, seed=1)
    value = float(loss(Moments.of(a), Moments.of(b)))
    scaled = float(loss(Moments.of(a * 1000), Moments.of(b * 1000)))
    shuffled = a.flatten(1)[:, torch.randperm(36)].reshape(4, 6, 6)
    assert scaled == pytest.approx(value, rel=1e-4)
    assert float(loss(Moments.of(shuffled), Moments.of(b))) == pytest.approx(value)


def test_gradients_against_finite_differences():
    target, style = features(3, 4, 5), Moments.of(features(3, 6, 6, seed=1))
    x = features(3, 4, 5, seed=2).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda f: content_loss(f, target), x)
    assert torch.autograd.gradcheck(lambda f: gram_loss(Moments.of(f), style), x)
    assert torch.autograd.gradcheck(lambda f: moments_loss(Moments.of(f), style), x)
    assert torch.autograd.gradcheck(total_variation, x)
    assert torch.autograd.gradcheck(range_loss, x)


def test_total_variation_and_range():
    ramp = torch.arange(4.0).expand(3, 4, 4)
    assert float(total_variation(ramp)) == 1
    assert float(total_variation(torch.ones(3, 4, 4))) == 0
    assert float(range_loss(torch.rand(3, 4, 4))) == 0
    assert float(range_loss(torch.full((3, 4, 4), 1.5))) == 0.25
