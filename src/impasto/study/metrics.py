"""How near a result is to its style and to its content, by a judge that may be another backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backbones.vgg import VGG
from ..statistics import Moments

__all__ = ["relative_gram_distance"]

JUDGED = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")


@torch.no_grad()
def relative_gram_distance(
    judge: VGG,
    out: Tensor,
    content: Tensor,
    style: Tensor,
    taps: Sequence[str] = JUDGED,
) -> dict[str, float]:
    """``|G(out) - G(style)|^2 / |G(content) - G(style)|^2`` for every tap.

    0 for the style's Gram matrices, 1 for the content left as it is.

    Args:
        judge: a backbone in float32.
        out, content, style: ``(3, H, W)`` in 0..1, of any sizes.
        taps: layers to judge.

    Returns:
        The distance by tap; their mean is the figure that the README quotes.
    """

    def grams(picture: Tensor) -> dict[str, Tensor]:
        features = judge(picture[None], taps)
        return {tap: Moments.of(features[tap][0]).gram for tap in taps}

    ours, before, aim = grams(out), grams(content), grams(style)
    return {
        tap: float((ours[tap] - aim[tap]).square().sum() / (before[tap] - aim[tap]).square().sum())
        for tap in taps
    }
