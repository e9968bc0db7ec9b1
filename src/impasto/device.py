"""Where and how precisely to compute."""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import psutil
import torch

from .errors import InputError

__all__ = [
    "LARGE",
    "available_memory",
    "channels_last",
    "check_memory",
    "choose_device",
    "choose_precision",
    "describe",
    "sparing",
    "tune_process",
]

Module = TypeVar("Module", bound=torch.nn.Module)
LARGE = 4_000_000  # pixels
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or the best one: CUDA, then MPS, then CPU.

    Raises:
        InputError: for a name that torch does not know or a device that is not there.
    """
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


def available_memory(device: torch.device) -> int:
    """Bytes that can be had on ``device`` now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)  # what tune_process() made the heap keep is free too
    return int(psutil.virtual_memory().available)


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


@functools.cache
def tune_process() -> None:
    """Set what makes the CPU faster, once: denormals as zeros, and memory kept when freed.

    Every iteration allocates and frees the same large tensors; glibc by default returns them to
    the system, and fetching the pages again costs 10 to 45 % of the time.
    """
    torch.set_flush_denormal(True)
    libc = _glibc()
    if libc is not None:
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap is not given back unasked


@contextmanager
def sparing(pixels: int) -> Iterator[None]:
    """For a large picture the contrary of :func:`tune_process`: large blocks go back when freed.

    Blocks as large as a picture leave holes in the heap that the next ones do not fit into.
    """
    libc = _glibc() if pixels > LARGE else None
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
