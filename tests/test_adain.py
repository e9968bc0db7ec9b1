from __future__ import annotations

import pytest
import torch
from data import painting, photo

from impasto.errors import InputError, OutOfMemoryError
from impasto.images import read
from impasto.losses import moments_loss
from impasto.methods.adain import AdaIN
from impasto.networks.decoder import HUANG, Decoder
from impasto.operators.adain import adain, normalise, overshot
from impasto.samples import draw
from impasto.statistics import Moments
from impasto.tensors import save_tensors
from impasto.training.methods.adain import untrained

NARROW = ((24,), (24,), (24,), (12,))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    method = untrained(widths=NARROW)
    crops = torch.stack([make(48, 64, seed=i) for i in range(8) for make in (photo, painting)])
    crops = torch.cat([crops, crops.flip(1), crops * torch.tensor([1.0, 0.3, 0.2])[:, None, None]])
    method.start(crops)
    path = tmp_path_factory.mktemp("models") / "adain.safetensors"
    method.save(path, {"steps": 0})
    return path


@pytest.fixture
def method(model) -> AdaIN:
    return AdaIN(model, device="cpu", precision="float32")


def render(method, content, style, **options):
    return method(content, method.prepare([style]), **options)


def test_adain_of_a_picture_with_itself_is_the_picture():
    features = torch.rand(2, 5, 7, 9)
    torch.testing.assert_close(adain(features, Moments.of(features)), features)


@pytest.mark.parametrize("lead", [(), (2,)])
def test_moments_are_the_styles(lead):
    content, style = torch.rand(*lead, 5, 20, 30), Moments.of(3 * torch.rand(*lead, 5, 11, 8) + 1)
    out = Moments.of(adain(content, style))
    torch.testing.assert_close(out.mean, style.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.deviation(), style.deviation(), atol=1e-3, rtol=1e-3)


def test_adain_is_its_definition():
    content, style = torch.rand(3, 6, 6), torch.rand(3, 6, 6)
    mean, deviation = style.mean((1, 2)), (style.var((1, 2), unbiased=False) + 1e-5).sqrt()
    own = (content.var((1, 2), unbiased=False) + 1e-5).sqrt()
    expected = (content - content.mean((1, 2))[:, None, None]) / own[:, None, None]
    expected = expected * deviation[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(adain(content, Moments.of(style)), expected)


def test_strength_mixes_the_features():
    content, style = torch.rand(3, 6, 6), Moments.of(torch.rand(3, 5, 5))
    full = adain(content, style)
    assert adain(content, style, 0) is content
    torch.testing.assert_close(adain(content, style, 0.25), 0.75 * content + 0.25 * full)


def test_tiles_normalised_by_the_whole_picture_fit_together():
    content, style = torch.rand(3, 8, 10), Moments.of(torch.rand(3, 5, 5))
    whole, moments = adain(content, style), Moments.of(content)
    parts = [adain(tile, style, moments=moments) for tile in content.split(5, -1)]
    torch.testing.assert_close(torch.cat(parts, -1), whole)


def test_a_flat_channel_stays_finite():
    flat = torch.full((2, 4, 4), 0.3)
    assert torch.isfinite(adain(flat, Moments.of(torch.rand(2, 4, 4)))).all()
    assert float(normalise(flat).abs().max()) < 1e-3


def test_overshot_asks_for_what_was_missed():
    """A decoder that answers with 0.8 of what is asked for would give what is wanted."""
    wanted = Moments.uncorrelated(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]))
    got = Moments.uncorrelated(wanted.mean - 0.2, 0.8 * wanted.deviation())
    asked = overshot(wanted, wanted, got)
    torch.testing.assert_close(asked.mean, wanted.mean + 0.2)
    torch.testing.assert_close(0.8 * asked.deviation(), wanted.deviation(), rtol=1e-4, atol=1e-4)
    none = Moments.uncorrelated(wanted.mean, torch.zeros(2))
    assert float((overshot(wanted, wanted, none).deviation() / wanted.deviation()).max()) < 2.01


def test_feedback_brings_the_statistics_nearer():
    content, style = photo(96, 120)[None], read(draw("swirls", 96)).rgb[None]
    model = AdaIN(device="cpu", precision="float32").model
    wanted = model.measure(style)

    def off(aim):
        got = model.measure(model(content, aim).clamp(0, 1))
        return sum(float(moments_loss(got[tap], wanted[tap])) for tap in model.taps)

    asked = model.beyond(wanted, content, wanted)
    assert off(asked) < 0.9 * off(wanted)


@pytest.mark.parametrize("side", [48, 512])
def test_feedback_is_kept_in_the_file_and_used(model, tmp_path, side):
    plain = AdaIN(model, device="cpu", precision="float32")
    training = untrained(widths=NARROW, feedback=True)
    training.network.load_state_dict(plain.model.network.state_dict())
    training.save(tmp_path / "model.safetensors", {})
    method = AdaIN(tmp_path / "model.safetensors", device="cpu", precision="float32")
    content, style = photo(side, side + 3), painting(60, 50)
    out = render(method, content, style)
    assert out.shape == content.shape
    assert float((out - render(plain, content, style)).abs().mean()) > 1e-3
    torch.testing.assert_close(render(method, content, style, strength=0.0), content)


@pytest.mark.parametrize("option", ["dehalo", "palette"])
def test_halos_and_strange_colours_can_be_left(model, option):
    with_it, without = (
        AdaIN(model, device="cpu", precision="float32", **{option: value})
        for value in (True, False)
    )
    content = 0.9 * torch.linspace(0, 1, 80).expand(3, 64, 80) + 0.05
    style = painting(60, 50)
    assert float((render(with_it, content, style) - render(without, content, style)).abs().max())
    torch.testing.assert_close(render(with_it, content, style, strength=0.0), content)
    assert with_it.settings[option] is True


def test_recolored_paintings_are_seen_while_training_alone():
    torch.manual_seed(0)
    contents = torch.stack([photo(32, 32, seed=i) for i in range(4)])
    styles = torch.stack([painting(32, 32, seed=i) for i in range(4)])

    def loss(share, train):
        method = untrained(widths=NARROW, recolored=share)
        method.network.load_state_dict(state)
        method.network.train(train)
        return float(method.loss(contents, styles)["style"].detach())

    state = untrained(widths=NARROW).network.state_dict()
    assert loss(1.0, True) != loss(0.0, True)
    assert loss(1.0, False) == loss(0.0, False) == loss(0.0, True)


def test_normalise_gives_mean_zero_and_deviation_one():
    moments = Moments.of(normalise(5 * torch.rand(2, 3, 16, 16) + 2))
    assert float(moments.mean.abs().max()) < 1e-4
    assert float((moments.deviation() - 1).abs().max()) < 1e-3


def test_huangs_decoder_has_its_size():
    assert sum(p.numel() for p in Decoder(512, HUANG).parameters()) == 3_505_219


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_decoder_doubles_between_blocks_and_takes_skips(upsampling):
    decoder = Decoder(8, ((8,), (6, 4), (4,)), {2: 5}, upsampling)
    out = decoder(torch.rand(2, 8, 3, 4), {2: torch.rand(2, 5, 12, 16)})
    assert out.shape == (2, 3, 12, 16)
    out.square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in decoder.parameters())


def test_unknown_upsampling_is_refused():
    with pytest.raises(InputError, match="nearest or bilinear"):
        Decoder(4, ((4,),), upsampling="cubic")


@pytest.mark.parametrize("widths", [(), 8, "8", [8], [[]], [[8], []], [[0]], [[8.0]], [["8"]]])
def test_widths_that_are_no_blocks_of_channels_are_refused(widths):
    with pytest.raises(InputError, match="a list of channels"):
        Decoder(4, widths)


def test_closed_form_start_reconstructs():
    """The decoder inverts the encoder, here a narrow one from few pictures."""
    method = untrained(widths=NARROW)
    crops = torch.stack([make(51, 64, seed=i) for i in range(8) for make in (photo, painting)])
    method.start(crops)
    content = photo(48, 64, seed=9)[None]
    out = method.render(content, content)
    assert float((out - content).square().mean()) < 0.5 * float(content.var())


def test_strength_zero_is_the_content(method):
    content = photo(45, 61, seed=9)
    torch.testing.assert_close(render(method, content, painting(), strength=0.0), content)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_flat_picture_has_no_frame(method, value):
    out = render(method, torch.full((3, 60, 77), value), painting())
    inside = out[:, 24:-24, 24:-24].mean((1, 2))[:, None, None]
    assert float((out - inside).abs().max()) < 0.02


def test_bfloat16_is_near(model, method):
    rough = AdaIN(model, device="cpu", precision="bfloat16")
    content, style = photo(56, 60), painting()
    difference = render(rough, content, style) - render(method, content, style)
    assert float(difference.abs().mean()) < 0.02


@pytest.mark.parametrize("kind", ["grey", "black", "colour"])
def test_pictures_without_variety_are_rendered(method, kind):
    content = {
        "grey": photo().mean(0, keepdim=True).repeat(3, 1, 1),
        "black": torch.zeros(3, 40, 40),
        "colour": torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 40, 40),
    }[kind]
    for c, s in ((content, painting()), (photo(), content)):
        out = render(method, c, s)
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (37, 53), (64, 17)])
def test_any_size_comes_back_as_it_was(method, size):
    out = render(method, photo(*size), painting(40, 50))
    assert out.shape == (3, *size)
    assert torch.isfinite(out).all()
    assert float(out.min()) >= 0 and float(out.max()) <= 1


def test_colours_move_towards_the_style(method):
    content, red = photo(), painting() * torch.tensor([1.0, 0.3, 0.2])[:, None, None]
    aim = red.mean((1, 2))
    before = float((content.mean((1, 2)) - aim).norm())
    after = [
        float((render(method, content, red, strength=s).mean((1, 2)) - aim).norm())
        for s in (0.5, 1.0)
    ]
    assert after[1] < after[0] < before


def test_several_styles_average_their_moments(method):
    one, two = painting(seed=1), painting(seed=2)
    mixed = method.prepare([one, two], [1, 3]).at(48)
    each = [method.prepare([picture]).at(48) for picture in (one, two)]
    for tap in method.model.config.layers:
        expected = 0.25 * each[0][tap].gram + 0.75 * each[1][tap].gram
        torch.testing.assert_close(mixed[tap].gram, expected)


def test_a_stored_style_gives_the_same_picture(method, tmp_path):
    prepared = method.prepare([painting()])
    path = tmp_path / "a.style"
    prepared.store("a").save(path)
    from impasto.paintings import read_style

    direct = method(photo(56, 60), prepared)
    stored = method(photo(56, 60), method.prepare([read_style(path)]))
    torch.testing.assert_close(direct, stored, atol=1e-4, rtol=1e-4)


def test_a_style_of_another_encoder_is_refused(method, tmp_path):
    stored = method.prepare([painting()]).store("a")
    method.model.encoder.weights = "other"
    with pytest.raises(InputError, match="by slim:.*, not by slim:replicate:max:other"):
        method.prepare([stored])


def test_batches_are_rendered_as_single_pictures_are():
    method = untrained(widths=NARROW)
    method.network.requires_grad_(False)
    contents = torch.stack([photo(48, 64, seed=i) for i in range(2)])
    styles = torch.stack([painting(48, 64, seed=i) for i in range(2)])
    both = method.render(contents, styles)
    each = [method.render(contents[i : i + 1], styles[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(each), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("target", ["adain", "content"])
def test_the_loss_falls_and_reaches_every_parameter(target):
    torch.manual_seed(0)
    method = untrained(widths=NARROW, target=target)
    contents, styles = photo(48, 48)[None], painting(48, 48)[None]
    method.start(torch.cat([contents, styles]))
    optimizer = torch.optim.Adam(method.network.parameters(), 3e-4)
    totals = []
    for _ in range(25):
        losses = method.loss(contents, styles)
        assert set(losses) == {"content", "style"}
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
        assert all(float(p.grad.abs().sum()) > 0 for p in method.network.parameters())
    assert totals[-1] < 0.9 * totals[0]


def test_frozen_networks_stay_frozen():
    method = untrained(widths=NARROW)
    nets = (method.model.encoder, method.perceptual.judge)
    assert not any(p.requires_grad for net in nets for p in net.parameters())


def test_it_moves_between_devices():
    method = untrained(widths=NARROW)
    method.to(torch.device("meta"))
    nets = (method.model.encoder, method.network, method.perceptual.judge)
    assert all(p.is_meta for net in nets for p in net.parameters())


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(2)}, {})
    with pytest.raises(InputError, match="not a model made by"):
        AdaIN(path)


def test_a_model_of_another_encoder_is_refused(tmp_path):
    method = untrained(widths=NARROW)
    method.model.encoder.weights = "other"
    method.save(tmp_path / "x.safetensors", {})
    with pytest.raises(InputError, match="made for another encoder"):
        AdaIN(tmp_path / "x.safetensors")


def test_layers_and_blocks_must_agree():
    with pytest.raises(InputError, match="name layers of different blocks"):
        untrained(layers=["relu2_1", "relu4_1"])
    with pytest.raises(InputError, match="as many blocks"):
        untrained(widths=[[8], [8]])


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_bad_strength_is_refused(method, strength):
    with pytest.raises(InputError, match="strength"):
        render(method, photo(), painting(), strength=strength)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsampling": "cubic"}, "nearest or bilinear"),
        ({"target": "style"}, "adain or content"),
        ({"style_layers": ["relu9_9"]}, "unknown"),
        ({"style_layers": []}, "style_layers: name at least one"),
        ({"style_layers": [["relu1_1"]]}, "unknown"),
        ({"layers": []}, "name layers"),
        ({"layers": [4]}, "layer 4 is unknown"),
        ({"widths": [128, 64, 32, 16]}, "a list of channels"),
        ({"widths": [[128], [], [32], [16]]}, "a list of channels"),
        ({"encoder": "vgg99"}, "vgg99"),
    ],
)
def test_bad_options_of_training_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        untrained(**options)


def test_too_large_for_memory_says_which_size_would_do(method, monkeypatch):
    monkeypatch.setattr("impasto.device.memory.available_memory", lambda device: 2**20)
    with pytest.raises(OutOfMemoryError, match=r"GB of memory.*size=\d+"):
        render(method, photo(), painting())
