from __future__ import annotations

import pytest
import torch
from torch import Tensor

from impasto.errors import InputError
from impasto.finish.palette import confined
from impasto.statistics import Moments


def correlated(seed: int, size: int = 40) -> Tensor:
    """Noise in correlated channels, mostly inside of 0..1."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.rand(3, 3, generator=g) * 0.08 + torch.eye(3) * 0.08
    noise = (mix @ torch.randn(3, size * size, generator=g)).reshape(3, size, size)
    return (0.3 + 0.4 * torch.rand(3, 1, 1, generator=g) + noise).clamp(0, 1)


def test_confined_colours_are_within_reach_of_the_target():
    target = correlated(1)
    moments = Moments.of(target.double()).normalised()
    picture = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(2))
    out = confined(picture, moments, 2.0)
    covariance = moments.covariance + 0.02**2 * torch.eye(3)

    def distance(pixels: Tensor) -> Tensor:
        off = (pixels.double() - moments.mean[:, None, None]).flatten(-2)
        return (off * torch.linalg.solve(covariance, off)).sum(-2).sqrt()

    near = distance(picture) < 2
    assert 0 < float(near.double().mean()) < 1
    assert float(distance(out).max()) < 2 + 1e-4
    kept = near.unflatten(-1, (20, 30))[:, None].expand_as(out)
    torch.testing.assert_close(out[kept], picture[kept])
    with pytest.raises(InputError, match="reach is 0"):
        confined(picture, moments, 0)


def test_confined_to_grey_is_nearly_grey():
    grey = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(3)).expand(3, 40, 40)
    out = confined(torch.rand(3, 20, 20), Moments.of(grey.double()).normalised())
    assert float((out - out.mean(0)).abs().max()) < 0.08
