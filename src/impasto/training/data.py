"""Pictures to train on: folders, decoded once and kept in memory, cut into random crops."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..images import fit, list_pictures, read, resize

__all__ = ["PictureSet"]


class PictureSet:
    """The pictures of some folders, in memory as 8-bit tensors with a given short side.

    Args:
        folders: searched without descending; every picture counts.
        short_side: pixels; pictures are resized to it, never cropped.
        held_out: share (0..1) kept aside for validation, chosen by a stable hash of the file name,
            so that the same picture is on the same side in every run and on every machine.
        warn: called with one line for each file that cannot be read; such files are skipped.

    Attributes:
        train, validation: lists of ``(3, H, W)`` uint8 tensors.

    Raises:
        InputError: if the folders hold no picture that can be read.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        short_side: int = 256,
        held_out: float = 0.0,
        warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        self.train: list[Tensor] = []
        self.validation: list[Tensor] = []
        for folder in folders:
            for path in list_pictures(folder):
                try:
                    rgb = read(path).rgb
                except InputError as error:
                    warn(f"skipped: {error}")
                    continue
                small = resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))
                share = int(sha256(path.name.encode()).hexdigest()[:8], 16) / 2**32
                side = self.validation if share < held_out else self.train
                side.append((small * 255).round().to(torch.uint8))
        if not self.train:
            names = ", ".join(str(folder) for folder in folders)
            raise InputError(
                f"{names}: no pictures to train on; name a folder of JPEG or PNG files"
            )

    def crop(self, size: int, rng: torch.Generator, held_out: bool = False) -> Tensor:
        """One random crop, ``(3, size, size)`` float32 in 0..1.

        The window is between ``size`` and the picture's short side, then reduced to ``size``, so a
        network meets textures at several scales; mirrored half of the time.
        """
        pool = self.validation if held_out else self.train
        picture = pool[_below(len(pool), rng)]
        height, width = picture.shape[-2:]
        most = min(height, width)
        side = size + _below(most - size + 1, rng) if most > size else most
        top, left = _below(height - side + 1, rng), _below(width - side + 1, rng)
        window = picture[:, top : top + side, left : left + side].float() / 255
        if _below(2, rng):
            window = window.flip(-1)
        if side == size:
            return window
        small = F.interpolate(window[None], (size, size), mode="bilinear", antialias=True)
        return small[0].clamp(0, 1)


def _below(limit: int, rng: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=rng))
