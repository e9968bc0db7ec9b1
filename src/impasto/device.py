"""Where and how precisely to compute, and what of the process that concerns."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from .errors import InputError

__all__ = [
    "LARGE",
    "available_memory",
    "blank",
    "channels_last",
    "check_memory",
    "check_process",
    "choose_device",
    "choose_precision",
    "describe",
    "sparing",
    "tune",
    "unmixed",
]

Module = TypeVar("Module", bound=torch.nn.Module)
LARGE = 4_000_000  # pixels
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or the best one: CUDA, then MPS, then CPU.

    Raises:
        InputError: for a name that torch does not know, a device that is not there, or one that a
            forked process cannot use.
    """
    if not isinstance(name, str):
        raise InputError(f"device: a {type(name).__name__} where a name belongs: such as auto, cpu")
    device = _named(name)
    check_process(device)
    return device


def _named(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"device {name!r} is unknown: use auto, cpu, cuda, cuda:1 or mps"
        ) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {name!r} is not supported: use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda":
        there = (device.index or 0) < torch.cuda.device_count()
    else:
        there = device.type == "cpu" or torch.backends.mps.is_available()
    if not there:
        raise InputError(f"device {name} is not there: use --device cpu, or auto to choose")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Data type of the backbone's features; pictures and statistics always stay float32.

    ``auto`` is bfloat16 where the hardware multiplies it natively (CUDA from compute capability
    8.0, x86 with AMX or AVX512-BF16), else float32: emulated bfloat16 is slower than float32.

    Raises:
        InputError: for an unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise InputError(f"precision {name!r} is unknown: use auto, float32 or bfloat16")
    return PRECISIONS[name]


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    try:
        abilities = torch.cpu.get_capabilities()  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, RuntimeError):  # torch before 2.10 keeps it private
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return bool(abilities.get("amx_bf16") or abilities.get("avx512_bf16"))


def describe(device: torch.device, precision: torch.dtype) -> str:
    """One line for people: ``CPU, 2 threads, float32``."""
    kind = str(precision).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {kind}"
    if device.type == "mps":
        return f"Apple GPU (MPS), {kind}"
    count = torch.get_num_threads()
    return f"CPU, {count} thread{'s' if count > 1 else ''}, {kind}"


def available_memory(device: torch.device | None = None) -> int:
    """Bytes that can be had on ``device`` now, by default on the CPU.

    There it is the least of what the machine has, its container and the process's own limit.
    """
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    libc = _tuned_glibc()
    if libc is not None:
        libc.malloc_trim(0)  # what tune() made the heap keep is free too
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # a container of Linux; what it caches can be had
        group = Path("/sys/fs/cgroup")
        most, used, stat = (
            (group / f"memory.{name}").read_text(encoding="ascii")
            for name in ("max", "current", "stat")
        )
        inactive = int(dict(line.split() for line in stat.splitlines()).get("inactive_file", 0))
        free = min(free, max(0, int(most) - int(used) + inactive))
    with suppress(ImportError, OSError, ValueError):  # not on Windows
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, max(0, limit - psutil.Process().memory_info().vms))
    return free


@contextmanager
def unmixed() -> Iterator[None]:
    """Without autocast: the host may mix precisions, and here one was asked for."""
    with ExitStack() as stack:
        for kind in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def check_memory(size: tuple[int, int], bytes_per_pixel: float, device: torch.device) -> None:
    """Raise InputError if a picture of ``size`` ``(H, W)`` needs more memory than there is."""
    needed = bytes_per_pixel * size[0] * size[1]
    there = available_memory(device)
    if needed > there:
        side = int(min(size) * math.sqrt(there / needed) * 0.95)
        raise InputError(
            f"{size[1]}x{size[0]} pixels need about {needed / 2**30:.1f} GB of memory and "
            f"{there / 2**30:.1f} GB are free: use --size {side} or smaller"
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


def channels_last(module: Module) -> Module:
    """``module`` with its weights laid out as convolutions like them best."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def blank(make: Callable[[], Module]) -> Module:
    """A module whose weights are still to be loaded: float32 zeros on the CPU.

    Leaves torch's random state alone, and does not depend on its default data type.
    """
    check_process()
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu").float()
    for tensor in module.state_dict().values():
        tensor.zero_()
    return module


_tuned = False


def tune() -> None:
    """Set what makes the CPU faster for the whole process: 10 to 45 % of the time of optimisation.

    Every iteration allocates and frees the same large tensors; glibc by default returns them to
    the system, and fetching the pages again is what costs. So freed memory is kept, and denormals
    count as zeros. The command line does this; a program that impasto is a part of may not want it,
    so nothing else here does.
    """
    global _tuned
    if _tuned:
        return
    _tuned = True
    torch.set_flush_denormal(True)
    libc = _glibc()
    if libc is not None:
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap is not given back unasked


def _tuned_glibc() -> ctypes.CDLL | None:
    """Only where :func:`tune` changed its ways are they to be changed back."""
    return _glibc() if _tuned else None


_forked, _alone = False, False


def _after_fork() -> None:
    global _forked, _alone
    _forked, _alone = True, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_process(device: torch.device | None = None) -> None:
    """Make a forked process fit to compute.

    A fork has none of its parent's threads, and OpenMP would wait for them for ever: one thread has
    to do.

    Raises:
        InputError: where a fork cannot compute at all: on a GPU, and on macOS.
    """
    global _alone
    if not _forked:
        return
    if sys.platform == "darwin" or (device is not None and device.type != "cpu"):
        raise InputError(
            "a forked process cannot compute here: start workers by spawn, such as with "
            'multiprocessing.get_context("spawn")'
        )
    if not _alone:
        torch.set_num_threads(1)
        _alone = True


@contextmanager
def sparing(pixels: int) -> Iterator[None]:
    """For a large picture the contrary of :func:`tune`: large blocks go back when freed.

    Blocks as large as a picture leave holes in the heap that the next ones do not fit into.
    """
    libc = _tuned_glibc() if pixels > LARGE else None
    if libc is None:
        yield
        return
    libc.malloc_trim(0)
    libc.mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD
    libc.mallopt(-4, 1 << 16)  # M_MMAP_MAX
    try:
        yield
    finally:
        libc.mallopt(-4, 0)
