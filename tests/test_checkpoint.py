"""Interrupted work of Gatys' method goes on from its checkpoint, to the same picture."""

from __future__ import annotations

import errno
import os
import signal
import warnings
from pathlib import Path

import pytest
import torch
from data import painting, photo, refused
from safetensors import safe_open

import impasto
from impasto import files
from impasto.errors import OutOfMemoryError
from impasto.files import part_name, remove_parts
from impasto.images import read, read_settings, write
from impasto.methods import checkpoint as checkpoints
from impasto.methods.gatys import Gatys
from impasto.methods.level import Level
from impasto.watch import Watch

LAYERS = {"style_layers": ["relu1_1", "relu2_1"], "content_layers": ["relu2_1"]}
GOES_ON, ANEW = "goes on from", "begins anew"
PUBLISHED = {"losses": "published", "content_weight": 1e-5, "sizes": [32, 0]}
OPTIONS = {
    "lbfgs": {},
    "adam": {"optimizer": "adam"},
    "setbacks": {"optimizer": "adam", "lr": 3.0},
    "tiles": {"tile": 40},
    "tiles-adam": {"tile": 40, "optimizer": "adam"},
    "swd": {"style_loss": "swd"},
    "remd": {"style_loss": "remd"},
    "noise": {"start": "noise"},
    "published": PUBLISHED,
    "published-adam": PUBLISHED | {"optimizer": "adam"},
    "published-tiles": PUBLISHED | {"tile": 40},
}


class Killed(Exception):
    """Ends a rendering where it is, as a kill does."""


@pytest.fixture
def _always(monkeypatch):
    """A checkpoint after every iteration, and before the first."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


always = pytest.mark.usefixtures("_always")


def gatys(net, **options):
    given = {"sizes": [32, 0], "iterations": 6, "tolerance": 0.0, "device": "cpu"}
    return Gatys(net, **(given | LAYERS | options))


def detailed(height=80, width=90):
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(3))
    return (0.7 * photo(height, width) + 0.3 * noise).clamp(0, 1)


class Run:
    """One rendering; ``kill`` ends it when this iteration is told."""

    def __init__(self, method, path=None, kill=None, **given):
        self.iterations, self.shares, self.said = [], [], []
        self.kill = kill
        self.watch = Watch(self.on_step)
        self.watch.checkpoint = path
        content = given.pop("content", detailed())
        style = given.pop("style", None) or method.prepare([painting()])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.picture = method(content, style, on_step=self.watch, **given)
            except Killed:
                self.picture = None
        self.said = [str(warning.message) for warning in caught]

    def on_step(self, step):
        self.shares.append(step.share)
        if step.iterations:
            self.iterations.append(step.iteration)
            if step.iteration == self.kill:
                raise Killed


def went_on(run, iteration):
    assert [GOES_ON in line for line in run.said] == [True], run.said
    assert f"iteration {iteration - 1} of 12" in run.said[0]
    assert run.iterations[0] == iteration
    return True


@always
@pytest.mark.parametrize("kill", [1, 7, 9])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_picture_is_that_of_uninterrupted_work(small_net, tmp_path, options, kill):
    path = tmp_path / "out.png.checkpoint"
    method = gatys(small_net, **options)
    whole = Run(method)
    assert whole.iterations == list(range(1, 13))
    assert Run(gatys(small_net, **options), path, kill).picture is None
    assert path.exists()
    again = Run(gatys(small_net, **options), path)
    assert went_on(again, kill)
    assert torch.equal(again.picture, whole.picture)
    assert again.watch.losses == whole.watch.losses
    assert again.shares == sorted(set(again.shares))
    assert again.shares[-1] == whole.shares[-1] == 1


@always
def test_twice_interrupted_and_with_half_the_strength(small_net, tmp_path):
    path, method = tmp_path / "c", gatys(small_net)
    whole = Run(method, strength=0.5)
    Run(method, path, 3, strength=0.5)
    assert went_on(Run(method, path, 9, strength=0.5), 3)
    again = Run(method, path, strength=0.5)
    assert went_on(again, 9)
    assert torch.equal(again.picture, whole.picture)


@always
@pytest.mark.parametrize("tile", ["auto", 40])
def test_grey_pictures(small_net, tmp_path, tile):
    path, method = tmp_path / "c", gatys(small_net, tile=tile)
    content, style = (impasto.color.as_grey(each) for each in (detailed(), painting()))
    prepared = method.prepare([style])
    whole = Run(method, content=content, style=prepared)
    Run(method, path, 8, content=content, style=prepared)
    again = Run(method, path, content=content, style=prepared)
    assert went_on(again, 8)
    assert torch.equal(again.picture, whole.picture)
    assert float((again.picture - again.picture.mean(0)).abs().max()) < 1e-5


@always
def test_pairs_of_tiles_in_half_precision(small_net, tmp_path):
    path, method = tmp_path / "c", gatys(small_net, tile=40, iterations=9, sizes=[0])
    whole = Run(method)
    Run(method, path, 8)
    with safe_open(path, "pt") as stored:
        assert torch.bfloat16 in {stored.get_tensor(name).dtype for name in stored.keys()}  # noqa: SIM118
    again = Run(method, path)
    assert GOES_ON in again.said[0]
    assert torch.equal(again.picture, whole.picture)


@always
def test_a_stored_style_and_a_mixture(small_net, tmp_path):
    path, method = tmp_path / "c", gatys(small_net)
    stored = method.prepare([painting()]).store("stored")
    style = [stored, painting(60, 50, 4)]
    prepared = method.prepare(style, [2, 1])
    whole = Run(method, style=prepared)
    Run(method, path, 8, style=prepared)
    other = Run(method, path, 1, style=method.prepare(style, [1, 2]))
    assert "(style)" in other.said[0]
    Run(method, path, 8, style=prepared)
    again = Run(method, path, style=method.prepare(style, [2, 1]))
    assert went_on(again, 8)
    assert torch.equal(again.picture, whole.picture)


CHANGES = {
    "photograph": {"content": detailed(80, 91)},
    "strength": {"strength": 0.5},
    "start": {"start": photo(80, 90)},
    "tolerance": {"options": {"tolerance": 0.5}},
    "iterations": {"options": {"iterations": 7}},
    "content_weight": {"options": {"content_weight": 2.0}},
    "seed": {"options": {"seed": 1}},
}


@always
@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_of_other_work_is_not_used(small_net, tmp_path, name):
    path, method = tmp_path / "c", gatys(small_net)
    Run(method, path, 5)
    given = dict(CHANGES[name])
    other = gatys(small_net, **given.pop("options", {}))
    fresh, run = Run(other, **given), Run(other, path, **given)
    assert run.said[0] == f"{path}: {ANEW}: it is of other work ({name})"
    assert len(run.said) == 1
    assert run.iterations[0] == 1
    assert torch.equal(run.picture, fresh.picture)
    assert GOES_ON in Run(other, path, **given).said[0]  # it was overwritten


@always
def test_one_of_another_version_is_not_used(small_net, tmp_path, monkeypatch):
    path, method = tmp_path / "c", gatys(small_net)
    Run(method, path, 5)
    monkeypatch.setattr(checkpoints, "__version__", "99")
    assert "(impasto)" in Run(method, path, 1).said[0]


@always
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "folder", "emptied", "other", "bit"])
def test_a_damaged_one_is_not_used(small_net, tmp_path, damage):
    path, method = tmp_path / "c", gatys(small_net)
    Run(method, path, 5)
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "other":
        impasto.tensors.save_tensors(path, {"a": torch.zeros(2)}, {"kind": "impasto style"})
    elif damage == "emptied":  # its header, without its tensors
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoints, "_without_tensors", lambda value, *_: "nothing")
            Run(method, path, 5)
    else:
        flipped = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
        kinds = {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello", "bit": flipped}
        path.write_bytes(kinds[damage])
    fresh, run = Run(method), Run(method, path)
    assert f"{path}: {ANEW}" in run.said[0]
    assert run.iterations[0] == 1
    assert torch.equal(run.picture, fresh.picture)
    if damage == "folder":
        assert "without a checkpoint" in run.said[1]
        assert len(run.said) == 2
    else:
        assert GOES_ON in Run(method, path).said[0]


def test_work_under_a_minute_writes_none(small_net, tmp_path, monkeypatch):
    path, method = tmp_path / "c", gatys(small_net)
    clock = [1000.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    made = []
    monkeypatch.setattr(checkpoints, "save_tensors", lambda *given: made.append(clock[0]))

    def ticking(seconds):
        made.clear()
        clock[0] = 1000.0
        watch = Watch(lambda step: clock.__setitem__(0, clock[0] + seconds))
        watch.checkpoint = path
        method(detailed(), method.prepare([painting()]), on_step=watch)
        return made

    assert checkpoints.EVERY == 60
    assert ticking(4.9) == []
    assert ticking(30) == [1060, 1120, 1180, 1240, 1300]  # the last iteration needs none
    assert not list(tmp_path.iterdir())


@always
def test_a_full_disk_ends_nothing(small_net, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path, method = tmp_path / "c", gatys(small_net)
    whole = Run(method)
    monkeypatch.setattr(files.os, "fsync", full)
    run = Run(method, path)
    assert len(run.said) == 1
    assert f"{path}: cannot write it (No space left on device)" in run.said[0]
    assert "goes on without a checkpoint" in run.said[0]
    assert torch.equal(run.picture, whole.picture)
    assert not list(tmp_path.iterdir())


@always
def test_the_plan_of_tiles_is_kept_though_memory_has_changed(small_net, tmp_path, monkeypatch):
    path, method = tmp_path / "c", gatys(small_net)
    need = method._needs().of((80, 90), None)

    def free(share):
        place = "impasto.methods.tiling.available_memory"
        monkeypatch.setattr(place, lambda device: share * need)

    free(1.2)
    whole = Run(method)
    assert whole.watch.resolved["tile"] == ["none", method.reach.least]
    Run(method, path, 9)
    free(2)
    assert Run(method).watch.resolved["tile"] == ["none", "none"]
    again = Run(method, path)
    assert went_on(again, 9)
    assert again.watch.resolved == whole.watch.resolved
    assert torch.equal(again.picture, whole.picture)
    path.unlink()
    Run(method, path, 9)
    free(0.98)
    assert Run(method).watch.resolved["tile"] == ["none", method.reach.least]
    with pytest.raises(OutOfMemoryError, match="or begin anew, without the checkpoint"):
        Run(method, path)
    free(0.01)
    with pytest.raises(OutOfMemoryError, match=r"use size=\d+ or smaller$"):
        Run(method, path)
    free(2)
    assert went_on(Run(method, path), 9)


@always
def test_seconds_before_count(small_net, tmp_path, monkeypatch):
    path, method = tmp_path / "c", gatys(small_net, time_limit=1000.0)
    clock = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])

    def slow(step):
        clock[0] += 30.0
        if step.iteration == 4 and step.iterations:
            raise Killed

    watch = Watch(slow)
    watch.checkpoint = path
    with pytest.raises(Killed):
        method(detailed(), method.prepare([painting()]), on_step=watch)
    clock[0] = 5000.0
    again = Run(method, path)
    assert again.watch.earlier == 90
    assert again.watch.stopped is None
    path.unlink()
    with pytest.raises(Killed):
        method(detailed(), method.prepare([painting()]), on_step=watch)
    seconds = checkpoints.Checkpoint.begin.fget
    monkeypatch.setattr(
        checkpoints.Checkpoint, "begin", property(lambda self: seconds(self) - 2000)
    )
    late = Run(method, path)
    assert late.watch.stopped == "time"
    assert len(late.iterations) < 9


# From files to files ------------------------------------------------------------------------------

QUICK = {"device": "cpu", "precision": "float32", "backbone": "slim", "iterations": 4}


def killed(path, kill, method="gatys", **options):
    def on_step(step):
        if step.iterations and step.iteration == kill:
            raise Killed

    with pytest.raises(Killed):
        impasto.stylize(
            photo(), painting(), method, on_step=on_step, checkpoint=path, **(QUICK | options)
        )


@always
def test_it_goes_when_the_result_is_saved(tmp_path):
    path, out = tmp_path / "c", tmp_path / "out.png"
    whole = impasto.stylize(photo(), painting(), "gatys", **QUICK)
    killed(path, 3)
    with pytest.warns(UserWarning, match=GOES_ON):
        result = impasto.stylize(photo(), painting(), "gatys", checkpoint=path, **QUICK)
    assert torch.equal(result.picture.rgb, whole.picture.rgb)
    assert result.losses == whole.losses
    assert result.style_losses == whole.style_losses
    assert result.settings["iterations_done"] == 4
    assert path.exists()
    result.save(out)
    assert list(tmp_path.iterdir()) == [out]
    result.save(out)


@always
def test_it_stays_if_the_work_was_cancelled(tmp_path):
    path, out = str(tmp_path / "c"), tmp_path / "out.png"
    whole = impasto.stylize(photo(), painting(), "gatys", **QUICK)
    stopped = impasto.stylize(
        *(photo(), painting(), "gatys"),
        on_step=lambda step: step.iteration == 3,
        checkpoint=path,
        **QUICK,
    )
    stopped.save(out)
    assert Path(path).exists()
    with pytest.warns(UserWarning, match=GOES_ON):
        result = impasto.stylize(photo(), painting(), "gatys", checkpoint=path, **QUICK)
    assert torch.equal(result.picture.rgb, whole.picture.rgb)


@always
@pytest.mark.parametrize("method", ["ghiasi", "gatys"])
@pytest.mark.parametrize("color", [None, "luminance"])
def test_a_refinement(tmp_path, method, color):
    options = {"refine": 5, "tolerance": 0.0, "color": color, "iterations": None} | QUICK
    if method == "ghiasi":
        options.pop("iterations")
        options.pop("backbone")
        options["backbone"] = "slim"
    path, out = tmp_path / "c", tmp_path / "out.png"

    def stylize(**more):
        return impasto.stylize(photo(), painting(), method, **options, **more)

    whole = stylize()
    seen = []

    def on_step(step):
        if step.iterations == 5:
            seen.append(step.iteration)
            if step.iteration == 4:
                raise Killed

    with pytest.raises(Killed):
        stylize(checkpoint=path, on_step=on_step)
    assert seen == [1, 2, 3, 4]
    with pytest.warns(UserWarning, match=GOES_ON) as caught:
        result = stylize(checkpoint=path)
    said = [str(each.message) for each in caught]
    assert f"{path}: goes on from iteration 3 of 5, size 1/1" in said
    assert not any(ANEW in line for line in said)
    assert torch.equal(result.picture.rgb, whole.picture.rgb)
    assert result.losses == whole.losses
    result.save(out)
    assert list(tmp_path.iterdir()) == [out]


def test_a_source_is_not_overwritten(photo_file, painting_file):
    refused(
        lambda: impasto.stylize(photo_file, painting_file, checkpoint=photo_file, device="cpu"),
        photo_file.name,
        "would overwrite",
    )
    refused(lambda: impasto.stylize(photo_file, painting_file, checkpoint=3), "checkpoint", "int")
    refused(lambda: impasto.stylize(photo_file, painting_file, checkpoint=""), "the name of a file")


def test_work_of_one_pass_keeps_none(tmp_path, photo_file, painting_file):
    before = sorted(tmp_path.iterdir())
    impasto.stylize(photo_file, painting_file, checkpoint=tmp_path / "c", device="cpu")
    assert sorted(tmp_path.iterdir()) == before


def test_parts_of_killed_writes_are_removed(tmp_path):
    ours, others = tmp_path / part_name("c"), tmp_path / part_name("d")
    ours.touch()
    others.touch()
    remove_parts(tmp_path / "c")
    assert list(tmp_path.iterdir()) == [others]


# On the command line ------------------------------------------------------------------------------

COMMAND = ["--method", "gatys", "--backbone", "slim", "--iterations", "4", "--device", "cpu"]


def cut_short(run, monkeypatch, command, iterations):
    """Run a command that a fault ends after so many iterations."""
    honest, count = Level._descend, [0]

    def descend(*given):
        count[0] += 1
        if count[0] == iterations + 1:
            raise Killed
        return honest(*given)

    with monkeypatch.context() as patch:
        patch.setattr(Level, "_descend", descend)
        assert run(*command)[0] == 1


@pytest.fixture
def interrupted(run, monkeypatch, photo_file, painting_file):
    """The command of a run that ended after three iterations."""
    command = ["stylize", photo_file, painting_file, "-o", "out.png", *COMMAND]
    cut_short(run, monkeypatch, command, 3)
    assert sorted(path.name for path in Path().glob("out*")) == ["out.png.checkpoint"]
    return command


@always
def test_the_same_command_goes_on(run, interrupted):
    code, _, said = run(*interrupted)
    assert code == 0, said
    assert "out.png.checkpoint: goes on from iteration 3 of 4, size 1/1" in said
    assert said.index(GOES_ON) < said.index("out.png  (")
    assert [path.name for path in Path().glob("out*")] == ["out.png"]
    assert run(*interrupted[:3], "-o", "whole.png", *COMMAND)[0] == 0
    assert torch.equal(read("out.png").rgb, read("whole.png").rgb)
    assert read_settings("out.png")["iterations_done"] == 4


def test_no_resume_removes_no_other_file(run, photo_file, painting_file):
    other = Path("out.png.checkpoint")
    other.write_text("mine", encoding="utf-8")
    command = ["stylize", photo_file, painting_file, "-o", "out.png", *COMMAND, "--no-resume"]
    assert run(*command)[0] == 0
    assert other.read_text(encoding="utf-8") == "mine"


@always
def test_no_resume_begins_anew(run, interrupted):
    code, _, said = run(*interrupted, "--no-resume")
    assert code == 0, said
    assert GOES_ON not in said
    assert ANEW not in said
    assert [path.name for path in Path().glob("out*")] == ["out.png"]


@always
@pytest.mark.parametrize("kill", [3, 6])
def test_no_resume_of_a_refinement_begins_anew(run, monkeypatch, photo_file, painting_file, kill):
    command = ["stylize", photo_file, painting_file, "-o", "out.png", *COMMAND, "--refine", 3]
    cut_short(run, monkeypatch, command, kill)
    first = Path("out.png.checkpoint.first")
    assert first.exists()
    kept = first.read_bytes()
    code, _, said = run(*command, "--no-resume")
    assert code == 0, said
    assert GOES_ON not in said
    first.write_bytes(kept)  # as a run leaves it that is not gone on with
    assert run(*command[:-2])[0] == 0
    assert [path.name for path in Path().glob("out*")] == ["out.png"]


@always
def test_the_checkpoint_of_a_long_name(run, monkeypatch, photo_file, painting_file):
    name = "n" * 240 + ".png"
    command = ["stylize", photo_file, painting_file, "-o", name, *COMMAND]
    cut_short(run, monkeypatch, command, 3)
    code, _, said = run(*command)
    assert code == 0, said
    assert GOES_ON in said
    assert not list(Path().glob("*.checkpoint*"))


@pytest.mark.parametrize("name", ["a" * 300, "folder"])
def test_a_checkpoint_is_the_name_of_a_file(tmp_path, small_net, name):
    (tmp_path / "folder").mkdir()
    path, method = tmp_path / name, gatys(small_net)
    refused(lambda: impasto.stylize(photo(), painting(), method, checkpoint=path), name, "name")


@always
def test_other_settings_begin_anew(run, interrupted):
    code, _, said = run(*interrupted, "--tolerance", "0.5")
    assert code == 0, said
    assert f"{ANEW}: it is of other work (tolerance)" in said
    assert [path.name for path in Path().glob("out*")] == ["out.png"]


@always
def test_each_picture_of_a_folder_has_its_own(run, monkeypatch, photo_file, painting_file):
    Path("in").mkdir()
    for name in ("a", "b"):
        write(Path("in") / f"{name}.png", photo(seed=ord(name)))
    command = ["stylize", "in", "--style", painting_file, "-o", "o/{content}.png", *COMMAND]
    command.append("--skip-existing")
    cut_short(run, monkeypatch, command, 6)
    assert sorted(os.listdir("o")) == ["a.png", "b.png.checkpoint"]
    code, _, said = run(*command)
    assert code == 0, said
    assert "b.png.checkpoint: goes on from iteration 2 of 4" in said
    assert sorted(os.listdir("o")) == ["a.png", "b.png"]


@always
def test_ctrl_c_keeps_it(run, monkeypatch, photo_file, painting_file):
    honest, count = Level._descend, [0]

    def descend(*given):
        count[0] += 1
        if count[0] == 3:
            signal.raise_signal(signal.SIGINT)
        return honest(*given)

    command = ["stylize", photo_file, painting_file, "-o", "out.png", *COMMAND]
    with monkeypatch.context() as patch:
        patch.setattr(Level, "_descend", descend)
        code, _, said = run(*command)
    assert code == 130, said
    assert "cancelled; the same command goes on)" in said
    assert read_settings("out.png")["stopped"] == "cancelled"
    code, _, said = run(*command, "--skip-existing")
    assert code == 0, said
    assert GOES_ON in said
    assert "stopped" not in read_settings("out.png")
    assert [path.name for path in Path().glob("out*")] == ["out.png"]


def test_no_resume_of_one_pass_is_refused(run, photo_file, painting_file):
    code, _, said = run("stylize", photo_file, painting_file, "--no-resume")
    assert code == 2
    assert "--no-resume: method ghiasi works in one pass" in said


def test_a_file_that_is_no_checkpoint_is_left_alone(tmp_path):
    other = tmp_path / "thesis.txt"
    other.write_text("years of work", encoding="utf-8")
    refused(
        lambda: impasto.stylize(photo(), painting(), "gatys", checkpoint=other, iterations=1),
        "thesis.txt: is no checkpoint",
        "name another",
    )
    assert other.read_text(encoding="utf-8") == "years of work"
