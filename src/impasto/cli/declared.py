"""Options of the command line, their help and its panels, from what is declared once.

See :mod:`impasto.options`: every option has a panel, and the first help leaves out those for
experts. `--help-all` shows all, `--method M --help` those of a method.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from ..methods import METHODS, options_of, record_of
from ..options import COLOR, METHOD, PICTURES, SIZE, STYLE, Flag, Option, Options

__all__ = ["Command", "HelpAll", "Helpful", "given_of", "of_methods", "typed", "values_of"]

Function = TypeVar("Function", bound=Callable[..., Any])
SEVERAL = "Several methods"
HELP_ALL = "--help-all"


def of_methods(names: Iterable[str] | None = None) -> dict[str, Option]:
    """Every option of a method, by name, once.

    Where several methods have one that differs, the help tells them apart.

    Args:
        names: of the options; None for all that can be typed.
    """
    found: dict[str, dict[str, Option]] = {}
    for method in sorted(METHODS):
        for name, declared in METHODS[method].Options.declared().items():
            if declared.kind.typed and (names is None or name in names):
                found.setdefault(name, {})[method] = declared
    return {name: _merged(by_method) for name, by_method in found.items()}


def _merged(by_method: Mapping[str, Option]) -> Option:
    first = next(iter(by_method.values()))
    alike = all(declared.default == first.default for declared in by_method.values())
    helps: dict[str, list[str]] = {}
    for method, declared in by_method.items():
        helps.setdefault(_help(declared) if alike else declared.help, []).append(method)
    group, expert = first.group, all(declared.expert for declared in by_method.values())
    if group == METHOD:
        expert = True  # the first help is of what all methods have
        group = SEVERAL if len(by_method) > 1 else f"Method {next(iter(by_method))}"
    if group == SEVERAL:
        helps = {f"Of {', '.join(names)}: {text}": names for text, names in helps.items()}
    return Option(first.name, None, first.kind, " ".join(helps), group, expert)


def _help(declared: Option) -> str:
    """With its default, where the help does not say it."""
    default = declared.default
    if default is None or isinstance(default, bool) or "default" in declared.help.lower():
        return declared.help
    return (
        f"{declared.help} Default: {default:g}."
        if isinstance(default, float)
        else (f"{declared.help} Default: {default}.")
    )


def typed(
    *sets: Mapping[str, Option] | type[Options], experts: Iterable[str] = ()
) -> Callable[[Function], Function]:
    """A decorator of commands: ``**options`` becomes an option for each that is declared.

    The command gets what was typed, as text, or None; see :func:`values_of`.

    Args:
        sets: of options.
        experts: names of the command's own options that the first help leaves out.
    """

    tables = [each if isinstance(each, Mapping) else each.declared() for each in sets]

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        parameters = {
            name: parameter
            for name, parameter in signature.parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        }
        for table in tables:
            parameters |= {option.name: _parameter(option) for option in table.values()}
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=list(parameters.values())
        )
        function.__annotations__ = {name: p.annotation for name, p in parameters.items()}
        function.experts = {  # type: ignore[attr-defined]
            *experts,
            *(option.name for table in tables for option in table.values() if option.expert),
        }
        return function

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    is_flag = isinstance(option.kind, Flag)
    flags = f"{option.flag}/--no-{option.flag[2:]}" if is_flag else option.flag
    shown = typer.Option(
        flags,
        help=_help(option),
        metavar=None if is_flag else option.kind.metavar,
        rich_help_panel=option.group,
        show_default=False,
    )
    kind = bool if is_flag else str
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, shown],
    )


def given_of(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that were typed."""
    return {name: value for name, value in typed.items() if value is not None}


def values_of(declared: Mapping[str, Option], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The values of options that were typed; InputError for one that is out of range."""
    return {
        name: declared[name].parse(text) if isinstance(text, str) else text
        for name, text in given_of(typed).items()
    }


class Command(TyperCommand):
    """A command whose help has lines as long as the terminal is wide."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See the class; an example begins a line of its own."""
        shown = copy.copy(self)
        shown.help = re.sub(r"(?<!\n)\n(?!\n|\s*impasto )\s*", " ", self.help or "")
        TyperCommand.format_help(shown, ctx, formatter)


class Helpful(Command):
    """A command with three helps: of what most people want, of everything, and of one method."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remembers what was typed, for the help."""
        ctx.meta["impasto.typed"] = list(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See the class."""
        words: list[str] = ctx.meta.get("impasto.typed", [])
        shown = copy.copy(self)
        method = _method_in(words)
        if HELP_ALL in words:
            shown.params = list(self.params)
        elif method is not None:
            names = options_of(method)
            declared = record_of(method).Options.declared()
            shown.params = [
                _of_method(param, declared[param.name], method)
                for param in self.params
                if param.name in names
            ]
            shown.help = f"{record_of(method).title}\n\nOf all methods: impasto stylize --help-all"
        else:
            experts = getattr(self.callback, "experts", ())
            shown.params = [param for param in self.params if param.name not in experts]
            shown.help = _short(self.help or "")
        shown.params.sort(key=_panel)
        Command.format_help(shown, ctx, formatter)


def _panel(param: Any) -> int:
    panel = getattr(param, "rich_help_panel", None)
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


PANELS = (None, PICTURES, STYLE, COLOR, SIZE)


def _of_method(param: Any, declared: Option, method: str) -> Any:
    shown = copy.copy(param)
    shown.help = _help(declared)
    kind = "expert" if declared.expert else "options"
    shown.rich_help_panel = f"Method {method}: {kind}"
    return shown


def _method_in(words: Sequence[str]) -> str | None:
    """What stands behind the last -m or --method. Raises InputError if it is no method."""
    found = re.findall(r"^(?:-m|--method)(?:\n|=)?(\w+)$", "\n".join(words), re.MULTILINE)
    return record_of(found[-1]).name if found else None


def _short(text: str) -> str:
    """With the first examples alone."""
    head, mark, examples = text.partition("Examples:\n\n")
    return head + mark + "\n".join(examples.split("\n")[:SHORT])


SHORT = 5  # examples in the first help


def _show_all(ctx: typer.Context, asked: bool) -> None:
    if asked:
        ctx.get_help()
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        HELP_ALL,
        callback=_show_all,
        is_eager=True,
        help="Every option; --method M --help: those of M.",
        show_default=False,
    ),
]
