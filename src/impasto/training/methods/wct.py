"""Training of :mod:`impasto.methods.wct`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ...backbones import VGG, load_vgg
from ...device import arranged
from ...errors import InputError
from ...losses import content_loss
from ...methods.model import tuples
from ...methods.records.base import Convention
from ...methods.wct import WCTConfig, WCTModel, Widths
from ...networks.decoder import Decoder
from ...options import was
from .base import ModelTraining
from .regress import fit_decoder

__all__ = ["WCTTraining", "mirrored", "untrained"]

PARAMETERS = 1_950_000  # default limit for all decoders together: 3.9 MB in float16


@was(layers="taps")
def untrained(
    encoder: str | VGG = "slim",
    layers: Sequence[str] | None = None,
    widths: Mapping[str, Widths] | None = None,
    upsampling: Literal["nearest", "bilinear"] = "nearest",
    encoder_weights: Path | None = None,
    loss_convention: Convention | None = None,
    pixels: float = 1.0,
    features: float = 1.0,
) -> WCTTraining:
    """The method with random weights, ready for training.

    Args:
        encoder, encoder_weights, loss_convention: see
            :func:`impasto.backbones.load_vgg`; the encoder is also the loss network.
        layers: the layers that get a decoder; None uses every ``relu*_1`` of the encoder.
        widths: see :class:`WCTConfig`; by default the decoders mirror the encoder.
        upsampling: upsampling of the decoders.
        pixels, features: see :class:`WCTTraining`.

    Raises:
        InputError: for options that are unknown or cannot be combined.
    """
    net = load_vgg(encoder, encoder_weights, convention=loss_convention)
    if layers is None:
        layers = [tap for tap in net.taps if tap.startswith("relu") and tap.endswith("_1")]
    net.check(layers)
    if not layers:
        raise InputError("layers: name at least one")
    overrides = {} if widths is None else widths
    if not isinstance(overrides, Mapping) or not set(overrides) <= set(layers):
        raise InputError(f"widths are by layer: give a table of some of {', '.join(layers)}")
    all_widths = mirrored(net, layers) | {tap: tuples(blocks) for tap, blocks in overrides.items()}
    config = WCTConfig(net.name, all_widths, upsampling)
    return WCTTraining(WCTModel(config, net), pixels, features)


class WCTTraining(ModelTraining):
    """Training of the method, see :class:`impasto.training.methods.base.Trainable`.

    Args:
        model: the model whose decoders are trained.
        pixels, features: weights of the two terms, each relative to the variance of its target.
    """

    model: WCTModel
    network: nn.ModuleDict

    def __init__(self, model: WCTModel, pixels: float = 1.0, features: float = 1.0) -> None:
        super().__init__(model)
        self.pixels, self.features = pixels, features

    def start(self, crops: Tensor) -> None:
        """Fit every decoder to invert the encoder, see :func:`fit_decoder`."""
        for tap, decoder in self.network.items():
            assert isinstance(decoder, Decoder)
            fit_decoder(decoder, self.model.encoder, {0: tap}, crops)

    def to(self, device: torch.device) -> None:
        """Move encoder and decoders to ``device``."""
        for net in (self.model.encoder, self.network):
            arranged(net, device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """Reconstruction losses of every decoder: of pixels, and of the encoder's features.

        Args:
            contents: photographs ``(B, 3, H, W)``.
            styles: not used.
        """
        size = (contents.shape[-2], contents.shape[-1])
        with torch.no_grad():
            encoded = self.model.encode(contents, self.model.taps)
        terms = {}
        for tap, target in encoded.items():
            out = self.model.decode(tap, target, size)
            encoded_out = self.model.encode(out, [tap])[tap]
            terms[f"{tap} pixels"] = self.pixels * content_loss(out, contents)
            terms[f"{tap} features"] = self.features * content_loss(encoded_out, target)
        return terms

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        with torch.autocast(contents.device.type, enabled=False):  # the transform needs float32
            return self.model(contents, self.model.measure(styles))


def mirrored(encoder: VGG, taps: Sequence[str]) -> dict[str, Widths]:
    """Widths of decoders that mirror the encoder, reduced until all fit into 4 MB."""
    for step in range(20, 0, -1):
        widths = {tap: _mirror(encoder, tap, step / 20) for tap in taps}
        with torch.device("meta"):
            decoders = [Decoder(encoder.channels(tap), widths[tap]) for tap in taps]
        weights = (weight for decoder in decoders for weight in decoder.parameters())
        if sum(weight.numel() for weight in weights) <= PARAMETERS:
            break
    return widths


def _mirror(encoder: VGG, tap: str, share: float) -> Widths:
    """The input widths of the encoder's convolutions, reversed and multiplied by ``share``."""
    block, convolution = int(tap[4]), int(tap[6:])
    input_widths: list[list[int]] = []
    previous = 3
    for widths in (*encoder.widths[: block - 1], encoder.widths[block - 1][:convolution]):
        input_widths.append([previous, *widths[:-1]])
        previous = widths[-1]
    # The decoder has a last convolution to RGB; one before it keeps relu1_1's decoder nonlinear.
    input_widths[0] = input_widths[0][1:] or [encoder.widths[0][0]]
    return [
        [max(8, round(width * share / 8) * 8) for width in reversed(widths)]
        for widths in reversed(input_widths)
    ]
