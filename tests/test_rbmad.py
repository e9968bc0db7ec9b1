"""RBMAD as report 1 can be read: in StyleFlow by statistics or by layers, and in AdaIN's place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from data import descended, mixed, painting, photo, same_moments

import impasto
from impasto import cli
from impasto.errors import InputError
from impasto.images import write
from impasto.methods.adain import AdaIN
from impasto.methods.model import bundled
from impasto.methods.styleflow import StyleFlow, StyleFlowModel
from impasto.operators.adain import normalise
from impasto.operators.rbmad import RBMAD, CodeRBMAD
from impasto.operators.san import style_code
from impasto.paintings import store_style
from impasto.styles import StoredStyle
from impasto.tensors import load_tensors, save_tensors
from impasto.training.methods import TRAINABLE

CPU = {"device": "cpu", "precision": "float32"}
KINDS = {
    "scm": (StyleFlow, "styleflow", {"rbmad": "scm", "steps": 2, "hidden": 12}),
    "layers": (StyleFlow, "styleflow", {"rbmad": "layers", "steps": 2, "hidden": 12}),
    "adain": (
        AdaIN,
        "adain",
        {"operator": "rbmad", "widths": ((24,), (24,), (24,), (12,))},
    ),
}
CONTENTS = torch.stack([photo(32, 40, seed=i) for i in range(3)])
STYLES = torch.stack([painting(32, 40, seed=i) for i in range(3)])


def untrained(kind: str, **options):
    torch.manual_seed(0)
    return TRAINABLE[KINDS[kind][1]].untrained(**KINDS[kind][2], **options)


def started(kind: str, **options):
    """With random weights also where the start has zeros: nothing is selected there."""
    training = untrained(kind, **options)
    training.start(torch.cat([CONTENTS, STYLES]))
    for parameter in training.network.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.1)
    training.network.requires_grad_(False).eval()
    return training


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        started(kind).save(folder / f"{kind}.safetensors", {"steps": 0})
    return {kind: folder / f"{kind}.safetensors" for kind in KINDS}


@pytest.fixture(params=list(KINDS))
def method(request, files):
    return KINDS[request.param][0](files[request.param], **CPU)


def test_the_mixture_is_section_3_3():
    """Moments of the concatenation of both halves, each selected and convolved."""
    torch.manual_seed(0)
    content, style = mixed(8, 6)
    rbmad = RBMAD(8, style_channels=6).requires_grad_(False)
    scm = torch.cat(
        [
            rbmad.content_mix(rbmad.content(content))[:, :4],
            rbmad.style_mix(rbmad.style(style))[:, :4],
        ],
        1,
    )
    same_moments(rbmad(content, rbmad.measure(style)), scm)


def test_with_a_code_the_bottleneck_is_the_contents_alone():
    """Report 1, 4.7; and features with the statistics read from the code are mixed alike."""
    torch.manual_seed(0)
    (content,), code = mixed(8), torch.rand(2, 20)
    rbmad = CodeRBMAD(8, code=20).requires_grad_(False)
    assert not list(rbmad.style.parameters())
    mean, log_deviation = rbmad.predict(rbmad.standard(code)).chunk(2, -1)
    noise = torch.linalg.qr(torch.randn(2, 400, 9)).Q.mT[:, :9]  # uncorrelated, exactly
    noise = torch.linalg.qr(torch.cat([torch.ones(2, 400, 1), noise.mT], -1)).Q.mT[:, 1:9]
    style = noise.reshape(2, 8, 20, 20) * math.sqrt(400) * log_deviation.exp()[..., None, None]
    style = style + mean[..., None, None]
    halves = [
        rbmad.content_mix(rbmad.content(content))[:, :4].mean((2, 3)),
        rbmad.style_mix(style)[:, :4].mean((2, 3)),
    ]
    out = rbmad(content, rbmad.measure(code))
    torch.testing.assert_close(out.mean((2, 3)), torch.cat(halves, 1), atol=1e-3, rtol=1e-3)
    same_moments(out[:, 4:], rbmad.style_mix(style)[:, :4])


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("kind", ["code", "layer"])
def test_the_content_is_not_biased(kind, strength):
    """Eq. 10: the instance-normalised features stay as they were."""
    torch.manual_seed(1)
    content, style = mixed(8, 14)
    if kind == "code":
        rbmad = CodeRBMAD(8, code=20)
        moments = rbmad.measure(torch.rand(2, 20))
    else:
        rbmad = RBMAD(8, style_channels=14)
        moments = rbmad.measure(style)
    out = rbmad(content, moments, strength).detach()
    assert not torch.allclose(out, content, atol=0.1)
    torch.testing.assert_close(normalise(out), normalise(content), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["scm", "layers"])
def test_no_block_is_biased_and_the_flow_recovers_what_it_was_given(kind):
    model = started(kind).model
    model.network.double()
    model.encoder.double()
    contents, styles = CONTENTS.double(), STYLES.double()
    given: dict[int, torch.Tensor] = {}
    for number, transfer in enumerate(model.transfers):

        def spied(module, arguments, out, number=number):
            normal = (normalise(features, eps=1e-12) for features in (arguments[0], out))
            torch.testing.assert_close(*normal, atol=1e-3, rtol=0)
            assert not torch.allclose(arguments[0], out, atol=0.1)
            given[number] = out.clone()

        transfer.register_forward_hook(spied)
    out = model(contents, model.measure(styles))
    assert set(given) == {0, 1}

    def after(number, features):
        if number == 0:
            torch.testing.assert_close(features, given[0], atol=1e-8, rtol=1e-8)
        return features

    model.flow(out, after)


def test_each_block_gets_the_layer_of_its_own_grain():
    model = untrained("layers").model
    assert model.taps == ("relu2_1", "relu3_1")
    features = model.encoder(CONTENTS, model.taps)
    blocks: list[torch.Tensor] = []
    model.flow(CONTENTS, lambda number, x: (blocks.append(x), x)[1])
    for tap, block in zip(model.taps, blocks, strict=True):
        assert features[tap].shape[-2:] == block.shape[-2:]
    with pytest.raises(InputError, match="relu6_1"):
        untrained("layers", blocks=5)


def test_unknown_readings_and_too_few_channels_are_refused():
    for wrong in ("x", True, 1):
        with pytest.raises(InputError, match=r"rbmad .* is unknown: use none, san, scm, layers"):
            TRAINABLE["styleflow"].untrained(rbmad=wrong)
    with pytest.raises(InputError, match="operator 'san' is unknown: use adain or rbmad"):
        TRAINABLE["adain"].untrained(operator="san")
    with pytest.raises(InputError, match="with 3 of the style: give 4 or more"):
        RBMAD(8, style_channels=3)
    with pytest.raises(InputError, match="code of 0 numbers"):
        CodeRBMAD(8, code=0)


# As methods.


@pytest.mark.parametrize("size", [(24, 32), (25, 31), (33, 18)])
def test_any_size_and_strength(method, size):
    content = photo(*size)
    style = method.prepare([painting()])
    full, half, none = (method(content, style, strength=s) for s in (1.0, 0.5, 0.0))
    assert full.shape == (3, *size)
    torch.testing.assert_close(none, content, atol=1e-4, rtol=0)
    assert 1e-3 < float((half - content).abs().mean()) < float((full - content).abs().mean())
    other = method(content, method.prepare([1 - painting()]))
    assert float((other - full).abs().mean()) > 1e-3


def test_stored_styles_and_mixtures(method, tmp_path):
    content, one, two = photo(64, 80), painting(64, 72), 1 - painting(64, 64)
    alone = method(content, method.prepare([one]))
    torch.testing.assert_close(
        method(content, method.prepare([one, two], [1, 0])), alone, atol=1e-4, rtol=0
    )
    method.prepare([one]).store("x").save(tmp_path / "x.style")
    stored = method(content, method.prepare([StoredStyle.load(tmp_path / "x.style")]))
    assert float((stored - alone).abs().mean()) < 0.02
    model = method.model
    part = store_style([one], "x", methods=[model.method], **{"model": None, "device": "cpu"})
    if model.fingerprint != model.encoder.fingerprint:
        with pytest.raises(InputError, match="by another|not by"):
            method.prepare([part])
    else:
        assert method(content, method.prepare([part])).shape == content.shape


def test_a_style_is_stored_for_the_model_that_is_named(files):
    for kind, (_, name, _) in KINDS.items():
        options = {"model": files[kind], "device": "cpu"}
        stored = store_style([painting()], "x", methods=[name], **options)
        assert impasto.stylize(photo(), stored, name, model=files[kind], **CPU)


def test_a_batch_is_rendered_as_its_pictures_are(method):
    model = method.model
    with torch.no_grad():
        together = model(CONTENTS, model.measure(STYLES))
        for i in range(len(CONTENTS)):
            alone = model(CONTENTS[i : i + 1], model.measure(STYLES[i : i + 1]))
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-3)


def test_strips_are_the_picture(method, monkeypatch):
    content, style = photo(72, 60), method.prepare([painting()])
    whole = method(content, style)
    for name in ("bottleneck.LARGE", "bottleneck.STRIP", "flow.STRIP"):
        monkeypatch.setattr(f"impasto.networks.{name}", 1)
    torch.testing.assert_close(
        method(content, method.prepare([painting()])), whole, atol=1e-4, rtol=0
    )


def test_the_loss_falls_and_reaches_every_parameter():
    """Of AdaIN with RBMAD; StyleFlow's are in test_flows.py."""
    for feedback in (False, True):
        training = untrained("adain", feedback=feedback)
        training.start(torch.cat([CONTENTS, STYLES]))
        losses, silent = descended(training, CONTENTS, STYLES, 1e-3)
        assert losses[-1] < 0.95 * losses[0]
        assert not silent
        assert training.render(CONTENTS, STYLES).shape == CONTENTS.shape


def test_in_bfloat16_adain_with_rbmad_is_near(files):
    content = photo(48, 64)
    outs = [
        method(content, method.prepare([painting()]))
        for method in (
            AdaIN(files["adain"], device="cpu", precision=precision)
            for precision in ("float32", "bfloat16")
        )
    ]
    assert float((outs[0] - outs[1]).abs().mean()) < 0.02


# Model files.


def test_files_made_before_are_what_they_were():
    """They say yes or no: SAN behind a ResBottleneck, or SAN alone."""
    for name, saved, reading in (("styleflow", False, "none"), ("styleflow-rbmad", True, "san")):
        header = load_tensors(bundled(name))[1]
        assert json.loads(header["config"])["rbmad"] is saved
        assert StyleFlowModel.load(bundled(name)).config.rbmad == reading
    assert "operator" not in json.loads(load_tensors(bundled("adain"))[1]["config"])
    assert AdaIN(**CPU).settings["resolved"]["operator"] == "adain"


def test_the_header_says_which_it_is(files, tmp_path):
    for kind in ("scm", "layers"):
        method = StyleFlow(files[kind], operator="rbmad", **CPU)
        assert method.settings["resolved"]["rbmad"] == kind
        assert StyleFlow(files[kind], **CPU).settings["resolved"]["operator"] == "rbmad"
        with pytest.raises(InputError, match="trained with operator rbmad, not san"):
            StyleFlow(files[kind], operator="san", **CPU)
    assert AdaIN(files["adain"], **CPU).settings["resolved"]["operator"] == "rbmad"
    tensors, header = load_tensors(files["scm"])
    config = {**json.loads(header["config"]), "rbmad": "other"}
    save_tensors(tmp_path / "x.safetensors", tensors, {**header, "config": json.dumps(config)})
    with pytest.raises(InputError, match="rbmad 'other' is unknown"):
        StyleFlow(tmp_path / "x.safetensors", **CPU)


def test_the_style_of_scm_is_the_code(files):
    """Those of plain StyleFlow serve it: stored and bundled ones, too."""
    model = StyleFlow(files["scm"], **CPU).model
    plain = StyleFlow(**CPU).model
    assert model.fingerprint == plain.fingerprint
    assert model.taps == plain.taps
    ours, theirs = (style_code(m.measure(STYLES)) for m in (model, plain))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("styleflow", ('options.rbmad="scm"', "options.steps=1", "options.hidden=8")),
        ("styleflow", ('options.rbmad="layers"', "options.steps=1", "options.hidden=8")),
        ("adain", ('options.operator="rbmad"', "options.widths=[[8],[8],[8],[8]]")),
    ],
)
def test_trained_and_used_by_the_commands(name, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, make in (("photos", photo), ("paintings", painting)):
        Path(folder).mkdir()
        for i in range(20):
            write(Path(folder) / f"{i}.png", make(48, 56, seed=i))
    sizes = ("data.size=32", "data.short_side=40", "training.batch=2", "training.start=8")
    words = ["train", name, "--photos", "photos", "--paintings", "paintings", "--steps", "2"]
    words += ["-o", "model.safetensors", "--device", "cpu"]
    for value in (*options, *sizes, 'options.loss_network="slim"'):
        words += ["--set", value]

    def run(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["impasto", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, capsys.readouterr().err

    run(*words)
    run(
        *("stylize", "photos/0.png", "paintings/0.png", "-o", "out.png", "--method", name),
        *("--model", "model.safetensors", "--device", "cpu"),
    )
    assert Path("out.png").exists()
