"""What is printed: help, its examples, and what a terminal can show."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import typer
from data import painting, photo
from test_names import QUICK

from impasto import cli
from impasto.cli.running import interrupts
from impasto.controls import Controls
from impasto.images import write
from impasto.methods import DEFAULT, METHODS, options_of, record_of
from impasto.methods.adain import AdaIN
from impasto.methods.records.gatys import REFINED
from impasto.options import Number

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def all_commands():
    """Words -> command, of every command of the command line."""

    def walk(words, command):
        yield words, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk((*words, name), inner)

    return dict(walk((), typer.main.get_command(cli.app)))


COMMANDS = all_commands()


def examples():
    """Every line that begins with impasto, and is no prose, in the helps, README and docs/."""
    texts = [command.help or "" for command in COMMANDS.values()]
    # A long one goes on in the next line, and a paragraph is one example, or has one in each line.
    found = [
        " ".join(line.split())
        for text in texts
        for part in text.split("\n\n")
        for line in re.sub(r"\n(?!\s*impasto )", " ", part).split("\n")
    ]
    for page in filter(Path.exists, PAGES):
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        found += [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        found += re.findall(r"`(impasto [^`]*--[^`]*)`", text)
    lines = [
        line.strip().replace(".venv/bin/", "").replace(".venv\\Scripts\\", "") for line in found
    ]
    return sorted({line for line in lines if line.startswith("impasto ")})


def words_of(example):
    words = shlex.split(example.replace("[", "").replace("]", ""), comments=True)[1:]
    ends = [words.index(mark) for mark in ("<", ">", "|") if mark in words]
    return words[: min(ends, default=None)]


def command_of(words):
    names = ()
    while len(names) < len(words) and (*names, words[len(names)]) in COMMANDS:
        names = (*names, words[len(names)])
    command, rest = COMMANDS[names], words[len(names) :]
    if names == ("train",) and rest and not rest[0].startswith("-"):
        names = ("train", "METHOD")
        command = COMMANDS[names]
    return names, command, rest


def test_there_are_examples_to_check():
    found = examples()
    assert len(found) > 100
    assert any("--backbone" in example for example in found)


@pytest.mark.parametrize("example", examples())
def test_every_example_has_the_options_that_it_uses(example):
    check_example(example)


def check_example(example):
    words = words_of(example)
    names, command, rest = command_of(words)
    assert names, f"no such command: {example}"
    if "--help" in rest or not rest:
        return
    context = command.make_context("impasto", list(rest), resilient_parsing=True)
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert word.partition("=")[0] in known, f"{word} in: {example}"
    if names != ("stylize",):
        return
    given = context.params
    method, refined = given["method"] or DEFAULT, given["refine"] is not None
    record_of(method)  # raises for an unknown name
    has = {*options_of(method), *(REFINED if refined else ())}
    every = {option for name in METHODS for option in options_of(name)}
    for name, value in given.items():
        if value is not None and name in every:
            assert name in has, f"method {method} has no {name}: {example}"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437", "cp1252", "utf-8"])
def test_help_prints_where_there_is_no_utf8(encoding):
    # One process for all commands, for each takes its time to start.
    code = """
import sys
from impasto import cli
from impasto.cli.running import interrupts
for words in sys.stdin.read().splitlines():
    sys.argv = ["impasto", *words.split(), "--help"]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
"""
    every = "\n".join(" ".join(words) for words in COMMANDS)
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        input=every.encode(),
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-500:]
    assert done.stderr == b""
    shown = done.stdout.decode(encoding)
    assert shown.count("Usage") == len(COMMANDS)
    assert "?" not in shown.replace("how was this made?", "")


def test_what_an_encoding_lacks_is_shown_plainly():
    line = "Café…, ≤ 3, \udcff"
    assert line.encode("ascii", "impasto") == b"Cafe..., \\u2264 3, \\udcff"
    assert line.encode("latin-1", "impasto") == "Café..., \\u2264 3, \\udcff".encode("latin-1")


def test_names_print_where_there_is_no_utf8(run, desk):
    os.rename("photo.png", "фото.png")
    done = subprocess.run(
        [sys.executable, "-m", "impasto", "stylize", "фото.png", "painting.png", *QUICK],
        check=False,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert Path("фото-painting.png").exists()


# Warnings --------------------------------------------------------------------------------------


def test_warnings_of_libraries_are_not_shown_and_ours_are_a_line(run, monkeypatch, desk):
    honest = AdaIN.__call__

    def warn(self, *given):
        warnings.warn_explicit("of a library", UserWarning, "/lib/tifffile.py", 7)
        warnings.warn_explicit("of ours", UserWarning, cli.__file__, 7)
        return honest(self, *given)

    monkeypatch.setattr(AdaIN, "__call__", warn)
    code, _, said = run("stylize", "photo.png", "painting.png", "-o", "out.png", *QUICK)
    assert code == 0
    assert "of a library" not in said
    assert "impasto: photo.png: of ours" in said.splitlines()[:-1]  # at once


@pytest.mark.parametrize("asked", [False, True])
def test_no_line_of_a_librarys_code_unless_it_is_asked_for(tmp_path, asked):
    (tmp_path / "library.py").write_text(
        "import logging, warnings\n"
        "def grumble():\n"
        "    warnings.warn('grumbling', UserWarning)  # a line of code\n"
        "    logging.getLogger('library').warning('logging')\n",
        encoding="utf-8",
    )
    code = """
import sys, impasto.cli, impasto.images
import library
impasto.images.read_settings = lambda path: library.grumble() or {}
sys.argv = ["impasto", "show", "x.png"]
impasto.cli.main()
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    env |= {"PYTHONWARNINGS": "always"} if asked else {}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=env,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert ("grumbling" in done.stderr) == asked
    if not asked:
        assert done.stderr == ""


# Numbers ---------------------------------------------------------------------------------------


def float_options():
    sets = [Controls, *(record.Options for record in METHODS.values())]
    every = {option.flag: option.kind for each in sets for option in each.declared().values()}
    return sorted(flag for flag, kind in every.items() if isinstance(kind, Number))


def test_there_are_numbers_to_check():
    assert {"--strength", "--lr", "--time-limit"} <= set(float_options())


@pytest.mark.parametrize("value", ["nan", "-inf"])
@pytest.mark.parametrize(
    "option", [*float_options(), "--weights", "--style-layers", "--content-layers", "--sizes"]
)
def test_numbers_that_are_none_are_refused_for_what_they_are(run, option, value, desk):
    given = f"relu1_1={value}" if "layers" in option else value
    pictures = ["stylize", "photo.png", "painting.png", "-o", "out.png"]
    having = [name for name in METHODS if option[2:].replace("-", "_") in options_of(name)]
    method = ["--method", having[0]] if having else []
    code, out, said = run(*pictures, *method, f"{option}={given}")
    assert code == 2
    assert out == ""
    assert said == f"impasto: {option} is {value}: must be a finite number\n"


def test_a_number_too_large_to_be_one(run, desk):
    code, _, said = run("stylize", "photo.png", "painting.png", "--strength", "1e999")
    assert code == 2
    assert said == "impasto: --strength is inf: must be a finite number\n"


@pytest.mark.parametrize("value", ["1.5", "1e2", "x", "", "1,,2"])
def test_whole_numbers(run, value, desk):
    pictures = ["stylize", "photo.png", "painting.png", "-o", "out.png", "-m", "gatys"]
    code, _, said = run(*pictures, "--sizes", value)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert "--sizes" in said


# Ctrl-C ----------------------------------------------------------------------------------------


def test_where_ctrl_c_is_ignored_it_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts("") as interrupted:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)
            assert not interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts("") as interrupted:
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_hears_nothing_of_ctrl_c():
    heard = []

    def work():
        with interrupts("") as interrupted:
            heard.append(interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False]


def test_ctrl_c_in_a_folder_keeps_what_was_done(run, monkeypatch, desk):
    for name in "abc":
        write(f"in/{name}.png", photo(32, 40))
    honest = AdaIN.__call__

    def interrupt(self, content, *rest):
        if content.name == "b":
            signal.raise_signal(signal.SIGINT)
        return honest(self, content, *rest)

    monkeypatch.setattr(AdaIN, "__call__", interrupt)
    code, _, said = run("stylize", "in", "painting.png", "-o", "out", *QUICK)
    assert code == 130
    assert "the results so far are written" in said
    assert "b.png: cancelled before anything was painted; nothing is written" in said
    assert sorted(os.listdir("out")) == ["a-painting.png"]


@pytest.mark.posix("background jobs of its shells")
def test_a_background_job_goes_on(run, desk):
    write("in/a.png", photo(32, 40))
    write("in/b.png", painting(32, 40))
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "import os, sys; os.execv(sys.executable, [sys.executable, '-m', 'impasto', *sys.argv[1:]])"
    )
    gatys = ["-m", "gatys", "--iterations", "30", "--tolerance", "0", "--device", "cpu"]
    arguments = ["stylize", "in", "painting.png", "-o", "out", *gatys, "--preview", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    began = time.monotonic()
    while not Path("out/a-painting.png").exists() and time.monotonic() - began < 60:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "interrupted" not in said
    assert Path("out/b-painting.png").exists()
