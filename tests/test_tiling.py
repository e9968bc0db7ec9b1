"""Pictures in tiles: no seams, and the same picture as in one piece."""

from __future__ import annotations

import dataclasses
import random
import re

import pytest
import torch
from data import painting, photo, refused

import impasto
from impasto.device import memory
from impasto.images import fit
from impasto.images.canvas import Resized, Whole
from impasto.methods.ghiasi import GhiasiConfig, GhiasiModel
from impasto.networks.norm import Statistics, StyledNorm
from impasto.networks.painter import Painter
from impasto.networks.tiling import measured, thumbnail, tiles_of
from impasto.networks.transformer import Transformer

CPU = {"device": "cpu", "precision": "float32"}
LEVEL = 1 / 255
NETWORKS = {
    "residual": lambda: Transformer("residual", (6, 8, 12), 2, rows=3, noise=True),
    "bottleneck": lambda: Transformer("bottleneck", (6, 8, 12), 2, 2, rows=3),
    "painter": lambda: Painter((4, 6, 8, 12), 1, rows=3),
}
MIX = torch.tensor([[0.5, 0.2, 0.3]])


@pytest.fixture(params=NETWORKS)
def network(request):
    """With random scales and shifts, as after training."""
    torch.manual_seed(0)
    net = NETWORKS[request.param]().eval().requires_grad_(False)
    for norm in (module for module in net.modules() if isinstance(module, StyledNorm)):
        norm.scale.normal_(1, 0.3)
        norm.shift.normal_(0, 0.3)
    return net


def in_tiles(network, run, pictures, side, exact=False):
    paint = measured(network, run, Whole(pictures), side, exact)
    out = torch.empty_like(pictures)
    for tile in tiles_of(pictures.shape[-2:], side, network.unit, network.halo):
        tile.put(out, paint(tile.seen(pictures), tile.rows.seen, tile.columns.seen))
    return out


def seams(whole, tiled, side):
    """Root mean square of the difference near the borders of tiles, and elsewhere."""
    off = (whole - tiled).square().mean(0)
    near = torch.zeros_like(off, dtype=torch.bool)
    for tile in tiles_of(off.shape, side, 8, 0):
        for dim, span in ((0, tile.rows), (1, tile.columns)):
            if span.begin:
                near.narrow(dim, span.begin - 16, 32).fill_(True)
    assert near.any()
    assert not near.all()
    return float(off[near].mean().sqrt()), float(off[~near].mean().sqrt())


def test_tiles_cover_the_picture_once():
    seen = torch.zeros(101, 203)
    tiles = tiles_of((101, 203), 32, 8, 16)
    for tile in tiles:
        assert tile.rows.begin % 8 == tile.columns.begin % 8 == 0
        assert tile.rows.first % 8 == tile.columns.first % 8 == 0
        seen[tile.rows.kept, tile.columns.kept] += 1
    assert bool((seen == 1).all())
    assert len(tiles) == 4 * 7


def test_the_halo_is_what_the_network_sees(network):
    """With statistics given, a pixel farther than the halo changes nothing; a nearer one does."""
    side = 2 * network.halo + 2 * network.unit
    x, statistics = photo(network.unit, 3 * side)[None], Statistics()
    x = x.expand(1, 3, -1, -1)
    noise = network.noise_of(*x.shape[-2:])(slice(0, x.shape[-2]), slice(0, x.shape[-1]))
    with statistics.measuring():
        network(x, MIX, noise)
    with statistics.given():
        before = network(x, MIX, noise)
    begin = side // network.unit * network.unit  # of a core
    changes = {}
    for name, edge in (
        ("beyond", begin - network.halo),
        ("within", begin - network.halo + network.unit),
    ):
        changed = x.clone()
        changed[..., :edge] = 1 - changed[..., :edge]
        with statistics.given():
            after = network(changed, MIX, noise)
        changes[name] = float((after - before)[..., begin:].abs().max())
    assert changes["beyond"] == 0
    assert changes["within"] > 0


@pytest.mark.parametrize("size", [(192, 200), (189, 203)])
def test_exact_tiles_are_the_whole(network, size):
    pictures = torch.stack([photo(*size), photo(*size, seed=3)])
    mix = torch.cat([MIX, MIX.flip(1)])
    out = in_tiles(network, lambda x, noise: network(x, mix, noise), pictures, 64, exact=True)
    torch.testing.assert_close(out, network(pictures, mix), atol=2e-5, rtol=0)


def test_a_thumbnail_of_a_small_picture_is_the_picture(network):
    pictures = photo(189, 203)[None]
    out = in_tiles(network, lambda x, noise: network(x, MIX, noise), pictures, 64)
    torch.testing.assert_close(out, network(pictures, MIX), atol=1e-4, rtol=0)


def test_a_thumbnail_has_a_short_side_of_512():
    assert thumbnail(Whole(torch.rand(1, 3, 600, 900))).shape == (1, 3, 512, 768)


def test_statistics_are_held_from_one_picture_to_another(network):
    one, other = photo(64, 64)[None], photo(64, 64, seed=1)[None] * 0.5
    statistics = Statistics()
    with statistics.measuring():
        expected = network(one, MIX)
    assert torch.equal(expected, network(one, MIX))
    with statistics.given():
        assert torch.allclose(network(one, MIX), expected, atol=1e-5)
        held = network(other, MIX)
    assert not torch.allclose(held, network(other, MIX), atol=1e-3)
    assert len(statistics) == sum(isinstance(m, StyledNorm) for m in network.modules())


def stylised(name, content, **options):
    style = "woodcut" if name.startswith("johnson") else painting()
    options = {"tile": 64, **options}
    return impasto.stylize(content, style, name, **CPU, **options).picture.rgb


METHODS = ["ghiasi", "johnson", "johnson-bottleneck", "adain", "wct"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("options", [{}, {"brush": 8}, {"strength": 0.7}])
def test_methods_in_tiles_with_the_statistics_of_the_whole(name, options):
    """With brushes, strength, noise and repairs: the thumbnail of so small a picture is itself."""
    content = photo(141, 150)
    out, whole = stylised(name, content, **options), stylised(name, content, tile=None, **options)
    # Whitening enlarges small differences, such as those of resampling part by part.
    assert float((out - whole).abs().max()) < (0.5 if name == "wct" else 0.2) * LEVEL


def test_the_exact_statistics_of_a_method():
    content = photo(141, 150)
    out = stylised("johnson-bottleneck", content, statistics="exact", brush=None)
    whole = stylised("johnson-bottleneck", content, tile=None, brush=None)
    assert float((out - whole).abs().max()) < 0.1 * LEVEL


@pytest.mark.parametrize("name", ["ghiasi", "johnson-bottleneck"])
@pytest.mark.parametrize("statistics", ["thumbnail", "exact"])
def test_tiles_have_a_share_of_the_work_also_of_two_renderings(name, statistics):
    """Below strength 1 two are measured; without a share, tiles would tell of no step."""
    method = impasto.load(name, tile=64, brush=None, statistics=statistics, **CPU)
    style = method.prepare(["woodcut" if name.startswith("johnson") else painting()])
    steps = []
    method(photo(70, 130), style, 0.5, steps.append)
    assert sum(step.stage.startswith("tile") for step in steps) == 6
    shares = [step.share for step in steps]
    assert shares == sorted(shares)


@pytest.mark.parametrize("name", METHODS[:3])
def test_no_seams_with_a_thumbnail(name, monkeypatch):
    monkeypatch.setattr("impasto.networks.tiling.THUMBNAIL", 96)
    differences = []
    for seed in range(2):
        content = photo(192, 208, seed)
        out = stylised(name, content, brush=None)
        differences.append(seams(stylised(name, content, tile=None, brush=None), out, 64))
    near, elsewhere = torch.tensor(differences).square().mean(0).sqrt().tolist()
    assert elsewhere > 0
    assert near < max(LEVEL, 1.1 * elsewhere)


def test_only_large_pictures_are_in_tiles():
    method = impasto.load("ghiasi", **CPU)
    assert method.sides((1024, 1024)) == [None, None]
    assert method.sides((2000, 3000)) == [None, None, method.model.side]
    assert impasto.load("ghiasi", tile=None, **CPU).sides((9000, 9000))[-1] is None
    assert impasto.load("ghiasi", tile=256, **CPU).sides((256, 256)) == [None]
    assert impasto.load("ghiasi", tile=256, **CPU).sides((256, 257)) == [256]


@pytest.mark.parametrize("name", ["ghiasi", "johnson", "adain", "wct"])
def test_a_small_picture_is_in_tiles_where_only_these_fit(name, monkeypatch):
    method, size = impasto.load(name, brush=None, **CPU), (1400, 1400)
    assert method.sides(size) == [None]
    whole = method._needed(size)
    monkeypatch.setattr(memory, "available_memory", lambda device: 0.9 * whole)
    assert method.sides(size)[0] in (512, 768)
    method._check_memory(size)


@pytest.mark.parametrize("name", ["ghiasi", "adain", "wct"])
def test_what_is_measured_of_a_panorama_does_not_grow_with_it(name, monkeypatch):
    monkeypatch.setattr("impasto.networks.tiling.THUMBNAIL", 96)
    monkeypatch.setattr("impasto.methods.adain.FIRST", 96)
    method = impasto.load(name, brush=None, **CPU)
    shapes = []
    network = method.model.network if name == "ghiasi" else method.model.encoder
    network.register_forward_pre_hook(lambda module, given: shapes.append(given[0].shape))
    method.options = dataclasses.replace(method.options, tile=64)
    method(photo(32, 3000), method.prepare([painting()]))
    assert max(shape[-1] * shape[-2] for shape in shapes) < 25_000


def test_tiles_are_as_large_as_memory_allows(monkeypatch):
    method = impasto.load("ghiasi", brush=None, device="cpu", precision="bfloat16")
    size = (6000, 8000)
    needs = method._bytes(size, 768, size)
    assert needs > method._bytes(size, 512, size)
    sides = []
    for free in (needs + 1, needs - 1, 0.1 * needs):
        monkeypatch.setattr(memory, "available_memory", lambda device, free=free: free)
        sides += method.sides(size)
    assert sides == [768, 512, 512]
    refused(lambda: method._check_memory(size), "GB of memory", "use size=")


@pytest.mark.parametrize("brush", [None, 1])
@pytest.mark.parametrize("tile", ["auto", None, 256, 2048])
@pytest.mark.parametrize("name", ["ghiasi", "johnson", "adain", "wct", "styleflow"])
def test_what_is_offered_is_not_refused(name, tile, brush, monkeypatch):
    flow = name == "styleflow"
    method = impasto.load(name, brush=brush, **({} if flow else {"tile": tile}), **CPU)
    rng = random.Random(0)
    offered = 0
    for _ in range(30):
        short, free = round(2 ** rng.uniform(8, 13)), 2 ** rng.uniform(27, 33)
        size = (short, round(short * rng.uniform(1, 6)))
        monkeypatch.setattr(memory, "available_memory", lambda device, free=free: free)
        try:
            method._check_memory(size)
        except impasto.OutOfMemoryError as error:
            said = str(error)
            offer = re.search(r"size=(\d+)", said)
            if offer:
                method._check_memory(fit(*size, int(offer[1])))
                offered += 1
            if "tile=512" in said:
                impasto.load(name, brush=brush, tile=512, **CPU)._check_memory(size)
    assert offered > 3


@pytest.mark.parametrize("name", ["ghiasi", "wct"])
def test_what_is_streamed_needs_memory_for_no_picture(name, monkeypatch):
    method, gigapixel = impasto.load(name, **CPU), (27_000, 37_000)
    monkeypatch.setattr(memory, "available_memory", lambda device: 4e9)
    refused(lambda: method._check_memory(gigapixel), "GB of memory")
    method._check_memory(gigapixel, stored=True)
    assert method.sides(gigapixel, stored=True)[-1] == method.model.side
    monkeypatch.setattr(memory, "available_memory", lambda device: 5e8)
    style, canvas = method.prepare([painting()]), Whole(torch.rand(1, 3, 27, 37))
    canvas = Resized(canvas, gigapixel)
    refused(lambda: method.streamed(canvas, style, None), "37000x27000", "GB of memory")


def test_a_large_picture_of_one_tile_is_that_tile():
    """What its statistics are known for is painted in strips, in less memory than one piece."""
    method = impasto.load("ghiasi", **CPU)
    method.model = GhiasiModel(GhiasiConfig(network="painter"), method.model.encoder)
    assert method.sides((1000, 1000))[-1] is None
    assert method.sides((2000, 3000))[-1] == 3072


def test_a_tile_that_is_none_is_refused():
    refused(lambda: impasto.load("ghiasi", tile=32), "tile is 32", "64 or more")
    refused(lambda: impasto.load("ghiasi", tile="big"), "tile is")
    refused(lambda: impasto.load("ghiasi", statistics="half"), "thumbnail or exact")


def test_memory_in_tiles_is_that_of_a_tile(monkeypatch):
    """In one piece the same picture is refused, and the tiles that would do are offered."""
    size = (1000, 900)
    in_tiles, whole = (impasto.load("ghiasi", tile=tile, **CPU) for tile in ("auto", None))
    assert in_tiles.sides(size)[-1] is None
    needed = whole.model.bytes_per_pixel(torch.float32) * size[0] * size[1]
    monkeypatch.setattr(memory, "available_memory", lambda device: 0.7 * needed)
    refused(lambda: whole._check_memory(size), "GB of memory", "or tile=512")
    impasto.load("ghiasi", tile=512, **CPU)._check_memory(size)
    large = (3000, 4000)
    monkeypatch.setattr(memory, "available_memory", lambda device: 4e9)
    in_tiles._check_memory(large)
    said = refused(lambda: in_tiles._check_memory((30000, 40000)), "GB of memory", "use size=")
    assert "tile" not in said


@pytest.mark.parametrize("name", ["johnson-bottleneck", "adain"])
def test_tiles_are_steps_and_can_be_cancelled(name):
    content, told = photo(141, 150), []
    stylised(name, content, on_step=told.append)
    shares = [step.share for step in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert any(step.stage.endswith("tile 9/9") for step in told)
    stopped = stylised(name, content, on_step=lambda step: step.stage.endswith("tile 2/9"))
    assert torch.equal(stopped, content)  # nothing whole was there yet
