"""What a report of a fault needs of the machine; it will be public, so it names nobody."""

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
from .errors import RUNTIME, InputError, lacks_runtime
from .files import home, reason_of, shown

__all__ = ["laid_out", "report"]

Row = tuple[str, str]
EXTRAS = {
    "heic": ("pillow_heif",),
    "photos": ("skimage",),
    "train": ("lightning_fabric", "tensorboard", "matplotlib"),
    "study": ("skimage", "matplotlib"),
}


def report() -> list[Row]:
    """Labels, and what there is to say of each: versions, devices, what ``auto`` takes, files.

    What is missing or broken is said in its place. Raises, writes and downloads nothing.
    """
    with warnings.catch_warnings(record=True) as heard:  # the rows say it
        warnings.simplefilter("always")
        rows = [
            ("impasto", __version__),
            ("Python", _told(_python)),
            ("system", _told(platform.platform)),
            *_computing(heard),
            ("libraries", _told(_libraries)),
            ("pictures", _told(_pillow)),
            ("models", _told(_models)),
            ("cache", _told(_cache)),
            ("missing", _told(_missing)),
        ]
    return [(label, shown(_nameless(" ".join(text.split())))) for label, text in rows]


def laid_out(rows: list[Row], width: int | None = None) -> str:
    """The rows in two columns; lines longer than ``width`` characters are broken between words."""
    column = max(len(label) for label, _ in rows) + 2
    lines = []
    for label, text in rows:
        line = f"{label:{column}}{text}"
        if width is not None:
            after = " " * column
            room = max(width, column + 20)
            line = textwrap.fill(
                line,
                room,
                subsequent_indent=after,
                break_long_words=False,  # paths and addresses stay whole
                break_on_hyphens=False,
            )
        lines.append(line)
    return "\n".join(lines)


def _told(tell: Callable[[], str]) -> str:
    try:
        return tell()
    except Exception as fault:  # here all that is broken is to be told
        return f"unknown: {_words(fault)}"


def _words(fault: Exception) -> str:
    kind = "" if isinstance(fault, InputError) else f"{type(fault).__name__}: "
    return kind + reason_of(fault)


def _nameless(text: str) -> str:
    """``text`` with ~ for the user's home folder, however it is spelled."""
    place = os.path.expanduser("~")
    ignored = re.IGNORECASE if sys.platform in ("win32", "darwin") else 0
    for spelled in sorted({place, os.path.realpath(place)}, key=len, reverse=True):
        parts = [re.escape(part) for part in re.split(r"[\\/]+", spelled) if part]
        if not os.path.isabs(spelled) or not parts:
            continue
        start = r"[\\/]+" if spelled[0] in "\\/" else ""
        whole = rf"(?<![\w.~-]){start}" + r"[\\/]+".join(parts) + r"(?![\w.-])"
        text = re.sub(whole, "~", text, flags=ignored)
    return text


# Versions --------------------------------------------------------------------------------------


def _python() -> str:
    bits = 64 if sys.maxsize > 2**32 else 32
    return f"{platform.python_version()}, {platform.python_implementation()}, {bits} bit"


def _version(module: str, name: str) -> str:
    """``name`` and its version, or what is wrong with it."""
    try:
        own = getattr(import_module(module), "__version__", None)
        return f"{name} {own or metadata.version(name)}"
    except Exception as fault:
        gone = isinstance(fault, ModuleNotFoundError) and fault.name == module
        return f"{name} is not here" if gone else f"{name} is broken ({_words(fault)})"


def _libraries() -> str:
    return ", ".join(_version(name, name) for name in ("numpy", "safetensors", "typer", "rich"))


def _pillow() -> str:
    pillow = _version("PIL", "Pillow")
    from PIL import Image, features  # noqa: F401  its binary part may be what is broken

    avif = "avif" in features.modules and features.check("avif")
    heic = find_spec("pillow_heif") is not None
    return (
        f"{pillow}; {'AVIF' if avif else 'no AVIF'}; "
        f"{'HEIC by ' + _version('pillow_heif', 'pillow-heif') if heic else 'no HEIC'}"
    )


# Devices ---------------------------------------------------------------------------------------


def _computing(heard: list[warnings.WarningMessage]) -> list[Row]:
    try:
        torch: Any = import_module("torch")
        line = ("torch", f"{torch.__version__}, {_told(partial(_built, torch))}")
        device: Any = import_module(".device", __package__)
    except Exception as fault:
        why = RUNTIME if lacks_runtime(fault) else f"cannot be imported: {_words(fault)}"
        absent = [(label, "none without torch") for label in ("GPU", "device", "precision")]
        return [("torch", why), ("CPU", _told(_processor)), *absent, ("runtime", "none")]
    return [
        line,
        ("CPU", _told(partial(_cpu, torch, device))),
        *_gpus(torch, device, heard),
        ("device", _told(partial(_chosen_device, torch, device))),
        ("precision", _told(partial(_chosen_precision, device))),
        ("runtime", "eager PyTorch: nothing is compiled"),
    ]


def _built(torch: Any) -> str:
    if torch.version.hip:
        return f"built for ROCm {torch.version.hip}"
    if torch.version.cuda:
        return f"built for CUDA {torch.version.cuda}"
    return "built for Apple's GPUs" if torch.backends.mps.is_built() else "built without CUDA"


def _memory(free: float, whole: float) -> str:
    return f"{free / 2**30:.1f} of {whole / 2**30:.1f} GB are free"


def _processor() -> str:
    """Without torch."""
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


def _gpus(torch: Any, device: Any, heard: list[warnings.WarningMessage]) -> list[Row]:
    try:
        if torch.cuda.is_available():
            names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
            return [(name, _told(partial(_card, torch, device, name))) for name in names]
        if torch.backends.mps.is_available():
            return [("mps", _told(partial(_apple, torch, device)))]
        return [("GPU", _no_card(torch, device, heard))]
    except Exception as fault:
        return [("GPU", f"unknown: {_words(fault)}")]


def _card(torch: Any, device: Any, name: str) -> str:
    where = torch.device(name)
    fault = device.obstacle(where.index)
    if fault is not None:
        return f"not used: {fault}"
    major, minor = torch.cuda.get_device_capability(where)
    fast = device.choose_precision("auto", where) == torch.bfloat16
    whole = torch.cuda.mem_get_info(where)[1]
    return (
        f"{torch.cuda.get_device_name(where)}, capability {major}.{minor}, "
        f"{'bfloat16' if fast else 'no fast bfloat16'}; "
        f"{_memory(device.available_memory(where), whole)}"
    )


def _apple(torch: Any, device: Any) -> str:
    where = torch.device("mps")
    try:
        device.choose_precision("bfloat16", where)
        can = "bfloat16"
    except InputError:
        can = "no bfloat16"
    memory = _memory(device.available_memory(where), torch.mps.recommended_max_memory())
    return f"Apple's GPU, {can}; {memory}"


def _no_card(torch: Any, device: Any, heard: list[warnings.WarningMessage]) -> str:
    why = [device.missing_cuda()]
    said = (str(warning.message) for warning in heard)  # a driver that is too old, say
    why += [text.partition(" (Triggered")[0] for text in said if "CUDA initialization" in text]
    if torch.version.cuda and shutil.which("nvidia-smi") and len(why) == 1:
        why.append("nvidia-smi is here, and torch finds no card")
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        why.append(f"CUDA_VISIBLE_DEVICES is {visible!r}")
    return "; ".join(filter(None, ["none that torch can use", *why]))


# What auto takes -------------------------------------------------------------------------------


def _chosen_device(torch: Any, device: Any) -> str:
    chosen = device.choose_device()
    if chosen.type == "cuda":
        why = "the first card that this torch computes on"
    elif chosen.type == "mps":
        why = "Apple's GPU is here"
    elif torch.cuda.is_available():
        why = "this torch has no kernels for the cards above"
    else:
        why = "there is no GPU that torch can use"
    return f"{chosen} by auto: {why}"


def _chosen_precision(device: Any) -> str:
    where = device.choose_device()
    name = str(device.choose_precision("auto", where)).removeprefix("torch.")
    fast = name == "bfloat16"
    if where.type == "cuda":
        why = "the card multiplies it natively" if fast else "fast bfloat16 needs capability 8.0"
    elif where.type == "mps":
        why = "always, on Apple's GPUs"
    elif fast:
        why = f"the CPU multiplies it natively ({', '.join(device.bfloat16_units())})"
    else:
        why = "the CPU has neither AMX nor AVX512-BF16"
    exact = "; artflow and styleflow, which reverse their networks, take float32" if fast else ""
    return f"{name} by auto: {why}{exact}"


# Files -----------------------------------------------------------------------------------------


def _models() -> str:
    folder = Path(__file__).with_name("models")
    networks, styles = [*folder.glob("*.safetensors")], [*folder.glob("styles/*.style")]
    size = sum(file.stat().st_size for file in networks + styles) / 1e6
    if not networks:
        return f"none in {folder}: install impasto again"
    return f"{len(networks)} networks and {len(styles)} styles, {size:.0f} MB, in {folder}"


def _cache() -> str:
    place = home()
    existing = next(path for path in (place, *place.parents) if os.path.exists(path))
    fit = os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)
    if existing != place:
        state = "not there yet, " + ("can be made" if fit else f"cannot be made in {existing}")
    else:
        state = "writable" if fit else "cannot be written: set IMPASTO_HOME to another folder"
    asked = ", by IMPASTO_HOME" if os.environ.get("IMPASTO_HOME") else ""
    return f"{place}{asked}: {state}; {_downloads(place) or 'no downloads'}"


def _downloads(place: Path) -> str:
    try:
        files = sorted(file for file in place.iterdir() if file.suffix in (".pth", ".ckpt"))
        return ", ".join(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as fault:
        return f"cannot be read ({reason_of(fault)})"


def _missing() -> str:
    lacks = {
        extra: [module for module in modules if find_spec(module) is None]
        for extra, modules in EXTRAS.items()
    }
    found = [
        f'{extra} ({", ".join(modules)}): pip install "impasto[{extra}]"'
        for extra, modules in lacks.items()
        if modules
    ]
    return "; ".join(found) or f"nothing: {', '.join(EXTRAS)} are here"
