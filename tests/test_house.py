"""The house stands: a room imports only rooms below it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import impasto
from impasto.methods import METHODS
from impasto.training.methods import TRAINABLE

ROOT = Path(impasto.__file__).parent
# From the ground up; those on one floor do not import each other, but for those in `BESIDE`.
FLOORS = [
    {"errors"},
    {"options"},
    {"controls", "files", "device", "progress", "linalg", "watch"},
    {"images", "statistics", "tensors"},
    {"transport"},
    {"losses", "color", "samples"},
    {"backbones"},
    {"styles"},
    {"networks", "operators", "finish"},
    {"methods", "result"},
    {"paintings", "refinement"},
    {"session"},
    {"training", "pipeline"},
    {"study", "targets", "doctor"},
    {"cli"},
    {"__main__"},
]
# Operators hold small networks.
BESIDE = {("operators", "networks")}


def rooms_imported(path: Path) -> set[str]:
    """Of impasto, wherever in the file: at its head, or late."""
    package = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            module = (node.module or "").split(".")
            if node.level == 0:
                if module[0] != "impasto":
                    continue
                module = module[1:]
            full = [*base, *filter(None, module)]
            names = [full[0]] if full else [alias.name for alias in node.names]
            found |= set(names)
    return {name for name in found if name not in ("__version__", "*")}


def test_no_room_imports_one_above_it():
    height = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in rooms_imported(path) - {room}:
            allowed = height[other] < height[room] or (room, other) in BESIDE
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


@pytest.mark.parametrize("method", METHODS)
def test_rendering_does_not_load_training(method):
    code = (
        f"import sys, impasto.methods.{method}\n"
        "print([m for m in sys.modules if m.startswith(('impasto.training', 'lightning'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_every_method_that_can_be_trained_is_one_module_imported_when_wanted():
    code = (
        "import sys\nfrom impasto.training.methods import TRAINABLE\n"
        "def loaded(): return [n for n in TRAINABLE if f'impasto.training.methods.{n}' in "
        "sys.modules]\n"
        "before = loaded(); TRAINABLE['wct'].untrained; print(before, loaded())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert done.stdout.strip() == "[] ['wct']", done.stderr
    assert set(TRAINABLE) == {name for name, record in METHODS.items() if record.trainable}
    assert all(callable(learner.untrained) for learner in TRAINABLE.values())


def test_every_module_has_its_place_in_the_page_of_the_architecture():
    """Files of the house that the page does not name would not be found by a reader."""
    text = (ROOT.parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.py")} - {"__main__.py"}
    assert not [room for room in rooms if room not in text]
    named = set(re.findall(r"\w+\.py\b", text))
    files = {path.name for path in ROOT.rglob("*.py") if path.name != "__init__.py"}
    assert not sorted(files - named - {"__main__.py"})
    assert not sorted(named - files - {"test_house.py", "test_golden.py", "__init__.py"})


# What may write beside files.py: files that grow line by line, and standard output sent nowhere.
WRITERS = {"training/logs.py": "losses, a line a step", "cli/console.py": "/dev/null"}


def written_by(path: Path) -> list[int]:
    """Lines of a module that open, rename or replace a file otherwise than by files.py."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function, words = node.func, [*node.args, *(word.value for word in node.keywords)]
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(getattr(function, "value", None), "id", "")
        modes = {word.value for word in words if isinstance(word, ast.Constant)}
        modes = {mode for mode in modes if isinstance(mode, str) and set(mode) <= set("rwaxbt+")}
        opens = name == "open" and any(set(mode) & set("wax+") for mode in modes)
        moves = owner in ("os", "shutil") and name in ("replace", "rename", "move", "open")
        whole = name in ("write_text", "write_bytes", "save_file", "savez", "NamedTemporaryFile")
        if opens or moves or whole or (owner, name) == ("np", "save"):
            lines.append(node.lineno)
    return lines


def test_files_are_written_in_one_place():
    assert written_by(ROOT / "files.py")
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if written_by(path)}
    assert found - {"files.py"} == set(WRITERS)


MOST_LINES = 400


def test_no_module_is_longer_than_is_read_at_a_sitting():
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in ROOT.rglob("*.py")
    }
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


def imported(path: Path) -> set[Path]:
    """Modules of impasto that a module imports when it is imported itself: not late, not for types.

    Importing from a package counts as importing the module in it that is named, or its
    ``__init__``.
    """
    found = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        late = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if late or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            continue
        waiting += ast.iter_child_nodes(node)
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for alias in node.names:
            places = [base / f"{alias.name}.py", base / alias.name / "__init__.py"]
            places += [base.with_suffix(".py"), base / "__init__.py"]
            found.add(next(place for place in places if place.exists()))
    return found - {path}


def test_no_module_imports_itself_by_way_of_others():
    modules = {path: imported(path) for path in ROOT.rglob("*.py")}
    while True:  # take away what needs nothing that is left
        free = {path for path, needs in modules.items() if not needs & modules.keys()}
        if not free:
            break
        modules = {path: needs for path, needs in modules.items() if path not in free}
    assert not sorted(str(path.relative_to(ROOT)) for path in modules)
