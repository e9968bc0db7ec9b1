"""Inputs of experiments, and the checks that run before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from numbers import Integral
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..files import home, path_of, same_file
from ..images import MIN_SIDE, fit, list_pictures, read, resize
from ..methods import check_options, options_of, record_of
from ..options import renamed, renames_of
from ..styles import SUFFIX

__all__ = [
    "Methods",
    "at_size",
    "check_folders",
    "check_methods",
    "check_side",
    "digests_of",
    "files_of",
    "message_of",
    "pictures_in",
    "without_folders",
]

Methods = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Label -> a method's name and its options."""


def at_size(source: Any, size: int) -> Tensor:
    """A picture ``(3, H, W)`` in 0..1, resized to a short side of ``size`` pixels.

    Raises:
        InputError: if it cannot be read, or if it is a stored style, which has no pixels.
    """
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix == SUFFIX:
        raise InputError(f"{source}: a stored style has no pixels; give the picture itself")
    rgb = read(source, size=size).rgb
    return resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], size))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, without subfolders. Raises InputError if there are none."""
    if folder.suffix == SUFFIX and not folder.is_dir():
        raise InputError(
            f"{folder}: a stored style has no pixels; name a folder with the paintings themselves"
        )
    if folder.is_file():
        raise InputError(f"{folder}: is a file; name the folder of pictures that it is in")
    pictures = list_pictures(folder)
    if not pictures:
        stored = any(path.suffix == SUFFIX for path in folder.iterdir())
        hint = ", and stored styles have no pixels" if stored else ""
        raise InputError(
            f"{folder}: no picture in this folder{hint}; name a folder of JPEG or PNG files"
        )
    return pictures


def check_side(size: Any) -> None:
    """Raise InputError unless the short side is a whole number of pixels and large enough."""
    if not isinstance(size, Integral) or isinstance(size, bool):
        raise InputError(f"size is {size!r}: give a whole number of pixels", option="size")
    if int(size) < MIN_SIDE:
        raise InputError(
            f"size is {size}: the short side needs {MIN_SIDE} pixels or more", option="size"
        )


def check_methods(methods: Any, reserved: Iterable[str] = ()) -> Methods:
    """:data:`Methods` with their options under the names of this version.

    Args:
        methods: the value to check.
        reserved: labels that are not allowed, because other results use them.

    Raises:
        InputError: for anything else, and for unknown options.
    """
    if not isinstance(methods, Mapping):
        raise InputError(
            f"methods: give label -> (method, options), as available() does, not "
            f"{type(methods).__name__}"
        )
    checked: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for label, method in methods.items():
        if not isinstance(label, str) or label in reserved or Path(label).name != label:
            raise InputError(f"methods: the label {label!r} cannot name a folder; choose another")
        if not (
            isinstance(method, (tuple, list))
            and len(method) == 2
            and isinstance(method[0], str)
            and isinstance(method[1], Mapping)
        ):
            raise InputError(f"methods: {label}: give (method, options), not {method!r}")
        name, options = method
        options = renamed(options, renames_of(record_of(name).Options))
        check_options(f"method {name}", options_of(name), options)
        checked[label] = name, options
    return checked


def check_folders(
    out: Path, output_folders: Iterable[Path], input_folders: Iterable[Path | None]
) -> None:
    """Raise InputError if results would be written into a folder of inputs.

    Args:
        out: the folder that the message names; it holds ``output_folders``.
        output_folders: folders that pictures are written to.
        input_folders: folders that pictures are read from.
    """
    inputs = [folder for folder in input_folders if folder is not None]
    for output in output_folders:
        for folder in inputs:
            if same_file(output, folder):
                raise InputError(
                    f"{out}: results would be written among the input pictures of {folder}; "
                    f"choose another folder, such as {folder / 'out'}"
                )


def files_of(options: Mapping[str, Any]) -> list[Path]:
    """The files that options name, such as a model or a picture to start from."""
    files: list[Path] = []
    for item in _items(options):
        if isinstance(item, (str, os.PathLike)):
            path = path_of(item, "option")
            try:
                files += [path] if path.is_file() else []
            except (OSError, ValueError):  # text that cannot be a path, such as a long one
                continue
    return files


def _items(options: Mapping[str, Any]) -> Iterator[Any]:
    """The values of options; of lists, their items."""
    for value in options.values():
        yield from value if isinstance(value, (list, tuple)) else [value]


def digests_of(options: Mapping[str, Any], label: str = "") -> dict[str, str]:
    """Digests of the files that options name, by label, option and file name.

    An experiment is resumed only if they agree: names alone would not tell apart two models that
    are both called ``network.safetensors``.
    """
    return {
        " ".join(filter(None, (label, option, path.name))): _digest(path)
        for option, value in options.items()
        for path in files_of({option: value})
    }


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:12]


def without_folders(value: Any) -> Any:
    """An option as it is recorded: paths, also in lists and mappings, become file names.

    Results may be published; they should not show the folders of the machine.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(item) for item in value]
    if isinstance(value, (str, os.PathLike)):
        return re.split(r"[/\\]", os.fspath(value).rstrip("/\\"))[-1]
    return value


def message_of(fault: Exception, options: Mapping[str, Any]) -> str:
    """An error message as it is recorded: without the folders of options, cache and home."""
    text = str(fault)
    for item in _items(options):
        if isinstance(item, (str, os.PathLike)) and os.fspath(item):
            text = text.replace(os.fspath(item), without_folders(item))
    folders = [os.path.expanduser("~")]
    with suppress(InputError):  # some users have no home folder
        folders = [str(home()), *folders]
    for folder in folders:
        text = text.replace(os.path.join(folder, ""), "")
    return text
