"""The learning half of :mod:`impasto.methods.ghiasi`."""

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
from ...methods.ghiasi import GhiasiConfig, GhiasiModel, Kind, style_code
from ...methods.model import tuples
from ...networks.painter import Predicted
from ...statistics import Moments
from .base import RANGE_WEIGHT, ModelTraining, aim, draw_strength

__all__ = ["GhiasiTraining", "untrained"]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
CONTENT_LAYER = "relu3_1"
STROKE_LAYERS = ("relu3_1", "relu4_1")
NEAR = 0.02  # a photograph as near to the painting as this does not count in full
DIRECTIONS = 12  # of the colour space, in which palettes are compared


def untrained(
    kind: Kind = "residual",
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
    loss_weights: Path | None = None,
    loss_convention: str | None = None,
) -> GhiasiTraining:
    """The method in training, with random weights.

    Args:
        kind, widths, blocks, rows: see :class:`GhiasiConfig`.
        init: a model to go on from; of the same kind.
        content_weight, style_weight, stroke_weight, color_weight, palette_weight, tv_weight,
            scales, full, recolored, again: see :class:`GhiasiTraining`.
        loss_network, loss_weights, loss_convention: see
            :func:`impasto.backbones.load_backbone`.

    Raises:
        InputError: for options that do not exist or do not go together.
    """
    config = GhiasiConfig(kind, None if widths is None else tuples(widths), blocks, rows)
    model = GhiasiModel(config, load_backbone(config.encoder))
    if init is not None:
        before = GhiasiModel.load(init)
        if before.config != config:
            raise InputError(f"{init}: holds another network ({before.config}); name another")
        model = before
    judge = load_backbone(loss_network, loss_weights, convention=loss_convention)
    return GhiasiTraining(
        *(model, judge, content_weight, style_weight, stroke_weight, color_weight),
        *(palette_weight, tv_weight, scales, full, recolored, again),
        begun=init is not None,
    )


class GhiasiTraining(ModelTraining):
    """The method as training sees it, see :class:`impasto.training.methods.base.Trainable`.

    A picture's strength is 1, or anything between 0 and 1: rows and what is aimed at are mixed
    accordingly, and at 0 the photograph itself is what is wanted.

    Args:
        model: with a network to train.
        judge: the loss network.
        content_weight: of the content term, at relu3_1.
        style_weight: of the Gram term, the mean over relu1_1..relu4_1 and over ``scales``, each
            relative to the mean of the painting's and the photograph's own.
        stroke_weight: of the relaxed earth mover's distance of relu3_1 and relu4_1 at half the
            size, as a share of the photograph's own distance: bolder strokes, less hatching.
        color_weight: of the covariances of colours.
        palette_weight: of their whole distribution, see :func:`impasto.losses.palette_loss`.
        tv_weight: of total variation.
        scales: at which the style is compared: the picture, it halved, and so on.
        full: share of the pictures with strength 1.
        recolored: share of photographs and of paintings that are seen in other colours, see
            :func:`impasto.color.recolored`.
        again: share of the pictures that are a second pass: what the network has made of the
            photograph at half the size, enlarged, is painted once more, as large pictures are (see
            :class:`impasto.methods.feedforward.OnePass`).
        begun: the network has learnt before, and knows how codes are spread.

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
        begun: bool = False,
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
        self.begun = begun

    @torch.no_grad()
    def start(self, crops: Tensor) -> None:
        """Measure how codes are spread, over photographs and paintings."""
        if self.begun:
            return
        each = [self.model.measure(part) for part in torch.split(crops, 16)]
        codes = [style_code(moments) for moments in each]
        self.network.predictor.standardise(torch.cat(codes))

    def to(self, device: torch.device) -> None:
        """Move all networks to ``device``."""
        for net in (self.network, self.judge, self.model.encoder):
            arranged(net, device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """Its terms by name, weighted.

        Raises:
            InputError: for crops that are too small for so many scales.
        """
        least = 2 ** (self.scales + 2)  # relu4_1 is at an eighth of the size
        if min(contents.shape[-2:]) < least:
            raise InputError(
                f"crops of {min(contents.shape[-2:])} px are too small for {self.scales} scales: "
                f"they need {least} or more"
            )
        if self.network.training and self.recolored:
            contents = in_other_colors(contents, self.recolored)
            styles = in_other_colors(styles, self.recolored)
        strength = draw_strength(len(contents), self.full, contents.device)
        return self.loss_at(contents, styles, strength)

    def loss_at(self, contents: Tensor, styles: Tensor, strength: Tensor) -> dict[str, Tensor]:
        """As :meth:`loss`, with each picture's strength, ``(B,)``."""
        with torch.no_grad():
            codes = [self.model.measure(x) for x in (contents, styles)]
        rows, painted = map(self.model.rows, codes)
        mix = rows.lerp(painted, strength[:, None])
        contents = self._passed(contents, mix)
        return self.terms(self.model(contents, mix), contents, styles, strength)

    def terms(
        self,
        out: Tensor,
        contents: Tensor,
        styles: Tensor,
        strength: Tensor,
        judged: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """The terms of results ``out``, not clipped, that were made of ``contents``.

        Args:
            out, contents: ``(B, 3, H, W)``.
            styles: ``(B or 1, 3, h, w)``.
            strength: ``(B,)``.
            judged: :meth:`judge_all` of ``styles``, if it is known.
        """
        clipped = out.clamp(0, 1)  # as the result will be
        with torch.no_grad():
            owned = self.judge_all(contents)
            wanted = self.judge_all(styles) if judged is None else judged

        style, strokes, content = [], [], clipped.new_zeros(())
        each = zip(self.judge_all(clipped), owned, wanted, strict=True)
        for scale, (seen, before, after) in enumerate(each):
            for tap in STYLE_LAYERS:
                here, there = Moments.of(before[tap]), Moments.of(after[tap])
                target = aim(here, there, strength)
                style.append(gram_loss(Moments.of(seen[tap]), target, here).mean())
            if scale == 0:
                content = content_loss(seen[CONTENT_LAYER], before[CONTENT_LAYER])
            if scale == min(1, self.scales - 1):
                strokes = [_strokes(seen[t], before[t], after[t], strength) for t in STROKE_LAYERS]
        directions = F.normalize(torch.randn(3, DIRECTIONS, device=out.device), dim=0)
        ours, theirs, own = (F.avg_pool2d(x, 4) for x in (clipped, styles, contents))
        theirs = F.interpolate(theirs, ours.shape[-2:])  # as many pixels of the same colours
        palette = palette_loss(ours, theirs, own, strength, directions).mean()
        target = aim(Moments.of(contents), Moments.of(styles), strength)
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
    def _passed(self, contents: Tensor, mix: Tensor) -> Tensor:
        """``contents``, some of them after a first pass at half the size, enlarged."""
        if not self.again:
            return contents
        # As many at most as the device may draw: nobody waits to be told how many it has drawn.
        count = math.ceil(self.again * len(contents))
        drawn = torch.rand(2, len(contents), device=contents.device)
        chosen = drawn[0].argsort()[:count]
        kept = drawn[1, :count] < self.again * len(contents) / count
        first = self.model(F.avg_pool2d(contents[chosen], 2), mix[chosen]).clamp(0, 1)
        torch.clear_autocast_cache()  # else the next pass has no gradients (pytorch#158232)
        large = F.interpolate(first, contents.shape[-2:], mode="bicubic").clamp(0, 1)
        out = contents.clone()
        out[chosen] = torch.where(kept[:, None, None, None], large.to(out), out[chosen])
        return out

    def judge_all(self, pictures: Tensor) -> list[dict[str, Tensor]]:
        """Features of ``pictures`` at all layers that losses look at, for every scale."""
        layers = {*STYLE_LAYERS, CONTENT_LAYER, *STROKE_LAYERS}
        by_scale = [self.judge(pictures, layers)]
        for _ in range(1, self.scales):
            pictures = F.avg_pool2d(pictures, 2)
            by_scale.append(self.judge(pictures, layers))
        return by_scale


def _strokes(seen: Tensor, own: Tensor, theirs: Tensor, strength: Tensor) -> Tensor:
    """What is left of the photograph's distance to the painting, beyond what strength leaves."""
    with torch.no_grad():
        away = relaxed_emd(own, theirs).clamp_min(NEAR)
    return F.relu(relaxed_emd(seen, theirs) / away - (1 - strength)).mean()
