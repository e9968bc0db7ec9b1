"""Seconds of every method for one picture: what the reports say of speed, for all of them at once.

    python benchmarks/methods.py [--size 512] [--repeats 3]

One photograph of scikit-image's by one painting of impasto's, the style prepared before; the median
of the repeats. Writes benchmarks/methods.md. The machine should do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import machine
from skimage import data

from impasto.images import fit, read, resize
from impasto.methods import load
from impasto.samples import draw
from impasto.study.compare import available


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="short side in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    photo = read(data.coffee()).rgb
    photo = resize(photo, fit(*photo.shape[-2:], args.size))
    painting = read(draw("swirls", args.size)).rgb
    rows = []
    for label, (name, options) in available().items():
        method = load(name, device="cpu", **options)
        learnt = method.learnt
        style: Any = method.prepare([painting] if learnt is None else [learnt[min(learnt)]])
        seconds = []
        for _ in range(1 if name == "gatys" else args.repeats):
            start = time.perf_counter()
            method(photo, style)
            seconds.append(time.perf_counter() - start)
        *_, precision = str(method.settings["device"]).split(", ")
        rows.append((statistics.median(seconds), label, precision))
        print(rows[-1], flush=True)
    height, width = photo.shape[-2:]
    lines = [
        f"One {width}x{height} picture by every bundled method, the style prepared before "
        f"({machine(torch.device('cpu'))}, torch {torch.__version__}).",
        "",
        "| method | precision | seconds |",
        "| --- | --- | ---: |",
        *(f"| {label} | {kind} | {value:.2f} |" for value, label, kind in sorted(rows)),
    ]
    out = Path(__file__).with_suffix(".md")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
