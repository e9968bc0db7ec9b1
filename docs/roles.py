"""Docstrings as they stand in the code, made into what the site's reference understands.

A Griffe extension, which mkdocs.yml names. Sphinx's roles, such as ``:func:`load```, become links
where the site has the page, and ``Example:`` the section that Griffe reads doctests in.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([\w.]+)`")
DOUBLE = re.compile(r"``([^`]+)``")
EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)


def _path(name: str, owner: griffe.Object) -> str:
    """Where ``name`` in the docstring of ``owner`` is defined, if that can be seen."""
    try:
        return owner.resolve(name)
    except griffe.NameResolutionError:
        return name


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
        obj.docstring.value = DOUBLE.sub(r"`\1`", text)
