"""The figures of report 5, and why robust networks serve style transfer better.

    python benchmarks/report5.py --standard standard.safetensors --robust robust.safetensors \\
        --vgg vgg19.safetensors --convention caffe

The first two files are made by recipes/robust; they stand in for ImageNet's ResNet-50. Photographs
are scikit-image's, paintings impasto's own. Draws docs/img/report5-*.jpg and -bands.png, and writes
benchmarks/report5*.md. `--part NAME` makes one part; pictures that were made are kept in --work and
not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from common import DOCS, machine, sheet
from skimage import data
from torch import Tensor

from impasto.backbones import Backbone, load_backbone, load_vgg
from impasto.images import fit, read, resize
from impasto.methods import Step
from impasto.methods.gatys import Gatys
from impasto.samples import draw
from impasto.study.bands import BANDS, band_noise, band_power
from impasto.study.figures import look, save_figure
from impasto.study.metrics import content_distance, luminance_ssim, relative_gram_distance
from impasto.tensors import load_tensors, save_tensors

HERE = Path(__file__).parent
STAGES = ("conv1", "rb1", "rb2", "rb3", "rb4")
VGG_LAYERS = ("relu1_1", "relu3_1", "relu4_1")  # of the part nets, which shows three
BAND_STAGES = ("conv1", "rb2", "rb4")  # of the part bands
NETS = ("random", "standard", "robust")
PAINTINGS = ("swirls", "stained_glass", "ink_wash", "woodcut")
RATIO = {"rb1": 1.0, "rb2": 0.1, "rb3": 0.01, "rb4": 0.001}  # of the style weights
WEIGHTS = tuple(10.0**power for power in range(2, 8))  # Fig. 3.7's x
BEST = 1e5  # Fig. 3.5's
COMMON: dict[str, Any] = {"losses": "report5", "sizes": [0], "device": "cpu"}
LBFGS: dict[str, Any] = {"start": "noise", "precision": "float32"}  # bfloat16 makes it diverge
ADAM: dict[str, Any] = {"optimizer": "adam"}  # at 0.05, in units of the network's input
CAFFE_LR = 2.9  # of 255: as far as 0.05 in units of torchvision's, 0.226 of the range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--standard", type=Path, required=True)
    parser.add_argument("--robust", type=Path, required=True)
    parser.add_argument("--vgg", type=Path, help="VGG-19's weights, for the part nets")
    parser.add_argument("--convention", help="of --vgg: caffe or torchvision")
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--work", type=Path, default=Path("build/report5"))
    args = parser.parse_args()
    for name in args.part or PARTS:
        start = time.monotonic()
        PARTS[name](Study(args))
        print(f"{name}: {(time.monotonic() - start) / 60:.1f} min", flush=True)


class Study:
    """The networks and pictures, and what was made of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.size, self.iterations = args, args.size, args.iterations
        self.files = {"standard": args.standard, "robust": args.robust}

    @cache  # noqa: B019
    def resnet(self, name: str) -> Backbone:
        """ResNet-18 by the name of its weights; its features as they are, as the report's."""
        return load_backbone("resnet18", self.files.get(name, name), normalise=False)

    @cache  # noqa: B019
    def photo(self, name: str = "chelsea") -> Tensor:
        """A photograph of scikit-image, its middle ``(3, size, size)``."""
        return self.square(read(getattr(data, name)()).rgb)

    @cache  # noqa: B019
    def painting(self, name: str = "swirls") -> Tensor:
        """A painting of impasto, likewise."""
        return self.square(read(draw(name, 512)).rgb)

    def square(self, picture: Tensor) -> Tensor:
        """The middle of a picture, ``(3, size, size)``."""
        picture = resize(picture, fit(*picture.shape[-2:], self.size))
        top, left = ((side - self.size) // 2 for side in picture.shape[-2:])
        return picture[:, top : top + self.size, left : left + self.size]

    def kept(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """What was made of the pictures under ``key``, now or earlier."""
        path = self.args.work / f"{key}-{self.size}-{self.iterations}.safetensors"
        if not path.exists():
            start = time.monotonic()
            path.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(path, {"made": make()}, {})
            print(f"  {key}: {time.monotonic() - start:.0f} s", flush=True)
        return load_tensors(path)[0]["made"]

    def rebuilt(
        self, name: str, net: Backbone, kind: str, layers: Sequence[str], start: str = "noise"
    ) -> Tensor:
        """A picture from its features (``content``) or Gram matrices (``style``) alone, by Adam."""
        picture = self.photo() if kind == "content" else self.painting()
        unused = "style_weight" if kind == "content" else "content_weight"
        options = {"content_layers": layers, "style_layers": layers, unused: 0, "start": start}
        options |= ADAM | ({"lr": CAFFE_LR} if net.convention.name == "caffe" else {})

        def make() -> Tensor:
            method = Gatys(net, **COMMON, **options, iterations=self.iterations)
            return method(picture, method.prepare([picture]))

        key = f"{kind}-{name}-{'+'.join(layers)}" + ("" if start == "noise" else f"-{start}")
        return self.kept(key, make)

    def transferred(self, key: str, name: str, painting: str, options: dict[str, Any]) -> Tensor:
        """The photograph by the style of a painting; then the losses of all iterations, in a row.

        ``(3, size + 1, size)``, for :meth:`picture` and :meth:`losses`.
        """

        def make() -> Tensor:
            losses = torch.full((self.size * 3,), torch.nan)

            def on_step(step: Step) -> None:
                losses[step.iteration - 1] = step.loss

            net = {"backbone": "resnet18", "backbone_weights": self.files[name]}
            method = Gatys(
                **({"backbone": self.resnet(name)} if "losses" in options else net), **options
            )
            out = method(self.photo(), method.prepare([self.painting(painting)]), 1.0, on_step)
            return torch.cat([out, losses.view(3, 1, -1)], dim=1)

        return self.kept(f"transfer-{key}-{name}-{painting}", make)

    def as_reported(self, name: str, painting: str, x: float, **more: Any) -> Tensor:
        """The report's transfer: content rb3, style rb1 to rb4 with weights from ``x`` down.

        Its Eq. 2.1 and 2.3 are sums, under which its weights leave nothing of the photograph. Means
        of squares, with Gram matrices divided by their channels too (as in PyTorch's tutorial), fit
        its findings; so these are taken, unless ``sums`` is true.
        """
        net, options = self.resnet(name), {**COMMON, **LBFGS, **more}
        sums = options.pop("sums", False)
        key = "-".join(
            f"{value:g}" if isinstance(value, float) else str(value)
            for value in (x, *more.values())
        )
        channels = {tap: 1 if sums else net.channels(tap) for tap in RATIO}
        options["style_layers"] = {tap: x * RATIO[tap] / channels[tap] ** 4 for tap in RATIO}
        values = net.channels("rb3") * (self.size // 16) ** 2
        options |= {"content_layers": ["rb3"], "content_weight": 1.0 if sums else 1 / values}
        return self.transferred(key, name, painting, {**options, "iterations": self.iterations})


def content(study: Study) -> None:
    """Fig. 3.2: from noise, by the features of every stage."""
    cells = []
    for name in NETS:
        cells.append(("picture", study.photo()))
        for stage in STAGES:
            out = study.rebuilt(name, study.resnet(name), "content", [stage])
            cells.append((f"{name}, {stage}", out))
    sheet("report5-content", cells, 1 + len(STAGES))


def style(study: Study) -> None:
    """Fig. 3.3: from noise, by the Gram matrix of every stage alone, and of all stages up to it."""
    for name_of_sheet, label in (("report5-style", ""), ("report5-style-to", "to ")):
        cells = []
        for name in NETS:
            cells.append(("painting", study.painting()))
            for end, stage in enumerate(STAGES):
                layers = STAGES[: end + 1] if label else [stage]
                out = study.rebuilt(name, study.resnet(name), "style", layers)
                cells.append((f"{name}, {label}{stage}", out))
        sheet(name_of_sheet, cells, 1 + len(STAGES))


def transfer(study: Study) -> None:
    """Fig. 3.5: content rb3, style rb1 to rb4 with falling weights; and our defaults."""
    judge = load_vgg("slim")
    figures: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    cells = [(painting, study.painting(painting)) for painting in PAINTINGS]
    for label in ("report 5", "ours"):
        for name in study.files:
            for painting in PAINTINGS:
                out = transfer_of(study, label, name, painting)
                grams = relative_gram_distance(judge, out, study.photo(), study.painting(painting))
                distance = content_distance(judge, out, study.photo())
                style_distance = statistics.mean(grams.values())
                judged = (style_distance, distance, luminance_ssim(out, study.photo()))
                figures.setdefault((label, name), []).append(judged)
                cells.append((f"{name}, {label}", out))
    sheet("report5-transfer", cells, len(PAINTINGS))
    rows = []
    for (label, name), values in figures.items():
        accuracy = json.loads(load_tensors(study.files[name])[1]["figures"])
        columns = [f"{accuracy[kind]:.1%}" for kind in ("clean", "attacked")]
        columns += [mean_and_error(column) for column in zip(*values, strict=True)]
        rows.append(row(name, label, columns))
    heads = ["weights", "losses", "accuracy", "attacked", "Gram distance", "content", "SSIM"]
    note = (
        f"ResNet-18; transfer at {study.size} px, {len(PAINTINGS)} paintings (mean and standard "
        "error), judged by slim"
    )
    table("report5", note, heads, rows)


def transfer_of(study: Study, label: str, name: str, painting: str) -> Tensor:
    """A transfer by the report's losses or by ours."""
    if label == "ours":
        return picture(study.transferred("ours", name, painting, {"device": "cpu"}))
    return picture(study.as_reported(name, painting, BEST))


def weights(study: Study) -> None:
    """Fig. 3.7: six style weights; and in the last row the report's sums taken literally."""
    cells = []
    for name, label, more in (
        ("standard", "standard", {}),
        ("robust", "robust", {}),
        ("robust", "robust, sums", {"sums": True, **ADAM}),
    ):
        for x in WEIGHTS:
            out = picture(study.as_reported(name, PAINTINGS[0], x, **more))
            cells.append((f"{label}, {x:.0e}", out))
    sheet("report5-weights", cells, len(WEIGHTS))


def optimizers(study: Study) -> None:
    """Section 3.3: Adam against L-BFGS, with as many iterations."""
    kinds = {"L-BFGS": {}, "Adam, 0.05": ADAM, "Adam, 0.01": {**ADAM, "lr": 0.01}}
    cells, rows = [], []
    marks = [count for count in (10, 25, 50, 100, 150) if count <= study.iterations]
    for name in study.files:
        for label, more in kinds.items():
            made = study.as_reported(name, PAINTINGS[0], BEST, **more)
            cells.append((f"{name}, {label}", picture(made)))
            losses = made[:, -1].flatten().nan_to_num(torch.inf)
            rows.append(row(name, label, [f"{losses[:count].min():.3g}" for count in marks]))
    sheet("report5-optimizers", cells, len(kinds))
    note = "Least loss up to an iteration"
    table("report5-optimizers", note, ["weights", "optimiser", *map(str, marks)], rows)


def picture(made: Tensor) -> Tensor:
    """The picture that :meth:`Study.transferred` made, without the losses."""
    return made[:, :-1]


def nets(study: Study) -> None:
    """Fig. 3.2 and 3.3 by other networks, random and trained, with max and average pooling."""
    if study.args.vgg is None:
        raise SystemExit("the part nets needs --vgg and --convention")
    vgg = {"weights": study.args.vgg, "convention": study.args.convention}
    variants: Mapping[str, tuple[str, dict[str, Any]]] = {
        "VGG-19": ("vgg19", vgg),
        "VGG-19, average": ("vgg19", {**vgg, "pooling": "average"}),
        "VGG-19 random": ("vgg19", {"weights": "random"}),
        "VGG-16 random": ("vgg16", {"weights": "random"}),
        "compact": ("compact", {}),
        "ResNet-50 random": ("resnet50", {"weights": "random"}),
    }
    cells: dict[str, list[tuple[str, Tensor]]] = {"content": [], "style": []}
    for label, (name, options) in variants.items():
        net = load_backbone(name, normalise=False, **options)
        layers = ("conv1", "rb2", "rb4") if "conv1" in net.taps else VGG_LAYERS
        for kind, made in cells.items():
            for layer in layers:
                out = study.rebuilt(label.replace(", ", "-"), net, kind, [layer])
                made.append((f"{label}, {layer}", out))
    for kind, made in cells.items():
        sheet(f"report5-nets-{kind}", made, 6)


def bands(study: Study) -> None:
    """Power of the pictures by octaves of frequency, and which of them the networks respond to."""
    heads = ["pictures", "weights", *BANDS]
    rows, curves = [], {}
    sources = {"content": study.photo(), "style": study.painting()}
    rng = torch.Generator().manual_seed(0)  # as in the reconstructions, which start from this
    noise = 0.5 + 0.2 * torch.randn(3, study.size, study.size, generator=rng)
    start = [f"{ratio:.2f}" for ratio in relative_power(noise.clamp(0, 1), study.photo())]
    rows.append(row("noise at the start", "", start))
    for kind, source in sources.items():
        for stage in BAND_STAGES:
            for name in NETS:
                out = study.rebuilt(name, study.resnet(name), kind, [stage])
                ratios = relative_power(out, source)
                curves[kind, stage, name] = ratios
                rows.append(row(f"{kind}, {stage}", name, [f"{ratio:.2f}" for ratio in ratios]))
    for stage in BAND_STAGES[1:]:
        for name in NETS:
            out = study.rebuilt(name, study.resnet(name), "content", [stage], "grey")
            ratios = relative_power(out, study.photo())
            rows.append(row(f"content from grey, {stage}", name, [f"{r:.2f}" for r in ratios]))
    for label in ("report 5", "ours"):
        for name in study.files:
            each = [
                relative_power(transfer_of(study, label, name, painting), study.painting(painting))
                for painting in PAINTINGS
            ]
            columns = [mean_and_error(column, 2) for column in zip(*each, strict=True)]
            rows.append(row(f"transfer, {label}", name, columns))
    for stage in BAND_STAGES:
        for name in NETS:
            changes = response(study, name, stage)
            curves["response", stage, name] = changes
            rows.append(row(f"response, {stage}", name, [f"{value:.3f}" for value in changes]))
    note = "Power relative to the photograph's or the painting's, and responses (see below)"
    table("report5-bands", note, heads, rows)
    for kind, axis in (("content", "power, relative"), ("response", "relative change")):
        draw_bands(kind, axis, curves)


def relative_power(out: Tensor, source: Tensor) -> list[float]:
    """Power in each band, relative to that of ``source``."""
    return [a / b for a, b in zip(band_power(out), band_power(source), strict=True)]


def response(study: Study, name: str, stage: str) -> list[float]:
    """Relative change of features by noise of deviation 0.02 in each band, mean of pictures."""
    net = study.resnet(name)
    pictures = [study.photo(photo) for photo in ("chelsea", "coffee", "astronaut", "rocket")]
    pictures += [study.painting(painting) for painting in PAINTINGS]
    changes = []
    with torch.no_grad():
        for band in range(len(BANDS)):
            each = []
            for seed, picture in enumerate(pictures):
                noise = band_noise(study.size, study.size, band, 0.02, seed)
                before, after = (net(x[None], [stage])[stage] for x in (picture, picture + noise))
                each.append(float((after - before).norm() / before.norm()))
            changes.append(statistics.mean(each))
    return changes


def draw_bands(kind: str, label: str, curves: Mapping[tuple[str, str, str], list[float]]) -> None:
    """The stages rb2 and rb4 of every network, by band."""

    def on_axes(axes: Any) -> None:
        for number, name in enumerate(NETS):
            for stage, line in zip(BAND_STAGES[1:], ("--", "-"), strict=True):
                series = look(name, number) | {"linestyle": line}
                axes.plot(BANDS, curves[kind, stage, name], **series, label=f"{name}, {stage}")
        axes.set_yscale("log")
        axes.set_xlabel("wavelength")
        axes.set_ylabel(label)
        axes.legend()

    save_figure(DOCS / f"report5-bands-{kind}.png", on_axes)


def mean_and_error(values: Sequence[float], digits: int = 3) -> str:
    """The mean of several values and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


def row(*cells: str | Sequence[str]) -> str:
    """A line of a table."""
    flat = [part for cell in cells for part in ([cell] if isinstance(cell, str) else cell)]
    return f"| {' | '.join(flat)} |"


def table(name: str, note: str, heads: Sequence[str], rows: Sequence[str]) -> None:
    """Write ``benchmarks/<name>.md``."""
    where = f"{machine(torch.device('cpu'))}, torch {torch.__version__}"
    lines = [f"{note} ({where}).", "", row(heads), row(["---"] * len(heads)), *rows]
    text = "\n".join(lines) + "\n"
    (HERE / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


PARTS: Mapping[str, Callable[[Study], None]] = {
    part.__name__: part for part in (content, style, transfer, weights, optimizers, nets, bands)
}

if __name__ == "__main__":
    main()
