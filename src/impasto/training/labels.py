"""Labelled pictures: classes are folders, or the beginnings of files' names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError
from ..files import paths_of
from ..images import list_pictures
from .sets import name_others

__all__ = ["labels_of"]


def labels_of(
    folders: Sequence[Path], warn: Callable[[str], None] = lambda line: None
) -> dict[str, list[Path]]:
    """Pictures by class, sorted: the folders below a folder are classes, with all below these.

    In a folder without any below, a class is what stands before the last ``_`` of a file's name,
    ``monet`` of ``monet_0012.jpg``.

    Args:
        folders: to be searched; links are followed, never in circles.
        warn: called with a line for files that are passed over.

    Raises:
        InputError: if there are fewer than two classes, or a file's name has none.
    """
    found: dict[str, list[Path]] = {}
    folders = paths_of(folders, "folders")
    for folder in folders:
        files = list_pictures(folder)
        classes: dict[str, list[Path]] = {}
        above = {os.path.realpath(folder), *map(str, Path(os.path.realpath(folder)).parents)}
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        for path in sorted(below, key=Path.is_symlink):  # a class has its own name before a link's
            real = os.path.realpath(path)
            if path.name[0] == "." or real in above:
                continue
            above.add(real)  # another link to it is no class of its own
            if pictures := list_pictures(path, recursive=True):
                classes[path.name] = pictures
        name_others(folder, warn)
        if classes and files:
            names = ", ".join(path.name for path in files[:3]) + (", ..." if files[3:] else "")
            warn(f"{folder}: skipped {len(files)} pictures beside the folders of classes: {names}")
        for name, pictures in classes.items():
            found.setdefault(name, []).extend(pictures)
        for path in [] if classes else files:
            name = path.stem.rpartition("_")[0]
            if not name:
                raise InputError(
                    f"{path}: its name has no class; call it CLASS_NUMBER{path.suffix}"
                )
            found.setdefault(name, []).append(path)
    if len(found) < 2:
        names = ", ".join(map(str, folders))
        raise InputError(
            f"{names}: {len(found)} classes of pictures; make a folder for each class, or name the "
            "files CLASS_NUMBER.jpg"
        )
    return dict(sorted(found.items()))
