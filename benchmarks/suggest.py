"""Whether `impasto suggest` ranks first the paintings that leave more of a photograph.

    python benchmarks/suggest.py --contents DIR --styles DIR [DIR ...] --vgg FILE --convention caffe

Every photograph is rendered with every painting by the default method. For each photograph, the
paintings' distances are compared with how much of the photograph is lost, by Spearman's rank
correlation. `contrast` does not look at the photograph: it is the painting's own mean deviation of
features. Writes benchmarks/suggest.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from common import judge, machine

from impasto.images import list_pictures
from impasto.methods import DEFAULT, load
from impasto.study.inputs import at_size
from impasto.study.metrics import (
    Remembering,
    content_distance,
    feature_distance,
    luminance_ssim,
    paint_share,
)
from impasto.study.suggest import LAYERS, suggest

SIZE = 256
DISTANCES = ("color", "texture", "total", "contrast")
# How much of the photograph is lost; more SSIM is less loss.
MEASURES = ("content", "features", "1 - ssim", "paint")


def correlation(one: Sequence[float], two: Sequence[float]) -> float:
    """Spearman's."""
    ranks = (torch.tensor(values).argsort().argsort().double() for values in (one, two))
    return float(torch.corrcoef(torch.stack(list(ranks)))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--contents", type=Path, required=True)
    parser.add_argument("--styles", type=Path, nargs="+", required=True)
    parser.add_argument("--vgg", type=Path, required=True)
    parser.add_argument("--convention", required=True)
    parser.add_argument("--photos", type=Path, help="photographs to normalise VGG-19 with")
    args = parser.parse_args()
    network = Remembering(judge(args), room=4)
    method = load(DEFAULT)
    measuring = load("gatys", style_layers=list(LAYERS), precision="float32")
    photographs = {path: at_size(path, SIZE) for path in list_pictures(args.contents)}
    lines = []
    for folder in args.styles:
        paths = list_pictures(folder)
        lost = {photograph: dict[Path, list[float]]() for photograph in photographs}
        contrast = {}
        for path in paths:
            painting = at_size(path, SIZE)
            moments = measuring.prepare([painting]).at(SIZE)
            contrast[path] = statistics.fmean(
                float(moments[layer].deviation().mean()) for layer in LAYERS
            )
            style = method.prepare([painting])
            for photograph, content in photographs.items():
                result = method(content, style)
                lost[photograph][path] = [
                    content_distance(network, result, content),
                    feature_distance(network, result, content),
                    1 - luminance_ssim(result, content),
                    paint_share(network, result, content, painting),
                ]
            print(path.name, flush=True)
        rows: dict[str, list[list[float]]] = {name: [] for name in DISTANCES}
        for photograph, losses in lost.items():
            found = {each.style: each for each in suggest(photograph, folder, size=SIZE)}
            for name in DISTANCES:
                distances = [
                    contrast[path] if name == "contrast" else getattr(found[path], name)
                    for path in paths
                ]
                columns = zip(*(losses[path] for path in paths), strict=True)
                rows[name].append([correlation(distances, column) for column in columns])
        for name, by_photograph in rows.items():
            cells = []
            for values in zip(*by_photograph, strict=True):
                error = statistics.stdev(values) / len(values) ** 0.5
                cells.append(f"{statistics.fmean(values):.2f} ± {error:.2f}")
            lines.append(f"| {len(paths)} | {name} | {' | '.join(cells)} |")
    text = [
        f"Rank correlation of distances with what is lost, mean and standard error over "
        f"{len(photographs)} photographs, {SIZE} px, method {DEFAULT}, judged by VGG-19 "
        f"({machine(torch.device('cpu'))}).",
        "",
        f"| paintings | distance | {' | '.join(MEASURES)} |",
        f"| ---: | --- |{' ---: |' * len(MEASURES)}",
        *lines,
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
