"""How soon a refined result of one pass reaches the loss of plain Gatys.

    python benchmarks/refine.py [--method adain] [--size 512] [--refine 60]

Photographs are scikit-image's, paintings impasto's own. Plain Gatys runs its default schedule;
its loss at the end is the mark. The method's result is refined at the final size until its loss is
below the mark, and its time (the method's pass included) is compared. Writes benchmarks/refine.md.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from pathlib import Path

import torch
from skimage import data

from impasto.images import fit, read, resize
from impasto.methods import Step, load
from impasto.methods.gatys import Gatys
from impasto.samples import draw

PAIRS = (("coffee", "swirls"), ("chelsea", "stained_glass"), ("astronaut", "ink_wash"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", default="adain")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--refine", type=int, default=60, help="iterations at most")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    options = {} if args.model is None else {"model": args.model}
    method = load(args.method, device="cpu", **options)
    plain = Gatys(device="cpu")
    finer = Gatys(device="cpu", sizes=[0], iterations=args.refine, tolerance=0)
    rows, shares = [], []
    for photo, painting in PAIRS:
        content = read(getattr(data, photo)()).rgb
        content = resize(content, fit(content.shape[-2], content.shape[-1], args.size))
        style = draw(painting, 768)
        aims = [m.prepare([style]) for m in (method, plain, finer)]
        final = (content.shape[-2], content.shape[-1])
        last: list[float] = []

        def keep(step: Step) -> None:
            if step.size == final:  # noqa: B023
                last.append(step.loss)  # noqa: B023

        began = time.perf_counter()
        plain(content, aims[1], 1.0, keep)
        whole = time.perf_counter() - began
        mark = min(last)

        stamps: list[tuple[float, float]] = []
        began = time.perf_counter()

        def stop(step: Step) -> bool:
            stamps.append((time.perf_counter() - began, step.loss))  # noqa: B023
            return step.loss <= mark  # noqa: B023

        first = method(content, aims[0])
        passed = time.perf_counter() - began
        finer(content, aims[2], 1.0, stop, start=first)
        seconds, loss = stamps[-1]
        reached = loss <= mark
        shares.append(seconds / whole)
        note = "" if reached else " (not reached)"
        rows.append(
            f"| {photo} x {painting} | {whole:.1f} | {mark:.3f} | {passed:.2f} | "
            f"{stamps[0][1]:.3f} | {len(stamps)} | {seconds:.1f}{note} | {seconds / whole:.2f} |"
        )
        print(rows[-1], flush=True)
        steps = itertools.islice(stamps, 0, None, 5)
        print("  " + "  ".join(f"{s:.1f} s {value:.3f}" for s, value in steps), flush=True)
    lines = [
        f"Short side {args.size} px, {plain.settings['device']}, torch {torch.__version__}.",
        "",
        f"| pair | plain Gatys, s | its loss | {args.method}, s | its loss | iterations to reach "
        "Gatys' | seconds in all | share of Gatys' time |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        f"| **mean** | | | | | | | **{statistics.mean(shares):.2f}** |",
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
