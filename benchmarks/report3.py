"""Report 3's figures 3 to 6, and its coarse to fine (V.B), in small.

    OMP_NUM_THREADS=1 python benchmarks/report3.py [--vgg vgg19.safetensors]

Runs the recipes of recipes/sweeps with the bundled network in bfloat16, on a photograph of
scikit-image and a painting drawn by impasto: the figures as they are but at 128 pixels, V.B at its
sizes with all of its iterations, which takes most of an hour (--share 5: with a fifth of them).
Writes docs/img/report3-*.jpg and benchmarks/report3.md. What the folder --work holds is not made
again. With --vgg, a few iterations of VGG-19 give its time and memory beside the bundled network's.

    python benchmarks/report3.py --device cuda --vgg vgg19.safetensors

runs V.B alone, by VGG-19 with all iterations at the report's sizes, on a graphics card, and writes
benchmarks/report3-high-resolution.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from common import machine, sheet
from torch import Tensor

from impasto.images import fit, read, resize
from impasto.methods.gatys import Gatys
from impasto.samples import draw, photograph
from impasto.study.memory import peak_memory
from impasto.study.sweep import read_recipe, sweep

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes" / "sweeps"
PHOTO, PAINTING = "astronaut", "swirls"
PRECISION = "bfloat16"
# Plain L-BFGS takes rounding errors for curvature where its steps are tiny.
EXACT = ("learning-rate",)
FIGURES = ("color", "learning-rate", "layers", "optimizer")  # report 3, Fig. 3 to 6
SMALL = 256  # a further short side for V.B
POINTS = (512, 720)  # short sides at which VGG-19 is timed
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=HERE.parent / "build" / "report3")
    parser.add_argument("--size", type=int, default=128, help="short side of the figures")
    parser.add_argument("--vgg", type=Path, help="weights of VGG-19, for its time and memory")
    parser.add_argument("--convention", help="input convention of these weights")
    parser.add_argument(
        "--only", nargs="+", choices=(*FIGURES, "high-resolution"), help="some of the sweeps"
    )
    parser.add_argument("--share", type=int, default=1, help="V.B: divide its iterations by this")
    parser.add_argument("--device", default="cpu", help="cuda: V.B in full, by VGG-19")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.device != "cpu":
        in_full(args.work, args.size, args.device, args.vgg, args.convention)
        return
    networks: list[tuple[str, Path | None]] = [("compact", None)]
    if args.vgg is not None:
        networks.append(("vgg19", args.vgg))
    timed = points(args.work / "points.json", networks, args.convention)
    rows = {}
    for name in args.only or (*FIGURES, "high-resolution"):
        rows[name] = run(name, args.work, args.size, args.share)
        draw_sheet(name, rows[name], args.work / name, args.size)
    if args.only:
        return
    lines = [
        f"{PHOTO} by {PAINTING}, compact, {PRECISION}, Fig. 4 in float32 "
        f"({machine(CPU)}, torch {torch.__version__}). Seconds are those that one core worked.",
        "",
        "V.B, with all of its iterations:"
        if args.share == 1
        else f"V.B; at {SMALL} pixels with all iterations, else with 1/{args.share}:",
        "",
        *high_resolution(rows["high-resolution"]),
        "",
        *per_iteration(timed),
        "",
        *figures(rows),
    ]
    out = HERE / "report3.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


def in_full(work: Path, size: int, device: str, vgg: Path | None, convention: str | None) -> None:
    """V.B by VGG-19 with all of its iterations."""
    given = {"backbone": "vgg19", "backbone_weights": vgg, "convention": convention}
    # The first row would have what the card prepares once.
    warm = {"start": "content", "iterations": 3, "size": 512, "sizes": [0], "device": device}
    pictures = photograph(PHOTO), draw(PAINTING, 1080)
    sweep(*pictures, work / "warm", {}, cases={"warm": {}}, options={**given, **warm})
    rows = run("high-resolution", work, size, 1, device, **given)
    draw_sheet("high-resolution", rows, work / "high-resolution", size)
    where = machine(torch.device(device))
    lines = [
        f"{PHOTO} by {PAINTING}, VGG-19, {PRECISION} ({where}, torch {torch.__version__}).",
        "",
        *high_resolution(rows),
    ]
    out = HERE / "report3-high-resolution.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


def run(
    name: str, work: Path, size: int, share: int, device: str = "cpu", **options: Any
) -> list[dict[str, Any]]:
    """The rows of a recipe's sweep, with the time that the device worked on each."""
    recipe = read_recipe(RECIPES / f"{name}.toml")
    precision = "float32" if name in EXACT else PRECISION
    fixed = {**recipe.fixed, "precision": precision, "device": device, **options}
    now = time.process_time if device == "cpu" else time.perf_counter
    if name == "high-resolution":
        recipe = recipe._replace(cases=of_high_resolution(recipe.cases, share))
    else:
        fixed["size"] = size
    clock = work / f"{name}.json"  # a resumed sweep knows no times of what it does not render
    seconds: dict[str, float] = (
        json.loads(clock.read_text(encoding="utf-8")) if clock.exists() else {}
    )
    current, began = "", now()

    def on_progress(done: int, total: int, label: str, step: Any) -> None:
        nonlocal current, began
        if step is None:
            if current:
                seconds[current] = now() - began
                clock.write_text(json.dumps(seconds, indent=1), encoding="utf-8")
                print(f"{name}, {current}: {seconds[current]:.0f} s ({done}/{total})", flush=True)
            current, began = label, now()

    rows = sweep(
        *(photograph(PHOTO), draw(PAINTING, 1080), work / name, recipe.vary),
        cases=recipe.cases,
        method=recipe.method,
        options=fixed,
        on_progress=on_progress,
    )
    # The folder may hold more, from a recipe that has changed.
    rows = [row for row in rows if not recipe.cases or row["label"] in recipe.cases]
    return [{**row, "worked": seconds.get(row["label"], math.nan)} for row in rows]


def of_high_resolution(cases: dict[str, dict[str, Any]], share: int) -> dict[str, dict[str, Any]]:
    """V.B's cases, and those of the smallest size at half of it, the longest last.

    Without those of 600 iterations, which the longer ones pass through.
    """
    chosen: dict[str, dict[str, Any]] = {}
    for label, case in cases.items():
        if label.endswith(": 600"):
            continue
        if label.startswith(f"{2 * SMALL}: "):
            sizes = [side // 2 for side in case["sizes"]]
            name = f"{SMALL}{label[len(str(SMALL)) :]}"
            chosen[name] = {**case, "size": SMALL, "sizes": sizes}
        counts = case["iterations"]
        many = isinstance(counts, list)
        fewer = [count // share for count in counts] if many else counts // share
        chosen[label] = {**case, "iterations": fewer}
    return dict(sorted(chosen.items(), key=lambda item: (item[1]["size"], -len(item[0]))))


def draw_sheet(name: str, rows: list[dict[str, Any]], folder: Path, size: int) -> None:
    """Photograph, painting and results side by side; of V.B the largest, and a detail of each."""
    made = [(row["label"], read(folder / row["picture"]).rgb) for row in rows if row["picture"]]
    if name == "high-resolution":
        size = 2 * size
        last = max(picture.shape[-1] for _, picture in made)
        made = [(label, picture) for label, picture in made if picture.shape[-1] == last]
        made.reverse()  # the full size alone first
        whole = [(label, at(picture, size)) for label, picture in made]
        # The face, pixel by pixel.
        top, left = round(0.12 * last), round(0.32 * last)
        details = [
            (f"{label}, detail", picture[:, top : top + size, left : left + size])
            for label, picture in made
        ]
        cells, columns = [*whole, *details], len(whole)
    else:
        inputs = [("photograph", photograph(PHOTO)), ("painting", read(draw(PAINTING, size)).rgb)]
        cells = [(short(label), at(picture, size)) for label, picture in [*inputs, *made]]
        columns = len(cells)
    sheet(f"report3-{name}", cells, columns)


def short(label: str) -> str:
    """A label that fits above a small picture: of layers, the first and the last."""
    first, *_, last = label.removeprefix("style_layers=").split("+") * 2
    return first if first == last else f"{first} to {last}"


def at(picture: Tensor, size: int) -> Tensor:
    """A square of ``size`` pixels from the middle of a picture ``(3, H, W)``."""
    picture = resize(picture, fit(*picture.shape[-2:], size))
    top, left = ((length - size) // 2 for length in picture.shape[-2:])
    return picture[:, top : top + size, left : left + size]


def points(
    file: Path, networks: list[tuple[str, Path | None]], convention: str | None
) -> dict[str, dict[str, float]]:
    """Seconds of an iteration and peak MB of networks at some sizes, those in ``file`` kept."""
    known: dict[str, dict[str, float]] = (
        json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    )
    for (backbone, weights), size in itertools.product(networks, POINTS):
        if f"{backbone} {size}" in known:
            continue
        ticks: list[float] = []
        content, style = (at(p, size) for p in (photograph(PHOTO), read(draw(PAINTING, size)).rgb))
        with peak_memory(CPU) as peak:
            method = Gatys(
                backbone,
                backbone_weights=weights,
                convention=convention if weights else None,
                sizes=[0],
                iterations=4,
                tolerance=0,
                precision=PRECISION,
                device="cpu",
            )
            prepared = method.prepare([style])
            method(content, prepared, 1.0, lambda step, to=ticks: to.append(time.process_time()))
        seconds = statistics.median(b - a for a, b in itertools.pairwise(ticks))
        known[f"{backbone} {size}"] = {"seconds": seconds, "megabytes": peak.megabytes}
        file.write_text(json.dumps(known, indent=1), encoding="utf-8")
        print(f"{backbone} {size}: {known[f'{backbone} {size}']}", flush=True)
    return known


def high_resolution(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Table of V.B: coarse to fine, and what the full size alone had at some iterations."""
    yield "| short side: iterations | ran | seconds | peak MB | loss |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    made = {row["label"]: row for row in rows}
    for size in sorted({int(row["size"]) for row in rows}):
        if not {f"{size}: 700", f"{size}: 600 + 100"} <= made.keys():
            continue  # interrupted
        alone, both = made[f"{size}: 700"], made[f"{size}: 600 + 100"]
        losses, worked = alone["losses"], alone["worked"]

        def line(name: str, count: int, row: dict[str, Any], seconds: float) -> str:
            memory = f"{row['megabytes']:.0f}"
            return (
                f"| {name} | {count} | {seconds:.0f} | {memory} | {row['losses'][count - 1]:.3f} |"
            )

        early = len(losses) * 6 // 7
        equal = min(len(losses), round(len(losses) * both["worked"] / worked))
        yield line(f"{size}: 600 + 100", len(both["losses"]), both, both["worked"])
        for name, count in (("as many seconds", equal), ("600", early), ("700", len(losses))):
            yield line(f"{size} alone: {name}", count, alone, worked * count / len(losses))


def per_iteration(timed: dict[str, dict[str, float]]) -> list[str]:
    """Table of networks by size."""
    return [
        "One iteration (median of three), and the most memory that four take:",
        "",
        "| network, short side | seconds | peak MB |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {t['seconds']:.2f} | {t['megabytes']:.0f} |" for name, t in timed.items()),
    ]


def figures(rows: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Table of what every picture of the figures ended with."""
    yield "The figures' pictures:"
    yield ""
    yield "| figure | picture | seconds | loss | content | style | iterations |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for number, name in enumerate(FIGURES, 3):
        for row in rows[name]:
            ends = " | ".join(f"{row[key]:.3g}" for key in ("loss", "content", "style"))
            yield f"| {number} | {short(row['label'])} | {row['worked']:.0f} | {ends} " + (
                f"| {row['iterations']} |"
            )


if __name__ == "__main__":
    main()
