"""Any style in one pass: adaptive instance normalisation between an encoder and a decoder.

Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017; reports 2 and 3. An encoder turns the photograph into features. Every channel is scaled
and shifted to the mean and deviation that the painting's features have. A decoder, trained once for
all styles, turns the result into a picture. In AdaIN's place there may be RBMAD (report 1, section
3.3, whose outlook is to apply it beyond reversible networks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import arranged
from ..errors import InputError
from ..images import fit
from ..images.canvas import Canvas, Whole, reduced
from ..networks.decoder import Decoder
from ..networks.tiling import THUMBNAIL, Paint, thumbnail, tiles_of
from ..operators.adain import adain, overshot
from ..operators.rbmad import RBMAD
from ..options import takes
from ..statistics import Moments
from ..styles import Style
from ..watch import divided, portion
from .anystyle import AIM, AnyStyle
from .model import EncoderModel, digest
from .records.adain import AdaINOptions

__all__ = ["AdaIN", "AdaINConfig", "AdaINModel"]

Operator = Literal["adain", "rbmad"]
MEASURING = 0.4  # rough share of the work in tiles
HALVED = 512  # short side in pixels from which the first picture of the feedback is halved
FIRST = 768  # its largest short side


@dataclass(frozen=True)
class AdaINConfig:
    """Configuration of the network, stored in the header of a model file.

    Attributes:
        encoder: ``slim`` or ``vgg19``.
        layers: deep to shallow, one in each block. The first feeds the decoder; the others join it
            on the way, with the style's statistics too: the detail that deep features have lost.
        widths: of the decoder's convolutions, block by block, deep to shallow.
        upsampling: ``nearest`` (Huang & Belongie) or ``bilinear`` (report 2).
        feedback: a first picture (of half the size, if it is large) is measured, and what it misses
            of the style's statistics is asked for in addition, see
            :func:`impasto.operators.adain.overshot`.
        operator: the transfer at every tap: ``adain``, or ``rbmad`` with a network of its own for
            each, see :class:`impasto.operators.rbmad.RBMAD`.
    """

    encoder: str = "slim"
    layers: tuple[str, ...] = ("relu4_1", "relu3_1", "relu2_1")
    widths: tuple[tuple[int, ...], ...] = ((128,), (128, 64), (64, 32), (24,))
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    feedback: bool = False
    operator: Operator = "adain"


@dataclass(frozen=True)
class Transfer:
    """The transfer of a whole picture, by tap.

    Attributes:
        before: moments of the content's features.
        after: those that they are given.
    """

    before: Mapping[str, Moments]
    after: Mapping[str, Moments]


class AdaINModel(EncoderModel):
    """Encoder, transfer and decoder."""

    method = "adain"
    learns_from = "photographs and paintings"
    finish = ("palette", "dehalo")
    renames: ClassVar = {"taps": "layers"}
    Config = AdaINConfig
    config: AdaINConfig
    decoder: Decoder
    rbmads: Mapping[str, RBMAD]

    def build(self) -> nn.Module:
        """See :class:`AdaINConfig`; InputError for values that do not go together."""
        taps, widths, encoder = self.taps, self.config.widths, self.encoder
        operator = self.config.operator
        if operator not in get_args(Operator):
            known = " or ".join(get_args(Operator))
            raise InputError(f"operator {operator!r} is unknown: use {known}")
        encoder.check(taps)
        blocks = [int(tap[4]) for tap in taps]
        fitting = blocks == sorted(set(blocks), reverse=True)
        if not (blocks and fitting and len(widths) == blocks[0]):
            raise InputError(
                f"layers {', '.join(taps)} with {len(widths)} blocks: name layers of different "
                "blocks, deep to shallow, and as many blocks as the first is deep"
            )
        skips = {block: encoder.channels(tap) for block, tap in self.inputs.items() if block}
        self.decoder = Decoder(encoder.channels(taps[0]), widths, skips, self.config.upsampling)
        if operator == "adain":
            self.rbmads = {}
            return self.decoder
        self.rbmads = {tap: RBMAD(encoder.channels(tap)) for tap in taps}
        parts = {"decoder": self.decoder, "rbmads": nn.ModuleDict(self.rbmads)}
        return nn.ModuleDict(parts)

    @property
    def networks(self) -> list[nn.Module]:
        """The encoder and the decoder."""
        return [self.encoder, self.decoder]

    @property
    def exact(self) -> list[nn.Module]:
        """RBMAD, which measures styles: in bfloat16 they would not be those of float32."""
        return list(self.rbmads.values())

    @property
    def fingerprint(self) -> str:
        """Of the encoder; where RBMAD selects from its features, of this, too."""
        encoder = super().fingerprint
        if self.config.operator == "adain":
            return encoder
        return f"adain-{encoder}-{digest(nn.ModuleDict(self.rbmads))}"

    @property
    def taps(self) -> Sequence[str]:
        """See :class:`AdaINConfig`."""
        return self.config.layers

    @property
    def inputs(self) -> dict[int, str]:
        """The decoder's block -> tap that it is given."""
        return {int(self.taps[0][4]) - int(tap[4]): tap for tap in self.taps}

    @property
    def unit(self) -> int:
        """Sides are extended to a multiple of it; pictures are cut into tiles there."""
        return 1 << (len(self.config.widths) - 1)

    @property
    def side(self) -> int:
        """Small: layers at full size are wide, and take most of the memory."""
        return 512

    @property
    def halo(self) -> int:
        """What the decoder sees of the features at the taps, and these of the picture."""
        reaches = self.decoder.reaches()
        halos = [
            reaches[block] * (self.unit >> block) + self.encoder.field(tap).halo
            for block, tap in self.inputs.items()
        ]
        return self.unit * math.ceil(max(halos) / self.unit)

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, one for each picture of a batch.

        With RBMAD, those of the style's half of the mixture.
        """
        features = self.encoder(pictures, self.taps)
        if self.config.operator == "rbmad":
            return {tap: rbmad.measure(features[tap].float()) for tap, rbmad in self.rbmads.items()}
        return {tap: Moments.of(features[tap]) for tap in self.taps}

    def beyond(
        self,
        aim: Mapping[str, Moments],
        contents: Tensor,
        style: Mapping[str, Moments],
        finish: Callable[[Tensor, Tensor], Tensor] = lambda pictures, contents: pictures,
    ) -> dict[str, Moments]:
        """``aim``, moved by what pictures of ``contents`` miss of ``style``; for each of them.

        ``finish`` is what will be done to the pictures.
        """
        with torch.no_grad():
            first = finish(self(contents, style).clamp(0, 1), contents)
        measured = self.measure(first)
        return {tap: overshot(aim[tap], style[tap], measured[tap]) for tap in self.taps}

    def transfer(self, canvas: Canvas, style: Mapping[str, Moments], side: int) -> Transfer:
        """The transfer of a whole picture, from its tiles of ``side`` pixels.

        The moments of features are sums: those of the tiles are added up. What RBMAD mixes with the
        style comes from a reduced copy, as its normalisations need statistics of the whole.
        """
        before: dict[str, Moments] = {}
        with portion(MEASURING):
            for tile in divided(tiles_of(canvas.size, side, self.unit, self.halo), "statistics"):
                part = canvas.region(tile.rows.seen, tile.columns.seen)
                features = self._encoded(arranged(part.float(), self.device))
                for block, tap in self.inputs.items():
                    core = tile.core_of(features[tap], self.unit >> block)
                    moments = Moments.of(core.float()).to(torch.float64)
                    before[tap] = before[tap] + moments if tap in before else moments
        before = {tap: moments.to(torch.float32) for tap, moments in before.items()}
        if not self.rbmads:
            return Transfer(before, style)
        small = arranged(thumbnail(canvas).float(), self.device)
        return Transfer(before, self._transfer(self._encoded(small), small, style).after)

    def _transfer(
        self, features: Mapping[str, Tensor], contents: Tensor, style: Mapping[str, Moments]
    ) -> Transfer:
        """The transfer of ``contents``, which have these features, in one piece."""
        before, after = {}, {}
        for block, tap in self.inputs.items():
            rows, columns = (-(-side // (self.unit >> block)) for side in contents.shape[-2:])
            inside = features[tap][..., :rows, :columns].float()
            before[tap], after[tap] = Moments.of(inside), style[tap]
            if tap in self.rbmads:
                after[tap] = self.rbmads[tap].mixture(inside, style[tap])
        return Transfer(before, after)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.decoder.parameters()).device

    def _encoded(self, pictures: Tensor) -> dict[str, Tensor]:
        """Features of pictures that are extended by replication to whole cells."""
        features: dict[str, Tensor] = self.encoder(self._extended(pictures), self.taps)
        return features

    def _extended(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        return F.pad(pictures, (0, -width % self.unit, 0, -height % self.unit), mode="replicate")

    def __call__(
        self,
        contents: Tensor,
        style: Mapping[str, Moments],
        strength: float = 1.0,
        transfer: Transfer | None = None,
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, of the contents' size.

        Sides that are no multiple of what the encoder halves them to are continued by replication
        and cut again; the statistics are those of the picture proper, to the cell. Below strength 1
        the same share of what the decoder loses of the picture is put back, so that 0 gives the
        content itself. ``transfer`` is that of the whole picture, if ``contents`` is a part of it.
        """
        height, width = contents.shape[-2:]
        features = self._encoded(contents)
        transfer = transfer or self._transfer(features, contents, style)
        stylised, content_features = {}, {}
        for block, tap in self.inputs.items():
            content_features[block] = features[tap]
            before, after = transfer.before[tap], transfer.after[tap]
            stylised[block] = adain(features[tap], after, strength, before)
        out: Tensor = self.decoder(stylised[0], stylised).float()
        if strength < 1:
            decoded = self.decoder(content_features[0], content_features).float()
            out = out + (1 - strength) * (self._extended(contents) - decoded)
        return out[..., :height, :width]

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """In proportion to the channels at the picture's size."""
        widths = self.config.widths
        channels = sum(widths[-1]) + (widths[-2][-1] if len(widths) > 1 else 0)
        return 4.9 * torch.finfo(dtype).bits / 8 * channels


@takes(AdaINOptions)
class AdaIN(AnyStyle):
    """Any style in one pass: adaptive instance normalisation (Huang & Belongie 2017).

    Args:
        model: a file made by ``impasto train adain``; None takes the bundled one.
        options: see :class:`impasto.methods.records.adain.AdaINOptions`.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    model: AdaINModel

    def __init__(self, model: Path | None = None, **options: Any) -> None:
        chosen = AdaINOptions.of("method adain", {"model": model, **options})
        loaded = AdaINModel.load(
            chosen.model, encoder_weights=chosen.backbone_weights, convention=chosen.convention
        )
        super().__init__(loaded, chosen, operator=loaded.config.operator)
        self.thumbnail = FIRST if loaded.config.feedback else THUMBNAIL

    def aim(self, canvas: Canvas, style: Style) -> dict[str, Moments]:
        """See :class:`AnyStyle`; with feedback, what is asked for beyond it."""
        aim = super().aim(canvas, style)
        if not self.model.config.feedback:
            return aim
        size = canvas.size
        if min(size) >= HALVED:
            size = fit(*size, min(size) // 2)
        small = Whole(canvas.at(reduced(size, FIRST)))
        plain = super().aim(small, style)
        pictures = self.arranged(small.pictures)
        return self.model.beyond(aim, pictures, plain, partial(self.finished, style=style))

    def by_tile(
        self, canvas: Canvas, style: Style, strength: float, side: int | None, stored: bool = False
    ) -> Paint:
        """See :class:`OnePass`."""
        with portion(AIM):
            aim = self.aim(canvas, style)
        transfer = None if side is None else self.model.transfer(canvas, aim, side)
        return lambda pictures, rows, columns: self.model(pictures, aim, strength, transfer)
