"""One picture under every combination of some options: the grids of papers 3 and 5.

A sweep is a folder: a picture for each combination, ``results.json``, and what is made of them:
``results.csv``, ``sheet.png`` and, for methods that optimise, ``curves.png``. What is there already
is not made again, so an interrupted sweep goes on.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..controls import Controls
from ..errors import InputError
from ..files import check_apart, path_of, save
from ..images import Picture, Source, check_output, fit, read, resize, write
from ..methods import METHODS, Step, check_options, record_of
from ..methods.records.gatys import REFINED
from ..options import ByLayer, Layers, ListOf, Option
from ..paintings import StyleSource, read_style
from ..pipeline import stylize
from ..progress import drawn
from ..training.recipes import check, check_numbers, read_toml
from .figures import labelled, matplotlib_figure, save_figure
from .inputs import check_side, digests_of, files_of, told, without_folders

__all__ = ["parse", "read_recipe", "sweep"]

WRITTEN = ("results.json", "results.csv", "sheet.png", "curves.png")
THUMB = 200  # short side of a picture on the sheet, in pixels
# What may vary besides the method's own options.
CONTROLS = {name: each for name, each in Controls.declared().items() if each.recorded}

OnProgress = Callable[[int, int, str, Step | None], bool | None]
"""Called with the pictures done, those in all, the one at work and its latest step; True ends."""


def parse(text: str, method: str = "gatys", flag: str = "--vary") -> tuple[str, list[Any]]:
    """``"lr=0.1,1"`` is ``("lr", [0.1, 1])``: an option, and its values.

    Values are separated by commas; a value that is a list joins its parts by ``+``, and one of
    layers with weights gives these behind a colon: ``style-layers=relu1_1,relu1_1+relu2_1:0.5``.

    Args:
        text: as it is typed.
        method: whose option it is.
        flag: before it, for messages.

    Raises:
        InputError: for anything else, and for a value out of the option's range.
    """
    name, equals, values = str(text).partition("=")
    if not (name.strip() and equals and values.strip()):
        raise InputError(f"{flag} {text!r}: write OPTION=VALUE,VALUE")
    name = name.strip().replace("-", "_")
    declared = _varied(method, refined=True)
    check_options(f"a sweep of method {method}", declared, [name])
    option = declared[name]
    texts = [value.strip() for value in values.split(",")]
    if isinstance(option.kind, (ByLayer, Layers, ListOf)):
        texts = [value.replace("+", ",").replace(":", "=") for value in texts]
    return name, [option.parse(value, f"{flag} {name}") for value in texts]


def _varied(method: str, refined: bool) -> dict[str, Option]:
    """What may vary, by name: with a refinement, its options too."""
    gatys = METHODS["gatys"].Options.declared()
    of_refinement = {name: gatys[name] for name in REFINED} if refined else {}
    return {**of_refinement, **record_of(method).Options.declared(), **CONTROLS}


def read_recipe(path: Path) -> tuple[str, dict[str, Any], dict[str, list[Any]]]:
    """Method, what stays the same and what varies: ``method`` and the tables ``[set]``, ``[vary]``.

    The word ``none`` stands for no value, as it does when typed.

    Raises:
        InputError: for another file, or unknown keys.
    """
    values = read_toml(path)
    check(values, {"method": "str", "set": "table", "vary": "table"}, str(path))
    for name, each in values.get("vary", {}).items():
        if not (isinstance(each, list) and each):
            raise InputError(f"{path} [vary]: {name} = {each!r}: give a list of values")
    method = values.get("method", "gatys")
    declared = _varied(method, refined=True)

    def plain(name: str, value: Any) -> Any:
        return None if value == "none" and name in declared and declared[name].none else value

    same = {name: plain(name, value) for name, value in values.get("set", {}).items()}
    vary = {name: [plain(name, v) for v in each] for name, each in values.get("vary", {}).items()}
    return method, same, vary


@drawn("sweep")
def sweep(
    content: Source,
    style: StyleSource,
    out: Path,
    vary: Mapping[str, Sequence[Any]],
    *,
    method: str = "gatys",
    options: Mapping[str, Any] | None = None,
    on_progress: OnProgress = lambda done, total, name, step: None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Render ``content`` under every combination that ``out`` does not hold yet, and draw them all.

    Args:
        content: a photograph.
        style: a painting, a stored style, or a name, see :func:`impasto.stylize`.
        out: the sweep's folder.
        vary: option of the method or control (such as ``strength`` or ``color``) -> its values.
        method, options: what stays the same, see :func:`impasto.stylize`.
        on_progress: see :data:`OnProgress`; the picture at work when it ends is not kept.
        progress: draw a bar, which notebooks draw too.

    Returns:
        A row for each combination: ``label``, the varied options, ``seconds``, ``iterations``,
        ``loss``, ``content`` and ``style`` at the end (None for methods of one pass), ``losses``,
        and ``fault``, a line where it could not be made.

    Raises:
        InputError: if nothing varies, an option does not exist, a picture cannot be read, or
            ``out`` holds another sweep or what is read.
    """
    out = path_of(out, "out")
    same = {} if options is None else options
    _check(vary, same, method)
    matplotlib_figure()
    photo, painting, name = read(content), *_style(style, method)
    settings = {
        "impasto": __version__,
        "content": photo.name,
        "style": name,
        "method": method,
        "options": json.loads(json.dumps(without_folders(same), default=str)),
        "files": {**digests_of(same), **digests_of(vary)},
    }
    rows = _resumed(out, settings)
    names = [*same, *vary]
    check_options(f"a sweep of method {method}", _varied(method, "refine" in names), names)
    combinations = [
        dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())
    ]
    labels = [", ".join(f"{k}={_shown(v)}" for k, v in each.items()) for each in combinations]
    todo = [label for label in dict.fromkeys(labels) if label not in rows]
    files = {label: f"{n:03d} {_safe(label)}.png" for n, label in enumerate(todo, len(rows))}
    inputs = files_of({"content": content, "style": style}) + files_of(same) + files_of(vary)
    check_apart([out / file for file in (*WRITTEN, *files.values())], inputs)
    check_output(out / max(("sheet.png", *files.values()), key=len))
    for number, (label, chosen) in enumerate(zip(labels, combinations, strict=True)):
        if label in rows:
            continue
        stopped = bool(on_progress(number, len(labels), label, None))

        def on_step(step: Step, number: int = number, label: str = label) -> bool:
            nonlocal stopped
            stopped = bool(on_progress(number, len(labels), label, step))
            return stopped

        if stopped:
            break
        row: dict[str, Any] = {"label": label, **{k: _shown(v) for k, v in chosen.items()}}
        try:
            result = stylize(photo.to_pil(), painting, method, on_step=on_step, **same, **chosen)
        except InputError as error:
            fault = told(error, {**same, **chosen})
            row |= {"fault": fault, "picture": None, "losses": []}
        else:
            if stopped:
                break
            result.save(out / files[label])
            ends = (result.losses, result.content_losses, result.style_losses)
            last = [values[-1] if values else None for values in ends]
            row |= dict(zip(("loss", "content", "style"), last, strict=True))
            row |= {"seconds": result.settings["seconds"], "iterations": len(result.losses)}
            row |= {"losses": result.losses, "picture": files[label], "fault": None}
        rows[label] = row
        save(out / "results.json", json.dumps({**settings, "rows": list(rows.values())}, indent=1))
    else:
        on_progress(len(labels), len(labels), "", None)
    if rows:
        _report(out, list(rows.values()), len(list(vary.values())[-1]))
    return list(rows.values())


def _check(vary: Any, same: Any, method: Any) -> None:
    """Raise InputError for what is no sweep."""
    for what, given in (("vary", vary), ("options", same)):
        if not isinstance(given, Mapping):
            raise InputError(f"{what}: give a dictionary of options, not {type(given).__name__}")
    if not isinstance(method, str):
        raise InputError(f"method: give a name, not {type(method).__name__}")
    record_of(method)  # which says so, if there is no such method
    if not vary or not all(vary.values()):
        raise InputError("name what varies: --vary OPTION=VALUE,VALUE")
    for name, values in vary.items():
        if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence):
            raise InputError(f"vary: {name} = {values!r}: give a list of values")
        paths = {str(value) for value in values if isinstance(value, (str, os.PathLike))}
        if len({*map(without_folders, paths)}) < len(paths):
            raise InputError(f"vary: {name}: two files have the same name; rename one")
    twice = sorted(set(vary) & set(same))
    if twice:
        raise InputError(f"{', '.join(twice)}: varies, and is given too; leave one of them out")
    check_numbers("sweep", {**same, **vary})
    if same.get("size") is not None:
        check_side(same["size"])


def _style(style: Any, method: str) -> tuple[Any, str]:
    """What :func:`impasto.stylize` is given as the style, and its name."""
    if record_of(method).learns_styles:
        return str(style), str(style)
    known = read_style(style)
    return known.to_pil() if isinstance(known, Picture) else known, known.name


def _resumed(out: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Label -> row of what ``out`` holds, after a check that it was made alike.

    The files that it was made with are added to ``settings``.
    """
    file = out / "results.json"
    if not file.exists():
        return {}
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        rows = {row["label"]: row for row in before["rows"]}
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{file}: is no sweep that can go on; name another folder") from None
    before["options"] = without_folders(before.get("options"))
    files: dict[str, str] = settings["files"]
    known = before.setdefault("files", {})
    settings["files"] = {**known, **files}
    other = [file for file in files if known.get(file, files[file]) != files[file]]
    other += [key for key in settings if key != "files" and before.get(key) != settings[key]]
    if other:
        raise InputError(
            f"{out}: holds another sweep ({', '.join(other)} differ); name another folder, or "
            "delete it"
        )
    return rows


def _report(out: Path, rows: Sequence[Mapping[str, Any]], columns: int) -> None:
    """Table, sheet and curves."""
    shown = (key for row in rows for key in row if key not in ("losses", "label"))
    heads = list(dict.fromkeys(shown))
    stream = io.StringIO()
    table = csv.DictWriter(stream, heads, extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    save(out / "results.csv", stream.getvalue())
    thumbs = {row["label"]: _thumb(out / row["picture"]) for row in rows if row["picture"]}
    if thumbs:
        blank = torch.full_like(next(iter(thumbs.values())), 0.9)
        cells = [(row["label"], thumbs.get(row["label"], blank)) for row in rows]
        write(out / "sheet.png", labelled(cells, columns))
    curves = {row["label"]: row["losses"] for row in rows if row["losses"]}
    if curves:

        def draw(axes: Any) -> None:
            for label, losses in curves.items():
                axes.plot(range(1, len(losses) + 1), losses, lw=1.2, label=label)
            axes.set_xlabel("iteration")
            axes.set_ylabel("loss, by its own weights")
            axes.set_yscale("log")
            if len(curves) <= 16:
                axes.legend(fontsize=8)

        save_figure(out / "curves.png", draw)


def _thumb(path: Path) -> torch.Tensor:
    rgb = read(path).rgb
    return resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], min(THUMB, *rgb.shape[-2:])))


def _shown(value: Any) -> str:
    """As it is typed, but of a path the name alone."""
    value = without_folders(value)
    if isinstance(value, Mapping):
        parts = ((name, "" if part == 1 else f":{_shown(part)}") for name, part in value.items())
        return "+".join(name + part for name, part in parts)
    if isinstance(value, (list, tuple)):
        return "+".join(map(_shown, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _safe(label: str) -> str:
    """As part of a file's name, on every system."""
    return "".join(c if c.isalnum() or c in "=,.+- _" else "-" for c in label)[:120]
