"""Computation in forked processes."""

from __future__ import annotations

import os
import sys

import torch

from ..errors import DeviceError

__all__ = ["check_process"]


_forked, _single_threaded = False, False


def _after_fork() -> None:
    global _forked, _single_threaded
    _forked, _single_threaded = True, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_process(device: torch.device | None = None) -> None:
    """Prepare a forked process for computation.

    A fork has none of its parent's threads, and OpenMP would wait for them forever, so the fork
    uses one thread.

    Raises:
        DeviceError: if a fork cannot compute at all: on a GPU, and on macOS.
    """
    global _single_threaded
    if not _forked:
        return
    if sys.platform == "darwin" or (device is not None and device.type != "cpu"):
        raise DeviceError(
            "a forked process cannot compute here: start workers by spawn, such as with "
            'multiprocessing.get_context("spawn")'
        )
    if not _single_threaded:
        torch.set_num_threads(1)
        _single_threaded = True
