"""Recipes: TOML in which every key is known and every value has its type; and single values, typed.

``--set training.batch=2`` stands for a line of a recipe, and goes before it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, check_finite
from ..files import path_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "build",
    "check",
    "check_fields",
    "check_numbers",
    "merged",
    "nested",
    "parse_set",
    "read_toml",
    "typed",
    "value_of",
]

Config = TypeVar("Config")


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises InputError if it cannot be read."""
    path = path_of(path, "recipe")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a recipe that can be read ({reason}); see recipes/"
        ) from None


def check(table: Mapping[str, Any], known: Mapping[str, str], where: str) -> None:
    """Raise InputError for a key that is not ``known`` or a value that is not of its type.

    NaN and infinity, which TOML has, are no values either, however deep they lie.

    Args:
        known: key -> its type as it is annotated, such as ``int`` or ``str | None``; or ``table``,
            or ``tables`` for a list of them.
        where: for the message: the file, and the table in it.
    """
    kinds: dict[str, tuple[type, ...]] = {
        "bool": (bool,),
        "int": (int,),
        "float": (int, float),
        "str": (str,),
        "Path": (str,),
        "None": (type(None),),
        "table": (dict,),
        "tables": (list,),
    }
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; the keys are {', '.join(known)}")
        fitting: tuple[type, ...] = ()
        for name in known[key].split(" | "):
            # Others are containers, or a choice of words, which whoever takes the value knows.
            contains = "[" in name and not name.startswith("Literal")
            fitting += kinds.get(name, (list, tuple, dict) if contains else (str,))
        if not isinstance(value, fitting) or (isinstance(value, bool) and bool not in fitting):
            raise InputError(f"{where}: {key} = {value!r} is not of type {known[key]}")
        if known[key] == "tables" and not all(isinstance(entry, dict) for entry in table[key]):
            raise InputError(f"{where}: {key}: give tables, [[{key}]]")
        check_numbers(f"{where}: {key}", value)


def check_numbers(name: str, value: Any) -> None:
    """Raise InputError for NaN or infinity, in lists and tables too."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_numbers(f"{name}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_numbers(name, inner)
    elif isinstance(value, float):
        check_finite(name, value)


def check_fields(config: Any) -> None:
    """Raise InputError for a field of a dataclass that is not of its type, or not finite."""
    fields = dataclasses.fields(config)
    values = {field.name: getattr(config, field.name) for field in fields}
    check(values, {field.name: str(field.type) for field in fields}, type(config).__name__)


def build(config: type[Config], table: Mapping[str, Any], where: str) -> Config:
    """A dataclass from a table; InputError for unknown keys, wrong types, values out of range."""
    fields = dataclasses.fields(config)  # type: ignore[arg-type]
    check(table, {field.name: str(field.type) for field in fields}, where)
    try:
        return config(**{k: _tuples(v) for k, v in table.items()})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _tuples(value: Any) -> Any:
    """Lists as tuples, all the way down: a configuration does not change."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def parse_set(text: str) -> tuple[str, Any]:
    """``"training.batch=2"`` is ``("training.batch", 2)``: a key of a recipe, and its value.

    See :func:`value_of`; a value in brackets or quotation marks is read as TOML.

    Raises:
        InputError: for anything else.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip().replace("-", "_"), value.strip()
    if not (equals and value and all(name.split("."))):
        raise InputError(f"--set {text!r}: write KEY=VALUE, of a table TABLE.KEY=VALUE")
    if value[0] not in "[{'\"":
        return name, value_of(value)
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        raise InputError(f"--set {text!r}: the value cannot be read as TOML") from None


def value_of(text: str) -> Any:
    """A value as it is typed: a number, true, false, none, or the text.

    A list joins its parts by ``+``; names with weights give these behind a colon.
    """
    one = _one(text)
    if re.match(r"[A-Za-z]:[/\\]", text):  # a path of Windows, not a name with its weight
        return text
    if isinstance(one, str) and ("+" in text or ":" in text):  # 1e+5 is a number
        parts = [part.partition(":") for part in text.split("+")]
        if any(weight for _, _, weight in parts):
            return {name: _number(weight, text) for name, _, weight in parts}
        return [_one(name) for name, _, _ in parts]
    return one


def _one(text: str) -> Any:
    """A number, true, false, none, or the text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _number(weight: str, text: str) -> float:
    try:
        return float(weight or "1")
    except ValueError:
        raise InputError(f"{text}: {weight!r} is no weight: give a number") from None


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """``{"training.batch": 2}`` as tables in tables. Raises InputError where two contradict."""
    out: dict[str, Any] = {}
    for name, value in changes.items():
        *tables, key = name.split(".")
        table = out
        for each in tables:
            table = table.setdefault(each, {})
            if not isinstance(table, dict):
                raise InputError(
                    f"--set {name}: {each} is given a value too: leave one of them out"
                )
        table[key] = merged(table[key], value) if _tables(table.get(key), value) else value
    return out


def merged(table: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` with the keys of ``own`` in their places, tables in it likewise."""
    out = dict(table)
    for key, value in own.items():
        out[key] = merged(out[key], value) if _tables(out.get(key), value) else value
    return out


def _tables(one: Any, two: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(two, Mapping)


def typed(changes: Mapping[str, Any]) -> str:
    """Changes as they are typed, each after a blank: what :func:`parse_set` reads back."""
    out = ""
    for name, value in changes.items():
        if isinstance(value, Mapping):
            out += typed({f"{name}.{key}": inner for key, inner in value.items()})
            continue
        text = str(value)
        if isinstance(value, Path):
            text = value.name  # as of all files: folders are nobody's business
        elif value is None or isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, (list, tuple)) or (
            isinstance(value, str) and value_of(value) != value
        ):
            text = json.dumps(value)
        out += f" --set {_quoted(f'{name}={text}')}"
    return out


def _quoted(word: str) -> str:
    """`word` as it is typed, in double quotes if in any: cmd of Windows knows no others."""
    if shlex.quote(word) == word:
        return word
    return '"' + re.sub(r'(["\\$`])', r"\\\1", word) + '"'
