"""Random crops: windows are cut on the host, then resized and mirrored on the device.

A cut is a view, so it costs nothing on the host. The same random numbers give the same crop on
every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, check_share
from .recipes import check_fields

__all__ = ["DataConfig", "random_crop"]


@dataclass(frozen=True)
class DataConfig:
    """How pictures become crops; the table ``[data]`` of a recipe.

    Attributes:
        size: side of a crop, pixels.
        short_side: pixels; every picture is resized to it before it is cut.
        scales: cut windows between ``size`` and the short side and reduce them to ``size``, so that
            a network trains on textures at several scales; otherwise the window is ``size``.
        close: share of the crops that are close-ups, enlarged two to eight times: their smooth
            areas are as smooth as those of much larger pictures.
        flips: mirror half of the crops.
        shared_style: one crop of a painting in a training step, for all its photographs (report
            2); otherwise each photograph has a crop of its own.
        balanced: draw every school of paintings equally often, however many paintings it has
            (report 2 finds too many impressionists). A school is what precedes the first ``_`` of
            a file name, or without one the folder.
        validation, test: shares (0..1) of the pictures that are held out; 0.2 and 0.1 are report
            2's.
        minimum: minimum number of training photographs; fewer are refused.
        memory: GB of decoded pictures of a set to keep in memory; the others are decoded again
            whenever they are drawn.
        workers: threads that prepare crops in advance, at most one per core; 0 prepares them
            between the steps.

    Raises:
        InputError: for values out of range or of another type.
    """

    size: int = 256
    short_side: int = 512
    scales: bool = False
    close: float = 0.0
    flips: bool = True
    shared_style: bool = False
    balanced: bool = False
    validation: float = 0.2
    test: float = 0.1
    minimum: int = 8
    memory: float = 2.0
    workers: int = 2

    def __post_init__(self) -> None:
        check_fields(self)
        if not 16 <= self.size <= self.short_side:
            raise InputError(
                f"size = {self.size}: give 16 or more pixels, at most short_side = "
                f"{self.short_side}"
            )
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise InputError(
                f"validation = {self.validation}, test = {self.test}: give shares from 0, together "
                "below 1"
            )
        check_share("close", self.close)
        for name in ("memory", "workers"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more")


@dataclass(frozen=True)
class Window:
    """A square window of a decoded picture.

    Attributes:
        pixels: ``(3, side, side)`` uint8, a view.
        mirrored: whether to mirror the crop.
    """

    pixels: Tensor
    mirrored: bool


def cut(
    picture: Tensor,
    size: int,
    rng: torch.Generator,
    scales: bool = True,
    flips: bool = True,
    close: float = 0.0,
) -> Window:
    """A random window of ``(3, H, W)`` uint8, see :func:`random_crop`."""
    height, width = picture.shape[-2:]
    short_side = min(height, width)
    side = min(size, short_side)
    if close and torch.rand((), generator=rng) < close:
        side = max(size // 8 + below(size // 2 - size // 8 + 1, rng), 1)
    elif scales and short_side > size:
        side += below(short_side - size + 1, rng)
    top, left = below(height - side + 1, rng), below(width - side + 1, rng)
    pixels = picture[:, top : top + side, left : left + side]
    return Window(pixels, bool(flips and below(2, rng)))


def cropped(window: Window, size: int) -> Tensor:
    """The crop ``(3, size, size)`` float32 in 0..1 of a window, on the window's device."""
    crop = window.pixels.float() / 255
    if window.mirrored:
        crop = crop.flip(-1)
    if crop.shape[-1] == size:
        return crop
    resized = F.interpolate(crop[None], (size, size), mode="bilinear", antialias=True)
    return resized[0].clamp(0, 1)


def random_crop(
    picture: Tensor,
    size: int,
    rng: torch.Generator,
    scales: bool = True,
    flips: bool = True,
    close: float = 0.0,
) -> Tensor:
    """One random crop of ``(3, H, W)`` uint8 as ``(3, size, size)`` float32 in 0..1.

    With ``scales`` the window is between ``size`` and the picture's short side, then reduced to
    ``size``, so that a network trains on textures at several scales. With ``flips`` it is mirrored
    half of the time. A share ``close`` of the windows is a half to an eighth of ``size``, enlarged.
    """
    return cropped(cut(picture, size, rng, scales, flips, close), size)


class Packed:
    """Windows packed into one buffer, which moves to a device in one copy.

    Args:
        windows: windows on the host.
        pin: use pinned memory, which a GPU copies asynchronously.
    """

    def __init__(self, windows: Sequence[Window], pin: bool = False) -> None:
        pixels = torch.cat([window.pixels.reshape(-1) for window in windows])
        self.pixels = pixels.pin_memory() if pin else pixels
        self.shapes = [window.pixels.shape for window in windows]
        self.mirrored = [window.mirrored for window in windows]

    def crops(self, size: int, device: torch.device) -> Tensor:
        """Crops ``(n, 3, size, size)`` in 0..1, computed asynchronously on ``device``."""
        pixels = self.pixels.to(device, non_blocking=True)
        parts = torch.split(pixels, [shape.numel() for shape in self.shapes])
        items = zip(parts, self.shapes, self.mirrored, strict=True)
        windows = (Window(part.view(shape), mirrored) for part, shape, mirrored in items)
        return torch.stack([cropped(window, size) for window in windows])


def below(limit: int, rng: torch.Generator) -> int:
    """A random integer from 0 to ``limit - 1``."""
    return int(torch.randint(limit, (), generator=rng))
