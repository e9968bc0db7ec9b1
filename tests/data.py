"""Pictures that the tests make for themselves, and what many of them ask."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor

from impasto.errors import ImpastoError
from impasto.images import resize
from impasto.tensors import _unpickles_safely

# The two ways to give a file a second name.
LINKS = [
    pytest.param(os.link, id="hard link"),
    pytest.param(
        os.symlink,
        id="symbolic link",
        marks=pytest.mark.posix("symbolic links take a right of their own on Windows"),
    ),
]
needs_pickles = pytest.mark.skipif(
    not _unpickles_safely(), reason="torch below 2.10 is not given pickles (CVE-2026-24747)"
)


def photo(height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    """Something smooth with an object in it, ``(3, H, W)`` in 0..1."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, 6, 8, generator=rng)
    picture = resize(coarse, (height, width)) * 0.7 + 0.1
    top, left = height // 4, width // 4
    picture[:, top : top + height // 3, left : left + width // 3] += 0.2
    return picture.clamp(0, 1)


def painting(height: int = 56, width: int = 72, seed: int = 1) -> Tensor:
    """Strong diagonal strokes in two colours, ``(3, H, W)`` in 0..1."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    stripes = (torch.sin((x + 2 * y) * 0.6) > 0).float()
    dark, light = torch.tensor([0.1, 0.2, 0.5]), torch.tensor([0.95, 0.8, 0.2])
    colours = dark[:, None, None] * (1 - stripes) + light[:, None, None] * stripes
    return (colours + 0.05 * torch.randn(3, height, width, generator=rng)).clamp(0, 1)


def as_uint8(picture: Tensor) -> np.ndarray:
    """``(H, W, 3)`` uint8."""
    return (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def refused(call, *words) -> str:
    """The message of the ImpastoError that `call` ends in: one line, with all of `words`."""
    with pytest.raises(ImpastoError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in words:
        assert str(word) in message
    return message


def mixed(*sizes: int) -> list[torch.Tensor]:
    """Features of correlated channels, of some number of channels each."""
    return [
        torch.einsum("dc,bchw->bdhw", torch.randn(size, size), torch.randn(2, size, 9, 8)) + 1
        for size in sizes
    ]


def same_moments(one: torch.Tensor, other: torch.Tensor, near: float = 1e-3) -> None:
    torch.testing.assert_close(one.mean((2, 3)), other.mean((2, 3)), atol=near, rtol=near)
    deviations = (features.std((2, 3), correction=0) for features in (one, other))
    torch.testing.assert_close(*deviations, atol=near, rtol=near)


def descended(training, contents: Tensor, styles: Tensor, rate: float) -> tuple[list, set]:
    """The losses of twelve steps of Adam, and the names of parameters that no gradient reached."""
    optimizer = torch.optim.Adam(training.network.parameters(), rate)
    losses, silent = [], {name for name, _ in training.network.named_parameters()}
    for _ in range(12):
        loss = torch.stack(list(training.loss(contents, styles).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        parameters = training.network.named_parameters()
        silent -= {n for n, p in parameters if p.grad is not None and bool(p.grad.any())}
    return losses, silent
