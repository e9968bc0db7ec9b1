"""The logs of a run: ``losses.csv``, and TensorBoard's log if TensorBoard is installed."""

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
from ..errors import spelled
from ..files import disk_fault, path_of, reason_of, save, shown

__all__ = ["LOSSES", "Latest", "Log", "history"]

LOSSES, TENSORBOARD = "losses.csv", "tensorboard"


class Log:
    """The logged figures of a run, one row per step.

    Args:
        run: the folder; an existing log is continued.
        step: the current step of the run; later rows, which a killed run left, are deleted.
        write: whether this process writes the log.
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
        """Append a row to the file immediately."""
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
            raise disk_fault(
                fault,
                f"{shown(self.path)}: cannot write it ({reason_of(fault)}); free some space, and "
                f"continue with {spelled('resume', True)}",
            ) from fault
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write what TensorBoard's writer has buffered."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's writer."""
        if self._board is not None:
            self._board.close()

    def _widen(self, new: list[str]) -> None:
        """Add columns and keep the existing rows."""
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
    """The complete lines of a file; a kill may have cut the last one."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer for the steps after ``step``, or None if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=step + 1)


def history(run: Path) -> list[dict[str, float]]:
    """The logged figures of a run, sorted by step, including those from before it was resumed.

    Returns:
        Rows with ``step`` and the figures of that step, such as ``train`` and ``train/content``.
    """
    rows: dict[int, dict[str, float]] = {}
    for row in csv.DictReader(_lines(path_of(run, "run") / LOSSES)):
        figures = {name: float(value) for name, value in row.items() if value}
        rows.setdefault(int(row["step"]), {}).update(figures)
    return [rows[step] for step in sorted(rows)]


class Latest:
    """The latest available loss. On a GPU it is the previous step's, to avoid a synchronisation.

    Attributes:
        losses: all available losses.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._pending: deque[Callable[[], list[float]]] = deque()

    def __call__(self, loss: Tensor) -> float:
        """Add the loss ``()`` of this step and return the latest available one."""
        self._pending.append(fetched(loss.reshape(1)))
        if len(self._pending) > (loss.device.type == "cuda"):
            self.losses += self._pending.popleft()()
        return self.losses[-1] if self.losses else math.nan

    def all(self) -> list[float]:
        """The losses of all steps, after waiting for the last one."""
        while self._pending:
            self.losses += self._pending.popleft()()
        return self.losses
