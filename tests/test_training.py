from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from data import painting, photo
from test_vgg import random_state

from impasto import cli
from impasto.backbones.compact import Compact, load_encoder, save_encoder
from impasto.backbones.records import BUNDLED, VGG19
from impasto.backbones.vgg import VGG
from impasto.errors import InputError, Interrupted
from impasto.images import write
from impasto.networks.decoder import HUANG, Decoder
from impasto.tensors import load_tensors, save_tensors
from impasto.training.bank import DistillConfig
from impasto.training.distill import distill
from impasto.training.encoder import read_recipe, train
from impasto.training.methods.regress import (
    _mirrored,
    choose_channels,
    counterparts,
    fit_bottlenecks,
    fit_decoder,
    fit_layers,
)
from impasto.training.sets import PictureSet
from impasto.training.student import _residual_gram, dream
from impasto.training.teachers import CollaborativeTeacher

CONFIG = DistillConfig(
    widths=((6, 6), (8,)), crops=24, validation=8, size=32, positions=64, steps=30, batch=4
)
TAPS = ["relu1_1", "relu2_1"]


@pytest.fixture
def folders(tmp_path):
    for i in range(6):
        write(tmp_path / "photos" / f"{i}.png", photo(40, 50, seed=i))
        write(tmp_path / "paintings" / f"{i}.png", painting(40, 50, seed=i))
    return [tmp_path / "photos", tmp_path / "paintings"]


@pytest.fixture
def teacher() -> VGG:
    torch.manual_seed(3)
    net = VGG(((16, 16), (24,)), name="teacher").requires_grad_(False)
    return net.scale_(net.unit_means([photo()[None], painting()[None]]))


def run(folders, teacher, run_folder, config=CONFIG, lines=None, start=None):
    pictures = PictureSet(folders, short_side=40, held_out=0.2)
    log = (lambda line: None) if lines is None else lines.append
    return distill(pictures, [lambda p: teacher(p, TAPS)], config, run_folder, start, log, every=10)


def test_the_student_learns_map_and_kernel(folders, teacher, tmp_path):
    config = dataclasses.replace(CONFIG, noise=1.0, widths=teacher.widths, learning_rate=5e-3)
    _, before = run(folders, teacher, tmp_path / "a", dataclasses.replace(config, steps=1))
    _, after = run(folders, teacher, tmp_path / "b", dataclasses.replace(config, steps=200))
    for tap in TAPS:
        assert after[tap]["map"] < 0.8 * before[tap]["map"]
        assert after[tap]["kernel"] < before[tap]["kernel"]


def test_least_squares_is_a_far_better_start_than_random_weights(folders, teacher, tmp_path):
    config = dataclasses.replace(CONFIG, steps=1, noise=1.0, widths=teacher.widths)
    _, random = run(folders, teacher, tmp_path / "a", config)
    _, fitted = run(folders, teacher, tmp_path / "b", config, start=teacher)
    for tap in TAPS:
        assert fitted[tap]["map"] < 0.5 * random[tap]["map"]


def test_a_student_as_wide_as_its_teacher_is_fitted_exactly(teacher):
    student = VGG(teacher.widths).requires_grad_(False)
    crops = torch.stack([photo(32, 32, seed=i) for i in range(12)])
    fit_layers(student, teacher, crops, per_crop=400)
    ours = student(crops, ["relu2_1"])["relu2_1"].flatten(2).sum(-1).sort(1).values
    theirs = teacher(crops, ["relu2_1"])["relu2_1"].flatten(2).sum(-1).sort(1).values
    assert float((ours - theirs).norm() / theirs.norm()) < 0.1


@pytest.mark.parametrize("dreams", [{}, {"dreams": 40, "dream_every": 4}], ids=["plain", "dreams"])
def test_an_interrupted_run_gives_the_same_student(folders, teacher, tmp_path, dreams):
    config = dataclasses.replace(CONFIG, steps=30, **dreams)
    whole, _ = run(folders, teacher, tmp_path / "whole", config)
    lines: list[str] = []

    class Killed(Exception):
        pass

    def log(line):
        if line.startswith("step 20/"):
            raise Killed

    pictures = PictureSet(folders, short_side=40, held_out=0.2)
    teachers = [lambda p: teacher(p, TAPS)]
    with pytest.raises(Killed):
        distill(pictures, teachers, config, tmp_path / "cut", None, log, every=10)
    resumed, _ = run(folders, teacher, tmp_path / "cut", config, lines)
    assert any("resuming from last.pt at step 10" in line for line in lines)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


@pytest.mark.parametrize("damage", [b"", b"no pickle", None])
def test_a_damaged_bank_is_named(folders, teacher, tmp_path, damage):
    (tmp_path / "run").mkdir()
    if damage is None:
        torch.save({"settings": {}}, tmp_path / "run" / "bank.pt")
    else:
        (tmp_path / "run" / "bank.pt").write_bytes(damage)
    with pytest.raises(InputError, match=r"bank\.pt is damaged .* delete it"):
        run(folders, teacher, tmp_path / "run", CONFIG)


def test_the_student_learns_from_pictures_optimised_through_itself(folders, teacher, tmp_path):
    lines: list[str] = []
    config = dataclasses.replace(CONFIG, steps=14, dreams=40, dream_every=4)
    net, _ = run(folders, teacher, tmp_path / "run", config, lines)
    assert any("optimised through the student" in line for line in lines)
    own = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["task"]
    assert own["crops"].shape == (40, 3, 32, 32)
    seen = teacher(own["crops"][:1].float() / 255, ["relu2_1"])["relu2_1"][0].flatten(1).T
    expected = seen[own["positions"]["relu2_1"][0].long()]
    kept = own["features"]["relu2_1"][0].float()
    torch.testing.assert_close(kept, expected, atol=2e-2, rtol=2e-2)
    again, _ = run(folders, teacher, tmp_path / "again", config)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_dreams_move_towards_the_styles(teacher):
    crops = torch.stack([photo(32, 32, seed=i) for i in range(4)] + [painting(32, 32)] * 4)
    crops = (crops * 255).round().to(torch.uint8)
    dreams = dream(teacher, crops, torch.Generator().manual_seed(0), TAPS)
    assert dreams.shape == (24, 3, 32, 32)
    early, late = dreams[:8].float(), dreams[16:].float()
    nearest = torch.stack([(late - crop.float()).abs().mean((1, 2, 3)) for crop in crops]).amin(0)
    assert float((late - early).abs().mean()) > 1
    assert float(nearest.max()) > 3  # levels of 255: away from every picture of the bank


def test_the_command_makes_an_encoder(folders, tmp_path, monkeypatch):
    save_tensors(tmp_path / "vgg19.safetensors", random_state(VGG19, 3), {})
    (tmp_path / "r.toml").write_text(
        "widths = [[4, 4], [6]]\ncrops = 8\nvalidation = 4\nsize = 32\npositions = 16\n"
        "steps = 2\nbatch = 2\n",
        encoding="utf-8",
    )
    lines: list[str] = []
    train(
        *(folders[0], folders[1], tmp_path / "vgg19.safetensors", "caffe", None),
        *(tmp_path / "r.toml", tmp_path / "run", tmp_path / "out.safetensors", None, lines.append),
        name="slim",
    )
    net = load_encoder("slim", tmp_path / "out.safetensors")
    assert net.taps == ["relu1_1", "relu2_1"]
    header = load_tensors(tmp_path / "out.safetensors")[1]
    assert json.loads(header["figures"])["recipe"]["steps"] == 2
    assert "licence" in header
    assert any("pictures for training" in line for line in lines)


def test_the_command_is_told_more_and_ends_when_asked(folders, tmp_path, monkeypatch, capsys):
    for folder in folders:  # as people's lie
        pictures = list(folder.iterdir())
        (folder / "2014").mkdir()
        for path in pictures:
            path.rename(folder / "2014" / path.name)
    save_tensors(tmp_path / "vgg19.safetensors", random_state(VGG19, 3), {})
    (tmp_path / "r.toml").write_text(
        "widths = [[4, 4], [6]]\ncrops = 8\nvalidation = 4\nsize = 32\npositions = 16\n"
        "steps = 9\nbatch = 2\n",
        encoding="utf-8",
    )
    out, seen = tmp_path / "out.safetensors", []

    def run(changes, end=None):
        def on_progress(step, steps, loss):
            seen.append((step, steps, loss))
            return step == end

        train(
            *(str(folders[0]), str(folders[1]), str(tmp_path / "vgg19.safetensors"), "caffe", None),
            *(str(tmp_path / "r.toml"), str(tmp_path / "run"), str(out), None, lambda line: None),
            name="slim",
            changes=changes,
            on_progress=on_progress,
        )

    with pytest.raises(Interrupted, match="0"):
        run({"steps": 3}, end=0)  # while the teachers are asked
    assert [(step, steps) for step, steps, _ in seen] == [(0, 3)]
    with pytest.raises(Interrupted, match="2"):
        run({"steps": 3}, end=2)
    assert not out.exists()
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 2
    seen.clear()
    run({"steps": 3})
    assert [(step, steps) for step, steps, _ in seen] == [(3, 3)]
    assert seen[0][2] > 0
    kept = json.loads(load_tensors(out)[1]["figures"])["recipe"]
    assert (kept["steps"], kept["batch"]) == (3, 2)
    with pytest.raises(InputError, match="changes: steps = 'x' is not of type int"):
        run({"steps": "x"})
    with pytest.raises(InputError, match=r"r\.toml with changes: steps = 0: must be 1 or more"):
        run({"steps": 0})
    words = ["--photos", folders[0], "--paintings", folders[1], "--recipe", tmp_path / "r.toml"]
    words += ["--teacher", tmp_path / "vgg19.safetensors", "--backbone", "slim", "--set"]
    for setting, place, message in (
        ("pace=2", "new.safetensors", "--set: unknown key 'pace'"),
        ("noise=nan", "new.safetensors", "--set: noise is nan: must be a finite number"),
        ("batch=2", "vgg19.safetensors", "would overwrite"),
    ):
        argv = ["impasto", "train", "encoder", *words, setting, "-o", tmp_path / place]
        monkeypatch.setattr("sys.argv", [*map(str, argv), "--run", str(tmp_path / "other")])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "other").exists()


def test_an_interrupted_run_asked_to_end_gives_the_same_student(folders, teacher, tmp_path):
    config = dataclasses.replace(CONFIG, steps=14, dreams=40, dream_every=4)
    whole, _ = run(folders, teacher, tmp_path / "whole", config)
    pictures = PictureSet(folders, short_side=40, held_out=0.2)
    with pytest.raises(Interrupted):
        distill(
            *(pictures, [lambda p: teacher(p, TAPS)], config, tmp_path / "cut"),
            log=lambda line: None,
            on_progress=lambda step, steps, loss: step == 6,
        )
    resumed, _ = run(folders, teacher, tmp_path / "cut", config)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


BOTTLENECKS = {"conv1_1": (6,), "conv1_2": (8,), "conv2_1": (6, 6, 12)}


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
def test_bottlenecks_are_fitted_and_learn(folders, teacher, tmp_path):
    config = dataclasses.replace(
        CONFIG, widths=(), layers=BOTTLENECKS, optimizer="muon", learning_rate=1e-3, steps=60
    )
    lines: list[str] = []
    net, figures = run(folders, teacher, tmp_path / "run", config, lines, teacher)
    assert isinstance(net, Compact)
    start = next(line for line in lines if line.startswith("by least squares"))
    first, last = (float(text.split("relu2_1 ")[1].split("/")[0]) for text in (start, lines[-1]))
    assert last < first
    assert figures["relu2_1"]["map"] < 0.9
    again, _ = run(folders, teacher, tmp_path / "run", config, start=teacher)
    for one, two in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_full_bottlenecks_fit_their_teacher():
    torch.manual_seed(0)
    teacher = VGG(((8, 8), (12,))).requires_grad_(False)
    layers = {"conv1_1": (8,), "conv1_2": (8,), "conv2_1": (8, 12, 12)}
    student = Compact(layers).requires_grad_(False)
    crops = torch.stack([photo(32, 32, seed=i) for i in range(24)])
    fit_bottlenecks(student, teacher, crops)
    order = choose_channels(teacher(crops, ["relu1_1"])["relu1_1"].transpose(0, 1).flatten(1).T, 8)
    seen, wanted = (net(crops, ["relu1_1"])["relu1_1"] for net in (student, teacher))
    torch.testing.assert_close(seen, wanted[:, order], atol=2e-3, rtol=1e-2)
    # One ReLU less than the teacher: conv1_2 and the pooling after it are one layer.
    seen, wanted = (net(crops, ["relu2_1"])["relu2_1"] for net in (student, teacher))
    order = [int((wanted[:, [c]] - seen).square().mean((0, 2, 3)).argmin()) for c in range(12)]
    error = (seen[:, order] - wanted).square().mean() / wanted.var((0, 2, 3)).mean()
    assert float(error) < 0.1


def test_residual_gram_is_the_gram_matrices_difference_but_for_the_residuals_own():
    rng = torch.Generator().manual_seed(0)
    mapped, residual = torch.randn(2, 3, 50, 6, generator=rng)
    teacher = mapped + residual
    ours, theirs, own = (f.transpose(1, 2) @ f for f in (mapped, teacher, residual))
    missing = (theirs - ours - own).square().sum((1, 2)) / theirs.square().sum((1, 2))
    torch.testing.assert_close(_residual_gram(mapped, teacher), missing.mean(), rtol=0.03, atol=0)
    directions, _ = torch.linalg.qr(torch.cat([mapped, residual], -1))
    apart = _residual_gram(directions[..., :6], directions[..., :6] + directions[..., 6:])
    assert float(apart) < 1e-4


def test_a_gram_loss_leaves_less_unseen(folders, teacher, tmp_path):
    config = dataclasses.replace(CONFIG, noise=1.0, steps=100, learning_rate=3e-3)
    seen = [
        run(folders, teacher, tmp_path / name, dataclasses.replace(config, gram=weight), None)[1]
        for name, weight in (("without", 0.0), ("with", 30.0))
    ]
    assert seen[1]["relu2_1"]["gram"] < 0.9 * seen[0]["relu2_1"]["gram"]


def test_a_tap_without_weight_teaches_nothing(folders, teacher, tmp_path):
    config = dataclasses.replace(CONFIG, taps={"relu2_1": 0.0})
    few, _ = run(folders, teacher, tmp_path / "few", dataclasses.replace(config, steps=1))
    more, _ = run(folders, teacher, tmp_path / "more", dataclasses.replace(config, steps=9))
    assert torch.equal(few.convs["conv2_1"].weight, more.convs["conv2_1"].weight)
    assert not torch.equal(few.convs["conv1_1"].weight, more.convs["conv1_1"].weight)


def test_a_run_with_other_settings_is_not_continued(folders, teacher, tmp_path):
    run(folders, teacher, tmp_path / "run")
    other = dataclasses.replace(CONFIG, learning_rate=0.1)
    with pytest.raises(InputError, match="other settings"):
        run(folders, teacher, tmp_path / "run", other)


def test_channels_that_explain_the_others_are_chosen():
    rng = torch.Generator().manual_seed(0)
    a, b, c = torch.rand(3, 500, generator=rng)
    features = torch.stack([a, 2 * a, b, 3 * b, 0.5 * a, c], 1)
    chosen = choose_channels(features, 3)
    explained = torch.linalg.lstsq(features[:, chosen], features).solution
    torch.testing.assert_close(features[:, chosen] @ explained, features, atol=1e-4, rtol=0)


def test_counterparts_agree_at_the_ends_of_a_block():
    student, teacher = VGG(((4, 4), (4, 4, 4))), VGG(((8, 8), (8, 8, 8, 8)))
    pairs = counterparts(student, teacher)
    assert pairs["conv2_1"] == "conv2_1"
    assert pairs["conv2_2"] == "conv2_2"
    assert pairs["conv2_3"] == "conv2_4"


def test_pictures_that_cannot_be_read_are_skipped_and_named(folders):
    (folders[0] / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    warned: list[str] = []
    pictures = PictureSet(folders, short_side=40, warn=warned.append)
    assert len(pictures.train) == 12
    assert len(warned) == 1
    assert "broken.jpg" in warned[0]


def test_the_split_is_stable_and_complete(folders):
    one, two = (PictureSet(folders, 40, held_out=0.4) for _ in range(2))
    assert len(one.train) + len(one.validation) == 12
    assert len(one.validation) == len(two.validation) > 0
    assert all(torch.equal(a, b) for a, b in zip(one.train, two.train, strict=True))


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no pictures to train on"):
        PictureSet([tmp_path / "none"])


def test_crops(folders):
    pictures = PictureSet(folders, 40)
    rng = torch.Generator().manual_seed(0)
    crops = [pictures.crop(24, rng) for _ in range(20)]
    assert all(crop.shape == (3, 24, 24) for crop in crops)
    assert all(float(crop.min()) >= 0 and float(crop.max()) <= 1 for crop in crops)
    assert not torch.equal(crops[0], crops[1])


def test_an_encoder_describes_itself(tmp_path, small_net):
    small_net.served = ("relu1_1", "relu3_1")
    save_encoder(small_net, tmp_path / "e.safetensors", {"validation": {"relu1_1": 0.5}})
    loaded = load_encoder("slim", tmp_path / "e.safetensors")
    assert loaded.widths == small_net.widths
    assert loaded.taps == ["relu1_1", "relu3_1"]
    assert json.loads(load_tensors(tmp_path / "e.safetensors")[1]["figures"])["validation"]
    ours = small_net(photo()[None], ["relu3_1"])["relu3_1"]
    theirs = loaded(photo()[None], ["relu3_1"])["relu3_1"]
    assert float((ours - theirs).norm() / ours.norm()) < 5e-3  # float16
    with pytest.raises(InputError, match="has no layer relu2_1"):
        loaded.check(["relu2_1"])


def test_encoders_and_recipes_of_the_other_kind(folders, tmp_path):
    for name, other in (("slim", "compact"), ("compact", "slim")):
        with pytest.raises(InputError, match=f"not an encoder of {name}'s kind"):
            load_encoder(name, BUNDLED[other])
    (tmp_path / "r.toml").write_text("widths = [[8]]\n", encoding="utf-8")
    with pytest.raises(InputError, match="give name='slim'"):
        train(
            *(folders[0], folders[1], tmp_path / "none", "caffe", None),
            *(tmp_path / "r.toml", tmp_path / "run", tmp_path / "out.safetensors"),
        )


def test_a_file_that_is_no_encoder(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(InputError, match=r"x\.safetensors: not an encoder"):
        load_encoder("slim", tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="conv51_aux"):
        CollaborativeTeacher(tmp_path / "x.safetensors")


def test_collaborative_teacher_computes_what_its_layers_say(tmp_path):
    rng = torch.Generator().manual_seed(0)
    tensors = {"conv0.weight": torch.eye(3).view(3, 3, 1, 1), "conv0.bias": torch.zeros(3)}
    before = 3
    for block, depth in enumerate((2, 2, 4, 4, 1), 1):
        for index in range(1, depth + 1):
            tensors[f"conv{block}{index}.weight"] = torch.randn(4, before, 3, 3, generator=rng) / 4
            tensors[f"conv{block}{index}.bias"] = torch.zeros(4)
            before = 4
        tensors[f"conv{block}1_aux.weight"] = torch.randn(7, 4, 1, 1, generator=rng)
        tensors[f"conv{block}1_aux.bias"] = torch.zeros(7)
    save_tensors(tmp_path / "t.safetensors", tensors, {})
    seen = CollaborativeTeacher(tmp_path / "t.safetensors", ("relu1_1", "relu5_1"))(photo()[None])
    assert seen["relu1_1"].shape == (1, 7, 48, 64)
    assert seen["relu5_1"].shape == (1, 7, 3, 4)
    assert float(seen["relu5_1"].min()) >= 0
    padded = torch.nn.functional.pad(photo()[None], (1, 1, 1, 1), mode="reflect")
    first = torch.nn.functional.conv2d(padded, tensors["conv11.weight"]).clamp_min(0)
    mapped = torch.nn.functional.conv2d(first, tensors["conv11_aux.weight"]).clamp_min(0)
    torch.testing.assert_close(seen["relu1_1"], mapped)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widths = [[8]]\nstep = 3", "unknown key 'step'"),
        ("widths = [[8]]\nsteps = 'many'", "steps = 'many'"),
        ("steps = 3", "either widths or a table of layers"),
        ("widths = [[8]]\n[layers]\nconv1_1 = [4]", "either widths or a table of layers"),
        ("widths = [8]", "widths: give lists"),
        ("[layers]\nconv1_1 = 4", "layers: give lists"),
        ("optimizer = 'sgd'\nwidths = [[8]]", "use adam or muon"),
        ("[layers]\nconv2_1 = [4]", r"r\.toml: layers conv2_1"),
        (
            "widths = [[8]]\n[taps]\nrelu9_1 = 2",
            "taps: give weights of 0 or more for some of relu1_1",
        ),
        (
            "widths = [[8]]\n[taps]\nrelu1_1 = -1",
            "taps: give weights of 0 or more for some of relu1_1",
        ),
        ("optimizer = 3\nwidths = [[8]]", "optimizer = 3"),
        ("widths = [[8]", "not a recipe"),
    ],
)
def test_recipes_with_mistakes(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_recipe(tmp_path / "r.toml")


def test_a_recipe_is_the_configuration(tmp_path):
    (tmp_path / "r.toml").write_text(
        "widths = [[8, 8], [12]]\nsteps = 7\nnoise = 0\n", encoding="utf-8"
    )
    config = read_recipe(tmp_path / "r.toml")
    assert config.widths == ((8, 8), (12,))
    assert config.steps == 7


def test_a_decoders_layers_mirror_the_encoders():
    """Huang & Belongie's decoder: 256 | 256 256 256 128 | 128 64 | 64."""
    with torch.device("meta"):
        encoder = VGG(VGG19)
    ways = [_mirrored(encoder, 4, "relu4_1", 1)]
    ways += [_mirrored(encoder, level, None, len(HUANG[4 - level])) for level in (3, 2, 1)]
    assert ways == [
        [("relu3_4", True)],
        [("relu3_3", False), ("relu3_2", False), ("relu3_1", False), ("relu2_2", True)],
        [("relu2_1", False), ("relu1_2", True)],
        [("relu1_1", False)],
    ]
    assert _mirrored(encoder, 3, "relu3_1", 2) == [("relu2_2", True)] * 2


@pytest.mark.parametrize("skips", [{}, {1: "relu1_1"}])
def test_a_fitted_decoder_inverts_the_encoder(skips):
    torch.manual_seed(0)
    encoder = VGG(((16, 16), (24,))).requires_grad_(False)
    channels = {block: encoder.channels(tap) for block, tap in skips.items()}
    decoder = Decoder(24, ((16,), (16, 16)), channels)
    crops = torch.stack([make(32, 32, seed=i) for i in range(8) for make in (photo, painting)])
    fit_decoder(decoder, encoder, {0: "relu2_1", **skips}, crops)
    fresh = torch.stack([photo(32, 32, seed=20), painting(32, 32, seed=21)])
    seen = encoder(fresh, ["relu2_1", "relu1_1"])
    with torch.no_grad():
        out = decoder(seen["relu2_1"], {block: seen[tap] for block, tap in skips.items()})
    left = float((out - fresh).square().mean() / fresh.var())
    assert left < (0.05 if skips else 0.3)
