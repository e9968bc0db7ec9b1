"""What is given as a style: read, or kept in a file for the methods that take any painting."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import InputError
from .images import Picture, Source
from .methods import METHODS, Method, check_options, load, options_of, record_of, resolved
from .methods.learnt import SUFFIX as LEARNT
from .methods.learnt import Learnt
from .options import renamed, renames_of
from .progress import drawn
from .styles import (
    SUFFIX,
    LearntStyle,
    StoredStyle,
    Style,
    check_list,
    find_named,
    is_name,
    read_painting,
    style_shares,
)

__all__ = ["AnyStyle", "StyleSource", "Styles", "read_style", "read_styles", "store_style"]

StyleSource = Source | StoredStyle | Learnt | Style
Styles = StyleSource | Sequence[StyleSource]
Unprepared = Source | StoredStyle | Learnt
AnyStyle = Picture | StoredStyle | LearntStyle


def read_style(
    source: Unprepared,
    background: str = "white",
    method: Method[Any] | None = None,
    *,
    max_pixels: int | None = None,
    accept_truncated: bool = False,
) -> AnyStyle:
    """A painting, a style stored by ``impasto style`` or learnt by ``impasto learn``, or a name.

    The name is that of a bundled style, or of one that ``method`` has learnt.

    A file wins over one of :func:`impasto.named_styles` that is called like it. ``max_pixels`` and
    ``accept_truncated`` are those of :func:`impasto.images.read`. Raises InputError if it is none
    of these.
    """
    if method is not None and method.learnt is not None:
        return method.find(source)
    if isinstance(source, (StoredStyle, Learnt)):
        return source
    if isinstance(source, (str, os.PathLike)):
        if Path(source).suffix.lower() == SUFFIX:
            return StoredStyle.load(Path(source))
        if Path(source).suffix.lower() == LEARNT:
            return Learnt.load(Path(source))
        if is_name(source):
            return find_named(str(source))
    return read_painting(
        source, background, max_pixels=max_pixels, accept_truncated=accept_truncated
    )


def read_styles(
    sources: Sequence[StyleSource],
    weights: Sequence[float] | None,
    background: str,
    method: Method[Any],
    **limits: Any,
) -> tuple[list[AnyStyle], Sequence[float] | None]:
    """Several styles with their weights, as :func:`read_style` reads them.

    In the place of what a method has prepared stand the styles that it was prepared of, with shares
    of its weight; the weights are unchanged if there is no such style.
    """
    styles: list[AnyStyle] = []
    shares: list[float] = []
    divided = False
    for source, share in zip(sources, style_shares(len(sources), weights), strict=True):
        if isinstance(source, Style):
            mixture, divided = _parts(source), True
        elif method.learnt is not None and isinstance(source, Tensor) and source.ndim == 2:
            mixture, divided = _shares(source, list(method.learnt.values())), True
        else:
            mixture = [(read_style(source, background, method, **limits), 1.0)]
        styles += [style for style, _ in mixture]
        shares += [share * part for _, part in mixture]
    return styles, shares if divided and len(shares) > 1 else weights


def _parts(prepared: Style) -> list[tuple[AnyStyle, float]]:
    """The styles that a prepared one consists of, with their shares."""
    parts = zip(prepared.names, prepared.parts, prepared.weights, strict=True)
    return [
        (Picture(part, None, name) if isinstance(part, Tensor) else part, share)
        for name, part, share in parts
    ]


def _shares(prepared: Tensor, learnt: Sequence[LearntStyle]) -> list[tuple[AnyStyle, float]]:
    """As :func:`_parts`, for what a method has prepared that has learnt its styles."""
    if prepared.shape != (1, len(learnt)):
        raise InputError(
            f"style: shares of {prepared.shape[-1]} styles, and the method has learnt "
            f"{len(learnt)}: give what its prepare() returned"
        )
    shares = prepared[0].tolist()
    return [(style, share) for style, share in zip(learnt, shares, strict=True) if share]


@drawn("storing")
def store_style(
    paintings: Sequence[Source | Style],
    name: str,
    weights: Sequence[float] | None = None,
    methods: Sequence[str] | None = None,
    *,
    on_progress: Callable[[int, int, str], object] = lambda done, total, name: None,
    progress: bool = False,
    **options: Any,
) -> StoredStyle:
    """What methods need of one painting, or of a mixture, to keep in a file.

    Args:
        paintings: whatever :func:`impasto.read` takes, or what a method has prepared of them.
        name: of the style, for messages.
        weights: share of each painting; None for equal shares.
        methods: names of those that it is for, or of their variants; None for all that take any
            painting, each with its own network (about 4 MB in a file).
        on_progress: called with the networks done, those in all, and what comes next.
        progress: draw a bar.
        options: of the methods, such as another ``backbone`` of ``gatys`` or a ``model``; each goes
            to those that have it.

    Returns:
        The style: ``save(path)`` writes it.

    Raises:
        InputError: for a method that takes no painting, an option that none has, or pictures that
            cannot be read.

    Example:
        >>> import numpy as np
        >>> painting = np.random.default_rng(0).random((48, 64, 3))
        >>> store_style([painting], "noise", methods=["adain"])
        <style noise for adain; 48 to 48 px>
    """
    check_list(paintings)
    if not (isinstance(name, str) and name.strip()):
        raise InputError(f"the name of a style is {name!r}: give a word")
    if isinstance(methods, str):
        raise InputError(f"methods: a name where a list belongs: give [{methods!r}, ...]")
    for method in methods or ():
        if record_of(method).learns_styles:
            raise InputError(
                f"method {method} paints what it has learnt alone: no style is stored for it"
            )
    named = [
        (label, *resolved(label))
        for label in methods or [label for label in METHODS if not METHODS[label].learns_styles]
    ]
    records = [record for record in METHODS.values() if record in [each for _, each, _ in named]]
    options = renamed(options, renames_of(*(record.Options for record in records)))
    known = dict.fromkeys(option for record in records for option in options_of(record.name))
    check_options(f"method {' or '.join(r.name for r in records)}", known, options)
    pictures = [
        painting if isinstance(painting, Style) else read_painting(painting)
        for painting in paintings
    ]
    runs = [
        (record.name, variant)
        for record in records
        for label, each, chosen in named
        if each is record  # with a model that is given there are no variants
        for variant in (
            record.models.values() if label == record.name and "model" not in options else [chosen]
        )
    ]
    stored: StoredStyle | None = None
    for number, (method, variant) in enumerate(runs):
        on_progress(number, len(runs), method)
        chosen = {key: value for key, value in options.items() if key in options_of(method)}
        ready: Method[Any] = load(method, **{"precision": "float32", **variant, **chosen})
        stored = ready.prepare(pictures, weights).store(name, stored)
    on_progress(len(runs), len(runs), "")
    assert stored is not None
    return stored
