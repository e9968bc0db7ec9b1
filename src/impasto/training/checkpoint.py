"""Checkpoints: what a run needs to go on to the same losses, bit for bit on a CPU.

A step depends on the seed, its number and the weights alone, so that no state of a random generator
and no position in the data is kept but the number of steps. A checkpoint is a pickle of tensors:
below torch 2.10 one that was made for it can run code, so a run's folder that comes from elsewhere
is to be trusted like a program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from ..errors import InputError
from ..files import reason_of, replacing, shown

__all__ = ["check_settings", "load_checkpoint", "load_optimizers", "plain", "save_state"]

FORMAT = 2  # of checkpoints; those of Lightning's Trainer and of the loops before had none


def save_state(
    path: Path,
    state: Any,
    what: str = "it",
    remedy: str = "free some space or give another path",
) -> None:
    """Write what ``torch.load`` reads, whole or not at all: a kill leaves the file before.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as fault:
        # torch's own writer raises the latter where a write failed.
        cause = fault if isinstance(fault, OSError) else fault.__context__
        if not isinstance(cause, OSError):
            raise
        raise InputError(
            f"{shown(path)}: cannot write {what} ({reason_of(cause)}); {remedy}"
        ) from fault


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What :class:`impasto.training.loop.Loop` kept, on the CPU.

    Raises:
        InputError: if it cannot be read, or is of another version of impasto.
    """
    anew = f"delete {path.parent} and train anew"
    try:
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        known = isinstance(kept, dict) and kept.get("format") == FORMAT
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a broken file can raise anything
        raise InputError(
            f"{path} is damaged or cut off: put a copy of it in its place, or {anew}"
        ) from error
    if not known:
        raise InputError(f"{path} is of another version of impasto: go on by that one, or {anew}")
    return kept


def plain(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings as JSON keeps them, to be compared with those kept."""
    out: dict[str, object] = json.loads(json.dumps(settings))
    return out


def check_settings(run: Path, kept: Mapping[str, object], settings: Mapping[str, object]) -> None:
    """Raise InputError, which names them, if settings of a run are others than those kept."""
    names = sorted({*kept, *settings})
    other = [name for name in names if kept.get(name) != settings.get(name)]
    if other:
        raise InputError(
            f"{run}: holds a run with other settings ({', '.join(other)}); choose another folder "
            "or delete it"
        )


def load_optimizers(optimizers: Sequence[Optimizer], states: Sequence[dict[str, Any]]) -> None:
    """Take up what optimisers remember; their settings are those of now, and so of this device."""
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = zip(optimizer.param_groups, state["param_groups"], strict=True)
        now = [{**group, "params": kept["params"]} for group, kept in groups]
        optimizer.load_state_dict({"state": state["state"], "param_groups": now})
