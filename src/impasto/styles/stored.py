"""Stored styles: the moments of a painting in a file, and the named styles of the package."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..errors import ImpastoError, InputError, spelled
from ..files import path_of, shown
from ..statistics import Moments
from ..tensors import load_tensors, save_tensors

SUFFIX = ".style"
NAMED = Path(__file__).parent.parent / "models" / "styles"
KIND = "impasto style"
ABOUT = ("title", "painter", "year")
LayerMoments = Mapping[str, Moments]


@dataclass(frozen=True)
class Part:
    """The moments of a style in the features of one network.

    Attributes:
        sizes: short side in pixels -> tap -> normalised moments.
        methods: names of the methods that it was stored for; empty in old files.
    """

    sizes: Mapping[int, LayerMoments]
    methods: tuple[str, ...] = ()

    @property
    def taps(self) -> list[str]:
        """The layers that were measured."""
        return list(next(iter(self.sizes.values())))

    def at(self, short_side: int) -> LayerMoments:
        """Moments at a size, interpolated between the two stored sizes around it."""
        sizes = sorted(self.sizes)
        below = max((s for s in sizes if s <= short_side), default=sizes[0])
        above = min((s for s in sizes if s >= short_side), default=sizes[-1])
        if above <= below:
            return self.sizes[min(below, sizes[-1])]
        share = math.log(short_side / below) / math.log(above / below)
        low, high = self.sizes[below], self.sizes[above]
        return {tap: Moments.mix([low[tap], high[tap]], [1 - share, share]) for tap in low}


@dataclass(frozen=True, repr=False)
class StoredStyle:
    """The moments of one style (or a mixture), which methods take in place of a painting.

    Attributes:
        name: name for messages.
        color: moments of its RGB pixels.
        parts: fingerprint of a network -> moments of its features.
        title, painter, year: text about the painting; empty if not known.
    """

    name: str
    color: Moments
    parts: Mapping[str, Part]
    title: str = ""
    painter: str = ""
    year: str = ""

    @property
    def methods(self) -> list[str]:
        """Names of the methods that the style was stored for."""
        return sorted({name for part in self.parts.values() for name in part.methods})

    def __repr__(self) -> str:
        sizes = sorted({size for part in self.parts.values() for size in part.sizes})
        what = ", ".join(self.methods or self.parts)
        return f"<style {self.name} for {what}; {sizes[0]} to {sizes[-1]} px>"

    def joined(self, backbone: str, part: Part) -> StoredStyle:
        """The same style, with the moments of one more network."""
        before = self.parts.get(backbone, Part({}))
        sizes = {
            size: {**before.sizes.get(size, {}), **layers} for size, layers in part.sizes.items()
        }
        methods = tuple(dict.fromkeys([*before.methods, *part.methods]))
        return replace(self, parts={**self.parts, backbone: Part(sizes, methods)})

    def save(self, path: str | os.PathLike[str], half: bool = False) -> None:
        """Write to ``path`` (safetensors, whole or not at all).

        Args:
            path: file name that ends in .style.
            half: save as float16 (except the colours): half the size. :meth:`load` gives float32.

        Raises:
            InputError: if it cannot be written, or is too large for float16.
        """
        tensors = self.color.tensors("color")
        described = []
        for number, (backbone, part) in enumerate(self.parts.items()):
            for size, layers in part.sizes.items():
                for tap, moments in layers.items():
                    tensors |= moments.tensors(f"{number}.{size}.{tap}", half)
            entry = {"backbone": backbone, "methods": part.methods, "taps": part.taps}
            described.append({**entry, "sizes": sorted(part.sizes)})
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise InputError(f"style {self.name}: too large for float16; store it in full")
        header = {"kind": KIND, "format": "2", "name": self.name, "parts": json.dumps(described)}
        header |= {about: text for about in ABOUT if (text := getattr(self, about))}
        save_tensors(Path(path), tensors, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StoredStyle:
        """Read what :meth:`save` wrote, also in the old format without parts.

        Raises:
            InputError: for anything else.
        """
        file = path_of(path, "style")
        if file.suffix.lower() != SUFFIX:
            raise InputError(f"{shown(file)}: the name of a stored style ends in {SUFFIX}")
        tensors, header = load_tensors(file)
        try:
            if header["kind"] != KIND:
                raise KeyError
            if "parts" in header:
                listed = enumerate(json.loads(header["parts"]))
                described = [(f"{number}.", entry) for number, entry in listed]
            else:
                old = {name: json.loads(header[name]) for name in ("taps", "sizes")}
                described = [("", {"backbone": header["backbone"], "methods": (), **old})]
            parts = {
                str(entry["backbone"]): Part(
                    {
                        int(size): {
                            str(tap): Moments.from_tensors(tensors, f"{prefix}{size}.{tap}")
                            for tap in entry["taps"]
                        }
                        for size in entry["sizes"]
                    },
                    tuple(map(str, entry["methods"])),
                )
                for prefix, entry in described
            }
            if not parts or not all(part.sizes and part.taps for part in parts.values()):
                raise KeyError
            if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                raise InputError(f"{path}: is damaged (it holds NaN or infinity); store it again")
            about = [header.get(about, "") for about in ABOUT]
            return cls(header["name"], Moments.from_tensors(tensors, "color"), parts, *about)
        except ImpastoError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            raise InputError(f"{path}: not a style stored by `impasto style`") from None

    def check(self, method: str, backbone: str, taps: Sequence[str]) -> None:
        """Raise InputError unless it holds moments of ``backbone`` at ``taps``, for ``method``."""
        if backbone not in self.parts and self.name in bundled_names() and self.title:
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
                again = f"by the network that renders (such as by {spelled('backbone')})"
            else:
                whom = ", ".join(self.methods or self.parts)
                what = f"stored for {whom}, not for method {method} by {backbone}"
                again = f"for that (`impasto style PAINTING --for {method}`)"
            takers = (
                "" if by or not self.methods else f", or use method {' or '.join(self.methods)}"
            )
            raise InputError(
                f"style {self.name}: {what}; store it again {again}, or give the painting{takers}"
            )
        stored = self.parts[backbone].taps
        missing = [tap for tap in taps if tap not in stored]
        if missing:
            raise InputError(
                f"style {self.name}: has no layer {', '.join(missing)} (it has "
                f"{', '.join(stored)}); choose among these, or give the painting"
            )


def named_styles() -> dict[str, StoredStyle]:
    """The styles that come with the package, by name, stored for methods ghiasi and gatys.

    Example:
        >>> night = named_styles()["starry_night"]
        >>> night.title, night.painter, night.year
        ('The Starry Night', 'Vincent van Gogh', '1889')
    """
    return {path.stem: StoredStyle.load(path) for path in _named_files()}


def is_name(source: object) -> bool:
    """Whether ``source`` can be the name of a style: a single word, and not a file."""
    if not isinstance(source, (str, os.PathLike)) or os.path.lexists(source):
        return False
    path = Path(source)
    return bool(path.name.strip()) and path == Path(path.stem) and path.name != os.pardir


def find_named(name: str) -> StoredStyle:
    """Return one of :func:`named_styles`. Raises InputError, with the nearest name, if unknown."""
    files = {path.stem: path for path in _named_files()}
    if name in files:
        return StoredStyle.load(files[name])
    close = difflib.get_close_matches(name.lower().replace("-", "_").replace(" ", "_"), files, n=1)
    hint = f"did you mean {close[0]}?" if close else "`impasto styles` lists those that there are"
    raise InputError(f"{shown(name)}: no such file, and no style of that name: {hint}")


def bundled_names() -> set[str]:
    """Names of the styles that come with the package."""
    return {path.stem for path in _named_files()}


def _named_files() -> list[Path]:
    return sorted(NAMED.glob(f"*{SUFFIX}"))


@dataclass(frozen=True, eq=False)
class LearntStyle:
    """A painting that a network has learnt, so that its name identifies the style.

    Attributes:
        name: name of the painting.
        color: moments of its RGB pixels.
        method: name of the method that takes this style together with paintings; empty if the
            network paints only styles that it has learnt.
    """

    method: ClassVar[str] = ""
    name: str
    color: Moments
