"""`impasto doctor` tells what there is, and also what is broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from standins import Card, playing

from impasto import device, doctor
from impasto.backbones.records import WEIGHTS
from impasto.errors import RUNTIME

LABELS = ["impasto", "Python", "system", "torch", "CPU", "GPU", "device", "precision", "runtime"]
LABELS += ["libraries", "pictures", "models", "cache", "missing"]


def rows() -> dict[str, str]:
    return dict(doctor.report())


@pytest.fixture
def no_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("shutil.which", lambda name, *rest: None)


def test_every_label_is_there_and_says_something(no_card):
    report = doctor.report()
    assert [label for label, _ in report] == LABELS
    assert all(text and "unknown" not in text and "\n" not in text for _, text in report)
    assert len(report) <= 16


def test_the_command_prints_them_in_columns(run, no_card):
    code, out, said = run("doctor")
    assert code == 0 and said == ""
    lines = out.splitlines()
    assert len(lines) == len(LABELS)  # not broken where it is no terminal
    assert "\x1b" not in out
    assert all(line[10] == " " != line[11] for line in lines)


def test_lines_are_broken_for_a_terminal_and_addresses_are_not():
    address = "https://example.org/" + "a-long-name/" * 8
    laid = doctor.laid_out([("short", "words " * 40 + address), ("a longer one", "text")], 80)
    lines = laid.splitlines()
    assert all(len(line) <= 80 for line in lines if address not in line)
    assert sum(address in line for line in lines) == 1
    assert all(line[:14].strip() in ("short", "a longer one", "") for line in lines)


def test_versions(no_card):
    told = rows()
    assert torch.__version__ in told["torch"]
    for name in ("numpy", "safetensors", "typer", "rich"):
        assert re.search(rf"{name} \d", told["libraries"])
    assert re.match(r"Pillow \d.*; (no )?AVIF; (no )?HEIC", told["pictures"])
    assert "11 networks" in told["models"]


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ({"cuda": "12.6", "hip": None}, "built for CUDA 12.6"),
        ({"cuda": None, "hip": "6.3"}, "built for ROCm 6.3"),
        ({"cuda": None, "hip": None}, "built without CUDA"),
    ],
)
def test_what_torch_was_built_for(monkeypatch, no_card, versions, says):
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    for name, value in versions.items():
        monkeypatch.setattr(torch.version, name, value)
    assert says in rows()["torch"]


# Broken parts ----------------------------------------------------------------------------------


def in_a_process(folder: Path, *paths: Path) -> dict[str, str]:
    """The report of a new process, in which ``paths`` come first."""
    path = os.pathsep.join(map(str, [*paths, *sys.path]))
    done = subprocess.run(
        [sys.executable, "-m", "impasto", "doctor"],
        check=False,
        capture_output=True,
        encoding="utf-8",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def fake(folder: Path, name: str, code: str) -> Path:
    package = folder / "fake" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code, encoding="utf-8")
    return package.parent


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise OSError(126, 'The specified module could not be found')", "OSError: The specified"),
        ("e = OSError(126, 'no module')\ne.winerror = 126\nraise e", RUNTIME),
        ("raise ImportError('DLL load failed while importing _C')", RUNTIME),
        ("", "AttributeError"),
        ("raise SystemError('two\\nlines')", "SystemError: two lines"),
    ],
)
def test_torch_that_cannot_be_imported_is_told_and_the_rest_too(tmp_path, code, says):
    told = in_a_process(tmp_path, fake(tmp_path, "torch", code))
    assert says in told["torch"]
    assert list(told) == LABELS
    assert "GB are free" in told["CPU"]
    assert told["device"] == "none without torch"
    assert "11 networks" in told["models"]
    assert "Pillow" in told["pictures"]


def test_other_broken_libraries_are_told(tmp_path):
    place = fake(tmp_path, "torch", "raise OSError")  # which would take its time
    for name in ("numpy", "PIL", "pillow_heif", "psutil"):
        fake(tmp_path, name, f"raise ImportError('{name} was built for another Python')")
    told = in_a_process(tmp_path, place)
    assert "numpy is broken (ImportError: numpy was built" in told["libraries"]
    assert "typer" in told["libraries"]
    assert "PIL was built" in told["pictures"]
    assert "psutil was built" in told["CPU"]


def test_what_is_not_installed_is_told_with_the_command(monkeypatch, no_card):
    there = doctor.find_spec
    absent = {"pillow_heif", "skimage", "lightning_fabric"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in absent else there(name))
    told = rows()
    assert "no HEIC" in told["pictures"]
    for extra, modules in {
        "heic": "pillow_heif",
        "photos": "skimage",
        "train": "lightning_fabric",
        "study": "skimage",
    }.items():
        assert f'{extra} ({modules}): pip install "impasto[{extra}]"' in told["missing"]


def test_every_extra_is_looked_for():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    found, known = {}, {"scikit-image": "skimage"}
    for extra, listed in re.findall(r"^(\w+) = \[(.*)\]$", table, re.MULTILINE):
        names = re.findall(r'"([\w-]+)(?:\[|>|"|=)', listed)
        if extra not in ("docs", "test", "dev", "examples"):  # those of the repository
            found[extra] = tuple(known.get(name, name.replace("-", "_")) for name in names)
    assert found == doctor.EXTRAS


# Devices ---------------------------------------------------------------------------------------


def test_a_card_that_computes(monkeypatch):
    with playing(Card("cuda", memory=8 * 2**30, capability=(8, 6)), monkeypatch):
        told = rows()
    assert told["cuda:0"] == ("a stand-in, capability 8.6, bfloat16; 8.0 of 8.0 GB are free")
    assert told["device"] == "cuda by auto: the first card that this torch can use"
    assert told["precision"].startswith("bfloat16 by auto: the card multiplies it natively")
    assert "GPU" not in told


def test_a_card_without_bfloat16(monkeypatch):
    with playing(Card("cuda", capability=(7, 5)), monkeypatch):
        told = rows()
    assert "no fast bfloat16" in told["cuda:0"]
    assert told["precision"] == "float32 by auto: fast bfloat16 needs capability 8.0"


def test_an_old_card_is_told_with_the_reason(monkeypatch, recwarn):
    card = Card("cuda", capability=(6, 1), kernels=("sm_75", "sm_80"))
    with playing(card, monkeypatch):
        told = rows()
    assert told["cuda:0"].startswith("not used: a stand-in has capability 6.1, and torch")
    assert "kernels for 7.5, 8.0" in told["cuda:0"]
    assert told["device"] == "cpu by auto: this torch has no kernels for the cards above"
    assert not recwarn.list


def test_a_card_that_fails_is_told_beside_one_that_does_not(monkeypatch):
    with playing(Card("cuda"), monkeypatch), monkeypatch.context() as patch:
        honest = torch.cuda.mem_get_info

        def ask(where):
            if where.index == 1:
                raise RuntimeError("CUDA error: all CUDA-capable devices are busy")
            return honest(where)

        patch.setattr(torch.cuda, "device_count", lambda: 2)
        patch.setattr(torch.cuda, "mem_get_info", ask)
        told = rows()
    assert "GB are free" in told["cuda:0"]
    assert told["cuda:1"] == "unknown: RuntimeError: CUDA error: all CUDA-capable devices are busy"


def test_apples_gpu(monkeypatch):
    with playing(Card("mps", memory=2**33), monkeypatch):
        told = rows()
    assert re.match(r"Apple's GPU, (no )?bfloat16; \d\.\d of 8\.0 GB are free", told["mps"])
    assert told["device"] == "mps by auto: Apple's GPU is available"
    assert told["precision"].startswith("float32 by auto")


def test_a_card_beside_a_torch_without_cuda(monkeypatch, no_card):
    monkeypatch.setattr("shutil.which", lambda name, *rest: f"/usr/bin/{name}")
    monkeypatch.setattr(device.choice.sys, "platform", "win32")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    told = rows()
    assert "was built without CUDA: a build with CUDA is at https://pytorch.org" in told["GPU"]
    assert told["device"].startswith("cpu by auto")


def test_why_cuda_does_not_start(monkeypatch, no_card):
    def is_available():
        import warnings

        warnings.warn(
            "CUDA initialization: The NVIDIA driver is too old (found version 11040). "
            "(Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:109.)",
            stacklevel=1,
        )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    told = rows()["GPU"]
    assert told.count("The NVIDIA driver is too old (found version 11040)") == 1
    assert "Triggered" not in told
    assert "CUDA_VISIBLE_DEVICES is ''" in told


@pytest.mark.parametrize("units", [[], ["AMX", "AVX512-BF16"]])
def test_why_the_cpu_takes_its_precision(monkeypatch, no_card, units):
    for module in (device, device.choice):
        monkeypatch.setattr(module, "bfloat16_units", lambda: units)
    told = rows()
    if units:
        assert "bfloat16 by auto: the CPU multiplies it natively (AMX, AVX512" in told["precision"]
        assert "AMX, AVX512-BF16;" in told["CPU"]
    else:
        assert told["precision"] == "float32 by auto: the CPU has neither AMX nor AVX512-BF16"


# Files -----------------------------------------------------------------------------------------


def test_the_cache_is_looked_at_and_not_made(tmp_path, no_card):
    place = doctor._without_home(str(tmp_path / "home"))
    state = "does not exist yet, can be created; no downloads"
    assert rows()["cache"] == f"{place}, by IMPASTO_HOME: {state}"
    assert list(tmp_path.iterdir()) == []


def test_what_was_downloaded(tmp_path, no_card):
    record = WEIGHTS["vgg19-torchvision"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / record.filename).write_bytes(bytes(1_200_000))
    (tmp_path / "home" / "unit-means-vgg19.safetensors").write_bytes(b"kept")
    told = rows()["cache"]
    assert told.endswith(f": writable; {record.filename} (1.2 MB)")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, no_card):
    (tmp_path / "file").write_text("in the way", encoding="ascii")
    for place in ("file", "file/below"):
        monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / place))
        assert re.search("cannot be (written|created)", rows()["cache"])
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor.os, "access", lambda *given: False)
    assert "cannot be written: set IMPASTO_HOME to another folder" in rows()["cache"]
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "home" / "new"))
    assert "does not exist yet, cannot be created in" in rows()["cache"]


def test_the_home_folder_is_not_named(tmp_path, monkeypatch, no_card):
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "impasto" / "doctor.py"))
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    told = rows()
    assert str(tmp_path) not in " ".join(told.values())
    assert told["cache"].startswith(f"~{os.sep}home, by IMPASTO_HOME")
    assert f"none in ~{os.sep}impasto{os.sep}models" in told["models"]


@pytest.mark.parametrize(
    ("home", "text", "told"),
    [
        ("/home/al", "in /home/al/x and '/home/al'", "in ~/x and '~'"),
        ("/home/al", "/home/alice/x /home/al.old /mnt/home/al/x", None),
        ("/", "/usr/lib", None),
        ("~", "~/x", None),
    ],
)
def test_only_the_home_folder_is_shortened(monkeypatch, home, text, told):
    monkeypatch.setattr(doctor.os.path, "expanduser", lambda path: home)
    assert doctor._without_home(text) == (told or text)


def test_a_home_folder_of_windows(monkeypatch):
    monkeypatch.setattr(doctor.os.path, "expanduser", lambda path: r"C:\Users\Al")
    monkeypatch.setattr(doctor.os.path, "realpath", lambda path: path)
    monkeypatch.setattr(doctor.os.path, "isabs", lambda path: True)
    monkeypatch.setattr(doctor.sys, "platform", "win32")
    text = r"c:\users\al\x, C:/Users/Al/x, 'C:\\Users\\Al\\x', C:\Users\Alma"
    assert doctor._without_home(text) == r"~\x, ~/x, '~\\x', C:\Users\Alma"
