"""Seconds and memory of every method from 1 to 100 megapixels, as who types the command has them.

    OMP_NUM_THREADS=1 python benchmarks/sizes.py [--sizes 1 4 12 24 50 100]
        [--methods ghiasi adain] [--report] [--limit-seconds 3600]

One photograph of scikit-image's, enlarged to 4:3, by one painting of impasto's. Every picture is
made by ``impasto stylize`` in a process of its own, reading and writing included; seconds are the
processor's, which other work beside hardly changes: with one thread, those of the clock. Each is
kept in build/sizes/rows.jsonl as soon as it is there, and what is in that file is not measured
again: Ctrl-C loses only the picture in work; to measure anew, delete the file. Writes
benchmarks/sizes.md and docs/img/sizes.png; --report only writes them, of what is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import DOCS, machine
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator
from PIL import Image
from skimage import data

from impasto import __version__
from impasto.errors import flag_of
from impasto.files import replacing
from impasto.methods import DEFAULT
from impasto.methods.johnson import learnt_names
from impasto.samples import draw
from impasto.study.compare import available
from impasto.study.figures import look

OUT = Path(__file__).with_suffix(".md")
FIGURE = DOCS / "sizes.png"
BUILD = Path(__file__).parent.parent / "build" / "sizes"

SIZES = [1, 4, 12, 24, 50, 100]  # megapixels
MOST = {"gatys": 24, "wct": 50, "artflow": 24, "styleflow": 24}  # by method; more takes hours
UNIT = 12  # megapixels, whose time per megapixel is the unit
MEASURES = {
    "processor": "processor seconds",
    "peak": "peak GB",
    "relative": f"processor seconds a megapixel, beside {UNIT}",
}
# Runs a command, then prints its figures. A process as small as this one, because the peak of a
# process begins with that of the one that started it.
MEASURED = """
import json, os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "processor": used.ru_utime + used.ru_stime,
    "peak": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30,
    "code": os.waitstatus_to_exitcode(status),
}))
"""

Row = dict[str, Any]


def sides(megapixels: float) -> tuple[int, int]:
    """Width and height of a picture of 4:3."""
    unit = round(math.sqrt(megapixels * 1e6 / 12))
    return 4 * unit, 3 * unit


def photograph(megapixels: float) -> Path:
    """The photograph at that size, made once."""
    path = BUILD / f"coffee-{megapixels:g}.jpg"
    if not path.exists():
        photo = Image.fromarray(data.coffee()).crop((33, 0, 566, 400))
        with replacing(path) as file:
            photo.resize(sides(megapixels), Image.Resampling.LANCZOS).save(file, "JPEG", quality=92)
    return path


def painting() -> Path:
    """The painting, made once."""
    path = BUILD / "swirls.png"
    if not path.exists():
        with replacing(path) as file:
            draw("swirls", 512).save(file, "PNG")
    return path


def command(label: str, photo: Path, out: Path) -> list[str]:
    """What is typed for a method as :func:`impasto.study.compare.available` labels it."""
    name, options = available([label])[label]
    style = min(learnt_names()) if name == "johnson" else str(painting())
    more = [word for key, value in options.items() for word in (flag_of(key), str(value))]
    typed = ["stylize", str(photo), style, "-o", str(out), "--method", name, *more]
    return [sys.executable, "-m", "impasto", *typed, "--device", "cpu"]


def measured(label: str, megapixels: float, limit: float | None) -> Row | None:
    """The figures of one picture; None if it took longer than ``limit`` seconds."""
    photo = photograph(megapixels)
    width, height = sides(megapixels)
    row: Row = {"method": label, "megapixels": megapixels, "pixels": width * height}
    row["machine"] = machine(torch.device("cpu"))
    # A folder for each, so that no run goes on from what another left.
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        words = command(label, photo, Path(folder) / "out.jpg")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", MEASURED, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            printed, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    row |= json.loads(printed.splitlines()[-1])
    if row.pop("code"):
        row["fault"] = said.strip().splitlines()[-1] if said.strip() else "killed"
    return row


def rows() -> dict[tuple[str, float], Row]:
    """What has been measured, by method and megapixels."""
    path = BUILD / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {(row["method"], row["megapixels"]): row for row in map(json.loads, lines)}


def run(labels: Sequence[str], sizes: Sequence[float], limit: float | None) -> None:
    """Measure what is missing, small pictures first."""
    BUILD.mkdir(parents=True, exist_ok=True)
    methods = available(labels)
    for megapixels, label in itertools.product(sorted(sizes), methods):
        done = rows()
        if (label, megapixels) in done or megapixels > MOST.get(methods[label][0], math.inf):
            continue
        smaller = [
            row["seconds"] * megapixels / row["megapixels"]
            for row in done.values()
            if row["method"] == label and "fault" not in row
        ]
        row = None
        if limit is None or not smaller or smaller[-1] <= limit:
            row = measured(label, megapixels, limit)
        if row is None:
            print(f"{label}, {megapixels:g} megapixels: not run, above {limit:g} s", flush=True)
            continue
        with open(BUILD / "rows.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def relative(row: Mapping[str, Any], unit: Mapping[str, Any] | None) -> float | None:
    """Seconds for a pixel as a share of those of ``unit``."""
    if unit is None or "fault" in unit:
        return None
    return float(row["processor"] / row["pixels"] / (unit["processor"] / unit["pixels"]))


def cell(row: Mapping[str, Any] | None, measure: str, unit: Mapping[str, Any] | None) -> str:
    """Of the table."""
    if row is None:
        return "not run" if measure == "processor" else ""
    if "fault" in row:
        return ("no memory" if "memory" in row["fault"] else "failed") * (measure == "processor")
    value = relative(row, unit) if measure == "relative" else row[measure]
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(done: Mapping[tuple[str, float], Row]) -> list[str]:
    """Three lines for each method, a column for each size."""
    labels = [label for label in available() if any(label == key for key, _ in done)]
    sizes = sorted({megapixels for _, megapixels in done})
    machines = "; ".join(dict.fromkeys(row["machine"] for row in done.values()))
    lines = [
        "`impasto stylize photo.jpg painting.png -o out.jpg --method METHOD`, a process for each "
        f"picture, by megapixels ({machines}, torch {torch.__version__}, impasto {__version__}).",
        "",
        f"| method | | {' | '.join(f'{size:g}' for size in sizes)} |",
        f"| --- | --- |{' ---: |' * len(sizes)}",
    ]
    for label, measure in itertools.product(labels, MEASURES):
        cells = [cell(done.get((label, size)), measure, done.get((label, UNIT))) for size in sizes]
        if any(cells):
            first = label if measure == "processor" else ""
            lines.append(f"| {first} | {MEASURES[measure]} | {' | '.join(cells)} |")
    return lines


def points(done: Mapping[tuple[str, float], Row]) -> Iterator[tuple[str, list[Row]]]:
    """What was measured of each method, small pictures first."""
    for label in available():
        found = [row for row in done.values() if row["method"] == label and "fault" not in row]
        if found:
            yield label, sorted(found, key=lambda row: row["pixels"])


def figure(done: Mapping[tuple[str, float], Row]) -> None:
    """Seconds and memory by megapixels, with the line of what is linear."""
    drawn = Figure(figsize=(12, 6), dpi=90, layout="constrained")
    left, right = drawn.subplots(1, 2)
    for axes, measure, name in (
        (left, "processor", "processor seconds"),
        (right, "peak", "peak memory, GB"),
    ):
        for label, found in points(done):
            xs = [row["pixels"] / 1e6 for row in found]
            axes.plot(xs, [row[measure] for row in found], **look(label), ms=5, label=label)
        axes.set(xscale="log", yscale="log", xlabel="megapixels", ylabel=name)
        axes.grid(alpha=0.3)
        sizes = sorted({megapixels for _, megapixels in done})
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if measure == "peak" else NullFormatter())
    # As much a pixel as the default method takes at 12 megapixels, across the whole plot.
    found = dict(points(done))
    known = found.get(DEFAULT) or next(iter(found.values()))
    through = next((row for row in known if row["megapixels"] == UNIT), known[-1])
    bounds, height = left.get_xlim(), left.get_ylim()
    line = [through["processor"] * bound * 1e6 / through["pixels"] for bound in bounds]
    left.plot(bounds, line, color="0.5", linestyle=":", label="linear")
    left.set(xlim=bounds, ylim=height)
    handles, labels = left.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=6, handlelength=4)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(FIGURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="megapixels")
    parser.add_argument("--methods", nargs="+", default=list(available()), metavar="METHOD")
    parser.add_argument(
        "--limit-seconds", type=float, help="leave out pictures that would take longer"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if not args.report:
        run(args.methods, args.sizes, args.limit_seconds)
    done = rows()
    if not done:
        sys.exit(f"nothing is measured yet: {BUILD / 'rows.jsonl'} is not there")
    OUT.write_text("\n".join(table(done)) + "\n", encoding="utf-8")
    figure(done)
    print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
