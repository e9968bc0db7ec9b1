"""What is kept of a painting: its moments at several sizes, measured when asked for or stored.

Paper 4 names it the major drawback of Gatys' method that it "cannot store picture styles". It can:
the style loss needs the moments of the painting's features and nothing else. So do AdaIN, WCT and
the flows, each of the features of its own network.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .device import check_process
from .errors import InputError, check_finite
from .files import path_of, shown
from .images import Picture, Source, fit, read, resize
from .statistics import Moments, shares
from .tensors import load_tensors, save_tensors

__all__ = [
    "SUFFIX",
    "LayerMoments",
    "LearntStyle",
    "Part",
    "StoredStyle",
    "Style",
    "check_list",
    "check_prepared",
    "find_named",
    "is_name",
    "named_styles",
    "prepared",
    "read_painting",
    "reduce",
    "style_shares",
]

SUFFIX = ".style"
NAMED = Path(__file__).parent / "models" / "styles"
KIND = "impasto style"
ABOUT = ("title", "painter", "year")
LARGEST = 1024  # short side in pixels beyond which nothing is stored
MOST = 1 << 24  # pixels of a painting that are looked at
PIECE = 1 << 21  # pixels that are measured at a time
UNIT = 16  # pixels: pieces are whole cells of the deepest layers
LayerMoments = Mapping[str, Moments]
Measure = Callable[[Tensor], LayerMoments]


@dataclass(frozen=True)
class Part:
    """What one network sees of a style.

    Attributes:
        levels: short side in pixels -> tap -> normalised moments.
        methods: names of those that it was stored for; none in files of old.
    """

    levels: Mapping[int, LayerMoments]
    methods: tuple[str, ...] = ()

    @property
    def taps(self) -> list[str]:
        """The layers that were measured."""
        return list(next(iter(self.levels.values())))

    def at(self, short_side: int) -> LayerMoments:
        """Moments at a size, interpolated between the two stored sizes around it."""
        sizes = sorted(self.levels)
        below = max((s for s in sizes if s <= short_side), default=sizes[0])
        above = min((s for s in sizes if s >= short_side), default=sizes[-1])
        if above <= below:
            return self.levels[min(below, sizes[-1])]
        share = math.log(short_side / below) / math.log(above / below)
        low, high = self.levels[below], self.levels[above]
        return {tap: Moments.mix([low[tap], high[tap]], [1 - share, share]) for tap in low}


@dataclass(frozen=True, repr=False)
class StoredStyle:
    """What methods need of one style (or a mixture), taken wherever a painting is.

    Attributes:
        name: for messages.
        color: moments of its RGB pixels.
        parts: fingerprint of a network -> what that one sees.
        title, painter, year: of the painting, as people read them; empty if not known.
    """

    name: str
    color: Moments
    parts: Mapping[str, Part]
    title: str = ""
    painter: str = ""
    year: str = ""

    @property
    def methods(self) -> list[str]:
        """Names of the methods that it was stored for."""
        return sorted({name for part in self.parts.values() for name in part.methods})

    def __repr__(self) -> str:
        sizes = sorted({size for part in self.parts.values() for size in part.levels})
        what = ", ".join(self.methods or self.parts)
        return f"<style {self.name} for {what}; {sizes[0]} to {sizes[-1]} px>"

    def joined(self, backbone: str, part: Part) -> StoredStyle:
        """The same style, with what one more network sees."""
        before = self.parts.get(backbone, Part({}))
        levels = {
            size: {**before.levels.get(size, {}), **layers} for size, layers in part.levels.items()
        }
        methods = tuple(dict.fromkeys([*before.methods, *part.methods]))
        return replace(self, parts={**self.parts, backbone: Part(levels, methods)})

    def save(self, path: str | os.PathLike[str], half: bool = False) -> None:
        """Write to ``path`` (safetensors, whole or not at all).

        Args:
            path: ends in .style.
            half: as float16, but for the colours: half the size. :meth:`load` gives float32.

        Raises:
            InputError: if it cannot be written, or is too large for float16.
        """
        tensors = self.color.tensors("color")
        described = []
        for number, (backbone, part) in enumerate(self.parts.items()):
            for size, layers in part.levels.items():
                for tap, moments in layers.items():
                    tensors |= moments.tensors(f"{number}.{size}.{tap}", half)
            known = {"backbone": backbone, "methods": part.methods, "taps": part.taps}
            described.append({**known, "sizes": sorted(part.levels)})
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise InputError(f"style {self.name}: too large for float16; store it in full")
        header = {"kind": KIND, "format": "2", "name": self.name, "parts": json.dumps(described)}
        header |= {about: text for about in ABOUT if (text := getattr(self, about))}
        save_tensors(Path(path), tensors, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StoredStyle:
        """Read what :meth:`save` wrote, now or before styles had parts.

        Raises:
            InputError: for anything else.
        """
        where = path_of(path, "style")
        if where.suffix.lower() != SUFFIX:
            raise InputError(f"{shown(where)}: the name of a stored style ends in {SUFFIX}")
        tensors, header = load_tensors(where)
        try:
            if header["kind"] != KIND:
                raise KeyError
            if "parts" in header:
                listed = enumerate(json.loads(header["parts"]))
                described = [(f"{number}.", known) for number, known in listed]
            else:
                old = {name: json.loads(header[name]) for name in ("taps", "sizes")}
                described = [("", {"backbone": header["backbone"], "methods": (), **old})]
            parts = {
                str(known["backbone"]): Part(
                    {
                        int(size): {
                            str(tap): Moments.from_tensors(tensors, f"{prefix}{size}.{tap}")
                            for tap in known["taps"]
                        }
                        for size in known["sizes"]
                    },
                    tuple(map(str, known["methods"])),
                )
                for prefix, known in described
            }
            if not parts or not all(part.levels and part.taps for part in parts.values()):
                raise KeyError
            if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                raise InputError(f"{path}: is damaged (it holds NaN or infinity); store it again")
            about = [header.get(about, "") for about in ABOUT]
            return cls(header["name"], Moments.from_tensors(tensors, "color"), parts, *about)
        except InputError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            raise InputError(f"{path}: not a style stored by `impasto style`") from None

    def check(self, method: str, backbone: str, taps: Sequence[str]) -> None:
        """Raise InputError unless it has what ``backbone`` sees at ``taps``, for ``method``."""
        if backbone not in self.parts and self.name in _names() and self.title:
            others = f"method {' or '.join(self.methods)}"
            raise InputError(
                f"style {self.name}: a style by name has not what method {method} by "
                f"{backbone.split(':')[0]} looks at; give the painting, or use "
                f"{'its usual network' if method in self.methods else others}"
            )
        if backbone not in self.parts:
            by = [name for name, part in self.parts.items() if method in part.methods]
            if by:
                what = f"stored for method {method} by {', '.join(by)}, not by {backbone}"
                again = "by the network that renders (such as by --backbone)"
            else:
                whom = ", ".join(self.methods or self.parts)
                what = f"stored for {whom}, not for method {method} by {backbone}"
                again = f"for that (impasto style PAINTING --for {method})"
            takers = (
                "" if by or not self.methods else f", or use method {' or '.join(self.methods)}"
            )
            raise InputError(
                f"style {self.name}: {what}; store it again {again}, or give the painting{takers}"
            )
        known = self.parts[backbone].taps
        missing = [tap for tap in taps if tap not in known]
        if missing:
            raise InputError(
                f"style {self.name}: has no layer {', '.join(missing)} (it has "
                f"{', '.join(known)}); choose among these, or give the painting"
            )


def named_styles() -> dict[str, StoredStyle]:
    """The styles that come with the package: name -> what methods ghiasi and gatys need of it.

    Example:
        >>> night = named_styles()["starry_night"]
        >>> night.title, night.painter, night.year
        ('The Starry Night', 'Vincent van Gogh', '1889')
    """
    return {path.stem: StoredStyle.load(path) for path in _named_files()}


def is_name(source: object) -> bool:
    """Whether this is a word that is no file, and so may be the name of a style."""
    if not isinstance(source, (str, os.PathLike)) or os.path.lexists(source):
        return False
    path = Path(source)
    return bool(path.name.strip()) and path == Path(path.stem) and path.name != os.pardir


def find_named(name: str) -> StoredStyle:
    """One of :func:`named_styles`. Raises InputError, with the nearest name, for another."""
    files = {path.stem: path for path in _named_files()}
    if name in files:
        return StoredStyle.load(files[name])
    close = difflib.get_close_matches(name.lower().replace("-", "_").replace(" ", "_"), files, n=1)
    hint = f"did you mean {close[0]}?" if close else "`impasto styles` lists those that there are"
    raise InputError(f"{shown(name)}: no such file, and no style of that name: {hint}")


def _names() -> set[str]:
    return {path.stem for path in _named_files()}


def _named_files() -> list[Path]:
    return sorted(NAMED.glob(f"*{SUFFIX}"))


@dataclass(frozen=True, eq=False)
class LearntStyle:
    """A painting that a network has learnt; what is left of it here is its name.

    Attributes:
        name: of the painting.
        color: moments of its RGB pixels.
        method: name of the method that takes it beside paintings; empty where no other style is
            known to the network.
    """

    method: ClassVar[str] = ""
    name: str
    color: Moments


@dataclass(repr=False)
class Style:
    """One or several styles, by weight, as a method sees them.

    Attributes:
        names: of the parts.
        parts: paintings ``(3, H, W)``, stored styles and learnt ones.
        weights: share of each.
        method: name of the method that prepared it.
        backbone: fingerprint of the network behind ``measure``.
        taps: what it is measured at.
        measure: features' moments of a picture ``(3, H, W)``, by tap.
        steps: how many sizes are stored in an octave.
    """

    names: Sequence[str]
    parts: Sequence[Tensor | StoredStyle | LearntStyle]
    weights: Sequence[float]
    method: str
    backbone: str
    taps: Sequence[str]
    measure: Measure
    steps: int = 1
    _known: dict[int, LayerMoments] = field(default_factory=dict)
    _each: dict[int, list[LayerMoments]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<style {' + '.join(self.names)} prepared for {self.method}>"

    @cached_property
    def color(self) -> Moments:
        """Mixed moments of the RGB pixels."""
        colors = [
            Moments.of(part.double()) if isinstance(part, Tensor) else part.color
            for part in self.parts
        ]
        return Moments.mix(colors, self.weights).to(torch.float32)

    def at(self, short_side: int) -> LayerMoments:
        """Mixed moments with every painting reduced to ``short_side`` pixels (never enlarged)."""
        if short_side not in self._known:
            each = self.each(short_side)
            self._known[short_side] = {
                tap: Moments.mix(
                    [layers[tap].to(each[0][tap].first.device) for layers in each], self.weights
                )
                for tap in self.taps
            }
        return self._known[short_side]

    def each(self, short_side: int) -> list[LayerMoments]:
        """As :meth:`at`, of every part by itself; nothing of a learnt one."""
        check_process()

        def moments(part: Tensor | StoredStyle | LearntStyle) -> LayerMoments:
            if isinstance(part, Tensor):
                return self._measured(reduce(part, short_side))
            return part.parts[self.backbone].at(short_side) if isinstance(part, StoredStyle) else {}

        if short_side not in self._each:
            self._each[short_side] = list(map(moments, self.parts))
        return self._each[short_side]

    def _measured(self, painting: Tensor) -> LayerMoments:
        """In pieces where it is large: moments add up."""
        pieces = list(_pieces(painting))
        if len(pieces) == 1:
            return self.measure(painting)
        each = [self.measure(piece) for piece in pieces]
        areas = [float(piece[0].numel()) for piece in pieces]
        return {tap: Moments.mix([layers[tap] for layers in each], areas) for tap in each[0]}

    def store(self, name: str, joining: StoredStyle | None = None) -> StoredStyle:
        """Measure at 64, 128, ... pixels (and between), to the size of the largest painting.

        Args:
            name: of the style, for messages.
            joining: what was stored of the same paintings for other methods; what is in there
                is not measured again.

        Raises:
            InputError: if a part is a stored style already.
        """
        paintings = [part for part in self.parts if isinstance(part, Tensor)]
        if len(paintings) < len(self.parts):
            raise InputError("a stored or learnt style cannot be stored again: name the paintings")
        before = joining or StoredStyle(name, self.color, {})
        known = before.parts.get(self.backbone)
        if known is not None and set(self.taps) <= set(known.taps):
            return before.joined(self.backbone, Part(known.levels, (self.method,)))
        limit = min(LARGEST, max(min(p.shape[-2:]) for p in paintings))
        ladder = [round(64 * 2 ** (step / self.steps)) for step in range(4 * self.steps)]
        sizes = [size for size in ladder if size < limit] + [limit]
        levels = {
            size: {tap: moments.to("cpu") for tap, moments in self.at(size).items()}
            for size in sizes
        }
        return before.joined(self.backbone, Part(levels, (self.method,)))


def prepared(
    styles: Sequence[Source | StoredStyle | LearntStyle],
    weights: Sequence[float] | None,
    method: str,
    backbone: str,
    taps: Sequence[str],
    measure: Measure,
    steps: int = 1,
) -> Style:
    """One or several styles, whose moments are averaged by ``weights``.

    Args:
        styles: paintings and stored styles.
        weights: share of each; None for equal shares.
        method: name of the method that they are for.
        backbone: fingerprint of the network behind ``measure``.
        taps: that a stored style must have.
        measure, steps: see :class:`Style`.

    Raises:
        InputError: if a stored style has not what the method needs, the weights do not fit the
            styles, or a style is known to a network alone.
    """
    check_list(styles)
    names: list[str] = []
    parts: list[Tensor | StoredStyle | LearntStyle] = []
    for style in styles:
        if is_name(style):
            style = find_named(str(style))
        if isinstance(style, StoredStyle):
            style.check(method, backbone, taps)
            parts.append(style)
            names.append(style.name)
        elif isinstance(style, LearntStyle):
            if style.method != method:
                other = f", or use method {style.method}" if style.method else ""
                raise InputError(
                    f"style {style.name}: known to a network alone; give the painting here{other}"
                )
            parts.append(style)
            names.append(style.name)
        elif isinstance(style, Style):
            raise InputError(f"{style!r}: give it to the method itself, in place of prepare()")
        else:
            painting = read_painting(style)
            parts.append(painting.rgb)
            names.append(painting.name)
    return Style(
        *(names, parts, style_shares(len(parts), weights), method, backbone, list(taps), measure),
        steps,
    )


def read_painting(
    source: Source,
    background: str = "white",
    *,
    max_pixels: int | None = None,
    accept_truncated: bool = False,
) -> Picture:
    """As :func:`impasto.images.read`, of at most 16 megapixels: a larger one is reduced.

    Raises InputError also for the name of a bundled style.
    """
    if isinstance(source, (str, Path)) and is_name(source) and Path(source).name in _names():
        raise InputError(
            f"{source}: of a style by name there are statistics and no picture; name the file of "
            "the painting"
        )
    limits: dict[str, Any] = {"max_pixels": max_pixels, "accept_truncated": accept_truncated}
    picture = read(source, background, most_pixels=MOST, **limits)
    pixels = picture.height * picture.width
    if pixels <= MOST:
        return picture
    short = int(min(picture.height, picture.width) * math.sqrt(MOST / pixels))
    small = resize(picture.rgb, fit(picture.height, picture.width, short))
    return Picture(small, None, picture.name)


def check_list(styles: object) -> None:
    """Raise InputError for one style where a list of them belongs."""
    one = (str, bytes, os.PathLike, Image.Image, np.ndarray, Tensor, Picture, StoredStyle, Style)
    if isinstance(styles, (*one, LearntStyle)) or not isinstance(styles, Iterable):
        raise InputError(
            f"styles: a {type(styles).__name__} where a list belongs: give [PAINTING, ...]"
        )


def check_prepared(style: Any, method: str, backbone: str, taps: Sequence[str]) -> None:
    """Raise InputError unless ``style`` is what ``method`` itself has prepared."""
    if not isinstance(style, Style):
        raise InputError(
            f"style: a {type(style).__name__} where a prepared style belongs: give what prepare("
            f"[PAINTING]) of method {method} returns, or use impasto.stylize()"
        )
    learnt = any(isinstance(p, LearntStyle) and p.method != method for p in style.parts)
    if learnt or style.backbone != backbone or not set(taps) <= set(style.taps):
        raise InputError(
            f"{style!r}: was prepared by method {style.method} for other features; call prepare() "
            f"of the method {method} that renders"
        )


def style_shares(count: int, weights: Sequence[float] | None = None) -> list[float]:
    """As :func:`impasto.statistics.shares`; InputError for negative weights too."""
    for weight in _several(weights):
        check_finite("a weight of a style", weight)
        if weight < 0:
            raise InputError("weights of styles must not be negative")
    return shares(count, weights)


def _several(weights: object) -> Iterable[Any]:
    if weights is None:
        return ()
    if isinstance(weights, str) or not isinstance(weights, Iterable):
        raise InputError(f"weights are {weights!r}: give a list of numbers, one for each style")
    return list(weights)


def reduce(picture: Tensor, short_side: int) -> Tensor:
    """The picture with that short side, or as it is if it is smaller."""
    height, width = picture.shape[-2:]
    if min(height, width) <= short_side:
        return picture
    return resize(picture, fit(height, width, short_side))


def _pieces(picture: Tensor) -> Iterator[Tensor]:
    """A picture ``(3, H, W)`` cut so that no piece is larger than ``PIECE`` or far from a square.

    Each is seen as a picture of its own: at the cuts as at its borders.
    """
    height, width = picture.shape[-2:]
    if height * width <= PIECE:
        yield picture
        return
    for rows in torch.split(picture, _even(height), -2):
        yield from torch.split(rows, _even(width), -1)


def _even(length: int) -> list[int]:
    """``length`` in parts of nearly the same size, whole cells but for the last."""
    count = math.ceil(length / math.isqrt(PIECE))
    cuts = [UNIT * round(part * length / count / UNIT) for part in range(count)] + [length]
    return [end - begin for begin, end in itertools.pairwise(cuts)]
