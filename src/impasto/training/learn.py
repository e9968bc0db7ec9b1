"""``impasto learn``: one painting learnt well, from what is predicted for it, in some minutes.

Ghiasi et al. 2017 predict the scales and shifts of every normalisation for a painting that the
network has never seen. Here they, and the network's last layers, are learnt on from there for that
painting alone, by the losses of :class:`.methods.ghiasi.GhiasiTraining` against the whole of the
painting.
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
from ..errors import InputError, check_finite, check_whole
from ..images import Source, fit, resize
from ..methods.ghiasi import Ghiasi
from ..methods.learnt import Learnt
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
CROP, BATCH = 256, 1  # pixels of the photographs' crops, at most; how many in a step
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
WARM = 0.05  # share of the work in which the rate grows from nothing
FULL = 0.85  # share of the steps at strength 1
RECOLORED = 0.3  # of the photographs, of which there may be few
MEMORY = 0.05  # GB of photographs that are decoded once
CLIP = 5.0  # norm of the gradients, of rows and of layers, at most
RECENT = 20  # steps whose mean loss is said


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
    precision: str = "auto",
    on_progress: Callable[[int, int, float], bool | None] = lambda done, total, loss: None,
    progress: bool = False,
) -> Learnt:
    """Learn one painting, starting from what the network predicts for it.

    Args:
        painting: whatever :func:`impasto.images.read` takes.
        photos: folder of photographs to learn on; None takes the free samples.
        minutes: how long, about.
        steps: how many steps instead; 0 keeps what is predicted. The same number, seed, threads and
            precision give the same result.
        size: short side in pixels of photographs and painting, 64 to 1024: strokes are learnt as
            they are seen at it.
        mixable: leave the network's last layers alone, so that the style mixes with others.
        model: a file made by ``impasto train ghiasi``; None takes the bundled one.
        seed: of crops, colours and noise.
        device, precision: see :mod:`impasto.device`; with bfloat16, mixed.
        on_progress: called with what is done, in steps or seconds, with all that is to do, and the
            loss; returning True ends with what was learnt so far.
        progress: draw a bar.

    Returns:
        The style: ``save(path)`` writes it, and it is taken wherever a painting is.

    Raises:
        InputError: for a number out of its range, pictures that cannot be read or are too small,
            and a file that is no such model.
    """
    check_finite("minutes", minutes)
    if not 0 < minutes <= 10_000:
        raise InputError(f"minutes is {minutes}: must be above 0, and 10000 at most")
    if steps is not None:
        check_whole("steps", steps, 0)
    check_whole("size", size, SMALLEST)
    if size > LARGEST:
        raise InputError(f"size is {size}: must be {LARGEST} pixels at most")
    check_whole("seed", seed, 0)
    if seed >= 2**63:
        raise InputError(f"seed is {seed}: must be below 2^63")
    check_process()
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    seen = read_painting(painting)
    if min(seen.height, seen.width) < SMALLEST:
        raise InputError(
            f"{seen.name}: the painting is {seen.width}x{seen.height}; the short side must be "
            f"{SMALLEST} pixels or more"
        )
    budget = 60 * minutes if steps is None else float(steps)
    latest, steps_done = Latest(), 0
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = _Learner(seen.rgb, size, mixable, model, where, dtype)
        draw = _photographs(photos, size, torch.Generator().manual_seed(seed))
        began, done = time.monotonic(), 0.0
        while done < budget:
            latest(learner.step(draw(), done / budget))
            steps_done += 1
            done = float(steps_done) if steps is not None else time.monotonic() - began
            if on_progress(
                int(min(done, budget)), math.ceil(budget), _mean(latest.losses[-RECENT:])
            ):
                break
        losses = latest.all()
        spent = time.monotonic() - began
    figures = {
        "steps": steps_done,
        "seconds": round(spent),
        "loss": [round(fmean(part), 4) for part in (losses[:RECENT], losses[-RECENT:]) if part],
        "photographs": "samples" if photos is None else "own",
        "size": size,
        "seed": seed,
        "device": describe(where, dtype),
    }
    color = Moments.of(seen.rgb.double()).normalised().to(torch.float32)
    rows, layers = learner.kept()
    return Learnt(seen.name, color, learner.method.digest, rows, layers, figures)


class _Learner:
    """One painting, the network, and what is learnt of it.

    Args:
        painting: ``(3, H, W)``.
        size, mixable, model: see :func:`learn`.
        device, dtype: where, and how precisely, to compute.
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
            self.judged = self.training.judge_all(self.painting)
            shares = self.method.rows(self.painting, self.method.prepare([painting]))
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
        drawn = torch.rand(2).tolist()
        strength = 1.0 if drawn[0] < FULL else drawn[1]
        with mixed(self.device, self.dtype):
            mix = self._mix(contents, strength)
            noise = self._noise(*contents.shape[-2:])
            out = self.network(contents, mix, strength, [self.learnt], noise)
            by = contents.new_full((len(contents),), strength)
            terms = self.training.terms(out, contents, self.painting, by, self.judged)
            loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            norm = nn.utils.clip_grad_norm_(group["params"], CLIP)
            for tensor in group["params"]:  # a slope that is not finite is none
                tensor.grad = torch.where(norm.isfinite(), tensor.grad, torch.zeros_like(tensor))
        self.optimizer.step()
        return loss.detach()

    def kept(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows and layers so far, as a file has them."""

        def plain(tensor: Tensor) -> Tensor:
            return tensor.detach().cpu().half().float()

        layers = {name: plain(layer) for name, layer in self.learnt.layers.items()}
        return plain(self.learnt.rows), layers

    @torch.no_grad()
    def _mix(self, contents: Tensor, strength: float) -> Tensor:
        """Shares of the network's rows, which are the photographs' own, and of the learnt one."""
        if strength == 1:
            photograph = contents.new_zeros(len(contents), self.network.config.rows)
        else:
            photograph = (1 - strength) * self.network.rows(self.network.measure(contents))
        return nn.functional.pad(photograph, (0, 1), value=strength)

    def _noise(self, height: int, width: int) -> Tensor:
        """As in rendering, but elsewhere every time."""
        painter = self.network.network.painter
        rows, columns = painter.noise_at(height, width).shape[-2:]
        top, left = (int(torch.randint(3 * length, ())) for length in (rows, columns))
        noise = painter.noise_at(4 * (height + 8), 4 * (width + 8))
        return noise[..., top : top + rows, left : left + columns]


def _mean(losses: Sequence[float]) -> float:
    return fmean(losses) if losses else math.nan


def _photographs(folder: Path | None, size: int, rng: torch.Generator) -> Callable[[], Tensor]:
    """Gives batches of crops ``(BATCH, 3, H, W)``: of a folder's photographs, or the samples."""
    side = min(CROP, size)
    pictures: Sequence[Tensor]
    if folder is None:
        try:
            each = [photograph(name) for name in PHOTOGRAPHS]
        except InputError as fault:
            raise InputError(f"{fault}, or name a folder of photographs (--photos)") from None
        small = [resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], size)) for rgb in each]
        pictures = [(rgb * 255).round().to(torch.uint8) for rgb in small]
    else:
        pictures = PictureSet([folder], size, memory=MEMORY).train

    def draw() -> Tensor:
        numbers = torch.randint(len(pictures), (BATCH,), generator=rng).tolist()
        return torch.stack([random_crop(pictures[number], side, rng) for number in numbers])

    return draw
