"""Every method on every pair of pictures, measured alike: the comparisons of papers 1 and 3.

A comparison is a folder: ``pictures/``, ``results.csv`` with a row for each result, and what is
made of them: ``table.csv`` and ``table.md`` (means and standard errors), ``sheet.png`` (paper 1,
Figure 10), ``scatter.png`` and ``index.html``, which shows it all without a network. What is in
``results.csv`` is not made again, so an interrupted comparison goes on.
"""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from .. import __version__
from ..backbones import Backbone
from ..device import describe, tune
from ..errors import InputError
from ..files import check_apart, check_name, folded, path_of, save
from ..images import check_output, write
from ..methods import METHODS, load, options_of
from ..progress import drawn
from ..styles import Style
from .figures import matplotlib_figure
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
from .report import KEY, MEASURES, as_csv, means_of, place_of, report

__all__ = ["Methods", "available", "compare"]

LATE = {"identity", "paint"}  # comparisons made before may be without them
WRITTEN = (
    *("comparison.json", "results.csv", "table.csv", "table.md", "scatter.png", "sheet.png"),
    "index.html",
)

OnProgress = Callable[[int, int, str], bool | None]
"""Called with the results done, those in all, and what comes next; True ends the work."""


def available(names: Sequence[str] | None = None) -> Methods:
    """The methods that can run here, by label; or those of ``names``.

    Raises:
        InputError: for a name that there is not, or whose model is not bundled.
    """
    every = [METHODS[name] for name in sorted(METHODS)]
    every.sort(key=lambda record: len(record.models))
    known: Methods = {label: (r.name, own) for r in every for label, own in r.models.items()}
    ready: Methods = {label: (r.name, own) for r in every for label, own in r.ready.items()}
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
        write(place_of(out, "contents", content.stem), pictures[content])
        write(place_of(out, "styles", style.stem), pictures[style])
    method: Any = None
    remembering = Remembering(judge)
    identities = {
        (row["method"], row["content_picture"]): row["identity"]
        for row in rows
        if not math.isnan(row["identity"])
    }
    for number, (label, content, style) in enumerate(todo):
        if on_progress(number, len(todo), f"{label}: {content.stem} x {style.stem}"):
            break
        if number == 0 or todo[number - 1][0] != label:
            name, method_options = methods[label]
            method = load(name, **{"device": device, **method_options})
            megabytes: float | None = None
        learnt = method.learnt
        if learnt is not None and style.stem not in learnt:
            continue
        if megabytes is None:
            megabytes = _peak(methods[label], device, pictures[content], style, size)
        painting = pictures[style] if learnt is None else style.stem
        row = _measured(method, pictures[content], pictures[style], painting, remembering)
        same = (label, content.stem)
        if same not in identities:
            identities[same] = (
                math.nan if learnt is not None else _identity(method, pictures[content])
            )
        row["identity"] = identities[same]
        picture = row.pop("picture")
        write(place_of(out, label, f"{content.stem} {style.stem}"), picture)
        names = dict(zip(KEY, (content.stem, style.stem, label), strict=True))
        rows.append({**names, **row, "megabytes": megabytes})
        save(out / "results.csv", as_csv([*KEY, *MEASURES], rows))
    else:
        on_progress(len(todo), len(todo), "")
    place = describe(torch.device("cpu") if method is None else method.device, torch.float32)
    means = means_of(rows)
    if rows:
        report(out, rows, means, judge, size, place.removesuffix(", float32"))
    return means


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
        files += [place_of(out, kind, stem) for stem in dict.fromkeys(stems)]
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
    if isinstance(prepared, Style):
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
    name, method_options = method
    tune()  # as the command line does
    before, names = _most_memory(), options_of(name)
    # The first iterations are like the others.
    quick = {"device": device, "iterations": 2}
    ready: Any = load(name, **{k: v for k, v in quick.items() if k in names} | dict(method_options))
    painting: Any = style.stem if ready.learnt is not None else at_size(style, size)
    ready(torch.from_numpy(content), ready.prepare([painting]))
    used = ready.device
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
