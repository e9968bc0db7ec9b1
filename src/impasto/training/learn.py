"""``impasto learn``: fine-tunes the style that is predicted for one painting, in a few minutes.

Ghiasi et al. 2017 predict the scales and shifts of every normalisation for an unseen painting. This
module trains them further for that painting alone, together with the network's last layers. The
losses are those of :class:`.methods.ghiasi.GhiasiTraining`, against the whole painting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import load_backbone
from ..color import recolored
from ..device import check_process, choose_device, choose_precision, describe, mixed
from ..errors import InputError, check_finite, check_whole, spelled
from ..images import Source, fit, resize
from ..methods.ghiasi import Ghiasi
from ..methods.learnt import Learnt
from ..methods.records.base import Precision
from ..progress import drawn
from ..samples import PHOTOGRAPHS, photograph
from ..statistics import Moments
from ..styles import read_painting, reduce
from .crops import random_crop
from .logs import Latest
from .methods.ghiasi import GhiasiTraining
from .sets import PictureSet

__all__ = ["learn"]

SIZE, SMALLEST, LARGEST = 384, 64, 1024
CROP, BATCH = 256, 1  # maximum side of the photographs' crops in pixels; crops per step
MINUTES = 5.0
LOSSES: dict[str, Any] = {
    "content_weight": 1.5,
    "style_weight": 20.0,
    "stroke_weight": 12.0,  # twice that of training: the whole painting is compared
    "color_weight": 3.0,
    "palette_weight": 6.0,
    "tv_weight": 1.0,
    "scales": 3,
    "full": 1.0,
    "recolored": 0.0,
    "again": 0.0,
}
ROWS_RATE, LAYERS_RATE = 2e-2, 2e-3
WARM = 0.05  # share of the work in which the learning rate grows from zero
FULL = 0.85  # share of the steps at strength 1
RECOLORED = 0.3  # share of the photographs in other colours, because there may be few
MEMORY = 0.05  # GB of decoded photographs to keep in memory
CLIP = 5.0  # maximum norm of the gradients, separately for rows and layers
RECENT = 20  # steps in the reported mean loss


@drawn("learning")
def learn(
    painting: Source,
    photos: Path | None = None,
    *,
    minutes: float = MINUTES,
    steps: int | None = None,
    size: int = SIZE,
    mixable: bool = False,
    model: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "auto",
    on_progress: Callable[[int, int, float], bool | None] = lambda done, total, loss: None,
    progress: bool = False,
) -> Learnt:
    """Learn one painting, starting from the network's prediction for it.

    Args:
        painting: any source that :func:`impasto.images.read` accepts.
        photos: folder of photographs to train on; None uses the free samples.
        minutes: approximate duration.
        steps: number of steps, instead of ``minutes``; 0 keeps the prediction. The same steps,
            seed, threads and precision give the same result.
        size: short side in pixels of photographs and painting, 64 to 1024; it sets the size of the
            strokes.
        mixable: do not train the network's last layers, so that the style mixes with others.
        model: a file made by ``impasto train ghiasi``; None uses the bundled one.
        seed: random seed of crops, colours and noise.
        device, precision: see :mod:`impasto.device`; with bfloat16, mixed.
        on_progress: called with the work done and the total work, both in steps or in seconds, and
            the loss; returning True ends training and keeps what was learnt so far.
        progress: draw a progress bar.

    Returns:
        The style. ``save(path)`` writes it; it can be used in the place of a painting.

    Raises:
        InputError: for a number out of its range, pictures that cannot be read or are too small,
            and a file that is not such a model.
    """
    check_finite(spelled("minutes"), minutes)
    if not 0 < minutes <= 10_000:
        raise InputError(
            f"{spelled('minutes')} is {minutes}: must be above 0 and at most 10000",
            option="minutes",
        )
    if steps is not None:
        check_whole(spelled("steps"), steps, 0)
    check_whole(spelled("size"), size, SMALLEST)
    if size > LARGEST:
        raise InputError(
            f"{spelled('size')} is {size}: must be at most {LARGEST} pixels", option="size"
        )
    check_whole(spelled("seed"), seed, 0)
    if seed >= 2**63:
        raise InputError(f"{spelled('seed')} is {seed}: must be below 2^63", option="seed")
    check_process()
    target_device = choose_device(device)
    dtype = choose_precision(precision, target_device)
    picture = read_painting(painting)
    if min(picture.height, picture.width) < SMALLEST:
        raise InputError(
            f"{picture.name}: the painting is {picture.width}x{picture.height}; the short side "
            f"must be {SMALLEST} pixels or more"
        )
    budget = 60 * minutes if steps is None else float(steps)
    latest, steps_done = Latest(), 0
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = _Learner(picture.rgb, size, mixable, model, target_device, dtype)
        draw = _photographs(photos, size, torch.Generator().manual_seed(seed))
        start, done = time.monotonic(), 0.0
        while done < budget:
            latest(learner.step(draw(), done / budget))
            steps_done += 1
            done = float(steps_done) if steps is not None else time.monotonic() - start
            if on_progress(
                int(min(done, budget)), math.ceil(budget), _mean(latest.losses[-RECENT:])
            ):
                break
        losses = latest.all()
        seconds = time.monotonic() - start
    figures = {
        "steps": steps_done,
        "seconds": round(seconds),
        "loss": [round(fmean(part), 4) for part in (losses[:RECENT], losses[-RECENT:]) if part],
        "photographs": "samples" if photos is None else "own",
        "size": size,
        "seed": seed,
        "device": describe(target_device, dtype),
    }
    color = Moments.of(picture.rgb.double()).normalised().to(torch.float32)
    rows, layers = learner.tensors()
    return Learnt(picture.name, color, learner.method.digest, rows, layers, figures)


class _Learner:
    """The optimisation of the rows and layers of one painting.

    Args:
        painting: ``(3, H, W)``.
        size, mixable, model: see :func:`learn`.
        device, dtype: the device and the precision of the network.
    """

    def __init__(
        self,
        painting: Tensor,
        size: int,
        mixable: bool,
        model: Path | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.method = Ghiasi(model, device=str(device), precision="float32")
        self.network = self.method.model
        self.training = GhiasiTraining(self.network, load_backbone("compact"), **LOSSES)
        self.training.to(device)
        self.device, self.dtype = device, dtype
        self.painting = reduce(painting, size)[None].to(device)
        with torch.no_grad():
            self.painting_features = self.training.features(self.painting)
            height, width = self.painting.shape[-2:]
            shares = self.method.rows((height, width), self.method.prepare([painting]))
            rows, layers = self.network.predicted(shares, mixable)
        for tensor in (rows, *layers.values()):
            tensor.requires_grad_()
        color = Moments.of(painting)
        self.learnt = Learnt("", color, self.method.digest, rows, layers, {})
        groups = [{"params": [rows], "lr": ROWS_RATE}]
        groups += [{"params": [*layers.values()], "lr": LAYERS_RATE}] if layers else []
        self.optimizer = torch.optim.Adam(groups)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def step(self, contents: Tensor, share: float) -> Tensor:
        """One step on crops ``(B, 3, H, W)``, ``share`` of the work being done; gives the loss."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * min(1, (share + 1e-3) / WARM) * (1 + math.cos(math.pi * share)) / 2
        contents = recolored(contents, RECOLORED).to(self.device)
        choice, partial = torch.rand(2).tolist()
        strength = 1.0 if choice < FULL else partial
        with mixed(self.device, self.dtype):
            mix = self._mix(contents, strength)
            noise = self._noise(*contents.shape[-2:])
            out = self.network(contents, mix, strength, [self.learnt], noise)
            strengths = contents.new_full((len(contents),), strength)
            terms = self.training.terms(
                out, contents, self.painting, strengths, self.painting_features
            )
            loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            norm = nn.utils.clip_grad_norm_(group["params"], CLIP)
            for tensor in group["params"]:  # gradients that are not finite become zero
                tensor.grad = torch.where(norm.isfinite(), tensor.grad, torch.zeros_like(tensor))
        self.optimizer.step()
        return loss.detach()

    def tensors(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The current rows and layers, rounded to float16 as in a file."""

        def rounded(tensor: Tensor) -> Tensor:
            return tensor.detach().cpu().half().float()

        layers = {name: rounded(layer) for name, layer in self.learnt.layers.items()}
        return rounded(self.learnt.rows), layers

    @torch.no_grad()
    def _mix(self, contents: Tensor, strength: float) -> Tensor:
        """Weights of the network's rows, those of the photographs, and of the learnt row."""
        if strength == 1:
            photo_rows = contents.new_zeros(len(contents), self.network.config.rows)
        else:
            photo_rows = (1 - strength) * self.network.rows(self.network.measure(contents))
        return nn.functional.pad(photo_rows, (0, 1), value=strength)

    def _noise(self, height: int, width: int) -> Tensor:
        """The noise of rendering, at a random position."""
        painter = self.network.network.painter
        rows, columns = painter.noise_at(height, width).shape[-2:]
        top, left = (int(torch.randint(3 * length, ())) for length in (rows, columns))
        noise = painter.noise_at(4 * (height + 8), 4 * (width + 8))
        return noise[..., top : top + rows, left : left + columns]


def _mean(losses: Sequence[float]) -> float:
    return fmean(losses) if losses else math.nan


def _photographs(folder: Path | None, size: int, rng: torch.Generator) -> Callable[[], Tensor]:
    """A function that draws crops ``(BATCH, 3, H, W)`` of a folder's photographs or the samples."""
    side = min(CROP, size)
    pictures: Sequence[Tensor]
    if folder is None:
        try:
            samples = [photograph(name) for name in PHOTOGRAPHS]
        except InputError as fault:
            raise InputError(
                f"{fault}, or name a folder of photographs ({spelled('photos')})"
            ) from None
        reduced = [resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], size)) for rgb in samples]
        pictures = [(rgb * 255).round().to(torch.uint8) for rgb in reduced]
    else:
        pictures = PictureSet([folder], size, memory=MEMORY).train

    def draw() -> Tensor:
        indices = torch.randint(len(pictures), (BATCH,), generator=rng).tolist()
        return torch.stack([random_crop(pictures[index], side, rng) for index in indices])

    return draw
