"""Any style in one pass: adaptive instance normalisation between an encoder and a decoder.

Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017; papers 2 and 3. The content's features are given the style's mean and deviation in every
channel, and a decoder, trained once for all styles, turns them into a picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbones import VGG, load_backbone
from ..backbones.weights import load_tensors, save_tensors
from ..device import (
    channels_last,
    check_memory,
    choose_device,
    choose_precision,
    describe,
    tune_process,
)
from ..errors import InputError
from ..images import MIN_SIDE, Source, read
from ..losses import content_loss, moments_loss
from ..networks.decoder import Decoder
from ..networks.regress import fit_decoder
from ..operators.adain import adain, normalise
from ..statistics import Moments, shares
from ..styles import LayerMoments, StoredStyle, Style
from .base import OnStep

__all__ = ["AdaIN", "AdaINConfig", "AdaINTraining"]

BUNDLED = Path(__file__).parent.parent / "models" / "adain.safetensors"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")


@dataclass(frozen=True)
class AdaINConfig:
    """What the network is; stands in the header of a model file.

    Attributes:
        encoder: ``compact`` or ``vgg19``.
        taps: deep to shallow, one in each block. The first feeds the decoder; the others join it on
            the way, with the style's statistics too: the detail that deep features have lost.
        widths: of the decoder's convolutions, block by block, deep to shallow.
        upsampling: ``nearest`` (Huang & Belongie) or ``bilinear`` (paper 2).
    """

    encoder: str = "compact"
    taps: tuple[str, ...] = ("relu4_1", "relu3_1", "relu2_1")
    widths: tuple[tuple[int, ...], ...] = ((128,), (128, 64), (64, 32), (24,))
    upsampling: Literal["nearest", "bilinear"] = "nearest"


class _Model:
    """Encoder, transfer and decoder: what rendering and training share.

    Raises:
        InputError: for taps or widths that do not go together.
    """

    def __init__(self, config: AdaINConfig, encoder: VGG) -> None:
        encoder.check(config.taps)
        levels = [int(tap[4]) for tap in config.taps]
        if levels != sorted(set(levels), reverse=True) or len(config.widths) != levels[0]:
            raise InputError(
                f"taps {', '.join(config.taps)} with {len(config.widths)} blocks: name taps of "
                "different blocks, deep to shallow, and as many blocks as the first is deep"
            )
        self.config = config
        self.encoder = channels_last(encoder)
        self.encoder.seamless = True
        self.taps = {levels[0] - int(tap[4]): tap for tap in config.taps}  # by block of the decoder
        skips = {block: encoder.channels(tap) for block, tap in self.taps.items() if block}
        deepest = encoder.channels(config.taps[0])
        self.decoder = channels_last(Decoder(deepest, config.widths, skips, config.upsampling))

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, one for each picture of a batch."""
        features = self.encoder(pictures, self.config.taps)
        return {tap: Moments.of(features[tap]) for tap in self.config.taps}

    def __call__(
        self, contents: Tensor, style: Mapping[str, Moments], strength: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, of the contents' size.

        Sides that are no multiple of what the encoder halves them to are continued by replication
        and cut again; the statistics are those of the picture proper, to the cell. Below strength 1
        the same share of what the decoder loses of the picture is put back, so that 0 gives the
        content itself.
        """
        height, width = contents.shape[-2:]
        unit = 2 ** (len(self.config.widths) - 1)
        padded = F.pad(contents, (0, -width % unit, 0, -height % unit), mode="replicate")
        features = self.encoder(padded, self.config.taps)
        given, own = {}, {}
        for block, tap in self.taps.items():
            scale = unit // 2**block
            inside = features[tap][..., : -(-height // scale), : -(-width // scale)]
            own[block] = features[tap]
            given[block] = adain(features[tap], style[tap], strength, Moments.of(inside.float()))
        out: Tensor = self.decoder(given[0], given).float()
        if strength < 1:
            out = out + (1 - strength) * (padded - self.decoder(own[0], own).float())
        return out[..., :height, :width]


class AdaIN:
    """Any style in one pass: adaptive instance normalisation (Huang & Belongie 2017).

    Args:
        model: a file made by ``impasto train adain``; None takes the bundled one.
        encoder_weights, convention: weights of the encoder, if it is VGG-19; see
            :func:`impasto.backbones.load_backbone`.
        style_scale: size of the style's features relative to the content; 0.5 gives finer strokes.
        device, precision: see :mod:`impasto.device`.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    def __init__(
        self,
        model: Path | None = None,
        encoder_weights: Path | None = None,
        convention: str | None = None,
        style_scale: float = 1.0,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if not (math.isfinite(style_scale) and style_scale > 0):
            raise InputError(f"style-scale is {style_scale}: must be above 0")
        tune_process()
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        path = BUNDLED if model is None else Path(model)
        self.model = _load(path, encoder_weights, convention)
        for net in (self.model.encoder, self.model.decoder):
            net.eval().requires_grad_(False).to(self.device, self.dtype)
        self.style_scale = style_scale
        self.notes: list[str] = []
        self.settings: dict[str, Any] = {
            "method": "adain",
            "model": path.name,
            "backbone": self.model.encoder.fingerprint,
            "style_scale": style_scale,
            "device": describe(self.device, self.dtype),
        }

    @staticmethod
    def untrained(
        encoder: str = "compact",
        taps: Sequence[str] = AdaINConfig.taps,
        widths: Sequence[Sequence[int]] = AdaINConfig.widths,
        upsampling: Literal["nearest", "bilinear"] = "nearest",
        encoder_weights: Path | None = None,
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        target: Literal["adain", "content"] = "content",
        style_layers: Sequence[str] = STYLE_LAYERS,
        loss_network: str = "compact",
        loss_weights: Path | None = None,
        loss_convention: str | None = None,
    ) -> AdaINTraining:
        """The method in training, with random weights.

        Args:
            encoder, taps, widths, upsampling: see :class:`AdaINConfig`.
            encoder_weights: see the class.
            content_weight, style_weight, target, style_layers: see :class:`AdaINTraining`.
            loss_network, loss_weights, loss_convention: the network whose features are compared;
                see :func:`impasto.backbones.load_backbone`.

        Raises:
            InputError: for options that do not exist or do not go together.
        """
        if upsampling not in ("nearest", "bilinear"):
            raise InputError(f"upsampling {upsampling!r} is unknown: use nearest or bilinear")
        blocks = tuple(tuple(block) for block in widths)
        config = AdaINConfig(encoder, tuple(taps), blocks, upsampling)
        model = _Model(config, load_backbone(encoder, encoder_weights, convention=loss_convention))
        judge = load_backbone(loss_network, loss_weights, convention=loss_convention)
        return AdaINTraining(model, judge, content_weight, style_weight, target, style_layers)

    def prepare(
        self, styles: Sequence[Source | StoredStyle], weights: Sequence[float] | None = None
    ) -> Style:
        """Get ready for one or several styles; their moments are averaged by ``weights``.

        Raises:
            InputError: if a stored style does not fit the encoder or the layers, or the weights
                do not fit the styles.
        """
        parts: list[Tensor | StoredStyle] = []
        for style in styles:
            if isinstance(style, StoredStyle):
                style.check(self.model.encoder.fingerprint, self.model.config.taps)
                parts.append(style)
            else:
                parts.append(read(style).rgb)
        if weights is not None and any(weight < 0 for weight in weights):
            raise InputError("weights of styles must not be negative")
        return Style(parts, shares(len(parts), weights), self.measure)

    @torch.no_grad()
    def measure(self, picture: Tensor) -> LayerMoments:
        """Normalised moments of a picture ``(3, H, W)`` at the taps."""
        x = picture[None].to(self.device, memory_format=torch.channels_last)
        features = self.model.encoder(x, self.model.config.taps)
        return {tap: Moments.of(f.squeeze(0)).normalised() for tap, f in features.items()}

    @torch.no_grad()
    def __call__(
        self,
        content: Source,
        style: Style,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Render ``content`` ``(3, H, W)`` in 0..1; the result has its size and is on the CPU.

        ``strength`` mixes the features with their transferred ones at every tap (paper 3, alpha).

        Raises:
            InputError: if the picture is too small or needs more memory than there is, or
                ``strength`` is negative.
        """
        if not (math.isfinite(strength) and strength >= 0):
            raise InputError(f"strength is {strength}: must be 0 or more")
        rgb = read(content).rgb
        height, width = rgb.shape[-2:]
        if min(height, width) < MIN_SIDE:
            raise InputError(
                f"the picture is {width}x{height}: the short side must be {MIN_SIDE} pixels or more"
            )
        check_memory((height, width), self.bytes_per_pixel(), self.device)
        aim = style.at(max(MIN_SIDE, round(min(height, width) * self.style_scale)))
        x = rgb[None].to(self.device, memory_format=torch.channels_last)
        moments = {tap: aim[tap].to(self.device) for tap in self.model.config.taps}
        return self.model(x, moments, strength)[0].clamp(0, 1).cpu()

    def bytes_per_pixel(self) -> float:
        """Memory that a picture takes for each pixel, about (measured at 512 and 1024 px)."""
        widths = self.model.config.widths
        channels = sum(widths[-1]) + (widths[-2][-1] if len(widths) > 1 else 0)
        return 3.5 * torch.finfo(self.dtype).bits / 8 * channels


class AdaINTraining:
    """The method as training sees it, see :class:`impasto.methods.base.Trainable`.

    Args:
        model: with a decoder to train.
        judge: the loss network.
        content_weight, style_weight: of the terms, each relative to its target's size.
        target: of the content term, at the deepest tap: ``adain``, the features after the transfer
            (papers 2 and 3), or ``content``, the photograph's own, instance-normalised, which
            leaves the statistics to the style term alone.
        style_layers: of the style term: mean and deviation of every channel.

    Raises:
        InputError: for a target or a layer that does not exist.
    """

    def __init__(
        self,
        model: _Model,
        judge: VGG,
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        target: Literal["adain", "content"] = "content",
        style_layers: Sequence[str] = STYLE_LAYERS,
    ) -> None:
        if target not in ("adain", "content"):
            raise InputError(f"target {target!r} is unknown: use adain or content")
        tune_process()
        self.model, self.network = model, model.decoder
        self.judge = channels_last(judge)
        self.content_weight, self.style_weight = content_weight, style_weight
        self.target, self.style_layers = target, tuple(style_layers)
        self.content_layer = model.config.taps[0]
        self.layers = {*style_layers, self.content_layer}
        judge.check(self.layers)

    def start(self, crops: Tensor) -> None:
        """Fit the decoder so that it inverts the encoder, see :func:`fit_decoder`."""
        unit = 2 ** (len(self.model.config.widths) - 1)
        height, width = (side // unit * unit for side in crops.shape[-2:])
        crops = crops[..., :height, :width]
        fit_decoder(self.network, self.model.encoder, self.model.taps, crops)

    def to(self, device: torch.device) -> None:
        """Move all networks to ``device``."""
        for net in (self.model.encoder, self.network, self.judge):
            net.to(device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """``content`` and ``style``, weighted."""
        with torch.no_grad():
            given = self.model.measure(styles)
            aim = {tap: Moments.of(f) for tap, f in self.judge(styles, self.layers).items()}
            wanted = self.judge(contents, [self.content_layer])[self.content_layer]
        seen = self.judge(self.model(contents, given), self.layers)
        features = seen[self.content_layer]
        if self.target == "adain":
            content = content_loss(features, adain(wanted, aim[self.content_layer]))
        else:
            content = (normalise(features) - normalise(wanted)).square().mean() / 2
        style = torch.stack(
            [moments_loss(Moments.of(seen[tap]), aim[tap]) for tap in self.style_layers]
        ).mean()
        return {"content": self.content_weight * content, "style": self.style_weight * style}

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        return self.model(contents, self.model.measure(styles)).clamp(0, 1)

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """Write the model as float16, with its configuration and ``figures`` in the header."""
        header = {
            "method": "adain",
            "config": json.dumps(asdict(self.model.config)),
            "encoder": self.model.encoder.fingerprint,
            "figures": json.dumps(figures),
            "format": "1",
            "licence": "MIT (impasto)",
            "training data": "photographs and paintings, see models/CARD.md",
        }
        tensors = {name: t.to(torch.float16).cpu() for name, t in self.network.state_dict().items()}
        save_tensors(path, tensors, header)


def _load(path: Path, encoder_weights: Path | None, convention: str | None) -> _Model:
    """The model in a file; InputError if it is none, or its encoder is another."""
    tensors, header = load_tensors(path)
    try:
        config = json.loads(header["config"])
        config["taps"] = tuple(config["taps"])
        config["widths"] = tuple(tuple(block) for block in config["widths"])
        encoder = load_backbone(config["encoder"], encoder_weights, convention=convention)
        model = _Model(AdaINConfig(**config), encoder)
        model.decoder.load_state_dict({name: t.float() for name, t in tensors.items()})
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{path}: not a model made by `impasto train adain`; name another file"
        ) from None
    if header.get("encoder") != encoder.fingerprint:
        raise InputError(
            f"{path}: made for another encoder ({header.get('encoder')}, here is "
            f"{encoder.fingerprint}); train it again, or give its encoder's weights"
        )
    return model
