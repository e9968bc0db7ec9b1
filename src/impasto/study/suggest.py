"""Which paintings suit a photograph: those whose colours and texture are near its own.

Report 5, section 3.2: "some style images are more suitable for some content images"; where they
differ too much, details are lost. ``benchmarks/suggest.py`` measures how far distances tell that.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ImpastoError, InputError, spelled
from ..files import path_of, shown
from ..images import SUFFIXES, Picture, Source, read
from ..methods import load
from ..paintings import AnyStyle, read_style
from ..progress import drawn
from ..statistics import Moments
from ..styles import list_paintings, named_styles, reduce
from .figures import labelled, square
from .inputs import check_side
from .metrics import gaussian_distance

__all__ = ["LAYERS", "Suggestion", "sheet", "suggest"]

LAYERS = ("relu1_1", "relu2_1", "relu3_1")  # deeper ones see objects rather than texture
THUMB = 200  # side of a picture on the sheet, in pixels

OnProgress = Callable[[int, int, str], bool | None]
"""Called with the number of paintings measured, the total, and the next one's name; True stops."""


@dataclass(frozen=True)
class Suggestion:
    """A painting, and its distances to the photograph in units of the folder.

    Attributes:
        style: path of a picture or stored style, or the name of a style of the package.
        color, texture: distances, less their mean over the folder, divided by their standard
            deviation over the folder: 0 is usual there, and less is nearer.
        total: their mean, by which paintings are ranked.
    """

    style: Path
    color: float
    texture: float

    @property
    def name(self) -> str:
        """File name, or name of the style."""
        return self.style.name

    @property
    def total(self) -> float:
        """Mean of both distances; ``benchmarks/suggest.py`` supports no other weights."""
        return (self.color + self.texture) / 2


@drawn("suggesting")
def suggest(
    photo: Source,
    folder: str | os.PathLike[str] | None = None,
    *,
    recursive: bool = False,
    size: int = 256,
    device: str = "auto",
    on_progress: OnProgress = lambda done, total, name: None,
    progress: bool = False,
    warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> list[Suggestion]:
    """Rank the paintings of a folder by how well they suit a photograph, the best first.

    The distance of colours is :func:`impasto.study.metrics.gaussian_distance` of pixels. That of
    texture is :func:`texture_distance` of features of the ``compact`` backbone.

    Args:
        photo: the photograph.
        folder: pictures and stored styles; None takes the styles of the package.
        recursive: search subfolders too.
        size: short side in pixels at which photograph and paintings are measured; paintings are
            not enlarged.
        device: see :mod:`impasto.device`.
        on_progress: see :data:`OnProgress`; after a stop the paintings measured so far are ranked.
        progress: draw a progress bar, also in notebooks.
        warn: called with one line for each painting that is skipped because it cannot be read, or
            was stored for other networks.

    Raises:
        InputError: if the photograph cannot be read, or no painting can.
    """
    check_side(size)
    if folder is None:
        styles = [Path(name) for name in named_styles()]
    else:
        folder = path_of(folder, "folder")
        styles = list_paintings(folder, recursive)
        if not styles:
            deeper = "" if recursive else f", or {spelled('recursive', True)} for its subfolders"
            raise InputError(f"{shown(folder)}: no paintings in this folder; name another{deeper}")
    # Gatys' method measures pictures and stored styles alike.
    method = load("gatys", style_layers=list(LAYERS), device=device, precision="float32")

    def measured(style: AnyStyle) -> dict[str, Moments]:
        prepared = method.prepare([style])
        return {"color": prepared.color, **prepared.at(size)}

    content = measured(_small(photo, size))
    distances: dict[Path, list[float]] = {}
    for number, path in enumerate(styles):
        if on_progress(number, len(styles), path.name):
            break
        try:
            painting = measured(_style(path, size))
        except ImpastoError as error:
            where = "" if path.name in str(error) else f"{shown(path)}: "
            warn(f"skipped: {where}{error}")
            continue
        distances[path] = [
            gaussian_distance(painting["color"], content["color"]),
            texture_distance(painting, content),
        ]
    else:
        on_progress(len(styles), len(styles), "")
        if not distances:
            where = "" if folder is None else f"{shown(folder)}: "
            raise InputError(f"{where}no painting that can be read; name another folder")
    columns = [_relative(column) for column in zip(*distances.values(), strict=True)]
    rows = zip(distances, *columns, strict=True) if distances else ()
    return sorted((Suggestion(*row) for row in rows), key=lambda row: row.total)


def texture_distance(one: Mapping[str, Moments], two: Mapping[str, Moments]) -> float:
    """Distance of means and deviations of features, 0 to about 1, mean over :data:`LAYERS`.

    ``sqrt((|m - n|^2 + |s - t|^2) / (|m|^2 + |n|^2 + |s|^2 + |t|^2))`` for means ``m, n`` and
    deviations ``s, t``: whatever the scale and width of a layer, so that all layers count alike.
    """
    distances = []
    for layer in LAYERS:
        first, second = (
            torch.cat([moments.mean, moments.deviation()])
            for moments in (one[layer].to("cpu"), two[layer].to("cpu"))
        )
        distances.append(float((first - second).norm() / torch.cat([first, second]).norm()))
    return statistics.fmean(distances)


def sheet(photo: Source, suggestions: Sequence[Suggestion]) -> Tensor:
    """The photograph and paintings, each with its rank and name, ``(3, H, W)`` in 0..1.

    Squares from the centres of the pictures; a stored style, which has no pixels, is a square of
    its mean colour.

    Raises:
        InputError: if a picture cannot be read.
    """
    tiles = [("photograph", square(_small(photo, THUMB).rgb, THUMB))]
    for rank, suggestion in enumerate(suggestions, 1):
        style = _style(suggestion.style, THUMB)
        if isinstance(style, Picture):
            tile = square(style.rgb, THUMB)
        else:
            tile = style.color.mean.float()[:, None, None].expand(3, THUMB, THUMB).clamp(0, 1)
        tiles.append((f"{rank}. {suggestion.name}", tile))
    return labelled(tiles)


def _style(path: Path, size: int) -> AnyStyle:
    """A stored or named style, or a painting, reduced."""
    is_picture = path.suffix.lower() in SUFFIXES
    return _small(path, size) if is_picture else read_style(path)


def _small(source: Source, size: int) -> Picture:
    """A picture, reduced to a short side of ``size`` pixels."""
    picture = read(source, size=size)
    return Picture(reduce(picture.rgb, size), None, picture.name)


def _relative(distances: Sequence[float]) -> list[float]:
    """Distances less their mean, in standard deviations; zeros where all are the same."""
    mean, spread = statistics.fmean(distances), statistics.pstdev(distances)
    return [(distance - mean) / spread if spread else 0.0 for distance in distances]
