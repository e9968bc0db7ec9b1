"""Small trainings side by side, by the losses that the reports publish: curves and pictures.

    python benchmarks/training.py --group adain|johnson|flows|study --photos DIR --paintings DIR

Trains every recipe of the group (recipes/small, each some minutes on two cores; `study` is
recipes/study, by our losses), of report 1 two networks with three seeds each, and writes
benchmarks/training-GROUP.md, docs/img/training-GROUP.png (losses on pictures held out, relative to
those of the first validation) and docs/img/training-GROUP-pictures.jpg (each network on the same
pairs: photographs of scikit-image's, paintings of impasto's own). A training that has ended is not
run again, one that was cut off goes on, and one whose loss was lost says so in the table.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import DOCS, sheet
from matplotlib.figure import Figure
from skimage import data
from torch import Tensor

from impasto import load
from impasto.backbones import load_vgg
from impasto.device import tune
from impasto.errors import InputError
from impasto.images import fit, read, resize, write
from impasto.samples import draw
from impasto.study.figures import look
from impasto.study.metrics import luminance_ssim, relative_gram_distance
from impasto.tensors import load_tensors
from impasto.training.logs import history
from impasto.training.recipes import read_toml
from impasto.training.train import read_recipe, train

HERE = Path(__file__).parent
GROUPS: dict[str, tuple[str, ...]] = {  # patterns of recipes
    "adain": ("small/adain-*",),
    "johnson": ("small/johnson-*", "small/bottleneck-*"),
    "flows": ("small/artflow-*", "small/styleflow-*"),
    "study": ("study/*",),
}
SEEDS = {"johnson-report1": 3, "bottleneck-report1": 3}  # of a recipe; one otherwise
PAIRS = (("coffee", "swirls"), ("chelsea", "stained_glass"), ("astronaut", "ink_wash"))
LEARNT = "swirls"  # the painting of networks that learn one
SIDE = 160  # of the pictures that are shown


@dataclass(frozen=True)
class Training:
    """One recipe with one seed.

    Attributes:
        recipe, seed: what was trained.
        run: its folder.
        lost: why it ended early, if it did.
    """

    recipe: Path
    seed: int
    run: Path
    lost: str = ""

    @property
    def model(self) -> Path:
        """The file that it ends with."""
        return self.run / "model.safetensors"

    @property
    def batch(self) -> int:
        """Pictures in a step."""
        return read_recipe(self.recipe, self.method)[0].training.batch

    @property
    def method(self) -> str:
        """What is trained."""
        method: str = read_toml(self.recipe)["method"]
        return method

    @property
    def losses(self) -> tuple[str, ...]:
        """What its losses depend on: those of others by the same compare."""
        options = read_toml(self.recipe)["options"]
        return (self.method, str(options.get("report")), str(options.get("style_weight")))

    @property
    def curve(self) -> list[dict[str, float]]:
        """What was logged."""
        return history(self.run)

    @property
    def figures(self) -> dict[str, Any]:
        """Of the model's header."""
        figures: dict[str, Any] = json.loads(load_tensors(self.model)[1]["figures"])
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--group", choices=GROUPS, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--paintings", type=Path, required=True)
    parser.add_argument("--recipes", type=Path, nargs="*", help="instead of the group's")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "build" / "training")
    args = parser.parse_args()
    tune()  # as the command line does
    folder, group = HERE.parent / "recipes", args.group
    found = {path for pattern in GROUPS[group] for path in folder.glob(f"{pattern}.toml")}
    recipes = sorted(args.recipes or found, key=lambda path: path.stem)
    trainings = {
        recipe.stem: [
            trained(recipe, seed, args.runs / group, args.photos, args.paintings)
            for seed in range(SEEDS.get(recipe.stem, 1))
        ]
        for recipe in recipes
    }
    curves(trainings, DOCS / f"training-{group}.png")
    made = pictures(trainings)
    columns = 2 + len(trainings)
    sheet(f"training-{group}-pictures", made.cells, columns)
    lines = [*head(trainings), *(row(*each, made) for each in trainings.items())]
    out = HERE / f"training-{group}.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


def trained(recipe: Path, seed: int, runs: Path, photos: Path, paintings: Path) -> Training:
    """Train it, or go on, unless it has ended."""
    run = runs / f"{recipe.stem}-{seed}"
    lost = run / "lost"
    training = Training(recipe, seed, run)
    method = training.method
    if training.model.exists():
        return training
    if lost.exists():
        return Training(recipe, seed, run, lost.read_text(encoding="utf-8"))
    options: dict[str, Any] = {}
    if method == "johnson":
        options["styles"] = [runs / f"{LEARNT}.png"]
        write(options["styles"][0], read(draw(LEARNT, 512)).rgb)
    run.mkdir(parents=True, exist_ok=True)
    try:
        train(
            method,
            photos,
            None if options else paintings,
            recipe,
            run,
            training.model,
            resume=True,
            options=options,
            changes={"training.seed": seed},
        )
    except InputError as error:
        if "the loss is" not in str(error):
            raise
        lost.write_text(str(error), encoding="utf-8")
        return Training(recipe, seed, run, str(error))
    return training


@dataclass
class Made:
    """What the networks made of :data:`PAIRS`.

    Attributes:
        cells: of the sheet.
        gram, ssim: by recipe, of each pair.
    """

    cells: list[tuple[str, Tensor]]
    gram: dict[str, list[float]]
    ssim: dict[str, list[float]]


def pictures(trainings: dict[str, list[Training]]) -> Made:
    """Render the pairs by every network, of the first seed, without repairs."""
    judge, made = load_vgg("slim"), Made([], {}, {})
    for photo, painting in PAIRS:
        if any(each[0].method == "johnson" for each in trainings.values()):
            painting = LEARNT
        content, style = square(getattr(data, photo)()), square(draw(painting, 512))
        made.cells += [(photo, content), (painting, style)]
        for name, (training, *_) in trainings.items():
            if training.lost:
                made.cells.append((f"{name}: loss lost", torch.ones_like(content)))
                continue
            method: Any = load(
                training.method,
                model=training.model,
                raw=True,
                brush=None,
                device="cpu",
                precision="float32",
            )
            learnt = getattr(method, "learnt", None)
            out = method(content, method.prepare([LEARNT] if learnt else [style]))
            made.cells.append((name, out))
            distances = relative_gram_distance(judge, out, content, style).values()
            made.gram.setdefault(name, []).append(statistics.mean(distances))
            made.ssim.setdefault(name, []).append(luminance_ssim(out, content))
    return made


def square(picture: Any) -> Tensor:
    """The middle of a picture, of side :data:`SIDE`."""
    rgb = read(picture).rgb
    rgb = resize(rgb, fit(*rgb.shape[-2:], SIDE))
    top, left = ((length - SIDE) // 2 for length in rgb.shape[-2:])
    return rgb[:, top : top + SIDE, left : left + SIDE]


def curves(trainings: dict[str, list[Training]], path: Path) -> None:
    """Content and style losses on pictures held out, relative to the first such.

    Its mean over all trainings by the same losses is the unit, so that these compare. Recipes
    differ in marker. Thin lines are the losses of the batches, whose spread tells how
    stable a training is.
    """
    figure = Figure(figsize=(12, 5.5), dpi=100, layout="constrained")
    for axes, term in zip(figure.subplots(1, 2), ("content", "style"), strict=True):
        firsts: dict[tuple[str, ...], list[float]] = {}
        for training in (training for seeds in trainings.values() for training in seeds):
            first = next(row[f"validation/{term}"] for row in training.curve if "validation" in row)
            firsts.setdefault(training.losses, []).append(first)
        for number, (name, seeds) in enumerate(trainings.items()):
            series: dict[str, Any] = look(name, number)
            lines: dict[str, dict[str, Any]] = {
                "train": {"marker": "", "lw": 0.5, "alpha": 0.5},
                "validation": {"ms": 5, "lw": 1.5},
            }
            for training in seeds:
                unit = statistics.mean(firsts[training.losses])
                for kind, line in lines.items():
                    points = [
                        (row["step"] * training.batch, row[f"{kind}/{term}"] / unit)
                        for row in training.curve
                        if math.isfinite(row.get(f"{kind}/{term}", math.nan))
                    ]
                    label = name if (kind, training.seed) == ("validation", 0) else None
                    xs, ys = zip(*points, strict=True) if points else ((), ())
                    axes.plot(xs, ys, label=label, **series | line)
        axes.set_xlabel("pictures seen")
        axes.set_ylabel(f"{term} loss / that of the first validation")
        axes.set_yscale("log")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=4)
    figure.savefig(path)


def head(trainings: dict[str, list[Training]]) -> list[str]:
    """Of the table."""
    ended = [t for each in trainings.values() for t in each if not t.lost]
    machine = ended[0].figures["machine"] if ended else "no machine"
    seeds = max(map(len, trainings.values()))
    spread = f" With an error: mean and deviation of {seeds} seeds." if seeds > 1 else ""
    return [
        f"Losses, weighted, on pictures held out: of one report's losses alone they compare. Gram "
        f"distance (by slim) and SSIM of luminance with the photograph: means of {len(PAIRS)} "
        f"pairs, by the first seed.{spread} ({machine})",
        "",
        "| recipe | steps x batch | content | style | sum | Gram distance | SSIM |",
        "| --- |" + " ---: |" * 6,
    ]


def row(name: str, seeds: Sequence[Training], made: Made) -> str:
    """Of the table."""
    ended = [training for training in seeds if not training.lost]
    if not ended:
        return f"| {name} | {seeds[0].lost.split(': ', 1)[1].split(';')[0]} |" + " |" * 5
    losses = [training.figures["validation"] for training in ended]
    columns = [[each[term] for each in losses] for term in ("content", "style")]
    columns.append([sum(each.values()) for each in losses])
    figures = ended[0].figures
    lost = f" ({len(seeds) - len(ended)} lost)" if len(ended) < len(seeds) else ""
    cells = [f"{name}{lost}", f"{figures['steps']} x {figures['recipe']['batch']}"]
    cells += [with_error(column) for column in columns]
    cells += [
        f"{statistics.mean(each.get(name, [math.nan])):.3f}" for each in (made.gram, made.ssim)
    ]
    return f"| {' | '.join(cells)} |"


def with_error(values: Sequence[float]) -> str:
    """Mean and standard deviation, if there are several."""
    mean = f"{statistics.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


if __name__ == "__main__":
    main()
