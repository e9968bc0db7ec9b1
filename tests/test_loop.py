"""The loop itself, its checkpoints and logs; see test_fit.py for trainings of methods."""

from __future__ import annotations

import builtins
import json
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path
from threading import Event, current_thread

import pytest
import torch
from data import painting, photo
from test_bare import ABSENT, without
from test_fit import CONFIG, PLATEAU, Toy, folders, losses, pairs, run, weights  # noqa: F401

import impasto
from impasto.errors import DiskError, InputError
from impasto.images import write
from impasto.training import accelerator as accelerating
from impasto.training.accelerator import Accelerator, Hardware, choose_accelerator
from impasto.training.logs import LOSSES, Log, history
from impasto.training.loop import Loop, Plan, Task
from impasto.training.optimizers import Average, adam
from impasto.training.sets import PictureSet
from impasto.training.threads import in_order

CPU = torch.device("cpu")


class Slope(Task):
    """Learns a number."""

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.network.weight)
        self.made: list[int] = []

    def to(self, device) -> None:
        self.network.to(device)

    def optimizers(self, device):
        return [torch.optim.SGD(self.network.parameters(), 0.1)]

    def batches(self, start, accelerator):
        for step in count(start):
            self.made.append(step)
            yield (torch.full((1, 1), float(step % 3)),)

    def loss(self, x):
        return {"square": self.network(x).square().mean()}


def _lines(run):
    return (run / LOSSES).read_text(encoding="utf-8").splitlines()


def looped(folder: Path, task: Task, **plan) -> Loop:
    given = {"validate_every": 0, "samples_every": 0, "log_every": 1, **plan}
    loop = Loop(task, Plan(**given), Accelerator(CPU, torch.float32), folder / "last.pt", {}, True)
    loop.train()
    return loop


def test_a_task_says_what_is_learnt_and_the_loop_does_the_rest(tmp_path):
    task, by_hand = Slope(), 1.0
    loop = looped(tmp_path, task, steps=5)
    for step in range(5):
        by_hand -= 0.1 * 2 * by_hand * (step % 3) ** 2
    assert float(task.network.weight.detach()) == pytest.approx(by_hand)
    assert task.made == [0, 1, 2, 3, 4]
    assert loop.step == 5
    assert [row["step"] for row in history(tmp_path)] == [1, 2, 3, 4, 5]


def test_what_is_left_of_it_is_gone_on_with(tmp_path):
    looped(tmp_path, first := Slope(), steps=3)
    second = Slope()
    looped(tmp_path, second, steps=7)
    assert second.made == [3, 4, 5, 6]
    looped(tmp_path / "whole", whole := Slope(), steps=7)
    assert torch.equal(second.network.weight, whole.network.weight)
    assert not torch.equal(first.network.weight, whole.network.weight)


@pytest.mark.parametrize(
    "old", [{"state_dict": {}, "pytorch-lightning_version": "2.6"}, {"format": 99}, [1]]
)
def test_a_checkpoint_of_another_version_is_named(tmp_path, old):
    torch.save(old, tmp_path / "last.pt")
    with pytest.raises(InputError, match=r"last\.pt was written by another version .* train again"):
        looped(tmp_path, Slope(), steps=3)


def test_the_average_begins_with_the_first_step(tmp_path):
    net = torch.nn.Linear(1, 1, bias=False)
    average = Average(net, 0.75)
    for step, value in enumerate((2.0, 4.0, 8.0), 1):
        torch.nn.init.constant_(net.weight, value)
        average.update(step)
    expected = 0.75 * (0.75 * 2 + 0.25 * 4) + 0.25 * 8
    assert float(average.weights[0]) == pytest.approx(expected)
    average.exchange()
    assert float(net.weight.detach()) == pytest.approx(expected)
    average.exchange()
    assert float(net.weight.detach()) == 8.0


def test_without_fabric_a_run_is_the_same_bit_for_bit(folders, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("lightning_fabric")
    found = []
    for name in ("fabric", "plain"):
        if name == "plain":
            monkeypatch.setitem(sys.modules, "lightning_fabric", None)
            monkeypatch.setitem(sys.modules, "lightning_fabric.__version__", None)
        kind = type(choose_accelerator(Hardware("cpu", "bfloat16")))
        assert (kind is Accelerator) == (name == "plain")
        method = run(tmp_path, name, PLATEAU, hardware=Hardware("cpu", "bfloat16"))
        found.append((weights(method), losses(tmp_path / name)))
    assert all(map(torch.equal, found[0][0], found[1][0]))
    assert found[0][1] == found[1][1]


def test_what_needs_fabric_is_refused_without_it(monkeypatch):
    monkeypatch.setattr(accelerating, "_Fabric", lambda *given: __import__("absent_fabric"))
    assert type(choose_accelerator(Hardware("cpu"))) is Accelerator
    for hardware in (Hardware("cpu", devices=2), Hardware("cpu", strategy="ddp")):
        with pytest.raises(InputError, match=r'pip install "impasto\[train\]", or train on one'):
            choose_accelerator(hardware)


def test_the_next_batch_is_made_while_a_step_is_under_way(folders, tmp_path, monkeypatch):  # noqa: F811
    learning, later = pairs(tmp_path, workers=2), Event()
    plain, made = learning.windows, set()

    def windows(index):
        made.add(current_thread().name)
        if index >= CONFIG.batch:
            later.set()
        return plain(index)

    learning.windows = windows
    plain_loss = Toy.loss

    def loss(self, contents, styles):
        assert later.wait(10), "the next batch was not begun while this step was under way"
        return plain_loss(self, contents, styles)

    monkeypatch.setattr(Toy, "loss", loss)
    monkeypatch.setattr("test_fit.pairs", lambda *given: learning)
    monkeypatch.setattr("impasto.training.stream.cores", lambda: 2)
    run(tmp_path, "run", CONFIG)
    assert any("impasto-data" in name for name in made)


def test_pictures_are_decoded_in_threads_in_their_order(folders, monkeypatch):  # noqa: F811
    import impasto.training.sets as sets

    seen, plain, both = set(), sets.decode, Event()

    def decode(path, short_side):
        seen.add(current_thread().name)
        if len(seen) > 1:
            both.set()
        both.wait(10)
        assert torch.get_num_threads() == 1
        return plain(path, short_side)

    monkeypatch.setattr(sets, "decode", decode)
    monkeypatch.setattr(sets, "cores", lambda: 2)
    found = PictureSet([folders[0]], 32)
    assert len(seen) == 2
    paths = sorted(folders[0].iterdir())
    names = {picture.numpy().tobytes() for picture in found.train}
    assert names == {plain(path, 32).numpy().tobytes() for path in paths}
    monkeypatch.setattr(sets, "cores", lambda: 0)  # between the others, in this thread
    monkeypatch.setattr(sets, "decode", plain)
    assert all(map(torch.equal, found.train, PictureSet([folders[0]], 32).train))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_and_faults_in_their_place(workers):
    def half(number):
        if number == 5:
            raise InputError("five")
        return number / 2

    results = in_order(half, count(), workers)
    assert [next(results) for _ in range(5)] == [0, 0.5, 1, 1.5, 2]
    with pytest.raises(InputError, match="five"):
        next(results)
    assert list(in_order(half, range(3), workers)) == [0, 0.5, 1]


def test_a_log_takes_new_columns_and_a_torn_end(tmp_path):
    log = Log(tmp_path, 0)
    log.add(1, {"train": 0.5})
    log.add(2, {"validation": 0.25, "train": 0.125})
    log.close()
    with open(tmp_path / LOSSES, "a", encoding="utf-8") as file:
        file.write("3,0.1")
    again = Log(tmp_path, 2)
    again.add(3, {"train": 1.0})
    again.close()
    assert (tmp_path / LOSSES).read_text(encoding="utf-8").splitlines() == [
        *("step,train,validation", "1,0.5,", "2,0.125,0.25", "3,1.0,")
    ]
    assert history(tmp_path)[2] == {"step": 3, "train": 1.0}
    assert Log(tmp_path / "other", 0, write=False).add(1, {"train": 1.0}) is None
    assert not (tmp_path / "other").exists()


def test_a_numbered_gpu_becomes_the_current_one(monkeypatch):
    """Streams and captures are otherwise those of the first."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("cuda:1", "cuda", "cpu"):
        Accelerator(torch.device(name), torch.float32).launch()
    assert chosen == [torch.device("cuda:1")]


def test_what_a_killed_run_logged_after_its_checkpoint_is_dropped(tmp_path):
    looped(tmp_path / "whole", Slope(), steps=7)
    looped(tmp_path / "killed", Slope(), steps=3)
    kept = (tmp_path / "killed" / "last.pt").read_bytes()
    looped(tmp_path / "killed", Slope(), steps=5)
    (tmp_path / "killed" / "last.pt").write_bytes(kept)
    looped(tmp_path / "killed", Slope(), steps=7)
    steps = [
        [line.split(",")[:2] for line in _lines(tmp_path / run)] for run in ("whole", "killed")
    ]
    assert steps[0] == steps[1]
    (tmp_path / "killed" / "last.pt").unlink()  # as of a run killed before its first checkpoint
    looped(tmp_path / "killed", Slope(), steps=2)
    assert [row["step"] for row in history(tmp_path / "killed")] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is full")
def test_a_full_disk_is_named_and_the_run_goes_on_later(tmp_path, monkeypatch):
    looped(tmp_path, Slope(), steps=3)

    def opened(path, mode="r", **kind):
        return builtins.open("/dev/full" if mode == "a" else path, mode, **kind)

    with monkeypatch.context() as full, pytest.raises(DiskError, match=r"losses\.csv: .* space"):
        full.setattr("impasto.training.logs.open", opened, raising=False)
        looped(tmp_path, Slope(), steps=5)
    looped(tmp_path, Slope(), steps=5)
    assert [row["step"] for row in history(tmp_path)] == [1, 2, 3, 4, 5]


def test_adam_on_the_cpu_is_torchs():
    weight = torch.nn.Parameter(torch.ones(1))
    assert adam([weight], 0.5, CPU).param_groups[0]["lr"] == 0.5


BARE = """
from pathlib import Path
from impasto.training.accelerator import Hardware
from impasto.training.train import train
small = {"data.size": 32, "data.short_side": 32, "data.minimum": 1, "training.batch": 2,
         "training.validation": 2, "training.samples_every": 2, "training.log_every": 1,
         "options.widths": [[8], [8], [8], [8]]}
here = Hardware("cpu", "float32")
def go(steps, resume):
    train("adain", Path("photos"), Path("paintings"), None, Path("run"), Path("m.safetensors"),
          steps=steps, changes=small, hardware=here, resume=resume, progress=True)
go(2, False)
go(4, True)
import sys
loaded = [name for name in ABSENT if sys.modules.get(name) is not None]
assert not loaded, loaded
"""


COMMAND = """
import runpy
words = "train adain --photos photos --paintings paintings --run run --steps 2 --device cpu"
words += " --precision float32 -o m.safetensors --set options.widths=[[8],[8],[8],[8]]"
for option in ("size=32", "short_side=32", "minimum=1"):
    words += f" --set data.{option}"
for option in ("batch=2", "validation=2", "samples_every=2", "log_every=1"):
    words += f" --set training.{option}"
sys.argv = ["impasto", *words.split()]
try:
    runpy.run_module("impasto", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources, with pictures beside it; runs code without most packages."""
    shutil.copytree(Path(impasto.__file__).parent, tmp_path / "src" / "impasto")
    for i in range(6):
        write(tmp_path / "photos" / f"{i}.png", photo(40, 50, seed=i))
        write(tmp_path / "paintings" / f"{i}.png", painting(40, 50, seed=i))

    def run(code, absent):
        code = (
            f"import sys\nsys.path.insert(0, 'src')\n{without(*absent)}\nABSENT = {absent!r}\n"
            + code
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


FEW = (*ABSENT, "lightning_fabric", "pytorch_lightning", "torchmetrics", "tomli")


def test_a_copy_of_the_sources_trains_on_few_packages(copy, tmp_path):
    """torch, numpy, Pillow, safetensors and typer: one device, logs as CSV, sheets of samples."""
    copy(BARE, (*FEW, "rich"))
    assert [row["step"] for row in history(tmp_path / "run")] == [1, 2, 3, 4]
    assert (tmp_path / "run" / "samples-2.png").exists()
    assert not (tmp_path / "run" / "losses.png").exists()
    assert not (tmp_path / "run" / "tensorboard").exists()
    header = impasto.training.fit.load_tensors(tmp_path / "m.safetensors")[1]
    assert set(json.loads(header["figures"])["versions"]) == {"impasto", "torch", "python"}


def test_so_does_its_command(copy, tmp_path):
    """`python3 -m impasto train`; rich comes with typer."""
    done = copy(COMMAND, FEW)
    assert "2 steps" in done.stderr
    assert [row["step"] for row in history(tmp_path / "run")] == [1, 2]
    assert (tmp_path / "m.safetensors").exists()
