"""Whether repairs of pictures earn their keep: every method with each of its repairs on and off.

    python benchmarks/finish.py --contents DIR --styles DIR --vgg vgg19.safetensors \
        --convention caffe [--every 5] [--size 512] [--pictures DIR]

Paint, style and content as in benchmarks/arbitrary.py. Grid is the energy of what repeats every 2
or 4 pixels, in thousandths; halo how far areas that are flat in the photograph differ in colour
near what stands before them from what they are farther away, in hundredths; stray the share of the
pixels whose colour is far from all of the painting's. The photographs' own stand in the first line.
Prints and writes benchmarks/finish.md.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from common import judge, judged, machine
from torch import Tensor
from torch.nn import functional as F

from impasto.images import fit, list_pictures, read, resize, write
from impasto.methods import load
from impasto.study.metrics import (
    Remembering,
    content_distance,
    grid_energy,
    paint_share,
    relative_moments_distance,
)

# Label -> method, its options, its repairs.
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "adain": ("adain", {}, ("dehalo", "palette")),
    "ghiasi": ("ghiasi", {}, ("degrid",)),
    "johnson": ("johnson", {}, ("degrid",)),
    "johnson-bottleneck": ("johnson", {"kind": "bottleneck"}, ("degrid",)),
    "artflow": ("artflow", {}, ("degrid",)),
    "artflow-wct": ("artflow", {"operator": "wct"}, ("degrid",)),
    "artflow-rbmad": ("artflow", {"operator": "rbmad"}, ("degrid",)),
    "styleflow": ("styleflow", {}, ("degrid",)),
    "styleflow-rbmad": ("styleflow", {"operator": "rbmad"}, ("degrid",)),
}
HEADS = ["paint", "style", "content", "grid", "halo", "stray", "s"]
CELL = 8  # pixels of a cell in which halos are measured
NEAR, AWAY = 4, 12  # cells: a halo is within the first, and compared with what is within the second
FLAT = 0.02  # deviation of light in a cell that counts as flat
FAR = 0.1  # distance in RGB, 0..1, of a stray colour


def halo(out: Tensor, content: Tensor) -> float:
    """Rms distance in colour of flat cells near an edge to the flat ones beyond, in 0..1."""
    light = content.mean(0, keepdim=True)[None]
    mean = F.avg_pool2d(light, CELL)
    flat = (F.avg_pool2d(light.square(), CELL) - mean.square()).clamp_min(0).sqrt() < FLAT
    edge = F.max_pool2d((~flat).float(), 2 * NEAR + 1, 1, NEAR)
    near, beyond = flat & (edge > 0), (flat & (edge == 0)).float()
    change = F.avg_pool2d((out - content)[None], CELL)
    count = _around(beyond)
    expected = _around(change * beyond) / count.clamp_min(1e-6)
    kept = (near & (count > 0.05))[0, 0]
    far = (change - expected).square().sum(1)[0][kept]
    return float(far.mean().sqrt()) if len(far) else 0.0


def _around(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2 * AWAY + 1, 1, AWAY)


def stray(out: Tensor, style: Tensor) -> float:
    """Share of the pixels that are farther than :data:`FAR` from every colour of the painting."""
    ours = out[:, ::4, ::4].flatten(1).T
    theirs = style[:, ::4, ::4].flatten(1).T
    return float((torch.cdist(ours, theirs).amin(1) > FAR).float().mean())


def choices(repairs: tuple[str, ...]) -> list[tuple[str, ...]]:
    """None of the repairs, each, and so on up to all."""
    counts = range(len(repairs) + 1)
    return [each for count in counts for each in itertools.combinations(repairs, count)]


def main() -> None:
    parser = judged(__doc__)
    parser.add_argument("--case", nargs="*", default=list(CASES))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--every", type=int, default=5, help="judge every Nth pair only")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    vgg = judge(args)
    seen = Remembering(vgg)
    paths = itertools.product(list_pictures(args.contents), list_pictures(args.styles))
    pairs = list(paths)[:: args.every]
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    device = torch.device("cpu")
    for label in args.case:
        name, options, repairs = CASES[label]
        for on in choices(repairs):
            wanted = {repair: repair in on for repair in repairs}
            method: Any = load(name, device="cpu", precision=args.precision, **options, **wanted)
            named = " + ".join(on) or "none"
            for content_path, style_path in pairs:
                content, style = (
                    resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], args.size))
                    for rgb in (read(content_path).rgb, read(style_path).rgb)
                )
                own = ("photographs", "")
                if len(rows[own]) < len(pairs):
                    figures = [grid_energy(content), 0.0, stray(content, style)]
                    rows[own].append([0, 1, 0, *figures, 0])
                learnt = getattr(method, "learnt", None)
                if learnt is not None and style_path.stem not in learnt:
                    continue
                ready = method.prepare([style if learnt is None else style_path.stem])
                began = time.perf_counter()
                out = method(content, ready)
                spent = time.perf_counter() - began
                figures = [
                    paint_share(vgg, out, content, style),
                    statistics.mean(relative_moments_distance(seen, out, content, style).values()),
                    content_distance(seen, out, content),
                    *(grid_energy(out), halo(out, content), stray(out, style), spent),
                ]
                rows[label, named].append(figures)
                shown = " ".join(f"{figure:.4f}" for figure in figures)
                print(
                    f"{label} {named} {content_path.stem} x {style_path.stem} {shown}", flush=True
                )
                if args.pictures:
                    stem = f"{label}-{content_path.stem}-{style_path.stem}-{named}.png"
                    write(args.pictures / stem.replace(" ", ""), out)
    lines = [
        f"Mean over {len(pairs)} pairs (johnson: those of its own paintings) at {args.size} px "
        f"short side, judged by VGG-19; s is the median ({machine(device)}, "
        f"torch {torch.__version__}).",
        "",
        f"| method | repairs | {' | '.join(HEADS)} |",
        f"| --- | --- |{' ---: |' * len(HEADS)}",
    ]
    for (label, named), each in rows.items():
        *columns, seconds = zip(*each, strict=True)
        paint, style_left, kept, grid, ring, astray = map(statistics.mean, columns)
        lines.append(
            f"| {label} | {named} | {paint:.3f} | {style_left:.3f} | {kept:.3f} | "
            f"{1000 * grid:.2f} | {100 * ring:.2f} | {100 * astray:.1f} % | "
            f"{statistics.median(seconds):.2f} |"
        )
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
