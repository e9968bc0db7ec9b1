"""Experiments: comparisons, sweeps, reconstructions, and content leak over rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..files import check_apart
from .console import begin, say
from .declared import of_methods, typed, values_of, was
from .running import running, stop

__all__ = ["compare", "leak", "reconstruct", "sweep"]

DEVICE = of_methods(("device",))
JUDGE = of_methods(("device", "convention"))
NETWORK = of_methods(("device", "convention", "smooth"))


@typed(JUDGE)
def compare(
    contents: Annotated[Path, typer.Option(help="Folder of photographs.")],
    styles: Annotated[Path, typer.Option(help="Folder of paintings.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    methods: Annotated[
        str, typer.Option(help="all, or some of them: adain,gatys,johnson-bottleneck.")
    ] = "all",
    model: Annotated[
        list[Path] | None,
        typer.Option(help="A model file to compare too; may be repeated.", metavar="FILE"),
    ] = None,
    size: Annotated[int, typer.Option(help="Short side of all pictures in pixels.", min=16)] = 384,
    judge: Annotated[
        str, typer.Option(help="The backbone that measures: compact (bundled), vgg19 or vgg16.")
    ] = "compact",
    judge_weights: Annotated[
        Path | None, typer.Option(help="Weights of the judge: a file, or imagenet (default).")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs to normalise VGG with.")
    ] = None,
    **options: Any,
) -> None:
    """Compare methods on every pair of pictures: tables, a sheet, a scatter plot and a web page.

    Results in OUT are not rendered again: the same command resumes an interrupted comparison, and
    further methods or pictures are added to it.

    Examples:

        impasto compare --contents photos/ --styles paintings/ -o comparison/

        impasto compare --contents photos/ --styles paintings/ -o comparison/ --methods adain,wct

        impasto compare --contents photos/ --styles paintings/ -o out/ --model mine.safetensors
    """
    from ..backbones import load_backbone
    from ..study import compare as study

    check_apart([out / name for name in study.WRITTEN], [judge_weights])
    bundled, files = study.available(_method_names(methods)), study.of_files(model or [])
    for label in bundled.keys() & files.keys():
        raise InputError(f"{files[label][1]['model']}: a method has this name; rename the file")
    values = values_of(JUDGE, options)
    convention = values.pop("convention", None)
    net = load_backbone(judge, judge_weights, convention=convention, photos=photos)
    skipped: list[str] = []

    def warn(line: str) -> None:
        skipped.append(line)
        say.print(f"impasto: {line}")

    begin()
    with running("comparing", "finishing this picture") as work:
        means = study.compare(
            *(contents, styles, out, {**bundled, **files}, net),
            size=size,
            photos=photos,
            on_progress=work.count,
            warn=warn,
            **values,
        )
        stopped = work.interrupted()
    if means:
        print((out / "table.md").read_text(encoding="utf-8"))
        say.print(str(out / "index.html"))
    if stopped:
        stop("interrupted; the same command resumes")
    if skipped:
        raise typer.Exit(1)


def sweep(
    content: Annotated[Path, typer.Argument(help="A photograph.")],
    style: Annotated[str, typer.Argument(help="A painting, a stored style, or a name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="OPTION=VALUE,VALUE; may be repeated for all combinations. + joins the items of a "
            "list, and the weight of a layer follows a colon."
        ),
    ] = None,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="Pair the values of the varied options, first with first, instead of all "
            "combinations.",
        ),
    ] = False,
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML; see recipes/sweeps/. --vary and --set override it."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="A method or preset, see `impasto methods`. Default: gatys."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="OPTION=VALUE for all pictures; may be repeated."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Short side of all results in pixels. Default: the photograph's.", min=16
        ),
    ] = None,
) -> None:
    """Render one picture with every combination of some options: a sheet, a table, loss curves.

    Options are those of `impasto stylize`. Results in OUT are not rendered again: the same command
    resumes an interrupted sweep, and further values are added to it.

    Examples:

        impasto sweep photo.jpg night.jpg --vary lr=0.001,0.1,1 --vary optimizer=lbfgs,adam -o lr/

        impasto sweep photo.jpg night.jpg --vary strength=0,0.5,1 --size 256 -o s/

        impasto sweep photo.jpg night.jpg --vary style-layers=relu1_1,relu1_1+relu2_1 -o layers/

        impasto sweep photo.jpg night.jpg --vary sizes=0,256+0 --vary iterations=700,600+100 \
        --paired -o coarse/

        impasto sweep photo.jpg night.jpg --recipe recipes/sweeps/learning-rate.toml -o rates/
    """
    from ..study import sweep as study

    read = study.Recipe("gatys", {}, {}, {}) if recipe is None else study.read_recipe(recipe)
    method = method or read.method
    varied: dict[str, list[Any]] = {}
    for text in vary or []:
        name, values = study.parse(text, method)
        varied[name] = varied.get(name, []) + values
    fixed: dict[str, Any] = {}
    for text in option or []:
        name, values = study.parse(text, method, "--set")
        fixed[name] = values[0]
        if len(values) > 1:
            raise InputError(f"--set {text!r}: give one value, or use --vary")
    if size is not None:
        flags = [flag for flag, names in (("--vary", varied), ("--set", fixed)) if "size" in names]
        if flags:
            raise InputError(f"--size and {flags[0]} size=: leave one of them out")
        fixed["size"] = size
    if recipe is not None:
        check_apart([out / name for name in study.WRITTEN], [recipe])
    recipe_fixed = {name: value for name, value in read.fixed.items() if name not in varied}
    cases = {
        label: {name: value for name, value in case.items() if name not in {**varied, **fixed}}
        for label, case in read.cases.items()
    }
    varied = {**{name: values for name, values in read.vary.items() if name not in fixed}, **varied}
    begin()
    with running("sweep", "stopping without this picture") as work:
        rows = study.sweep(
            *(content, style, out, varied),
            paired=paired,
            cases=cases,
            method=method,
            options={**recipe_fixed, **fixed},
            on_progress=work.count,
        )
        stopped = work.interrupted()
    for row in rows:
        loss = "" if row.get("loss") is None else f"  loss {row['loss']:.4g}"
        # Rows of an earlier version have no peak memory.
        memory = f"  {row['megabytes']:.0f} MB" if "megabytes" in row else ""
        done = row["fault"] or f"{row.get('seconds')} s{memory}{loss}"
        print(f"{row['label']}  {done}")
    if stopped:
        stop("interrupted; the same command resumes")
    if (out / "sheet.png").exists():  # missing if every combination failed
        say.print(str(out / "sheet.png"))
    if any(row["fault"] for row in rows):
        raise typer.Exit(1)


@was(backbone_weights="weights")
@typed(NETWORK)
def reconstruct(
    picture: Annotated[Path, typer.Argument(help="The picture to reconstruct.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The sheet to write.")],
    kind: Annotated[str, typer.Option(help="Reconstruct content or style.")] = "content",
    single: Annotated[
        bool,
        typer.Option(
            "--single",
            help="With --kind style: by the Gram matrix of each layer alone (report 5). Default: "
            "by those of all layers up to it (Gatys et al.).",
        ),
    ] = False,
    backbone: Annotated[
        str, typer.Option(help="compact or slim (bundled), vgg19, vgg16, resnet50 or resnet18.")
    ] = "compact",
    backbone_weights: Annotated[
        str,
        typer.Option(
            help="A row for each: trained, random, imagenet, robust, a bundled backbone (compact, "
            "slim), or a file of the backbone's weights."
        ),
    ] = "trained,random",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs to normalise the weights with.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Such as relu2_1,relu4_1. Default: relu1_1 to relu5_1, or conv1 to rb4."),
    ] = None,
    size: Annotated[int, typer.Option(help="Short side in pixels.", min=32)] = 224,
    pooling: Annotated[str, typer.Option(help="Pooling of the backbone: max or average.")] = "max",
    iterations: Annotated[int, typer.Option(help="Iterations for each picture.", min=1)] = 200,
    optimizer: Annotated[str, typer.Option(help="The optimiser: lbfgs or adam.")] = "lbfgs",
    lr: Annotated[float | None, typer.Option(help="Learning rate; report 5: adam, 0.05.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of noise and random weights.", min=0)] = 0,
    **options: Any,
) -> None:
    """Reconstruct a picture from noise by each layer: a sheet of layers and weights.

    Examples:

        impasto reconstruct photo.jpg -o content.png

        impasto reconstruct night.jpg --kind style --layers relu1_1,relu2_1,relu3_1 -o style.png

        impasto reconstruct photo.jpg --backbone resnet50 \
        --backbone-weights random,imagenet,robust -o s.png

        impasto reconstruct night.jpg --kind style --single --optimizer adam --lr 0.05 \
        --iterations 5000 -o single.png
    """
    from ..backbones import load_backbone
    from ..backbones.records import BACKBONES, BUNDLED, KINDS
    from ..images import check_output, list_pictures, write
    from ..study.reconstruct import reconstruct as study

    check_output(out)
    rows = [word.strip() for word in backbone_weights.split(",")]
    check_apart(out, [picture, *rows, *(list_pictures(photos, True) if photos else [])])
    values = values_of(NETWORK, options)
    convention, smooth = values.pop("convention", None), values.pop("smooth", "none")
    nets = {}
    for row in rows:
        bundled = row in BUNDLED
        by_word = {"trained": None} | dict.fromkeys(BUNDLED) | dict.fromkeys(KINDS, row)
        nets[row if row in by_word else Path(row).stem] = load_backbone(
            row if bundled else backbone,
            by_word.get(row, Path(row)),
            convention=convention,
            pooling=pooling,  # type: ignore[arg-type]
            smooth="none" if bundled and not BACKBONES[row].smooths else smooth,
            photos=photos,
            seed=seed,
        )
    begin()
    with running("reconstructing", "finishing with the pictures so far") as work:
        names = None if layers is None else [layer.strip() for layer in layers.split(",")]
        sheet = study(
            *(picture, nets, kind, names),  # type: ignore[arg-type]
            single=single,
            size=size,
            iterations=iterations,
            optimizer=optimizer,  # type: ignore[arg-type]
            lr=lr,
            seed=seed,
            on_progress=work.count,
            **values,
        )
        stopped = work.interrupted()
    settings: dict[str, Any] = {"reconstruction": kind, "single": single, "pooling": pooling}
    settings |= {"content": picture.name}
    settings |= {"backbone": backbone, "backbone_weights": list(nets), "iterations": iterations}
    write(out, sheet, settings=settings | {"optimizer": optimizer, "seed": seed})
    say.print(str(out))
    if stopped:
        stop()


@typed(DEVICE)
def leak(
    content: Annotated[Path, typer.Argument(help="A photograph.")],
    styles: Annotated[Path, typer.Option(help="Folder of paintings, used in turn.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    methods: Annotated[str, typer.Option(help="all, or some of them: adain,wct.")] = "all",
    rounds: Annotated[int, typer.Option(help="Number of stylisations.", min=1)] = 10,
    size: Annotated[int, typer.Option(help="Short side of all pictures in pixels.", min=32)] = 384,
    **options: Any,
) -> None:
    """Stylise a photograph repeatedly, and measure how much of its content each method keeps.

    Example:

        impasto study leak photo.jpg --styles paintings/ -o leak/ --methods adain,wct
    """
    from ..study.compare import available
    from ..study.leak import leak as study

    chosen = available(_method_names(methods))
    begin()
    with running("leak", "stopping with the completed methods") as work:
        curves = study(
            *(content, styles, out, chosen),
            rounds=rounds,
            size=size,
            on_progress=work.count,
            **values_of(DEVICE, options),
        )
        stopped = work.interrupted()
    for name, values in curves.items():
        print(f"{name:20} " + " ".join(f"{value:.3f}" for value in values))
    if curves:
        say.print(str(out / "leak.png"))
    if stopped:
        stop()


def _method_names(methods: str) -> list[str] | None:
    """The names in a list separated by commas; None for ``all``."""
    return None if methods == "all" else [name.strip() for name in methods.split(",")]
