"""What a run says of itself: ``losses.csv`` always, TensorBoard's log where that is installed."""

from __future__ import annotations

import csv
import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..device import fetched
from ..errors import InputError
from ..files import path_of, reason_of, save, shown

__all__ = ["LOSSES", "Latest", "Log", "history"]

LOSSES, TENSORBOARD = "losses.csv", "tensorboard"


class Log:
    """Rows of figures of a run, by step.

    Args:
        run: the folder; a log that is there is gone on with.
        step: that the run stands at; rows beyond it, which a killed run left, are dropped.
        write: whether this is the process that does.
    """

    def __init__(self, run: Path, step: int, write: bool = True) -> None:
        self.path, self.write = run / LOSSES, write
        self._board = None
        if not write:
            return
        run.mkdir(parents=True, exist_ok=True)
        logged = csv.DictReader(_lines(self.path))
        rows = [row for row in logged if int(row["step"]) <= step]
        self._names = list(logged.fieldnames or ()) if rows else ["step"]
        self._rewrite(rows)
        self._board = _board(run / TENSORBOARD, step)

    def add(self, step: int, row: Mapping[str, float]) -> None:
        """Write a row at once."""
        if not self.write:
            return
        new = [name for name in row if name not in self._names]
        if new:
            self._widen(new)
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._names, lineterminator="\n")
                writer.writerow({"step": step, **row})
        except OSError as fault:
            raise InputError(
                f"{shown(self.path)}: cannot write it ({reason_of(fault)}); free some space, and "
                "go on by the same command and --resume"
            ) from fault
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Let TensorBoard see all of it."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Write the last of it."""
        if self._board is not None:
            self._board.close()

    def _widen(self, new: list[str]) -> None:
        """Columns that the file has not; what is written before stays."""
        rows = list(csv.DictReader(_lines(self.path)))
        self._names += new
        self._rewrite(rows)

    def _rewrite(self, rows: Iterable[Mapping[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        save(self.path, text.getvalue())


def _lines(path: Path) -> list[str]:
    """Whole lines: a kill may have torn the last."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer of what comes after ``step``, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=step + 1)


def history(run: Path) -> list[dict[str, float]]:
    """The logged figures of a run, by step, over all its resumptions.

    Returns:
        Rows with ``step`` and what was logged at it, such as ``train`` and ``train/content``.
    """
    rows: dict[int, dict[str, float]] = {}
    for row in csv.DictReader(_lines(path_of(run, "run") / LOSSES)):
        figures = {name: float(value) for name, value in row.items() if value}
        rows.setdefault(int(row["step"]), {}).update(figures)
    return [rows[step] for step in sorted(rows)]


class Latest:
    """The latest loss that is known: of a GPU that of the step before, which is not waited for.

    Attributes:
        losses: all so far.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._pending: deque[Callable[[], list[float]]] = deque()

    def __call__(self, loss: Tensor) -> float:
        """Take the loss ``()`` of this step, and give the latest."""
        self._pending.append(fetched(loss.reshape(1)))
        if len(self._pending) > (loss.device.type == "cuda"):
            self.losses += self._pending.popleft()()
        return self.losses[-1] if self.losses else math.nan

    def all(self) -> list[float]:
        """The losses of all steps, that of the last too."""
        while self._pending:
            self.losses += self._pending.popleft()()
        return self.losses
