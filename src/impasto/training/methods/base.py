"""What training needs of a method, and what the methods that learn share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ...methods.model import Model
from ...statistics import Moments

__all__ = ["RANGE_WEIGHT", "ModelTraining", "Trainable", "aim", "draw_strength"]

RANGE_WEIGHT = 1e3  # only to bring pixels back: what lies outside is not seen


class Trainable(Protocol):
    """What training needs of a method whose network is learnt.

    Attributes:
        network: what is learnt, and nothing else: its state is what a checkpoint keeps.

    A method that learns from photographs alone may say by ``columns`` how many results of each a
    sample sheet shows; :meth:`render` is then given each so many times.
    """

    network: nn.Module

    def start(self, crops: Tensor) -> None:
        """Set the network to a start in closed form, before the first step.

        Args:
            crops: some hundred photographs and paintings, ``(n, 3, H, W)`` in 0..1.
        """
        ...

    def to(self, device: torch.device) -> None:
        """Move everything that :meth:`loss` uses, frozen networks too."""
        ...

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, weighted, by name; what is minimised is their sum.

        Args:
            contents, styles: batches ``(B, 3, H, W)`` in 0..1, each content with its style. A
                method that learns from photographs alone ignores the styles.
        """
        ...

    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """The pictures ``(B, 3, H, W)`` in 0..1 that the network makes now, for sample sheets."""
        ...

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """Write the model, float16 safetensors, with its configuration and ``figures``."""
        ...


class ModelTraining:
    """The training of a model's network: what all :class:`Trainable` of ours share.

    Args:
        model: with a network to train.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.network = model, model.network

    def start(self, crops: Tensor) -> None:
        """There is none in closed form."""

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """See :meth:`impasto.methods.model.Model.save`."""
        self.model.save(path, figures)


def draw_strength(count: int, full: float, device: torch.device) -> Tensor:
    """A strength for each picture, ``(count,)``: 1 for a share ``full``, else anything in 0..1."""
    drawn = torch.rand(2, count, device=device)
    return torch.where(drawn[0] < full, 1.0, drawn[1])


def aim(own: Moments, style: Moments, strength: Tensor) -> Moments:
    """The photographs' moments and their styles', mixed by each picture's strength ``(B,)``."""
    by = strength[:, None]
    mean, gram = own.mean.lerp(style.mean, by), own.gram.lerp(style.gram, by[..., None])
    return Moments(torch.ones_like(strength), mean, gram)
