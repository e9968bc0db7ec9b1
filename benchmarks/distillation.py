"""The distillation table: pictures optimised through a small encoder, judged by VGG-19.

    python benchmarks/distillation.py --contents DIR --styles DIR --vgg vgg19.safetensors \
        --convention caffe [--encoder FILE ...] [--size 256] [--iterations 40] [--pairs 12]

Every pair is rendered with the same settings and the same number of iterations through VGG-19 and
through each encoder (default: the bundled ones); with --iterations 0 coarse to fine, by the default
schedule. Prints and writes benchmarks/distillation.md.
"""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path

import torch
from common import judge, judged

from impasto.backbones import load_backbone
from impasto.backbones.records import BUNDLED
from impasto.device import choose_device, choose_precision, describe
from impasto.images import fit, list_pictures, read, resize, write
from impasto.methods.gatys import Gatys
from impasto.study.metrics import JUDGED, relative_gram_distance
from impasto.tensors import load_tensors


def picture(path: Path, size: int) -> torch.Tensor:
    rgb = read(path).rgb
    return resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], size))


def pairs(contents: Path, styles: Path, count: int) -> list[tuple[Path, Path]]:
    """``count`` pairs in which every content and every style comes equally often."""
    cs, ss = list_pictures(contents), list_pictures(styles)
    every = [(cs[(i + j) % len(cs)], ss[i]) for j in range(len(cs)) for i in range(len(ss))]
    return list(itertools.islice(every, count))


def main() -> None:
    parser = judged(__doc__)
    parser.add_argument("--encoder", type=Path, nargs="*", default=list(BUNDLED.values()))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()

    vgg = judge(args)
    nets = {"VGG-19": judge(args)}
    for path in args.encoder:
        slim = "widths" in load_tensors(path)[1].get("config", "")
        nets[path.stem] = load_backbone("slim" if slim else "compact", path)
    device = choose_device("cpu")
    machine = describe(device, choose_precision(args.precision, device))
    rows: list[list[str]] = []
    distances: dict[str, list[float]] = {name: [] for name in nets}
    seconds: dict[str, list[float]] = {name: [] for name in nets}
    for content_path, style_path in pairs(args.contents, args.styles, args.pairs):
        content, style = picture(content_path, args.size), picture(style_path, args.size)
        row = [f"{content_path.stem} x {style_path.stem}"]
        for name, net in nets.items():
            method = Gatys(
                net,
                style_layers=JUDGED,
                content_layers=["relu4_1"],
                sizes=[0] if args.iterations else None,
                iterations=args.iterations or None,
                tolerance=0,
                device="cpu",
                precision=args.precision,
            )
            prepared = method.prepare([style])
            prepared.at(args.size)
            stamps = [time.perf_counter()]
            out = method(content, prepared, 1.0, lambda _: stamps.append(time.perf_counter()))  # noqa: B023
            each = relative_gram_distance(vgg, out, content, style)
            distances[name].append(statistics.mean(each.values()))
            seconds[name].append(statistics.median(b - a for a, b in itertools.pairwise(stamps)))
            row.append(f"{distances[name][-1]:.4f}")
            if args.pictures:
                write(args.pictures / f"{content_path.stem}-{style_path.stem}-{name}.png", out)
            print(row[0], name, {tap: round(value, 4) for tap, value in each.items()}, flush=True)
        rows.append(row)
    mean = {name: statistics.mean(values) for name, values in distances.items()}
    rate = {name: statistics.median(values) for name, values in seconds.items()}
    schedule = f"{args.iterations} iterations" if args.iterations else "the default schedule"
    lines = [
        f"Relative Gram distance after {schedule} at {args.size} px "
        f"({machine}; style relu1_1..relu4_1, content relu4_1), judged by VGG-19.",
        "",
        "| pair | " + " | ".join(nets) + " |",
        "| --- |" + " ---: |" * len(nets),
        *("| " + " | ".join(row) + " |" for row in rows),
        "| **mean** | " + " | ".join(f"**{mean[name]:.4f}**" for name in nets) + " |",
        "| relative to VGG-19 | "
        + " | ".join(f"{mean[name] / mean['VGG-19']:.2f}" for name in nets)
        + " |",
        "| seconds per iteration | " + " | ".join(f"{rate[name]:.3f}" for name in nets) + " |",
        "| time relative to VGG-19 | "
        + " | ".join(f"1/{rate['VGG-19'] / rate[name]:.1f}" for name in nets)
        + " |",
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
