"""The training side of the methods: those that can be trained, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...methods import METHODS
from .base import Trainable

__all__ = ["TRAINABLE", "Learner", "Trainable"]


@dataclass(frozen=True)
class Learner:
    """A method that can be trained.

    Attributes:
        module: its module in this package, imported on first use.
        photographs_alone: training needs no folder of paintings.
    """

    module: str
    photographs_alone: bool = False

    @property
    def untrained(self) -> Callable[..., Trainable]:
        """The method in training, with random weights: called with its options."""
        build: Callable[..., Any] = import_module(f".{self.module}", __name__).untrained
        return build

    @property
    def renames(self) -> Mapping[str, str]:
        """Old name -> new name of its options, see :func:`impasto.options.was`."""
        names: Mapping[str, str] = getattr(self.untrained, "renames", {})
        return names


TRAINABLE: dict[str, Learner] = {
    name: Learner(name, METHODS[name].photographs_alone)
    for name in sorted(METHODS)
    if METHODS[name].trainable
}
