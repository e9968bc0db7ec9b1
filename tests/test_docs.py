"""The README and the pages of docs/: their snippets run, and what they refer to is there."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest
from data import painting, photo
from test_help import check_example

import impasto
from impasto.images import write
from impasto.methods import METHODS

ROOT = Path(__file__).parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="needs the repository")

PAGES = [README, *sorted(DOCS.rglob("*.md"))]
WRITTEN = {path: path.read_text(encoding="utf-8") for path in PAGES if path.exists()}
NAMES = {path: str(path.relative_to(ROOT)).replace("\\", "/") for path in WRITTEN}
FENCED = re.compile(r"^```(\w*)(?: title=\S+)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INCLUDED = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
TARGET = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")


def snippets(text):
    """Python, but what has a title: files that tests/test_extending.py makes."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_readme_is_read_in_two_minutes():
    text = WRITTEN[README]
    assert len(text.splitlines()) <= 200
    assert len(snippets(text)) == 6


@pytest.mark.parametrize("page", WRITTEN, ids=NAMES.get)
def test_what_a_page_refers_to_is_there(page):
    text = FENCED.sub("", WRITTEN[page])
    targets = [target for target in TARGET.findall(text) if ":" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]
    included = INCLUDED.findall(WRITTEN[page])
    assert not [path for path in included if not (ROOT / path).is_file()]


def test_every_table_of_the_benchmarks_is_on_a_page_and_its_script_named():
    included = {path for text in WRITTEN.values() for path in INCLUDED.findall(text)}
    listed = WRITTEN[DOCS / "benchmarks.md"]
    for table in (ROOT / "benchmarks").glob("*.md"):
        assert f"benchmarks/{table.name}" in included
    for script in (ROOT / "benchmarks").glob("*.py"):
        assert script.name in listed or script.name == "common.py"


def test_every_option_is_listed():
    """In a table on its method's page, and in the reference."""
    reference = WRITTEN[DOCS / "api" / "options.md"]
    for name, record in METHODS.items():
        assert f"\n<!-- options: {name} -->\n" in WRITTEN[DOCS / "methods" / f"{name}.md"]
        assert f"\n::: {record.Options.__module__}.{record.Options.__name__}\n" in reference
    assert "\n::: impasto.controls.Controls\n" in reference
    assert "\n::: impasto.controls.Saving\n" in reference


@pytest.mark.parametrize("name", [*METHODS, "Controls", "Saving"])
def test_tables_of_options_come_from_their_declarations(name, monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(DOCS)
    hooks = importlib.import_module("hooks")
    made = hooks.on_page_markdown(f"Before\n\n<!-- options: {name} -->\n")
    for each in hooks.set_of(name).declared().values():
        (row,) = re.findall(rf"^ *\| `(?:{each.flag}`|{each.name}=).*$", made, re.MULTILINE)
        assert each.help.partition(" Default: ")[0].rstrip(".") in row


# Pictures --------------------------------------------------------------------------------------


def pictures():
    """Page, alternative text, file and the paragraph below, of every picture that is shown."""
    for page, text in WRITTEN.items():
        for shown in IMAGE.finditer(FENCED.sub("", text)):
            below = " ".join(shown["below"].split())
            yield pytest.param(page, shown["alt"], shown["file"], below, id=f"{shown['file']}")


IMAGE = re.compile(
    r"^\[?!\[(?P<alt>[^\]]*)\]\((?P<file>[^)]+)\)(?:\]\([^)]+\))?$\n\n(?P<below>(?:.+\n)+)",
    re.MULTILINE,
)
MADE = re.compile(r"`((?:OMP_NUM_THREADS=1 )?(?:impasto|python benchmarks/\w+\.py)[^`]*)`")
TIME = re.compile(r"\b\d+(?:\.\d+)? (?:s|min|h)\b")


@pytest.mark.parametrize(("page", "alt", "file", "below"), pictures())
def test_below_a_picture_are_its_command_and_its_time(page, alt, file, below):
    assert len(alt.split()) >= 6, f"an alternative text describes what is seen: {alt}"
    command = MADE.search(below)
    assert command, f"no command: {below}"
    assert TIME.search(below), f"no time: {below}"
    program, *words = command[1].removeprefix("OMP_NUM_THREADS=1 ").split()
    if program == "impasto":
        check_example(command[1])
        return
    code = "".join(
        (ROOT / name).read_text(encoding="utf-8") for name in (words[0], "benchmarks/common.py")
    )
    for word in words[1:]:
        if word.startswith("--") or words[0] == "benchmarks/gallery.py":
            assert f'"{word}"' in code, f"{word} in: {command[1]}"


def test_every_picture_has_its_paragraph():
    found = {(page.values[0], page.values[2]) for page in pictures()}
    shown = {
        (page, file)
        for page, text in WRITTEN.items()
        for file in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    }
    assert found == shown


@pytest.mark.parametrize("path", sorted((DOCS / "img").glob("*.[jp][pn]g")), ids=lambda p: p.name)
def test_a_picture_is_small(path):
    assert path.stat().st_size <= 250_000


def test_every_picture_is_shown():
    shown = Counter(
        (page.parent / target).resolve()
        for page, text in WRITTEN.items()
        for target in TARGET.findall(text)
        if ":" not in target
    )
    assert not [path.name for path in (DOCS / "img").glob("*.[jp][pn]g") if not shown[path]]


def test_the_reference_has_every_public_name():
    text = WRITTEN[DOCS / "api" / "index.md"]
    public = {name for name in impasto.__all__ if not name.startswith("__")}
    public = (public - {"methods"}) | {"methods.list_methods"}  # what it is when it is called
    assert not [name for name in public if f"::: impasto.{name}\n" not in text]


@pytest.mark.parametrize(
    "page", [page for page, text in WRITTEN.items() if snippets(text)], ids=NAMES.get
)
def test_the_snippets_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    """One after another, in a folder where the pictures lie that they name."""
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("photo", "me")):
        write(f"{name}.jpg", photo(64, 72, seed))
    for seed, name in enumerate(("painting", "wave", "night")):
        write(f"{name}.jpg", painting(72, 64, seed))
    given = {"impasto": impasto, "photo": photo(), "photos": [photo(), photo(40, 52)]}
    for code in snippets(WRITTEN[page]):
        # What takes minutes.
        code = code.replace("minutes=5", "steps=1, size=64")
        exec(compile(code, NAMES[page], "exec", dont_inherit=True), given)


def test_a_citation_names_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", text, re.MULTILINE)[1] == impasto.__version__
