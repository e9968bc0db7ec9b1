"""Whether repairs of pictures earn their keep: every method with each of its repairs on and off.

    python benchmarks/finish.py --contents DIR --styles DIR --vgg vgg19.safetensors \
        --convention caffe [--case adain ...] [--every 5] [--size 512] [--pictures DIR]

Paint, style and content as in benchmarks/arbitrary.py. Grid is the energy of what repeats every 2
or 4 pixels, in thousandths; halo how far areas that are flat in the photograph differ in colour
near what stands before them from what they are farther away, in hundredths; stray the share of the
pixels whose colour is far from all of the painting's. The photographs' own stand in the first line.
Prints and writes benchmarks/finish.md, where the lines of other cases stay, and draws
docs/img/finish.jpg.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from common import judge, judged, machine
from gallery import DOCS, painting, photo
from torch import Tensor
from torch.nn import functional as F

from impasto.finish import REPAIRS, Origin
from impasto.images import fit, list_pictures, read, resize, write
from impasto.methods import load
from impasto.statistics import Moments
from impasto.study.figures import labelled
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
    "adain, drawings": ("adain", {}, ("dehalo", "palette")),
    "ghiasi": ("ghiasi", {}, ("degrid",)),
    "johnson": ("johnson", {}, ("degrid",)),
    "johnson-bottleneck": ("johnson", {"kind": "bottleneck"}, ("degrid",)),
    "artflow": ("artflow", {}, ("degrid",)),
    "artflow-wct": ("artflow", {"operator": "wct"}, ("degrid",)),
    "artflow-rbmad": ("artflow", {"operator": "rbmad"}, ("degrid",)),
    "styleflow": ("styleflow", {}, ("degrid",)),
    "styleflow-rbmad": ("styleflow", {"operator": "rbmad"}, ("degrid",)),
}
DRAWINGS = ("woodcut", "ink_wash")  # with hardly a colour, in the place of the paintings given
HEADS = ["pairs", "paint", "style", "content", "grid", "halo", "stray"]
CELL = 8  # pixels of a cell in which halos are measured
NEAR, AWAY = 4, 12  # cells: a halo is within the first, and compared with what is within the second
FLAT = 0.02  # deviation of light in a cell that counts as flat
FAR = 0.1  # distance in RGB, 0..1, of a stray colour
CELLS = (252, 300)  # of the sheet, in pixels
# What stands on it: case, repair, photograph, painting, upper left corner, how often magnified.
SHOWN: list[tuple[str, str, str, str, tuple[int, int], int]] = [
    ("adain", "dehalo", "rocket", "stained_glass", (60, 180), 1),
    ("adain", "palette", "astronaut", "woodcut", (148, 0), 1),
    ("ghiasi", "degrid", "rocket", "stained_glass", (30, 330), 3),
    ("johnson", "degrid", "coffee", "stained_glass", (10, 450), 3),
    ("artflow-rbmad", "degrid", "rocket", "swirls", (30, 330), 3),
    ("styleflow", "degrid", "rocket", "swirls", (30, 330), 3),
]


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


def sheet() -> Tensor:
    """Parts of samples, with each repair off and on."""
    cells: list[tuple[str, Tensor]] = []
    for label, repair, content, style, (top, left), times in SHOWN:
        name, options, _ = CASES[label]
        height, width = (side // times for side in CELLS)
        for on in (False, True):
            method: Any = load(name, device="cpu", **options, **{repair: on})
            given = painting(style) if method.learnt is None else style
            out = method(photo(content), method.prepare([given]))
            part = out[:, top : top + height, left : left + width]
            part = part.repeat_interleave(times, -1).repeat_interleave(times, -2)
            cells.append((f"{label}, {repair if on else f'no {repair}'}", part))
    return labelled(cells, 4)


def costs(size: int) -> str:
    """How long each of the repairs takes by itself."""
    height, width = size, size * 3 // 2
    generator = torch.Generator().manual_seed(0)
    pictures, contents = torch.rand(2, 1, 3, height, width, generator=generator)
    origin = Origin(contents, Moments.of(painting("swirls")).normalised())
    times = {}
    for name, repair in REPAIRS.items():
        spent = []
        for _ in range(7):
            began = time.perf_counter()
            repair(pictures.clone(), origin)
            spent.append(time.perf_counter() - began)
        times[name] = min(spent)
    each = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in times.items())
    return f"At {width}x{height} ({machine(pictures.device)}, torch {torch.__version__}): {each}."


def table(rows: dict[tuple[str, str], list[list[float]]], before: str) -> list[str]:
    """Its lines; those of other cases as they stand in ``before``."""
    lines = {}
    for line in before.splitlines():
        parts = line.split(" | ")
        if line.startswith("| ") and not line.startswith(("| method", "| ---")):
            lines[parts[0].removeprefix("| "), parts[1]] = line
    for (label, named), each in rows.items():
        paint, style, content, grid, ring, astray = map(statistics.mean, zip(*each, strict=True))
        lines[label, named] = (
            f"| {label} | {named} | {len(each)} | {paint:.3f} | {style:.3f} | {content:.3f} | "
            f"{1000 * grid:.2f} | {100 * ring:.2f} | {100 * astray:.1f} % |"
        )
    order = ["photographs", *CASES]
    heads = [
        f"| method | repairs | {' | '.join(HEADS)} |",
        f"| --- | --- |{' ---: |' * len(HEADS)}",
    ]
    return heads + [line for _, line in sorted(lines.items(), key=lambda x: order.index(x[0][0]))]


def arguments() -> argparse.Namespace:
    parser = judged(__doc__)
    parser.add_argument("--case", nargs="*", default=list(CASES))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--every", type=int, default=5, help="judge every Nth pair only")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    return parser.parse_args()


def main() -> None:
    args = arguments()
    vgg = judge(args)
    seen = Remembering(vgg)
    paintings = {path.stem: read(path).rgb for path in list_pictures(args.styles)}
    drawings = {name: painting(name) for name in DRAWINGS}
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for label in args.case:
        name, options, repairs = CASES[label]
        styles = drawings if label.endswith("drawings") else paintings
        pairs = list(itertools.product(list_pictures(args.contents), styles))[:: args.every]
        for on in choices(repairs):
            wanted = {repair: repair in on for repair in repairs}
            method: Any = load(name, device="cpu", precision=args.precision, **options, **wanted)
            named = " + ".join(on) or "none"
            for path, style_name in pairs:
                content, style = (
                    resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], args.size))
                    for rgb in (read(path).rgb, styles[style_name])
                )
                own = ("photographs", "")
                if styles is paintings and len(rows[own]) < len(pairs):
                    rows[own].append([0, 1, 0, grid_energy(content), 0, stray(content, style)])
                learnt = method.learnt
                if learnt is not None and style_name not in learnt:
                    continue
                out = method(content, method.prepare([style if learnt is None else style_name]))
                figures = [
                    paint_share(vgg, out, content, style),
                    statistics.mean(relative_moments_distance(seen, out, content, style).values()),
                    content_distance(seen, out, content),
                    *(grid_energy(out), halo(out, content), stray(out, style)),
                ]
                rows[label, named].append(figures)
                shown = " ".join(f"{figure:.4f}" for figure in figures)
                print(f"{label} {named} {path.stem} x {style_name} {shown}", flush=True)
                if args.pictures:
                    stem = f"{label}-{path.stem}-{style_name}-{named}.png"
                    write(args.pictures / stem.replace(" ", ""), out)
    before = args.out.read_text(encoding="utf-8") if args.out.exists() else ""
    lines = [
        f"Means over pairs (johnson: those of its own paintings) at {args.size} px short side, "
        f"judged by VGG-19. {costs(args.size)}",
        "",
        *table(rows, before),
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    write(DOCS / "finish.jpg", sheet(), quality=85)


if __name__ == "__main__":
    main()
