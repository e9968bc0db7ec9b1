"""A rendered picture with how it came about."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .controls import Saving, SavingKeywords
from .errors import InputError
from .files import same_file
from .images import Picture, encode, resize, write
from .options import signature_of
from .watch import UNPAINTED, Stopped

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Result"]

SHOWN = 1024
"""The longest side, in pixels, of what a notebook shows of a Result."""


@dataclass(frozen=True)
class Result:
    """A rendered picture with how it came about.

    Attributes:
        picture: ``rgb (3, H, W)`` in 0..1, and ``alpha`` if the content had one.
        losses: total loss before every iteration; empty for methods of one pass.
        content_losses, style_losses: its terms, without their weights.
        settings: what it was made from and how, with timings.
        background: what transparent parts were composited over.
        stopped: why the work ended before its planned end, see :data:`impasto.watch.Stopped`: None,
            ``converged``, ``cancelled``, ``time`` or ``diverged``. It stands in ``settings`` too.
        sources: files that it was made from; :meth:`save` leaves them alone.
        painted: False if it was cancelled before anything was painted, so that it is the
            photograph itself: :meth:`save` does not write that.
        checkpoints: files from which the same work would go on; :meth:`save` removes them, unless
            it was cancelled.

    In a notebook it shows itself, reduced where it is large.
    """

    picture: Picture = field(repr=False)
    losses: list[float] = field(repr=False)
    content_losses: list[float] = field(repr=False)
    style_losses: list[float] = field(repr=False)
    settings: Mapping[str, object]
    background: str = "white"
    sources: tuple[Path, ...] = field(default=(), repr=False)
    stopped: Stopped | None = None
    painted: bool = True
    checkpoints: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def image(self) -> Image.Image:
        """As a Pillow image, RGB or RGBA."""
        return self.picture.to_pil()

    @property
    def array(self) -> NDArray[np.uint8]:
        """As an array, ``(H, W, 3 or 4)`` uint8."""
        return np.asarray(self.image)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        **saving: Unpack[SavingKeywords],
    ) -> Path:
        """Write to ``path``, whole or not at all, with the settings embedded.

        Alpha is composited over the background where the format has none.

        Args:
            path: its suffix names the format.
            overwrite: also where ``path`` is one of :attr:`sources`.
            saving: see :class:`impasto.controls.Saving`.

        Raises:
            InputError: if it cannot be written, is one of them, or nothing was painted.
            DiskError: if the disk is full, or a permission is missing.
        """
        if not self.painted:
            raise InputError(UNPAINTED)
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(f"path: a {type(path).__name__} where a path belongs")
        if not overwrite and any(same_file(path, source) for source in self.sources):
            raise InputError(
                f"{path}: the picture was made from this file; save it under another name, or with "
                "overwrite=True"
            )
        written = write(path, *self._written(), **self._how(saving))
        for checkpoint in () if self.stopped == "cancelled" else self.checkpoints:
            with suppress(OSError):
                checkpoint.unlink()
        return written

    def to_bytes(self, format: str = "png", **saving: Unpack[SavingKeywords]) -> bytes:
        """The bytes of the file that :meth:`save` would write, also if nothing was painted.

        Args:
            format: ``png``, ``jpeg``, ``webp``, ``avif``, ``tiff``, ``bmp`` or ``gif``, or a suffix
                such as ``.jpg``.
            saving: see :class:`impasto.controls.Saving`, such as ``quality=90``.

        Raises:
            InputError: for another format, or one that cannot hold the picture.
        """
        if not isinstance(format, str):
            raise InputError(
                f"format: a {type(format).__name__} where text belongs, such as png",
                option="format",
            )
        return encode(format, *self._written(), **self._how(saving))

    def encode(self, suffix: str = ".png", **saving: Unpack[SavingKeywords]) -> bytes:
        """The old name of :meth:`to_bytes`, for one version."""
        warnings.warn(
            "Result.encode is Result.to_bytes now, and goes with the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.to_bytes(suffix, **saving)

    def _written(self) -> tuple[Any, ...]:
        return self.picture.rgb, self.picture.alpha, self.settings, self.background

    def _how(self, saving: SavingKeywords) -> dict[str, Any]:
        how = Saving.of("save", saving).keywords
        return {**how, "source": self.picture.metadata}

    def _repr_png_(self) -> bytes:
        rgb, alpha = self.picture.rgb, self.picture.alpha
        height, width = rgb.shape[-2:]
        share = SHOWN / max(height, width)
        if share < 1:
            rgb = resize(rgb, (max(1, round(height * share)), max(1, round(width * share))))
        if alpha is not None:
            alpha = resize(alpha, (rgb.shape[-2], rgb.shape[-1]))
        return encode(".png", rgb, alpha)


Result.save.__signature__ = signature_of(Result.save, Saving)  # type: ignore[attr-defined]
Result.to_bytes.__signature__ = signature_of(Result.to_bytes, Saving)  # type: ignore[attr-defined]
