"""What several benchmarks share: who judges, how a process is measured, sheets of pictures."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from impasto.backbones import VGG, load_vgg
from impasto.device import describe, tune
from impasto.images import fit, resize, write
from impasto.study.figures import labelled

__all__ = ["DOCS", "apart", "judge", "judged", "machine", "peak_memory", "sheet"]

DOCS = Path(__file__).parent.parent / "docs" / "img"

tune()  # as the command line does


def judged(description: str) -> argparse.ArgumentParser:
    """A parser for pairs of pictures that VGG-19 judges."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--contents", type=Path, required=True)
    parser.add_argument("--styles", type=Path, required=True)
    parser.add_argument("--vgg", type=Path, required=True)
    parser.add_argument("--convention", required=True)
    parser.add_argument("--photos", type=Path, help="photographs to normalise VGG-19 with")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--pictures", type=Path, help="folder to keep the results in")
    return parser


def judge(args: argparse.Namespace) -> VGG:
    """VGG-19 as :func:`judged`'s arguments name it."""
    return load_vgg("vgg19", args.vgg, convention=args.convention, photos=args.photos)


def apart(script: str, *words: str) -> dict[str, Any]:
    """The figures that ``script`` prints as JSON in its last line, in a process of its own."""
    command = [sys.executable, script, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextmanager
def peak_memory(figures: dict[str, Any], device: torch.device) -> Iterator[None]:
    """Put what the block takes at most, in MB beside what was there, under ``peak``."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    if device.type == "cuda":
        figures["peak"] = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        figures["peak"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def machine(device: torch.device) -> str:
    """In words."""
    return describe(device, torch.float32).removesuffix(", float32")


def sheet(
    name: str, cells: Sequence[tuple[str, Tensor]], columns: int, side: int | None = None
) -> None:
    """Write ``docs/img/NAME.jpg``, a name above each picture, below 250 kB.

    ``side`` is the short side that the pictures are reduced to; None leaves them as they are.
    """
    if side is not None:
        cells = [(label, resize(p, fit(*p.shape[-2:], side))) for label, p in cells]
    for quality in (88, 80, 70, 55, 40, 25):
        path = write(DOCS / f"{name}.jpg", labelled(cells, columns), quality=quality)
        if path.stat().st_size < 250_000:
            break
