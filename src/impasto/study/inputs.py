"""What experiments are given, checked for what it is before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from numbers import Integral
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..files import home, path_of, same_file
from ..images import MIN_SIDE, fit, list_pictures, read, resize
from ..methods import check_options, options_of
from ..styles import SUFFIX

__all__ = [
    "Methods",
    "at_size",
    "check_folders",
    "check_methods",
    "check_side",
    "digests_of",
    "files_of",
    "pictures_in",
    "told",
    "without_folders",
]

Methods = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Label -> a method's name and its options."""


def at_size(source: Any, size: int) -> Tensor:
    """A picture, ``(3, H, W)`` in 0..1, of that short side.

    Raises:
        InputError: if it cannot be read, or is a stored style, which has no pixels.
    """
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix == SUFFIX:
        raise InputError(f"{source}: a stored style has no pixels; give the picture itself")
    rgb = read(source, size=size).rgb
    return resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], size))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, not below it. Raises InputError if it is none, or holds none."""
    if folder.suffix == SUFFIX and not folder.is_dir():
        raise InputError(
            f"{folder}: a stored style has no pixels; name a folder with the paintings themselves"
        )
    if folder.is_file():
        raise InputError(f"{folder}: is a file; name the folder of pictures that it is in")
    found = list_pictures(folder)
    if not found:
        stored = any(path.suffix == SUFFIX for path in folder.iterdir())
        hint = ", and stored styles have no pixels" if stored else ""
        raise InputError(
            f"{folder}: no picture in this folder{hint}; name a folder of JPEG or PNG files"
        )
    return found


def check_side(size: Any) -> None:
    """Raise InputError for a short side, in pixels, that is not whole or too small."""
    if not isinstance(size, Integral) or isinstance(size, bool):
        raise InputError(f"size is {size!r}: give a whole number of pixels")
    if int(size) < MIN_SIDE:
        raise InputError(f"size is {size}: the short side needs {MIN_SIDE} pixels or more")


def check_methods(methods: Any, reserved: Iterable[str] = ()) -> None:
    """Raise InputError unless these are :data:`Methods` with options that there are.

    Args:
        methods: to be checked.
        reserved: labels that stand for something else.
    """
    if not isinstance(methods, Mapping):
        raise InputError(
            f"methods: give label -> (method, options), as available() does, not "
            f"{type(methods).__name__}"
        )
    for label, given in methods.items():
        if not isinstance(label, str) or label in reserved or Path(label).name != label:
            raise InputError(f"methods: the label {label!r} cannot name a folder; choose another")
        if not (
            isinstance(given, (tuple, list))
            and len(given) == 2
            and isinstance(given[0], str)
            and isinstance(given[1], Mapping)
        ):
            raise InputError(f"methods: {label}: give (method, options), not {given!r}")
        check_options(f"method {given[0]}", options_of(given[0]), given[1])


def check_folders(out: Path, places: Iterable[Path], folders: Iterable[Path | None]) -> None:
    """Raise InputError if pictures would be written among those that are read.

    Args:
        out: for the message: what holds ``places``.
        places: folders that pictures are written to.
        folders: that pictures are read from.
    """
    read_from = [folder for folder in folders if folder is not None]
    for place in places:
        for folder in read_from:
            if same_file(place, folder):
                raise InputError(
                    f"{out}: results would be written among the pictures of {folder}, which are "
                    f"read; choose another folder, such as {folder / 'out'}"
                )


def files_of(options: Mapping[str, Any]) -> list[Path]:
    """The files that options name, such as a model or a picture to start with."""
    found: list[Path] = []
    for value in options.values():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, (str, os.PathLike)):
                path = path_of(each, "option")
                try:
                    found += [path] if path.is_file() else []
                except (OSError, ValueError):  # no path at all, but some other long text
                    continue
    return found


def digests_of(options: Mapping[str, Any], of: str = "") -> dict[str, str]:
    """Option and name of each file that options name -> a digest of what it holds.

    What was made before may be gone on with if these agree: by name, two models that are both
    called ``network.safetensors`` are one.
    """
    return {
        " ".join(filter(None, (of, option, path.name))): sha256(path.read_bytes()).hexdigest()[:12]
        for option, value in options.items()
        for path in files_of({option: value})
    }


def without_folders(value: Any) -> Any:
    """An option for what is written: of a path its last name alone, however deep it lies in lists.

    Whoever is shown results need not know how the folders of a machine are called.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(each) for each in value]
    if isinstance(value, (str, os.PathLike)):
        return re.split(r"[/\\]", os.fspath(value).rstrip("/\\"))[-1]
    return value


def told(fault: Exception, options: Mapping[str, Any]) -> str:
    """A message for what is written: without the folders of options, of the cache and at home."""
    text = str(fault)
    for value in options.values():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, (str, os.PathLike)) and os.fspath(each):
                text = text.replace(os.fspath(each), without_folders(each))
    folders = [os.path.expanduser("~")]
    with suppress(InputError):  # where nobody is at home
        folders = [str(home()), *folders]
    for folder in folders:
        text = text.replace(os.path.join(folder, ""), "")
    return text
