"""How soon a refined result of one pass reaches the loss of plain Gatys.

    python benchmarks/refine.py [--method ghiasi] [--size 256] [--refine 120]

Photographs are scikit-image's, paintings impasto's own. Plain Gatys runs until it stops by itself,
as it was published (from white noise, at one size: report 4) and by impasto's defaults (in the
style's colours, coarse to fine); its loss at the end is the mark. The method's result is refined at
the final size until its loss is below the mark, and its time (the method's pass included) is
compared. Writes benchmarks/refine.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from skimage import data

from impasto.device import tune
from impasto.images import Source, fit, read, resize
from impasto.methods import DEFAULT, Step, load
from impasto.methods.gatys import Gatys
from impasto.samples import draw

PAIRS = (("coffee", "swirls"), ("chelsea", "stained_glass"), ("astronaut", "ink_wash"))


PLAIN = {
    "as published": {"start": "noise", "sizes": [0], "iterations": 1000},
    "impasto's": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", default=DEFAULT)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--refine", type=int, default=120, help="iterations at most")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    tune()  # as the command line does
    options = {} if args.model is None else {"model": args.model}
    method = load(args.method, device="cpu", **options)
    finer = Gatys(device="cpu", sizes=[0], iterations=args.refine, tolerance=0)
    rows: list[str] = []
    shares: dict[str, list[float]] = {name: [] for name in PLAIN}
    for photo, painting in PAIRS:
        content = read(getattr(data, photo)()).rgb
        content = resize(content, fit(content.shape[-2], content.shape[-1], args.size))
        style = draw(painting, 768)
        marks = {}
        for name, chosen in PLAIN.items():
            plain = Gatys(device="cpu", **chosen)
            marks[name] = run(plain, content, style)
            print(photo, painting, name, *marks[name], flush=True)
        aims = [m.prepare([style]) for m in (method, finer)]
        lowest = min(loss for _, loss, _ in marks.values())
        began = time.perf_counter()
        stamps: list[tuple[float, float]] = []

        def stop(step: Step) -> bool:
            stamps.append((time.perf_counter() - began, step.loss))  # noqa: B023
            return step.loss <= lowest  # noqa: B023

        first = method(content, aims[0])
        passed = time.perf_counter() - began
        finer(content, aims[1], 1.0, stop, start=first)
        for name, (whole, mark, count) in marks.items():
            after = next((i for i, (_, loss) in enumerate(stamps) if loss <= mark), None)
            if after is None:
                raise SystemExit(f"{photo} x {painting}: {mark:.3f} was not reached: --refine more")
            seconds = stamps[after][0]
            shares[name].append(seconds / whole)
            rows.append(
                f"| {photo} x {painting} | {name} | {count} | {whole:.1f} | {mark:.3f} | "
                f"{passed:.2f} | {stamps[0][1]:.3f} | {after + 1} | {seconds:.1f} | "
                f"{seconds / whole:.2f} |"
            )
            print(rows[-1], flush=True)
    lines = [
        f"Short side {args.size} px, {finer.settings['device']}, torch {torch.__version__}.",
        "",
        f"| pair | plain Gatys | iterations | s | its loss | {args.method}, s | its loss | "
        "iterations to reach Gatys' | seconds in all | share of Gatys' time |",
        f"| --- | --- |{' ---: |' * 8}",
        *rows,
        *(
            f"| **mean** | {name} | | | | | | | | **{statistics.mean(each):.2f}** |"
            for name, each in shares.items()
        ),
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def run(plain: Gatys, content: torch.Tensor, style: Source) -> tuple[float, float, int]:
    """Seconds, the loss at the end and the number of iterations of plain Gatys."""
    aim = plain.prepare([style])
    final = (content.shape[-2], content.shape[-1])
    losses: list[tuple[bool, float]] = []
    began = time.perf_counter()
    plain(content, aim, 1.0, lambda step: losses.append((step.size == final, step.loss)))
    seconds = time.perf_counter() - began
    return seconds, min(loss for at_final, loss in losses if at_final), len(losses)


if __name__ == "__main__":
    main()
