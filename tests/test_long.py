"""What takes too long for every run: `make test-long`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data import as_uint8, painting, photo
from PIL import Image

from impasto.images import read, read_settings
from impasto.methods import DEFAULT

pytestmark = pytest.mark.long

# Runs the command line and says what it took at most, in MB, beside what importing it takes.
MEASURED = """
import sys
import impasto.cli, impasto.pipeline
from impasto.study.compare import _peak_memory as most
before = most()
try: impasto.cli.main()
finally: print(round((most() - before) / 2**20), file=sys.stderr)
"""


def peak(*args: object) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, args)],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return float(done.stderr.splitlines()[-1])


def large(path: Path, height: int, width: int) -> Path:
    """Something to see at every scale."""
    rows = np.add.outer(np.arange(height) // 7, np.arange(width) // 5).astype(np.uint8)
    Image.fromarray(np.stack([rows, 255 - rows, rows // 2], -1)).save(path)
    return path


@pytest.mark.parametrize("method", ["ghiasi", "adain", "wct", "styleflow", "artflow"])
@pytest.mark.parametrize(
    ("height", "width", "suffix"), [(300, 60_000, "png"), (9_000, 12_000, "jpg")]
)
def test_a_wide_or_huge_painting_does_not_take_gigabytes(tmp_path, method, height, width, suffix):
    style = large(tmp_path / f"painting.{suffix}", height, width)
    Image.fromarray(as_uint8(photo(600, 800))).save(tmp_path / "photo.png")
    options = ["--method", method, "--device", "cpu"]
    took = peak("stylize", tmp_path / "photo.png", style, "-o", tmp_path / "out.png", *options)
    assert took < 1500
    assert read(tmp_path / "out.png").height == 600


def test_a_phones_200_megapixels(tmp_path):
    content = large(tmp_path / "photo.jpg", 12_240, 16_320)
    Image.fromarray(as_uint8(painting(256, 300))).save(tmp_path / "painting.png")
    pair = (content, tmp_path / "painting.png", "-o", tmp_path / "out.jpg")
    assert peak("stylize", *pair, "--size", 512, "--device", "cpu") < 1500
    assert read(tmp_path / "out.jpg").height == 512
    assert min(read(content).rgb.shape[1:]) == 12_240
    refused = subprocess.run(
        [
            sys.executable,
            "-m",
            "impasto",
            "stylize",
            *map(str, pair),
            "--max-pixels",
            "100000000",
        ],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert refused.returncode == 2
    assert "199756800" in refused.stderr.replace(",", "")


@pytest.mark.posix("Windows cannot send Ctrl-C to one process")
def test_kills_leave_whole_pictures_or_none(tmp_path):
    for number in range(12):
        Image.fromarray(as_uint8(photo(96, 128, number))).save(tmp_path / f"{number}.png")
    Image.fromarray(as_uint8(painting())).save(tmp_path / "painting.jpg")
    contents = [str(tmp_path / f"{number}.png") for number in range(12)]
    before = {path: Path(path).read_bytes() for path in contents}
    out = tmp_path / "out"
    command = [sys.executable, "-m", "impasto", "stylize", *contents]
    command += ["--style", str(tmp_path / "painting.jpg"), "-o", f"{out}/", "--device", "cpu"]
    rng = random.Random(0)
    for number in range(24):
        hard = number % 2
        process = subprocess.Popen([*command, "--skip-existing"], stderr=subprocess.DEVNULL)
        time.sleep(3 + 4 * rng.random())
        process.send_signal(signal.SIGKILL if hard else signal.SIGINT)
        process.wait(timeout=60)
        for path in out.glob("*.png") if out.exists() else ():
            if path.name[0] != ".":
                assert read_settings(path)["method"] == DEFAULT
        if number % 6 == 5:
            for path in out.glob("*.png"):
                path.unlink()
    subprocess.run([*command, "--skip-existing"], check=True, stderr=subprocess.DEVNULL)
    assert len(list(out.glob("[0-9]*.png"))) == 12
    assert {path: Path(path).read_bytes() for path in contents} == before


# The command line, with a checkpoint every half second.
OFTEN = """
import impasto.cli, impasto.methods.checkpoint
impasto.methods.checkpoint.EVERY = 0.5
impasto.cli.main()
"""


@pytest.mark.posix("Windows has no SIGKILL")
@pytest.mark.parametrize("more", [(), ("--tile", "160")], ids=["whole", "tiles"])
def test_killed_five_times_it_goes_on_to_the_same_picture(tmp_path, more):
    Image.fromarray(as_uint8(photo(240, 320))).save(tmp_path / "photo.png")
    Image.fromarray(as_uint8(painting())).save(tmp_path / "painting.png")
    command = [sys.executable, "-c", OFTEN, "stylize", "photo.png", "painting.png"]
    command += ["--method", "gatys", "--device", "cpu", "--sizes", "128,0", "--tolerance", "0"]
    command += ["--iterations", "40,80", *more]  # longer than the five kills take
    started = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    subprocess.run([*command, "-o", "whole.png"], check=True, **started)
    out, checkpoint = tmp_path / "out.png", tmp_path / "out.png.checkpoint"
    rng = random.Random(0)
    for _ in range(5):
        written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen([*command, "-o", "out.png"], **started)
        while process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns > written:
                break
            time.sleep(0.01)
        time.sleep(rng.random())  # in an iteration, or while the next one is written
        process.kill()
        _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert ("goes on from iteration" in said) == bool(written), said
        assert not out.exists()
    done = subprocess.run([*command, "-o", "out.png"], check=True, **started)
    assert "out.png.checkpoint: goes on from iteration" in done.stderr
    assert np.array_equal(Image.open(out), Image.open(tmp_path / "whole.png"))
    assert read_settings(out)["iterations_done"] == 120
    assert sorted(os.listdir(tmp_path)) == ["out.png", "painting.png", "photo.png", "whole.png"]


def test_a_folder_of_hundreds_in_constant_memory(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(200):
        Image.fromarray(as_uint8(photo(240, 320, number % 5))).save(folder / f"{number:03}.jpg")
    Image.fromarray(as_uint8(painting())).save(tmp_path / "painting.png")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(folder.iterdir())[:10]:
        os.link(path, few / path.name)
    style = ["--style", tmp_path / "painting.png", "--device", "cpu"]
    small = peak("stylize", few, *style, "-o", tmp_path / "a/")
    assert peak("stylize", folder, *style, "-o", tmp_path / "b/") < small + 100
    assert len(list((tmp_path / "b").iterdir())) == 200
