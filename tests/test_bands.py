from __future__ import annotations

import math

import pytest
import torch

from impasto.errors import InputError
from impasto.study.bands import BANDS, band_noise, band_power


def test_white_noise_has_its_variance_in_every_band():
    noise = 0.3 * torch.randn(3, 256, 320, generator=torch.Generator().manual_seed(0)) + 5
    power = band_power(noise)
    assert len(power) == len(BANDS)
    assert power == pytest.approx([0.09] * len(BANDS), rel=0.15)
    assert band_power(2 * noise) == pytest.approx([4 * value for value in power])


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(("length", "band"), [(3, 0), (6, 1), (12, 2), (24, 3), (48, 4)])
def test_a_wave_lies_in_its_band(length, band, across):
    wave = torch.sin(2 * math.pi * torch.arange(192) / length)
    picture = wave.expand(3, 192, 192)
    power = band_power(picture.mT if across else picture)
    assert max(range(len(BANDS)), key=power.__getitem__) == band
    assert all(value < 0.1 * power[band] for n, value in enumerate(power) if abs(n - band) > 1)


def test_edges_do_not_leak():
    """A ramp jumps where its ends meet; its fine bands stay empty."""
    power = band_power(torch.linspace(0, 1, 128).expand(3, 128, 128))
    assert power[0] < 1e-6 * power[-1]


@pytest.mark.parametrize("band", range(len(BANDS)))
def test_noise_stays_within_its_band(band):
    noise = band_noise(128, 96, band, 0.1, seed=band)
    assert noise.shape == (3, 128, 96)
    assert float(noise.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-4)
    power = band_power(noise)
    assert max(range(len(BANDS)), key=power.__getitem__) == band
    assert torch.equal(noise, band_noise(128, 96, band, 0.1, seed=band))


def test_a_small_picture_is_an_error():
    with pytest.raises(InputError, match="32x128 pixels are too few"):
        band_power(torch.rand(3, 128, 32))
