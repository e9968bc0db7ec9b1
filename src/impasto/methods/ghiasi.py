"""Any style in one pass, painted: a network like Johnson's whose normalisations are predicted.

Ghiasi, Lee, Kudlur, Dumoulin & Shlens, "Exploring the structure of a real-time, arbitrary neural
artistic stylization network", BMVC 2017. Johnson's network paints because all of it is trained to;
Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017, find that the scales and
shifts of its normalisations tell one painting from another. A second network predicts these from
the painting, so that one training serves every painting, also those that it has never seen.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..backbones import Backbone, load_backbone
from ..color import recolored as in_other_colors
from ..device import arranged
from ..errors import InputError, check_finite, check_share
from ..images import MIN_SIDE, Source
from ..losses import (
    content_loss,
    covariance_loss,
    gram_loss,
    palette_loss,
    range_loss,
    relaxed_emd,
    total_variation,
)
from ..networks.norm import StyledNorm
from ..networks.painter import AMOUNT as PAINTER_AMOUNT
from ..networks.painter import Painter, Predicted
from ..networks.transformer import AMOUNT, Transformer
from ..operators.degrid import degrid
from ..statistics import Moments
from ..styles import LayerMoments, LearntStyle, StoredStyle, Style
from .learnt import Learnt
from .onepass import AnyStyle, StyleModel, tuples

__all__ = ["Ghiasi", "GhiasiConfig", "GhiasiTraining"]

Kind = Literal["residual", "painter"]
WIDTHS: Mapping[str, tuple[int, ...]] = {"residual": (32, 64, 128), "painter": (24, 48, 64, 160)}
AMOUNTS = {"residual": AMOUNT, "painter": PAINTER_AMOUNT}
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
CONTENT_LAYER = "relu3_1"
STROKE_LAYERS = ("relu3_1", "relu4_1")
RANGE_WEIGHT = 1e3  # only to bring pixels back: what lies outside is not seen
NEAR = 0.02  # a photograph as near to the painting as this does not count in full
DIRECTIONS = 12  # of the colour space, in which palettes are compared
# What may be learnt for one painting: the layers at the picture's size on the way up.
LAST = ("painter.last.", "painter.up.1.conv.", "painter.up2.conv.")
CODED = 512  # short side in pixels at which a painting is looked at, at most, by default


@dataclass(frozen=True)
class GhiasiConfig:
    """What the network is; stands in the header of a model file.

    Attributes:
        kind: ``residual``, Johnson's network, or ``painter``, which works at an eighth of the size
            and takes half the time; see :mod:`impasto.networks`.
        widths: of its layers; None takes the usual ones of the kind.
        blocks: at the smallest size.
        rows: of scales and shifts in every normalisation, of which a style is a mixture.
        encoder: the backbone whose statistics are a style's code.
    """

    kind: Kind = "residual"
    widths: tuple[int, ...] | None = None
    blocks: int = 5
    rows: int = 129
    encoder: str = "compact"

    def __post_init__(self) -> None:
        if self.widths is None:
            object.__setattr__(self, "widths", WIDTHS.get(self.kind, ()))


class _Model(StyleModel):
    """Encoder, predictor and network."""

    method = "ghiasi"
    learns_from = "photographs and paintings"
    Config = GhiasiConfig
    config: GhiasiConfig
    network: Predicted

    def __init__(self, config: GhiasiConfig, encoder: Backbone, drawn: bool = True) -> None:
        encoder.check(TAPS)
        self.encoder = arranged(encoder)
        super().__init__(config, drawn)

    def build(self) -> Predicted:
        """See :class:`GhiasiConfig`; InputError for invalid values."""
        config = self.config
        if config.kind not in get_args(Kind):
            known = " or ".join(get_args(Kind))
            raise InputError(f"kind {config.kind!r} is unknown: use {known}")
        if type(config.rows) is not int or config.rows < 2:
            raise InputError(f"rows = {config.rows}: must be 2 or more")
        widths = config.widths or ()
        painter: Transformer | Painter
        if config.kind == "painter":
            painter = Painter(widths, config.blocks, config.rows)
        else:
            painter = Transformer("residual", widths, config.blocks, 1, config.rows, noise=True)
        code = 2 * sum(self.encoder.channels(tap) for tap in TAPS)
        return Predicted(painter, code, config.rows)

    @classmethod
    def unloaded(
        cls, config: dict[str, Any], header: Mapping[str, str], path: str, **given: Any
    ) -> _Model:
        """See :class:`Model`."""
        encoder = load_backbone(config["encoder"])
        if header["encoder"] != encoder.fingerprint:
            raise InputError(
                f"{path}: made for another encoder ({header['encoder']}, here is "
                f"{encoder.fingerprint}); train it again"
            )
        return cls(cls.Config(**config), encoder, drawn=False)

    def header(self) -> dict[str, str]:
        """The encoder's fingerprint."""
        return {"encoder": self.encoder.fingerprint}

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.encoder.fingerprint

    @property
    def taps(self) -> Sequence[str]:
        """What a code is made of."""
        return TAPS

    @property
    def networks(self) -> list[nn.Module]:
        """What paints."""
        return [self.network.painter]

    @property
    def exact(self) -> list[nn.Module]:
        """What looks at paintings, once for each: codes differ in the third digit."""
        return [self.encoder, self.network.predictor]

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, one for each picture of a batch."""
        features = self.encoder(pictures, TAPS)
        return {tap: Moments.of(features[tap].float()) for tap in TAPS}

    def rows(self, moments: LayerMoments) -> Tensor:
        """Shares of the rows ``(B, rows)`` in float32 for styles, by their moments at the taps."""
        code = _code(moments)
        with torch.autocast(code.device.type, enabled=False):
            shares: Tensor = self.network.predictor(code.reshape(-1, code.shape[-1]))
        return shares

    def __call__(
        self,
        contents: Tensor,
        style: Any,
        strength: float = 1.0,
        learnt: Sequence[Learnt] = (),
        noise: Tensor | None = None,
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped.

        Args:
            contents: ``(B, 3, H, W)`` in 0..1.
            style: shares of the rows ``(B or 1, rows)``; those of ``learnt`` come last.
            strength: is in the shares already; of ``learnt``, last layers are mixed by it.
            learnt: see :meth:`given`.
            noise: instead of the usual, see :meth:`impasto.networks.painter.Predicted.forward`.
        """
        network, inputs = self.network, (contents, style, noise)
        if not learnt:
            out: Tensor = network(*inputs)
            return out.float()
        # On modules of its own, which share the tensors: other threads may be rendering.
        shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
        given = self.given(learnt, min(strength, 1.0))
        out = functional_call(copy.deepcopy(network, shared), given, inputs)
        return out.float()

    def given(self, learnt: Sequence[Learnt], strength: float) -> dict[str, Tensor]:
        """Tensors that stand in for the network's own, by name: it stays as it is.

        Args:
            learnt: styles whose rows come after the network's, one for each; their last layers,
                where they were learnt too, stand for its own.
            strength: share of these last layers, 0..1.
        """
        given, begin = {}, 0
        for name, norm in self.network.named_modules() if learnt else ():
            if not isinstance(norm, StyledNorm):
                continue
            end = begin + norm.scale.shape[1]
            rows = torch.stack([part.rows[:, begin:end] for part in learnt], 1).to(norm.scale)
            given[f"{name}.scale"] = torch.cat([norm.scale, rows[0]])
            given[f"{name}.shift"] = torch.cat([norm.shift, rows[1]])
            begin = end
        own = dict(self.network.named_parameters())
        for part in learnt:
            for name, layer in part.layers.items():
                given[name] = own[name].lerp(layer.to(own[name]), strength)
        return given

    def fits(self, learnt: Learnt) -> bool:
        """Whether its rows and layers have the shapes of the network's."""
        own = dict(self.network.named_parameters())
        width = sum(norm.scale.shape[1] for norm in self.network.norms())
        return learnt.rows.shape == (2, width) and all(
            name.startswith(LAST) and name in own and layer.shape == own[name].shape
            for name, layer in learnt.layers.items()
        )

    def predicted(self, shares: Tensor, mixable: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """What a painting's learning starts from: ``rows`` and ``layers`` of :class:`Learnt`."""
        rows = [
            torch.cat([shares @ norm.scale, shares @ norm.shift]) for norm in self.network.norms()
        ]
        named = () if mixable else self.network.named_parameters()
        last = {name: layer.detach().clone() for name, layer in named if name.startswith(LAST)}
        return torch.cat(rows, 1), last

    def digest(self) -> str:
        """Of the weights, as a file has them: styles learnt with others are refused."""
        sha = sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            sha.update(name.encode())
            sha.update(tensor.cpu().half().contiguous().numpy().tobytes())
        return sha.hexdigest()[:12]

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """The last layer's: its input at the picture's size, several times over, and its output."""
        full, half = (self.config.widths or ())[:2]
        return torch.finfo(dtype).bits / 8 * (4.2 * half + full)


class Ghiasi(AnyStyle):
    """Any style in one pass, predicted: the default (Ghiasi et al. 2017).

    Args:
        model: a file made by ``impasto train ghiasi``; None takes the bundled one.
        noise: how much of it comes in beside the photograph, 0 or more: what strokes in flat areas
            are made from. None takes what the network was trained with. See ``amount`` of
            :class:`impasto.networks.transformer.Transformer`.
        degrid: take away what repeats from cell to cell where the photograph is flat, see
            :func:`impasto.operators.degrid.degrid`.
        style_scale: size at which the painting is looked at, relative to the content or to 512 px,
            whichever is less; 0.5 gives finer strokes.
        brush: size of the strokes relative to the picture, see
            :class:`impasto.methods.onepass.OnePass`.
        device, precision: see :mod:`impasto.device`.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    model: _Model

    def __init__(
        self,
        model: Path | None = None,
        noise: float | None = None,
        degrid: bool = True,
        style_scale: float = 1.0,
        brush: float | None = 1.0,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        loaded = _Model.load(model)
        amount = AMOUNTS[loaded.config.kind] if noise is None else noise
        check_finite("noise", amount)
        if amount < 0:
            raise InputError(f"noise is {amount}: must be 0 or more")
        self.digest = loaded.digest()
        given: dict[str, Any] = {"kind": loaded.config.kind, "weights_digest": self.digest}
        given |= {"noise": amount, "degrid": degrid}
        super().__init__(loaded, style_scale, brush, device, precision, **given)
        self.model.network.painter.amount = amount
        self.degrid = degrid

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle],
        weights: Sequence[float] | None = None,
    ) -> Style:
        """See :class:`AnyStyle`; styles may be learnt ones too, see :class:`Learnt`.

        Raises:
            InputError: for a style that was learnt with another model, and for one that does not
                mix with the others.
        """
        style = super().prepare(styles, weights)
        self._check_learnt(style)
        return style

    def colors(self, style: Style) -> Moments:
        """See :class:`OnePass`."""
        colors = super().colors(style)
        self._check_learnt(style)  # it may have been prepared by another model
        return colors

    def _check_learnt(self, style: Style) -> None:
        for part in style.parts:
            if not isinstance(part, Learnt):
                continue
            if part.model != self.digest:
                raise InputError(
                    f"style {part.name}: learnt with another model ({part.model}, here is "
                    f"{self.digest}): learn it again with this one, or name the other (--model)"
                )
            if not self.model.fits(part):
                raise InputError(f"style {part.name}: is damaged; learn it again")
            if len(style.parts) > 1 and part.layers:
                raise InputError(
                    f"style {part.name}: the network's last layers were learnt too, so that it "
                    "does not mix with others: learn it again with --mixable, or give it alone"
                )

    def rows(self, pictures: Tensor, style: Style) -> Tensor:
        """Shares of the network's rows for a style, ``(1, rows)``: its parts' by their weights.

        Behind them stand those of the learnt parts' rows.
        """
        short = round(min(CODED, *pictures.shape[-2:]) * self.style_scale)
        own = torch.zeros(1, self.model.config.rows, dtype=torch.float32, device=self.device)
        learnt = []
        for share, moments in zip(style.weights, style.each(max(MIN_SIDE, short)), strict=True):
            if moments:
                here = {tap: m.to(self.device) for tap, m in moments.items()}
                own += share * self.model.rows(here)
            else:
                learnt.append(share)
        return torch.cat([own, own.new_tensor([learnt])], 1)

    def render(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`.

        The photograph's own rows are strength 0; below 1, the share of the photograph that the
        network loses with these is put back.
        """
        rows = self.rows(pictures, style)
        learnt = [part for part in style.parts if isinstance(part, Learnt)]
        if strength == 1:
            out = self.model(pictures, rows, learnt=learnt)
        else:
            own = self.model.rows(self.model.measure(_coded(pictures)))
            mix = F.pad(own, (0, len(learnt))).lerp(rows, strength)
            out = self.model(pictures, mix, strength, learnt)
            if strength < 1:
                out = out + (1 - strength) * (pictures - self.model(pictures, own))
        return degrid(out.clamp_(0, 1), pictures) if self.degrid else out

    @staticmethod
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
            content_weight, style_weight, stroke_weight, color_weight, palette_weight: see
                :class:`GhiasiTraining`.
            tv_weight, scales, full, recolored, again: see there.
            loss_network, loss_weights, loss_convention: see
                :func:`impasto.backbones.load_backbone`.

        Raises:
            InputError: for options that do not exist or do not go together.
        """
        config = GhiasiConfig(kind, None if widths is None else tuples(widths), blocks, rows)
        model = _Model(config, load_backbone(config.encoder))
        if init is not None:
            before = _Model.load(init)
            if before.config != config:
                raise InputError(f"{init}: holds another network ({before.config}); name another")
            model = before
        judge = load_backbone(loss_network, loss_weights, convention=loss_convention)
        return GhiasiTraining(
            *(model, judge, content_weight, style_weight, stroke_weight, color_weight),
            *(palette_weight, tv_weight, scales, full, recolored, again),
            begun=init is not None,
        )


class GhiasiTraining:
    """The method as training sees it, see :class:`impasto.methods.base.Trainable`.

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
            :class:`impasto.methods.onepass.OnePass`).
        begun: the network has learnt before, and knows how codes are spread.

    Raises:
        InputError: for a layer that does not exist, or a number out of range.
    """

    def __init__(
        self,
        model: _Model,
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
        self.model, self.network = model, model.network
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
        codes = [_code(moments) for moments in each]
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
        drawn = torch.rand(2, len(contents)).to(contents.device)
        strength = torch.where(drawn[0] < self.full, 1.0, drawn[1])
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

        def aim(own: Tensor, style: Tensor) -> Moments:
            """The photograph's moments and its style's, mixed by the strength."""
            here, there, by = Moments.of(own), Moments.of(style), strength[:, None]
            mean, gram = here.mean.lerp(there.mean, by), here.gram.lerp(there.gram, by[..., None])
            return Moments(torch.ones_like(strength), mean, gram)

        style, strokes, content = [], [], clipped.new_zeros(())
        each = zip(self.judge_all(clipped), owned, wanted, strict=True)
        for scale, (seen, before, after) in enumerate(each):
            for tap in STYLE_LAYERS:
                target, beside = aim(before[tap], after[tap]), Moments.of(before[tap])
                style.append(gram_loss(Moments.of(seen[tap]), target, beside).mean())
            if scale == 0:
                content = content_loss(seen[CONTENT_LAYER], before[CONTENT_LAYER])
            if scale == min(1, self.scales - 1):
                strokes = [_strokes(seen[t], before[t], after[t], strength) for t in STROKE_LAYERS]
        directions = F.normalize(torch.randn(3, DIRECTIONS, device="cpu"), dim=0).to(out.device)
        ours, theirs, own = (F.avg_pool2d(x, 4) for x in (clipped, styles, contents))
        theirs = F.interpolate(theirs, ours.shape[-2:])  # as many pixels of the same colours
        palette = palette_loss(ours, theirs, own, strength, directions).mean()
        color = covariance_loss(Moments.of(clipped), aim(contents, styles)).mean()
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

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """See :meth:`impasto.methods.onepass.Model.save`."""
        self.model.save(path, figures)

    @torch.no_grad()
    def _passed(self, contents: Tensor, mix: Tensor) -> Tensor:
        """``contents``, some of them after a first pass at half the size, enlarged."""
        drawn = torch.rand(len(contents), device="cpu") < self.again
        if not drawn.any():
            return contents
        chosen = drawn.nonzero()[:, 0].to(contents.device)  # as numbers: for a mask one would wait
        first = self.model(F.avg_pool2d(contents[chosen], 2), mix[chosen]).clamp(0, 1)
        torch.clear_autocast_cache()  # else the next pass has no gradients (pytorch#158232)
        large = F.interpolate(first, contents.shape[-2:], mode="bicubic").clamp(0, 1)
        out = contents.clone()
        out[chosen] = large.to(out)
        return out

    def judge_all(self, pictures: Tensor) -> list[dict[str, Tensor]]:
        """Features of ``pictures`` at all layers that losses look at, for every scale."""
        layers = {*STYLE_LAYERS, CONTENT_LAYER, *STROKE_LAYERS}
        seen = [self.judge(pictures, layers)]
        for _ in range(1, self.scales):
            pictures = F.avg_pool2d(pictures, 2)
            seen.append(self.judge(pictures, layers))
        return seen


def _strokes(seen: Tensor, own: Tensor, theirs: Tensor, strength: Tensor) -> Tensor:
    """What is left of the photograph's distance to the painting, beyond what strength leaves."""
    with torch.no_grad():
        away = relaxed_emd(own, theirs).clamp_min(NEAR)
    return F.relu(relaxed_emd(seen, theirs) / away - (1 - strength)).mean()


def _code(moments: LayerMoments) -> Tensor:
    """A style's code ``(..., n)``: means and deviations of all channels, as ``log(1 + x)``.

    They are positive, and skewed.
    """
    each = [part for tap in TAPS for part in (moments[tap].mean, moments[tap].deviation())]
    return torch.cat(each, -1).clamp_min(0).log1p()


def _coded(pictures: Tensor) -> Tensor:
    """As large as codes are measured at, at most."""
    short = min(pictures.shape[-2:])
    if short <= CODED:
        return pictures
    return F.interpolate(pictures, scale_factor=CODED / short, mode="bilinear", antialias=True)
