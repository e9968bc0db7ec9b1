"""The face that every method has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..images import Source
    from ..styles import LearntStyle, StoredStyle

__all__ = ["Method", "OnStep", "Step"]


@dataclass(frozen=True)
class Step:
    """How far an optimisation is.

    Attributes:
        iteration, iterations: done so far, and planned in all.
        share: of the planned work that is done, 0..1; iterations at a larger size weigh more.
        size: ``(H, W)`` of the picture at work.
        loss, content, style: total loss before the step, and its content and style terms without
            their weights.
        picture: gives the picture so far, ``(3, H, W)`` in 0..1 on the CPU.
    """

    iteration: int
    iterations: int
    share: float
    size: tuple[int, int]
    loss: float
    content: float
    style: float
    picture: Callable[[], Tensor]


OnStep = Callable[[Step], bool | None]
"""Called after every iteration; returning True ends the work with the picture so far."""


class Method(Protocol):
    """Prepare styles once, then render any number of pictures.

    Attributes:
        settings: the options as they were given, what they came to (``resolved``), and where it
            computes; plain values, for the record in the picture.
        notes: lines that people should see once, such as layers that were replaced.
        device: where it computes.
        sources: files that it was given as pictures, which are not to be overwritten.
    """

    settings: dict[str, Any]
    notes: list[str]
    device: torch.device
    sources: Sequence[Any]

    @property
    def learnt(self) -> Mapping[str, LearntStyle] | None:
        """Name -> style, of a method that paints what it has learnt alone; else None."""
        ...

    def find(self, style: object) -> LearntStyle:
        """One of ``learnt``, by its name. Raises InputError for another."""
        ...

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle],
        weights: Sequence[float] | None = None,
    ) -> Any:
        """What the method needs to know of the styles.

        Args:
            styles: paintings (whatever :func:`impasto.images.read` takes), stored styles, and of a
                method that has learnt styles these, or their names.
            weights: share of each; None for equal shares.
        """
        ...

    def __call__(
        self, content: Source, style: Any, strength: float = 1.0, on_step: OnStep | None = None
    ) -> Tensor:
        """Render ``content``; the result, ``(3, H, W)`` in 0..1, has its size.

        Args:
            content: the photograph, whatever :func:`impasto.images.read` takes.
            style: what :meth:`prepare` returned.
            strength: 0 leaves the content as it is, 1 is the full style.
            on_step: see :data:`OnStep`; methods of one pass do not call it.
        """
        ...
