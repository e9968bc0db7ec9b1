"""The types of public names: exact, and never apart from the declared options.

`make lint` has type checkers judge tests/typed.py, and tests/verify_types.py.
"""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from make_keywords import FILE, made, title

import impasto
from impasto.controls import Saving, SavingKeywords
from impasto.methods import METHODS, keywords
from impasto.methods.gatys import Gatys

ROOT = Path(impasto.__file__).parent


def test_the_keywords_are_those_of_the_declared_options():
    written = FILE.read_text(encoding="utf-8")
    same = ast.dump(ast.parse(written)) == ast.dump(ast.parse(made()))
    assert same, "options have changed since methods/keywords.py was made: run `make keywords`"


def test_those_of_a_file_are_those_of_the_declared_options():
    declared = get_type_hints(Saving)
    assert get_type_hints(SavingKeywords) == {name: declared[name] for name in Saving.declared()}


@pytest.mark.parametrize("suffix", ["Keywords", "WithControls"])
def test_an_editor_completes_iterations_for_gatys_alone(suffix):
    names = {method: f"{title(record)}{suffix}" for method, record in METHODS.items()}
    keys = {method: getattr(keywords, name).__optional_keys__ for method, name in names.items()}
    assert [method for method in keys if "iterations" in keys[method]] == ["gatys"]


@pytest.mark.parametrize(
    ("module", "function"),
    [("methods/__init__", "load"), ("pipeline", "stylize"), ("session", "__init__")],
)
def test_every_method_has_an_overload(module, function):
    tree = ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    overloads = [node for node in ast.walk(tree) if is_overload(node) and node.name == function]
    text = " ".join(map(ast.unparse, overloads))
    missing = [name for name in METHODS if f"method: kw.{title(METHODS[name])}Name" not in text]
    assert not missing


def test_the_signature_of_gatys_takes_the_backbone_by_position_and_by_name():
    signature = inspect.signature(Gatys)
    assert signature.bind("slim") == signature.bind(backbone="slim")
    assert Gatys(backbone="slim", device="cpu").net.name == "slim"


def test_no_public_signature_has_any():
    """Neither those of public names, nor those of what these are made of."""
    names = [place for name in impasto.__all__ if (place := place_of("impasto", name))]
    assert len(names) == len(impasto.__all__)
    seen, wrong = set(names), []
    while names:
        module, name = names.pop()
        for node in DEFINED[module][name]:
            for annotation in public_types(node):
                found = set(names_in(annotation))
                wrong += [f"{module}.{name}: {ast.unparse(annotation)}"] if "Any" in found else []
                places = {place for other in found if (place := place_of(module, other))}
                names += places - seen
                seen |= places
    assert {"Backbone", "Gatys", "Metadata", "OnStep", "Source"} <= {name for _, name in seen}
    assert not wrong, "\n".join(sorted(wrong))


def is_overload(node: ast.AST) -> bool:
    """Whether it is a function of which type checkers see the signature, not the body."""
    decorators = getattr(node, "decorator_list", ())
    return isinstance(node, ast.FunctionDef) and "overload" in map(ast.unparse, decorators)


def public_types(node: ast.AST) -> Iterator[ast.expr]:
    """Annotations of a function, or of a class's public parts; an alias itself."""
    if isinstance(node, ast.expr):
        yield node
    elif isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in [*arguments, node.args.vararg, node.args.kwarg]:
            yield from [argument.annotation] if argument and argument.annotation else []
        yield from [node.returns] if node.returns else []
    elif isinstance(node, ast.ClassDef):
        yield from node.bases
        overloaded = {part.name for part in node.body if is_overload(part)}
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                public = not part.name.startswith("_") or part.name in ("__init__", "__call__")
                if public and (is_overload(part) or part.name not in overloaded):
                    yield from public_types(part)
        for part in ast.walk(node):
            if isinstance(part, ast.AnnAssign):
                target = ast.unparse(part.target)
                in_class = part in node.body or target.startswith("self.")
                if in_class and not target.removeprefix("self.").startswith("_"):
                    yield part.annotation


def names_in(annotation: ast.expr) -> Iterator[str]:
    """Names in an annotation, also those of a module's, such as ``kw.GatysKeywords``."""
    for node in ast.walk(annotation):
        if isinstance(node, (ast.Name, ast.Attribute)):
            yield ast.unparse(node)


def place_of(module: str, name: str) -> tuple[str, str] | None:
    """The module that defines what ``module`` calls ``name``; None for what is not ours."""
    first, _, rest = name.partition(".")
    if not rest and name in DEFINED[module]:
        return module, name
    if first not in IMPORTED[module]:
        return None
    source, original = IMPORTED[module][first]
    if rest:
        source, original = f"{source}.{original}", rest
    return place_of(source, original) if source in DEFINED else None


def read_modules() -> None:
    """Fill DEFINED and IMPORTED."""
    for path in ROOT.rglob("*.py"):
        folder = ["impasto", *path.relative_to(ROOT).parts[:-1]]
        module = ".".join(folder if path.stem == "__init__" else [*folder, path.stem])
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined, imported = defaultdict(list), {}
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                if is_overload(node) or not any(map(is_overload, defined[node.name])):
                    defined[node.name].append(node)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                defined[node.targets[0].id].append(node.value)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                defined[node.target.id] += [node.value] if node.value else []
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*folder[: len(folder) + 1 - node.level], *filter(None, [node.module])]
                for alias in node.names:
                    imported[alias.asname or alias.name] = ".".join(base), alias.name
        DEFINED[module], IMPORTED[module] = dict(defined), imported


DEFINED: dict[str, dict[str, list[ast.AST]]] = {}  # module -> name -> classes, functions, aliases
IMPORTED: dict[str, dict[str, tuple[str, str]]] = {}  # module -> name -> module and name there
read_modules()
