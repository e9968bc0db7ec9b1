from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data import photo
from PIL import Image
from test_vgg import random_state

from impasto.backbones.records import VGG19
from impasto.cli.console import say
from impasto.cli.running import progress_bar
from impasto.errors import InputError
from impasto.images import read_settings, write
from impasto.methods import DEFAULT
from impasto.tensors import save_tensors
from impasto.training.methods import TRAINABLE

CPU = ["--device", "cpu", "--precision", "float32"]
FAST = ["--method", "gatys", "--iterations", "3", *CPU]


def save_vgg(folder: Path) -> Path:
    """VGG-19 to relu4_1 with random weights."""
    save_tensors(folder / "v.safetensors", random_state(VGG19, 9), {})
    return folder / "v.safetensors"


def test_stylize_and_show(run, photo_file, painting_file):
    code, _, said = run("stylize", photo_file, painting_file, "-o", "out.png", *FAST)
    assert code == 0
    assert said.count("CPU, ") == 1
    with Image.open("out.png") as picture:
        assert picture.size == (64, 48)
    code, shown, _ = run("show", "out.png")
    assert code == 0
    assert "gatys" in shown
    assert "painting" in shown
    code, shown, _ = run("show", "out.png", "--json")
    assert json.loads(shown)["iterations_done"] == 3


def test_the_default_is_one_pass(run, photo_file, painting_file):
    assert run("stylize", photo_file, painting_file, "-o", "out.png", *CPU)[0] == 0
    made = read_settings(Path("out.png"))
    assert made["method"] == DEFAULT == "ghiasi"


def test_default_name(run, photo_file, painting_file, tmp_path):
    assert run("stylize", photo_file, painting_file, *FAST)[0] == 0
    assert (tmp_path / "photo-painting.png").exists()


def test_options_reach_the_method(run, photo_file, painting_file):
    code, _, _ = run(
        *("stylize", photo_file, painting_file, painting_file, "-o", "out.jpg", *FAST),
        *("--weights", "2,1", "--style-layers", "relu1_1=3,relu2_1", "--optimizer", "adam"),
        *("--lr", "0.05", "--start", "content+noise", "--seed", "7", "--style-weight", "5"),
        *("--color", "match", "--color-variant", "monge", "--strength", "0.9", "--size", "32"),
        *("--sizes", "20,0", "--iterations", "2,1", "--style-scale", "0.5", "--tv-weight", "1"),
    )
    assert code == 0
    made = read_settings("out.jpg")
    assert made["weights"] == [2, 1]
    assert made["style_layers"] == {"relu1_1": 3, "relu2_1": 1}
    assert made["resolved"]["style_layers"] == {"relu1_1": 0.75, "relu2_1": 0.25}
    assert made["optimizer"] == "adam"
    assert made["lr"] == 0.05
    assert made["start"] == "content+noise"
    assert made["seed"] == 7
    assert made["color"] == "match"
    assert made["color_variant"] == "monge"
    assert made["strength"] == 0.9
    assert made["sizes"] == [20, 0]
    assert made["iterations"] == [2, 1]
    assert (made["size"], made["pixels"]) == (32, "43x32")


def test_a_folder_with_a_broken_file(run, painting_file, tmp_path):
    folder = tmp_path / "photos"
    for i in range(3):
        write(folder / f"p{i}.png", photo(32, 40, seed=i))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    code, _, said = run("stylize", folder, painting_file, "-o", "done/", *FAST)
    assert code == 1
    made = sorted(path.name for path in (tmp_path / "done").iterdir())
    assert made == ["p0-painting.png", "p1-painting.png", "p2-painting.png"]
    assert "1 of 4 failed" in said
    assert said.count("broken.jpg") == 1


def test_a_hundred_pictures_with_a_broken_one(run, painting_file, tmp_path):
    method = TRAINABLE["adain"].untrained(widths=[[8], [8], [8], [8]])
    method.save(tmp_path / "small.safetensors", {})
    for i in range(99):
        write(tmp_path / "in" / f"{i:02}.png", photo(16, 20, seed=i))
    (tmp_path / "in" / "broken.png").write_bytes((tmp_path / "in" / "00.png").read_bytes()[:60])
    options = ["--method", "adain", "--model", "small.safetensors", "--device", "cpu"]
    code, _, said = run("stylize", "in", "--style", painting_file, "-o", "out", *options)
    assert code == 1
    assert len(list((tmp_path / "out").iterdir())) == 99
    assert "1 of 100 failed" in said
    assert len([line for line in said.splitlines() if "broken.png" in line]) == 1


def test_refinement_takes_the_options_that_the_method_has_not(run, photo_file, painting_file):
    TRAINABLE["adain"].untrained(widths=[[8], [8], [8], [8]]).save(Path("small.safetensors"), {})
    options = ["--method", "adain", "--model", "small.safetensors", "--device", "cpu"]
    pictures = ["stylize", photo_file, painting_file, "-o", "out.png"]
    code, _, _ = run(*pictures, *options, "--refine", "3", "--style-weight", "7")
    assert code == 0
    made = read_settings(Path("out.png"))
    assert made["method"] == "adain"
    assert made["refinement"]["style_weight"] == 7
    assert made["iterations_done"] == 3
    code, _, said = run(*pictures, *options, "--style-weight", "7")
    assert code == 2
    assert "adain has no option --style-weight: method gatys has" in said


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (
            ["--method", "adain", "--iterations", "5"],
            "method adain with a refinement has no option --iterations: method gatys has",
        ),
        (["--method", "adain", "--sizes", "24,0"], "--sizes: method gatys has"),
        (["--method", "adain", "--start", "noise"], "--start: method gatys has"),
        (["--method", "adain", "--shifts", "2"], "--shifts: method artflow or styleflow has"),
        (
            ["--method", "gatys", "--model", "x.safetensors"],
            "method gatys with a refinement has no option --model",
        ),
    ],
)
def test_options_that_neither_method_nor_refinement_has(
    run, photo_file, painting_file, args, option
):
    pictures = ["stylize", photo_file, painting_file, "-o", "out.png", "--refine", "2"]
    code, _, said = run(*pictures, *args)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert option in said


def test_backbones_are_the_refinements_where_the_method_has_none(
    run, photo_file, painting_file, tmp_path
):
    TRAINABLE["adain"].untrained(widths=[[8], [8], [8], [8]]).save(Path("small.safetensors"), {})
    save_vgg(tmp_path)
    code, _, said = run(
        *("stylize", photo_file, painting_file, "-o", "out.png", "--device", "cpu"),
        *("--method", "adain", "--model", "small.safetensors", "--precision", "float32"),
        *("--style-scale", "0.5", "--refine", "1", "--backbone", "vgg19"),
        *("--backbone-weights", "v.safetensors", "--convention", "caffe"),
    )
    assert code == 0, said
    made = read_settings(Path("out.png"))
    assert made["resolved"]["features"].startswith("slim:")
    assert made["refinement"]["resolved"]["features"].startswith("vgg19:")
    assert made["style_scale"] == made["refinement"]["style_scale"] == 0.5
    assert made["refinement"]["device"].endswith("float32")


def test_backbone_weights_are_the_encoders_of_a_method_of_one_pass(
    run, photo_file, painting_file, tmp_path
):
    path = save_vgg(tmp_path)
    training = TRAINABLE["adain"].untrained(
        "vgg19", ["relu2_1"], [[8], [8]], encoder_weights=path, loss_convention="caffe"
    )
    training.save(tmp_path / "wide.safetensors", {})
    pictures = ["stylize", photo_file, painting_file, "-o", "out.png", "--device", "cpu"]
    options = ["--method", "adain", "--model", "wide.safetensors", "--convention", "caffe"]
    code, _, said = run(*pictures, *options, "--backbone-weights", path)
    assert code == 0, said
    assert read_settings(Path("out.png"))["resolved"]["features"].startswith("vgg19:")


def test_a_preview_of_one_pass_is_refused(run, photo_file, painting_file):
    pictures = ["stylize", photo_file, painting_file, "-o", "out.png"]
    code, _, said = run(*pictures, "--method", "adain", "--preview", "5")
    assert code == 2
    assert "--preview: method adain works in one pass" in said


def test_square_brackets_are_said_as_they_are(run, painting_file, tmp_path, monkeypatch):
    (tmp_path / "[").mkdir()
    write(tmp_path / "[" / "2020].jpg", photo())
    code, _, said = run("stylize", "[/2020].jpg", painting_file, "-o", "[/{content}.png", *FAST)
    assert code == 0
    assert "[/2020].png" in said

    def fail(path):
        raise InputError('pip install "impasto[train]"')

    monkeypatch.setattr("impasto.images.read_settings", fail)
    code, _, said = run("show", "x.png")
    assert code == 2
    assert "impasto[train]" in said


def test_square_brackets_in_the_bar():
    bar = progress_bar()
    bar.add_task("[/2020].jpg", total=1.0, text="[/x]")
    with say.capture() as captured:
        say.print(bar.get_renderable())
    assert "[/2020].jpg" in captured.get()


def test_what_does_not_fit_any_content_is_said_once(run, painting_file, tmp_path):
    for i in range(3):
        write(tmp_path / "in" / f"{i}.png", photo())
    styles = ["--style", painting_file, "--style", painting_file, "--weights", "3,-1"]
    code, _, said = run("stylize", "in", *styles, "-o", "out", *FAST)
    assert code == 2
    assert said.splitlines() == ["impasto: --weights is -1.0: must be 0 or more"]


def test_several_contents_with_style_option_and_pattern(run, painting_file, tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.png", photo(32, 40))
    pattern = "out/{content}_by_{style}.jpg"
    assert run("stylize", "a.png", "b.png", "-s", painting_file, "-o", pattern, *FAST)[0] == 0
    assert (tmp_path / "out" / "a_by_painting.jpg").exists()
    assert (tmp_path / "out" / "b_by_painting.jpg").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing.png", "PAINTING", "-o", "o.png"], "missing.png"),
        (["PHOTO", "missing.png", "-o", "o.png"], "missing.png"),
        (["PHOTO", "-o", "o.png"], "name a style"),
        (["PHOTO", "PAINTING", "-o", "o.xyz"], "o.xyz"),
        (["PHOTO", "PAINTING", "-o", "PHOTO"], "overwrite"),
        (["PHOTO", "PAINTING", "-o", "o.png", "--method", "gatis"], "did you mean 'gatys'"),
        (["PHOTO", "PAINTING", "-o", "o.png", "--weights", "a,b"], "give a number"),
        (["PHOTO", "PAINTING", "-o", "o.png", "--sizes", "1.5"], "whole number"),
        (["PHOTO", "PAINTING", "-o", "o.png", "--color", "sepia"], "luminance"),
        (["PHOTO", "PAINTING", "-o", "o.png", "--background", "nocolour"], "nocolour"),
        (["PHOTO", "PAINTING", "-o", "o.png", "--preview", "0"], "preview"),
        (
            ["PHOTO", "PAINTING", "-o", "o.png", "--backbone", "vgg99"],
            "compact, slim, vgg19, vgg16",
        ),
        (["PHOTO", "EMPTY", "-o", "o.png"], "empty"),
        (["PHOTO", "TEXT", "-o", "o.png"], "not a picture"),
        (["STRIP", "PAINTING", "-o", "o.png"], "1x300"),
        (["FOLDER", "PAINTING", "-o", "o.png"], "no pictures"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run, photo_file, painting_file, tmp_path, args, message
):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture at all", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (1, 300)).save(tmp_path / "strip.png")
    names = {
        "PHOTO": photo_file,
        "PAINTING": painting_file,
        "EMPTY": tmp_path / "empty.png",
        "TEXT": tmp_path / "text.png",
        "FOLDER": tmp_path / "folder",
        "STRIP": tmp_path / "strip.png",
    }
    code, out, said = run("stylize", *FAST, *[names.get(arg, arg) for arg in args])
    assert code == 2
    assert out == ""
    complaints = [line for line in said.splitlines() if "CPU, " not in line]
    assert len(complaints) == 1
    assert message in complaints[0]
    assert not (tmp_path / "o.png").exists()


def test_two_contents_that_would_share_a_result(run, painting_file, tmp_path):
    write(tmp_path / "in" / "a.png", photo(32, 40))
    write(tmp_path / "too" / "a.png", photo(32, 40))
    code, _, said = run("stylize", "in", "too", "-s", painting_file, "-o", "out/", *FAST)
    assert code == 2
    assert "both" in said
    assert not (tmp_path / "out").exists()


def test_a_stored_style_is_taken_where_a_painting_is(run, photo_file, painting_file):
    assert run("style", painting_file, "-o", "waves.style", "--device", "cpu")[0] == 0
    assert run("stylize", photo_file, "waves.style", "-o", "out.png", *FAST)[0] == 0
    assert read_settings("out.png")["styles"] == ["waves"]
    code, _, said = run("style", painting_file, "-o", "waves.png")
    assert code == 2
    assert "waves.style" in said


def test_further_options_reach_the_method(run, photo_file, painting_file):
    code, _, _ = run(
        *("stylize", photo_file, painting_file, "-o", "o.png", *FAST, "--time-limit", "100"),
        *("--tolerance", "0", "--padding", "reflect", "--pooling", "average"),
        *("--content-layers", "relu3_1", "--content-weight", "2", "--style-weight", "30"),
        *("--style-loss", "moments", "--color", "luminance", "--match-luminance"),
    )
    assert code == 0
    made = read_settings("o.png")
    assert made["time_limit"] == 100
    assert made["tolerance"] == 0
    assert made["resolved"]["features"].startswith("compact:reflect:average:")
    assert made["content_layers"] == {"relu3_1": 1.0}
    assert (made["content_weight"], made["style_weight"]) == (2, 30)
    assert made["style_loss"] == "moments"
    assert made["match_luminance"] is True


def test_a_vgg_that_ends_early_says_which_layers_it_uses(run, photo_file, painting_file, tmp_path):
    save_vgg(tmp_path)
    code, _, said = run(
        *("stylize", photo_file, painting_file, "-o", "o.png", *FAST, "--backbone", "vgg19"),
        *("--backbone-weights", "v.safetensors", "--convention", "caffe"),
    )
    assert code == 0
    assert said.count("weights end at relu4_1") == 2
    options = ["--backbone", "vgg19", "--backbone-weights", "v.safetensors"]
    code, _, said = run("stylize", photo_file, painting_file, "-o", "p.png", *FAST, *options)
    assert code == 2
    assert "caffe" in said


def test_a_picture_that_does_not_converge_is_written_with_a_warning(run, photo_file, painting_file):
    code, _, said = run(
        *(
            "stylize",
            photo_file,
            painting_file,
            "-o",
            "o.png",
            *CPU,
            "--method",
            "gatys",
            "--iterations",
            "40",
        ),
        *("--optimizer", "adam", "--lr", "100"),
    )
    assert code == 0
    assert "smaller --lr" in said
    assert read_settings("o.png")["lr"] == 100


def test_running_out_of_memory_is_one_line(run, photo_file, painting_file, tmp_path, monkeypatch):
    from impasto.methods.gatys import Gatys

    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(Gatys, "__call__", fail)
    code, _, said = run("stylize", photo_file, painting_file, "-o", "o.png", *FAST)
    assert code == 2
    assert "smaller --size" in said
    assert not (tmp_path / "o.png").exists()


def test_samples_do_not_overwrite_pictures_of_ones_own(run, tmp_path):
    write(tmp_path / "mine" / "woodcut.png", photo(32, 40))
    before = (tmp_path / "mine" / "woodcut.png").read_bytes()
    code, _, said = run("samples", "mine", "--size", "96")
    assert code == 2
    assert "woodcut.png" in said
    assert (tmp_path / "mine" / "woodcut.png").read_bytes() == before


def test_show_sends_no_codes_to_the_terminal(run, tmp_path):
    write(tmp_path / "x.png", photo(), settings={"a\x1b[31m": "b\x1b[31m"})
    code, shown, _ = run("show", "x.png")
    assert code == 0
    assert "\x1b" not in shown


def test_preview_is_written_on_the_way(run, photo_file, painting_file, monkeypatch):
    from impasto import images

    written = []
    honest = images.write

    def spy(path, *args, **kwargs):
        written.append(kwargs.get("settings"))
        return honest(path, *args, **kwargs)

    monkeypatch.setattr(images, "write", spy)
    fast = ["--method", "gatys", "--iterations", "5", *CPU]
    assert run("stylize", photo_file, painting_file, "-o", "o.png", "--preview", "2", *fast)[0] == 0
    assert written == [{"preview": 2}, {"preview": 4}]
    assert read_settings("o.png")["iterations_done"] == 5


@pytest.mark.posix("Windows cannot send Ctrl-C to one process")
def test_ctrl_c_writes_what_there_is(tmp_path, photo_file, painting_file):
    out = tmp_path / "out.png"
    command = [sys.executable, "-m", "impasto", "stylize", str(photo_file), str(painting_file)]
    options = ["-o", str(out), *FAST, "--iterations", "1000000", "--tolerance", "0"]
    process = subprocess.Popen(
        [*command, *options, "--preview", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        encoding="utf-8",
    )
    began = time.monotonic()
    while not out.exists() and time.monotonic() - began < 60:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert read_settings(out)["iterations_done"] >= 1


def test_lists(run):
    code, out, _ = run("methods")
    assert code == 0
    assert "gatys" in out
    code, out, _ = run("backbones")
    assert code == 0
    assert "compact" in out
    assert "vgg19-torchvision" in out
    assert "not downloaded" in out


def test_samples(run, tmp_path):
    assert run("samples", "paintings", "--size", "96", "--photos")[0] == 0
    names = {path.stem for path in (tmp_path / "paintings").glob("*.png")}
    assert {"swirls", "stained_glass", "ink_wash", "pointillism", "woodcut", "coffee"} <= names
    assert len(names) == 9


@pytest.mark.parametrize(
    "command",
    ["stylize", "style", "show", "methods", "backbones", "samples", ["train", "encoder"]],
)
def test_help_has_examples(run, command):
    parts = command if isinstance(command, list) else [command]
    code, out, _ = run(*parts, "--help")
    assert code == 0
    assert "Example" in out
    assert f"impasto {' '.join(parts)}" in out


def test_help_does_not_load_torch():
    code = "import sys; import impasto.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_painting_is_left_alone(run, photo_file, painting_file):
    before = painting_file.read_bytes()
    run("stylize", photo_file, painting_file, "-o", "out.png", *FAST)
    assert painting_file.read_bytes() == before
