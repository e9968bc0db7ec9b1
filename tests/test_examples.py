"""What stands in examples/ runs."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import io
import json
import re
import runpy
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from data import painting, photo
from PIL import Image

import impasto
from impasto.images import encode, read, write

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="needs the repository")


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Run an example as a program in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(name, *args):
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as stop:
            return stop.code or 0
        return 0

    return call


def load(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test_and_says_how_it_is_started():
    here = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert path.stem in here
        assert f"python examples/{path.name}" in path.read_text(encoding="utf-8")


def test_the_readme_and_the_docs_link_to_them():
    root = EXAMPLES.parent
    assert "](examples/)" in (root / "README.md").read_text(encoding="utf-8")


# gatys_minimal.py -------------------------------------------------------------------------------


def test_gatys_minimal_is_short():
    assert len((EXAMPLES / "gatys_minimal.py").read_text(encoding="utf-8").splitlines()) <= 90


def test_gatys_minimal_paints(start, desk):
    words = ("photo.png", "painting.png", "out.png", "--size", 32, "--iterations", 3)
    assert start("gatys_minimal.py", *words) == 0
    assert read("out.png").rgb.shape == (3, 32, 40)


def test_gatys_minimal_descends():
    example, losses = load("gatys_minimal"), []
    pictures = photo(48, 64)[None], painting(48, 64)[None]
    result = example.style_transfer(*pictures, 25, lambda step, steps, loss: losses.append(loss))
    assert losses[-1] < 0.2 * losses[0]
    assert result.shape == (1, 3, 48, 64)
    assert float(result.min()) >= 0 and float(result.max()) <= 1


# batch.py ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("a.png", "a.jpg", "b.png")):
        (tmp_path / "photos").mkdir(exist_ok=True)
        write(tmp_path / "photos" / name, photo(32, 40, seed=number))
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_batch_paints_a_folder_but_what_is_broken(start, folder, capsys):
    words = ("batch.py", "photos", "monet", "painted", "--size", 24)
    assert start(*words) == 1
    names = {path.name for path in Path("painted").iterdir()}
    assert names == {"a.png.png", "a.jpg.png", "b.png.png"}
    assert "broken.png" in capsys.readouterr().err
    assert read("painted/b.png.png").rgb.shape[-2] == 24


def test_batch_goes_on_where_it_ended(start, folder):
    words = ("batch.py", "photos", "monet", "painted", "--size", 24)
    start(*words)
    kept = Path("painted/a.jpg.png")
    kept.write_bytes(b"what is there is left")
    Path("painted/b.png.png").unlink()
    (folder / "broken.png").unlink()
    assert start(*words) == 0
    assert kept.read_bytes() == b"what is there is left"
    assert Path("painted/b.png.png").exists()


def test_batch_that_is_interrupted_keeps_what_is_done(start, folder, monkeypatch):
    session, done = impasto.Session.__call__, []

    def interrupted(self, *args, **keywords):
        if done:
            raise KeyboardInterrupt
        done.append(args)
        return session(self, *args, **keywords)

    monkeypatch.setattr(impasto.Session, "__call__", interrupted)
    assert "goes on" in start("batch.py", "photos", "monet", "painted", "--size", 24)
    assert [path.name for path in Path("painted").iterdir()] == ["a.jpg.png"]


def test_batch_ends_where_nothing_can_be_painted(start, folder, capsys):
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["batch.py", "photos", "monet", "photos"])
        runpy.run_path(str(EXAMPLES / "batch.py"), run_name="__main__")
    assert "another folder" in capsys.readouterr().err
    assert "nobody.png" in str(start("batch.py", "photos", "nobody.png", "painted"))
    assert not Path("painted").exists()


# style_transfer.ipynb ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells():
    """Kind and text of every cell of the notebook."""
    notebook = json.loads((EXAMPLES / "style_transfer.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count"), "clear the outputs"
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def test_the_notebook_explains_with_the_articles_equations(cells):
    text = "\n".join(text for kind, text in cells if kind == "markdown")
    found = re.findall(r"\\qquad \\text\{\(Eq\. (\d)\)\}", text)
    assert found == ["1", "3", "4", "5", "7"]
    assert text.count("$$") % 2 == 0


def test_the_notebook_runs(cells, capsys):
    """Cell after cell, as a notebook runs them: what the last line returns is shown."""
    pytest.importorskip("skimage")
    given, shown = {"__name__": "__main__"}, []
    for number, (kind, text) in enumerate(cells):
        if kind != "code":
            continue
        # Smaller than a reader wants to see it, to be quick.
        code = ast.parse(text.replace("SIZE = (128, 192)", "SIZE = (64, 96)"))
        last = code.body.pop() if isinstance(code.body[-1], ast.Expr) else None
        exec(compile(code, f"cell {number}", "exec"), given)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), given))
    assert given["SIZE"] == (64, 96)
    pictures = [each for each in shown if isinstance(each, Image.Image)]
    assert len(pictures) == 6
    assert isinstance(shown[-1], impasto.Result)
    falls = re.findall(r"([\d.]+) at first, +([\d.]+) at last", capsys.readouterr().out)
    assert len(falls) == 5
    assert all(float(last) < 0.3 * float(first) for first, last in falls)


# fastapi_service.py -----------------------------------------------------------------------------


@pytest.fixture
def service():
    for needed in ("fastapi", "httpx", "python_multipart", "uvicorn"):
        pytest.importorskip(needed, reason="needs the extra `examples`, and httpx for its test")
    module = load("fastapi_service")
    module.SIZE = 24
    return module


@pytest.fixture
def opened(service):
    """A client of the service with these options, while it runs."""
    with warnings.catch_warnings():  # the newest prefer another client than httpx
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient

    def call(method="ghiasi", **options):
        return TestClient(service.create_app(method, ("monet",), device="cpu", **options))

    return call


@pytest.fixture
def client(opened):
    with opened() as client:
        yield client


def sent(client, picture=None, style="monet"):
    data = encode(".png", photo(32, 40)) if picture is None else picture
    return client.post("/pictures", files={"photo": data}, data={"style": style})


def waited_for(client, id, *states):
    for _ in range(600):
        answer = client.get(f"/pictures/{id}").json()
        if answer["state"] in states:
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


def test_the_service_paints(client):
    answer = sent(client)
    assert answer.status_code == 202
    id = answer.json()["id"]
    assert waited_for(client, id, "done") == {"id": id, "state": "done", "share": 1}
    image = client.get(f"/pictures/{id}/image")
    assert image.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(image.content)) as made:
        assert made.size == (30, 24)
        assert not made.getexif()


@pytest.mark.parametrize(
    ("picture", "style", "words"),
    [
        (b"no picture", "monet", "picture"),
        (b"photo.png", "monet", "picture"),  # a name is not opened
        (None, "../monet.style", "unknown: use one of monet"),
        (encode(".png", torch.zeros(3, 4, 4)), "monet", "pixels"),
    ],
)
def test_the_service_refuses_what_is_wrong(client, picture, style, words):
    answer = sent(client, picture, style)
    assert answer.status_code == 422
    assert answer.json()["code"] == "input"
    assert re.search(words, answer.json()["message"])


def test_the_service_has_limits(client, service, monkeypatch):
    monkeypatch.setattr(service, "MOST_BYTES", 1000)
    assert sent(client, b"." * 2000).status_code == 413
    assert client.post("/pictures", content=iter([b"unannounced"])).status_code == 411
    monkeypatch.setattr(service, "MOST_BYTES", 20_000_000)
    monkeypatch.setattr(service, "MOST_WAITING", 0)
    answer = sent(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert client.get("/pictures/unknown").status_code == 404


def test_the_service_counts_what_it_still_reads(service, monkeypatch):
    httpx, read_slowly = pytest.importorskip("httpx"), impasto.Session.read
    monkeypatch.setattr(service, "MOST_WAITING", 2)
    monkeypatch.setattr(
        impasto.Session, "read", lambda *args: time.sleep(0.3) or read_slowly(*args)
    )
    app = service.create_app("ghiasi", ("monet",), device="cpu")

    async def codes(*pictures):
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            sending = [
                client.post("/pictures", files={"photo": data}, data={"style": "monet"})
                for data in pictures
            ]
            return sorted(answer.status_code for answer in await asyncio.gather(*sending))

    # What is refused leaves its place.
    assert asyncio.run(codes(*[b"no picture"] * 3)) == [422, 422, 503]
    app = service.create_app("ghiasi", ("monet",), device="cpu")
    assert asyncio.run(codes(*[encode(".png", photo(32, 40))] * 4)) == [202, 202, 503, 503]


def test_the_service_refuses_many_pixels_before_it_decodes_them(opened, service, monkeypatch):
    monkeypatch.setattr(service, "MOST_PIXELS", 1000)
    with opened() as client:
        answer = sent(client)
    assert answer.status_code == 422
    assert "1000" in answer.json()["message"]


def test_the_service_keeps_the_latest(client, service, monkeypatch):
    monkeypatch.setattr(service, "MOST_KEPT", 2)
    ids = []
    for _ in range(3):
        ids.append(sent(client).json()["id"])
        waited_for(client, ids[-1], "done")
    assert [client.get(f"/pictures/{id}").status_code for id in ids] == [404, 200, 200]


def test_the_service_cancels_what_runs_and_what_waits(opened):
    with opened("gatys", iterations=100_000, tolerance=0) as client:
        first, second, third = (sent(client).json()["id"] for _ in range(3))
        assert waited_for(client, first, "running")["share"] < 1
        assert waited_for(client, second, "queued")["share"] == 0
        assert client.get(f"/pictures/{first}/image").status_code == 409
        for id in (first, second):
            assert client.delete(f"/pictures/{id}").status_code == 204
            assert client.get(f"/pictures/{id}").json()["state"] == "cancelled"
        waited_for(client, third, "running")  # since the first has ended
    assert not [each for each in threading.enumerate() if each.name.startswith("painter")]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (impasto.OutOfMemoryError("too large", option="size"), 503, "memory"),
        (impasto.DiskError("full"), 507, "disk"),
        (RuntimeError("secret"), 500, "error"),
    ],
)
def test_the_service_tells_faults_apart(client, monkeypatch, fault, status, code):
    def fails(*args):
        raise fault

    monkeypatch.setattr(impasto.Session, "__call__", fails)
    id = sent(client).json()["id"]
    waited_for(client, id, "failed")
    answer = client.get(f"/pictures/{id}/image")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "secret" not in answer.text
