"""How good the methods for any painting are: every content with every style, judged by VGG-19.

    python benchmarks/arbitrary.py --contents DIR --styles DIR --vgg vgg19.safetensors \
        --convention caffe [--photos DIR] [--method ghiasi ...] [--model FILE] [--size 384]

Paint is the share of the way from the content to the style by the relaxed earth mover's distance of
relu4_1 at half size, style the relative mean/deviation distance (relu1_1..relu4_1, 1 is the content
as it was), gram that of Gram matrices, content the distance of instance-normalised relu4_1, SSIM
that of luminance to the content's. Prints and writes benchmarks/arbitrary.md; how long the methods
take says benchmarks/passes.py.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from common import judge, judged

from impasto.images import fit, list_pictures, read, resize, write
from impasto.methods import load
from impasto.study.metrics import (
    Remembering,
    content_distance,
    luminance_ssim,
    paint_share,
    relative_gram_distance,
    relative_moments_distance,
)


def main() -> None:
    parser = judged(__doc__)
    parser.add_argument("--method", nargs="*", default=["ghiasi", "adain", "wct", "gatys"])
    parser.add_argument("--model", type=Path, help="a model file, with one --method")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--every", type=int, default=1, help="judge every Nth pair only")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()

    vgg = judge(args)
    seen = Remembering(vgg)
    options = {} if args.model is None else {"model": args.model}
    methods = {
        name: load(name, device="cpu", precision=args.precision, **options) for name in args.method
    }
    contents, styles = list_pictures(args.contents), list_pictures(args.styles)
    pairs = [(c, s) for c in contents for s in styles][:: args.every]
    rows: dict[str, list[list[float]]] = {name: [] for name in methods}
    for content_path, style_path in pairs:
        content, style = (
            resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], args.size))
            for rgb in (read(content_path).rgb, read(style_path).rgb)
        )
        for name, method in methods.items():
            out = method(content, method.prepare([style]))
            figures = [
                paint_share(vgg, out, content, style),
                statistics.mean(relative_moments_distance(seen, out, content, style).values()),
                statistics.mean(relative_gram_distance(seen, out, content, style).values()),
                content_distance(seen, out, content),
                luminance_ssim(out, content),
            ]
            rows[name].append(figures)
            shown = " ".join(f"{figure:.3f}" for figure in figures)
            print(f"{content_path.stem} x {style_path.stem} {name} {shown}", flush=True)
            if args.pictures:
                write(args.pictures / f"{content_path.stem}-{style_path.stem}-{name}.png", out)
    heads = ["paint", "style", "gram", "content", "SSIM"]
    lines = [
        f"Mean over {len(pairs)} pairs at {args.size} px short side, judged by VGG-19 "
        f"({next(iter(methods.values())).settings['device']}, torch {torch.__version__}).",
        "",
        f"| method | {' | '.join(heads)} |",
        f"| --- |{' ---: |' * len(heads)}",
    ]
    for name, figures in rows.items():
        means = [statistics.mean(column) for column in zip(*figures, strict=True)]
        lines.append(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
