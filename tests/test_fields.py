"""Receptive fields: what is computed from the layers is what a gradient reaches."""

from __future__ import annotations

import pytest
import torch
from data import photo

from impasto.backbones import Field, outline
from impasto.backbones.compact import Compact
from impasto.backbones.records import BACKBONES
from impasto.backbones.vgg import HALVING, VGG
from impasto.errors import InputError

# One network of each kind of layers; of the large ones not every layer.
TAPS = {
    "vgg19": ["conv1_1", "relu1_2", "relu2_1", "conv3_4", "relu4_1", "relu5_1"],
    "compact": None,
    "slim": None,
    "resnet50": None,
    "resnet18": None,
}


def random_weights(name, pooling):
    """As the backbone is, with random weights, which no feature ignores."""
    torch.manual_seed(0)
    net = outline(name, pooling)
    for part in net.modules():
        if isinstance(part, (torch.nn.Conv2d, torch.nn.BatchNorm2d)):
            part.reset_parameters()
    return net.eval().requires_grad_(False)


def reached(net, tap, width, seed=0):
    """Number of the feature in the middle of a strip, and first and last pixel that it depends on.

    Kernels are square, so that a low picture is enough.
    """
    strip = torch.rand(1, 3, 32, width, generator=torch.Generator().manual_seed(seed))
    strip.requires_grad_(True)
    features = net(strip, [tap])[tap]
    middle = features.shape[-1] // 2
    (gradient,) = torch.autograd.grad(features[..., middle].sum(), strip)
    columns = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    return middle, int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("name", TAPS)
def test_the_field_is_what_a_gradient_reaches(name, pooling):
    net = random_weights(name, pooling)
    for tap in TAPS[name] or [*net.convolutions, *net.taps]:
        field = net.field(tap)
        width = (field.size // 32 + 4) * 32
        middle, first, last = reached(net, tap, width)
        expected = field.offset + middle * field.stride
        # Of maxima only one of four pixels has a gradient: other pictures show the rest.
        for seed in range(1, 4):
            if (first, last) != (expected, expected + field.size - 1):
                _, low, high = reached(net, tap, width, seed)
                first, last = min(first, low), max(last, high)
        assert first > 0 and last < width - 1, "the strip is too narrow for this test"
        assert (first, last) == (expected, expected + field.size - 1), (tap, field)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_layer_has_a_field_and_the_stride_of_its_features(name):
    net = random_weights(name, None)
    taps = [*net.convolutions, *net.taps]
    features = net(torch.rand(1, 3, 64, 64), taps)
    for tap in taps:
        assert features[tap].shape[-1] == 64 // net.field(tap).stride
        assert features[tap].shape[1] == net.channels(tap)
    sizes = [net.field(tap).size for tap in net.taps]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_a_tile_with_a_halo_has_the_features_of_the_whole(pooling):
    torch.manual_seed(0)
    layers = {"conv1_1": (4,), "conv1_2": (8,), "conv2_1": (4, 4, 8), "conv3_1": (4, 4, 8)}
    nets = [VGG(((4, 4), (8,), (8,)), pooling=pooling), Compact(layers, pooling=pooling)]
    for net in nets:
        field = net.field("relu3_1")
        wide = -(-field.halo // field.stride) * field.stride
        picture = photo(128, 96)[None]
        whole = net(picture, ["relu3_1"])["relu3_1"]
        tile = net(picture[..., 64 - wide : 80 + wide, :], ["relu3_1"])["relu3_1"]
        border, first, last = (size // field.stride for size in (wide, 64, 80))
        inside = tile[..., border : border + last - first, :]
        torch.testing.assert_close(inside, whole[..., first:last, :])


def test_published_fields():
    """Araujo et al. 2019: 212 of VGG-16, whose last layer is a pooling, and 435 of ResNet-18."""
    assert outline("vgg16").field("relu5_3").after(HALVING).size == 212
    assert outline("resnet18", "max").field("rb4").size == 435
    assert outline("vgg19").field("relu4_1") == Field(68, 8, -30)


def test_a_layer_that_is_not_there():
    with pytest.raises(InputError, match="has no layer relu1_2"):
        outline("compact").field("relu1_2")
    with pytest.raises(InputError, match="unknown"):
        outline("vgg20")


@pytest.mark.parametrize("name", BACKBONES)
def test_the_command_lists_the_layers(run, name):
    code, out, _ = run("backbones", name)
    assert code == 0
    net = outline(name)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:-1]}
    assert {*rows} == {*net.taps, *net.convolutions}
    for tap, row in rows.items():
        size = net.field(tap).size
        assert row[:3] == [str(net.channels(tap)), str(net.field(tap).stride), f"{size}x{size}"]
    assert {tap for tap, row in rows.items() if "style" in " ".join(row)} == {*net.style_layers}
    assert sum("content" in line for line in out.splitlines()[1:-1]) == 1
    assert f"with {net.pooling} pooling" in out


def test_a_backbone_that_is_not_there(run):
    code, _, said = run("backbones", "vgg20")
    assert code == 2
    assert said.startswith("impasto: backbone 'vgg20' is unknown: use one of compact")
