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
    """Convolutions in ``dtype``; of float32 nothing, for some devices warn of an autocast to it."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


@contextmanager
def unmixed() -> Iterator[None]:
    """Without autocast: the host may mix precisions, and here one was asked for."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    with ExitStack() as stack:
        for kind in ("cpu", *(kind for kind in available if available[kind])):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


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

    Call the result later, when the device already has the next step of a loop to do, so that the
    device never stands idle. Apple's GPUs have no copy that does not wait for all earlier work.
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
