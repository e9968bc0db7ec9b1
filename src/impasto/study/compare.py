"""Every method on every pair of pictures, with the same measures (reports 1 and 3).

A comparison is a folder: ``pictures/``, ``results.csv`` with one row per result, and the summaries:
``table.csv`` and ``table.md`` (means and standard errors), ``sheet.png`` (report 1, Figure 10),
``scatter.png`` and ``index.html``, which shows all of them offline. Results that are in
``results.csv`` are not rendered again, so an interrupted comparison can be resumed.
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
from ..errors import ImpastoError, InputError
from ..files import check_apart, check_name, folded, path_of, save
from ..images import check_output, write
from ..methods import METHODS, load, options_of, resolved
from ..progress import drawn
from ..styles import Style
from ..tensors import read_header
from ..watch import OnStep
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
from .progress import OnProgress, within
from .report import KEY, MEASURES, as_csv, means_of, place_of, report

__all__ = ["Methods", "available", "compare"]

LATE = {"identity", "paint"}  # measures that older comparisons lack
WRITTEN = (
    *("comparison.json", "results.csv", "table.csv", "table.md", "scatter.png", "sheet.png"),
    "index.html",
)


def available(names: Sequence[str] | None = None) -> Methods:
    """The methods that can run with the bundled models, by label; or only those in ``names``.

    Presets, such as ``gatys-report3``, are among them only if they are named.

    Raises:
        InputError: for an unknown name, or one whose model is not bundled.
    """
    records = [METHODS[name] for name in sorted(METHODS)]
    records.sort(key=lambda record: len(record.models))
    ready: Methods = {
        label: (record.name, options)
        for record in records
        for label, options in record.ready.items()
    }
    if names is None:
        return ready
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(f"methods: give a list of names, such as [{str(names)!r}]")
    chosen: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name in names:
        record, options = resolved(name)
        if name not in ready and name not in record.presets:
            raise InputError(f"method {name}: no model is bundled; leave it out")
        chosen[name] = record.name, options
    return chosen


def of_files(models: Sequence[Path]) -> Methods:
    """Model files as methods, each labelled by the stem of its name.

    Raises:
        InputError: for a file that is no model, or two of the same name.
    """
    methods: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for path in models:
        name = read_header(path).get("method", "")
        if name not in METHODS:
            raise InputError(f"{path}: not a model made by `impasto train`; name another file")
        if path.stem in methods:
            raise InputError(f"{path}: two models have this name; rename one")
        methods[path.stem] = name, {"model": path}
    return methods


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
    """Render and measure every pair that is not in ``out`` yet, then write the report.

    For the measure ``identity`` every method renders each photograph once more, with the photograph
    itself as the style.

    Args:
        contents, styles: folders of photographs and paintings.
        out: the comparison's folder.
        methods: see :func:`available`.
        judge: the network whose features are compared.
        size: short side of all pictures, in pixels.
        device: see :mod:`impasto.device`.
        photos: the folder of photographs that the judge was normalised with, if any; it is
            protected from being written to.
        on_progress: see :data:`impasto.study.progress.OnProgress`.
        progress: draw a progress bar, also in notebooks.
        warn: called with one line for each picture that is skipped because it cannot be read.

    Returns:
        Method -> measure -> mean and standard error.

    Raises:
        InputError: if there is nothing to compare, if ``out`` holds another comparison, or if a
            file that is read would be overwritten.
    """
    contents, styles = path_of(contents, "contents"), path_of(styles, "styles")
    out = path_of(out, "out")
    photos = None if photos is None else path_of(photos, "photos")
    if not isinstance(judge, Backbone):
        raise InputError(f"judge: give a loaded backbone, not {type(judge).__name__}")
    check_side(size)
    methods = check_methods(methods, reserved=("contents", "styles"))
    matplotlib_figure()
    kinds = ("contents", "styles", *methods)
    output_folders = [out, *(out / "pictures" / kind for kind in kinds)]
    check_folders(out, output_folders, [contents, styles, photos])
    pairs, pictures = _pairs(contents, styles, size, warn)
    check_output(out / "sheet.png")
    _check_outputs(out, methods, pairs)
    settings = {"impasto": __version__, "size": size, "judge": judge.fingerprint}
    options = {
        label: {"method": name, **without_folders(method_options)}
        for label, (name, method_options) in methods.items()
    }
    files: dict[str, str] = {}
    for label, (_, method_options) in methods.items():
        files |= digests_of(method_options, label)
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
        name = f"{label}: {content.stem} x {style.stem}"
        if on_progress(number, len(todo), name):
            break
        if number == 0 or todo[number - 1][0] != label:
            method_name, method_options = methods[label]
            method = load(method_name, **{"device": device, **method_options})
            megabytes: float | None = None
        learnt = method.learnt
        if learnt is not None and style.stem not in learnt:
            continue
        if megabytes is None:
            megabytes = _peak(methods[label], device, pictures[content], style, size)
        painting = pictures[style] if learnt is None else style.stem
        identity_key = (label, content.stem)
        identified = learnt is not None or identity_key in identities
        first = number + (1 if identified else 0.5)
        watch = within(on_progress, number, first, len(todo), name)
        row = _measured(method, pictures[content], pictures[style], painting, remembering, watch)
        if not (identified or watch.cancelled):
            watch = within(on_progress, first, number + 1, len(todo), name)
            identities[identity_key] = _identity(method, pictures[content], watch)
        if watch.cancelled:
            break
        row["identity"] = identities.get(identity_key, math.nan)
        write(place_of(out, label, f"{content.stem} {style.stem}"), row.pop("picture"))
        names = dict(zip(KEY, (content.stem, style.stem, label), strict=True))
        rows.append({**names, **row, "megabytes": megabytes})
        save(out / "results.csv", as_csv([*KEY, *MEASURES], rows))
    else:
        on_progress(len(todo), len(todo), "")
    hardware = describe(torch.device("cpu") if method is None else method.device, torch.float32)
    means = means_of(rows)
    if rows:
        report(out, rows, means, judge, size, hardware.removesuffix(", float32"))
    return means


def _pairs(
    contents: Path, styles: Path, size: int, warn: Callable[[str], None]
) -> tuple[list[tuple[Path, Path]], dict[Path, Tensor]]:
    """All pairs of a content and a style, and the resized pictures by path."""
    pictures: dict[Path, Tensor] = {}
    sides: list[list[Path]] = []
    for folder in (contents, styles):
        readable: dict[str, Path] = {}
        for path in pictures_in(folder):
            try:
                picture = at_size(path, size)
            except ImpastoError as error:
                warn(f"skipped: {error}")
                continue
            first = readable.setdefault(folded(path.stem), path)
            if first != path:
                raise InputError(f"{path}: {first.name} has the same name; rename one")
            pictures[path] = picture
        if not readable:
            raise InputError(f"{folder}: no picture that can be read; name another folder")
        sides.append(list(readable.values()))
    return [(content, style) for content in sides[0] for style in sides[1]], pictures


def _resumed(
    out: Path, settings: Mapping[str, Any], options: Mapping[str, Any], files: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The rows in ``out``, after a check that settings and input files are unchanged."""
    file = out / "comparison.json"
    before: dict[str, Any] = {}
    try:
        if file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
        before_methods = without_folders(before.get("methods", {}))
        before_files = dict(before.get("files", {}))
        changed = [
            key
            for current, earlier in (
                (settings, before),
                (options, before_methods),
                (files, before_files),
            )
            for key in current
            if earlier.get(key, current[key]) != current[key]
        ]
        rows: list[dict[str, Any]] = []
        if before and (out / "results.csv").exists():
            with open(out / "results.csv", newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    row = dict.fromkeys(LATE, "nan") | row
                    figures = {name: float(row[name]) for name in MEASURES}
                    rows.append({**{key: row[key] for key in KEY}, **figures})
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{out}: holds no comparison that can be resumed; name another folder"
        ) from None
    if changed:
        raise InputError(
            f"{out}: holds a comparison with other settings ({', '.join(changed)}); name another "
            "folder, or delete it"
        )
    record = {
        **settings,
        "methods": {**before_methods, **options},
        "files": {**before_files, **files},
    }
    save(file, json.dumps(record, indent=2))
    return rows


def _check_outputs(out: Path, methods: Methods, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Raise InputError if an input, or another result, would be overwritten."""
    results: dict[str, tuple[Path, Path]] = {}
    for content, style in pairs:
        first = results.setdefault(folded(f"{content.stem} {style.stem}"), (content, style))
        if first != (content, style):
            raise InputError(
                f"{content} by {style} and {first[0].name} by {first[1].name} would be written to "
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
    models = [path for _, options in methods.values() for path in files_of(options)]
    check_apart(files, [*dict.fromkeys(path for pair in pairs for path in pair), *models])


def _identity(method: Any, content: Tensor, on_step: OnStep | None) -> float:
    """SSIM between a photograph and its rendering with itself as the style."""
    return luminance_ssim(method(content, method.prepare([content]), 1.0, on_step), content)


def _measured(
    method: Any,
    content: Tensor,
    style: Tensor,
    painting: Any,
    judge: Remembering,
    on_step: OnStep | None,
) -> dict[str, Any]:
    """One result with its measures; ``painting`` is the style in the form the method takes."""
    prepared = method.prepare([painting])
    if isinstance(prepared, Style):
        prepared.at(min(content.shape[-2:]))  # computed before the timed part
    start = time.perf_counter()
    picture = method(content, prepared, 1.0, on_step)
    seconds = time.perf_counter() - start
    style_distances = relative_moments_distance(judge, picture, content, style).values()
    gram_distances = relative_gram_distance(judge, picture, content, style).values()
    return {
        "picture": picture,
        "paint": paint_share(judge.judge, picture, content, style),
        "style": statistics.mean(style_distances),
        "gram": statistics.mean(gram_distances),
        "color": color_distance(picture, style),
        "content": content_distance(judge, picture, content),
        "features": feature_distance(judge, picture, content),
        "ssim": luminance_ssim(picture, content),
        "seconds": seconds,
    }


def _peak(
    method: tuple[str, Mapping[str, Any]], device: str, content: Tensor, style: Path, size: int
) -> float:
    """Peak memory of a method in MB, measured in a separate process that renders one picture."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_render_alone, (method, device, content.numpy(), style, size))


def _render_alone(
    method: tuple[str, Mapping[str, Any]], device: str, content: Any, style: Path, size: int
) -> float:
    name, method_options = method
    tune()  # as the command line does
    idle = _peak_memory()
    # Two iterations suffice: the peak does not depend on their number.
    quick: dict[str, Any] = {"device": device, "iterations": 2}
    quick = {option: value for option, value in quick.items() if option in options_of(name)}
    loaded: Any = load(name, **quick | dict(method_options))
    painting: Any = style.stem if loaded.learnt is not None else at_size(style, size)
    loaded(torch.from_numpy(content), loaded.prepare([painting]))
    if loaded.device.type == "cuda":
        return torch.cuda.max_memory_allocated(loaded.device) / 2**20
    if loaded.device.type == "mps":  # its driver does not release memory during the run
        return torch.mps.driver_allocated_memory() / 2**20
    return (_peak_memory() - idle) / 2**20


def _peak_memory() -> float:
    """Peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss below would include the parent's memory at the fork
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(1024 * float(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
