"""RBMAD's initialisation in closed form."""

from __future__ import annotations

import pytest
import torch
from data import mixed, painting, photo, same_moments

from impasto.networks.flow import Coupling, InvertibleConv
from impasto.operators.rbmad import RBMAD, CodeRBMAD
from impasto.statistics import Moments
from impasto.training.methods.mixtures import begin, fit_code, fit_layer
from impasto.training.methods.styleflow import untrained

PICTURES = torch.stack([make(32, 40, seed=i) for make in (photo, painting) for i in range(3)])


def test_any_invertible_matrix_can_be_assigned():
    torch.manual_seed(0)
    matrix, conv = torch.randn(6, 6), InvertibleConv(6)
    x = torch.rand(1, 6, 4, 5)
    conv.eval().inverse(x)
    conv.assign(matrix)
    expected = torch.einsum("dc,bchw->bdhw", matrix, x)
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(conv.inverse(conv(x)), x, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        conv.log_determinant(), torch.linalg.slogdet(matrix).logabsdet, atol=1e-4, rtol=1e-4
    )


def test_it_begins_as_adain_of_half_of_the_channels():
    torch.manual_seed(0)
    content, style = mixed(8, 8)
    rbmad = RBMAD(8)
    begin(rbmad)
    out = rbmad(content, rbmad.measure(style)).detach()
    torch.testing.assert_close(out[:, :4], content[:, :4], atol=1e-4, rtol=1e-4)
    same_moments(out[:, 4:], style[:, 4:])


def test_fitted_to_codes_it_predicts_the_styles_statistics():
    torch.manual_seed(0)
    codes = torch.rand(200, 10)
    means, logs = codes @ torch.randn(10, 8) - 3, 0.3 * codes @ torch.randn(10, 8)
    rbmad = CodeRBMAD(8, code=10).train().requires_grad_(False)
    fit_code(rbmad, codes, torch.cat([means, logs.exp()], -1))
    got = rbmad.measure(codes)
    assert float((got.mean - means[:, 4:]).square().mean()) < 0.01 * float(means.var(0).mean())
    assert float((got.deviation().log() - logs[:, 4:]).square().mean()) < 0.05 * float(
        logs.var(0).mean()
    )


def test_fitted_to_a_layer_it_predicts_the_features():
    torch.manual_seed(0)
    rbmad = RBMAD(8, style_channels=14)
    matrix, shift = torch.randn(8, 14), torch.randn(8)
    rows = torch.randn(500, 14) + 1
    fit_layer(rbmad, rows, rows @ matrix.T + shift)
    style = mixed(14)[0]
    wanted = torch.einsum("dc,bchw->bdhw", matrix, style) + shift[:, None, None]
    got = rbmad.measure(style)
    expected = Moments.of(wanted[:, 4:])
    torch.testing.assert_close(got.mean, expected.mean, atol=0.05, rtol=0.02)
    torch.testing.assert_close(got.deviation(), expected.deviation(), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("kind", ["scm", "layers"])
def test_the_turned_flow_is_still_reversed(kind):
    """And before any training its second half has the channels whose means vary most."""
    torch.manual_seed(0)
    training = untrained(rbmad=kind, steps=2, hidden=12)
    training.start(PICTURES)
    flow = training.model.flow
    couplings = [module for module in flow.modules() if isinstance(module, Coupling)]
    assert not any(bool(coupling.last.weight.any()) for coupling in couplings)
    variances: list[torch.Tensor] = []

    def after(number, x):
        variances.append(x.mean((2, 3)).var(0))
        return x

    with torch.no_grad():
        torch.testing.assert_close(flow.inverse(flow(PICTURES, after)), PICTURES, atol=1e-4, rtol=0)
    for variance in variances:
        first, second = variance.chunk(2)
        assert float(first.sum()) < 0.01 * float(second.sum())
