"""One picture with every combination of some options: the grids of reports 3 and 5.

A sweep is a folder: a picture for each combination, ``results.json``, and the summaries
``results.csv``, ``sheet.png`` and, for methods that optimise, ``curves.png``. Results in the folder
are not rendered again, so an interrupted sweep can be resumed.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import __version__
from ..controls import Controls
from ..device import choose_device
from ..errors import ImpastoError, InputError, spelled
from ..files import check_apart, path_of, save
from ..images import Picture, Source, check_output, fit, read, resize, write
from ..methods import METHODS, Step, check_options, record_of
from ..methods.records.gatys import REFINED
from ..options import ByLayer, Layers, ListOf, Option, renamed, renames_of
from ..paintings import StyleSource, read_style
from ..pipeline import stylize
from ..progress import drawn
from ..training.recipes import check, check_numbers, read_toml
from .cases import Cases, check_cases, combined, text_of
from .figures import labelled, look, matplotlib_figure, save_figure
from .inputs import check_side, digests_of, files_of, message_of, without_folders
from .memory import peak_memory

__all__ = ["Recipe", "parse", "read_recipe", "sweep"]

WRITTEN = ("results.json", "results.csv", "sheet.png", "curves.png")
THUMB = 200  # short side of a picture on the sheet, in pixels
# Controls that may vary, besides the options of the method.
CONTROLS = {name: option for name, option in Controls.declared().items() if option.recorded}

OnProgress = Callable[[int, int, str, Step | None], bool | None]
"""Called with the number of pictures done, the total, the current label and step; True stops."""


def parse(text: str, method: str = "gatys", flag: str = "--vary") -> tuple[str, list[Any]]:
    """Parse an option and its values: ``"lr=0.1,1"`` gives ``("lr", [0.1, 1])``.

    Commas separate values. The items of a list value are joined by ``+``, and the weight of a
    layer follows a colon: ``style-layers=relu1_1,relu1_1+relu2_1:0.5``.

    Args:
        text: the text of the command line.
        method: the method that has the option.
        flag: the flag before ``text``, for error messages.

    Raises:
        InputError: for malformed text, an unknown option, or a value out of its range.
    """
    name, equals, values = str(text).partition("=")
    if not (name.strip() and equals and values.strip()):
        raise InputError(f"{flag} {text!r}: write OPTION=VALUE,VALUE")
    name = name.strip().replace("-", "_")
    declared = _declared(method, refined=True)
    (name,) = renamed({name: values}, _renames(method))
    check_options(f"a sweep of method {method}", declared, [name])
    option = declared[name]
    texts = [value.strip() for value in values.split(",")]
    if isinstance(option.kind, (ByLayer, Layers, ListOf)):
        texts = [value.replace("+", ",").replace(":", "=") for value in texts]
    return name, [option.parse(value, f"{flag} {name}") for value in texts]


def _renames(method: str) -> dict[str, str]:
    """Old name -> new name of the options that may vary."""
    return renames_of(Controls, METHODS["gatys"].Options, record_of(method).Options)


def _declared(method: str, refined: bool) -> dict[str, Option]:
    """The options that may vary, by name; with a refinement, also its options."""
    gatys = METHODS["gatys"].Options.declared()
    refinement = {name: gatys[name] for name in REFINED} if refined else {}
    return {**refinement, **record_of(method).Options.declared(), **CONTROLS}


class Recipe(NamedTuple):
    """What a recipe of a sweep says; see :func:`sweep`."""

    method: str
    fixed: dict[str, Any]
    vary: dict[str, list[Any]]
    cases: dict[str, dict[str, Any]]


def read_recipe(path: Path) -> Recipe:
    """Read ``method``, the tables ``[set]`` and ``[vary]``, and a ``[[case]]`` for each case.

    A case has a ``label`` and the options that belong together. The word ``none`` means no value,
    as on the command line.

    Raises:
        InputError: for a file that is no TOML, unknown keys, or a case without a label of its own.
    """
    recipe = read_toml(path)
    check(recipe, {"method": "str", "set": "table", "vary": "table", "case": "tables"}, str(path))
    for name, values in recipe.get("vary", {}).items():
        if not (isinstance(values, list) and values):
            raise InputError(f"{path} [vary]: {name} = {values!r}: give a list of values")
    method = recipe.get("method", "gatys")
    declared = _declared(method, refined=True)

    def parsed(name: str, value: Any) -> Any:
        return None if value == "none" and name in declared and declared[name].none else value

    def present(table: Mapping[str, Any], place: str) -> dict[str, Any]:
        return renamed(table, _renames(method), f"{path} {place}")

    fixed = {
        name: parsed(name, value) for name, value in present(recipe.get("set", {}), "[set]").items()
    }
    vary = {
        name: [parsed(name, value) for value in values]
        for name, values in present(recipe.get("vary", {}), "[vary]").items()
    }
    cases: dict[str, dict[str, Any]] = {}
    for table in recipe.get("case", []):
        options = present(table, "[[case]]")
        label = options.pop("label", None)
        if not (isinstance(label, str) and label.strip()) or label in cases:
            raise InputError(f"{path} [[case]]: label = {label!r}: give each case its own label")
        cases[label] = {name: parsed(name, value) for name, value in options.items()}
    return Recipe(method, fixed, vary, cases)


@drawn("sweep")
def sweep(
    content: Source,
    style: StyleSource,
    out: Path,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    paired: bool = False,
    cases: Cases | None = None,
    method: str = "gatys",
    options: Mapping[str, Any] | None = None,
    on_progress: OnProgress = lambda done, total, name, step: None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Render ``content`` with every combination that ``out`` does not hold yet; write the report.

    Args:
        content: a photograph.
        style: a painting, a stored style, or a name, see :func:`impasto.stylize`.
        out: the sweep's folder.
        vary: option of the method or control (such as ``strength`` or ``color``) -> its values.
        paired: render with the first value of every option of ``vary``, then with the second, and
            so on, instead of with every combination.
        cases: label -> options that belong together; every case is combined with what varies.
        method, options: the method and its fixed options, see :func:`impasto.stylize`.
        on_progress: see :data:`OnProgress`; the current picture is dropped when it stops.
        progress: draw a progress bar, also in notebooks.

    Returns:
        A row for each combination: ``label``, ``options`` as text, also each on its own,
        ``seconds``, ``megabytes`` (peak memory, see :func:`impasto.study.memory.peak_memory`),
        ``iterations`` (those that ran), the final ``loss``, ``content`` and ``style`` (None for
        methods of one pass), ``losses``, and ``fault``, the error message of a combination that
        failed.

    Raises:
        InputError: if nothing varies, if paired values are not equally many, if an option is
            unknown, if a picture cannot be read, if ``out`` holds another sweep, or if a file that
            is read would be overwritten.
    """
    out = path_of(out, "out")
    fixed = {} if options is None else options
    vary, cases = {} if vary is None else vary, {} if cases is None else cases
    _check(vary, cases, fixed, method)
    fixed, vary = renamed(fixed, _renames(method)), renamed(vary, _renames(method))
    cases = {label: renamed(case, _renames(method)) for label, case in cases.items()}
    combinations = combined(vary, cases, paired)
    matplotlib_figure()
    photo, painting, name = read(content), *_style(style, method)
    digests = {**digests_of(fixed), **digests_of(vary)}
    for label, case in cases.items():
        digests |= digests_of(case, label)
    settings = {
        "impasto": __version__,
        "content": photo.name,
        "style": name,
        "method": method,
        "options": json.loads(json.dumps(without_folders(fixed), default=str)),
        "files": digests,
    }
    rows = _resumed(out, settings)
    names = [*fixed, *vary, *(name for case in cases.values() for name in case)]
    check_options(f"a sweep of method {method}", _declared(method, "refine" in names), names)
    texts = {
        label: {name: text_of(value) for name, value in combination.items()}
        for label, combination in combinations.items()
    }
    other = [
        label for label in texts if rows.get(label, {}).get("options") not in (None, texts[label])
    ]
    if other:
        raise InputError(
            f"{out}: holds {other[0]!r} with other options; name another folder, or delete it"
        )
    todo = [label for label in combinations if label not in rows]
    files = {label: f"{n:03d} {_safe(label)}.png" for n, label in enumerate(todo, len(rows))}
    inputs = files_of({"content": content, "style": style})
    for used in (fixed, vary, *cases.values()):
        inputs += files_of(used)
    check_apart([out / file for file in (*WRITTEN, *files.values())], inputs)
    check_output(out / max(("sheet.png", *files.values()), key=len))
    for number, (label, combination) in enumerate(combinations.items()):
        if label in rows:
            continue
        stopped = bool(on_progress(number, len(combinations), label, None))

        def on_step(step: Step, number: int = number, label: str = label) -> bool:
            nonlocal stopped
            stopped = bool(on_progress(number, len(combinations), label, step))
            return stopped

        if stopped:
            break
        row: dict[str, Any] = {"label": label, "options": texts[label], **texts[label]}
        method_options: dict[str, Any] = {**fixed, **combination}
        try:
            with peak_memory(choose_device(method_options.get("device", "auto"))) as peak:
                result = stylize(
                    photo.to_pil(), painting, method, on_step=on_step, **method_options
                )
        except ImpastoError as error:
            fault = message_of(error, method_options)
            row |= {"fault": fault, "picture": None, "losses": []}
        else:
            if stopped:
                break
            result.save(out / files[label])
            curves = (result.losses, result.content_losses, result.style_losses)
            final = [values[-1] if values else None for values in curves]
            row |= dict(zip(("loss", "content", "style"), final, strict=True))
            row |= {"seconds": result.settings["seconds"], "megabytes": round(peak.megabytes, 1)}
            row["iterations"] = len(result.losses)
            row |= {"losses": result.losses, "picture": files[label], "fault": None}
        rows[label] = row
        save(out / "results.json", json.dumps({**settings, "rows": list(rows.values())}, indent=1))
    else:
        on_progress(len(combinations), len(combinations), "", None)
    if rows:
        columns = len(list(vary.values())[-1]) if vary and not paired else None
        _report(out, list(rows.values()), columns)
    return list(rows.values())


def _check(vary: Any, cases: Any, fixed: Any, method: Any) -> None:
    """Raise InputError unless the arguments describe a sweep."""
    for argument, value in (("vary", vary), ("options", fixed)):
        if not isinstance(value, Mapping):
            raise InputError(
                f"{argument}: give a dictionary of options, not {type(value).__name__}"
            )
    if not isinstance(method, str):
        raise InputError(f"method: give a name, not {type(method).__name__}")
    record_of(method)  # raises for an unknown method
    check_cases(cases)
    if not (vary or cases) or not all(vary.values()):
        example = spelled("vary", {"lr": [0.1, 1]})
        raise InputError(f"name what varies, such as {example}", option="vary")
    for name, values in vary.items():
        if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence):
            raise InputError(f"vary: {name} = {values!r}: give a list of values")
        paths = {str(value) for value in values if isinstance(value, (str, os.PathLike))}
        if len({*map(without_folders, paths)}) < len(paths):
            raise InputError(f"vary: {name}: two files have the same name; rename one")
    in_cases = {name for case in cases.values() for name in case}
    both = sorted((set(vary) | in_cases) & set(fixed) | set(vary) & in_cases)
    if both:
        raise InputError(f"{', '.join(both)}: both fixed and varied; leave one of them out")
    for values in (fixed, vary, *cases.values()):
        check_numbers("sweep", values)
    if fixed.get("size") is not None:
        check_side(fixed["size"])


def _style(style: Any, method: str) -> tuple[Any, str]:
    """The style argument for :func:`impasto.stylize`, and the style's name."""
    if record_of(method).learns_styles:
        return str(style), str(style)
    source = read_style(style)
    return source.to_pil() if isinstance(source, Picture) else source, source.name


def _resumed(out: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows in ``out`` by label, after a check that settings and files are unchanged.

    Adds the digests of the files that were used before to ``settings``.
    """
    file = out / "results.json"
    if not file.exists():
        return {}
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        rows = {row["label"]: row for row in before["rows"]}
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{file}: is no sweep that can be resumed; name another folder") from None
    before["options"] = without_folders(before.get("options"))
    files: dict[str, str] = settings["files"]
    before_files = before.setdefault("files", {})
    settings["files"] = {**before_files, **files}
    changed = [file for file in files if before_files.get(file, files[file]) != files[file]]
    changed += [key for key in settings if key != "files" and before.get(key) != settings[key]]
    if changed:
        raise InputError(
            f"{out}: holds another sweep ({', '.join(changed)} differ); name another folder, or "
            "delete it"
        )
    return rows


def _report(out: Path, rows: Sequence[Mapping[str, Any]], columns: int | None) -> None:
    """Write the table, the sheet and the loss curves."""
    keys = (key for row in rows for key in row if key not in ("losses", "options"))
    heads = list(dict.fromkeys(keys))
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
            for number, (label, losses) in enumerate(curves.items()):
                series = {**look(label, number), "markevery": max(1, len(losses) // 8)}
                axes.plot(range(1, len(losses) + 1), losses, **series, lw=1.2, label=label)
            axes.set_xlabel("iteration")
            axes.set_ylabel("loss, weighted as in each run")
            axes.set_yscale("log")
            if len(curves) <= 16:
                axes.legend(fontsize=8)

        save_figure(out / "curves.png", draw)


def _thumb(path: Path) -> torch.Tensor:
    rgb = read(path).rgb
    return resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], min(THUMB, *rgb.shape[-2:])))


def _safe(label: str) -> str:
    """The label as part of a file name that is valid on every system."""
    return "".join(c if c.isalnum() or c in "=,.+- _" else "-" for c in label)[:120]
