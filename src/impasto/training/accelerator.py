"""Where a training computes: on one device by plain PyTorch, or on what Lightning Fabric knows.

The loop asks these few things; the rest of it is the same everywhere. Fabric, where it is
installed, brings several processes and machines, its strategies, and float16.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..device import choose_device, choose_precision, describe, mixed
from ..errors import InputError
from .recipes import check_fields

__all__ = ["Accelerator", "Hardware", "accelerator", "is_main"]

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@dataclass(frozen=True)
class Hardware:
    """Where to train.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto``, ``float32``, or mixed with ``bfloat16`` or ``float16`` (CUDA).
        devices: processes on a machine, each with its device; nodes: machines, which must share
            the folder of the run.
        strategy: of Lightning Fabric, such as ``ddp``; none that shards the weights.

    Raises:
        InputError: for several processes on one numbered device, or values of another type.
    """

    device: str = "auto"
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if ":" in self.device and self.devices > 1:
            raise InputError(
                f"device {self.device} is one, and --devices {self.devices} are asked for: use "
                f"--device {self.device.split(':')[0]}, or --devices 1"
            )


class Accelerator:
    """One device, by plain PyTorch.

    Attributes:
        device: of this process.
        dtype: that convolutions compute in; weights and losses are float32.
        rank, world: this process, and how many there are.
    """

    rank, world = 0, 1
    versions: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype

    def launch(self) -> None:
        """Start the other processes, each of which runs the same program."""
        if self.device.index is not None:  # streams and graphs are of the current one
            torch.cuda.set_device(self.device)

    def setup(
        self, model: nn.Module, optimizers: Sequence[Optimizer]
    ) -> tuple[nn.Module, Sequence[Optimizer]]:
        """A model on the device, and its optimisers, as they are to be called."""
        return model, optimizers

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the forward pass."""
        return mixed(self.device, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Gradients of ``loss``."""
        loss.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizers: Sequence[Optimizer]) -> None:
        """Give the gradients, which float16 scales, their own size before they are clipped."""

    def mean(self, values: Tensor) -> Tensor:
        """Over the processes."""
        return values

    def any(self, asked: bool) -> bool:
        """Whether any of the processes was asked."""
        return asked

    def state(self) -> dict[str, Any]:
        """What of the precision a checkpoint has to keep."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Take up :meth:`state`."""

    @property
    def machine(self) -> str:
        """In words, for the figures of a model."""
        one = describe(self.device, self.dtype)
        return f"{self.world} x {one}" if self.world > 1 else one


class _Fabric(Accelerator):
    """See https://lightning.ai/docs/fabric."""

    def __init__(self, device: torch.device, dtype: torch.dtype, hardware: Hardware) -> None:
        from lightning_fabric.__version__ import version
        from lightning_fabric.fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
        from lightning_fabric.strategies.single_device import SingleDeviceStrategy

        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # not for people
        names: dict[torch.dtype, Any] = {torch.float16: "16-mixed", torch.bfloat16: "bf16-mixed"}
        try:
            self.fabric: Any = Fabric(
                accelerator="gpu" if device.type == "cuda" else device.type,
                devices=hardware.devices if device.index is None else [device.index],
                num_nodes=hardware.nodes,
                strategy=hardware.strategy,
                precision=names.get(dtype, "32-true"),
            )
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"cannot train so ({reason}); see --devices and --strategy") from None
        if not isinstance(self.fabric.strategy, (DDPStrategy, SingleDeviceStrategy)):
            raise InputError(
                f"cannot train so (strategy {hardware.strategy} may shard the weights); use "
                "--strategy ddp"
            )
        # Pictures stay float32, as without Fabric: what they are to be like is computed from them.
        mixing: Any = self.fabric.strategy.precision
        mixing.convert_input = lambda data: data
        self.world = hardware.devices * hardware.nodes
        self.versions = {"lightning": version}
        super().__init__(device, dtype)

    def launch(self) -> None:
        self.fabric.launch()
        self.rank, self.world = self.fabric.global_rank, self.fabric.world_size
        self.device = self.fabric.device

    def setup(
        self, model: nn.Module, optimizers: Sequence[Optimizer]
    ) -> tuple[nn.Module, Sequence[Optimizer]]:
        ready, *others = self.fabric.setup(model, *optimizers)
        return ready, others

    def autocast(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.fabric.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        self.fabric.backward(loss)

    def unscale(self, optimizers: Sequence[Optimizer]) -> None:
        for optimizer in optimizers:
            self.fabric.strategy.precision.unscale_gradients(optimizer)

    def mean(self, values: Tensor) -> Tensor:
        mean: Tensor = self.fabric.all_reduce(values, reduce_op="mean")
        return mean

    def any(self, asked: bool) -> bool:
        if self.world == 1:
            return asked
        return bool(self.fabric.all_reduce(torch.tensor(float(asked)), reduce_op="sum") > 0)

    def state(self) -> dict[str, Any]:
        kept: dict[str, Any] = self.fabric.strategy.precision.state_dict()
        return kept

    def load(self, state: dict[str, Any]) -> None:
        self.fabric.strategy.precision.load_state_dict(state)


def accelerator(hardware: Hardware) -> Accelerator:
    """What ``hardware`` asks for.

    Raises:
        InputError: for devices, a precision or a strategy that are not here, or need Fabric where
            it is not installed.
    """
    device = choose_device(hardware.device)
    if hardware.precision == "float16":
        if device.type != "cuda":
            raise InputError("precision float16 needs CUDA: use auto, bfloat16 or float32")
        dtype = torch.float16
    else:
        dtype = choose_precision(hardware.precision, device)
    try:
        return _Fabric(device, dtype, hardware)
    except ImportError:
        pass
    more = hardware.devices > 1 or hardware.nodes > 1 or hardware.strategy != "auto"
    if more or dtype == torch.float16:
        raise InputError(
            "several devices, a strategy and float16 need Lightning Fabric, which is not here: "
            'pip install "impasto[train]", or train on one device'
        )
    return Accelerator(device, dtype)


def is_main() -> bool:
    """Whether this is the process that writes and speaks, of those that train together."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)
