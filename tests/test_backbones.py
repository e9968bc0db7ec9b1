from __future__ import annotations

import ast
import dataclasses
import hashlib
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from data import needs_pickles, painting, photo
from test_vgg import random_state

import impasto
from impasto.backbones import load_backbone, load_vgg, photographs
from impasto.backbones.compact import Compact
from impasto.backbones.records import BACKBONES, BUNDLED, VGG19, WEIGHTS
from impasto.backbones.vgg import VGG
from impasto.errors import InputError
from impasto.files import home
from impasto.images import write
from impasto.losses import gram_loss
from impasto.statistics import Moments
from impasto.tensors import load_tensors, save_tensors

TAPS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
REAL = os.environ.get("IMPASTO_TEST_VGG19")


@pytest.fixture
def vgg_file(tmp_path) -> Path:
    path = tmp_path / "vgg19.safetensors"
    save_tensors(path, random_state(VGG19, 3), {})
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    for i in range(3):
        write(tmp_path / "photos" / f"{i}.png", photo(seed=i))
    return tmp_path / "photos"


@pytest.mark.parametrize("name", list(BUNDLED))
def test_encoders_are_bundled_and_small(name):
    assert BUNDLED[name].stat().st_size <= 8e6
    net = load_backbone(name)
    assert net.taps == TAPS
    features = net(photo(64, 80)[None], TAPS)
    assert [f.shape[-2:] for f in features.values()][::2] == [(64, 80), (16, 20), (4, 5)]
    tensors, header = load_tensors(BUNDLED[name])
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert set(header) >= {"config", "figures"}


@pytest.mark.parametrize("name", list(BUNDLED))
def test_bundled_features_are_in_the_unit_mean_scale(name):
    net = load_backbone(name)
    for tap, features in net(photo(128, 128)[None], TAPS).items():
        assert 0.3 < float(features.mean()) < 3, tap


@pytest.mark.parametrize("name", list(BUNDLED))
def test_bundled_encoders_are_frozen(name):
    assert not any(p.requires_grad for p in load_backbone(name).parameters())


LAYERS = {"conv1_1": (4,), "conv1_2": (6,), "conv2_1": (4, 3, 8), "conv3_2": (3, 5, 7)}


def test_bottlenecks_have_the_taps_and_resolutions_of_vgg():
    net, vgg = Compact(LAYERS), VGG(((4, 6), (8,), (4, 7)))
    assert net.taps == ["relu1_1", "relu2_1", "relu3_2"]
    for size in [(32, 48), (37, 51)]:
        ours, theirs = (each(torch.rand(2, 3, *size), net.taps) for each in (net, vgg))
        for tap in net.taps:
            assert ours[tap].shape == theirs[tap].shape
            assert ours[tap].shape[1] == net.channels(tap)
            assert bool((ours[tap] >= 0).all())


def test_a_layer_is_no_more_than_its_three_convolutions():
    net, picture = Compact(LAYERS), torch.rand(1, 3, 24, 32)
    seen = net(picture, net.taps)
    into, spatial, out = net.convs["conv3_2"]
    pooled = torch.nn.functional.max_pool2d(seen["relu2_1"], 2)
    torch.testing.assert_close(out(spatial(into(pooled))).relu(), seen["relu3_2"])
    net.pooling = "average"
    assert not torch.allclose(net(picture, ["relu3_2"])["relu3_2"], seen["relu3_2"])


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_a_tap_is_the_same_whatever_else_is_asked_for(pooling):
    net, picture = Compact(LAYERS, pooling=pooling), torch.rand(1, 3, 24, 32)
    every = net(picture, net.taps)
    for tap in net.taps:
        assert torch.equal(net(picture, [tap])[tap], every[tap])


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_taps_before_the_relu(pooling):
    net, picture = Compact(LAYERS, pooling=pooling), torch.rand(1, 3, 24, 32)
    every = net(picture, [*net.taps, *net.convolutions])
    assert net.convolutions == list(LAYERS)
    for tap in net.taps:
        before = every["conv" + tap[4:]]
        assert bool((before < 0).any())
        assert torch.equal(before.relu(), every[tap])
        assert torch.equal(net(picture, ["conv" + tap[4:]])["conv" + tap[4:]], before)


@pytest.mark.parametrize("name", list(BUNDLED))
def test_bundled_encoders_have_taps_before_the_relu(name):
    net = load_backbone(name)
    report4 = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    features = net(photo()[None], report4)
    assert list(features) == report4
    assert all(features[tap].shape[1] == net.channels(tap) for tap in report4)
    assert net.taps == list(BACKBONES[name].taps)  # of which defaults and model files are made
    assert net.numbers_per_pixel("conv3_1") == net.numbers_per_pixel("relu3_1")


def test_nothing_deeper_than_the_deepest_tap_is_computed(monkeypatch):
    net = Compact(LAYERS)
    monkeypatch.setattr(net.convs["conv3_2"], "forward", None)
    net(torch.rand(1, 3, 16, 16), ["relu2_1", "conv2_1"])


def test_bottlenecks_are_brought_to_unit_means():
    torch.manual_seed(0)
    net, pictures = Compact(LAYERS), [photo(32, 40, seed=i)[None] for i in range(3)]
    before = net(pictures[0], net.taps)
    means = net.unit_means(pictures)
    net.scale_(means)
    for tap, features in net(pictures[0], net.taps).items():
        torch.testing.assert_close(features, before[tap] / means[tap].view(-1, 1, 1))
    with pytest.raises(InputError, match="no photographs"):
        net.unit_means([])


@pytest.mark.parametrize(
    "layers",
    [
        {"conv2_1": (4,)},
        {"conv1_1": (4,), "conv3_1": (4,), "conv2_1": (4,)},
        {"conv1_1": (4,), "conv9_1": (4,)},
        {"conv1_1": (4, 4)},
        {"conv1_1": (4,), "conv2_1": (4, 0, 4)},
    ],
)
def test_bottlenecks_that_do_not_exist(layers):
    with pytest.raises(InputError, match="conv1_1|conv2_1"):
        Compact(layers)


def test_layers_that_compact_lacks_are_named():
    with pytest.raises(InputError, match="relu3_2"):
        Compact(LAYERS)(torch.rand(1, 3, 16, 16), ["relu3_1"])
    with pytest.raises(InputError, match="use slim, vgg19 or vgg16"):
        load_vgg("compact")


def test_weights_from_a_file_are_brought_to_unit_mean(vgg_file, photos):
    net = load_backbone("vgg19", vgg_file, convention="caffe", photos=photos)
    pictures = [photo(seed=i)[None] for i in range(3)]
    means = net.unit_means(pictures)["relu2_1"]
    assert 0.5 < float(means.median()) < 1.5


def test_unit_means_are_kept_in_the_cache(vgg_file, photos, monkeypatch):
    first = load_backbone("vgg19", vgg_file, convention="caffe", photos=photos)
    assert len(list(home().glob("unit-means-vgg19-*.safetensors"))) == 1
    monkeypatch.setattr(
        "impasto.backbones.scaling.photographs", lambda *_: pytest.fail("measured a second time")
    )
    second = load_backbone("vgg19", vgg_file, convention="caffe", photos=photos)
    assert first.fingerprint == second.fingerprint


def test_sample_photographs_serve_when_none_are_given(vgg_file):
    pytest.importorskip("skimage")
    net = load_backbone("vgg19", vgg_file, convention="caffe")
    assert net.fingerprint.startswith("vgg19:")


def test_sample_photographs_have_every_colour():
    # Else a channel that looks for one that none has would be blown up, sixty times in VGG-19.
    pytest.importorskip("skimage")
    before = torch.random.get_rng_state()
    pictures = list(photographs())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(map(torch.equal, pictures, photographs()))  # the same every time
    angles = torch.linspace(0, 2 * torch.pi, 9)[:-1]
    hues = torch.stack([(angles + turn).cos() for turn in (0, -2.0944, 2.0944)], 1)

    def fired(some):
        seen = [torch.einsum("nc,chw->nhw", hues, p[0]) - 0.1 for p in some]
        return torch.stack([each.relu().mean((-2, -1)) for each in seen]).mean(0)

    with_others, alone = fired(pictures), fired(pictures[::5])
    assert float(with_others.min() / with_others.max()) > 0.15
    assert float(alone.min() / alone.max()) < 0.01


def test_fingerprints_tell_options_apart(vgg_file):
    def fingerprint(**options):
        return load_backbone(
            "vgg19", vgg_file, convention="caffe", normalise=False, **options
        ).fingerprint

    prints = [fingerprint(), fingerprint(padding="zero"), fingerprint(pooling="average")]
    assert len(set(prints)) == 3
    assert fingerprint() == prints[0]


@needs_pickles
def test_weights_in_the_cache_are_found(photos):
    home().mkdir(parents=True)
    torch.save(random_state(VGG19, 2), home() / "vgg19-d01eb7cb.pth")
    net = load_backbone("vgg19", photos=photos)
    assert net.convention.name == "caffe"
    assert net.taps[-1] == "relu1_2"


@needs_pickles
def test_weights_are_downloaded_when_they_are_nowhere(tmp_path, photos, monkeypatch):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    torch.save(random_state(VGG19, 2), tmp_path / "served.pth")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/served.pth"
    body = (tmp_path / "served.pth").read_bytes()
    pinned = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    record = dataclasses.replace(WEIGHTS["vgg19-torchvision"], address=address, **pinned)
    monkeypatch.setitem(WEIGHTS, "vgg19-torchvision", record)
    try:
        net = load_backbone("vgg19", photos=photos)
    finally:
        server.shutdown()
        server.server_close()
    assert net.taps[-1] == "relu1_2"
    assert (home() / record.filename).exists()


def test_the_convention_asked_for_decides_which_weights_are_fetched(monkeypatch):
    asked = []

    def fetch(record, progress):
        asked.append(record.name)
        raise InputError("no network")

    monkeypatch.setattr("impasto.backbones.loading.fetch", fetch)
    for convention in ("torchvision", "caffe"):
        with pytest.raises(InputError):
            load_backbone("vgg16", convention=convention)
    assert asked == ["vgg16-torchvision", "vgg16-caffe"]
    with pytest.raises(InputError):
        load_backbone("vgg16")
    assert asked[2] == "vgg16-torchvision"  # the other one is not downloaded
    with pytest.raises(InputError, match="caffe or torchvision"):
        load_backbone("vgg16", convention="keras")


def test_a_damaged_cache_of_means_is_measured_anew(vgg_file, photos):
    load_backbone("vgg19", vgg_file, convention="caffe", photos=photos)
    (cached,) = home().glob("unit-means-*")
    cached.write_bytes(b"damaged")
    load_backbone("vgg19", vgg_file, convention="caffe", photos=photos)
    assert load_tensors(cached)[0]


def test_options_are_checked_for_compact_too():
    with pytest.raises(InputError, match="padding 'mirror'"):
        load_backbone("compact", padding="mirror")
    with pytest.raises(InputError, match="pooling 'min'"):
        load_backbone("compact", pooling="min")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg20", {}, "compact, slim, vgg19, vgg16"),
        ("vgg19", {"weights": Path("nowhere.pth")}, "nowhere.pth"),
        ("compact", {"weights": Path("nowhere.safetensors")}, "nowhere.safetensors"),
    ],
)
def test_backbones_that_cannot_be_had(name, options, message):
    with pytest.raises(InputError, match=message):
        load_backbone(name, **options)


def test_an_unknown_convention_is_asked_for(vgg_file):
    with pytest.raises(InputError, match="caffe .* or torchvision"):
        load_backbone("vgg19", vgg_file)


def test_a_header_may_tell_the_convention(tmp_path):
    save_tensors(tmp_path / "v.safetensors", random_state(VGG19, 1), {"convention": "torchvision"})
    net = load_backbone("vgg19", tmp_path / "v.safetensors", normalise=False)
    assert net.convention.name == "torchvision"


@pytest.mark.skipif(REAL is None, reason="IMPASTO_TEST_VGG19 names no file of Oxford's VGG-19")
def test_compact_judges_style_as_vgg19_does():
    assert REAL is not None
    pytest.importorskip("skimage")
    vgg, compact = load_backbone("vgg19", Path(REAL), convention="caffe"), load_backbone("compact")
    pictures = [photo(128, 128, seed=i) for i in range(4)] + [painting(128, 128)]
    taps = [tap for tap in TAPS if tap in vgg.taps]
    losses = {}
    for net in (vgg, compact):
        seen = [net(picture[None], taps) for picture in pictures]
        losses[net.name] = [
            float(gram_loss(Moments.of(a[tap][0]), Moments.of(b[tap][0])))
            for a in seen
            for b in seen
            for tap in taps
            if a is not b
        ]
    both = torch.tensor([losses["vgg19"], losses["compact"]]).log()
    assert float(torch.corrcoef(both)[0, 1]) > 0.6


def test_records_say_what_the_networks_are(tmp_path):
    write(tmp_path / "photo.png", photo(48, 48))
    for name, record in BACKBONES.items():
        net = load_backbone(name, "random", photos=tmp_path)
        assert record.name == name
        assert tuple(net.taps) == record.taps
        assert tuple(net.style_layers) == record.style_layers
        assert net.content_layers == record.content_layers
        assert record.pooling in ("max", "average")
        assert isinstance(net, VGG) == record.mirrored
        assert hasattr(net, "smooth") == record.smooths
        assert {*record.weights} == {w.name for w in WEIGHTS.values() if w.backbone == name}
        assert (record.file is None) == (name not in BUNDLED)


def test_records_are_read_without_torch():
    code = "import impasto.backbones.records as r, sys; print(*r.BACKBONES, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.split() == [*BACKBONES, "False"]


def test_no_module_asks_for_a_backbone_by_name():
    """What differs between them stands in their records."""
    root = Path(impasto.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Compare):
                continue
            words = {getattr(part, "value", None) for part in [node.left, *node.comparators]}
            named = [word for word in words if isinstance(word, str) and word in BACKBONES]
            assert not named, (path, node.lineno)
