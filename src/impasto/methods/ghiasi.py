"""Any style in one pass: a network like Johnson's whose normalisation is predicted from the style.

Ghiasi, Lee, Kudlur, Dumoulin & Shlens, "Exploring the structure of a real-time, arbitrary neural
artistic stylization network", BMVC 2017. Johnson's network learns a few paintings. Dumoulin et al.,
"A Learned Representation for Artistic Style", ICLR 2017, find that paintings can share all weights
except the scales and shifts of the normalisation layers. Here a second network predicts these
scales and shifts from a painting. One training therefore serves every painting, also paintings that
were not in the training data.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..backbones import Backbone, load_backbone
from ..device import arranged
from ..errors import InputError, spelled
from ..images import MIN_SIDE, Source
from ..images.canvas import Canvas, reduced
from ..networks.norm import StyledNorm
from ..networks.painter import AMOUNT as PAINTER_AMOUNT
from ..networks.painter import Painter, Predicted
from ..networks.tiling import Paint
from ..networks.transformer import AMOUNT, Transformer
from ..options import takes
from ..statistics import Moments
from ..styles import LayerMoments, LearntStyle, StoredStyle, Style
from ..watch import portion
from .anystyle import AIM, AnyStyle
from .feedforward import with_lost_detail
from .learnt import Learnt
from .model import StyleModel
from .records.ghiasi import GhiasiOptions

__all__ = ["Ghiasi", "GhiasiConfig", "GhiasiModel", "style_code"]

Network = Literal["residual", "painter"]
WIDTHS: Mapping[str, tuple[int, ...]] = {"residual": (32, 64, 128), "painter": (24, 48, 64, 160)}
AMOUNTS = {"residual": AMOUNT, "painter": PAINTER_AMOUNT}
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
# Layers that `impasto learn` may train for one painting: the last ones, at the picture's full size.
LAST = ("painter.last.", "painter.up.1.conv.", "painter.up2.conv.")
CODED = 512  # largest short side in pixels at which a painting is measured, by default


@dataclass(frozen=True)
class GhiasiConfig:
    """Configuration of the network, stored in the header of a model file.

    Attributes:
        network: ``residual``, Johnson's network, or ``painter``, which works at an eighth of the
            size and takes half the time; see :mod:`impasto.networks`.
        widths: channels of the layers; None takes the default of the network.
        blocks: number of blocks at the smallest size.
        rows: number of rows of scales and shifts in every normalisation layer; a style is a
            mixture of these rows.
        encoder: the backbone that measures styles.
    """

    network: Network = "residual"
    widths: tuple[int, ...] | None = None
    blocks: int = 5
    rows: int = 129
    encoder: str = "compact"

    def __post_init__(self) -> None:
        if self.widths is None:
            object.__setattr__(self, "widths", WIDTHS.get(self.network, ()))


class GhiasiModel(StyleModel):
    """The encoder, the predictor and the network that renders."""

    method = "ghiasi"
    learns_from = "photographs and paintings"
    finish = ("degrid",)
    renames: ClassVar = {"kind": "network"}
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
        if config.network not in get_args(Network):
            known = " or ".join(get_args(Network))
            raise InputError(f"network {config.network!r} is unknown: use {known}")
        if type(config.rows) is not int or config.rows < 2:
            raise InputError(f"rows = {config.rows}: must be 2 or more")
        widths = config.widths or ()
        painter: Transformer | Painter
        if config.network == "painter":
            painter = Painter(widths, config.blocks, config.rows)
        else:
            painter = Transformer("residual", widths, config.blocks, 1, config.rows, noise=True)
        code = 2 * sum(self.encoder.channels(tap) for tap in TAPS)
        return Predicted(painter, code, config.rows)

    @classmethod
    def unloaded(
        cls, config: dict[str, Any], header: Mapping[str, str], path: str, **options: Any
    ) -> GhiasiModel:
        """See :class:`Model`."""
        encoder = load_backbone(config["encoder"])
        if header["encoder"] != encoder.fingerprint:
            raise InputError(
                f"{path}: made for another encoder ({header['encoder']}, here is "
                f"{encoder.fingerprint}); train it again"
            )
        return cls(cls.Config(**config), encoder, drawn=False)

    def header(self) -> dict[str, str]:
        """The fingerprint of the encoder."""
        return {"encoder": self.encoder.fingerprint}

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder."""
        return self.encoder.fingerprint

    @property
    def taps(self) -> Sequence[str]:
        """Layers whose statistics form the code of a style."""
        return TAPS

    @property
    def networks(self) -> list[nn.Module]:
        """The network that renders."""
        return [self.network.painter]

    @property
    def halo(self) -> int:
        """That of the network that renders."""
        return self.network.painter.halo

    @property
    def unit(self) -> int:
        """That of the network that renders."""
        return self.network.painter.unit

    @property
    def side(self) -> int:
        """Large for the painter, which needs a wide halo and, in tiles, little memory."""
        return 3072 if self.config.network == "painter" else super().side

    @property
    def exact(self) -> list[nn.Module]:
        """Encoder and predictor, which run once for a painting: bfloat16 would change its code."""
        return [self.encoder, self.network.predictor]

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, separately for each picture of a batch."""
        features = self.encoder(pictures, TAPS)
        return {tap: Moments.of(features[tap].float()) for tap in TAPS}

    def rows(self, moments: LayerMoments) -> Tensor:
        """Predict the shares of the rows ``(B, rows)``, float32, from the moments of styles."""
        code = style_code(moments)
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
            style: shares of the rows ``(B or 1, rows)``; the rows of ``learnt`` come last.
            strength: mixes the last layers of ``learnt`` with the network's own; the shares of the
                rows already contain it.
            learnt: see :meth:`replacements`.
            noise: replaces the default, see :meth:`impasto.networks.painter.Predicted.forward`.
        """
        network, inputs = self.network, (contents, style, noise)
        if not learnt:
            out: Tensor = network(*inputs)
            return out.float()
        # Copied modules that share the tensors: other threads may render with the same network.
        shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
        replacements = self.replacements(learnt, min(strength, 1.0))
        out = functional_call(copy.deepcopy(network, shared), replacements, inputs)
        return out.float()

    def replacements(self, learnt: Sequence[Learnt], strength: float) -> dict[str, Tensor]:
        """Tensors that replace parameters of the network, by name; the network is not changed.

        Args:
            learnt: learnt styles; the rows of each are appended to those of the network, and its
                last layers, if they were learnt too, replace those of the network.
            strength: share of these last layers, 0..1.
        """
        replacements, begin = {}, 0
        for name, norm in self.network.named_modules() if learnt else ():
            if not isinstance(norm, StyledNorm):
                continue
            end = begin + norm.scale.shape[1]
            rows = torch.stack([part.rows[:, begin:end] for part in learnt], 1).to(norm.scale)
            replacements[f"{name}.scale"] = torch.cat([norm.scale, rows[0]])
            replacements[f"{name}.shift"] = torch.cat([norm.shift, rows[1]])
            begin = end
        parameters = dict(self.network.named_parameters())
        for part in learnt:
            for name, layer in part.layers.items():
                parameter = parameters[name]
                replacements[name] = parameter.lerp(layer.to(parameter), strength)
        return replacements

    def fits(self, learnt: Learnt) -> bool:
        """Whether the rows and layers of a learnt style have the shapes of this network."""
        parameters = dict(self.network.named_parameters())
        width = sum(norm.scale.shape[1] for norm in self.network.norms())
        return learnt.rows.shape == (2, width) and all(
            name.startswith(LAST) and name in parameters and layer.shape == parameters[name].shape
            for name, layer in learnt.layers.items()
        )

    def predicted(self, shares: Tensor, mixable: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """``rows`` and ``layers`` of :class:`Learnt` as predicted: the start of the learning."""
        rows = [
            torch.cat([shares @ norm.scale, shares @ norm.shift]) for norm in self.network.norms()
        ]
        trained = () if mixable else self.network.named_parameters()
        last = {name: layer.detach().clone() for name, layer in trained if name.startswith(LAST)}
        return torch.cat(rows, 1), last

    def digest(self) -> str:
        """Digest of the weights in float16; styles learnt with other weights are refused."""
        sha = sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            sha.update(name.encode())
            sha.update(tensor.cpu().half().contiguous().numpy().tobytes())
        return sha.hexdigest()[:12]

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """That of the last layer: several copies of its input at full size, and its output."""
        full, half = (self.config.widths or ())[:2]
        return torch.finfo(dtype).bits / 8 * (4.2 * half + full)

    def bytes_per_pixel_of_tile(self, dtype: torch.dtype) -> float:
        """Of the painter, whose last layers then work in strips: its other layers, and pictures."""
        if self.config.network != "painter":
            return self.bytes_per_pixel(dtype)
        return 60 + torch.finfo(dtype).bits / 8 * 30


@takes(GhiasiOptions)
class Ghiasi(AnyStyle):
    """Any style in one pass, predicted: the default (Ghiasi et al. 2017).

    Args:
        model: a file made by ``impasto train ghiasi``; None takes the bundled one.
        options: see :class:`impasto.methods.records.ghiasi.GhiasiOptions`.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    model: GhiasiModel

    def __init__(self, model: Path | None = None, **options: Any) -> None:
        chosen = GhiasiOptions.of("method ghiasi", {"model": model, **options})
        loaded = GhiasiModel.load(chosen.model)
        network = loaded.config.network
        amount = AMOUNTS[network] if chosen.noise is None else chosen.noise
        self.digest = loaded.digest()
        super().__init__(loaded, chosen, network=network, weights_digest=self.digest, noise=amount)
        self.model.network.painter.amount = amount

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle | Style],
        weights: Sequence[float] | None = None,
    ) -> Style:
        """See :class:`AnyStyle`. Styles may also be learnt ones, see :class:`Learnt`.

        Raises:
            InputError: for a style that was learnt with another model, or one that cannot be mixed
                with the others.
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
                    f"{self.digest}): learn it again with this one, or name the other "
                    f"({spelled('model')})"
                )
            if not self.model.fits(part):
                raise InputError(f"style {part.name}: is damaged; learn it again")
            if len(style.parts) > 1 and part.layers:
                raise InputError(
                    f"style {part.name}: the network's last layers were learnt too, so that it "
                    f"does not mix with others: learn it again with {spelled('mixable', True)}, or "
                    "give it alone"
                )

    def rows(self, size: tuple[int, int], style: Style) -> Tensor:
        """Shares of the rows, ``(1, rows)``, for a picture of ``size``.

        They are the weighted mean over the paintings of the style. The shares of learnt styles,
        which have rows of their own, are appended.
        """
        short = round(min(CODED, *size) * self.style_scale)
        shares = torch.zeros(1, self.model.config.rows, dtype=torch.float32, device=self.device)
        learnt_shares = []
        for weight, moments in zip(style.weights, style.each(max(MIN_SIDE, short)), strict=True):
            if moments:
                on_device = {tap: m.to(self.device) for tap, m in moments.items()}
                shares += weight * self.model.rows(on_device)
            else:
                learnt_shares.append(weight)
        return torch.cat([shares, shares.new_tensor([learnt_shares])], 1)

    def by_tile(
        self, canvas: Canvas, style: Style, strength: float, side: int | None, stored: bool = False
    ) -> Paint:
        """See :class:`OnePass`.

        Strength 0 are the rows predicted from the photograph itself. Below 1, the same share of the
        detail that the network loses with these rows is added back.
        """
        with portion(AIM):
            rows = self.rows(canvas.size, style)
        learnt = [part for part in style.parts if isinstance(part, Learnt)]
        if strength == 1:
            return self._rendered(canvas, side, rows, 1.0, learnt)
        small = canvas.at(reduced(canvas.size, CODED))
        content_rows = self.model.rows(self.model.measure(self.arranged(small)))
        mix = F.pad(content_rows, (0, len(learnt))).lerp(rows, strength)
        if strength > 1:
            return self._rendered(canvas, side, mix, strength, learnt)
        styled = self._rendered(canvas, side, mix, strength, learnt, share=0.5)
        plain = self._rendered(canvas, side, content_rows, share=0.5)
        return with_lost_detail(styled, plain, 1 - strength)

    def _rendered(
        self,
        canvas: Canvas,
        side: int | None,
        mix: Tensor,
        strength: float = 1.0,
        learnt: Sequence[Learnt] = (),
        share: float = 1.0,
    ) -> Paint:
        def run(part: Tensor, noise: Tensor | None) -> Tensor:
            return self.model(part, mix, strength, learnt, noise)

        return self.measured(self.model.network.painter, run, canvas, side, share)


def style_code(moments: LayerMoments) -> Tensor:
    """The code of a style ``(..., n)``: ``log(1 + x)`` of the mean and deviation of all channels.

    Means and deviations are positive and have skewed distributions; the logarithm evens them out.
    """
    parts = [part for tap in TAPS for part in (moments[tap].mean, moments[tap].deviation())]
    return torch.cat(parts, -1).clamp_min(0).log1p()
