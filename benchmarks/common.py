"""What several benchmarks share: who judges, and how a process is measured."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from impasto.backbones import VGG, load_vgg
from impasto.device import describe, tune

__all__ = ["apart", "judge", "judged", "machine", "peak_memory"]

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
