"""Time and peak memory of the methods of one pass, at 512x512 and 1024x1024.

    python benchmarks/passes.py [--vgg vgg19.safetensors --convention caffe] [--device auto]

Ghiasi's network as it is bundled, and as a Painter with random weights, which takes the same time;
with --vgg, AdaIN at VGG-19's width too (Huang & Belongie's network), its decoder random likewise.
Every configuration runs in a process of its own, so that its peak memory is its own. The style is
prepared before, once; times are the median of five pictures. Writes benchmarks/passes.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import apart, machine, peak_memory
from skimage import data

from impasto.device import choose_device
from impasto.images import read, resize
from impasto.methods import load
from impasto.networks.decoder import HUANG
from impasto.training.methods import TRAINABLE

HERE = Path(__file__).parent


def measure(name: str, options: dict[str, Any], size: int) -> None:
    """Render and print the figures as JSON."""
    content = resize(read(data.coffee()).rgb[:, :, 100:500], (size, size))
    style = read(data.chelsea()).rgb
    device = choose_device(options["device"])
    figures: dict[str, Any] = {"machine": machine(device)}
    seconds = []
    with peak_memory(figures, device):
        method: Any = load(name, brush=None, **options)
        prepared = method.prepare([style])
        for _ in range(6):
            began = time.perf_counter()
            method(content, prepared)
            seconds.append(time.perf_counter() - began)
    # The first picture allocates memory and measures the style.
    print(json.dumps({**figures, "seconds": statistics.median(seconds[1:])}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vgg", type=Path)
    parser.add_argument("--convention")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one[0], json.loads(args.one[1]), int(args.one[2]))
        return
    rows: list[str] = []
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        painter = Path(folder) / "painter.safetensors"
        TRAINABLE["ghiasi"].untrained(network="painter").save(painter, {})
        nets: dict[str, tuple[str, dict[str, Any]]] = {
            "ghiasi (residual)": ("ghiasi", {}),
            "ghiasi (Painter)": ("ghiasi", {"model": str(painter)}),
            "adain (slim)": ("adain", {}),
            "wct (slim)": ("wct", {}),
        }
        if args.vgg:
            wide = TRAINABLE["adain"].untrained(
                encoder="vgg19",
                layers=["relu4_1"],
                widths=HUANG,
                encoder_weights=args.vgg,
                loss_convention=args.convention,
            )
            model = Path(folder) / "vgg.safetensors"
            wide.save(model, {})
            vgg = {"backbone_weights": str(args.vgg), "convention": args.convention}
            nets["adain (VGG-19 width)"] = ("adain", {"model": str(model), **vgg})
        for label, (name, options) in nets.items():
            for size in (512, 1024):
                for precision in ("float32", "bfloat16"):
                    one = json.dumps(options | {"precision": precision, "device": args.device})
                    figures = apart(__file__, "--one", name, one, str(size))
                    rows.append(
                        f"| {label} | {size} | {precision} | {figures['seconds']:.2f} | "
                        f"{figures['peak']:.0f} |"
                    )
                    print(rows[-1], flush=True)
    where = figures["machine"]
    lines = [
        f"One square picture, the style prepared before ({where}, torch {torch.__version__}).",
        "",
        "| method | px | precision | seconds | peak MB |",
        "| --- | ---: | --- | ---: | ---: |",
        *rows,
    ]
    (HERE / "passes.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
