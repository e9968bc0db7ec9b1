"""Pictures that are seen part by part, so that a large one need not be in memory whole.

A :class:`Canvas` gives regions of itself. :class:`Whole` is a picture in memory, :class:`Resized`
another canvas at another size, whose regions are computed when they are asked for, and
:class:`Buffer` one that is written region by region.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import DiskError
from .picture import MIN_SIDE, fit

__all__ = ["Buffer", "Canvas", "Reduction", "Resized", "Whole", "device_of", "reduced", "sized"]

Size = tuple[int, int]
BLOCK = 128  # outputs that are computed by one matrix
CUBIC = -0.5  # parameter of the bicubic filter, as Pillow's, and torch's with antialiasing


@runtime_checkable
class Canvas(Protocol):
    """A picture of ``size`` ``(H, W)`` that is seen part by part."""

    @property
    def size(self) -> Size: ...  # noqa: D102

    def region(self, rows: slice, columns: slice) -> Tensor:
        """Pixels ``(B, 3, h, w)``, float32, which the caller must not change."""
        ...

    def at(self, size: Size) -> Tensor:
        """The whole at another ``size``, antialiased: ``(B, 3, *size)``; not to be changed."""
        ...


class Whole:
    """Pictures in memory, ``(B, 3, H, W)``.

    Args:
        pictures: the pictures.
        clipped: at another size, values are clipped to 0..1.
    """

    def __init__(self, pictures: Tensor, clipped: bool = True) -> None:
        self.pictures, self.clipped = pictures, clipped

    @property
    def size(self) -> Size:
        """See :class:`Canvas`."""
        return self.pictures.shape[-2], self.pictures.shape[-1]

    def region(self, rows: slice, columns: slice) -> Tensor:
        """See :class:`Canvas`."""
        return self.pictures[..., rows, columns]

    def at(self, size: Size) -> Tensor:
        """See :class:`Canvas`."""
        if size == self.size:
            return self.pictures
        out = sized(self.pictures, size)
        return out.clamp_(0, 1) if self.clipped else out


class Resized:
    """A canvas at another size.

    Args:
        canvas: the canvas.
        size: ``(H, W)``.
        clipped: values are clipped to 0..1.

    Example:
        >>> picture = torch.rand(1, 3, 60, 80)
        >>> larger = Resized(Whole(picture), (150, 200))
        >>> whole = sized(picture, (150, 200)).clamp(0, 1)
        >>> part = larger.region(slice(20, 90), slice(0, 50))
        >>> torch.allclose(part, whole[..., 20:90, :50], atol=1e-5)
        True
    """

    def __init__(self, canvas: Canvas, size: Size, clipped: bool = True) -> None:
        self.canvas, self.size, self.clipped = canvas, size, clipped
        self._down, self._across = map(Resampling, canvas.size, size)

    def region(self, rows: slice, columns: slice) -> Tensor:
        """See :class:`Canvas`."""
        above, beside = self._down.needs(rows), self._across.needs(columns)
        x = self.canvas.region(above, beside)
        out = self._down(self._across(x, columns, beside), rows, above, down=True)
        return out.clamp_(0, 1) if self.clipped else out

    def at(self, size: Size) -> Tensor:
        """See :class:`Canvas`."""
        return self.canvas.at(size)


class Buffer:
    """A canvas that is written region by region.

    Args:
        size: ``(H, W)``.
        device: where the pixels are.
        stored: keep them in a temporary file instead, in float16, whose steps are at most an eighth
            of those of 8 bits.

    Raises:
        DiskError: if there is no room for the file.
    """

    def __init__(
        self, size: Size, device: torch.device | str = "cpu", stored: bool = False
    ) -> None:
        self.size, self.stored = size, stored
        if not stored:
            self.pictures = torch.empty((1, 3, *size), dtype=torch.float32, device=device)
            return
        length = 3 * 2 * size[0] * size[1]
        try:
            with tempfile.TemporaryFile() as file:  # it has no name, and goes with the buffer
                if hasattr(os, "posix_fallocate"):  # mapped, one that finds no room ends us
                    os.posix_fallocate(file.fileno(), 0, length)
                file.truncate(length)
                self._mapped = mmap.mmap(file.fileno(), length)
        except OSError as fault:
            raise DiskError(
                f"{tempfile.gettempdir()}: no room for {length / 2**30:.1f} GB of unfinished "
                "picture; set TMPDIR to a folder that has it"
            ) from fault
        memory = torch.frombuffer(self._mapped, dtype=torch.float16)
        self.pictures = memory.view(1, 3, *size)

    def put(self, rows: slice, columns: slice, pixels: Tensor) -> None:
        """Write ``(1, 3, h, w)``."""
        self.pictures[..., rows, columns] = pixels
        self._forget()

    def region(self, rows: slice, columns: slice) -> Tensor:
        """See :class:`Canvas`."""
        pixels = self.pictures[..., rows, columns].float()
        self._forget()
        return pixels

    def at(self, size: Size) -> Tensor:
        """See :class:`Canvas`; not clipped."""
        if not self.stored:
            return Whole(self.pictures, clipped=False).at(size)
        reduction = Reduction(self.size, size)
        for top in range(0, self.size[0], BLOCK):
            rows, columns = slice(top, min(top + BLOCK, self.size[0])), slice(0, self.size[1])
            reduction.add(self.region(rows, columns), rows, columns)
        return reduction.pictures

    def _forget(self) -> None:
        """What is mapped of the file would count as the process's memory."""
        if self.stored and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)


class Reduction:
    """A picture at a smaller size, of regions that together are the whole; not clipped.

    Args:
        size, smaller: ``(H, W)`` before and after.
    """

    def __init__(self, size: Size, smaller: Size) -> None:
        self._down, self._across = map(Resampling, size, smaller)
        self._smaller = smaller
        self.pictures = torch.zeros(())

    def add(self, pixels: Tensor, rows: slice, columns: slice) -> None:
        """Add a region ``(B, 3, h, w)``."""
        if not self.pictures.ndim:
            self.pictures = pixels.new_zeros((*pixels.shape[:2], *self._smaller))
        above, beside = self._down.reached(rows), self._across.reached(columns)
        part = pixels @ self._across.matrix(beside, columns).T.to(pixels)
        part = self._down.matrix(above, rows).to(pixels) @ part
        self.pictures[..., above, beside] += part


class Resampling:
    """``length`` pixels in a row as ``size``: antialiased bicubic, as ``F.interpolate`` has it.

    Every output is a weighted mean of a few inputs, which are next to each other.
    """

    def __init__(self, length: int, size: int) -> None:
        scale = length / size
        reach = 2 * max(scale, 1.0)
        at = torch.arange(size, dtype=torch.float64, device="cpu")
        center = scale * (at + 0.5)
        self.first = (center - reach + 0.5).long().clamp_min(0)  # the first input of each output
        self.last = (center + reach + 0.5).long().clamp_max(length)
        taps = self.first[:, None] + torch.arange(int((self.last - self.first).max()), device="cpu")
        off = ((taps - center[:, None] + 0.5) / max(scale, 1.0)).abs()
        near = ((CUBIC + 2) * off - (CUBIC + 3)) * off * off + 1
        far = ((off - 5) * off + 8) * off * CUBIC - 4 * CUBIC
        weights = torch.where(off < 1, near, torch.where(off < 2, far, 0.0))
        weights[taps >= self.last[:, None]] = 0
        self.weights = (weights / weights.sum(1, keepdim=True)).float()

    def needs(self, outputs: slice) -> slice:
        """The inputs that outputs are made of."""
        return slice(int(self.first[outputs.start]), int(self.last[outputs.stop - 1]))

    def reached(self, inputs: slice) -> slice:
        """The outputs that are made of inputs."""
        begin = int(torch.searchsorted(self.last, inputs.start, right=True))
        return slice(begin, int(torch.searchsorted(self.first, inputs.stop)))

    def matrix(self, outputs: slice, inputs: slice) -> Tensor:
        """The weights of inputs in outputs, ``(outputs, inputs)``."""
        first, weights = self.first[outputs], self.weights[outputs]
        at = first[:, None] + torch.arange(weights.shape[1], device="cpu") - inputs.start
        length = inputs.stop - inputs.start
        inside = (at >= 0) & (at < length)
        out = weights.new_zeros(len(weights), length)
        return out.scatter_add_(1, at.clamp(0, length - 1), weights * inside)

    def __call__(self, x: Tensor, outputs: slice, inputs: slice, down: bool = False) -> Tensor:
        """``(..., h, outputs)`` of ``(..., h, inputs)``; or ``(..., outputs, w)``, ``down``."""
        parts = []
        for begin in range(outputs.start, outputs.stop, BLOCK):
            block = slice(begin, min(begin + BLOCK, outputs.stop))
            needed = self.needs(block)
            matrix = self.matrix(block, needed).to(x)
            needed = slice(needed.start - inputs.start, needed.stop - inputs.start)
            parts.append(matrix @ x[..., needed, :] if down else x[..., needed] @ matrix.T)
        return torch.cat(parts, -2 if down else -1)


def device_of(canvas: Canvas) -> torch.device:
    """Where the pixels of its regions are."""
    return canvas.region(slice(0, 1), slice(0, 1)).device


def reduced(size: Size, short: int) -> Size:
    """The size at which a picture of ``size`` ``(H, W)`` is measured: as it is, or smaller.

    Its short side is at most ``short``, and its area that of a picture of 1:2: a panorama would
    else need more memory the longer it is.

    Example:
        >>> reduced((300, 400), 512), reduced((3000, 4000), 512), reduced((500, 8000), 512)
        ((300, 400), (512, 683), (181, 2896))
    """
    height, width = size
    longest = math.sqrt(2 * min(size) / max(size)) * short
    most = max(min(short, round(longest)), MIN_SIDE)
    return size if min(size) <= most else fit(height, width, most)


def sized(pictures: Tensor, size: Size) -> Tensor:
    """``(B, 3, H, W)`` at another size, antialiased bicubic, not clipped."""
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    return F.interpolate(pictures, size=size, mode="bicubic", antialias=True)
