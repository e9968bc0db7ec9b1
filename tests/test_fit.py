from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from data import LINKS, painting, photo
from PIL import Image

from impasto import cli
from impasto.errors import DiskError, InputError, Interrupted
from impasto.files import PARTS, part_name
from impasto.images import write
from impasto.tensors import load_tensors, save_tensors
from impasto.training.accelerator import Hardware
from impasto.training.crops import DataConfig
from impasto.training.fit import MethodTask, TrainingConfig, finished, fit
from impasto.training.logs import history
from impasto.training.methods import TRAINABLE
from impasto.training.sets import PictureSet
from impasto.training.sheets import draw_losses, sheet
from impasto.training.stream import Pairs
from impasto.training.train import train

CPU = Hardware("cpu", "float32")
CONFIG = TrainingConfig(
    steps=20,
    batch=4,
    learning_rate=1e-2,
    validate_every=4,
    validation=6,
    log_every=1,
    checkpoint_every=5,
    samples_every=0,
)
ADAM = dataclasses.replace(CONFIG, schedule="inverse", decay=0.1, clip=0.1)
PLATEAU = dataclasses.replace(
    CONFIG,
    optimizer="sgd",
    learning_rate=1.0,
    schedule="plateau",
    factor=0.1,
    patience=0,
    average=0.8,
)


class Toy:
    """A method that learns a convolution; its loss draws noise, as losses may."""

    photographs_alone = False
    renames: ClassVar = {}

    def __init__(self, width: int = 6, style_weight: float = 1.0) -> None:
        self.style_weight, self.started = style_weight, 0
        self.network = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, 3, 3, padding=1),
        )

    @classmethod
    def untrained(cls, width: int = 6, style_weight: float = 1.0) -> Toy:
        return cls(width, style_weight)

    def start(self, crops):
        self.started = len(crops)

    def to(self, device):
        self.network.to(device)

    def loss(self, contents, styles):
        out = self.network(contents + 0.1 * torch.randn_like(contents))
        style = (out.mean((2, 3)) - styles.mean((2, 3))).square().mean()
        return {"content": (out - contents).square().mean(), "style": self.style_weight * style}

    def render(self, contents, styles):
        return self.network(contents)

    def save(self, path, figures):
        header = {"figures": json.dumps(figures)}
        save_tensors(path, dict(self.network.state_dict()), header)


@pytest.fixture(autouse=True)
def _one_thread():
    """As in the processes that the tests start: sums must be taken in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folders(tmp_path):
    for i in range(20):
        write(tmp_path / "photos" / f"{i}.png", photo(40, 50, seed=i))
        write(tmp_path / "paintings" / f"{i}.png", painting(40, 50, seed=i))
    return tmp_path / "photos", tmp_path / "paintings"


def pairs(folder, workers=0, kind=Pairs) -> Pairs:
    data = DataConfig(size=24, short_side=32, workers=workers)
    return kind(
        *(PictureSet([folder / kind], 32, 0.2, test=0.1) for kind in ("photos", "paintings")), data
    )


def toy(**options) -> Toy:
    torch.manual_seed(0)
    return Toy(**options)


def run(folder, name, config=CONFIG, workers=0, **options) -> Toy:
    method = toy()
    options = {"hardware": CPU, "log": lambda line: None} | options
    fit(method, pairs(folder, workers), config, folder / name, **options)
    return method


def losses(folder):
    """What was logged, apart from how long it took."""
    return [{k: v for k, v in row.items() if k != "waiting"} for row in history(folder)]


def weights(method) -> list[torch.Tensor]:
    return list(method.network.state_dict().values())


def killed(folder: Path) -> None:
    """In a process of its own: a run that is killed after step 13."""

    def on_progress(step, steps, loss):
        if step == 13:
            os.kill(os.getpid(), signal.SIGKILL)

    run(folder, "cut", PLATEAU, 2, on_progress=on_progress)


class Noted(Pairs):
    """Pairs that note which samples were drawn."""

    drawn: list[int]

    def windows(self, index):
        if self.split == "train":
            self.drawn.append(index)
        return super().windows(index)


def one_of_two(folder: Path) -> None:
    """In two processes: a run that notes what each has seen and come to."""
    learning, method = pairs(folder, kind=Noted), toy()
    learning.drawn = []
    hardware = Hardware("cpu", "float32", devices=2, strategy="ddp")
    config = dataclasses.replace(CONFIG, steps=8, average=0.5, samples_every=8)
    quiet = {"log": lambda line: None}
    figures = fit(method, learning, config, folder / "two", hardware=hardware, **quiet)
    found = {
        "drawn": learning.drawn,
        "weights": [w.tolist() for w in weights(method)],
        "validation": figures["validation"],
        "machine": figures["machine"],
    }
    (folder / f"rank-{os.environ['LOCAL_RANK']}.json").write_text(
        json.dumps(found), encoding="utf-8"
    )


def start(folder: Path, function: str) -> int:
    """Run a function of this file in a process of its own; its exit code."""
    script = folder / "script.py"
    script.write_text(
        "import sys, torch\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_fit\n"
        "if __name__ == '__main__':\n"
        "    torch.set_num_threads(1)\n"
        "    getattr(test_fit, sys.argv[1])(Path(sys.argv[2]))\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(script), function, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, timeout=300, check=False, capture_output=True)
    if done.returncode > 0:
        print(done.stderr.decode())
    return done.returncode


@pytest.mark.posix("SIGKILL")
def test_a_killed_run_gives_the_same_losses(folders, tmp_path):
    whole = run(tmp_path, "whole", PLATEAU, 2)
    assert start(tmp_path, "killed") == -signal.SIGKILL
    (tmp_path / "cut" / part_name()).write_bytes(b"killed while writing the next")
    lines: list[str] = []
    cut = run(tmp_path, "cut", PLATEAU, 2, resume=True, log=lines.append)
    assert "resuming from last.ckpt" in lines[0]
    assert not list((tmp_path / "cut").glob(PARTS))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    # The second process did the steps from 11 on, and validated after 12, 16 and 20.
    steps = [int(line.split()[1]) for line in lines[1:]]
    assert steps == [12, 16, 20]
    assert len({row["learning_rate"] for row in losses(tmp_path / "cut")}) > 1
    assert all(map(torch.equal, weights(whole), weights(cut)))
    assert finished(tmp_path / "cut")["test"] == finished(tmp_path / "whole")["test"]


def test_a_network_that_is_no_runs_is_none_of_a_finished_one(tmp_path):
    save_tensors(tmp_path / "network.safetensors", {"weight": torch.zeros(1)}, {"figures": "{}"})
    assert finished(tmp_path) is None
    (tmp_path / "network.safetensors").write_bytes(b"cut off")
    assert finished(tmp_path) is None


def test_the_schedules_move_the_learning_rate(folders, tmp_path):
    def rates(name, **changes):
        run(tmp_path, name, dataclasses.replace(CONFIG, **changes))
        return [row["learning_rate"] for row in history(tmp_path / name)]

    inverse = rates("inverse", schedule="inverse", decay=0.1)
    assert inverse == pytest.approx([1e-2 / (1 + 0.1 * step) for step in range(1, 21)])
    halving = rates("halving", schedule="halving", every=8)
    assert halving == pytest.approx([1e-2] * 7 + [5e-3] * 8 + [2.5e-3] * 5)
    cosine = rates("cosine", schedule="cosine")
    assert cosine == pytest.approx(
        [5e-3 * (1 + math.cos(math.pi * step / 20)) for step in range(1, 21)]
    )
    assert cosine[-1] == 0
    changes = {"schedule": "plateau", "learning_rate": 1e-6, "patience": 0, "factor": 0.1}
    plateau = rates("plateau", optimizer="sgd", **changes)
    assert plateau[:4] == [1e-6] * 4
    assert plateau[-1] < 1e-6
    assert set(rates("constant")) == {1e-2}


def test_betas_are_adams(folders, tmp_path):
    config = dataclasses.replace(CONFIG, betas=(0.9, 0.9))
    task = MethodTask(toy(), pairs(tmp_path), config, tmp_path, None)
    (adam,) = task.optimizers(torch.device("cpu"))
    assert adam.param_groups[0]["betas"] == (0.9, 0.9)
    run(tmp_path, "own", dataclasses.replace(config, steps=6))
    run(tmp_path, "usual", dataclasses.replace(CONFIG, steps=6))
    assert losses(tmp_path / "own") != losses(tmp_path / "usual")


def test_epochs_are_passes_over_as_many_crops(folders, tmp_path):
    count = len(pairs(tmp_path).photos.train)
    config = dataclasses.replace(CONFIG, steps=TrainingConfig.steps, epochs=2)
    run(tmp_path, "epochs", config)
    steps = math.ceil(2 * count / config.batch)
    assert (
        finished(tmp_path / "epochs")["steps"] == losses(tmp_path / "epochs")[-1]["step"] == steps
    )
    run(tmp_path, "steps", dataclasses.replace(CONFIG, steps=steps))
    assert losses(tmp_path / "epochs") == losses(tmp_path / "steps")
    run(tmp_path, "epochs", config, resume=True)  # it has ended


SHARED = DataConfig(size=24, short_side=32, workers=0, shared_style=True, balanced=True)


def test_a_shared_style_and_balance_resume_bit_for_bit(folders, tmp_path):
    schools = PictureSet([tmp_path / "paintings"], 32, 0.2, test=0.1)
    data = Pairs(PictureSet([tmp_path / "photos"], 32, 0.2, test=0.1), schools, SHARED)
    options = {"hardware": CPU, "log": lambda line: None}
    whole, halves = toy(), toy()
    fit(whole, data, CONFIG, tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        stop = {"on_progress": lambda step, steps, loss: step == 7}
        fit(halves, data, CONFIG, tmp_path / "halves", **options, **stop)
    halves = toy()
    fit(halves, data, CONFIG, tmp_path / "halves", **options, resume=True)
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    assert all(map(torch.equal, weights(whole), weights(halves)))


def test_it_learns(folders, tmp_path):
    config = dataclasses.replace(CONFIG, steps=60, samples_every=30, log_every=10)
    lines: list[str] = []
    method = toy()
    options = {"hardware": CPU, "log": lines.append}
    figures = fit(method, pairs(tmp_path), config, tmp_path / "run", **options)
    assert lines[0].startswith("step 4 of 60: loss")
    rows = [row for row in history(tmp_path / "run") if "train" in row]
    assert rows[-1]["train"] < 0.5 * rows[0]["train"]
    assert rows[-1]["train"] == pytest.approx(rows[-1]["train/content"] + rows[-1]["train/style"])
    assert rows[-1]["validation/content"] == pytest.approx(figures["validation"]["content"])
    assert figures["steps"] == 60
    assert "CPU" in figures["machine"]
    assert 0 <= figures["waiting"] <= 1
    assert set(figures["versions"]) == {"impasto", "torch", "lightning", "python"}
    for name in ("losses.png", "samples-30.png", "samples-60.png"):
        with Image.open(tmp_path / "run" / name) as picture:
            assert min(picture.size) > 100
    assert list((tmp_path / "run" / "tensorboard").rglob("events.*"))
    assert not method.network.training


def test_the_average_is_what_is_saved(folders, tmp_path):
    """With one value through the whole training its average is that value."""
    still = dataclasses.replace(CONFIG, average=0.9, learning_rate=1e-12, steps=5)
    moved = dataclasses.replace(CONFIG, average=0.9, steps=5)
    plain = dataclasses.replace(CONFIG, steps=5)
    first = weights(toy())
    same = weights(run(tmp_path, "still", still))
    averaged, last = weights(run(tmp_path, "moved", moved)), weights(run(tmp_path, "plain", plain))
    for a, b, c, d in zip(first, same, averaged, last, strict=True):
        torch.testing.assert_close(a, b)
        assert float((c - a).norm()) < float((d - a).norm())
    assert losses(tmp_path / "moved")[0]["train"] == losses(tmp_path / "plain")[0]["train"]


def test_clipping(folders, tmp_path):
    """SGD without momentum moves by the learning rate times the gradient."""
    config = dataclasses.replace(
        CONFIG, optimizer="sgd", momentum=0.0, clip=1e-3, steps=1, learning_rate=1.0
    )
    moved = zip(weights(run(tmp_path, "run", config)), weights(toy()), strict=True)
    step = math.sqrt(sum(float((a - b).square().sum()) for a, b in moved))
    assert step == pytest.approx(1e-3, rel=1e-2)


def test_mixed_precision(folders, tmp_path):
    method = run(tmp_path, "run", hardware=Hardware("cpu", "bfloat16"))
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in weights(method))
    assert "bfloat16" in finished(tmp_path / "run")["machine"]
    with pytest.raises(InputError, match="float16 needs CUDA"):
        run(tmp_path, "other", hardware=Hardware("cpu", "float16"))


def test_a_run_asked_to_end_goes_on_later(folders, tmp_path):
    whole = run(tmp_path, "whole", ADAM)
    with pytest.raises(Interrupted, match="after step 7"):
        run(tmp_path, "cut", ADAM, on_progress=lambda step, steps, loss: step == 7)
    assert not finished(tmp_path / "cut")
    with pytest.raises(InputError, match=r"holds a run; continue it with resume=True"):
        run(tmp_path, "cut", ADAM)
    with pytest.raises(InputError, match=r"other settings \(training.batch, training.validation\)"):
        other = dataclasses.replace(ADAM, batch=2, validation=7)
        run(tmp_path, "cut", other, resume=True)
    cut = run(tmp_path, "cut", dataclasses.replace(ADAM, checkpoint_every=3), resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert all(map(torch.equal, weights(whole), weights(cut)))


def test_a_run_that_has_ended(folders, tmp_path):
    ended = run(tmp_path, "run")
    steps: list[int] = []
    again = run(tmp_path, "run", resume=True, on_progress=lambda step, *more: steps.append(step))
    assert not steps
    assert all(map(torch.equal, weights(ended), weights(again)))
    with pytest.raises(InputError, match=r"other settings \(training.clip\)"):
        run(tmp_path, "run", dataclasses.replace(CONFIG, clip=1.0), resume=True)
    longer = dataclasses.replace(CONFIG, steps=24)
    run(tmp_path, "run", longer, resume=True, on_progress=lambda step, *more: steps.append(step))
    assert steps == [21, 22, 23, 24]


def test_a_cosine_goes_on_over_the_same_steps_alone(folders, tmp_path):
    config = dataclasses.replace(CONFIG, schedule="cosine")
    whole = run(tmp_path, "whole", config)
    with pytest.raises(Interrupted):
        run(tmp_path, "cut", config, on_progress=lambda step, *more: step == 7)
    with pytest.raises(InputError, match=r"other settings \(training.steps\)"):
        run(tmp_path, "cut", dataclasses.replace(config, steps=24), resume=True)
    cut = run(tmp_path, "cut", config, resume=True)
    assert all(map(torch.equal, weights(whole), weights(cut)))
    with pytest.raises(InputError, match=r"other settings \(training.steps\)"):
        run(tmp_path, "cut", dataclasses.replace(config, steps=24), resume=True)


def test_a_torn_line_of_the_log_is_skipped(folders, tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, "cut", on_progress=lambda step, *more: step == 7)
    log = tmp_path / "cut" / "losses.csv"
    whole = log.read_bytes()
    rows = history(tmp_path / "cut")
    for torn in (b"8", b"8,0.01,1e-", b"8,0.01,0.2,0.1,0.1,7,,,"):
        log.write_bytes(whole + torn)
        assert history(tmp_path / "cut") == rows
    run(tmp_path, "cut", resume=True)
    (tmp_path / "cut" / "network.safetensors").unlink()  # as if killed just before it was written
    run(tmp_path, "cut", resume=True)
    assert [row["step"] for row in history(tmp_path / "cut")] == list(range(1, 21))


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_damaged_checkpoint_is_named(folders, tmp_path, keep):
    with pytest.raises(Interrupted):
        run(tmp_path, "cut", on_progress=lambda step, *more: step == 2)
    kept = tmp_path / "cut" / "last.ckpt"
    data = kept.read_bytes()
    kept.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(InputError, match=r"last\.ckpt is damaged or cut off: .* delete .*cut and"):
        run(tmp_path, "cut", resume=True)


def test_waiting_is_that_of_the_training(folders, tmp_path, monkeypatch):
    plain, seen = MethodTask.evaluate, []

    def evaluate(self, split):
        time.sleep(0.5)
        return plain(self, split)

    monkeypatch.setattr(MethodTask, "evaluate", evaluate)
    run(tmp_path, "run", dataclasses.replace(CONFIG, validate_every=100))
    seen = [row["waiting"] for row in history(tmp_path / "run")]
    assert all(0 <= share <= 1 for share in seen)
    assert finished(tmp_path / "run")["waiting"] == round(seen[-1], 4)


def test_a_lost_loss_ends_the_run(folders, tmp_path):
    config = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=1e20)
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+; lower learning_rate"):
        run(tmp_path, "run", config)


def test_a_start_in_closed_form(folders, tmp_path):
    config = dataclasses.replace(CONFIG, start=9, steps=5)
    assert run(tmp_path, "run", config).started == 9
    longer = dataclasses.replace(config, steps=6)
    assert run(tmp_path, "run", longer, resume=True).started == 0


def test_hardware_that_will_not_do(folders, tmp_path):
    with pytest.raises(
        InputError, match="cuda:1 is a single .* devices is 4: use device='cuda', or devices=1"
    ):
        Hardware("cuda:1", devices=4)
    with pytest.raises(InputError, match="cannot train on this hardware|may shard the weights"):
        run(tmp_path, "run", hardware=Hardware("cpu", "float32", strategy="fast"))
    with pytest.raises(InputError, match="batch = 4 cannot be shared by 3 processes"):
        run(tmp_path, "run", hardware=Hardware("cpu", "float32", devices=3, strategy="ddp"))


@pytest.mark.posix("workers by a fork")
def test_two_processes_learn_as_one(folders, tmp_path):
    assert start(tmp_path, "one_of_two") == 0
    one, two = (
        json.loads((tmp_path / f"rank-{rank}.json").read_text(encoding="utf-8"))
        for rank in range(2)
    )
    assert not set(one["drawn"]) & set(two["drawn"])
    assert set(range(32)) <= set(one["drawn"]) | set(two["drawn"])
    assert one["weights"] == two["weights"]
    assert one["validation"] == two["validation"]
    assert one["machine"].startswith("2 x CPU")
    assert all(math.isfinite(row["train"]) for row in history(tmp_path / "two"))
    assert (tmp_path / "two" / "samples-8.png").exists()


RECIPE = """
method = "toy"
[options]
width = 4
[data]
size = 24
short_side = 32
workers = 0
[training]
steps = 6
batch = 4
validation = 4
checkpoint_every = 2
samples_every = 0
"""
STAGES = """
[[stage]]
[[stage]]
options = { style_weight = 3.0 }
training = { steps = 4 }
"""


@pytest.fixture
def command(folders, tmp_path, monkeypatch, capsys):
    """Run `impasto train`; gives exit code and what it says."""
    monkeypatch.setitem(TRAINABLE, "toy", Toy)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "stages.toml").write_text(RECIPE + "start = 4\n" + STAGES, encoding="utf-8")

    def call(method, *words):
        where = ("--photos", "photos", "--recipe", "toy.toml")
        hardware = ("--device", "cpu", "--precision", "float32")
        argv = ["impasto", "train", method, *where, *hardware, *words]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        monkeypatch.setattr(sys, "argv", ["pytest"])
        return stop.value.code or 0, capsys.readouterr().err

    return call


BOTH = ("toy", "--paintings", "paintings")


def test_the_command_makes_a_model_with_its_recipe(command, tmp_path):
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    code, said = command(*BOTH, "-o", "model.safetensors")
    assert code == 0, said
    assert "broken.jpg" in said
    assert "photographs for training" in said
    assert "1 skipped" in said
    assert "of the time waiting for data" in said
    figures = json.loads(load_tensors(tmp_path / "model.safetensors")[1]["figures"])
    wanted = "impasto train toy --photos PHOTOS --paintings PAINTINGS --recipe toy.toml"
    assert figures["command"] == wanted
    assert figures["recipe"]["options"] == {"width": 4}
    assert figures["recipe"]["steps"] == figures["steps"] == 6
    assert figures["recipe"]["data"]["size"] == 24
    code, said = command(*BOTH)
    assert code == 2
    assert "runs/toy: holds a run" in said
    code, said = command(*BOTH, "--resume")
    assert code == 0
    assert (tmp_path / "runs" / "toy" / "toy.safetensors").exists()


def test_epochs_by_the_command(command, tmp_path):
    code, said = command(*BOTH, "--set", "training.epochs=1", "-o", "model.safetensors")
    assert code == 0, said
    figures = json.loads(load_tensors(tmp_path / "model.safetensors")[1]["figures"])
    steps = math.ceil(figures["pictures"][0] / 4)
    assert figures["steps"] == figures["recipe"]["steps"] == steps
    assert figures["recipe"]["epochs"] == 1
    assert f"{steps} steps" in said
    code, said = command(*BOTH, "--set", "training.epochs=1", "--steps", "3")
    assert code == 2
    assert "training.epochs by --set and --steps: leave one out" in said


def test_stages_begin_with_the_last_ones_weights(command, tmp_path):
    code, said = command(*BOTH, "--recipe", "stages.toml", "--run", "run")
    assert code == 0, said
    assert "stage 2 of 2" in said
    figures = json.loads(load_tensors(tmp_path / "run" / "toy.safetensors")[1]["figures"])
    assert [stage["steps"] for stage in figures["stages"]] == [6, 4]
    assert figures["recipe"]["options"] == {"width": 4, "style_weight": 3.0}
    assert [stage["recipe"]["start"] for stage in figures["stages"]] == [4, 0]
    one, two = (
        load_tensors(tmp_path / "run" / f"stage-{n}" / "network.safetensors")[0] for n in (1, 2)
    )
    for name, weight in one.items():
        assert 0 < float((weight - two[name]).abs().max()) < 0.01  # 4 steps of 1e-4
    code, said = command(*BOTH, "--recipe", "stages.toml", "--steps", "3", "--run", "other")
    assert code == 2
    assert "has 2 stages" in said


def test_stages_decode_anew_only_what_is_another(command, tmp_path):
    more = "[[stage]]\n[[stage]]\ndata = { flips = false, size = 16 }\n"
    smaller = "[[stage]]\ndata = { short_side = 20, size = 16 }\n"
    (tmp_path / "stages.toml").write_text(RECIPE + more + smaller, encoding="utf-8")
    code, said = command(*BOTH, "--recipe", "stages.toml")
    assert code == 0, said
    before, after = said.split("stage 2 of 3")
    assert before.count("photographs for training") == 1
    assert after.count("photographs for training") == 1
    assert "photographs for training" not in after.split("stage 3 of 3")[1]
    assert after.index("stage-2: 6 steps") < after.index("photographs for training")


def test_the_folders_of_all_stages_are_checked_first(command, tmp_path):
    (tmp_path / "run" / "stage-2").mkdir(parents=True)
    (tmp_path / "run" / "stage-2" / "last.ckpt").write_bytes(b"kept")
    code, said = command(*BOTH, "--recipe", "stages.toml", "--run", "run")
    assert code == 2
    assert "stage-2: holds a run" in said
    assert not (tmp_path / "run" / "stage-1").exists()


def test_ctrl_c_keeps_a_checkpoint(command, tmp_path, monkeypatch):
    plain = Toy.loss
    calls = 0

    def loss(self, contents, styles):
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, contents, styles)

    monkeypatch.setattr(Toy, "loss", loss)
    code, said = command(*BOTH)
    assert code == 130
    assert "stopped at step 3" in said
    assert "--resume" in said
    code, said = command(*BOTH, "--resume")
    assert code == 0
    assert "resuming from last.ckpt" in said
    assert calls == 6 + 2  # steps, and the test and validation at the end


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("toy",), "learns from paintings too: name a folder, --paintings DIR"),
        (("ada",), "method 'ada' is unknown: use one of"),
        ((*BOTH, "-o", "model.pth"), "ends in .safetensors"),
        ((*BOTH, "--backbone-weights", "vgg.pth"), 'loss_network = "vgg19"'),
        ((*BOTH, "--device", "tpu"), "tpu"),
        ((*BOTH, "--photos", "none"), "none"),
    ],
)
def test_mistakes_are_one_line(command, words, message):
    code, said = command(*words)
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) <= 1


def test_set_is_beside_the_recipe_and_recorded(command, tmp_path):
    code, said = command(*BOTH, "--set", "training.batch=2", "--set", "data.flips=false")
    assert code == 0, said
    header = load_tensors(tmp_path / "runs" / "toy" / "toy.safetensors")[1]
    figures = json.loads(header["figures"])
    assert figures["command"].endswith(" --set training.batch=2 --set data.flips=false")
    assert figures["recipe"]["batch"] == 2
    assert figures["recipe"]["data"]["flips"] is False
    assert figures["recipe"]["steps"] == 6
    for words, message in (
        (("--set", "training.batch=x"), "--set training: batch = 'x' is not of type int"),
        (("--set", "batch=2"), "--set: unknown key 'batch'"),
        (("--set", "training.learning_rate=nan"), "--set: training.learning_rate is nan"),
        (("--set", "training.steps=3", "--steps", "2"), "given by --steps and --set"),
    ):
        code, said = command(*BOTH, "--run", "other", *words)
        assert code == 2
        assert message in said
        assert not (tmp_path / "other").exists()


def test_pictures_in_subfolders_are_learnt_and_the_runs_own_are_not(command, tmp_path):
    for i in range(20):
        place = tmp_path / "photos" / f"n{i % 3}"
        place.mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{i}.png").rename(place / f"{i}.png")
    (tmp_path / "photos" / "list.csv").write_text("a,b", encoding="utf-8")
    words = ("--run", "photos/run", "--set", "training.samples_every=2")
    code, said = command(*BOTH, *words)
    assert code == 0, said
    assert "photos: skipped 1 file that is not a picture (.csv 1): list.csv" in said
    counted = re.search(r"\d+ photographs for training.*", said)[0]
    assert (tmp_path / "photos" / "run" / "samples-2.png").exists()
    code, said = command(*BOTH, *words, "--resume", "--steps", "8")
    assert code == 0, said
    assert counted in said
    code, said = command(*BOTH, "--run", "photos")
    assert code == 2
    assert "is a folder of training pictures" in said


def test_what_is_read_is_not_overwritten(command, tmp_path):
    (tmp_path / "toy.safetensors").hardlink_to(tmp_path / "toy.toml")
    before = (tmp_path / "toy.toml").read_bytes()
    code, said = command(*BOTH, "-o", "toy.safetensors")
    assert code == 2
    assert "would overwrite" in said
    assert (tmp_path / "toy.toml").read_bytes() == before
    assert not (tmp_path / "runs").exists()
    code, said = command(*BOTH, "-o", "runs/toy/network.safetensors")
    assert code == 2
    assert "a file of the run itself" in said


@pytest.mark.parametrize("linked", LINKS)
def test_a_models_weights_are_not_overwritten(tmp_path, linked, folders):
    save_tensors(tmp_path / "vgg.safetensors", {"a": torch.zeros(2)}, {})
    linked(tmp_path / "vgg.safetensors", tmp_path / "out.safetensors")
    before = (tmp_path / "vgg.safetensors").read_bytes()
    with pytest.raises(InputError, match="would overwrite"):
        train(
            *("adain", *map(str, folders), None, tmp_path / "run", tmp_path / "out.safetensors"),
            changes={"options.encoder": "vgg19"},
            backbone_weights=tmp_path / "vgg.safetensors",
        )
    assert (tmp_path / "vgg.safetensors").read_bytes() == before
    assert not (tmp_path / "run").exists()


def test_training_from_python_takes_names_and_refuses_the_rest(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(TRAINABLE, "toy", Toy)
    (tmp_path / "toy.toml").write_text(RECIPE, encoding="utf-8")
    places = [str(folder) for folder in folders]
    places += [str(tmp_path / name) for name in ("toy.toml", "run", "m.safetensors")]
    train("toy", *places, hardware=CPU, log=lambda line: None)
    assert (tmp_path / "m.safetensors").exists()
    with pytest.raises(InputError, match="photos: give a path, not list"):
        train("toy", [folders[0]], *places[1:], hardware=CPU)
    with pytest.raises(InputError, match="styles: give a list of paths, not str"):
        train("johnson", *places, options={"styles": "wave.jpg"}, hardware=CPU)


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(folders, tmp_path, monkeypatch):
    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskError, match=r"cannot write the checkpoint \(No space left"):
        run(tmp_path, "run")
    assert not list((tmp_path / "run").glob("*.part"))


def test_photographs_alone(command, monkeypatch):
    monkeypatch.setattr(Toy, "photographs_alone", True, raising=False)
    code, said = command("toy")
    assert code == 0, said


def test_too_few_photographs(command, tmp_path):
    for path in sorted((tmp_path / "photos").iterdir())[5:]:
        path.unlink()
    code, said = command(*BOTH)
    assert code == 2
    assert "are needed" in said


def test_help_names_both_kinds(command, capsys, monkeypatch):
    for words in (["train", "--help"], ["train", "toy", "--help"]):
        monkeypatch.setattr(sys, "argv", ["impasto", *words])
        with pytest.raises(SystemExit):
            cli.main()
        out = capsys.readouterr().out
        assert "impasto train adain --photos" in out
    assert re.search(r"Usage: .*impasto train toy \[OPTIONS\] *\n", out)
    assert "--resume" in out


def test_the_sheet_has_a_row_for_every_content():
    contents, styles = torch.rand(2, 3, 16, 20), torch.rand(3, 3, 16, 20)
    cpu = torch.device("cpu")
    picture = sheet(lambda c, s: (c + s) / 2, contents, styles, cpu)
    assert picture.shape == (3, 3 * 20, 4 * 24)
    assert torch.equal(picture[:, 20:36, :20], contents[0])
    assert torch.equal(picture[:, :16, 24:44], styles[0])
    torch.testing.assert_close(picture[:, 40:56, 48:68], (contents[1] + styles[1]) / 2)
    alone = sheet(lambda c, s: 1 - c, contents, None, cpu)
    assert alone.shape == (3, 2 * 20, 2 * 24)
    assert torch.equal(alone[:, :16, 24:44], 1 - contents[0])


def test_losses_are_drawn_even_if_there_are_none(tmp_path):
    draw_losses([], tmp_path / "none.png")
    draw_losses([{"step": 1, "train/a": 0.0, "train": 0.0}], tmp_path / "zero.png")
    assert (tmp_path / "none.png").exists() and (tmp_path / "zero.png").exists()
