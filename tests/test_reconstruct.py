from __future__ import annotations

import pytest
import torch
from data import painting, photo

from impasto import cli
from impasto.backbones import load_backbone, randomised
from impasto.errors import InputError
from impasto.images import read, read_settings, write
from impasto.losses import gram_loss
from impasto.methods.gatys import Gatys
from impasto.statistics import Moments
from impasto.study import reconstruct as study
from impasto.study.reconstruct import reconstruct


@pytest.fixture(scope="module")
def compact():
    return load_backbone("compact")


def cells(monkeypatch) -> list:
    """What is put on the sheet."""
    seen: list = []
    whole = study.labelled

    def keep(pictures, columns=None):
        seen.extend(pictures)
        return whole(pictures, columns)

    monkeypatch.setattr(study, "labelled", keep)
    return seen


def test_shallow_features_bring_the_picture_back(compact, monkeypatch):
    made = cells(monkeypatch)
    content = photo(40, 52)
    sheet = reconstruct(
        content,
        {"compact": compact},
        layers=["relu1_1", "relu4_1"],
        size=40,
        iterations=40,
        device="cpu",
    )
    assert [name for name, _ in made] == ["picture", "compact, relu1_1", "compact, relu4_1"]
    assert sheet.shape[-1] > 3 * 52
    off = [float((picture - content).square().mean()) for _, picture in made]
    noise = 1 / 12 + float((content - 0.5).square().mean())
    assert off[1] < 0.3 * noise
    assert off[1] < off[2]


def test_style_has_the_texture_and_not_the_layout(compact, monkeypatch):
    made = cells(monkeypatch)
    picture = painting(48, 60)
    reconstruct(
        picture,
        {"compact": compact},
        "style",
        ["relu1_1", "relu2_1"],
        size=48,
        iterations=30,
        device="cpu",
    )
    _, (_, first), (_, both) = made

    def off(out, tap):
        one, two = (Moments.of(compact(p[None], [tap])[tap][0]) for p in (out, picture))
        return float(gram_loss(one, two))

    assert off(first, "relu1_1") < 0.05
    assert off(both, "relu2_1") < off(first, "relu2_1")
    assert float((both - picture).abs().mean()) > 0.05


@pytest.mark.parametrize("single", [False, True])
def test_style_by_the_layers_up_to_one_or_by_one_alone(compact, monkeypatch, single):
    layers, matched = ["relu1_1", "relu2_1", "relu3_1"], []
    monkeypatch.setattr(
        Gatys, "__call__", lambda self, *given: matched.append(list(self.style_layers)) or photo()
    )
    reconstruct(
        painting(48, 60), {"a": compact}, "style", layers, single=single, size=36, device="cpu"
    )
    assert matched == ([[tap] for tap in layers] if single else [layers[: n + 1] for n in range(3)])


def test_single_is_the_report_s_loss(compact, monkeypatch):
    """Only the Gram matrix of that layer is matched: a shallower one stays off."""
    made = cells(monkeypatch)
    picture = painting(48, 60)
    for single in (False, True):
        layers = ["relu1_1", "relu3_1"]
        reconstruct(
            *(picture, {"compact": compact}, "style", layers),
            single=single,
            size=48,
            iterations=30,
            device="cpu",
        )

    def off(out, tap):
        one, two = (Moments.of(compact(p[None], [tap])[tap][0]) for p in (out, picture))
        return float(gram_loss(one, two))

    (_, up_to), (_, alone) = made[2], made[5]
    assert off(alone, "relu1_1") > 2 * off(up_to, "relu1_1")
    assert off(alone, "relu3_1") < 0.1


def test_the_settings_of_report_5(compact):
    """Gaussian noise, Adam at 0.05."""
    sheet = reconstruct(
        *(photo(40, 52), {"compact": compact}, "content", ["relu1_1"]),
        size=40,
        iterations=60,
        optimizer="adam",
        lr=0.05,
        device="cpu",
    )
    assert sheet.shape[-1] > 2 * 52


def test_random_weights_are_seeded_and_of_unit_mean(compact):
    one, again, other = (randomised(compact, seed) for seed in (0, 0, 1))
    picture = photo(48, 64)[None]
    features = one(picture, ["relu3_1"])["relu3_1"]
    assert torch.equal(features, again(picture, ["relu3_1"])["relu3_1"])
    assert not torch.equal(features, other(picture, ["relu3_1"])["relu3_1"])
    assert one.taps == compact.taps
    assert len({net.fingerprint for net in (one, other, compact)}) == 3
    assert 0.2 < float(features.mean()) < 5


def test_it_ends_when_asked_with_what_there_is(compact, monkeypatch):
    made = cells(monkeypatch)
    nets = {"a": compact, "b": compact}
    reconstruct(
        photo(),
        nets,
        layers=["relu1_1", "relu2_1"],
        size=36,
        iterations=3,
        device="cpu",
        on_progress=lambda *given: True,
    )
    assert [name for name, _ in made] == ["picture", "a, relu1_1", "", "picture", "", ""]


def test_what_does_not_exist_is_refused(compact):
    with pytest.raises(InputError, match="content or style"):
        reconstruct(photo(), {"compact": compact}, "colour")
    with pytest.raises(InputError, match="relu9_1"):
        reconstruct(photo(), {"compact": compact}, layers=["relu9_1"])
    with pytest.raises(InputError, match="at least one"):
        reconstruct(photo(), {}, layers=["relu1_1"])


def test_layers_that_all_networks_have(compact, monkeypatch):
    made = cells(monkeypatch)
    shallow = load_backbone("compact")
    shallow.served = ("relu1_1", "relu2_1")
    asked = []
    monkeypatch.setattr(Gatys, "__call__", lambda self, content, *rest: asked.append(0) or content)
    reconstruct(photo(), {"a": compact, "b": shallow}, size=36, device="cpu")
    assert len(asked) == 4
    assert len(made) == 6


def test_by_the_command(tmp_path, monkeypatch, capsys):
    write(tmp_path / "photo.png", photo())
    words = ["reconstruct", tmp_path / "photo.png", "--layers", "relu1_1", "--size", "36"]
    words += ["--iterations", "2", "--device", "cpu"]

    def command(*more: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["impasto", *map(str, [*words, *more])])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    assert command("-o", tmp_path / "sheet.png")[0] == 0
    assert read_settings(tmp_path / "sheet.png")["backbone_weights"] == ["trained", "random"]
    assert read(tmp_path / "sheet.png").rgb.shape[-2] > 2 * 36
    pooled = tmp_path / "pooled.png"
    more = ("--layers", "relu3_1", "--kind", "style", "--single", "--pooling")
    assert command("-o", pooled, *more, "average")[0] == 0
    assert read_settings(pooled)["single"] is True
    assert read_settings(pooled)["pooling"] == "average"
    assert command("-o", tmp_path / "max.png", *more, "max")[0] == 0
    assert not torch.equal(read(pooled).rgb, read(tmp_path / "max.png").rgb)
    code, said = command("-o", tmp_path / "x.png", *more, "median")
    assert code == 2
    assert "median" in said
    code, said = command("-o", tmp_path / "photo.png")
    assert code == 2
    assert "would overwrite" in said
    code, said = command(
        "-o", tmp_path / "x.png", "--backbone-weights", tmp_path / "none.safetensors"
    )
    assert code == 2
    assert "none.safetensors" in said


def test_misuse_from_python(compact, tmp_path):
    (tmp_path / "wave.style").write_bytes(b"moments")
    for given, more, message in (
        ((photo(), compact), {}, "nets: give name -> backbone"),
        ((photo(), {"a": "compact"}), {}, "nets: give name -> backbone"),
        (
            (photo(), {"a": compact}),
            {"layers": "relu1_1"},
            r"give a list of layers, such as \['rel",
        ),
        ((photo(), {"a": compact}), {"size": 8}, "size is 8"),
        ((photo(), {"a": compact}), {"lr": float("nan")}, "lr is nan: must be a finite number"),
        ((photo(), {"a": compact}), {"iterations": 0}, "iterations = 0"),
        ((photo(), {"a": compact}), {"single": True}, "single is for kind style"),
        ((tmp_path / "wave.style", {"a": compact}), {}, "wave.style: a stored style has no pixels"),
    ):
        with pytest.raises(InputError, match=message):
            reconstruct(*given, **more)


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_what_is_read_is_not_overwritten(tmp_path, monkeypatch, capsys):
    write(tmp_path / "photo.png", photo())
    write(tmp_path / "photos" / "a.png", photo())
    (tmp_path / "hard.png").hardlink_to(tmp_path / "photo.png")
    (tmp_path / "soft.png").symlink_to(tmp_path / "photos" / "a.png")
    before = [path.read_bytes() for path in (tmp_path / "photo.png", tmp_path / "photos" / "a.png")]
    for out in ("hard.png", "soft.png", "photos/a.png", "photos/../photo.png"):
        words = ["reconstruct", tmp_path / "photo.png", "--photos", tmp_path / "photos"]
        words += ["--iterations", "1", "--size", "32", "-o", tmp_path / out]
        monkeypatch.setattr("sys.argv", ["impasto", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        assert "would overwrite" in capsys.readouterr().err
    after = [path.read_bytes() for path in (tmp_path / "photo.png", tmp_path / "photos" / "a.png")]
    assert after == before
