"""The command line: one thin function per command."""

from __future__ import annotations

import codecs
import errno
import io
import json
import logging
import os
import shutil
import signal
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

from . import __version__
from .errors import RUNTIME, InputError, check_finite, lacks_memory, lacks_runtime
from .files import check_apart, identity, shown
from .targets import NAME, STANDARD, Content, Inputs, Job, gather, plan

if TYPE_CHECKING:
    from torch import Tensor

    from .methods import Method, Step
    from .pipeline import Transfer
    from .styles import LearntStyle, StoredStyle

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Render a photograph in the manner of a painting.",
)


class _Trainables(TyperGroup):
    """The group of `impasto train`: a first word that is no command of it names a method."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        _, command, rest = super().resolve_command(ctx, ["METHOD", *args])
        return args[0], command, rest


class _OfMethod(TyperCommand):
    """The command of `impasto train METHOD`: its usage names the method in the command's place."""

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
app.add_typer(train_app, name="train")
study_app = typer.Typer(
    no_args_is_help=True, help="Experiments of the papers, made again on your pictures."
)
app.add_typer(study_app, name="study")
say = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

INTERRUPTED = 130
WINDOWS = os.name == "nt"
THUMB = 200  # short side in pixels of a picture on the sheet of `impasto styles`
# What a line is told that names no command or option that there is: typer brings its own click.
_Usage: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command line; errors that a person can mend are one line and exit code 2."""
    try:
        with _own_warnings_alone():
            _encode_all()
            _refuse_empty(sys.argv[1:])
            code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except _Usage as error:
        if getattr(error, "ctx", None) is None or not sys.argv[1:]:
            error.show()
        else:
            where = error.ctx.command_path
            say.print(f"impasto: {error.format_message()} See `{where} --help`", style="red")
        sys.exit(error.exit_code)
    except InputError as error:
        say.print(f"impasto: {error}", style="red")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        say.print("impasto: interrupted")
        sys.exit(INTERRUPTED)
    except Exception as error:
        if _unread(error):
            _close_output()
            sys.exit(1)
        if lacks_memory(error):
            say.print("impasto: out of memory: use a smaller --size, or --device cpu", style="red")
            sys.exit(2)
        if lacks_runtime(error):
            say.print(f"impasto: {RUNTIME}", style="red")
            sys.exit(2)
        if isinstance(error, OSError):
            say.print(f"impasto: {error}: check the path and its permissions", style="red")
            sys.exit(2)
        if sys.flags.dev_mode:
            raise
        say.print(
            f"impasto: {_unexpected(error)}; `python -X dev -m impasto` shows where", style="red"
        )
        sys.exit(1)


def _unexpected(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"a fault of impasto's, please report it: {type(error).__name__}: {text}"


def _unread(error: BaseException) -> bool:
    """Whether who reads the output has seen enough; Windows may call it invalid (cpython#79935)."""
    if WINDOWS and isinstance(error, OSError) and error.errno == errno.EINVAL:
        return error.filename is None
    return isinstance(error, BrokenPipeError)


def _begin() -> None:
    """At the start of commands that compute: what makes the process faster."""
    from .device import tune

    tune()


def _refuse_empty(arguments: Sequence[str]) -> None:
    """An empty name would mean the current folder; it is a variable that is not set."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, is_given, value = argument.partition("=")
        if argument == "" or (option.startswith("--") and is_given and not value):
            where = option or (f"after {shown(before)}" if before else "the first argument")
            raise InputError(f"{where}: an empty name or value; is a variable not set?")


def _encode_all() -> None:
    """Let a terminal without UTF-8 show what it can."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="impasto")


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for characters that an encoding lacks: letters without accents, or codes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = unicodedata.normalize("NFKD", lacking).encode("ascii", "ignore").decode()
    return plain or lacking.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("impasto", _plainly)


def _close_output() -> None:
    """So that nothing more is written to a pipe that nobody reads, at the end either."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


@contextmanager
def _own_warnings_alone() -> Iterator[None]:
    """Warnings of impasto's are a line; those of libraries are shown where -W asks for them."""
    asked = bool(sys.warnoptions)  # by PYTHONWARNINGS too
    before, nowhere = warnings.showwarning, logging.NullHandler()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if _is_own(filename):
            say.print(f"impasto: {message}")
        elif asked:
            before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    if not asked:
        logging.getLogger().addHandler(nowhere)  # instead of standard error
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    finally:
        warnings.showwarning = before
        logging.getLogger().removeHandler(nowhere)


def _is_own(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parent)


def _version(asked: bool) -> None:
    if asked:
        print(f"impasto {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# Options that several commands share.
Backbone = Annotated[
    str | None, typer.Option(help="compact or slim (bundled), vgg19, vgg16, resnet50 or resnet18.")
]
BackboneWeights = Annotated[
    Path | None,
    typer.Option(
        help="A file of weights for the backbone, or imagenet (default), robust or random."
    ),
]
Convention = Annotated[
    str | None, typer.Option(help="What that file expects of its input: caffe or torchvision.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")]
OnePadding = Annotated[
    str | None, typer.Option(help="Of the first layer: replicate, reflect or zero.")
]
OnePooling = Annotated[str | None, typer.Option(help="max or average.")]
Smooth = Annotated[
    str | None,
    typer.Option(
        help="Against the peaky activations of a ResNet: none, scale or softmax, or by stage, such "
        "as rb3=softmax,rb4=softmax."
    ),
]
StyleLayers = Annotated[
    str | None,
    typer.Option(
        help="Such as relu1_1,relu2_1 or with weights, relu1_1=2,relu2_1; of a ResNet also paper5."
    ),
]
Kind = Annotated[
    str | None, typer.Option(help="Of johnson: residual or bottleneck (faster, smaller).")
]
Weights = Annotated[
    str | None, typer.Option(help="Shares of several styles, such as 2,1. Default: equal.")
]

STYLIZE_HELP = """Render photographs in the manner of one painting or several.

The first picture is the content, the others are styles; with --style, all pictures are contents.
A style is a painting, a file made by `impasto style` or `impasto learn`, or a name that
`impasto styles` lists. Several styles are mixed. A folder as content means every picture in it; a
folder as style means a picture for each painting or such file in it. - is standard input, and -o -
standard output.

Examples:

    impasto stylize photo.jpg painting.jpg -o out.png

    impasto stylize photo.jpg starry_night

    impasto stylize photo.jpg wave.jpg night.jpg --weights 2,1 -o both.jpg

    impasto stylize photo.jpg starry_night monet --weights 2,1 -o mixed.jpg

    impasto stylize holiday/ --style starry.style -o painted/ --size 512

    impasto stylize photo.jpg painting.jpg -o out.png --color match --strength 0.7

    impasto stylize *.jpg --style painting.jpg -o painted/ --quality 90 --skip-existing

    impasto stylize holiday/ --recursive --style painting.jpg -o painted/

    impasto stylize photo.jpg paintings/ -o by_each/

    impasto stylize photo.jpg painting.jpg -o "{content}_by_{style}.png" -m gatys --backbone vgg16

    impasto stylize scan.tif painting.jpg -o out.tif --depth 16

    impasto stylize - painting.jpg -o - < photo.jpg > out.png

    impasto stylize photo.jpg painting.jpg -o fine.png --method adain --refine 30

    impasto stylize photo.jpg starry_night -o out.png --method johnson

    impasto stylize photo.jpg painting.jpg -o bold.png --brush 2
"""


@app.command(help=STYLIZE_HELP)
def stylize(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="CONTENT STYLE...",
            help="Content, then styles: files, folders, or - (stdin); of styles also names.",
        ),
    ],
    style: Annotated[
        list[str] | None,
        typer.Option("--style", "-s", help="A style; may be repeated. All arguments are contents."),
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="File or folder; may use {content} and {style}. A folder for several pictures; - "
            "for standard output, as PNG.",
        ),
    ] = NAME,
    method: Annotated[
        str, typer.Option("--method", "-m", help="See `impasto methods`.")
    ] = "ghiasi",
    size: Annotated[
        int | None, typer.Option(help="Short side of the result in pixels. Default: the content's.")
    ] = None,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive", "-r", help="Folders with all below them; the tree is kept in --out."
        ),
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out what has been made already.")
    ] = False,
    quality: Annotated[int, typer.Option(help="Of JPEG, WebP and AVIF.", min=1, max=100)] = 95,
    depth: Annotated[int, typer.Option(help="Bits of each channel: 8, or 16 in PNG and TIFF.")] = 8,
    keep_gps: Annotated[
        bool, typer.Option("--keep-gps", help="Keep where the photograph was taken.")
    ] = False,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Write neither the photograph's nor our own.")
    ] = False,
    accept_truncated: Annotated[
        bool, typer.Option("--accept-truncated", help="Take pictures that are cut short too.")
    ] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(help="Refuse larger pictures. Default: what memory suffices for.", min=1),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="0 leaves the content as it is, 1 is the full style.")
    ] = 1.0,
    weights: Weights = None,
    color: Annotated[
        str | None,
        typer.Option(
            help="match (the painting takes the photograph's colours), match-style (the other "
            "way round) or luminance (only lightness is transferred)."
        ),
    ] = None,
    color_variant: Annotated[
        str, typer.Option(help="How colours are matched: eigenvalue, cholesky or monge.")
    ] = "eigenvalue",
    match_luminance: Annotated[
        bool, typer.Option(help="With --color luminance: match the luminance's statistics before.")
    ] = False,
    background: Annotated[
        str, typer.Option(help="Colour behind transparent parts, a name or #hex.")
    ] = "white",
    refine: Annotated[
        int | None,
        typer.Option(
            help="So many iterations of gatys that begin with the method's result; its options are "
            "for them too."
        ),
    ] = None,
    preview: Annotated[
        int | None, typer.Option(help="Write the picture so far every N iterations.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise.", min=0, max=2**63 - 1)] = None,
    device: Device = None,
    precision: Precision = None,
    model: Annotated[
        Path | None,
        typer.Option(help="A model made by `impasto train`, instead of the bundled one."),
    ] = None,
    kind: Kind = None,
    operator: Annotated[
        str | None,
        typer.Option(help="Of artflow: adain, wct or rbmad; of styleflow: san or rbmad."),
    ] = None,
    shifts: Annotated[
        int | None,
        typer.Option(help="Of artflow and styleflow: 1, 2 or 4 passes, against their faint grid."),
    ] = None,
    brush: Annotated[
        str | None,
        typer.Option(
            help="Of methods of one pass: size of the strokes relative to the picture; 1 is as at "
            "a short side of 512 px, 2 twice as large; none is the network's in pixels, as artflow "
            "and styleflow have it by default."
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Of ghiasi and johnson: what strokes in flat areas are made of; more is stronger."
        ),
    ] = None,
    degrid: Annotated[
        bool | None,
        typer.Option(
            "--degrid/--no-degrid",
            help="Of artflow, ghiasi, johnson and styleflow: no grid in flat areas.",
        ),
    ] = None,
    dehalo: Annotated[
        bool | None,
        typer.Option("--dehalo/--no-dehalo", help="Of adain: no halos before flat areas."),
    ] = None,
    palette: Annotated[
        bool | None,
        typer.Option("--palette/--no-palette", help="Of adain: the painting's colours alone."),
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Of wct, such as relu4_1,relu2_1. Default: all.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Of wct: monge, eigenvalue or cholesky.")
    ] = None,
    backbone: Backbone = None,
    backbone_weights: BackboneWeights = None,
    convention: Convention = None,
    padding: OnePadding = None,
    pooling: OnePooling = None,
    smooth: Smooth = None,
    content_layers: Annotated[
        str | None, typer.Option(help="Such as relu4_1 or relu3_1=0.3,relu4_1=0.7.")
    ] = None,
    style_layers: StyleLayers = None,
    content_weight: Annotated[float | None, typer.Option(help="Alpha of the loss.")] = None,
    style_weight: Annotated[float | None, typer.Option(help="Beta of the loss.")] = None,
    style_loss: Annotated[
        str | None,
        typer.Option(help="gram, or moments (mean and deviation; the default of ResNets)."),
    ] = None,
    tv_weight: Annotated[float | None, typer.Option(help="Total variation: smoother.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="recoloured (the content in the style's colours), content, content+noise, noise, "
            "grey, or a picture's path."
        ),
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="lbfgs or adam.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Short sides, coarse to fine, such as 128,256,0 (0: the final size)."),
    ] = None,
    iterations: Annotated[
        str | None, typer.Option(help="For every size, or a list such as 200,100,50.")
    ] = None,
    style_scale: Annotated[
        float | None, typer.Option(help="Size of the style's features; 0.5 gives finer strokes.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="When a size counts as converged; 0 never stops early.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds for one picture.")] = None,
) -> None:
    """Help is STYLIZE_HELP."""
    from .methods import METHODS, options_of
    from .pipeline import Transfer, bounded, check_controls, load_refined, read_style
    from .styles import is_name

    known = options_of(method)
    _check_finite(
        strength=strength,
        noise=noise,
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        lr=lr,
        style_scale=style_scale,
        tolerance=tolerance,
        time_limit=time_limit,
    )
    shares = _numbers("weights", weights)
    strokes = {} if brush is None else {"brush": _brush(brush)}
    options: dict[str, Any] = {
        "seed": seed,
        "device": device,
        "precision": precision,
        "model": model,
        "kind": kind,
        "operator": operator,
        "shifts": shifts,
        "noise": noise,
        "degrid": degrid,
        "dehalo": dehalo,
        "palette": palette,
        "levels": None if levels is None else [level.strip() for level in levels.split(",")],
        "variant": variant,
        "backbone": backbone,
        "weights_file": backbone_weights,
        "convention": convention,
        "padding": padding,
        "pooling": pooling,
        "smooth": _smooth(smooth),
        "content_layers": _layers("content-layers", content_layers),
        "style_layers": _layers("style-layers", style_layers),
        "content_weight": content_weight,
        "style_weight": style_weight,
        "style_loss": style_loss,
        "tv_weight": tv_weight,
        "start": start,
        "optimizer": optimizer,
        "lr": lr,
        "sizes": _integers("sizes", sizes),
        "iterations": _one_or_many(_integers("iterations", iterations)),
        "style_scale": style_scale,
        "tolerance": tolerance,
        "time_limit": time_limit,
    }
    if preview is not None and preview < 1:
        raise InputError(f"preview is {preview}: must be 1 or more iterations")
    if preview is not None and refine is None and "iterations" not in known:
        raise InputError(f"--preview: method {method} works in one pass; leave it out")
    if preview is not None and (no_metadata or out.lower().endswith(".bmp")):
        raise InputError(
            "--preview: a result has to carry settings, which tell it from a preview; leave out "
            "--no-metadata, and choose another format than BMP"
        )
    if preview is not None and out == STANDARD:
        raise InputError("--preview: standard output takes one picture; name a file, -o OUT")
    if depth not in (8, 16):
        raise InputError(f"--depth is {depth}: must be 8 or 16 bits")
    if keep_gps and no_metadata:
        raise InputError("--keep-gps and --no-metadata: choose one of them")
    check_controls(color, color_variant, match_luminance, size, strength)

    learnt = hasattr(METHODS[method], "find")
    weighted = weights is not None
    inputs = gather(pictures, style, learnt=learnt, weighted=weighted, recursive=recursive, out=out)
    planned = plan(inputs, out)
    made = _made_before(inputs, planned)
    if made:
        inputs = inputs.without(made)
        planned = plan(inputs, out)
    targets = [job.target for job in planned if job.target is not None]
    sent = 0 if STANDARD in (*pictures, *(style or ())) else None
    check_apart(targets, [*inputs.files, model, backbone_weights, start, sent])
    files = (".style", ".safetensors")  # which, as names, are no photographs
    sure = all(is_name(part) or part.lower().endswith(files) for part in inputs.styles[0])
    if not (style or weighted or learnt or sure) and len(inputs.styles[0]) > 1:
        mixed = ", ".join(map(shown, inputs.styles[0]))
        say.print(
            f"impasto: {inputs.contents[0]} in a mixture of {mixed}; if these are photographs too, "
            "name the painting with --style"
        )
    if planned[0].target is None and sys.stdout is None:
        raise InputError("-o -: there is no standard output; name a file, -o OUT")
    if planned[0].target is None and sys.stdout.isatty():
        raise InputError("-o -: standard output is a terminal; name a file, or add > OUT.png")
    jobs = [job for job in planned if not (skip_existing and _is_done(job.target))]
    if len(jobs) < len(planned):
        say.print(f"impasto: {len(planned) - len(jobs)} of {len(planned)} exist already")
    if not jobs:
        return
    failed = _Failed(len(jobs))
    jobs = _writable(jobs, depth, failed)

    if refine is None and "encoder_weights" in known:
        options["encoder_weights"] = options.pop("weights_file")
    options = {name: value for name, value in options.items() if value is not None}
    options |= strokes
    _begin()
    options = bounded(options, max_pixels, accept_truncated)
    ready, finer = load_refined(method, refine, options, _flag)
    limits: dict[str, Any] = {"max_pixels": max_pixels, "accept_truncated": accept_truncated}

    standard = cache(_standard_input)

    @lru_cache(1)
    def transfer(names: tuple[str, ...]) -> Transfer:
        """For styles that are mixed."""
        sources = [standard() if name == STANDARD and not learnt else name for name in names]
        return Transfer(
            ready,
            [read_style(source, background, ready, **limits) for source in sources],
            shares,
            strength,
            size,
            color,
            color_variant,  # type: ignore[arg-type]
            match_luminance,
            background,
            finer,
            **limits,
        )

    format_: dict[str, Any] = {"quality": quality, "depth": depth}
    format_ |= {"keep_gps": keep_gps, "metadata": not no_metadata}
    if len(inputs.styles) == 1:
        transfer(jobs[0].styles)  # what a style lacks that all have is said once
    for note in [ready.settings["device"], *ready.notes]:
        say.print(f"impasto: {note}")
    interrupted = _render_all(jobs, transfer, standard, preview, format_, failed)
    if failed.count:
        say.print(f"impasto: {failed.count} of {failed.total} failed:", style="red")
        for number, fault in enumerate(failed.faults, 1):
            say.print(f"{number:3}. {fault}")
    if interrupted:
        say.print("impasto: interrupted; what was done is written")
        raise typer.Exit(INTERRUPTED)
    if failed.count:
        raise typer.Exit(1)


@dataclass
class _Failed:
    """What could not be made, of ``total`` pictures: how many, and the faults, each once."""

    total: int
    count: int = 0
    faults: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self, name: object, count: int = 1) -> Iterator[None]:
        """Note what goes wrong with ``name``, for so many pictures; of a single one it is raised.

        Errors are kept as text, for they hold on to the tensors.
        """
        try:
            yield
        except Exception as error:
            if self.total == 1 or _unread(error):
                raise
            if lacks_memory(error):
                text = "out of memory; use a smaller --size"
            else:
                known = isinstance(error, (InputError, OSError))
                text = str(error) if known else _unexpected(error)
            self.count += count
            text = text if str(name) in text else f"{name}: {text}"
            if text not in self.faults:
                self.faults.append(text)


def _writable(jobs: Sequence[Job], depth: int, failed: _Failed) -> list[Job]:
    """Those whose results can be written where they belong, as far as is known before.

    Raises InputError if there is none: the fault is of the name or the folder that was given.
    """
    from .images import check_output

    good, faults = [], []
    for job in jobs:
        try:
            if job.target is not None:
                check_output(job.target, depth=depth)
            good.append(job)
        except InputError as error:
            faults.append((job, error))
    if not good:
        raise faults[0][1]
    for job, fault in faults:
        with failed.noting(job.target):
            raise fault
    return good


def _made_before(inputs: Inputs, planned: Sequence[Job]) -> set[Path]:
    """Results of an earlier run that lie in a folder that was named: they are no photographs."""
    targets = {identity(job.target) for job in planned if job.target is not None} - {None}
    there = {path for path in inputs.listed if identity(path) in targets}
    return {path for path in there if _settings_of(path)}


def _settings_of(path: Path) -> dict[str, Any]:
    from .images import read_settings

    try:
        return read_settings(path)
    except InputError:
        return {}


def _is_done(target: Path | None) -> bool:
    """Whether a result is there that was made to its end."""
    if target is None or not target.is_file() or not target.stat().st_size:
        return False
    return not {"preview", "stopped"} & _settings_of(target).keys()


class _Sent(io.BytesIO):
    """What came in by standard input."""

    name = "standard input"


def _standard_input() -> _Sent:
    if sys.stdin is None:
        raise InputError("-: there is no standard input; name a file")
    if sys.stdin.isatty():
        raise InputError("-: standard input is a terminal; name a file, or add < PHOTO.jpg")
    data = sys.stdin.buffer.read()
    if not data:
        raise InputError("-: standard input is empty; send a picture")
    return _Sent(data)


def _render_all(
    jobs: Sequence[Job],
    transfer: Callable[[tuple[str, ...]], Transfer],
    standard: Callable[[], _Sent],
    preview: int | None,
    format_: Mapping[str, Any],
    failed: _Failed,
) -> bool:
    """Make every picture; what fails is noted in ``failed``, and the others are made.

    Args:
        jobs: those with the same styles one after another.
        transfer: gives what renders, for the styles of a job.
        standard: gives what standard input holds.
        preview: see `impasto stylize`.
        format_: keywords for :meth:`impasto.pipeline.Result.save`.
        failed: see :class:`_Failed`.

    Returns:
        Whether Ctrl-C ended the work.
    """
    from .images import Picture, check_output, resize, write

    count = len(jobs)
    number = 0
    held: dict[Content, Picture] = {}
    with _interrupts() as interrupted, _bar() as bar:
        task = bar.add_task("", total=count, loss="")

        def one(job: Job, ready: Transfer) -> None:
            where = f"{number + 1}/{count}" if count > 1 else ""
            bar.update(task, description=str(job.content), completed=number, loss=where)
            if job.content not in held:
                held.clear()  # so that there is never more than one
                path = job.content.path
                held[job.content] = ready.read(standard() if path is None else path)
            content = held[job.content]
            size = ready.size_of(content)
            if job.target is not None:
                transparent = content.alpha is not None
                check_output(job.target, size, alpha=transparent, depth=format_["depth"])

            def on_step(step: Step) -> bool:
                steps = f"{step.iteration}/{step.iterations}  {step.size[1]}x{step.size[0]}"
                said = f"{where}  {steps}  loss {step.loss:.3f}".strip()
                bar.update(task, completed=number + step.share, loss=said)
                if preview and job.target and step.iteration % preview == 0:
                    # As the result will be, in all but the pixels.
                    write(
                        *(job.target, resize(step.picture(), size), content.alpha),
                        settings={"preview": step.iteration},
                        background=ready.background,
                        source=content.metadata,
                        **format_,
                    )
                return interrupted()

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                result = ready(content, on_step)
            if job.target is None:
                sys.stdout.buffer.write(result.encode(**format_))
                sys.stdout.buffer.flush()
            else:
                result.save(job.target, **format_, overwrite=True)
                say.print(f"{shown(job.target)}  ({result.settings['seconds']} s)")
            for warning in caught:
                if _is_own(warning.filename):
                    say.print(f"impasto: {job.content}: {warning.message}")

        for styles, group in groupby(jobs, lambda job: job.styles):
            same = list(group)
            ready = None
            with failed.noting(", ".join(map(shown, styles)), len(same)):
                ready = transfer(styles)
            if ready is None:
                number += len(same)
                continue
            for job in same:
                with failed.noting(job.content):
                    one(job, ready)
                number += 1
                if interrupted():
                    return True
    return False


@contextmanager
def _interrupts(
    message: str = "finishing with the picture so far",
) -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks for the end: what was done so far is kept. A second one ends at once.

    Where it is ignored from the start, as in a background job, it stays so; and only the main
    thread can hear of it.
    """
    asked = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say.print(f"impasto: {message} (Ctrl-C again to drop it)")

    before = signal.getsignal(signal.SIGINT)
    main_thread = threading.current_thread() is threading.main_thread()
    if before in (signal.SIG_IGN, None) or not main_thread:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Bar(Progress):
    """Nothing at all where it is disabled: rich below 15 ends with an empty line even so."""

    def stop(self) -> None:
        if not self.disable:
            super().stop()


def _bar() -> Progress:
    return _Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[loss]}", markup=False),
        TimeRemainingColumn(),
        console=say,
        transient=True,
        disable=not say.is_terminal,
    )


@app.command()
def style(
    paintings: Annotated[list[Path], typer.Argument(help="One painting or several.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, NAME.style.")],
    weights: Weights = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="A method that it is for, which makes a smaller file; may be repeated. Default: "
            "every method that takes any painting.",
        ),
    ] = None,
    backbone: Backbone = None,
    backbone_weights: BackboneWeights = None,
    convention: Convention = None,
    padding: OnePadding = None,
    pooling: OnePooling = None,
    smooth: Smooth = None,
    style_layers: StyleLayers = None,
    model: Annotated[
        Path | None,
        typer.Option(help="With one --for: a model made by `impasto train`, not the bundled one."),
    ] = None,
    device: Device = None,
) -> None:
    """Store a style: what methods need of a painting, accepted wherever a painting is.

    Every method that takes any painting finds in it what its own network sees of the painting at
    several sizes. The options of a backbone are for gatys.

    Examples:

        impasto style starry_night.jpg -o starry.style

        impasto style wave.jpg night.jpg --weights 1,3 -o mixed.style

        impasto style starry_night.jpg -o small.style --for adain

        impasto style starry_night.jpg -o vgg.style --for gatys --backbone vgg19
    """
    from .images.places import check_place
    from .pipeline import store_style
    from .styles import SUFFIX

    if out.suffix != SUFFIX:
        raise InputError(
            f"{shown(out)}: the name of a stored style ends in {SUFFIX}: use {shown(out.stem)}"
            f"{SUFFIX}"
        )
    if model is not None and len(methods or ()) != 1:
        raise InputError("--model: is of one method: name it, --for METHOD")
    check_place(out)
    check_apart(out, [*paintings, model, backbone_weights])
    options: dict[str, Any] = {
        "backbone": backbone,
        "weights_file": backbone_weights,
        "convention": convention,
        "padding": padding,
        "pooling": pooling,
        "smooth": _smooth(smooth),
        "style_layers": _layers("style-layers", style_layers),
        "model": model,
        "device": device,
    }
    _begin()
    if methods is not None and "gatys" not in methods:
        options["encoder_weights"] = options.pop("weights_file")
    options = {name: value for name, value in options.items() if value is not None}
    with _bar() as bar:
        task = bar.add_task(out.name, total=None, loss="")

        def on_progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, loss=name)

        stored = store_style(
            paintings,
            out.stem,
            _numbers("weights", weights),
            methods,
            on_progress=on_progress,
            spelled=_flag,
            **options,
        )
    stored.save(out)
    say.print(f"{shown(out)}  ({out.stat().st_size / 1e6:.1f} MB, for {', '.join(stored.methods)})")


@app.command()
def learn(
    painting: Annotated[Path, typer.Argument(help="The painting to learn.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs to learn on. Default: free sample photographs."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="How long, about. Default: 5, enough on two cores.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="So many steps instead of minutes.", min=0)
    ] = None,
    size: Annotated[
        int,
        typer.Option(help="Short side in pixels at which strokes are learnt.", min=64, max=1024),
    ] = 384,
    mixable: Annotated[
        bool,
        typer.Option(
            "--mixable", help="Leave the last layers alone, so that it mixes with others."
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(help="A model made by `impasto train ghiasi`, instead of the bundled one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of crops and noise.", min=0, max=2**63 - 1)] = 0,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Learn one painting well: a file that method ghiasi takes wherever a painting is given.

    Begins with what the network predicts for the painting and goes on from there for some minutes.
    Ctrl-C keeps what was learnt so far.

    Examples:

        impasto learn starry_night.jpg -o mine.safetensors

        impasto learn starry_night.jpg -o mine.safetensors --photos holiday/ --minutes 10

        impasto learn starry_night.jpg -o mine.safetensors --mixable

        impasto stylize photo.jpg mine.safetensors -o out.png
    """
    from .images import list_pictures
    from .images.places import check_place
    from .methods.learnt import checked, is_learnt
    from .training.learn import MINUTES, WARM
    from .training.learn import learn as study

    if minutes is not None and steps is not None:
        raise InputError("--minutes and --steps: leave one of them out")
    check_place(checked(out))
    check_apart(out, [painting, model, *(list_pictures(photos, True) if photos else [])])
    if out.exists() and not is_learnt(out):
        raise InputError(f"{shown(out)}: holds something else than a learnt style; name another")
    _begin()
    with _interrupts("keeping what was learnt so far") as interrupted, _bar() as bar:
        task = bar.add_task(painting.name, total=None, loss="")

        share = 0.0

        def on_progress(done: int, total: int, loss: float) -> bool:
            nonlocal share
            share = done / max(1, total)
            bar.update(task, completed=done, total=total, loss=f"loss {loss:.4g}")
            return interrupted()

        learnt = study(
            *(painting, photos),
            minutes=MINUTES if minutes is None else minutes,
            steps=steps,
            size=size,
            mixable=mixable,
            model=model,
            seed=seed,
            device=device or "auto",
            precision=precision or "auto",
            on_progress=on_progress,
        )
        stopped = interrupted()
    if stopped and share < WARM:
        say.print("impasto: interrupted before anything was learnt; nothing is written")
        raise typer.Exit(INTERRUPTED)
    learnt.save(out)
    figures = learnt.figures
    say.print(f"{shown(out)}  (steps: {figures['steps']}, {figures['seconds']} s)")
    if stopped:
        say.print("impasto: interrupted; what was learnt is written")
        raise typer.Exit(INTERRUPTED)


@app.command()
def show(
    picture: Annotated[Path, typer.Argument(help="A picture that impasto wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print how a picture was made.

    Examples:

        impasto show out.png

        impasto show out.jpg --json
    """
    from .images import read_settings

    settings = read_settings(picture)
    if as_json:
        print(json.dumps(settings, indent=2))
        return
    for name, value in settings.items():
        # As JSON also where it is text: a foreign picture must not send codes to the terminal.
        print(f"{json.dumps(name)[1:-1]:18} {json.dumps(value)}")


@app.command()
def methods() -> None:
    """List the methods.

    Example:

        impasto methods
    """
    from .methods import METHODS
    from .methods import methods as known
    from .methods.onepass import OnePass, bundled

    for name, what in known().items():
        ready = not issubclass(METHODS[name], OnePass) or bundled(name).exists()
        print(f"{name:12} {what}" + ("" if ready else f" Train it first: impasto train {name}"))


@app.command()
def styles(
    model: Annotated[
        Path | None,
        typer.Option(help="A model made by `impasto train johnson`, instead of the bundled one."),
    ] = None,
    kind: Kind = None,
    sheet: Annotated[
        Path | None, typer.Option(help="A picture to write: --photo in every style.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="For the sheet. Default: a free sample photograph.")
    ] = None,
) -> None:
    """List the styles that there are by name.

    Those of every method that looks at paintings as ghiasi and gatys do, and what method johnson
    has learnt; with --model or --kind, what that network of johnson has learnt alone.

    Examples:

        impasto styles

        impasto styles --sheet styles.jpg --photo me.jpg

        impasto styles --kind bottleneck --sheet learnt.png
    """
    from .methods import load
    from .methods.johnson import Johnson, learnt_names
    from .styles import named_styles

    if photo is not None and sheet is None:
        raise InputError("--photo is for the sheet: name one, --sheet OUT")
    if sheet is not None:
        from .images import check_output

        check_apart(sheet, [photo, model])
        check_output(sheet)
        _begin()
    if model is None and kind is None:
        named = named_styles()
        if sheet is not None:
            _write_sheet(sheet, photo, load(), named)
        rows = [(name, known.title, known.painter, known.year) for name, known in named.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())
        print(f"\nwith --method johnson: {', '.join(learnt_names())}")
        return
    method = Johnson(model, kind)  # type: ignore[arg-type]
    if sheet is not None:
        _write_sheet(sheet, photo, method, method.learnt)
    for name in method.learnt:
        print(name)


def _write_sheet(
    sheet: Path, photo: Path | None, method: Method, styles: Mapping[str, StoredStyle | LearntStyle]
) -> None:
    """A photograph in every style; at the size at which strokes are made, then reduced."""
    from .images import fit, read, resize, write
    from .samples import photograph
    from .study.figures import labelled

    rgb = photograph("coffee") if photo is None else read(photo).rgb
    height, width = rgb.shape[-2:]
    seen = resize(rgb, fit(height, width, min(512, height, width)))

    def small(picture: Tensor) -> Tensor:
        return resize(picture, fit(height, width, THUMB))

    made = [("photograph", small(seen))]
    with _bar() as bar:
        task = bar.add_task("", total=len(styles), loss="")
        for name, style in styles.items():
            bar.update(task, description=name)
            made.append((name, small(method(seen, method.prepare([style])))))
            bar.advance(task)
    columns = min((6, 5, 4), key=lambda count: -len(made) % count)  # the fewest gaps
    write(sheet, labelled(made, columns), quality=80)


@app.command()
def compare(
    contents: Annotated[Path, typer.Option(help="Folder of photographs.")],
    styles: Annotated[Path, typer.Option(help="Folder of paintings.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all that is made.")],
    methods: Annotated[
        str, typer.Option(help="all, or some of them: adain,gatys,johnson-bottleneck.")
    ] = "all",
    size: Annotated[int, typer.Option(help="Short side of all pictures in pixels.", min=16)] = 384,
    judge: Annotated[
        str, typer.Option(help="The backbone that measures: compact (bundled), vgg19 or vgg16.")
    ] = "compact",
    judge_weights: BackboneWeights = None,
    convention: Convention = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs to bring VGG to unit mean with.")
    ] = None,
    device: Device = None,
) -> None:
    """Every method on every pair of pictures: figures, a sheet, a scatter and a page of it all.

    What OUT holds is not made again: an interrupted comparison goes on, and further methods or
    pictures join it.

    Examples:

        impasto compare --contents photos/ --styles paintings/ -o comparison/

        impasto compare --contents photos/ --styles paintings/ -o comparison/ --methods adain,wct
    """
    from .backbones import load_backbone
    from .study import compare as study

    check_apart([out / name for name in study.WRITTEN], [judge_weights])
    chosen = study.available(_names(methods))
    net = load_backbone(judge, judge_weights, convention=convention, photos=photos)
    left_out: list[str] = []

    def warn(line: str) -> None:
        left_out.append(line)
        say.print(f"impasto: {line}")

    _begin()
    with _interrupts("finishing this picture") as interrupted, _bar() as bar:
        task = bar.add_task("comparing", total=None, loss="")

        def on_progress(done: int, total: int, name: str) -> bool:
            bar.update(task, completed=done, total=total, loss=f"{done}/{total}  {name}")
            return interrupted()

        where = device or "auto"
        means = study.compare(
            *(contents, styles, out, chosen, net),
            size=size,
            device=where,
            photos=photos,
            on_progress=on_progress,
            warn=warn,
        )
        stopped = interrupted()
    if means:
        print((out / "table.md").read_text(encoding="utf-8"))
        say.print(str(out / "index.html"))
    if stopped:
        say.print("impasto: interrupted; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    if left_out:
        raise typer.Exit(1)


@app.command()
def sweep(
    content: Annotated[Path, typer.Argument(help="A photograph.")],
    style: Annotated[str, typer.Argument(help="A painting, a stored style, or a name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all that is made.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="OPTION=VALUE,VALUE; may be repeated: every combination is made. A list joins its "
            "parts by +, layers give weights behind a colon."
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML with all this; see recipes/sweeps/. --vary and --set go before."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="See `impasto methods`. Default: gatys.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="OPTION=VALUE, the same for all; may be repeated."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Short side of all results in pixels. Default: the photograph's.", min=16
        ),
    ] = None,
) -> None:
    """One picture under every combination of some options: a sheet, a table, the losses' curves.

    Options are those of `impasto stylize`. What OUT holds is not made again: an interrupted sweep
    goes on, and further values join it.

    Examples:

        impasto sweep photo.jpg night.jpg --vary lr=0.001,0.1,1 --vary optimizer=lbfgs,adam -o lr/

        impasto sweep photo.jpg night.jpg --vary strength=0,0.5,1 --size 256 -o s/

        impasto sweep photo.jpg night.jpg --vary style-layers=relu1_1,relu1_1+relu2_1 -o layers/

        impasto sweep photo.jpg night.jpg --recipe recipes/sweeps/learning-rate.toml -o rates/
    """
    from .study import sweep as study

    varied: dict[str, list[Any]] = {}
    for text in vary or []:
        name, values = study.parse(text)
        varied[name] = varied.get(name, []) + values
    same: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for text in option or []:
        name, values = study.parse(text, "--set")
        given[name] = values[0]
        if len(values) > 1:
            raise InputError(f"--set {text!r}: give one value, or use --vary")
    if size is not None:
        twice = [flag for flag, by in (("--vary", varied), ("--set", given)) if "size" in by]
        if twice:
            raise InputError(f"--size and {twice[0]} size=: leave one of them out")
        given["size"] = size
    if recipe is not None:
        of_recipe, same, further = study.read_recipe(recipe)
        check_apart([out / name for name in study.WRITTEN], [recipe])
        method = method or of_recipe
        same = {name: value for name, value in same.items() if name not in varied}
        varied = {**{k: v for k, v in further.items() if k not in given}, **varied}
    _begin()
    with _interrupts("ending without this picture") as interrupted, _bar() as bar:
        task = bar.add_task("sweep", total=None, loss="")

        def on_progress(done: int, total: int, name: str, step: Step | None) -> bool:
            part = step.share if step else 0.0
            bar.update(task, completed=done + part, total=total, loss=f"{done}/{total}  {name}")
            return interrupted()

        rows = study.sweep(
            *(content, style, out, varied),
            method=method or "gatys",
            options={**same, **given},
            on_progress=on_progress,
        )
        stopped = interrupted()
    for row in rows:
        loss = "" if row.get("loss") is None else f"  loss {row['loss']:.4g}"
        print(
            row["label"] + (f"  {row['fault']}" if row["fault"] else f"  {row['seconds']} s{loss}")
        )
    if stopped:
        say.print("impasto: interrupted; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    if (out / "sheet.png").exists():  # else nothing could be made
        say.print(str(out / "sheet.png"))
    if any(row["fault"] for row in rows):
        raise typer.Exit(1)


@app.command()
def reconstruct(
    picture: Annotated[Path, typer.Argument(help="To be seen by the network.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The sheet to write.")],
    kind: Annotated[str, typer.Option(help="content or style.")] = "content",
    backbone: Annotated[
        str, typer.Option(help="compact or slim (bundled), vgg19, vgg16, resnet50 or resnet18.")
    ] = "compact",
    weights: Annotated[
        str,
        typer.Option(
            help="A row for each: trained, random, imagenet, robust, compact, or a file of the "
            "backbone's weights."
        ),
    ] = "trained,random",
    convention: Convention = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs to bring weights to unit mean with.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Such as relu2_1,relu4_1. Default: relu1_1 to relu5_1, or conv1 to rb4."),
    ] = None,
    smooth: Smooth = None,
    size: Annotated[int, typer.Option(help="Short side in pixels.", min=32)] = 224,
    iterations: Annotated[int, typer.Option(help="For each picture.", min=1)] = 200,
    optimizer: Annotated[str, typer.Option(help="lbfgs or adam.")] = "lbfgs",
    lr: Annotated[float | None, typer.Option(help="Learning rate; paper 5: adam, 0.05.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise and of random weights.", min=0)] = 0,
    device: Device = None,
) -> None:
    """What each layer knows of a picture, from noise: a sheet of all layers by all weights.

    Examples:

        impasto reconstruct photo.jpg -o content.png

        impasto reconstruct night.jpg --kind style --layers relu1_1,relu2_1,relu3_1 -o style.png

        impasto reconstruct photo.jpg --backbone resnet50 --weights random,imagenet,robust -o s.png
    """
    from .backbones import KINDS, load_backbone
    from .images import check_output, list_pictures, write
    from .study.reconstruct import reconstruct as study

    check_output(out)
    rows = [Path(word.strip()) for word in weights.split(",")]
    check_apart(out, [picture, *rows, *(list_pictures(photos, True) if photos else [])])
    nets = {}
    for given in (word.strip() for word in weights.split(",")):
        known: dict[str, Any] = {"trained": None, "compact": None} | dict.fromkeys(KINDS, given)
        nets[given if given in known else Path(given).stem] = load_backbone(
            "compact" if given == "compact" else backbone,
            known.get(given, Path(given)),
            convention=convention,
            smooth="none" if given == "compact" else _smooth(smooth) or "none",
            photos=photos,
            seed=seed,
        )
    _begin()
    with _interrupts("finishing with the pictures so far") as interrupted, _bar() as bar:
        task = bar.add_task("reconstructing", total=None, loss="")

        def on_progress(done: int, total: int, name: str, step: Step) -> bool:
            bar.update(
                task, completed=done + step.share, total=total, loss=f"{done}/{total}  {name}"
            )
            return interrupted()

        names = None if layers is None else [layer.strip() for layer in layers.split(",")]
        sheet = study(
            *(picture, nets, kind, names),  # type: ignore[arg-type]
            size=size,
            iterations=iterations,
            optimizer=optimizer,  # type: ignore[arg-type]
            lr=lr,
            seed=seed,
            device=device or "auto",
            on_progress=on_progress,
        )
        stopped = interrupted()
    settings: dict[str, Any] = {"reconstruction": kind, "content": picture.name}
    settings |= {"backbone": backbone, "weights": list(nets), "iterations": iterations}
    write(out, sheet, settings=settings | {"optimizer": optimizer, "seed": seed})
    say.print(str(out))
    if stopped:
        raise typer.Exit(INTERRUPTED)


@study_app.command()
def leak(
    content: Annotated[Path, typer.Argument(help="A photograph.")],
    styles: Annotated[Path, typer.Option(help="Folder of paintings, taken in turn.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all that is made.")],
    methods: Annotated[str, typer.Option(help="all, or some of them: adain,wct.")] = "all",
    rounds: Annotated[int, typer.Option(help="How often it is stylised.", min=1)] = 10,
    size: Annotated[int, typer.Option(help="Short side of all pictures in pixels.", min=32)] = 384,
    device: Device = None,
) -> None:
    """Stylise a photograph again and again: how much of it is left, by method.

    Example:

        impasto study leak photo.jpg --styles paintings/ -o leak/ --methods adain,wct
    """
    from .study.compare import available
    from .study.leak import leak as study

    chosen = available(_names(methods))
    _begin()
    with _interrupts("ending with the methods that are done") as interrupted, _bar() as bar:
        task = bar.add_task("leak", total=None, loss="")

        def on_progress(done: int, total: int, name: str) -> bool:
            bar.update(task, completed=done, total=total, loss=f"{done}/{total}  {name}")
            return interrupted()

        where = device or "auto"
        curves = study(
            *(content, styles, out, chosen),
            rounds=rounds,
            size=size,
            device=where,
            on_progress=on_progress,
        )
        stopped = interrupted()
    for name, values in curves.items():
        print(f"{name:20} " + " ".join(f"{value:.3f}" for value in values))
    if curves:
        say.print(str(out / "leak.png"))
    if stopped:
        raise typer.Exit(INTERRUPTED)


@app.command()
def backbones() -> None:
    """List the backbones: what is installed, where, and how large.

    Example:

        impasto backbones
    """
    from .backbones.compact import BUNDLED
    from .backbones.weights import RECORDS, find, home

    table = Table(box=None, pad_edge=False)
    for heading in ("weights", "backbone", "state", "MB", "licence"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    for name, file in BUNDLED.items():
        megabytes = f"{file.stat().st_size / 1e6:.1f}"
        table.add_row(name, name, f"bundled, {escape(str(file))}", megabytes, "as impasto")
    for record in RECORDS.values():
        path = find(record)
        size = path.stat().st_size if path else record.size
        absent = "not here" if record.pinned else "by hand"
        table.add_row(
            record.name,
            record.backbone,
            escape(str(path)) if path else f"{absent}: {record.address}",
            f"{size / 1e6:.1f}" if size else "?",
            record.licence,
        )
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
    console.print(table)
    console.print(f"cache folder: {home()} (IMPASTO_HOME)")


@app.command()
def doctor() -> None:
    """Tell what a bug report needs: versions, devices, what auto takes and why, what is missing.

    It needs no network, writes nothing, and names your home folder ~. Its exit code is always 0.

    Examples:

        impasto doctor

        impasto doctor > doctor.txt
    """
    from .doctor import laid_out, report

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(laid_out(report(), width))


@app.command()
def samples(
    folder: Annotated[Path, typer.Argument(help="Where to write them; made if it is not there.")],
    size: Annotated[int, typer.Option(help="Height in pixels; the width is 4/3 of it.")] = 768,
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.")] = 0,
    photos: Annotated[
        bool, typer.Option("--photos", help="Write scikit-image's free photographs too.")
    ] = False,
) -> None:
    """Write sample paintings that the project draws itself, and photographs to try them on.

    Examples:

        impasto samples paintings/

        impasto samples paintings/ --size 1200 --seed 3

        impasto samples tryout/ --photos
    """
    from .samples import write_photographs, write_samples

    written = write_samples(folder, size, seed)
    for path in written + (write_photographs(folder) if photos else []):
        say.print(str(path))


@train_app.command("METHOD", cls=_OfMethod)
def train_method(
    method: Annotated[str, typer.Argument(help="A method that can be trained, such as adain.")],
    photos: Annotated[Path, typer.Option(help="Folder of photographs, with all below it.")],
    paintings: Annotated[
        Path | None,
        typer.Option(help="Folder of paintings, unless the method needs photographs alone."),
    ] = None,
    style: Annotated[
        list[Path] | None,
        typer.Option("--style", "-s", help="Of johnson: a painting to learn; may be repeated."),
    ] = None,
    style_size: Annotated[
        int | None,
        typer.Option(help="Of johnson: short side to which it is reduced; larger, larger strokes."),
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
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="TABLE.KEY=VALUE instead of the recipe's, in all stages; may be repeated."
        ),
    ] = None,
    vgg: Annotated[
        Path | None,
        typer.Option(help="Weights of VGG, where the recipe's encoder or loss network is VGG."),
    ] = None,
    convention: Convention = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that prepare pictures; 0 prepares them between the steps. Default: 2.",
            min=0,
        ),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, or float16 (CUDA); mixed with float32.")
    ] = "auto",
    devices: Annotated[int, typer.Option(help="Processes, each with a device.", min=1)] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.", min=1)] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's, such as ddp.")] = "auto",
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
    from .errors import Interrupted
    from .training.accelerator import Hardware, is_main
    from .training.recipes import parse_set
    from .training.train import train

    run = run or Path("runs") / method
    given = {"styles": style, "style_size": style_size}
    hardware = Hardware(device or "auto", precision, devices, nodes, strategy)
    changes = dict(map(parse_set, option or []))
    if workers is not None:
        if "data.workers" in changes:
            raise InputError("data.workers: given by --workers and --set; leave one out")
        changes["data.workers"] = workers
    _begin()
    with _interrupts("stopping after this step, with a checkpoint") as interrupted, _bar() as bar:
        task = bar.add_task(method, total=None, loss="")

        def on_progress(step: int, total: int, loss: float) -> bool:
            shown = f"{step}/{total}  loss {loss:.4g}"
            bar.update(task, completed=step, total=total, loss=shown)
            return interrupted()

        try:
            train(
                *(method, photos, paintings, recipe, run, out or run / f"{method}.safetensors"),
                resume=resume,
                steps=steps,
                options={name: value for name, value in given.items() if value is not None},
                changes=changes,
                vgg=vgg,
                convention=convention,
                hardware=hardware,
                on_progress=on_progress,
                log=say.print,
            )
        except Interrupted as stopped:
            if not is_main():
                return  # the main process speaks, and would be killed by a child that failed
            say.print(f"impasto: stopped at step {stopped}; go on by the same command and --resume")
            raise typer.Exit(INTERRUPTED) from None


@train_app.command("encoder")
def train_encoder(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    backbone: Annotated[
        str,
        typer.Option(
            help="compact or slim, distilled from VGG-19; or resnet18, resnet50, by labels."
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
        typer.Option(help="Folder of checkpoints (default runs/BACKBONE); a run goes on from it."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE instead of the recipe's; may be repeated."),
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Distilled: folder of photographs.")] = None,
    paintings: Annotated[Path | None, typer.Option(help="Distilled: folder of paintings.")] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Distilled: VGG-19 weights with torchvision's names, to relu4_1 or more."
        ),
    ] = None,
    convention: Convention = None,
    teacher_relu5: Annotated[
        Path | None,
        typer.Option(
            help="Distilled: a 16-times-smaller VGG-19 for relu5_1, if the teacher ends before."
        ),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            help="ResNet: a folder with a folder for each class (and all below it), or with files "
            "named CLASS_NUMBER.jpg; may be repeated."
        ),
    ] = None,
    adversarial: Annotated[
        bool | None,
        typer.Option(help="ResNet: learn from attacked pictures, for robust weights (Madry)."),
    ] = None,
    device: Device = None,
) -> None:
    """Distil a bundled encoder from VGG-19, or train a ResNet, standard or robust.

    Examples:

        impasto train encoder --photos photos/ --paintings paintings/ --teacher vgg19.safetensors
        --convention caffe --recipe recipes/compact.toml -o compact.safetensors

        impasto train encoder --backbone resnet18 --pictures labelled/ --adversarial
        -o robust.safetensors
    """
    from .backbones.compact import BUNDLED
    from .errors import Interrupted
    from .images.places import check_place
    from .training.recipes import parse_set

    check_place(out)
    run = run or Path("runs") / backbone
    changes = dict(map(parse_set, option or []))
    if backbone in BUNDLED:
        if pictures or adversarial is not None:
            raise InputError("--pictures and --adversarial are for --backbone resnet18 or resnet50")
        wanted = {"--photos": photos, "--paintings": paintings, "--teacher": teacher}
        missing = [flag for flag, given in (wanted | {"--recipe": recipe}).items() if not given]
        if missing:
            raise InputError(f"the encoder {backbone} is distilled: give {', '.join(missing)} too")
    elif not pictures:
        raise InputError(f"{backbone} learns from labelled pictures: name a folder, --pictures DIR")
    _begin()
    with _interrupts("stopping after this step, with a checkpoint") as interrupted, _bar() as bar:
        task = bar.add_task(backbone, total=None, loss="")

        def on_progress(step: int, total: int, loss: float) -> bool:
            shown = f"{step}/{total}  loss {loss:.4g}"
            bar.update(task, completed=step, total=total, loss=shown)
            return interrupted()

        try:
            if backbone in BUNDLED:
                from .training.encoder import train

                train(
                    *(photos, paintings, teacher, convention, teacher_relu5),  # type: ignore[arg-type]
                    *(recipe, run, out, steps, say.print),  # type: ignore[arg-type]
                    name=backbone,
                    changes=changes,
                    device=device or "auto",
                    on_progress=on_progress,
                )
                return
            from .training.classify import classify

            classify(
                *(backbone, pictures, recipe, run, out),  # type: ignore[arg-type]
                adversarial=adversarial,
                steps=steps,
                changes=changes,
                device=device or "auto",
                on_progress=on_progress,
                log=say.print,
            )
        except Interrupted as stopped:
            say.print(f"impasto: stopped at step {stopped}; go on by the same command")
            raise typer.Exit(INTERRUPTED) from None


def _flag(option: str) -> str:
    """As it is typed: the option of a method that stands behind it may be called otherwise."""
    name = {"weights_file": "backbone-weights", "encoder_weights": "backbone-weights"}.get(option)
    return f"--{name or option.replace('_', '-')}"


def _names(methods: str) -> list[str] | None:
    """None for all."""
    return None if methods == "all" else [name.strip() for name in methods.split(",")]


def _smooth(text: str | None) -> Any:
    """One word for all stages, or stage -> word."""
    if text is None or "=" not in text:
        return text
    pairs = [part.partition("=") for part in text.split(",")]
    return {stage.strip(): how.strip() for stage, _, how in pairs}


def _layers(option: str, text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    layers: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        layers[name] = (_numbers(option, weight) or [1.0])[0] if weight else 1.0
    return layers


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--{option} {text!r}: give numbers separated by commas") from None
    _check_finite(**{option: numbers})
    return numbers


def _brush(text: str) -> float | None:
    """A number, or none."""
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--brush {text!r}: give a number such as 0.5 or 2, or none") from None


def _check_finite(**options: float | Sequence[float] | None) -> None:
    """Raise InputError for an option that is no finite number."""
    for name, given in options.items():
        for number in given if isinstance(given, Sequence) else [given]:
            if number is not None:
                check_finite(_flag(name), number)


def _integers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    _numbers(option, text)
    for part in text.split(","):
        if not part.strip().lstrip("+-").isdecimal():
            raise InputError(
                f"--{option}: {part.strip()!r} is not a whole number; give whole numbers separated "
                "by commas"
            )
    return [int(part) for part in text.split(",")]


def _one_or_many(values: list[int] | None) -> int | list[int] | None:
    return values[0] if values is not None and len(values) == 1 else values
