"""Report 4's first method, and its claim that more iterations do not look better (section 3.1).

    python benchmarks/report4.py --vgg vgg19.safetensors --convention caffe [--size 160]

One run of preset `gatys-report4`: the published losses before the ReLU of VGG-19's first five
convolutions, content at the fourth, from noise, by L-BFGS; report 4 names no weights, see the
preset. Draws docs/img/report4-iterations.jpg and writes benchmarks/report4.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from common import judge, machine, sheet
from skimage import data
from torch import Tensor

from impasto.images import fit, read, resize
from impasto.methods import Step, load
from impasto.samples import draw
from impasto.study.metrics import luminance_ssim, relative_gram_distance

SHOWN = (1, 30, 100, 300, 600)  # 30, 100 and 600 are report 4's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vgg", type=Path, required=True)
    parser.add_argument("--convention", required=True)
    parser.add_argument("--photos", type=Path, help="photographs to normalise the judge with")
    parser.add_argument("--size", type=int, default=160, help="short side in pixels")
    args = parser.parse_args()
    photo, painting = (
        resize(picture, fit(*picture.shape[-2:], args.size))
        for picture in (read(data.chelsea()).rgb, read(draw("swirls", 512)).rgb)
    )
    method = load(
        "gatys-report4",
        backbone_weights=args.vgg,
        convention=args.convention,
        iterations=SHOWN[-1],
        device="cpu",
        precision="float32",
    )
    shown: list[tuple[Step, float, Tensor]] = []
    start = time.process_time()

    def on_step(step: Step) -> None:
        if step.iteration in SHOWN:
            shown.append((step, time.process_time() - start, step.picture()))
            print(step.iteration, step.loss, flush=True)

    method(photo, method.prepare([painting]), on_step=on_step)
    net = judge(args)
    rows, cells = [], [("photograph", photo)]
    for step, seconds, picture in shown:
        gram = relative_gram_distance(net, picture, photo, painting).values()
        cells.append((f"{step.iteration} iterations", picture))
        rows.append(
            f"| {step.iteration} | {step.loss:.3g} | {step.content:.3g} | {step.style:.3g} | "
            f"{sum(gram) / len(gram):.3f} | {luminance_ssim(picture, photo):.3f} | {seconds:.0f} |"
        )
    sheet("report4-iterations", cells, 3)
    height, width = photo.shape[-2:]
    lines = [
        f"One {width}x{height} picture from noise ({machine(torch.device('cpu'))}, torch "
        f"{torch.__version__}); Gram distance to the painting by VGG-19, 1 for the photograph; "
        "seconds of processor time.",
        "",
        "| iterations | loss | content | style | Gram distance | SSIM | seconds |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    out = Path(__file__).with_suffix(".md")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
