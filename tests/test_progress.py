from __future__ import annotations

import inspect
import subprocess
import sys
import types

import pytest
from data import painting, photo

import impasto
from impasto import progress
from impasto.methods.gatys import Gatys
from impasto.paintings import store_style
from impasto.study.compare import compare
from impasto.study.leak import leak
from impasto.study.reconstruct import reconstruct
from impasto.study.sweep import sweep
from impasto.training import encoder
from impasto.training.classify import classify
from impasto.training.train import train


@pytest.fixture
def method(small_net):
    return Gatys(small_net, device="cpu", precision="float32", iterations=4, start="content")


def test_a_bar_counts_and_ends(capsys):
    with progress.bar("sheep") as on_progress:
        for number in range(3):
            assert on_progress(number + 1, 3, "Dolly", 0.25) is False
    out, err = capsys.readouterr()
    assert out == ""
    assert "sheep" in err
    assert "3/3" in err
    assert "Dolly  loss 0.25" in err
    assert err.endswith("\n")


def test_a_bar_without_with_ends_with_the_work(capsys):
    on_progress = progress.bar("sheep")
    on_progress(1, 2)
    assert not capsys.readouterr().err.endswith("\n")
    on_progress(2, 2)
    assert capsys.readouterr().err.endswith("\n")


def test_a_bar_ends_on_errors(capsys):
    with pytest.raises(ZeroDivisionError), progress.bar("sheep") as on_progress:
        on_progress(1, 3)
        raise ZeroDivisionError
    assert on_progress._bar.disable  # as tqdm calls a bar that is closed
    err = capsys.readouterr().err
    assert "1/3" in err
    assert err.endswith("\n")


def test_what_else_is_to_be_told_can_end_the_work():
    heard = []

    def then(*all_of_it):
        heard.append(all_of_it)
        return len(heard) == 2

    with progress.bar("sheep", then) as on_progress:
        assert [on_progress(number, 3, "x") for number in range(3)] == [False, True, False]
    assert heard == [(0, 3, "x"), (1, 3, "x"), (2, 3, "x")]


def test_a_decorated_function_draws_when_asked(capsys):
    @progress.drawn("sheep")
    def count(to, *, on_progress=lambda done, total: None, progress=False):
        return [bool(on_progress(number + 1, to)) for number in range(to)]

    assert count(2) == [False, False]
    assert capsys.readouterr().err == ""
    assert count(2, progress=True) == [False, False]
    assert "2/2" in capsys.readouterr().err
    ends = count(2, on_progress=lambda done, total: done == 1, progress=True)
    assert ends == [True, False]


def test_the_first_of_several_processes_draws(capsys, monkeypatch):
    @progress.drawn("sheep")
    def count(*, on_progress=lambda done, total: None, progress=False):
        on_progress(1, 1)

    monkeypatch.setenv("LOCAL_RANK", "1")
    count(progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LOCAL_RANK", "0")
    count(progress=True)
    assert "1/1" in capsys.readouterr().err


def test_a_bar_goes_on_with_another_stage(capsys):
    with progress.bar("sheep") as on_progress:
        for step in (1, 2, 1, 2):
            on_progress(step, 2, 0.5)
        assert not on_progress._bar.disable
    assert capsys.readouterr().err.endswith("\n")


@pytest.mark.parametrize(
    "function", [compare, leak, reconstruct, sweep, train, classify, encoder.train, store_style]
)
def test_all_long_work_draws_when_asked(function):
    parameters = inspect.signature(function).parameters
    assert parameters["progress"].default is False
    assert "on_progress" in parameters
    assert function.__wrapped__.__name__ == function.__name__  # by `drawn`, which is tested above


def test_a_study_draws_a_bar(small_net, capsys):
    reconstruct(photo(32, 32), {"small": small_net}, size=32, iterations=2, progress=True)
    err = capsys.readouterr().err
    assert "reconstructing" in err
    assert "2/2  loss" in err
    assert err.endswith("\n")


def test_an_optimisation_draws_its_iterations(method, capsys):
    result = impasto.stylize(photo(), painting(), method, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err
    assert "loss" in err
    assert err.endswith("\n")
    assert len(result.losses) == 4


def test_one_pass_draws_a_bar_that_ends(capsys):
    impasto.stylize(photo(), painting(), device="cpu", precision="float32", progress=True)
    err = capsys.readouterr().err
    assert "  0%" in err
    assert "100%" in err
    assert err.endswith("\n")


def test_the_bar_of_stylize_ends_on_errors_and_passes_steps_on(method, capsys):
    def on_step(step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        impasto.stylize(photo(), painting(), method, progress=True, on_step=on_step)
    assert capsys.readouterr().err.endswith("\n")
    ended = impasto.stylize(
        photo(), painting(), method, progress=True, on_step=lambda step: step.iteration == 2
    )
    assert len(ended.losses) == 2


def test_without_progress_nothing_is_drawn_and_nothing_imported(tmp_path):
    code = """
import sys, numpy as np, impasto
picture = np.random.default_rng(0).random((40, 48, 3))
impasto.stylize(picture, picture, device="cpu")
sys.exit("tqdm.auto" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, encoding="utf-8"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_notebook_is_known(monkeypatch):
    assert not progress.in_notebook()
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert progress.in_notebook()
    shell.config = {}
    assert not progress.in_notebook()
