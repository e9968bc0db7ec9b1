"""Stand-ins for devices that are not here, played by the CPU: they refuse what the devices refuse.

Tensors on a stand-in are wrappers, so that they cannot be mixed with the host's, and say that they
are on ``mps`` or ``cuda``. Every operation on them goes through :meth:`Card.run`, where the rules
of the device are asked first. What a rule stands for, and in which versions of PyTorch, is said
with the rule.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torchgen
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import impasto.device.choice

Rule = Callable[[str, tuple, dict, str], None]
HIDDEN = torch.device("lazy", 0)  # what PyTorch's own code takes the stand-in's tensors for
# Operations whose result, or the size of it, the host needs to know.
WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "allclose"),
    *("_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "_unique2"),
    *("bincount", "repeat_interleave"),
}


def _each(change: Callable[[Any], Any], x: Any) -> Any:
    """``x`` with ``change`` to it, or of a list or tuple to what is in it."""
    if isinstance(x, (list, tuple)) and not isinstance(x, torch.Size):
        return type(x)([_each(change, y) for y in x])
    return change(x)


def _mapped(change: Callable[[Any], Any], args: Any, kwargs: Any) -> Any:
    return _each(change, args), {key: _each(change, x) for key, x in kwargs.items()}


def _leaves(args: Any, kwargs: Any = None) -> Iterator[Any]:
    for x in (*args, *(kwargs or {}).values()):
        if isinstance(x, (list, tuple)):
            yield from _leaves(x)
        else:
            yield x


class Far(Tensor):
    """A tensor on a stand-in: ``inner`` is the host's tensor that has its numbers."""

    inner: Tensor
    card: Card

    @staticmethod
    def __new__(cls, inner: Tensor, card: Card) -> Far:
        far = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=HIDDEN,
        )
        far.inner, far.card = inner, card
        return far

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:
        return torch.device(self.card.kind, 0)

    @property
    def is_cuda(self) -> bool:
        return self.card.kind == "cuda"

    @property
    def is_mps(self) -> bool:
        return self.card.kind == "mps"

    def __repr__(self) -> str:
        return f"Far({self.inner!r})"

    def __reduce_ex__(self, protocol):
        return self.inner.__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return Far(self.inner.clone(), self.card)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        far = next(x for x in _leaves(args, kwargs or {}) if isinstance(x, Far))
        return far.card.run(func, args, kwargs or {})


class Card:
    """A device.

    Args:
        kind: ``mps`` or ``cuda``.
        rules: what it refuses: each is called with an operation's name and its arguments, the
            numbers as the host's tensors, and raises what the device would raise.
        memory: bytes that it has.
        capability: of CUDA.
        kernels: what this PyTorch was built for.
        tf32: whether convolutions cut float32 to ten bits where PyTorch's settings allow it, as
            from Ampere on they do.

    Attributes:
        waits: operations so far that made the host wait for the device.
        operations: names of those that have run on it.
        peak: most bytes that were in use at once.
    """

    def __init__(
        self,
        kind: str,
        rules: tuple[Rule, ...] = (),
        memory: int = 2**40,
        capability: tuple[int, int] = (9, 0),
        kernels: tuple[str, ...] = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
        tf32: bool = False,
    ) -> None:
        self.kind, self.rules, self.memory, self.tf32 = kind, rules, memory, tf32
        self.capability, self.kernels = capability, kernels
        self.waits: list[str] = []
        self.operations: set[str] = set()
        self.peak = 0
        self._blocks: dict[int, tuple[StorageWeakRef, int]] = {}

    # What happens on it ---------------------------------------------------------------------

    def run(self, func, args, kwargs):
        """One operation of PyTorch's, on the host's numbers behind the tensors."""
        name = func._schema.name.removeprefix("aten::")
        kwargs = dict(kwargs)
        fars = [x for x in _leaves(args, kwargs) if isinstance(x, Far)]
        asked = kwargs.get("device")
        if asked is None and not fars:
            return func(*args, **kwargs)
        to = None if asked is None else torch.device(asked).type
        lands = to == HIDDEN.type or (to is None and bool(fars))
        if fars:
            self._check_together(name, func, args, kwargs)
        downwards = name == "copy_" and not isinstance(args[0], Far)
        if to == HIDDEN.type:
            kwargs["device"] = torch.device("cpu")
        args, kwargs = _mapped(lambda x: x.inner if isinstance(x, Far) else x, args, kwargs)
        if fars and (downwards or self._waits(name, args, kwargs, to)):
            self.waits.append(f"{name} at {_place()}")
        if name == "_local_scalar_dense":
            return func(*args, **kwargs)
        if lands or fars:
            self.operations.add(name)
            for rule in self.rules:
                rule(name, args, kwargs, func.name().removeprefix("aten::"))
        if self.tf32 and name.startswith("convolution") and _allows_tf32():
            args = _each(_cut, args)
        out = func(*args, **kwargs)
        if not lands:
            return out
        for tensor in _leaves((out,)):
            if isinstance(tensor, Tensor):
                for rule in self.rules:
                    rule("", (tensor,), {}, "")
                self._count(tensor)
        if func._schema.is_mutable and fars:  # in place: what was given comes back
            mutated = [a for a in fars if isinstance(out, Tensor) and a.inner is out]
            if mutated:
                return mutated[0]
        return _each(lambda x: Far(x, self) if isinstance(x, Tensor) else x, out)

    def _check_together(self, name: str, func, args, kwargs) -> None:
        """As the device: its tensors and the host's do not meet, but for numbers and indices."""
        if name in ("_to_copy", "copy_", "index", "index_put", "index_put_", "set_"):
            return
        host = [
            x
            for x in _leaves(args, kwargs)
            if isinstance(x, Tensor) and not isinstance(x, Far) and x.ndim
        ]
        if host:
            raise RuntimeError(
                f"{name}: expected all tensors to be on the same device, but found at least two: "
                f"{self.kind}:0 and cpu"
            )

    @staticmethod
    def _waits(name: str, args, kwargs, to: str | None) -> bool:
        if name in WAITING:
            return True
        if name in ("index", "index_put", "index_put_"):
            return any(x is not None and x.dtype == torch.bool for x in args[1])
        return name == "_to_copy" and to == "cpu" and not kwargs.get("non_blocking")

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        known = self._blocks.get(storage.data_ptr())
        if known is not None and not known[0].expired():
            return
        weak = StorageWeakRef(storage)
        self._blocks[storage.data_ptr()] = (weak, storage.nbytes())
        if (used := self._used(storage.nbytes())) > self.memory:
            del self._blocks[storage.data_ptr()]
            self._no_memory(storage.nbytes())
        self.peak = max(self.peak, used)

    def _used(self, latest: int) -> int:
        used = sum(size for _, size in self._blocks.values())
        if used > min(self.memory, self.peak):  # some may be free by now
            self._blocks = {k: v for k, v in self._blocks.items() if not v[0].expired()}
            used = sum(size for _, size in self._blocks.values())
        return used

    def _no_memory(self, size: int) -> None:
        if self.kind == "mps":
            raise RuntimeError(
                f"MPS backend out of memory (MPS allocated: {self.memory} bytes, max allowed: "
                f"{self.memory} bytes). Tried to allocate {size} bytes on private pool."
            )
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")

    def free(self) -> int:
        """Bytes that it has left."""
        self._blocks = {k: v for k, v in self._blocks.items() if not v[0].expired()}
        return max(0, self.memory - sum(size for _, size in self._blocks.values()))


def _allows_tf32() -> bool:
    conv = getattr(torch.backends.cudnn, "conv", None)
    return torch.backends.cudnn.allow_tf32 if conv is None else conv.fp32_precision == "tf32"


def _cut(x: Any) -> Any:
    """float32 rounded to the ten bits of TF32."""
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        return x
    bits = x.view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def _place() -> str:
    """Where impasto is at work."""
    frame = sys._getframe()
    while frame and "impasto" not in Path(frame.f_code.co_filename).parts[-4:]:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "a test"


class _Dispatch(TorchDispatchMode):
    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.card.run(func, args, kwargs or {})


class _Names(TorchFunctionMode):
    """``mps`` and ``cuda`` in calls become the hidden device, before PyTorch looks for it."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.device or getattr(func, "__name__", "") in ("__get__", "_parse_to"):
            return func(*args, **kwargs)
        if func == Tensor.data.__set__ and isinstance(args[0], Far):
            args[0].inner = args[1].inner
            return func(*args, **kwargs)
        if func is Tensor.tolist and isinstance(args[0], Far):
            self.card.waits.append(f"tolist at {_place()}")
            return args[0].inner.tolist()
        if func is Tensor.numpy and isinstance(args[0], Far):
            raise TypeError(f"can't convert {self.card.kind}:0 device type tensor to numpy")
        if func is Tensor.is_pinned:
            return False
        if func is Tensor.cuda:
            return args[0].to(HIDDEN)
        args, kwargs = _mapped(self._hidden, args, kwargs)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == HIDDEN:
            del kwargs["device"]
            return func(*args, **kwargs).to(HIDDEN)
        if func is Tensor.new_tensor and isinstance(args[0], Far):
            dtype = kwargs.get("dtype") or args[0].dtype
            return torch.tensor(args[1], dtype=dtype).to(kwargs.get("device") or HIDDEN)
        return func(*args, **kwargs)

    def _hidden(self, x: Any) -> Any:
        if isinstance(x, torch.device) and x.type == self.card.kind:
            return HIDDEN
        if isinstance(x, str) and x in (self.card.kind, f"{self.card.kind}:0"):
            return HIDDEN
        return x


@contextmanager
def playing(card: Card, monkeypatch) -> Iterator[Card]:
    """PyTorch with ``card`` as its one device beside the CPU."""
    with monkeypatch.context() as patch, ExitStack() as stack:
        patch.setattr(torch.backends.mps, "is_available", lambda: card.kind == "mps")
        patch.setattr(torch.cuda, "is_available", lambda: card.kind == "cuda")
        patch.setattr(torch.cuda, "device_count", lambda: int(card.kind == "cuda"))
        patch.setattr(torch.cuda, "get_device_capability", lambda device=None: card.capability)
        patch.setattr(torch.cuda, "get_arch_list", lambda: list(card.kernels))
        patch.setattr(torch.cuda, "get_device_name", lambda device=None: "a stand-in")
        able = lambda *args, **kwargs: card.capability >= (8, 0)  # noqa: E731
        patch.setattr(torch.cuda, "is_bf16_supported", able)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (card.free(), card.memory))
        patch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
        patch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device=None: None)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: card.peak)
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(torch.mps, "empty_cache", lambda: None, raising=False)
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        patch.setattr(torch.cuda, "current_stream", lambda device=None: device)
        patch.setattr(torch.mps, "recommended_max_memory", lambda: card.memory, raising=False)
        used = lambda: card.memory - card.free()  # noqa: E731
        patch.setattr(torch.mps, "current_allocated_memory", used, raising=False)
        patch.setattr(torch.mps, "driver_allocated_memory", used, raising=False)
        patch.setattr(impasto.device.choice, "_reported", set(), raising=False)
        patch.setattr(torch.cuda, "set_device", lambda device: None)
        patch.setattr(Tensor, "pin_memory", lambda tensor: tensor)  # also in threads
        _play_fabric(card, patch)
        stack.enter_context(_Dispatch(card))
        stack.enter_context(_Names(card))
        yield card


def _play_fabric(card: Card, patch) -> None:
    """Let Lightning Fabric, where it is installed, see the card."""
    if find_spec("lightning_fabric") is None:
        return
    from lightning_fabric.accelerators import mps

    found = [0] if card.kind == "mps" else []
    patch.setattr(mps, "_get_all_available_mps_gpus", lambda: found)
    patch.setattr(mps.MPSAccelerator, "is_available", staticmethod(lambda: bool(found)))


class _Event:
    """Of CUDA: here all that was begun is done."""

    def __init__(self, *args, **kwargs) -> None: ...
    def record(self, stream=None) -> None:
        assert stream is not None, "of the current card, which may be another one"

    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True


# Rules of Apple's GPUs -----------------------------------------------------------------------


def no_float64(name: str, args: tuple, kwargs: dict, full: str) -> None:
    """The MPS framework has no float64, in any version."""
    for x in args if not name else ():
        if isinstance(x, Tensor) and x.dtype in (torch.float64, torch.complex128):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
                "float64. Please use float32 instead."
            )


def no_uneven_pooling(name: str, args: tuple, kwargs: dict, full: str) -> None:
    """Adaptive pooling, and so ``interpolate(mode="area")``: divisible sizes alone.

    pytorch#96056, in all versions to 2.13.
    """
    if not name.lstrip("_").startswith(("adaptive_avg_pool", "adaptive_max_pool")):
        return
    if "backward" in name:
        return
    sizes = zip(args[0].shape[-2:], args[1], strict=True)
    if any(max(size, out) % min(size, out) for size, out in sizes):
        raise RuntimeError(
            "Adaptive pool MPS: input sizes must be divisible by output sizes. Non-divisible input "
            "sizes are not implemented on MPS device yet."
        )


def no_strided_weights(name: str, args: tuple, kwargs: dict, full: str) -> None:
    """Convolutions read weights as if they were contiguous, and say nothing.

    pytorch#192212, from 2.5 to 2.13 on macOS 15 and later.
    """
    if name not in ("convolution", "convolution_backward", "_convolution"):
        return
    weight = args[2] if name == "convolution_backward" else args[1]
    dense = weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)
    if not dense or (weight.ndim == 4 and not weight.is_contiguous() and min(weight.shape) > 1):
        raise AssertionError(f"{name}: weights of strides {weight.stride()} would be misread")


def no_channels_last_pooling(name: str, args: tuple, kwargs: dict, full: str) -> None:
    """Pooling of channels-last features aborts the process, or gives wrong gradients.

    pytorch#175190 and #175189, in all versions to 2.13; here refused in the forward pass, too.
    """
    if not re.match(r"_?(adaptive_)?(max|avg)_pool2d", name):
        return
    for x in args:
        if isinstance(x, Tensor) and x.ndim == 4 and not x.is_contiguous() and x.numel():
            raise AssertionError(f"{name}: pooling of features of strides {x.stride()} aborts")


def kernels_alone(name: str, args: tuple, kwargs: dict, full: str) -> None:
    """Operations that the installed PyTorch has no kernel for: NotImplementedError."""
    if full and not _on_mps(full):
        raise NotImplementedError(
            f"The operator 'aten::{full}' is not currently implemented for MPS"
        )


@cache
def _functions() -> dict[str, str]:
    """What PyTorch's own list says of each operation."""
    place = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = re.split(r"\n- func: ", place.read_text(encoding="utf-8"))[1:]
    return {entry[: entry.index("(")]: entry for entry in entries}


@cache
def _on_mps(full: str) -> bool:
    """Whether an operation runs there: by a kernel, or because it is made of others."""
    entry = _functions().get(full, "")  # those that are generated are made of others
    delegate = re.search(r"\n  structured_delegate: (\S+)", entry)
    if delegate:
        return _on_mps(delegate[1])
    dispatch = re.search(r"\n  dispatch:((?:\n    .+)+)", entry)
    if not dispatch:
        return True
    keys = ",".join(line.partition(":")[0] for line in dispatch[1].strip().splitlines())
    return "MPS" in keys or "Composite" in keys


APPLE: tuple[Rule, ...] = (
    no_float64,
    no_uneven_pooling,
    no_strided_weights,
    no_channels_last_pooling,
    kernels_alone,
)


# Rules of NVIDIA's ---------------------------------------------------------------------------


def no_bfloat16(name: str, args: tuple, kwargs: dict, full: str) -> None:
    """Cards before Ampere (capability 8.0) have no bfloat16; here it is refused altogether."""
    for x in args if not name else ():
        if isinstance(x, Tensor) and x.dtype == torch.bfloat16:
            raise RuntimeError('"add" not implemented for BFloat16 on this card')
