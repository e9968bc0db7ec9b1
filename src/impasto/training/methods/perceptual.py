"""The loss that methods of any style learn by: content and style as a loss network sees them.

Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017; papers 1 to 3.
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
NEAR = 0.05  # a style as near as this already does not count in full
Target = Literal["adain", "content"]


class Perceptual:
    """Content and style terms.

    Args:
        judge: the loss network.
        content_layer: of the content term.
        content_weight, style_weight: of the terms. The style term is the share that is left of the
            photograph's distance to the style, as results are judged: a distance relative to the
            style alone is ruled by the few flat crops among the paintings.
        target: of the content term: ``adain``, the features after AdaIN (papers 2 and 3), or
            ``content``, the photograph's own, instance-normalised, which leaves the statistics to
            the style term alone.
        style_layers: of the style term: mean and deviation of every channel.
        kept: share of the channels that count in it, see
            :func:`impasto.losses.aligned_channels`.

    Raises:
        InputError: for a target, a layer or a share that does not exist.
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
        """``content`` and ``style``, weighted, of results ``(B, 3, H, W)`` not clipped."""
        layers = {*self.style_layers, self.content_layer}
        with torch.no_grad():
            style_moments = {tap: Moments.of(f) for tap, f in self.judge(styles, layers).items()}
            content_features = self.judge(contents, layers)
        result_features = self.judge(out, layers)
        wanted, features = content_features[self.content_layer], result_features[self.content_layer]
        if self.target == "adain":
            content = content_loss(features, adain(wanted, style_moments[self.content_layer]))
        else:
            content = (normalise(features) - normalise(wanted)).square().mean() / 2
        style = torch.stack(
            [
                self._left(result_features, content_features, style_moments, tap)
                for tap in self.style_layers
            ]
        )
        return {"content": self.content_weight * content, "style": self.style_weight * style.mean()}

    def _left(
        self,
        result_features: Mapping[str, Tensor],
        content_features: Mapping[str, Tensor],
        style_moments: Mapping[str, Moments],
        tap: str,
    ) -> Tensor:
        """What share of the photographs' distance to the styles is left at ``tap``."""
        result, content_moments = (
            Moments.of(features[tap]) for features in (result_features, content_features)
        )
        channels = (
            None if self.kept == 1 else aligned_channels(result, style_moments[tap], self.kept)
        )
        left = moments_loss(result, style_moments[tap], channels)
        return (
            left / moments_loss(content_moments, style_moments[tap], channels).clamp_min(NEAR)
        ).mean()
