from __future__ import annotations

import pytest
import torch
from data import photo

from impasto.finish import degrid as module
from impasto.finish.degrid import degrid


def pattern(period: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Of mean zero in a cell, the same in every cell."""
    cell = torch.randn(3, period, period, generator=torch.Generator().manual_seed(seed))
    cell = 0.05 * (cell - cell.mean((-2, -1), keepdim=True))
    tiles = (-(-height // period), -(-width // period))
    return cell.repeat(1, *tiles)[:, :height, :width]


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_pattern_in_a_flat_sky_goes(period):
    ramp = torch.linspace(0.3, 0.6, 96).expand(1, 3, 64, 96)
    printed = ramp + pattern(period, 64, 96)
    inner = (..., slice(16, -16), slice(16, -16))  # at the edge it meets its own reflection
    out = degrid(printed, ramp, period)
    assert float((out - ramp)[inner].abs().max()) < 0.01 * float((printed - ramp).abs().max())
    assert float((out - ramp).square().mean()) < 0.2 * float((printed - ramp).square().mean())


def test_of_the_photograph_nothing_goes():
    content = photo(40, 56)[None]
    assert torch.equal(degrid(content, content), content)
    sky = torch.full((1, 3, 40, 56), 0.5) + pattern(4, 40, 56)  # a photographed weave
    torch.testing.assert_close(degrid(sky, sky), sky)


def test_what_does_not_repeat_stays():
    generator = torch.Generator().manual_seed(1)
    content = torch.full((1, 3, 80, 80), 0.5)
    strokes = 0.1 * torch.randn(1, 3, 80, 80, generator=generator)
    out = degrid(content + strokes, content)
    kept = (out - content).flatten() @ strokes.flatten() / strokes.square().sum()
    assert kept > 0.9
    wide = content + 0.3 * torch.sin(torch.arange(80.0) / 6)
    inner = slice(16, -16)
    torch.testing.assert_close(
        degrid(wide, content)[..., inner], wide[..., inner], atol=0.01, rtol=0
    )


def test_among_detail_it_is_left_alone():
    content = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    printed = content + pattern(4, 64, 64)
    assert float((degrid(printed, content) - printed).abs().max()) < 0.01


@pytest.mark.parametrize("size", [(67, 45), (64, 64), (5, 40), (1, 1), (2, 3)])
def test_strips_give_the_same_and_any_size_works(size, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    picture, content = torch.rand(2, 2, 3, *size, generator=generator)
    content = 0.5 + 0.05 * content
    whole = degrid(picture, content)
    assert whole.shape == picture.shape
    monkeypatch.setattr(module, "ROWS", 16)
    torch.testing.assert_close(degrid(picture, content), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(degrid(picture[1:], content[1:]), whole[1:], atol=1e-6, rtol=0)
