"""Graphics cards: memory that ends, kernels that are lacking, TF32, and nobody waiting."""

from __future__ import annotations

import sys
import warnings
from contextlib import nullcontext

import pytest
import torch
from data import painting, photo, refused
from standins import APPLE, Card, _allows_tf32, playing
from test_manners import EVERY, style_for

import impasto
from impasto import cli
from impasto.backbones import load_backbone
from impasto.device import choose_device, full_precision
from impasto.errors import lacks_memory
from impasto.images import write
from impasto.networks.flow import Flow
from impasto.options import flag_of
from impasto.study.reconstruct import reconstruct
from impasto.training.classify import classify
from impasto.training.learn import learn


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line; gives exit code and what it says."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["impasto", *map(str, args)])
        with pytest.raises(SystemExit) as stop, warnings.catch_warnings():
            warnings.simplefilter("default")
            cli.main()
        return stop.value.code or 0, "".join(capsys.readouterr())

    return call


@pytest.mark.parametrize("label", EVERY)
def test_memory_that_ends_in_the_work_is_told_in_a_line(command, monkeypatch, tmp_path, label):
    """Of three quarters of what is needed, which the check before does not see."""
    name, options = EVERY[label]
    write(tmp_path / "c.png", photo(64, 80))
    write(tmp_path / "s.png", painting())
    style = style_for(name) if name == "johnson" else tmp_path / "s.png"
    flags = [f"{flag_of(option)}={value}" for option, value in options.items()]
    line = ("stylize", tmp_path / "c.png", style, "-o", tmp_path / "o.png", "-m", name, *flags)
    kind, rules = ("mps", APPLE) if label == "ghiasi" else ("cuda", ())
    with playing(Card(kind, rules), monkeypatch) as card:
        assert command(*line)[0] == 0
    (tmp_path / "o.png").unlink()
    small = Card(kind, rules, memory=card.peak * 3 // 4)
    with playing(small, monkeypatch), monkeypatch.context() as patch:
        patch.setattr("impasto.device.memory.available_memory", lambda device=None: 2**40)
        code, said = command(*line)
    assert code in (1, 2)
    assert "memory" in said
    assert "Traceback" not in said
    assert not (tmp_path / "o.png").exists()


STUDIES = [
    "compare --contents c --styles s -o out --methods adain --size 36",
    "sweep c/1.png s/w.png -o out --vary style-weight=10,100",
    "reconstruct c/1.png -o out.png --layers relu1_1 --size 40 --iterations 2",
    "study leak c/1.png --styles s -o out --size 36 --methods adain",
    "learn s/w.png -o out.safetensors --minutes 0.01",
]


@pytest.mark.parametrize("line", STUDIES, ids=lambda line: line.split()[0])
def test_studies_end_in_a_line_where_memory_ends(command, monkeypatch, tmp_path, line):
    monkeypatch.chdir(tmp_path)
    write("c/1.png", photo(40, 52))
    write("s/w.png", painting(70, 80))
    with playing(Card("cuda", memory=2_000_000), monkeypatch):
        code, said = command(*line.split())
    assert code in (1, 2)
    assert "memory" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("out/*.png")) + list(tmp_path.glob("out.*"))


def test_a_picture_too_large_for_the_card_is_refused_before(monkeypatch):
    with playing(Card("cuda", memory=3_000_000), monkeypatch):
        said = refused(lambda: impasto.stylize(photo(400, 400), painting(), "artflow"), "memory")
        assert "size=" in said


def test_a_folder_goes_on_after_a_picture_that_was_too_large(command, monkeypatch, tmp_path):
    write(tmp_path / "c" / "1.png", photo(40, 50))
    write(tmp_path / "c" / "2.png", photo(160, 200))
    write(tmp_path / "c" / "3.png", photo(40, 50))
    write(tmp_path / "s.png", painting())
    line = (
        "stylize",
        tmp_path / "c",
        "-s",
        tmp_path / "s.png",
        "-o",
        tmp_path / "o",
        "-m",
        "adain",
    )
    with playing(Card("mps", APPLE, memory=25_000_000), monkeypatch):
        code, said = command(*line)
    assert code == 1
    assert "2.png" in said and "memory" in said
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["1-s.png", "3-s.png"]


def test_a_card_without_kernels_is_passed_over_with_a_note(command, monkeypatch, tmp_path):
    write(tmp_path / "c.png", photo(40, 50))
    write(tmp_path / "s.png", painting())
    line = ("stylize", tmp_path / "c.png", tmp_path / "s.png", "-o", tmp_path / "o.png")
    with playing(Card("cuda", capability=(6, 1)), monkeypatch) as card:
        code, said = command(*line)
        assert code == 0
        assert "capability 6.1" in said and "CPU" in said
        code, said = command(*line, "--device", "cuda")
        assert code == 2
        assert "capability 6.1" in said and "--device cpu" in said
    assert not card.operations


def test_flows_come_back_exactly_on_cards_with_tf32(monkeypatch):
    torch.manual_seed(0)
    flow = Flow(2, 4, 16).eval().requires_grad_(False)
    for weight in flow.parameters():
        weight += 0.05 * torch.randn_like(weight)
    pictures = torch.rand(1, 3, 32, 32)
    with playing(Card("cuda", tf32=True), monkeypatch):
        flow.to("cuda")
        there = pictures.to("cuda")
        assert float((flow.inverse(flow(there)) - there).abs().max()) < 5e-5
        monkeypatch.setattr("impasto.networks.flow.full_precision", lambda device: nullcontext())
        assert float((flow.inverse(flow(there)) - there).abs().max()) > 1e-3


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("options", [{}, {"strength": 0.5}, {"size": 32}])
def test_an_iteration_of_gatys_waits_for_nothing(monkeypatch, optimizer, options):
    waits = []
    for count in (3, 9):
        with playing(Card("cuda"), monkeypatch) as card:
            given = {
                "iterations": count,
                "tolerance": 0.0,
                "optimizer": optimizer,
                "tv_weight": 1.0,
            }
            impasto.stylize(photo(), painting(), "gatys", **given, **options)
        waits.append(len(card.waits))
    assert waits[0] == waits[1]


def test_what_is_seen_of_an_optimisation_is_the_same_one_step_late(monkeypatch):
    given = {"iterations": 6, "precision": "float32"}
    here = impasto.stylize(photo(), painting(), "gatys", device="cpu", **given)
    seen = []
    with playing(Card("cuda"), monkeypatch):
        there = impasto.stylize(photo(), painting(), "gatys", on_step=seen.append, **given)
    assert [step.iteration for step in seen] == [1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(there.losses, here.losses, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(there.picture.rgb, here.picture.rgb, rtol=0, atol=5e-3)


def test_a_stop_on_a_card_gives_the_picture_of_that_step(monkeypatch):
    given = {"iterations": 8, "precision": "float32", "tolerance": 0.0}
    pictures = []
    for device in ("cpu", "cuda"):
        with playing(Card("cuda"), monkeypatch):
            out = impasto.stylize(
                *(photo(), painting(), "gatys"),
                device=device,
                on_step=lambda step: step.iteration == 4,
                **given,
            )
        assert len(out.losses) == 4
        assert out.settings["stopped"] == "cancelled"
        pictures.append(out.picture.rgb)
    torch.testing.assert_close(*pictures, rtol=0, atol=5e-3)


@pytest.mark.parametrize("label", EVERY)
def test_progress_waits_for_nothing(monkeypatch, label):
    """Nobody reads from the card until the callback asks for the picture."""
    name, options = EVERY[label]
    waits, shares = [], []
    with playing(Card("cuda"), monkeypatch) as card:
        method = impasto.load(name, **options)
        style = method.prepare([style_for(name)])
        method(photo(), style)
        for on_step in (None, lambda step: shares.append(step.share)):
            before = len(card.waits)
            method(photo(), style, 1.0, on_step)
            waits.append(len(card.waits) - before)
    assert waits[0] == waits[1]
    assert shares[-1] == 1


def test_trainings_of_their_own_loop_do_not_wait_in_it(monkeypatch, tmp_path):
    for label, make in (("a", photo), ("b", painting)):
        for number in range(3):
            write(tmp_path / "p" / label / f"{number}.png", make(40, 44, seed=number))

    def classified(steps, run):
        changes = {"size": 32, "short_side": 36, "batch": 2, "adversarial": True}
        places = ([tmp_path / "p"], None, tmp_path / run, tmp_path / f"{run}.safetensors")
        classify("resnet18", *places, steps=steps, changes=changes, log=lambda line: None)

    def learnt(steps, run):
        learn(painting(64, 80), size=64, steps=steps)

    def distilled(steps, run):
        from impasto.training.bank import DistillConfig
        from impasto.training.distill import distill
        from impasto.training.sets import PictureSet

        teacher = load_backbone("slim").to("cuda")
        taps = ["relu1_1", "relu2_1"]
        config = DistillConfig(
            widths=((6, 6), (8,)),
            crops=8,
            validation=4,
            size=32,
            positions=16,
            steps=steps,
            batch=4,
        )
        sets = PictureSet([tmp_path / "p"], short_side=36, held_out=0.2)
        teachers = [lambda x: teacher(x.to("cuda"), taps)]
        where = {"device": torch.device("cuda"), "every": 1000, "log": lambda line: None}
        distill(sets, teachers, config, tmp_path / run, **where)

    for training in (classified, learnt, distilled):
        waits = []
        for steps in (3, 8):
            with playing(Card("cuda"), monkeypatch) as card:
                training(steps, f"{training.__name__}-{steps}")
            assert "convolution_backward" in card.operations
            waits.append(len(card.waits))
        assert waits[0] == waits[1], training.__name__


def test_reconstructions_do_not_wait(monkeypatch):
    nets = {"slim": load_backbone("slim")}
    waits = []
    for count in (3, 8):
        with playing(Card("cuda"), monkeypatch) as card:
            reconstruct(photo(), nets, "content", ["relu1_1"], size=36, iterations=count)
        waits.append(len(card.waits))
    assert waits[0] == waits[1]


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Invalid buffer size: 12.50 GB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_every_way_of_having_no_memory_is_known(fault):
    assert lacks_memory(fault)


@pytest.mark.parametrize("autocast", [False, True])
def test_grams_of_float16_are_finite_at_256_pixels(autocast):
    from impasto.statistics import Moments

    features = torch.full((8, 256, 256), 3.0)
    expected = Moments.of(features)
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        given = (features if autocast else features.half()).requires_grad_()
        moments = Moments.of(given)
        moments.gram.sum().backward()
    torch.testing.assert_close(moments.second, expected.second, rtol=1e-3, atol=0)
    assert given.grad.isfinite().all()
    assert given.grad.abs().min() > 0


def test_a_fork_is_refused_before_a_card_is_asked(monkeypatch):
    with playing(Card("cuda"), monkeypatch), monkeypatch.context() as patch:
        patch.setattr("impasto.device.process._forked", True)

        def asked(*args):
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

        patch.setattr(torch.cuda, "get_device_capability", asked)
        for name in ("auto", "cuda"):
            refused(lambda name=name: choose_device(name), "spawn")


def test_two_flows_at_once_both_come_back_exactly(monkeypatch):
    with playing(Card("cuda"), monkeypatch):
        card = torch.device("cuda")
        before = _allows_tf32()
        first, second = full_precision(card), full_precision(card)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not _allows_tf32()
        second.__exit__(None, None, None)
        assert _allows_tf32() is before
