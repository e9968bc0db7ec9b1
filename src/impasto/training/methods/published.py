"""The losses of the reports' trainings as published: with their constants, and no terms of ours.

Ours (:mod:`.perceptual`, :mod:`.johnson`) are relative to their targets, so that one weight suits
every network, layer and painting. These are not: their weights belong to the loss network and the
size of the crops that the reports name, and a training may diverge.

Each function gives the mean over the pictures of a batch. Features are ``(B, C, H, W)``; moments
have one row for each picture, or one that broadcasts. Where a report divides a Gram matrix by the
number of positions or not, it assumes that both pictures have the same; here each is divided by its
own, since a painting may be larger than a crop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ...backbones import Backbone
from ...errors import InputError
from ...losses import aligned_channels
from ...operators.adain import EPS, adain, normalise
from ...statistics import Moments
from .perceptual import STYLE_LAYERS, Perceptual, Target

__all__ = [
    "PUBLISHED",
    "Losses",
    "Published",
    "PublishedPerceptual",
    "check_losses",
    "feature_distance",
    "feature_mse",
    "find_published",
    "gram_mse",
    "gram_squares",
    "half_squares",
    "moments_distance",
    "moments_mse",
    "normalised_mse",
    "variance_mse",
]

Losses = Literal["relative", "published"]


def feature_mse(features: Tensor, target: Tensor) -> Tensor:
    """``|F - P|^2 / CHW``: report 4's feature loss; ArtFlow's content loss (An et al. 2021)."""
    return (features - target).square().mean()


def half_squares(features: Tensor, target: Tensor) -> Tensor:
    """``1/2 sum (F - P)^2``: report 1, Eq. 1. It grows with the size of the picture."""
    return (features - target).square().sum((-3, -2, -1)).mean() / 2


def normalised_mse(features: Tensor, target: Tensor) -> Tensor:
    """Mean square of the difference of instance-normalised features: StyleFlow's content loss
    (Fan et al. 2022)."""
    return (normalise(features) - normalise(target)).square().mean()


def feature_distance(features: Tensor, target: Tensor) -> Tensor:
    """``|F - T|_2``: report 3, Eq. 13. A Euclidean norm, neither squared nor divided."""
    distance: Tensor = torch.linalg.vector_norm(features - target, dim=(-3, -2, -1))
    return distance.mean()


def gram_mse(moments: Moments, target: Moments) -> Tensor:
    """Mean square of the difference of Gram matrices divided by ``C H W``: report 4's style loss.

    The report writes a squared Frobenius norm and computes it by PyTorch's ``MSELoss``, a mean.
    """
    difference = (moments.gram - target.gram) / moments.channels
    return difference.square().mean((-2, -1)).mean()


def gram_squares(moments: Moments, target: Moments) -> Tensor:
    """``1/(4 N^2 M^2) sum (G - A)^2`` of ``N`` channels, ``M`` positions: report 1, Eq. 2."""
    squares = (moments.gram - target.gram).square().sum((-2, -1))
    return squares.mean() / (4 * moments.channels**2)


def moments_distance(moments: Moments, target: Moments) -> Tensor:
    """``|mu - mu_t|_2 + |sigma - sigma_t|_2`` over the channels: report 3, Eq. 14."""
    difference = _mean_and_deviation(moments) - _mean_and_deviation(target)
    distances: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return distances.sum(-1).mean()


def moments_mse(moments: Moments, target: Moments, channels: Tensor | None = None) -> Tensor:
    """Mean squares of the differences of means and of deviations: ArtFlow's style loss.

    With ``channels``, indices ``(B, n)``, of these alone: StyleFlow's aligned style loss.
    """
    difference = _mean_and_deviation(moments) - _mean_and_deviation(target)
    if channels is not None:
        difference = difference.gather(-1, torch.stack([channels, channels], -2))
    return difference.square().mean(-1).sum(-1).mean()


def variance_mse(moments: Moments, target: Moments) -> Tensor:
    """Mean squares of the differences of means and of variances: report 2's style loss."""
    means = (moments.mean - target.mean).square()
    variances = (moments.deviation(EPS).square() - target.deviation(EPS).square()).square()
    return (means + variances).mean(-1).mean()


def _mean_and_deviation(moments: Moments) -> Tensor:
    """``(..., 2, C)``."""
    return torch.stack([moments.mean, moments.deviation(EPS)], -2)


@dataclass(frozen=True)
class Published:
    """A loss as it is published.

    Attributes:
        content: of features and their target.
        style: of moments at one layer and their target.
        content_weight, style_weight, tv_weight: of the terms.
        target: of the content term, see :class:`impasto.training.methods.perceptual.Perceptual`.
        mean: whether the style term is the mean over the layers, as by weights that sum to one;
            otherwise it is their sum.
        kept: share of the channels that the style term compares.
    """

    content: Callable[[Tensor, Tensor], Tensor]
    style: Callable[..., Tensor]
    content_weight: float
    style_weight: float
    tv_weight: float = 0.0
    target: Target = "content"
    mean: bool = False
    kept: float = 1.0


PUBLISHED: dict[tuple[str, int], Published] = {
    # Eq. 1 to 3 with their ratio 1e-5; Eq. 2 names no weights of layers: equal, as Gatys' are.
    ("johnson", 1): Published(half_squares, gram_squares, 1e-5, 1.0, mean=True),
    ("johnson", 4): Published(feature_mse, gram_mse, 1e5, 1e10),
    # Report 2 names no weight: that of Huang & Belongie's code, which takes mean squares, too.
    ("adain", 2): Published(feature_mse, variance_mse, 1.0, 10.0, target="adain"),
    ("adain", 3): Published(feature_distance, moments_distance, 1.0, 0.1, target="adain"),
    # Report 1 takes the code of An et al. and Fan et al.
    ("artflow", 1): Published(feature_mse, moments_mse, 0.1, 1.0),
    ("styleflow", 1): Published(normalised_mse, moments_mse, 0.1, 1.0, tv_weight=1.0, kept=0.8),
}
"""Method and number of the report -> its loss."""


def check_losses(losses: str, ours: Mapping[str, Any]) -> bool:
    """Whether the losses are ``published``.

    Args:
        losses: ``relative`` or ``published``.
        ours: options that belong to our losses alone; None or 0 where they are not given.

    Raises:
        InputError: for other losses, or published ones with an option of ours.
    """
    if losses not in get_args(Losses):
        raise InputError(f"losses = {losses!r}: use {' or '.join(get_args(Losses))}")
    if losses == "relative":
        return False
    for name, value in ours.items():
        if value:
            raise InputError(
                f'{name} = {value!r}: is no part of losses = "published"; leave one of them out'
            )
    return True


def find_published(method: str, report: int) -> Published:
    """The loss of a report. Raises InputError if the report has none for the method."""
    reports = [number for name, number in PUBLISHED if name == method]
    if report not in reports:
        known = " or ".join(map(str, reports))
        raise InputError(f"report = {report}: has no losses for {method}; use {known}")
    return PUBLISHED[method, report]


class PublishedPerceptual(Perceptual):
    """Content and style terms of methods of any style, as published.

    Args:
        judge: the loss network.
        losses: see :class:`Published`.
        content_layer, content_weight, style_weight, style_layers, kept: see
            :class:`Perceptual`; None takes the weight that is published.

    Raises:
        InputError: for a layer or a share that does not exist.
    """

    def __init__(
        self,
        judge: Backbone,
        losses: Published,
        content_layer: str = "relu4_1",
        content_weight: float | None = None,
        style_weight: float | None = None,
        style_layers: Sequence[str] = STYLE_LAYERS,
        kept: float | None = None,
    ) -> None:
        super().__init__(
            judge,
            content_layer,
            losses.content_weight if content_weight is None else content_weight,
            losses.style_weight if style_weight is None else style_weight,
            losses.target,
            style_layers,
            losses.kept if kept is None else kept,
        )
        self.losses = losses

    def __call__(self, out: Tensor, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """See :class:`Perceptual`."""
        layer = self.content_layer
        with torch.no_grad():
            style_features = self.judge(styles, {*self.style_layers, layer})
            style_moments = {tap: Moments.of(f) for tap, f in style_features.items()}
            target = self.judge(contents, [layer])[layer]
            if self.target == "adain":
                target = adain(target, style_moments[layer])
        features = self.judge(out, {*self.style_layers, layer})
        content = self.losses.content(features[layer], target)
        moments = {tap: Moments.of(features[tap]) for tap in self.style_layers}
        style = self._style(moments, style_moments)
        return {"content": self.content_weight * content, "style": self.style_weight * style}

    def _style(self, moments: Mapping[str, Moments], target: Mapping[str, Moments]) -> Tensor:
        terms = []
        for tap in self.style_layers:
            pair = moments[tap], target[tap]
            channels = () if self.kept == 1 else (aligned_channels(*pair, self.kept),)
            terms.append(self.losses.style(*pair, *channels))
        return torch.stack(terms).sum()
