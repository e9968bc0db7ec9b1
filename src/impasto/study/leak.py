"""Content leak: how much of a photograph survives repeated stylisation.

An et al., "ArtFlow", CVPR 2021, section 3; report 1. A method that loses a little content in each
round has lost most of it after ten; a reversible method should not. A transfer back, with the
photograph itself as the style, should restore the photograph.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..files import check_apart, path_of, save
from ..images import check_output, write
from ..methods import load
from ..progress import drawn
from .figures import labelled, look, matplotlib_figure, save_figure
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
from .progress import OnProgress, within

__all__ = ["leak"]

SHOWN = (1, 2, 5, 10)  # rounds that the sheet shows
WRITTEN = ("leak.csv", "leak.png", "rounds.png", "back.png")


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
    """Stylise a photograph repeatedly; each result is the content of the next round.

    Writes ``leak.csv`` (SSIM of luminance to the photograph, by method and round), ``leak.png``
    (the curves), ``rounds.png`` (the pictures) and ``back.png`` (photograph, result, and the
    result stylised back).

    Args:
        content: a photograph.
        styles: a folder of paintings, used in turn, in the order of their names.
        out: the folder to write to.
        methods: see :func:`impasto.study.compare.available`. A network with learnt styles uses
            the style with the painting's file name, or else its styles in turn, and has no
            transfer back.
        rounds: number of rounds, 1 or more.
        size: short side of all pictures, in pixels.
        device: see :mod:`impasto.device`.
        on_progress: see :data:`impasto.study.progress.OnProgress`; the report has the methods that
            are complete.
        progress: draw a progress bar, also in notebooks.

    Returns:
        Method -> SSIM after each round.

    Raises:
        InputError: if a picture cannot be read, if ``rounds`` is below 1, or if a file that is
            read would be overwritten.
    """
    content, styles = path_of(content, "content"), path_of(styles, "styles")
    out = path_of(out, "out")
    if not (isinstance(rounds, int) and rounds >= 1):
        raise InputError(f"rounds = {rounds}: must be 1 or more", option="rounds")
    check_side(size)
    methods = check_methods(methods)
    matplotlib_figure()
    painting_files = pictures_in(styles)
    check_folders(out, [out], [styles])
    models = [path for _, options in methods.values() for path in files_of(options)]
    check_apart([out / name for name in WRITTEN], [content, *painting_files, *models])
    check_output(out / "rounds.png")
    paintings = {path.stem: at_size(path, size) for path in painting_files}
    photograph = at_size(content, size)
    curves: dict[str, list[float]] = {}
    sheet: list[tuple[str, Tensor]] = []
    back: list[tuple[str, Tensor]] = []
    shown_rounds = [number for number in SHOWN if number <= rounds]
    for index, (label, (name, options)) in enumerate(methods.items()):
        method = load(name, **{"device": device, **options})
        learnt = list(method.learnt or ())
        picture, likenesses = photograph, []
        row, back_row = [("photograph", photograph)], []
        for number in range(1, rounds + 1):
            done, total = index * rounds + number - 1, len(methods) * rounds
            if on_progress(done, total, label):
                break
            style: Any = list(paintings)[(number - 1) % len(paintings)]
            if not learnt:
                style = paintings[style]
            elif style not in learnt:
                style = learnt[(number - 1) % len(learnt)]
            goes_back = number == 1 and not learnt
            first = done + (0.5 if goes_back else 1)
            watch = within(on_progress, done, first, total, label)
            picture = method(picture, method.prepare([style]), 1.0, watch)
            if watch.cancelled:
                break
            likenesses.append(luminance_ssim(picture, photograph))
            if number in shown_rounds:
                row.append((f"{label}, {number}: {likenesses[-1]:.2f}", picture))
            if goes_back:
                watch = within(on_progress, first, done + 1, total, label)
                restored = method(picture, method.prepare([photograph]), 1.0, watch)
                if watch.cancelled:
                    break
                likeness = luminance_ssim(restored, photograph)
                back_row = [("photograph", photograph), (label, picture)]
                back_row.append((f"and back: {likeness:.2f}", restored))
        if len(likenesses) < rounds or watch.cancelled:
            break
        curves[label] = likenesses
        sheet, back = sheet + row, back + back_row
    else:
        on_progress(len(methods) * rounds, len(methods) * rounds, "")
    if not curves:
        return curves
    _csv(out / "leak.csv", curves)
    _draw(out / "leak.png", curves)
    write(out / "rounds.png", labelled(sheet, columns=1 + len(shown_rounds)))
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
        for number, (label, values) in enumerate(curves.items()):
            rounds = range(1, len(values) + 1)
            axes.plot(rounds, values, **look(label, number), ms=5, label=label)
        axes.set_xlabel("round")
        axes.set_ylabel("SSIM of luminance to the photograph")
        axes.set_ylim(0, 1)
        axes.legend(ncols=3, fontsize=8, loc="upper right")

    save_figure(path, draw)
