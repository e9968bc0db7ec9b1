"""Seconds and memory of every method for one picture, at two sizes.

    python benchmarks/methods.py [--size 512 1024] [--repeats 3]

One photograph of scikit-image's by one painting of impasto's, the style prepared before; the least
of the repeats (Gatys' method runs once). Every method runs in a process of its own, so that its
peak memory is its own: what is in use beside Python and the libraries, the network among it. Bytes
per pixel are the difference of both peaks by that of the pixels. Writes benchmarks/methods.md. The
machine should do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from common import apart, machine, peak_memory
from skimage import data

from impasto.images import fit, read, resize
from impasto.methods import load
from impasto.samples import draw
from impasto.study.compare import available

CPU = torch.device("cpu")


def measure(label: str, size: int, repeats: int, painting: Path) -> None:
    """Render and print the figures as JSON."""
    photo = read(data.coffee()).rgb
    photo = resize(photo, fit(*photo.shape[-2:], size))
    style: Any = read(painting).rgb
    name, options = available([label])[label]
    figures: dict[str, Any] = {}
    seconds = []
    with peak_memory(figures, CPU):
        method = load(name, device="cpu", **options)
        prepared = method.prepare([style] if method.learnt is None else [min(method.learnt)])
        for _ in range(1 if name == "gatys" else repeats):
            start = time.perf_counter()
            method(photo, prepared)
            seconds.append(time.perf_counter() - start)
    *_, precision = str(method.settings["device"]).split(", ")
    print(json.dumps({**figures, "seconds": min(seconds), "precision": precision}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=[512, 1024], help="short sides")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--painting", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one[0], int(args.one[1]), args.repeats, args.painting)
        return
    # Drawing takes memory of its own: not in the process that is measured.
    painting = Path(__file__).parent.parent / "build" / "swirls.png"
    painting.parent.mkdir(exist_ok=True)
    draw("swirls", 512).save(painting)
    sizes = [fit(400, 600, side) for side in args.size]
    rows = []
    for label in available():
        small, large = (
            apart(
                *(__file__, "--one", label, str(side), "--repeats", str(args.repeats)),
                *("--painting", str(painting)),
            )
            for side in args.size
        )
        pixels = sizes[1][0] * sizes[1][1] - sizes[0][0] * sizes[0][1]
        per_pixel = (large["peak"] - small["peak"]) * 2**20 / pixels
        rows.append((small["seconds"], label, small, large, per_pixel))
        print(rows[-1], flush=True)
    small_size, large_size = (f"{width}x{height}" for height, width in sizes)
    lines = [
        f"One picture by every bundled method, the style prepared before ({machine(CPU)}, "
        f"torch {torch.__version__}).",
        "",
        f"| method | precision | s, {small_size} | s, {large_size} | MB, {small_size} | "
        f"MB, {large_size} | bytes per pixel |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {label} | {small['precision']} | {small['seconds']:.2f} | {large['seconds']:.2f} | "
            f"{small['peak']:.0f} | {large['peak']:.0f} | {per_pixel:.0f} |"
            for _, label, small, large, per_pixel in sorted(rows, key=lambda row: row[0])
        ),
    ]
    out = Path(__file__).with_suffix(".md")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
