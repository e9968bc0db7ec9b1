"""Any style without having learnt from styles: whitening and colouring, level by level.

Li et al., "Universal Style Transfer via Feature Transforms", NeurIPS 2017; paper 2. At every tap of
the encoder, deep to shallow, the picture's features get the style's mean and covariance, and a
decoder turns them into the picture that the next tap sees. The decoders have only learnt to undo
the encoder, on photographs.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones import VGG, digest, load_backbone
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
from ..losses import content_loss
from ..networks.decoder import Decoder
from ..networks.regress import fit_decoder
from ..operators.wct import measure, wct
from ..statistics import Moments, shares
from ..styles import LayerMoments, StoredStyle, Style
from ..transport import Variant, check_variant
from .base import OnStep

__all__ = ["WCT", "mirrored"]

BUNDLED = Path(__file__).parent.parent / "models" / "wct.safetensors"
PARAMETERS = 1_950_000  # of all decoders by default: 3.9 MB in float16
MARGIN = 3  # cells at a tap: as far as `compact` sees, so that its zero padding reaches no picture
# Variance that says nothing, see impasto.operators.wct: rounding pictures to 8 bits, or features to
# bfloat16, puts 1e-5 to 1e-4 into the features of `compact`; a tenth of a photograph's directions
# have less than 1e-3 (relu5_1) to 1e-2 (the other taps).
NOISE = 1e-5
RIM = 1  # cells at the edge of a crop that training leaves out: most of what zero padding changes

BYTES_PER_PIXEL = 1100.0  # of memory, measured at 512 and 1024 px in float32

Widths = Sequence[Sequence[int]]


class WCT:
    """Any style, never learnt: whitening and colouring, deep to shallow (Li et al. 2017).

    Args:
        model: a file made by ``impasto train wct``, or decoders by tap, which are taken over; None
            takes the bundled file.
        levels: taps to transfer at, always used deep to shallow; None for all of the model's. Deep
            ones carry the large forms of the style, shallow ones its colours and grain.
        variant: see :func:`impasto.transport.transport`: ``monge`` keeps the content best,
            ``eigenvalue`` is Li et al.'s.
        style_scale: size of the style's features relative to the content; 0.5 gives finer strokes.
        encoder: that the model was made for; None takes ``compact``.
        device, precision: see :mod:`impasto.device`. Features may be bfloat16; statistics and the
            transform are not.

    Raises:
        InputError: for a file that is no such model or was made for another encoder, or an option
            out of its range.
    """

    photographs_alone = True  # is all that training needs

    def __init__(
        self,
        model: Path | Mapping[str, Decoder] | None = None,
        levels: Sequence[str] | None = None,
        variant: Variant = "monge",
        style_scale: float = 1.0,
        encoder: VGG | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        check_variant(variant)
        if not (math.isfinite(style_scale) and style_scale > 0):
            raise InputError(f"style-scale is {style_scale}: must be above 0")
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        tune_process()
        self.encoder = load_backbone() if encoder is None else copy.deepcopy(encoder)
        self.encoder.fingerprint = (
            self.encoder.fingerprint or f"{self.encoder.name}:{digest(self.encoder)}"
        )
        self.encoder.eval().requires_grad_(False)
        if isinstance(model, Mapping):
            name, decoders = "decoders", model
        else:
            path = BUNDLED if model is None else Path(model)
            name, decoders = path.name, _load(path, self.encoder)
        self.levels = _deep_to_shallow(decoders if levels is None else levels)
        missing = [tap for tap in self.levels if tap not in decoders]
        if missing or not self.levels:
            raise InputError(
                f"model {name} has no level {', '.join(missing) or '(none named)'}: name some of "
                f"{', '.join(_deep_to_shallow(decoders))}"
            )
        self.network = nn.ModuleDict({tap: decoders[tap] for tap in self.levels})
        channels_last(self.encoder.to(self.device, self.dtype))
        channels_last(self.network.to(self.device, self.dtype))
        self.variant: Variant = variant
        self.style_scale = style_scale
        self.weights = (1.0, 1.0)  # of the terms of the loss; see untrained()
        self.notes: list[str] = []
        self.settings: dict[str, Any] = {
            "method": "wct",
            "model": name,
            "backbone": self.encoder.fingerprint,
            "levels": self.levels,
            "variant": variant,
            "style_scale": style_scale,
            "device": describe(self.device, self.dtype),
        }

    def prepare(
        self, styles: Sequence[Source | StoredStyle], weights: Sequence[float] | None = None
    ) -> Style:
        """Get ready for one or several styles; their moments are averaged by ``weights``.

        Raises:
            InputError: if a stored style does not fit the encoder or the levels, or the weights
                do not fit the styles.
        """
        parts: list[Tensor | StoredStyle] = []
        for style in styles:
            if isinstance(style, StoredStyle):
                style.check(self.encoder.fingerprint, self.levels)
                parts.append(style)
            else:
                parts.append(read(style).rgb)
        if weights is not None and any(weight < 0 for weight in weights):
            raise InputError("weights of styles must not be negative")
        return Style(parts, shares(len(parts), weights), self.measure)

    def measure(self, picture: Tensor) -> LayerMoments:
        """Normalised moments of a picture ``(3, H, W)`` at the levels, in float32."""
        moments = self._moments(self._on_device(picture[None]))
        return {
            tap: Moments(m.weight[0], m.first[0], m.second[0]).normalised().to(torch.float32)
            for tap, m in moments.items()
        }

    @torch.no_grad()
    def __call__(
        self,
        content: Source,
        style: Style,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Render ``content`` ``(3, H, W)`` in 0..1; the result has its size and is on the CPU.

        ``strength`` mixes the features with their transformed ones at every level. Below 1, the
        same share of what the decoder loses of the picture is put back, so that 0 gives the
        content itself.

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
        check_memory((height, width), BYTES_PER_PIXEL, self.device)
        aim = style.at(max(MIN_SIDE, round(min(height, width) * self.style_scale)))
        return self._transfer(self._on_device(rgb[None]), aim, strength)[0].cpu()

    def _transfer(self, picture: Tensor, aim: LayerMoments, strength: float = 1.0) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1, through all levels."""
        size = (picture.shape[-2], picture.shape[-1])
        for tap in self.levels:
            features = self._encode(picture, [tap])[tap]
            own = measure(_inside(features, tap, size))
            moved = wct(features, aim[tap], strength, own, self.variant, NOISE)
            out = self._decode(tap, moved, size)
            if strength < 1:
                out = out + (1 - strength) * (picture - self._decode(tap, features, size))
            picture = out.clamp(0, 1)
        return picture

    def _on_device(self, pictures: Tensor) -> Tensor:
        return pictures.to(self.device, torch.float32, memory_format=torch.channels_last)

    @torch.no_grad()
    def _moments(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments of pictures ``(B, 3, H, W)`` at the levels."""
        size = (pictures.shape[-2], pictures.shape[-1])
        features = self._encode(pictures, self.levels)
        return {tap: measure(_inside(features[tap], tap, size)) for tap in self.levels}

    def _encode(self, pictures: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Features of ``(B, 3, H, W)``, float32, whose cells cover the pictures.

        The pictures are continued by replication, to whole cells and beyond. The encoder pads with
        zeros inside, which gives even a flat picture features that vary at its edge, and whitening
        would make a frame of that.
        """
        height, width = pictures.shape[-2:]
        unit = max(_factor(tap) for tap in taps)
        near = MARGIN * unit
        right, below = near + -width % unit, near + -height % unit
        padded = F.pad(pictures, (near, right, near, below), mode="replicate")
        features = {}
        for tap, whole in self.encoder(padded, taps).items():
            cell = _factor(tap)
            first, rows, columns = near // cell, -(-height // cell), -(-width // cell)
            features[tap] = whole[..., first : first + rows, first : first + columns].float()
        return features

    def _decode(self, tap: str, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures ``(B, 3, *size)``, not clipped; a cell around them is decoded and cut off."""
        cell = _factor(tap)
        around = F.pad(features, (1, 1, 1, 1), mode="replicate")
        around = around.to(self.dtype, memory_format=torch.channels_last)
        out: Tensor = self.network[tap](around)
        return out[..., cell : cell + size[0], cell : cell + size[1]].float()

    # Training, see impasto.training.fit.

    @classmethod
    def untrained(
        cls,
        taps: Sequence[str] | None = None,
        widths: Mapping[str, Widths] | None = None,
        upsampling: Literal["nearest", "bilinear"] = "nearest",
        pixels: float = 1.0,
        features: float = 1.0,
        encoder: VGG | None = None,
    ) -> WCT:
        """A method to train, with random weights, in float32 on the CPU.

        Args:
            taps: one decoder for each; None for every ``relu*_1`` that the encoder has.
            widths: tap -> widths of its :class:`Decoder`, one block for each block of the encoder,
                deep to shallow; taps that are not named, and None, mirror the encoder.
            upsampling: of the decoders.
            pixels, features: weights of the two terms of :meth:`loss`.
            encoder: None takes ``compact``.

        Raises:
            InputError: for taps that the encoder does not have, or widths that do not fit them.
        """
        net = load_backbone() if encoder is None else encoder
        if taps is None:
            taps = [tap for tap in net.taps if tap.startswith("relu") and tap.endswith("_1")]
        net.check(taps)
        chosen = mirrored(net, taps) | dict(widths or {})
        decoders: dict[str, Decoder] = {}
        for tap, blocks in chosen.items():
            if tap not in taps or len(blocks) != int(tap[4]):
                raise InputError(
                    f"widths of {tap}: give {tap[4]} blocks, deep to shallow, for one of the taps "
                    f"{', '.join(taps)}"
                )
            decoders[tap] = decoder = Decoder(net.channels(tap), blocks, upsampling=upsampling)
            assert decoder.last.bias is not None
            nn.init.constant_(decoder.last.bias, 0.5)  # mid-grey: a third of the loss at 80 steps
        method = cls(decoders, encoder=net, device="cpu", precision="float32")
        method.weights = (pixels, features)
        return method

    def start(self, crops: Tensor) -> None:
        """Fit every decoder so that it inverts the encoder, see :func:`fit_decoder`."""
        whole = self._whole(crops)
        for tap, decoder in self.network.items():
            assert isinstance(decoder, Decoder)
            fit_decoder(decoder, self.encoder, {0: tap}, whole)

    def to(self, device: torch.device) -> None:
        """Move encoder and decoders to ``device``."""
        self.device = device
        self.encoder.to(device)
        self.network.to(device)

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """Reconstruction by every decoder: pixels, and the encoder's features of them.

        Both are relative to how much the target varies. The edge of the crops serves the features
        as surroundings: a decoder sees and is judged by what lies inside, where there is no trace
        of the crop's end, as at use.

        Args:
            contents: photographs ``(B, 3, H, W)``.
            styles: not used.

        Raises:
            InputError: for crops too small for the deepest level.
        """
        contents = self._whole(contents)
        with torch.no_grad():
            seen = self.encoder(contents, self.levels)
        terms = {}
        for tap in self.levels:
            inside = (..., slice(RIM, -RIM), slice(RIM, -RIM))
            edge = RIM * _factor(tap)
            middle = (..., slice(edge, -edge), slice(edge, -edge))
            out = self.network[tap](seen[tap][inside])
            whole = contents.clone()
            whole[middle] = out.to(whole.dtype)
            again = self.encoder(whole, [tap])[tap]
            pixels, features = self.weights
            terms[f"{tap} pixels"] = pixels * content_loss(out, contents[middle])
            terms[f"{tap} features"] = features * content_loss(again[inside], seen[tap][inside])
        return terms

    def _whole(self, crops: Tensor) -> Tensor:
        """Crops cut to whole cells of the deepest level, of which something must lie inside."""
        cell = _factor(self.levels[0])
        height, width = crops.shape[-2:]
        if min(height, width) < (2 * RIM + 2) * cell:
            raise InputError(
                f"crops of {width}x{height} are too small for {self.levels[0]}: use "
                f"{(2 * RIM + 2) * cell} pixels or more"
            )
        return crops[..., : height // cell * cell, : width // cell * cell]

    @torch.no_grad()
    def render(self, contents: Tensor, styles: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` in 0..1 of batches of contents and styles."""
        with torch.autocast(self.device.type, enabled=False):  # it would round the transform
            return self._transfer(contents, self._moments(styles))

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """Write the model as float16, with its configuration and ``figures`` in the header."""
        config: dict[str, Any] = {}
        for tap, decoder in self.network.items():
            assert isinstance(decoder, Decoder)
            config[tap] = {"widths": _widths(decoder), "upsampling": decoder.upsampling}
        header = {
            "method": "wct",
            "config": json.dumps(config),
            "encoder": self.encoder.fingerprint,
            "figures": json.dumps(figures),
            "format": "1",
            "licence": "MIT (impasto)",
            "training data": "photographs, see models/CARD.md",
        }
        state = self.network.state_dict()
        save_tensors(path, {name: t.to(torch.float16) for name, t in state.items()}, header)


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


def _widths(decoder: Decoder) -> Widths:
    blocks: Any = decoder.blocks
    return [[c.out_channels for c in block if isinstance(c, nn.Conv2d)] for block in blocks]


def _load(path: Path, encoder: VGG) -> dict[str, Decoder]:
    """Decoders by tap, from what :meth:`WCT.save` wrote."""
    if path == BUNDLED and not path.exists():
        raise InputError(
            f"{path}: the bundled model is not there; install impasto again, or give a model made "
            "by `impasto train wct`"
        )
    tensors, header = load_tensors(path)
    try:
        if header["method"] != "wct":
            raise KeyError
        if header["encoder"] != encoder.fingerprint:
            raise InputError(
                f"{path}: made for another encoder ({header['encoder']}, here is "
                f"{encoder.fingerprint}); train it again for this one"
            )
        decoders = {
            tap: Decoder(encoder.channels(tap), entry["widths"], upsampling=entry["upsampling"])
            for tap, entry in json.loads(header["config"]).items()
        }
        network = nn.ModuleDict(decoders)
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{path}: not a model made by `impasto train wct`; name another file"
        ) from None
    network.eval().requires_grad_(False)
    return decoders


def _deep_to_shallow(taps: Mapping[str, Decoder] | Sequence[str]) -> list[str]:
    return sorted(taps, key=lambda tap: tap[4:], reverse=True)


def _factor(tap: str) -> int:
    """Side of a cell at ``tap``, in pixels."""
    return 1 << (int(tap[4]) - 1)


def _inside(features: Tensor, tap: str, size: tuple[int, int]) -> Tensor:
    """The cells that lie wholly in a picture of ``size``: statistics are of these alone."""
    return features[..., : size[0] // _factor(tap), : size[1] // _factor(tap)]
