"""Whether the repairs of pictures earn their keep: every model with each of its repairs on and off.

    python benchmarks/finish.py GALLERY [--model adain ...] [--size 384] [--pictures DIR] [--figure]

GALLERY holds `content/` and `style/`. Paint, style and content are as in benchmarks/arbitrary.py,
judged by `compact`. Grid is the energy of what repeats every 2 or 4 pixels, in thousandths; halo
how much flat areas near what stands before them differ in their change of colour from what is flat
farther away, in hundredths; stray the share of the pixels whose colour is far from all of the
painting's, and far the distance of the 99th of 100 to the nearest of them, in hundredths; ms what
the repairs take. Prints and writes the table of benchmarks/finish.md, whose text below it stays.
With --figure docs/img/finish.jpg instead: parts of pictures of 768 px without and with each repair,
at 200 %.
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
from common import machine, sheet
from torch import Tensor
from torch.nn import functional as F

from impasto.backbones import load_backbone
from impasto.finish import Origin, finished
from impasto.images import fit, read, resize, write
from impasto.methods import load
from impasto.samples import PHOTOGRAPHS, photograph
from impasto.study.metrics import (
    Remembering,
    content_distance,
    grid_energy,
    paint_share,
    relative_moments_distance,
)

# Model -> method, options, repairs that are tried.
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "adain": ("adain", {}, ("palette", "dehalo")),
    "ghiasi": ("ghiasi", {}, ("degrid",)),
    "johnson": ("johnson", {}, ("degrid",)),
    "johnson-bottleneck": ("johnson", {"network": "bottleneck"}, ("degrid",)),
    "artflow": ("artflow", {}, ("degrid",)),
    "artflow-rbmad": ("artflow", {"operator": "rbmad"}, ("degrid",)),
    "styleflow": ("styleflow", {}, ("degrid",)),
    "styleflow-rbmad": ("styleflow", {"operator": "rbmad"}, ("degrid",)),
    "wct": ("wct", {}, ()),
}
PAIRS = (
    "golden_gate:starry_night golden_gate:great_wave golden_gate:the_kiss golden_gate:wanderer "
    "tuebingen:wheat_field tuebingen:the_kiss tuebingen:great_wave taj_mahal:turner_storm "
    "venice:starry_night bolzano:wheat_field lion:the_kiss astronaut:turner_storm"
)
HEADS = ["paint", "style", "content", "grid", "halo", "stray", "far", "ms"]
CELL = 8  # pixels of a cell in which halos are measured
NEAR, AWAY = 4, 12  # cells: a halo is within the first, and compared with what is within the second
FLAT = 0.02  # deviation of light in a cell that counts as flat
FAR = 0.1  # distance in RGB, 0..1, of a stray colour
MARK = "<!-- written by hand from here -->"

# Of the picture: model and repair -> the pair, and where its part is, down and across, as shares.
SHOWN: dict[tuple[str, str], tuple[str, tuple[float, float]]] = {
    ("adain", "palette"): ("golden_gate:starry_night", (0.64, 0.66)),
    ("adain", "dehalo"): ("tuebingen:great_wave", (0.36, 0.55)),
    ("ghiasi", "degrid"): ("golden_gate:starry_night", (0.2, 0.25)),
    ("johnson", "degrid"): ("golden_gate:starry_night", (0.3, 0.25)),
    ("johnson-bottleneck", "degrid"): ("tuebingen:wheat_field", (0.4, 0.2)),
    ("artflow", "degrid"): ("golden_gate:starry_night", (0.3, 0.3)),
    ("artflow-rbmad", "degrid"): ("golden_gate:great_wave", (0.3, 0.3)),
    ("styleflow", "degrid"): ("golden_gate:starry_night", (0.3, 0.3)),
    ("styleflow-rbmad", "degrid"): ("golden_gate:starry_night", (0.3, 0.3)),
}
LARGE = 768  # short side of the pictures shown
PART = (112, 168)  # height and width of a part


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


def strayed(out: Tensor, style: Tensor) -> tuple[float, float]:
    """Share of the pixels farther than :data:`FAR` from every colour of the painting, and how far
    the 99th of 100 is.
    """
    ours = out[:, ::6, ::6].flatten(1).T
    theirs = style[:, ::6, ::6].flatten(1).T
    away = torch.cat([torch.cdist(part, theirs).amin(1) for part in ours.split(1024)])
    return float((away > FAR).float().mean()), float(away.quantile(0.99))


def choices(repairs: tuple[str, ...]) -> list[tuple[str, ...]]:
    """None of the repairs, each, and so on up to all."""
    counts = range(len(repairs) + 1)
    return [each for count in counts for each in itertools.combinations(repairs, count)]


def pictures(gallery: Path, pair: str, size: int) -> tuple[Tensor, Tensor]:
    """Photograph and painting, of that short side."""
    content, style = pair.split(":")
    return tuple(
        resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], size))
        for rgb in (
            photograph(content)
            if content in PHOTOGRAPHS
            else read(gallery / "content" / f"{content}.jpg").rgb,
            read(gallery / "style" / f"{style}.jpg").rgb,
        )
    )


def part(picture: Tensor, at: tuple[float, float]) -> Tensor:
    """What is around a place, twice as large."""
    top, left = (
        round(min(max(0, share * side - length / 2), side - length))
        for share, side, length in zip(at, picture.shape[-2:], PART, strict=True)
    )
    cut = picture[:, top : top + PART[0], left : left + PART[1]]
    return cut.repeat_interleave(2, 1).repeat_interleave(2, 2)


def painted(method: Any, content: Tensor, style: Tensor, title: str, on: tuple[str, ...]) -> Tensor:
    """With these repairs."""
    method.finish = on
    out: Tensor = method(content, ready(method, style, title))
    return out


def ready(method: Any, style: Tensor, title: str) -> Any:
    """The painting as the method wants it."""
    return method.prepare([style if method.learnt is None else title])


def parts(models: dict[str, Any], gallery: Path) -> list[tuple[str, Tensor]]:
    """Two of SHOWN in a row, each without and with its repair."""
    cells = []
    for (label, repair), (pair, at) in SHOWN.items():
        content, style = pictures(gallery, pair, LARGE)
        repairs = CASES[label][2]
        for word, on in (
            ("without", tuple(name for name in repairs if name != repair)),
            ("with", repairs),
        ):
            out = painted(models[label], content, style, pair.split(":")[1], on)
            cells.append((f"{label}, {word} {repair}", part(out, at)))
    return cells


def seconds(method: Any, content: Tensor, out: Tensor, style: Any, on: tuple[str, ...]) -> float:
    """What repairs take, of three times the least."""
    origin = Origin(content[None], method.colors(style), 1.0, method.model.period)
    taken = []
    for _ in range(3):
        copy = out[None].clone()
        began = time.perf_counter()
        finished(copy, origin, on)
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gallery", type=Path, help="folder with content/ and style/")
    parser.add_argument("--model", nargs="*", default=list(CASES))
    parser.add_argument("--pairs", nargs="*", default=PAIRS.split(), metavar="CONTENT:STYLE")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--pictures", type=Path, help="folder to keep the results in")
    parser.add_argument("--figure", action="store_true", help="draw docs/img/finish.jpg alone")
    args = parser.parse_args()

    judge = load_backbone("compact")
    models: dict[str, Any] = {
        label: load(CASES[label][0], device="cpu", precision="float32", **CASES[label][1])
        for label in args.model
    }
    if args.figure:
        sheet("finish", parts(models, args.gallery), 4)
        return
    photographs, rows = [], defaultdict(list)
    for pair in args.pairs:
        remembering = Remembering(judge)
        content, style = pictures(args.gallery, pair, args.size)
        photographs.append([0, 1, 0, grid_energy(content), 0, *strayed(content, style), 0])
        for label, method in models.items():
            title, repairs = pair.split(":")[1], CASES[label][2]
            if method.learnt is not None and title not in method.learnt:
                continue
            for on in choices(repairs):
                out = painted(method, content, style, title, on)
                named = " + ".join(on) or "none"
                left = relative_moments_distance(remembering, out, content, style)
                rows[label, named].append(
                    [
                        paint_share(judge, out, content, style),
                        statistics.mean(left.values()),
                        content_distance(remembering, out, content),
                        *(grid_energy(out), halo(out, content), *strayed(out, style)),
                        seconds(method, content, out, ready(method, style, title), on),
                    ]
                )
                if args.pictures:
                    stem = f"{label}-{pair.replace(':', '-')}-{'-'.join(on) or 'none'}"
                    write(args.pictures / f"{stem}.png", out)
        print(pair, flush=True)
    lines = [
        f"Mean over {len(args.pairs)} pairs (johnson: those of its own paintings) at {args.size} "
        f"px short side, judged by `compact` ({machine(torch.device('cpu'))}, torch "
        f"{torch.__version__}).",
        "",
        f"| model | repairs | {' | '.join(HEADS)} |",
        f"| --- | --- |{' ---: |' * len(HEADS)}",
    ]
    for (label, named), each in {("the photographs", ""): photographs, **rows}.items():
        paint, near, kept, grid, ring, astray, far, spent = (
            statistics.mean(column) for column in zip(*each, strict=True)
        )
        lines.append(
            f"| {label} | {named} | {paint:.3f} | {near:.3f} | {kept:.3f} | {1000 * grid:.2f} | "
            f"{100 * ring:.2f} | {100 * astray:.1f} % | {100 * far:.1f} | {1000 * spent:.0f} |"
        )
    print("\n".join(lines))
    if args.model == list(CASES):
        file = Path(__file__).with_suffix(".md")
        text = file.read_text(encoding="utf-8").partition(MARK)[2] if file.exists() else "\n"
        file.write_text("\n".join([*lines, "", MARK]) + text, encoding="utf-8")


if __name__ == "__main__":
    main()
