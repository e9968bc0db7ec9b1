from __future__ import annotations

import pytest
import torch

from impasto.errors import InputError
from impasto.operators.adain import normalise
from impasto.operators.san import SAN, style_code
from impasto.statistics import Moments
from impasto.training.methods.styleflow import fit_san


def test_code_is_mean_and_deviation_of_every_tap():
    features = {"a": torch.rand(2, 3, 5, 5), "b": torch.rand(2, 4, 7, 6)}
    code = style_code({tap: Moments.of(f) for tap, f in features.items()})
    assert code.shape == (2, 14)
    torch.testing.assert_close(code[:, 6:10], features["b"].mean((2, 3)))
    own = (features["b"].var((2, 3), correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(code[:, 10:], own)


def test_the_content_is_scaled_and_shifted_alone():
    torch.manual_seed(0)
    x, san = torch.randn(2, 6, 9, 8), SAN(6, code=10)
    out = san(x, torch.rand(1, 10))
    alike = (normalise(out) * normalise(x)).mean((2, 3)).abs()  # a channel may be turned over
    assert float(alike.detach().min()) > 0.98
    assert not torch.allclose(out, x, atol=0.1)


def test_both_pictures_have_a_say():
    torch.manual_seed(0)
    x, code, san = torch.randn(1, 6, 9, 8), torch.rand(1, 10), SAN(6, code=10)
    means = [san(*given).mean((2, 3)) for given in ((x, code), (x, code + 1), (3 * x**2, code))]
    assert not torch.allclose(means[0], means[1], atol=1e-4)
    assert not torch.allclose(means[0], means[2], atol=1e-4)


def test_strength_mixes():
    x, code, san = torch.randn(1, 6, 9, 8), torch.rand(1, 10), SAN(6, code=10)
    assert torch.equal(san(x, code, 0.0), x)
    torch.testing.assert_close(san(x, code, 0.5), (x + san(x, code)) / 2)


def test_gradients_reach_every_parameter():
    san = SAN(6, code=10)
    san(torch.randn(2, 6, 9, 8), torch.rand(2, 10)).square().mean().backward()
    for name, parameter in san.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("options", [(0, 5), (4, 0), (4, 5, 0)])
def test_sizes_that_cannot_be(options):
    with pytest.raises(InputError, match="1 or more"):
        SAN(*options)


def test_codes_are_seen_relative_to_the_first_batch(tmp_path):
    torch.manual_seed(0)
    san = SAN(6, code=10)
    codes = 5 + torch.arange(10.0) * torch.randn(8, 10)
    standard = san.style[0]
    san.train()(torch.randn(8, 6, 4, 4), codes)
    seen = standard(codes)
    assert seen.mean(0).abs().max() < 1e-5
    assert (10**0.5 * seen.std(0, correction=0)[1:] - 1).abs().max() < 0.2
    assert seen[:, 0].abs().max() < 1e-5  # never differs, and is not blown up
    san(torch.randn(8, 6, 4, 4), 3 * codes)
    assert torch.equal(standard(codes), seen)
    other = SAN(6, code=10)
    other.load_state_dict(san.state_dict())
    assert torch.equal(other.style[0](codes), seen)


def test_its_start_foretells_what_the_styles_have():
    torch.manual_seed(0)
    codes, x = torch.rand(200, 10), torch.randn(200, 6, 9, 8)
    answers = codes @ torch.randn(10, 12) + torch.tensor([-3.0] * 6 + [5.0] * 6)
    san = SAN(6, code=10).train()
    fit_san(san, codes, answers)
    out = Moments.of(san(x, codes).detach())
    left = torch.cat([out.mean, out.deviation()], -1) - answers
    assert float(left.square().mean()) < 0.01 * float(answers.var(0).mean())
    assert torch.allclose(san(x, codes[:1]), san(x.flip(0), codes[:1]).flip(0), atol=1e-4)
