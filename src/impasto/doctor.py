"""What a bug report needs to know about the machine, without the user's name."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import __version__
from .errors import RUNTIME, ImpastoError, InputError, lacks_runtime
from .files import home, reason_of, shown

__all__ = ["laid_out", "report"]

Row = tuple[str, str]
EXTRAS = {
    "heic": ("pillow_heif",),
    "huge": ("pyvips",),
    "photos": ("skimage",),
    "train": ("lightning_fabric", "tensorboard", "matplotlib"),
    "study": ("skimage", "matplotlib"),
}


def report() -> list[Row]:
    """Rows of a label and text: versions, devices, the choices of ``auto``, files.

    A row reports what is missing or broken. Raises, writes and downloads nothing.
    """
    with warnings.catch_warnings(record=True) as caught:  # reported in the rows
        warnings.simplefilter("always")
        rows = [
            ("impasto", __version__),
            ("Python", _guarded(_python)),
            ("system", _guarded(platform.platform)),
            *_computing(caught),
            ("libraries", _guarded(_libraries)),
            ("pictures", _guarded(_pillow)),
            ("models", _guarded(_models)),
            ("cache", _guarded(_cache)),
            ("missing", _guarded(_missing)),
        ]
    return [(label, shown(_without_home(" ".join(text.split())))) for label, text in rows]


def laid_out(rows: list[Row], width: int | None = None) -> str:
    """The rows in two columns; lines longer than ``width`` characters are broken between words."""
    column = max(len(label) for label, _ in rows) + 2
    lines = []
    for label, text in rows:
        line = f"{label:{column}}{text}"
        if width is not None:
            line = textwrap.fill(
                line,
                max(width, column + 20),
                subsequent_indent=" " * column,
                break_long_words=False,  # paths and addresses stay whole
                break_on_hyphens=False,
            )
        lines.append(line)
    return "\n".join(lines)


def _guarded(text_of: Callable[[], str]) -> str:
    try:
        return text_of()
    except Exception as fault:  # the report must be complete whatever is broken
        return f"unknown: {_message(fault)}"


def _message(fault: Exception) -> str:
    kind = "" if isinstance(fault, InputError) else f"{type(fault).__name__}: "
    return kind + reason_of(fault)


def _without_home(text: str) -> str:
    """``text`` with ~ for the user's home folder in any spelling."""
    home_folder = os.path.expanduser("~")
    flags = re.IGNORECASE if sys.platform in ("win32", "darwin") else 0
    spellings = {home_folder, os.path.realpath(home_folder)}
    for spelling in sorted(spellings, key=len, reverse=True):
        parts = [re.escape(part) for part in re.split(r"[\\/]+", spelling) if part]
        if not os.path.isabs(spelling) or not parts:
            continue
        start = r"[\\/]+" if spelling[0] in "\\/" else ""
        pattern = rf"(?<![\w.~-]){start}" + r"[\\/]+".join(parts) + r"(?![\w.-])"
        text = re.sub(pattern, "~", text, flags=flags)
    return text


# Versions --------------------------------------------------------------------------------------


def _python() -> str:
    bits = 64 if sys.maxsize > 2**32 else 32
    return f"{platform.python_version()}, {platform.python_implementation()}, {bits} bit"


def _version(module: str, name: str) -> str:
    """``name`` and its version, or what is wrong with it."""
    try:
        version = getattr(import_module(module), "__version__", None)
        return f"{name} {version or metadata.version(name)}"
    except Exception as fault:
        missing = isinstance(fault, ModuleNotFoundError) and fault.name == module
        return f"{name} is not installed" if missing else f"{name} is broken ({_message(fault)})"


def _libraries() -> str:
    return ", ".join(_version(name, name) for name in ("numpy", "safetensors", "typer", "rich"))


def _pillow() -> str:
    pillow = _version("PIL", "Pillow")
    from PIL import Image, features  # noqa: F401  Image loads the binary part, which may be broken

    avif = "avif" in features.modules and features.check("avif")
    heic = find_spec("pillow_heif") is not None
    return (
        f"{pillow}; {'AVIF' if avif else 'no AVIF'}; "
        f"{'HEIC by ' + _version('pillow_heif', 'pillow-heif') if heic else 'no HEIC'}"
    )


# Devices ---------------------------------------------------------------------------------------


def _computing(caught: list[warnings.WarningMessage]) -> list[Row]:
    try:
        torch: Any = import_module("torch")
        line = ("torch", f"{torch.__version__}, {_guarded(partial(_built, torch))}")
        device: Any = import_module(".device", __package__)
    except Exception as fault:
        reason = RUNTIME if lacks_runtime(fault) else f"cannot be imported: {_message(fault)}"
        absent = [(label, "none without torch") for label in ("GPU", "device", "precision")]
        return [("torch", reason), ("CPU", _guarded(_processor)), *absent, ("runtime", "none")]
    return [
        line,
        ("CPU", _guarded(partial(_cpu, torch, device))),
        *_gpus(torch, device, caught),
        ("device", _guarded(partial(_chosen_device, torch, device))),
        ("precision", _guarded(partial(_chosen_precision, device))),
        ("runtime", "eager PyTorch: nothing is compiled"),
    ]


def _built(torch: Any) -> str:
    if torch.version.hip:
        return f"built for ROCm {torch.version.hip}"
    if torch.version.cuda:
        return f"built for CUDA {torch.version.cuda}"
    return "built for Apple's GPUs" if torch.backends.mps.is_built() else "built without CUDA"


def _memory(free: float, total: float) -> str:
    return f"{free / 2**30:.1f} of {total / 2**30:.1f} GB are free"


def _processor() -> str:
    """The CPU's row without torch."""
    import psutil

    memory = psutil.virtual_memory()
    return f"{os.cpu_count()} cores; {_memory(memory.available, memory.total)}"


def _cpu(torch: Any, device: Any) -> str:
    import psutil

    units = [torch.backends.cpu.get_cpu_capability(), *device.bfloat16_units()]
    memory = _memory(device.available_memory(), psutil.virtual_memory().total)
    threads = torch.get_num_threads()
    plural = "s" if threads > 1 else ""
    return f"{threads} thread{plural} on {os.cpu_count()} cores, {', '.join(units)}; {memory}"


def _gpus(torch: Any, device: Any, caught: list[warnings.WarningMessage]) -> list[Row]:
    try:
        if torch.cuda.is_available():
            names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
            return [(name, _guarded(partial(_card, torch, device, name))) for name in names]
        if torch.backends.mps.is_available():
            return [("mps", _guarded(partial(_apple, torch, device)))]
        return [("GPU", _no_card(torch, device, caught))]
    except Exception as fault:
        return [("GPU", f"unknown: {_message(fault)}")]


def _card(torch: Any, device: Any, name: str) -> str:
    card = torch.device(name)
    fault = device.obstacle(card.index)
    if fault is not None:
        return f"not used: {fault}"
    major, minor = torch.cuda.get_device_capability(card)
    fast = device.choose_precision("auto", card) == torch.bfloat16
    total = torch.cuda.mem_get_info(card)[1]
    return (
        f"{torch.cuda.get_device_name(card)}, capability {major}.{minor}, "
        f"{'bfloat16' if fast else 'no fast bfloat16'}; "
        f"{_memory(device.available_memory(card), total)}"
    )


def _apple(torch: Any, device: Any) -> str:
    gpu = torch.device("mps")
    try:
        device.choose_precision("bfloat16", gpu)
        precision = "bfloat16"
    except ImpastoError:
        precision = "no bfloat16"
    memory = _memory(device.available_memory(gpu), torch.mps.recommended_max_memory())
    return f"Apple's GPU, {precision}; {memory}"


def _no_card(torch: Any, device: Any, caught: list[warnings.WarningMessage]) -> str:
    reasons = [device.missing_cuda()]
    texts = (str(warning.message) for warning in caught)  # such as a driver that is too old
    reasons += [text.partition(" (Triggered")[0] for text in texts if "CUDA initialization" in text]
    if torch.version.cuda and shutil.which("nvidia-smi") and len(reasons) == 1:
        reasons.append("nvidia-smi is installed, and torch finds no card")
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        reasons.append(f"CUDA_VISIBLE_DEVICES is {visible!r}")
    return "; ".join(filter(None, ["none that torch can use", *reasons]))


# Choices of auto -------------------------------------------------------------------------------


def _chosen_device(torch: Any, device: Any) -> str:
    chosen = device.choose_device()
    if chosen.type == "cuda":
        reason = "the first card that this torch can use"
    elif chosen.type == "mps":
        reason = "Apple's GPU is available"
    elif torch.cuda.is_available():
        reason = "this torch has no kernels for the cards above"
    else:
        reason = "torch can use no GPU"
    return f"{chosen} by auto: {reason}"


def _chosen_precision(device: Any) -> str:
    chosen = device.choose_device()
    name = str(device.choose_precision("auto", chosen)).removeprefix("torch.")
    fast = name == "bfloat16"
    if chosen.type == "cuda":
        reason = "the card multiplies it natively" if fast else "fast bfloat16 needs capability 8.0"
    elif chosen.type == "mps":
        reason = "always, on Apple's GPUs"
    elif fast:
        reason = f"the CPU multiplies it natively ({', '.join(device.bfloat16_units())})"
    else:
        reason = "the CPU has neither AMX nor AVX512-BF16"
    exact = "; artflow and styleflow, which reverse their networks, use float32" if fast else ""
    return f"{name} by auto: {reason}{exact}"


# Files -----------------------------------------------------------------------------------------


def _models() -> str:
    folder = Path(__file__).with_name("models")
    networks, styles = [*folder.glob("*.safetensors")], [*folder.glob("styles/*.style")]
    size = sum(file.stat().st_size for file in networks + styles) / 1e6
    if not networks:
        return f"none in {folder}: install impasto again"
    return f"{len(networks)} networks and {len(styles)} styles, {size:.0f} MB, in {folder}"


def _cache() -> str:
    cache = home()
    existing = next(path for path in (cache, *cache.parents) if os.path.exists(path))
    writable = os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)
    if existing != cache:
        outcome = "can be created" if writable else f"cannot be created in {existing}"
        state = f"does not exist yet, {outcome}"
    else:
        state = "writable" if writable else "cannot be written: set IMPASTO_HOME to another folder"
    origin = ", by IMPASTO_HOME" if os.environ.get("IMPASTO_HOME") else ""
    return f"{cache}{origin}: {state}; {_downloads(cache) or 'no downloads'}"


def _downloads(cache: Path) -> str:
    try:
        files = sorted(file for file in cache.iterdir() if file.suffix in (".pth", ".ckpt"))
        return ", ".join(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as fault:
        return f"cannot be read ({reason_of(fault)})"


def _missing() -> str:
    missing = {
        extra: [module for module in modules if find_spec(module) is None]
        for extra, modules in EXTRAS.items()
    }
    remedies = [
        f'{extra} ({", ".join(modules)}): pip install "impasto[{extra}]"'
        for extra, modules in missing.items()
        if modules
    ]
    return "; ".join(remedies) or f"nothing: {', '.join(EXTRAS)} are installed"
