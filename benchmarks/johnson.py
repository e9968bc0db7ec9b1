"""Johnson's network in both kinds: what each costs, and what it makes.

    python benchmarks/johnson.py

Parameters, multiply-adds, time of a 512x512 picture and the losses on validation of each bundled
model go to benchmarks/johnson.md; photographs of scikit-image's in every style to
docs/img/johnson.jpg, and strengths from 0 to 1 to docs/img/johnson-strength.jpg.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from common import machine, sheet
from gallery import HEIGHT, WIDTH, photo
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from impasto import load
from impasto.images import fit, resize
from impasto.methods.johnson import FILES, Johnson
from impasto.tensors import load_tensors

PHOTOS = ("coffee", "chelsea", "astronaut", "rocket")
SIZE, SHOWN = 256, 112  # short side of a result, and of its picture on the sheets
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def row(kind: str, method: Johnson, path: Path) -> str:
    """Of the table."""
    network = method.model.network
    count = sum(p.numel() for p in network.parameters())
    picture = torch.rand(3, 512, 512)
    style = method.prepare([next(iter(method.learnt))])
    with FlopCounterMode(display=False) as counter:
        method(picture, style)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        method(picture, style)
        seconds.append(time.perf_counter() - began)
    figures = json.loads(load_tensors(path)[1]["figures"])
    losses = figures["validation"]
    steps = "+".join(str(stage["steps"]) for stage in figures.get("stages", [figures]))
    return (
        f"| {kind} | {count / 1e6:.2f} M | {counter.get_total_flops() / 2e9:.1f} G | "
        f"{1000 * statistics.median(seconds[1:]):.0f} | {path.stat().st_size / 1e6:.1f} | "
        f"{steps} | {losses['content']:.2f} | {losses['style']:.2f} | {losses['color']:.2f} | "
        f"{sum(losses.values()):.2f} |"
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    methods = {
        kind: load("johnson", network=kind, precision="float32")
        for kind, path in FILES.items()
        if path.exists()
    }
    rows: list[str] = []
    cells: list[tuple[str, Tensor]] = []
    shape = fit(HEIGHT, WIDTH, SIZE)
    contents = {name: resize(photo(name), shape) for name in PHOTOS}
    device = torch.device("cpu")
    for kind, method in methods.items():
        assert isinstance(method, Johnson)
        device = method.device
        rows.append(row(kind, method, FILES[kind]))
        print(rows[-1], flush=True)
        for content, picture in contents.items():
            cells.append((f"{content}, {kind}", picture))
            cells += [(name, method(picture, method.prepare([name]))) for name in method.learnt]
    sheet("johnson", cells, 1 + len(method.learnt), SHOWN)
    method = next(iter(methods.values()))
    assert isinstance(method, Johnson)
    strengths = [
        (f"{name}, {a:g}", method(picture, method.prepare([name]), strength=a))
        for picture, name in zip(contents.values(), method.learnt, strict=False)
        for a in STRENGTHS
    ]
    sheet("johnson-strength", strengths, len(STRENGTHS), 144)
    lines = [
        f"A 512x512 picture ({machine(device)}, float32, torch {torch.__version__}); weighted "
        "losses on photographs held out, by VGG-19.",
        "",
        "| kind | parameters | multiply-adds | ms | file, MB | steps | content | style | colour | "
        "loss |",
        f"| --- |{' ---: |' * 9}",
        *rows,
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
