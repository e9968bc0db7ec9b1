"""Content leak: what is left of a photograph after being stylised again and again.

An et al., "ArtFlow", CVPR 2021, section 3; paper 1. A method that loses a little of the content
each time loses all of it in ten rounds; a reversible one should not. And a transfer back, with the
photograph's own statistics as the style, should bring the photograph back.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..files import check_apart, path_of, save
from ..images import check_output, write
from ..methods import load
from ..progress import drawn
from .figures import labelled, matplotlib_figure, save_figure
from .inputs import (
    Methods,
    at_size,
    check_folders,
    check_methods,
    check_side,
    files_of,
    pictures_in,
)
from .metrics import luminance_ssim

__all__ = ["leak"]

SHOWN = (1, 2, 5, 10)  # rounds on the sheet
WRITTEN = ("leak.csv", "leak.png", "rounds.png", "back.png")

OnProgress = Callable[[int, int, str], bool | None]
"""Called with the pictures made, those in all, and what comes next; True ends the work with the
methods that are done."""


@drawn("leak")
def leak(
    content: Path,
    styles: Path,
    out: Path,
    methods: Methods,
    *,
    rounds: int = 10,
    size: int = 384,
    device: str = "auto",
    on_progress: OnProgress = lambda done, total, name: None,
    progress: bool = False,
) -> dict[str, list[float]]:
    """Stylise a photograph round after round, each result the next one's content.

    Writes ``leak.csv`` (SSIM of luminance to the photograph, by method and round), ``leak.png``
    (the curves), ``rounds.png`` (the pictures) and ``back.png`` (photograph, stylised, and back).

    Args:
        content: a photograph.
        styles: a folder of paintings, taken in turn by name.
        out: the folder to write to.
        methods: see :func:`impasto.study.compare.available`. A network that has learnt styles takes
            the painting that it knows by the file's name, or else its own in turn, and brings
            nothing back.
        rounds: 1 or more.
        size: short side in pixels of all pictures.
        device: see :mod:`impasto.device`.
        on_progress: see :data:`OnProgress`.
        progress: draw a bar, which notebooks draw too.

    Returns:
        Method -> SSIM after each round.

    Raises:
        InputError: for pictures that cannot be read, no rounds, or an ``out`` that would overwrite
            what is read.
    """
    content, styles = path_of(content, "content"), path_of(styles, "styles")
    out = path_of(out, "out")
    if not (isinstance(rounds, int) and rounds >= 1):
        raise InputError(f"rounds = {rounds}: must be 1 or more")
    check_side(size)
    check_methods(methods)
    matplotlib_figure()
    names = pictures_in(styles)
    check_folders(out, [out], [styles])
    models = [path for _, own in methods.values() for path in files_of(own)]
    check_apart([out / name for name in WRITTEN], [content, *names, *models])
    check_output(out / "rounds.png")
    paintings = {path.stem: at_size(path, size) for path in names}
    first = at_size(content, size)
    curves: dict[str, list[float]] = {}
    sheet: list[tuple[str, Tensor]] = []
    back: list[tuple[str, Tensor]] = []
    shown = [number for number in SHOWN if number <= rounds]
    for order, (label, (name, own)) in enumerate(methods.items()):
        method = load(name, **{"device": device, **own})
        learnt = list(method.learnt or ())
        picture, values = first, []
        row, pair = [("photograph", first)], []
        for number in range(1, rounds + 1):
            if on_progress(order * rounds + number - 1, len(methods) * rounds, label):
                break
            style: Any = list(paintings)[(number - 1) % len(paintings)]
            if not learnt:
                style = paintings[style]
            elif style not in learnt:
                style = learnt[(number - 1) % len(learnt)]
            picture = method(picture, method.prepare([style]))
            values.append(luminance_ssim(picture, first))
            if number in shown:
                row.append((f"{label}, {number}: {values[-1]:.2f}", picture))
            if number == 1 and not learnt:
                again = method(picture, method.prepare([first]))
                likeness = luminance_ssim(again, first)
                pair = [("photograph", first), (label, picture)]
                pair.append((f"and back: {likeness:.2f}", again))
        if len(values) < rounds:
            break
        curves[label] = values
        sheet, back = sheet + row, back + pair
    else:
        on_progress(len(methods) * rounds, len(methods) * rounds, "")
    if not curves:
        return curves
    _csv(out / "leak.csv", curves)
    _draw(out / "leak.png", curves)
    write(out / "rounds.png", labelled(sheet, columns=1 + len(shown)))
    if back:
        write(out / "back.png", labelled(back, columns=3))
    return curves


def _csv(path: Path, curves: Mapping[str, Sequence[float]]) -> None:
    stream = io.StringIO()
    table = csv.writer(stream)
    table.writerow(["round", *curves])
    for number, values in enumerate(zip(*curves.values(), strict=True), 1):
        table.writerow([number, *values])
    save(path, stream.getvalue())


def _draw(path: Path, curves: Mapping[str, Sequence[float]]) -> None:
    def draw(axes: Any) -> None:
        for label, values in curves.items():
            axes.plot(range(1, len(values) + 1), values, "o-", ms=4, label=label)
        axes.set_xlabel("round")
        axes.set_ylabel("SSIM of luminance to the photograph")
        axes.set_ylim(0, 1)
        axes.legend()

    save_figure(path, draw)
