"""What is written tells nobody's folders, has names that there can be, and overwrites no input."""

from __future__ import annotations

import builtins
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from data import painting, photo
from test_fit import BOTH, command, folders  # noqa: F401, fixtures and what they take

import impasto
from impasto import files
from impasto.backbones.records import BUNDLED
from impasto.errors import InputError, lacks_memory, lacks_runtime
from impasto.files import check_name, part_name, unfit, within
from impasto.images import list_pictures, read_settings, write
from impasto.targets import gather, plan
from impasto.tensors import save_tensors
from impasto.training.methods import TRAINABLE

ADAIN = ("--method", "adain", "--model", "small.safetensors", "--device", "cpu")
GATYS = ("-m", "gatys", "--iterations", "1", "--sizes", "0", "--size", "32", "--device", "cpu")


@pytest.fixture
def here(desk, tmp_path):
    """A folder with a photograph, a painting, small models and folders of pictures."""
    torch.manual_seed(0)
    TRAINABLE["ghiasi"].untrained("residual", (4, 8, 8), blocks=1, rows=5).save(
        tmp_path / "g.safetensors", {}
    )
    for folder in ("photos", "paintings"):
        write(tmp_path / folder / f"{folder}.png", photo(64, 80))
    write("large.png", painting(64, 80))
    return tmp_path


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


# Names that Windows has not ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nul", "device"),
        ("NUL.png", "device"),
        ("out/Aux.tar.gz", "device"),
        ("con/photo.png", "device"),
        ("com1.png", "device"),
        ("LPT\u00b2.png", "device"),
        ("com0.png", ""),
        ("console.png", ""),
        ("nul .png", "device"),
        ("what?.png", "'?'"),
        ("photo:1.png", "':'"),
        ("C:out.png", ""),
        ("C:\\out\\a.png", ""),
        ("\\\\server\\share\\a<b.png", "'<'"),
        ("a\x07.png", "'\\x07'"),
        ("a.png ", "dot or blank"),
        ("out./a.png", "dot or blank"),
        ("../a.png", ""),
        ("./.hidden.png", ""),
        ("ü'(1) & [x].png", ""),
        ("x" * 210 + "/" + "y" * 60, "259"),
        ("/" + "x" * 240 + "/a.png", "259"),  # whose part has a longer name
        ("\\\\?\\C:\\" + "x" * 300 + ".png", ""),
    ],
)
def test_names_that_windows_has_not(name, says):
    fault = unfit(name, windows=True)
    assert (says in fault) if says else fault == ""
    assert unfit(name, windows=False) == ""


def test_long_paths_where_they_are_taken():
    assert unfit("/" + "x" * 300 + "/a.png", windows=True, longest=None) == ""


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(files, "WINDOWS", True)


RESERVED = {
    "stylize": ["photo.png", "painting.png", *ADAIN, "-o", "nul.png"],
    "stylize a folder": ["photos", "painting.png", *ADAIN, "-o", "con/"],
    "stylize by names": ["photos", "painting.png", *ADAIN, "-o", "{content}:{style}.png"],
    "style": ["painting.png", "-o", "aux.style"],
    "learn": ["large.png", "-o", "com1.safetensors", "--model", "g.safetensors"],
    "styles": ["--sheet", "what?.png", "--photo", "photo.png"],
    "compare": ["--contents", "photos", "--styles", "paintings", "--methods", "wct", "-o", "prn"],
    "sweep": ["photo.png", "painting.png", "--vary", "strength=0,1", "-o", "lpt9"],
    "reconstruct": ["photo.png", "-o", "a|b.png"],
    "study leak": ["photo.png", "--styles", "paintings", "--methods", "wct", "-o", "nul"],
    "samples": ["aux", "--size", "64"],
    "train adain": ["--photos", "photos", "--paintings", "paintings", "--run", "con"],
    "train adain -o": ["--photos", "photos", "--paintings", "paintings", "-o", "nul.safetensors"],
    "train encoder": ["--backbone", "resnet18", "--pictures", "photos", "-o", "nul.safetensors"],
}


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_names_are_refused_before_the_work(here, run, windows, name):
    before = everything(here)
    words = name.removesuffix(" a folder").removesuffix(" by names").removesuffix(" -o").split()
    code, out, said = run(*words, *RESERVED[name])
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert "Windows" in said
    assert everything(here) == before


def test_a_photograph_whose_name_windows_reserves_is_one_that_fails(here, run, windows):
    write("photos/b.png", photo(32, 40))
    Path("photos/photos.png").rename("photos/aux.b.png")
    code, _, said = run("stylize", "photos", "painting.png", *ADAIN, "-o", "out/{content}.png")
    assert code == 1
    assert "aux" in said
    assert [path.name for path in Path("out").iterdir()] == ["b.png"]


@pytest.mark.parametrize("name", ["nul", "NUL.png", "./con"])
def test_a_device_is_no_photograph(here, run, windows, name):
    code, _, said = run("stylize", name, "painting.png", *ADAIN, "-o", "out.png")
    assert code == 2
    assert said.endswith("is a device of Windows; give a picture file\n")


def test_every_writer_refuses_them(tmp_path, windows):
    for write_it in (
        lambda path: files.save(path, "x"),
        lambda path: save_tensors(path, {"a": torch.ones(1)}, {}),
        lambda path: write(path, photo(32, 40)),
        check_name,
    ):
        with pytest.raises(InputError, match="Windows reserves the name"):
            write_it(tmp_path / "nul.png")
    assert not everything(tmp_path)


# Outputs that meet inputs -----------------------------------------------------------------------


LINKED = {
    "style": ("style", "painting.png", "-o", "x.style"),
    "style, model": ("style", "photo.png", "--for", "adain", "--model", "small.safetensors"),
    "learn": ("learn", "large.png", "--model", "g.safetensors", "-o", "x.safetensors"),
    "learn, model": ("learn", "large.png", "--model", "g.safetensors", "-o", "x.safetensors"),
    "learn, photos": ("learn", "large.png", "--photos", "photos", "-o", "x.safetensors"),
    "sweep": ("sweep", "photo.png", "painting.png", "--vary", "strength=0", "-o", "x"),
    "sweep, style": ("sweep", "photo.png", "painting.png", "--vary", "strength=0", "-o", "x"),
    "sweep, recipe": ("sweep", "photo.png", "painting.png", "--recipe", "r.toml", "-o", "x"),
    "compare, weights": (
        *("compare", "--contents", "photos", "--styles", "paintings", "-o", "x"),
        *("--judge-weights", "small.safetensors"),
    ),
    "stylize, stored": ("stylize", "photo.png", "mine.style", *ADAIN, "-o", "x.png"),
    "stylize, folder": ("stylize", "photos", "painting.png", *ADAIN, "-o", "x/{content}.png"),
    "train, painting": ("train", "johnson", "--photos", "photos", "-s", "large.png"),
}
MEETING = {  # what is read -> what would be written
    "style": ("painting.png", "x.style"),
    "style, model": ("small.safetensors", "x.style"),
    "learn": ("large.png", "x.safetensors"),
    "learn, model": ("g.safetensors", "x.safetensors"),
    "learn, photos": ("photos/photos.png", "x.safetensors"),
    "sweep": ("photo.png", "x/sheet.png"),
    "sweep, style": ("painting.png", "x/000 strength=0.png"),
    "sweep, recipe": ("r.toml", "x/results.csv"),
    "compare, weights": ("small.safetensors", "x/index.html"),
    "stylize, stored": ("mine.style", "x.png"),
    "stylize, folder": ("photos/photos.png", "x/photos.png"),
    "train, painting": ("large.png", "x.safetensors"),
}


@pytest.mark.parametrize("name", LINKED)
def test_an_output_that_is_an_input_by_a_hard_link(here, run, name):
    Path("r.toml").write_text("[vary]\nstrength = [0.0]\n", encoding="utf-8")
    Path("mine.style").write_bytes(b"a style")
    given, out = MEETING[name]
    Path(out).parent.mkdir(exist_ok=True)
    os.link(given, out)
    before = Path(given).read_bytes()
    words = LINKED[name]
    code, _, said = run(*words, *(() if "-o" in words else ("-o", out)))
    assert code == 2
    assert "would overwrite" in said
    assert Path(out).read_bytes() == Path(given).read_bytes() == before
    assert Path(out).samefile(given)


def test_the_model_to_write_is_no_file_of_the_run(command, tmp_path):  # noqa: F811
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    (tmp_path / "runs" / "toy" / "network.safetensors").write_bytes(b"of the run")
    os.link(tmp_path / "runs" / "toy" / "network.safetensors", tmp_path / "x.safetensors")
    code, said = command(*BOTH, "-o", "x.safetensors")
    assert code == 2
    assert "a file of the run itself" in said


def test_results_of_one_name_where_case_does_not_count(here):
    for name in ("A.jpg", "a.JPG"):
        write("x.jpg", photo(32, 40)).rename(here / "photos" / name)
    with pytest.raises(InputError, match="would both be written there"):
        plan(gather(["photos", "painting.png"]), "out")
    write("more/a.jpg", photo(32, 40))
    with pytest.raises(InputError, match="would both be written there"):
        plan(gather(["photos/A.jpg", "more/a.jpg"], ["painting.png"]), "out/{content}.png")


def test_contents_of_a_comparison_whose_names_differ_in_case(here, run):
    write("photos/A.png", photo(32, 40))
    write("photos/a.jpg", photo(32, 40))
    words = ("--contents", "photos", "--styles", "paintings", "--methods", "wct", "-o", "x")
    code, _, said = run("compare", *words)
    assert code == 2
    assert "has the same name; rename one" in said


@pytest.mark.posix("links")
def test_what_lies_within_a_folder(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "in", target_is_directory=True)
    assert within(tmp_path / "in" / "deep" / "new.png", tmp_path / "link")
    assert within(tmp_path / "link" / "deep", tmp_path / "in")
    assert not within(tmp_path / "in", tmp_path / "in")
    assert not within(tmp_path / "into", tmp_path / "in")


# Parts of files ---------------------------------------------------------------------------------


def test_nobody_can_foresee_the_name_of_a_part(tmp_path):
    names = {part_name() for _ in range(100)}
    assert len(names) == 100
    for name in names:
        (tmp_path / name).write_bytes(b"half a picture, left by a kill")
    write(tmp_path / "a.png", photo(32, 40))
    assert list_pictures(tmp_path) == [tmp_path / "a.png"]


def test_nor_that_of_a_checkpoint(command, tmp_path, monkeypatch):  # noqa: F811
    parts = []
    save = torch.save

    def noted(state, file, *args, **options):
        parts.append(Path(file.name).name)
        save(state, file, *args, **options)

    monkeypatch.setattr(torch, "save", noted)
    code, said = command(*BOTH)
    assert code == 0, said
    assert len(set(parts)) == 3
    assert all(part.startswith(".impasto-") and part.endswith(".part") for part in parts)
    assert not list(tmp_path.rglob("*.part"))


# Folders of the person --------------------------------------------------------------------------

HOME = "the home of somebody"


def tells(folder: Path) -> list[Path]:
    """The files in which the name of a folder at home stands."""
    found = []
    for path in filter(Path.is_file, everything(folder)):
        text = path.read_bytes()
        if path.suffix in (".png", ".jpg", ".tif"):
            with suppress(InputError):  # some carry none
                text += json.dumps(read_settings(path)).encode()
        if HOME.encode() in text or HOME in path.name:
            found.append(path)
    return found


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Inputs in a folder with a name of its own; results go elsewhere."""
    place = tmp_path / HOME
    place.mkdir()
    torch.manual_seed(0)
    TRAINABLE["adain"].untrained(widths=[[8], [8], [8], [8]]).save(place / "small.safetensors", {})
    TRAINABLE["ghiasi"].untrained("residual", (4, 8, 8), blocks=1, rows=5).save(
        place / "g.safetensors", {}
    )
    for seed, name in enumerate(("photo.png", "painting.png", "start.png", "other.png")):
        write(place / name, painting(64, 80, seed) if seed == 1 else photo(64, 80, seed))
    for name in ("photos", "paintings"):
        write(place / name / f"{name}.png", painting(64, 80))
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("USERPROFILE", str(place))
    monkeypatch.setenv("IMPASTO_HOME", str(place / "cache"))
    return place


def test_pictures_styles_and_sheets_tell_no_folders(home, tmp_path, run):
    out = tmp_path / "out"
    out.mkdir()
    p, s = home / "photo.png", home / "painting.png"
    model = ("--model", home / "small.safetensors", "--device", "cpu")
    (home / "slim.safetensors").write_bytes(BUNDLED["slim"].read_bytes())
    weights = ("--backbone", "slim", "--backbone-weights", home / "slim.safetensors")
    start = ("--start", home / "start.png")
    for words in (
        ("stylize", p, s, "-m", "adain", *model, "-o", out / "a.jpg"),
        ("stylize", p, s, "-m", "adain", *model, "--refine", "1", "-o", out / "r.tif"),
        ("stylize", p, s, *GATYS, *weights, *start, "-o", out / "g.png", "--preview", "1"),
        ("style", s, "--for", "adain", *model, "-o", out / "a.style"),
        ("style", s, "--for", "gatys", *weights, "-o", out / "g.style"),
        (
            *("learn", s, "--model", home / "g.safetensors", "--photos", home / "photos"),
            *("--steps", "1", "--size", "64", "-o", out / "l.safetensors"),
        ),
        (
            *("reconstruct", p, "--backbone", "slim", "--iterations", "1", "--size", "32"),
            *(
                "--backbone-weights",
                home / "slim.safetensors",
                "--layers",
                "relu1_1",
                "-o",
                out / "c.png",
            ),
        ),
    ):
        code, _, said = run(*words)
        assert code == 0, said
    assert len(everything(out)) == 7
    assert not tells(out)
    write(out / "x.jpg", photo(32, 40), settings={"start": str(home)})
    assert tells(out) == [out / "x.jpg"]


def test_a_sweep_tells_no_folders(home, tmp_path, run):
    out = tmp_path / "out"
    words = ("sweep", home / "photo.png", home / "painting.png", "-o", out, "--size", "32")
    fast = ("--set", "iterations=1", "--set", "device=cpu")
    starts = ",".join(str(home / name) for name in ("start.png", "other.png", "none.png"))
    (home / "slim.safetensors").write_bytes(BUNDLED["slim"].read_bytes())
    more = ("--set", "backbone=slim", "--set", f"backbone-weights={home / 'slim.safetensors'}")
    code, printed, said = run(*words, *fast, *more, "--vary", f"start={starts}")
    assert "start=other.png" in printed, said
    assert code == 1  # for none.png is not there
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))["rows"]
    assert [row["start"] for row in rows] == ["start.png", "other.png", "none.png"]
    assert rows[2]["fault"].startswith("none.png: cannot open it")
    # What is not downloaded: the fault tells where weights belong.
    more = ("--set", "convention=caffe", "--vary", "backbone=vgg19,vgg16")
    code, _, said = run(*words, *fast, *more, "-o", tmp_path / "o")
    assert code == 1, said
    rows = json.loads((tmp_path / "o" / "results.json").read_text(encoding="utf-8"))["rows"]
    assert "no weights vgg19" in rows[0]["fault"]
    assert not tells(out)
    assert not tells(tmp_path / "o")


def test_two_files_of_one_name_cannot_be_told_apart_in_a_sweep(home, tmp_path, run):
    write(home / "photos" / "start.png", photo(64, 80))
    words = ("sweep", home / "photo.png", home / "painting.png", "-o", tmp_path / "out")
    starts = f"{home / 'start.png'},{home / 'photos' / 'start.png'}"
    code, _, said = run(*words, "--vary", f"start={starts}")
    assert code == 2
    assert "two files have the same name; rename one" in said


def test_comparisons_and_leaks_tell_no_folders(home, tmp_path):
    from impasto.backbones import load_backbone
    from impasto.study.compare import compare
    from impasto.study.leak import leak

    methods = {"own": ("adain", {"model": home / "small.safetensors"})}
    where = {"size": 36, "device": "cpu"}
    places = (home / "photos", home / "paintings", tmp_path / "out", methods)
    judge = load_backbone("compact")
    compare(*places, judge, **where)
    compare(*places, judge, **where)  # it goes on
    kept = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert kept["methods"]["own"]["model"] == "small.safetensors"
    leak(home / "photo.png", home / "paintings", tmp_path / "leak", methods, rounds=1, **where)
    assert not tells(tmp_path / "out")
    assert not tells(tmp_path / "leak")


def test_a_training_tells_no_folders(command, folders, tmp_path):  # noqa: F811
    place = tmp_path / HOME
    place.mkdir()
    for folder in folders:
        folder.rename(place / folder.name)
    (tmp_path / "toy.toml").rename(place / "toy.toml")
    words = ("--photos", place / "photos", "--paintings", place / "paintings")
    places = ("--recipe", place / "toy.toml", "--run", tmp_path / "run")
    more = ("-o", tmp_path / "m.safetensors", "--set", "training.samples_every=3")
    code, said = command("toy", *map(str, (*words, *places, *more)))
    assert code == 0, said
    assert len(everything(tmp_path / "run")) > 5
    assert not tells(tmp_path / "run")
    assert HOME.encode() not in (tmp_path / "m.safetensors").read_bytes()


# What Windows lacks -----------------------------------------------------------------------------


def faults():
    for number in (126, 1114):
        fault = OSError(f"[WinError {number}] Error loading c10.dll or one of its dependencies")
        fault.winerror = number
        yield fault
    yield ImportError("DLL load failed while importing _C: The specified module could not be found")


@pytest.fixture(params=[*faults()], ids=["126", "1114", "DLL"])
def fault(request, monkeypatch):
    """Importing what needs torch fails as on a Windows without Microsoft's runtime."""
    whole = builtins.__import__

    def fail(name, *args, **options):
        if name.endswith(("pipeline", "methods", "refinement", "session")):
            raise request.param
        return whole(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    return request.param


def test_a_missing_runtime_by_the_command(desk, run, fault):
    code, out, said = run("stylize", "photo.png", "painting.png", "-o", "out.png")
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert "Visual C++" in said
    assert "vc_redist.x64.exe" in said


def test_a_missing_runtime_from_python(monkeypatch, fault):
    def fail(*args):
        raise fault

    monkeypatch.setattr(impasto, "import_module", fail)
    with pytest.raises(InputError, match=r"vc_redist\.x64\.exe") as caught:
        impasto.stylize  # noqa: B018
    assert caught.value.__cause__ is fault


def test_other_faults_are_not_taken_for_it(monkeypatch):
    def fail(*args):
        raise ImportError("No module named torch")

    monkeypatch.setattr(impasto, "import_module", fail)
    with pytest.raises(ImportError, match="No module"):
        impasto.stylize  # noqa: B018
    assert not lacks_runtime(OSError(2, "No such file"))
    assert lacks_memory(ImportError("DLL load failed: The paging file is too small"))
