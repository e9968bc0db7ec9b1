"""`impasto stylize`: render photographs in styles."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..controls import Controls, Saving
from ..errors import InputError
from ..files import check_apart, identity, shown
from ..methods import DEFAULT, METHODS, MethodRecord, check_options, record_of, resolved
from ..methods.records.gatys import OF_BACKBONE, REFINED
from ..options import PICTURES, STYLE, Choice, File, Option
from ..targets import NAME, STANDARD, Inputs, Job, gather, plan
from .batch import Batch, is_done, settings_of, standard_input
from .console import begin, say
from .declared import HelpAll, of_methods, typed, values_of, without_none
from .running import stop

if TYPE_CHECKING:
    from ..methods import Method
    from ..methods.gatys import Gatys
    from ..session import Session

__all__ = ["HELP", "stylize"]

HELP = """Render photographs in the style of one painting or several.

The first picture is the content. The others are styles, which are mixed. With --style, all pictures
are contents. A style is a painting, a file made by `impasto style` or `impasto learn`, or a name
that `impasto styles` lists. A folder stands for every picture in it. - is standard input or output.

Examples:

impasto stylize photo.jpg painting.jpg -o out.png
impasto stylize photo.jpg starry_night monet --weights 2,1 -o mixed.jpg
impasto stylize holiday/ --style starry_night -o painted/ --size 512
impasto stylize photo.jpg painting.jpg --color match --strength 0.7
impasto stylize other.jpg painting.jpg --like out.png
impasto stylize photo.jpg starry_night
impasto stylize *.jpg --style painting.jpg -o painted/ --quality 90 --skip-existing
impasto stylize holiday/ --recursive --style painting.jpg -o painted/
impasto stylize photo.jpg paintings/ -o by_each/
impasto stylize photo.jpg painting.jpg -o "{content}_by_{style}.png" -m gatys --backbone vgg16
impasto stylize photo.jpg painting.jpg -m gatys-report3 --iterations 300
impasto stylize scan.tif painting.jpg -o out.tif --depth 16
impasto stylize - painting.jpg -o - < photo.jpg > out.png
impasto stylize photo.jpg painting.jpg -o fine.png --method adain --refine 30
impasto stylize photo.jpg starry_night -o out.png --method johnson
impasto stylize photo.jpg painting.jpg -o bold.png --brush 2
"""
LEARNT_FILES = (".style", ".safetensors")  # endings of files that cannot be photographs


@typed(Controls, Saving, of_methods(), experts=("preview", "no_resume"))
def stylize(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="CONTENT STYLE...",
            help="Files and folders; styles may be names.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="File or folder; {content} and {style} may be in its name.",
            metavar="PATH",
            rich_help_panel=PICTURES,
        ),
    ] = NAME,
    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", help="Include subfolders.", rich_help_panel=PICTURES),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Skip results that exist.", rich_help_panel=PICTURES),
    ] = False,
    preview: Annotated[
        int | None,
        typer.Option(
            help="Write the picture so far every N iterations.",
            metavar="N",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    no_resume: Annotated[
        bool,
        typer.Option(
            "--no-resume",
            help="Begin anew, although an interrupted run has left a checkpoint (gatys).",
            rich_help_panel=PICTURES,
        ),
    ] = False,
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            "-s",
            help="A style; may be repeated.",
            metavar="STYLE",
            rich_help_panel=STYLE,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="A method or a preset, such as gatys-report3: see `impasto methods`. "
            f"Default: {DEFAULT}.",
            metavar="NAME",
            rich_help_panel=STYLE,
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Use this picture's settings; other options override them.",
            metavar="PICTURE",
            rich_help_panel=STYLE,
        ),
    ] = None,
    help_all: HelpAll = False,
    **options: Any,
) -> None:
    """Help is HELP."""
    from ..refinement import check_controls

    record, controls, saving, method_options = _chosen(method, like, without_none(options))
    _check_preview(preview, record, controls, saving, out)
    optimises = controls.refine is not None or not record.one_pass
    if no_resume and not optimises:
        raise InputError(f"--no-resume: method {record.name} works in one pass; leave it out")
    if saving.keep_gps and not saving.metadata:
        raise InputError("--keep-gps and --no-metadata: choose one of them")
    check_controls(controls)
    learnt, weighted = record.learns_styles, options["weights"] is not None
    inputs = gather(pictures, style, learnt=learnt, weighted=weighted, recursive=recursive, out=out)
    shares = None if weighted else controls.weights
    if shares is not None and any(len(mixed) != len(shares) for mixed in inputs.styles):
        controls = replace(controls, weights=None)  # the weights of --like are for other styles
    planned = plan(inputs, out)
    earlier = _earlier_results(inputs, planned)
    if earlier:
        inputs = inputs.without(earlier)
        planned = plan(inputs, out)
    targets = [job.target for job in planned if job.target is not None]
    descriptor = 0 if STANDARD in (*pictures, *(style or ())) else None
    files = [value for value in method_options.values() if isinstance(value, (str, Path))]
    check_apart(targets, [*inputs.files, *files, like, descriptor])
    if not (style or controls.weights is not None or learnt):
        _warn_of_mixture(inputs)
    if planned[0].target is None and sys.stdout is None:
        raise InputError("-o -: there is no standard output; name a file, -o OUT")
    if planned[0].target is None and sys.stdout.isatty():
        raise InputError("-o -: standard output is a terminal; name a file, or add > OUT.png")
    jobs = [job for job in planned if not (skip_existing and is_done(job.target))]
    if len(jobs) < len(planned):
        say.print(f"impasto: {len(planned) - len(jobs)} of {len(planned)} exist already")
    if not jobs:
        return
    batch = Batch(len(jobs), saving, preview, checkpoints=optimises, resume=not no_resume)
    jobs = batch.writable(jobs)
    begin()
    sessions = _Sessions(record.name, controls, method_options)
    if len(inputs.styles) == 1:
        sessions(jobs[0].styles)  # an error of the only style is reported once, not for each job
    for note in [sessions.method.settings["device"], *sessions.method.notes]:
        say.print(f"impasto: {note}")
    interrupted = batch.render(jobs, sessions)
    batch.report()
    if interrupted:
        stop("interrupted; the results so far are written" if batch.written else "")
    if batch.failed:
        raise typer.Exit(1)


def _chosen(
    method: str | None, like: Path | None, typed: Mapping[str, Any]
) -> tuple[MethodRecord, Controls, Saving, dict[str, Any]]:
    """The method, the controls, the file options, and the options of method and refinement."""
    settings: dict[str, Any] = {}
    if like is not None:
        from ..pipeline import recorded

        name, settings = recorded(like)
        method = method or name
        settings = _transferable(settings, record_of(name), record_of(method))
    record, chosen = resolved(method or DEFAULT)
    declared = Controls.declared()
    controls = Controls(
        **{name: value for name, value in settings.items() if name in declared}
        | values_of(declared, {name: typed[name] for name in declared if name in typed})
    )
    declared = Saving.declared()
    saving = values_of(declared, {name: typed[name] for name in declared if name in typed})
    declared_options = dict(record.Options.declared())
    rest = {
        name: value
        for name, value in typed.items()
        if name not in (*Controls.declared(), *declared)
    }
    if controls.refine is None:
        check_options(f"method {record.name}", record, rest)
    else:
        gatys = METHODS["gatys"].Options.declared()
        own = declared_options.keys() - (() if "backbone" in declared_options else OF_BACKBONE)
        declared_options |= {
            name: option for name, option in gatys.items() if name in REFINED and name not in own
        }
        check_options(f"method {record.name} with a refinement", declared_options, rest)
    settings = {**settings, **chosen}
    options = {name: value for name, value in settings.items() if name in declared_options}
    for name in options.keys() - rest.keys():
        _check_named(like, declared_options[name], options[name])
    return record, controls, Saving(**saving), options | values_of(declared_options, rest)


def _transferable(
    settings: Mapping[str, Any], source: MethodRecord, target: MethodRecord
) -> dict[str, Any]:
    """Recorded settings of method ``source`` that have the same meaning for ``target``."""
    source_options, target_options = source.Options.declared(), target.Options.declared()
    return {
        name: value
        for name, value in settings.items()
        if target is source
        or name not in source_options
        or (
            name in target_options
            and source_options[name].kind == target_options[name].kind
            and not isinstance(source_options[name].kind, File)
        )
    }


def _check_named(like: Path | None, declared: Option, value: Any) -> None:
    """Raise InputError if a file that recorded settings name does not exist."""
    kind, flag = declared.kind, declared.flag
    if not isinstance(kind, (File, Choice)) or value in kind.words:
        return
    if (isinstance(kind, File) or declared.name == "start") and not Path(value).exists():
        raise InputError(f"{like}: made with {flag} {value}, which does not exist: add {flag} FILE")


def _check_preview(
    preview: int | None, record: MethodRecord, controls: Controls, saving: Saving, out: str
) -> None:
    """Raise InputError if previews cannot be written."""
    if preview is None:
        return
    if preview < 1:
        raise InputError(f"preview is {preview}: must be 1 or more iterations")
    if controls.refine is None and record.one_pass:
        raise InputError(f"--preview: method {record.name} works in one pass; leave it out")
    if not saving.metadata or out.lower().endswith(".bmp"):
        raise InputError(
            "--preview: the metadata of a result must tell it from a preview; leave out "
            "--no-metadata, and choose another format than BMP"
        )
    if out == STANDARD:
        raise InputError("--preview: standard output takes one picture; name a file, -o OUT")


def _warn_of_mixture(inputs: Inputs) -> None:
    """Warn that several pictures without --style are one photograph and a mixture of styles."""
    from ..styles import is_name

    styles = inputs.styles[0]
    unambiguous = all(is_name(part) or part.lower().endswith(LEARNT_FILES) for part in styles)
    if len(styles) > 1 and not unambiguous:
        say.print(
            f"impasto: {inputs.contents[0]} in a mixture of {', '.join(map(shown, styles))}; if "
            "these are photographs too, name the painting with --style"
        )


def _earlier_results(inputs: Inputs, planned: Sequence[Job]) -> set[Path]:
    """Results of an earlier run in an input folder, which are not photographs to render."""
    targets = {identity(job.target) for job in planned if job.target is not None} - {None}
    targeted = {path for path in inputs.listed if identity(path) in targets}
    return {path for path in targeted if settings_of(path)}


class _Sessions:
    """Sessions by the styles of a job; the latest is cached.

    Attributes:
        method: the method, loaded once.
    """

    def __init__(self, name: str, controls: Controls, options: Mapping[str, Any]) -> None:
        from ..refinement import load_refined

        self.method: Method[object]
        self.refine: Gatys | None
        self.method, self.refine = load_refined(name, controls, options)
        self.controls = controls
        self._latest: tuple[tuple[str, ...], Session] | None = None

    def __call__(self, names: tuple[str, ...]) -> Session:
        """The session for a mixture of styles."""
        from ..session import Session

        if self._latest is None or self._latest[0] != names:
            learnt = self.method.learnt is not None
            styles = [
                standard_input() if name == STANDARD and not learnt else name for name in names
            ]
            session = Session(self.method, styles, controls=self.controls, refine=self.refine)
            self._latest = names, session
        return self._latest[1]
