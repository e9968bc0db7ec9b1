"""What iterations at the full size bring to a large picture by Gatys' method.

    python benchmarks/full_size.py [--size 1200] [--iterations 64]

A photograph of scikit-image's by a painting of impasto's. The sizes before the last one have the
iterations of the default; the last one has more than the default's 16. Its first row is the picture
of half the size, enlarged. ``paint`` is :func:`impasto.study.metrics.paint_share` by ``compact``;
the mean gradient is that of neighbouring pixels, in levels of 255. Writes benchmarks/full_size.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from common import machine
from skimage import data
from torch import Tensor

from impasto.backbones import load_backbone
from impasto.images import fit, read, resize, write
from impasto.methods import Step
from impasto.methods.gatys import Gatys
from impasto.methods.schedule import schedule
from impasto.samples import draw
from impasto.study.metrics import paint_share

SHOWN = (0, 4, 8, 16, 32, 64, 128)


def gradient(picture: Tensor) -> float:
    """Mean difference of neighbouring pixels, in levels of 255."""
    down = (picture[:, 1:] - picture[:, :-1]).abs().mean()
    return 255 * float(down + (picture[..., 1:] - picture[..., :-1]).abs().mean()) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=1200, help="short side")
    parser.add_argument("--iterations", type=int, default=64, help="at the full size")
    parser.add_argument("--pictures", type=Path, help="folder to keep the pictures in")
    args = parser.parse_args()
    photo = read(data.coffee()).rgb
    photo = resize(photo, fit(*photo.shape[-2:], args.size))
    painting = draw("swirls", 1024)
    plan = schedule(*photo.shape[-2:])
    sizes = [min(size) for size, _ in plan]
    counts = [*(count for _, count in plan[:-1]), args.iterations + 1]
    method = Gatys(device="cpu", sizes=sizes, iterations=counts, tolerance=0)
    judge = load_backbone("compact")
    style = read(painting).rgb
    style = resize(style, fit(*style.shape[-2:], args.size))
    before, rows = sum(counts[:-1]), []
    began = time.perf_counter()
    pictures: dict[int, tuple[float, float, Tensor]] = {}

    def on_step(step: Step) -> None:
        done = step.iteration - before - 1  # at the full size, before this one
        if done in SHOWN:  # the loss is that of the picture before the iteration
            pictures[done] = time.perf_counter() - began, step.loss, step.picture()
            print(done, *pictures[done][:2], flush=True)

    method(photo, method.prepare([painting]), on_step=on_step)
    for done, (seconds, loss, picture) in pictures.items():
        if args.pictures:
            args.pictures.mkdir(exist_ok=True)
            write(args.pictures / f"{done:03}.png", picture)
        with torch.no_grad():
            paint = paint_share(judge, picture, photo, style)
        rows.append(
            f"| {done} | {seconds:.0f} | {loss:.3f} | {paint:.3f} | {gradient(picture):.2f} |"
        )
    lines = [
        f"{photo.shape[-1]}x{photo.shape[-2]} px, by Gatys' method "
        f"({machine(torch.device('cpu'))}, torch {torch.__version__}).",
        "",
        "| iterations at the full size | seconds in all | loss | paint | mean gradient |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    out = Path(__file__).with_suffix(".md")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
