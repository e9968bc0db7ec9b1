"""How a Johnson network should be told its strength: three short trainings side by side.

    python benchmarks/strength.py --photos DIR [--steps 200]

A strength as one more channel of the input would be taken away by the first instance normalisation,
so it has to enter through the scales and shifts of all. `rows` mixes those of the photograph and of
the painting (what impasto does); `ends` does too, but has only met strengths 0 and 1 in training;
`input` has scales and shifts that are a function of the strength, of second degree: the mixture and
a third row times s (1 - s). All see the same photographs. Writes benchmarks/strength.md, the loss
at five strengths on photographs held out, whose statistics aimed at are mixed accordingly.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from common import machine
from torch import Tensor, nn

from impasto.images import fit, list_pictures, read, resize, write
from impasto.networks.transformer import Transformer
from impasto.samples import draw
from impasto.training.methods.johnson import JohnsonTraining, untrained

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
WAYS = ("ends", "rows", "input")
SIDE, BATCH, HELD_OUT = 96, 4, 16


class Bent(nn.Module):
    """A network with a third row that counts most at half the strength."""

    def __init__(self, widths: tuple[int, ...], blocks: int, expansion: float) -> None:
        super().__init__()
        self.network = Transformer("bottleneck", widths, blocks, expansion, rows=3)

    def forward(self, pictures: Tensor, mix: Tensor) -> Tensor:
        """As :class:`Transformer`, of two rows."""
        out: Tensor = self.network(pictures, torch.cat([mix, mix.prod(1, keepdim=True)], 1))
        return out


def crops(photos: Path) -> Tensor:
    """The middle of every photograph, reduced, ``(n, 3, SIDE, SIDE)``."""
    made = []
    for path in list_pictures(photos):
        rgb = read(path).rgb
        height, width = fit(*rgb.shape[-2:], SIDE)
        top, left = (height - SIDE) // 2, (width - SIDE) // 2
        made.append(resize(rgb, (height, width))[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(made)


def trained(way: str, painting: Path, pictures: Tensor, steps: int) -> JohnsonTraining:
    torch.manual_seed(0)
    training = untrained(
        [painting], network="bottleneck", expansion=2, noise=False, color_weight=0.0, full=0.5
    )
    if way == "input":
        config = training.model.config
        bent = Bent(config.widths, config.blocks, config.expansion)
        training.model.network = training.network = bent  # type: ignore[assignment]
    optimizer = torch.optim.Adam(training.network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(0)
    for step in range(1, steps + 1):
        contents = pictures[torch.randint(len(pictures), (BATCH,), generator=rng)]
        drawn = torch.rand(2, BATCH, generator=rng)
        between = drawn[1].round() if way == "ends" else drawn[1]
        strength = torch.where(drawn[0] < training.full, 1.0, between)
        terms = training.loss_at(contents, torch.zeros(BATCH, dtype=torch.long), strength)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(training.network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(way, step, {name: round(float(term.detach()), 3) for name, term in terms.items()})
    return training


@torch.no_grad()
def loss(training: JohnsonTraining, pictures: Tensor, strength: float) -> float:
    """Weighted, mean over ``pictures``."""
    training.network.eval()
    chosen = torch.zeros(len(pictures), dtype=torch.long)
    terms = training.loss_at(pictures, chosen, torch.full((len(pictures),), strength))
    return sum(float(term) for term in terms.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    pictures = crops(args.photos)
    held_out, pictures = pictures[:HELD_OUT], pictures[HELD_OUT:]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        painting = Path(folder) / "swirls.png"
        write(painting, read(draw("swirls", 256)).rgb)
        for way in WAYS:
            training = trained(way, painting, pictures, args.steps)
            losses = [loss(training, held_out, strength) for strength in STRENGTHS]
            rows.append(f"| {way} | {' | '.join(f'{value:.2f}' for value in losses)} |")
            print(rows[-1], flush=True)
    lines = [
        f"Weighted loss at strengths from 0 to 1 after {args.steps} steps of {BATCH} crops of "
        f"{SIDE} px, on {HELD_OUT} photographs held out ({machine(torch.device('cpu'))}).",
        "",
        f"| way | {' | '.join(map(str, STRENGTHS))} |",
        f"| --- |{' ---: |' * len(STRENGTHS)}",
        *rows,
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
