"""What the site makes of the code: docstrings as Griffe reads them, and tables of options.

MkDocs calls it as a hook: in a page, ``<!-- options: gatys -->`` becomes the table of that method's
options, and ``<!-- options: Controls -->`` that of a set in ``impasto.controls``. So no help is
written twice. Griffe calls its extensions: Sphinx's roles, such as ``:func:`load```, become links
where the site has the page, ``Example:`` the section that Griffe reads doctests in, and sets of
options get what is declared of each as their attributes. Nothing here loads torch.
"""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from typing import Any

import griffe

from impasto import controls
from impasto.methods import METHODS
from impasto.options import METHOD, Flag, Kind, Number, Option, Options, Whole

MARK = re.compile(r"^<!-- options: (\w+) -->$", re.MULTILINE)
DEFAULT = re.compile(r"\s*Default: ([^.]+(?:\.\d[^.]*)*)\.$")
ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([\w.]+)`")
DOUBLE = re.compile(r"``([^`]+)``")
DECLARING = ("impasto.controls", "impasto.methods.records")  # modules that load no torch
EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
SEVERAL = re.compile(r"^ +(?:\w+, )+\w+:(?= )", re.MULTILINE)  # "height, width: in pixels"


def set_of(name: str) -> type[Options]:
    """The options of a method, or a set in :mod:`impasto.controls`, by name."""
    made: type[Options] = METHODS[name].Options if name in METHODS else getattr(controls, name)
    return made


def range_of(kind: Kind) -> str:
    """In words, such as ``0 to 100``; nothing where there is none, or the help names the words."""
    if isinstance(kind, Whole) and kind.among:
        return " or ".join(map(str, kind.among))
    if not isinstance(kind, (Number, Whole)) or kind.least is None:
        return ""
    if isinstance(kind, Number) and kind.above:
        return f"above {kind.least:g}" + (f", {kind.most:g} at most" if kind.most else "")
    most = kind.most
    if most is None or most > 1e6:
        return f"{kind.least:g} or more"
    return f"{kind.least:g} to {most:g}"


def explained(declared: Option) -> tuple[str, str]:
    """What the option does, with its range, and its default."""
    help, default = declared.help, declared.default
    found = DEFAULT.search(help)
    if found:
        help, shown = help[: found.start()], found[1]
    elif default is None:
        shown = "none"
    elif isinstance(default, bool):
        shown = "on" if default else "off"
    else:
        shown = f"{default:g}" if isinstance(default, (int, float)) else f"`{default}`"
    limits = range_of(declared.kind)
    return f"{help} ({limits})" if limits else help, shown


def flags_of(declared: Option) -> str:
    """As they are typed, or as a keyword of Python where it cannot be typed."""
    if not declared.kind.typed:
        return f"`{declared.name}=` (Python)"
    both = f"`{declared.flag}`, `--no-{declared.flag[2:]}`"
    return both if isinstance(declared.kind, Flag) else f"`{declared.flag}`"


def table_of(options: list[Option]) -> str:
    """In Markdown."""
    rows = ["| option | default | what it does |", "| --- | --- | --- |"]
    for declared in options:
        text, default = explained(declared)
        cells = (flags_of(declared), default, text)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def tables_of(name: str) -> str:
    """The options of a set, a method's own first; folded below them, those for experts."""
    every = sorted(set_of(name).declared().values(), key=lambda each: each.group != METHOD)
    expert = [each for each in every if each.expert]
    usual = table_of([each for each in every if not each.expert])
    if not expert:
        return usual
    folded = table_of(expert).replace("\n", "\n    ")
    return f'{usual}\n\n??? note "For experts"\n\n    {folded}'


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with each page."""
    return MARK.sub(lambda found: tables_of(found[1]), markdown)


# Docstrings ------------------------------------------------------------------------------------


def _path(name: str, owner: griffe.Object) -> str:
    """Where ``name`` in the docstring of ``owner`` is defined, if that can be seen."""
    try:
        return owner.resolve(name)
    except griffe.NameResolutionError:
        return name


class Declared(griffe.Extension):
    """Lists the options of a set, with what their declarations say, also those that it inherits."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called once for each class, when its members are there."""
        if not cls.module.path.startswith(DECLARING) or not cls.docstring:
            return
        made = getattr(import_module(cls.module.path), cls.name)
        if not issubclass(made, Options):
            return
        types = {field.name: field.type for field in fields(made)}
        lines = ["", "", "Attributes:"]
        for name, declared in made.declared().items():
            text, default = explained(declared)
            lines.append(f"    {name} ({types[name]}): {text} Default: {default}.")
        cls.docstring.value += "\n".join(lines)


class Roles(griffe.Extension):
    """Does so in every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once for each object, when its members are there."""
        if not obj.docstring:
            return

        def link(found: re.Match[str]) -> str:
            name = found[1]
            return (
                f'<autoref optional identifier="{_path(name, obj)}"><code>{name}</code></autoref>'
            )

        text = ROLE.sub(link, obj.docstring.value)
        text = EXAMPLE.sub(r"\1Examples:", text)
        # Griffe would take what stands behind a space for a type.
        text = SEVERAL.sub(lambda found: found[0].replace(", ", ",\N{NO-BREAK SPACE}"), text)
        obj.docstring.value = DOUBLE.sub(r"`\1`", text)
