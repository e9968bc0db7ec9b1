"""Any style by a reversible network, which is stylised on its way back, block by block.

Fan et al., "StyleFlow for Content-Fixed Image to Image Translation", 2022; report 1, sections 3.4,
4.6 and 4.7. The network turns the photograph into features; its inverse turns features into a
picture. Before the inverse of each block, a small network (SAN or RBMAD) reads content and style,
predicts a mean and a deviation for every channel, and gives them to the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.flow import Flow
from ..operators.rbmad import RBMAD, CodeRBMAD
from ..operators.san import SAN, style_code
from ..options import takes
from ..statistics import Moments
from ..watch import portion
from .model import EncoderModel, bundled, digest
from .records.styleflow import Mixture, StyleFlowOptions
from .reversible import WAY, FlowModel, FlowStyle, whole

__all__ = ["StyleFlow", "StyleFlowConfig", "StyleFlowModel"]

TRANSFER = 0.05  # rough share of a block's work on the way back, for the progress
CODED = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")  # layers whose statistics code a style


@dataclass(frozen=True)
class StyleFlowConfig:
    """Configuration of the network, stored in the header of a model file.

    Report 1 can be read in three ways where it joins RBMAD to StyleFlow:

    * ``san``: StyleFlow as it is, with a ResBottleneck that selects from the content's features
      before SAN reads them (section 4.7: "we only apply ResBottleneck on the content feature").
    * ``scm``: that, and then section 3.3 in place of SAN: AdaIN towards the mixture of content and
      style (Eq. 6 and 7). The style's half comes from its code, see
      :class:`impasto.operators.rbmad.CodeRBMAD`.
    * ``layers``: section 3.4 and Fig. 9, "put different layers of style features into different
      layers of RBMAD": each block mixes the content with the encoder's features of the painting at
      one layer, both selected by a ResBottleneck, as section 3.3 has it. The block nearest the
      picture gets the shallowest layer: block ``n`` works on cells of 2^n pixels and gets
      relu(n+1)_1, whose features are as far apart, and which sees as much of the picture.

    Attributes:
        encoder: the encoder that measures styles, ``slim`` or ``vgg19``.
        rbmad: ``none`` (SAN alone), or one of the above.
        blocks, steps, hidden, affine: see :class:`impasto.networks.flow.Flow`; the defaults are
            those of report 1.
        wide: width of SAN's inner layers.
    """

    encoder: str = "slim"
    rbmad: Mixture = "none"
    blocks: int = 2
    steps: int = 15
    hidden: int = 512
    affine: bool = False
    wide: int = 768


class StyleFlowModel(FlowModel, EncoderModel):
    """The flow, and one transfer (SAN or RBMAD) for each of its blocks."""

    method = "styleflow"
    learns_from = "photographs and paintings"
    Config = StyleFlowConfig
    config: StyleFlowConfig
    network: nn.ModuleDict

    def build(self) -> nn.ModuleDict:
        """See :class:`StyleFlowConfig`; InputError for values that do not go together."""
        config, encoder = self.config, self.encoder
        if config.rbmad not in get_args(Mixture):
            known = ", ".join(get_args(Mixture))
            raise InputError(f"rbmad {config.rbmad!r} is unknown: use {known}")
        encoder.check(self.taps)
        self.flow = Flow(config.blocks, config.steps, config.hidden, config.affine)
        self.transfers = [self._transfer(block) for block in range(config.blocks)]
        # Their name in files, from when all were SAN.
        return nn.ModuleDict({"flow": self.flow, "sans": nn.ModuleList(self.transfers)})

    def _transfer(self, block: int) -> SAN | RBMAD:
        config, encoder = self.config, self.encoder
        size = 3 * 4 ** (block + 1)
        if config.rbmad == "layers":
            return RBMAD(size, style_channels=encoder.channels(self.taps[block]))
        code = 2 * sum(encoder.channels(tap) for tap in self.taps)
        if config.rbmad == "scm":
            return CodeRBMAD(size, code)
        return SAN(size, code, config.wide, bottleneck=config.rbmad == "san")

    @classmethod
    def unloaded(  # type: ignore[override]
        cls, config: dict[str, Any], header: Mapping[str, str], path: str, **options: Any
    ) -> StyleFlowModel:
        """See :class:`Model`; files made before there were three readings say yes or no."""
        if isinstance(config["rbmad"], bool):
            config["rbmad"] = "san" if config["rbmad"] else "none"
        return super().unloaded(config, header, path, **options)

    @property
    def fingerprint(self) -> str:
        """Of the encoder; where RBMAD selects from its features, of this, too."""
        encoder = super().fingerprint
        if self.config.rbmad != "layers":
            return encoder
        return f"styleflow-{encoder}-{digest(nn.ModuleList(self.transfers))}"

    @property
    def taps(self) -> tuple[str, ...]:
        """Layers whose statistics form the code of a style, or one for each block."""
        if self.config.rbmad == "layers":
            return tuple(f"relu{block + 2}_1" for block in range(self.config.blocks))
        return CODED

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, separately for each picture of a batch.

        With ``layers``, those of the style's half of the mixture.
        """
        with torch.no_grad():
            features = self.encoder(pictures, self.taps)
        if self.config.rbmad == "layers":
            pairs = zip(self.taps, self._mixing, strict=True)
            return {tap: transfer.measure(features[tap]) for tap, transfer in pairs}
        return {tap: Moments.of(features[tap]) for tap in self.taps}

    def __call__(
        self, contents: Tensor, style: Mapping[str, Moments], strength: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, of the contents' size."""
        height, width = contents.shape[-2:]
        aims = self._aims(style, contents.dtype)

        def before(number: int, features: Tensor) -> Tensor:
            transfer, aim = self.transfers[number], aims[number]
            with portion(TRANSFER):
                if isinstance(transfer, SAN):
                    return transfer(features, aim, strength, inplace=True)  # type: ignore[no-any-return]
                return transfer(features, aim, strength)  # type: ignore[no-any-return]

        unit = self.flow.unit
        out = self.flow.inverse(self._features(whole(contents, unit)), before, inplace=True)
        return out[..., :height, :width]

    def _features(self, pictures: Tensor) -> Tensor:
        with portion(WAY):
            return self.flow(pictures)  # type: ignore[no-any-return]

    @property
    def _mixing(self) -> list[RBMAD]:
        return [transfer for transfer in self.transfers if isinstance(transfer, RBMAD)]

    def _aims(self, style: Mapping[str, Moments], dtype: torch.dtype) -> list[Any]:
        """What the transfer of each block is told of the style."""
        if self.config.rbmad == "layers":
            return [style[tap].to(dtype) for tap in self.taps]
        code = style_code({tap: style[tap] for tap in self.taps}).to(dtype)
        code = code.reshape(-1, code.shape[-1])
        if self.config.rbmad == "scm":
            return [transfer.measure(code) for transfer in self._mixing]
        return [code] * self.config.blocks


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
        trained = "san" if loaded.config.rbmad == "none" else "rbmad"
        if chosen.operator not in (None, trained):
            raise InputError(f"{model}: was trained with operator {trained}, not {chosen.operator}")
        super().__init__(loaded, chosen, operator=trained, rbmad=loaded.config.rbmad)
