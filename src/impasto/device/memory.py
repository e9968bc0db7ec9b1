"""Available memory, and how the process reuses freed memory."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from ..errors import OutOfMemoryError, spelled

__all__ = [
    "LARGE",
    "available_memory",
    "check_memory",
    "lacking_memory",
    "release",
    "sparing",
    "trim",
    "tune",
]


LARGE = 4_000_000  # pixels
_UNKNOWN = 4 << 30  # bytes assumed if the system does not report its memory


def available_memory(device: torch.device | None = None) -> int:
    """Bytes that can be allocated on ``device`` now, by default on the CPU.

    For the CPU, the minimum over the machine, its container and the limit of the process. For a
    GPU, memory that torch caches counts as available. Apple's GPUs share the machine's memory.
    """
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device is not None and device.type == "mps":
        used = torch.mps.current_allocated_memory()
        cached = torch.mps.driver_allocated_memory() - used
        shared = _free() + cached
        return int(max(0, min(torch.mps.recommended_max_memory() - used, shared)))
    libc = _tuned_glibc()
    if libc is not None:
        libc.malloc_trim(0)  # release the freed memory that tune() makes the heap keep
    free = _free()
    with suppress(OSError, ValueError):  # a Linux container; its file cache counts as available
        group = Path("/sys/fs/cgroup")
        most, current, stat = (
            (group / f"memory.{name}").read_text(encoding="ascii")
            for name in ("max", "current", "stat")
        )
        inactive = int(dict(line.split() for line in stat.splitlines()).get("inactive_file", 0))
        free = min(free, max(0, int(most) - int(current) + inactive))
    with suppress(ImportError, OSError, ValueError):  # not on Windows
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, max(0, limit - _addressed()))
    return free


def _free() -> int:
    """Bytes of free memory of the machine, also without psutil, which training does not need."""
    try:
        import psutil
    except ImportError:
        with suppress(OSError, StopIteration):  # Linux
            lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
            free = next(line for line in lines if line.startswith("MemAvailable:"))
            return int(free.split()[1]) << 10
        with suppress(AttributeError, OSError, ValueError):  # other Unix: only the total
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return _UNKNOWN
    return int(psutil.virtual_memory().available)


def _addressed() -> int:
    """Bytes of address space of the process, which its limit applies to."""
    try:
        import psutil
    except ImportError:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return int(psutil.Process().memory_info().vms)


def check_memory(size: tuple[int, int], bytes_per_pixel: float, device: torch.device) -> None:
    """Raise OutOfMemoryError if a picture of ``size`` ``(H, W)`` needs more than is free."""
    needed = bytes_per_pixel * size[0] * size[1]
    available = available_memory(device)
    if needed > available:
        raise lacking_memory(size, needed, available, available / bytes_per_pixel)


def lacking_memory(
    size: tuple[int, int], needed: float, available: float, pixels: float, instead: str = ""
) -> OutOfMemoryError:
    """The error for a picture of ``size`` ``(H, W)`` that needs more bytes than are available.

    Args:
        size, needed, available: what is said.
        pixels: how many there is memory for.
        instead: another way than a smaller picture, in a clause.
    """
    side = int(min(size) * math.sqrt(pixels / (size[0] * size[1])) * 0.95)
    smaller = f"use {spelled('size', side)} or smaller" if side else "close other programs"
    return OutOfMemoryError(
        f"{size[1]}x{size[0]} pixels need about {needed / 2**30:.1f} GB of memory and "
        f"{available / 2**30:.1f} GB are free: {smaller}{instead}",
        option="size",
    )


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except OSError:  # another C library
        return None


_tuned = False


def tune() -> None:
    """Tune the whole process for speed on the CPU: saves 10 to 45 % of the time of optimisation.

    Every iteration allocates and frees the same large tensors. By default glibc returns them to the
    system, and fetching the pages again is slow. So freed memory is kept, and denormals are flushed
    to zero. The command line calls this; loading and rendering never do, because it affects the
    whole program.
    """
    global _tuned
    if _tuned:
        return
    _tuned = True
    torch.set_flush_denormal(True)
    libc = _glibc()
    if libc is not None:
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap is never trimmed automatically


def _tuned_glibc() -> ctypes.CDLL | None:
    """glibc, if :func:`tune` changed its settings; else None."""
    return _glibc() if _tuned else None


def release(device: torch.device) -> None:
    """Give memory of a GPU that torch keeps for later back to the device."""
    if device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def trim() -> None:
    """Give memory of the CPU that was freed back to the system, where glibc can."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@contextmanager
def sparing(pixels: int, block: int = 1 << 20) -> Iterator[None]:
    """Undo :func:`tune` for a large picture: large blocks are returned to the system when freed.

    Blocks as large as a picture leave holes in the heap that the next ones do not fit into.

    Args:
        pixels: of the picture.
        block: bytes from which on a block is large, at most 32 MB.
    """
    libc = _tuned_glibc() if pixels > LARGE else None
    if libc is None:
        yield
        return
    libc.malloc_trim(0)
    libc.mallopt(-3, block)  # M_MMAP_THRESHOLD
    libc.mallopt(-4, 1 << 16)  # M_MMAP_MAX
    try:
        yield
    finally:
        libc.mallopt(-4, 0)
