"""A reversible network: pictures to features and back without loss.

The flow of Glow (Kingma & Dhariwal, NeurIPS 2018) as ArtFlow (An et al., CVPR 2021) and paper 1,
section 3.2, use it: no prior, no likelihood, only the way there and the way back. What the transfer
in between does not touch comes back exactly, so no content leaks away.
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
from .decoder import padded, padded_rows

__all__ = ["ActNorm", "Coupling", "Flow", "FromData", "InvertibleConv", "squeeze", "unsqueeze"]

STRIP = 6_000_000  # numbers in the inner features of a coupling at a time: 24 MB


def squeeze(x: Tensor) -> Tensor:
    """Every 2x2 pixels become the channels of one: ``(B, C, H, W)`` to ``(B, 4C, H/2, W/2)``."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """The inverse of :func:`squeeze`."""
    return F.pixel_shuffle(x, 2)


class FromData(nn.Module):
    """A layer that is set by the first batch in training; that it has been is in its state."""

    initialised: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("initialised", torch.tensor(False))
        self._known = False  # that it is set: to ask the device at every step is to wait for it

    def is_set(self) -> bool:
        """Whether a batch has set it."""
        self._known = self._known or bool(self.initialised)
        return self._known

    def mark_set(self) -> None:
        """From now on it is."""
        self.initialised.fill_(True)
        self._known = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._known = False
        super()._load_from_state_dict(*args, **kwargs)


class ActNorm(FromData):
    """``scale (x + bias)`` by channel; the first batch in training makes it mean 0, deviation 1.

    A network read from a file keeps what it has.
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
        """What :meth:`forward` was given."""
        shift, scale = -self.bias[:, None, None], self.scale[:, None, None]
        return torch.addcdiv(shift, y, scale, out=y if inplace else None)

    def log_determinant(self) -> Tensor:
        """Of the map's Jacobian, for each position."""
        return self.scale.abs().log().sum()

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        deviation, mean = torch.std_mean(x, (0, 2, 3), correction=0)
        self.bias.copy_(-mean)
        self.scale.copy_(1 / (deviation + 1e-6))
        self.mark_set()


class InvertibleConv(nn.Module):
    """A 1x1 convolution by a matrix ``P L (U + diag(s))``, whose inverse and determinant are cheap.

    Starts as a random rotation. The permutation ``P`` and the signs of ``s`` stay as they start, so
    it is invertible whatever it learns. In evaluation, without gradients, the inverse is kept.
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
        self._back: Tensor | None = None

    def factors(self) -> tuple[Tensor, Tensor]:
        """``P L`` and ``U + diag(s)``."""
        lower = self.lower.tril(-1) + self.lower.new_ones(len(self.lower)).diag()
        upper = self.upper.triu(1) + torch.diag(self.signs * self.log_scale.exp())
        return self.permutation @ lower, upper

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        left, right = self.factors()
        return _mixed(x, left @ right, inplace)

    def inverse(self, y: Tensor, inplace: bool = False) -> Tensor:
        """What :meth:`forward` was given."""
        back = self._back
        if back is None or torch.is_grad_enabled() or back.dtype != y.dtype:
            left, right = map(widened, self.factors())
            back = torch.linalg.inv_ex(left @ right).inverse.to(y.device, y.dtype)  # asks nobody
            self._back = None if self.training or torch.is_grad_enabled() else back
        return _mixed(y, back, inplace)

    def log_determinant(self) -> Tensor:
        """Of the matrix, which is the map's Jacobian at each position."""
        return self.log_scale.sum()

    def train(self, mode: bool = True) -> InvertibleConv:
        """As every module; what was kept of the inverse is dropped."""
        self._back = None
        super().train(mode)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._back = None
        super()._load_from_state_dict(*args, **kwargs)


class Coupling(nn.Module):
    """One half of the channels changes the other (paper 1, Eq. 4; with ``swap`` Eq. 5).

    Additive: ``(a, b + NN(a))``. Affine: ``(a, sigmoid(s + 2) b + t)`` with ``s, t = NN(a)``. It
    starts as no change (additive), because the last layer of NN starts at zero.

    Args:
        channels: even.
        hidden: channels within NN.
        swap: the halves change places.
        affine: see above.
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
            given, other = self._halves(x)
            scale, shift = self._change(self._whole(given))
            changed = other * scale + shift
            return torch.cat([changed, given] if self.swap else [given, changed], 1)
        x = x if inplace else x.clone()
        given, other = self._halves(x)
        for rows, y in self._strips(given):
            scale, shift = self._change(y)
            other[..., rows, :].mul_(scale).add_(shift)
        return x

    def inverse(self, y: Tensor, inplace: bool = False) -> Tensor:
        """What :meth:`forward` was given."""
        if torch.is_grad_enabled():
            given, other = self._halves(y)
            scale, shift = self._change(self._whole(given))
            changed = (other - shift) / scale
            return torch.cat([changed, given] if self.swap else [given, changed], 1)
        y = y if inplace else y.clone()
        given, other = self._halves(y)
        for rows, out in self._strips(given):
            scale, shift = self._change(out)
            other[..., rows, :].sub_(shift).div_(scale)
        return y

    def _change(self, y: Tensor) -> tuple[Tensor | float, Tensor]:
        """Scale and shift of the other half, from what NN gives."""
        y = y * self.log_scale.exp()[:, None, None]
        if not self.affine:
            return 1.0, y
        scale, shift = y.chunk(2, 1)
        return torch.sigmoid(scale + 2), shift

    def _whole(self, given: Tensor) -> Tensor:
        """NN without its scale."""
        return self.last(padded(self._inner(padded(given))))  # type: ignore[no-any-return]

    def _strips(self, given: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """NN without its scale, a strip of rows at a time: the rows, and what it gives there.

        Its inner features are many times what it is given. With two rows more on either side, from
        the picture's own, a strip is exactly what it is in the whole.
        """
        height, width = given.shape[-2:]
        most = max(8, STRIP // (len(given) * self.first.out_channels * width))
        if most >= height:
            yield slice(None), self._whole(given)
            return
        for top in range(0, height, most):
            end = min(top + most, height)
            low, high = max(top - 1, 0), min(end + 1, height)
            y = self._inner(padded_rows(given, low - 1, high + 1, height))
            yield slice(top, end), self.last(padded_rows(y, top - 1, end + 1, height, low))

    def _inner(self, around: Tensor) -> Tensor:
        y = F.relu(self.first(around), inplace=True)
        return F.relu(self.second(y), inplace=True)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, two = x.chunk(2, 1)
        return (two, one) if self.swap else (one, two)


def _mixed(x: Tensor, matrix: Tensor, inplace: bool) -> Tensor:
    """Channels by a matrix; in place a strip of rows at a time."""
    kernel = matrix.contiguous()[..., None, None]  # an inverse comes with its columns in a row
    if not inplace:
        return F.conv2d(x, kernel)
    rows = max(8, STRIP // (len(x) * x.shape[1] * x.shape[-1]))
    for top in range(0, x.shape[-2], rows):
        strip = x[..., top : top + rows, :]
        strip.copy_(F.conv2d(strip, kernel))
    return x


class Flow(nn.Module):
    """Blocks of a squeeze and some steps of ActNorm, invertible 1x1 convolution and coupling.

    The couplings of a block use either half in turn (paper 1, Eq. 4 and 5). Without gradients all
    layers work in place, a strip at a time, so that a picture takes little more than itself.

    Args:
        blocks, steps: paper 1 takes 2 and 8 (ArtFlow), 2 and 15 (StyleFlow).
        hidden: channels within the couplings' networks.
        affine: see :class:`Coupling`.
        channels: of the pictures.

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

    def forward(self, pictures: Tensor) -> Tensor:
        """Features ``(B, C 4^blocks, H / unit, W / unit)`` of pictures ``(B, C, H, W)``.

        Raises:
            InputError: if a side is no multiple of :attr:`unit`.
        """
        if any(side % self.unit for side in pictures.shape[-2:]):
            raise InputError(
                f"the picture is {pictures.shape[-1]}x{pictures.shape[-2]}: its sides must be "
                f"multiples of {self.unit}; continue it by reflection"
            )
        device = pictures.device
        with torch.autocast(device.type, enabled=False), full_precision(device):  # to come back
            x = pictures
            for block in self.blocks:
                assert isinstance(block, nn.ModuleList)
                x = squeeze(x)  # a copy
                for layer in block:
                    x = layer(x, inplace=not torch.is_grad_enabled())
        return x

    def inverse(
        self,
        features: Tensor,
        before: Callable[[int, Tensor], Tensor] | None = None,
        inplace: bool = False,
    ) -> Tensor:
        """Pictures of features.

        Args:
            features: as :meth:`forward` gives them.
            inplace: without gradients, the memory of ``features`` may be used.
            before: called with the number of a block (the last first) and its features before its
                steps are undone; gives what to go on with. StyleFlow's transfer.
        """
        x = features if inplace or torch.is_grad_enabled() else features.clone()
        del features  # or it would stay until the end
        for number in reversed(range(len(self.blocks))):
            block = self.blocks[number]
            assert isinstance(block, nn.ModuleList)
            if before is not None:
                x = before(number, x)
            with torch.autocast(x.device.type, enabled=False), full_precision(x.device):
                for layer in reversed(block):
                    assert isinstance(layer, (ActNorm, InvertibleConv, Coupling))
                    x = layer.inverse(x, inplace=not torch.is_grad_enabled())
            x = unsqueeze(x)
        return x
