"""Reports of a comparison's results: tables, sheet, scatter plot, and a page with all of them."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from .. import __version__
from ..backbones import Backbone
from ..files import save
from ..images import read, write
from .figures import labelled, look, save_figure, square

__all__ = ["KEY", "MEASURES", "as_csv", "front", "means_of", "place_of", "report"]

# Column -> description.
MEASURES = {
    "paint": "share of the way from the photograph to the painting, by the relaxed earth mover's "
    "distance of relu4_1 at half size",
    "style": "mean/deviation distance to the painting, 1 for the unchanged photograph",
    "gram": "Gram distance to the painting, 1 for the unchanged photograph",
    "color": "distance of colours to the painting's, in units of RGB 0..1",
    "content": "distance of instance-normalised relu4_1 to the photograph's",
    "features": "distance of unit-length features to the photograph's",
    "ssim": "likeness of luminance to the photograph's, at most 1",
    "identity": "ssim of the photograph rendered with itself as the painting; nan for methods "
    "that render learnt styles only",
    "seconds": "to render the picture, after the style is prepared",
    "megabytes": "peak memory of the method, above that of an idle process",
}
KEY = ("content_picture", "style_picture", "method")
THUMB, ROWS = 160, 12  # side of a thumbnail in pixels, and most pairs, on the sheet


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The Pareto front: the points that no other point dominates, sorted.

    Args:
        points: name -> two values, where lower is better for both.
    """
    return sorted(
        (
            name
            for name, (x, y) in points.items()
            if not any(
                other != (x, y) and other[0] <= x and other[1] <= y for other in points.values()
            )
        ),
        key=lambda name: points[name],
    )


def means_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Method -> measure -> mean and standard error over the rows that have a value."""
    means: dict[str, dict[str, tuple[float, float]]] = {}
    for label in dict.fromkeys(row["method"] for row in rows):
        means[label] = {}
        for measure in MEASURES:
            method_rows = [row for row in rows if row["method"] == label]
            values = [row[measure] for row in method_rows if not math.isnan(row[measure])]
            if measure == "identity":  # one value per photograph, whatever the number of paintings
                measured = [row for row in method_rows if not math.isnan(row[measure])]
                values = list({row["content_picture"]: row[measure] for row in measured}.values())
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
            means[label][measure] = (statistics.mean(values) if values else math.nan, error)
    return means


def report(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, Mapping[str, tuple[float, float]]],
    judge: Backbone,
    size: int,
    hardware: str,
) -> None:
    """Write the tables, the sheet, the scatter plot and the page."""
    heads = [head for measure in MEASURES for head in (measure, f"{measure}_error")]
    flat = [
        {"method": label, "pairs": sum(row["method"] == label for row in rows)}
        | {measure: by_measure[measure][0] for measure in MEASURES}
        | {f"{measure}_error": by_measure[measure][1] for measure in MEASURES}
        for label, by_measure in means.items()
    ]
    save(out / "table.csv", as_csv(["method", "pairs", *heads], flat))
    caption = (
        f"Mean and standard error, {size} px short side, judged by {judge.name} ({hardware}, torch "
        f"{torch.__version__}, impasto {__version__})."
    )
    lines = [
        caption,
        "",
        f"| method | pairs | {' | '.join(MEASURES)} |",
        f"| --- |{' ---: |' * (len(MEASURES) + 1)}",
    ]
    for entry in flat:
        cells = [_cell(entry[m], entry[f"{m}_error"]) for m in MEASURES]
        lines.append(f"| {entry['method']} | {entry['pairs']} | {' | '.join(cells)} |")
    lines += ["", *(f"- {name}: {description}" for name, description in MEASURES.items())]
    save(out / "table.md", "\n".join(lines) + "\n")
    _draw(out / "scatter.png", rows, means, judge.name)
    pairs = list(dict.fromkeys((row[KEY[0]], row[KEY[1]]) for row in rows))
    stride = max(1, math.ceil(len(pairs) / ROWS))
    thumbs: list[tuple[str, Tensor]] = []
    for content, style in pairs[::stride]:
        inputs = [(content, "contents", content), (style, "styles", style)]
        results = [(label, label, f"{content} {style}") for label in means]
        for name, kind, stem in [*inputs, *results]:
            path = _existing(out, kind, stem)
            thumb = torch.ones(3, THUMB, THUMB) if path is None else square(read(path).rgb, THUMB)
            thumbs.append((name, thumb))
    write(out / "sheet.png", labelled(thumbs, columns=2 + len(means)))
    save(out / "index.html", _page(out, rows, means, caption, pairs))


def _draw(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, Mapping[str, tuple[float, float]]],
    judge: str,
) -> None:
    """Content against style distance: results, means with error bars, and the Pareto front."""
    points = {
        label: (by_measure["content"][0], by_measure["style"][0])
        for label, by_measure in means.items()
    }
    best = [points[label] for label in front(points)]

    def draw(axes: Any) -> None:
        for index, (label, by_measure) in enumerate(means.items()):
            series = look(label, index) | {"linestyle": "none"}
            dots = [(row["content"], row["style"]) for row in rows if row["method"] == label]
            axes.plot(*zip(*dots, strict=True), **series, ms=3, alpha=0.35)
            (x, dx), (y, dy) = by_measure["content"], by_measure["style"]
            axes.errorbar(x, y, dy, dx, **series, ms=8, capsize=3, label=label)
        axes.plot(*zip(*best, strict=True), "k--", lw=0.8, label="Pareto front of the means")
        axes.set_xlabel(f"content distance ({judge} relu4_1, 0: the photograph)")
        axes.set_ylabel("style distance (0: the painting's statistics, 1: the photograph's)")
        axes.set_ylim(0, 1.05 * min(2.0, max(row["style"] for row in rows)))
        axes.legend()

    save_figure(path, draw)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>impasto: a comparison</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }}
table {{ border-collapse: collapse }}
td, th {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd }}
td:first-child, th:first-child {{ text-align: left }}
.pair {{ display: flex; gap: .6rem; overflow-x: auto; margin: 1.5rem 0 }}
figure {{ margin: 0 }}
figure img {{ height: 240px; display: block }}
figcaption {{ font-size: 12px }}
</style>
<h1>A comparison</h1>
<p>{caption}</p>
<table>{table}</table>
<dl>{legend}</dl>
<img src="scatter.png" alt="content against style distance">
{pairs}
</html>
"""


def _page(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, Mapping[str, tuple[float, float]]],
    caption: str,
    pairs: Sequence[tuple[str, str]],
) -> str:
    """The HTML page; it shows only pictures from the comparison's folder."""
    head = "".join(f"<th>{name}" for name in ("method", *MEASURES))
    body = "".join(
        f"<tr><td>{escape(label)}" + "".join(f"<td>{_cell(*by_measure[m])}" for m in MEASURES)
        for label, by_measure in means.items()
    )
    row_of = {tuple(row[key] for key in KEY): row for row in rows}
    sections = []
    for content, style in pairs:
        figures = []
        inputs = [("contents", content), ("styles", style)]
        for kind, stem in [*inputs, *((label, f"{content} {style}") for label in means)]:
            path = _existing(out, kind, stem)
            if path is None:
                continue
            row = row_of.get((content, style, kind))
            text = escape(stem if row is None else kind)
            if row is not None:
                text += f"<br>paint {row['paint']:.3f}, style {row['style']:.3f}"
            source = quote(path.relative_to(out).as_posix())
            figures.append(
                f'<figure><img loading="lazy" src="{source}" alt="{escape(kind)}">'
                f"<figcaption>{text}</figcaption></figure>"
            )
        sections.append(f'<div class="pair">{"".join(figures)}</div>')
    legend = "".join(f"<dt>{name}<dd>{escape(text)}" for name, text in MEASURES.items())
    return PAGE.format(
        caption=escape(caption), table=head + body, legend=legend, pairs="\n".join(sections)
    )


def place_of(out: Path, kind: str, stem: str) -> Path:
    """Path of a picture in a comparison; ``kind`` is contents, styles, or a method's label."""
    return out / "pictures" / kind / f"{stem}.png"


def _existing(out: Path, kind: str, stem: str) -> Path | None:
    path = place_of(out, kind, stem)
    return path if path.exists() else None


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _cell(mean: float, error: float) -> str:
    return "nan" if math.isnan(mean) else f"{_short(mean)} ± {_short(error)}"


def as_csv(heads: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the text of a CSV file."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, heads)
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue()
