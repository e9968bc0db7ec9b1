from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from data import LINKS, photo

from impasto.errors import InputError
from impasto.files import check_apart
from impasto.images import write
from impasto.targets import gather, plan


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Make empty files in the current folder; nothing here looks into them."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


def targets(pictures, out, style=None, **options):
    return [job.target.as_posix() for job in plan(gather(pictures, style, out=out, **options), out)]


def test_no_torch_is_needed():
    import subprocess

    code = "import sys, impasto.targets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_content_then_styles(made):
    made("a.jpg", "b.jpg", "c.jpg")
    jobs = plan(gather(["a.jpg", "b.jpg", "c.jpg"]), "{content}-{style}.png")
    assert [(str(job.content), job.styles, job.target.as_posix()) for job in jobs] == [
        ("a.jpg", ("b.jpg", "c.jpg"), "a-b+c.png")
    ]


def test_with_style_all_positions_are_contents(made):
    made("a.jpg", "b.jpg", "s.jpg")
    assert targets(["a.jpg", "b.jpg"], "out", ["s.jpg"]) == ["out/a-s.png", "out/b-s.png"]


@pytest.mark.parametrize("named", [["photo.jpg", "paintings"], ["photo.jpg"]])
def test_a_folder_of_paintings_makes_a_picture_of_each(made, named):
    made("photo.jpg", "paintings/night.jpg", "paintings/wave.png", "paintings/kept.style")
    style = None if len(named) == 2 else ["paintings"]
    expected = ["out/photo-kept.png", "out/photo-night.png", "out/photo-wave.png"]
    assert targets(named, "out/", style) == expected
    assert targets(named, "{content}-{style}.png", style)[0] == "photo-kept.png"
    assert targets(named, "{style}.jpg", style) == ["kept.jpg", "night.jpg", "wave.jpg"]


def test_every_photograph_by_every_painting_ordered_by_painting(made):
    made("in/a.jpg", "in/b.jpg", "by/s.jpg", "by/t.jpg")
    assert targets(["in", "by"], "out") == [
        "out/a-s.png",
        "out/b-s.png",
        "out/a-t.png",
        "out/b-t.png",
    ]


@pytest.mark.parametrize(
    ("pictures", "style", "weighted"),
    [
        (["a.jpg", "by", "a.jpg"], None, False),
        (["a.jpg"], ["by", "a.jpg"], False),
        (["a.jpg", "by"], None, True),
    ],
)
def test_a_folder_among_several_styles_or_with_weights_is_refused(made, pictures, style, weighted):
    made("a.jpg", "by/s.jpg")
    with pytest.raises(InputError, match=r"^by: a folder of paintings is taken one by one"):
        gather(pictures, style, weighted=weighted)


def test_a_folder_of_one_is_as_a_folder_of_two(made):
    made("one/a.png", "two/a.png", "two/b.png", "s.png")
    assert targets(["two", "s.png"], "p") == ["p/a-s.png", "p/b-s.png"]
    assert targets(["one", "s.png"], "p") == ["p/a-s.png"]
    for folder in ("one", "two"):
        with pytest.raises(InputError, match=r"several pictures need a folder"):
            targets([folder, "s.png"], "p.png")
        with pytest.raises(InputError, match="standard output takes one picture"):
            targets([folder, "s.png"], "-")


def test_a_folder_with_a_dot_in_its_name(made):
    made("a.png", "b.png", "s.png")
    assert targets(["a.png", "b.png"], "name.v2", ["s.png"]) == [
        "name.v2/a-s.png",
        "name.v2/b-s.png",
    ]
    assert targets(["a.png", "b.png"], "out.", ["s.png"])[0] == "out./a-s.png"
    with pytest.raises(InputError, match=r"several pictures need a folder"):
        targets(["a.png", "b.png"], "name.JPG", ["s.png"])


@pytest.mark.parametrize(
    "name", ["{style}", "{content}", "a.b", "a.", "a ", " a", "{0}%s", "é", "-"]
)
def test_names_stay_as_they_are(made, name):
    made(f"./{name}.png", "s.png")
    assert targets([f"./{name}.png", "s.png"], "out/") == [f"out/{name}-s.png"]
    assert targets(["s.png", f"./{name}.png"], "out/") == [f"out/s-{name}.png"]


def test_a_folder_with_braces_in_its_name_is_taken_as_it_is(made):
    made("{style}/x", "a.png", "s.png")
    assert targets(["a.png", "s.png"], "{style}") == ["{style}/a-s.png"]
    assert targets(["a.png", "s.png"], "new/{style}/") == ["new/s/a-s.png"]


def test_names_that_would_be_the_same_keep_their_endings(made):
    made("in/a.jpg", "in/a.png", "in/b.png", "night.jpg")
    assert sorted(targets(["in", "night.jpg"], "out")) == [
        "out/a.jpg-night.png",
        "out/a.png-night.png",
        "out/b-night.png",
    ]


def test_paintings_whose_names_would_be_the_same_keep_their_endings(made):
    made("a.jpg", "by/night.jpg", "by/night.style", "by/wave.jpg")
    assert sorted(targets(["a.jpg", "by"], "out")) == [
        "out/a-night.jpg.png",
        "out/a-night.style.png",
        "out/a-wave.png",
    ]


def test_two_results_in_one_place_are_refused(made):
    made("x/a.jpg", "y/a.jpg", "s.jpg", "t/s.jpg", "t/v.jpg")
    with pytest.raises(InputError, match=r"x/a.jpg and y/a.jpg would both be written there"):
        targets(["x/a.jpg", "y/a.jpg"], "out", ["s.jpg"])
    with pytest.raises(InputError, match=r"a name with \{style\} in it"):
        targets(["x/a.jpg", "t"], "{content}.png")


@pytest.mark.parametrize("out", ["out", "out/", "out/{content}-{style}.png"])
def test_recursive_keeps_the_tree(made, out):
    made("in/a.jpg", "in/x/a.jpg", "in/x/y/b.png", "s.jpg")
    assert targets(["in", "s.jpg"], out, recursive=True) == [
        "out/a-s.png",
        "out/x/a-s.png",
        "out/x/y/b-s.png",
    ]
    assert targets(["in", "s.jpg"], out) == ["out/a-s.png"]


def test_recursive_leaves_out_the_results_that_lie_below(made):
    made("in/a.jpg", "in/x/b.jpg", "in/done/a-s.png", "s.jpg")
    assert targets(["in", "s.jpg"], "in/done", recursive=True) == [
        "in/done/a-s.png",
        "in/done/x/b-s.png",
    ]


def test_a_picture_that_is_named_twice_is_made_once(made):
    made("in/a.jpg", "s.jpg")
    assert targets(["in/a.jpg", "in", "./in/a.jpg"], "out", ["s.jpg"]) == ["out/a-s.png"]


@pytest.mark.parametrize(
    ("pictures", "style"),
    [(["", "s.jpg"], None), (["a.jpg", ""], None), (["a.jpg"], [""]), (["a.jpg", ""], ["s.jpg"])],
)
def test_empty_names_are_refused(made, pictures, style):
    made("a.jpg", "s.jpg")
    with pytest.raises(InputError, match="an empty name"):
        gather(pictures, style)
    with pytest.raises(InputError, match="an empty name"):
        plan(gather(["a.jpg", "s.jpg"]), "")


@pytest.mark.parametrize("address", ["https://x.org/a.jpg", "HTTP://x/a.jpg", "s3://x/a.jpg"])
def test_an_address_is_shown_as_typed(address):
    for pictures in ([address, "s.jpg"], ["a.jpg", address]):
        with pytest.raises(InputError) as caught:
            gather(pictures)
        assert str(caught.value).startswith(f"{address}: ")
        assert "only files can be read" in str(caught.value)


def test_empty_folders_are_refused(made):
    made("in/deeper/a.jpg", "a.jpg")
    for pictures in (["in", "a.jpg"], ["a.jpg", "in"]):
        with pytest.raises(InputError, match=r"^in: no pictures in this folder.*recursive=True"):
            gather(pictures)
        gather(pictures, recursive=True)


def test_standard_input_and_output(made):
    made("s.jpg", "a.jpg")
    (job,) = plan(gather(["-", "s.jpg"]), "-")
    assert job.content.path is None
    assert job.target is None
    assert targets(["-", "s.jpg"], "out/") == ["out/stdin-s.png"]
    assert targets(["s.jpg", "-"], "out/") == ["out/s-stdin.png"]
    for pictures, style in ((["-", "-"], None), (["-"], ["-"]), (["a.jpg", "-", "-"], None)):
        with pytest.raises(InputError, match="standard input holds one picture"):
            gather(pictures, style)
    with pytest.raises(InputError, match="standard output takes one picture"):
        targets(["-", "a.jpg"], "-", ["s.jpg"])


def test_learnt_styles_are_names_and_no_files(made):
    made("woodcut/x.png", "a.jpg")
    inputs = gather(["a.jpg", "woodcut", "v1.2"], learnt=True)
    assert inputs.styles == [("woodcut", "v1.2")]
    assert list(map(str, inputs.files)) == ["a.jpg"]
    assert [job.target.as_posix() for job in plan(inputs, "out/")] == ["out/a-woodcut+v1.2.png"]


@pytest.mark.parametrize("link", LINKS)
def test_an_output_that_is_an_input_under_another_name(tmp_path, monkeypatch, link):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "s.png", "model.safetensors"):
        write(tmp_path / "x.png", photo(16, 16)).rename(name)
    for read in ("a.png", "s.png", "model.safetensors"):
        link(read, "out.png")
        inputs = gather(["a.png", "s.png"])
        with pytest.raises(InputError, match=r"out\.png"):
            check_apart(
                [job.target for job in plan(inputs, "out.png")],
                [*inputs.files, Path("model.safetensors")],
            )
        os.unlink("out.png")
    check_apart([job.target for job in plan(inputs, "out.png")], inputs.files)
