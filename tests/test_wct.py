"""WCT: the operator, the method, and that its decoders can learn."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import torch
from data import painting, photo
from torch import Tensor

from impasto import color
from impasto.backbones import load_backbone
from impasto.errors import InputError, OutOfMemoryError
from impasto.methods import load
from impasto.methods.gatys import Gatys
from impasto.methods.model import MODELS
from impasto.methods.wct import WCT
from impasto.operators.wct import measure, wct
from impasto.paintings import read_style
from impasto.session import Session
from impasto.statistics import Moments
from impasto.styles import StoredStyle
from impasto.tensors import load_tensors, save_tensors
from impasto.training.methods.wct import PARAMETERS, WCTTraining, mirrored, untrained
from impasto.transport import Variant, transport

each_variant = pytest.mark.parametrize("variant", get_args(Variant))
TAPS = ["relu3_1", "relu2_1", "relu1_1"]
WIDTHS = {"relu3_1": ((12,), (8,), (8,)), "relu2_1": ((8,), (8,)), "relu1_1": ((8,),)}


def features(channels: int = 12, size: int = 24, seed: int = 0, offset: float = 1.0) -> Tensor:
    """Correlated channels with a mean, as a network's."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.eye(channels) + 0.3 * torch.randn(channels, channels, generator=g)
    noise = torch.randn(channels, size * (size + 3), generator=g)
    return (mix @ noise).reshape(channels, size, size + 3) + offset


def moments(x: Tensor) -> Moments:
    return Moments.of(x.double())


def made(small_net, seed: int = 0, **options) -> WCT:
    torch.manual_seed(seed)
    options = {"encoder": small_net, "device": "cpu", "precision": "float32"} | options
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        training = untrained(small_net, widths=WIDTHS)
        training.start(
            torch.stack([m(41, 48, seed=i) for i in range(6) for m in (photo, painting)])
        )
        training.save(path, {})
        return WCT(path, **options)


@pytest.fixture
def method(small_net) -> WCT:
    return made(small_net)


# The operator


@each_variant
def test_the_map_takes_one_covariance_to_the_other_and_is_the_identity_for_equal_ones(variant):
    pairs = [(moments(features(seed=i)), moments(features(seed=9 - i))) for i in range(3)]
    source = torch.stack([s.covariance for s, _ in pairs])
    target = torch.stack([t.covariance for _, t in pairs])
    a = transport(source, target, variant, 1e-9, 1e-8)
    torch.testing.assert_close(a @ source @ a.mT, target)
    one = transport(source[1], target[1], variant, 1e-9, 1e-8)  # a batch is its parts
    torch.testing.assert_close(a[1], one)
    same = transport(source, source, variant, 1e-9, 1e-8)
    torch.testing.assert_close(same, torch.eye(12).double().expand(3, -1, -1))


@each_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_and_covariance_become_the_styles(variant, dtype):
    content, style = features().to(dtype), moments(features(size=31, seed=1, offset=3.0))
    out = wct(content, style, variant=variant)
    assert out.shape == content.shape
    assert out.dtype == dtype
    got = moments(out)
    assert float((got.covariance - style.covariance).norm() / style.covariance.norm()) < 1e-5
    torch.testing.assert_close(got.mean, style.mean, atol=1e-5, rtol=0)


@each_variant
def test_content_as_style_gives_the_content_back(variant):
    content = features()
    torch.testing.assert_close(
        wct(content, moments(content), variant=variant), content, atol=1e-5, rtol=0
    )
    few = features(size=2)  # 10 positions for 12 channels
    torch.testing.assert_close(wct(few, moments(few), variant=variant), few, atol=1e-4, rtol=0)


def test_monge_changes_the_content_least():
    content, style = features(), moments(features(seed=1))
    cost = {
        variant: float((wct(content, style, variant=variant) - content).square().mean())
        for variant in get_args(Variant)
    }
    assert cost["monge"] < min(cost["eigenvalue"], cost["cholesky"])


@each_variant
def test_real_features_reach_the_styles_covariance(variant):
    net = load_backbone()
    with torch.no_grad():
        content = net(photo(96, 128)[None], ["relu1_1", "relu2_1"])
        style = net(painting(96, 128)[None], ["relu1_1", "relu2_1"])
    for tap in content:
        alive = content[tap].var((0, 2, 3)) > 0.01  # a channel that never fires cannot get any
        aim = moments(style[tap][:, alive])
        out = moments(wct(content[tap][:, alive], aim, variant=variant))
        assert float((out.covariance - aim.covariance).norm() / aim.covariance.norm()) < 1e-3
        torch.testing.assert_close(out.mean, aim.mean, atol=1e-3, rtol=0)


@each_variant
@pytest.mark.parametrize(
    "content",
    [
        torch.ones(12, 6, 6),
        torch.zeros(12, 6, 6),
        torch.rand(12, 1, 1, generator=torch.Generator().manual_seed(0)),
        torch.ones(12, 20, 20) + 3e-5 * features(size=20)[..., :20],
    ],
    ids=["flat", "zero", "one position", "noise"],
)
def test_flat_features_become_the_styles_mean_without_noise(content, variant):
    style = moments(features(seed=1, offset=2.0))
    out = wct(content, style, variant=variant)
    want = style.mean[:, None, None] + content - content.mean((1, 2), keepdim=True)
    torch.testing.assert_close(out.double(), want.double(), atol=1e-5, rtol=0)


@each_variant
def test_a_flat_style_makes_flat_features(variant):
    out = wct(features(), moments(2 * torch.ones(12, 5, 5)), variant=variant)
    torch.testing.assert_close(out, 2 * torch.ones_like(out), atol=1e-4, rtol=0)


@each_variant
def test_directions_that_are_missing_stay_away(variant):
    """Two of twelve directions: matched there, and nothing comes up in the others."""
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=g))[0]
    content = (basis[:, :2] @ torch.randn(2, 400, generator=g)).reshape(12, 20, 20)
    style = moments(features(seed=1))
    values = torch.linalg.eigvalsh(moments(wct(content, style, variant=variant)).covariance)
    assert float(values[-2]) > 0.05
    assert float(values[:-2].abs().max()) < 1e-8
    inside = (basis[:, :2] @ basis[:, :2].T).double()
    low = (inside @ features(seed=1).double().flatten(1)).reshape(features().shape)
    got = moments(wct(content, moments(low), variant=variant)).covariance
    torch.testing.assert_close(got, moments(low).covariance, atol=1e-5, rtol=0)


def test_strength_mixes_and_zero_is_the_content():
    content, style = features(), moments(features(seed=1))
    assert torch.equal(wct(content, style, 0.0), content)
    full, half = wct(content, style), wct(content, style, 0.5)
    torch.testing.assert_close(half, (content + full) / 2)


def test_a_tile_is_a_part_of_the_whole():
    content, style = features(), moments(features(seed=1))
    tile = wct(content[..., 3:9, 5:], style, moments=measure(content))
    torch.testing.assert_close(tile, wct(content, style)[..., 3:9, 5:])


def test_a_batch_is_its_pictures():
    contents = torch.stack([features(), features(seed=2), torch.ones_like(features())])
    styles = torch.stack([features(seed=3), features(seed=4), features(seed=5)])
    for style in (moments(styles), moments(styles[0])):
        batch = wct(contents, style)
        for i, content in enumerate(contents):
            own = moments(styles[i]) if style.first.ndim == 2 else style
            torch.testing.assert_close(batch[i], wct(content, own))


def test_moments_change_data_type():
    m = moments(features())
    assert m.to(torch.float32).first.dtype == m.to(torch.float32).second.dtype == torch.float32
    assert m.to("cpu").weight.dtype == torch.float64


# The method


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 90), (33, 47), (40, 64)])
def test_any_size_comes_back(method, height, width):
    out = method(photo(height, width), method.prepare([painting()]))
    assert out.shape == (3, height, width)
    assert out.dtype == torch.float32
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


def test_too_small_a_picture_and_strengths_below_zero(method):
    style = method.prepare([painting()])
    with pytest.raises(InputError, match="16"):
        method(torch.rand(3, 12, 40), style)
    with pytest.raises(InputError, match="strength is -1"):
        method(photo(), style, -1.0)


def test_strength_zero_is_the_content_and_the_way_there_is_steady(method):
    content, style = photo(33, 47), method.prepare([painting()])
    torch.testing.assert_close(method(content, style, 0.0), content, atol=1e-5, rtol=0)
    steps = [method(content, style, s) for s in (0.0, 0.01, 0.5, 0.99, 1.0)]
    gaps = [float((a - b).abs().mean()) for a, b in pairwise(steps)]
    assert max(gaps[0], gaps[3]) < 0.1 * sum(gaps)


def test_a_flat_picture_has_no_frame(method):
    flat = torch.tensor([0.8, 0.3, 0.1])[:, None, None].expand(3, 40, 52)
    moments_of_flat = method.measure(flat)
    for m in moments_of_flat.values():
        assert float(m.covariance.abs().max()) < 1e-5
    for variant in get_args(Variant):
        method.model.variant = variant
        out = method(flat, method.prepare([painting()]))
        assert float(out.std((1, 2)).max()) < 1e-3


def test_bundled_encoder_sees_no_frame_either(method):
    flat = torch.tensor([0.2, 0.5, 0.6])[:, None, None].expand(3, 48, 64)
    torch.manual_seed(0)
    slim = untrained(widths={"relu5_1": [[8], [8], [8], [8], [8]]})
    assert slim.model.taps == ["relu5_1", "relu4_1", "relu3_1", "relu2_1", "relu1_1"]
    for m in slim.model.measure(flat[None]).values():
        assert float(m.covariance.abs().max()) < 1e-4


@pytest.mark.parametrize("side", ["content", "style"])
@pytest.mark.parametrize("picture", ["grey", "black", "tiny", "two colours", "one red"])
def test_odd_pictures_give_pictures(method, picture, side):
    odd = {
        "grey": photo().mean(0, keepdim=True).expand(3, -1, -1),
        "black": torch.zeros(3, 20, 30),
        "tiny": photo(16, 16),
        "two colours": (photo()[:1] > 0.5).float().expand(3, -1, -1),
        "one red": torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 30, 20),
    }[picture]
    content, style = (odd, painting()) if side == "content" else (photo(), odd)
    for variant in get_args(Variant):
        method.model.variant = variant
        out = method(content, method.prepare([style]))
        assert out.shape == content.shape
        assert bool(torch.isfinite(out).all())


def test_padding_is_not_measured(method):
    """Statistics are of the cells wholly in the picture, whatever it is continued with."""
    x = photo(39, 50)
    own, cut = method.measure(x), method.measure(x[:, :36, :48])
    assert {tap: float(m.weight) for tap, m in own.items()} == dict.fromkeys(TAPS, 1.0)
    with torch.no_grad():
        seen = method.model.encode(x[None], TAPS)
    assert [tuple(f.shape[-2:]) for f in seen.values()] == [(40, 52), (20, 26), (10, 13)]
    torch.testing.assert_close(
        own["relu3_1"].mean, seen["relu3_1"][0, :, :9, :12].mean((1, 2)), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(own["relu3_1"].mean, cut["relu3_1"].mean, atol=0.05, rtol=0.05)


def test_several_styles_average_their_moments(method):
    a, b = painting(64, 64), painting(64, 64, seed=5).flip(0)
    mixed = method.prepare([a, b], [3, 1]).at(64)
    for tap in TAPS:
        expected = 0.75 * method.measure(a)[tap].gram + 0.25 * method.measure(b)[tap].gram
        torch.testing.assert_close(mixed[tap].gram, expected)
    alone, both = method.prepare([a]), method.prepare([a, a])
    torch.testing.assert_close(method(photo(), alone), method(photo(), both), atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="1 weights for 2"):
        method.prepare([a, b], [1.0])
    with pytest.raises(InputError, match="negative"):
        method.prepare([a, b], [2.0, -1.0])


def test_a_stored_style_gives_the_picture_of_the_painting(method, tmp_path):
    style = method.prepare([painting(160, 200)])
    style.store("waves").save(tmp_path / "waves.style")
    stored = StoredStyle.load(tmp_path / "waves.style")
    content = photo(64, 80)  # 64 is a size that is stored
    torch.testing.assert_close(
        method(content, style), method(content, method.prepare([stored])), atol=1e-4, rtol=0
    )


def test_a_stored_style_and_a_painting_mix(method):
    stored = method.prepare([painting()]).store("waves")
    out = method(photo(), method.prepare([stored, painting(40, 40)], [1, 1]))
    assert out.shape == (3, 48, 64)


def test_stored_styles_that_do_not_fit_are_refused(method, small_net):
    """Gatys' method sees the features of the same network with zeros around them."""
    gatys = Gatys(small_net, device="cpu", precision="float32")
    with pytest.raises(InputError, match="stored for gatys, not for method wct by small:"):
        method.prepare([gatys.prepare([painting()]).store("waves")])
    shallow = made(small_net, layers=["relu1_1"])
    stored = shallow.prepare([painting()]).store("waves")
    with pytest.raises(InputError, match="no layer relu3_1, relu2_1"):
        method.prepare([stored])


@pytest.mark.parametrize("mode", [None, *color.MODES])
def test_colour_controls(method, mode):
    result = Session(method, [read_style(painting())], color=mode)(photo())
    assert result.losses == []
    assert result.settings["method"] == "wct"
    assert result.settings["resolved"]["layers"] == TAPS
    content, style = {
        None: (photo(), painting()),
        "match": (photo(), color.match(painting(), photo())),
        "match-style": (color.match(photo(), painting()), painting()),
        "luminance": (color.as_grey(photo()), color.as_grey(painting())),
    }[mode]
    expected = method(content, method.prepare([style]))
    if mode == "luminance":
        expected = color.restore_chroma(expected, photo())
    torch.testing.assert_close(result.picture.rgb, expected, atol=1e-4, rtol=0)


def test_style_scale_and_levels_matter(small_net):
    style = [painting(64, 64)]
    full = made(small_net)
    one = full(photo(), full.prepare(style))
    for options in ({"style_scale": 0.5}, {"layers": ["relu1_1", "relu3_1"]}):
        other = made(small_net, **options)
        assert not torch.allclose(other(photo(), other.prepare(style)), one, atol=1e-4)
    assert other.model.taps == ["relu3_1", "relu1_1"]


def test_the_same_twice_and_a_batch_as_single_pictures(method):
    contents = torch.stack([photo(), photo(seed=3)])
    styles = torch.stack([painting(48, 64), painting(48, 64, seed=4).flip(0)])
    batch = WCTTraining(method.model).render(contents, styles)
    for i in range(2):
        single = method(contents[i], method.prepare([styles[i]]))
        torch.testing.assert_close(batch[i], single, atol=1e-4, rtol=0)
        assert torch.equal(single, method(contents[i], method.prepare([styles[i]])))


def test_bfloat16_is_near(small_net, method):
    coarse = made(small_net, precision="bfloat16")
    fine = method(photo(), method.prepare([painting()]))
    out = coarse(photo(), coarse.prepare([painting()]))
    assert out.dtype == torch.float32
    assert float((out - fine).abs().mean()) < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "svd"}, "'svd' is unknown: use eigenvalue, cholesky or monge"),
        ({"style_scale": 0.0}, "style_scale is 0.0"),
        ({"layers": ["relu4_1"]}, "no layer relu4_1: name some of relu3_1, relu2_1, relu1_1"),
        ({"layers": []}, "none named"),
    ],
)
def test_options_out_of_range(small_net, options, message):
    with pytest.raises(InputError, match=message):
        made(small_net, **options)


# The model file


def test_a_model_comes_back_in_float16(method, small_net, tmp_path):
    path = tmp_path / "w.safetensors"
    method.model.save(path, {"validation": 0.5})
    tensors, header = load_tensors(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert header["method"] == "wct"
    again = WCT(path, encoder=small_net, device="cpu", precision="float32")
    assert again.model.taps == again.settings["resolved"]["layers"] == TAPS
    assert again.settings["resolved"]["model"] == "w.safetensors"
    assert not any(p.requires_grad for p in again.model.network.parameters())
    one, two = (m(photo(), m.prepare([painting()])) for m in (method, again))
    torch.testing.assert_close(one, two)  # `method` comes from a file too
    few = WCT(path, layers=["relu2_1"], encoder=small_net, device="cpu")
    assert list(few.model.network) == ["relu2_1"]


def test_files_that_are_no_model_for_this_encoder(method, small_net, tmp_path):
    path = tmp_path / "w.safetensors"
    method.model.save(path, {})
    with pytest.raises(
        InputError, match=r"w\.safetensors: made for another encoder \(small:replicate:max:1"
    ):
        WCT(path, encoder=load_backbone("slim"))
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        WCT(tmp_path / "gone.safetensors")
    tensors, header = load_tensors(path)
    broken = [
        {},
        header | {"method": "adain"},
        header | {"config": "["},
        header | {"config": "3"},
        header | {"config": '{"relu9_9": 1}'},
        header | {"config": header["config"].replace("12", "13")},
    ]
    for metadata in broken:
        save_tensors(path, tensors, metadata)
        with pytest.raises(InputError, match=r"not a model made by `impasto train wct`"):
            WCT(path, encoder=small_net)


@pytest.mark.skipif((MODELS / "wct.safetensors").exists(), reason="the model is bundled")
def test_without_the_bundled_model_a_remedy_is_named():
    with pytest.raises(InputError, match=r"wct\.safetensors: .*impasto train wct"):
        load("wct")


def test_default_decoders_fit_into_four_megabytes(tmp_path):
    method = untrained()
    count = sum(p.numel() for p in method.network.parameters())
    assert 0.5 * PARAMETERS < count <= PARAMETERS
    method.save(tmp_path / "w.safetensors", {})
    assert (tmp_path / "w.safetensors").stat().st_size <= 4e6


def test_decoders_mirror_the_encoder(small_net):
    assert mirrored(small_net, TAPS) == {
        "relu3_1": [[16], [8], [8]],  # the encoder's 12 channels, to a multiple of 8
        "relu2_1": [[8], [8]],
        "relu1_1": [[8]],
    }


# Training


@pytest.fixture
def pupil(small_net) -> WCTTraining:
    torch.manual_seed(0)
    return untrained(small_net, widths=WIDTHS)


def test_every_decoder_gets_a_gradient_and_the_encoder_none(pupil):
    contents = torch.stack([photo(40, 41), photo(40, 41, seed=1)])
    terms = pupil.loss(contents, contents)
    assert set(terms) == {f"{tap} {kind}" for tap in TAPS for kind in ("pixels", "features")}
    sum(terms.values()).backward()
    for name, parameter in pupil.network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().max()) > 0, name
    assert all(p.grad is None for p in pupil.model.encoder.parameters())


def test_loss_falls_and_pictures_are_rebuilt(pupil):
    contents = torch.stack([photo(48, 48, seed=i) for i in range(4)])
    optimizer = torch.optim.Adam(pupil.network.parameters(), 5e-3)
    history, before = [], pupil.render(contents, contents)
    for _ in range(120):
        optimizer.zero_grad()
        loss = sum(pupil.loss(contents, contents).values())
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert sum(history[-5:]) < 0.4 * sum(history[:5])
    shown = pupil.render(contents, contents)
    assert shown.shape == contents.shape
    assert not shown.requires_grad
    # Of a picture as its own style is made what the decoders make of it.
    gaps = [float((picture - contents).square().mean()) for picture in (before, shown)]
    assert gaps[1] < 0.8 * gaps[0]


def test_a_start_by_least_squares_is_worth_many_steps(pupil):
    crops = torch.stack([photo(41, 48, seed=i) for i in range(12)])
    before = pupil.loss(crops, crops)
    pupil.start(crops)
    after = pupil.loss(crops, crops)
    for name in before:
        assert float(after[name].detach()) < 0.7 * float(before[name].detach()), name


def test_weights_of_the_terms(small_net):
    torch.manual_seed(0)
    one = untrained(small_net, ["relu2_1"], pixels=2.0, features=0.0)
    terms = one.loss(photo()[None], photo()[None])
    assert float(terms["relu2_1 features"].detach()) == 0
    torch.manual_seed(0)
    other = untrained(small_net, ["relu2_1"])
    again = other.loss(photo()[None], photo()[None])
    torch.testing.assert_close(terms["relu2_1 pixels"], 2 * again["relu2_1 pixels"])


@pytest.mark.parametrize("size", [(3, 20), (13, 22)])
def test_crops_of_any_size_are_learnt_from(pupil, size):
    contents = photo(48, 64)[None, :, : size[0], : size[1]]
    assert all(bool(torch.isfinite(term)) for term in pupil.loss(contents, contents).values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "vgg99"}, "'vgg99' is unknown"),
        ({"layers": ["relu9_1"]}, "relu9_1"),
        ({"layers": [4]}, "layer 4 is unknown"),
        ({"layers": []}, "layers: name at least one"),
        ({"widths": [[8], [8]]}, "by layer: give a table of some of relu1_1, relu2_1"),
        ({"widths": {"relu9_1": [[8]]}}, "by layer"),
        ({"widths": {"relu2_1": [[8]]}}, "widths of relu2_1: give 2 blocks"),
        ({"widths": {"relu2_1": 8}}, "a list of channels"),
        ({"upsampling": "cubic"}, "nearest or bilinear"),
    ],
)
def test_training_options_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        untrained(**options)


def test_an_encoder_by_name():
    assert untrained("slim", ["relu1_1"]).model.config.encoder == "slim"


def test_it_moves_between_devices(pupil):
    pupil.to(torch.device("meta"))
    moved = [*pupil.model.encoder.parameters(), *pupil.network.parameters()]
    assert all(parameter.is_meta for parameter in moved)


def test_too_large_for_memory_says_which_size_would_do(method, monkeypatch):
    monkeypatch.setattr("impasto.device.memory.available_memory", lambda device: 2**20)
    with pytest.raises(OutOfMemoryError, match=r"GB of memory.*size=\d+"):
        method(photo(), method.prepare([painting()]))
