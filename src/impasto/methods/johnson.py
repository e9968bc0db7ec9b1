"""One network for a few paintings, learnt once: any photograph in one fast pass.

Johnson, Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
ECCV 2016; papers 1 and 4. As in Dumoulin et al., "A Learned Representation for Artistic Style",
ICLR 2017, one network serves several paintings, each with its own scales and shifts in the
normalisations; the photograph itself counts as one of them, so that strength, and several styles by
weights, are mixtures of rows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbones import Backbone, load_backbone
from ..color import recolored as in_other_colors
from ..device import arranged
from ..errors import InputError, check_finite, check_share
from ..images import Source, read
from ..losses import content_loss, covariance_loss, gram_loss, range_loss, total_variation
from ..networks.transformer import AMOUNT, Kind, Transformer
from ..operators.degrid import degrid
from ..statistics import Moments
from ..styles import LearntStyle, StoredStyle, check_list, reduce, style_shares
from ..tensors import read_header
from .onepass import Model, OnePass, bundled, tuples

__all__ = ["Johnson", "JohnsonConfig", "JohnsonTraining"]

# Style layers and content layer: of VGG-16 those of paper 4, of the others what is nearest.
LAYERS = {
    "vgg16": (("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "relu2_2"),
    "vgg19": (("relu1_1", "relu2_1", "relu3_1", "relu4_1"), "relu3_1"),
    "compact": (("relu1_1", "relu2_1", "relu3_1", "relu4_1"), "relu3_1"),
}

RANGE_WEIGHT = 1e3  # only to bring pixels back: what lies outside is not seen

FILES: dict[str, Path] = {
    "residual": bundled("johnson"),
    "bottleneck": bundled("johnson-bottleneck"),
}


def learnt_names(kind: Kind = "residual") -> list[str]:
    """Names of the paintings that the bundled network has learnt, by its file's header alone."""
    return list(json.loads(read_header(FILES[kind])["config"])["styles"])


@dataclass(frozen=True)
class JohnsonConfig:
    """What the network is; stands in the header of a model file.

    Attributes:
        styles: names of the paintings that it has learnt.
        colors: of each, mean (3 numbers) and raw second moment (9) of its RGB pixels.
        kind, widths, blocks, expansion, noise: see
            :class:`impasto.networks.transformer.Transformer`.
    """

    styles: tuple[str, ...]
    colors: tuple[tuple[float, ...], ...]
    kind: Kind = "residual"
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 5
    expansion: float = 1
    noise: bool = False


class _Model(Model):
    """The network; row 0 of its normalisations is the photograph itself."""

    method = "johnson"
    learns_from = "photographs and the paintings named"
    Config = JohnsonConfig
    config: JohnsonConfig
    network: Transformer

    def build(self) -> Transformer:
        """See :class:`JohnsonConfig`."""
        config = self.config
        if not config.styles or len(set(config.styles)) < len(config.styles):
            raise InputError("name one painting or several, each with a name of its own")
        if list(map(len, config.colors)) != [12] * len(config.styles):
            raise ValueError("colours")
        rows = 1 + len(config.styles)
        shape = (config.kind, config.widths, config.blocks, config.expansion)
        return Transformer(*shape, rows, config.noise)

    def __call__(self, contents: Tensor, shares: Tensor, strength: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, of the contents' size.

        Args:
            contents: ``(B, 3, H, W)`` in 0..1.
            shares: of the styles, ``(B or 1, styles)``, rows sum to one.
            strength: ``(B or 1,)``.
        """
        painted = strength[:, None] * shares
        mix = torch.cat([(1 - strength[:, None]).expand(len(painted), 1), painted], 1)
        out: Tensor = self.network(contents, mix).float()
        return out

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """The last layer's: its input at the picture's size, several times over, and its output."""
        full, half, _ = self.config.widths
        times = 6.3 if self.config.kind == "bottleneck" else 4.2
        return torch.finfo(dtype).bits / 8 * (times * half + full)


class Johnson(OnePass):
    """A few paintings, learnt once: one fast pass (Johnson et al. 2016).

    Args:
        model: a file made by ``impasto train johnson``; None takes the bundled one of the ``kind``.
        kind: ``residual`` (paper 4) or ``bottleneck`` (paper 1); None takes what the file holds,
            and of the bundled ones the residual.
        noise: how much of it comes in beside the photograph, 0 or more, if the model was trained
            with it: more gives flat areas stronger strokes, and spots at last. See ``amount`` of
            :class:`impasto.networks.transformer.Transformer`.
        degrid: take away what repeats from cell to cell where the photograph is flat, see
            :func:`impasto.operators.degrid.degrid`; a cell is a pixel of the quarter size.
        brush: size of the strokes relative to the picture, see
            :class:`impasto.methods.onepass.OnePass`.
        device, precision: see :mod:`impasto.device`.

    Attributes:
        learnt: name -> the style, of every painting that the model has learnt. :meth:`prepare`
            takes these and their names, and no other painting.

    Raises:
        InputError: for a file that is no such model, or not of the kind.
    """

    photographs_alone = True  # beside the paintings to learn
    model: _Model

    def __init__(
        self,
        model: Path | None = None,
        kind: Kind | None = None,
        noise: float = AMOUNT,
        degrid: bool = True,
        brush: float | None = 1.0,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if kind not in (None, *FILES):
            raise InputError(f"kind {kind!r} is unknown: use {' or '.join(FILES)}")
        check_finite("noise", noise)
        if noise < 0:
            raise InputError(f"noise is {noise}: must be 0 or more")
        if model is None:
            model = FILES[kind or "residual"]
        loaded = _Model.load(model)
        if kind not in (None, loaded.config.kind):
            raise InputError(f"{model}: holds a {loaded.config.kind} network, not a {kind} one")
        given = {"kind": loaded.config.kind, "noise": noise, "degrid": degrid}
        super().__init__(loaded, brush, device, precision, **given)
        self.model.network.amount = noise
        self.degrid = degrid
        config = self.model.config
        self.learnt = {
            name: LearntStyle(name, _moments(color))
            for name, color in zip(config.styles, config.colors, strict=True)
        }

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle],
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """Shares of the learnt styles, ``(1, styles)``.

        Raises:
            InputError: for a style that the model has not learnt, or weights that do not fit.
        """
        check_list(styles)
        shares = torch.zeros(1, len(self.learnt), dtype=torch.float32, device="cpu")
        for style, share in zip(styles, style_shares(len(styles), weights), strict=True):
            shares[0, list(self.learnt).index(self.find(style).name)] += share
        return shares

    def colors(self, style: Tensor) -> Moments:
        """See :class:`OnePass`."""
        if not isinstance(style, Tensor) or style.shape != (1, len(self.learnt)):
            raise InputError(
                f"style: a {type(style).__name__} where a prepared style belongs: give what "
                "prepare([NAME]) of method johnson returns, or use impasto.stylize()"
            )
        return Moments.mix([known.color for known in self.learnt.values()], style[0].tolist())

    def find(self, style: object) -> LearntStyle:
        """A learnt style by its name; InputError for another."""
        if isinstance(style, LearntStyle) and not style.method:
            style = style.name
        name = str(style) if isinstance(style, (str, Path)) else "a picture"
        if name in self.learnt:
            return self.learnt[name]
        close = difflib.get_close_matches(name, self.learnt, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(self.learnt)};"
        raise InputError(
            f"{name}: method johnson paints what {self.model.name} has learnt alone: {hint} for "
            "another painting use method ghiasi, or `impasto train johnson --style PAINTING`"
        )

    def render(self, pictures: Tensor, style: Tensor, strength: float) -> Tensor:
        """See :class:`OnePass`. Below strength 1, the share that the network loses is put back."""
        shares, by = style.to(self.device), pictures.new_tensor([strength])
        out = self.model(pictures, shares, by)
        if strength < 1:
            out = out + (1 - strength) * (pictures - self.model(pictures, shares, 0 * by))
        return degrid(out.clamp_(0, 1), pictures) if self.degrid else out

    @staticmethod
    def untrained(
        styles: Sequence[Path] = (),
        style_size: int = 256,
        kind: Kind = "residual",
        widths: Sequence[int] = JohnsonConfig.widths,
        blocks: int = JohnsonConfig.blocks,
        expansion: float = JohnsonConfig.expansion,
        noise: bool = True,
        content_weight: float = 1.0,
        style_weight: float = 20.0,
        color_weight: float = 3.0,
        tv_weight: float = 1.0,
        full: float = 0.75,
        recolored: float = 0.0,
        style_layers: Sequence[str] | None = None,
        content_layer: str | None = None,
        loss_network: str = "compact",
        loss_weights: Path | None = None,
        loss_convention: str | None = None,
    ) -> JohnsonTraining:
        """The method in training, with random weights.

        Args:
            styles: paintings to learn; their names are those of the files, without the ending.
            style_size: short side in pixels to which they are reduced: larger makes larger
                strokes.
            kind, widths, blocks, expansion, noise: see :class:`JohnsonConfig`.
            content_weight, style_weight, color_weight, tv_weight, full, recolored: see
                :class:`JohnsonTraining`.
            style_layers, content_layer: None takes those of paper 4 for VGG-16, relu1_1..relu4_1
                and relu3_1 for others.
            loss_network, loss_weights, loss_convention: see
                :func:`impasto.backbones.load_backbone`.

        Raises:
            InputError: for options that do not exist or do not go together, and paintings that
                cannot be read.
        """
        if not styles:
            raise InputError("name one painting or several to learn: --style PAINTING")
        if style_size < 32:
            raise InputError(f"style_size is {style_size}: must be 32 pixels or more")
        paintings = {Path(path).stem: reduce(read(path).rgb, style_size) for path in styles}
        if len(paintings) < len(styles):
            raise InputError("two paintings have the same name: rename one")
        moments = [Moments.of(painting.double()).normalised() for painting in paintings.values()]
        colors = [[*m.first.tolist(), *m.second.flatten().tolist()] for m in moments]
        names, shape = tuple(paintings), (kind, tuples(widths), blocks, expansion, noise)
        config = JohnsonConfig(names, tuples(colors), *shape)
        judge = load_backbone(loss_network, loss_weights, convention=loss_convention)
        default = LAYERS.get(judge.name, LAYERS["compact"])
        return JohnsonTraining(
            _Model(config),
            judge,
            list(paintings.values()),
            content_weight,
            style_weight,
            color_weight,
            tv_weight,
            full,
            recolored,
            default[0] if style_layers is None else style_layers,
            content_layer or default[1],
        )


class JohnsonTraining:
    """The method as training sees it, see :class:`impasto.methods.base.Trainable`.

    Every picture of a batch gets a style at random, and a strength: 1, or anything between 0 and 1.
    The statistics aimed at are mixed accordingly, as :class:`impasto.methods.gatys.Gatys` mixes
    them; at 0 the photograph itself is what is wanted.

    Args:
        model: with a network to train.
        judge: the loss network.
        paintings: ``(3, H, W)`` each, at the size at which their strokes are wanted.
        content_weight, style_weight, color_weight, tv_weight: of the terms. The first three are
            relative to their targets, so that one default serves every painting. Colour is the
            style loss of the pixels themselves, with covariances, as Gram matrices would let a
            clear sky become a bare wall of one colour.
        full: share of the pictures with strength 1.
        recolored: share of the photographs that are seen in other colours, see
            :func:`impasto.color.recolored`: few of a small set have a deep blue sky.
        style_layers, content_layer: of ``judge``.

    Raises:
        InputError: for a layer that does not exist, or a share out of range.
    """

    def __init__(
        self,
        model: _Model,
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
    ) -> None:
        if not style_layers:
            raise InputError("style_layers: name at least one")
        check_share("full", full)
        check_share("recolored", recolored)
        judge.check([*style_layers, content_layer])
        self.model, self.network = model, model.network
        self.judge = arranged(judge)
        self.content_weight, self.style_weight = content_weight, style_weight
        self.color_weight, self.tv_weight = color_weight, tv_weight
        self.full, self.recolored = full, recolored
        self.style_layers, self.content_layer = tuple(style_layers), content_layer
        self.layers = {*style_layers, content_layer}
        self.columns = len(paintings)
        with torch.no_grad():
            each = [self.judge(painting[None], self.style_layers) for painting in paintings]
        self.aims = {tap: _stacked([f[tap][0] for f in each]) for tap in self.style_layers}
        self.colors = _stacked(paintings)

    def start(self, crops: Tensor) -> None:
        """There is none in closed form."""

    def to(self, device: torch.device) -> None:
        """Move both networks and the paintings' statistics to ``device``."""
        arranged(self.network, device)
        arranged(self.judge, device)
        self.aims = {tap: aim.to(device) for tap, aim in self.aims.items()}
        self.colors = self.colors.to(device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """Its terms by name, weighted; ``styles`` is not used."""
        if self.network.training and self.recolored:
            contents = in_other_colors(contents, self.recolored)
        count = len(contents)
        chosen = torch.randint(len(self.model.config.styles), (count,)).to(contents.device)
        drawn = torch.rand(2, count).to(contents.device)
        strength = torch.where(drawn[0] < self.full, 1.0, drawn[1])
        return self.loss_at(contents, chosen, strength)

    def loss_at(self, contents: Tensor, chosen: Tensor, strength: Tensor) -> dict[str, Tensor]:
        """As :meth:`loss`, with the number of each picture's style and its strength, ``(B,)``."""
        with torch.no_grad():
            wanted = self.judge(contents, self.layers)
        out = self.model(contents, self._shares(chosen), strength)
        clipped = out.clamp(0, 1)  # as the result will be
        seen = self.judge(clipped, self.layers)

        def aim(own: Tensor, styles: Moments) -> Moments:
            """The photograph's moments and its style's, mixed by the strength."""
            here, by = Moments.of(own), strength[:, None]
            mean = here.mean.lerp(styles.first[chosen], by)
            gram = here.gram.lerp(styles.second[chosen], by[..., None])
            return Moments(torch.ones_like(strength), mean, gram)

        terms = [
            gram_loss(Moments.of(seen[tap]), aim(wanted[tap], self.aims[tap])).mean()
            for tap in self.style_layers
        ]
        color = covariance_loss(Moments.of(clipped), aim(contents, self.colors)).mean()
        content = content_loss(seen[self.content_layer], wanted[self.content_layer])
        return {
            "content": self.content_weight * content,
            "style": self.style_weight * torch.stack(terms).mean(),
            "color": self.color_weight * color,
            "tv": self.tv_weight * total_variation(clipped),
            "range": RANGE_WEIGHT * range_loss(out),
        }

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1, in one learnt style after another."""
        chosen = torch.arange(len(contents), device=contents.device)
        shares = self._shares(chosen % len(self.model.config.styles))
        return self.model(contents, shares, shares.new_ones(1)).clamp(0, 1)

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """See :meth:`impasto.methods.onepass.Model.save`."""
        self.model.save(path, figures)

    def _shares(self, chosen: Tensor) -> Tensor:
        count = len(self.model.config.styles)
        return F.one_hot(chosen, count).to(torch.float32)


def _moments(color: Sequence[float]) -> Moments:
    values = torch.tensor(color, dtype=torch.float64, device="cpu")
    return Moments(values.new_ones(()), values[:3], values[3:].reshape(3, 3))


def _stacked(pictures: Sequence[Tensor]) -> Moments:
    """Normalised moments of several pictures' features ``(C, H, W)``, one after another."""
    each = [Moments.of(picture).normalised() for picture in pictures]
    first, second = ([getattr(m, name) for m in each] for name in ("first", "second"))
    return Moments(torch.ones(len(each)), torch.stack(first), torch.stack(second))
