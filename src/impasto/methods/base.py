"""The interface that every method of style transfer has.

A method measures the paintings once (:meth:`Method.prepare`), then renders any number of
photographs in their style (:meth:`Method.__call__`). All methods can therefore be exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..watch import OnStep

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..images import Source
    from ..styles import LearntStyle, StoredStyle, Style

__all__ = ["Method"]

StyleT = TypeVar("StyleT")
"""What a method prepares of styles; to all others it is opaque."""


class Method(Protocol[StyleT]):
    """Prepare styles once, then render any number of pictures."""

    @property
    def settings(self) -> Mapping[str, object]:
        """The options as given, what they were resolved to (``resolved``), and the device.

        They are plain values, recorded in the picture.
        """
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Messages that the user should see once, such as layers that were replaced."""
        ...

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        ...

    @property
    def sources(self) -> Sequence[object]:
        """Picture files among the options; they must not be overwritten."""
        ...

    @property
    def learnt(self) -> Mapping[str, LearntStyle] | None:
        """Name -> style, if the method paints only the styles that it has learnt; else None."""
        ...

    def find(self, style: object) -> LearntStyle:
        """Return one of ``learnt`` by its name. Raises InputError for an unknown name."""
        ...

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle | Style],
        weights: Sequence[float] | None = None,
    ) -> StyleT:
        """Measure the styles: return what the method needs in order to paint them.

        Args:
            styles: paintings (anything that :func:`impasto.read` takes), stored styles, or what
                this or another method has prepared; for a method that has learnt styles, these
                styles, their names, or what it has prepared.
            weights: share of each style; None for equal shares.
        """
        ...

    def __call__(
        self, content: Source, style: StyleT, strength: float = 1.0, on_step: OnStep | None = None
    ) -> Tensor:
        """Render ``content``. The result, ``(3, H, W)`` in 0..1, has the size of ``content``.

        Args:
            content: the photograph, anything that :func:`impasto.images.read` takes.
            style: what :meth:`prepare` returned.
            strength: 0 keeps the content as it is, 1 is the full style.
            on_step: see :data:`impasto.watch.OnStep`. A method reports to it by
                :func:`impasto.watch.watching`, which also says why it stopped.
        """
        ...
