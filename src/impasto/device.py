"""Where and how precisely to compute, and what of the process that concerns."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar, overload

import psutil
import torch

from .errors import InputError

__all__ = [
    "LARGE",
    "arranged",
    "available_memory",
    "bfloat16_units",
    "blank",
    "check_memory",
    "check_process",
    "choose_device",
    "choose_precision",
    "describe",
    "fetched",
    "full_precision",
    "layout",
    "missing_cuda",
    "mixed",
    "obstacle",
    "sparing",
    "tune",
    "unmixed",
]

Module = TypeVar("Module", bound=torch.nn.Module)
LARGE = 4_000_000  # pixels
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or the best one: CUDA, then MPS, then CPU.

    Where ``auto`` passes over a card that is there, a warning says once why.

    Raises:
        InputError: for a name that torch does not know, a device that is not there or that this
            torch cannot compute on, or one that a forked process cannot use.
    """
    if not isinstance(name, str):
        raise InputError(f"device: a {type(name).__name__} where a name belongs: such as auto, cpu")
    device = _best() if name == "auto" else _named(name)
    check_process(device)
    return device


def _best() -> torch.device:
    faults = []
    if torch.cuda.is_available():
        check_process(torch.device("cuda"))  # before it is asked anything
        for index in range(torch.cuda.device_count()):
            fault = obstacle(index)
            if fault is None:
                return torch.device("cuda", index) if index else torch.device("cuda")
            faults.append(fault)
    elif (fault := missing_cuda()) is not None:
        faults.append(fault)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    for fault in faults:
        if fault not in _noted:
            _noted.add(fault)
            warnings.warn(f"the CPU computes: {fault}", stacklevel=3)
    return torch.device("cpu")


_noted: set[str] = set()


def obstacle(index: int) -> str | None:
    """Why this torch cannot compute on a card of NVIDIA's; None if it can.

    A build has kernels for some capabilities. They serve later cards of the same major number, and
    where it brings PTX, all later ones.
    """
    if torch.version.hip is not None:  # AMD's are named otherwise, and torch itself refuses them
        return None
    card = torch.cuda.get_device_capability(index)
    built = set()
    for arch in torch.cuda.get_arch_list():
        kind, _, number = arch.partition("_")
        own = _capability(number)
        built.add(own)
        # What is built for one alone, such as 90a, serves no later one.
        serves = own <= card and (kind == "compute" or own[0] == card[0]) and number[-1:] != "a"
        if own == card or serves:
            return None
    known = ", ".join(f"{major}.{minor}" for major, minor in sorted(built)) or "no card"
    return (
        f"{torch.cuda.get_device_name(index)} has capability {card[0]}.{card[1]}, and torch "
        f"{torch.__version__} has kernels for {known}: install a build for it, see "
        "https://pytorch.org/get-started/previous-versions"
    )


def _capability(digits: str) -> tuple[int, int]:
    """``(12, 0)`` of ``120`` or ``120a``."""
    number = int("".join(filter(str.isdigit, digits)) or 0)
    return number // 10, number % 10


def missing_cuda() -> str | None:
    """That a card of NVIDIA's is here and torch was built without CUDA; None if that is not so.

    On Windows PyPI's builds are all such.
    """
    if torch.version.cuda is not None or torch.version.hip is not None:
        return None
    if sys.platform == "darwin" or shutil.which("nvidia-smi") is None:
        return None
    return (
        f"a card of NVIDIA's seems to be here, and torch {torch.__version__} was built without "
        "CUDA: the build for it is at https://pytorch.org/get-started/locally"
    )


def _named(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"device {name!r} is unknown: use auto, cpu, cuda, cuda:1 or mps"
        ) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {name!r} is not supported: use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda":
        there = torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    else:
        there = device.type == "cpu" or torch.backends.mps.is_available()
    if not there:
        why = missing_cuda() if device.type == "cuda" else None
        reason = f" ({why})" if why else ""
        raise InputError(f"device {name} is not there{reason}: use --device cpu, or auto to choose")
    if device.type == "cuda":
        check_process(device)
        if (fault := obstacle(device.index or 0)) is not None:
            raise InputError(f"device {name}: {fault}; or use --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Data type of the backbone's features; pictures and statistics always stay float32.

    ``auto`` is bfloat16 where the hardware multiplies it natively (CUDA from compute capability
    8.0, x86 with AMX or AVX512-BF16), else float32: emulated bfloat16 is slower than float32.

    Raises:
        InputError: for an unknown name, or one that the device has not.
    """
    if name == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise InputError(f"precision {name!r} is unknown: use auto, float32 or bfloat16")
    if name == "bfloat16" and device.type != "cpu":
        try:
            torch.zeros(1, dtype=torch.bfloat16, device=device).add_(1)
        except (RuntimeError, TypeError):  # cards of old, and macOS before 14
            raise InputError("precision bfloat16: this device has none: use float32") from None
    return PRECISIONS[name]


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and bool(bfloat16_units())


def bfloat16_units() -> list[str]:
    """Those of the CPU that multiply bfloat16 natively, by their names."""
    try:
        has = torch.cpu.get_capabilities()  # type: ignore[attr-defined,unused-ignore]
        return [name for name, (key, _) in _UNITS.items() if has.get(key)]
    except (AttributeError, RuntimeError):  # torch before 2.10 keeps it private
        return [name for name, (_, probe) in _UNITS.items() if getattr(torch.cpu, probe, bool)()]


_UNITS = {
    "AMX": ("amx_bf16", "_is_amx_tile_supported"),
    "AVX512-BF16": ("avx512_bf16", "_is_avx512_bf16_supported"),
}


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

    There it is the least of what the machine has, its container and the process's own limit. What
    torch keeps of a GPU's memory for later can be had. Apple's GPUs share the machine's.
    """
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    if device is not None and device.type == "mps":
        used = torch.mps.current_allocated_memory()
        kept = torch.mps.driver_allocated_memory() - used
        shared = psutil.virtual_memory().available + kept
        return int(max(0, min(torch.mps.recommended_max_memory() - used, shared)))
    libc = _tuned_glibc()
    if libc is not None:
        libc.malloc_trim(0)  # what tune() made the heap keep is free too
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # a container of Linux; what it caches can be had
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
            free = min(free, max(0, limit - psutil.Process().memory_info().vms))
    return free


def mixed(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Convolutions in ``dtype``; of float32 nothing, for some devices warn of an autocast to it."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


@contextmanager
def unmixed() -> Iterator[None]:
    """Without autocast: the host may mix precisions, and here one was asked for."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    with ExitStack() as stack:
        for kind in ("cpu", *(kind for kind in there if there[kind])):
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


def layout(device: torch.device) -> torch.memory_format:
    """How features and weights best lie in memory: channels last.

    Not on Apple's GPUs: pooling of such features aborts the process or has wrong gradients
    (pytorch#175190, #175189), and convolutions may misread such weights (pytorch#192212).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


@overload
def arranged(what: torch.Tensor, device: torch.device | None = None) -> torch.Tensor: ...
@overload
def arranged(what: Module, device: torch.device | None = None) -> Module: ...
def arranged(what: Any, device: torch.device | None = None) -> Any:
    """A module or ``(B, C, H, W)`` tensor on ``device`` in its :func:`layout`.

    By default it stays where it is.
    """
    if device is None:
        first = what if isinstance(what, torch.Tensor) else next(what.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
    return what.to(device, memory_format=layout(device))


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """float32 in all its digits, which cuDNN by default cuts to the ten bits of TF32.

    For what has to come back by the inverse: 1e-6 would become 2e-3.
    """
    if device.type != "cuda":
        yield
        return
    global _exact_users
    with _exact_lock:
        if _exact_users == 0:
            _exact_undo.extend(_set_exact())
        _exact_users += 1
    try:
        yield
    finally:
        with _exact_lock:
            _exact_users -= 1
            while _exact_users == 0 and _exact_undo:
                setattr(*_exact_undo.pop())


# The settings are the process's, not the thread's: the last that goes out takes them back.
_exact_lock = threading.Lock()
_exact_users = 0
_exact_undo: list[tuple[Any, str, Any]] = []


def _set_exact() -> list[tuple[Any, str, Any]]:
    """Allow no TF32; gives what was set before."""
    # From torch 2.9 on each operation has its own setting, and the older ones refuse to be read.
    conv = getattr(torch.backends.cudnn, "conv", torch.backends.cudnn)
    name, exact = ("fp32_precision", "ieee") if hasattr(conv, "fp32_precision") else _OLDER
    places = (conv, torch.backends.cuda.matmul)
    before = [(place, name, getattr(place, name)) for place in places]
    for place in places:
        setattr(place, name, exact)
    return before


_OLDER = ("allow_tf32", False)


def fetched(numbers: torch.Tensor) -> Callable[[], list[float]]:
    """A copy of a few numbers for the host, which does not wait for it; the result does.

    To be asked for when the device has more to do, so that it never stands still: the numbers of
    one step of a loop while the next is at work. Apple's GPUs have no copy that does not wait for
    all that was asked of them.
    """
    if numbers.device.type != "cuda":
        kept = numbers.detach().clone()
        return lambda: [float(number) for number in kept.tolist()]
    copy = numbers.detach().to("cpu", non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(numbers.device))

    def get() -> list[float]:
        event.synchronize()
        return [float(number) for number in copy.tolist()]

    return get


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
