"""Checkpoints: everything a run needs to resume with the same losses, bit for bit on a CPU.

A step depends only on the seed, its number and the weights, so a checkpoint holds the number of
steps but no state of random generators and no position in the data. A checkpoint is a pickle of
tensors. Before torch 2.10, a malicious one can run code: treat a run folder from elsewhere like a
program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from ..errors import InputError
from ..files import disk_fault, reason_of, replacing, shown

__all__ = ["check_settings", "load_checkpoint", "load_optimizers", "plain", "save_state"]

FORMAT = 2  # of checkpoints; earlier ones had no number


def save_state(
    path: Path,
    state: Any,
    label: str = "it",
    remedy: str = "free some space or give another path",
) -> None:
    """Write ``state`` for ``torch.load``, atomically: a kill leaves the previous file intact.

    Args:
        path: the file to write.
        state: what ``torch.save`` takes.
        label, remedy: for the error message: what is written, and what to do.

    Raises:
        DiskError: if it cannot be written.
    """
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as fault:
        # torch's own writer raises RuntimeError if a write fails.
        cause = fault if isinstance(fault, OSError) else fault.__context__
        if not isinstance(cause, OSError):
            raise
        raise disk_fault(
            cause, f"{shown(path)}: cannot write {label} ({reason_of(cause)}); {remedy}"
        ) from fault


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state that :class:`impasto.training.loop.Loop` saved, on the CPU.

    Raises:
        InputError: if it cannot be read, or was written by an incompatible version of impasto.
    """
    restart = f"delete {path.parent} and train again"
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        compatible = isinstance(state, dict) and state.get("format") == FORMAT
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a broken file can raise anything
        raise InputError(
            f"{path} is damaged or cut off: restore it from a copy, or {restart}"
        ) from error
    if not compatible:
        raise InputError(
            f"{path} was written by another version of impasto: resume with that one, or {restart}"
        )
    return state


def plain(settings: Mapping[str, object]) -> dict[str, object]:
    """``settings`` after a round trip through JSON, comparable with saved ones."""
    converted: dict[str, object] = json.loads(json.dumps(settings))
    return converted


def check_settings(run: Path, saved: Mapping[str, object], settings: Mapping[str, object]) -> None:
    """Raise InputError, naming the differences, if ``settings`` differ from ``saved`` ones."""
    names = sorted({*saved, *settings})
    changed = [name for name in names if saved.get(name) != settings.get(name)]
    if changed:
        raise InputError(
            f"{run}: holds a run with other settings ({', '.join(changed)}); choose another "
            "folder or delete it"
        )


def load_optimizers(optimizers: Sequence[Optimizer], states: Sequence[dict[str, Any]]) -> None:
    """Restore the optimisers' state but keep their current settings, which fit this device."""
    for optimizer, state in zip(optimizers, states, strict=True):
        pairs = zip(optimizer.param_groups, state["param_groups"], strict=True)
        groups = [{**current, "params": saved["params"]} for current, saved in pairs]
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
