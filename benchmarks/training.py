"""Short trainings side by side: batch sizes, optimisers, upsampling.

    python benchmarks/training.py --photos DIR --paintings DIR [--recipes recipes/study/*.toml]

Every recipe sees the same number of pairs. Draws the validation loss over the pairs seen into
docs/img/training.png and writes benchmarks/training.md. A run that is there already is not run
again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from matplotlib.figure import Figure

from impasto.device import tune
from impasto.tensors import load_tensors
from impasto.training.logs import history
from impasto.training.train import read_recipe, train

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--paintings", type=Path, required=True)
    parser.add_argument("--recipes", type=Path, nargs="*")
    parser.add_argument("--run", type=Path, default=HERE.parent / "build" / "study")
    args = parser.parse_args()
    tune()  # as the command line does
    recipes = args.recipes or sorted((HERE.parent / "recipes" / "study").glob("*.toml"))
    figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    rows, machine = [], ""
    for recipe in recipes:
        run = args.run / recipe.stem
        out = run / "model.safetensors"
        began = time.monotonic()
        if not out.exists():
            train("adain", args.photos, args.paintings, recipe, run, out, resume=True)
            (run / "seconds").write_text(f"{time.monotonic() - began:.0f}", encoding="utf-8")
        (stage,) = read_recipe(recipe, "adain")
        batch = stage.training.batch
        seen = [row for row in history(run) if "validation" in row]
        axes.plot(
            [row["step"] * batch for row in seen],
            [row["validation"] for row in seen],
            label=recipe.stem,
        )
        figures = json.loads(load_tensors(out)[1]["figures"])
        machine = figures["machine"]
        losses = figures["validation"]
        rows.append(
            f"| {recipe.stem} | {stage.training.steps} x {batch} | {losses['content']:.3f} | "
            f"{losses['style']:.3f} | {sum(losses.values()):.3f} | "
            f"{(run / 'seconds').read_text(encoding='utf-8')} |"
        )
        print(rows[-1], flush=True)
    axes.set_xlabel("pairs seen")
    axes.set_ylabel("validation loss")
    axes.legend()
    figure.savefig(HERE.parent / "docs" / "img" / "training.png")
    lines = [
        f"AdaIN, the same number of pairs for each ({machine}); weighted losses on pictures held "
        "out.",
        "",
        "| recipe | steps x batch | content | style | sum | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    (HERE / "training.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
