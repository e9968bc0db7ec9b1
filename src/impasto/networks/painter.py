"""The networks of method ``ghiasi``: a fast painter, and the prediction of its scales and shifts.

Ghiasi, Lee, Kudlur, Dumoulin & Shlens, "Exploring the structure of a real-time, arbitrary neural
artistic stylization network", BMVC 2017. :class:`Painter` renders; most of its layers work at an
eighth of the size. :class:`Predictor` predicts its scales and shifts from a painting.
:class:`Predicted` holds both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import arranged
from ..errors import InputError
from .decoder import padded
from .norm import Statistics, StyledNorm, repeated
from .tiling import spans_of
from .transformer import Clouds, Layer, Residual, Transformer, clouds, whole_units

__all__ = ["Painter", "Predicted", "Predictor"]

CELL = 4  # side of the squares of pixels that the first layer sees as channels
UNIT = 8  # sides are extended to a multiple of it
GAIN = 0.2  # scale of the last layer's output, see impasto.networks.transformer
AMOUNT = 0.1  # amount of noise after training, chosen by looking at skies
STRIP = 1 << 19  # pixels that the last layers compute at a time
HIDDEN = 512  # hidden width of the predictor
SPREAD = 0.02  # initial deviation of the rows from 1 on
EPS = 0.02  # least deviation of a number of the code: if it hardly varies, it is not amplified


class Painter(nn.Module):
    """Squares of 4x4 pixels in, blocks at an eighth of the size, three upsampled layers up.

    It takes half the time of :class:`Transformer`, because only the last two layers work at more
    than a quarter of the size. Features at a quarter of the size are concatenated again on the way
    up, which keeps edges sharp.

    Args:
        widths: channels at full size, a half, a quarter and an eighth.
        blocks: number of blocks at an eighth.
        rows: number of styles, see :class:`impasto.networks.norm.StyledNorm`.

    Attributes:
        amount: amount of noise after training, 0 or more. In training, noise of 4 and 8 px is drawn
            for every picture, with a random amount of at most twice this.

    Raises:
        InputError: for invalid widths or numbers.

    Example:
        >>> net = Painter((4, 4, 8, 8), blocks=1, rows=2)
        >>> net(torch.rand(1, 3, 21, 34), torch.tensor([[0.5, 0.5]])).shape
        torch.Size([1, 3, 21, 34])
    """

    def __init__(
        self, widths: Sequence[int] = (24, 48, 64, 160), blocks: int = 5, rows: int = 1
    ) -> None:
        super().__init__()
        whole = all(type(count) is int and count > 0 for count in (*widths, blocks, rows))
        if len(widths) != 4 or not whole:
            raise InputError(
                f"widths {tuple(widths)}, {blocks} blocks, {rows} rows: give four widths; whole "
                "numbers above 0"
            )
        full, half, quarter, eighth = widths
        self.amount = AMOUNT

        def layer(channels: int, out: int, stride: int = 1) -> Layer:
            return Layer(channels, out, 3, stride, rows)

        self.first = layer(3 * CELL**2 + 1, quarter)
        self.second = layer(quarter, quarter)
        self.down = layer(quarter, eighth, 2)
        self.blocks = nn.ModuleList(Residual(eighth, rows) for _ in range(blocks))
        self.up8 = layer(eighth, quarter)
        self.mid = layer(2 * quarter, quarter + half // 2)
        self.up4 = layer(quarter + half // 2, half)
        self.up2 = layer(half, full)
        self.last = nn.Conv2d(full, 3, 3)

    def forward(
        self, pictures: Tensor, mix: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """See :meth:`impasto.networks.transformer.Transformer.forward`.

        Sides are extended to multiples of 8.
        """
        height, width = pictures.shape[-2:]
        x = F.pad(pictures, (0, -width % UNIT, 0, -height % UNIT), mode="replicate")
        if noise is None:
            noise = self._drawn(x) if self.training else self.noise_at(height, width)
        x = torch.cat([F.pixel_unshuffle(x, CELL), noise.to(x).expand(len(x), -1, -1, -1)], 1)
        x = arranged(x.to(self.last.weight.dtype))
        quarter = self.second(self.first(x, mix), mix)
        x = self.down(quarter, mix)
        for block in self.blocks:
            x = block(x, mix)
        x = self.up8(_doubled(x), mix)
        x = self.mid(torch.cat([x, quarter], 1), mix)
        if Statistics.known() and not torch.is_grad_enabled():
            return self._in_strips(x, mix)[..., :height, :width]
        return self._upwards(x, mix)[..., :height, :width]

    def _upwards(self, x: Tensor, mix: Tensor | None) -> Tensor:
        """The last three layers: pictures of features at a quarter of their size."""
        x = self.up4(_doubled(x), mix)
        x = self.up2(_doubled(x), mix)
        out: Tensor = 0.5 + GAIN * self.last(padded(x))
        return out

    def _in_strips(self, x: Tensor, mix: Tensor | None) -> Tensor:
        """As :meth:`_upwards`, some rows at a time: only there do features take much memory."""
        height, width = x.shape[-2:]
        out = x.new_empty(len(x), 3, CELL * height, CELL * width)
        # The three layers see one row of ``x`` beyond what they paint.
        strips = spans_of(height, max(1, STRIP // (CELL**2 * width)), 1, 1)
        for rows in repeated(strips):
            part = self._upwards(x[..., rows.seen, :], mix)
            kept, core = (slice(CELL * s.start, CELL * s.stop) for s in (rows.kept, rows.core))
            out[..., kept, :] = part[..., core, :]
        return out

    @property
    def unit(self) -> int:
        """Pictures can be cut into tiles at multiples of it."""
        return UNIT

    @property
    def halo(self) -> int:
        """Pixels around a tile that its output depends on, rounded up to :attr:`unit`."""
        reach = 2  # of the last two layers; then from layer to layer, back to the first
        reach = math.ceil(reach / 2) + 1
        reach = math.ceil(reach / 2) + 2
        reach = math.ceil(reach / 2) + 2 * len(self.blocks)
        return UNIT * math.ceil(CELL * (2 * reach + 3) / UNIT)

    def noise_at(self, height: int, width: int) -> Tensor:
        """The noise for pictures of this size after training, ``(1, 1, h, w)``; always the same."""
        return self.noise_of(height, width)(slice(0, height), slice(0, width))

    def noise_of(self, height: int, width: int) -> Callable[[slice, slice], Tensor]:
        """See :meth:`impasto.networks.transformer.Transformer.noise_of`."""
        rng = torch.Generator("cpu").manual_seed(0)
        rows, columns = ((side + -side % UNIT) // CELL for side in (height, width))
        field = Clouds((1, rows, columns), (1, 2), rng)
        return lambda rows, columns: (
            self.amount * field.cut(*whole_units(rows, columns, UNIT, CELL))
        )

    def _drawn(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        amounts = 2 * self.amount * torch.rand(count, 1, 1, 1, device=x.device)
        return amounts * clouds((count, height // CELL, width // CELL), (1, 2), device=x.device)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Predictor(nn.Module):
    """Predicts the shares of the rows of every normalisation layer from the code of a style.

    The share of row 0 is always 1: it holds what all styles have in common.

    Args:
        code: length of a style's code.
        rows: number of rows, including row 0.

    Attributes:
        mean, std: mean and deviation of codes over paintings, ``(code,)``; they standardise codes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, code: int, rows: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(code, HIDDEN)
        self.shares = nn.Linear(HIDDEN, rows - 1)
        self.register_buffer("mean", torch.zeros(code))
        self.register_buffer("std", torch.ones(code))

    @torch.no_grad()
    def standardise(self, codes: Tensor) -> None:
        """Set :attr:`mean` and :attr:`std` to those of ``codes``, ``(n, code)``."""
        self.mean.copy_(codes.mean(0))
        self.std.copy_(codes.std(0).clamp_min(EPS))

    def forward(self, codes: Tensor) -> Tensor:
        """Predict shares ``(B, rows)`` from codes ``(B, code)``."""
        shares: Tensor = self.shares(F.relu(self.hidden((codes - self.mean) / self.std)))
        return torch.cat([torch.ones_like(shares[:, :1]), shares], 1)


class Predicted(nn.Module):
    """A network that renders, with the predictor of its shares of rows.

    Args:
        painter: network with a :class:`StyledNorm` of ``rows`` rows after every convolution except
            the last; the rows from 1 on are set to small random numbers.
        code, rows: see :class:`Predictor`.

    Example:
        >>> net = Predicted(Painter((4, 4, 8, 8), 1, rows=3), code=10, rows=3)
        >>> mix = net.predictor(torch.rand(1, 10))
        >>> net(torch.rand(1, 3, 24, 32), mix).shape, float(mix[0, 0].detach())
        (torch.Size([1, 3, 24, 32]), 1.0)
    """

    def __init__(self, painter: Transformer | Painter, code: int, rows: int) -> None:
        super().__init__()
        self.painter, self.predictor = painter, Predictor(code, rows)
        for norm in self.norms():
            for rest in (norm.scale[1:], norm.shift[1:]):
                nn.init.normal_(rest, 0, SPREAD)

    def norms(self) -> list[StyledNorm]:
        """All normalisation layers, in order."""
        return [module for module in self.painter.modules() if isinstance(module, StyledNorm)]

    def forward(self, pictures: Tensor, mix: Tensor, noise: Tensor | None = None) -> Tensor:
        """Render: pictures ``(B, 3, H, W)``, see :meth:`Transformer.forward`."""
        out: Tensor = self.painter(pictures, mix, noise)
        return out
