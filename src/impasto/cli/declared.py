"""Command-line options, their help and its panels, made from the declared options.

See :mod:`impasto.options`. Every option has a panel. `--help` leaves out the options for experts,
`--help-all` shows all options, and `--method M --help` shows those of one method.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from ..errors import flag_of
from ..methods import METHODS, options_of, record_of
from ..options import COLOR, METHOD, PICTURES, SIZE, STYLE, Flag, Option, Options
from ..options.renames import say_renamed

__all__ = [
    "Command",
    "HelpAll",
    "Helpful",
    "of_methods",
    "typed",
    "values_of",
    "was",
    "with_new_flags",
    "without_none",
]

Function = TypeVar("Function", bound=Callable[..., Any])
SEVERAL = "Several methods"
HELP_ALL = "--help-all"


def of_methods(names: Iterable[str] | None = None) -> dict[str, Option]:
    """The options of all methods, by name.

    Where the option differs between methods, its help describes each.

    Args:
        names: names of options; None for all that can be typed.
    """
    options: dict[str, dict[str, Option]] = {}
    for method in sorted(METHODS):
        for name, declared in METHODS[method].Options.declared().items():
            if declared.kind.typed and (names is None or name in names):
                options.setdefault(name, {})[method] = declared
    return {name: _merged(by_method) for name, by_method in options.items()}


def _merged(by_method: Mapping[str, Option]) -> Option:
    first = next(iter(by_method.values()))
    same_default = all(declared.default == first.default for declared in by_method.values())
    helps: dict[str, list[str]] = {}
    for method, declared in by_method.items():
        text = _help(declared) if same_default else declared.help
        helps.setdefault(text, []).append(method)
    group, expert = first.group, all(declared.expert for declared in by_method.values())
    if group == METHOD:
        expert = True  # --help shows only options that all methods have
        group = SEVERAL if len(by_method) > 1 else f"Method {next(iter(by_method))}"
    if group == SEVERAL:
        helps = {f"Of {', '.join(names)}: {text}": names for text, names in helps.items()}
    was = tuple(dict.fromkeys(old for declared in by_method.values() for old in declared.was))
    return Option(first.name, None, first.kind, " ".join(helps), group, expert, was=was)


def _help(declared: Option) -> str:
    """The help, with the default appended unless the text mentions it."""
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
    """A decorator of commands that replaces ``**options`` by the declared options.

    The command receives each as the text that was typed, or None; see :func:`values_of`.

    Args:
        sets: sets of options.
        experts: names of the command's other options that `--help` leaves out.
    """

    tables = [options if isinstance(options, Mapping) else options.declared() for options in sets]

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
        for option in (option for table in tables for option in table.values()):
            was(**{option.name: option.was})(function)
        return function

    return decorate


def was(**names: str | Sequence[str]) -> Callable[[Function], Function]:
    """A decorator of commands whose options have new names: ``was(new="old")``.

    An old flag works for one version, with a line that names the new one.
    """

    def decorate(function: Function) -> Function:
        renames = function.__dict__.setdefault("renames", {})
        for name, olds in names.items():
            for old in [olds] if isinstance(olds, str) else olds:
                renames[flag_of(old)] = flag_of(name)
        return function

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    is_flag = isinstance(option.kind, Flag)
    flags = f"{option.flag}/--no-{option.flag[2:]}" if is_flag else option.flag
    option_info = typer.Option(
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
        annotation=Annotated[kind | None, option_info],
    )


def without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were typed."""
    return {name: value for name, value in options.items() if value is not None}


def values_of(declared: Mapping[str, Option], options: Mapping[str, Any]) -> dict[str, Any]:
    """The parsed values of the options that were typed. Raises InputError for an invalid one."""
    return {
        name: declared[name].parse(text) if isinstance(text, str) else text
        for name, text in without_none(options).items()
    }


class Command(TyperCommand):
    """A command whose help is wrapped to the width of the terminal, and which takes old flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace flags of an earlier version, with a note for each."""
        renames = getattr(self.callback, "renames", {})
        return super().parse_args(ctx, list(with_new_flags(args, renames)))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Join the lines of each paragraph; an example starts a new line."""
        command = copy.copy(self)
        command.help = re.sub(r"(?<!\n)\n(?!\n|\s*impasto )\s*", " ", self.help or "")
        TyperCommand.format_help(command, ctx, formatter)


class Helpful(Command):
    """A command with three helps: common options, all options, and those of one method."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the arguments, which decide what the help shows."""
        ctx.meta["impasto.typed"] = list(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Select the options that the arguments ask for."""
        arguments: list[str] = ctx.meta.get("impasto.typed", [])
        command = copy.copy(self)
        method = _method_in(arguments)
        if HELP_ALL in arguments:
            command.params = list(self.params)
        elif method is not None:
            names = options_of(method)
            record = record_of(method)
            declared = record.Options.declared()
            command.params = [
                _of_method(param, declared[param.name], method)
                for param in self.params
                if param.name in names
            ]
            presets = f"\n\nPresets: {', '.join(record.presets)}." if record.presets else ""
            command.help = (
                f"{record.title}{presets}\n\nOptions of all methods: impasto stylize --help-all"
            )
        else:
            experts = getattr(self.callback, "experts", ())
            command.params = [param for param in self.params if param.name not in experts]
            command.help = _short(self.help or "")
        command.params.sort(key=_panel)
        Command.format_help(command, ctx, formatter)


def with_new_flags(args: Iterable[str], renames: Mapping[str, str]) -> Iterator[str]:
    """Arguments with the flags of this version; what follows ``--`` are no flags."""
    flags = True
    for arg in args:
        flags = flags and arg != "--"
        flag, equals, value = arg.partition("=")
        negation = "--no-" if flag.startswith("--no-") else "--"
        new = renames.get(f"--{flag.removeprefix(negation)}") if flags else None
        if new is None or not flag.startswith("--"):
            yield arg
            continue
        new = negation + new.removeprefix("--")
        say_renamed(flag, new)
        yield new + equals + value


def _panel(param: Any) -> int:
    panel = getattr(param, "rich_help_panel", None)
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


PANELS = (None, PICTURES, STYLE, COLOR, SIZE)


def _of_method(param: Any, declared: Option, method: str) -> Any:
    param = copy.copy(param)
    param.help = _help(declared)
    kind = "expert" if declared.expert else "options"
    param.rich_help_panel = f"Method {method}: {kind}"
    return param


def _method_in(arguments: Sequence[str]) -> str | None:
    """The method after the last -m or --method. Raises InputError for an unknown one."""
    names = re.findall(r"^(?:-m|--method)(?:\n|=)?([\w-]+)$", "\n".join(arguments), re.MULTILINE)
    return record_of(names[-1]).name if names else None


def _short(text: str) -> str:
    """The help with the first examples only."""
    head, heading, examples = text.partition("Examples:\n\n")
    return head + heading + "\n".join(examples.split("\n")[:SHORT])


SHORT = 5  # examples that --help shows


def _show_all(ctx: typer.Context, requested: bool) -> None:
    if requested:
        ctx.get_help()
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        HELP_ALL,
        callback=_show_all,
        is_eager=True,
        help="Show every option; --method M --help shows those of M.",
        show_default=False,
    ),
]
