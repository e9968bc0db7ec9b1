from __future__ import annotations

import pytest
import torch

from impasto.errors import InputError
from impasto.networks.bottleneck import ResBottleneck
from impasto.networks.norm import StyledNorm
from impasto.networks.transformer import Transformer, clouds

KINDS = ["residual", "bottleneck"]


def small(kind: str, rows: int = 2, **options) -> Transformer:
    torch.manual_seed(0)
    return Transformer(kind, (6, 8, 10), blocks=2, rows=rows, **options)


def test_sizes_of_the_papers():
    count = {kind: sum(p.numel() for p in Transformer(kind).parameters()) for kind in KINDS}
    # Report 4 counts 1,679,235, with 1,600 biases that the normalisations take away.
    assert count["residual"] == 1_679_235 - 1_600
    assert 0.22e6 < count["bottleneck"] < 0.25e6  # report 1: 0.23 M


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(16, 16), (17, 30), (33, 18), (5, 61)])
def test_any_size_comes_back(kind, size):
    assert small(kind)(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    net = small(kind, expansion=2)
    net(torch.rand(2, 3, 20, 20), torch.tensor([[0.5, 0.5]])).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_a_batch_do_not_touch_each_other(kind):
    net, pictures = small(kind), torch.rand(3, 3, 20, 24)
    for norm in (m for m in net.modules() if isinstance(m, StyledNorm)):
        torch.nn.init.normal_(norm.shift)
    mix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7]])
    alone = [net(picture[None], row[None])[0] for picture, row in zip(pictures, mix, strict=True)]
    torch.testing.assert_close(net(pictures, mix), torch.stack(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_frame(kind):
    # What does not change from left to right comes out so, at the edges too.
    rows = torch.rand(1, 3, 24, 1)
    out = small(kind)(rows.expand(-1, -1, -1, 28))
    torch.testing.assert_close(out, out[..., :1].expand_as(out), atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_noise_gives_a_flat_picture_something_to_make_strokes_from(kind):
    flat = torch.full((2, 3, 33, 40), 0.3)
    plain, noisy = small(kind).eval(), small(kind, noise=True).eval()
    assert float(plain(flat)[0].std((-2, -1)).max()) < 1e-4
    out = noisy(flat)
    assert float(out[0].std((-2, -1)).min()) > 1e-3
    assert torch.equal(out[0], out[1])  # the same in every picture of a batch
    assert torch.equal(out, noisy(flat))  # and in every pass
    noisy.amount = 0.0
    assert float(noisy(flat)[0].std((-2, -1)).max()) < 1e-4
    assert not torch.equal(*noisy.train()(flat))  # but while it learns


def test_clouds_are_smooth_and_of_both_sizes():
    drawn = clouds((8, 65, 130), rng=torch.Generator().manual_seed(0))
    assert drawn.shape == (8, 1, 65, 130)
    assert abs(float(drawn.mean())) < 0.1
    assert 0.8 < float(drawn.std()) < 1.4
    steps = drawn.diff(dim=-1).square().mean()
    assert float(steps) < 0.2 * float(drawn.square().mean())
    blots = torch.nn.functional.avg_pool2d(drawn, 8)  # the small ones are gone, the large are not
    assert float(blots.std()) > 0.5
    assert clouds((2, 3, 1)).shape == (2, 1, 3, 1)


def test_norm_is_its_definition():
    norm, x = StyledNorm(4, rows=2), torch.rand(2, 4, 5, 6)
    torch.nn.init.normal_(norm.scale)
    torch.nn.init.normal_(norm.shift)
    deviation, mean = torch.std_mean(x, (-2, -1), correction=0, keepdim=True)
    for row in range(2):
        mix = torch.nn.functional.one_hot(torch.tensor([row]), 2).float()
        scale, shift = norm.scale[row, :, None, None], norm.shift[row, :, None, None]
        expected = scale * (x - mean) / (deviation.square() + 1e-5).sqrt() + shift
        torch.testing.assert_close(norm(x, mix), expected)
        torch.testing.assert_close(norm(x, mix.expand(2, -1)), expected)
    torch.testing.assert_close(norm(x), norm(x, torch.tensor([[1.0, 0.0]])))


@pytest.mark.parametrize("mix", [[[1.0, 0.0]], [[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]]])
def test_gradients_of_the_norm_match_finite_differences(mix):
    norm, x = StyledNorm(4, rows=2).double(), torch.rand(3, 4, 5, 6, dtype=torch.float64)
    torch.nn.init.normal_(norm.scale)
    mix = torch.tensor(mix, dtype=torch.float64)

    def out(x, scale, shift):
        values = {"scale": scale, "shift": shift}
        return torch.func.functional_call(norm, values, (x, mix))

    scale, shift = (p.detach().clone().requires_grad_() for p in (norm.scale, norm.shift))
    assert torch.autograd.gradcheck(out, (x.requires_grad_(), scale, shift))


def test_channels_last_features_stay_so_and_have_the_same_norm():
    norm, x = StyledNorm(4), torch.rand(2, 4, 5, 6)
    last = norm(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, norm(x))


def test_a_constant_channel_is_normalised_to_its_shift():
    out = StyledNorm(2)(torch.full((1, 2, 40, 40), 0.7))
    torch.testing.assert_close(out, torch.zeros_like(out), atol=2e-2, rtol=0)


def test_the_untrained_picture_is_grey():
    """From noise of full range, learning a painting would begin with unlearning it."""
    out = small("residual")(torch.rand(1, 3, 40, 40)).detach()
    assert float((out - 0.5).abs().max()) < 0.25


def test_bottleneck_adds_where_shapes_agree():
    x = torch.rand(1, 6, 8, 10)
    same = ResBottleneck(6, 6)
    torch.nn.init.zeros_(same.norms[-1].scale)
    torch.testing.assert_close(same(x), x)
    assert ResBottleneck(6, 9, stride=2)(x).shape == (1, 9, 4, 5)
    assert not ResBottleneck(6, 9).adds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "dense"}, "residual or bottleneck"),
        ({"widths": (8, 8)}, "three widths"),
        ({"blocks": 0}, "above 0"),
        ({"widths": (6.5, 8, 8)}, "whole numbers"),
        ({"widths": ("a", 8, 8)}, "whole numbers"),
        ({"expansion": 0}, "above 0"),
        ({"rows": 0}, "above 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Transformer(**options)
