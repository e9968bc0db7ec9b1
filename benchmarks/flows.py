"""The four reversible networks: what each costs, what it makes, and its grid.

    python benchmarks/flows.py

Parameters, multiply-adds, time of a 512x512 picture, losses on validation and the grid (energy at
periods of 2 and 4 pixels, with one pass, with the mean of 2 or 4 shifted ones, and by default,
beside the photographs' own) go to benchmarks/flows.md; photographs of scikit-image's in two of
impasto's own styles to docs/img/flows.jpg, a part of one with and without its grid to
docs/img/flows-grid.jpg, and photographs that are stylised and brought back to
docs/img/flows-back.jpg.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import machine, sheet
from gallery import painting, photo
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from impasto import load
from impasto.images import fit, resize
from impasto.methods.model import bundled
from impasto.methods.reversible import SHIFTS
from impasto.study.metrics import grid_energy, luminance_ssim
from impasto.tensors import load_tensors

FLOWS: dict[str, tuple[str, str]] = {
    "artflow": ("artflow", "adain"),
    "artflow-rbmad": ("artflow", "rbmad"),
    "styleflow": ("styleflow", "san"),
    "styleflow-rbmad": ("styleflow", "rbmad"),
}
PHOTOS = ("coffee", "chelsea", "astronaut", "rocket")
STYLES = ("swirls", "stained_glass")
SIZE = 240  # short side of a result on the sheets
CURES = {  # against the grid: shifts, and whether what is left is taken away
    "1 shift": (1, False),
    "2 shifts": (2, False),
    "4 shifts": (4, False),
    "2 shifts, degrid": (2, True),
}
DEFAULT = "2 shifts, degrid"


def flow(label: str, cure: str) -> Any:
    method, operator = FLOWS[label]
    shifts, degrid = CURES[cure]
    return load(method, operator=operator, shifts=shifts, degrid=degrid, device="cpu")


def row(label: str, grids: dict[str, float]) -> str:
    """Of the table."""
    path = bundled(label)
    count = sum(p.numel() for p in flow(label, DEFAULT).model.network.parameters())
    picture, drawn = torch.rand(3, 512, 512), painting("swirls")
    seconds: dict[str, float] = {}
    for cure in CURES:
        method = flow(label, cure)
        style = method.prepare([drawn])
        method(picture, style)
        if method.shifts == SHIFTS[:1]:
            with FlopCounterMode(display=False) as counter:
                method(picture, style)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            method(picture, style)
            times.append(time.perf_counter() - began)
        seconds[cure] = statistics.median(times)
    figures = json.loads(load_tensors(path)[1]["figures"])
    losses = figures["validation"]
    return (
        f"| {label} | {count / 1e6:.2f} M | {path.stat().st_size / 1e6:.1f} | "
        f"{counter.get_total_flops() / 2e9:.1f} G | "
        f"{' | '.join(f'{seconds[cure]:.2f}' for cure in CURES)} | {figures['steps']} | "
        f"{losses['content']:.2f} | {losses['style']:.2f} | "
        f"{' | '.join(f'{1000 * grids[cure]:.2f}' for cure in CURES)} |"
    )


def magnified(picture: Tensor, side: int = 96, by: int = 3) -> Tensor:
    """The upper left of a picture, every pixel a square."""
    part = picture[:, 20 : 20 + side, 20 : 20 + side]
    return part.repeat_interleave(by, -1).repeat_interleave(by, -2)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    contents = [photo(name) for name in PHOTOS]
    shape = fit(contents[0].shape[-2], contents[0].shape[-1], SIZE)
    contents = [resize(content, shape) for content in contents]
    styles = {name: painting(name) for name in STYLES}
    own = statistics.mean(map(grid_energy, contents))
    rows: list[str] = []
    compared = [[("photograph", content)] for content in contents for _ in STYLES]
    parts: list[tuple[str, Tensor]] = []
    back: list[tuple[str, Tensor]] = []
    for label in FLOWS:
        grids: dict[str, list[float]] = {cure: [] for cure in CURES}
        for cure in CURES:
            method = flow(label, cure)
            for index, content in enumerate(contents):
                for number, (name, drawn) in enumerate(styles.items()):
                    out = method(content, method.prepare([drawn]))
                    grids[cure].append(grid_energy(out))
                    if cure == DEFAULT:
                        compared[index * len(STYLES) + number].append((f"{label}, {name}", out))
                    if (index, number) == (3, 0):
                        named = f"{label}, {cure}: {1000 * grid_energy(out):.1f}"
                        parts.append((named, magnified(out)))
                    if cure == DEFAULT and (index, number) == (1, 0):
                        again = method(out, method.prepare([content]))
                        likeness = luminance_ssim(again, content)
                        back += [("photograph", content), (label, out)]
                        back.append((f"and back: {likeness:.2f}", again))
        rows.append(row(label, {cure: statistics.mean(each) for cure, each in grids.items()}))
        print(rows[-1], flush=True)
    cells = [cell for line in compared for cell in line]
    sheet("flows", cells, 1 + len(FLOWS), 136)
    sheet("flows-grid", parts, len(CURES))
    sheet("flows-back", back, 6, 160)
    heads = ["network", "parameters", "MB", "multiply-adds"]
    heads += [f"s, {cure}" for cure in CURES] + ["steps", "content", "style"]
    heads += [f"grid, {cure}" for cure in CURES]
    lines = [
        f"A 512x512 picture ({machine(torch.device('cpu'))}, float32, torch {torch.__version__}): "
        "multiply-adds of one pass, and seconds. Weighted losses on pairs "
        "held out. Grid: rms of what repeats every 2 or 4 pixels, in thousandths of the range of "
        f"luminance, mean over {len(PHOTOS) * len(STYLES)} results; the photographs' own is "
        f"{1000 * own:.2f}.",
        "",
        f"| {' | '.join(heads)} |",
        f"| --- |{' ---: |' * (len(heads) - 1)}",
        *rows,
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
