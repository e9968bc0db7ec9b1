"""Johnson's network: it turns a photograph into a painting in one pass.

Johnson, Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
ECCV 2016, as in the table of report 4, and the variant of report 1 whose blocks are ResBottlenecks.
The network reduces the picture to a quarter of its size, where residual blocks are cheap and see
far, and enlarges the result again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .bottleneck import ResBottleneck
from .decoder import padded
from .norm import Statistics, StyledNorm

__all__ = ["Clouds", "Layer", "Network", "Residual", "Transformer", "clouds", "whole_units"]

Network = Literal["residual", "bottleneck"]
# Scale of the last layer's output. The layer has thousands of inputs: at the learning rate that the
# other layers need, one step of Adam would move its output from one end of 0..1 to the other.
GAIN = 0.05
UNIT = 4  # sides are extended to a multiple of it
AMOUNT = 0.3  # amount of noise after training, chosen by looking at skies of 400 to 1,600 px


class Transformer(nn.Module):
    """Two strided layers down, blocks at a quarter of the size, two upsampled layers up.

    All convolutions use reflection padding. Every convolution except the last is followed by
    instance normalisation and has no bias, because normalisation would remove it. Nearest
    upsampling before a convolution, instead of a transposed one, avoids checkerboard patterns.

    Args:
        network: ``residual`` (report 4) or ``bottleneck`` (report 1).
        widths: channels at full, half and quarter size.
        blocks: number of blocks at quarter size.
        expansion: expansion of the bottlenecks at quarter size; those that change the size, where
            it would cost most, have none.
        rows: number of styles, see :class:`impasto.networks.norm.StyledNorm`.
        noise: add a fourth input channel of noise, :func:`clouds`. Where a picture is flat, every
            layer is flat too, and could not paint strokes. In training, noise with blots of 4 and
            16 px is drawn for every picture. After training, it is always the same, with blots of
            4 px and deviation :attr:`amount`: in a large picture, blots of one size at full
            strength look like a leopard's spots.

    Attributes:
        amount: amount of noise after training, 0 or more.

    Raises:
        InputError: for an invalid network, widths or numbers.

    Example:
        >>> import torch
        >>> net = Transformer("bottleneck", (4, 8, 8), blocks=1, rows=2)
        >>> net(torch.rand(1, 3, 21, 34), torch.tensor([[0.5, 0.5]])).shape
        torch.Size([1, 3, 21, 34])
    """

    def __init__(
        self,
        network: Network = "residual",
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 5,
        expansion: float = 1,
        rows: int = 1,
        noise: bool = False,
    ) -> None:
        super().__init__()
        if network not in get_args(Network):
            known = " or ".join(get_args(Network))
            raise InputError(f"network {network!r} is unknown: use {known}")
        whole = all(type(count) is int and count > 0 for count in (*widths, blocks, rows))
        if len(widths) != 3 or not whole or not expansion > 0:
            raise InputError(
                f"widths {tuple(widths)}, {blocks} blocks, expansion {expansion}, {rows} rows: "
                "give three widths; whole numbers above 0"
            )
        full, half, quarter = widths

        def layer(channels: int, out: int, stride: int = 1) -> nn.Module:
            if network == "bottleneck":
                return ResBottleneck(channels, out, 1, stride, rows)
            return Layer(channels, out, 3, stride, rows)

        def block() -> nn.Module:
            if network == "bottleneck":
                return ResBottleneck(quarter, quarter, expansion, 1, rows)
            return Residual(quarter, rows)

        self.network, self.noise, self.amount = network, noise, AMOUNT
        self.first = Layer(3 + noise, full, 9, 1, rows)
        self.down = nn.ModuleList([layer(full, half, 2), layer(half, quarter, 2)])
        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.up = nn.ModuleList([layer(quarter, half), layer(half, full)])
        self.last = nn.Conv2d(full, 3, 9)

    def forward(
        self, pictures: Tensor, mix: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Render: pictures ``(B, 3, H, W)``, not clipped, of the size of ``pictures``.

        Sides that are not multiples of 4 are extended by replication, and cropped at the end.

        Args:
            pictures: ``(B, 3, H, W)`` in 0..1.
            mix: shares of the styles, ``(B or 1, rows)``; None takes the first.
            noise: replaces the default noise; of the shape of :meth:`noise_at`.
        """
        height, width = pictures.shape[-2:]
        x = F.pad(pictures, (0, -width % UNIT, 0, -height % UNIT), mode="replicate")
        if self.noise:
            if noise is None:
                count, _, rows, columns = x.shape
                if self.training:
                    noise = clouds((count, rows, columns), device=x.device)
                else:
                    noise = self.noise_at(height, width)
            x = torch.cat([x, noise.to(x).expand(len(x), -1, -1, -1)], 1)
        x = self.first(x.to(self.last.weight.dtype), mix)
        for layer in (*self.down, *self.blocks):
            x = layer(x, mix)
        for layer in self.up:
            x = layer(F.interpolate(x, scale_factor=2, mode="nearest"), mix)
        out: Tensor = 0.5 + GAIN * self.last(padded(x, 4))
        return out[..., :height, :width]

    @property
    def unit(self) -> int:
        """Pictures can be cut into tiles at multiples of it."""
        return UNIT

    @property
    def halo(self) -> int:
        """Pixels around a tile that its output depends on, rounded up to :attr:`unit`."""
        reach = 4  # of the last layer; then from layer to layer, back to the first
        for _ in self.up:
            reach = math.ceil((reach + 1) / 2)
        reach += len(self.blocks) * (2 if self.network == "residual" else 1)
        for _ in self.down:
            reach = 2 * reach + 1
        return UNIT * math.ceil((reach + 4) / UNIT)

    def noise_at(self, height: int, width: int) -> Tensor:
        """The noise for pictures of this size after training, ``(1, 1, h, w)``; always the same."""
        return self.noise_of(height, width)(slice(0, height), slice(0, width))

    def noise_of(self, height: int, width: int) -> Callable[[slice, slice], Tensor]:
        """A function that returns :meth:`noise_at` for rows and columns of the picture.

        They begin at multiples of :attr:`unit`, and end there or at the end of the picture.
        """
        rng = torch.Generator("cpu").manual_seed(0)
        field = Clouds((1, height + -height % UNIT, width + -width % UNIT), (4,), rng)
        return lambda rows, columns: self.amount * field.cut(*whole_units(rows, columns, UNIT))


def whole_units(rows: slice, columns: slice, unit: int, scale: int = 1) -> tuple[slice, slice]:
    """``rows`` and ``columns`` extended to a multiple of ``unit``, in units of ``scale`` pixels."""
    first, second = (
        slice(span.start // scale, (span.stop + -span.stop % unit) // scale)
        for span in (rows, columns)
    )
    return first, second


class Clouds:
    """Smooth noise that is computed in parts; see :func:`clouds`. It keeps a number for each blot.

    Args:
        shape, cells, rng, device: see :func:`clouds`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        cells: Sequence[int],
        rng: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        count, height, width = shape
        float32: dict[str, Any] = {"dtype": torch.float32, "device": device}
        self._blots = [
            (
                cell,
                torch.randn(
                    (count, 1, -(-height // cell), -(-width // cell)), **float32, generator=rng
                ),
            )
            for cell in cells
        ]

    def cut(self, rows: slice, columns: slice) -> Tensor:
        """The noise in ``rows`` and ``columns``, ``(B, 1, h, w)``."""
        out: Tensor | None = None
        for cell, blots in self._blots:
            # A bicubic value depends on two blots at either side.
            spans = [
                slice(max(0, span.start // cell - 3), -(-span.stop // cell) + 3)
                for span in (rows, columns)
            ]
            part = F.interpolate(blots[..., spans[0], spans[1]], scale_factor=cell, mode="bicubic")
            top, left = (
                span.start - cell * of.start
                for span, of in zip((rows, columns), spans, strict=True)
            )
            part = part[
                ..., top : top + rows.stop - rows.start, left : left + columns.stop - columns.start
            ]
            out = part if out is None else out + part
        assert out is not None
        return out


def clouds(
    shape: tuple[int, int, int],
    cells: Sequence[int] = (4, 16),
    rng: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Smooth noise ``(B, 1, H, W)`` for ``shape = (B, H, W)``, with blots of ``cells`` pixels.

    Like the random inputs of Ulyanov et al., "Texture Networks", ICML 2016, at several sizes.
    """
    _, height, width = shape
    return Clouds(shape, cells, rng, device).cut(slice(0, height), slice(0, width))


class Layer(nn.Module):
    """Convolution, normalisation, ReLU (unless ``linear``).

    Args:
        channels, out: channels of the input and of the output.
        size, stride: kernel size and stride of the convolution.
        rows: see :class:`impasto.networks.norm.StyledNorm`.
        linear: leave out the ReLU.
    """

    def __init__(
        self, channels: int, out: int, size: int, stride: int, rows: int, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, size, stride, bias=False)
        self.norm = StyledNorm(out, rows)
        self.linear = linear

    def forward(self, x: Tensor, mix: Tensor | None) -> Tensor:
        """``(B, out, h, w)``, see :class:`impasto.networks.norm.StyledNorm` for ``mix``."""
        x = padded(x, self.conv.kernel_size[0] // 2)
        statistics = Statistics.known()
        if statistics is None or len(x) > 1:
            y: Tensor = self.norm(self.conv(x), mix)
        else:  # the normalisation is linear: it goes into the convolution, and saves a tenth
            (factor,), shift = self.norm.affine(statistics.following(), mix)
            weight = self.conv.weight * factor[:, None, None, None].to(x.dtype)
            y = F.conv2d(x, weight, shift[0].to(x.dtype), self.conv.stride)
        return y if self.linear else F.relu(y, inplace=True)


class Residual(nn.Module):
    """Two layers, the second one linear, whose output is added to the input.

    Args:
        channels: channels of the input and of the output.
        rows: see :class:`impasto.networks.norm.StyledNorm`.
    """

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(channels, channels, 3, 1, rows, linear) for linear in (False, True)
        )

    def forward(self, x: Tensor, mix: Tensor | None) -> Tensor:
        """Features of the shape of ``x``, ``(B, channels, h, w)``."""
        first, second = self.layers
        y: Tensor = second(first(x, mix), mix)
        return x + y
