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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ...backbones import Backbone
from ...errors import InputError
from ...losses import aligned_channels
from ...methods.published import gatys_style, half_squared_error
from ...operators.adain import EPS, adain, normalise
from ...statistics import Moments
from .perceptual import Perceptual, Target

__all__ = [
    "PUBLISHED",
    "Losses",
    "Published",
    "PublishedPerceptual",
    "build_perceptual",
    "feature_distance",
    "feature_mse",
    "gram_mse",
    "gram_squares",
    "half_squares",
    "moments_distance",
    "moments_mse",
    "normalised_mse",
    "settle",
]

Losses = Literal["relative", "published"]


def feature_mse(features: Tensor, target: Tensor) -> Tensor:
    """``|F - P|^2 / CHW``: report 4's feature loss; ArtFlow's content loss (An et al. 2021)."""
    return _difference(features, target).square().mean()


def half_squares(features: Tensor, target: Tensor) -> Tensor:
    """``1/2 sum (F - P)^2``: report 1, Eq. 1. It grows with the size of the picture."""
    return half_squared_error(features, target).mean()


def normalised_mse(features: Tensor, target: Tensor) -> Tensor:
    """Mean square of the difference of instance-normalised features: StyleFlow's content loss
    (Fan et al. 2022)."""
    return _difference(normalise(features), normalise(target)).square().mean()


def feature_distance(features: Tensor, target: Tensor) -> Tensor:
    """``|F - T|_2``: report 3, Eq. 13. A Euclidean norm, neither squared nor divided."""
    difference = _difference(features, target)
    distance: Tensor = torch.linalg.vector_norm(difference, dim=(-3, -2, -1))
    return distance.mean()


def gram_mse(moments: Moments, target: Moments) -> Tensor:
    """Mean square of the difference of Gram matrices divided by ``C H W``: report 4's style loss.

    The report writes a squared Frobenius norm and computes it by PyTorch's ``MSELoss``, a mean.
    """
    difference = (moments.gram - target.gram) / moments.channels
    return difference.square().mean((-2, -1)).mean()


def gram_squares(moments: Moments, target: Moments) -> Tensor:
    """``1/(4 N^2 M^2) sum (G - A)^2`` of ``N`` channels, ``M`` positions: report 1, Eq. 2."""
    return gatys_style(moments, target).mean()


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


def _difference(features: Tensor, target: Tensor) -> Tensor:
    """In float32 at least: sums of squares in half precision would have three digits, or none."""
    wide = torch.promote_types(features.dtype, torch.float32)
    return features.to(wide) - target.to(wide)


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
    # Report 2 compares means and "variance": deviations, as in Huang & Belongie's code; its weight
    # stands for that which the report does not name.
    ("adain", 2): Published(feature_mse, moments_mse, 1.0, 10.0, target="adain"),
    ("adain", 3): Published(feature_distance, moments_distance, 1.0, 0.1, target="adain"),
    # Report 1 takes the code of An et al. and Fan et al.
    ("artflow", 1): Published(feature_mse, moments_mse, 0.1, 1.0),
    ("styleflow", 1): Published(normalised_mse, moments_mse, 0.1, 1.0, tv_weight=1.0, kept=0.8),
}
"""Method and number of the report -> its loss."""


REPORTS = {"johnson": 4, "adain": 3, "artflow": 1, "styleflow": 1}
# What no report has: a loss of colours, and pictures of less than full strength.
ABSENT = {"color_weight": 0.0, "full": 1.0}


def settle(
    method: str,
    losses: str,
    report: int | None,
    weights: Mapping[str, Any],
    ours: Mapping[str, Any],
    only_ours: Mapping[str, Any],
) -> tuple[Published | None, dict[str, Any], dict[str, Any]]:
    """The losses of a training, and their weights where the caller gave none.

    Args:
        method: name of the method.
        losses: ``relative`` (ours) or ``published``.
        report: whose losses, if published; None for the first choice in :data:`REPORTS`.
        weights: options; None stands for the default, which depends on the losses.
        ours: defaults for ``relative``.
        only_ours: options that published losses do not have; None or 0 where they are not given.

    Returns:
        The published losses or None, ``weights`` without None, and what is recorded of both.

    Raises:
        InputError: for unknown losses, a report without any, or options of the other losses.
    """
    if losses not in get_args(Losses):
        raise InputError(f"losses = {losses!r}: use {' or '.join(get_args(Losses))}")
    if losses == "relative":
        if report is not None:
            raise InputError(f'report = {report}: is for losses = "published"; leave it out')
        chosen = _filled(weights, ours)
        return None, chosen, {"losses": losses, **chosen}
    for name, value in only_ours.items():
        if value:
            raise InputError(
                f'{name} = {value!r}: losses = "published" has no such option; leave it out'
            )
    report = REPORTS[method] if report is None else report
    if (method, report) not in PUBLISHED:
        numbers = " or ".join(str(number) for name, number in PUBLISHED if name == method)
        raise InputError(f"report = {report}: it trains no {method}; use {numbers}")
    published = PUBLISHED[method, report]
    chosen = _filled(weights, {**ABSENT, **vars(published)})
    return published, chosen, {"losses": losses, "report": report, **chosen}


def _filled(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: defaults[name] if value is None else value for name, value in options.items()}


class PublishedPerceptual(Perceptual):
    """Content and style terms of methods of any style, as published.

    Args:
        published: the losses.
        judge, options: see :class:`Perceptual`.

    Raises:
        InputError: for an unknown layer, or a share out of range.
    """

    def __init__(self, published: Published, judge: Backbone, **options: Any) -> None:
        super().__init__(judge, **options)
        self.published = published

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
        content = self.published.content(features[layer], target)
        style = torch.stack(
            [self._layer_loss(Moments.of(features[t]), style_moments[t]) for t in self.style_layers]
        )
        return {"content": self.content_weight * content, "style": self.style_weight * style.sum()}

    def _layer_loss(self, moments: Moments, target: Moments) -> Tensor:
        if self.kept == 1:
            return self.published.style(moments, target)
        return self.published.style(moments, target, aligned_channels(moments, target, self.kept))


def build_perceptual(published: Published | None, judge: Backbone, **options: Any) -> Perceptual:
    """The loss of a method of any style: ours, or as published; see :class:`Perceptual`."""
    if published is None:
        return Perceptual(judge, **options)
    return PublishedPerceptual(published, judge, **options)
