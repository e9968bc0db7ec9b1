"""Any style by a reversible network, which is encoder and decoder in one.

An et al., "ArtFlow: Unbiased Image Style Transfer via Reversible Neural Flows", CVPR 2021;
report 1, sections 3.2 and 4.4, and 4.5 with RBMAD. The network turns the photograph into features,
an operator (AdaIN, WCT or RBMAD) gives them the style's statistics, and the inverse of the same
network turns them back into a picture. The inverse is exact. The method therefore loses no content,
even when its result is stylised again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import Tensor, nn

from ..errors import InputError
from ..networks.flow import Flow
from ..operators import wct as whitening
from ..operators.adain import adain
from ..operators.rbmad import RBMAD
from ..options import takes
from ..statistics import Moments
from ..watch import portion
from .model import bundled, digest
from .records.artflow import ArtFlowOptions, Operator
from .reversible import WAY, FlowModel, FlowStyle, whole

__all__ = ["ArtFlow", "ArtFlowConfig", "ArtFlowModel"]

LATENT = "latent"


@dataclass(frozen=True)
class ArtFlowConfig:
    """Configuration of the network, stored in the header of a model file.

    Attributes:
        operator: the transfer that the network was trained with.
        blocks, steps, hidden, affine: see :class:`impasto.networks.flow.Flow`; the defaults are
            those of report 1 (6.5 M parameters).
        expansion: expansion of RBMAD's bottlenecks.
    """

    operator: Operator = "adain"
    blocks: int = 2
    steps: int = 8
    hidden: int = 512
    affine: bool = False
    expansion: float = 2


class ArtFlowModel(FlowModel):
    """The flow, and one transfer on its deepest features."""

    method = "artflow"
    learns_from = "photographs and paintings"
    Config = ArtFlowConfig
    config: ArtFlowConfig
    network: nn.ModuleDict
    operator: Operator

    def build(self) -> nn.ModuleDict:
        """See :class:`ArtFlowConfig`."""
        config = self.config
        self.operator = checked(config.operator)
        self.flow = Flow(config.blocks, config.steps, config.hidden, config.affine)
        parts: dict[str, nn.Module] = {"flow": self.flow}
        if config.operator == "rbmad":
            self.rbmad = RBMAD(3 * 4**config.blocks, config.expansion)
            parts["rbmad"] = self.rbmad
        return nn.ModuleDict(parts)

    @property
    def fingerprint(self) -> str:
        """A digest of the weights, because the network is its own encoder."""
        return f"artflow-{digest(self.network)}"

    @property
    def taps(self) -> tuple[str, ...]:
        """Only one: the features of the flow."""
        return (LATENT,)

    def features(self, pictures: Tensor) -> Tensor:
        """Features of the flow, ``(B, 3 unit^2, ceil(H / unit), ceil(W / unit))``."""
        with portion(WAY):
            return self.flow(whole(pictures, self.flow.unit))  # type: ignore[no-any-return]

    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments of the features; with RBMAD, of the features that it selects from them."""
        features = self.features(pictures)
        if self.operator == "rbmad":
            return {LATENT: self.rbmad.measure(features)}
        return {LATENT: whitening.measure(features)}

    def __call__(
        self, contents: Tensor, style: Mapping[str, Moments], strength: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, of the contents' size."""
        height, width = contents.shape[-2:]
        stylised = self._transferred(self.features(contents), style[LATENT], strength)
        return self.flow.inverse(stylised, inplace=True)[..., :height, :width]

    def _transferred(self, features: Tensor, target: Moments, strength: float) -> Tensor:
        """``features`` with the statistics of the style, by the operator."""
        with portion(1 - 2 * WAY):
            if self.operator == "rbmad":
                return self.rbmad(features, target, strength)  # type: ignore[no-any-return]
            if self.operator == "wct":
                return whitening.wct(features, target, strength)
            return adain(features, target.to(features.dtype).to(features.device), strength)


@takes(ArtFlowOptions)
class ArtFlow(FlowStyle):
    """Any style by a reversible network, which loses nothing of the content (An et al. 2021).

    Args:
        model: a file made by ``impasto train artflow``; None takes the bundled one.
        options: see :class:`impasto.methods.records.artflow.ArtFlowOptions`.

    Raises:
        InputError: for a file that is no such model, or an option out of its range.
    """

    model: ArtFlowModel

    def __init__(self, model: Path | None = None, **options: Any) -> None:
        chosen = ArtFlowOptions.of("method artflow", {"model": model, **options})
        rbmad = chosen.operator == "rbmad"
        loaded = ArtFlowModel.load(chosen.model or bundled("artflow-rbmad" if rbmad else "artflow"))
        trained = loaded.config.operator
        if chosen.operator is not None and rbmad != (trained == "rbmad"):
            raise InputError(f"{model}: was trained with operator {trained}, not {chosen.operator}")
        loaded.operator = chosen.operator or trained
        super().__init__(loaded, chosen, operator=loaded.operator)


def checked(operator: Operator) -> Operator:
    """Return ``operator``. Raises InputError for an unknown one."""
    if operator not in get_args(Operator):
        raise InputError(f"operator {operator!r} is unknown: use {', '.join(get_args(Operator))}")
    return operator
