"""A stored model: a network in a file with its configuration."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..backbones import VGG, load_vgg
from ..device import arranged, blank
from ..errors import InputError
from ..finish import REPAIRS
from ..statistics import Moments
from ..tensors import load_tensors, save_tensors

__all__ = ["MODELS", "EncoderModel", "Model", "StyleModel", "bundled", "tuples"]

MODELS = Path(__file__).parent.parent / "models"
AnyModel = TypeVar("AnyModel", bound="Model")
AnyEncoderModel = TypeVar("AnyEncoderModel", bound="EncoderModel")


def bundled(method: str) -> Path:
    """Where the model of a method is, if it comes with the package."""
    return MODELS / f"{method}.safetensors"


class Model(ABC):
    """A network in a file with its configuration: what rendering and training share.

    Attributes:
        method: its name, which stands in the file.
        learns_from: stands there too.
        Config: the dataclass of ``config``.
        name: of the file that it was read from.
        reversible: whether the network is run backwards, which takes float32.
        finish: repairs that its pictures want, in their order, see :mod:`impasto.finish`; as the
            class has them where the file does not say.
        period: side in pixels of the cells in which the network may print a grid.
    """

    method: ClassVar[str]
    learns_from: ClassVar[str]
    Config: ClassVar[type]
    name = "untrained"
    reversible = False
    finish: tuple[str, ...] = ()
    period = 4

    def __init__(self, config: Any, drawn: bool = True) -> None:
        """``drawn``: with random weights; False for a model whose weights are to be loaded."""
        self.config = config
        self.network = arranged(self.build() if drawn else blank(self.build))

    @abstractmethod
    def build(self) -> nn.Module:
        """The network of ``config``, untrained; InputError if ``config`` is invalid."""

    @abstractmethod
    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """Memory that a picture takes for each pixel at most, about (measured at 768 px)."""

    @property
    def networks(self) -> list[nn.Module]:
        """All of them, to be moved and frozen."""
        return [self.network]

    @property
    def exact(self) -> list[nn.Module]:
        """Further ones, that compute in float32 in any case."""
        return []

    @classmethod
    def load(cls: type[AnyModel], path: Path | None, **given: Any) -> AnyModel:
        """The model in a file; InputError if it is none.

        Args:
            path: written by :meth:`save`; None for the bundled one.
            given: for :meth:`unloaded`.
        """
        path = bundled(cls.method) if path is None else Path(path)
        if path.parent == MODELS and not path.exists():
            raise InputError(
                f"method {cls.method}: no model is bundled; give one made by `impasto train "
                f"{cls.method}`"
            )
        tensors, header = load_tensors(path)
        try:
            if header["method"] != cls.method:
                raise KeyError
            config = {key: tuples(value) for key, value in json.loads(header["config"]).items()}
            model = cls.unloaded(config, header, str(path), **given)
            model.network.load_state_dict({name: t.float() for name, t in tensors.items()})
            if "finish" in header:
                model.finish = _repairs(json.loads(header["finish"]), path)
        except InputError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            raise InputError(
                f"{path}: not a model made by `impasto train {cls.method}`; name another file"
            ) from None
        model.name = path.name
        return model

    @classmethod
    def unloaded(
        cls: type[AnyModel], config: dict[str, Any], header: Mapping[str, str], path: str
    ) -> AnyModel:
        """The model of a file, its weights still to be loaded; InputError if it cannot be."""
        return cls(cls.Config(**config), drawn=False)

    def save(self, path: Path, figures: Mapping[str, object]) -> None:
        """Write the network as float16, with its configuration and ``figures`` in the header."""
        header = {
            "method": self.method,
            "config": json.dumps(asdict(self.config)),
            "figures": json.dumps(figures),
            "finish": json.dumps(self.finish),
            "format": "1",
            "licence": "MIT (impasto)",
            "training data": f"{self.learns_from}, see models/CARD.md",
            **self.header(),
        }
        state = self.network.state_dict()
        save_tensors(path, {name: t.to(torch.float16) for name, t in state.items()}, header)

    def header(self) -> dict[str, str]:
        """What else stands in the file's header."""
        return {}


class StyleModel(Model):
    """A model that knows a style by the moments of some features.

    Attributes:
        steps: sizes at which a style is stored, in an octave.
    """

    steps = 1

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Whose features they are: stored styles of another one are refused."""

    @property
    @abstractmethod
    def taps(self) -> Sequence[str]:
        """The features' names."""

    @abstractmethod
    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, one for each picture of a batch."""

    @abstractmethod
    def __call__(
        self, contents: Tensor, style: Mapping[str, Moments], strength: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, H, W)`` of the contents' size."""


class EncoderModel(StyleModel):
    """A model whose network goes with a frozen encoder, named by ``config.encoder``.

    Args:
        config: of the model.
        encoder: is made seamless.
    """

    def __init__(self, config: Any, encoder: VGG, drawn: bool = True) -> None:
        self.encoder = arranged(encoder)
        self.encoder.seamless = True
        super().__init__(config, drawn)

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.encoder.fingerprint

    @property
    def networks(self) -> list[nn.Module]:
        """Encoder and network."""
        return [self.encoder, self.network]

    @classmethod
    def unloaded(
        cls: type[AnyEncoderModel],
        config: dict[str, Any],
        header: Mapping[str, str],
        path: str,
        encoder_weights: Path | None = None,
        convention: str | None = None,
        encoder: VGG | None = None,
    ) -> AnyEncoderModel:
        """See :class:`Model`.

        Args:
            config, header, path: of the file.
            encoder_weights, convention: see :func:`impasto.backbones.load_vgg`.
            encoder: instead of the one that the file names.
        """
        name, made_for = encoder or config["encoder"], header["encoder"]
        net = load_vgg(name, encoder_weights, convention=convention)
        # Files of old name the encoder as it was before it became seamless, which it always did.
        known = [net.fingerprint]
        net.seamless = True
        known.append(net.fingerprint)
        if made_for not in known:
            raise InputError(
                f"{path}: made for another encoder ({made_for}, here is {net.fingerprint}); "
                "train it again, or give its encoder's weights"
            )
        return cls(cls.Config(**config), net, drawn=False)

    def header(self) -> dict[str, str]:
        """The encoder's fingerprint."""
        return {"encoder": self.encoder.fingerprint}


def _repairs(names: list[str], path: Path) -> tuple[str, ...]:
    """Those that a file names; InputError for one that does not exist."""
    for name in names:
        if name not in REPAIRS:
            raise InputError(
                f"{path}: wants the repair {name!r} of its pictures; there are "
                f"{', '.join(REPAIRS)}: update impasto, or name another file"
            )
    return tuple(names)


def tuples(value: Any) -> Any:
    """Lists as tuples, all the way down: a configuration does not change."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value
