"""The learning half of :mod:`impasto.methods.wct`."""

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
from ...methods.wct import WCTConfig, WCTModel, Widths
from ...networks.decoder import Decoder
from .base import ModelTraining
from .regress import fit_decoder

__all__ = ["WCTTraining", "mirrored", "untrained"]

PARAMETERS = 1_950_000  # of all decoders by default: 3.9 MB in float16


def untrained(
    encoder: str | VGG = "slim",
    taps: Sequence[str] | None = None,
    widths: Mapping[str, Widths] | None = None,
    upsampling: Literal["nearest", "bilinear"] = "nearest",
    encoder_weights: Path | None = None,
    loss_convention: str | None = None,
    pixels: float = 1.0,
    features: float = 1.0,
) -> WCTTraining:
    """The method in training, with random weights.

    Args:
        encoder, encoder_weights, loss_convention: see
            :func:`impasto.backbones.load_vgg`; the encoder is the loss network too.
        taps: one decoder for each; None for every ``relu*_1`` that the encoder has.
        widths: see :class:`WCTConfig`; taps that are not named, and None, mirror the encoder.
        upsampling: of the decoders.
        pixels, features: see :class:`WCTTraining`.

    Raises:
        InputError: for options that do not exist or do not go together.
    """
    net = load_vgg(encoder, encoder_weights, convention=loss_convention)
    if taps is None:
        taps = [tap for tap in net.taps if tap.startswith("relu") and tap.endswith("_1")]
    net.check(taps)
    if not taps:
        raise InputError("taps: name at least one")
    chosen = {} if widths is None else widths
    if not isinstance(chosen, Mapping) or not set(chosen) <= set(taps):
        raise InputError(f"widths are by tap: give a table of some of {', '.join(taps)}")
    every = mirrored(net, taps) | {tap: tuples(blocks) for tap, blocks in chosen.items()}
    return WCTTraining(WCTModel(WCTConfig(net.name, every, upsampling), net), pixels, features)


class WCTTraining(ModelTraining):
    """The method as training sees it, see :class:`impasto.training.methods.base.Trainable`.

    Args:
        model: with decoders to train.
        pixels, features: weights of the two terms, each relative to how much its target varies.
    """

    model: WCTModel
    network: nn.ModuleDict

    def __init__(self, model: WCTModel, pixels: float = 1.0, features: float = 1.0) -> None:
        super().__init__(model)
        self.pixels, self.features = pixels, features

    def start(self, crops: Tensor) -> None:
        """Fit every decoder so that it inverts the encoder, see :func:`fit_decoder`."""
        for tap, decoder in self.network.items():
            assert isinstance(decoder, Decoder)
            fit_decoder(decoder, self.model.encoder, {0: tap}, crops)

    def to(self, device: torch.device) -> None:
        """Move encoder and decoders to ``device``."""
        for net in (self.model.encoder, self.network):
            arranged(net, device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """Reconstruction by every decoder: pixels, and the encoder's features of them.

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
            again = self.model.encode(out, [tap])[tap]
            terms[f"{tap} pixels"] = self.pixels * content_loss(out, contents)
            terms[f"{tap} features"] = self.features * content_loss(again, target)
        return terms

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        with torch.autocast(contents.device.type, enabled=False):  # it would round the transform
            return self.model(contents, self.model.measure(styles))


def mirrored(encoder: VGG, taps: Sequence[str]) -> dict[str, Widths]:
    """Widths of decoders that go the encoder's way back, narrowed until all fit into 4 MB."""
    for step in range(20, 0, -1):
        widths = {tap: _mirror(encoder, tap, step / 20) for tap in taps}
        with torch.device("meta"):
            decoders = [Decoder(encoder.channels(tap), widths[tap]) for tap in taps]
        if sum(p.numel() for d in decoders for p in d.parameters()) <= PARAMETERS:
            break
    return widths


def _mirror(encoder: VGG, tap: str, share: float) -> Widths:
    """Every convolution gives what the encoder's took, times ``share``."""
    block, convolution = int(tap[4]), int(tap[6:])
    taken: list[list[int]] = []
    before = 3
    for widths in (*encoder.widths[: block - 1], encoder.widths[block - 1][:convolution]):
        taken.append([before, *widths[:-1]])
        before = widths[-1]
    # To RGB is the decoder's own last convolution; one before it keeps relu1_1's from being linear.
    taken[0] = taken[0][1:] or [encoder.widths[0][0]]
    return [[max(8, round(w * share / 8) * 8) for w in reversed(b)] for b in reversed(taken)]
