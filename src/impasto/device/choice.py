"""Choose the device and the precision: by name, or the best one available."""

from __future__ import annotations

import shutil
import sys
import warnings

import torch

from ..errors import DeviceError, InputError, spelled
from .process import check_process

__all__ = [
    "bfloat16_units",
    "choose_device",
    "choose_precision",
    "describe",
    "missing_cuda",
    "obstacle",
]


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or the best one: CUDA, then MPS, then CPU.

    If ``auto`` cannot use a card of this machine, one warning says why.

    Raises:
        InputError: for an unknown name.
        DeviceError: for a device that is missing or that this torch cannot use, or one that a
            forked process cannot use.
    """
    if not isinstance(name, str):
        raise InputError(f"device: a {type(name).__name__} is no name: give one such as auto, cpu")
    device = _best() if name == "auto" else _named(name)
    check_process(device)
    return device


def _best() -> torch.device:
    faults = []
    if torch.cuda.is_available():
        check_process(torch.device("cuda"))  # before any query, which a fork cannot make
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
        if fault not in _reported:
            _reported.add(fault)
            warnings.warn(f"using the CPU: {fault}", stacklevel=3)
    return torch.device("cpu")


_reported: set[str] = set()


def obstacle(index: int) -> str | None:
    """Why this torch cannot compute on an NVIDIA card; None if it can.

    A build has kernels for some compute capabilities. They run on later cards of the same major
    version, and PTX code runs on all later cards.
    """
    if torch.version.hip is not None:  # AMD has other names, and torch itself refuses such cards
        return None
    card = torch.cuda.get_device_capability(index)
    capabilities = set()
    for arch in torch.cuda.get_arch_list():
        kind, _, number = arch.partition("_")
        built_for = _capability(number)
        capabilities.add(built_for)
        # An architecture-specific build, such as 90a, runs on no later card.
        runs = (
            built_for <= card
            and (kind == "compute" or built_for[0] == card[0])
            and number[-1:] != "a"
        )
        if built_for == card or runs:
            return None
    built = ", ".join(f"{major}.{minor}" for major, minor in sorted(capabilities)) or "no card"
    return (
        f"{torch.cuda.get_device_name(index)} has capability {card[0]}.{card[1]}, and torch "
        f"{torch.__version__} has kernels for {built}: install a build for it, see "
        "https://pytorch.org/get-started/previous-versions"
    )


def _capability(digits: str) -> tuple[int, int]:
    """The compute capability: ``120`` and ``120a`` give ``(12, 0)``."""
    number = int("".join(filter(str.isdigit, digits)) or 0)
    return number // 10, number % 10


def missing_cuda() -> str | None:
    """A message if there is an NVIDIA card and torch was built without CUDA; else None.

    On Windows all builds on PyPI are without CUDA.
    """
    if torch.version.cuda is not None or torch.version.hip is not None:
        return None
    if sys.platform == "darwin" or shutil.which("nvidia-smi") is None:
        return None
    return (
        f"there seems to be an NVIDIA card, and torch {torch.__version__} was built without "
        "CUDA: a build with CUDA is at https://pytorch.org/get-started/locally"
    )


def _named(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"device {name!r} is unknown: use auto, cpu, cuda, cuda:1 or mps", option="device"
        ) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(
            f"device {name!r} is not supported: use auto, cpu, cuda, cuda:1 or mps", option="device"
        )
    if device.type == "cuda":
        available = torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    else:
        available = device.type == "cpu" or torch.backends.mps.is_available()
    if not available:
        fault = missing_cuda() if device.type == "cuda" else None
        reason = f" ({fault})" if fault else ""
        raise DeviceError(
            f"device {name} is not available{reason}: use {spelled('device', 'cpu')} or auto",
            option="device",
        )
    if device.type == "cuda":
        check_process(device)
        if (fault := obstacle(device.index or 0)) is not None:
            raise DeviceError(
                f"device {name}: {fault}; or use {spelled('device', 'cpu')}", option="device"
            )
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Data type of the backbone's features; pictures and statistics always stay float32.

    ``auto`` is bfloat16 where the hardware multiplies it natively (CUDA from compute capability
    8.0, x86 with AMX or AVX512-BF16), else float32: emulated bfloat16 is slower than float32.

    Raises:
        InputError: for an unknown name.
        DeviceError: for a precision that the device lacks.
    """
    if name == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise InputError(
            f"precision {name!r} is unknown: use auto, float32 or bfloat16", option="precision"
        )
    if name == "bfloat16" and device.type != "cpu":
        try:
            torch.zeros(1, dtype=torch.bfloat16, device=device).add_(1)
        except (RuntimeError, TypeError):  # old cards, and macOS before 14
            raise DeviceError(
                "precision bfloat16: this device lacks it: use float32", option="precision"
            ) from None
    return PRECISIONS[name]


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and bool(bfloat16_units())


def bfloat16_units() -> list[str]:
    """Names of the CPU's units that multiply bfloat16 natively."""
    try:
        capabilities = torch.cpu.get_capabilities()  # type: ignore[attr-defined,unused-ignore]
        return [name for name, (key, _) in _UNITS.items() if capabilities.get(key)]
    except (AttributeError, RuntimeError):  # before torch 2.10 the functions are private
        return [name for name, (_, probe) in _UNITS.items() if getattr(torch.cpu, probe, bool)()]


_UNITS = {
    "AMX": ("amx_bf16", "_is_amx_tile_supported"),
    "AVX512-BF16": ("avx512_bf16", "_is_avx512_bf16_supported"),
}


def describe(device: torch.device, precision: torch.dtype) -> str:
    """One line about the device, such as ``CPU, 2 threads, float32``."""
    kind = str(precision).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {kind}"
    if device.type == "mps":
        return f"Apple GPU (MPS), {kind}"
    count = torch.get_num_threads()
    return f"CPU, {count} thread{'s' if count > 1 else ''}, {kind}"
