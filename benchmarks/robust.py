"""What robustness does to a ResNet-18's reconstructions and its style: report 5, Fig. 3.2 to 3.5.

    python benchmarks/robust.py --standard standard.safetensors --robust robust.safetensors

The two files come from `impasto train encoder` with recipes/robust/resnet18.toml. Photographs are
scikit-image's, paintings impasto's own. Draws docs/img/robust-content.jpg (from noise, every
stage's features alone), docs/img/robust-style.jpg (the Gram matrices up to every stage) and
docs/img/robust-transfer.jpg, and writes benchmarks/robust.md, where `slim` judges.
`--transfer-only` makes the last two alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch
from common import machine
from skimage import data

from impasto.backbones import load_backbone, load_vgg
from impasto.images import fit, read, resize, write
from impasto.methods.gatys import Gatys
from impasto.samples import draw
from impasto.study.figures import labelled
from impasto.study.metrics import (
    content_distance,
    feature_distance,
    luminance_ssim,
    relative_gram_distance,
)
from impasto.study.reconstruct import reconstruct
from impasto.tensors import load_tensors

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "img"
PAIRS = (("coffee", "swirls"), ("chelsea", "stained_glass"), ("astronaut", "ink_wash"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--standard", type=Path, required=True)
    parser.add_argument("--robust", type=Path, required=True)
    parser.add_argument("--size", type=int, default=160, help="of the reconstructions")
    parser.add_argument("--transfer-size", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--transfer-only", action="store_true")
    args = parser.parse_args()
    files = {"standard": args.standard, "robust": args.robust}
    weights: dict[str, Path | str] = {"random": "random", **files}
    nets = {name: load_backbone("resnet18", which) for name, which in weights.items()}
    known = {name: json.loads(load_tensors(path)[1]["figures"]) for name, path in files.items()}
    kinds = (("content", read(data.chelsea()).rgb), ("style", draw("swirls", 512)))
    for kind, picture in () if args.transfer_only else kinds:
        sheet = reconstruct(
            *(picture, nets, kind),
            size=args.size,
            iterations=args.iterations,
            device="cpu",
            on_progress=lambda done, total, name, step: (
                print(f"{done}/{total} {name}", flush=True) if step.iteration == 1 else None
            ),
        )
        write(DOCS / f"robust-{kind}.jpg", sheet)
    judge = load_vgg("slim")
    cells, rows = [], []
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in weights}
    for photo, painting in PAIRS:
        content, style = read(getattr(data, photo)()).rgb, read(draw(painting, 512)).rgb
        content = resize(content, fit(*content.shape[-2:], args.transfer_size))
        style = resize(style, fit(*style.shape[-2:], args.transfer_size))
        for name, which in weights.items():
            method = Gatys("resnet18", backbone_weights=which, device="cpu")
            out = method(content, method.prepare([style]))
            grams = relative_gram_distance(judge, out, content, style).values()
            seen[name].append(
                (
                    statistics.mean(grams),
                    content_distance(judge, out, content),
                    feature_distance(judge, out, content),
                    luminance_ssim(out, content),
                )
            )
            cells.append((f"{name} weights", out))
            print(photo, painting, name, seen[name][-1], flush=True)
    side = args.transfer_size
    square = [(name, middle(out, side)) for name, out in cells]
    write(DOCS / "robust-transfer.jpg", labelled(square, columns=len(weights)))
    for name in weights:
        shares = known.get(name)
        told = [f"{shares[k]:.1%}" for k in ("clean", "attacked")] if shares else ["", ""]
        means = [f"{statistics.mean(column):.3f}" for column in zip(*seen[name], strict=True)]
        rows.append(f"| {name} | {' | '.join([*told, *means])} |")
    lines = [
        f"ResNet-18, nine classes; transfer at {side} px, mean of {len(PAIRS)} pairs, judged by "
        f"slim ({machine(torch.device('cpu'))}, torch {torch.__version__}).",
        "",
        "| weights | accuracy | under attack | Gram distance | content | features | SSIM |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    out_file = HERE / "robust.md"
    out_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out_file.read_text(encoding="utf-8"))


def middle(picture: torch.Tensor, side: int) -> torch.Tensor:
    """A square from the middle of a picture ``(3, H, W)``."""
    top, left = ((length - side) // 2 for length in picture.shape[-2:])
    return picture[:, top : top + side, left : left + side]


if __name__ == "__main__":
    main()
