"""Reading and writing files of tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import data
import pytest
import torch

from impasto import files, tensors
from impasto.errors import DiskError, InputError
from impasto.tensors import digest, load_tensors, read_header, save_tensors

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
    assert tensors._unpickles_safely()
    monkeypatch.setattr(torch, "__version__", "unknown")
    assert not tensors._unpickles_safely()


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
    with pytest.raises(InputError, match=r"net\.safetensors: cannot write it"):
        save_tensors(tmp_path / "file" / "net.safetensors", TENSORS, {})
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {})

    def fail(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(DiskError, match="Permission denied"):
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


def test_the_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {"kind": "toy", "format": "1"})
    assert read_header(path) == load_tensors(path)[1] == {"kind": "toy", "format": "1"}
    path.write_bytes(b"<html>no</html>")
    assert read_header(path) == read_header(tmp_path / "none") == read_header(tmp_path) == {}


def test_a_file_of_a_later_impasto_is_refused_and_another_s_word_is_not(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_tensors(path, TENSORS, {"format": "pt"})
    assert load_tensors(path)[1] == {"format": "pt"}
    save_tensors(path, TENSORS, {"format": "3"})
    data.refused(lambda: load_tensors(path), path, "later impasto", "update")


def test_a_digest_is_of_names_and_numbers() -> None:
    a = {"a": torch.tensor([1.0, 0.5, 0.25]), "b": torch.ones(2)}
    nearly = {"a": a["a"] * (1 + 1e-6), "b": a["b"]}
    assert digest(a.items()) == digest(dict(a).items())
    assert digest(a.items(), torch.float16) == digest(nearly.items(), torch.float16)
    others = [nearly, dict(reversed(a.items())), {"a": a["a"], "c": a["b"]}]
    found = {digest(a.items()), digest(a.items(), start="x"), *(digest(o.items()) for o in others)}
    assert len(found) == 5
    assert all(len(hexes) == 12 for hexes in found)
