"""Recipes: TOML with checked keys and types; and single values from the command line.

``--set training.batch=2`` replaces a line of a recipe.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, check_finite, spelled
from ..files import path_of
from ..options import renamed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["parse_set", "read_toml"]

Config = TypeVar("Config")
LENGTHS = {"steps", "epochs"}  # keys of a training's length, of which a recipe has one


def read_toml(path: Path) -> dict[str, Any]:
    """The contents of a TOML file. Raises InputError if it cannot be read."""
    path = path_of(path, "recipe")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a recipe, cannot be read as TOML ({reason}); see recipes/"
        ) from None


FLAGS = {"styles": "style"}  # option of a method -> its name as it is typed, if that is another


def option_named(option: str) -> str:
    """An option of a method, for messages."""
    return spelled(option, flag=FLAGS.get(option))


def changes_named() -> str:
    """The argument that overrides a recipe, for messages."""
    return spelled("changes", flag="set")


def given_twice(key: str, name: str) -> InputError:
    """The error for a ``key`` of the recipe that the argument ``name`` and the changes both set."""
    return InputError(
        f"{key}: given by {spelled(name)} and {changes_named()}; leave one out", option=name
    )


def check(table: Mapping[str, Any], types: Mapping[str, str], where: str) -> None:
    """Raise InputError for a key that is not in ``types`` or a value of another type.

    NaN and infinity, which TOML allows, are refused at any depth.

    Args:
        table: the table to check.
        types: key -> its annotated type, such as ``int`` or ``str | None``; or ``table``, or
            ``tables`` for a list of tables.
        where: the file and the table in it, for the message.
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
        if key not in types:
            raise InputError(f"{where}: unknown key {key!r}; the keys are {', '.join(types)}")
        allowed: tuple[type, ...] = ()
        for name in types[key].split(" | "):
            # Other types are containers, or choices of words, which the configuration checks.
            is_container = "[" in name and not name.startswith("Literal")
            allowed += kinds.get(name, (list, tuple, dict) if is_container else (str,))
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise InputError(f"{where}: {key} = {value!r} is not of type {types[key]}")
        if types[key] == "tables" and not all(isinstance(entry, dict) for entry in table[key]):
            raise InputError(f"{where}: {key}: give tables, [[{key}]]")
        check_numbers(f"{where}: {key}", value)


def check_numbers(name: str, value: Any) -> None:
    """Raise InputError for NaN or infinity, also in lists and tables."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_numbers(f"{name}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_numbers(name, inner)
    elif isinstance(value, float):
        check_finite(name, value)


def check_fields(config: Any) -> None:
    """Raise InputError for a field of a dataclass of the wrong type, or that is not finite."""
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
    """Lists as tuples, recursively, because configurations are immutable."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def parse_set(text: str) -> tuple[str, Any]:
    """Parse ``"training.batch=2"`` as ``("training.batch", 2)``: a recipe's key and its value.

    See :func:`value_of`; a value in brackets or quotation marks is parsed as TOML.

    Raises:
        InputError: for text of another form.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip().replace("-", "_"), value.strip()
    if not (equals and value and all(name.split("."))):
        raise InputError(f"--set {text!r}: write KEY=VALUE or TABLE.KEY=VALUE")
    if value[0] not in "[{'\"":
        return name, value_of(value)
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        raise InputError(f"--set {text!r}: the value cannot be read as TOML") from None


def value_of(text: str) -> Any:
    """Parse a command-line value: a number, true, false, none, or text.

    A ``+`` separates the parts of a list, and a colon a name from its weight.
    """
    value = _single(text)
    if re.match(r"[A-Za-z]:[/\\]", text):  # a Windows path, not a name with its weight
        return text
    if isinstance(value, str) and ("+" in text or ":" in text):  # 1e+5 is a number
        parts = [part.partition(":") for part in text.split("+")]
        if any(weight for _, _, weight in parts):
            return {name: _number(weight, text) for name, _, weight in parts}
        return [_single(name) for name, _, _ in parts]
    return value


def _single(text: str) -> Any:
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
        raise InputError(f"{text}: {weight!r} is not a weight: give a number") from None


def present(changes: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``changes`` of a recipe under the names of this version.

    ``names``: old name -> new name of options of the method.
    """
    keys = {f"options.{old}": f"options.{new}" for old, new in names.items()}
    return renamed(changes, keys, changes_named())


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """``{"training.batch": 2}`` as nested tables. Raises InputError for contradictory keys."""
    root: dict[str, Any] = {}
    for name, value in changes.items():
        *parents, key = name.split(".")
        table = root
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise InputError(
                    f"{changes_named()} {name}: {parent} is set to a value too: leave one of them "
                    "out"
                )
        table[key] = merged(table[key], value) if _tables(table.get(key), value) else value
    return root


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` overridden by ``changes``, recursively."""
    result = dict(table)
    for key, value in changes.items():
        result[key] = merged(result[key], value) if _tables(result.get(key), value) else value
    return result


def _tables(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def overridden(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a recipe with ``changes``; its steps or epochs replace those of ``tables``."""
    replaced = LENGTHS if LENGTHS & changes.get("training", {}).keys() else set()
    training = {k: v for k, v in tables["training"].items() if k not in replaced}
    return merged({**tables, "training": training}, changes)


def check_length(training: Mapping[str, Any], where: str) -> None:
    """Raise InputError if a table ``[training]`` has steps and epochs."""
    if training.keys() >= LENGTHS:
        raise InputError(f"{where}: has steps and epochs: leave one of them out")


def typed(changes: Mapping[str, Any]) -> str:
    """``changes`` as ``--set`` options with a leading space; the inverse of :func:`parse_set`."""
    out = ""
    for name, value in changes.items():
        if isinstance(value, Mapping):
            out += typed({f"{name}.{key}": inner for key, inner in value.items()})
            continue
        text = str(value)
        if isinstance(value, Path):
            text = value.name  # for privacy, folders are not recorded
        elif value is None or isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, (list, tuple)) or (
            isinstance(value, str) and value_of(value) != value
        ):
            text = json.dumps(value)
        out += f" --set {_quoted(f'{name}={text}')}"
    return out


def _quoted(word: str) -> str:
    """``word`` quoted for a shell, in double quotes if necessary: Windows has no others."""
    if shlex.quote(word) == word:
        return word
    return '"' + re.sub(r'(["\\$`])', r"\\\1", word) + '"'


def as_paths(value: Any) -> Any:
    """A string or a list of strings as paths."""
    if isinstance(value, (list, tuple)):
        return [Path(item) for item in value]
    return None if value is None else Path(value)


def recorded(value: Any) -> Any:
    """An option as it is recorded: files by name, and files in lists by name and digest.

    The digest prevents a run from resuming with another painting of the same name.
    """
    if isinstance(value, (list, tuple)):
        return [_digest(item) if isinstance(item, Path) else recorded(item) for item in value]
    return value.name if isinstance(value, Path) else value


def _digest(path: Path) -> str:
    return f"{path.name} sha256:{sha256(path.read_bytes()).hexdigest()[:12]}"
