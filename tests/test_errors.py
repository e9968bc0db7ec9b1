"""Errors that a service can tell apart, and messages that name arguments as the reader does."""

from __future__ import annotations

import errno
import os
import pickle
import re
import tokenize
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data import painting, photo
from test_stored import CPU

import impasto
from impasto import (
    DeviceError,
    DiskError,
    DownloadError,
    ImpastoError,
    InputError,
    Interrupted,
    OutOfMemoryError,
    device,
    images,
    stylize,
)
from impasto.backbones.records import WEIGHTS
from impasto.backbones.weights import fetch
from impasto.errors import lacks_memory, quoted, spelled, typed_names
from impasto.files import save
from impasto.methods.adain import AdaIN
from impasto.methods.gatys import Gatys

ROOT = Path(impasto.__file__).parent
CODES = {
    ImpastoError: "error",
    InputError: "input",
    OutOfMemoryError: "memory",
    DiskError: "disk",
    DownloadError: "download",
    DeviceError: "device",
    Interrupted: "interrupted",
}


@pytest.fixture
def method(small_model):
    return AdaIN(small_model, **CPU)


def caught(call, kind=ImpastoError):
    with pytest.raises(kind) as error:
        call()
    assert type(error.value) is kind
    assert len(str(error.value).splitlines()) == 1
    return error.value


# Kinds -------------------------------------------------------------------------------------------


def test_the_codes_of_the_kinds_are_stable():
    assert {kind: kind.code for kind in CODES} == CODES
    for kind in CODES:
        assert issubclass(kind, ImpastoError)
    assert issubclass(InputError, ValueError)
    assert issubclass(OutOfMemoryError, MemoryError)
    assert issubclass(DiskError, OSError) and issubclass(DownloadError, OSError)
    for kind in set(CODES) - {ImpastoError, InputError}:
        assert not issubclass(kind, InputError)  # not the caller's fault


@pytest.mark.parametrize("kind", CODES)
def test_errors_travel_between_processes(kind):
    error = Interrupted(7) if kind is Interrupted else kind("a line", option="size")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.option) == (kind, str(error), error.option)
    if kind is Interrupted:
        assert (again.steps, str(again)) == (7, "interrupted after step 7, with a checkpoint")
    else:
        assert (str(error), error.option) == ("a line", "size")
    assert lacks_memory(error) == (kind is OutOfMemoryError)


def test_no_memory(method, monkeypatch):
    for place in ("impasto.methods.feedforward", "impasto.images.picture"):
        with monkeypatch.context() as scarce:
            scarce.setattr("impasto.device.memory.available_memory", lambda *device: 1 << 12)
            scarce.setattr("impasto.images.picture.available_memory", lambda: 1 << 12)
            error = caught(lambda: stylize(photo(), painting(), method), OutOfMemoryError)
            assert "memory" in str(error), place
    monkeypatch.setattr("impasto.device.memory.available_memory", lambda *device: 1 << 16)
    error = caught(lambda: method(photo(), method.prepare([painting()])), OutOfMemoryError)
    assert error.option == "size"
    assert re.search(r"use size=\d+ or smaller", str(error))


@pytest.mark.posix("permissions")
def test_a_disk_that_is_full_or_refuses(method, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    result = stylize(photo(), painting(), method)
    monkeypatch.setattr(os, "fsync", full)
    for call in (lambda: result.save(tmp_path / "a.png"), lambda: save(tmp_path / "a", b"")):
        assert "No space left" in str(caught(call, DiskError))
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert "cannot write" in str(caught(lambda: result.save(tmp_path / "a.png"), DiskError))

    def refuses(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "stat", refuses)
    assert "Permission" in str(caught(lambda: images.read("a.png"), DiskError))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_missing_is_input(tmp_path):
    caught(lambda: images.read(tmp_path / "a.png"), InputError)
    caught(lambda: save(tmp_path / ("a" * 300), b""), InputError)
    caught(lambda: impasto.load("adain", model=tmp_path / "a.safetensors"), InputError)


def test_a_download_that_fails():
    record = next(record for record in WEIGHTS.values() if record.pinned)
    away = replace(record, address="http://127.0.0.1:9/a", filename="a.safetensors")
    error = caught(lambda: fetch(away), DownloadError)
    assert "cannot reach the server" in str(error)
    assert "backbone='compact'" in str(error)


def test_a_cache_without_room_is_the_disks_fault(monkeypatch, tmp_path):
    record = next(record for record in WEIGHTS.values() if record.pinned)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "file"))
    caught(lambda: fetch(replace(record, filename="a.safetensors")), DiskError)


def test_a_device_that_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    error = caught(lambda: impasto.load("adain", device="cuda"), DeviceError)
    assert error.option == "device"
    assert "use device='cpu' or auto" in str(error)
    assert caught(lambda: device.choose_device("tpu"), InputError).option == "device"


# Which argument ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"strength": -1}, "strength"),
        ({"size": 8}, "size"),
        ({"size": "large"}, "size"),
        ({"style_scale": 0}, "style_scale"),
        ({"color": "sepia"}, "color"),
        ({"color_variant": 3}, "color_variant"),
        ({"match_luminance": True}, "match_luminance"),
        ({"background": "no colour"}, "background"),
        ({"weights": [-1]}, "weights"),
        ({"max_pixels": 100}, "max_pixels"),
        ({"pooling": "max"}, "pooling"),
        ({"precision": "float8"}, "precision"),
        ({"method": "monet"}, "method"),
        ({"method": "gatys", "sizes": [999]}, "sizes"),
        ({"method": "gatys", "betas": [2, 2]}, "betas"),
        ({"method": "gatys", "backbone": "vgg"}, "backbone"),
        ({"method": "gatys", "style_layers": ["relu9_1"]}, "style_layers"),
    ],
)
def test_the_argument_at_fault_is_named(options, option):
    error = caught(lambda: stylize(photo(), painting(), **{**CPU, **options}), InputError)
    assert (error.code, error.option) == ("input", option)


def test_none_where_no_argument_is_at_fault(method):
    assert caught(lambda: stylize(b"", painting(), method), InputError).option is None


# Spelling ----------------------------------------------------------------------------------------


def test_an_argument_is_spelled_for_its_reader():
    for python, typed, *given in (
        ("style_scale", "--style-scale", "style_scale"),
        ("size=640", "--size 640", "size", 640),
        ("devices=1", "--devices 1", "devices", 1),
        ("resume=True", "--resume", "resume", True),
        ("backbone='compact'", "--backbone compact", "backbone", "compact"),
        ("paintings=DIR", "--paintings DIR", "paintings", "DIR"),
        ("style_layers=['a', 'b']", "--style-layers a,b", "style_layers", ["a", "b"]),
        ("vary={'lr': [0.1, 1]}", "--vary lr=0.1,1", "vary", {"lr": [0.1, 1]}),
        ("changes", "--set", "changes", None, "set"),
    ):
        assert spelled(*given) == python
        with typed_names():
            assert spelled(*given) == typed
    assert quoted("size") == "'size'"
    with typed_names():
        assert quoted("size") == "--size"


TYPED = {
    "size": (["--size", "8"], "--size is 8"),
    "strength": (["--strength", "-1"], "--strength is -1"),
    "style_scale": (["--style-scale", "0"], "--style-scale is 0"),
    "match_luminance": (["--match-luminance"], "--match-luminance goes with --color luminance"),
    "pooling": (["--pooling", "max"], "no option --pooling"),
    "backbone_weights": (
        ["-m", "gatys", "--encoder-weights", "a"],
        "--encoder-weights is --backbone-weights now",
    ),
    "style_layers": (
        ["-m", "gatys", "--style-layers", "relu1_1,relu9_1"],
        "--style-layers relu1_1",
    ),
    "precision": (["-m", "artflow", "--precision", "bfloat16"], "use --precision float32"),
}
GIVEN = {
    "size": ({"size": 8}, "size is 8"),
    "strength": ({"strength": -1}, "strength is -1"),
    "style_scale": ({"style_scale": 0}, "style_scale is 0"),
    "match_luminance": ({"match_luminance": True}, "match_luminance goes with color='luminance'"),
    "pooling": ({"pooling": "max"}, "no option 'pooling'"),
    "backbone_weights": (
        {"method": "gatys", "weights_file": "a", "backbone_weights": "b"},
        "leave one of them out",
    ),
    "style_layers": (
        {"method": "gatys", "style_layers": ["relu1_1", "relu9_1"]},
        "style_layers=['relu1_1']",
    ),
    "precision": ({"method": "artflow", "precision": "bfloat16"}, "use precision='float32'"),
}


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("option", TYPED)
def test_messages_name_options_as_they_are_typed_and_given(option, run):
    arguments, words = TYPED[option]
    code, _, said = run("stylize", "photo.png", "painting.png", *arguments)
    assert code == 2
    assert words in said
    options, words = GIVEN[option]
    message = str(caught(lambda: stylize(photo(), painting(), **options), InputError))
    assert words in message
    assert "--" not in message


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("kind", [DiskError, OutOfMemoryError, DownloadError, DeviceError])
def test_every_kind_ends_a_command_with_a_line_and_code_2(kind, run, monkeypatch):
    def fail(*args, **options):
        raise kind(f"a fault of {spelled('style_scale')}")

    monkeypatch.setattr("impasto.refinement.load", fail)
    code, _, said = run("stylize", "photo.png", "painting.png")
    assert (code, said) == (2, "impasto: a fault of --style-scale\n")


def test_warnings_name_options_too(small_net):
    diverging = Gatys(small_net, lr=1e30, optimizer="adam", iterations=40, sizes=[0], **CPU)
    with pytest.warns(UserWarning, match="use a smaller lr"):
        stylize(photo(), painting(), diverging)


def test_no_message_of_the_library_is_written_with_dashes():
    """Flags are for the command line; commands, in backquotes, and what is typed, may stand."""
    typed_text = {"recipes.py", "train.py"}  # recorded commands, and what --set takes
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if "cli" in path.parts or path.name in typed_text:
            continue
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                text = token.string if token.type == tokenize.STRING else ""
                text = text if not re.match(r'\w*"""', text) else ""
                if re.search(r"--[a-z]", re.sub(r"`[^`]*`", "", text)):
                    found.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {text}")
    assert not [line for line in found if '"--vary"' not in line]  # a parameter of parse()
