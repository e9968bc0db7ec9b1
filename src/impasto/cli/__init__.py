"""The command line: a file for each family of commands, each command a thin function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import InputError, typed_names
from ..files import shown
from . import about, console, study, styles
from .console import encode_all, own_warnings_alone, say
from .declared import Command, Helpful
from .stylize import HELP, stylize
from .training import train_app

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Render a photograph in the manner of a painting.",
)
study_app = typer.Typer(
    no_args_is_help=True, help="Experiments of the reports, repeated on your pictures."
)
app.command(cls=Helpful, help=HELP)(stylize)
_COMMANDS: list[Callable[..., None]] = [
    *(styles.style, styles.learn, styles.styles, styles.suggest, about.show, about.methods),
    *(study.compare, study.sweep, study.reconstruct),
    *(about.backbones, about.doctor, about.samples),
]
for _command in _COMMANDS:
    app.command(cls=Command)(_command)
study_app.command(cls=Command)(study.leak)
app.add_typer(train_app, name="train")
app.add_typer(study_app, name="study")

# The error for an unknown command or option. Typer may bundle its own click, so it is looked up.
_Usage: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command line; errors that the user can fix are one line and exit code 2."""
    with typed_names():
        _main()


def _main() -> None:
    try:
        with own_warnings_alone():
            encode_all()
            _refuse_empty(sys.argv[1:])
            code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except _Usage as error:
        if not sys.argv[1:]:
            error.show()
        elif getattr(error, "ctx", None) is None:
            say.print(f"impasto: {error.format_message()}", style="red")
        else:
            command = error.ctx.command_path
            say.print(f"impasto: {error.format_message()} See `{command} --help`", style="red")
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(console.ending(KeyboardInterrupt()))
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(console.ending(error))


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise InputError for an empty value: usually an unset shell variable, not the folder."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, equals, value = argument.partition("=")
        if argument == "" or (option.startswith("--") and equals and not value):
            where = option or (f"after {shown(before)}" if before else "the first argument")
            raise InputError(f"{where}: an empty name or value; is a variable not set?")


def _version(requested: bool) -> None:
    if requested:
        print(f"impasto {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
