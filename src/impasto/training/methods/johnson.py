"""Training of :mod:`impasto.methods.johnson`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...backbones import Backbone, load_backbone
from ...color import recolored as in_other_colors
from ...device import arranged
from ...errors import InputError, check_share, spelled
from ...images import read
from ...losses import content_loss, covariance_loss, gram_loss, range_loss, total_variation
from ...methods.johnson import JohnsonConfig, JohnsonModel
from ...methods.model import tuples
from ...methods.records.base import Convention
from ...networks.transformer import Network, Transformer
from ...options import was
from ...statistics import Moments
from ...styles import reduce
from .base import RANGE_WEIGHT, ModelTraining, draw_strength, mixed_moments
from .published import Losses, Published, settle

__all__ = ["JohnsonTraining", "untrained"]

OURS = {
    "content_weight": 1.0,
    "style_weight": 20.0,
    "color_weight": 3.0,
    "tv_weight": 1.0,
    "full": 0.75,
}
# Style layers and content layer: those of report 4 for VGG-16, similar ones for the others. It
# names no content layer. Johnson et al. (2016) take relu3_3; PyTorch's example, whose weights 1e5
# and 1e10 report 4 has, takes relu2_2, and the weights are only good with their layer.
LAYERS = {
    "vgg16": (("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "relu2_2"),
    "vgg19": (("relu1_1", "relu2_1", "relu3_1", "relu4_1"), "relu3_1"),
    "compact": (("relu1_1", "relu2_1", "relu3_1", "relu4_1"), "relu3_1"),
}


@was(network="kind", loss_network_weights="loss_weights")
def untrained(
    styles: Sequence[Path] = (),
    style_size: int = 256,
    network: Network = "residual",
    widths: Sequence[int] = JohnsonConfig.widths,
    blocks: int = JohnsonConfig.blocks,
    expansion: float = JohnsonConfig.expansion,
    noise: bool = True,
    losses: Losses = "relative",
    report: int | None = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    color_weight: float | None = None,
    tv_weight: float | None = None,
    full: float | None = None,
    recolored: float = 0.0,
    style_layers: Sequence[str] | None = None,
    content_layer: str | None = None,
    loss_network: str = "compact",
    loss_network_weights: Path | None = None,
    loss_convention: Convention | None = None,
) -> JohnsonTraining:
    """The method with random weights, ready for training.

    Args:
        styles: paintings to learn; their names are the file names without the suffix.
        style_size: short side in pixels to which they are reduced: a larger value makes larger
            strokes.
        network, widths, blocks, expansion, noise: see :class:`JohnsonConfig`.
        losses: ``relative`` (ours), or ``published``: those of ``report`` 4, which is the default,
            or 1 (Eq. 1 to 3); see :mod:`impasto.training.methods.published`. Their weights belong
            to torchvision's VGG-16, whose activations are then left as they are.
        report: see ``losses``.
        content_weight, style_weight, color_weight, tv_weight, full, recolored: see
            :class:`JohnsonTraining`. None for 1, 20, 3, 1 and 0.75, or as published.
        style_layers, content_layer: None uses those of report 4 for VGG-16, relu1_1..relu4_1 and
            relu3_1 for others.
        loss_network, loss_network_weights, loss_convention: see
            :func:`impasto.backbones.load_backbone`.

    Raises:
        InputError: for options that are unknown or cannot be combined, and paintings that cannot
            be read.
    """
    if not styles:
        raise InputError(
            f"name one painting or several to learn: {spelled('styles', ['PAINTING'], 'style')}",
            option="styles",
        )
    if style_size < 32:
        raise InputError(f"style_size is {style_size}: must be 32 pixels or more")
    paintings = {Path(path).stem: reduce(read(path).rgb, style_size) for path in styles}
    if len(paintings) < len(styles):
        raise InputError("two paintings have the same name: rename one")
    moments = [Moments.of(painting.double()).normalised() for painting in paintings.values()]
    colors = [[*m.first.tolist(), *m.second.flatten().tolist()] for m in moments]
    names, shape = tuple(paintings), (network, tuples(widths), blocks, expansion, noise)
    config = JohnsonConfig(names, tuples(colors), *shape)
    weights = {"content_weight": content_weight, "style_weight": style_weight}
    weights |= {"color_weight": color_weight, "tv_weight": tv_weight, "full": full}
    only_ours = {"color_weight": color_weight, "full": full, "recolored": recolored}
    published, chosen, resolved = settle("johnson", losses, report, weights, OURS, only_ours)
    judge = load_backbone(
        loss_network, loss_network_weights, convention=loss_convention, normalise=published is None
    )
    default = LAYERS.get(loss_network, LAYERS["compact"])
    training = JohnsonTraining(
        JohnsonModel(config),
        judge,
        list(paintings.values()),
        **chosen,
        recolored=recolored,
        style_layers=default[0] if style_layers is None else style_layers,
        content_layer=content_layer or default[1],
        published=published,
    )
    training.resolved = resolved
    return training


class JohnsonTraining(ModelTraining):
    """Training of the method, see :class:`impasto.training.methods.base.Trainable`.

    Every picture of a batch gets a random style and a strength, which is 1 or random in 0..1. It
    mixes the target moments of photograph and painting, as in
    :class:`impasto.methods.gatys.Gatys`; at 0, the target is the photograph itself.

    Args:
        model: the model whose network is trained.
        judge: the loss network.
        paintings: ``(3, H, W)`` each, at the size that sets the size of the strokes.
        content_weight, style_weight, color_weight, tv_weight: weights of the terms. The first three
            terms are relative to their targets, so that one default suits every painting. The
            colour term is the style loss of the pixels, with covariances: Gram matrices would turn
            a clear sky into a flat area of one colour.
        full: share of the pictures with strength 1.
        recolored: share of the photographs that are recoloured, see
            :func:`impasto.color.recolored`: a small set has few deep blue skies.
        style_layers, content_layer: layers of ``judge``.
        published: the losses of a report, instead of ours.

    Raises:
        InputError: for a layer that does not exist, or a share out of range.
    """

    model: JohnsonModel
    network: Transformer

    def __init__(
        self,
        model: JohnsonModel,
        judge: Backbone,
        paintings: Sequence[Tensor],
        content_weight: float,
        style_weight: float,
        color_weight: float,
        tv_weight: float,
        full: float,
        recolored: float,
        style_layers: Sequence[str],
        content_layer: str,
        published: Published | None = None,
    ) -> None:
        if not style_layers:
            raise InputError("style_layers: name at least one")
        check_share("full", full)
        check_share("recolored", recolored)
        judge.check([*style_layers, content_layer])
        super().__init__(model)
        self.judge = arranged(judge)
        self.content_weight, self.style_weight = content_weight, style_weight
        self.color_weight, self.tv_weight = color_weight, tv_weight
        self.full, self.recolored, self.published = full, recolored, published
        self.style_layers, self.content_layer = tuple(style_layers), content_layer
        self.layers = {*style_layers, content_layer}
        self.columns = len(paintings)
        with torch.no_grad():
            features = [self.judge(painting[None], self.style_layers) for painting in paintings]
        self.style_moments = {
            tap: _stacked([layers[tap][0] for layers in features]) for tap in self.style_layers
        }
        self.colors = _stacked(paintings)

    def to(self, device: torch.device) -> None:
        """Move both networks and the paintings' statistics to ``device``."""
        arranged(self.network, device)
        arranged(self.judge, device)
        self.style_moments = {
            tap: moments.to(device) for tap, moments in self.style_moments.items()
        }
        self.colors = self.colors.to(device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """The weighted terms by name; ``styles`` is not used."""
        if self.network.training and self.recolored:
            contents = in_other_colors(contents, self.recolored)
        count = len(contents)
        style_count = len(self.model.config.styles)
        chosen = torch.randint(style_count, (count,), device=contents.device)
        return self.loss_at(contents, chosen, draw_strength(count, self.full, contents.device))

    def loss_at(self, contents: Tensor, chosen: Tensor, strength: Tensor) -> dict[str, Tensor]:
        """As :meth:`loss`, with the index of each picture's style and its strength, ``(B,)``."""
        out = self.model(contents, self._shares(chosen), strength)
        if self.published is not None:
            return self._published_loss(self.published, contents, chosen, out)
        with torch.no_grad():
            content_features = self.judge(contents, self.layers)
        clipped = out.clamp(0, 1)  # like the final result
        result_features = self.judge(clipped, self.layers)

        def target(features: Tensor, styles: Moments) -> Moments:
            parts = (part[chosen] for part in (styles.weight, styles.first, styles.second))
            return mixed_moments(Moments.of(features), Moments(*parts), strength)

        style = [
            gram_loss(
                Moments.of(result_features[tap]),
                target(content_features[tap], self.style_moments[tap]),
            ).mean()
            for tap in self.style_layers
        ]
        color = covariance_loss(Moments.of(clipped), target(contents, self.colors)).mean()
        layer = self.content_layer
        content = content_loss(result_features[layer], content_features[layer])
        return {
            "content": self.content_weight * content,
            "style": self.style_weight * torch.stack(style).mean(),
            "color": self.color_weight * color,
            "tv": self.tv_weight * total_variation(clipped),
            "range": RANGE_WEIGHT * range_loss(out),
        }

    def _published_loss(
        self, published: Published, contents: Tensor, chosen: Tensor, out: Tensor
    ) -> dict[str, Tensor]:
        layer = self.content_layer
        with torch.no_grad():
            target = self.judge(contents, [layer])[layer]
        features = self.judge(out, self.layers)

        def style_loss(tap: str) -> Tensor:
            styles = self.style_moments[tap]
            parts = (part[chosen] for part in (styles.weight, styles.first, styles.second))
            return published.style(Moments.of(features[tap]), Moments(*parts))

        style = torch.stack([style_loss(tap) for tap in self.style_layers])
        content = published.content(features[layer], target)
        terms = {
            "content": self.content_weight * content,
            "style": self.style_weight * (style.mean() if published.mean else style.sum()),
        }
        if self.tv_weight:
            terms["tv"] = self.tv_weight * total_variation(out)
        return terms

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1, cycling through the learnt styles."""
        chosen = torch.arange(len(contents), device=contents.device)
        shares = self._shares(chosen % len(self.model.config.styles))
        return self.model(contents, shares, shares.new_ones(1)).clamp(0, 1)

    def _shares(self, chosen: Tensor) -> Tensor:
        count = len(self.model.config.styles)
        return F.one_hot(chosen, count).to(torch.float32)


def _stacked(pictures: Sequence[Tensor]) -> Moments:
    """Normalised moments of several pictures' features ``(C, H, W)``, stacked."""
    moments = [Moments.of(picture).normalised() for picture in pictures]
    first = torch.stack([picture.first for picture in moments])
    second = torch.stack([picture.second for picture in moments])
    return Moments(torch.ones(len(moments)), first, second)
