"""Memory layout and precision of tensors on a device, and copies to the host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar, overload

import torch

from .process import check_process

__all__ = ["arranged", "blank", "fetched", "full_precision", "layout", "mixed", "unmixed"]


Module = TypeVar("Module", bound=torch.nn.Module)


def mixed(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Autocast to ``dtype``; none for float32, because some devices warn about it."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


@contextmanager
def unmixed() -> Iterator[None]:
    """Disable autocast, which the calling program may have enabled."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    with ExitStack() as stack:
        for kind in ("cpu", *(kind for kind in available if available[kind])):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def layout(device: torch.device) -> torch.memory_format:
    """The fastest memory format of features and weights: channels last.

    Apple's GPUs use the contiguous format: with channels last, pooling aborts the process or has
    wrong gradients (pytorch#175190, #175189), and convolutions may misread weights
    (pytorch#192212).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


@overload
def arranged(value: torch.Tensor, device: torch.device | None = None) -> torch.Tensor: ...


@overload
def arranged(value: Module, device: torch.device | None = None) -> Module: ...


def arranged(value: Any, device: torch.device | None = None) -> Any:
    """A module or ``(B, C, H, W)`` tensor on ``device`` in its :func:`layout`.

    By default it stays on its device.
    """
    if device is None:
        tensor = value if isinstance(value, torch.Tensor) else next(value.parameters(), None)
        device = torch.device("cpu") if tensor is None else tensor.device
    return value.to(device, memory_format=layout(device))


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Full float32 precision, which cuDNN by default reduces to the ten bits of TF32.

    Networks that are inverted need it: TF32 raises their error from 1e-6 to 2e-3.
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


@contextmanager
def searching(device: torch.device) -> Iterator[None]:
    """Let cuDNN try its algorithms once per shape, which pays for shapes that repeat."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


# The settings are global to the process, not per thread: the last user restores them.
_exact_lock = threading.Lock()


_exact_users = 0


_exact_undo: list[tuple[Any, str, Any]] = []


def _set_exact() -> list[tuple[Any, str, Any]]:
    """Disable TF32; returns the earlier settings."""
    # From torch 2.9 each operation has its setting, and reading the older ones raises an error.
    conv = getattr(torch.backends.cudnn, "conv", torch.backends.cudnn)
    name, exact = ("fp32_precision", "ieee") if hasattr(conv, "fp32_precision") else _OLDER
    backends = (conv, torch.backends.cuda.matmul)
    before = [(backend, name, getattr(backend, name)) for backend in backends]
    for backend in backends:
        setattr(backend, name, exact)
    return before


_OLDER = ("allow_tf32", False)


def fetched(numbers: torch.Tensor) -> Callable[[], list[float]]:
    """Start an asynchronous copy of a few numbers to the host; calling the result waits for it.

    Call the result after the next step of a loop is queued, so that the device is never idle.
    Apple's GPUs have no asynchronous copy; every copy waits for all earlier work.
    """
    if numbers.device.type != "cuda":
        snapshot = numbers.detach().clone()
        return lambda: [float(number) for number in snapshot.tolist()]
    copy = numbers.detach().to("cpu", non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(numbers.device))

    def get() -> list[float]:
        event.synchronize()
        return [float(number) for number in copy.tolist()]

    return get


def blank(make: Callable[[], Module]) -> Module:
    """A module to load weights into: float32 zeros on the CPU.

    Does not change torch's random state, and does not depend on its default data type.
    """
    check_process()
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu").float()
    for tensor in module.state_dict().values():
        tensor.zero_()
    return module
