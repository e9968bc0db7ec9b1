"""Whether the paintings that `impasto suggest` ranks first lose less of a photograph.

    python benchmarks/suggest.py --contents DIR --styles DIR --vgg vgg19.safetensors \
        --convention caffe [--photos DIR] [--more DIR] [--method ghiasi] [--size 256] [--rows FILE]

Renders every photograph with every painting, and correlates distances of colour and texture with
what is lost: content (distance of instance-normalised relu4_1), features (distance of features of
unit length), SSIM (one minus it), and with paint (the share of the way to the painting), all judged
by VGG-19. `--rows` keeps what was measured; the same command goes on. Writes benchmarks/suggest.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import judge, judged, machine
from torch import Tensor

from impasto.files import save
from impasto.images import list_pictures
from impasto.methods import DEFAULT, load
from impasto.study.inputs import at_size
from impasto.study.metrics import (
    Remembering,
    content_distance,
    feature_distance,
    luminance_ssim,
    paint_share,
)
from impasto.study.suggest import suggest

LOSSES = ("content", "features", "1 - SSIM", "paint")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of texture in the total
RESAMPLED = 2000  # sets of paintings, drawn with replacement


def measured(args: Any, contents: Sequence[Path], styles: Sequence[Path]) -> dict[str, list[float]]:
    """:data:`LOSSES` of every pair, by ``photograph/painting``."""
    rows: dict[str, list[float]] = {}
    if args.rows.exists():
        rows = json.loads(args.rows.read_text(encoding="utf-8"))
    vgg = judge(args)
    method = load(args.method, device="cpu", precision=args.precision)
    for style_path in styles:
        painting = at_size(style_path, args.size)
        style = method.prepare([painting])
        for content_path in contents:
            pair = f"{content_path.name}/{style_path.name}"
            if pair in rows:
                continue
            content = at_size(content_path, args.size)
            cached, out = Remembering(vgg), method(content, style)
            rows[pair] = [
                content_distance(cached, out, content),
                feature_distance(cached, out, content),
                1 - luminance_ssim(out, content),
                paint_share(vgg, out, content, painting),
            ]
            print(pair, *(f"{value:.3f}" for value in rows[pair]), flush=True)
            args.rows.parent.mkdir(parents=True, exist_ok=True)
            save(args.rows, json.dumps(rows).encode())
    return rows


def table(
    contents: Sequence[Path], folder: Path, rows: dict[str, list[float]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Distances of a folder's paintings, and :data:`LOSSES`, each ``(photographs, paintings)``."""
    styles = list_pictures(folder)
    lost = torch.tensor([[rows[f"{c.name}/{s.name}"] for s in styles] for c in contents])
    found = [{each.style: each for each in suggest(c, folder, device="cpu")} for c in contents]
    color, texture, total = (
        torch.tensor([[getattr(row[s], name) for s in styles] for row in found]).double()
        for name in ("color", "texture", "total")
    )
    losses = dict(zip(LOSSES, lost.double().movedim(2, 0), strict=True))
    return {"colour": color, "texture": texture, "both": total}, losses


def ranks(values: Tensor) -> Tensor:
    """Ranks along the last dimension, means of ties, so that a set may hold an item twice."""
    below = (values[..., None, :] < values[..., None]).sum(-1)
    same = (values[..., None, :] == values[..., None]).sum(-1)
    return below + (same - 1) / 2


def correlation(one: Tensor, two: Tensor) -> Tensor:
    """Pearson's, along the last dimension."""
    one, two = (x - x.mean(-1, keepdim=True) for x in (one, two))
    return (one * two).sum(-1) / (one.norm(dim=-1) * two.norm(dim=-1)).clamp(min=1e-12)


def by_rank(distance: Tensor, loss: Tensor) -> float:
    """Spearman's correlation over the paintings ``(photographs, paintings)``, mean."""
    return float(correlation(ranks(distance), ranks(loss)).mean())


def by_pair(distance: Tensor, loss: Tensor) -> float:
    """Correlation of what is neither the painting's own nor the photograph's own."""
    distance, loss = (x - x.mean(0) - x.mean(1, keepdim=True) + x.mean() for x in (distance, loss))
    return float(correlation(distance.flatten(), loss.flatten()))


def interval(measure: Any, distance: Tensor, loss: Tensor) -> str:
    """A correlation, and where 90 % of those over paintings drawn with replacement are."""
    rng = torch.Generator().manual_seed(0)
    count = distance.shape[1]
    drawn = [torch.randint(count, (count,), generator=rng) for _ in range(RESAMPLED)]
    values = sorted(measure(distance[:, chosen], loss[:, chosen]) for chosen in drawn)
    low, high = values[RESAMPLED // 20], values[-RESAMPLED // 20]
    return f"{measure(distance, loss):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = judged(__doc__)
    parser.set_defaults(precision="auto")
    parser.add_argument("--method", default=DEFAULT)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--more", type=Path, help="a larger folder, ranked too")
    parser.add_argument("--rows", type=Path, default=Path("build/suggest.json"))
    args = parser.parse_args()
    contents = list_pictures(args.contents)
    folders = [args.styles] if args.more is None else [args.styles, args.more]
    rows = measured(args, contents, [path for folder in folders for path in list_pictures(folder)])
    first: list[str] = []
    for folder in folders:
        distances, losses = table(contents, folder, rows)
        count = losses["content"].shape[1]
        for name, distance in distances.items():
            cells = [interval(by_rank, distance, loss) for loss in losses.values()]
            first.append(f"| {name}, {count} paintings | {' | '.join(cells)} |")
    pairs = [
        f"| {name} | {' | '.join(interval(by_pair, distance, loss) for loss in losses.values())} |"
        for name, distance in distances.items()
    ]
    shares = []
    for share in SHARES:
        distance = (1 - share) * distances["colour"] + share * distances["texture"]
        cells = [f"{by_rank(distance, loss):.2f}" for loss in losses.values()]
        shares.append(f"| {share:g} | {' | '.join(cells)} |")
    order = distances["both"].argsort(1)
    third = count // 3
    parts = {f"{third} nearest": order[:, :third], f"{third} farthest": order[:, -third:]}
    means = [
        f"| {name} | "
        f"{' | '.join(f'{loss.gather(1, part).mean():.3f}' for loss in losses.values())} |"
        for name, part in parts.items()
    ]
    lines = [
        f"{len(contents)} photographs by {args.method} at {args.size} px, judged by VGG-19 "
        f"({machine(torch.device('cpu'))}, torch {torch.__version__}); in "
        "brackets 90 % of the values over paintings drawn with replacement. All tables but the "
        f"first are of the {count} paintings, where distances of colour and of texture have a rank "
        f"correlation of {by_rank(distances['colour'], distances['texture']):.2f}.",
    ]
    for title, body in {
        "rank correlation of the distance of": first,
        "correlation within pairs of the distance of": pairs,
        "rank correlation, texture's share": shares,
        "mean of the": means,
    }.items():
        rule = f"| --- |{' ---: |' * len(LOSSES)}"
        lines += ["", f"| {title} | {' | '.join(LOSSES)} |", rule, *body]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
