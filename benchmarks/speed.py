"""Time, iterations and peak memory of a 512x512 picture with the default schedule.

    python benchmarks/speed.py [--vgg vgg19.safetensors --convention caffe] [--device auto]
        [--vgg-iterations 6]

VGG-19 runs the default schedule too, or --vgg-iterations at every size where that takes too long.
Every configuration runs in a process of its own, so that its peak memory is its own. Writes
benchmarks/speed.md and, side by side, what float32 and bfloat16 make: docs/img/precision.jpg.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from common import apart, machine, peak_memory, sheet
from skimage import data

from impasto.device import choose_device, choose_precision
from impasto.images import read, resize, write
from impasto.methods.gatys import Gatys
from impasto.samples import draw

HERE = Path(__file__).parent
SIZE = 512


def measure(options: dict[str, Any], painting: Path, out: Path) -> None:
    """Render once and print the figures as JSON."""
    content = resize(read(data.coffee()).rgb[:, :, 100:500], (SIZE, SIZE))
    sources = [read(painting)]
    device = choose_device(options["device"])
    figures: dict[str, Any] = {"machine": machine(device)}
    steps = []
    with peak_memory(figures, device):
        method = Gatys(**options)
        style = method.prepare(sources)
        began = time.perf_counter()
        result = method(
            content, style, 1.0, lambda step: steps.append((step.size, time.perf_counter()))
        )
        figures["seconds"] = time.perf_counter() - began
    write(out, result)
    finest = [stamp for size, stamp in steps if min(size) == SIZE]
    figures["iterations"] = len(steps)
    figures["per_iteration"] = (finest[-1] - finest[0]) / max(1, len(finest) - 1)
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vgg", type=Path)
    parser.add_argument("--convention")
    parser.add_argument("--vgg-iterations", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--painting", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(json.loads(args.one), args.painting, args.to)
        return
    # Drawing takes memory of its own: not in the process that is measured.
    painting = HERE.parent / "build" / "swirls.png"
    write(painting, read(draw("swirls")).rgb)
    backbones: dict[str, dict[str, Any]] = {"compact": {"backbone": "compact"}}
    if args.vgg:
        backbones["VGG-19 to relu4_1"] = {
            "backbone": "vgg19",
            "backbone_weights": str(args.vgg),
            "convention": args.convention,
        }
        if args.vgg_iterations:
            backbones["VGG-19 to relu4_1"]["iterations"] = args.vgg_iterations
    rows, pictures = [], []
    figures: dict[str, Any] = {}
    for name, options in backbones.items():
        for precision in ("float32", "bfloat16"):
            to = HERE.parent / "build" / f"speed-{options['backbone']}-{precision}.png"
            one = json.dumps(options | {"precision": precision, "device": args.device})
            files = ["--painting", str(painting), "--to", str(to)]
            figures = apart(__file__, "--one", one, *files)
            rows.append(
                f"| {name} | {precision} | {figures['seconds']:.1f} | {figures['iterations']} | "
                f"{figures['per_iteration']:.2f} | {figures['peak']:.0f} |"
            )
            print(rows[-1], flush=True)
            pictures.append(read(to).rgb)
    chosen = str(choose_precision("auto", choose_device(args.device))).removeprefix("torch.")
    where = figures["machine"]
    lines = [
        f"One {SIZE}x{SIZE} picture, default schedule ({where}; `auto` chooses {chosen}).",
        "",
        "| backbone | precision | seconds | iterations | s per iteration at 512 px | peak MB |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    (HERE / "speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sheet("precision", list(zip(("float32", "bfloat16"), pictures[:2], strict=True)), 2)


if __name__ == "__main__":
    main()
