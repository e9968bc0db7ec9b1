"""Any style by a reversible network, which is stylised on its way back, block by block.

Fan et al., "StyleFlow for Content-Fixed Image to Image Translation", 2022; paper 1, sections 4.6
and 4.7. The network turns the photograph into features; its inverse turns features into a picture.
Before the inverse of each block, a small network (SAN) reads content and style, predicts a mean and
a deviation for every channel, and gives them to the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.flow import Flow
from ..operators.san import SAN, style_code
from ..options import takes
from ..statistics import Moments
from .model import EncoderModel, bundled
from .records.styleflow import StyleFlowOptions
from .reversible import FlowModel, FlowStyle, whole

__all__ = ["StyleFlow", "StyleFlowConfig", "StyleFlowModel"]

CODED = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")  # layers whose statistics code a style


@dataclass(frozen=True)
class StyleFlowConfig:
    """Configuration of the network, stored in the header of a model file.

    Attributes:
        encoder: the encoder that measures styles, ``slim`` or ``vgg19``.
        rbmad: select from the content's features by a ResBottleneck before SAN reads them (paper 1,
            section 4.7: only for the content).
        blocks, steps, hidden, affine: see :class:`impasto.networks.flow.Flow`; the defaults are
            those of paper 1.
        wide: width of SAN's inner layers.
    """

    encoder: str = "slim"
    rbmad: bool = False
    blocks: int = 2
    steps: int = 15
    hidden: int = 512
    affine: bool = False
    wide: int = 768


class StyleFlowModel(FlowModel, EncoderModel):
    """The flow, and one SAN for each of its blocks."""

    method = "styleflow"
    learns_from = "photographs and paintings"
    Config = StyleFlowConfig
    config: StyleFlowConfig
    network: nn.ModuleDict

    def build(self) -> nn.ModuleDict:
        """See :class:`StyleFlowConfig`."""
        config, encoder = self.config, self.encoder
        encoder.check(self.taps)
        code = 2 * sum(encoder.channels(tap) for tap in self.taps)
        self.flow = Flow(config.blocks, config.steps, config.hidden, config.affine)
        sizes = [3 * 4 ** (block + 1) for block in range(config.blocks)]
        self.sans = nn.ModuleList(SAN(size, code, config.wide, config.rbmad) for size in sizes)
        return nn.ModuleDict({"flow": self.flow, "sans": self.sans})

    @property
    def taps(self) -> tuple[str, ...]:
        """Layers whose statistics form the code of a style."""
        return CODED

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, separately for each picture of a batch."""
        with torch.no_grad():
            features = self.encoder(pictures, self.taps)
            return {tap: Moments.of(features[tap]) for tap in self.taps}

    def __call__(
        self, contents: Tensor, style: Mapping[str, Moments], strength: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, of the contents' size."""
        height, width = contents.shape[-2:]
        code = style_code({tap: style[tap] for tap in self.taps}).to(contents.dtype)
        code = code.reshape(-1, code.shape[-1])

        def before(number: int, features: Tensor) -> Tensor:
            out: Tensor = self.sans[number](features, code, strength, inplace=True)
            return out

        unit = self.flow.unit
        out = self.flow.inverse(self.flow(whole(contents, unit)), before, inplace=True)
        return out[..., :height, :width]


@takes(StyleFlowOptions)
class StyleFlow(FlowStyle):
    """Any style by a reversible network styled block by block (Fan et al. 2022).

    Args:
        model: a file made by ``impasto train styleflow``; None takes the bundled one.
        options: see :class:`impasto.methods.records.styleflow.StyleFlowOptions`.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    model: StyleFlowModel

    def __init__(self, model: Path | None = None, **options: Any) -> None:
        chosen = StyleFlowOptions.of("method styleflow", {"model": model, **options})
        rbmad = chosen.operator == "rbmad"
        loaded = StyleFlowModel.load(
            chosen.model or bundled("styleflow-rbmad" if rbmad else "styleflow"),
            encoder_weights=chosen.backbone_weights,
            convention=chosen.convention,
        )
        trained = "rbmad" if loaded.config.rbmad else "san"
        if chosen.operator not in (None, trained):
            raise InputError(f"{model}: was trained with operator {trained}, not {chosen.operator}")
        super().__init__(loaded, chosen, operator=trained)
