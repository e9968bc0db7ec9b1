"""Labelled pictures: the classes are folders, or prefixes of file names."""

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
    folders: Sequence[Path],
    warn: Callable[[str], None] = lambda line: None,
    classes: Sequence[str] = (),
) -> dict[str, list[Path]]:
    """Pictures by class, sorted. Each subfolder of a folder is a class, searched recursively.

    In a folder without subfolders, the class is the part of a file's name before its last ``_``,
    such as ``monet`` in ``monet_0012.jpg``.

    Args:
        folders: the folders to search; links are followed, but cycles are not.
        warn: called with a line for files that are skipped.
        classes: the classes to return; none named means all.

    Raises:
        InputError: if there are fewer than two classes, one of ``classes`` has no picture, or a
            file's name has no class.
    """
    labelled: dict[str, list[Path]] = {}
    folders = paths_of(folders, "folders")
    for folder in folders:
        files = list_pictures(folder)
        within: dict[str, list[Path]] = {}
        visited = {os.path.realpath(folder), *map(str, Path(os.path.realpath(folder)).parents)}
        subfolders = sorted(path for path in folder.iterdir() if path.is_dir())
        for path in sorted(subfolders, key=Path.is_symlink):  # a folder's name goes before a link's
            real = os.path.realpath(path)
            if path.name[0] == "." or real in visited:
                continue
            visited.add(real)  # another link to it is not a class
            if pictures := list_pictures(path, recursive=True):
                within[path.name] = pictures
        name_others(folder, warn)
        if within and files:
            names = ", ".join(path.name for path in files[:3]) + (", ..." if files[3:] else "")
            warn(f"{folder}: skipped {len(files)} pictures beside the folders of classes: {names}")
        for name, pictures in within.items():
            labelled.setdefault(name, []).extend(pictures)
        for path in [] if within else files:
            name = path.stem.rpartition("_")[0]
            if not name:
                raise InputError(
                    f"{path}: its name has no class; call it CLASS_NUMBER{path.suffix}"
                )
            labelled.setdefault(name, []).append(path)
    absent = [name for name in classes if name not in labelled]
    if absent:
        raise InputError(
            f"classes: no pictures of {absent[0]}; there are {', '.join(sorted(labelled))}"
        )
    labelled = {name: labelled[name] for name in sorted(classes or labelled)}
    if len(labelled) < 2:
        names = ", ".join(map(str, folders))
        raise InputError(
            f"{names}: {len(labelled)} classes of pictures; make a folder for each class, or "
            "name the files CLASS_NUMBER.jpg"
        )
    return labelled
