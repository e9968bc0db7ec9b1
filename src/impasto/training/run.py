"""What all trainings share: how they say how far they are, and how they keep it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..device import fetched
from ..files import save

__all__ = ["Latest", "OnProgress", "save_state"]

OnProgress = Callable[[int, int, float], bool | None]
"""Called after every step with the steps done, those planned, and the latest loss (nan as long as
there is none); True ends the run, with a checkpoint."""


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


def save_state(path: Path, state: Any) -> None:
    """Write what ``torch.load`` reads, whole or not at all: a checkpoint.

    It is a pickle, and below torch 2.10 one that was made for it can run code: a run's folder that
    comes from elsewhere is to be trusted like a program.

    Raises:
        InputError: if it cannot be written.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(state, file)
        except RuntimeError as fault:  # torch's own writer, of which a write failed
            if isinstance(fault.__context__, OSError):
                raise fault.__context__ from None
            raise

    save(path, write)
