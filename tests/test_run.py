from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from data import LINKS

from impasto.errors import DiskError, InputError, check_finite, check_share
from impasto.files import check_apart, path_of, paths_of, save
from impasto.training.checkpoint import save_state


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    save(tmp_path / "deep" / "a.txt", "naïve")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "naïve".encode()
    save_state(tmp_path / "a.pt", {"x": torch.ones(2)})
    assert torch.equal(torch.load(tmp_path / "a.pt", weights_only=True)["x"], torch.ones(2))

    def full(source, target):
        assert Path(source).read_bytes() == b"other"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DiskError, match=r"a\.txt: cannot write it \(No space left on device\)"):
        save(tmp_path / "deep" / "a.txt", "other")
    monkeypatch.undo()
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "naïve".encode()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_a_state_that_cannot_be_written(tmp_path, monkeypatch):
    written = torch.save

    class Full:
        def __init__(self, file):
            self.file, self.writes = file, 0

        def write(self, data):
            self.writes += 1
            if self.writes > 2:
                raise OSError(28, "No space left on device")
            return self.file.write(data)

        def flush(self):
            self.file.flush()

    monkeypatch.setattr(torch, "save", lambda state, file: written(state, Full(file)))
    with pytest.raises(DiskError, match="No space left on device.*free some space"):
        save_state(tmp_path / "a.pt", {"x": torch.ones(100_000)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("link", LINKS)
def test_outputs_are_told_from_inputs_by_what_they_are(tmp_path, link):
    (tmp_path / "in").write_text("kept", encoding="utf-8")
    (tmp_path / "other").write_text("kept", encoding="utf-8")
    link(tmp_path / "in", tmp_path / "out")
    for out in (tmp_path / "out", tmp_path / "." / "in"):
        with pytest.raises(InputError, match="would overwrite"):
            check_apart([tmp_path / "new", out], [None, tmp_path / "in"])
    check_apart([tmp_path / "new", tmp_path / "other"], [tmp_path / "in", tmp_path / "none"])


def test_paths():
    assert path_of("a", "x") == Path("a")
    assert paths_of(("a", Path("b")), "x") == [Path("a"), Path("b")]
    for wrong in (None, 3, b"a", ["a"]):
        with pytest.raises(InputError, match="x: give a path"):
            path_of(wrong, "x")
    for wrong in (None, "a", Path("a"), [3]):
        with pytest.raises(InputError, match="x: give a"):
            paths_of(wrong, "x")


def test_numbers_that_are_none():
    check_finite("x", 1e300)
    for value in (math.nan, math.inf, -math.inf):
        for check in (check_finite, check_share):
            with pytest.raises(InputError, match=rf"x is {value}: must be a finite number"):
                check("x", value)
