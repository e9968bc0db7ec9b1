"""A stored model: a network with its configuration in one file.

:class:`Model` reads and writes the file. :class:`StyleModel` adds a style, measured as moments of
features; :class:`EncoderModel` measures these features with a frozen, pretrained encoder.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..backbones import VGG, load_vgg
from ..device import arranged, blank
from ..errors import ImpastoError, InputError
from ..finish import REPAIRS
from ..options import renamed
from ..statistics import Moments
from ..tensors import load_tensors, save_tensors

__all__ = ["MODELS", "EncoderModel", "Model", "StyleModel", "bundled", "digest", "tuples"]

MODELS = Path(__file__).parent.parent / "models"
AnyModel = TypeVar("AnyModel", bound="Model")
AnyEncoderModel = TypeVar("AnyEncoderModel", bound="EncoderModel")


def bundled(method: str) -> Path:
    """Path of the method's model in the package; the file may not exist."""
    return MODELS / f"{method}.safetensors"


def digest(network: nn.Module) -> str:
    """A digest of the network's weights, 12 hexadecimal digits."""
    weights = sha256()
    for tensor in network.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return weights.hexdigest()[:12]


class Model(ABC):
    """A network with its configuration, stored in one file; rendering and training share it.

    Attributes:
        method: name of the method, recorded in the file.
        learns_from: description of the training data, recorded in the file.
        Config: the dataclass of ``config``.
        name: name of the file that the model was read from.
        reversible: whether the network is also run backwards, which needs float32.
        finish: repairs that its pictures need, in order, see :mod:`impasto.finish`; the class gives
            them if the file does not.
        period: side in pixels of the cells of the faint grid that the network may print.
        copies: pictures of the whole that rendering in tiles holds beside content and result.
    """

    method: ClassVar[str]
    learns_from: ClassVar[str]
    Config: ClassVar[type]
    renames: ClassVar[Mapping[str, str]] = {}
    name = "untrained"
    reversible = False
    finish: tuple[str, ...] = ()
    period = 4
    copies = 0

    def __init__(self, config: Any, drawn: bool = True) -> None:
        """``drawn``: draw random weights; False if the weights are loaded later."""
        self.config = config
        self.network = arranged(self.build() if drawn else blank(self.build))

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the untrained network of ``config``; InputError if ``config`` is invalid."""

    @abstractmethod
    def bytes_per_pixel(self, dtype: torch.dtype) -> float:
        """Estimate of the peak memory per pixel of the picture (measured at 768 px)."""

    def bytes_per_pixel_of_tile(self, dtype: torch.dtype) -> float:
        """The same of a tile, whose statistics are known."""
        return self.bytes_per_pixel(dtype)

    @property
    def networks(self) -> list[nn.Module]:
        """All networks that are moved to the device and frozen."""
        return [self.network]

    @property
    def halo(self) -> int:
        """Pixels around a tile that the result depends on; 0 if it is not rendered in tiles."""
        return 0

    @property
    def unit(self) -> int:
        """Pictures can be cut into tiles at multiples of it."""
        return 1

    @property
    def side(self) -> int:
        """Side in pixels of the tiles of a large picture, by default, if memory suffices."""
        return 768

    @property
    def exact(self) -> list[nn.Module]:
        """Further networks, which always compute in float32."""
        return []

    @classmethod
    def load(cls: type[AnyModel], path: Path | None, **options: Any) -> AnyModel:
        """Load a model from a file; InputError if it does not hold one.

        Args:
            path: a file written by :meth:`save`; None takes the bundled one.
            options: passed on to :meth:`unloaded`.
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
            config = renamed(json.loads(header["config"]), cls.renames, silent=True)
            config = {key: tuples(value) for key, value in config.items()}
            model = cls.unloaded(config, header, str(path), **options)
            model.network.load_state_dict({name: t.float() for name, t in tensors.items()})
            if "finish" in header:
                model.finish = _repairs(json.loads(header["finish"]), path)
        except ImpastoError:
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
        """Build the model of a file without its weights; InputError if that is impossible."""
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
        """Further entries of the file's header."""
        return {}


class StyleModel(Model):
    """A model that describes a style by the moments of features.

    Attributes:
        steps: number of sizes per octave at which a style is stored.
    """

    steps = 1

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identifies the network of the features; styles stored by another one are refused."""

    @property
    @abstractmethod
    def taps(self) -> Sequence[str]:
        """Names of the layers that the features are taken from."""

    @abstractmethod
    def measure(self, pictures: Tensor) -> dict[str, Moments]:
        """Moments at the taps, separately for each picture of a batch."""

    @abstractmethod
    def __call__(
        self, contents: Tensor, style: Mapping[str, Moments], strength: float = 1.0
    ) -> Tensor:
        """Render ``contents``: pictures ``(B, 3, H, W)`` of the same size."""


class EncoderModel(StyleModel):
    """A model whose network works on the features of a frozen encoder, ``config.encoder``.

    Args:
        config: configuration of the model.
        encoder: the encoder; it is made seamless.
    """

    def __init__(self, config: Any, encoder: VGG, drawn: bool = True) -> None:
        self.encoder = arranged(encoder)
        self.encoder.seamless = True
        super().__init__(config, drawn)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder."""
        return self.encoder.fingerprint

    @property
    def networks(self) -> list[nn.Module]:
        """The encoder and the network."""
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
            config, header, path: contents and path of the file.
            encoder_weights, convention: see :func:`impasto.backbones.load_vgg`.
            encoder: replaces the encoder that the file names.
        """
        name, expected = encoder or config["encoder"], header["encoder"]
        net = load_vgg(name, encoder_weights, convention=convention)
        # Old files hold the fingerprint from before the encoder was made seamless.
        fingerprints = [net.fingerprint]
        net.seamless = True
        fingerprints.append(net.fingerprint)
        if expected not in fingerprints:
            raise InputError(
                f"{path}: made for another encoder ({expected}, here is {net.fingerprint}); "
                "train it again, or give its encoder's weights"
            )
        return cls(cls.Config(**config), net, drawn=False)

    def header(self) -> dict[str, str]:
        """The fingerprint of the encoder."""
        return {"encoder": self.encoder.fingerprint}


def _repairs(names: list[str], path: Path) -> tuple[str, ...]:
    """Check the repairs that a file names; InputError for an unknown one."""
    for name in names:
        if name not in REPAIRS:
            raise InputError(
                f"{path}: wants the repair {name!r} of its pictures; there are "
                f"{', '.join(REPAIRS)}: update impasto, or name another file"
            )
    return tuple(names)


def tuples(value: Any) -> Any:
    """Convert lists to tuples, also nested ones: a configuration is immutable."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value
