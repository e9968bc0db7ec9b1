"""What the methods of one pass share: a model in a file, and the face around it."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones import VGG, load_vgg
from ..color import own_colors, with_colors_of
from ..device import (
    arranged,
    blank,
    check_memory,
    check_process,
    choose_device,
    choose_precision,
    describe,
    unmixed,
)
from ..errors import InputError, check_finite, check_scale, check_strength
from ..images import MIN_SIDE, Source, fit, read, resize
from ..statistics import Moments
from ..styles import (
    LayerMoments,
    LearntStyle,
    StoredStyle,
    Style,
    check_prepared,
    prepared,
)
from ..tensors import load_tensors, save_tensors
from .base import OnStep

__all__ = [
    "MODELS",
    "AnyStyle",
    "EncoderModel",
    "Model",
    "OnePass",
    "StyleModel",
    "bundled",
    "tuples",
]

MODELS = Path(__file__).parent.parent / "models"
WORKING = 512  # short side in pixels at which a brush of 1 paints
BRUSHES = (1 / 16, 16)  # the least and the largest: a working size of 32 px
KEPT = ((4, 1.0), (1, 0.4))  # what of the first pass is kept: from how coarse on, what share
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
    """

    method: ClassVar[str]
    learns_from: ClassVar[str]
    Config: ClassVar[type]
    name = "untrained"
    reversible = False

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


class OnePass(ABC):
    """A method of one pass, see :class:`impasto.methods.base.Method`.

    A network's strokes have a size in pixels. With a ``brush`` they have one in proportion to the
    picture: it is painted at a working size, then what came out is enlarged and painted again, in
    steps of about two, up to the full size (Wang et al., "Multimodal Transfer", CVPR 2017, with one
    network for all sizes). Every further pass gives the enlarged strokes sharp edges; tones and, in
    part, forms that it changed are taken from the first (back-projection; in full it leaves ghosts
    beside edges that have moved).

    Args:
        model: is frozen and moved.
        brush: size of the strokes relative to the picture: 1 is that of one pass at a short side of
            512 px, 2 twice as large (a working size of 256 px). A picture that is not larger than
            the working size is painted in one pass as it is. None: one pass at any size.
        device, precision: see :mod:`impasto.device`.
        settings: further ones, for the record.

    Raises:
        InputError: for a brush that is not 1/16 to 16.
    """

    def __init__(
        self, model: Model, brush: float | None, device: str, precision: str, **settings: Any
    ) -> None:
        if brush is not None:
            check_finite("brush", brush)
            if not BRUSHES[0] <= brush <= BRUSHES[1]:
                raise InputError(f"brush is {brush:g}: must be 1/16 (0.0625) to 16")
        self.brush = brush
        self.device = choose_device(device)
        if model.reversible and precision == "auto":
            precision = "float32"
        self.dtype = choose_precision(precision, self.device)
        if model.reversible and self.dtype != torch.float32:
            raise InputError(
                f"method {model.method} reverses its network, and in {precision} it does not come "
                "back: use --precision float32"
            )
        for net in model.networks:
            arranged(net.eval().requires_grad_(False).to(self.dtype), self.device)
        for net in model.exact:
            arranged(net.eval().requires_grad_(False), self.device)
        self.model = model
        self.notes: list[str] = []
        self.settings: dict[str, Any] = {
            "method": model.method,
            "model": model.name,
            **settings,
            "brush": brush,
            "device": describe(self.device, self.dtype),
        }

    @abstractmethod
    def render(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """Pictures ``(B, 3, H, W)``, not clipped, from pictures and a prepared style."""

    @abstractmethod
    def colors(self, style: Any) -> Moments:
        """Moments of a prepared style's colours; InputError if this method did not prepare it."""

    @torch.no_grad()
    @unmixed()
    def __call__(
        self,
        content: Source,
        style: Any,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Render ``content`` ``(3, H, W)`` in 0..1; the result has its size and is on the CPU.

        ``strength``: 0 gives the content itself, 1 the full style.

        Raises:
            InputError: if the picture is too small or needs more memory than there is,
                ``strength`` is negative, or ``style`` is not what :meth:`prepare` returned.
        """
        check_process(self.device)
        check_strength(strength)
        colors = self.colors(style)
        rgb = read(content).rgb
        height, width = rgb.shape[-2:]
        if min(height, width) < MIN_SIDE:
            raise InputError(
                f"the picture is {width}x{height}: the short side must be {MIN_SIDE} pixels or more"
            )
        beside = 36 if len(self.sizes((height, width))) > 1 else 0  # three pictures in float32
        needed = self.model.bytes_per_pixel(self.dtype) + beside
        check_memory((height, width), needed, self.device)
        out = self._brushed(self._on_device(rgb), style, strength)[0].cpu()
        return with_colors_of(rgb, out, own_colors(rgb, colors))

    def _brushed(self, pictures: Tensor, style: Any, strength: float) -> Tensor:
        """:meth:`render` with the brush, in 0..1."""
        first, *larger = self.sizes((pictures.shape[-2], pictures.shape[-1]))
        if not larger:
            return self.render(pictures, style, strength).clamp_(0, 1)
        kept = max(0.0, 1 - strength)  # of the photograph, also of what only the full size shows
        seen = resize(pictures, first)
        # What is enlarged and corrected is what was painted beyond the photograph that is kept.
        out = base = self.render(seen, style, strength).clamp_(0, 1).sub_(seen, alpha=kept)
        for size in larger:
            times = size[0] / seen.shape[-2]
            out, seen = _resized(out, size), resize(pictures, size)
            coarse = out.add(seen, alpha=kept).clamp_(0, 1)
            fine = self.render(coarse, style, strength).clamp_(0, 1).sub_(seen, alpha=kept)
            # Of a picture that is hardly enlarged, a second pass would only double the first.
            out = _held(out.lerp_(fine, min(1.0, 2 * math.log2(times))), base)
        return out.add_(seen, alpha=kept).clamp_(0, 1)

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes ``(H, W)`` of the passes for a picture of ``size``, which is the last of them."""
        if self.brush is None or min(size) * self.brush <= WORKING:
            return [size]
        working = WORKING / self.brush
        octaves = math.log2(min(size) / working)
        steps = max(1, round(octaves))
        shorts = [working * 2 ** (octaves * step / steps) for step in range(steps)]
        smaller = [fit(*size, round(short)) for short in shorts]
        return [*(each for each in smaller if each != size), size]

    def _on_device(self, picture: Tensor) -> Tensor:
        return arranged(picture[None].to(torch.float32), self.device)


class AnyStyle(OnePass):
    """A method of one pass that takes any painting, by the moments of its features.

    ``strength`` mixes the features with their transferred ones at every tap (paper 3, alpha). Below
    1, the same share of what the decoder loses of the picture is put back, so that 0 gives the
    content itself.

    Args:
        model: is frozen and moved.
        style_scale: size of the style's features relative to the content.
        brush, device, precision, settings: see :class:`OnePass`.

    Raises:
        InputError: for an option out of its range.
    """

    model: StyleModel

    def __init__(
        self,
        model: StyleModel,
        style_scale: float,
        brush: float | None,
        device: str,
        precision: str,
        **settings: Any,
    ) -> None:
        check_scale(style_scale)
        self.style_scale = style_scale
        settings = {"backbone": model.fingerprint, **settings, "style_scale": style_scale}
        super().__init__(model, brush, device, precision, **settings)

    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle],
        weights: Sequence[float] | None = None,
    ) -> Style:
        """Get ready for one or several styles; see :func:`impasto.styles.prepared`."""
        model = self.model
        return prepared(
            *(styles, weights, model.method, model.fingerprint, model.taps, self.measure),
            model.steps,
        )

    def colors(self, style: Style) -> Moments:
        """See :class:`OnePass`."""
        check_prepared(style, self.model.method, self.model.fingerprint, self.model.taps)
        return style.color

    @torch.no_grad()
    @unmixed()
    def measure(self, picture: Tensor) -> LayerMoments:
        """Normalised moments of a picture ``(3, H, W)`` at the taps, in float32."""
        moments = self.model.measure(self._on_device(picture))
        return {
            tap: Moments(m.weight[0], m.first[0], m.second[0]).normalised().to(torch.float32)
            for tap, m in moments.items()
        }

    def aim(self, pictures: Tensor, style: Style) -> dict[str, Moments]:
        """The moments to give to ``pictures``: those of the style at their size."""
        layers = style.at(max(MIN_SIDE, round(min(pictures.shape[-2:]) * self.style_scale)))
        return {tap: layers[tap].to(self.device) for tap in self.model.taps}

    def render(self, pictures: Tensor, style: Style, strength: float) -> Tensor:
        """See :class:`OnePass`."""
        return self.model(pictures, self.aim(pictures, style), strength)


def _held(pictures: Tensor, base: Tensor) -> Tensor:
    """``pictures`` with what is coarse from ``base``, which is smaller; see :data:`KEPT`."""
    size = (pictures.shape[-2], pictures.shape[-1])
    for times, share in KEPT:
        coarse = fit(*size, max(1, min(base.shape[-2:]) // times))
        missing = _resized(base, coarse) - _resized(pictures, coarse)
        pictures.add_(_resized(missing, size), alpha=share)
    return pictures


def _resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """As :func:`impasto.images.resize`, also of what is negative."""
    return F.interpolate(pictures, size=size, mode="bicubic", antialias=True)


def tuples(value: Any) -> Any:
    """Lists as tuples, all the way down: a configuration does not change."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value
