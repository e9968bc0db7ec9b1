"""From the names on a command line to jobs: which pictures are made, and where they are written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import InputError, spelled
from .files import folded, named, same_file, shown, within

__all__ = [
    "NAME",
    "STANDARD",
    "Content",
    "Inputs",
    "Job",
    "gather",
    "plan",
]

STANDARD = "-"
"""What people type for standard input or output."""
NAME = "{content}-{style}.png"
"""The name of a result in a folder."""


@dataclass(frozen=True)
class Content:
    """A photograph.

    Attributes:
        path: of its file; None for standard input.
        below: its folder, seen from the one that was named.
        listed: whether it was found in a folder.
    """

    path: Path | None
    below: Path = Path()
    listed: bool = False

    @property
    def name(self) -> str:
        """With its ending."""
        return "stdin" if self.path is None else self.path.name

    @property
    def stem(self) -> str:
        """Without its ending."""
        return "stdin" if self.path is None else self.path.stem

    def __str__(self) -> str:
        return "standard input" if self.path is None else shown(self.path)


@dataclass(frozen=True)
class Inputs:
    """What was named.

    Attributes:
        contents: the photographs.
        styles: files, or names of styles that come with the package; those in one tuple are mixed,
            and every tuple makes a picture of every content.
        several: whether a folder was named or more than one picture is to be made, so that results
            belong into a folder, be they one or many.
        learnt: whether styles are names that a network has learnt, and no files.
        by_folder: whether the styles are those of a folder.
    """

    contents: Sequence[Content]
    styles: Sequence[tuple[str, ...]]
    several: bool
    learnt: bool = False
    by_folder: bool = False

    @property
    def listed(self) -> list[Path]:
        """Files of which not the name was given, but that of a folder."""
        contents = [content.path for content in self.contents if content.listed and content.path]
        return contents + ([Path(group[0]) for group in self.styles] if self.by_folder else [])

    def without(self, paths: Set[Path]) -> Inputs:
        """The same without some of the files."""
        contents = [content for content in self.contents if content.path not in paths]
        styles = [group for group in self.styles if not {*map(Path, group)} & paths]
        return replace(self, contents=contents, styles=styles)

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        names = [] if self.learnt else [name for group in self.styles for name in group]
        contents = [content.path for content in self.contents if content.path is not None]
        return contents + [Path(name) for name in names if name != STANDARD]


@dataclass(frozen=True)
class Job:
    """A picture to make; ``target`` is None for standard output."""

    content: Content
    styles: tuple[str, ...]
    target: Path | None


def gather(
    pictures: Sequence[str],
    style: Sequence[str] | None = None,
    *,
    learnt: bool = False,
    weighted: bool = False,
    recursive: bool = False,
    out: str = "",
) -> Inputs:
    """Which names are contents and which are styles, with the pictures of folders among them.

    Args:
        pictures: a content, then styles; with ``style``, contents alone.
        style: styles.
        learnt: styles are names that a network has learnt.
        weighted: the styles have weights, so that they must be known by name.
        recursive: folders with all that is below them, except what is below ``out``.
        out: see :func:`plan`.

    Raises:
        InputError: for an empty name, an address, an empty folder, a folder among several styles,
            and standard input named twice.
    """
    if not style and len(pictures) < 2:
        name = shown(pictures[0]) or "''"
        raise InputError(f"{name}: name a style too: impasto stylize CONTENT STYLE -o OUT")
    sources, names = (pictures, style) if style else (pictures[:1], pictures[1:])
    for name in (*sources, *names):
        named(name)
    if [*sources, *([] if learnt else names)].count(STANDARD) > 1:
        raise InputError("-: standard input holds one picture; name files for the others")
    contents: dict[str, Content] = {}  # by path, since a picture may be named twice
    for source in sources:
        for content in _contents(source, recursive, out):
            path = content.path
            key = STANDARD if path is None else os.path.normcase(os.path.abspath(path))
            contents.setdefault(key, content)
    folders = [] if learnt else [name for name in names if os.path.isdir(name)]
    if folders and (len(names) > 1 or weighted):
        raise InputError(
            f"{shown(folders[0])}: a folder of paintings is taken one by one: give it as the only "
            "style, without weights, or name the paintings to be mixed"
        )
    styles = [(path,) for path in _paintings(folders[0], recursive)] if folders else [tuple(names)]
    several = bool(folders) or len(contents) > 1 or any(map(os.path.isdir, sources))
    return Inputs(list(contents.values()), styles, several, learnt, bool(folders))


def plan(inputs: Inputs, out: str) -> list[Job]:
    """Every picture to make, ordered by style, so that each needs to be prepared once.

    Args:
        inputs: see :func:`gather`.
        out: a file, a folder, or a pattern with ``{content}`` and ``{style}``; ``-`` for standard
            output. Below the folder, contents keep the places that they have below theirs.

    Raises:
        InputError: where one name would have to serve several pictures.
    """
    if not out:
        raise InputError("-o: an empty name; give a file or a folder")
    pairs = [(content, group) for group in inputs.styles for content in inputs.contents]
    if out == STANDARD:
        if inputs.several:
            raise InputError("-o -: standard output takes one picture; name a folder, -o FOLDER/")
        return [Job(content, group, None) for content, group in pairs]
    folder, pattern = _pattern(inputs, out)

    def target(content: Content, group: tuple[str, ...], first: str, second: str) -> Path:
        names = {"{content}": first, "{style}": second}
        # In one pass: a name may have braces of its own.
        path = Path(re.sub(r"\{content\}|\{style\}", lambda found: names[found[0]], pattern))
        return folder / path.parent / content.below / path.name

    plain = [target(content, group, content.stem, _name(inputs, group)) for content, group in pairs]
    jobs = []
    for paths in _alike(plain):
        met = [pairs[number] for number in paths]
        # Those whose names would be the same keep the endings that tell them apart.
        whole = len({content for content, _ in met}) > 1, len({group for _, group in met}) > 1
        for number in paths:
            content, group = pairs[number]
            first = content.name if whole[0] else content.stem
            jobs.append((number, target(content, group, first, _name(inputs, group, whole[1]))))
    paths_in_order = [path for _, path in sorted(jobs)]
    for numbers in _alike(paths_in_order):
        if len(numbers) > 1:
            one, other = (pairs[number] for number in numbers[:2])
            what = (one[0], other[0]) if one[0] != other[0] else (one[1][0], other[1][0])
            raise InputError(
                f"{shown(paths_in_order[numbers[0]])}: {shown(what[0])} and {shown(what[1])} would "
                "both be written there; rename one"
            )
    return [
        Job(content, group, path)
        for (content, group), path in zip(pairs, paths_in_order, strict=True)
    ]


def _contents(source: str, recursive: bool, out: str) -> list[Content]:
    from .images import list_pictures

    if source == STANDARD:
        return [Content(None)]
    if not os.path.isdir(source):
        return [Content(Path(source))]
    folder = Path(source)
    found = list_pictures(folder, recursive)
    results = out.partition("{")[0] or os.curdir
    if recursive and within(results, folder) and not same_file(results, os.curdir):
        # Results of an earlier run are no photographs.
        inside = {path for path in {path.parent for path in found} if within(path / "_", results)}
        found = [path for path in found if path.parent not in inside]
    if not found:
        raise InputError(_no_pictures(source, recursive))
    return [Content(path, path.parent.relative_to(folder), True) for path in found]


def _paintings(source: str, recursive: bool) -> list[str]:
    from .methods.learnt import SUFFIX as LEARNT
    from .methods.learnt import is_learnt
    from .styles import list_paintings

    folder = Path(source)
    models = folder.rglob(f"*{LEARNT}") if recursive else folder.glob(f"*{LEARNT}")
    learnt = [path for path in models if path.name[0] != "." and is_learnt(path)]
    found = sorted([*list_paintings(folder, recursive), *learnt])
    if not found:
        raise InputError(_no_pictures(source, recursive))
    return list(map(str, found))


def _no_pictures(source: str, recursive: bool) -> str:
    deeper = "" if recursive else f", or {spelled('recursive', True)} for the folders in it"
    return f"{shown(source)}: no pictures in this folder; name another{deeper}"


def _pattern(inputs: Inputs, out: str) -> tuple[Path, str]:
    """A folder as it is, and the name in it, with braces to be filled."""
    from .images import SUFFIXES

    if os.path.isdir(out):
        return Path(out), NAME
    if out.endswith(("/", os.sep)):
        return Path(), str(Path(out) / NAME)
    if not inputs.several:
        return Path(), out
    needed: Mapping[str, int] = {
        "{content}": len(inputs.contents),
        "{style}": len(inputs.styles),
    }
    lacking = [brace for brace, count in needed.items() if count > 1 and brace not in out]
    if not lacking and any(brace in out for brace in needed):
        return Path(), out
    if Path(out).suffix.lower() in SUFFIXES:
        braces = " and ".join(lacking) or "{content}"
        raise InputError(
            f"{shown(out)}: several pictures need a folder, or a name with {braces} in it"
        )
    return Path(), str(Path(out) / NAME)


def _name(inputs: Inputs, group: tuple[str, ...], whole: bool = False) -> str:
    """What stands for ``{style}``."""
    if inputs.learnt:
        return "+".join(group)
    paths = [Path("stdin" if name == STANDARD else name) for name in group]
    return "+".join(path.name if whole else path.stem for path in paths)


def _alike(paths: Sequence[Path]) -> list[list[int]]:
    """Numbers of the paths, those together that some file system takes for the same."""
    groups: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        groups.setdefault(folded(path), []).append(number)
    return list(groups.values())
