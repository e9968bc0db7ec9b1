"""Every method on every pair of pictures, measured alike: the comparisons of papers 1 and 3.

A comparison is a folder: ``pictures/``, ``results.csv`` with a row for each result, and what is
made of them: ``table.csv`` and ``table.md`` (means and standard errors), ``sheet.png`` (paper 1,
Figure 10), ``scatter.png`` and ``index.html``, which shows it all without a network. What is in
``results.csv`` is not made again, so an interrupted comparison goes on.
"""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import torch
from torch import Tensor

from .. import __version__
from ..backbones import Backbone
from ..device import describe, tune
from ..errors import InputError
from ..files import check_apart, check_name, folded, path_of, save
from ..images import check_output, fit, read, resize, write
from ..methods import METHODS, load, options_of
from ..methods.feedforward import OnePass
from ..methods.model import bundled
from ..progress import drawn
from .figures import labelled, matplotlib_figure, save_figure
from .inputs import (
    Methods,
    at_size,
    check_folders,
    check_methods,
    check_side,
    digests_of,
    files_of,
    pictures_in,
    without_folders,
)
from .metrics import (
    Remembering,
    color_distance,
    content_distance,
    feature_distance,
    luminance_ssim,
    paint_share,
    relative_gram_distance,
    relative_moments_distance,
)

__all__ = ["MEASURES", "Methods", "available", "compare", "front"]

# Column -> what it says.
MEASURES = {
    "paint": "share of the way from the photograph to the painting, by the relaxed earth mover's "
    "distance of relu4_1 at half size",
    "style": "mean/deviation distance to the painting, 1 for the photograph as it was",
    "gram": "Gram distance to the painting, 1 for the photograph as it was",
    "color": "distance of colours to the painting's, in units of RGB 0..1",
    "content": "distance of instance-normalised relu4_1 to the photograph's",
    "features": "distance of unit-length features to the photograph's",
    "ssim": "likeness of luminance to the photograph's, at most 1",
    "identity": "ssim of what becomes of the photograph with itself as the painting; nan for "
    "methods that paint only what they have learnt",
    "seconds": "for the picture, the style prepared before",
    "megabytes": "that the method takes at most, beside what an idle process has",
}
LATE = {"identity", "paint"}  # comparisons made before may be without them
WRITTEN = (
    *("comparison.json", "results.csv", "table.csv", "table.md", "scatter.png", "sheet.png"),
    "index.html",
)
KEY = ("content_picture", "style_picture", "method")
THUMB, ROWS = 160, 12  # side of a picture on the sheet, in pixels, and pairs on it
VARIANTS: Methods = {
    "johnson-bottleneck": ("johnson", {"kind": "bottleneck"}),
    "artflow-rbmad": ("artflow", {"operator": "rbmad"}),
    "styleflow-rbmad": ("styleflow", {"operator": "rbmad"}),
}

OnProgress = Callable[[int, int, str], bool | None]
"""Called with the results done, those in all, and what comes next; True ends the work."""


def available(names: Sequence[str] | None = None) -> Methods:
    """The methods that can run here, by label; or those of ``names``.

    Raises:
        InputError: for a name that there is not, or whose model is not bundled.
    """
    known: dict[str, tuple[str, Mapping[str, Any]]] = {name: (name, {}) for name in METHODS}
    known |= VARIANTS
    ready = {
        label: known[label]
        for label in known
        if not issubclass(METHODS[known[label][0]], OnePass) or bundled(label).exists()
    }
    if names is None:
        return ready
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(f"methods: give a list of names, such as [{str(names)!r}]")
    for name in names:
        if name not in known:
            raise InputError(f"method {name!r} is unknown: use all, or some of {', '.join(known)}")
        if name not in ready:
            raise InputError(f"method {name}: no model is bundled; leave it out")
    return {name: ready[name] for name in names}


@drawn("comparing")
def compare(
    contents: Path,
    styles: Path,
    out: Path,
    methods: Methods,
    judge: Backbone,
    *,
    size: int = 384,
    device: str = "auto",
    photos: Path | None = None,
    on_progress: OnProgress = lambda done, total, name: None,
    progress: bool = False,
    warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict[str, dict[str, tuple[float, float]]]:
    """Render and measure every pair that is not in ``out`` yet, then draw what ``out`` holds.

    For the measure ``identity`` every method renders each photograph once more, with itself as the
    painting.

    Args:
        contents, styles: folders of photographs and paintings.
        out: the comparison's folder.
        methods: see :func:`available`.
        judge: the network of all distances of features.
        size: short side in pixels of all pictures.
        device: see :mod:`impasto.device`.
        photos: a folder that the judge was brought to unit mean with: not to be written to.
        on_progress: see :data:`OnProgress`.
        progress: draw a bar, which notebooks draw too.
        warn: called with a line for each picture that cannot be read; it is left out.

    Returns:
        Method -> measure -> mean and standard error.

    Raises:
        InputError: if there is nothing to compare, or ``out`` holds another comparison, or what is
            read.
    """
    contents, styles = path_of(contents, "contents"), path_of(styles, "styles")
    out = path_of(out, "out")
    photos = None if photos is None else path_of(photos, "photos")
    if not isinstance(judge, Backbone):
        raise InputError(f"judge: give a loaded backbone, not {type(judge).__name__}")
    check_side(size)
    check_methods(methods, reserved=("contents", "styles"))
    matplotlib_figure()
    kinds = ("contents", "styles", *methods)
    places = [out, *(out / "pictures" / kind for kind in kinds)]
    check_folders(out, places, [contents, styles, photos])
    pairs, pictures = _pairs(contents, styles, size, warn)
    check_output(out / "sheet.png")
    _check_outputs(out, methods, pairs)
    settings = {"impasto": __version__, "size": size, "judge": judge.fingerprint}
    options = {
        label: {"method": name, **without_folders(own)} for label, (name, own) in methods.items()
    }
    files: dict[str, str] = {}
    for label, (_, own) in methods.items():
        files |= digests_of(own, label)
    rows = _resumed(out, settings, json.loads(json.dumps(options, default=str)), files)
    done = {tuple(row[key] for key in KEY) for row in rows}
    todo = [
        (label, content, style)
        for label in methods
        for content, style in pairs
        if (content.stem, style.stem, label) not in done
    ]
    for content, style in pairs:
        write(_place(out, "contents", content.stem), pictures[content])
        write(_place(out, "styles", style.stem), pictures[style])
    method: Any = None
    seen = Remembering(judge)
    identities = {
        (row["method"], row["content_picture"]): row["identity"]
        for row in rows
        if not math.isnan(row["identity"])
    }
    for number, (label, content, style) in enumerate(todo):
        if on_progress(number, len(todo), f"{label}: {content.stem} x {style.stem}"):
            break
        if number == 0 or todo[number - 1][0] != label:
            name, own = methods[label]
            where = {"device": device} if "device" in options_of(name) else {}
            method = load(name, **where, **own)
            megabytes: float | None = None
        learnt = getattr(method, "learnt", None)
        if learnt is not None and style.stem not in learnt:
            continue
        if megabytes is None:
            megabytes = _peak(methods[label], device, pictures[content], style, size)
        given = pictures[style] if learnt is None else style.stem
        row = _measured(method, pictures[content], pictures[style], given, seen)
        same = (label, content.stem)
        if same not in identities:
            identities[same] = (
                math.nan if learnt is not None else _identity(method, pictures[content])
            )
        row["identity"] = identities[same]
        picture = row.pop("picture")
        write(_place(out, label, f"{content.stem} {style.stem}"), picture)
        names = dict(zip(KEY, (content.stem, style.stem, label), strict=True))
        rows.append({**names, **row, "megabytes": megabytes})
        save(out / "results.csv", _csv([*KEY, *MEASURES], rows))
    else:
        on_progress(len(todo), len(todo), "")
    place = describe(getattr(method, "device", torch.device("cpu")), torch.float32)
    means = _means(rows)
    if rows:
        _report(out, rows, means, judge, size, place.removesuffix(", float32"))
    return means


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Those that no other is better than in one figure and no worse in the other: Pareto's front.

    Args:
        points: name -> two figures, of which less is better.
    """
    return sorted(
        (
            name
            for name, own in points.items()
            if not any(
                other != own and other[0] <= own[0] and other[1] <= own[1]
                for other in points.values()
            )
        ),
        key=lambda name: points[name],
    )


def _pairs(
    contents: Path, styles: Path, size: int, warn: Callable[[str], None]
) -> tuple[list[tuple[Path, Path]], dict[Path, Tensor]]:
    """Every content with every style, and the pictures at their size."""
    pictures: dict[Path, Tensor] = {}
    sides: list[list[Path]] = []
    for folder in (contents, styles):
        readable: dict[str, Path] = {}
        for path in pictures_in(folder):
            try:
                picture = at_size(path, size)
            except InputError as error:
                warn(f"skipped: {error}")
                continue
            other = readable.setdefault(folded(path.stem), path)
            if other != path:
                raise InputError(f"{path}: {other.name} has the same name; rename one")
            pictures[path] = picture
        if not readable:
            raise InputError(f"{folder}: no picture that can be read; name another folder")
        sides.append(list(readable.values()))
    return [(content, style) for content in sides[0] for style in sides[1]], pictures


def _resumed(
    out: Path, settings: Mapping[str, Any], options: Mapping[str, Any], files: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The rows in ``out``, after a check that they were made alike, with the same files."""
    file = out / "comparison.json"
    before: dict[str, Any] = {}
    try:
        if file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
        known = without_folders(before.get("methods", {}))
        other = [key for key in settings if before.get(key, settings[key]) != settings[key]]
        other += [label for label in options if known.get(label, options[label]) != options[label]]
        before_files = dict(before.get("files", {}))
        other += [file for file in files if before_files.get(file, files[file]) != files[file]]
        rows: list[dict[str, Any]] = []
        if before and (out / "results.csv").exists():
            with open(out / "results.csv", newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    row = dict.fromkeys(LATE, "nan") | row
                    figures = {name: float(row[name]) for name in MEASURES}
                    rows.append({**{key: row[key] for key in KEY}, **figures})
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{out}: holds no comparison that can go on; name another folder"
        ) from None
    if other:
        raise InputError(
            f"{out}: holds a comparison with other settings ({', '.join(other)}); name another "
            "folder, or delete it"
        )
    files = {**before_files, **files}
    everything = {**settings, "methods": {**known, **options}, "files": files}
    save(file, json.dumps(everything, indent=2))
    return rows


def _check_outputs(out: Path, methods: Methods, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Raise InputError if a file that is read, or another result, would be overwritten."""
    results: dict[str, tuple[Path, Path]] = {}
    for content, style in pairs:
        other = results.setdefault(folded(f"{content.stem} {style.stem}"), (content, style))
        if other != (content, style):
            raise InputError(
                f"{content} by {style} and {other[0].name} by {other[1].name} would be written to "
                "one file; rename one"
            )
    files = [out / name for name in WRITTEN]
    for kind, stems in (
        ("contents", [content.stem for content, _ in pairs]),
        ("styles", [style.stem for _, style in pairs]),
        *((label, [f"{c.stem} {s.stem}" for c, s in pairs]) for label in methods),
    ):
        files += [_place(out, kind, stem) for stem in dict.fromkeys(stems)]
    for file in files:
        check_name(file)
    read_too = [path for _, own in methods.values() for path in files_of(own)]
    check_apart(files, [*dict.fromkeys(path for pair in pairs for path in pair), *read_too])


def _identity(method: Any, content: Tensor) -> float:
    """How like a photograph is to what the method makes of it with itself as the painting."""
    return luminance_ssim(method(content, method.prepare([content])), content)


def _measured(
    method: Any, content: Tensor, style: Tensor, given: Any, judge: Remembering
) -> dict[str, Any]:
    """One result with its figures."""
    prepared = method.prepare([given])
    if hasattr(prepared, "at"):
        prepared.at(min(content.shape[-2:]))  # measured before the clock runs
    began = time.perf_counter()
    picture = method(content, prepared)
    seconds = time.perf_counter() - began

    def mean(values: Mapping[str, float]) -> float:
        return statistics.mean(values.values())

    return {
        "picture": picture,
        "paint": paint_share(judge.judge, picture, content, style),
        "style": mean(relative_moments_distance(judge, picture, content, style)),
        "gram": mean(relative_gram_distance(judge, picture, content, style)),
        "color": color_distance(picture, style),
        "content": content_distance(judge, picture, content),
        "features": feature_distance(judge, picture, content),
        "ssim": luminance_ssim(picture, content),
        "seconds": seconds,
    }


def _peak(
    method: tuple[str, Mapping[str, Any]], device: str, content: Tensor, style: Path, size: int
) -> float:
    """What a method takes at most, in MB, in a process of its own that renders one picture."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_render_alone, (method, device, content.numpy(), style, size))


def _render_alone(
    method: tuple[str, Mapping[str, Any]], device: str, content: Any, style: Path, size: int
) -> float:
    name, own = method
    tune()  # as the command line does
    before, known = _most_memory(), options_of(name)
    # The first iterations are like the others.
    given = {"device": device, "iterations": 2}
    ready: Any = load(name, **{k: v for k, v in given.items() if k in known} | dict(own))
    painting: Any = style.stem if hasattr(ready, "learnt") else at_size(style, size)
    ready(torch.from_numpy(content), ready.prepare([painting]))
    used = getattr(ready, "device", torch.device("cpu"))
    if used.type == "cuda":
        return torch.cuda.max_memory_allocated(used) / 2**20
    if used.type == "mps":  # which gives nothing back by itself
        return torch.mps.driver_allocated_memory() / 2**20
    return (_most_memory() - before) / 2**20


def _most_memory() -> float:
    """Bytes that this process has had at most."""
    status = Path("/proc/self/status")
    if status.exists():  # the next one would count what the parent had when it started this one
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(1024 * float(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Method -> measure -> mean and standard error over the rows that have a value."""
    means: dict[str, dict[str, tuple[float, float]]] = {}
    for label in dict.fromkeys(row["method"] for row in rows):
        means[label] = {}
        for measure in MEASURES:
            own = [row for row in rows if row["method"] == label]
            values = [row[measure] for row in own if not math.isnan(row[measure])]
            if measure == "identity":  # one for each photograph, however many paintings there are
                known = [row for row in own if not math.isnan(row[measure])]
                values = list({row["content_picture"]: row[measure] for row in known}.values())
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
            means[label][measure] = (statistics.mean(values) if values else math.nan, error)
    return means


def _report(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, Mapping[str, tuple[float, float]]],
    judge: Backbone,
    size: int,
    where: str,
) -> None:
    """Tables, sheet, scatter and page."""
    heads = [head for measure in MEASURES for head in (measure, f"{measure}_error")]
    flat = [
        {"method": label, "pairs": sum(row["method"] == label for row in rows)}
        | {m: own[m][0] for m in MEASURES}
        | {f"{m}_error": own[m][1] for m in MEASURES}
        for label, own in means.items()
    ]
    save(out / "table.csv", _csv(["method", "pairs", *heads], flat))
    caption = (
        f"Mean and standard error, {size} px short side, judged by {judge.name} ({where}, torch "
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
    lines += ["", *(f"- {name}: {what}" for name, what in MEASURES.items())]
    save(out / "table.md", "\n".join(lines) + "\n")
    _draw(out / "scatter.png", rows, means, judge.name)
    pairs = list(dict.fromkeys((row[KEY[0]], row[KEY[1]]) for row in rows))
    every = max(1, math.ceil(len(pairs) / ROWS))
    thumbs: list[tuple[str, Tensor]] = []
    for content, style in pairs[::every]:
        given = [(content, "contents", content), (style, "styles", style)]
        made = [(label, label, f"{content} {style}") for label in means]
        for name, kind, stem in [*given, *made]:
            path = _found(out, kind, stem)
            thumb = torch.ones(3, THUMB, THUMB) if path is None else _thumb(path)
            thumbs.append((name, thumb))
    write(out / "sheet.png", labelled(thumbs, columns=2 + len(means)))
    save(out / "index.html", _page(out, rows, means, caption, pairs))


def _draw(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, Mapping[str, tuple[float, float]]],
    judge: str,
) -> None:
    """Content against style distance: a dot for each result, a cross for each mean, the front."""
    points = {label: (own["content"][0], own["style"][0]) for label, own in means.items()}
    best = [points[label] for label in front(points)]

    def draw(axes: Any) -> None:
        for index, (label, own) in enumerate(means.items()):
            colour = f"C{index % 10}"
            dots = [(row["content"], row["style"]) for row in rows if row["method"] == label]
            axes.plot(*zip(*dots, strict=True), ".", color=colour, ms=4, alpha=0.35)
            (x, dx), (y, dy) = own["content"], own["style"]
            axes.errorbar(x, y, dy, dx, fmt="o", color=colour, ms=7, capsize=3, label=label)
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
    """The page: only what lies beside it is shown."""
    head = "".join(f"<th>{name}" for name in ("method", *MEASURES))
    body = "".join(
        f"<tr><td>{escape(label)}" + "".join(f"<td>{_cell(*own[m])}" for m in MEASURES)
        for label, own in means.items()
    )
    figures = {tuple(row[key] for key in KEY): row for row in rows}
    shown = []
    for content, style in pairs:
        parts = []
        given = [("contents", content), ("styles", style)]
        for kind, stem in [*given, *((label, f"{content} {style}") for label in means)]:
            path = _found(out, kind, stem)
            if path is None:
                continue
            row = figures.get((content, style, kind))
            text = escape(stem if row is None else kind)
            if row is not None:
                text += f"<br>paint {row['paint']:.3f}, style {row['style']:.3f}"
            source = quote(path.relative_to(out).as_posix())
            parts.append(
                f'<figure><img loading="lazy" src="{source}" alt="{escape(kind)}">'
                f"<figcaption>{text}</figcaption></figure>"
            )
        shown.append(f'<div class="pair">{"".join(parts)}</div>')
    legend = "".join(f"<dt>{name}<dd>{escape(what)}" for name, what in MEASURES.items())
    return PAGE.format(
        caption=escape(caption), table=head + body, legend=legend, pairs="\n".join(shown)
    )


def _place(out: Path, kind: str, stem: str) -> Path:
    return out / "pictures" / kind / f"{stem}.png"


def _found(out: Path, kind: str, stem: str) -> Path | None:
    path = _place(out, kind, stem)
    return path if path.exists() else None


def _thumb(path: Path) -> Tensor:
    """The middle of a picture, square."""
    rgb = read(path).rgb
    small = resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], THUMB))
    top, left = ((side - THUMB) // 2 for side in small.shape[-2:])
    return small[:, top : top + THUMB, left : left + THUMB]


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _cell(mean: float, error: float) -> str:
    return "nan" if math.isnan(mean) else f"{_short(mean)} ± {_short(error)}"


def _csv(heads: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    table = csv.DictWriter(stream, heads)
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue()
