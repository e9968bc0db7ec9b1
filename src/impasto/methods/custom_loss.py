"""Content and style losses from outside: functions of features and target features.

A function is tried once at every layer, before the first iteration, so that a mistake in it ends in
a line that names it. Its values are then divided by a unit, as those of all losses are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..losses import EPS
from ..options import name_of
from ..styles import Style, reduce
from .style_loss import FLOOR, LayerLoss, check_mixing, check_paintings

__all__ = ["ByFunction", "LossFunction", "content_by_function", "style_by_function"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""``loss(features, target_features)``, called for each layer, returns a loss ``()``, 0 or more.

``features`` ``(C, H, W)`` are the result's, float32 or float64, on the device of the method. As a
style loss ``target_features`` ``(C, h, w)`` are a painting's, whose size differs; as a content loss
``(C, H, W)``, the photograph's.
"""


@dataclass(frozen=True)
class ByFunction:
    """A :data:`impasto.methods.style_loss.LayerLoss` by a function.

    Attributes:
        loss: the function.
        targets: features ``(C, h, w)`` with the share that each has in the loss.
        unit: value that counts as 1.
    """

    loss: LossFunction
    targets: Sequence[tuple[Tensor, float]]
    unit: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """See :data:`impasto.methods.style_loss.LayerLoss`."""
        features = _wide(features)
        terms = [share * self.loss(features, target) for target, share in self.targets]
        return torch.stack(terms).sum() / self.unit


def content_by_function(loss: LossFunction, target: Tensor, tap: str) -> LayerLoss:
    """The content loss of the layer ``tap``, which is 1 for features that are the mean everywhere.

    That is the unit of :func:`impasto.losses.content_loss`, with its floor for a flat photograph.

    Args:
        loss: the function.
        target: features of the photograph, ``(C, H, W)``.
        tap: name of the layer, for messages.

    Raises:
        InputError: if the function returns no loss that can be optimised.
    """
    target = _wide(target)
    mean = target.mean((-2, -1), keepdim=True).expand_as(target)
    at_mean = _tried("content_loss", loss, tap, mean, target)
    at_zero = _tried("content_loss", loss, tap, torch.zeros_like(target), target)
    return ByFunction(loss, [(target, 1.0)], torch.maximum(at_mean, FLOOR * at_zero) + EPS)


@torch.no_grad()
def style_by_function(
    loss: LossFunction,
    style: Style,
    content: Tensor,
    size: int,
    strength: float,
    features_of: Callable[[Tensor], Mapping[str, Tensor]],
) -> dict[str, LayerLoss]:
    """The style loss of each layer, which is 1 for the photograph.

    Of several paintings, and of the photograph at a strength below 1, the losses are added in their
    shares.

    Args:
        loss: the function.
        style: paintings with weights.
        content: the photograph, ``(3, H, W)``. If it is nearly in this style already, the unit is a
            hundredth of a flat picture's loss.
        size: short side in pixels to which paintings are reduced.
        strength: 0..1.
        features_of: layer -> features ``(1, C, H, W)`` of a picture.

    Raises:
        InputError: for a strength above 1, a style that is no painting, or a function that returns
            no loss that can be optimised.
    """
    check_paintings(style)
    check_mixing(strength)
    paintings = [
        (features_of(reduce(part, size)), share)
        for part, share in zip(style.parts, style.weights, strict=True)
        if isinstance(part, Tensor) and share
    ]
    layers: dict[str, LayerLoss] = {}
    for tap, features in features_of(content).items():
        photograph = _wide(features[0])
        painted = [(_wide(each[tap][0]), share) for each, share in paintings]
        at_photograph, at_mean = photograph.new_zeros(()), photograph.new_zeros(())
        for target, share in painted:
            mean = target.mean((-2, -1), keepdim=True).expand_as(target)
            at_photograph += share * _tried("style_loss", loss, tap, photograph, target)
            at_mean += share * _tried("style_loss", loss, tap, mean, target)
        targets = [(target, share * strength) for target, share in painted]
        if strength < 1:
            targets.append((photograph, 1 - strength))
        unit = torch.maximum(at_photograph, FLOOR * at_mean) + EPS
        layers[tap] = ByFunction(loss, targets, unit)
    return layers


def _tried(option: str, loss: LossFunction, tap: str, features: Tensor, target: Tensor) -> Tensor:
    """The loss of ``features``; InputError if it is none that can be optimised."""
    label = f"{option} {name_of(loss)}, layer {tap}"
    with torch.enable_grad():
        features = features.detach().clone().requires_grad_(True)
        value = loss(features, target)
        if not isinstance(value, Tensor) or value.shape != ():
            kind = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise InputError(
                f"{label}: returns {kind}: must be a tensor of one number; end it with .mean() or "
                ".sum()",
                option=option,
            )
        if not value.isfinite() or value < 0:
            raise InputError(
                f"{label}: is {value.item():g}: must be a finite number, 0 or more, and 0 where "
                "features equal the target's",
                option=option,
            )
        (gradient,) = (
            torch.autograd.grad(value, features, allow_unused=True)
            if value.requires_grad
            else (None,)
        )
    if gradient is None:
        raise InputError(
            f"{label}: has no gradient: compute it from `features` by torch, without detach(), "
            "item() or numpy()",
            option=option,
        )
    if not gradient.isfinite().all():
        raise InputError(
            f"{label}: has a gradient that is not finite: add a small number under a root or "
            "logarithm, and to what is divided by",
            option=option,
        )
    return value.detach()


def _wide(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
