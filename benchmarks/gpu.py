"""Seconds and memory of every method on a graphics card, from 512 pixels to 12 megapixels.

    python benchmarks/gpu.py [--sizes 512 1024 2048 3000] [--device cuda]

One photograph of scikit-image's, enlarged to 4:3, by one painting of impasto's, the style prepared
before, in the precision that `auto` takes; the picture comes from the CPU and goes back there. The
best of three after a first. Writes benchmarks/gpu.md.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import torch
from common import machine
from skimage import data

from impasto.device import choose_device
from impasto.errors import InputError
from impasto.images import read, resize
from impasto.methods import load
from impasto.samples import draw
from impasto.study.compare import available
from impasto.study.memory import peak_memory

REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 3000])
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    device = choose_device(args.device)
    photo, painting = read(data.coffee()).rgb, read(draw("swirls", 512)).rgb
    rows: dict[str, dict[int, str]] = {}
    for (label, (name, options)), size in itertools.product(available().items(), args.sizes):
        picture = resize(photo, (size, size * 4 // 3))
        rows.setdefault(label, {})[size] = timed(name, options, picture, painting, device)
        print(label, size, rows[label][size], flush=True)
    heads = " | ".join(f"{size * 4 // 3}x{size}" for size in args.sizes)
    lines = [
        f"Seconds, and peak GB on the card ({machine(device)}, torch {torch.__version__}).",
        "",
        f"| method | {heads} |",
        "| --- |" + " ---: |" * len(args.sizes),
        *(f"| {label} | {' | '.join(row.values())} |" for label, row in rows.items()),
    ]
    out = Path(__file__).with_suffix(".md")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


def timed(
    name: str, options: dict[str, Any], picture: Any, painting: Any, device: torch.device
) -> str:
    """A cell of the table."""
    method = load(name, device=str(device), **options)
    learnt = method.learnt
    style: Any = method.prepare([painting] if learnt is None else [learnt[min(learnt)]])
    seconds = []
    try:
        with peak_memory(device) as peak:
            for _ in range(1 if name == "gatys" else 1 + REPEATS):
                start = time.perf_counter()
                method(picture, style)  # ends with a copy to the CPU
                seconds.append(time.perf_counter() - start)
    except InputError:
        return "no memory"
    return f"{min(seconds):.2f}, {peak.megabytes / 1024:.1f} GB"


if __name__ == "__main__":
    main()
