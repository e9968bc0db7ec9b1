"""Pictures that are seen part by part."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from data import painting, photo, refused

import impasto
from impasto.images.canvas import Buffer, Reduction, Resized, Whole, sized
from impasto.methods.adain import AdaINConfig, AdaINModel
from impasto.networks.tiling import tiles_of

CPU = {"device": "cpu", "precision": "float32"}
SIZES = [((60, 80), (150, 201)), ((133, 90), (41, 23)), ((61, 47), (61, 90)), ((20, 24), (300, 17))]


@pytest.mark.parametrize(("size", "other"), SIZES)
def test_a_region_at_another_size_is_that_of_the_whole(size, other):
    picture = torch.rand(2, 3, *size)
    whole, canvas = sized(picture, other), Resized(Whole(picture), other, clipped=False)
    for tile in tiles_of(other, 64, 1, 0):
        part = canvas.region(tile.rows.kept, tile.columns.kept)
        torch.testing.assert_close(part, tile.seen(whole), atol=2e-5, rtol=0)
    clipped = Resized(Whole(picture), other).region(slice(0, other[0]), slice(0, other[1]))
    torch.testing.assert_close(clipped, whole.clamp(0, 1), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("size", "other"), SIZES)
def test_regions_are_reduced_as_the_whole(size, other):
    picture = torch.rand(1, 3, *size)
    reduction = Reduction(size, other)
    for tile in tiles_of(size, 32, 1, 0):
        reduction.add(tile.seen(picture), tile.rows.kept, tile.columns.kept)
    torch.testing.assert_close(reduction.pictures, sized(picture, other), atol=2e-5, rtol=0)


@pytest.mark.parametrize("stored", [False, True])
def test_a_buffer_gives_what_was_put(stored):
    picture, buffer = torch.rand(1, 3, 300, 70), Buffer((300, 70), stored=stored)
    for tile in tiles_of((300, 70), 64, 1, 0):
        buffer.put(tile.rows.kept, tile.columns.kept, tile.seen(picture))
    near = {"atol": 3e-4 if stored else 0, "rtol": 0}
    torch.testing.assert_close(
        buffer.region(slice(20, 200), slice(3, 60)), picture[..., 20:200, 3:60], **near
    )
    torch.testing.assert_close(
        buffer.at((40, 20)), sized(picture, (40, 20)), **near | {"atol": 4e-4}
    )


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
def test_no_room_for_a_buffer_is_said(monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    refused(lambda: Buffer((300, 70), stored=True), "no room for", "TMPDIR")


@pytest.mark.skipif(sys.platform != "linux", reason="measures with getrusage, in kilobytes")
def test_a_stored_buffer_takes_no_memory():
    code = """
import resource, torch
from impasto.images.canvas import Buffer
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
buffer = Buffer((6000, 8000), stored=True)
strip = torch.rand(1, 3, 200, 8000)
for top in range(0, 6000, 200):
    buffer.put(slice(top, top + 200), slice(0, 8000), strip)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(done.stdout) < 100  # MB; the buffer has 275


class Seen(Whole):
    """A photograph that tells the largest region that it was asked for."""

    most = 0

    def region(self, rows, columns):
        self.most = max(self.most, (rows.stop - rows.start) * (columns.stop - columns.start))
        return super().region(rows, columns)


@pytest.mark.parametrize("name", ["ghiasi", "johnson-bottleneck", "adain"])
@pytest.mark.parametrize("options", [{"brush": None}, {"brush": 6}, {"brush": 6, "stored": 1}])
def test_streamed_is_the_same_picture(name, options, monkeypatch):
    """By regions, with a brush, and with the passes before the last in files."""
    if options.pop("stored", None):
        monkeypatch.setattr("impasto.methods.brush.STORED", 1)
    method = impasto.load(name, tile=64, **options, **CPU)
    style = method.prepare(["woodcut" if name.startswith("johnson") else painting()])
    canvas = Seen(photo(205, 240)[None])
    out = torch.full((3, 205, 240), torch.nan)
    shares = []

    def put(rows, columns, pixels):
        assert bool(out[:, rows, columns].isnan().all())
        out[:, rows, columns] = pixels

    method.streamed(canvas, style, put, 0.8, lambda step: shares.append(step.share))
    expected = method(canvas.pictures[0], style, 0.8)
    assert float((out - expected).abs().max()) < 1 / 255
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_picture_so_far_of_streamed_is_that_of_a_step():
    """Of three dimensions, and grey where photograph and painting are."""
    method = impasto.load("ghiasi", tile=64, brush=None, **CPU)
    grey = [picture.mean(0, keepdim=True).expand(3, -1, -1) for picture in (photo(), painting())]
    pictures, puts = [], []
    method.streamed(
        Whole(grey[0][None]),
        method.prepare(grey[1:]),
        lambda *put: puts.append(put),
        on_step=lambda step: pictures.append((step.picture(), step.size)) or step.share > 0.5,
    )
    assert not puts  # it was cancelled
    for picture, size in pictures:
        assert picture.shape == (3, *size)
        assert float((picture.amax(0) - picture.amin(0)).max()) < 1e-5


@pytest.mark.parametrize(
    "canvas",
    [
        "photo.png",
        torch.rand(3, 40, 50),
        Whole(torch.rand(3, 40, 50)),
        Whole(torch.rand(2, 3, 40, 50)),
        Whole(torch.rand(1, 3, 12, 50)),
        Whole(torch.full((1, 3, 40, 50), torch.nan)),
    ],
)
def test_streamed_refuses_what_is_no_canvas_of_one_picture(canvas):
    method = impasto.load("ghiasi", **CPU)
    refused(lambda: method.streamed(canvas, method.prepare(["monet"]), print), "canvas")


@pytest.mark.parametrize("brush", [None, 2])
def test_streamed_holds_no_more_than_tiles(brush, monkeypatch):
    monkeypatch.setattr("impasto.methods.brush.STORED", 1)
    regions, region = [], Buffer.region

    def counted(self, rows, columns):
        regions.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return region(self, rows, columns)

    monkeypatch.setattr(Buffer, "region", counted)
    method = impasto.load("johnson-bottleneck", tile=64, brush=brush, **CPU)
    canvas = Seen(torch.rand(1, 3, 800, 700))
    method.streamed(canvas, method.prepare(["woodcut"]), lambda rows, columns, pixels: None)
    assert 0 < max(regions) <= 256 * 700
    if brush is None:  # else it is seen reduced
        assert 0 < canvas.most < 300 * 700


def test_a_method_that_needs_the_picture_whole_says_so():
    method = impasto.load("artflow", **CPU)
    style = method.prepare([painting()])
    canvas = Whole(photo()[None])
    refused(lambda: method.streamed(canvas, style, print), "artflow", "another method")


def test_adain_with_rbmad_in_tiles_is_the_whole(monkeypatch):
    """What RBMAD mixes with the style comes from a reduced copy, here the picture itself."""
    torch.manual_seed(0)
    method = impasto.load("adain", tile=64, raw=True, **CPU)
    config = AdaINConfig(operator="rbmad", layers=("relu3_1", "relu2_1"), widths=((8,), (8,), (6,)))
    method.model = AdaINModel(config, method.model.encoder)
    for module in method.model.network.modules():
        module.requires_grad_(False)
    method.record()
    style, content = method.prepare([painting()]), photo(141, 150)
    out = method(content, style)
    monkeypatch.setattr(method, "sides", lambda size, stored=False: [None])
    assert float((out - method(content, style)).abs().max()) < 0.2 / 255
    monkeypatch.undo()
    monkeypatch.setattr("impasto.networks.tiling.THUMBNAIL", 64)
    assert not torch.equal(method(content, style), out)
