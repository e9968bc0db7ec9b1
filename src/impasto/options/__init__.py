"""What an option is. Each is declared once, and everything that offers options derives from that:
the checks in Python, the command line and its help, sweeps, and what a picture's record says.

A set of options is a frozen dataclass below :class:`Options` whose fields are made by
:func:`option`. Nothing here imports torch, so that help comes at once.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from inspect import Parameter, Signature, signature
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, flag_of, quoted, spelled
from .kinds import (
    ByLayer,
    Choice,
    File,
    Flag,
    Function,
    Given,
    Kind,
    Layers,
    ListOf,
    Number,
    Text,
    Whole,
)
from .renames import Renamed, renamed, was

__all__ = [
    "COLOR",
    "EXPERT",
    "METHOD",
    "PICTURES",
    "SIZE",
    "STYLE",
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
    "Option",
    "Options",
    "Renamed",
    "Text",
    "Whole",
    "again",
    "check_known",
    "flag_of",
    "hint_of",
    "name_of",
    "option",
    "renamed",
    "renames_of",
    "signature_of",
    "takes",
    "was",
]

# Groups, as help shows them; METHOD stands for a panel of the method's own.
PICTURES, STYLE, COLOR, SIZE = "Pictures", "Style", "Colour", "Size and device"
METHOD, EXPERT = "method", "Expert"
NONE = "none"  # how None is typed
Value = TypeVar("Value")
AnyClass = TypeVar("AnyClass", bound=type)


@dataclass(frozen=True)
class Option:
    """One option as it is declared.

    Attributes:
        name: name in Python.
        default: default value; None if it depends on something else, which the help names.
        kind: type and range, see :class:`Kind`.
        help: description of one or two lines, for every reader.
        group: group of the help in which it is listed.
        expert: most people never need it: only the long help lists it.
        none: None is a valid value, typed ``none``; always true if None is the default.
        recorded: the value is recorded in pictures, so that they can be made again. Devices and
            folders are not recorded.
        was: its names in an earlier version, which work for one more.
    """

    name: str
    default: object
    kind: Kind
    help: str
    group: str = METHOD
    expert: bool = False
    none: bool = False
    recorded: bool = True
    was: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """As it is typed."""
        return flag_of(self.name)

    def parse(self, text: str, label: str | None = None) -> object:
        """The value that ``text`` stands for, checked; InputError if it stands for none."""
        label = label or self.flag
        with self._named():
            typed = None if self.none and text.lower() == NONE else self.kind.parse(label, text)
        return self.check(typed, label)

    def check(self, value: object, label: str | None = None) -> object:
        """``value`` as methods take it; InputError if it is of another type or out of range."""
        if value is None and self.none:
            return None
        with self._named():
            return self.kind.check(label or spelled(self.name), value)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """A context in which an error is about this option."""
        try:
            yield
        except InputError as fault:
            fault.option = fault.option or self.name
            raise


def option(
    default: Value,
    kind: Kind,
    help: str,
    group: str = METHOD,
    *,
    expert: bool = False,
    none: bool = False,
    recorded: bool = True,
    was: tuple[str, ...] = (),
) -> Value:
    """A field of a set of :class:`Options`; for the arguments see :class:`Option`."""
    none = none or default is None
    declared = Option("", default, kind, help, group, expert, none, recorded, was)
    declaration: Any = field(default=default, metadata={"option": declared})
    return declaration  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Options:
    """A set of options with their values, checked.

    Raises:
        InputError: for a value of another type, or out of its range.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Oil(Options):
        ...     thinner: float = option(0.5, Number(0, 1), "Share of turpentine.")
        >>> Oil(thinner=0.2).record()
        {'thinner': 0.2}
        >>> Oil.declared()["thinner"].parse("1.5")
        Traceback (most recent call last):
        impasto.errors.InputError: --thinner is 1.5: must be 0 or more, and 1 at most
    """

    def __post_init__(self) -> None:
        for name, declared in self.declared().items():
            object.__setattr__(self, name, declared.check(getattr(self, name)))

    @classmethod
    def declared(cls) -> dict[str, Option]:
        """Name -> declaration, in the order of help."""
        return {
            each.name: replace(each.metadata["option"], name=each.name)
            for each in fields(cls)
            if "option" in each.metadata
        }

    @classmethod
    def of(cls: type[AnyOptions], who: str, values: Mapping[str, object]) -> AnyOptions:
        """Make the set with these values.

        Args:
            who: the method or command that has these options, for messages.
            values: values by name, which may be an old one.

        Raises:
            InputError: also for an unknown option.
        """
        values = renamed(values, renames_of(cls))
        check_known(who, cls.declared(), values)
        checked: dict[str, Any] = dict(values)  # when it is made
        return cls(**checked)

    def record(self) -> dict[str, object]:
        """Names and plain values for the record in a picture; of a file only its name."""
        return {
            name: _plain(getattr(self, name))
            for name, declared in self.declared().items()
            if declared.recorded
        }


AnyOptions = TypeVar("AnyOptions", bound=Options)


def again(cls: type[Options], name: str, **changes: Any) -> Any:
    """Declare an option of another set again, with some attributes changed."""
    declared = replace(cls.declared()[name], **changes)
    return field(default=declared.default, metadata={"option": declared})


def renames_of(*sets: type[Options]) -> dict[str, str]:
    """Old name -> new name of the options of ``sets``."""
    declared = [each for options in sets for each in options.declared().values()]
    present = {each.name for each in declared}
    return {old: each.name for each in declared for old in each.was if old not in present}


def check_known(
    who: str,
    known: Iterable[str],
    names: Iterable[str],
    *,
    elsewhere: Callable[[str], str] = lambda name: "",
) -> None:
    """Raise InputError for an unknown option.

    Args:
        who: the method or command that the message names.
        known: names of the known options.
        names: names to check.
        elsewhere: returns text that names other owners of such an option; empty if there are none.
    """
    known = list(known)
    for name in names:
        if name in known:
            continue
        hint = elsewhere(name) or hint_of(name, known)
        raise InputError(f"{who} has no option {quoted(name)}{hint}", option=name)


def hint_of(name: str, known: Iterable[str], others: Iterable[str] = ()) -> str:
    """The end of a message about an unknown name: the name that was probably meant.

    ``others`` are names that may be meant too, but are not listed.
    """
    known = list(known)
    close = difflib.get_close_matches(name, [*known, *others], n=1)
    return f": did you mean {close[0]!r}?" if close else f": use one of {', '.join(known)}"


def takes(options: type[Options]) -> Callable[[AnyClass], AnyClass]:
    """A decorator of classes that take ``**options``: their signature lists the options."""

    def decorate(cls: AnyClass) -> AnyClass:
        cls.__signature__ = signature_of(cls, options)  # type: ignore[attr-defined]
        return cls

    return decorate


def signature_of(
    function: Callable[..., Any], *sets: type[Options], further: bool = False
) -> Signature:
    """The signature of ``function``, with the options of ``sets`` in place of ``**options``.

    Args:
        further: keep ``**options`` behind them, because it takes options of other sets too.
    """
    parameters = signature(function).parameters.values()
    first = [
        p.replace(kind=p.POSITIONAL_OR_KEYWORD) if p.kind is p.POSITIONAL_ONLY else p
        for p in parameters
        if p.kind is not p.VAR_KEYWORD
    ]
    last = [p for p in parameters if p.kind is p.VAR_KEYWORD and further]
    declared = [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
        for options in sets
        for each in fields(options)
        if each.name not in (parameter.name for parameter in first)
    ]
    return signature(function).replace(parameters=[*first, *declared, *last])


def name_of(function: Callable[..., Any]) -> str:
    """Module and name of a function; of another callable object, of its class."""
    function = getattr(function, "func", function)  # of a functools.partial
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _plain(value: Any) -> Any:
    """As it stands in a record."""
    if isinstance(value, os.PathLike):
        return Path(value).name
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Real):  # perhaps NumPy's, which JSON does not take
        return int(value) if isinstance(value, Integral) else float(value)
    if hasattr(value, "name"):
        return value.name
    return name_of(value) if callable(value) else type(value).__name__
