"""Octave bands of spatial frequency: where the power of a picture lies, and noise within a band.

Report 5 asks why robust networks serve style transfer better, and supposes that the features of
others are of high frequency. Power by bands shows what an optimisation adds to a picture; noise
within a band shows to which frequencies a network responds.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["BANDS", "band_noise", "band_power"]

BANDS = ("2-4 px", "4-8 px", "8-16 px", "16-32 px", "32-64 px")
"""Wavelengths of the bands, from fine to coarse; the diagonals' finer ones count for the first."""


def band_power(picture: Tensor) -> list[float]:
    """Power per frequency of ``(3, H, W)`` in each of :data:`BANDS`; white noise has its variance.

    The mean is subtracted and a Hann window applied, because the jump between opposite edges would
    spread over all frequencies.

    Raises:
        InputError: for a picture whose shorter side is below 64 pixels.
    """
    masks = _masks(*picture.shape[-2:])
    x = picture.double()
    x = x - x.mean((-2, -1), keepdim=True)
    rows, columns = (torch.hann_window(n, dtype=torch.float64) for n in x.shape[-2:])
    window = rows[:, None] * columns
    spectrum = torch.fft.fft2(x * window).abs().square().mean(0) / window.square().sum()
    return [float(spectrum[mask].mean()) for mask in masks]


def band_noise(height: int, width: int, band: int, deviation: float, seed: int = 0) -> Tensor:
    """Gaussian noise ``(3, height, width)`` within the band of that index, of a given deviation."""
    rng = torch.Generator().manual_seed(seed)
    mask = _masks(height, width)[band]
    noise = torch.fft.ifft2(torch.fft.fft2(torch.randn(3, height, width, generator=rng)) * mask)
    scaled: Tensor = deviation * noise.real / noise.real.square().mean().sqrt()
    return scaled


def _masks(height: int, width: int) -> list[Tensor]:
    """Frequencies ``(H, W)`` of each of :data:`BANDS`."""
    if min(height, width) < 64:
        raise InputError(f"bands: {width}x{height} pixels are too few; 64 are the least")
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    cycles = torch.hypot(rows[:, None], columns)  # per pixel
    edges = [1.0, *(0.5 ** (2 + n) for n in range(len(BANDS)))]
    return [(low <= cycles) & (cycles < high) for high, low in pairwise(edges)]
