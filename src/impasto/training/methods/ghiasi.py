"""Training of :mod:`impasto.methods.ghiasi`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...backbones import Backbone, load_backbone
from ...color import recolored as in_other_colors
from ...device import arranged
from ...errors import InputError, check_share
from ...losses import (
    content_loss,
    covariance_loss,
    gram_loss,
    palette_loss,
    range_loss,
    relaxed_emd,
    total_variation,
)
from ...methods.ghiasi import GhiasiConfig, GhiasiModel, Network, style_code
from ...methods.model import tuples
from ...methods.records.base import Convention
from ...networks.painter import Predicted
from ...options import was
from ...statistics import Moments
from .base import RANGE_WEIGHT, ModelTraining, draw_strength, mixed_moments

__all__ = ["GhiasiTraining", "untrained"]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
CONTENT_LAYER = "relu3_1"
STROKE_LAYERS = ("relu3_1", "relu4_1")
NEAR = 0.02  # lower limit of a photograph's distance to the painting, as a divisor
DIRECTIONS = 12  # random directions of the colour space in the palette loss


@was(network="kind", loss_network_weights="loss_weights")
def untrained(
    network: Network = "residual",
    widths: Sequence[int] | None = None,
    blocks: int = GhiasiConfig.blocks,
    rows: int = GhiasiConfig.rows,
    init: Path | None = None,
    content_weight: float = 1.5,
    style_weight: float = 20.0,
    stroke_weight: float = 6.0,
    color_weight: float = 3.0,
    palette_weight: float = 6.0,
    tv_weight: float = 1.0,
    scales: int = 3,
    full: float = 0.75,
    recolored: float = 0.3,
    again: float = 0.0,
    loss_network: str = "compact",
    loss_network_weights: Path | None = None,
    loss_convention: Convention | None = None,
) -> GhiasiTraining:
    """The method with random weights, ready for training.

    Args:
        network, widths, blocks, rows: see :class:`GhiasiConfig`.
        init: a model of the same configuration to start from.
        content_weight, style_weight, stroke_weight, color_weight, palette_weight, tv_weight,
            scales, full, recolored, again: see :class:`GhiasiTraining`.
        loss_network, loss_network_weights, loss_convention: see
            :func:`impasto.backbones.load_backbone`.

    Raises:
        InputError: for options that are unknown or cannot be combined.
    """
    config = GhiasiConfig(network, None if widths is None else tuples(widths), blocks, rows)
    model = GhiasiModel(config, load_backbone(config.encoder))
    if init is not None:
        initial = GhiasiModel.load(init)
        if initial.config != config:
            raise InputError(f"{init}: holds another network ({initial.config}); name another")
        model = initial
    judge = load_backbone(loss_network, loss_network_weights, convention=loss_convention)
    return GhiasiTraining(
        *(model, judge, content_weight, style_weight, stroke_weight, color_weight),
        *(palette_weight, tv_weight, scales, full, recolored, again),
        pretrained=init is not None,
    )


class GhiasiTraining(ModelTraining):
    """Training of the method, see :class:`impasto.training.methods.base.Trainable`.

    A picture's strength is 1, or random in 0..1. It mixes the rows and the target moments of
    photograph and painting; at 0, the target is the photograph itself.

    Args:
        model: the model whose network is trained.
        judge: the loss network.
        content_weight: weight of the content term, at relu3_1.
        style_weight: weight of the Gram term, the mean over relu1_1..relu4_1 and over ``scales``,
            each relative to the mean of the painting's and the photograph's Gram matrices.
        stroke_weight: weight of the relaxed earth mover's distance of relu3_1 and relu4_1 at half
            the size, relative to the photograph's distance: bolder strokes, less hatching.
        color_weight: weight of the covariances of colours.
        palette_weight: weight of the distribution of colours, see
            :func:`impasto.losses.palette_loss`.
        tv_weight: weight of total variation.
        scales: number of scales at which the style is compared: full size, half, and so on.
        full: share of the pictures with strength 1.
        recolored: share of photographs and of paintings that are recoloured, see
            :func:`impasto.color.recolored`.
        again: share of the pictures that train a second pass: the network's result at half the
            size, enlarged, is its input, as in rendering of large pictures (see
            :class:`impasto.methods.feedforward.OnePass`).
        pretrained: the network was trained before, so its code statistics are set.

    Raises:
        InputError: for a layer that does not exist, or a number out of range.
    """

    model: GhiasiModel
    network: Predicted

    def __init__(
        self,
        model: GhiasiModel,
        judge: Backbone,
        content_weight: float,
        style_weight: float,
        stroke_weight: float,
        color_weight: float,
        palette_weight: float,
        tv_weight: float,
        scales: int,
        full: float,
        recolored: float,
        again: float,
        pretrained: bool = False,
    ) -> None:
        for name, share in (("full", full), ("recolored", recolored), ("again", again)):
            check_share(name, share)
        if type(scales) is not int or not 1 <= scales <= 4:
            raise InputError(f"scales = {scales}: must be 1 to 4")
        judge.check([*STYLE_LAYERS, CONTENT_LAYER])
        super().__init__(model)
        self.judge = arranged(judge)
        self.content_weight, self.style_weight = content_weight, style_weight
        self.stroke_weight, self.color_weight = stroke_weight, color_weight
        self.palette_weight, self.tv_weight = palette_weight, tv_weight
        self.scales, self.full, self.recolored, self.again = scales, full, recolored, again
        self.pretrained = pretrained

    @torch.no_grad()
    def start(self, crops: Tensor) -> None:
        """Measure mean and deviation of the style codes of photographs and paintings."""
        if self.pretrained:
            return
        moments = (self.model.measure(part) for part in torch.split(crops, 16))
        codes = [style_code(part) for part in moments]
        self.network.predictor.standardise(torch.cat(codes))

    def to(self, device: torch.device) -> None:
        """Move all networks to ``device``."""
        for net in (self.network, self.judge, self.model.encoder):
            arranged(net, device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """The weighted terms by name.

        Raises:
            InputError: for crops that are too small for the number of scales.
        """
        minimum = 2 ** (self.scales + 2)  # relu4_1 is at an eighth of the size
        if min(contents.shape[-2:]) < minimum:
            raise InputError(
                f"crops of {min(contents.shape[-2:])} px are too small for {self.scales} scales: "
                f"they need {minimum} or more"
            )
        if self.network.training and self.recolored:
            contents = in_other_colors(contents, self.recolored)
            styles = in_other_colors(styles, self.recolored)
        strength = draw_strength(len(contents), self.full, contents.device)
        return self.loss_at(contents, styles, strength)

    def loss_at(self, contents: Tensor, styles: Tensor, strength: Tensor) -> dict[str, Tensor]:
        """As :meth:`loss`, with a given strength of each picture, ``(B,)``."""
        with torch.no_grad():
            moments = [self.model.measure(pictures) for pictures in (contents, styles)]
        content_rows, style_rows = map(self.model.rows, moments)
        mix = content_rows.lerp(style_rows, strength[:, None])
        contents = self._first_pass(contents, mix)
        return self.terms(self.model(contents, mix), contents, styles, strength)

    def terms(
        self,
        out: Tensor,
        contents: Tensor,
        styles: Tensor,
        strength: Tensor,
        style_features: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """The terms of the loss of unclipped results ``out`` for ``contents``.

        Args:
            out, contents: ``(B, 3, H, W)``.
            styles: ``(B or 1, 3, h, w)``.
            strength: ``(B,)``.
            style_features: :meth:`features` of ``styles``, if already computed.
        """
        clipped = out.clamp(0, 1)  # like the final result
        with torch.no_grad():
            content_features = self.features(contents)
            if style_features is None:
                style_features = self.features(styles)

        style, strokes, content = [], [], clipped.new_zeros(())
        by_scale = zip(self.features(clipped), content_features, style_features, strict=True)
        for scale, (result_taps, content_taps, style_taps) in enumerate(by_scale):
            for tap in STYLE_LAYERS:
                content_moments = Moments.of(content_taps[tap])
                target = mixed_moments(content_moments, Moments.of(style_taps[tap]), strength)
                result = Moments.of(result_taps[tap])
                style.append(gram_loss(result, target, content_moments).mean())
            if scale == 0:
                content = content_loss(result_taps[CONTENT_LAYER], content_taps[CONTENT_LAYER])
            if scale == min(1, self.scales - 1):
                strokes = [
                    _stroke_loss(result_taps[tap], content_taps[tap], style_taps[tap], strength)
                    for tap in STROKE_LAYERS
                ]
        directions = F.normalize(torch.randn(3, DIRECTIONS, device=out.device), dim=0)
        result_colors, style_colors, content_colors = (
            F.avg_pool2d(pictures, 4) for pictures in (clipped, styles, contents)
        )
        # Nearest-neighbour sampling equalises the counts of pixels and keeps their colours.
        style_colors = F.interpolate(style_colors, result_colors.shape[-2:])
        palette = palette_loss(
            result_colors, style_colors, content_colors, strength, directions
        ).mean()
        target = mixed_moments(Moments.of(contents), Moments.of(styles), strength)
        color = covariance_loss(Moments.of(clipped), target).mean()
        return {
            "content": self.content_weight * content,
            "style": self.style_weight * torch.stack(style).mean(),
            "strokes": self.stroke_weight * torch.stack(strokes).mean(),
            "color": self.color_weight * color,
            "palette": self.palette_weight * palette,
            "tv": self.tv_weight * total_variation(clipped),
            "range": RANGE_WEIGHT * range_loss(out),
        }

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        return self.model(contents, self.model.rows(self.model.measure(styles))).clamp(0, 1)

    @torch.no_grad()
    def _first_pass(self, contents: Tensor, mix: Tensor) -> Tensor:
        """``contents``, some of them replaced by a first pass at half the size, enlarged."""
        if not self.again:
            return contents
        # The maximum count is computed on the host; a mask on the device avoids a synchronisation.
        count = math.ceil(self.again * len(contents))
        order, chance = torch.rand(2, len(contents), device=contents.device)
        chosen = order.argsort()[:count]
        replaced = chance[:count] < self.again * len(contents) / count
        results = self.model(F.avg_pool2d(contents[chosen], 2), mix[chosen]).clamp(0, 1)
        torch.clear_autocast_cache()  # otherwise the next pass has no gradients (pytorch#158232)
        enlarged = F.interpolate(results, contents.shape[-2:], mode="bicubic").clamp(0, 1)
        inputs = contents.clone()
        mask = replaced[:, None, None, None]
        inputs[chosen] = torch.where(mask, enlarged.to(inputs), inputs[chosen])
        return inputs

    def features(self, pictures: Tensor) -> list[dict[str, Tensor]]:
        """Features of ``pictures`` at all layers of the loss, for every scale."""
        layers = {*STYLE_LAYERS, CONTENT_LAYER, *STROKE_LAYERS}
        by_scale = [self.judge(pictures, layers)]
        for _ in range(1, self.scales):
            pictures = F.avg_pool2d(pictures, 2)
            by_scale.append(self.judge(pictures, layers))
        return by_scale


def _stroke_loss(result: Tensor, content: Tensor, style: Tensor, strength: Tensor) -> Tensor:
    """The remaining share of the photograph's distance to the painting, above ``1 - strength``."""
    with torch.no_grad():
        distance = relaxed_emd(content, style).clamp_min(NEAR)
    return F.relu(relaxed_emd(result, style) / distance - (1 - strength)).mean()
