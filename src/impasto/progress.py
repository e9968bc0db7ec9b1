"""Progress bars for long work, in a terminal, a notebook or a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["Bar", "bar", "drawing", "drawn", "in_notebook"]

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK")  # in distributed training only rank 0 draws a bar
SECONDS = 5.0  # between lines, without tqdm
Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


class Bar:
    """A bar that is called as the ``on_progress`` of long work; see :func:`bar`."""

    def __init__(
        self, label: str, then: Callable[..., bool | None] | None = None, **options: Any
    ) -> None:
        self._then, self._entered = then, False
        try:  # imported late: it looks for a notebook, and training does not need it
            from tqdm.auto import tqdm
        except ImportError:
            self._bar: Any = _Lines(label)
        else:
            # miniters=0: the text after the bar may change although the count does not.
            self._bar = tqdm(desc=label, miniters=0, file=sys.stderr, **options)

    def __call__(self, done: float, total: float | None, *more: object) -> bool:
        """Show the progress; closes the bar when ``done`` reaches ``total``, except in a ``with``.

        Args:
            done, total: in any unit; None for an unknown total.
            more: shown after the bar: a name, a loss, or a :class:`impasto.methods.Step`.

        Returns:
            What ``then`` returned: whether the work should stop.
        """
        stops = bool(self._then(done, total, *more)) if self._then is not None else False
        if total != self._bar.total or done < self._bar.n:  # another stage of the work
            self._bar.reset(total)
        text = "  ".join(filter(None, map(_text, more)))
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)
        if total is not None and done >= total and not self._entered:
            self.close()
        return stops

    def close(self) -> None:
        """Draw the bar for the last time."""
        self._bar.close()

    def __enter__(self) -> Bar:
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Lines:
    """A substitute for tqdm that prints a line to standard error every few seconds, and a last one.

    Attributes:
        total, n: the amount of work, and the amount done.
        disable: whether it is closed.
    """

    def __init__(self, label: str) -> None:
        self.total: float | None = None
        self.n: float = 0
        self.disable = False
        self._label, self._postfix, self._next = label, "", 0.0

    def reset(self, total: float | None) -> None:
        self.total, self.n = total, 0

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self._postfix = text

    def update(self, more: float) -> None:
        self.n += more
        if time.monotonic() >= self._next:
            self._write()

    def close(self) -> None:
        if not self.disable:
            self._write()
        self.disable = True

    def _write(self) -> None:
        self._next = time.monotonic() + SECONDS
        count = f"{self.n:g}" if self.total is None else f"{self.n:g}/{self.total:g}"
        if sys.stderr is not None:
            print(self._label, count, self._postfix, file=sys.stderr, flush=True)


def bar(label: str, then: Callable[..., bool | None] | None = None) -> Bar:
    """A bar as the ``on_progress`` of :mod:`impasto.study` and :mod:`impasto.training`.

    It is drawn on standard error, or as a widget in a notebook with ipywidgets.

    Args:
        label: shown before the bar.
        then: called with the same arguments, such as another ``on_progress``; True stops the work.

    Example:
        >>> with bar("counting") as on_progress:
        ...     for number in range(3):
        ...         _ = on_progress(number + 1, 3, "sheep")
    """
    return Bar(label, then)


@contextmanager
def drawing(
    label: str, on_step: Callable[[Any], bool | None] | None = None
) -> Iterator[Callable[[Any], bool]]:
    """A bar for a rendering: gives an ``on_step`` that draws it, and passes steps on."""

    def then(done: float, total: float, step: Any) -> bool | None:
        return None if on_step is None else on_step(step)

    # The count is a share: a percentage tells it better.
    with Bar(
        label, then, total=1, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    ) as bar:
        yield lambda step: bar(step.share, 1, step)


def drawn(label: str) -> Callable[[Callable[Parameters, Value]], Callable[Parameters, Value]]:
    """A decorator of functions with the keywords ``on_progress`` and ``progress``.

    With ``progress=True`` a bar is drawn; the return value of ``on_progress`` still counts.
    """

    def decorate(function: Callable[Parameters, Value]) -> Callable[Parameters, Value]:
        @wraps(function)
        def wrapped(*args: Any, progress: bool = False, **keywords: Any) -> Value:
            secondary = any(os.environ.get(rank, "0") != "0" for rank in RANKS)
            if not progress or secondary:
                return function(*args, **keywords)
            with bar(label, keywords.pop("on_progress", None)) as on_progress:
                keywords["on_progress"] = on_progress
                return function(*args, **keywords)

        return cast("Callable[Parameters, Value]", wrapped)

    return decorate


def in_notebook() -> bool:
    """Whether this runs in a notebook, which can draw bars although it is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def _text(item: object) -> str:
    if isinstance(item, float):
        return f"loss {item:.4g}"
    if item is None or isinstance(item, str):
        return item or ""
    step = cast(Any, item)
    if not step.iterations:
        return str(step.stage)
    return f"{step.iteration}/{step.iterations}  loss {step.loss:.4g}"
