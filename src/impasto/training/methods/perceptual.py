"""The loss for methods of arbitrary styles: content and style in the features of a loss network.

Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017; reports 1 to 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ...backbones import Backbone
from ...device import arranged
from ...errors import InputError
from ...losses import aligned_channels, content_loss, moments_loss
from ...operators.adain import adain, normalise
from ...statistics import Moments

__all__ = ["STYLE_LAYERS", "Perceptual", "Target"]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
NEAR = 0.05  # lower limit of a photograph's distance to the style, as a divisor
Target = Literal["adain", "content"]


class Perceptual:
    """Content and style terms.

    Args:
        judge: the loss network.
        content_layer: layer of the content term.
        content_weight, style_weight: weights of the terms. The style term is the remaining share of
            the photograph's distance to the style, as in evaluation. A distance relative to the
            style alone would be dominated by the few flat crops of paintings.
        target: target of the content term: ``adain``, the features after AdaIN (reports 2, 3), or
            ``content``, the photograph's features, instance-normalised, so that only the style term
            affects the statistics.
        style_layers: layers of the style term, which compares mean and deviation of every channel.
        kept: share of the channels in the style term, see
            :func:`impasto.losses.aligned_channels`.

    Raises:
        InputError: for an unknown target or layer, or a share out of range.
    """

    def __init__(
        self,
        judge: Backbone,
        content_layer: str = "relu4_1",
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        target: Target = "content",
        style_layers: Sequence[str] = STYLE_LAYERS,
        kept: float = 1.0,
    ) -> None:
        if target not in get_args(Target):
            raise InputError(f"target {target!r} is unknown: use adain or content")
        if not style_layers:
            raise InputError("style_layers: name at least one")
        if not 0 < kept <= 1:
            raise InputError(f"kept = {kept}: must be a share above 0, at most 1")
        judge.check([*style_layers, content_layer])
        self.judge = arranged(judge)
        self.content_layer, self.style_layers = content_layer, tuple(style_layers)
        self.content_weight, self.style_weight = content_weight, style_weight
        self.target, self.kept = target, kept

    def __call__(self, out: Tensor, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """``content`` and ``style``, weighted, of unclipped results ``(B, 3, H, W)``."""
        layers = {*self.style_layers, self.content_layer}
        with torch.no_grad():
            style_moments = {tap: Moments.of(f) for tap, f in self.judge(styles, layers).items()}
            content_features = self.judge(contents, layers)
        result_features = self.judge(out, layers)
        layer = self.content_layer
        original, result = content_features[layer], result_features[layer]
        if self.target == "adain":
            content = content_loss(result, adain(original, style_moments[layer]))
        else:
            content = (normalise(result) - normalise(original)).square().mean() / 2
        style = torch.stack(
            [
                self._style_loss(result_features, content_features, style_moments, tap)
                for tap in self.style_layers
            ]
        )
        return {"content": self.content_weight * content, "style": self.style_weight * style.mean()}

    def _style_loss(
        self,
        result_features: Mapping[str, Tensor],
        content_features: Mapping[str, Tensor],
        style_moments: Mapping[str, Moments],
        tap: str,
    ) -> Tensor:
        """The remaining share of the photographs' distance to the styles at ``tap``."""
        result, content_moments = (
            Moments.of(features[tap]) for features in (result_features, content_features)
        )
        channels = (
            None if self.kept == 1 else aligned_channels(result, style_moments[tap], self.kept)
        )
        distance = moments_loss(result, style_moments[tap], channels)
        original = moments_loss(content_moments, style_moments[tap], channels)
        return (distance / original.clamp_min(NEAR)).mean()
