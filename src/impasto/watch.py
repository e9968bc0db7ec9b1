"""How far the rendering of a picture is, and the request to stop it.

Code that renders divides its work: ``for size in divided(sizes)``, ``with portion(0.2)``. What it
calls may divide that part again. After each part ``on_step`` is told of the share of the whole that
is done; if it returns True, :class:`Cancelled` ends the work where it is, and the method returns
the picture so far (:func:`so_far`). Nothing here reads from the device.

A rendering belongs to the context that runs it (a context variable): methods and networks hold
nothing of it, and threads do not see each other's. Outside a rendering, as in training, work is
divided to no effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "UNPAINTED",
    "Cancelled",
    "OnStep",
    "Step",
    "Stopped",
    "Watch",
    "divided",
    "portion",
    "so_far",
    "watching",
]

Stopped = Literal["converged", "cancelled", "time", "diverged"]
"""Why a rendering ended before its planned end; None stands for one that did not.

``converged``: the loss no longer fell (``tolerance``). ``cancelled``: ``on_step`` returned True, or
Ctrl-C. ``time``: ``time_limit`` was reached. ``diverged``: the loss was not finite, or rose; the
best picture before that is kept.
"""

UNPAINTED = "cancelled before anything was painted; nothing is written"
LEAST = 1e-9  # shares that differ by less are the same
Item = TypeVar("Item")


@dataclass(frozen=True)
class Step:
    """How far a rendering is.

    Attributes:
        iteration, iterations: number of iterations of an optimisation done so far, and planned in
            total. 0 of 0 for the work of one pass.
        share: fraction of the planned work that is done, 0..1; it rises, to 1 unless the work is
            stopped. Work at a larger size counts more.
        size: ``(H, W)`` of the picture that is worked on.
        loss, content, style: total loss before the iteration, and its unweighted content and style
            terms; NaN for the work of one pass.
        picture: returns the picture so far, ``(3, H, W)`` of ``size``, in 0..1 on the CPU; to be
            called before ``on_step`` returns. Before the first pass is done, it is the content.
        stage: what has been done: ``size 1/2``, ``brush 2/3``, ``layer relu3_1``,
            ``statistics 3/9`` (of tiles, or of layers), ``tile 4/6``, ``shift 2/4``.
    """

    iteration: int
    iterations: int
    share: float
    size: tuple[int, int]
    loss: float
    content: float
    style: float
    picture: Callable[[], Tensor]
    stage: str = ""


OnStep = Callable[[Step], bool | None]
"""Called after every iteration; in one pass after every size, layer, tile, shift, strip or repair.

If it returns True, the work ends with the picture so far. After the last step (a share of 1) there
is nothing left to end, and what it returns is ignored.
"""


class Cancelled(Exception):
    """Ends a rendering whose ``on_step`` returned True; :func:`watching` catches it."""


class Watch:
    """The progress of one rendering; see :func:`watching`.

    It is itself an :data:`OnStep`. A rendering of several stages, such as a method and its
    refinement, gives each stage a part and the same watch.

    Args:
        on_step: told of every step; None tells nobody.

    Attributes:
        stopped: why the work ended before its planned end.
        painted: whether the picture so far is more than the photograph.
        resolved: option -> the value that it was resolved to for this picture.
        checkpoint: file in which an optimisation keeps its state, to go on from it; None for none.
        losses: total loss, content loss and style loss before every iteration so far.
        earlier: seconds of the work before it was interrupted.
    """

    def __init__(self, on_step: OnStep | None) -> None:
        self.stopped: Stopped | None = None
        self.painted = False
        self.resolved: dict[str, Any] = {}
        self.checkpoint: Path | None = None
        self.losses: list[tuple[float, float, float]] = []
        self.earlier = 0.0
        self._on_step = on_step
        self._begin, self._end = 0.0, 1.0  # of the current part
        self._done = self._told = 0.0  # share of the whole; and the latest that was told
        self._stage = ""

    def start(
        self, content: Tensor, shown: Callable[[Tensor], Tensor] = lambda picture: picture
    ) -> None:
        """Begin a rendering of ``content`` in the current part; see :func:`watching`."""
        self._shown, self._keeps = shown, False
        self.so_far(content, painted=self.painted)

    @property
    def left(self) -> float:
        """Share of the current part that is not done yet, 0..1."""
        width = self._end - self._begin
        return (self._end - self._done) / width if width else 0.0

    @property
    def cancelled(self) -> bool:
        """Whether ``on_step`` returned True."""
        return self.stopped == "cancelled"

    def __call__(self, step: Step) -> bool:
        """Report a step whose share is that of the current part; returns whether to stop."""
        self._done = self._at(step.share)
        if step.iterations:
            self.losses.append((step.loss, step.content, step.style))
        stage = _joined(self._stage, step.stage)
        return self._tell(replace(step, share=self._done, stage=stage))

    def resume(
        self, share: float, seconds: float, losses: Sequence[tuple[float, float, float]]
    ) -> None:
        """Go on from ``share`` of the current part, after ``seconds`` of work with ``losses``."""
        self._done = self._told = self._at(share)
        self.earlier += seconds
        self.losses[:] = losses

    @contextmanager
    def portion(self, share: float, stage: str = "") -> Iterator[None]:
        """A context for the next ``share`` of the current part.

        Raises:
            Cancelled: at its end, if ``on_step`` returns True.
        """
        outer = self._begin, self._end, self._stage
        begin = self._done
        end = _snapped(begin + share * (self._end - self._begin), self._end)
        self._begin, self._end, self._stage = begin, end, _joined(self._stage, stage)
        try:
            yield
            self._done = end
            self._report()
        finally:
            self._begin, self._end, self._stage = outer

    def finish(self) -> None:
        """Report the end of all work."""
        self._done = 1.0
        self._report()

    def recorded(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` of a method, with what its options were resolved to for this picture."""
        resolved = {**settings.get("resolved", {}), **self.resolved}
        return {**settings, "resolved": resolved} if resolved else {**settings}

    def so_far(
        self,
        picture: Tensor | Callable[[], Tensor],
        size: tuple[int, int] | None = None,
        keep: bool = False,
        painted: bool = True,
    ) -> None:
        """See :func:`so_far`."""
        if self._keeps and not keep:
            return
        self._keeps, self.painted = keep, painted
        if callable(picture):
            assert size is not None
            self._picture, self._size = picture, size
        else:
            self._picture, self._size = lambda: picture, (picture.shape[-2], picture.shape[-1])

    def picture(self) -> Tensor:
        """The picture so far, ``(3, H, W)``."""
        return self._shown(self._picture())

    def _at(self, share: float) -> float:
        """Share of the whole at ``share`` of the current part."""
        return _snapped(self._begin + share * (self._end - self._begin), self._end)

    def _copied(self) -> Tensor:
        return self.picture().clone()  # what is worked on changes

    def _report(self) -> None:
        if self._told < self._done and self.stopped is None:
            nan, stage = math.nan, self._stage or "pass"
            step = Step(0, 0, self._done, self._size, nan, nan, nan, self._copied, stage)
            if self._tell(step):
                raise Cancelled

    def _tell(self, step: Step) -> bool:
        self._told = step.share
        if self._on_step is not None and self._on_step(step) and step.share < 1:
            self.stopped = "cancelled"
        return self.cancelled


_current: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(
    on_step: OnStep | None,
    content: Tensor,
    shown: Callable[[Tensor], Tensor] = lambda picture: picture,
) -> Iterator[Watch]:
    """The context of a rendering: in it, :func:`divided` and :func:`portion` tell ``on_step``.

    It ends early, without an error, when ``on_step`` returns True.

    Args:
        on_step: told of every step. If it is a :class:`Watch`, the rendering is what is left of
            its current part.
        content: the photograph: the picture so far, at first.
        shown: makes a picture so far, as the method works on it, one that :attr:`Step.picture`
            returns.

    Example:
        >>> import torch
        >>> shares = []
        >>> with watching(lambda step: shares.append(step.share), torch.rand(3, 4, 5)):
        ...     for size in divided([1, 3], "brush", weights=[1, 3]):
        ...         pass
        >>> shares
        [0.25, 1.0]
    """
    watch = on_step if isinstance(on_step, Watch) else Watch(on_step)
    watch.start(content, shown)
    token = _current.set(watch)
    try:
        yield watch
        if watch is not on_step:
            watch.finish()
    except Cancelled:
        pass
    finally:
        _current.reset(token)


def divided(
    items: Sequence[Item],
    stage: str | Sequence[str] = "",
    weights: Sequence[float] | None = None,
) -> Iterator[Item]:
    """Iterate over ``items``, which share what is left of the current part of the work.

    Args:
        items: what is worked on, one after another.
        stage: a word, which is numbered, or one for each item; see :class:`Step`.
        weights: work of each item, in any unit; None for equal work.

    Raises:
        Cancelled: after an item, if ``on_step`` returns True.
    """
    watch = _current.get()
    if watch is None:
        yield from items
        return
    count = len(items)
    if isinstance(stage, str):
        numbered = stage and count > 1
        stage = [f"{stage} {n}/{count}" if numbered else "" for n in range(1, count + 1)]
    weights = [1.0] * count if weights is None else weights
    unit = watch.left / sum(weights) if count else 0.0
    for item, name, weight in zip(items, stage, weights, strict=True):
        with watch.portion(unit * weight, name):
            yield item


@contextmanager
def portion(share: float, stage: str = "") -> Iterator[None]:
    """A context for the next ``share`` of the current part of the work; 0 leaves it unreported.

    Raises:
        Cancelled: at its end, if ``on_step`` returns True.
    """
    watch = _current.get()
    if watch is None:
        yield
        return
    with watch.portion(share, stage):
        yield


def so_far(
    picture: Tensor | Callable[[], Tensor],
    size: tuple[int, int] | None = None,
    keep: bool = False,
    painted: bool = True,
) -> None:
    """Say what the picture so far is.

    Args:
        picture: the picture, ``(..., 3, H, W)`` in 0..1, or a function that computes it, which is
            called only if somebody asks for the picture.
        size: ``(H, W)`` of what a function returns.
        keep: ignore what is said from now on without ``keep``: until its own end, work at a larger
            size has nothing better to show.
        painted: False for the photograph, of which nothing has been painted yet.
    """
    watch = _current.get()
    if watch is not None:
        watch.so_far(picture, size, keep, painted)


def _snapped(share: float, end: float) -> float:
    """``share``, or ``end`` if it is that but for rounding, or beyond."""
    return end if share > end - LEAST else share


def _joined(*stages: str) -> str:
    return ", ".join(filter(None, stages))
