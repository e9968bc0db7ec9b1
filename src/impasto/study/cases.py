"""Which options each picture of a sweep is rendered with."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from .inputs import without_folders

__all__ = ["Cases"]

Cases = Mapping[str, Mapping[str, Any]]
"""Label -> options that belong together, such as sizes with their iterations."""


def combined(
    vary: Mapping[str, Sequence[Any]], cases: Cases, paired: bool
) -> dict[str, dict[str, Any]]:
    """Label -> options of each picture: every case with every combination of what varies.

    Args:
        vary: option -> its values.
        cases: see :data:`Cases`; none is the same as one without options.
        paired: take the first value of every varied option, then the second, and so on, instead
            of every combination.

    Raises:
        InputError: if values are to be paired that are not equally many.
    """
    counts = {name: len(values) for name, values in vary.items()}
    if paired and len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"paired values must be equally many ({listed}); give as many of each")
    together = zip(*vary.values(), strict=True) if paired else itertools.product(*vary.values())
    # zip() of nothing gives nothing, where product() gives the one empty combination.
    rows = list(together) if vary else [()]
    combinations: dict[str, dict[str, Any]] = {}
    for (name, options), values in itertools.product((cases or {"": {}}).items(), rows):
        varied = dict(zip(vary, values, strict=True))
        texts = [f"{option}={text_of(value)}" for option, value in varied.items()]
        combinations[", ".join(filter(None, [name, *texts]))] = {**options, **varied}
    return combinations


def check_cases(cases: Any) -> None:
    """Raise InputError unless these are :data:`Cases`."""
    if not isinstance(cases, Mapping):
        raise InputError(f"cases: give label -> options, not {type(cases).__name__}")
    for label, options in cases.items():
        if not (isinstance(label, str) and label.strip()):
            raise InputError(f"cases: the label {label!r} is no text; give each case one")
        if not isinstance(options, Mapping):
            raise InputError(
                f"cases: {label}: give a dictionary of options, not {type(options).__name__}"
            )


def text_of(value: Any) -> str:
    """A value as on the command line, with paths reduced to file names."""
    value = without_folders(value)
    if isinstance(value, Mapping):
        weights = {
            name: "" if weight == 1 else f":{text_of(weight)}" for name, weight in value.items()
        }
        return "+".join(name + weight for name, weight in weights.items())
    if isinstance(value, (list, tuple)):
        return "+".join(map(text_of, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
