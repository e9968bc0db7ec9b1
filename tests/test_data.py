from __future__ import annotations

import dataclasses
import itertools
import signal
from pathlib import Path

import psutil
import pytest
import torch
from data import painting, photo

from impasto.errors import InputError
from impasto.images import write
from impasto.training.crops import DataConfig, random_crop
from impasto.training.sets import PictureSet
from impasto.training.stream import Pairs, Stream, seed_of

CONFIG = DataConfig(size=24, short_side=40, workers=0)


@pytest.fixture
def folders(tmp_path):
    for i in range(24):
        write(tmp_path / "photos" / f"{i}.png", photo(40, 50 + i, seed=i))
        write(tmp_path / "paintings" / f"{i}.png", painting(60, 50, seed=i))
    return tmp_path / "photos", tmp_path / "paintings"


def pairs(folders, config=CONFIG, seed=0) -> Pairs:
    sets = [PictureSet([f], config.short_side, config.validation, test=0.1) for f in folders]
    return Pairs(*sets, config, seed)


def batches(stream, count):
    return list(itertools.islice(stream, count))


def test_three_splits_by_a_stable_hash(folders):
    one = PictureSet([folders[0]], 40, 0.2, test=0.1)
    assert len(one.train) + len(one.validation) + len(one.test) == 24
    assert min(len(one.train), len(one.validation), len(one.test)) > 0
    # Without a test share, validation is the same pictures.
    two = PictureSet([folders[0]], 40, 0.2)
    assert all(map(torch.equal, one.validation, two.validation))
    (folders[0] / "0.png").unlink()
    fewer = PictureSet([folders[0]], 40, 0.2, test=0.1)
    assert len(fewer.train) + len(fewer.validation) + len(fewer.test) == 23


def test_too_few_pictures_are_refused(folders):
    with pytest.raises(InputError, match=r"only \d+ pictures to train on \(40 are needed\)"):
        PictureSet([folders[0]], 40, minimum=40)


def test_beyond_the_memory_pictures_are_decoded_when_drawn(folders):
    kept = PictureSet([folders[0]], 40)
    drawn = PictureSet([folders[0]], 40, memory=2e-5)  # GB
    assert sum(isinstance(item, torch.Tensor) for item in drawn.train.items) == 4
    assert all(map(torch.equal, kept.train, drawn.train))
    assert torch.equal(drawn.train[20:][-1], kept.train[-1:][0])


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_broken_files_are_skipped_counted_and_named_once(folders, memory):
    (folders[0] / "3.png").write_bytes((folders[0] / "3.png").read_bytes()[:300])
    (folders[0] / "5.jpg").write_bytes(b"\xff\xd8 nothing")
    named: list[str] = []
    pictures = PictureSet([folders[0]], 40, warn=named.append, memory=memory)
    for _ in range(2):
        assert all(picture.shape[1] == 40 for picture in pictures.train)
    assert pictures.skipped == 2
    assert len(named) == 2
    assert "3.png" in named[0]
    assert "5.jpg" in named[1]


def test_nothing_left_to_read(folders):
    pictures = PictureSet([folders[0]], 40, memory=0, warn=lambda line: None)
    for path in folders[0].iterdir():
        path.write_bytes(b"gone")
    with pytest.raises(InputError, match="can be read any more"):
        pictures.train[0]


def test_workers_name_a_broken_file_to_all(folders):
    (folders[0] / "3.png").write_bytes(b"nothing")
    config = DataConfig(size=24, short_side=40, workers=2, validation=0, test=0, memory=0)
    pictures = PictureSet([folders[0]], 40, memory=0, warn=lambda line: None)
    batches(Stream(Pairs(pictures, None, config), 8), 12)
    assert pictures.skipped == 1


def test_crops_without_scales_are_cut_not_resized():
    rows = torch.arange(40, dtype=torch.uint8)[:, None].expand(40, 50)
    picture = torch.stack([rows, rows, torch.arange(50, dtype=torch.uint8).expand(40, 50)])
    rng = torch.Generator().manual_seed(0)
    tops = set()
    for _ in range(60):
        crop = (random_crop(picture, 24, rng, scales=False, flips=False) * 255).round()
        assert torch.equal(crop[0, 1:] - crop[0, :-1], torch.ones(23, 24))
        assert torch.equal(crop[2, :, 1:] - crop[2, :, :-1], torch.ones(24, 23))
        tops.add(int(crop[0, 0, 0]))
    assert min(tops) == 0 and max(tops) == 16  # every window can be drawn
    mirrored = [bool(random_crop(picture, 24, rng, False)[2].diff().sum() < 0) for _ in range(60)]
    assert 15 < sum(mirrored) < 45


def test_close_ups_are_cut_small_and_enlarged():
    rng = torch.Generator().manual_seed(0)
    across = torch.arange(160, dtype=torch.uint8).expand(3, 80, 160)
    spans = []
    for _ in range(60):
        crop = random_crop(across, 64, rng, flips=False, close=0.5)
        assert crop.shape == (3, 64, 64)
        spans.append(255 * float(crop[0, 0, -1] - crop[0, 0, 0]))
    near = [span for span in spans if span < 40]
    assert 15 < len(near) < 45  # half of them show an eighth to a half of 64 pixels
    assert min(near) > 6 and max(near) < 32
    assert min(set(spans) - set(near)) > 60
    with pytest.raises(InputError, match="close = 2"):
        DataConfig(close=2)


def test_a_sample_depends_on_seed_and_index_alone(folders):
    one, two = pairs(folders), pairs(folders)
    two[3]
    assert all(map(torch.equal, one[7], two[7]))
    assert not torch.equal(one[7][0], one[8][0])
    assert not torch.equal(one[7][0], pairs(folders, seed=1)[7][0])
    assert not torch.equal(one[7][0], one.of("validation")[7][0])
    content, style = one[7]
    assert content.shape == style.shape == (3, 24, 24)
    assert content.dtype == torch.float32
    assert not torch.equal(content, style)


def test_splits_do_not_mix(folders):
    sets = PictureSet([folders[0]], 24, 0.2, test=0.1)
    square = DataConfig(size=24, short_side=24, flips=False)
    chosen = Pairs(sets, None, square)

    def cut_from(crop, pictures):
        windows = [p.unfold(2, 24, 1) for p in pictures]
        return any((w == crop[..., None, :]).all(-1).all(0).all(0).any() for w in windows)

    for split, others in (("validation", sets.train), ("test", sets.validation)):
        for i in range(10):
            crop = (chosen.of(split)[i][0] * 255).round().to(torch.uint8)
            assert cut_from(crop, getattr(sets, split))
            assert not cut_from(crop, others)


def test_without_paintings_the_content_stands_in(folders):
    content, style = Pairs(PictureSet([folders[0]], 40), None, CONFIG)[0]
    assert torch.equal(content, style)


def test_a_set_without_validation_validates_on_what_it_has(folders):
    alone = Pairs(PictureSet([folders[0]], 40), None, CONFIG)
    assert alone.of("validation")[0][0].shape == (3, 24, 24)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_the_middle_is_the_same_stream(folders, workers):
    whole = batches(Stream(pairs(folders), 4), 5)
    config = DataConfig(size=24, short_side=40, workers=workers)
    late = batches(Stream(pairs(folders, config), 4, start=2), 3)
    for ours, theirs in zip(whole[2:], late, strict=True):
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.posix("Windows cannot send Ctrl-C to one process")
def test_ctrl_c_leaves_the_workers_at_work(folders):
    config = dataclasses.replace(CONFIG, workers=1)
    stream = iter(Stream(pairs(folders, config), 4))
    next(stream)
    for worker in psutil.Process().children():
        worker.send_signal(signal.SIGINT)
    assert len(batches(stream, 6)) == 6


def test_a_shared_style_is_one_crop_for_a_step(folders):
    data = dataclasses.replace(pairs(folders).config, shared_style=True)
    shared = Pairs(pairs(folders).photos, pairs(folders).paintings, data)
    batches = [batch for batch, _ in zip(Stream(shared, 4), range(3), strict=False)]
    for contents, styles in batches:
        assert styles.shape == contents.shape
        assert all(torch.equal(style, styles[0]) for style in styles)
        assert not torch.equal(contents[0], contents[1])
    assert not torch.equal(batches[0][1][0], batches[1][1][0])
    again = next(iter(Stream(shared, 4, start=2)))
    assert torch.equal(again[1], batches[2][1])
    halves = [next(iter(Stream(shared, 4, 2, rank, 2))) for rank in (0, 1)]
    assert all(torch.equal(half[1], batches[2][1][:2]) for half in halves)
    usual = [batch for batch, _ in zip(Stream(pairs(folders), 4), range(3), strict=False)]
    assert all(torch.equal(one[0], two[0]) for one, two in zip(batches, usual, strict=True))


def test_every_school_is_drawn_as_often(tmp_path):
    """A school: what precedes the first _ of the name, or the folder."""
    for index in range(9):
        write(tmp_path / "a" / f"monet_{index}.png", torch.full((3, 32, 32), 0.2))
    write(tmp_path / "a" / "song_hills_1.png", torch.full((3, 32, 32), 0.5))
    for name in ("hokusai.png", "1.png"):
        write(tmp_path / "japan" / name, torch.full((3, 32, 32), 0.8))
    paintings = PictureSet([tmp_path], 32)
    assert {school: len(each) for school, each in paintings.train.schools.items()} == {
        "monet": 9,
        "song": 1,
        "japan": 2,
    }
    photos = PictureSet([tmp_path], 32)
    plain = Pairs(photos, paintings, DataConfig(size=16, short_side=32))
    balanced = Pairs(photos, paintings, DataConfig(size=16, short_side=32, balanced=True))

    def shares(pairs, which):
        levels = [round(float(pairs[index][which].mean()), 1) for index in range(300)]
        return [levels.count(level) / 300 for level in (0.2, 0.5, 0.8)]

    assert shares(balanced, 1) == pytest.approx([1 / 3] * 3, abs=0.08)
    assert shares(plain, 1) == pytest.approx([9 / 12, 1 / 12, 2 / 12], abs=0.08)
    assert shares(balanced, 0) == pytest.approx([9 / 12, 1 / 12, 2 / 12], abs=0.08)
    assert torch.equal(balanced[5][1], balanced[5][1])


def test_processes_share_every_batch(folders):
    whole = batches(Stream(pairs(folders), 4), 3)
    shares = [batches(Stream(pairs(folders), 4, 0, rank, 2), 3) for rank in range(2)]
    for step in range(3):
        joined = torch.cat([shares[0][step][0], shares[1][step][0]])
        assert torch.equal(joined, whole[step][0])


def test_seeds():
    assert seed_of(0, "train", 1) == seed_of(0, "train", 1)
    assert len({seed_of(s, split, i) for s in (0, 1) for split in "ab" for i in range(50)}) == 200
    assert all(0 <= seed_of(i) < 2**63 for i in range(50))


def tree(tmp_path):
    """Pictures in subfolders, some of one name, and other files; links that go in circles."""
    root = tmp_path / "coco"
    for i, place in enumerate(("a", "b", "b/deep", ".")):
        write(root / place / "000.png", photo(40, 50, seed=i))
    write(root / ".hidden" / "no.png", photo(40, 50))
    for name in ("a/labels.TXT", "b/notes.txt", "a/boxes.json", "README"):
        (root / name).write_text("no picture", encoding="utf-8")
    (root / ".DS_Store").write_text("nothing", encoding="utf-8")
    (root / "b" / "up").symlink_to(root, target_is_directory=True)
    write(tmp_path / "elsewhere" / "linked.png", photo(40, 50, seed=9))
    (root / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    return root


@pytest.mark.posix("symbolic links take a right of their own on Windows")
def test_folders_are_searched_with_all_below_them(tmp_path):
    said: list[str] = []
    pictures = PictureSet([tree(tmp_path)], 40, warn=said.append)
    assert len(pictures.train) == 5
    assert len({picture.numpy().tobytes() for picture in pictures.train}) == 5
    assert len(said) == 1
    assert "skipped 4 files that are not pictures (.txt 2, no suffix 1, .json 1)" in said[0]
    assert f"{Path('a') / 'boxes.json'}" in said[0]
    assert "DS_Store" not in said[0]
    assert pictures.skipped == 0  # that is of pictures that cannot be read


@pytest.mark.posix("Windows has no line ends in names")
def test_a_file_of_no_picture_is_said_as_one(tmp_path):
    write(tmp_path / "p" / "1.png", photo(40, 50))
    (tmp_path / "p" / "a\nb.zip").write_bytes(b"")
    said: list[str] = []
    PictureSet([tmp_path / "p"], 40, warn=said.append)
    assert said == [f"{tmp_path / 'p'}: skipped 1 file that is not a picture (.zip 1): a?b.zip"]


def test_the_split_goes_by_the_name_wherever_the_folder_lies(tmp_path):
    sets = []
    for place in ("one", "two/three"):
        for i in range(20):
            write(tmp_path / place / f"class {i % 3}" / f"{i}.png", photo(40, 50, seed=i))
        sets.append(PictureSet([tmp_path / place], 40, 0.3, test=0.2))
    for split in ("train", "validation", "test"):
        one, two = (getattr(pictures, split) for pictures in sets)
        assert len(one) == len(two) > 0
        assert all(map(torch.equal, one, two))


def test_what_a_run_draws_is_not_learnt(folders):
    run = folders[0] / "run"
    write(run / "samples-5.png", photo(40, 50, seed=99))
    assert len(PictureSet([folders[0]], 40).train) == 25
    assert len(PictureSet([folders[0]], 40, leave_out=run).train) == 24
    # A run that holds the folder leaves it be.
    assert len(PictureSet([folders[0]], 40, leave_out=folders[0].parent).train) == 25


def test_misuse_from_python(folders):
    assert len(PictureSet([str(folders[0])], 40).train) == 24
    for given in (str(folders[0]), folders[0]):
        with pytest.raises(InputError, match="folders: give a list of paths, not"):
            PictureSet(given, 40)
    with pytest.raises(InputError, match="folders: give a path, not int"):
        PictureSet([3], 40)
    with pytest.raises(InputError, match="held_out is nan: must be a finite number"):
        PictureSet(list(folders), 40, float("nan"))
    with pytest.raises(InputError, match="memory is nan"):
        PictureSet(list(folders), 40, memory=float("nan"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["close", "validation", "test", "memory"])
def test_numbers_of_the_data_are_finite(name, value):
    with pytest.raises(InputError, match=rf"{name} is -?(nan|inf): must be a finite number"):
        DataConfig(**{name: value})
