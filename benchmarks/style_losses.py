"""The four style losses of Gatys' method side by side.

    python benchmarks/style_losses.py [--size 192]

scikit-image's photographs in impasto's own paintings, with the default weights. Writes
benchmarks/style_losses.md and docs/img/style-losses.jpg.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import fmean

import torch
from common import machine, sheet

from impasto.backbones import load_backbone
from impasto.images import fit, read, resize
from impasto.methods import load
from impasto.samples import draw, photograph
from impasto.study.figures import square
from impasto.study.metrics import Remembering, content_distance, paint_share

LOSSES = ("gram", "moments", "swd", "remd")
PAIRS = (("astronaut", "woodcut"), ("chelsea", "swirls"), ("coffee", "ink_wash"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=192)
    args = parser.parse_args()
    judge = Remembering(load_backbone("compact"))
    rows: dict[str, list[tuple[float, float, float]]] = {loss: [] for loss in LOSSES}
    tiles = []
    for name, style in PAIRS:
        content = photograph(name)
        content = resize(content, fit(*content.shape[-2:], args.size))
        painting = read(draw(style, args.size)).rgb
        tiles += [(name, square(content, args.size)), (style, square(painting, args.size))]
        for loss in LOSSES:
            method = load("gatys", style_loss=loss)
            prepared = method.prepare([painting])
            start = time.process_time()
            result = method(content, prepared)
            seconds = time.process_time() - start
            paint = paint_share(judge, result, content, painting)
            rows[loss].append((paint, content_distance(judge, result, content), seconds))
            tiles.append((loss, square(result, args.size)))
            print(name, style, loss, *rows[loss][-1], flush=True)
    sheet("style-losses", tiles, 2 + len(LOSSES))
    lines = [
        f"Means over {len(PAIRS)} pairs of {args.size} px with the default options; judged by "
        f"compact; seconds of processor time ({machine(torch.device('cpu'))}).",
        "",
        "| style loss | paint | content | seconds |",
        "| --- | ---: | ---: | ---: |",
    ]
    for loss, figures in rows.items():
        paint, content_loss, seconds = (fmean(column) for column in zip(*figures, strict=True))
        lines.append(f"| {loss} | {paint:.2f} | {content_loss:.2f} | {seconds:.0f} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
