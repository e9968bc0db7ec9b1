from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

import pytest
import torch
from data import painting, photo

from impasto.backbones import load_backbone
from impasto.errors import InputError
from impasto.finish.degrid import degrid
from impasto.images import fit, read, resize
from impasto.losses import palette_loss, relaxed_emd
from impasto.methods import load
from impasto.methods.ghiasi import TAPS, Ghiasi, GhiasiConfig, GhiasiModel, style_code
from impasto.networks.painter import Painter
from impasto.networks.transformer import Transformer
from impasto.paintings import store_style
from impasto.samples import draw, photograph
from impasto.study.metrics import color_distance, grid_energy, paint_share
from impasto.tensors import load_tensors, save_tensors
from impasto.training.learn import learn
from impasto.training.methods.ghiasi import untrained

CPU = {"device": "cpu", "precision": "float32"}
SMALL = {
    "residual": {"network": "residual", "widths": [4, 6, 8], "blocks": 1, "rows": 5},
    "painter": {"network": "painter", "widths": [4, 6, 8, 12], "blocks": 1, "rows": 5},
}
KINDS = list(SMALL)


def drawn(kind: str, **options):
    """A training whose rows tell paintings apart."""
    torch.manual_seed(0)
    training = untrained(**{**SMALL[kind], **options})
    for norm in training.network.norms():
        torch.nn.init.normal_(norm.scale[1:], 0, 0.5)
        torch.nn.init.normal_(norm.shift[1:], 0, 0.5)
    training.start(torch.stack([photo(seed=i) for i in range(4)]))
    return training


@pytest.fixture(scope="module", params=KINDS)
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("ghiasi") / f"{request.param}.safetensors"
    drawn(request.param).save(path, {"steps": 0})
    return path


@pytest.fixture
def method(file):
    method = Ghiasi(file, **CPU)
    method.file = file
    return method


@pytest.mark.parametrize("size", [(16, 16), (33, 50), (48, 17), (23, 40)])
def test_any_size_comes_back(method, size):
    out = method(photo(*size), method.prepare([painting()]))
    assert out.shape == (3, *size)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_the_kind_is_that_of_the_file(method, file):
    assert method.settings["resolved"]["network"] == file.stem
    network = method.model.network.painter
    assert isinstance(network, {"residual": Transformer, "painter": Painter}[file.stem])


def test_the_painting_decides(method):
    one, other = (method(photo(), method.prepare([p])) for p in (painting(), painting(seed=9)))
    assert float((one - other).abs().mean()) > 1e-3


def test_strength_zero_is_the_photograph_and_its_own_rows_lie_there(method):
    style = method.prepare([painting()])
    torch.testing.assert_close(method(photo(), style, 0.0), photo(), atol=1e-5, rtol=0)
    steps = [method(photo(), style, s) for s in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)]
    for before, after in itertools.pairwise(steps):
        assert float((before - after).abs().mean()) > 1e-4


def test_styles_mix_by_their_rows(method):
    first, second = painting(), painting(seed=9)
    one, other, both = (
        method.prepare(s, w)
        for s, w in (([first], None), ([second], None), ([first, second], [3, 1]))
    )
    rows = [method.rows((48, 64), style) for style in (one, other, both)]
    torch.testing.assert_close(rows[2], 0.75 * rows[0] + 0.25 * rows[1])
    assert not torch.allclose(rows[0], rows[1])
    same = method(photo(), method.prepare([first, second], [1, 0]))
    torch.testing.assert_close(same, method(photo(), one), atol=1e-5, rtol=0)


def test_row_zero_counts_in_full_for_every_style(method):
    rows = method.rows((48, 64), method.prepare([painting(), painting(seed=2)]))
    assert rows.shape == (1, 5)
    assert float(rows[0, 0]) == pytest.approx(1)


def test_the_code_follows_from_what_gatys_stores(method):
    stored = store_style([painting(96, 120)], "p", methods=["gatys"], device="cpu")
    by_file = method(photo(64, 80), method.prepare([stored]))
    direct = method(photo(64, 80), method.prepare([painting(96, 120)]))
    torch.testing.assert_close(by_file, direct, atol=1e-3, rtol=0)


def test_a_code_is_the_means_and_deviations(method):
    net = load_backbone("compact")
    features = net(painting()[None], TAPS)
    expected = torch.cat(
        [
            part
            for tap in TAPS
            for part in (features[tap].mean((-2, -1)), features[tap].std((-2, -1), correction=0))
        ],
        1,
    ).log1p()
    code = style_code(method.model.measure(painting()[None]))
    torch.testing.assert_close(code, expected, atol=1e-2, rtol=1e-3)


def test_codes_are_looked_at_in_float32_whatever_paints(file):
    coarse = Ghiasi(file, device="cpu", precision="bfloat16")
    fine = Ghiasi(file, **CPU)
    rows = [m.rows((48, 64), m.prepare([painting()])) for m in (coarse, fine)]
    torch.testing.assert_close(*rows)
    assert coarse.model.network.painter.last.weight.dtype == torch.bfloat16


def test_noise_is_an_option_and_an_input(file, method):
    style = method.prepare([painting()])
    plain, strong = (Ghiasi(file, noise=n, **CPU)(photo(), style) for n in (0.0, 3.0))
    assert float((plain - strong).abs().mean()) > 1e-4
    with pytest.raises(InputError, match="noise is -1"):
        Ghiasi(file, noise=-1.0)
    network, mix = method.model.network, method.rows((48, 64), style)
    height, width = photo().shape[-2:]
    given = network.painter.noise_at(height, width)
    usual = network(photo()[None], mix)
    assert torch.equal(network(photo()[None], mix, given), usual)
    assert not torch.equal(network(photo()[None], mix, 2 * given + 1), usual)


@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_both_networks_can_be_exported(method, size):
    network = method.model.network
    inputs = (photo(*size)[None], torch.rand(1, 5), network.painter.noise_at(*size))
    with torch.no_grad():
        exported = torch.export.export(network, inputs, strict=False).module()
        others = (photo(*size, seed=4)[None], torch.rand(1, 5), inputs[2] + 1)
        torch.testing.assert_close(exported(*others), network(*others), atol=1e-5, rtol=1e-4)


def test_the_grid_goes_where_the_photograph_is_flat(file):
    sky = torch.full((3, 64, 96), 0.5) + 0.1 * torch.linspace(-1, 1, 96)
    style = Ghiasi(file, **CPU).prepare([painting()])
    plain, clean = (Ghiasi(file, degrid=d, **CPU)(sky, style) for d in (False, True))
    torch.testing.assert_close(clean, degrid(plain[None], sky[None])[0].clamp(0, 1))
    assert grid_energy(clean) <= grid_energy(plain)


def test_a_painting_is_looked_at_once_and_at_512_at_most(method, monkeypatch):
    sizes = []
    measure = type(method).measure

    def spied(self, picture):
        sizes.append(min(picture.shape[-2:]))
        return measure(self, picture)

    monkeypatch.setattr(type(method), "measure", spied)
    style = method.prepare([painting(700, 720)])
    for short in (640, 600, 48):
        method.rows((short, short + 20), style)
    assert sizes == [512, 48]
    half = Ghiasi(style_scale=0.5, **CPU)
    half.rows((640, 640), half.prepare([painting(700, 720)]))
    assert sizes[2:] == [256]


def test_threads_do_not_meet(method, tmp_path):
    """Plain and learnt styles at once, by one method."""
    learnt = [learn(painting(64, 80, n), steps=0, size=64, model=Path(method.file)) for n in (1, 2)]
    styles = [method.prepare([style]) for style in (painting(), *learnt)]
    expected = [method(photo(), style, 0.7) for style in styles]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            made = list(pool.map(lambda style: method(photo(), style, 0.7), styles * 3))
            for out, alone in zip(made, expected * 3, strict=True):
                torch.testing.assert_close(out, alone, atol=1e-5, rtol=0)


def test_a_model_of_another_encoder_or_method_is_refused(file, tmp_path):
    tensors, header = load_tensors(file)
    save_tensors(tmp_path / "a.safetensors", tensors, {**header, "encoder": "compact:other"})
    with pytest.raises(InputError, match=r"a\.safetensors: made for another encoder"):
        Ghiasi(tmp_path / "a.safetensors")
    save_tensors(tmp_path / "b.safetensors", tensors, {**header, "method": "adain"})
    with pytest.raises(InputError, match=r"b\.safetensors: not a model made by .*train ghiasi"):
        Ghiasi(tmp_path / "b.safetensors")


def test_impossible_networks_are_refused():
    for options, fault in (
        ({"network": "mosaic"}, "network 'mosaic' is unknown: use residual or painter"),
        ({"rows": 1}, "rows = 1: must be 2 or more"),
        ({"network": "painter", "widths": [3, 4, 5]}, "give four widths"),
        ({"widths": [3, 4]}, "give three widths"),
        ({"scales": 0}, "scales = 0: must be 1 to 4"),
        ({"again": 2.0}, "again"),
        ({"recolored": -1.0}, "recolored"),
    ):
        with pytest.raises(InputError, match=fault):
            untrained(**options)


def test_a_training_goes_on_from_a_model(tmp_path):
    training = drawn("painter")
    training.save(tmp_path / "m.safetensors", {})
    on = untrained(**SMALL["painter"], init=tmp_path / "m.safetensors")
    for (name, one), other in zip(
        training.network.state_dict().items(), on.network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3, msg=name)
    mean = on.network.predictor.mean.clone()
    on.start(torch.rand(4, 3, 64, 64))  # as an unbroken training: codes are spread as they were
    assert torch.equal(on.network.predictor.mean, mean)
    with pytest.raises(InputError, match=r"m\.safetensors: holds another network"):
        untrained(**SMALL["residual"], init=tmp_path / "m.safetensors")


TERMS = ["content", "style", "strokes", "color", "palette", "tv", "range"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", [0.0, 0.5])
def test_it_learns(kind, again):
    torch.manual_seed(0)
    training = untrained(**SMALL[kind], again=again, recolored=0.0, full=1.0)
    contents = torch.stack([photo(64, 64, seed=i) for i in range(4)])
    styles = torch.stack([painting(64, 64, seed=i) for i in range(4)])
    training.start(torch.cat([contents, styles]))
    optimizer = torch.optim.Adam(training.network.parameters(), 5e-3)

    @torch.no_grad()
    def total() -> float:
        torch.manual_seed(1)
        training.network.eval()
        terms = training.loss(contents, styles)
        training.network.train()
        assert list(terms) == TERMS
        assert all(bool(term.isfinite()) and float(term) >= 0 for term in terms.values())
        return float(torch.stack(list(terms.values())).sum())

    before = total()
    for _ in range(30):
        optimizer.zero_grad()
        torch.stack(list(training.loss(contents, styles).values())).sum().backward()
        optimizer.step()
    assert total() < 0.8 * before
    for name, parameter in training.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    for net in (training.judge, training.model.encoder):
        assert not any(p.requires_grad for p in net.parameters())


def test_a_second_pass_sees_what_the_first_has_made():
    training = drawn("painter", again=0.5)
    training.network.eval()
    contents = torch.stack([photo(64, 64, seed=i) for i in range(6)])
    mix = training.model.rows(training.model.measure(contents))
    counts = []
    for seed in range(24):
        torch.manual_seed(seed)
        few, mixed = contents[seed % 3 :], mix[seed % 3 :]
        means = (training._first_pass(few, mixed) - few).abs().mean((1, 2, 3))
        assert all(float(mean) == 0 or float(mean) > 1e-2 for mean in means)
        counts.append(int((means > 0).sum()))
    assert set(counts[::3]) == {3}  # of 6
    assert max(counts) == 3
    assert 2 <= fmean(counts[1::3]) <= 3  # half of 5, on average
    assert torch.equal(drawn("painter")._first_pass(contents, mix), contents)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_in_mixed_precision_too(kind):
    training = drawn(kind, again=0.5)
    contents = torch.stack([photo(64, 64, seed=i) for i in range(2)])
    with torch.autocast("cpu", torch.bfloat16):
        terms = training.loss(contents, painting(64, 64)[None].expand(2, -1, -1, -1))
        total = torch.stack([term.float() for term in terms.values()]).sum()
    total.backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in training.network.parameters()
    )
    with torch.autocast("cpu", torch.bfloat16):
        rows = training.model.rows(training.model.measure(contents))
    assert rows.dtype == torch.float32


def test_crops_too_small_for_the_scales_are_refused():
    training = drawn("painter", scales=3)
    with pytest.raises(InputError, match="crops of 24 px are too small for 3 scales: they need 32"):
        training.loss(torch.rand(1, 3, 24, 24), torch.rand(1, 3, 24, 24))
    assert all(t.isfinite() for t in training.loss(*torch.rand(2, 1, 3, 32, 32)).values())


def test_at_strength_zero_the_photograph_itself_is_aimed_at(monkeypatch):
    training = drawn("residual", recolored=0.0)
    contents, styles = photo(64, 64)[None], painting(64, 64)[None]
    monkeypatch.setattr(type(training.model), "__call__", lambda self, c, *a: c.clone())
    terms = training.loss_at(contents, styles, torch.zeros(1))
    assert all(float(terms[name]) < 1e-4 for name in TERMS if name != "tv")
    full = training.loss_at(contents, styles, torch.ones(1))
    assert float(full["content"]) < 1e-6
    assert float(full["strokes"]) == pytest.approx(training.stroke_weight, rel=1e-3)
    assert all(float(full[name]) > 0.1 for name in ("style", "color", "palette"))


def test_the_relaxed_distance():
    one = torch.randn(2, 5, 3, 4)
    assert torch.allclose(relaxed_emd(one, one), torch.zeros(2), atol=1e-6)
    shuffled = one.flatten(2)[:, :, torch.randperm(12)].reshape(2, 5, 4, 3)
    assert torch.allclose(relaxed_emd(3 * one, shuffled), torch.zeros(2), atol=1e-6)
    # Every vector opposite to its nearest: 2; at right angles: 1.
    up, right = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    up[0, 0], right[0, 1] = 1, 1
    assert float(relaxed_emd(up, -up)) == pytest.approx(2)
    assert float(relaxed_emd(up, right)) == pytest.approx(1)
    # What the painting has and the picture lacks counts, and the other way round.
    both = torch.cat([up, right], -1)
    assert float(relaxed_emd(up, both)) == float(relaxed_emd(both, up)) == pytest.approx(0.5)
    far = torch.randn(1, 3, 4, 4, requires_grad=True)
    relaxed_emd(far, torch.randn(1, 3, 5, 2)).sum().backward()
    assert far.grad is not None
    assert float(far.grad.abs().sum()) > 0


def test_a_palette_is_more_than_its_moments():
    """Two colours of a painting are not met by their mean, nor by a spread around it."""
    half = torch.cat([torch.zeros(3, 16, 8), torch.ones(3, 16, 8)], -1)[None]
    torch.manual_seed(0)
    spread = (0.5 + 0.5 * torch.randn(1, 1, 16, 16)).expand(1, 3, 16, 16)
    axes, full = torch.eye(3), torch.ones(1)

    def far(picture, strength=full):
        return float(palette_loss(picture, half, spread, strength, axes))

    assert far(half.flip(-1)) == pytest.approx(0, abs=1e-6)
    assert far(torch.full_like(half, 0.5)) > 0.5
    assert far(spread) > 0.02
    assert far(spread, torch.zeros(1)) == pytest.approx(0, abs=1e-6)


def test_the_bundled_network_paints_more_than_adain():
    assert isinstance(GhiasiModel.load(None).config, GhiasiConfig)
    content, style = photograph("coffee"), read(draw("swirls", 160)).rgb
    content = resize(content, fit(*content.shape[-2:], 160))
    judge = load_backbone("compact")
    paint = {}
    for name in ("ghiasi", "adain"):
        method = load(name, **CPU)
        out = method(content, method.prepare([style]))
        paint[name] = paint_share(judge, out, content, style)
        assert color_distance(out, style) < 0.6 * color_distance(content, style)
    assert paint["ghiasi"] > paint["adain"] + 0.03, paint
