"""Long work on the command line: one bar, and Ctrl-C that asks for the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..methods import Step
from .console import INTERRUPTED, say

__all__ = ["Work", "interrupts", "running", "stop"]


class Work:
    """Long work as it runs.

    Attributes:
        interrupted: asks whether Ctrl-C was pressed: the work is to end with what it has.
    """

    def __init__(self, bar: Progress, task: TaskID, interrupted: Callable[[], bool]) -> None:
        self._bar, self._task, self.interrupted = bar, task, interrupted

    def show(
        self, done: float, total: float | None = None, words: str = "", label: str | None = None
    ) -> bool:
        """Show how far it is; returns whether it is to end.

        Args:
            done, total: in any unit; without ``total`` it stays what it was.
            words: beside the bar.
            label: before it, in the place of the one before.
        """
        changes = {"total": total, "description": label}
        changed = {name: value for name, value in changes.items() if value is not None}
        self._bar.update(self._task, completed=done, words=words, **changed)  # type: ignore[arg-type]
        return self.interrupted()

    def count(self, done: int, total: int, name: str, step: Step | None = None) -> bool:
        """See :meth:`show`, for work on one thing after another, each perhaps in steps."""
        share = 0.0 if step is None else step.share
        return self.show(done + share, total, f"{done}/{total}  {name}")

    def train(self, step: int, steps: int, loss: float) -> bool:
        """See :meth:`show`, for training."""
        return self.show(step, steps, f"{step}/{steps}  loss {loss:.4g}")


@contextmanager
def running(label: str, promise: str = "finishing with the picture so far") -> Iterator[Work]:
    """A bar and Ctrl-C for what is done meanwhile.

    Args:
        label: before the bar.
        promise: what Ctrl-C is answered: what will be kept.
    """
    with interrupts(promise) as interrupted, bar() as drawn:
        yield Work(drawn, drawn.add_task(label, total=None, words=""), interrupted)


def stop(line: str = "") -> NoReturn:
    """End a command after Ctrl-C, with a line that says what was kept."""
    if line:
        say.print(f"impasto: {line}")
    raise typer.Exit(INTERRUPTED)


@contextmanager
def interrupts(promise: str) -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks for the end: what was done so far is kept. A second one ends at once.

    Where it is ignored from the start, as in a background job, it stays so; and only the main
    thread can hear of it.
    """
    asked = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say.print(f"impasto: {promise} (Ctrl-C again to drop it)")

    before = signal.getsignal(signal.SIGINT)
    main_thread = threading.current_thread() is threading.main_thread()
    if before in (signal.SIG_IGN, None) or not main_thread:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Bar(Progress):
    """Nothing at all where it is disabled: rich below 15 ends with an empty line even so."""

    def stop(self) -> None:
        if not self.disable:
            super().stop()


def bar() -> Progress:
    """On standard error, where that is a terminal."""
    return _Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TimeRemainingColumn(),
        console=say,
        transient=True,
        disable=not say.is_terminal,
    )
