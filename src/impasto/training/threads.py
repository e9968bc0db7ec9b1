"""Work in threads, ahead of whoever needs it: decoding and cropping release Python's lock."""

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
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """``function`` of every item, in their order, computed by threads two items each ahead.

    What an item raises is raised where its result would come.

    Args:
        workers: threads; without any, each item is computed when it is asked for.
    """
    if not workers:
        yield from map(function, items)
        return
    with one_thread_each(workers) as pool:
        source = iter(items)
        ahead = deque(pool.submit(function, item) for item in islice(source, 2 * workers))
        try:
            while ahead:
                ahead.extend(pool.submit(function, item) for item in islice(source, 1))
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


@contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch computes with that thread alone.

    Each would otherwise start as many more as there are cores.
    """
    before = torch.get_num_threads()
    met = Barrier(workers + 1)

    def begin() -> None:
        _stand_back()
        torch.set_num_threads(1)
        met.wait()

    pool = ThreadPoolExecutor(workers, "impasto-data")
    try:
        for _ in range(workers):
            pool.submit(begin)
        met.wait()
        torch.set_num_threads(before)  # torch takes the latest for all threads to come
        yield pool
    finally:
        met.abort()  # of those that still wait, where the start was cut short
        pool.shutdown(wait=True, cancel_futures=True)


def _stand_back() -> None:
    """Do not interrupt the thread that gives out the work: Linux would let who is woken go first.

    A step was delayed by as long as it takes to crop a batch.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
