"""`impasto train`: train a method's network, or an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import InputError
from .console import begin, say
from .declared import Command, of_methods, typed, values_of, was, without_none
from .running import running, stop

__all__ = ["train_app"]

NETWORK = of_methods(("device", "convention"))
PROMISE = "stopping after this step with a checkpoint"


class _Trainables(TyperGroup):
    """The group of `impasto train`: a first word that is not a subcommand names a method."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        _, command, rest = super().resolve_command(ctx, ["METHOD", *args])
        return args[0], command, rest


class _OfMethod(Command):
    """The command of `impasto train METHOD`; its usage line shows the method's name."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]"]


train_app = typer.Typer(
    cls=_Trainables,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""Train a method's network, or the encoder that impasto bundles.

Examples:

    impasto train adain --photos photos/ --paintings paintings/ --recipe recipes/adain.toml

    impasto train METHOD --help

    impasto train encoder --help
""",
)


@train_app.command("METHOD", cls=_OfMethod)
@was(backbone_weights="vgg")
@typed(NETWORK)
def train_method(
    method: Annotated[str, typer.Argument(help="A method that can be trained, such as adain.")],
    photos: Annotated[Path, typer.Option(help="Folder of photographs, including subfolders.")],
    paintings: Annotated[
        Path | None,
        typer.Option(help="Folder of paintings, unless the method needs only photographs."),
    ] = None,
    style: Annotated[
        list[Path] | None,
        typer.Option("--style", "-s", help="For johnson: a painting to learn; may be repeated."),
    ] = None,
    style_size: Annotated[
        int | None,
        typer.Option(
            help="For johnson: short side of the paintings in pixels; larger gives larger strokes."
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML; see recipes/. Default: the method's defaults.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of checkpoints, logs and pictures. Default: runs/METHOD."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The model to write. Default: METHOD.safetensors in run."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps; overrides the recipe.", min=1)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="TABLE.KEY=VALUE in all stages; overrides the recipe; may be repeated."
        ),
    ] = None,
    backbone_weights: Annotated[
        Path | None,
        typer.Option(help="Weights of VGG, if the recipe's encoder or loss network is VGG."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that prepare pictures; 0 prepares them between the steps. Default: 2.",
            min=0,
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, or float16 (CUDA); mixed with float32.")
    ] = "auto",
    devices: Annotated[int, typer.Option(help="Processes, one for each device.", min=1)] = 1,
    nodes: Annotated[int, typer.Option(help="Number of machines.", min=1)] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning strategy, such as ddp.")] = "auto",
    **options: Any,
) -> None:
    """Train a method's network on photographs and paintings.

    Ctrl-C ends a run with a checkpoint; --resume goes on from it, or from where a kill left it.

    Examples:

        impasto train adain --photos photos/ --paintings paintings/ --recipe recipes/adain.toml

        impasto train adain --photos photos/ --paintings paintings/ --run runs/mine --resume

        impasto train adain --photos photos/ --paintings paintings/ --set training.batch=2

        impasto train adain --photos photos/ --paintings paintings/ --devices 4 --strategy ddp

        impasto train johnson --photos photos/ --style night.jpg --style wave.jpg
    """
    from ..errors import Interrupted
    from ..training.accelerator import Hardware, is_main
    from ..training.recipes import parse_set
    from ..training.train import train

    run = run or Path("runs") / method
    style_options = {"styles": style, "style_size": style_size}
    values = {"device": "auto", "convention": None, **values_of(NETWORK, options)}
    hardware = Hardware(values["device"], precision, devices, nodes, strategy)
    changes = dict(map(parse_set, option or []))
    if workers is not None:
        if "data.workers" in changes:
            raise InputError("data.workers: set by --workers and by --set; leave one out")
        changes["data.workers"] = workers
    begin()
    with running(method, PROMISE) as work:
        try:
            train(
                *(method, photos, paintings, recipe, run, out or run / f"{method}.safetensors"),
                resume=resume,
                steps=steps,
                options=without_none(style_options),
                changes=changes,
                backbone_weights=backbone_weights,
                convention=values["convention"],
                hardware=hardware,
                on_progress=work.train,
                log=say.print,
            )
        except Interrupted as stopped:
            if not is_main():
                return  # the main process reports; a failing child would make it be killed
            stop(f"stopped at step {stopped.steps}; the same command with --resume continues")


@train_app.command("encoder", cls=Command)
@typed(NETWORK)
def train_encoder(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    backbone: Annotated[
        str,
        typer.Option(
            help="compact or slim, distilled from VGG-19; or resnet18, resnet50, with labels."
        ),
    ] = "compact",
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="TOML; see recipes/compact.toml, recipes/slim.toml. A ResNet needs none."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of checkpoints, which are resumed. Default: runs/BACKBONE."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps; overrides the recipe.", min=1)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE; overrides the recipe; may be repeated."),
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Distilled: folder of photographs.")] = None,
    paintings: Annotated[Path | None, typer.Option(help="Distilled: folder of paintings.")] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Distilled: VGG-19 weights with torchvision's names, up to relu4_1 or deeper."
        ),
    ] = None,
    teacher_relu5: Annotated[
        Path | None,
        typer.Option(
            help="Distilled: a 16-times-smaller VGG-19 for relu5_1, if the teacher lacks it."
        ),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            help="ResNet: a folder with one subfolder per class, or with files named "
            "CLASS_NUMBER.jpg; may be repeated."
        ),
    ] = None,
    adversarial: Annotated[
        bool | None,
        typer.Option(help="ResNet: train on adversarial pictures, for robust weights (Madry)."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="ResNet: weights of an earlier training to begin with."),
    ] = None,
    **options: Any,
) -> None:
    """Distil a bundled encoder from VGG-19, or train a ResNet, standard or robust.

    Examples:

        impasto train encoder --photos photos/ --paintings paintings/ --teacher vgg19.safetensors
        --convention caffe --recipe recipes/compact.toml -o compact.safetensors

        impasto train encoder --backbone resnet18 --pictures labelled/ -o standard.safetensors

        impasto train encoder --backbone resnet18 --pictures labelled/ --adversarial
        --start standard.safetensors --run runs/robust -o robust.safetensors
    """
    from ..backbones.records import BUNDLED
    from ..errors import Interrupted
    from ..images.places import check_place
    from ..training.recipes import parse_set

    check_place(out)
    values = {"device": "auto", "convention": None, **values_of(NETWORK, options)}
    run = run or Path("runs") / backbone
    changes = dict(map(parse_set, option or []))
    if backbone in BUNDLED:
        if pictures or start or adversarial is not None:
            raise InputError(
                "--pictures, --adversarial and --start are for --backbone resnet18 or resnet50"
            )
        required = {"--photos": photos, "--paintings": paintings, "--teacher": teacher}
        required |= {"--recipe": recipe}
        missing = [flag for flag, value in required.items() if not value]
        if missing:
            raise InputError(f"the encoder {backbone} is distilled: give {', '.join(missing)} too")
    elif not pictures:
        raise InputError(f"{backbone} learns from labelled pictures: name a folder, --pictures DIR")
    begin()
    with running(backbone, PROMISE) as work:
        try:
            if backbone in BUNDLED:
                from ..training.encoder import train

                train(
                    *(photos, paintings, teacher, values["convention"], teacher_relu5),  # type: ignore[arg-type]
                    *(recipe, run, out, steps, say.print),  # type: ignore[arg-type]
                    name=backbone,
                    changes=changes,
                    device=values["device"],
                    on_progress=work.train,
                )
                return
            from ..training.classify import classify

            classify(
                *(backbone, pictures, recipe, run, out),  # type: ignore[arg-type]
                start=start,
                adversarial=adversarial,
                steps=steps,
                changes=changes,
                device=values["device"],
                on_progress=work.train,
                log=say.print,
            )
        except Interrupted as stopped:
            stop(f"stopped at step {stopped.steps}; the same command resumes")
