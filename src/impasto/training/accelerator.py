"""Where training runs: on one device with plain PyTorch, or through Lightning Fabric.

The loop uses only this interface, so its code is the same for both. Fabric, if it is installed,
adds several processes and machines, its strategies, and float16.
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
from ..errors import InputError, spelled
from .recipes import check_fields

__all__ = ["Accelerator", "Hardware", "choose_accelerator"]

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@dataclass(frozen=True)
class Hardware:
    """Where to train.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto``, ``float32``, or mixed with ``bfloat16`` or ``float16`` (CUDA).
        devices: processes per machine, each with its own device.
        nodes: machines, which must share the folder of the run.
        strategy: a strategy of Lightning Fabric that does not shard the weights, such as ``ddp``.

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
                f"device {self.device} is a single device, but {spelled('devices')} is "
                f"{self.devices}: use {spelled('device', self.device.split(':')[0])}, or "
                f"{spelled('devices', 1)}",
                option="devices",
            )


class Accelerator:
    """One device, with plain PyTorch.

    Attributes:
        device: the device of this process.
        dtype: the type that convolutions compute in; weights and losses are float32.
        rank, world: the number of this process, and the count of processes.
        versions: versions of further packages that training uses.
    """

    rank, world = 0, 1
    versions: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype

    def launch(self) -> None:
        """Start the other processes; each runs the same program."""
        if self.device.index is not None:  # streams and graphs belong to the current device
            torch.cuda.set_device(self.device)

    def setup(
        self, model: nn.Module, optimizers: Sequence[Optimizer]
    ) -> tuple[nn.Module, Sequence[Optimizer]]:
        """The model and its optimisers, wrapped for this accelerator."""
        return model, optimizers

    def autocast(self) -> AbstractContextManager[Any]:
        """A context that sets the precision of the forward pass."""
        return mixed(self.device, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of ``loss``."""
        loss.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizers: Sequence[Optimizer]) -> None:
        """Remove float16's scale from the gradients, so that they can be clipped."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``values`` over the processes."""
        return values

    def any(self, condition: bool) -> bool:
        """Whether ``condition`` is true in any of the processes."""
        return condition

    def state(self) -> dict[str, Any]:
        """The state of the precision, for a checkpoint."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state`."""

    @property
    def machine(self) -> str:
        """A description of the devices, for the figures of a model."""
        description = describe(self.device, self.dtype)
        return f"{self.world} x {description}" if self.world > 1 else description


class _Fabric(Accelerator):
    """See https://lightning.ai/docs/fabric."""

    def __init__(self, device: torch.device, dtype: torch.dtype, hardware: Hardware) -> None:
        from lightning_fabric.__version__ import version
        from lightning_fabric.fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
        from lightning_fabric.strategies.single_device import SingleDeviceStrategy

        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # hide its hints
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
            raise InputError(
                f"cannot train on this hardware ({reason}); see {spelled('devices')} and "
                f"{spelled('strategy')}"
            ) from None
        if not isinstance(self.fabric.strategy, (DDPStrategy, SingleDeviceStrategy)):
            raise InputError(
                f"strategy {hardware.strategy} may shard the weights, which impasto does not "
                f"support; use {spelled('strategy', 'ddp')}",
                option="strategy",
            )
        # Pictures stay float32, as without Fabric, because the loss targets are computed from them.
        precision: Any = self.fabric.strategy.precision
        precision.convert_input = lambda data: data
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
        wrapped_model, *wrapped_optimizers = self.fabric.setup(model, *optimizers)
        return wrapped_model, wrapped_optimizers

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

    def any(self, condition: bool) -> bool:
        if self.world == 1:
            return condition
        return bool(self.fabric.all_reduce(torch.tensor(float(condition)), reduce_op="sum") > 0)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.fabric.strategy.precision.state_dict()
        return state

    def load(self, state: dict[str, Any]) -> None:
        self.fabric.strategy.precision.load_state_dict(state)


def choose_accelerator(hardware: Hardware) -> Accelerator:
    """The accelerator for ``hardware``.

    Raises:
        InputError: for devices, a precision or a strategy that are not available, or that need
            Fabric where it is not installed.
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
    distributed = hardware.devices > 1 or hardware.nodes > 1 or hardware.strategy != "auto"
    if distributed or dtype == torch.float16:
        raise InputError(
            "several devices, a strategy and float16 need Lightning Fabric, which is not "
            'installed: pip install "impasto[train]", or train on one device'
        )
    return Accelerator(device, dtype)


def is_main() -> bool:
    """Whether this is the process that writes files and log lines."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)
