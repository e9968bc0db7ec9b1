from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from data import descended, painting, photo
from skimage import data

from impasto import cli
from impasto.errors import InputError
from impasto.images import read, resize, write
from impasto.methods.artflow import ArtFlow
from impasto.methods.model import bundled
from impasto.methods.reversible import SHIFTS, whole
from impasto.methods.styleflow import StyleFlow
from impasto.networks.flow import ActNorm
from impasto.operators.san import SAN
from impasto.samples import draw
from impasto.statistics import Moments
from impasto.study.metrics import grid_energy, luminance_ssim
from impasto.styles import StoredStyle
from impasto.tensors import load_tensors
from impasto.training.methods import TRAINABLE

CPU = {"device": "cpu", "precision": "float32"}
SMALL = {"steps": 2, "hidden": 12}
KINDS = {
    "adain": (ArtFlow, {}),
    "rbmad": (ArtFlow, {"operator": "rbmad"}),
    "styleflow": (StyleFlow, {"wide": 16}),
    "styleflow+rbmad": (StyleFlow, {"wide": 16, "rbmad": "san"}),
    "styleflow+scm": (StyleFlow, {"rbmad": "scm"}),
    "styleflow+layers": (StyleFlow, {"rbmad": "layers"}),
}
CONTENTS = torch.stack([photo(32, 40, seed=i) for i in range(4)])
STYLES = torch.stack([painting(32, 40, seed=i) for i in range(4)])


def untrained(kind: str, **options):
    torch.manual_seed(0)
    cls, own = KINDS[kind]
    name = {ArtFlow: "artflow", StyleFlow: "styleflow"}[cls]
    return TRAINABLE[name].untrained(**{**SMALL, **own, **options})


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for kind in KINDS:
        training = untrained(kind)
        training.start(torch.cat([CONTENTS, STYLES]))
        for parameter in training.network.parameters():  # the last layers start at zero
            torch.nn.init.normal_(parameter, std=0.1) if not bool(parameter.any()) else None
        paths[kind] = folder / f"{kind}.safetensors"
        training.save(paths[kind], {"steps": 0})
    return paths


@pytest.fixture(params=list(KINDS))
def method(request, files):
    return KINDS[request.param][0](files[request.param], **CPU)


def render(method, content, style, **options):
    return method(content, method.prepare([style]), **options)


@pytest.mark.parametrize("size", [(24, 32), (25, 31), (33, 18)])
def test_any_size_comes_back_and_strength_zero_is_the_content(method, size):
    content, style = photo(*size), painting()
    assert render(method, content, style).shape == (3, *size)
    torch.testing.assert_close(
        render(method, content, style, strength=0.0), content, atol=1e-4, rtol=0
    )


def test_the_style_has_a_say(method):
    content = photo(32, 40)
    one, two = (render(method, content, style) for style in (painting(), 1 - painting()))
    assert float((one - two).abs().mean()) > 1e-3
    assert float((one - content).abs().mean()) > 1e-3


def test_features_get_the_styles_moments(files):
    """ArtFlow's promise: what comes out, seen again by the flow, has the statistics asked for."""
    model = ArtFlow(files["adain"], **CPU).model
    style = model.measure(STYLES[:1])
    again = model.measure(model(CONTENTS[:1], style))["latent"].to(torch.float32)
    torch.testing.assert_close(again.mean, style["latent"].mean.float(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        again.deviation(), style["latent"].deviation().float(), atol=1e-2, rtol=1e-2
    )


def test_with_wct_features_get_the_covariance_too(files):
    model = ArtFlow(files["adain"], operator="wct", **CPU).model
    contents = torch.nn.functional.interpolate(CONTENTS[:1], scale_factor=3) + 0.1 * torch.rand(
        1, 3, 96, 120
    )
    style = model.measure(STYLES[:1])
    again = model.measure(model(contents, style))["latent"]
    off = (again.covariance - style["latent"].covariance).norm() / style["latent"].covariance.norm()
    assert float(off) < 0.02


@pytest.mark.parametrize("kind", ["adain", "rbmad"])
def test_the_content_comes_back_from_the_stylised_picture(files, kind):
    """A second transfer, towards the content's own statistics, undoes the first: no leak."""
    model = ArtFlow(files["adain"], **CPU).model
    own, style = model.measure(CONTENTS[:1]), model.measure(STYLES[:1])
    back = model(model(CONTENTS[:1], style), own)
    torch.testing.assert_close(back, CONTENTS[:1], atol=5e-3, rtol=0)


def test_several_styles_and_stored_styles(method, tmp_path):
    one, two, content = painting(48, 60), 1 - painting(40, 50), photo(32, 40)
    mixed = method(content, method.prepare([one, two], [1, 0]))
    torch.testing.assert_close(mixed, render(method, content, one), atol=1e-4, rtol=0)
    stored = method.prepare([one]).store("x")
    stored.save(tmp_path / "x.style")
    out = render(method, content, StoredStyle.load(tmp_path / "x.style"))
    assert out.shape == content.shape
    other = StoredStyle("x", stored.color, {"another": next(iter(stored.parts.values()))})
    with pytest.raises(InputError, match="by another, not by"):
        method.prepare([other])


def test_batches_are_rendered_as_single_pictures_are(method):
    model, style = method.model, method.model.measure(STYLES)
    together = model(CONTENTS, style)
    for i in range(4):
        alone = model(CONTENTS[i : i + 1], model.measure(STYLES[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_reaches_every_parameter(kind):
    training = untrained(kind)
    training.start(torch.cat([CONTENTS, STYLES]))
    training.network.train()
    norms = [m for m in training.network.modules() if isinstance(m, ActNorm)]
    assert all(bool(norm.initialised) for norm in norms)
    losses, silent = descended(training, CONTENTS, STYLES, 3e-3)
    assert losses[-1] < 0.95 * losses[0]
    assert not silent
    assert training.render(CONTENTS, STYLES).shape == CONTENTS.shape


def test_start_normalises_the_features():
    training = untrained("adain")
    training.start(CONTENTS)
    first = next(m for m in training.network.modules() if isinstance(m, ActNorm))
    out = Moments.of(
        first(torch.nn.functional.pixel_unshuffle(CONTENTS, 2))
        .transpose(0, 1)
        .flatten(1, 2)[:, None]
        .transpose(0, 1)
    )
    assert float(out.mean.detach().abs().max()) < 1e-4


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "styleflow" in kind])
def test_styleflow_begins_with_the_styles_colours(kind):
    """Before any training, for paintings that its start has not seen."""
    training = untrained(kind)
    seen = [make(32, 40, seed=i) for i in range(4, 36) for make in (photo, painting)]
    training.start(torch.stack(seen))
    styles = STYLES.flip(1)
    out = training.render(CONTENTS, styles)
    before, after = ((x - styles).mean((2, 3)).square().sum() for x in (CONTENTS, out))
    assert after < 0.25 * before


@pytest.mark.parametrize("kind", list(KINDS))
def test_recolored_paintings_are_seen_while_training_alone(kind):
    plain, colored = untrained(kind), untrained(kind, recolored=1.0)
    for training in (plain, colored):
        torch.manual_seed(0)
        training.start(torch.cat([CONTENTS, STYLES]))
    losses = []
    for train in (True, False):
        for training in (plain, colored):
            training.network.train(train)
            losses.append(float(training.loss(CONTENTS, STYLES)["style"].detach()))
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    assert losses[2] == pytest.approx(losses[3])


def test_a_bottleneck_stands_before_san():
    x, code = torch.rand(1, 6, 8, 8), torch.rand(1, 10)
    assert sum(p.numel() for p in SAN(6, 10, 8, bottleneck=True).parameters()) > sum(
        p.numel() for p in SAN(6, 10, 8).parameters()
    )
    assert SAN(6, 10, 8, bottleneck=True)(x, code).shape == x.shape


def test_shifts_come_to_every_row_and_column_of_a_cell_once():
    for axis in (0, 1):
        assert sorted(shift[axis] for shift in SHIFTS) == [0, 1, 2, 3]


def test_shifted_results_are_averaged(files):
    content, style = photo(32, 40), painting()
    outs = [
        ArtFlow(files["adain"], shifts=count, **CPU)(
            content, ArtFlow(files["adain"], **CPU).prepare([style])
        )
        for count in (1, 2, 4)
    ]
    assert not torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[1], outs[2])
    for out in outs[1:]:
        assert float((out - outs[0]).abs().mean()) < 0.1
    with pytest.raises(InputError, match="1, 2 or 4"):
        ArtFlow(files["adain"], shifts=3, **CPU)


def test_whole_pictures_are_continued_by_reflection():
    rows = torch.arange(6.0).expand(1, 3, 5, 6)
    out = whole(rows, 4)
    assert out.shape == (1, 3, 8, 8)
    assert out[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 4, 3]
    assert whole(torch.rand(1, 3, 1, 2), 4).shape == (1, 3, 4, 4)


def test_what_does_not_go_together_is_refused(files):
    with pytest.raises(InputError, match="was trained with operator adain, not rbmad"):
        ArtFlow(files["adain"], operator="rbmad", **CPU)
    with pytest.raises(InputError, match="was trained with operator rbmad, not wct"):
        ArtFlow(files["rbmad"], operator="wct", **CPU)
    with pytest.raises(InputError, match="was trained with operator san, not rbmad"):
        StyleFlow(files["styleflow"], operator="rbmad", **CPU)
    for cls in (ArtFlow, StyleFlow):
        with pytest.raises(InputError, match="operator 'x' is unknown"):
            cls(operator="x")
    with pytest.raises(InputError, match="use precision='float32'"):
        ArtFlow(files["adain"], device="cpu", precision="bfloat16")
    with pytest.raises(InputError, match="not a model made by `impasto train artflow`"):
        ArtFlow(files["styleflow"], **CPU)
    with pytest.raises(InputError, match="kept = 0"):
        untrained("styleflow", kept=0.0)
    with pytest.raises(InputError, match="recolored = 2"):
        untrained("adain", recolored=2.0)


def test_by_the_command(files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(Path("photo.png"), photo())
    write(Path("wave.png"), painting())
    words = [
        "stylize",
        "photo.png",
        "wave.png",
        "-o",
        "out.png",
        "--device",
        "cpu",
        "--method",
        "artflow",
    ]
    model = ["--model", str(files["adain"])]

    def run(*more: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["impasto", *words, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    assert run(*model, "--operator", "wct", "--shifts", "4", "--color", "match")[0] == 0
    assert Path("out.png").exists()
    code, said = run(*model, "--shifts", "5")
    assert code == 2
    assert "--shifts is 5: use 1, 2 or 4" in said


BUNDLED = {
    "artflow": (ArtFlow, "adain"),
    "artflow-rbmad": (ArtFlow, "rbmad"),
    "styleflow": (StyleFlow, "san"),
    "styleflow-rbmad": (StyleFlow, "rbmad"),
}


@pytest.fixture(scope="module")
def cat_and_swirls():
    """What they were made for: a photograph and a painting, neither of which they have seen."""
    return resize(read(data.chelsea()).rgb, (160, 240)), read(draw("swirls", 256)).rgb


@pytest.mark.parametrize("label", list(BUNDLED))
def test_the_bundled_networks_paint_and_bring_back(label, cat_and_swirls):
    cls, operator = BUNDLED[label]
    method = cls(operator=operator, **CPU)
    assert method.settings["resolved"]["model"] == f"{label}.safetensors"
    content, style = cat_and_swirls
    out = render(method, content, style)
    before, after = ((x.mean((-2, -1)) - style.mean((-2, -1))).norm() for x in (content, out))
    assert after < 0.5 * before  # the painting's colours
    assert luminance_ssim(out, content) > 0.4
    assert luminance_ssim(render(method, out, content), content) > luminance_ssim(out, content)
    torch.testing.assert_close(
        render(method, content, style, strength=0.0), content, atol=1e-3, rtol=0
    )


def test_the_bundled_networks_were_trained_alike_and_are_small():
    files = [bundled(label) for label in BUNDLED]
    assert sum(file.stat().st_size for file in files) < 25e6
    recipes = [json.loads(load_tensors(file)[1]["figures"])["recipe"] for file in files]
    for same in ("steps", "batch", "data", "learning_rate", "schedule", "seed"):
        assert all(recipe[same] == recipes[0][same] for recipe in recipes), same


def test_the_grid_is_weaker_with_more_shifts(cat_and_swirls):
    one, four = (
        grid_energy(render(ArtFlow(shifts=shifts, degrid=False, **CPU), *cat_and_swirls))
        for shifts in (1, 4)
    )
    assert four < 0.7 * one


@pytest.mark.parametrize("label", list(BUNDLED))
def test_flat_areas_have_no_grid(label, cat_and_swirls):
    cls, operator = BUNDLED[label]
    sky = torch.linspace(0.4, 0.6, 96).view(1, 1, 96).expand(3, 96, 96)
    with_grid, without = (
        grid_energy(
            render(cls(operator=operator, degrid=on, **CPU), sky, cat_and_swirls[1])[
                :, 16:-16, 16:-16
            ]
        )
        for on in (False, True)
    )
    assert without < 0.4 * with_grid
