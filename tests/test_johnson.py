from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from data import painting, photo

from impasto import cli
from impasto.color import to_ycbcr
from impasto.errors import InputError, OutOfMemoryError
from impasto.finish.degrid import degrid
from impasto.images import fit, read, read_settings, resize, write
from impasto.losses import gram_loss
from impasto.methods.johnson import FILES, Johnson
from impasto.paintings import read_style
from impasto.refinement import refiner
from impasto.samples import photograph
from impasto.session import Session
from impasto.statistics import Moments
from impasto.study.metrics import grid_energy, luminance_ssim
from impasto.tensors import load_tensors, save_tensors
from impasto.training.methods.johnson import untrained

NARROW = {"widths": [6, 8, 8], "blocks": 1}
CPU = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two paintings and a model of them, whose rows differ."""
    folder = tmp_path_factory.mktemp("johnson")
    write(folder / "night.png", painting())
    write(folder / "wave.png", painting(seed=5).flip(0))
    torch.manual_seed(0)
    training = untrained(styles=[folder / "night.png", folder / "wave.png"], **NARROW)
    for name, parameter in training.network.named_parameters():
        if name.endswith(("scale", "shift")):
            torch.nn.init.normal_(parameter, mean=float(name.endswith("scale")))
    training.save(folder / "model.safetensors", {"steps": 0})
    return folder


@pytest.fixture
def method(folder):
    return Johnson(folder / "model.safetensors", **CPU)


def render(method, style, weights=None, **options):
    return method(photo(), method.prepare(style, weights), **options)


def test_it_knows_its_styles_by_name(method, folder):
    assert list(method.learnt) == ["night", "wave"]
    color = Moments.of(read(folder / "night.png").rgb.double())
    torch.testing.assert_close(method.learnt["night"].color.mean, color.mean)
    torch.testing.assert_close(method.learnt["night"].color.covariance, color.covariance)


@pytest.mark.parametrize("size", [(16, 16), (33, 50), (48, 17)])
def test_any_size_comes_back(method, size):
    assert method(photo(*size), method.prepare(["night"])).shape == (3, *size)


def test_strength_zero_is_the_content(method):
    torch.testing.assert_close(render(method, ["night"], strength=0.0), photo())


def test_strength_goes_from_the_content_to_the_style(method):
    # Between the two the picture changes all the way.
    steps = [render(method, ["wave"], strength=s) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for before, after in itertools.pairwise(steps):
        assert float((before - after).abs().mean()) > 1e-4


def test_styles_mix(method):
    only = render(method, ["night"])
    torch.testing.assert_close(render(method, ["night", "wave"], [1, 0]), only)
    torch.testing.assert_close(render(method, ["night", "night"]), only)
    mixed = render(method, ["night", "wave"], [1, 1])
    assert float((mixed - only).abs().mean()) > 1e-3


def test_other_paintings_are_refused(method):
    with pytest.raises(InputError, match=r"nigth.*did you mean 'night'"):
        method.prepare(["nigth"])
    with pytest.raises(InputError, match=r"a picture: .*knows night, wave"):
        method.prepare([painting()])
    with pytest.raises(InputError, match="knows night, wave"):
        read_style(Path("other/photo.jpg"), method=method)


def test_colour_takes_what_a_learnt_style_has(method):
    style = read_style("night", method=method)
    result = Session(method, [style], color="match-style")(photo())
    assert result.settings["styles"] == ["night"]
    grey = Session(method, [style], color="luminance")(photo()).picture.rgb
    torch.testing.assert_close(to_ycbcr(grey)[1:], to_ycbcr(photo())[1:], atol=1e-5, rtol=0)
    for options in ({"color": "match"}, {"color": "luminance", "match_luminance": True}):
        with pytest.raises(InputError, match="a learnt style cannot be recoloured"):
            Session(method, [style], **options)


def test_the_grid_goes_where_the_photograph_is_flat(folder):
    sky = torch.full((3, 64, 96), 0.5) + 0.1 * torch.linspace(-1, 1, 96)
    methods = [Johnson(folder / "model.safetensors", degrid=d, **CPU) for d in (False, True)]
    plain, clean = (method(sky, method.prepare(["wave"])) for method in methods)
    torch.testing.assert_close(clean, degrid(plain[None], sky[None])[0].clamp(0, 1))
    assert grid_energy(clean) < grid_energy(plain)


def test_a_refinement_needs_the_painting(method):
    finer = refiner(2, method, precision="float32")
    with pytest.raises(InputError, match="night: a refinement needs the painting"):
        Session(method, [read_style("night", method=method)], refine=finer)


@pytest.mark.parametrize("kind", ["residual", "bottleneck"])
def test_it_learns_every_style(folder, kind):
    torch.manual_seed(0)
    paintings = [folder / "night.png", folder / "wave.png"]
    training = untrained(styles=paintings, network=kind, full=1.0, **NARROW)
    contents = torch.stack([photo(seed=i) for i in range(4)])
    optimizer = torch.optim.Adam(training.network.parameters(), 1e-3)

    def distances() -> list[float]:
        out = training.model(contents[:2], torch.eye(2), torch.ones(2)).detach()
        seen = training.judge(out, training.style_layers)
        total = torch.zeros(2)
        for tap in training.style_layers:
            total += gram_loss(Moments.of(seen[tap]), training.style_moments[tap])
        return total.tolist()

    before = distances()
    for _ in range(60):
        terms = training.loss(contents, contents)
        assert terms.keys() == {"content", "style", "color", "tv", "range"}
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    after = distances()
    assert all(b < 0.6 * a for a, b in zip(before, after, strict=True))
    for name, parameter in training.network.named_parameters():
        assert parameter.grad is not None, name
    assert not any(p.requires_grad for p in training.judge.parameters())


def test_what_lies_outside_of_the_range_is_not_seen(folder, monkeypatch):
    training = untrained(styles=[folder / "night.png"], full=1.0, **NARROW)
    contents = photo()[None]
    out = (contents - 0.5) * 4 + 0.5
    terms = []
    for made in (out, out.clamp(0, 1)):
        monkeypatch.setattr(training.model, "network", lambda contents, mix, noise, made=made: made)
        terms.append(training.loss(contents, contents))
    for term in ("content", "style", "color", "tv"):
        assert torch.equal(terms[0][term], terms[1][term])
    assert float(terms[0]["range"]) > 0 == float(terms[1]["range"])


def test_at_strength_zero_the_photograph_is_wanted(folder, monkeypatch):
    training = untrained(styles=[folder / "night.png"], full=0.0, **NARROW)
    monkeypatch.setattr(training.model, "network", lambda contents, mix, noise: contents)
    contents = torch.stack([photo(), photo(seed=1)])
    monkeypatch.setattr(torch, "rand", lambda *shape, **where: torch.zeros(*shape))  # all strengths
    terms = training.loss(contents, contents)
    assert float(terms["content"]) < 1e-6
    assert float(terms["style"]) < 1e-6
    assert float(terms["color"]) < 1e-6


def test_photographs_in_other_colours(folder, monkeypatch):
    seen = []
    for share in (0.0, 1.0):
        training = untrained(styles=[folder / "night.png"], recolored=share, **NARROW)

        def noted(contents, chosen, strength):
            seen.append(contents)
            return {}

        monkeypatch.setattr(training, "loss_at", noted)
        for learning in (True, False):
            training.network.train(learning)
            training.loss(photo()[None], photo()[None])
    assert [torch.equal(contents[0], photo()) for contents in seen] == [True, True, False, True]


@pytest.mark.parametrize("noise", [True, False])
def test_a_file_says_whether_noise_comes_in(folder, tmp_path, noise):
    training = untrained(styles=[folder / "night.png"], noise=noise, **NARROW)
    training.save(tmp_path / "night.safetensors", {})
    method = Johnson(tmp_path / "night.safetensors", precision="float32")
    assert method.model.network.noise is noise
    out = [method(photo(), method.prepare(["night"])) for _ in range(2)]
    assert torch.equal(*out)
    louder = Johnson(tmp_path / "night.safetensors", noise=1.0, precision="float32")
    assert louder.settings["noise"] == 1.0
    assert torch.equal(out[0], louder(photo(), louder.prepare(["night"]))) is not noise
    for wrong, message in ((-0.1, "must be 0 or more"), (float("nan"), "is nan")):
        with pytest.raises(InputError, match=message):
            Johnson(tmp_path / "night.safetensors", noise=wrong)


def test_sample_sheets_show_every_style(folder):
    training = untrained(styles=[folder / "night.png", folder / "wave.png"], **NARROW)
    assert training.columns == 2
    out = training.render(photo().expand(2, 3, 48, 64), photo().expand(2, 3, 48, 64))
    assert out.shape == (2, 3, 48, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": []}, r"styles=\['PAINTING'\]"),
        ({"style_size": 8}, "32 pixels"),
        ({"full": 2.0}, "full = 2.0: must be a share"),
        ({"recolored": -1.0}, "recolored = -1.0: must be a share"),
        ({"style_layers": []}, "at least one"),
        ({"style_layers": ["relu9_9"]}, "relu9_9"),
        ({"content_layer": "relu9_9"}, "relu9_9"),
        ({"network": "dense"}, "residual or bottleneck"),
    ],
)
def test_bad_options_of_training_are_refused(folder, options, message):
    with pytest.raises(InputError, match=message):
        untrained(**({"styles": [folder / "night.png"], **NARROW} | options))


def test_paintings_that_cannot_be_learnt(folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="broken.png"):
        untrained(styles=[tmp_path / "broken.png"])
    write(tmp_path / "night.png", painting())
    with pytest.raises(InputError, match="same name"):
        untrained(styles=[folder / "night.png", tmp_path / "night.png"])


def test_files_that_are_no_such_model(folder, tmp_path):
    save_tensors(tmp_path / "other.safetensors", {"a": torch.ones(1)}, {"method": "adain"})
    with pytest.raises(InputError, match="not a model made by `impasto train johnson`"):
        Johnson(tmp_path / "other.safetensors")
    training = untrained(styles=[folder / "night.png"], network="bottleneck", **NARROW)
    training.model.network = untrained(styles=[folder / "night.png"]).network
    training.save(tmp_path / "mixed.safetensors", {})
    with pytest.raises(InputError, match=r"mixed.*not a model"):
        Johnson(tmp_path / "mixed.safetensors")


@pytest.mark.parametrize("colors", [[], [[0.5, 0.5]]])
def test_a_damaged_header_is_refused(folder, tmp_path, colors):
    tensors, header = load_tensors(folder / "model.safetensors")
    config = json.loads(header["config"]) | {"colors": colors}
    save_tensors(tmp_path / "d.safetensors", tensors, header | {"config": json.dumps(config)})
    with pytest.raises(InputError, match="not a model"):
        Johnson(tmp_path / "d.safetensors")


def test_without_a_model_it_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.setattr("impasto.methods.model.MODELS", tmp_path)
    absent = dict.fromkeys(FILES, tmp_path / "johnson.safetensors")
    monkeypatch.setattr("impasto.methods.johnson.FILES", absent)
    for kind in (None, "residual", "bottleneck"):
        with pytest.raises(InputError, match="no model is bundled; .*`impasto train johnson`"):
            Johnson(network=kind)


def test_a_model_is_of_its_kind(folder):
    model = folder / "model.safetensors"
    assert Johnson(model, network="residual", **CPU).settings["resolved"]["network"] == "residual"
    with pytest.raises(InputError, match="holds a residual network, not a bottleneck one"):
        Johnson(model, network="bottleneck", **CPU)
    with pytest.raises(InputError, match="residual or bottleneck"):
        Johnson(model, network="dense", **CPU)


BUNDLED = [kind for kind, path in FILES.items() if path.exists()]


@pytest.mark.parametrize("kind", BUNDLED)
def test_the_bundled_networks_paint(kind):
    method = Johnson(network=kind, **CPU)
    assert {"starry_night", "turner_storm", "stained_glass", "woodcut"} <= set(method.learnt)
    content = read(photograph("chelsea")).rgb
    content = resize(content, fit(*content.shape[-2:], 128))
    other = resize(read(photograph("coffee")).rgb, (content.shape[-2], content.shape[-1]))
    for name, style in method.learnt.items():
        out = method(content, method.prepare([name]))
        before, after = (
            float((Moments.of(picture.double()).mean - style.color.mean).norm())
            for picture in (content, out)
        )
        assert after < max(0.15, 0.7 * before)  # the painting's palette
        assert luminance_ssim(out, content) > max(0.15, 2.5 * luminance_ssim(out, other))
    torch.testing.assert_close(method(content, method.prepare(["woodcut"]), strength=0.0), content)


def test_the_bundled_networks_are_small():
    assert "residual" in BUNDLED
    assert sum(FILES[kind].stat().st_size for kind in BUNDLED) < 20e6


def test_too_large_for_memory_says_which_size_would_do(method, monkeypatch):
    monkeypatch.setattr("impasto.device.memory.available_memory", lambda device: 10_000_000)
    with pytest.raises(OutOfMemoryError, match="use size="):
        method(torch.rand(3, 600, 800), method.prepare(["night"]))


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["impasto", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def test_the_command_takes_names(run, folder, photo_file):
    options = ["--method", "johnson", "--model", folder / "model.safetensors", "--device", "cpu"]
    code, _, said = run("stylize", photo_file, "night", "wave", "-o", "out.png", *options)
    assert code == 0, said
    assert read_settings(Path("out.png"))["styles"] == ["night", "wave"]
    code, _, said = run("stylize", photo_file, "nihgt", "-o", "out.png", *options)
    assert code == 2
    assert "did you mean 'night'" in said


def test_styles_are_listed_with_a_sheet(run, folder, photo_file):
    model = ["--model", folder / "model.safetensors"]
    code, out, _ = run("styles", *model, "--sheet", "sheet.png", "--photo", photo_file)
    assert code == 0
    assert out.split() == ["night", "wave"]
    assert read(Path("sheet.png")).rgb.shape[-1] > 2 * 256
    before = photo_file.read_bytes()
    code, _, said = run("styles", *model, "--sheet", photo_file, "--photo", photo_file)
    assert code == 2
    assert "would overwrite" in said
    assert photo_file.read_bytes() == before
    code, _, said = run("styles", *model, "--photo", photo_file)
    assert code == 2
    assert "--sheet" in said


RECIPE = (
    'method = "johnson"\n[options]\nwidths = [6, 8, 8]\nblocks = 1\nSTYLES'
    "[data]\nshort_side = 40\nsize = 32\nvalidation = 0.0\ntest = 0.0\nworkers = 0\n"
    "minimum = 1\n[training]\nsteps = 2\nbatch = 2\nvalidation = 2\nsamples_every = 2\n"
)


def test_paintings_may_stand_in_the_recipe_and_stay_the_same(run, folder, tmp_path):
    for i in range(6):
        write(tmp_path / "photos" / f"{i}.png", photo(seed=i))
    write(tmp_path / "own.png", painting())
    Path("recipe.toml").write_text(
        RECIPE.replace("STYLES", 'styles = ["own.png"]\n'), encoding="utf-8"
    )
    common = ["train", "johnson", "--photos", "photos", "--recipe", "recipe.toml"]
    code, _, said = run(*common)
    assert code == 0, said
    write(tmp_path / "own.png", painting(seed=7).flip(0))
    code, _, said = run(*common, "--resume", "--steps", "4")
    assert code == 2
    assert str(Path("runs/johnson")) in said


def test_a_name_with_a_dot_is_kept(run, folder, tmp_path, photo_file):
    write(tmp_path / "night.v2.png", painting())
    training = untrained(styles=[tmp_path / "night.v2.png"], **NARROW)
    training.save(tmp_path / "m.safetensors", {})
    options = ["--method", "johnson", "--model", "m.safetensors", "--device", "cpu"]
    assert run("stylize", photo_file, "night.v2", *options)[0] == 0
    assert Path("photo-night.v2.png").exists()


def test_training_by_the_command(run, folder, tmp_path):
    for i in range(6):
        write(tmp_path / "photos" / f"{i}.png", photo(seed=i))
    Path("recipe.toml").write_text(RECIPE.replace("STYLES", ""), encoding="utf-8")
    common = ["train", "johnson", "--photos", "photos", "--recipe", "recipe.toml"]
    code, _, said = run(*common, "--style", folder / "night.png", "--style-size", "40")
    assert code == 0, said
    method = Johnson(Path("runs/johnson/johnson.safetensors"), **CPU)
    assert list(method.learnt) == ["night"]
    assert Path("runs/johnson/samples-2.png").exists()
    header = load_tensors(Path("runs/johnson/johnson.safetensors"))[1]
    assert "--style night.png --style-size 40" in json.loads(header["figures"])["command"]
    code, _, said = run(*common, "--run", "another")
    assert code == 2
    assert "--style PAINTING" in said
    code, _, said = run(*common, "--run", "another", "--paintings", "photos")
    assert code == 2
    assert "leave out --paintings" in said
    for key in ("shared_style", "balanced"):
        code, _, said = run(*common, "--run", "another", "--set", f"data.{key}=true")
        assert code == 2
        assert f"data.{key}: is of a folder of paintings" in said
    adain = ["train", "adain", "--photos", "photos", "--paintings", "photos"]
    code, _, said = run(*adain, "--style", folder / "night.png")
    assert code == 2
    assert "method adain has no option --style" in said
