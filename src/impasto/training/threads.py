"""Work in threads ahead of its use: decoding and cropping release Python's lock."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from threading import Barrier
from typing import TypeVar

import torch

__all__ = ["cores", "in_order", "one_thread_each"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """``function`` of every item, in order, computed in advance: two items per thread.

    An exception is raised in the place of the item's result.

    Args:
        function: called in the threads.
        items: its arguments.
        workers: number of threads; 0 computes each item on demand.
    """
    if not workers:
        yield from map(function, items)
        return
    with one_thread_each(workers) as pool:
        remaining = iter(items)
        futures = deque(pool.submit(function, item) for item in islice(remaining, 2 * workers))
        try:
            while futures:
                futures.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that each use a single torch thread.

    By default each would start one more thread per core.
    """
    thread_count = torch.get_num_threads()
    started = Barrier(workers + 1)

    def begin() -> None:
        _lower_priority()
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, "impasto-data")
    try:
        for _ in range(workers):
            pool.submit(begin)
        started.wait()
        torch.set_num_threads(thread_count)  # torch uses the latest value for all new threads
        yield pool
    finally:
        started.abort()  # releases threads that still wait after an interrupted start
        pool.shutdown(wait=True, cancel_futures=True)


def _lower_priority() -> None:
    """Prevent this thread from preempting the thread that submits the work.

    By default Linux runs a woken thread first, which delays a step by the time to crop a batch.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
