"""Time and peak memory of the methods of one pass, at 512x512 and 1024x1024.

    python benchmarks/passes.py [--vgg vgg19.safetensors --convention caffe] [--device auto]

With --vgg, AdaIN at VGG-19's width too (Huang & Belongie's network; its decoder has random weights,
which takes the same time). Every configuration runs in a process of its own, so that its peak
memory is its own. The style is prepared before, once; times are the median of five pictures. Writes
benchmarks/passes.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from skimage import data

from impasto.device import describe
from impasto.images import read, resize
from impasto.methods import load
from impasto.methods.adain import AdaIN
from impasto.networks.decoder import HUANG

HERE = Path(__file__).parent


def measure(name: str, options: dict[str, Any], size: int) -> None:
    """Render and print the figures as JSON."""
    content = resize(read(data.coffee()).rgb[:, :, 100:500], (size, size))
    style = read(data.chelsea()).rgb
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    method: Any = load(name, **options)
    prepared = method.prepare([style])
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        method(content, prepared)
        seconds.append(time.perf_counter() - began)
    if method.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    machine = describe(method.device, torch.float32).removesuffix(", float32")
    # The first picture allocates memory and measures the style.
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "peak": peak, "machine": machine}))


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
    rows, machine = [], ""
    with tempfile.TemporaryDirectory() as folder:
        nets: dict[str, tuple[str, dict[str, Any]]] = {
            "adain (compact)": ("adain", {}),
            "wct (compact)": ("wct", {}),
        }
        if args.vgg:
            wide = AdaIN.untrained(
                encoder="vgg19",
                taps=["relu4_1"],
                widths=HUANG,
                encoder_weights=args.vgg,
                loss_convention=args.convention,
            )
            model = Path(folder) / "vgg.safetensors"
            wide.save(model, {})
            vgg = {"encoder_weights": str(args.vgg), "convention": args.convention}
            nets["adain (VGG-19 width)"] = ("adain", {"model": str(model), **vgg})
        for label, (name, options) in nets.items():
            for size in (512, 1024):
                for precision in ("float32", "bfloat16"):
                    one = json.dumps(options | {"precision": precision, "device": args.device})
                    command = [sys.executable, __file__, "--one", name, one, str(size)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    figures = json.loads(done.stdout.splitlines()[-1])
                    machine = figures["machine"]
                    rows.append(
                        f"| {label} | {size} | {precision} | {figures['seconds']:.2f} | "
                        f"{figures['peak']:.0f} |"
                    )
                    print(rows[-1], flush=True)
    lines = [
        f"One square picture, the style prepared before ({machine}, torch {torch.__version__}).",
        "",
        "| method | px | precision | seconds | peak MB |",
        "| --- | ---: | --- | ---: | ---: |",
        *rows,
    ]
    (HERE / "passes.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
