"""A reversible network: it turns pictures into features and back without loss.

This is the flow of Glow (Kingma & Dhariwal, NeurIPS 2018), as ArtFlow (An et al., CVPR 2021) and
report 1, section 3.2, use it: without prior or likelihood, only the forward map and its inverse.
Every layer can be inverted exactly. Features that a transfer does not change therefore come back
exactly, and no content is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import full_precision
from ..errors import InputError
from ..linalg import widened
from ..watch import divided
from .decoder import padded, padded_rows

__all__ = ["ActNorm", "Coupling", "Flow", "FromData", "InvertibleConv", "squeeze", "unsqueeze"]

STRIP = 6_000_000  # numbers in the inner features of a coupling at a time: 24 MB


def squeeze(x: Tensor) -> Tensor:
    """Turn each cell of 2x2 pixels into channels: ``(B, C, H, W)`` to ``(B, 4C, H/2, W/2)``."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """The inverse of :func:`squeeze`."""
    return F.pixel_shuffle(x, 2)


class FromData(nn.Module):
    """A layer that the first batch in training initialises; its state records this."""

    initialised: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("initialised", torch.tensor(False))
        self._known = False  # a copy on the host: reading a device in every step would wait for it

    def is_set(self) -> bool:
        """Whether a batch has initialised the layer."""
        self._known = self._known or bool(self.initialised)
        return self._known

    def mark_set(self) -> None:
        """Record that the layer is initialised."""
        self.initialised.fill_(True)
        self._known = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._known = False
        super()._load_from_state_dict(*args, **kwargs)


class ActNorm(FromData):
    """``scale (x + bias)`` by channel.

    The first batch in training sets scale and bias such that it gets mean 0 and deviation 1. A
    network read from a file keeps its values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        if self.training and not self.is_set():
            self._initialise(x)
        shift, scale = (self.scale * self.bias)[:, None, None], self.scale[:, None, None]
        return torch.addcmul(shift, x, scale, out=x if inplace else None)

    def inverse(self, y: Tensor, inplace: bool = False) -> Tensor:
        """The input that :meth:`forward` maps to ``y``."""
        shift, scale = -self.bias[:, None, None], self.scale[:, None, None]
        return torch.addcdiv(shift, y, scale, out=y if inplace else None)

    def log_determinant(self) -> Tensor:
        """Logarithm of the determinant of the map's Jacobian, for each position."""
        return self.scale.abs().log().sum()

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        deviation, mean = torch.std_mean(x, (0, 2, 3), correction=0)
        self.bias.copy_(-mean)
        self.scale.copy_(1 / (deviation + 1e-6))
        self.mark_set()


class InvertibleConv(nn.Module):
    """A 1x1 convolution by a matrix ``P L (U + diag(s))``, whose inverse and determinant are cheap.

    It starts as a random rotation. The permutation ``P`` and the signs of ``s`` are never trained,
    so that the matrix stays invertible. In evaluation, without gradients, the inverse is cached.
    """

    permutation: Tensor
    signs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation.float())
        self.register_buffer("signs", diagonal.sign().float())
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_scale = nn.Parameter(diagonal.abs().log().float())
        self._inverse: Tensor | None = None

    @torch.no_grad()
    def assign(self, matrix: Tensor) -> None:
        """Convolve by ``matrix``, which must be invertible, ``(C, C)``."""
        permutation, lower, upper = torch.linalg.lu(matrix.double())
        diagonal = upper.diagonal()
        self.permutation.copy_(permutation)
        self.signs.copy_(diagonal.sign())
        self.lower.copy_(lower.tril(-1))
        self.upper.copy_(upper.triu(1))
        self.log_scale.copy_(diagonal.abs().log())
        self._inverse = None

    def factors(self) -> tuple[Tensor, Tensor]:
        """The factors ``P L`` and ``U + diag(s)``."""
        lower = self.lower.tril(-1) + self.lower.new_ones(len(self.lower)).diag()
        upper = self.upper.triu(1) + torch.diag(self.signs * self.log_scale.exp())
        return self.permutation @ lower, upper

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        left, right = self.factors()
        return _mixed(x, left @ right, inplace)

    def inverse(self, y: Tensor, inplace: bool = False) -> Tensor:
        """The input that :meth:`forward` maps to ``y``."""
        inverse = self._inverse
        if inverse is None or torch.is_grad_enabled() or inverse.dtype != y.dtype:
            left, right = map(widened, self.factors())
            # inv_ex() does not check for errors, which would wait for the device.
            inverse = torch.linalg.inv_ex(left @ right).inverse.to(y.device, y.dtype)
            self._inverse = None if self.training or torch.is_grad_enabled() else inverse
        return _mixed(y, inverse, inplace)

    def log_determinant(self) -> Tensor:
        """Logarithm of the determinant of the matrix, the map's Jacobian at each position."""
        return self.log_scale.sum()

    def train(self, mode: bool = True) -> InvertibleConv:
        """As for every module; the cached inverse is dropped."""
        self._inverse = None
        super().train(mode)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._inverse = None
        super()._load_from_state_dict(*args, **kwargs)


class Coupling(nn.Module):
    """One half of the channels changes the other half (report 1, Eq. 4; with ``swap`` Eq. 5).

    Additive: ``(a, b + NN(a))``. Affine: ``(a, sigmoid(s + 2) b + t)`` with ``s, t = NN(a)``. The
    inverse is exact, because ``a`` does not change and NN can be computed again. The last layer of
    NN starts at zero, so that an additive coupling starts as the identity.

    Args:
        channels: number of channels; even.
        hidden: channels within NN.
        swap: swap the roles of the halves.
        affine: affine instead of additive.
    """

    def __init__(
        self, channels: int, hidden: int = 512, swap: bool = False, affine: bool = False
    ) -> None:
        super().__init__()
        half = channels // 2
        self.swap, self.affine = swap, affine
        self.first = nn.Conv2d(half, hidden, 3)
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, 2 * half if affine else half, 3)
        for start in self.last.parameters():
            nn.init.zeros_(start)
        self.log_scale = nn.Parameter(torch.zeros(self.last.out_channels))

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        if torch.is_grad_enabled():
            fixed, other = self._halves(x)
            scale, shift = self._change(self._whole(fixed))
            changed = other * scale + shift
            return torch.cat([changed, fixed] if self.swap else [fixed, changed], 1)
        x = x if inplace else x.clone()
        fixed, other = self._halves(x)
        for rows, y in self._strips(fixed):
            scale, shift = self._change(y)
            other[..., rows, :].mul_(scale).add_(shift)
        return x

    def inverse(self, y: Tensor, inplace: bool = False) -> Tensor:
        """The input that :meth:`forward` maps to ``y``."""
        if torch.is_grad_enabled():
            fixed, other = self._halves(y)
            scale, shift = self._change(self._whole(fixed))
            changed = (other - shift) / scale
            return torch.cat([changed, fixed] if self.swap else [fixed, changed], 1)
        y = y if inplace else y.clone()
        fixed, other = self._halves(y)
        for rows, out in self._strips(fixed):
            scale, shift = self._change(out)
            other[..., rows, :].sub_(shift).div_(scale)
        return y

    def _change(self, y: Tensor) -> tuple[Tensor | float, Tensor]:
        """Scale and shift of the other half, from the output of NN."""
        y = y * self.log_scale.exp()[:, None, None]
        if not self.affine:
            return 1.0, y
        scale, shift = y.chunk(2, 1)
        return torch.sigmoid(scale + 2), shift

    def _whole(self, fixed: Tensor) -> Tensor:
        """The output of NN before its scale."""
        return self.last(padded(self._inner(padded(fixed))))  # type: ignore[no-any-return]

    def _strips(self, fixed: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The output of NN before its scale, a strip of rows at a time: rows, and output there.

        The inner features are many times larger than the input. A strip is computed with two more
        rows of the picture on either side, so that it equals the same rows of the whole output.
        """
        height, width = fixed.shape[-2:]
        most = max(8, STRIP // (len(fixed) * self.first.out_channels * width))
        if most >= height:
            yield slice(None), self._whole(fixed)
            return
        for top in divided(range(0, height, most)):
            end = min(top + most, height)
            low, high = max(top - 1, 0), min(end + 1, height)
            y = self._inner(padded_rows(fixed, low - 1, high + 1, height))
            yield slice(top, end), self.last(padded_rows(y, top - 1, end + 1, height, low))

    def _inner(self, around: Tensor) -> Tensor:
        y = F.relu(self.first(around), inplace=True)
        return F.relu(self.second(y), inplace=True)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, 1)
        return (second, first) if self.swap else (first, second)


def _mixed(x: Tensor, matrix: Tensor, inplace: bool) -> Tensor:
    """Multiply the channels by a matrix; in place, a strip of rows at a time."""
    kernel = matrix.contiguous()[..., None, None]  # an inverse is stored column by column
    if not inplace:
        return F.conv2d(x, kernel)
    rows = max(8, STRIP // (len(x) * x.shape[1] * x.shape[-1]))
    for top in range(0, x.shape[-2], rows):
        strip = x[..., top : top + rows, :]
        strip.copy_(F.conv2d(strip, kernel))
    return x


class Flow(nn.Module):
    """Blocks of a squeeze and some steps of ActNorm, invertible 1x1 convolution and coupling.

    The couplings of a block change the two halves in turn (report 1, Eq. 4, 5). Without gradients
    all layers work in place, a strip at a time, and need little more memory than the picture.

    Args:
        blocks, steps: report 1 uses 2 and 8 (ArtFlow), 2 and 15 (StyleFlow).
        hidden: channels within the couplings' networks.
        affine: see :class:`Coupling`.
        channels: channels of the pictures.

    Raises:
        InputError: for invalid numbers.

    Example:
        >>> flow = Flow(blocks=2, steps=1, hidden=8)
        >>> picture = torch.rand(1, 3, 12, 8)
        >>> features = flow(picture)
        >>> features.shape
        torch.Size([1, 48, 3, 2])
        >>> torch.allclose(flow.inverse(features), picture, atol=1e-5)
        True
    """

    def __init__(
        self,
        blocks: int = 2,
        steps: int = 8,
        hidden: int = 512,
        affine: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if min(blocks, steps, hidden, channels) < 1:
            raise InputError(
                f"{blocks} blocks, {steps} steps, {hidden} hidden, {channels} channels: give 1 or "
                "more of each"
            )
        self.blocks = nn.ModuleList()
        for _ in range(blocks):
            channels *= 4
            layers: list[nn.Module] = []
            for step in range(steps):
                coupling = Coupling(channels, hidden, step % 2 == 1, affine)
                layers += [ActNorm(channels), InvertibleConv(channels), coupling]
            self.blocks.append(nn.ModuleList(layers))

    @property
    def unit(self) -> int:
        """Sides of a picture must be multiples of this."""
        return int(2 ** len(self.blocks))

    @property
    def _work(self) -> list[float]:
        """Work of each block, for the progress: fewer positions, but more channels, each time."""
        return [0.5**number for number in range(len(self.blocks))]

    def forward(
        self, pictures: Tensor, after: Callable[[int, Tensor], Tensor] | None = None
    ) -> Tensor:
        """Features ``(B, C 4^blocks, H / unit, W / unit)`` of pictures ``(B, C, H, W)``.

        Args:
            pictures: see above.
            after: called with the number of a block and its features, after its steps; returns the
                features to go on with.

        Raises:
            InputError: if a side is not a multiple of :attr:`unit`.
        """
        if any(side % self.unit for side in pictures.shape[-2:]):
            raise InputError(
                f"the picture is {pictures.shape[-1]}x{pictures.shape[-2]}: its sides must be "
                f"multiples of {self.unit}; continue it by reflection"
            )
        device = pictures.device
        # The inverse is exact only in full precision.
        with torch.autocast(device.type, enabled=False), full_precision(device):
            x = pictures
            for number in divided(range(len(self.blocks)), weights=self._work):
                block = self.blocks[number]
                assert isinstance(block, nn.ModuleList)
                x = squeeze(x)  # a copy
                for layer in divided(list(block)):
                    x = layer(x, inplace=not torch.is_grad_enabled())
                if after is not None:
                    x = after(number, x)
        return x

    def inverse(
        self,
        features: Tensor,
        before: Callable[[int, Tensor], Tensor] | None = None,
        inplace: bool = False,
    ) -> Tensor:
        """Turn features back into pictures.

        Args:
            features: as :meth:`forward` returns them.
            inplace: overwrite ``features`` if gradients are off.
            before: called with the number of a block (the last first) and its features, before its
                steps are inverted; returns the features to go on with. StyleFlow's transfer.
        """
        x = features if inplace or torch.is_grad_enabled() else features.clone()
        del features  # frees its memory before the end
        backwards = range(len(self.blocks))[::-1]
        for number in divided(backwards, weights=self._work[::-1]):
            block = self.blocks[number]
            assert isinstance(block, nn.ModuleList)
            if before is not None:
                x = before(number, x)
            with torch.autocast(x.device.type, enabled=False), full_precision(x.device):
                for layer in divided(list(block)[::-1]):
                    assert isinstance(layer, (ActNorm, InvertibleConv, Coupling))
                    x = layer.inverse(x, inplace=not torch.is_grad_enabled())
            x = unsqueeze(x)
        return x
