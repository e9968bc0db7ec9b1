"""Downloading, reading and writing files of weights."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import re
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import data
import pytest
import torch

from impasto.backbones import weights
from impasto.backbones.weights import (
    RECORDS,
    WeightRecord,
    fetch,
    find,
    home,
    load_tensors,
    save_tensors,
)
from impasto.errors import InputError

BODY = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves BODY: whole, or in the way that the path names."""

    daemon_threads = True
    requests: list[str]
    cache: Path
    partial: list[str]
    release: threading.Event


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unannounced":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.path in ("/whole", "/unannounced"):
            self.wfile.write(BODY)
            return
        self.wfile.write(BODY[: len(BODY) // 2])
        self.wfile.flush()
        deadline = time.monotonic() + 5
        while not self.server.partial and time.monotonic() < deadline:
            self.server.partial = [path.name for path in self.server.cache.glob(".*")]
            time.sleep(0.01)
        if self.path == "/interrupted":
            thread = threading.main_thread().ident
            assert thread is not None
            signal.pthread_kill(thread, signal.SIGINT)
        if self.path in ("/interrupted", "/stalled"):
            self.server.release.wait(5)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    made = Server(("127.0.0.1", 0), Handler)
    made.requests, made.partial, made.release = [], [], threading.Event()
    made.cache = tmp_path / "cache"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.release.set()
    made.shutdown()
    made.server_close()
    thread.join()


def record(
    server: Server,
    path: str = "/whole",
    size: int | None = len(BODY),
    sha256: str | None = DIGEST,
    filename: str = "net.safetensors",
) -> WeightRecord:
    address = f"http://127.0.0.1:{server.server_port}{path}"
    return WeightRecord("net", "vgg19", filename, address, size, sha256, "caffe", "none")


def refused(wanted: WeightRecord, *says: str) -> None:
    """Fetching fails with a message that says everything, and leaves no file."""
    with pytest.raises(InputError) as caught:
        fetch(wanted)
    message = str(caught.value)
    assert "\n" not in message
    for part in (*says, wanted.address, str(home() / wanted.filename), "--backbone compact"):
        assert part in message
    assert not home().is_dir() or list(home().iterdir()) == []


@pytest.mark.parametrize("sha256", [DIGEST, DIGEST.upper()])
@pytest.mark.parametrize(
    ("path", "size"), [("/whole", len(BODY)), ("/whole", None), ("/unannounced", None)]
)
def test_downloads_once(server: Server, path: str, size: int | None, sha256: str | None) -> None:
    wanted = record(server, path, size, sha256)
    assert find(wanted) is None
    assert fetch(wanted) == home() / "net.safetensors" == find(wanted)
    assert fetch(wanted).read_bytes() == BODY
    assert server.requests == [path]
    assert [file.name for file in home().iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(("terminal", "progress"), [(True, True), (True, False), (False, True)])
def test_bar_only_on_a_terminal(
    server: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    progress: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fetch(record(server), progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert bool(err) == (terminal and progress)


def test_nobody_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pwd")

    def nobody(_: object) -> None:
        raise KeyError("uid")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "IMPASTO_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="set IMPASTO_HOME"):
        home()


def test_a_bar_in_a_notebook(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("impasto.backbones.weights.in_notebook", lambda: True)
    fetch(record(server))
    out, err = capsys.readouterr()
    assert out == ""
    assert "net" in err
    assert "%" in err


def test_a_cached_file_of_another_size_is_refused_and_kept(server: Server) -> None:
    home().mkdir()
    (home() / "net.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=f"has 5 bytes instead of {len(BODY)}, delete it"):
        fetch(record(server))
    assert (home() / "net.safetensors").read_bytes() == b"short"
    assert server.requests == []


def test_http_error(server: Server) -> None:
    refused(record(server, "/missing"), "HTTP 404")


@pytest.mark.parametrize("size", [len(BODY), None])
def test_cut_off(server: Server, size: int | None) -> None:
    half, whole = len(BODY) // 2, len(BODY)
    refused(record(server, "/half", size), f"cut off after {half} of {whole} bytes")
    assert server.partial
    assert server.partial[0].endswith(".part")


def test_cut_off_by_a_server_that_announces_nothing(server: Server) -> None:
    wanted = record(server, "/unannounced", len(BODY) + 1)
    refused(wanted, f"cut off after {len(BODY)} of {len(BODY) + 1} bytes")
    refused(record(server, "/unannounced", len(BODY) - 1), "more than")


def test_stalled(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "TIMEOUT", 0.3)
    refused(record(server, "/stalled"), "cut off after", "timed out")


def test_wrong_checksum(server: Server) -> None:
    refused(record(server, sha256="0" * 64), "wrong checksum", DIGEST)


@pytest.mark.parametrize("sha256", [DIGEST[:8], None])
def test_what_has_no_whole_checksum_is_not_downloaded(server: Server, sha256: str | None) -> None:
    wanted = record(server, sha256=sha256)
    check = f"begins with {sha256}" if sha256 else "that you trust the file"
    refused(wanted, "not downloaded", "no whole checksum", check)
    assert server.requests == []
    home().mkdir()
    (home() / wanted.filename).write_bytes(BODY)  # put there by hand
    assert fetch(wanted) == home() / wanted.filename


def test_another_size_than_recorded(server: Server) -> None:
    refused(record(server, size=7), f"{len(BODY)} bytes instead of 7")


def test_full_disk(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = type("Usage", (), {"free": len(BODY) - 1})
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda path: usage)
    refused(record(server), f"{len(BODY)} bytes do not fit", str(home()))
    usage.free = len(BODY)
    fetch(record(server))


def test_no_network(server: Server) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/whole"
        wanted = dataclasses.replace(record(server), address=address)
        refused(wanted, "cannot reach the server", "refused")


@pytest.mark.parametrize("wrapped", [True, False])
def test_certificates_that_a_mac_lacks(
    server: Server, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    fault = ssl.SSLCertVerificationError(1, "unable to get local issuer certificate")
    fault.reason = "CERTIFICATE_VERIFY_FAILED"  # as OpenSSL's have

    def fail(*args: object, **options: object) -> None:
        raise urllib.error.URLError(fault) if wrapped else fault

    monkeypatch.setattr(weights.urllib.request, "urlopen", fail)
    with pytest.raises(InputError) as caught:
        fetch(record(server))
    assert "no network" not in str(caught.value)
    refused(record(server), "local issuer", "Install Certificates.command", "SSL_CERT_FILE")


def test_cache_below_a_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("IMPASTO_HOME", str(tmp_path / "file" / "cache"))
    refused(record(server), "cannot write to the cache folder")
    assert server.requests == []
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


@pytest.mark.posix("permissions of folders")
@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write")
def test_read_only_cache(server: Server) -> None:
    home().mkdir()
    home().chmod(0o500)
    refused(record(server), "cannot write to the cache folder", "Permission denied")
    assert server.requests == []


def test_a_folder_of_that_name(server: Server) -> None:
    (home() / "net.safetensors").mkdir(parents=True)
    with pytest.raises(InputError, match="in the way"):
        fetch(record(server))
    assert server.requests == []


def test_disk_that_fails_at_the_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.os, "fsync", fail)
    refused(record(server), "No space left on device")


@pytest.mark.posix("signals to a thread")
def test_interrupted(server: Server) -> None:
    # A process started in the background by a script ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(record(server, "/interrupted"))
            time.sleep(5)
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.partial  # there was something to remove
    assert list(home().iterdir()) == []


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_HOME", "~/elsewhere")
    assert home() == Path.home() / "elsewhere"
    monkeypatch.delenv("IMPASTO_HOME")
    assert "impasto" in str(home())


def test_records() -> None:
    vggs = {f"{vgg}-{family}" for vgg in ("vgg19", "vgg16") for family in ("caffe", "torchvision")}
    resnets = {f"{net}-{k}" for net in ("resnet50", "resnet18") for k in ("torchvision", "robust")}
    assert set(RECORDS) == vggs | resnets
    for name, known in RECORDS.items():
        kind = "robust" if known.kind == "robust" else known.convention
        assert name == known.name == f"{known.backbone}-{kind}"
        assert known.address.startswith("https://")
        assert known.address.endswith(known.filename)
        if known.sha256:
            assert f"-{known.sha256[:8]}." in known.filename
        assert known.licence


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_downloaded_is_known_to_the_last_bit(name: str) -> None:
    known = RECORDS[name]
    pinned = re.fullmatch("[0-9a-f]{64}", known.sha256 or "") is not None
    assert pinned == known.pinned == (known.convention == "torchvision" and known.kind != "robust")
    assert not pinned or known.size
    assert not pinned or not re.search("/(main|master|HEAD|latest)/", known.address)


OLD, NEW = ("2.6.0", "2.9.1+cu128", "2.10.0a0+git", "2.10.0rc2"), ("2.10.0+cpu", "2.13")


@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".CKPT"])
def test_pickles_are_refused_where_torch_may_run_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, suffix: str
) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save(TENSORS, path)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", None)
    said = data.refused(lambda: load_tensors(path), path, ".safetensors", "torch 2.10", version)
    assert "CVE-2026-24747" in said
    save_tensors(tmp_path / "net.safetensors", TENSORS, {})
    assert same(load_tensors(tmp_path / "net.safetensors")[0], TENSORS)


@pytest.mark.parametrize("version", [*NEW, "2.11.0a0+git1", "3.0.0"])
def test_pickles_are_read_by_a_mended_torch(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert weights._unpickles_safely()
    monkeypatch.setattr(torch, "__version__", "unknown")
    assert not weights._unpickles_safely()


def test_a_pickle_is_refused_before_it_is_downloaded(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", OLD[0])
    wanted = record(server, filename="net.pth")
    said = data.refused(lambda: fetch(wanted), "torch 2.10", ".safetensors", "--backbone compact")
    assert "by hand" not in said
    assert server.requests == []


def same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in wanted)


TENSORS = {
    "features.0.weight": torch.rand(4, 3, 3, 3),
    "features.0.bias": torch.nn.Parameter(torch.rand(4)),
}


@data.needs_pickles
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_loads_state_dicts(tmp_path: Path, wrapped: bool, zipped: bool) -> None:
    path = tmp_path / "net.pth"
    stored: Any = {"state_dict": TENSORS, "epoch": 3} if wrapped else TENSORS
    torch.save(stored, path, _use_new_zipfile_serialization=zipped)
    tensors, metadata = load_tensors(path)
    assert same(tensors, TENSORS)
    assert metadata == {}
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_saves_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.safetensors"
    base = torch.rand(3, 4)
    tensors = {"a": base, "b": base.T, "c": torch.nn.Parameter(torch.rand(2))}
    save_tensors(path, {"old": base}, {})
    save_tensors(path, tensors, {"convention": "caffe"})
    loaded, metadata = load_tensors(path)
    assert same(loaded, tensors)
    assert metadata == {"convention": "caffe"}
    assert not loaded["c"].requires_grad
    assert list(path.parent.iterdir()) == [path]


def test_saving_fails_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*net\.safetensors"):
        save_tensors(tmp_path / "file" / "net.safetensors", TENSORS, {})
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {})

    def fail(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(weights.os, "replace", fail)
    with pytest.raises(InputError, match="Permission denied"):
        save_tensors(path, {"other": torch.ones(1)}, {})
    assert same(load_tensors(path)[0], TENSORS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "net.safetensors"]


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@data.needs_pickles
@pytest.mark.parametrize("way", ["zip", "legacy", "pickle"])
def test_a_hostile_pickle_is_not_run(tmp_path: Path, way: str) -> None:
    path, mark = tmp_path / "net.pth", tmp_path / "mark"
    content = {"a": torch.ones(2), "b": Hostile(mark)}
    if way == "pickle":
        path.write_bytes(pickle.dumps(content["b"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "zip")
    with pytest.raises(InputError, match="never loaded") as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    if way == "pickle":  # the trap works where objects are loaded
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists()


@data.needs_pickles
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.ones(2), "no state dict"),
        ([torch.ones(2)], "no state dict"),
        ({}, "no state dict"),
        ({"a": {"b": torch.ones(2)}}, "'a' that is no tensor"),
        ({"a": torch.ones(2), "epoch": 3}, "'epoch' that is no tensor"),
        ({3: torch.ones(2)}, "3 that is no tensor"),
        (torch.nn.Linear(2, 2), "never loaded"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=says) as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [pytest.param(".pth", marks=data.needs_pickles), ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "folder", "missing"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"net{suffix}"
    save_tensors(path, TENSORS, {}) if suffix == ".safetensors" else torch.save(TENSORS, path)
    load_tensors(path)
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        kept = {"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"<html>no</html>"}
        path.write_bytes(kept[damage])
    with pytest.raises(InputError) as caught:
        load_tensors(path)
    message = str(caught.value)
    says = {"folder": "is a folder", "missing": "No such file", "empty": "is empty"}
    assert says.get(damage, "damaged") in message
    assert str(path) in message
    assert "\n" not in message


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"something")
    with pytest.raises(InputError, match=r"net\.onnx .*\.safetensors"):
        load_tensors(path)
