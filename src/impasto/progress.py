"""Progress bars for long work, in a terminal, a notebook or a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["Bar", "bar", "drawn", "in_notebook"]

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK")  # of processes that train together; the first speaks
SECONDS = 5.0  # between lines, where there is no tqdm
Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


class Bar:
    """A bar that is called as the ``on_progress`` of long work; see :func:`bar`."""

    def __init__(
        self, label: str, then: Callable[..., bool | None] | None = None, **options: Any
    ) -> None:
        self._then, self._within = then, False
        try:  # here, for it looks for a notebook, and need not be installed to train
            from tqdm.auto import tqdm
        except ImportError:
            self._bar: Any = _Lines(label)
        else:
            # miniters=0: what is said beside the bar changes where the count does not.
            self._bar = tqdm(desc=label, miniters=0, file=sys.stderr, **options)

    def __call__(self, done: float, total: float | None, *more: object) -> bool:
        """Show how much of the work is done; at its end the bar ends, or where its ``with`` does.

        Args:
            done, total: in any unit; None where nobody knows how much there is.
            more: shown beside it: a name, a loss, an optimisation's :class:`impasto.methods.Step`.

        Returns:
            What ``then`` returned: whether the work is to end.
        """
        stops = bool(self._then(done, total, *more)) if self._then is not None else False
        if total != self._bar.total or done < self._bar.n:  # or another stage of the work
            self._bar.reset(total)
        said = "  ".join(filter(None, map(_words, more)))
        self._bar.set_postfix_str(said, refresh=False)
        self._bar.update(done - self._bar.n)
        if total is not None and done >= total and not self._within:
            self.close()
        return stops

    def close(self) -> None:
        """Draw it for the last time."""
        self._bar.close()

    def __enter__(self) -> Bar:
        self._within = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Lines:
    """What :class:`Bar` uses of tqdm, as lines on standard error: some seconds apart, and the last.

    Attributes:
        total, n: how much there is to do, and is done.
        disable: whether it has ended.
    """

    def __init__(self, label: str) -> None:
        self.total: float | None = None
        self.n: float = 0
        self.disable = False
        self._label, self._beside, self._next = label, "", 0.0

    def reset(self, total: float | None) -> None:
        self.total, self.n = total, 0

    def set_postfix_str(self, words: str, refresh: bool) -> None:
        self._beside = words

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
            print(self._label, count, self._beside, file=sys.stderr, flush=True)


def bar(label: str, then: Callable[..., bool | None] | None = None) -> Bar:
    """A bar as the ``on_progress`` of :mod:`impasto.study` and :mod:`impasto.training`.

    It goes to standard error, and is a widget in a notebook that has ipywidgets.

    Args:
        label: what is at work.
        then: called with the same, such as another ``on_progress``; returning True ends the work.

    Example:
        >>> with bar("counting") as on_progress:
        ...     for number in range(3):
        ...         _ = on_progress(number + 1, 3, "sheep")
    """
    return Bar(label, then)


def drawn(label: str) -> Callable[[Callable[Parameters, Value]], Callable[Parameters, Value]]:
    """A decorator of functions with the keywords ``on_progress`` and ``progress``.

    With ``progress=True`` a bar is drawn; what ``on_progress`` answers counts all the same.
    """

    def decorate(function: Callable[Parameters, Value]) -> Callable[Parameters, Value]:
        @wraps(function)
        def wrapped(*args: Any, progress: bool = False, **given: Any) -> Value:
            others = any(os.environ.get(rank, "0") != "0" for rank in RANKS)
            if not progress or others:
                return function(*args, **given)
            with bar(label, given.pop("on_progress", None)) as on_progress:
                given["on_progress"] = on_progress
                return function(*args, **given)

        return cast("Callable[Parameters, Value]", wrapped)

    return decorate


def in_notebook() -> bool:
    """Whether this runs in a notebook, which draws bars though it is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def _words(what: object) -> str:
    if isinstance(what, float):
        return f"loss {what:.4g}"
    if what is None or isinstance(what, str):
        return what or ""
    step = cast(Any, what)
    return f"{step.iteration}/{step.iterations}  loss {step.loss:.4g}"
