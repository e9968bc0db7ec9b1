"""Types of options with their ranges: each reads what is typed, and checks what is given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from ..errors import InputError, check_finite

__all__ = [
    "ByLayer",
    "Choice",
    "File",
    "Flag",
    "Function",
    "Given",
    "Kind",
    "Layers",
    "ListOf",
    "Number",
    "Text",
    "Whole",
]


class Kind:
    """A type of option with its range: reads what is typed, and checks what is given.

    Attributes:
        metavar: what help shows in the value's place.
        typed: it can be typed, and given in a file.
    """

    metavar = "TEXT"
    typed = True

    def parse(self, label: str, text: str) -> object:
        """The value that ``text`` stands for; InputError for text that stands for none."""
        return text

    def check(self, label: str, value: object) -> object:
        """``value`` as methods take it; InputError if it is of another type or out of range.

        Args:
            label: names the option in messages.
            value: but None, which an option takes if it is its default.
        """
        return value


@dataclass(frozen=True)
class Text(Kind):
    """Any text."""

    metavar: str = "TEXT"

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        if not isinstance(value, str):
            raise InputError(f"{label}: a {type(value).__name__} where a name belongs")
        return value


@dataclass(frozen=True)
class Number(Kind):
    """A finite number.

    Attributes:
        least, most: the range; None for none.
        above: the number must be above ``least``, not ``least`` itself.
    """

    least: float | None = None
    most: float | None = None
    above: bool = False
    metavar: str = "NUMBER"

    def parse(self, label: str, text: str) -> float:
        """See :class:`Kind`."""
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{label} {text!r}: give a number such as 0.5 or 2") from None

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        check_finite(label, value)
        _check_range(label, value, self.least, self.most, self.above)
        return value if isinstance(value, (int, float)) else float(value)  # NumPy's: plain


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number from ``least`` to ``most``, or one of ``among``; or one of ``words``."""

    least: int | None = 0
    most: int | None = None
    among: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    metavar: str = "N"

    def parse(self, label: str, text: str) -> int | str:
        """See :class:`Kind`."""
        if text in self.words:
            return text
        try:
            return int(text)
        except ValueError:
            if self.words:
                words = _either(self.words)
                raise InputError(f"{label} {text!r}: give a whole number, or {words}") from None
            Number().check(label, Number().parse(label, text))
            raise InputError(f"{label}: {text!r} is not a whole number; give one") from None

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        if isinstance(value, str) and value in self.words:
            return value
        check_finite(label, value)
        if not isinstance(value, Integral):
            raise InputError(f"{label} is {value}: must be a whole number")
        if self.among and value not in self.among:
            raise InputError(f"{label} is {value}: use {_either(map(str, self.among))}")
        _check_range(label, int(value), self.least, self.most)
        return int(value)


@dataclass(frozen=True)
class Choice(Kind):
    """One of some words.

    Attributes:
        words: that there are.
        others: what is no word is left to who uses the option: a path, a picture, a network.
    """

    words: tuple[str, ...]
    others: bool = False
    metavar: str = "WORD"

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        if self.others or (isinstance(value, str) and value in self.words):
            return value
        raise InputError(f"{label} {value!r} is unknown: use {_either(self.words)}")


@dataclass(frozen=True)
class Function(Kind):
    """A function, which only Python can give, or the name of one that there is.

    Attributes:
        takes: arguments of the function, for messages.
        words: the names.
    """

    takes: str
    words: tuple[str, ...] = ()
    typed: bool = True
    metavar: str = "WORD"

    def parse(self, label: str, text: str) -> str:
        """See :class:`Kind`."""
        if text not in self.words:
            raise InputError(
                f"{label} {text!r} is unknown: use {_either(self.words)}; only Python takes a "
                "function"
            )
        return text

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        if callable(value) and not isinstance(value, type):
            return value
        if isinstance(value, str) and value in self.words:
            return value
        if isinstance(value, str) and "." in value:  # as a picture's record has it
            raise InputError(f"{label} {value!r} is a name: give the function itself, from Python")
        choices = f"{_either(self.words)}, or " if self.words else ""
        raise InputError(f"{label} {value!r} is unknown: use {choices}a function of {self.takes}")


@dataclass(frozen=True)
class Flag(Kind):
    """Yes or no."""

    def parse(self, label: str, text: str) -> bool:
        """See :class:`Kind`."""
        words = {"true": True, "yes": True, "false": False, "no": False}
        if text.lower() not in words:
            raise InputError(f"{label} {text!r}: give true or false")
        return words[text.lower()]

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        if not isinstance(value, bool):
            raise InputError(f"{label} is {value!r}: give True or False")
        return value


@dataclass(frozen=True)
class File(Kind):
    """A file's path.

    Attributes:
        words: that stand for something else than a path.
    """

    words: tuple[str, ...] = ()
    metavar: str = "FILE"

    def parse(self, label: str, text: str) -> Any:
        """See :class:`Kind`."""
        return text if text in self.words else Path(text)

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        if not isinstance(value, (str, os.PathLike)):
            raise InputError(f"{label} is {value!r}: give a path")
        return value if value in self.words else Path(value)


@dataclass(frozen=True)
class ListOf(Kind):
    """Several values.

    Attributes:
        kind: of each.
        one: a single value may stand for them all, and is no list then.
        what: they are, for messages.
    """

    kind: Kind
    one: bool = False
    what: str = "values"
    metavar: str = "A,B"

    def parse(self, label: str, text: str) -> Any:
        """See :class:`Kind`."""
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise InputError(f"{label} {text!r}: give {self.what} separated by commas")
        values = [self.kind.parse(label, part) for part in parts]
        return values[0] if self.one and len(values) == 1 else values

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        if self.one and not isinstance(value, (list, tuple)):
            return self.kind.check(label, value)
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise InputError(f"{label}: give a list of {self.what}, not {value!r}")
        return [self.kind.check(label, each) for each in value]


@dataclass(frozen=True)
class Layers(Kind):
    """Layers of a backbone, which checks their names; each may have a weight."""

    metavar: str = "LAYERS"

    def parse(self, label: str, text: str) -> dict[str, float]:
        """``relu1_1,relu2_1=0.5``: a layer without a number weighs 1."""
        layers: dict[str, float] = {}
        for part in text.split(","):
            name, equals, weight = (each.strip() for each in part.partition("="))
            if not name:
                raise InputError(f"{label} {text!r}: give layers separated by commas")
            number = Number().parse(label, weight) if equals else 1.0
            layers[name] = Number().check(label, number)
        return layers

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, Iterable):
            raise InputError(f"{label}: give a list of layers, not {value!r}")
        if not isinstance(value, Mapping):
            return list(value)
        return {
            tap: Number().check(f"the weight of layer {tap}", weight)
            for tap, weight in value.items()
        }


class Given(Kind):
    """What only Python can give, and who uses it checks."""

    typed = False


@dataclass(frozen=True)
class ByLayer(Kind):
    """One of some words for every layer, or layer -> word.

    Attributes:
        words: that there are.
    """

    words: tuple[str, ...]
    metavar: str = "WORD"

    def parse(self, label: str, text: str) -> Any:
        """``softmax``, or ``rb3=softmax,rb4=softmax``."""
        if "=" not in text:
            return text
        pairs = [part.partition("=") for part in text.split(",")]
        return {layer.strip(): word.strip() for layer, _, word in pairs}

    def check(self, label: str, value: Any) -> Any:
        """See :class:`Kind`."""
        words = value.values() if isinstance(value, Mapping) else [value]
        for word in words:
            Choice(self.words).check(label, word)
        return value


def _check_range(
    label: str, value: float, least: float | None, most: float | None, above: bool = False
) -> None:
    low = least is not None and (value <= least if above else value < least)
    if not low and (most is None or value <= most):
        return
    words = []
    if least is not None:
        words.append(f"above {least:g}" if above else f"{least:g} or more")
    if most is not None:
        words.append(f"{most:g} at most")
    raise InputError(f"{label} is {value}: must be {', and '.join(words)}")


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
