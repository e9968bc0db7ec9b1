from __future__ import annotations

import pytest
import torch

from impasto.errors import InputError
from impasto.statistics import Moments


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_definitions():
    f = features(5, 7, 9)
    flat = f.flatten(1)
    m = Moments.of(f)
    assert m.channels == 5
    assert float(m.weight) == 63
    torch.testing.assert_close(m.mean, flat.mean(1))
    torch.testing.assert_close(m.gram, flat @ flat.T / 63)
    torch.testing.assert_close(m.covariance, torch.cov(flat, correction=0))
    torch.testing.assert_close(m.deviation(0.0), flat.std(1, correction=0))


@pytest.mark.parametrize("cut", [1, 3, 6])
@pytest.mark.parametrize("dim", [-1, -2])
def test_moments_add_up_over_splits(cut, dim):
    f = features(4, 7, 9)
    parts = f.split([cut, f.shape[dim] - cut], dim)
    total = Moments.of(parts[0]) + Moments.of(parts[1])
    whole = Moments.of(f)
    torch.testing.assert_close(total.first, whole.first)
    torch.testing.assert_close(total.second, whole.second)
    assert float(total.weight) == float(whole.weight)


def test_batch_keeps_its_dimension():
    f = features(3, 4, 5, 6)
    batch = Moments.of(f)
    assert batch.second.shape == (3, 4, 4)
    for i in range(3):
        torch.testing.assert_close(batch.gram[i], Moments.of(f[i]).gram)
        torch.testing.assert_close(batch.deviation()[i], Moments.of(f[i]).deviation())


def test_a_mask_of_ones_and_zeros_is_a_crop():
    f = features(4, 6, 8)
    mask = torch.zeros(6, 8)
    mask[:, :3] = 1
    masked, crop = Moments.of(f, mask), Moments.of(f[..., :3])
    torch.testing.assert_close(masked.mean, crop.mean)
    torch.testing.assert_close(masked.covariance, crop.covariance)


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="no part"):
        Moments.of(features(4, 6, 8), torch.zeros(6, 8))


def test_mixture_is_the_moments_of_pictures_side_by_side():
    a, b = features(3, 4, 6), features(3, 4, 6, seed=1) * 2 + 1
    mixed = Moments.mix([Moments.of(a), Moments.of(b)])
    whole = Moments.of(torch.cat([a, b], -1)).normalised()
    torch.testing.assert_close(mixed.first, whole.first)
    torch.testing.assert_close(mixed.second, whole.second)


def test_mixture_by_weight_does_not_depend_on_the_size_of_pictures():
    a, b = features(3, 4, 6), features(3, 10, 12, seed=1)
    mixed = Moments.mix([Moments.of(a), Moments.of(b)], [3, 1])
    expected = 0.75 * Moments.of(a).gram + 0.25 * Moments.of(b).gram
    torch.testing.assert_close(mixed.gram, expected)


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [(0, None, "at least one"), (2, [1.0], "1 weights for 2"), (2, [0.0, 0.0], "sum to zero")],
)
def test_mixtures_that_make_no_sense(parts, weights, message):
    with pytest.raises(InputError, match=message) as fault:
        Moments.mix([Moments.of(features(3, 4, 4))] * parts, weights)
    assert fault.value.option == ("weights" if weights else None)


def test_tensors_come_back():
    m = Moments.of(features(6, 5, 5).float())
    back = Moments.from_tensors(m.tensors("a"), "a")
    # One half of the symmetric matrix is kept; a product is symmetric to rounding alone.
    torch.testing.assert_close(back.second, m.second)
    assert torch.equal(back.first, m.first)
    assert float(back.weight) == 25
    with pytest.raises(KeyError):
        Moments.from_tensors(m.tensors("a"), "b")


def test_uncorrelated_channels_have_what_they_are_given():
    mean, deviation = torch.randn(2, 5), torch.rand(2, 5) + 0.1
    moments = Moments.uncorrelated(mean, deviation)
    torch.testing.assert_close(moments.mean, mean)
    torch.testing.assert_close(moments.deviation(0), deviation, atol=1e-5, rtol=1e-5)
    off = moments.covariance - torch.diag_embed(deviation.square())
    assert float(off.abs().max()) < 1e-5


def test_bfloat16_features_are_summed_in_float32():
    f = (features(8, 64, 64) + 1).float()
    exact, coarse = Moments.of(f), Moments.of(f.bfloat16())
    assert coarse.second.dtype == torch.float32
    assert float((coarse.gram - exact.gram).norm() / exact.gram.norm()) < 5e-3
    assert float((coarse.mean - exact.mean).norm() / exact.mean.norm()) < 1e-3


def test_gradients_against_finite_differences():
    f = features(3, 4, 5).requires_grad_(True)

    def scalar(x: torch.Tensor) -> torch.Tensor:
        m = Moments.of(x)
        return m.gram.square().sum() + m.deviation().sum() + m.mean.square().sum()

    assert torch.autograd.gradcheck(scalar, f)


def test_deviation_of_a_constant_channel_has_a_finite_gradient():
    f = torch.ones(2, 4, 4, requires_grad=True)
    Moments.of(f).deviation().sum().backward()
    assert f.grad is not None
    assert bool(torch.isfinite(f.grad).all())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_gradients_of_the_sums_match_finite_differences(lead, masked):
    torch.manual_seed(0)
    features = torch.randn(*lead, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(*lead, 4, 5, dtype=torch.float64) if masked else None

    def sums(features):
        moments = Moments.of(features, mask)
        return moments.first, moments.second

    assert torch.autograd.gradcheck(sums, features)
    assert torch.autograd.gradgradcheck(sums, features)


def test_channels_last_features_have_the_same_moments_and_gradients():
    features = torch.randn(2, 6, 7, 9)
    grads = []
    for memory in (torch.contiguous_format, torch.channels_last):
        x = features.clone(memory_format=memory).requires_grad_(True)
        (Moments.of(x).gram.square().sum() + Moments.of(x).mean.sum()).backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_moments_of_a_linear_map():
    torch.manual_seed(0)
    features, matrix = torch.rand(2, 4, 5, 6), torch.rand(3, 4)
    mapped = Moments.of(features).mapped(matrix)
    whole = Moments.of(torch.einsum("dc,bchw->bdhw", matrix, features))
    for one, other in zip(vars(mapped).values(), vars(whole).values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-5)
