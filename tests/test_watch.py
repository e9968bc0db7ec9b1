"""Progress of every method, and how it is stopped."""

from __future__ import annotations

import math
import signal
import threading
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from data import painting, photo

import impasto
from impasto.backbones import load_backbone
from impasto.errors import InputError
from impasto.images import read_settings, resize, write
from impasto.methods import METHODS
from impasto.methods.artflow import ArtFlow
from impasto.methods.gatys import Gatys
from impasto.methods.ghiasi import Ghiasi
from impasto.networks import flow
from impasto.pipeline import recorded
from impasto.study.compare import available, compare
from impasto.study.leak import leak
from impasto.watch import Step, Watch, divided, portion, so_far, watching

CPU = {"device": "cpu", "precision": "float32"}
BROAD = {"brush": 16}  # a working size of 32 px: three sizes
# Label -> method, options, and a word of each stage that must be told.
CASES = {
    "ghiasi": ("ghiasi", {}, ["repair degrid"]),
    "ghiasi-brush": ("ghiasi", BROAD, ["brush 1/3", "brush 3/3, repair degrid"]),
    "adain": ("adain", BROAD, ["brush 2/3", "brush 2/3, repair dehalo"]),
    "wct": ("wct", {}, ["layer relu4_1", "layer relu1_1"]),
    "wct-brush": ("wct", BROAD, ["brush 3/3, layer relu2_1"]),
    "johnson": ("johnson", BROAD, ["brush 3/3"]),
    "artflow": ("artflow", {"shifts": 2}, ["shift 1/2", "shift 2/2", "repair degrid"]),
    "artflow-brush": ("artflow", {"shifts": 2, **BROAD}, ["brush 2/3, shift 1/2"]),
    "styleflow": ("styleflow", {"shifts": 2}, ["shift 1/2", "shift 2/2"]),
    "gatys": ("gatys", {"iterations": 3, "sizes": [32, 0]}, ["size 1/2", "size 2/2"]),
    "published": ("gatys", {"iterations": 3, "losses": "published"}, ["size 1/1"]),
    "refined": ("wct", {"refine": 2}, ["layer relu4_1", "size 1/1"]),
}
SIZE = (96, 120)
methods = pytest.mark.parametrize("label", CASES)


def render(label, on_step=None, **options):
    method, given, _ = CASES[label]
    style = "woodcut" if method == "johnson" else painting()
    return impasto.stylize(photo(*SIZE), style, method, on_step=on_step, **CPU, **given, **options)


def valid(picture):
    return picture.shape == (3, *SIZE) and 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_every_method_is_among_the_cases():
    assert {method for method, _, _ in CASES.values()} == set(METHODS)


# What is told ------------------------------------------------------------------------------------


@methods
def test_the_share_rises_to_one_and_the_picture_stays_the_same(label):
    steps: list[Step] = []
    pictures = []

    def on_step(step):
        steps.append(step)
        pictures.append(step.picture())

    watched = render(label, on_step)
    shares = [step.share for step in steps]
    assert len(shares) > 1
    assert all(before < after for before, after in pairwise(shares))
    assert shares[0] > 0
    assert shares[-1] == 1
    assert set(CASES[label][2]) <= {step.stage for step in steps}
    for step, picture in zip(steps, pictures, strict=True):
        assert picture.shape == (3, *step.size)
        assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
    assert watched.stopped is None
    assert "stopped" not in watched.settings
    assert torch.equal(watched.picture.rgb, render(label).picture.rgb)


@methods
def test_what_is_told_of_a_step_has_fixed_types(label):
    steps: list[Step] = []
    result = render(label, steps.append)
    for step in steps:
        assert isinstance(step.share, float)
        assert isinstance(step.stage, str)
        losses = (step.loss, step.content, step.style)
        assert all(isinstance(loss, float) for loss in losses)
        assert math.isnan(step.loss) == (step.iterations == 0)
        assert 0 <= step.iteration <= step.iterations
    assert len(result.losses) == len([s for s in steps if s.iterations])


@pytest.mark.parametrize("label", [label for label, case in CASES.items() if case[0] != "gatys"])
def test_the_last_step_of_one_pass_shows_the_result(label):
    shown = []
    result = render(label, lambda step: shown.append(step.picture()))
    if label != "refined":
        assert torch.equal(shown[-1], result.picture.rgb)


def test_before_the_first_size_is_done_the_picture_is_the_photograph():
    first = []
    render("artflow", lambda step: first.append(step.picture()) or True)
    assert torch.equal(first[0], photo(*SIZE))


def test_colours_are_controlled_in_what_is_shown_too():
    seen = []
    for label in ("ghiasi-brush", "gatys"):
        result = render(label, lambda step: seen.append(step.picture()), color="luminance")
        hue = impasto.color.to_ycbcr(result.picture.rgb)[1:]
        for picture in seen:
            small = resize(photo(*SIZE), (picture.shape[-2], picture.shape[-1]))
            near = impasto.color.to_ycbcr(picture)[1:] - impasto.color.to_ycbcr(small)[1:]
            assert float(near.abs().max()) < 1e-4
        assert hue.shape[-2:] == SIZE
        seen.clear()


def test_a_refinement_goes_on_where_one_pass_ends():
    steps: list[Step] = []
    render("refined", steps.append)
    passes = [step.share for step in steps if not step.iterations]
    iterations = [step.share for step in steps if step.iterations]
    assert max(passes) < min(iterations)
    assert iterations[-1] == 1


def test_strips_of_a_flow_are_told(monkeypatch):
    def told():
        steps: list[Step] = []
        render("artflow", steps.append)
        return len(steps)

    whole = told()
    monkeypatch.setattr(flow, "STRIP", 1)  # eight rows at a time, the least
    assert told() > whole + 100


# Stopping ----------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_stop_gives_the_picture_so_far_at_once(label, number):
    steps: list[Step] = []
    shown = []

    def on_step(step):
        steps.append(step)
        shown.append(step.picture())
        return len(steps) >= number

    result = render(label, on_step)
    assert valid(result.picture.rgb)
    if steps[-1].share < 1:
        assert len(steps) == number
        assert result.stopped == result.settings["stopped"] == "cancelled"
        torch.testing.assert_close(result.picture.rgb, resize(shown[-1], SIZE))
    else:
        assert result.stopped is None


def test_what_the_last_step_answers_is_ignored():
    for label in ("ghiasi", "gatys"):
        result = render(label, lambda step: step.share == 1)
        assert result.stopped is None
        assert torch.equal(result.picture.rgb, render(label).picture.rgb)


@pytest.mark.parametrize("label", ["ghiasi-brush", "wct-brush", "artflow-brush"])
def test_a_stop_keeps_the_size_that_is_done(label):
    """Also when a level or a shift of the next one is done, which would show less."""
    shown = []

    def on_step(step):
        shown.append(step.picture())
        return step.stage.startswith("brush 2/3") and 0.2 < step.share < 0.29

    stopped = render(label, on_step)
    if stopped.stopped is None:  # one step takes all that size
        assert label == "ghiasi-brush"
        stopped = render(label, lambda step: step.stage == "brush 2/3")
    assert stopped.stopped == "cancelled"
    coarse = impasto.stylize(
        *(resize(photo(*SIZE), (32, 40)), painting(), CASES[label][0]),
        **{**CPU, **CASES[label][1], "brush": None},
    )
    enlarged = resize(coarse.picture.rgb, SIZE)
    assert float((stopped.picture.rgb - enlarged).abs().mean()) < 0.02
    assert float((stopped.picture.rgb - photo(*SIZE)).abs().mean()) > 0.1


def test_a_stop_after_a_level_or_a_shift_keeps_it():
    for label, stage in (("wct", "layer relu2_1"), ("artflow", "shift 2/2")):
        stopped = render(label, lambda step, stage=stage: step.stage == stage)
        assert stopped.stopped == "cancelled"
        assert float((stopped.picture.rgb - photo(*SIZE)).abs().mean()) > 0.1


def test_what_is_stopped_before_anything_is_painted_is_not_written(tmp_path):
    stopped = render("artflow", lambda step: True)
    assert (stopped.stopped, stopped.painted) == ("cancelled", False)
    torch.testing.assert_close(stopped.picture.rgb, photo(*SIZE))
    earlier = write(tmp_path / "out.png", painting())
    before = earlier.read_bytes()
    with pytest.raises(InputError, match="cancelled before anything was painted; nothing is writ"):
        stopped.save(earlier)
    assert earlier.read_bytes() == before
    for label, on_step in {
        "artflow": lambda step: step.stage == "shift 2/2",
        "ghiasi-brush": lambda step: step.stage == "brush 2/3",
        "wct": lambda step: step.stage == "layer relu3_1",
        "gatys": lambda step: True,
        "refined": lambda step: step.share >= 0.099,
        "ghiasi": None,
    }.items():
        assert render(label, on_step).painted, label


def test_a_stop_in_one_pass_is_not_refined():
    stopped = render("refined", lambda step: True)
    assert stopped.stopped == "cancelled"
    assert "refinement" not in stopped.settings
    assert stopped.losses == []
    within = render("refined", lambda step: step.iteration == 1)
    assert "refinement" in within.settings
    assert within.settings["iterations_done"] == 1


def test_grey_stays_grey_when_stopped():
    grey = photo(*SIZE).mean(0, keepdim=True).expand(3, -1, -1)
    style = painting().mean(0, keepdim=True).expand(3, -1, -1)
    for name in ("ghiasi", "wct"):
        stopped = impasto.stylize(
            *(grey, style, name), on_step=lambda step: step.share > 0.3, **CPU, **BROAD
        )
        assert stopped.stopped == "cancelled"
        assert float((stopped.picture.rgb - stopped.picture.rgb.mean(0)).abs().max()) < 1e-5


def gatys(net, **options):
    method = Gatys(net, **CPU, **{"start": "content", **options})
    return impasto.stylize(photo(), painting(), method)


@pytest.mark.parametrize("losses", ["relative", "published"])
@pytest.mark.filterwarnings("ignore:the optimisation")
def test_why_an_optimisation_ended(small_net, losses):
    given = {"losses": losses, "style_layers": ["relu2_1"], "content_layers": ["relu2_1"]}
    planned = gatys(small_net, iterations=3, tolerance=0, **given)
    assert planned.stopped is None
    assert "stopped" not in planned.settings
    converged = gatys(small_net, iterations=500, tolerance=0.5, **given)
    assert converged.stopped == converged.settings["stopped"] == "converged"
    late = gatys(small_net, iterations=10**6, tolerance=0, time_limit=0.2, **given)
    assert late.stopped == late.settings["stopped"] == "time"


def test_a_descent_that_diverges_says_so(small_net, monkeypatch):
    given = {"losses": "published", "style_layers": ["relu2_1"], "content_layers": ["relu2_1"]}
    with pytest.warns(UserWarning, match="diverged"):
        result = gatys(small_net, iterations=30, lr=1e25, **given)
    assert result.stopped == result.settings["stopped"] == "diverged"
    monkeypatch.setattr("impasto.methods.level.State.judge", never_good)
    with pytest.warns(UserWarning, match="does not converge"):
        result = gatys(small_net, iterations=30)
    assert result.stopped == result.settings["stopped"] == "diverged"
    assert valid(resize(result.picture.rgb, SIZE))


def never_good(self, x, before, loss):
    self.bad = torch.ones_like(loss, dtype=torch.bool)
    self.setbacks = self.setbacks + 1


def test_an_optimisation_that_starts_at_its_optimum_has_converged(small_net, monkeypatch):
    method = Gatys(small_net, **CPU, iterations=50, start="content", style_weight=0.0)
    result = impasto.stylize(photo(), painting(), method)
    assert result.stopped == "converged"


def test_shares_reach_one_when_it_converges(small_net):
    steps: list[Step] = []
    method = Gatys(small_net, **CPU, iterations=500, tolerance=0.5, sizes=[32, 0])
    result = impasto.stylize(photo(), painting(), method, on_step=steps.append)
    assert result.stopped == "converged"
    assert len(steps) < 1000
    assert steps[-1].share == 1
    assert all(before.share < after.share for before, after in pairwise(steps))


# Whose it is -------------------------------------------------------------------------------------


def test_renderings_in_threads_and_in_callbacks_keep_apart():
    ghiasi = impasto.load("ghiasi", **CPU, **BROAD)
    style = ghiasi.prepare([painting()])
    alone = ghiasi(photo(*SIZE), style)
    shares: dict[int, list[float]] = {0: [], 1: []}
    results = {}

    def work(number):
        def on_step(step):
            shares[number].append(step.share)
            if len(shares[number]) == 2:  # a rendering within: tells its own callback, or nobody
                inner = []
                ghiasi(photo(*SIZE), style, 1.0, lambda step: inner.append(step.share))
                assert inner[-1] == 1
                ghiasi(photo(*SIZE), style)

        results[number] = ghiasi(photo(*SIZE), style, 1.0, on_step)

    threads = [threading.Thread(target=work, args=(number,)) for number in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shares[0] == shares[1]
    assert shares[0] == sorted(set(shares[0]))
    assert all(torch.equal(result, alone) for result in results.values())


def test_an_error_of_the_callback_is_passed_on_and_leaves_nothing():
    def on_step(step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        render("artflow", on_step)
    assert list(divided([1, 2])) == [1, 2]  # nobody is told
    assert valid(render("artflow").picture.rgb)


def test_a_method_that_reports_nothing_ends_with_one_step(monkeypatch):
    class Plain:
        settings, notes, device, sources, learnt = {}, [], torch.device("cpu"), (), None

        def prepare(self, styles, weights=None):
            return None

        def __call__(self, content, style, strength=1.0, on_step=None):
            return 1 - impasto.images.read(content).rgb

    steps: list[Step] = []
    result = impasto.stylize(photo(), painting(), Plain(), on_step=steps.append)
    assert [step.share for step in steps] == [1.0]
    assert torch.equal(steps[0].picture(), result.picture.rgb)


# The parts ---------------------------------------------------------------------------------------


def shares_of(work):
    steps: list[Step] = []
    with watching(steps.append, photo()) as watch:
        work()
    assert watch.stopped is None
    return [(round(step.share, 6), step.stage) for step in steps]


def test_parts_divide_what_is_left():
    def work():
        with portion(0.2, "first"):
            list(divided("ab"))
        for _ in divided("cd", "pass", [1, 3]):
            list(divided("ef", ["one", "two"]))

    assert shares_of(work) == [
        (0.1, "first"),
        (0.2, "first"),
        (0.3, "pass 1/2, one"),
        (0.4, "pass 1/2, two"),
        (0.7, "pass 2/2, one"),
        (1.0, "pass 2/2, two"),
    ]


def test_a_part_of_no_weight_is_not_told():
    def work():
        with portion(0):
            list(divided("abc"))
        with portion(0.5):
            pass
        list(divided([]))

    assert shares_of(work) == [(0.5, "pass"), (1.0, "pass")]


def test_what_is_kept_is_not_replaced_by_what_is_worse():
    shown = []
    with watching(lambda step: shown.append(float(step.picture())), torch.zeros(1, 1)):
        for number, _ in enumerate(divided("abcd")):
            so_far(torch.full((1, 1), number / 4), keep=number == 2)
    assert shown == [0, 0.25, 0.5, 0.5]


def test_a_stop_leaves_the_context_without_an_error():
    done = []
    with watching(lambda step: step.share >= 0.5, photo()) as watch:
        for item in divided("abcd"):
            done.append(item)
        raise AssertionError("not reached")
    assert done == ["a", "b"]
    assert watch.cancelled
    assert torch.equal(watch.picture(), photo())


def test_a_watch_is_itself_told_of_steps():
    told = []
    watch = Watch(lambda step: told.append(step.share))
    with watching(watch, photo()), portion(0.5):
        step = Step(1, 2, 0.5, (4, 4), 1.0, 1.0, 1.0, photo)
        assert watch(step) is False
    assert told == [0.25, 0.5]


# On the command line, and in studies --------------------------------------------------------------


def ctrl_c(monkeypatch, call):
    """Ctrl-C at the size of this number."""
    honest, calls = Ghiasi.paint, []

    def paint(self, *given):
        calls.append(given)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return honest(self, *given)

    monkeypatch.setattr(Ghiasi, "paint", paint)


def test_ctrl_c_stops_one_pass_and_writes_what_there_is(run, monkeypatch, painting_file):
    write("photo.png", photo(*SIZE))
    ctrl_c(monkeypatch, 2)
    given = ["photo.png", painting_file, "-o", "out.png", "--brush", "16", "--device", "cpu"]
    code, _, said = run("stylize", *given)
    assert code == 130, said
    assert "interrupted; the results so far are written" in said
    assert "cancelled)" in said
    settings = read_settings("out.png")
    assert settings["stopped"] == "cancelled"
    assert settings["pixels"] == f"{SIZE[1]}x{SIZE[0]}"
    _, out, _ = run("show", "out.png")
    assert 'stopped            "cancelled"' in out
    code, _, said = run("stylize", *given, "--skip-existing")  # which it is not yet
    assert code == 0, said
    assert "exist already" not in said
    assert "stopped" not in read_settings("out.png")


@pytest.mark.parametrize("out", ["out.png", "out/"])
def test_ctrl_c_before_anything_is_painted_leaves_an_earlier_result(run, monkeypatch, out):
    honest = ArtFlow.paint

    def paint(self, *given):
        signal.raise_signal(signal.SIGINT)
        return honest(self, *given)

    write("photo.png", photo(*SIZE))
    write("wave.png", painting())
    given = ["--style", "wave.png", "-m", "artflow", "--device", "cpu", "-o", out]
    photos = ["photo.png"]
    if out == "out/":
        write("other.png", photo(*SIZE, seed=1))
        photos.append("other.png")
    assert run("stylize", *photos, *given)[0] == 0
    results = sorted(Path().rglob("out*/*.png" if out == "out/" else out))
    assert results
    before = [path.read_bytes() for path in results]
    monkeypatch.setattr(ArtFlow, "paint", paint)
    code, printed, said = run("stylize", *photos, *given)
    assert (code, printed) == (130, "")
    assert "cancelled before anything was painted; nothing is written" in said
    assert "the results so far" not in said
    assert [path.read_bytes() for path in results] == before
    code, _, said = run("stylize", *photos, *given[:-1], "new.png" if out != "out/" else "new/")
    assert code == 130
    assert not list(Path().rglob("new*/*.png")) + list(Path().glob("new.png"))


@pytest.mark.parametrize(
    ("stopped", "done"),
    [(True, False), ("cancelled", False), ("converged", True), ("time", True), ("diverged", True)],
)
def test_only_what_was_cancelled_is_made_again(run, photo_file, painting_file, stopped, done):
    result = impasto.stylize(photo_file, painting_file, **CPU)
    settings = {**result.settings, "stopped": stopped}
    write("out.png", result.picture.rgb, settings=settings)
    code, _, said = run("stylize", photo_file, painting_file, "-o", "out.png", "--skip-existing")
    assert code == 0, said
    assert ("1 of 1 exist already" in said) == done
    assert recorded("out.png") == ("ghiasi", {})
    assert run("show", "out.png")[0] == 0


def test_a_preview_is_of_iterations_alone(run, monkeypatch, photo_file, painting_file):
    from impasto import images

    written, honest = [], images.write

    def spy(path, *given, **options):
        written.append(options.get("settings"))
        return honest(path, *given, **options)

    monkeypatch.setattr(images, "write", spy)
    given = ["-m", "wct", "--refine", "4", "--preview", "2", "--device", "cpu", "-o", "o.png"]
    code, _, said = run("stylize", photo_file, painting_file, *given)
    assert code == 0, said
    assert [settings for settings in written if "preview" in (settings or {})] == [
        {"preview": 2},
        {"preview": 4},
    ]


def test_the_bar_of_one_pass_moves_and_a_session_draws_one(capsys):
    impasto.stylize(photo(*SIZE), painting(), "wct", progress=True, **CPU)
    said = capsys.readouterr().err
    assert "wct: 100%" in said
    assert said.endswith("\n")
    impasto.stylize(photo(*SIZE), painting(), "wct", progress=True, **CPU, on_step=lambda _: True)
    assert "wct: 100%" not in capsys.readouterr().err
    with impasto.Session("wct", painting(), **CPU) as session:
        session(photo(), progress=True)
    assert "wct: 100%" in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path):
    write(tmp_path / "photos" / "a.png", photo())
    write(tmp_path / "paintings" / "b.png", painting())
    return tmp_path


def test_a_comparison_stops_within_a_picture(folders, monkeypatch):
    monkeypatch.setattr("impasto.study.compare._peak", lambda *given: 0.0)
    done = []

    def on_progress(number, total, name):
        done.append(number)
        return number > 0.2

    judge = load_backbone("compact")
    means = compare(
        *(folders / "photos", folders / "paintings", folders / "out"),
        *(available(["wct"]), judge),
        size=32,
        device="cpu",
        on_progress=on_progress,
    )
    assert means == {}
    assert done[0] == 0
    assert 0.2 < done[-1] < 0.5  # the photograph rendered with itself is the second half
    assert sorted(done) == done
    assert not list((folders / "out" / "pictures").glob("wct/*"))


def test_a_leak_stops_within_a_picture(folders):
    done = []
    curves = leak(
        *(folders / "photos" / "a.png", folders / "paintings", folders / "out"),
        available(["wct"]),
        rounds=2,
        size=32,
        device="cpu",
        on_progress=lambda number, total, name: done.append(number) or number > 1.5,
    )
    assert curves == {}
    assert done == sorted(done)
    assert 1.5 < done[-1] < 2
