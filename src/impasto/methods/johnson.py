"""One network that has learnt a few paintings: it renders any photograph in one fast pass.

Johnson, Alahi & Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
ECCV 2016; reports 1 and 4. The network is trained with the losses of Gatys, so that rendering needs
no optimisation. As in Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017,
one network serves several paintings: each painting has its own row of scales and shifts in the
normalisation layers. The unchanged photograph is one more such style. Strength, and mixtures of
styles, are therefore weighted means of rows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..images import Source
from ..images.canvas import Canvas
from ..networks.tiling import Paint
from ..networks.transformer import AMOUNT, Network, Transformer
from ..options import takes
from ..statistics import Moments
from ..styles import LearntStyle, StoredStyle, Style, check_list, style_shares
from ..tensors import read_header
from .feedforward import OnePass, with_lost_detail
from .model import Model, bundled
from .records.johnson import JohnsonOptions

__all__ = ["Johnson", "JohnsonConfig", "JohnsonModel"]

FILES: dict[str, Path] = {
    "residual": bundled("johnson"),
    "bottleneck": bundled("johnson-bottleneck"),
}


def learnt_names(network: Network = "residual") -> list[str]:
    """Names of the paintings that the bundled network has learnt; only the header is read."""
    return list(json.loads(read_header(FILES[network])["config"])["styles"])


@dataclass(frozen=True)
class JohnsonConfig:
    """Configuration of the network, stored in the header of a model file.

    Attributes:
        styles: names of the paintings that the network has learnt.
        colors: for each painting, mean (3 numbers) and raw second moment (9) of its RGB pixels.
        network, widths, blocks, expansion, noise: see
            :class:`impasto.networks.transformer.Transformer`.
    """

    styles: tuple[str, ...]
    colors: tuple[tuple[float, ...], ...]
    network: Network = "residual"
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 5
    expansion: float = 1
    noise: bool = False


class JohnsonModel(Model):
    """The network. Row 0 of its normalisation layers returns the photograph itself."""

    method = "johnson"
    learns_from = "photographs and the paintings named"
    finish = ("degrid",)
    renames: ClassVar = {"kind": "network"}
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
        shape = (config.network, config.widths, config.blocks, config.expansion)
        return Transformer(*shape, rows, config.noise)

    @property
    def halo(self) -> int:
        """See :class:`impasto.networks.transformer.Transformer`."""
        return self.network.halo

    @property
    def unit(self) -> int:
        """See :class:`impasto.networks.transformer.Transformer`."""
        return self.network.unit

    def __call__(
        self, contents: Tensor, shares: Tensor, strength: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, of the contents' size.

        Args:
            contents: ``(B, 3, H, W)`` in 0..1.
            shares: share of each style, ``(B or 1, styles)``; rows sum to one.
            strength: ``(B or 1,)``.
            noise: see :meth:`impasto.networks.transformer.Transformer.forward`.
        """
        painted = strength[:, None] * shares
        mix = torch.cat([(1 - strength[:, None]).expand(len(painted), 1), painted], 1)
        out: Tensor = self.network(contents, mix, noise).float()
        return out

    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """That of the last layer: several copies of its input at full size, and its output."""
        full, half, _ = self.config.widths
        copies = 6.3 if self.config.network == "bottleneck" else 4.2
        return torch.finfo(dtype).bits / 8 * (copies * half + full)


@takes(JohnsonOptions)
class Johnson(OnePass):
    """A few paintings, learnt once: one fast pass (Johnson et al. 2016).

    Args:
        model: a file made by ``impasto train johnson``; None takes the bundled one.
        options: see :class:`impasto.methods.records.johnson.JohnsonOptions`.

    Attributes:
        learnt: name -> style, for every painting that the model has learnt. :meth:`prepare` takes
            these styles or their names, but no other painting.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    model: JohnsonModel

    def __init__(self, model: Path | None = None, **options: Any) -> None:
        chosen = JohnsonOptions.of("method johnson", {"model": model, **options})
        loaded = JohnsonModel.load(chosen.model or FILES[chosen.network or "residual"])
        config = loaded.config
        if chosen.network not in (None, config.network):
            raise InputError(
                f"{model}: holds a {config.network} network, not a {chosen.network} one"
            )
        amount = AMOUNT if chosen.noise is None else chosen.noise
        super().__init__(loaded, chosen, network=config.network, noise=amount)
        self.model.network.amount = amount
        self.learnt: dict[str, LearntStyle] = {
            name: LearntStyle(name, _moments(color))
            for name, color in zip(config.styles, config.colors, strict=True)
        }

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle | Style],
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """Shares of the learnt styles, ``(1, styles)``; these may be given again as a style.

        Raises:
            InputError: for a style that the model has not learnt, or weights that do not fit.
        """
        check_list(styles)
        shares = torch.zeros(1, len(self.learnt), dtype=torch.float32, device="cpu")
        for style, share in zip(styles, style_shares(len(styles), weights), strict=True):
            if isinstance(style, Tensor) and style.shape == shares.shape:
                shares += share * style
            else:
                shares[0, list(self.learnt).index(self.find(style).name)] += share
        return shares

    def colors(self, style: Tensor) -> Moments:
        """See :class:`OnePass`."""
        if not isinstance(style, Tensor) or style.shape != (1, len(self.learnt)):
            raise InputError(
                f"style: a {type(style).__name__} where a prepared style belongs: give what "
                "prepare([NAME]) of method johnson returns, or use impasto.stylize()"
            )
        return Moments.mix([learnt.color for learnt in self.learnt.values()], style[0].tolist())

    def find(self, style: object) -> LearntStyle:
        """Return a learnt style by its name; InputError for an unknown name."""
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

    def by_tile(
        self, canvas: Canvas, style: Tensor, strength: float, side: int | None, stored: bool = False
    ) -> Paint:
        """See :class:`OnePass`. Below strength 1, detail that the network loses is added back."""
        shares, strengths = style.to(self.device), torch.tensor([strength], device=self.device)
        if strength >= 1:
            return self._rendered(canvas, side, shares, strengths)
        styled = self._rendered(canvas, side, shares, strengths, share=0.5)
        plain = self._rendered(canvas, side, shares, 0 * strengths, share=0.5)
        return with_lost_detail(styled, plain, 1 - strength)

    def _rendered(
        self,
        canvas: Canvas,
        side: int | None,
        shares: Tensor,
        strength: Tensor,
        share: float = 1.0,
    ) -> Paint:
        def run(part: Tensor, noise: Tensor | None) -> Tensor:
            return self.model(part, shares, strength, noise)

        return self.measured(self.model.network, run, canvas, side, share)


def _moments(color: Sequence[float]) -> Moments:
    values = torch.tensor(color, dtype=torch.float64, device="cpu")
    return Moments(values.new_ones(()), values[:3], values[3:].reshape(3, 3))
