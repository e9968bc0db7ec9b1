"""The style losses of Gatys' method.

``gram`` and ``moments`` compare moments of features, ``swd`` and ``remd`` features themselves:
these tell more about a style than two moments do, but cannot be stored. Features are compared with
a sample of the style's, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, spelled
from ..losses import EPS, gram_loss, moments_loss, relaxed_emd, sliced_wasserstein
from ..statistics import Moments
from ..styles import Style, pieces_of, reduce

__all__ = [
    "OF_FEATURES",
    "OF_MOMENTS",
    "SORTING",
    "ByFeatures",
    "ByMoments",
    "FeatureLoss",
    "LayerLoss",
    "by_features",
    "check_mixing",
    "check_paintings",
]

SAMPLE = 1024  # most feature vectors of a style at a layer
POSITIONS = 4096  # of the result that remd compares, drawn for every iteration
DIRECTIONS = 32  # that swd projects onto, drawn for every iteration
SORTING = DIRECTIONS * 24 * 4 / 3  # bytes per pixel: projections and indices, at all layers
DRAWS = 8  # of a loss that draws, whose mean is the unit
FLOOR = 0.01  # least unit of a loss of features, as a share of a flat picture's distance

LayerLoss = Callable[[Tensor], Tensor]
"""Features ``(C, H, W)`` of the result at a layer -> loss ``()``."""

FeatureLoss = Callable[[Tensor, Tensor], Tensor]
"""Features ``(C, N)`` of the result, and a sample ``(C, M)`` of the style's -> loss ``()``."""

OF_MOMENTS: Mapping[str, Callable[[Moments, Moments], Tensor]] = {
    "gram": gram_loss,
    "moments": moments_loss,
}


def swd(rng: torch.Generator) -> FeatureLoss:
    """:func:`impasto.losses.sliced_wasserstein` along directions that every call draws."""

    def loss(features: Tensor, target: Tensor) -> Tensor:
        shape = (len(features), DIRECTIONS)
        directions = torch.randn(shape, generator=rng, device=rng.device, dtype=torch.float32)
        directions = F.normalize(directions, dim=0)
        return sliced_wasserstein(features[None], target[None], directions)[0]

    return loss


def remd(rng: torch.Generator) -> FeatureLoss:
    """:func:`impasto.losses.relaxed_emd` at positions that every call draws."""

    def loss(features: Tensor, target: Tensor) -> Tensor:
        positions = features.shape[-1]
        if positions > POSITIONS:
            drawn = torch.randint(positions, (POSITIONS,), generator=rng, device=rng.device)
            features = features.index_select(-1, drawn)
        return relaxed_emd(features[None, ..., None], target[None, ..., None])[0]

    return loss


# Each takes the generator of its random numbers, on the device of the features.
OF_FEATURES: Mapping[str, Callable[[torch.Generator], FeatureLoss]] = {"swd": swd, "remd": remd}


@dataclass(frozen=True)
class ByMoments:
    """A :data:`LayerLoss` by the moments of the features."""

    loss: Callable[[Moments, Moments], Tensor]
    target: Moments

    def __call__(self, features: Tensor) -> Tensor:
        """See :data:`LayerLoss`."""
        return self.of(Moments.of(features))

    def of(self, moments: Moments) -> Tensor:
        """The loss of features with these moments."""
        return self.loss(moments, self.target)


@dataclass(frozen=True)
class ByFeatures:
    """A :data:`LayerLoss` by the features, divided by ``unit``; ``loss`` draws from ``rng``."""

    loss: FeatureLoss
    target: Tensor
    unit: Tensor
    rng: torch.Generator

    def __call__(self, features: Tensor) -> Tensor:
        """See :data:`LayerLoss`."""
        return self.loss(features.flatten(1), self.target) / self.unit


@torch.no_grad()
def by_features(
    loss: FeatureLoss,
    style: Style,
    content: Tensor,
    size: int,
    strength: float,
    features_of: Callable[[Tensor], Mapping[str, Tensor]],
    rng: torch.Generator,
) -> dict[str, ByFeatures]:
    """The loss of each layer, which is 1 for the photograph, as losses of moments are about.

    Args:
        loss: see :data:`FeatureLoss`.
        style: paintings with weights. Each has its share of the target's vectors.
        content: the photograph, ``(3, H, W)``. It has a share of ``1 - strength`` of the target. If
            it is nearly in this style already, the unit is a hundredth of a flat picture's loss.
        size: short side in pixels to which paintings are reduced.
        strength: 0..1.
        features_of: layer -> features ``(1, C, H, W)`` of a picture.
        rng: draws the vectors, on the device of the features.

    Raises:
        InputError: for a strength above 1, or a style that is no painting.
    """
    check_paintings(style)
    check_mixing(strength)
    samples, shares = [], []
    for painting, weight in zip(style.parts, style.weights, strict=True):
        assert isinstance(painting, Tensor)
        pieces = list(pieces_of(reduce(painting, size)))
        area = sum(piece[0].numel() for piece in pieces)
        for piece in pieces:
            samples.append(_sampled(features_of(piece), rng))
            shares.append(weight * piece[0].numel() / area)
    own = {tap: features[0].flatten(1) for tap, features in features_of(content).items()}
    target = painted = _mixed(samples, shares, rng)
    if strength < 1:
        target = _mixed([painted, own], [strength, 1 - strength], rng)
    layers = {}
    for tap, vectors in own.items():
        flat = painted[tap].mean(-1, keepdim=True).expand_as(vectors)
        ours, least = (
            torch.stack([loss(each, painted[tap]) for _ in range(DRAWS)]).mean()
            for each in (vectors, flat)
        )
        unit = torch.maximum(ours, FLOOR * least) + EPS
        layers[tap] = ByFeatures(loss, target[tap], unit, rng)
    return layers


def check_paintings(style: Style) -> None:
    """Raise InputError for a stored style: it has no features."""
    for name, part in zip(style.names, style.parts, strict=True):
        if not isinstance(part, Tensor):
            raise InputError(
                f"style {name}: is stored as moments, and this style loss compares features; give "
                f"the painting itself, or use {spelled('style_loss')} {' or '.join(OF_MOMENTS)}",
                option="style_loss",
            )


def check_mixing(strength: float) -> None:
    """Raise InputError for a strength above 1: features cannot be exaggerated as moments can."""
    if strength > 1:
        raise InputError(
            f"strength {strength:g}: this style loss mixes features, up to 1; use less, or "
            f"{spelled('style_loss', 'gram')}",
            option="strength",
        )


def _sampled(features: Mapping[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """At most ``SAMPLE`` vectors ``(C, n)`` of each layer of features ``(1, C, H, W)``."""
    flat = {tap: each[0].flatten(1) for tap, each in features.items()}
    return {tap: _drawn(each, min(SAMPLE, each.shape[-1]), rng) for tap, each in flat.items()}


def _mixed(
    samples: Sequence[Mapping[str, Tensor]], shares: Sequence[float], rng: torch.Generator
) -> dict[str, Tensor]:
    """Samples of several pictures as one of at most ``SAMPLE`` vectors, in these shares."""
    mixed = {}
    for tap in samples[0]:
        count = min(SAMPLE, max(sample[tap].shape[-1] for sample in samples))
        parts = [
            _drawn(sample[tap], round(share * count), rng)
            for sample, share in zip(samples, shares, strict=True)
        ]
        mixed[tap] = torch.cat(parts, -1)
    return mixed


def _drawn(vectors: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """``count`` of the vectors ``(C, N)``, each about equally often."""
    order = torch.randperm(vectors.shape[-1], generator=rng, device=rng.device)
    return vectors[:, order[torch.arange(count, device=rng.device) % len(order)]]
