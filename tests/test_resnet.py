from __future__ import annotations

import pytest
import torch
from data import needs_pickles, painting, photo

from impasto import cli
from impasto.backbones import build_resnet, load_backbone, load_vgg, randomised
from impasto.backbones.records import BACKBONES
from impasto.backbones.resnet import ResNet
from impasto.errors import InputError
from impasto.images import read, read_settings, write
from impasto.methods.gatys import Gatys
from impasto.tensors import save_tensors

TAPS = ["conv1", "rb1", "rb2", "rb3", "rb4"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        write(folder / f"{i}.png", photo(96, 128, seed=i))
    return folder


def small(**options) -> ResNet:
    torch.manual_seed(0)
    return ResNet((1, 1, 1, 1), bottleneck=False, width=8, **options).eval().requires_grad_(False)


# He et al.'s networks as torchvision publishes them (25,557,032 and 11,689,512 parameters) without
# their classifiers.
@pytest.mark.parametrize(
    ("name", "parameters", "channels"),
    [
        ("resnet50", 25_557_032 - 2_049_000, [64, 256, 512, 1024, 2048]),
        ("resnet18", 11_689_512 - 513_000, [64, 64, 128, 256, 512]),
    ],
)
def test_they_are_the_published_networks(name, parameters, channels):
    net = ResNet(*BACKBONES[name].shape, name=name)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert [net.channels(tap) for tap in TAPS] == channels
    state = net.state_dict()
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer2.0.downsample.0.weight"].shape[2:] == (1, 1)
    assert ("layer3.5.bn3.running_var" in state) == (name == "resnet50")
    assert ("layer1.0.downsample.0.weight" in state) == (name == "resnet50")


def test_features_of_every_stage():
    net = small()
    features = net(photo(64, 96)[None], TAPS)
    assert [tuple(features[tap].shape[1:]) for tap in TAPS] == [
        *((8, 32, 48), (8, 16, 24), (16, 8, 12)),
        *((32, 4, 6), (64, 2, 3)),
    ]
    assert all((features[tap] >= 0).all() for tap in TAPS)


def test_nothing_deeper_than_asked_is_computed(monkeypatch):
    net = small()
    monkeypatch.setattr(net.stage("rb3"), "forward", lambda x: pytest.fail("ran rb3"))
    net(photo(64, 64)[None], ["rb2", "conv1"])


def test_a_block_adds_its_input():
    """With a last normalisation of zero, what is left of a block is ReLU of its input."""
    net = small()
    block = net.stage("rb1")[0]
    block.bn2.weight.zero_()
    block.bn2.bias.zero_()
    x = torch.randn(1, 8, 6, 5)
    assert torch.equal(block(x, False), x.relu())


def test_gradients_reach_the_picture():
    net = small()
    picture = photo(64, 64)[None].requires_grad_(True)
    sum(f.square().mean() for f in net(picture, TAPS).values()).backward()
    assert torch.isfinite(picture.grad).all()
    assert picture.grad.abs().sum() > 0


@pytest.mark.parametrize("padding", ["replicate", "reflect", "zero"])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_padding_and_pooling(padding, pooling):
    net = small(padding=padding, pooling=pooling)
    assert torch.isfinite(net(photo(40, 50)[None], ["rb4"])["rb4"]).all()
    if padding != "zero":  # a flat picture stays flat up to the first pooling
        flat = net(torch.full((1, 3, 32, 32), 0.3), ["conv1"])["conv1"]
        assert torch.allclose(flat, flat[..., :1, :1].expand_as(flat), atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_averages_see_every_pixel_alike(pooling):
    net = small(pooling=pooling)
    picture = torch.full((1, 3, 48, 48), 0.4, requires_grad=True)
    features = net(picture, ["conv1", "rb1"])
    net_slope = torch.autograd.grad(features["conv1"].square().sum(), picture)[0]
    inner = net_slope[0, :, 16:32, 16:32]
    uneven = (inner - inner.mean((-2, -1), keepdim=True)).abs().max() / inner.abs().max()
    assert (float(uneven) < 1e-4) == (pooling == "average")
    assert features["conv1"].shape[-2:] == (24, 24)
    assert features["rb1"].shape[-2:] == (12, 12)
    odd = net(picture[..., :47, :45], ["conv1", "rb1"])
    assert [tuple(odd[tap].shape[-2:]) for tap in odd] == [(24, 23), (12, 12)]


def test_gatys_averages_in_a_resnet_alone(pictures):
    assert Gatys("resnet18", backbone_weights="random", device="cpu").net.pooling == "average"
    assert (
        Gatys("resnet18", backbone_weights="random", pooling="max", device="cpu").net.pooling
        == "max"
    )
    assert Gatys(device="cpu").net.pooling == "max"


def test_smoothing():
    rough, scaled, soft = (small(smooth=how) for how in ("none", "scale", "softmax"))
    picture = photo(64, 64)[None]
    for net in (rough, scaled, soft):
        net.scale_(small().unit_means([picture]))
    for tap in TAPS:
        plain, by_channel, peaceful = (net(picture, [tap])[tap] for net in (rough, scaled, soft))
        assert float(plain.mean()) == pytest.approx(1, abs=0.05)
        assert by_channel.mean((0, 2, 3)).median().item() == pytest.approx(1, abs=0.05)
        assert torch.allclose(peaceful.mean(1), torch.ones(()), atol=1e-5)
        assert torch.allclose(peaceful, plain.softmax(1) * plain.shape[1])


def test_smoothing_by_stage():
    net = small(smooth={"rb3": "softmax"})
    assert net.smooth == dict.fromkeys(TAPS, "none") | {"rb3": "softmax"}
    with pytest.raises(InputError, match="wild"):
        small(smooth="wild")
    with pytest.raises(InputError, match="rb9"):
        small(smooth={"rb9": "none"})


def test_errors_name_the_layer():
    with pytest.raises(InputError, match=r"relu4_1.*rb4"):
        small().check(["relu4_1"])
    net = small(served=("conv1", "rb1"))
    with pytest.raises(InputError, match="serve conv1, rb1"):
        net(photo(32, 32)[None], ["rb4"])


def test_random_weights_fire_alike_at_every_stage(pictures):
    net = load_backbone("resnet18", "random", photos=pictures)
    features = net(read(pictures / "0.png").rgb[None], TAPS)
    for tap in TAPS:
        assert 0.5 < float(features[tap].mean()) < 2, tap
    same = load_backbone("resnet18", "random", photos=pictures)
    other = load_backbone("resnet18", "random", photos=pictures, seed=1)
    assert same.fingerprint == net.fingerprint != other.fingerprint


def test_random_weights_of_a_vgg_need_no_file(pictures):
    net = load_backbone("vgg16", "random", photos=pictures)
    assert float(net(photo()[None], ["relu3_1"])["relu3_1"].mean()) > 0.1
    assert load_backbone("compact", "random", photos=pictures).name == "random:compact"


def state(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    tensors = ResNet(*BACKBONES[name].shape).state_dict()
    return {key: t for key, t in tensors.items() if not key.endswith("num_batches_tracked")}


@needs_pickles
@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_weights_from_a_file(prefix, tmp_path, pictures):
    tensors = {prefix + key: t for key, t in state("resnet18").items()}
    file = tmp_path / "net.pth"
    torch.save({"model": {**tensors, prefix + "fc.weight": torch.rand(10, 512)}, "epoch": 3}, file)
    net = load_backbone("resnet18", file, photos=pictures)
    assert net.taps == TAPS
    assert torch.equal(
        net.state_dict()["layer4.1.conv2.weight"], state("resnet18")["layer4.1.conv2.weight"]
    )


def test_a_file_that_ends_early_serves_what_it_has(tmp_path, pictures):
    tensors = {k: t for k, t in state("resnet18").items() if not k.startswith(("layer3", "layer4"))}
    save_tensors(tmp_path / "net.safetensors", tensors, {})
    method = Gatys("resnet18", backbone_weights=tmp_path / "net.safetensors")
    assert method.net.taps == ["conv1", "rb1", "rb2"]
    assert method.content_layers == {"rb2": 1}
    assert any("end at rb2" in note for note in method.notes)


def test_another_networks_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="not resnet18 weights"):
        build_resnet("resnet18", {"features.0.weight": torch.rand(4, 3, 3, 3)})
    with pytest.raises(InputError, match="does not fit resnet18"):
        build_resnet("resnet18", {**state("resnet50")})


def test_what_goes_by_vgg_layers_refuses_a_resnet():
    with pytest.raises(InputError, match="resnet18 lacks the layers of a VGG"):
        load_vgg("resnet18", "random")
    with pytest.raises(InputError, match="resnet lacks the layers of a VGG"):
        load_vgg(small())
    with pytest.raises(InputError, match="smooth is for resnet"):
        load_backbone("compact", smooth="softmax")
    with pytest.raises(InputError, match="no robust weights of vgg19"):
        load_backbone("vgg19", "robust")


@pytest.mark.parametrize("smooth", ["none", "scale", "softmax"])
def test_gatys_lowers_its_loss(smooth, pictures):
    net = randomised(small(smooth=smooth), photos=pictures)
    method = Gatys(net, iterations=8, sizes=[0], tolerance=0)
    assert list(method.style_layers) == ["conv1", "rb1", "rb2", "rb3"]
    assert list(method.content_layers) == ["rb2"]
    assert method.settings["resolved"]["style_loss"] == "moments"
    losses: list[float] = []
    content = photo(64, 64)
    out = method(content, method.prepare([painting(64, 64)]), 1.0, lambda s: losses.append(s.loss))
    assert out.shape == content.shape
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("given", ["paper5", ["paper5"], {"paper5": 1.0}])
def test_paper_5s_weights_are_a_preset(given, pictures):
    net = randomised(small(), photos=pictures)
    method = Gatys(net, style_layers=given, style_loss="gram")
    assert list(method.style_layers) == ["rb1", "rb2", "rb3", "rb4"]
    assert method.style_layers["rb1"] == pytest.approx(1000 / 1111)
    assert method.settings["resolved"]["style_loss"] == "gram"
    with pytest.raises(InputError, match="paper5"):
        Gatys(net, content_layers=["paper5"])
    with pytest.raises(InputError, match="paper5"):
        Gatys("compact", style_layers=given)


def test_the_command_line_takes_them(tmp_path, monkeypatch, pictures):
    out = tmp_path / "out.png"
    args = ["stylize", pictures / "0.png", pictures / "1.png", "-o", out, "--method", "gatys"]
    args += ["--backbone", "resnet18", "--backbone-weights", "random", "--smooth", "rb3=softmax"]
    args += ["--iterations", "1", "--sizes", "0", "--style-layers", "paper5"]
    monkeypatch.setattr("sys.argv", ["impasto", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert read(out).rgb.shape == (3, 96, 128)
    assert "softmax" in read_settings(out)["resolved"]["features"]
    assert list(read_settings(out)["resolved"]["style_layers"]) == ["rb1", "rb2", "rb3", "rb4"]
