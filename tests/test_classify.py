from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch.nn import functional as F

from impasto import cli
from impasto.backbones import ResNet, load_backbone
from impasto.errors import InputError, Interrupted
from impasto.images import write
from impasto.tensors import load_tensors, save_tensors
from impasto.training import classify as training
from impasto.training.accelerator import Hardware, choose_accelerator
from impasto.training.attack import attack
from impasto.training.classify import Classifier, ClassifyConfig, Labelled, classify
from impasto.training.labels import labels_of

SMALL = ((1, 1), False)
CONFIG = {"batch": 12, "size": 32, "short_side": 32, "checkpoint_every": 10, "attacks": 2}


def stripes(across: bool, seed: int, side: int = 32) -> torch.Tensor:
    """Faint stripes of random phase and colour in noise."""
    rng = torch.Generator().manual_seed(seed)
    phase = torch.rand((), generator=rng) * 6.28
    wave = torch.sin(torch.arange(side) * 0.8 + phase)
    grid = wave.expand(side, side) if across else wave.expand(side, side).T
    noise = torch.randn(3, side, side, generator=rng)
    return (0.5 + 0.12 * grid + 0.05 * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    for number in range(12):
        write(folder / "across" / f"{number}.png", stripes(True, number))
        write(folder / "down" / f"{number}.png", stripes(False, 100 + number))
    return folder


@pytest.fixture
def small(monkeypatch):
    """A ResNet-18 in all but its size."""

    class Small(ResNet):
        def __init__(self, *depths, name="resnet"):
            super().__init__(*SMALL, name=name, width=8)

    monkeypatch.setattr(training, "ResNet", Small)
    return Small


@pytest.fixture
def recipe(tmp_path):
    def make(**more):
        lines = (f"{k} = {str(v).lower()}\n" for k, v in (CONFIG | more).items())
        (tmp_path / "recipe.toml").write_text("".join(lines), encoding="utf-8")
        return tmp_path / "recipe.toml"

    return make


def test_classes_are_folders_or_the_beginnings_of_names(tmp_path, folder):
    assert {k: len(v) for k, v in labels_of([folder]).items()} == {"across": 12, "down": 12}
    for name in ("old_oak_001", "old_oak_002", "elm_001"):
        write(tmp_path / f"{name}.png", stripes(True, 0))
    assert {k: len(v) for k, v in labels_of([tmp_path]).items()} == {"elm": 1, "old_oak": 2}
    assert len(labels_of([folder, tmp_path])) == 4
    with pytest.raises(InputError, match="1 classes"):
        labels_of([folder / "across"][:0] or [single(tmp_path)])


def test_a_name_without_a_class_is_an_error(folder):
    with pytest.raises(InputError, match="its name has no class; call it CLASS_NUMBER.png"):
        labels_of([folder / "across"])


def single(tmp_path):
    write(tmp_path / "only" / "elm_1.png", stripes(True, 0))
    return tmp_path / "only"


def test_the_split_is_stable_and_leaves_pictures_to_learn_from(folder, tmp_path):
    config = ClassifyConfig(**CONFIG, validation=0.3)
    sets = [Labelled(labels_of([folder]), config, print) for _ in range(2)]
    assert [len(own) for own in sets[0].train] == [len(own) for own in sets[1].train]
    assert 0 < len(sets[0].validation) < 24
    crops, labels = next(sets[0].batches(0, torch.device("cpu")))
    assert crops.shape == (12, 3, 32, 32)
    assert set(labels.tolist()) == {0, 1}


@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_an_attack_raises_the_loss_within_its_radius(radius):
    torch.manual_seed(0)
    model = Classifier(ResNet(*SMALL, width=8), 2).train()
    pictures, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    attacked = attack(model, pictures, labels, radius, 4)
    assert model.training
    change = (attacked - pictures).flatten(1).norm(dim=1)
    assert (change <= radius * 1.0001).all()
    assert (change > 0.1 * radius).all()
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    model.eval()
    before, after = (F.cross_entropy(model(x), labels) for x in (pictures, attacked))
    assert after > before
    assert all(p.grad is None for p in model.parameters())


def test_an_attack_starts_anywhere_in_the_ball():
    model = Classifier(ResNet(*SMALL, width=8), 2)
    pictures, labels = torch.full((2, 3, 32, 32), 0.5), torch.tensor([0, 1])
    first, second = (attack(model, pictures, labels, 0.5, 1) for _ in range(2))
    torch.manual_seed(0)
    third = attack(model, pictures, labels, 0.5, 1)
    torch.manual_seed(0)
    assert torch.equal(attack(model, pictures, labels, 0.5, 1), third)
    assert not torch.equal(first, second)


def test_epsilon_grows(folder, monkeypatch):
    config = ClassifyConfig(**CONFIG, adversarial=True, epsilon=7.0, grow=4)
    task = training.Classification(
        Classifier(ResNet(*SMALL, width=8), 2), Labelled(labels_of([folder]), config, print), config
    )
    batches = task.batches(2, choose_accelerator(Hardware("cpu", "float32")))
    radii = [next(batches)[2] for _ in range(3)]
    assert radii == pytest.approx([0.75, 1.0, 1.0])  # 7 on 224 pixels is 1 on 32
    seen = []
    monkeypatch.setattr(training, "attack", lambda *a: (seen.append(a[3:]), a[1])[1])
    task.loss(*next(batches))
    assert seen == [(1.0, 2)]


def test_classes_are_chosen_by_name(tmp_path):
    for name in ("oak_1", "elm_1", "ash_1"):
        write(tmp_path / f"{name}.png", stripes(True, 0))
    assert list(labels_of([tmp_path], classes=["oak", "ash"])) == ["ash", "oak"]
    with pytest.raises(InputError, match="no pictures of yew; there are ash, elm, oak"):
        labels_of([tmp_path], classes=["oak", "yew"])
    with pytest.raises(InputError, match="1 classes"):
        labels_of([tmp_path], classes=["oak"])


def test_held_out_pictures_are_attacked_in_more_steps(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "attack", lambda *a: (seen.append(a[4]), a[1])[1])
    config = ClassifyConfig(**CONFIG, test_attacks=7)
    pictures = Labelled(labels_of([folder]), config, print)
    training.accuracy(Classifier(ResNet(*SMALL, width=8), 2), pictures, config)
    assert set(seen) == {7}


def test_training_starts_from_weights(folder, recipe, small, tmp_path):
    def run(name, start=None, folder=folder, **more):
        out = tmp_path / f"{name}.safetensors"
        options = {"start": start, "device": "cpu", "log": lambda line: None, **more}
        classify("resnet18", [folder], recipe(), tmp_path / name, out, steps=1, **options)
        return out

    first = run("first")
    still = {"learning_rate": 1e-12, "weight_decay": 0.0}
    second = run("second", start=first, changes=still)
    (before, _), (after, header) = load_tensors(first), load_tensors(second)
    kernels = [key for key, tensor in before.items() if tensor.ndim > 1]
    assert "fc.weight" in kernels
    assert all(torch.equal(before[key], after[key]) for key in kernels)
    assert json.loads(header["recipe"])["start"] == "first.safetensors"
    with pytest.raises(InputError, match="would overwrite"):
        run("first", start=first)
    write(tmp_path / "trees" / "oak" / "1.png", stripes(True, 0))
    write(tmp_path / "trees" / "elm" / "1.png", stripes(True, 0))
    with pytest.raises(InputError, match="not weights for the classes elm, oak"):
        run("third", start=first, folder=tmp_path / "trees")
    monster = ResNet(*SMALL, width=4).state_dict()
    save_tensors(first, monster, load_tensors(first)[1])
    with pytest.raises(InputError, match="not weights of resnet18"):
        run("fourth", start=first)


def test_robust_weights_withstand_attacks_that_fool_standard_ones(folder, recipe, small, tmp_path):
    figures = {}
    for adversarial in (False, True):
        figures[adversarial] = classify(
            *("resnet18", [folder], recipe(epsilon=14.0, validation=0.4)),
            *(tmp_path / f"run{adversarial}", tmp_path / f"{adversarial}.safetensors"),
            adversarial=adversarial,
            steps=60,
            device="cpu",
            log=lambda line: None,
        )
    assert figures[False]["clean"] > 0.8
    assert figures[True]["attacked"] > figures[False]["attacked"] + 0.1


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(folder, recipe, small, tmp_path):
    def run(name, end=None):
        file = tmp_path / f"{name}.safetensors"
        classify(
            *("resnet18", [folder], recipe(), tmp_path / name, file),
            steps=8,
            device="cpu",
            on_progress=lambda step, steps, loss: step == end,
            log=lambda line: None,
        )
        return load_tensors(file)

    whole, header = run("whole")
    with pytest.raises(Interrupted, match="3"):
        run("halved", end=3)
    assert not (tmp_path / "halved.safetensors").exists()
    resumed, _ = run("halved")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert json.loads(header["figures"]).keys() == {"clean", "attacked"}
    assert header["convention"] == "torchvision"


def test_errors(folder, recipe, small, tmp_path):
    with pytest.raises(InputError, match="unknown key"):
        classify("resnet18", [folder], recipe(speed=3), tmp_path / "r", tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        classify("resnet18", [folder], None, tmp_path / "r", tmp_path / "a.pt")
    with pytest.raises(InputError, match="give resnet18"):
        classify("vgg19", [folder], None, tmp_path / "r", tmp_path / "a.safetensors")
    for wrong in ({"size": 8}, {"epsilon": 0.0}, {"batch": 0}, {"validation": 1.0}, {"grow": -1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ClassifyConfig(**wrong)
    assert dataclasses.replace(ClassifyConfig(), size=112).radius == pytest.approx(1.5)


def test_the_command_line_makes_weights_that_serve(folder, recipe, tmp_path, monkeypatch):
    out = tmp_path / "w.safetensors"
    args = ["train", "encoder", "--backbone", "resnet18", "--pictures", folder, "--adversarial"]
    args += ["--recipe", recipe(), "--steps", 1, "--run", tmp_path / "run", "-o", out]
    monkeypatch.setattr("sys.argv", ["impasto", *map(str, args), "--device", "cpu"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    net = load_backbone("resnet18", out)
    assert net.taps == ["conv1", "rb1", "rb2", "rb3", "rb4"]
    assert json.loads(load_tensors(out)[1]["recipe"])["adversarial"] is True


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_pictures_below_a_class_count_for_it(tmp_path):
    for place in ("oak/2023", "oak/2024", "oak", "elm"):
        write(tmp_path / "trees" / place / "1.png", stripes(True, 0))
    root = tmp_path / "trees"
    write(root / "beside.png", stripes(True, 0))
    write(root / ".thumbs" / "1.png", stripes(True, 0))
    (root / "labels.txt").write_text("oak, elm", encoding="utf-8")
    (root / "all").symlink_to(root, target_is_directory=True)  # a circle
    (root / "ash").symlink_to(root / "oak", target_is_directory=True)  # the same class again
    said: list[str] = []
    found = labels_of([str(root)], said.append)
    assert {name: len(pictures) for name, pictures in found.items()} == {"elm": 1, "oak": 3}
    assert len(said) == 2
    assert "labels.txt" in said[0]
    assert "skipped 1 pictures beside the folders of classes: beside.png" in said[1]
    for given in (root, str(root)):
        with pytest.raises(InputError, match="folders: give a list of paths"):
            labels_of(given)


def test_set_goes_before_the_recipe(folder, recipe, small, tmp_path):
    def run(changes, **more):
        places = (recipe(), tmp_path / "run", str(tmp_path / "a.safetensors"))
        options = {"device": "cpu", "log": lambda line: None, "changes": changes, **more}
        return classify("resnet18", [folder], *places, **options)

    run({"batch": 4, "steps": 2})
    kept = json.loads(load_tensors(tmp_path / "a.safetensors")[1]["recipe"])
    assert (kept["batch"], kept["steps"], kept["size"]) == (4, 2, 32)
    for changes, message in (
        ({"batches": 4}, "changes: unknown key 'batches'; the keys are steps, batch"),
        ({"batch": "x"}, "changes: batch = 'x' is not of type int"),
        ({"epsilon": float("nan")}, "changes: epsilon is nan: must be a finite number"),
        ({"batch": 0}, r"recipe.toml with changes: batch = 0"),
    ):
        with pytest.raises(InputError, match=message):
            run(changes)
    with pytest.raises(InputError, match="given by steps and changes"):
        run({"steps": 2}, steps=3)


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_the_recipe_is_not_overwritten(folder, recipe, tmp_path):
    (tmp_path / "a.safetensors").symlink_to(recipe())
    with pytest.raises(InputError, match="would overwrite"):
        classify("resnet18", [folder], recipe(), tmp_path / "run", tmp_path / "a.safetensors")
    assert not (tmp_path / "run").exists()
