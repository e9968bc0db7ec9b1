"""What is printed, written and tested serves every system: commands, encodings, workflow, marks."""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path

import conftest
import psutil
import pytest
import torch

from impasto import cli
from impasto.cli import console
from impasto.files import reason_of
from impasto.tensors import load_tensors, save_tensors

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"
SOURCES = [
    path for place in ("src", "tests", "benchmarks") for path in (ROOT / place).rglob("*.py")
]
# A command with an argument in single quotes, which cmd of Windows passes on with the quotes.
SINGLE = re.compile(
    r"(?:\bpip install|\bimpasto [a-z-]+|\bpython3? -\w|\bpy -\w|\s--set|\s-o)\b[^\n;]*?[ =]'"
)

pytestmark = pytest.mark.skipif(not README.exists(), reason="needs the repository")


def texts():
    """Where it is -> all that people may copy a command from."""
    written = [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    written += [*(ROOT / "recipes").rglob("*.toml"), ROOT / "src/impasto/models/CARD.md"]
    yield from ((path.name, path.read_text(encoding="utf-8")) for path in written)
    for path in SOURCES:
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "x" for part in node.values
                )
                yield f"{path.name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.name}:{node.lineno}", node.value


def test_no_command_has_single_quotes():
    wrong = [f"{place}: {found[0]}" for place, text in texts() for found in SINGLE.finditer(text)]
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        "not here: pip install 'impasto[train]'",
        "impasto stylize a.jpg b.jpg -o '{content}_by_{style}.png'",
        "again: impasto train adain --set 'options.widths=[[8]]'",
        "python -m pip install -e '.[test]'",
    ],
)
def test_single_quotes_would_be_found(text):
    assert SINGLE.search(text)
    assert not SINGLE.search(text.replace("'", '"'))


# The way without make --------------------------------------------------------------------------


def without_make():
    """Every command of README's ways without make, by system."""
    text = README.read_text(encoding="utf-8")
    posix, windows = re.findall(r"```\n((?:python3|py) -m venv .*?)```", text, re.DOTALL)
    return posix.splitlines(), windows.splitlines()


def test_the_ways_without_make_are_the_same_on_every_system():
    posix, windows = without_make()
    assert [line.replace("python3 -m venv", "py -m venv") for line in posix] == [
        line.replace(".venv\\Scripts\\", ".venv/bin/") for line in windows
    ]
    assert "'" not in "".join(posix + windows)


@pytest.mark.parametrize("command", [line for way in without_make() for line in way])
def test_the_workflow_runs_what_readme_says(command):
    lines = [line.strip() for line in WORKFLOW.read_text(encoding="utf-8").splitlines()]
    assert command in lines


def test_the_workflow_tests_the_oldest_and_newest_torch():
    tested = set(re.findall(r'"(2\.\d+)\.\d+"', WORKFLOW.read_text(encoding="utf-8")))
    allowed = re.findall(
        r'"torch>=(2\.\d+),<2\.(\d+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert tested == {low for low, _ in allowed} | {f"2.{int(end) - 1}" for _, end in allowed}


def test_a_command_that_installs_torch_has_the_bound_of_the_project():
    """The newest torch would be installed, refused, and replaced by another build."""
    bounds = re.findall(
        r'"torch>=[\d.]+,(<[\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    pages = [README, *(ROOT / "docs").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    commands = [line for line in lines if re.search(r'pip install .*\s"?torch\b', line)]
    assert commands
    assert not [line for line in commands if f'"torch{bounds[0]}"' not in line]


# Encodings -------------------------------------------------------------------------------------


def without_encoding(code):
    """Lines of calls that read or write text in whatever encoding the system has."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {word.arg: word.value for word in node.keywords}
        mode = [*node.args[1:2], *([given["mode"]] if "mode" in given else [])]
        binary = mode and isinstance(mode[0], ast.Constant) and "b" in str(mode[0].value)
        is_text = (
            name in ("read_text", "write_text")
            or (isinstance(node.func, ast.Name) and name == "open" and not binary)
            or ("text" in given and name in ("run", "Popen", "check_output"))
        )
        if is_text and "encoding" not in given:
            yield node.lineno


def test_text_is_read_and_written_in_one_encoding():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_a_missing_encoding_would_be_found():
    code = 'open(a)\nopen(a, "w")\np.read_text()\nrun(x, text=True)\nopen(a, "rb")\nPath.open(a)'
    assert list(without_encoding(code)) == [1, 2, 3, 4]


# Windows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [True, False])
def test_a_pipe_that_nobody_reads_ends_quietly_on_windows_too(run, monkeypatch, windows):
    def write(standalone_mode):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(cli, "app", write)
    monkeypatch.setattr(console, "_close_output", lambda: None)
    monkeypatch.setattr(console, "WINDOWS", windows)
    code, _, said = run("methods")
    assert (code, bool(said)) == ((1, False) if windows else (2, True))


def test_a_missing_file_is_told_in_the_same_words_everywhere():
    fault = FileNotFoundError(errno.ENOENT, "Das System kann die angegebene Datei nicht finden")
    assert reason_of(fault) == "No such file or directory"


@pytest.mark.linux("its /proc tells what is mapped")
def test_no_file_of_weights_stays_open(tmp_path):
    """Windows lets nobody write over a file that is open or mapped."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.ones(3000)}, {})
    tensors, _ = load_tensors(path)
    process = psutil.Process()
    held = [item.path for item in (*process.memory_maps(), *process.open_files())]
    assert str(path) not in held
    assert tensors["a"].sum() == 3000


# Marks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "platform", "skipped"),
    [
        ("posix", "linux", set()),
        ("posix", "darwin", {"linux"}),
        ("nt", "win32", {"posix", "linux"}),
    ],
)
def test_marks_skip_where_a_system_lacks_what_they_need(monkeypatch, name, platform, skipped):
    class Item:
        def __init__(self, mark):
            self.mark = getattr(pytest.mark, mark)("links").mark

        def iter_markers(self, mark):
            return [self.mark] if self.mark.name == mark else []

    monkeypatch.setattr(conftest, "system", lambda: (name, platform))
    for mark in ("posix", "linux"):
        if mark in skipped:
            with pytest.raises(pytest.skip.Exception, match=f"needs {mark}: links"):
                conftest.pytest_runtest_setup(Item(mark))
        else:
            conftest.pytest_runtest_setup(Item(mark))
