"""The command line's names and files: what is read, what is written, and what is left alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
from data import LINKS, painting, photo
from PIL import Image

from impasto.images import read, read_settings, write
from impasto.methods.adain import AdaIN

pytestmark = pytest.mark.usefixtures("desk")
QUICK = ["--method", "adain", "--model", "small.safetensors", "--device", "cpu"]
GATYS = ["--method", "gatys", "--iterations", "2", "--device", "cpu", "--precision", "float32"]


def started(*args, **given):
    """Another process with the command line, as people start it."""
    env = os.environ | {"OMP_NUM_THREADS": "1"} | given.pop("env", {})
    command = [sys.executable, "-m", "impasto", *map(str, args)]
    return subprocess.run(command, check=False, capture_output=True, env=env, **given)


def complaints(said):
    return [line for line in said.splitlines() if "CPU, " not in line]


# What goes in, what comes out ------------------------------------------------------------------


def test_braces_in_a_name_stay(run, tmp_path):
    os.rename("photo.png", "{style}.png")
    assert run("stylize", "{style}.png", "painting.png", "-o", "out/", *QUICK)[0] == 0
    assert os.listdir("out") == ["{style}-painting.png"]


def test_a_folder_of_paintings(run, tmp_path):
    for name in ("wave", "night"):
        write(f"by/{name}.png", painting(32, 40))
    write("in/a.png", photo(32, 40, seed=1))
    write("in/b.png", photo(32, 40, seed=2))
    code, _, said = run("stylize", "in", "by", "-o", "out", *QUICK)
    assert code == 0, said
    made = ["a-night.png", "a-wave.png", "b-night.png", "b-wave.png"]
    assert sorted(os.listdir("out")) == made
    settings = read_settings("out/a-wave.png")
    assert (settings["content"], settings["styles"]) == ("a", ["wave"])
    code, _, said = run("stylize", "in", "by", "-o", "out", "--weights", "1", *QUICK)
    assert code == 2
    assert len(complaints(said)) == 1


def test_a_method_is_loaded_once_and_each_painting_is_read_and_prepared_once(run, monkeypatch):
    from impasto import paintings

    for name in ("wave", "night"):
        write(f"by/{name}.png", painting(32, 40))
        write(f"in/{name}.png", photo(32, 40))
    seen: dict[str, list] = {"load": [], "read": [], "prepare": []}
    read_style, prepare, make = paintings.read_style, AdaIN.prepare, AdaIN.__init__

    def spy(name, honest, keep):
        @wraps(honest)
        def call(*args, **given):
            seen[name].append(keep(*args))
            return honest(*args, **given)

        return call

    monkeypatch.setattr(paintings, "read_style", spy("read", read_style, lambda source, *_: source))
    monkeypatch.setattr(AdaIN, "prepare", spy("prepare", prepare, lambda *_: 1))
    monkeypatch.setattr(AdaIN, "__init__", spy("load", make, lambda *_: 1))
    code, _, said = run("stylize", "in", "by", "-o", "out", *QUICK)
    assert code == 0, said
    assert seen == {
        "load": [1],
        "read": [os.path.join("by", "night.png"), os.path.join("by", "wave.png")],
        "prepare": [1, 1],
    }


def test_a_painting_that_cannot_be_read_does_not_end_a_folder_of_them(run):
    write("by/good.png", painting(32, 40))
    Path("by/bad.png").write_bytes(b"no picture")
    write("in/a.png", photo(32, 40))
    write("in/b.png", photo(32, 40))
    code, _, said = run("stylize", "in", "by", "-o", "out", *QUICK)
    assert code == 1
    assert sorted(os.listdir("out")) == ["a-good.png", "b-good.png"]
    assert "2 of 4 failed:" in said
    assert said.count("bad.png") == 1


def test_a_photograph_that_cannot_be_read_is_named_once(run):
    for name in ("one", "two"):
        write(f"by/{name}.png", painting(32, 40))
    write("in/a.png", photo(32, 40))
    Path("in/bad.png").write_bytes(b"no picture")
    code, _, said = run("stylize", "in", "by", "-o", "out", *QUICK)
    assert code == 1
    assert sorted(os.listdir("out")) == ["a-one.png", "a-two.png"]
    assert "2 of 4 failed:" in said
    assert said.count("bad.png") == 1


def test_several_styles_by_position_are_said_to_be_mixed(run):
    write("more.png", photo(32, 40))
    pictures = ["stylize", "photo.png", "more.png", "painting.png", "-o", "out.png", *QUICK]
    code, _, said = run(*pictures)
    assert code == 0
    assert "photo.png in a mixture of more.png, painting.png" in said
    assert "--style" in said
    assert "mixture" not in run(*pictures, "--weights", "1,2")[2]
    assert "mixture" not in run("stylize", "photo.png", "-s", "painting.png", *QUICK)[2]


def test_recursive_keeps_the_tree(run):
    write("in/a.png", photo(32, 40))
    write("in/deep/er/b.png", photo(32, 40))
    arguments = ["stylize", "in", "painting.png", "-o", "out", *QUICK]
    assert run(*arguments)[0] == 0
    assert list(Path("out").rglob("*.png")) == [Path("out/a-painting.png")]
    assert run(*arguments, "--recursive")[0] == 0
    assert Path("out/deep/er/b-painting.png").exists()


def test_skip_existing(run, monkeypatch):
    for name in "abc":
        write(f"in/{name}.png", photo(32, 40))
    arguments = ["stylize", "in", "painting.png", "-o", "out", "--skip-existing", *QUICK]
    write("out/b-painting.png", photo(16, 16))
    kept = Path("out/b-painting.png").read_bytes()
    code, _, said = run(*arguments)
    assert code == 0
    assert "1 of 3 exist already" in said
    assert sorted(os.listdir("out")) == ["a-painting.png", "b-painting.png", "c-painting.png"]
    assert Path("out/b-painting.png").read_bytes() == kept
    monkeypatch.setattr("impasto.refinement.load_refined", None)  # nothing is loaded for nothing
    code, _, said = run(*arguments)
    assert code == 0
    assert "3 of 3 exist already" in said


def test_a_preview_is_not_taken_for_a_result(run):
    write("out.png", photo(16, 16), settings={"preview": 3})
    code, _, _ = run("stylize", "photo.png", "painting.png", "-o", "out.png", "--skip-existing")
    assert code == 0
    assert read_settings("out.png")["content"] == "photo"


def test_a_jpg_beside_a_png(run):
    write("in/a.png", photo(32, 40, seed=1))
    write("in/a.jpg", photo(32, 40, seed=2))
    write("in/b.jpg", photo(32, 40, seed=3))
    assert run("stylize", "in", "painting.png", "-o", "out", *QUICK)[0] == 0
    made = ["a.jpg-painting.png", "a.png-painting.png", "b-painting.png"]
    assert sorted(os.listdir("out")) == made


def test_the_format_is_chosen(run):
    pictures = ["stylize", "photo.png", "painting.png", *QUICK]
    sizes = []
    for quality in ("20", "95"):
        assert run(*pictures, "-o", "o.jpg", "--quality", quality)[0] == 0
        sizes.append(os.path.getsize("o.jpg"))
    assert sizes[0] < sizes[1]
    assert run(*pictures, "-o", "o.png", "--depth", "16")[0] == 0
    assert Path("o.png").read_bytes()[24] == 16  # IHDR's bit depth
    for out, depth in (("o.jpg", "16"), ("o.png", "12")):
        code, _, said = run(*pictures, "-o", out, "--depth", depth)
        assert code == 2
        assert len(complaints(said)) == 1
    assert run(*pictures, "-o", "o.png", "--quality", "0")[0] == 2


def test_metadata_is_kept_or_not(run):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    Image.open("photo.png").convert("RGB").save("camera.jpg", exif=exif)
    pictures = ["stylize", "camera.jpg", "painting.png", "-o", "out.jpg", *QUICK]

    def found():
        with Image.open("out.jpg") as image:
            kept = image.getexif()
            return kept.get(0x010F), dict(kept.get_ifd(0x8825)).get(1)

    assert run(*pictures)[0] == 0
    assert found() == ("Maker", None)
    assert run(*pictures, "--keep-gps")[0] == 0
    assert found() == ("Maker", "N")
    assert run(*pictures, "--no-metadata")[0] == 0
    assert found() == (None, None)
    code, _, said = run(*pictures, "--no-metadata", "--keep-gps")
    assert code == 2
    assert "choose one" in said


def test_what_is_accepted_can_be_chosen(run):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype="uint8")
    Image.fromarray(noise).save(whole, "JPEG")
    Path("cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    pictures = ["stylize", "cut.jpg", "painting.png", "-o", "out.png", *QUICK]
    assert run(*pictures)[0] == 2
    assert run(*pictures, "--accept-truncated")[0] == 0
    code, _, said = run("stylize", "photo.png", "painting.png", *QUICK, "--max-pixels", "1000")
    assert code == 2
    assert "1000" in said.replace(",", "").replace(" ", "")
    assert len(complaints(said)) == 1


# Standard input and output ---------------------------------------------------------------------


def test_a_pipe_from_end_to_end(run):
    picture = Path("photo.png").read_bytes()
    done = started("stylize", "-", "painting.png", "-o", "-", *QUICK, input=picture)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\x89PNG")
    assert done.stdout.endswith(b"IEND\xaeB`\x82")
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.size == (40, 32)
    assert run("stylize", "photo.png", "painting.png", "-o", "file.png", *QUICK)[0] == 0
    assert torch.equal(read(done.stdout).rgb, read("file.png").rgb)


def test_a_style_from_standard_input(run):
    style = Path("painting.png").read_bytes()
    done = started("stylize", "photo.png", "-", "-o", "out.png", *QUICK, input=style)
    assert done.returncode == 0, done.stderr
    assert run("stylize", "photo.png", "painting.png", "-o", "file.png", *QUICK)[0] == 0
    assert torch.equal(read("out.png").rgb, read("file.png").rgb)


@pytest.mark.parametrize("given", [b"", b"no picture"])
def test_standard_input_without_a_picture(run, given):
    done = started("stylize", "-", "painting.png", "-o", "-", *QUICK, input=given)
    assert done.returncode == 2
    assert done.stdout == b""
    assert len(complaints(done.stderr.decode())) == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["stylize", "photo.png", "painting.png", "-o", "-", *QUICK]])
def test_a_pipe_that_nobody_reads(run, arguments):
    write("photo.png", photo(512, 512))  # more than a pipe holds
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "impasto", *arguments]
    done = subprocess.run(
        command, check=False, stdout=writing, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    os.close(writing)
    assert done.returncode not in (0, 2)
    assert complaints(done.stderr) == []


def test_standard_output_takes_neither_previews_nor_several(run):
    write("in/a.png", photo(32, 40))
    for more in (["photo.png", "--preview", "1", *GATYS], ["in", *QUICK]):
        code, out, said = run("stylize", "--style", "painting.png", "-o", "-", *more)
        assert code == 2
        assert out == ""
        assert "standard output takes one picture" in said


# What is left alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("link", [None, *LINKS])
@pytest.mark.parametrize("read_as", ["content", "style", "start", "model", "weights"])
def test_no_input_is_overwritten(run, link, read_as):
    file = {"model": "small.safetensors", "weights": "net.safetensors"}.get(read_as, "mine.png")
    if read_as != "model":
        Path(file).write_bytes(Path("painting.png").read_bytes())
    out = file
    if link:
        out = "out.png"
        link(file, out)
    before = Path(file).read_bytes()
    arguments = {
        "content": ["mine.png", "painting.png", *QUICK],
        "style": ["photo.png", "mine.png", *QUICK],
        "start": ["photo.png", "painting.png", "--start", "mine.png", *GATYS],
        "model": ["photo.png", "painting.png", *QUICK],
        "weights": ["photo.png", "painting.png", *GATYS, "--backbone-weights", file],
    }[read_as]
    code, _, said = run("stylize", *arguments, "-o", out)
    assert code == 2
    assert len(complaints(said)) == 1
    assert out in said
    assert "overwrite" in said
    assert Path(file).read_bytes() == before


def test_an_input_among_many_outputs_is_found_before_the_work(run):
    write("in/a.png", photo(32, 40))
    write("in/b.png", photo(32, 40))
    code, _, said = run("stylize", "in", "in/b.png", "-o", "in/{content}.png", *QUICK)
    assert code == 2
    assert "overwrite" in said


def test_the_sheet_of_styles_overwrites_nothing(run):
    from impasto.methods.johnson import FILES

    model = Path("mine.png")  # as nobody would call it
    model.write_bytes(FILES["residual"].read_bytes())
    for arguments in (["--photo", "photo.png"], ["--model", "mine.png"]):
        before = Path(arguments[1]).read_bytes()
        os.link(arguments[1], "sheet.png")
        code, _, said = run("styles", "--sheet", "sheet.png", *arguments)
        assert code == 2
        assert "overwrite" in said
        assert Path(arguments[1]).read_bytes() == before
        os.unlink("sheet.png")


@pytest.mark.parametrize(
    "arguments",
    [
        ["", "painting.png"],
        ["photo.png", ""],
        ["photo.png", "painting.png", "-o", ""],
        ["photo.png", "painting.png", "--out="],
        ["photo.png", "--style", ""],
        ["photo.png", "painting.png", "--model", ""],
        ["photo.png", "painting.png", "--start", "", "-m", "gatys"],
    ],
)
def test_empty_names_are_refused(run, arguments):
    before = sorted(os.listdir())
    code, out, said = run("stylize", *arguments)
    assert code == 2
    assert out == ""
    assert len(said.splitlines()) == 1
    assert "an empty name" in said
    assert sorted(os.listdir()) == before


def test_an_address_is_shown_as_typed(run):
    code, _, said = run("stylize", "https://x.org/a.jpg", "painting.png", "-o", "out.png")
    assert code == 2
    assert said.startswith("impasto: https://x.org/a.jpg: is a web address")
    assert "only files can be read" in said


# What fails ------------------------------------------------------------------------------------


def test_what_a_format_cannot_hold_ends_no_folder(run):
    write("in/a.png", photo(16, 65600))
    write("in/b.png", photo(32, 40))
    code, _, said = run("stylize", "in", "painting.png", "-o", "out/{content}.gif", *QUICK)
    assert code == 1
    assert os.listdir("out") == ["b.gif"]
    assert "1 of 2 failed:" in said
    assert "  1. " in said


def test_a_limit_of_the_format_is_said_before_the_work(run, monkeypatch):
    write("wide.png", photo(16, 65600))
    monkeypatch.setattr(AdaIN, "__call__", None)  # is never called
    code, _, said = run("stylize", "wide.png", "painting.png", "-o", "out.gif", *QUICK)
    assert code == 2
    assert len(complaints(said)) == 1
    assert "65" in said


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried"), "out of memory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("axes don't match"), "please report it: ValueError: axes don't match"),
    ],
)
def test_whatever_goes_wrong_with_one_picture_is_noted(run, monkeypatch, error, message):
    for name in "abc":
        write(f"in/{name}.png", photo(32, 40))
    honest = AdaIN.__call__

    def fail(self, content, *rest):
        if content.name == "b":
            raise error
        return honest(self, content, *rest)

    monkeypatch.setattr(AdaIN, "__call__", fail)
    code, _, said = run("stylize", "in", "painting.png", "-o", "out", *QUICK)
    assert code == 1
    assert sorted(os.listdir("out")) == ["a-painting.png", "c-painting.png"]
    assert "1 of 3 failed:\n  1. " in said
    assert message in said.splitlines()[-1]
    assert os.path.join("in", "b.png") in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_place_that_cannot_be_written_ends_no_folder(run):
    write("in/a/x.png", photo(32, 40))
    write("in/b/y.png", photo(32, 40))
    Path("out").mkdir()
    Path("out/a").touch()  # where a folder would have to be
    code, _, said = run("stylize", "in", "painting.png", "-o", "out", "-r", *QUICK)
    assert code == 1
    assert Path("out/b/y-painting.png").exists()
    assert "1 of 2 failed:" in said


def test_a_fault_of_impastos_is_one_line(run, monkeypatch):
    def fail(*_):
        raise ValueError("axes\ndon't match")

    monkeypatch.setattr(AdaIN, "__call__", fail)
    code, _, said = run("stylize", "photo.png", "painting.png", "-o", "out.png", *QUICK)
    assert code == 1
    assert len(complaints(said)) == 1
    assert "please report it: ValueError: axes don't match" in said


def test_a_preview_is_what_the_result_will_be(run, monkeypatch):
    from impasto import images

    alpha = torch.ones(1, 48, 64)
    alpha[..., :20] = 0
    write("cut.png", photo(), alpha)
    honest, seen = images.write, []

    def spy(path, *args, **given):
        honest(path, *args, **given)
        with Image.open(path) as image:
            seen.append((str(path), image.mode, image.size, Path(path).read_bytes()[24]))

    monkeypatch.setattr(images, "write", spy)
    pictures = ["stylize", "cut.png", "painting.png", "-o", "out.png", "--sizes", "24,0"]
    assert run(*pictures, "--preview", "1", "--depth", "16", *GATYS)[0] == 0
    with Image.open("out.png") as image:
        last = ("out.png", image.mode, image.size, Path("out.png").read_bytes()[24])
    assert len(seen) == 4
    assert set(seen) == {last}
    assert last[2] == (64, 48)
    assert last[3] == 16
    assert read("out.png").alpha is not None


def test_show_prints_all_that_is_kept(run):
    settings = {"a": 1, "b": [0.5, None], "c": {"d": "é"}}
    write("x.png", photo(16, 16), settings=settings)
    assert json.loads(run("show", "x.png", "--json")[1]) == settings
    lines = run("show", "x.png")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(settings)


# What trials found ------------------------------------------------------------------------------


def test_a_file_is_found_again_through_a_folder_that_is_not_there(run):
    before = Path("photo.png").read_bytes()
    code, _, said = run("stylize", "photo.png", "painting.png", "-o", "new/../photo.png", *QUICK)
    assert code == 2
    assert "overwrite" in said
    assert Path("photo.png").read_bytes() == before


def test_the_file_behind_standard_input_is_left_alone():
    before = Path("photo.png").read_bytes()
    with open("photo.png", "rb") as stream:
        done = started("stylize", "-", "painting.png", "-o", "photo.png", *QUICK, stdin=stream)
    assert done.returncode == 2
    assert b"overwrite" in done.stderr
    assert Path("photo.png").read_bytes() == before


def test_the_current_folder_is_a_folder(run, tmp_path):
    (tmp_path / "in").mkdir()
    os.rename("photo.png", "in/photo.png")
    os.chdir("in")
    style = ["--style", "../painting.png", *QUICK[:2], "--model", "../small.safetensors"]
    for number, here in enumerate((".", "./")):
        assert run("stylize", here, *style, "-o", f"../out{number}/", "--device", "cpu")[0] == 0
        assert (tmp_path / f"out{number}" / "photo-painting.png").exists()


def test_results_beside_the_photographs_are_no_photographs(run, tmp_path):
    (tmp_path / "in").mkdir()
    os.rename("photo.png", "in/photo.png")
    command = ["stylize", "in", "--style", "painting.png", "-o", "in", *QUICK]
    assert run(*command)[0] == 0
    code, _, said = run(*command, "--skip-existing")
    assert code == 0
    assert "1 of 1 exist already" in said
    assert run(*command)[0] == 0
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [
        "photo-painting.png",
        "photo.png",
    ]


def test_a_stored_style_and_a_painting_are_mixed_in_any_order(run):
    assert run("style", "painting.png", "-o", "a.style", "--device", "cpu")[0] == 0
    assert (
        run("style", "painting.png", "-o", "b.style", "--for", "ghiasi", "--device", "cpu")[0] == 0
    )
    for number, styles in enumerate([("a.style", "photo.png"), ("a.style", "b.style")]):
        command = ["stylize", "photo.png", *styles, "-o", f"{number}.png", "--device", "cpu"]
        assert run(*command)[0] == 0


@pytest.mark.parametrize("name", ["noext", "a/noext"])
def test_a_name_without_an_ending(run, name):
    code, _, said = run("stylize", "photo.png", "painting.png", "-o", name, *QUICK)
    assert code == 2
    assert complaints(said) == [
        f"impasto: {name}: has no ending; give {name}.png, or {name}/ for a folder"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "nan"], "--size is nan: must be a finite number"),
        (["--nope"], "No such option: --nope"),
        (["--depth", "x"], "--depth 'x': give a number"),
        (["--preview", "x"], "--preview"),
    ],
)
def test_options_that_are_none_are_one_line(run, words, said):
    code, out, err = run("stylize", "photo.png", "painting.png", "-o", "o.png", *words)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err


def test_a_damaged_stored_style_is_said_to_be_damaged(run):
    assert (
        run("style", "painting.png", "-o", "a.style", "--for", "adain", "--device", "cpu")[0] == 0
    )
    data = bytearray(Path("a.style").read_bytes())
    data[-4000:-1000] = b"\xff" * 3000
    Path("a.style").write_bytes(data)
    code, _, said = run("stylize", "photo.png", "a.style", "-o", "o.png", "--device", "cpu")
    assert code == 2
    assert "a.style: is damaged" in said


def test_names_in_exif_keep_their_letters(run):
    exif = Image.Exif()
    exif[0x013B] = "Jörg Maye".encode()
    with Image.open("photo.png") as image:
        image.convert("RGB").save("photo.jpg", exif=exif)
    assert run("stylize", "photo.jpg", "painting.png", "-o", "out.jpg", *QUICK)[0] == 0
    with Image.open("out.jpg") as image:
        kept = image.getexif()[0x013B]
    assert kept.encode("latin-1").decode("utf-8") == "Jörg Maye"


def test_max_pixels_is_for_every_picture_that_is_read(run):
    write("large.png", photo(64, 80))
    limit = ["-o", "o.png", *GATYS, "--max-pixels", "2000"]
    assert run("stylize", "photo.png", "painting.png", *limit)[0] == 0
    for pictures in (
        ["large.png", "painting.png"],
        ["photo.png", "large.png"],
        ["photo.png", "painting.png", "--start", "large.png"],
    ):
        code, _, said = run("stylize", *pictures, *limit)
        assert code == 2
        assert "large.png: 80x64" in said
