"""Memory of every method for one picture, at two sizes.

    python benchmarks/memory.py [--size 256 512]

One photograph of scikit-image's by one painting of impasto's. Every method runs in a process of its
own, so that its peak is its own: what is in use beside Python and the libraries, the network among
it. Bytes per pixel are the difference of both peaks by that of the pixels. Writes
benchmarks/memory.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from common import apart, machine
from skimage import data

from impasto.images import fit, read, resize
from impasto.methods import load
from impasto.samples import draw
from impasto.study.compare import available
from impasto.study.memory import peak_memory

CPU = torch.device("cpu")


def measure(label: str, size: int, painting: Path) -> None:
    """Render and print the figures as JSON."""
    photo = read(data.coffee()).rgb
    photo = resize(photo, fit(*photo.shape[-2:], size))
    style: Any = read(painting).rgb
    name, options = available([label])[label]
    with peak_memory(CPU) as peak:
        method = load(name, device="cpu", **options)
        prepared = method.prepare([style] if method.learnt is None else [min(method.learnt)])
        method(photo, prepared)
    *_, precision = str(method.settings["device"]).split(", ")
    print(json.dumps({"peak": peak.megabytes, "precision": precision}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=[256, 512], help="short sides")
    parser.add_argument("--painting", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one[0], int(args.one[1]), args.painting)
        return
    # Drawing takes memory of its own: not in the process that is measured.
    painting = Path(__file__).parent.parent / "build" / "swirls.png"
    painting.parent.mkdir(exist_ok=True)
    draw("swirls", 512).save(painting)
    sizes = [fit(400, 600, side) for side in args.size]
    rows = []
    for label in available():
        small, large = (
            apart(__file__, "--one", label, str(side), "--painting", str(painting))
            for side in args.size
        )
        pixels = sizes[1][0] * sizes[1][1] - sizes[0][0] * sizes[0][1]
        per_pixel = (large["peak"] - small["peak"]) * 2**20 / pixels
        rows.append((per_pixel, label, small, large))
        print(rows[-1], flush=True)
    small_size, large_size = (f"{width}x{height}" for height, width in sizes)
    lines = [
        f"Most memory that one picture takes ({machine(CPU)}, torch {torch.__version__}).",
        "",
        f"| method | precision | MB, {small_size} | MB, {large_size} | bytes per pixel |",
        "| --- | --- | ---: | ---: | ---: |",
        *(
            f"| {label} | {small['precision']} | {small['peak']:.0f} | {large['peak']:.0f} | "
            f"{per_pixel:.0f} |"
            for per_pixel, label, small, large in sorted(rows, key=lambda row: row[:2])
        ),
    ]
    out = Path(__file__).with_suffix(".md")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
