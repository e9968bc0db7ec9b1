from __future__ import annotations

import pytest
import torch
from data import photo
from torch import nn

from impasto.backbones import build_vgg
from impasto.backbones.base import CAFFE, PLAIN, TORCHVISION
from impasto.backbones.records import VGG16, VGG19
from impasto.backbones.vgg import VGG
from impasto.errors import InputError
from impasto.losses import gram_loss
from impasto.statistics import Moments


@pytest.mark.parametrize(("widths", "convs"), [(VGG19, 16), (VGG16, 13)])
def test_every_layer_is_a_tap(widths, convs):
    with torch.device("meta"):
        net = VGG(widths)
    taps = net.taps
    assert len(taps) == 2 * convs
    assert taps[0] == "conv1_1"
    assert taps[1] == "relu1_1"
    assert {"conv4_2", "relu5_1", "relu5_3"} <= set(taps)
    assert ("relu3_4" in taps) == (convs == 16)


def test_shapes_and_relu(small_net):
    features = small_net(photo(33, 46)[None], ["conv1_1", "relu1_1", "relu2_1", "conv3_1"])
    assert features["conv1_1"].shape == (1, 8, 33, 46)
    assert features["relu2_1"].shape == (1, 12, 16, 23)
    assert features["conv3_1"].shape == (1, 16, 8, 11)
    torch.testing.assert_close(features["relu1_1"], features["conv1_1"].clamp_min(0))


def test_forward_stops_at_the_deepest_tap(small_net):
    ran: list[str] = []
    for name, conv in small_net.convs.items():
        conv.register_forward_hook(lambda *_, name=name: ran.append(name))
    small_net(photo()[None], ["relu1_2"])
    assert ran == ["conv1_1", "conv1_2"]


def reference(picture: torch.Tensor, state: dict[str, torch.Tensor], tap: int) -> torch.Tensor:
    """torchvision's ``vgg19().features[:tap]`` in its own words: zero padding, max pooling."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (picture - mean) / std
    plan = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M"]
    index = 0
    for item in plan:
        if item == "M":
            x = nn.functional.max_pool2d(x, 2)
            index += 1
        else:
            weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            x = nn.functional.relu(nn.functional.conv2d(x, weight, bias, padding=1))
            index += 2
        if index >= tap:
            return x
    raise AssertionError


def random_state(widths, depth: int) -> dict[str, torch.Tensor]:
    """Random weights with torchvision's key names, the first ``depth`` convolutions."""
    rng = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    index, before = 0, 3
    for block in widths:
        for width in block:
            if len(state) < 2 * depth:
                shape = (width, before, 3, 3)
                gain = (2 / (9 * before)) ** 0.5
                state[f"features.{index}.weight"] = torch.randn(shape, generator=rng) * gain
                state[f"features.{index}.bias"] = torch.randn(width, generator=rng) * 0.1
            before = width
            index += 2
        index += 1
    return state


def test_key_names_and_convention_are_torchvisions():
    state = random_state(VGG19, 6)
    net = build_vgg("vgg19", state, TORCHVISION, padding="zero")
    ours = net(photo()[None], ["relu3_1", "relu3_2"])
    theirs = reference(photo()[None], state, 12)
    torch.testing.assert_close(ours["relu3_1"], theirs, rtol=1e-4, atol=1e-4)


def test_caffe_convention_is_bgr_in_255_less_the_mean():
    net = VGG(((2,),), CAFFE).requires_grad_(False)
    net.convs["conv1_1"].weight.data.zero_()
    net.convs["conv1_1"].bias.data.zero_()
    net.convs["conv1_1"].weight.data[0, 0, 1, 1] = 1  # looks at blue
    picture = photo()[None]
    seen = net(picture, ["conv1_1"])["conv1_1"][0, 0]
    torch.testing.assert_close(seen, picture[0, 2] * 255 - 103.939, rtol=1e-4, atol=1e-4)


def test_weights_that_end_early_serve_what_they_have():
    net = build_vgg("vgg19", random_state(VGG19, 9), CAFFE)
    assert net.taps[-1] == "relu4_1"
    assert net(photo()[None], ["relu4_1"])["relu4_1"].shape == (1, 512, 6, 8)
    with pytest.raises(InputError, match=r"no layer relu5_1.*relu4_1"):
        net(photo()[None], ["relu5_1"])
    with pytest.raises(InputError, match="unknown to vgg19"):
        net.check(["block4"])


def test_vgg16_has_three_convolutions_in_block_three():
    net = build_vgg("vgg16", random_state(VGG16, 8), CAFFE)
    assert net.taps[-1] == "relu4_1"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("features.0.weight"),
        lambda s: s.update({"features.2.weight": torch.zeros(64, 3, 3, 3)}),
        lambda s: s.pop("features.2.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change):
    state = random_state(VGG19, 3)
    change(state)
    with pytest.raises(InputError, match=r"file\.pth"):
        build_vgg("vgg19", state, CAFFE, source="file.pth")


@pytest.mark.parametrize("padding", ["replicate", "reflect", "zero"])
def test_padding_of_the_first_layer(padding):
    torch.manual_seed(0)
    net = VGG(((6,),), padding=padding).requires_grad_(False)
    constant = net(torch.full((1, 3, 12, 12), 0.9), ["conv1_1"])["conv1_1"]
    spread = float(constant.flatten(2).std(2).max())
    assert (spread > 1e-3) == (padding == "zero")


def test_average_pooling_keeps_the_magnitude():
    torch.manual_seed(0)
    kept = {}
    for pooling in ("max", "average"):
        torch.manual_seed(0)
        net = VGG(((16, 16), (16,)), pooling=pooling).requires_grad_(False)
        seen = net(torch.rand(1, 3, 64, 64), ["relu2_1"])["relu2_1"]
        kept[pooling] = float(seen.mean())
    assert 0.5 < kept["average"] / kept["max"] < 2


@pytest.mark.parametrize("option", [{"padding": "mirror"}, {"pooling": "min"}])
def test_unknown_options_are_refused(option):
    with pytest.raises(InputError, match="unknown"):
        VGG(((4,),), **option)


def test_normalised_form_has_unit_means_and_the_same_features(small_net):
    pictures = [photo(seed=i)[None] for i in range(4)]
    before = small_net(pictures[0], ["relu3_1"])["relu3_1"]
    means = small_net.unit_means(pictures)
    small_net.scale_(means)
    after = small_net(pictures[0], ["relu3_1"])["relu3_1"]
    torch.testing.assert_close(after * means["relu3_1"].view(-1, 1, 1), before)
    for tap, mean in small_net.unit_means(pictures).items():
        alive = means[tap] > 0.011 * means[tap].mean()
        torch.testing.assert_close(mean[alive], torch.ones(int(alive.sum())), rtol=1e-4, atol=1e-4)


def test_no_photographs_to_normalise_with(small_net):
    with pytest.raises(InputError, match="photographs"):
        small_net.unit_means([])


def test_gradient_of_the_style_loss_against_finite_differences():
    torch.manual_seed(0)
    net = VGG(((4, 4), (6,)), PLAIN, pooling="average").double().requires_grad_(False)
    picture = photo(8, 10).double()[None].requires_grad_(True)
    style = Moments.of(net(photo(10, 10, seed=3).double()[None], ["relu2_1"])["relu2_1"][0])

    def loss(x: torch.Tensor) -> torch.Tensor:
        return gram_loss(Moments.of(net(x, ["relu2_1"])["relu2_1"][0]), style)

    assert torch.autograd.gradcheck(loss, picture, eps=1e-6, atol=1e-6)


def test_bfloat16_features_are_close(small_net):
    exact = small_net(photo()[None], ["relu3_1"])["relu3_1"]
    coarse = small_net.bfloat16()(photo()[None], ["relu3_1"])["relu3_1"]
    assert coarse.dtype == torch.bfloat16
    assert float((coarse.float() - exact).norm() / exact.norm()) < 0.03


def test_asking_for_a_convolution_keeps_its_negative_values():
    net = VGG(((4, 4), (6,))).requires_grad_(False)
    features = net(torch.rand(1, 3, 16, 16), ["conv1_2", "relu1_2"])
    assert float(features["conv1_2"].min()) < 0
    assert torch.equal(features["conv1_2"].clamp_min(0), features["relu1_2"])


def test_seamless_keeps_flat_flat_and_the_inside_as_it_was():
    net = VGG(((4, 5), (6, 7), (8,))).requires_grad_(False)
    taps = ["relu1_1", "relu2_1", "relu3_1"]
    picture = torch.rand(1, 3, 64, 64)
    before = net(picture, taps)
    net.seamless = True
    after = net(picture, taps)
    for tap in taps:
        torch.testing.assert_close(after[tap][..., 4:-4, 4:-4], before[tap][..., 4:-4, 4:-4])
        flat = net(torch.full((1, 3, 32, 48), 0.3), [tap])[tap]
        torch.testing.assert_close(flat, flat[..., :1, :1].expand_as(flat))
    assert not torch.allclose(after["relu3_1"], before["relu3_1"])
