"""What the training loop costs: beside a step of 50 ms that leaves the processor to others.

    python benchmarks/loop.py [--steps 100]

The step sleeps without Python's lock, as a step on a GPU leaves the host alone, and then learns a
tiny network. It is timed by itself, in the loop with pictures that are decoded once, and in the
loop with pictures that are decoded whenever they are drawn; the time that one thread takes to
decode and crop a batch is reported apart. Writes benchmarks/loop.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from impasto.device import describe
from impasto.images import write
from impasto.training.accelerator import Hardware
from impasto.training.crops import DataConfig
from impasto.training.fit import TrainingConfig, fit
from impasto.training.sets import PictureSet
from impasto.training.stream import Pairs

HERE = Path(__file__).parent
STEP, BATCH, SIZE, SHORT_SIDE, PICTURES = 0.05, 8, 128, 256, 24


class Sleeper:
    """A method whose step takes 50 ms, in which the processor is free."""

    def __init__(self) -> None:
        self.network = torch.nn.Conv2d(3, 3, 1)

    def to(self, device: torch.device) -> None:
        """The CPU has it all."""

    def loss(self, contents: Tensor, styles: Tensor) -> dict[str, Tensor]:
        """Sleep, and learn a little."""
        time.sleep(STEP)
        return {"content": (self.network(contents[..., :8, :8]) - 0.5).square().mean()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        for number in range(PICTURES):
            rng = torch.Generator().manual_seed(number)
            coarse = torch.rand(1, 3, 40, 50, generator=rng)
            picture = torch.nn.functional.interpolate(coarse, (SHORT_SIDE, 340), mode="bicubic")
            write(photos / f"{number}.jpg", picture[0].clamp(0, 1))
        alone = median(bare(args.steps))
        rows = [("the step alone", alone, "")]
        for name, memory in (("decoded once", 2.0), ("decoded whenever drawn", 0.0)):
            run = Path(folder) / name
            steps, waiting = in_the_loop(photos, memory, args.steps, run)
            more = f"{(median(steps) - alone) / alone:+.1%}, {waiting:.1%} waiting for data"
            rows.append((f"in the loop, pictures {name}", median(steps), more))
        for name, memory in (("cropping", 2.0), ("decoding and cropping", 0.0)):
            batch = pairs(photos, memory)
            took = [timed(lambda step=step, batch=batch: draw(batch, step)) for step in range(12)]
            rows.append((f"{name} a batch, one thread", median(took), ""))
    machine = describe(torch.device("cpu"), torch.float32)
    lines = [
        f"The training loop beside a step of {STEP * 1e3:.0f} ms that leaves the processor free "
        f"({machine}; {BATCH} crops of {SIZE} px from pictures of {SHORT_SIDE} x 340; two threads "
        f"prepare batches; median of {args.steps} steps). By `benchmarks/loop.py`.",
        "",
        "| what | ms | beside the step alone |",
        "| --- | ---: | --- |",
        *(f"| {name} | {seconds * 1e3:.1f} | {more} |" for name, seconds, more in rows),
    ]
    (HERE / "loop.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def bare(steps: int) -> list[float]:
    """The step in plain PyTorch, without a loop's cares."""
    method, batch = Sleeper(), torch.rand(BATCH, 3, SIZE, SIZE)
    optimizer = torch.optim.Adam(method.network.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack([*method.loss(batch, batch).values()]).sum().backward()
        optimizer.step()

    return [timed(step) for _ in range(steps)]


def pairs(photos: Path, memory: float) -> Pairs:
    config = DataConfig(size=SIZE, short_side=SHORT_SIDE, scales=True, workers=2, memory=memory)
    return Pairs(PictureSet([photos], SHORT_SIDE, memory=memory), None, config)


def draw(batch: Pairs, step: int) -> object:
    return [batch[index] for index in range(step * BATCH, (step + 1) * BATCH)]


def in_the_loop(photos: Path, memory: float, steps: int, run: Path) -> tuple[list[float], float]:
    """Seconds from one step to the next, and the share of them spent waiting for data."""
    config = TrainingConfig(
        steps=steps, batch=BATCH, validate_every=steps, validation=BATCH, samples_every=0
    )
    times = [0.0]

    def on_progress(step: int, total: int, loss: float) -> None:
        times.append(time.perf_counter())

    figures = fit(
        Sleeper(),
        pairs(photos, memory),
        config,
        run,
        hardware=Hardware("cpu", "float32"),
        on_progress=on_progress,
        log=lambda line: None,
    )
    waiting = figures["waiting"]
    assert isinstance(waiting, float)
    return [b - a for a, b in pairwise(times)][1:], waiting


if __name__ == "__main__":
    main()
