from __future__ import annotations

import pytest
import torch

from impasto.errors import InputError
from impasto.losses import (
    aligned_channels,
    clipped,
    content_loss,
    content_spread,
    covariance_loss,
    gram_loss,
    moments_loss,
    range_loss,
    relaxed_emd,
    sliced_wasserstein,
    total_variation,
)
from impasto.statistics import Moments


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_content_loss_by_hand():
    target = torch.tensor([[[0.0, 2.0], [0.0, 2.0]]])
    assert float(content_loss(target, target)) == 0
    assert float(content_loss(torch.ones_like(target), target)) == pytest.approx(1, abs=1e-6)
    assert float(content_loss(target + 1, target)) == pytest.approx(1, abs=1e-6)
    assert float(content_spread(target)) == pytest.approx(1, abs=1e-6)
    assert float(content_loss(target + 1, target, torch.tensor(4.0))) == 0.25


def test_a_flat_target_is_not_divided_by_nothing():
    flat = torch.full((2, 3, 3), 2.0)
    assert float(content_spread(flat)) == pytest.approx(0.04, abs=1e-6)


def test_gram_loss_by_hand():
    ones = Moments.of(torch.ones(1, 2, 2))
    twos = Moments.of(2 * torch.ones(1, 3, 5))
    assert float(gram_loss(twos, ones)) == pytest.approx(9)  # (4 - 1)^2 / 1^2
    assert float(gram_loss(ones, ones)) == 0


def test_moments_loss_by_hand():
    target = Moments.of(torch.tensor([[[0.0, 2.0]]], dtype=torch.float64))  # mean 1, deviation 1
    other = Moments.of(torch.tensor([[[2.0, 4.0]]], dtype=torch.float64))  # mean 3, deviation 1
    assert float(moments_loss(other, target)) == pytest.approx(2, rel=1e-4)


def test_covariance_loss_by_hand():
    target = Moments.of(torch.tensor([[[0.0, 2.0]], [[1.0, 1.0]]], dtype=torch.float64))
    flat = Moments.of(torch.ones(2, 3, 3, dtype=torch.float64))  # the target's means
    brighter = Moments.of(torch.tensor([[[2.0, 4.0]], [[1.0, 1.0]]], dtype=torch.float64))
    assert float(covariance_loss(target, target)) == 0
    assert float(covariance_loss(flat, target)) == pytest.approx(1)
    assert float(covariance_loss(brighter, target)) == pytest.approx(4)  # 2^2 / 1


@pytest.mark.parametrize("loss", [covariance_loss, gram_loss, moments_loss])
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
    assert torch.autograd.gradcheck(lambda f: covariance_loss(Moments.of(f), style), x)
    assert torch.autograd.gradcheck(total_variation, x)
    assert torch.autograd.gradcheck(range_loss, x)


def test_clipping_some_rows_at_a_time_has_the_gradient_of_clamp(monkeypatch):
    monkeypatch.setattr("impasto.losses.ROWS", 4)
    x = (2 * torch.rand(1, 3, 11, 5, dtype=torch.float64) - 0.5).requires_grad_(True)
    weights = torch.rand_like(x)
    pixels, beyond = clipped(x)
    (ours,) = torch.autograd.grad((weights * pixels).sum() + 3 * beyond, x)
    apart = (x - x.detach().clamp(0, 1)).square().mean()
    (plain,) = torch.autograd.grad((weights * x.clamp(0, 1)).sum() + 3 * apart, x)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(beyond, apart)
    (alone,) = torch.autograd.grad(clipped(x)[0].sum(), x)
    assert torch.equal(alone, ((x >= 0) & (x <= 1)).to(x))


def test_total_variation_and_range():
    ramp = torch.arange(4.0).expand(3, 4, 4)
    assert float(total_variation(ramp)) == 1
    assert float(total_variation(torch.ones(3, 4, 4))) == 0
    assert float(range_loss(torch.rand(3, 4, 4))) == 0
    assert float(range_loss(torch.full((3, 4, 4), 1.5))) == 0.25


def aligned_moments_loss(one: Moments, two: Moments, kept: float) -> torch.Tensor:
    return moments_loss(one, two, aligned_channels(one, two, kept))


def test_aligned_moments_of_all_channels_are_all_moments():
    one, two = (Moments.of(torch.rand(2, 5, 8, 9)) for _ in range(2))
    torch.testing.assert_close(aligned_moments_loss(one, two, 1.0), moments_loss(one, two))


def test_aligned_moments_leave_out_the_channels_that_differ_most():
    style = torch.rand(10, 8, 9)
    content = style.clone()
    content[[2, 7]] += 5.0  # as many as are left out
    assert float(aligned_moments_loss(Moments.of(content), Moments.of(style), 0.8)) < 1e-9
    content[4] *= 1.5
    loss = aligned_moments_loss(Moments.of(content), Moments.of(style), 0.8)
    kept = [0, 1, 3, 4, 5, 6, 8, 9]
    expected = moments_loss(Moments.of(content[kept]), Moments.of(style[kept]))
    torch.testing.assert_close(loss, expected)


def test_aligned_moments_have_a_gradient_in_the_kept_channels_alone():
    features = torch.rand(4, 6, 6, dtype=torch.float64, requires_grad=True)
    target = Moments.of(features.detach() + torch.tensor([0.1, 0.2, 3.0, 0.3])[:, None, None])
    aligned_moments_loss(Moments.of(features), target, 0.75).backward()
    assert features.grad is not None
    moved = features.grad.abs().sum((1, 2)) > 0
    assert moved.tolist() == [True, True, False, True]


@pytest.mark.parametrize("kept", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_a_share_of_channels_that_cannot_be(kept):
    moments = Moments.of(torch.rand(3, 4, 4))
    with pytest.raises(InputError, match="must be a (share|finite number)"):
        aligned_moments_loss(moments, moments, kept)


def directions(channels: int, count: int = 6) -> torch.Tensor:
    return torch.nn.functional.normalize(features(channels, count, seed=9), dim=0)


def test_sliced_wasserstein_by_hand():
    axes = torch.eye(2, dtype=torch.float64)
    ours = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    theirs = torch.tensor([[[2.0, 5.0], [1.0, 3.0]]], dtype=torch.float64)
    # Sorted, 1 and 3 beside 2 and 5, 0 and 0 beside 1 and 3: (1 + 4 + 1 + 9) / 4
    assert float(sliced_wasserstein(ours, theirs, axes)) == pytest.approx(15 / 4)


def test_sliced_wasserstein_compares_sets_whatever_their_order_and_size():
    one, two = features(2, 4, 50), features(2, 4, 50, seed=1)
    axes = directions(4)
    value = sliced_wasserstein(one, two, axes)
    assert value.shape == (2,)
    order = torch.randperm(50)
    torch.testing.assert_close(sliced_wasserstein(one[..., order], two, axes), value)
    assert float(sliced_wasserstein(one, one[..., order], axes).max()) < 1e-20
    twice = one.repeat_interleave(2, -1)  # the same distribution
    assert float(sliced_wasserstein(one, twice, axes).max()) < 0.02 * float(value.min())


def test_sliced_wasserstein_sees_what_gram_matrices_do_not():
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(25)
    peaks = torch.tensor([2.0, 0.0, 0.0, -2.0]).repeat(25) / 2**0.5  # the same two moments
    one, two = signs[None], peaks[None]
    assert float(gram_loss(Moments.of(one[:, None]), Moments.of(two[:, None]))) < 1e-9
    assert float(sliced_wasserstein(one[None], two[None], torch.ones(1, 1))) > 0.1


def test_losses_of_features_have_exact_gradients():
    x, target = features(1, 3, 20).requires_grad_(True), features(1, 3, 11, seed=1)
    axes = directions(3)
    assert torch.autograd.gradcheck(lambda f: sliced_wasserstein(f, target, axes), x)
    pictures = features(1, 3, 4, 5).requires_grad_(True)
    other = features(1, 3, 3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda f: relaxed_emd(f, other), pictures)
