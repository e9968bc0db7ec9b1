"""Downloading, reading and writing files of weights."""

from __future__ import annotations

import dataclasses
import hashlib
import os
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
from impasto.backbones.records import WEIGHTS, WeightRecord
from impasto.backbones.weights import fetch, find
from impasto.errors import DownloadError, ImpastoError, InputError
from impasto.files import home

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
    with pytest.raises(ImpastoError) as caught:
        fetch(wanted)
    message = str(caught.value)
    assert "\n" not in message
    for part in (*says, wanted.address, str(home() / wanted.filename), "backbone='compact'"):
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
    with pytest.raises(DownloadError, match=f"has 5 bytes instead of {len(BODY)}, delete it"):
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
    refused(wanted, "not downloaded", "complete checksum", check)
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
    with pytest.raises(ImpastoError) as caught:
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
    with pytest.raises(DownloadError, match="in the way"):
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
    assert set(WEIGHTS) == vggs | resnets
    for name, known in WEIGHTS.items():
        kind = "robust" if known.kind == "robust" else known.convention
        assert name == known.name == f"{known.backbone}-{kind}"
        assert known.address.startswith("https://")
        assert known.address.endswith(known.filename)
        if known.sha256:
            assert f"-{known.sha256[:8]}." in known.filename
        assert known.licence


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_downloaded_is_known_to_the_last_bit(name: str) -> None:
    known = WEIGHTS[name]
    pinned = re.fullmatch("[0-9a-f]{64}", known.sha256 or "") is not None
    assert pinned == known.pinned == (known.convention == "torchvision" and known.kind != "robust")
    assert not pinned or known.size
    assert not pinned or not re.search("/(main|master|HEAD|latest)/", known.address)


def test_a_pickle_is_refused_before_it_is_downloaded(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    wanted = record(server, filename="net.pth")
    said = data.refused(lambda: fetch(wanted), "torch 2.10", ".safetensors", "backbone='compact'")
    assert "by hand" not in said
    assert server.requests == []
