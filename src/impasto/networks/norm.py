"""Instance normalisation with one scale and shift for each of several styles.

Ulyanov et al., "Improved Texture Networks", CVPR 2017, normalise every picture of a batch on its
own. Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017, find that styles can
share all weights except scale and shift: one network then paints in many styles, and a mixture of
scales and shifts is a mixture of styles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Statistics", "StyledNorm", "repeated"]

EPS = 1e-5
Item = TypeVar("Item")


class _Enough(Exception):
    """Ends a pass that has met the normalisation whose sums it adds up."""


class Statistics:
    """Means and deviations of the normalisations of a network, given to them from outside.

    Each normalisation of a network needs the mean and deviation of its input over the picture. In
    the contexts below, the normalisations that are computed keep theirs here, or take them from
    here, in the order in which they are computed. Outside them, each measures its own input.

    A context belongs to the thread that enters it, as in :mod:`impasto.watch`.

    Example:
        >>> norm, statistics = StyledNorm(4), Statistics()
        >>> whole = torch.rand(1, 4, 6, 8)
        >>> with statistics.measuring():
        ...     expected = norm(whole)
        >>> with statistics.given():
        ...     left = norm(whole[..., :3])
        >>> torch.allclose(left, expected[..., :3], atol=1e-5)
        True
    """

    def __init__(self) -> None:
        self._layers: list[tuple[Tensor, Tensor]] = []  # mean and 1 / deviation, (B, C)
        self._next = 0
        self._mode: Literal["measuring", "given", "adding"] = "given"
        self._core = (slice(None), slice(None))
        self._size = (1, 1)
        self._sums: tuple[float, Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """Number of normalisations whose statistics are known."""
        return len(self._layers)

    @staticmethod
    def used() -> bool:
        """Whether one of the contexts below is entered."""
        return _statistics.get() is not None

    @staticmethod
    def known() -> Statistics | None:
        """The statistics of all normalisations, if they come from outside."""
        statistics = _statistics.get()
        return statistics if statistics is not None and statistics._mode == "given" else None

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Normalisations measure their input, and keep what they have measured here."""
        self._layers = []
        with self._current("measuring"):
            yield

    @contextmanager
    def given(self) -> Iterator[None]:
        """Normalisations take their statistics from here, in any number of passes."""
        with self._current("given"):
            yield

    @contextmanager
    def adding(self, size: tuple[int, int], core: tuple[slice, slice]) -> Iterator[None]:
        """As :meth:`given`, up to the first normalisation whose statistics are not known.

        It adds up the sums of its input over a part of a picture, and ends the context: nothing
        later is computed. When all parts have been added, :meth:`added` makes statistics of them.

        Args:
            size: ``(H, W)`` of what the network is given, multiples of its strides.
            core: the rows and columns of it that count.
        """
        self._size, self._core = size, core
        try:
            with self._current("adding"):
                yield
        except _Enough:
            pass

    def added(self) -> None:
        """Make the sums that were added up the statistics of the next normalisation."""
        assert self._sums is not None
        count, first, second = self._sums
        mean = first / count
        inverse = ((second / count - mean.square()).clamp_min(0) + EPS).rsqrt()
        self._layers.append((mean.float(), inverse.float()))
        self._sums = None

    @contextmanager
    def _current(self, mode: Literal["measuring", "given", "adding"]) -> Iterator[None]:
        self._mode, self._next = mode, 0
        token = _statistics.set(self)
        try:
            yield
        finally:
            _statistics.reset(token)

    def of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and 1 / deviation for the input ``x`` of the next normalisation, ``(B, C)``."""
        if self._mode == "measuring":
            self._layers.append(_measured(x))
        elif self._mode == "adding" and self._next == len(self._layers):
            self._add(x)
            raise _Enough
        return self.following()

    def following(self) -> tuple[Tensor, Tensor]:
        """Mean and 1 / deviation of the next normalisation, which are known."""
        if self._next == len(self._layers):
            self._next = 0  # another pass
        self._next += 1
        return self._layers[self._next - 1]

    def _add(self, x: Tensor) -> None:
        rows, columns = (
            slice(span.start * side // whole, span.stop * side // whole)
            for span, side, whole in zip(self._core, x.shape[-2:], self._size, strict=True)
        )
        x = x[..., rows, columns]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        first, second = (part.sum((-2, -1)).cpu().double() for part in (wide, wide.square()))
        count = float(x.shape[-2] * x.shape[-1])
        if self._sums is not None:
            sums = self._sums
            count, first, second = sums[0] + count, sums[1] + first, sums[2] + second
        self._sums = count, first, second


_statistics: ContextVar[Statistics | None] = ContextVar("statistics", default=None)


def repeated(items: Iterable[Item]) -> Iterator[Item]:
    """Iterate over parts that go through the same normalisations: each takes their statistics.

    In the context :meth:`Statistics.given` alone.
    """
    statistics = _statistics.get()
    assert statistics is not None
    start = statistics._next
    for item in items:
        statistics._next = start
        yield item


def _measured(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation over the picture, ``(B, C)``, in float32 or wider."""
    count = x.shape[-1] * x.shape[-2]
    wide = torch.promote_types(x.dtype, torch.float32)
    mean = x.sum((-2, -1), dtype=wide) / count
    variance = x.to(wide).square().sum((-2, -1)) / count - mean.square()
    return mean, (variance.clamp_min(0) + EPS).rsqrt()


class _Normalise(torch.autograd.Function):
    """``scale (x - mean) / deviation + shift``, of ``(B, C, H, W)`` with ``(B or 1, C)``.

    Torch's instance normalisation converts channels-last features to another layout and back. Sums
    and one multiply-add, forwards and backwards, take a quarter of the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        mean, inverse = _measured(x)
        ctx.save_for_backward(x, scale, mean, inverse)
        factor = scale * inverse
        return _scaled(x, factor, shift - mean * factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,) = grads
        x, scale, mean, inverse = ctx.saved_tensors
        count = x.shape[-1] * x.shape[-2]
        shift_grad = grad.sum((-2, -1), dtype=mean.dtype)
        scale_grad = inverse * ((grad * x).sum((-2, -1), dtype=mean.dtype) - mean * shift_grad)
        factor = scale * inverse
        slope = -factor * inverse * scale_grad / count
        rest = _scaled(x, slope, -factor * shift_grad / count - slope * mean)
        rest = rest.addcmul_(grad, factor[..., None, None].to(grad.dtype))
        return rest, scale_grad.sum_to_size(scale.shape), shift_grad.sum_to_size(scale.shape)


def _scaled(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    factor, shift = factor.to(x.dtype), shift.to(x.dtype)
    return torch.addcmul(shift[..., None, None], x, factor[..., None, None])


class StyledNorm(nn.Module):
    """``scale (x - mean) / deviation + shift``, with mean and deviation over the picture.

    Args:
        channels: channels of the features.
        rows: number of rows of scales and shifts, one for each style.

    Example:
        >>> norm = StyledNorm(4, rows=3)
        >>> norm(torch.rand(2, 4, 5, 6), torch.tensor([[0.0, 0.5, 0.5]])).shape
        torch.Size([2, 4, 5, 6])
    """

    def __init__(self, channels: int, rows: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(rows, channels))
        self.shift = nn.Parameter(torch.zeros(rows, channels))

    def forward(self, x: Tensor, mix: Tensor | None = None) -> Tensor:
        """Normalise ``x``, ``(B, C, H, W)``.

        Args:
            x: features.
            mix: shares of the rows, ``(B or 1, rows)``; None takes the first row.
        """
        statistics = _statistics.get()
        if statistics is None:
            scale, shift = self._mixed(mix)
            out: Tensor = _Normalise.apply(x, scale, shift)  # type: ignore[no-untyped-call]
            return out
        return _scaled(x, *self.affine(statistics.of(x), mix))

    def affine(
        self, statistics: tuple[Tensor, Tensor], mix: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``factor, shift`` ``(B, C)`` of the whole layer: it is ``factor x + shift``."""
        scale, shift = self._mixed(mix)
        mean, inverse = (part.to(scale.device) for part in statistics)
        factor = scale * inverse
        return factor, shift - mean * factor

    def measured(
        self, parts: Iterable[Tensor], mix: Tensor | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Return a function that normalises any part of the features, in place.

        Its results are those of :meth:`forward` for the whole.

        Args:
            parts: the parts of the features, ``(B, C, h, w)``; together they are the whole.
            mix: see :meth:`forward`.
        """
        count, first, second = 0, self.scale.new_zeros(()), self.scale.new_zeros(())
        for part in parts:
            count += part.shape[-1] * part.shape[-2]
            wide = part.to(torch.promote_types(part.dtype, torch.float32))
            first, second = first + wide.sum((-2, -1)), second + wide.square().sum((-2, -1))
        mean = first / count
        scale, shift = self._mixed(mix)
        factor = scale * ((second / count - mean.square()).clamp_min(0) + EPS).rsqrt()
        shift = shift - mean * factor
        return lambda x: x.mul_(factor[..., None, None]).add_(shift[..., None, None])

    def _mixed(self, mix: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scale and shift ``(B or 1, C)``."""
        if mix is None:
            return self.scale[:1], self.shift[:1]
        rows = mix.to(self.scale.dtype)
        return rows @ self.scale, rows @ self.shift
