from __future__ import annotations

import pytest
import torch
from data import photo
from torch.nn import functional as F

from impasto.finish.dehalo import dehalo


def scene(height: int = 120, width: int = 160) -> torch.Tensor:
    """A dark tower before a sky that grows lighter downwards."""
    sky = torch.linspace(0.6, 0.8, height)[:, None].expand(3, height, width).clone()
    sky[:, 40:, 70:90] = 0.1
    return sky[None]


def halo() -> torch.Tensor:
    """Around the tower, in the sky, fading over 24 pixels."""
    tower = (scene()[:, :1] < 0.2).float()
    rims = [F.max_pool2d(tower, 2 * r + 1, 1, r) for r in range(1, 25)]
    return torch.stack(rims).mean(0) * (1 - tower)


def test_a_halo_goes_and_the_recolouring_stays():
    content = scene()
    painted = 0.9 * content + torch.tensor([0.0, 0.05, 0.1])[:, None, None]
    ring = halo()
    out = dehalo(painted + 0.15 * ring, content)
    before, after = (
        float(((x - painted) * ring).abs().sum() / ring.sum() / 3)
        for x in (painted + 0.15 * ring, out)
    )
    assert after < 0.75 * before
    torch.testing.assert_close(dehalo(painted, content), painted, atol=0.03, rtol=0)


def test_a_fine_brush_stays_in_a_flat_sky():
    content = torch.full((1, 3, 90, 120), 0.6)
    strokes = 0.1 * torch.sin(torch.arange(120.0) * 2 * torch.pi / 5).expand_as(content)
    out = dehalo(content + strokes, content)
    kept = ((out - content) * strokes).sum() / strokes.square().sum()
    assert kept > 0.9


def test_of_the_photograph_nothing_goes():
    content = photo(40, 56)[None]
    assert torch.equal(dehalo(content, content), content)


def test_among_detail_little_is_done():
    content = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(0))
    change = 0.1 * torch.sin(torch.arange(120.0) / 8)
    out = dehalo(content + change, content)
    assert float((out - content - change).abs().max()) < 0.01


@pytest.mark.parametrize("size", [(67, 45), (8, 8), (1, 30), (5, 200)])
def test_any_size_works_and_pictures_of_a_batch_are_by_themselves(size):
    generator = torch.Generator().manual_seed(3)
    pictures, contents = torch.rand(2, 2, 3, *size, generator=generator)
    contents = 0.5 + 0.02 * contents
    whole = dehalo(pictures, contents)
    assert whole.shape == pictures.shape
    assert bool(whole.isfinite().all())
    torch.testing.assert_close(whole[1:], dehalo(pictures[1:], contents[1:]))
