"""A photograph in the manner of itself: how much of it every method gives back.

    python benchmarks/identity.py [--size 320]

On scikit-image's free photographs, in float32. Writes benchmarks/identity.md.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from common import machine

from impasto.images import fit, resize
from impasto.methods import load
from impasto.samples import PHOTOGRAPHS, photograph
from impasto.study.compare import available
from impasto.study.metrics import luminance_ssim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=320)
    args = parser.parse_args()
    pictures = []
    for name in PHOTOGRAPHS:
        rgb = photograph(name)
        pictures.append(resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], args.size)))
    lines = [
        f"{', '.join(PHOTOGRAPHS)}, short side {args.size} px ({machine(torch.device('cpu'))}, "
        f"float32, torch {torch.__version__}).",
        "",
        "| method | SSIM | least | off by, of 255 |",
        "| --- | ---: | ---: | ---: |",
    ]
    rows = []
    for label, (name, own) in available().items():
        method = load(name, device="cpu", precision="float32", **own)
        if method.learnt is not None:
            continue
        likeness, off = [], []
        for rgb in pictures:
            out = method(rgb, method.prepare([rgb]))
            likeness.append(luminance_ssim(out, rgb))
            off.append(255 * float((out - rgb).abs().mean()))
        rows.append((statistics.mean(likeness), min(likeness), statistics.mean(off), label))
        print(rows[-1], flush=True)
    for mean, least, off_by, label in sorted(rows, reverse=True):
        lines.append(f"| {label} | {mean:.3f} | {least:.3f} | {off_by:.1f} |")
    out_file = Path(__file__).with_suffix(".md")
    out_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out_file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
