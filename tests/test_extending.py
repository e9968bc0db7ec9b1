"""The pages of docs/extending/ work: their files in a copy of the sources, tests and commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data import painting, photo

from impasto.images import write

ROOT = Path(__file__).parent.parent
# In the order in which they build upon each other.
NAMES = ("method", "backbone", "option", "loss", "layers")
PAGES = [ROOT / "docs" / "extending" / f"{name}.md" for name in NAMES]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
COMMANDS = """
import shlex, sys
from impasto import cli
for line in sys.stdin.read().splitlines():
    sys.argv = shlex.split(line)[2:]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code, (line, stop.code)
"""

pytestmark = pytest.mark.skipif(not PAGES[0].exists(), reason="needs the repository")


def blocks():
    """Language, title and text of every block of code."""
    return [found for page in PAGES for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def changed(text, diff):
    """``text`` after a diff without line numbers, whose context says where."""
    hunks = re.findall(r"(?:^[ -].*\n)*(?:^\+.*\n)+", diff, re.MULTILINE)
    assert "".join(hunks) == diff
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"not once in the file:\n{before}"
        text = text.replace(before, after)
    return text


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the sources, of models with backbones alone, with what the pages add."""
    copy = tmp_path_factory.mktemp("extended")
    left_out = shutil.ignore_patterns("*.safetensors", "*.style", "__pycache__")
    shutil.copytree(ROOT / "src", copy / "src", ignore=left_out)
    for name in ("compact", "slim"):
        model = f"src/impasto/models/{name}.safetensors"
        shutil.copy(ROOT / model, copy / model)
    (copy / "tests").mkdir()
    for name in ("data.py", "conftest.py"):
        shutil.copy(ROOT / "tests" / name, copy / "tests")
    for language, title, text in filter(lambda block: block[1], blocks()):
        path = copy / title
        if language == "diff":
            text = changed(path.read_text(encoding="utf-8"), text)
        else:
            assert not path.exists()
        path.write_text(text, encoding="utf-8")
    return copy


def started(copy, *words, **given):
    paths = os.pathsep.join([str(copy / "src"), str(copy / "tests"), *sys.path])
    env = os.environ | {"PYTHONPATH": paths, "IMPASTO_HOME": str(copy / "home")}
    done = subprocess.run(
        [sys.executable, *words],
        check=False,
        capture_output=True,
        cwd=copy,
        encoding="utf-8",
        env=env | {"PYTHONIOENCODING": "utf-8"},
        **given,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_the_tests_of_the_pages_pass(extended):
    pytest.importorskip("skimage")
    titles = [title for _, title, _ in blocks() if title.startswith("tests/")]
    assert all('title="tests/' in page.read_text(encoding="utf-8") for page in PAGES)
    started(extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", *titles)


def test_the_commands_of_the_pages_run(extended):
    pytest.importorskip("skimage")
    write(extended / "photo.png", photo())
    write(extended / "painting.png", painting())
    texts = [text.replace("\\\n", "") for language, _, text in blocks() if language == "sh"]
    lines = [line for text in texts for line in text.splitlines()]
    assert len(lines) > 8
    assert all(line.startswith("python -m impasto ") for line in lines)
    shown = started(extended, "-c", COMMANDS, input="\n".join(lines))
    assert "--bands" in shown
    for out in re.findall(r"-o (\S+)", " ".join(map(shlex.join, map(shlex.split, lines)))):
        assert (extended / out).exists(), out
