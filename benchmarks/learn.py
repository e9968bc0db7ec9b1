"""What learning one painting well gains: paintings by prediction, and after `impasto learn`.

    python benchmarks/learn.py --contents DIR --paintings FILE... [--photos DIR] [--minutes 5] \
        [--steps N] [--mixable] [--vgg vgg19.safetensors --convention caffe] [--pictures DIR]

Every painting is learnt on the photographs of --photos (the free samples by default) and judged on
those of --contents, which are others, by :func:`impasto.study.metrics.paint_share`: by VGG-19 where
its weights are given, by `compact`, with which paintings are learnt, else. Prints and writes
benchmarks/learn.md.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from impasto.backbones import load_backbone
from impasto.device import tune
from impasto.images import fit, list_pictures, read, resize, write
from impasto.methods import load
from impasto.study.metrics import paint_share
from impasto.training.learn import MINUTES, learn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--contents", type=Path, required=True)
    parser.add_argument("--paintings", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--mixable", action="store_true")
    parser.add_argument("--vgg", type=Path)
    parser.add_argument("--convention")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--pictures", type=Path, help="folder to keep the results in")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    tune()  # as the command line does
    name = "compact" if args.vgg is None else "vgg19"
    judge = load_backbone(name, args.vgg, convention=args.convention)

    def small(path: Path) -> Tensor:
        rgb = read(path).rgb
        return resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], args.size))

    method = load("ghiasi", device="cpu")
    contents = {path.stem: small(path) for path in list_pictures(args.contents)}
    rows, gains = [], []
    for path in args.paintings:
        painting = small(path)
        learnt = learn(
            *(path, args.photos),
            minutes=args.minutes,
            steps=args.steps,
            mixable=args.mixable,
            device="cpu",
            progress=True,
        )
        means = []
        for when, style in (("before", painting), ("after", learnt)):
            prepared, figures = method.prepare([style]), []
            for photo, content in contents.items():
                out = method(content, prepared)
                figures.append(paint_share(judge, out, content, painting))
                if args.pictures:
                    write(args.pictures / f"{path.stem}-{photo}-{when}.png", out)
            means.append(statistics.mean(figures))
        gains.append(means[1] - means[0])
        steps, seconds = learnt.figures["steps"], learnt.figures["seconds"]
        rows.append(
            f"| {path.stem} | {steps} | {seconds} | {means[0]:.3f} | {means[1]:.3f} | "
            f"{gains[-1]:+.3f} |"
        )
        print(rows[-1], flush=True)
    kept = ", last layers left alone" if args.mixable else ""
    lines = [
        f"Mean over {len(contents)} photographs at {args.size} px short side, judged by {name}"
        f"{kept} ({learnt.figures['device']}, torch {torch.__version__}).",
        "",
        "| painting | steps | seconds | paint, predicted | paint, learnt | gain |",
        f"| --- |{' ---: |' * 5}",
        *rows,
        f"| **mean** | | | | | **{statistics.mean(gains):+.3f}** |",
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
