"""How much memory a computation takes at most, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from ..device import trim

__all__ = ["Peak", "peak_memory"]

INTERVAL = 0.005  # seconds between two looks at the process, far less than an iteration takes


@dataclass
class Peak:
    """What the block of :func:`peak_memory` took at most, in MB; 0 until it ends."""

    megabytes: float = 0.0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure how much memory a block takes on ``device``, beside what was taken before it.

    On a CPU, the resident memory of the process is sampled, after freed memory was given back to
    the system; on an Apple GPU it is what the driver holds at the end, since it gives nothing back
    by itself.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.megabytes = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    if device.type == "mps":
        torch.mps.empty_cache()
        before = torch.mps.driver_allocated_memory()
        yield peak
        peak.megabytes = (torch.mps.driver_allocated_memory() - before) / 2**20
        return
    trim()
    process, ended = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def sample() -> None:
        nonlocal most
        while not ended.wait(INTERVAL):
            most = max(most, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()
    peak.megabytes = (max(most, process.memory_info().rss) - before) / 2**20
