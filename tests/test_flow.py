from __future__ import annotations

import pytest
import torch
from data import painting, photo

from impasto.errors import InputError
from impasto.networks.bottleneck import ResBottleneck
from impasto.networks.flow import ActNorm, Coupling, Flow, InvertibleConv, squeeze, unsqueeze
from impasto.operators.adain import normalise
from impasto.operators.rbmad import RBMAD
from impasto.operators.san import SAN
from impasto.tensors import load_tensors, save_tensors


def flow(blocks: int = 2, steps: int = 3, affine: bool = False, dtype=torch.float32) -> Flow:
    """With random weights everywhere, the couplings' last layers too."""
    torch.manual_seed(0)
    net = Flow(blocks, steps, hidden=16, affine=affine).to(dtype)
    for module in net.modules():
        if isinstance(module, Coupling):
            torch.nn.init.normal_(module.last.weight, std=0.05)
            torch.nn.init.normal_(module.log_scale, std=0.1)
    net(photo(48, 64)[None].to(dtype))  # sets the ActNorms
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("affine", [False, True], ids=["additive", "affine"])
@pytest.mark.parametrize("size", [(8, 8), (16, 40), (52, 12)])
@pytest.mark.parametrize(("blocks", "steps"), [(1, 1), (1, 4), (2, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_the_way_back_gives_the_picture(affine, size, blocks, steps, dtype, near):
    net = flow(blocks, steps, affine, dtype)
    pictures = torch.stack([photo(*size), painting(*size)]).to(dtype)
    if size[0] % net.unit or size[1] % net.unit:
        with pytest.raises(InputError, match=f"multiples of {net.unit}"):
            net(pictures)
        return
    features = net(pictures)
    assert features.shape == (2, 3 * 4**blocks, size[0] >> blocks, size[1] >> blocks)
    unchanged = pictures
    for _ in range(blocks):
        unchanged = squeeze(unchanged)
    assert float((features - unchanged).abs().mean()) > 0.01
    assert float((net.inverse(features) - pictures).abs().max()) < near


def test_squeeze_is_undone():
    x = torch.rand(2, 3, 6, 8)
    assert squeeze(x).shape == (2, 12, 3, 4)
    assert torch.equal(unsqueeze(squeeze(x)), x)


@pytest.mark.parametrize("affine", [False, True])
def test_gradients_reach_every_parameter(affine):
    net = flow(affine=affine).train().requires_grad_(True)
    features = net(photo(16, 16)[None])
    net.inverse(features * 1.1 + 0.1).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_half_precision_of_the_surroundings_does_not_reach_it():
    net, picture = flow(), photo(16, 24)[None]
    with torch.autocast("cpu", torch.bfloat16):
        back = net.inverse(net(picture))
    assert float((back - picture).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", [ActNorm, InvertibleConv])
def test_log_determinant_is_autograds(kind):
    torch.manual_seed(1)
    layer = kind(6).double()
    x = torch.rand(1, 6, 1, 1, dtype=torch.float64)
    layer(torch.randn(2, 6, 5, 5, dtype=torch.float64))
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v.reshape(1, 6, 1, 1)), x)
    expected = jacobian.reshape(6, 6).det().abs().log()
    torch.testing.assert_close(layer.log_determinant(), expected)


def test_actnorm_starts_with_the_first_batch_and_keeps_it():
    layer, first = ActNorm(4), 3 * torch.randn(2, 4, 9, 7) + 5
    out = layer(first)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(4))
    before = layer.scale.detach().clone()
    layer(10 * first)
    assert torch.equal(layer.scale, before)


def test_invertible_convolution_starts_as_a_rotation():
    layer = InvertibleConv(12)
    left, right = layer.factors()
    matrix = (left @ right).detach()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(12), atol=1e-5, rtol=0)


def test_the_kept_inverse_follows_the_weights():
    layer, x = InvertibleConv(6).eval(), torch.rand(1, 6, 4, 4)
    assert layer.inverse(x).requires_grad
    with torch.no_grad():
        torch.testing.assert_close(layer.inverse(layer(x)), x)
        assert not layer.inverse(x).requires_grad
        other = InvertibleConv(6)
        layer.load_state_dict(other.state_dict())
        torch.testing.assert_close(layer.inverse(layer(x)), x)
        layer.train()
        layer.log_scale += 0.3
        layer.eval()
        torch.testing.assert_close(layer.inverse(layer(x)), x)


def test_a_fresh_coupling_changes_nothing_and_halves_alternate():
    x = torch.rand(1, 8, 5, 5)
    assert torch.equal(Coupling(8, 4)(x), x)
    for swap, kept in ((False, slice(0, 4)), (True, slice(4, 8))):
        coupling = Coupling(8, 4, swap)
        torch.nn.init.normal_(coupling.last.weight)
        out = coupling(x)
        assert torch.equal(out[:, kept], x[:, kept])
        assert not torch.allclose(out, x)
    swaps = [m.swap for m in Flow(1, 4, 4).modules() if isinstance(m, Coupling)]
    assert swaps == [False, True, False, True]


def test_state_from_a_file_gives_the_same(tmp_path):
    net, picture = flow(), photo(16, 24)[None]
    save_tensors(tmp_path / "flow.safetensors", net.state_dict(), {})
    again = Flow(2, 3, hidden=16)
    again.load_state_dict(load_tensors(tmp_path / "flow.safetensors")[0])
    assert torch.equal(again.eval()(picture), net(picture))
    assert torch.equal(again.inverse(net(picture)), net.inverse(net(picture)))


def test_blocks_are_met_on_the_way_back():
    net, met = flow(), []
    features = net(photo(16, 24)[None])

    def before(number, x):
        met.append((number, tuple(x.shape[1:])))
        return x

    torch.testing.assert_close(net.inverse(features, before), net.inverse(features))
    assert met == [(1, (48, 4, 6)), (0, (12, 8, 12))]


def test_papers_size():
    count = sum(p.numel() for p in Flow().parameters())
    assert 6.3e6 < count < 6.6e6  # ArtFlow's: 6.46 M


@pytest.mark.parametrize("options", [{"blocks": 0}, {"steps": 0}, {"hidden": 0}])
def test_flows_that_cannot_be(options):
    with pytest.raises(InputError, match="1 or more"):
        Flow(**options)


def operator(channels: int = 8) -> RBMAD:
    torch.manual_seed(0)
    return RBMAD(channels).eval().requires_grad_(False)


def of_pictures(size: tuple[int, int], make=photo) -> torch.Tensor:
    pictures = torch.stack([make(*size, seed=i) for i in (0, 1)])
    return squeeze(pictures)[:, :8]


@pytest.mark.parametrize("sizes", [((32, 48), (32, 48)), ((32, 48), (64, 20))])
@pytest.mark.parametrize("kind", ["pictures", "noise"])
def test_rbmad_does_not_bias_the_content(sizes, kind):
    if kind == "pictures":
        content, style = of_pictures(sizes[0]), of_pictures(sizes[1], painting)
    else:
        content, style = (torch.randn(2, 8, h // 2, w // 2) for h, w in sizes)
    rbmad = operator()
    out = rbmad(content, rbmad.measure(style))
    assert not torch.allclose(out, content, atol=1e-2)
    # Eq. 10, as far as the 1e-5 added to variances lets it.
    near = 2e-3 if kind == "pictures" else 2e-4
    torch.testing.assert_close(normalise(out), normalise(content), atol=near, rtol=0)


def test_rbmad_gives_the_mixtures_moments():
    content, style = of_pictures((32, 48)), of_pictures((40, 40), painting)
    rbmad = operator()
    ours = rbmad.content_mix(rbmad.content(content))[:, :4]
    theirs = rbmad.style_mix(rbmad.style(style))[:, :4]
    out = rbmad(content, rbmad.measure(style))
    for got, parts in ((out[:, :4], ours), (out[:, 4:], theirs)):
        torch.testing.assert_close(got.mean((2, 3)), parts.mean((2, 3)), atol=1e-4, rtol=1e-3)
        deviations = (f.std((2, 3), correction=0) for f in (got, parts))
        torch.testing.assert_close(*deviations, atol=1e-2, rtol=1e-2)


def test_rbmad_of_a_batch_is_that_of_its_pictures():
    content, style = of_pictures((32, 48)), of_pictures((40, 40), painting)
    rbmad = operator()
    together = rbmad(content, rbmad.measure(style))
    for i in range(2):
        alone = rbmad(content[i : i + 1], rbmad.measure(style[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)
    one = rbmad(content, rbmad.measure(style[:1]))  # one style for all
    torch.testing.assert_close(one[:1], together[:1], atol=1e-5, rtol=1e-4)


def test_rbmad_strength_zero_is_the_content():
    content, style = of_pictures((32, 48)), of_pictures((40, 40), painting)
    rbmad = operator()
    assert torch.equal(rbmad(content, rbmad.measure(style), 0.0), content)


def test_rbmad_learns_everywhere():
    rbmad = RBMAD(8)
    out = rbmad(of_pictures((32, 48)), rbmad.measure(of_pictures((40, 40), painting)))
    (out**3).mean().backward()
    for name, parameter in rbmad.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("channels", [0, 1, 7])
def test_rbmad_needs_an_even_number_of_channels(channels):
    with pytest.raises(InputError, match="even"):
        RBMAD(channels)


@pytest.mark.parametrize("size", [(40, 24), (41, 3), (17, 1)])
@pytest.mark.parametrize("affine", [False, True])
def test_strips_are_exact(monkeypatch, size, affine):
    """At the seams and at the picture's edges, to the bit of rounding."""
    torch.manual_seed(0)
    coupling = Coupling(6, hidden=5, affine=affine).double()
    for parameter in coupling.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.rand(2, 6, *size, dtype=torch.float64)
    with torch.no_grad():
        whole = coupling(x)
        monkeypatch.setattr("impasto.networks.flow.STRIP", 1)
        torch.testing.assert_close(coupling(x), whole, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(coupling.inverse(whole), x, atol=1e-10, rtol=1e-10)


def test_a_picture_in_strips_is_the_picture_in_one_piece(monkeypatch):
    torch.manual_seed(0)
    flow = Flow(blocks=2, steps=3, hidden=8).eval()
    for parameter in flow.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.1)
    picture = torch.rand(1, 3, 96, 60)
    with torch.no_grad():
        whole = flow(picture)
        monkeypatch.setattr("impasto.networks.flow.STRIP", 1)
        torch.testing.assert_close(flow(picture), whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(flow.inverse(whole), picture, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("affine", [False, True], ids=["additive", "affine"])
def test_without_gradients_nothing_given_is_changed(affine):
    net, picture = flow(affine=affine), photo(24, 32)[None]
    given = picture.clone()
    features = net(picture)
    kept = features.clone()
    with torch.no_grad():
        assert torch.allclose(net(picture), features, atol=1e-5)
        back = net.inverse(features)
        net.blocks[0][2](kept[:, :12])
    assert torch.equal(picture, given)
    assert torch.equal(features, kept)
    assert torch.allclose(back, picture, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(net.inverse(features, inplace=True), back)


@pytest.mark.parametrize("size", [(41, 7), (16, 30), (2, 9), (1, 5), (30, 1)])
def test_operators_in_strips_are_those_in_one_piece(monkeypatch, size):
    torch.manual_seed(1)
    bottleneck, operator, san = ResBottleneck(6, 6, 2), RBMAD(6), SAN(6, code=10, bottleneck=True)
    content, code = torch.randn(2, 6, *size), torch.randn(1, 10)
    style = operator.measure(torch.randn(1, 6, 9, 8))
    whole = [bottleneck(content), operator(content, style), san(content, code, 0.7)]
    for name in ("networks.bottleneck.LARGE", "networks.bottleneck.STRIP", "operators.san.STRIP"):
        monkeypatch.setattr(f"impasto.{name}", 1)
    with torch.no_grad():
        strips = [bottleneck(content), operator(content, style), san(content, code, 0.7)]
        owned = content.clone()
        assert san(owned, code, 0.7, inplace=True).data_ptr() == owned.data_ptr()
    for one, other in zip(whole, strips, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
