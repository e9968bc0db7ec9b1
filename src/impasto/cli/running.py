"""Long work on the command line: a progress bar, and Ctrl-C that stops it cleanly."""

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
    """Long work in progress.

    Attributes:
        interrupted: returns whether Ctrl-C was pressed, so that the work should stop and keep its
            results so far.
    """

    def __init__(self, bar: Progress, task: TaskID, interrupted: Callable[[], bool]) -> None:
        self._bar, self._task, self.interrupted = bar, task, interrupted

    def show(
        self, done: float, total: float | None = None, text: str = "", label: str | None = None
    ) -> bool:
        """Show the progress; returns whether the work should stop.

        Args:
            done, total: in any unit; None keeps the previous total.
            text: shown after the bar.
            label: shown before the bar; None keeps the previous one.
        """
        fields = {"total": total, "description": label}
        changed = {name: value for name, value in fields.items() if value is not None}
        self._bar.update(self._task, completed=done, text=text, **changed)  # type: ignore[arg-type]
        return self.interrupted()

    def count(self, done: float, total: int, name: str, step: Step | None = None) -> bool:
        """See :meth:`show`, for a number of items, each of which may have steps."""
        share = 0.0 if step is None else step.share
        return self.show(done + share, total, f"{int(done)}/{total}  {name}")

    def train(self, step: int, steps: int, loss: float) -> bool:
        """See :meth:`show`, for training."""
        return self.show(step, steps, f"{step}/{steps}  loss {loss:.4g}")


@contextmanager
def running(label: str, promise: str = "finishing with the picture so far") -> Iterator[Work]:
    """A context with a progress bar and a handler of Ctrl-C.

    Args:
        label: shown before the bar.
        promise: the message after Ctrl-C: which results are kept.
    """
    with interrupts(promise) as interrupted, progress_bar() as bar:
        yield Work(bar, bar.add_task(label, total=None, text=""), interrupted)


def stop(line: str = "") -> NoReturn:
    """Exit after Ctrl-C, with a line that says which results were kept."""
    if line:
        say.print(f"impasto: {line}")
    raise typer.Exit(INTERRUPTED)


@contextmanager
def interrupts(promise: str) -> Iterator[Callable[[], bool]]:
    """A context in which the first Ctrl-C only requests a stop; a second one interrupts at once.

    If Ctrl-C is ignored, as in a background job, it stays ignored. Only the main thread can handle
    signals.
    """
    requested = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        say.print(f"impasto: {promise} (Ctrl-C again to drop it)")

    before = signal.getsignal(signal.SIGINT)
    main_thread = threading.current_thread() is threading.main_thread()
    if before in (signal.SIG_IGN, None) or not main_thread:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: requested
    finally:
        signal.signal(signal.SIGINT, before)


class _Bar(Progress):
    """A bar that prints nothing if disabled; rich before 15 prints an empty line at the end."""

    def stop(self) -> None:
        if not self.disable:
            super().stop()


def progress_bar() -> Progress:
    """A progress bar on standard error, disabled unless that is a terminal."""
    return _Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeRemainingColumn(),
        console=say,
        transient=True,
        disable=not say.is_terminal,
    )
