"""Every bundled method on pictures that none was trained on, beside report 1's Table 1.

    python benchmarks/comparison.py --contents DIR --styles DIR --vgg vgg19.safetensors \
        --convention caffe [--photos DIR] [--size 320] [--folder DIR] [--model FILE]...

A model file enters under its own name, such as a network trained by a recipe of recipes/published.

As `impasto compare`, whose sheet, scatter and page go to the folder; an interrupted run goes on.
Writes benchmarks/comparison.md and, from the scatter, docs/img/comparison.png. Report 1 adds "the
common parts" of its methods' losses, scaled so that they can be compared, and gives no more of
them; ours is the mean/deviation distance to the painting that is left (relu1_1..relu4_1) plus the
distance of instance-normalised relu4_1 to the photograph, both by VGG-19.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from common import judge, judged

from impasto.device import choose_precision, describe
from impasto.images import list_pictures
from impasto.study.compare import available, compare, of_files

# Report 1, Table 1: "Loss of different models". Its baseline is Johnson's network.
PAPER = {
    "johnson": 11.1,
    "johnson-bottleneck": 4.69,
    "artflow": 1.52,
    "artflow-rbmad": 1.38,
    "styleflow": 1.12,
    "styleflow-rbmad": 1.29,
}
SHOWN = ("paint", "style", "content", "gram", "color", "features", "ssim")


def main() -> None:
    parser = judged(__doc__)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--folder", type=Path, default=Path("build/comparison"))
    parser.add_argument("--model", type=Path, action="append", default=[])
    args = parser.parse_args()
    means = compare(
        *(
            args.contents,
            args.styles,
            args.folder,
            {**available(), **of_files(args.model)},
            judge(args),
        ),
        size=args.size,
        device="cpu",
        on_progress=lambda done, total, name: print(f"{done}/{total} {name}", flush=True),
    )
    device = torch.device("cpu")
    machine = describe(device, choose_precision("auto", device))
    order = sorted(means, key=lambda name: means[name]["style"][0] + means[name]["content"][0])
    pairs = len(list_pictures(args.contents)) * len(list_pictures(args.styles))
    lines = [
        f"Short side {args.size} px, judged by VGG-19 ({machine}, torch "
        f"{torch.__version__}); mean and standard error over {pairs} pairs.",
        "",
        f"| method | report 1 | style + content | {' | '.join(SHOWN)} |",
        f"| --- |{' ---: |' * (len(SHOWN) + 2)}",
    ]
    for name in order:
        row = means[name]
        cells = [f"{row[measure][0]:.3f} ± {row[measure][1]:.3f}" for measure in SHOWN]
        total = row["style"][0] + row["content"][0]
        lines.append(f"| {name} | {PAPER.get(name, '')} | {total:.3f} | {' | '.join(cells)} |")
    docs = Path(__file__).parent.parent / "docs" / "img"
    shutil.copyfile(args.folder / "scatter.png", docs / "comparison.png")
    out = Path(__file__).with_suffix(".md")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
