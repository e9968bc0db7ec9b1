"""Whether a large picture is the small one, larger and sharp: the brush of the methods of one pass.

    python benchmarks/brush.py --contents DIR --styles DIR [--method ghiasi] [--size 2048] \
        [--pictures DIR] [--sheet PAIR]

Every photograph is painted at a short side of 512 px and, enlarged, at ``--size``: with the brush,
in one pass at the pixel, and by plain enlargement of the small picture. Alike is the SSIM of
luminance to the small picture, once all are reduced to 512 px; sharp is the mean gradient of
luminance at 100 %, as a share of that of one pass at the pixel. Prints and writes
benchmarks/brush.md; ``--sheet`` also writes docs/img/brush.jpg of a pair.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from common import machine, sheet
from torch import Tensor

from impasto.color import luminance_of
from impasto.images import fit, list_pictures, read, resize, write
from impasto.methods import load
from impasto.study.figures import labelled
from impasto.study.metrics import luminance_ssim

PAIRS = (
    "tuebingen:starry_night lion:the_kiss venice:wheat_field golden_gate:great_wave "
    "taj_mahal:turner_storm bolzano:wanderer"
)
WAYS = {"brush 1": 1.0, "one pass at the pixel": None}
SMALL = 512
WHOLE = 400  # height on the sheet, of whole pictures and of parts


def gradient(picture: Tensor) -> float:
    """Mean of the steps of luminance between neighbours, both ways."""
    light = luminance_of(picture)[0]
    return float(light.diff(dim=0).abs().mean() + light.diff(dim=1).abs().mean())


def cells(pictures: dict[str, Tensor], middle: tuple[float, float]) -> list[tuple[str, Tensor]]:
    """Whole pictures, then a part of each at 100 % around ``middle``, with their names."""
    wholes, parts = [], []
    for name, picture in pictures.items():
        height, width = picture.shape[-2:]
        whole = resize(picture, (WHOLE, round(width * WHOLE / height)))
        across = whole.shape[-1]
        top, left = (
            round(min(max(0, at * side - part / 2), side - part))
            for at, side, part in zip(middle, (height, width), (WHOLE, across), strict=True)
        )
        wholes.append((name, whole))
        parts.append((f"{name}, 100 %", picture[:, top : top + WHOLE, left : left + across]))
    return wholes + parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--contents", type=Path, required=True)
    parser.add_argument("--styles", type=Path, required=True)
    parser.add_argument("--method", default="ghiasi")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--pairs", nargs="*", default=PAIRS.split(), metavar="CONTENT:STYLE")
    parser.add_argument("--pictures", type=Path, help="folder to keep sheets of all pairs in")
    parser.add_argument("--sheet", metavar="CONTENT:STYLE", help="the pair of docs/img/brush.jpg")
    parser.add_argument(
        "--middle",
        nargs=2,
        type=float,
        default=(0.5, 0.5),
        help="of the part at 100 %%, down and across, as shares",
    )
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()

    options = {} if args.model is None else {"model": args.model}
    methods = {
        way: load(args.method, brush=brush, device="cpu", **options) for way, brush in WAYS.items()
    }
    contents, styles = (
        {path.stem: path for path in list_pictures(folder)}
        for folder in (args.contents, args.styles)
    )
    rows, alike, sharp, seconds = [], [], [], []
    for pair in args.pairs:
        content, style = pair.split(":")
        photo = read(contents[content]).rgb
        small, large = (
            resize(photo, fit(photo.shape[-2], photo.shape[-1], side))
            for side in (SMALL, args.size)
        )
        made: dict[str, Tensor] = {}
        taken: list[float] = []
        for way, method in methods.items():
            known = styles[style] if method.learnt is None else style
            prepared = method.prepare([known])
            if not made:
                first = method(small, prepared)
            began = time.perf_counter()
            made[way] = method(large, prepared)
            taken.append(time.perf_counter() - began)
        made["enlarged"] = resize(first, (large.shape[-2], large.shape[-1]))
        size = (small.shape[-2], small.shape[-1])
        alike.append([luminance_ssim(resize(out, size), first) for out in made.values()])
        steps = [gradient(out) for out in made.values()]
        sharp.append([step / steps[1] for step in steps])
        seconds.append(taken)
        figures = [*alike[-1], *sharp[-1]]
        rows.append(f"| {content}, {style} | {' | '.join(f'{x:.2f}' for x in figures)} |")
        print(rows[-1], [round(x, 1) for x in taken], flush=True)
        shown = {way: made[way] for way in reversed(WAYS)}
        if args.pictures:
            everything = {**shown, "enlarged": made["enlarged"]}
            drawn = labelled(cells(everything, args.middle), len(everything))
            write(args.pictures / f"{args.method}-{content}-{style}.png", drawn)
        if pair == args.sheet:
            sheet("brush", cells(shown, args.middle), len(shown))
    means = [statistics.mean(column) for t in (alike, sharp) for column in zip(*t, strict=True)]
    spent = [statistics.mean(column) for column in zip(*seconds, strict=True)]
    lines = [
        f"Method {args.method}, photographs enlarged to a short side of {args.size} px "
        f"({machine(torch.device('cpu'))}). Alike: SSIM to the picture at {SMALL} px; sharp: mean "
        "gradient, as a share of that of one pass at the pixel.",
        "",
        "| pair | alike: brush 1 | at the pixel | enlarged "
        "| sharp: brush 1 | at the pixel | enlarged |",
        f"| --- |{' ---: |' * 6}",
        *rows,
        f"| mean | {' | '.join(f'{mean:.2f}' for mean in means)} |",
        "",
        f"A picture takes {spent[0]:.0f} s with the brush and {spent[1]:.0f} s in one pass.",
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
