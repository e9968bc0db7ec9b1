"""How soon a refined result of one pass reaches the loss of plain Gatys.

    python benchmarks/refine.py [--method adain] [--size 512] [--refine 60]

Photographs are scikit-image's, paintings impasto's own. Plain Gatys is run twice: as in the papers,
from the photograph at one size (with impasto's optimiser and its rule to stop), and by impasto's
default schedule, from the recoloured photograph and coarse to fine. The method's result is refined
at the final size until its loss is below the lower of their last ones, and its times to either (the
method's pass included) are compared. Writes benchmarks/refine.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from skimage import data
from torch import Tensor

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
    plains = {
        "textbook": Gatys(device="cpu", start="content", sizes=[0]),
        "default": Gatys(device="cpu"),
    }
    finer = Gatys(device="cpu", sizes=[0], iterations=args.refine, tolerance=0)
    rows: list[str] = []
    shares: dict[str, list[float]] = {name: [] for name in plains}
    for photo, painting in PAIRS:
        content = read(getattr(data, photo)()).rgb
        content = resize(content, fit(content.shape[-2], content.shape[-1], args.size))
        style = read(draw(painting, 768)).rgb
        ends = {name: plain(gatys, content, style) for name, gatys in plains.items()}
        lowest = min(mark for _, mark in ends.values())

        stamps: list[tuple[float, float]] = []
        aims = method.prepare([style]), finer.prepare([style])
        began = time.perf_counter()

        def stop(step: Step) -> bool:
            stamps.append((time.perf_counter() - began, step.loss))  # noqa: B023
            return step.loss <= lowest  # noqa: B023

        finer(content, aims[1], 1.0, stop, start=method(content, aims[0]))
        for name, (whole, mark) in ends.items():
            below = [(count, s) for count, (s, loss) in enumerate(stamps, 1) if loss <= mark]
            count, seconds = below[0] if below else (len(stamps), stamps[-1][0])
            shares[name].append(seconds / whole)
            rows.append(
                f"| {photo} x {painting} | {name} | {whole:.1f} | {mark:.3f} | {count} | "
                f"{seconds:.1f}{'' if below else ' (not reached)'} | {seconds / whole:.2f} |"
            )
            print(rows[-1], flush=True)
    machine = finer.settings["device"]
    lines = [
        f"Short side {args.size} px, {machine}, torch {torch.__version__}.",
        "",
        f"| pair | plain Gatys | its seconds | its loss | {args.method}: iterations to reach it | "
        "seconds in all | share |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        *(
            f"| **mean** | **{name}** | | | | | **{statistics.mean(each):.2f}** |"
            for name, each in shares.items()
        ),
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def plain(gatys: Gatys, content: Tensor, style: Tensor) -> tuple[float, float]:
    """Its seconds, and the lowest loss that it comes to at the final size."""
    aim = gatys.prepare([style])
    losses: list[float] = []

    def keep(step: Step) -> None:
        if step.size == tuple(content.shape[-2:]):
            losses.append(step.loss)

    began = time.perf_counter()
    gatys(content, aim, 1.0, keep)
    return time.perf_counter() - began, min(losses)


if __name__ == "__main__":
    main()
