"""The training loop on stand-ins: in a step nobody waits, and only the data come from the host."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from itertools import islice

import pytest
import torch
from standins import Card, Far, playing
from test_devices import TRAININGS, options_of
from test_fit import CONFIG, Toy, folders, pairs, run  # noqa: F401, folders is a fixture
from torch.utils._python_dispatch import TorchDispatchMode

from impasto.errors import InputError
from impasto.training.accelerator import Hardware, choose_accelerator
from impasto.training.crops import DataConfig
from impasto.training.fit import fit
from impasto.training.logs import history
from impasto.training.loop import Loop
from impasto.training.methods import TRAINABLE
from impasto.training.stream import Stream


class Strict(TorchDispatchMode):
    """Within it, the host reads nothing of a card and sends nothing to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        kwargs = kwargs or {}
        there = isinstance(args[0], Far) if args else False
        if name == "_local_scalar_dense":
            raise AssertionError(".item() in a step")
        if name == "_to_copy":
            to = torch.device(kwargs.get("device") or "cpu").type
            if there != (to == "lazy") and kwargs.get("device") is not None:
                raise AssertionError(f"{name} to {to} in a step")
        if name == "copy_" and there != isinstance(args[1], Far):
            raise AssertionError("copy_ between host and card in a step")
        return func(*args, **kwargs)


@pytest.fixture
def strict(monkeypatch):
    """All steps but the first, which may look at its data, are taken in :class:`Strict`."""
    plain, taken = Loop.advance, []

    def advance(self, *batch):
        taken.append(self.step)
        if not self.step:
            return plain(self, *batch)
        with Strict():
            return plain(self, *batch)

    monkeypatch.setattr(Loop, "advance", advance)
    return taken


CUDA = Hardware("cuda", "float32")


def test_the_mode_forbids_what_it_should(monkeypatch):
    with playing(Card("cuda"), monkeypatch):
        far, near = torch.ones(2, device="cuda"), torch.ones(2)
        for fault in (
            lambda: far.sum().item(),
            lambda: near.to("cuda"),
            lambda: far.cpu(),
            lambda: far.copy_(near),
            lambda: torch.tensor(1.0, device="cuda"),
        ):
            with pytest.raises(AssertionError), Strict():
                fault()
        with Strict():
            assert isinstance(torch.rand(2, device="cuda") + far.half().float(), Far)


@pytest.mark.parametrize("label", TRAININGS)
def test_a_step_takes_nothing_but_its_data(monkeypatch, strict, folders, tmp_path, label):  # noqa: F811
    name, options = options_of(label, tmp_path)
    data = DataConfig(size=32, short_side=32, workers=0)
    learning = pairs(tmp_path)
    learning.config = data
    changes = {"steps": 4, "batch": 2, "validation": 2, "clip": 1.0, "average": 0.5}
    config = dataclasses.replace(CONFIG, **changes)
    torch.manual_seed(0)
    with playing(Card("cuda"), monkeypatch) as card:
        method = TRAINABLE[name].untrained(**options)
        fit(method, learning, config, tmp_path / "r", hardware=CUDA, log=lambda line: None)
    assert "convolution_backward" in card.operations
    assert strict == [0, 1, 2, 3]


def test_between_steps_nobody_waits_and_one_copy_brings_a_batch(monkeypatch, folders, tmp_path):  # noqa: F811
    waits = []
    config = dataclasses.replace(
        CONFIG, log_every=2, validate_every=100, checkpoint_every=100, average=0.5
    )
    for steps in (4, 12):
        with playing(Card("cuda"), monkeypatch) as card:
            changed = dataclasses.replace(config, steps=steps)
            run(tmp_path, f"run-{steps}", changed, workers=2, hardware=CUDA)
        waits.append(len(card.waits))
    assert waits[0] == waits[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("alone", [False, True])
def test_crops_made_there_are_the_cpus(monkeypatch, folders, tmp_path, workers, alone):  # noqa: F811
    learning = pairs(tmp_path, workers)
    learning.config = dataclasses.replace(learning.config, scales=True, close=0.3)
    if alone:
        learning.paintings = None
    here = list(islice(Stream(learning, 4, 3), 3))
    copies = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            to = (kwargs or {}).get("device")
            if "_to_copy" in func.name() and to is not None and not isinstance(args[0], Far):
                copies.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with playing(Card("cuda"), monkeypatch) as card, Copies():
        there = list(islice(Stream(learning, 4, 3, device=torch.device("cuda")), 3))
        assert all(isinstance(crops, Far) for batch in there for crops in batch)
    assert card.waits == []
    assert copies == [torch.uint8] * 3
    for ours, theirs in zip(here, there, strict=True):
        for one, two in zip(ours, theirs, strict=True):
            assert torch.equal(one, two.inner)


def test_figures_are_those_of_the_cpu_one_step_late(monkeypatch, folders, tmp_path):  # noqa: F811
    seen = {"cpu": [], "cuda": []}
    losses = {}
    for kind in seen:
        with playing(Card("cuda"), monkeypatch):
            run(
                *(tmp_path, kind, dataclasses.replace(CONFIG, validate_every=100)),
                hardware=Hardware(kind, "float32"),
                on_progress=lambda step, steps, loss, kind=kind: seen[kind].append(loss),
            )
        losses[kind] = [row["train"] for row in history(tmp_path / kind)]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)
    assert seen["cpu"] == losses["cpu"]
    # Where a checkpoint is written, its loss is read before; on_progress is called earlier.
    assert seen["cuda"][1:4] == pytest.approx(seen["cpu"][:3], rel=1e-3)


def test_a_lost_loss_ends_the_run_there_too(monkeypatch, folders, tmp_path):  # noqa: F811
    config = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=1e20)
    with playing(Card("cuda"), monkeypatch), pytest.raises(InputError, match="the loss is"):
        run(tmp_path, "run", config, hardware=CUDA)
    assert not (tmp_path / "run" / "last.ckpt").exists()


class Graphs:
    """What stands for CUDA's graphs: a graph is the step itself, called again."""

    def __init__(self, monkeypatch) -> None:
        self.replays, self.step = 0, None
        capture = lambda captured, batch: self._capture(captured, batch)  # noqa: E731
        monkeypatch.setattr("impasto.training.capture.Captured._capture", capture)
        monkeypatch.setattr("impasto.training.capture.side_stream", self._stream)

    def _capture(self, captured, batch):
        captured.batch = [tensor.clone() for tensor in batch]

        class Graph:
            @staticmethod
            def replay():
                self.replays += 1
                captured.terms = captured.step(*captured.batch)

        captured.graph = Graph()

    def _stream(self):
        return nullcontext()


def test_a_captured_step_has_the_same_losses(monkeypatch, folders, tmp_path):  # noqa: F811
    monkeypatch.setattr(
        *(Toy, "loss", lambda self, contents, styles: {"mean": self._out(contents)}),
    )
    draw = lambda self, x: (self.network(x) - x * torch.rand_like(x)).square().mean()  # noqa: E731
    monkeypatch.setattr(Toy, "_out", draw, raising=False)
    graphs, found = Graphs(monkeypatch), []
    for graph in (False, True):
        config = dataclasses.replace(CONFIG, steps=8, clip=0.1, average=0.9, graph=graph)
        with playing(Card("cuda"), monkeypatch), monkeypatch.context() as patch:
            # On the stand-in random numbers are the host's.
            patch.setattr(torch, "get_rng_state", lambda: torch.zeros(1))
            run(tmp_path, f"run-{graph}", config, hardware=CUDA)
        found.append([row["train"] for row in history(tmp_path / f"run-{graph}")])
    assert graphs.replays == 8 - 3
    assert found[0] == found[1]


def test_a_loss_that_draws_on_the_host_is_not_captured(monkeypatch, folders, tmp_path):  # noqa: F811
    Graphs(monkeypatch)
    config = dataclasses.replace(CONFIG, graph=True)
    with playing(Card("cuda"), monkeypatch), pytest.raises(InputError, match="on the host"):
        run(tmp_path, "run", config, hardware=CUDA)
    with pytest.raises(InputError, match="graph = true and optimizer = 'sgd': use adam"):
        dataclasses.replace(CONFIG, graph=True, optimizer="sgd")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA's")
def test_a_graph_on_the_card_itself_has_the_same_losses(folders, tmp_path):  # noqa: F811
    found = []
    for graph in (False, True):
        config = dataclasses.replace(CONFIG, steps=12, graph=graph)
        run(tmp_path, f"run-{graph}", config, hardware=CUDA)
        found.append([row["train"] for row in history(tmp_path / f"run-{graph}")])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_the_accelerator_of_a_card_is_fabrics(monkeypatch):
    pytest.importorskip("lightning_fabric")
    with playing(Card("cuda"), monkeypatch):
        place = choose_accelerator(CUDA)
        place.launch()
        assert place.device.type == "cuda"
        assert place.versions["lightning"]
        with pytest.raises(InputError, match="strategy fsdp may shard the weights"):
            choose_accelerator(dataclasses.replace(CUDA, strategy="fsdp"))
