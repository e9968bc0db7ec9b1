"""Windows and macOS do not fork: what runs in other processes there has been pickled before."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.process import BaseProcess
from threading import Barrier, current_thread, main_thread
from threading import enumerate as enumerate_threads

import pytest
import torch
from data import painting, photo
from test_cards import STUDIES
from test_manners import EVERY, style_for

import impasto
from impasto.errors import InputError
from impasto.images import write
from impasto.training.crops import DataConfig
from impasto.training.sets import PictureSet
from impasto.training.stream import Pairs, Stream
from impasto.training.threads import one_thread_each


@pytest.fixture
def _no_processes(monkeypatch):
    """Neither forks nor starts others."""

    def refuse(*args, **kwargs):
        raise AssertionError("another process is started")

    monkeypatch.setattr(os, "fork", refuse, raising=False)
    monkeypatch.setattr(BaseProcess, "start", refuse)


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        write(tmp_path / "photos" / f"{number}.png", photo(40, 50, seed=number))
        write(tmp_path / "paintings" / f"{number}.png", painting(40, 50, seed=number))
    return tmp_path


SMALL = [
    *("--set", "data.size=32", "--set", "data.short_side=32", "--set", "data.minimum=1"),
    *("--set", "training.batch=2", "--set", "training.validation=2"),
    *("--set", "training.samples_every=0", "--device", "cpu", "--steps", "2"),
]
METHODS = {
    "adain": ("--set", "options.widths=[[8], [8], [8], [8]]"),
    "johnson": ("--set", "options.widths=[6, 8, 8]", "--set", "options.blocks=1"),
}


@pytest.mark.usefixtures("_no_processes")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_training_starts_no_process(run, folder, method, workers):
    given = ["train", method, "--photos", folder / "photos", "--workers", workers]
    if method == "johnson":
        given += ["--style", folder / "paintings" / "0.png"]
    else:
        given += ["--paintings", folder / "paintings"]
    code, _, said = run(*given, *SMALL, *METHODS[method], "-o", "m.safetensors")
    assert code == 0, said
    assert os.path.exists("m.safetensors")


def test_workers_are_said_once(run, folder):
    given = ["train", "adain", "--photos", folder / "photos", "--paintings", folder / "paintings"]
    code, _, said = run(*given, "--workers", 1, "--set", "data.workers=2")
    assert code == 2
    assert "--workers" in said
    code, _, said = run(*given, "--workers", -1)
    assert code == 2


def pairs(folder, workers, memory=1.0):
    sets = (PictureSet([folder / kind], 32, memory=memory) for kind in ("photos", "paintings"))
    return Pairs(*sets, DataConfig(size=24, short_side=32, workers=workers))


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_crops_do_not_depend_on_who_prepares_them(folder, monkeypatch, memory):
    monkeypatch.setattr("impasto.training.stream.cores", lambda: 4)
    threads = torch.get_num_threads()
    each = []
    for workers in (0, 1, 3):
        batches = iter(Stream(pairs(folder, workers, memory), 4, start=5))
        each.append([next(batches) for _ in range(6)])
        batches.close()
        assert torch.get_num_threads() == threads
    for others in each[1:]:
        for (one, two), (three, four) in zip(each[0], others, strict=True):
            assert torch.equal(one, three)
            assert torch.equal(two, four)


def test_a_fault_in_a_thread_reaches_the_training(folder):
    broken = pairs(folder, 2, memory=0.0)
    for path in (folder / "photos").iterdir():
        path.write_bytes(b"no picture")
    said: list[str] = []
    broken.photos.train.warn = said.append
    with pytest.raises(InputError, match="no picture of the set can be read"):
        next(iter(Stream(broken, 4)))
    assert len(said) == len(set(said)) == 10  # each once, whoever found it


@pytest.mark.usefixtures("_no_processes")
@pytest.mark.parametrize("line", STUDIES, ids=lambda line: line.split()[0])
def test_studies_start_no_process(run, monkeypatch, line):
    monkeypatch.setattr("impasto.study.compare._peak", lambda *given: 1.0)  # which spawns one
    write("c/1.png", photo(40, 52))
    write("s/w.png", painting(70, 80))
    sweep = line.startswith("sweep")
    device = ("--set", "device=cpu", "--set", "iterations=2") if sweep else ("--device", "cpu")
    code, _, said = run(*line.split(), *device)
    assert code == 0, said


def render(label):
    name, options = EVERY[label]
    ready = impasto.load(name, device="cpu", **options)
    return impasto.stylize(photo(), style_for(name), ready).array


def test_spawned_workers_render():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for label, made in zip(EVERY, pool.map(render, EVERY), strict=True):
            far = abs(made.astype(int) - render(label).astype(int)).max()
            assert far <= (8 if "gatys" in label else 1)


TRAINS = """
import sys
from pathlib import Path
from impasto.training.train import train
if __name__ == "__main__":
    photos, paintings, run = map(Path, sys.argv[1:])
    small = {"data.size": 32, "data.short_side": 32, "data.minimum": 1, "training.batch": 2,
             "training.validation": 2, "options.widths": [[8], [8], [8], [8]]}
    import multiprocessing
    multiprocessing.set_start_method("spawn")
    train("adain", photos, paintings, None, run, run / "m.safetensors", steps=2, changes=small)
"""


def test_a_program_of_ones_own_trains_under_spawn(folder, tmp_path):
    script = tmp_path / "own.py"
    script.write_text(TRAINS, encoding="utf-8")
    places = [folder / "photos", folder / "paintings", tmp_path / "run"]
    subprocess.run([sys.executable, script, *places], check=True, timeout=200, capture_output=True)
    assert (tmp_path / "run" / "m.safetensors").exists()


def test_threads_end_where_their_start_is_cut_short(monkeypatch):
    class Cut(Barrier):
        def wait(self, timeout=None):
            if current_thread() is main_thread():
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr("impasto.training.threads.Barrier", Cut)
    with pytest.raises(KeyboardInterrupt), one_thread_each(2):
        pass
    assert not [thread for thread in enumerate_threads() if "impasto-data" in thread.name]
