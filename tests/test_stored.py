"""A stored style serves every method that takes any painting, and only where it is right."""

from __future__ import annotations

import json

import pytest
import torch
from data import painting, photo

import impasto
from impasto.backbones import load_backbone
from impasto.backbones.base import CAFFE
from impasto.errors import InputError
from impasto.images import read, resize, write
from impasto.methods.model import bundled
from impasto.paintings import store_style
from impasto.styles import LayerMoments, StoredStyle, Style, paintings, read_painting
from impasto.styles.paintings import PIECE, pieces_of
from impasto.tensors import load_tensors, save_tensors

CPU = {"device": "cpu", "precision": "float32"}
TAKERS = {
    "adain": ("adain", {}),
    "wct": ("wct", {}),
    "ghiasi": ("ghiasi", {}),
    "gatys": ("gatys", {"iterations": 3}),
    "artflow": ("artflow", {}),
    "artflow-wct": ("artflow", {"operator": "wct"}),
    "artflow-rbmad": ("artflow", {"operator": "rbmad"}),
    "styleflow": ("styleflow", {}),
    "styleflow-rbmad": ("styleflow", {"operator": "rbmad"}),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("styles") / "waves.style"
    store_style([painting(65, 90)], "waves", device="cpu").save(path)
    return path


def test_the_list_is_complete():
    learnt = {"johnson"}
    assert {name for name, _ in TAKERS.values()} == impasto.methods().keys() - learnt


@pytest.mark.parametrize("label", TAKERS)
def test_every_method_takes_it_and_paints_as_from_the_painting(file, label):
    name, options = TAKERS[label]
    method = impasto.load(name, **CPU, **options)
    made = impasto.stylize(photo(64, 80), file, method)
    direct = impasto.stylize(photo(64, 80), painting(65, 90), method)
    assert made.settings["styles"] == ["waves"]
    torch.testing.assert_close(made.picture.rgb, direct.picture.rgb, atol=1e-3, rtol=0)


def test_it_is_small(file, tmp_path):
    each = file.stat().st_size / 2  # it has two sizes, 64 and 65; the largest have five
    store_style([painting(65, 90)], "w", methods=["wct"], device="cpu").save(tmp_path / "w.style")
    further = (tmp_path / "w.style").stat().st_size / 2  # of WCT there are nine
    assert 5 * each + 4 * further < 5e6


def test_wct_is_stored_in_smaller_steps():
    stored = store_style([painting(300, 320)], "x", methods=["wct", "adain"], device="cpu")
    steps = {part.methods: sorted(part.sizes) for part in stored.parts.values()}
    assert steps == {
        ("adain",): [64, 128, 256, 300],
        ("wct",): [64, 91, 128, 181, 256, 300],
    }


def test_it_says_what_it_is_for(file):
    style = StoredStyle.load(file)
    assert style.methods == ["adain", "artflow", "gatys", "ghiasi", "styleflow", "wct"]
    assert (
        repr(style)
        == "<style waves for adain, artflow, gatys, ghiasi, styleflow, wct; 64 to 65 px>"
    )
    prepared = impasto.load("adain", **CPU).prepare([style, painting()])
    assert repr(prepared) == "<style waves + picture prepared for adain>"


def test_one_for_a_method_is_smaller_and_refused_by_others(file, tmp_path):
    style = store_style([painting()], "small", methods=["adain"], device="cpu")
    style.save(tmp_path / "small.style")
    assert (tmp_path / "small.style").stat().st_size < file.stat().st_size / 4
    made = impasto.stylize(photo(), style, "adain", **CPU)
    assert made.settings["styles"] == ["small"]
    for other in ("wct", "gatys", "artflow"):
        with pytest.raises(InputError, match=f"for adain, not for method {other} .*--for {other}"):
            impasto.stylize(photo(), style, other, **CPU)
    with pytest.raises(InputError, match=r"no layer relu1_1"):
        impasto.stylize(photo(), style, "styleflow", **CPU)


def test_mixtures_are_stored(tmp_path):
    pictures = [painting(), painting(seed=5)]
    stored = store_style(pictures, "both", [1, 3], ["adain"], device="cpu")
    method = impasto.load("adain", **CPU)
    direct = method(photo(56, 60), method.prepare(pictures, [1, 3]))
    torch.testing.assert_close(
        method(photo(56, 60), method.prepare([stored])), direct, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["johnson"]}, "paints what it has learnt alone"),
        ({"methods": ["nothing"]}, "'nothing' is unknown"),
        ({"methods": ["adain"], "backbone": "slim"}, "no option 'backbone': method gatys has"),
        ({"weights": [1, 2]}, "2 weights for 1 styles"),
    ],
)
def test_what_cannot_be_stored_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        store_style([painting()], "x", **options)


def test_other_backbones_on_request():
    stored = store_style([painting()], "x", methods=["gatys"], backbone="slim", device="cpu")
    (backbone,) = stored.parts
    assert backbone.startswith("slim:replicate:max:")
    options = {"backbone": "slim", "iterations": 2, **CPU}
    assert impasto.stylize(photo(), stored, "gatys", **options).losses
    # AdaIN sees through the same network, but with other borders.
    with pytest.raises(InputError, match="for gatys, not for method adain"):
        impasto.stylize(photo(), stored, "adain", **CPU)


# Files made before: one part, named by the fingerprint alone.


def as_before(path, style: Style, fingerprint: str) -> None:
    sizes = {64: style.at(64), 128: style.at(128)}
    tensors = style.color.tensors("color")
    for size, layers in sizes.items():
        for tap, moments in layers.items():
            tensors |= moments.tensors(f"{size}.{tap}")
    header = {"kind": "impasto style", "name": "old", "backbone": fingerprint}
    save_tensors(
        path, tensors, {**header, "sizes": "[64, 128]", "taps": json.dumps(list(sizes[64]))}
    )


def test_files_made_before_are_taken_where_they_are_right(tmp_path):
    gatys = impasto.load("gatys", iterations=2, **CPU)
    style = gatys.prepare([painting(128, 128)])
    assert gatys.net.fingerprint == f"compact:replicate:max:{gatys.net.weights}"
    as_before(tmp_path / "old.style", style, gatys.net.fingerprint)
    made = impasto.stylize(photo(64, 64), tmp_path / "old.style", gatys).picture.rgb
    torch.testing.assert_close(made, gatys(photo(64, 64), style), atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="old: stored for compact:replicate:max"):
        impasto.stylize(photo(), tmp_path / "old.style", "adain", **CPU)


def test_files_made_before_are_refused_where_they_are_wrong(tmp_path):
    """The fingerprint of old did not know of AdaIN's seamless borders."""
    gatys = impasto.load("gatys", backbone="slim", **CPU)
    as_before(tmp_path / "old.style", gatys.prepare([painting()]), gatys.net.fingerprint)
    for name in ("adain", "styleflow", "wct"):
        with pytest.raises(InputError, match="old: stored for slim:replicate:max"):
            impasto.stylize(photo(), tmp_path / "old.style", name, **CPU)


@pytest.mark.parametrize("name", ["adain", "wct", "styleflow", "styleflow-rbmad"])
def test_models_made_before_carry_the_old_fingerprint_and_are_taken(name):
    """The bundled ones are such files."""
    header = load_tensors(bundled(name))[1]
    assert header["encoder"].count(":") == 3
    method = impasto.load(header["method"], model=bundled(name), **CPU)
    assert method.model.encoder.fingerprint == header["encoder"] + ":seamless"


@pytest.mark.parametrize("name", ["adain", "wct"])
def test_models_made_now_carry_the_true_fingerprint(name, tmp_path):
    tensors, header = load_tensors(bundled(name))
    method = impasto.load(name, **CPU)
    method.model.save(tmp_path / "x.safetensors", {})
    now = load_tensors(tmp_path / "x.safetensors")[1]
    assert now["encoder"] == header["encoder"] + ":seamless"
    assert impasto.load(name, model=tmp_path / "x.safetensors", **CPU)
    wrong = {**header, "encoder": header["encoder"].replace("replicate", "zero")}
    save_tensors(tmp_path / "y.safetensors", tensors, wrong)
    with pytest.raises(InputError, match="made for another encoder"):
        impasto.load(name, model=tmp_path / "y.safetensors", **CPU)


@pytest.mark.parametrize("change", ["padding", "pooling", "seamless", "scale_", "name"])
def test_whatever_changes_features_is_in_the_fingerprint(small_net, change):
    before, seen = small_net.fingerprint, small_net(photo()[None], ["relu3_1"])["relu3_1"]
    if change == "scale_":
        small_net.scale_(small_net.unit_means([photo()[None]]))
    else:
        values = {"padding": "zero", "pooling": "average", "seamless": True, "name": "other"}
        setattr(small_net, change, values[change])
    assert small_net.fingerprint != before
    same = torch.equal(small_net(photo()[None], ["relu3_1"])["relu3_1"], seen)
    assert same is (change == "name")


# Large paintings.


def test_pieces_are_the_whole(monkeypatch):
    monkeypatch.setattr("impasto.styles.paintings.PIECE", 10_000)
    for shape in [(70, 90), (300, 500), (16, 9000), (101, 6003)]:
        picture = torch.rand(3, *shape)
        pieces = list(pieces_of(picture))
        assert sum(piece[0].numel() for piece in pieces) == picture[0].numel()
        assert len(pieces) >= picture[0].numel() / 10_000
        assert all(piece[0].numel() <= 1.3 * 10_000 for piece in pieces)
        assert all(min(piece.shape[1:]) >= 16 for piece in pieces)


def test_a_large_painting_is_measured_inpieces_of(monkeypatch):
    method = impasto.load("adain", **CPU)
    whole = method.prepare([painting(320, 480)]).at(320)
    seen: list[tuple[int, ...]] = []

    def measure(picture: torch.Tensor) -> LayerMoments:
        seen.append(tuple(picture.shape[1:]))
        return method.measure(picture)

    monkeypatch.setattr("impasto.styles.paintings.PIECE", 40_000)
    style = method.prepare([painting(320, 480)])
    style.measure = measure
    parts = style.at(320)
    assert seen == [(160, 160)] * 6
    for tap, moments in parts.items():
        off = (moments.mean - whole[tap].mean).norm() / whole[tap].mean.norm()
        assert off < {"relu2_1": 0.01, "relu3_1": 0.05}.get(tap, 0.2)


def test_a_huge_painting_is_reduced_when_it_is_read(tmp_path, monkeypatch):
    assert PIECE < 1 << 24
    monkeypatch.setattr("impasto.styles.paintings.MOST", 20_000)
    picture = read_painting(painting(200, 400))
    assert 15_000 < picture.height * picture.width <= 20_000
    assert picture.width == pytest.approx(2 * picture.height, abs=2)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_huge_painting_is_never_whole_in_memory_as_floats(tmp_path, monkeypatch, suffix):
    path = write(tmp_path / f"x{suffix}", photo(400, 720))
    monkeypatch.setattr("impasto.styles.paintings.MOST", 30_000)
    sizes = []
    honest = paintings.read

    def spy(*args, **kwargs):
        picture = honest(*args, **kwargs)
        sizes.append(picture.height * picture.width)
        return picture

    monkeypatch.setattr("impasto.styles.paintings.read", spy)
    small = read_painting(path)
    assert sizes[0] <= 4 * 30_000
    assert small.height * small.width <= 30_000
    whole = resize(read(path).rgb, (small.height, small.width))
    assert float((small.rgb - whole).abs().mean()) < 0.03


@pytest.mark.parametrize("name", ["artflow", "artflow-rbmad"])
def test_a_style_for_a_model_of_ones_own(name):
    """Of a model there are no variants."""
    options = {"model": bundled(name), "device": "cpu"}
    stored = store_style([painting()], "x", methods=["artflow"], **options)
    assert len(stored.parts) == 1
    assert impasto.stylize(photo(), stored, "artflow", model=bundled(name), **CPU)


@pytest.mark.parametrize("weights", [None, "random"])
def test_a_network_that_learnt_on_has_another_fingerprint(weights):
    net = load_backbone("slim", weights)
    assert impasto.load("gatys", backbone=net, **CPU).net.fingerprint == net.fingerprint
    for parameter in net.parameters():
        parameter.data.mul_(0.9)
    assert impasto.load("gatys", backbone=net, **CPU).net.fingerprint != net.fingerprint
    other = load_backbone("slim")
    other.convention = CAFFE
    assert impasto.load("gatys", backbone=other, **CPU).net.fingerprint != other.fingerprint
