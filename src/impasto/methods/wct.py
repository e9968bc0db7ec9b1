"""Any style, without training on styles: whitening and colouring, layer by layer.

Li et al., "Universal Style Transfer via Feature Transforms", NeurIPS 2017; report 2. At a deep
layer of the encoder, a linear map gives the photograph's features the mean and covariance of the
painting's features; a decoder turns them into a picture. The next, shallower layer repeats this
with that picture. The decoders have only learnt to invert the encoder, on photographs.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import arranged
from ..errors import InputError
from ..images.canvas import Buffer, Canvas, device_of
from ..networks.decoder import Decoder
from ..networks.tiling import Paint, Tile, tiles_of
from ..operators.wct import measure, wct
from ..options import takes
from ..statistics import Moments
from ..styles import Style
from ..transport import Variant
from ..watch import divided, portion, so_far
from .anystyle import AIM, AnyStyle
from .model import EncoderModel
from .records.wct import WCTOptions

__all__ = ["WCT", "WCTConfig", "WCTModel"]

# Variance that counts as noise, see impasto.operators.wct. Rounding pictures to 8 bits, or features
# to bfloat16, adds a variance of 1e-5 to 1e-4 to the features of `slim`. In a tenth of all
# directions, photographs have a variance below 1e-3 (relu5_1) to 1e-2 (the other taps).
NOISE = 1e-5

MEASURING = 0.4  # rough share of a layer's work in tiles

Widths = Sequence[Sequence[int]]


@dataclass(frozen=True)
class WCTConfig:
    """Configuration of the network, stored in the header of a model file.

    Attributes:
        encoder: ``slim`` or ``vgg19``.
        widths: tap -> channels of its decoder's convolutions, block by block, deep to shallow.
        upsampling: upsampling of the decoders.
    """

    encoder: str
    widths: Mapping[str, Widths]
    upsampling: Literal["nearest", "bilinear"] = "nearest"


class WCTModel(EncoderModel):
    """The encoder, the transfer, and one decoder for each tap."""

    method = "wct"
    learns_from = "photographs"
    Config = WCTConfig
    config: WCTConfig
    network: nn.ModuleDict
    variant: Variant = "monge"
    copies = 1
    steps = 2  # with 1, the error of tones between two stored sizes doubles

    def build(self) -> nn.ModuleDict:
        """See :class:`WCTConfig`; InputError for widths that do not fit their taps."""
        self.encoder.check(self.config.widths)
        decoders = {}
        for tap in sorted(self.config.widths, key=lambda tap: tap[4:], reverse=True):
            widths = self.config.widths[tap]
            decoder = Decoder(self.encoder.channels(tap), widths, upsampling=self.config.upsampling)
            if len(widths) != int(tap[4]):
                raise InputError(f"widths of {tap}: give {tap[4]} blocks, deep to shallow")
            assert decoder.last.bias is not None
            nn.init.constant_(decoder.last.bias, 0.5)  # mid-grey: a third of the loss at 80 steps
            decoders[tap] = decoder
        return nn.ModuleDict(decoders)

    @property
    def fingerprint(self) -> str:
        """That of the encoder, marked: only cells that lie fully in the picture are measured."""
        return f"{super().fingerprint}:cells"

    @property
    def taps(self) -> list[str]:
        """The layers of the encoder, deep to shallow."""
        return list(self.network)

    def keep(self, layers: Sequence[str]) -> None:
        """Drop all decoders except those of ``layers``; InputError if one is missing."""
        missing = [tap for tap in layers if tap not in self.taps]
        if missing or not layers:
            raise InputError(
                f"model {self.name} has no layer {', '.join(missing) or '(none named)'}: name some "
                f"of {', '.join(self.taps)}"
            )
        self.network = nn.ModuleDict({t: d for t, d in self.network.items() if t in layers})

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, separately for each picture of a batch, in float64."""
        size = (pictures.shape[-2], pictures.shape[-1])
        features = self.encode(pictures, self.taps)
        return {tap: measure(_inside(features[tap], tap, size)) for tap in self.taps}

    def __call__(
        self, contents: Tensor, style: Mapping[str, Moments], strength: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of the contents' size, through all layers."""
        for tap in divided(self.taps, *self._shares()):
            contents = self._layer(tap, contents, style[tap], strength).clamp(0, 1)
            so_far(contents)
        return contents

    def by_tile(
        self,
        canvas: Canvas,
        style: Mapping[str, Moments],
        strength: float,
        side: int,
        stored: bool = False,
    ) -> Paint:
        """As :meth:`__call__`, every layer in tiles of ``side`` pixels.

        A layer needs the whole result of the one before it, which is kept, with ``stored`` in a
        temporary file; the last layer is left to the function that is returned.
        """
        last = self.taps[-1]
        rest = (1 - MEASURING) * int(last[4]) / sum(int(tap[4]) for tap in self.taps)
        with portion(1 - rest):
            for tap in divided(self.taps, *self._shares()):
                moments = self._measured(tap, canvas, side)
                if tap == last:
                    break
                before, canvas = canvas, Buffer(canvas.size, device_of(canvas), stored)
                for tile in divided(self._tiles(canvas.size, side), "tile"):
                    part = self._seen(before, tile)
                    out = self._layer(tap, part, style[tap], strength, moments).clamp_(0, 1)
                    canvas.put(tile.rows.kept, tile.columns.kept, tile.core(out))
                so_far(partial(canvas.at, canvas.size), canvas.size)

        def paint(pictures: Tensor, rows: slice, columns: slice) -> Tensor:
            contents = arranged(canvas.region(rows, columns).to(pictures))
            return self._layer(last, contents, style[last], strength, moments)

        return paint

    def _shares(self) -> tuple[list[str], list[int]]:
        """Of every layer, what is told while it works, and its rough share of the work."""
        return [f"layer {tap}" for tap in self.taps], [int(tap[4]) for tap in self.taps]

    def _tiles(self, size: tuple[int, int], side: int) -> list[Tile]:
        return tiles_of(size, side, self.unit, self.halo)

    def _seen(self, canvas: Canvas, tile: Tile) -> Tensor:
        device = next(self.network.parameters()).device
        return arranged(canvas.region(tile.rows.seen, tile.columns.seen).float(), device)

    def _measured(self, tap: str, canvas: Canvas, side: int) -> Moments:
        """Moments of the features of a whole picture: sums, those of the tiles are added up."""

        def parts() -> Iterator[Moments]:
            for tile in divided(self._tiles(canvas.size, side), "statistics"):
                features = self.encode(self._seen(canvas, tile), [tap])[tap]
                yield measure(tile.core_of(features, _cell(tap), fully=True))

        with portion(MEASURING):
            return reduce(operator.add, parts())

    def _layer(
        self,
        tap: str,
        contents: Tensor,
        style: Moments,
        strength: float,
        moments: Moments | None = None,
    ) -> Tensor:
        """One layer; ``moments`` are those of the content's features, if ``contents`` is a tile."""
        size = (contents.shape[-2], contents.shape[-1])
        features = self.encode(contents, [tap])[tap]
        content_moments = moments or measure(_inside(features, tap, size))
        stylised = wct(features, style, strength, content_moments, self.variant, NOISE)
        out = self.decode(tap, stylised, size)
        if strength < 1:
            out = out + (1 - strength) * (contents - self.decode(tap, features, size))
        return out

    @property
    def side(self) -> int:
        """Small: the transform's features are large."""
        return 512

    @property
    def unit(self) -> int:
        """The cell of the deepest layer."""
        return _cell(self.taps[0])

    @property
    def halo(self) -> int:
        """What the decoders see of the features, and these of the picture."""
        halos = [0]
        for tap, decoder in self.network.items():
            assert isinstance(decoder, Decoder)
            halos.append(decoder.reaches()[0] * _cell(tap) + self.encoder.field(tap).halo)
        return self.unit * math.ceil(max(halos) / self.unit)

    def encode(self, pictures: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Features, float32, of pictures that are extended by replication to whole cells."""
        height, width = pictures.shape[-2:]
        by = (0, -width % self.unit, 0, -height % self.unit)
        whole = F.pad(pictures, by, mode="replicate")
        return {tap: features.float() for tap, features in self.encoder(whole, taps).items()}

    def decode(self, tap: str, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures ``(B, 3, *size)``, not clipped."""
        dtype = next(self.network.parameters()).dtype
        out: Tensor = self.network[tap](arranged(features.to(dtype)))
        return out[..., : size[0], : size[1]].float()

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """Does not depend on ``dtype``: the features in the transform are always float32."""
        return 1450.0


@takes(WCTOptions)
class WCT(AnyStyle):
    """Any style, without training on styles: whitening and colouring (Li et al. 2017).

    Args:
        model: a file made by ``impasto train wct``; None takes the bundled one.
        options: see :class:`impasto.methods.records.wct.WCTOptions`.

    Layers are always used deep to shallow. Features may be bfloat16; statistics and the transform
    never are.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    model: WCTModel

    def __init__(self, model: Path | None = None, **options: Any) -> None:
        chosen = WCTOptions.of("method wct", {"model": model, **options})
        loaded = WCTModel.load(
            chosen.model,
            encoder_weights=chosen.backbone_weights,
            convention=chosen.convention,
            encoder=chosen.encoder,
        )
        loaded.keep(loaded.taps if chosen.layers is None else chosen.layers)
        loaded.variant = chosen.variant
        super().__init__(loaded, chosen, layers=loaded.taps)

    def by_tile(
        self, canvas: Canvas, style: Style, strength: float, side: int | None, stored: bool = False
    ) -> Paint:
        """See :class:`OnePass`."""
        with portion(AIM):
            aim = self.aim(canvas, style)
        if side is not None:
            return self.model.by_tile(canvas, aim, strength, side, stored)
        return lambda pictures, rows, columns: self.model(pictures, aim, strength)


def _cell(tap: str) -> int:
    """Side in pixels of the cell that one feature vector at ``tap`` stands for."""
    return 1 << (int(tap[4]) - 1)


def _inside(features: Tensor, tap: str, size: tuple[int, int]) -> Tensor:
    """The cells that lie fully in a picture of ``size``; only these are measured."""
    return features[..., : size[0] // _cell(tap), : size[1] // _cell(tap)]
