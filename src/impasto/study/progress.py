"""What studies of many pictures tell of their progress, within a picture too."""

from __future__ import annotations

from collections.abc import Callable

from ..watch import Step, Watch

__all__ = ["OnProgress", "within"]

OnProgress = Callable[[float, int, str], bool | None]
"""Called with the number of pictures done (with the share of the current one), the total, and a
name; True stops, and the current picture is dropped."""


def within(on_progress: OnProgress, begin: float, end: float, total: int, name: str) -> Watch:
    """The ``on_step`` of a rendering that takes the work from ``begin`` to ``end`` pictures."""

    def on_step(step: Step) -> bool:
        done = begin + step.share * (end - begin)
        return step.share < 1 and bool(on_progress(done, total, name))  # the study tells the end

    return Watch(on_step)
