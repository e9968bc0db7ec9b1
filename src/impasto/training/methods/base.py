"""The interface between training and methods, and what the trainable methods share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...methods.model import Model
from ...statistics import Moments

__all__ = ["RANGE_WEIGHT", "ModelTraining", "Trainable", "draw_strength", "mixed_moments"]

RANGE_WEIGHT = 1e3  # brings back pixels out of range, where the clipped losses have no gradient


class Trainable(Protocol):
    """The interface of a method with a trainable network.

    Attributes:
        network: the trained network, without frozen ones: checkpoints hold its state.

    A method that trains on photographs alone can define an attribute ``columns``, the number of
    results per photograph in a sample sheet; :meth:`render` then gets each photograph that many
    times.
    """

    network: nn.Module

    def start(self, crops: Tensor) -> None:
        """Initialise the network in closed form, before the first step.

        Args:
            crops: photographs and paintings, ``(n, 3, H, W)`` in 0..1; a few hundred suffice.
        """
        ...

    def to(self, device: torch.device) -> None:
        """Move everything that :meth:`loss` uses to ``device``, including frozen networks."""
        ...

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss by name; their sum is minimised.

        Args:
            contents, styles: batches ``(B, 3, H, W)`` in 0..1, a style for each content. A method
                that trains on photographs alone ignores the styles.
        """
        ...

    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Results ``(B, 3, H, W)`` in 0..1 of the current network, for sample sheets."""
        ...

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """Write the model as float16 safetensors, with its configuration and ``figures``."""
        ...


class ModelTraining:
    """The base class of all :class:`Trainable` in this package: trains a model's network.

    Args:
        model: the model whose network is trained.

    Attributes:
        resolved: options whose default depends on others, with the values that they have here;
            recorded in the model's header.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.network = model, model.network
        self.resolved: dict[str, Any] = {}

    def start(self, crops: Tensor) -> None:
        """Do nothing: by default there is no closed-form initialisation."""

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """See :meth:`impasto.methods.model.Model.save`."""
        self.model.save(path, figures)


def draw_strength(count: int, full: float, device: torch.device) -> Tensor:
    """Random strengths ``(count,)``: 1 for a share ``full``, otherwise uniform in 0..1."""
    choice, partial = torch.rand(2, count, device=device)
    return torch.where(choice < full, 1.0, partial)


def mixed_moments(content: Moments, style: Moments, strength: Tensor) -> Moments:
    """The moments of contents and styles, interpolated by each picture's strength ``(B,)``."""
    weight = strength[:, None]
    mean = content.mean.lerp(style.mean, weight)
    gram = content.gram.lerp(style.gram, weight[..., None])
    return Moments(torch.ones_like(strength), mean, gram)
