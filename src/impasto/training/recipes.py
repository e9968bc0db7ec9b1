"""Recipes: TOML in which every key is known and every value has its type."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["build", "check", "read_toml"]

Config = TypeVar("Config")


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises InputError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a recipe that can be read ({reason}); see recipes/"
        ) from None


def check(table: Mapping[str, Any], known: Mapping[str, str], where: str) -> None:
    """Raise InputError for a key that is not ``known`` or a value that is not of its type.

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
        "None": (),
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
            fitting += kinds.get(name, (list, dict) if contains else (str,))
        if not isinstance(value, fitting) or (isinstance(value, bool) and bool not in fitting):
            raise InputError(f"{where}: {key} = {value!r} is not of type {known[key]}")
        if known[key] == "tables" and not all(isinstance(entry, dict) for entry in table[key]):
            raise InputError(f"{where}: {key}: give tables, [[{key}]]")


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
