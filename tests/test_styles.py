from __future__ import annotations

import pytest
import torch
from data import painting, photo

from impasto.errors import InputError
from impasto.methods.gatys import Gatys
from impasto.styles import StoredStyle


@pytest.fixture
def method(small_net):
    return Gatys(small_net, device="cpu", precision="float32", iterations=15)


@pytest.fixture
def stored(method):
    return method.prepare([painting(160, 200)]).store("waves")


def seen(style):
    """The only part of a style."""
    (part,) = style.parts.values()
    return part


def test_a_stored_style_gives_the_same_picture_as_the_painting(method, stored, tmp_path):
    stored.save(tmp_path / "waves.style")
    loaded = StoredStyle.load(tmp_path / "waves.style")
    content = photo(64, 80)  # 64 is a size that is stored
    direct = method(content, method.prepare([painting(160, 200)]))
    again = method(content, method.prepare([loaded]))
    torch.testing.assert_close(direct, again, atol=1e-3, rtol=0)


def test_what_is_stored_comes_back(stored, tmp_path):
    stored.save(tmp_path / "a.style")
    loaded = StoredStyle.load(tmp_path / "a.style")
    assert loaded.name == "waves"
    assert loaded.methods == ["gatys"]
    assert list(loaded.parts) == ["small:replicate:max:1"]
    part = seen(loaded)
    assert sorted(part.sizes) == [64, 128, 160]
    assert part.taps == ["relu1_1", "relu2_1", "relu3_1"]
    for size, layers in seen(stored).sizes.items():
        for tap, moments in layers.items():
            assert torch.equal(part.sizes[size][tap].second, moments.second)


def test_sizes_between_are_interpolated(stored):
    part = seen(stored)
    low, high = part.at(64)["relu1_1"].gram, part.at(128)["relu1_1"].gram
    between = part.at(91)["relu1_1"].gram  # half an octave
    torch.testing.assert_close(between, (low + high) / 2, rtol=0.02, atol=0.02)
    assert torch.equal(part.at(20)["relu1_1"].gram, low)
    assert torch.equal(part.at(5000)["relu1_1"].gram, part.at(160)["relu1_1"].gram)


def test_another_backbone_is_refused(method, stored):
    method.net.weights = "2"
    with pytest.raises(
        InputError, match=r"for method gatys by small:.*:1, not by small:.*:2; store"
    ):
        method.prepare([stored])


def test_missing_layers_are_refused(small_net):
    shallow = Gatys(small_net, device="cpu", style_layers=["relu1_1"])
    stored = shallow.prepare([painting()]).store("flat")
    deep = Gatys(small_net, device="cpu")
    with pytest.raises(InputError, match=r"no layer relu2_1, relu3_1"):
        deep.prepare([stored])


def test_fewer_layers_than_stored_are_fine(small_net, stored):
    shallow = Gatys(small_net, device="cpu", style_layers=["relu2_1"], iterations=2)
    assert shallow(photo(), shallow.prepare([stored])).shape == (3, 48, 64)


def test_a_stored_style_and_a_painting_mix(method, stored):
    style = method.prepare([stored, painting(64, 64, seed=5)], [1, 1])
    parts = [
        seen(stored).at(64)["relu1_1"].gram,
        method.measure(painting(64, 64, seed=5))["relu1_1"].gram,
    ]
    torch.testing.assert_close(style.at(64)["relu1_1"].gram, sum(parts) / 2)


def test_storing_a_stored_style_is_refused(method, stored):
    with pytest.raises(InputError, match="name the paintings"):
        method.prepare([stored]).store("again")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "bad.style").write_bytes(b"not a style")
    with pytest.raises(InputError, match=r"bad\.style"):
        StoredStyle.load(tmp_path / "bad.style")
    with pytest.raises(InputError, match=r"none\.style"):
        StoredStyle.load(tmp_path / "none.style")


def test_bundled_backbone_stores_in_a_few_megabytes(tmp_path):
    method = Gatys(device="cpu", precision="float32")
    method.prepare([painting(256, 256)]).store("x").save(tmp_path / "x.style")
    assert (tmp_path / "x.style").stat().st_size < 4e6
