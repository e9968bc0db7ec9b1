"""Distilling a small encoder from VGG-19: how the bundled ``compact`` and ``slim`` are made.

The student has VGG's layers, narrow or in bottlenecks. It learns these things at every tap, from
random crops of photographs and paintings:

* **map**: a linear map of its features reproduces the teacher's (Wang et al., "Collaborative
  Distillation for Ultra-Resolution Universal Style Transfer", CVPR 2020). The map is dropped
  afterwards.
* **kernel**: the dot products of its features between positions equal the teacher's,
  ``F_s^T F_s / C_s = F_t^T F_t / C_t``. This is what style transfer needs: the squared distance of
  two Gram matrices is a function of these dot products alone,
  ``|A A^T - B B^T|^2 = |A^T A|^2 + |B^T B|^2 - 2 |A^T B|^2``,
  so a student with the teacher's kernel has the teacher's style loss, whatever its width.
* **gram** (if asked for): what is left of the teacher's features is uncorrelated with the student's
  in each crop. The map leaves no correlation over all crops together; in a single picture there is
  some, and that share of its Gram matrix is what an optimisation through the student cannot see.

The teacher is the costly part, so its features are measured once, at random positions of a fixed
bank of crops, and the student then goes over the bank as often as the time allows.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.base import PLAIN
from ..backbones.compact import Compact
from ..backbones.vgg import VGG
from ..device import arranged, choose_precision, mixed
from ..errors import InputError, Interrupted
from ..files import path_of
from ..linalg import ridge
from ..losses import content_loss, gram_loss
from ..statistics import Moments
from .data import PictureSet
from .methods.regress import fit_bottlenecks, fit_layers
from .recipes import check_fields
from .run import Latest, OnProgress, save_state

__all__ = ["DistillConfig", "Teacher", "distill"]

Teacher = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class DistillConfig:
    """Everything that a distillation depends on; a recipe holds these as TOML.

    Attributes:
        widths: channels of the student's convolutions, block by block: a narrow VGG.
        layers: instead of these, the layers of a :class:`Compact`.
        crops: size of the bank; validation: crops held out of it.
        size: side of a crop, pixels.
        noise, blend: share of the crops with white noise (deviation up to 0.2) added, and of those
            that are an average of two pictures. Optimisation starts from such pictures and passes
            through them, and a student that only knows natural pictures can be fooled there.
        positions: per crop and tap, at most.
        steps, batch, optimizer, learning_rate: with a cosine schedule to zero. ``adam``; or
            ``muon`` (Jordan 2024), whose steps change all directions of a weight alike, for the
            convolutions and maps, and Adam at three tenths of its rate for the biases.
        dreams, dream_every: every so many steps, 24 pictures are optimised through the student as
            it is, and half of every batch is from the latest ``dreams`` of them. A student that has
            only seen pictures from outside lets its statistics be satisfied in ways that the
            teacher does not accept, however small its error on those pictures; here it learns
            again and again what the teacher makes of the latest ones.
        kernel, gram, unit: weights of the kernel loss, of the Gram loss and of the pull of mean
            activations to one, relative to the map loss.
        taps: weights of the taps, 1 where none is given.
        seed: of crops, positions, initial weights and order.

    Raises:
        InputError: for values out of range or of another type.
    """

    widths: tuple[tuple[int, ...], ...] = ()
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    crops: int = 8000
    validation: int = 200
    size: int = 128
    noise: float = 0.15
    blend: float = 0.15
    positions: int = 256
    steps: int = 10000
    batch: int = 8
    dreams: int = 0
    dream_every: int = 60
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    kernel: float = 1.0
    gram: float = 0.0
    unit: float = 0.05
    taps: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("crops", "validation", "size", "positions", "steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 1 or more")


@dataclass
class Bank:
    """Crops and what the teachers see in them.

    Attributes:
        crops: ``(n, 3, size, size)`` uint8.
        positions: tap -> ``(n, p)`` indices into the flattened feature map.
        features: tap -> ``(n, p, C)`` float16.
        scale: tap -> variance of the teacher's features, mean over channels; losses are relative
            to it, so that every tap counts alike.
    """

    crops: Tensor
    positions: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)


def measure(
    pictures: PictureSet,
    teachers: Sequence[Teacher],
    config: DistillConfig,
    held_out: bool,
    progress: Callable[[int, int], None],
) -> Bank:
    """Cut crops and measure the teachers on them, once."""
    rng = torch.Generator().manual_seed(config.seed + int(held_out))
    count = config.validation if held_out else config.crops
    use_held_out = held_out and bool(pictures.validation)
    crops = torch.empty(count, 3, config.size, config.size, dtype=torch.uint8)

    def crop() -> Tensor:
        return pictures.crop(config.size, rng, use_held_out)

    for i in range(count):
        picture = crop()
        kind = float(torch.rand((), generator=rng))
        if kind < config.noise:
            deviation = 0.2 * float(torch.rand((), generator=rng))
            picture = picture + deviation * torch.randn(picture.shape, generator=rng)
        elif kind < config.noise + config.blend:
            picture = (picture + crop()) / 2
        crops[i] = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    return examine(crops, teachers, config.positions, rng, progress)


@torch.no_grad()
def examine(
    crops: Tensor,
    teachers: Sequence[Teacher],
    positions: int,
    rng: torch.Generator,
    progress: Callable[[int, int], None],
) -> Bank:
    """What the teachers see in ``crops``, at ``positions`` random positions of each."""
    bank = Bank(crops)
    count = len(crops)
    for i in range(count):
        for teacher in teachers:
            for tap, features in teacher(crops[i : i + 1].float() / 255).items():
                flat = features[0].flatten(1).T  # (N, C)
                kept = min(positions, len(flat))
                if tap not in bank.features:
                    shape = (count, kept, flat.shape[1])
                    bank.features[tap] = torch.empty(shape, dtype=torch.float16)
                    bank.positions[tap] = torch.empty(count, kept, dtype=torch.int32)
                index = torch.randperm(len(flat), generator=rng)[:kept]
                bank.positions[tap][i] = index.int()
                bank.features[tap][i] = flat[index.to(flat.device)].half()
        progress(i + 1, count)
    for tap, features in bank.features.items():
        sample = features[:500].float().flatten(0, 1)
        bank.scale[tap] = float(sample.var(0).mean())
    return bank


class _Trainee(nn.Module):
    """The student with the linear maps that are dropped when it has learnt."""

    def __init__(self, config: DistillConfig, bank: Bank) -> None:
        super().__init__()
        self.net: Compact | VGG = (
            Compact(config.layers) if config.layers else VGG(config.widths, PLAIN, name="slim")
        )
        for conv in self.net.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        self.maps = nn.ModuleDict(
            {
                tap: nn.Linear(self.net.channels(tap), features.shape[-1])
                for tap, features in bank.features.items()
            }
        )

    @torch.no_grad()
    def start(self, bank: Bank, teacher: VGG, others: Sequence[Teacher]) -> None:
        """Layers and maps by least squares, see :mod:`.methods.regress`; on the CPU."""
        crops = bank.crops[: 240 if isinstance(self.net, Compact) else 400].float() / 255
        targets: dict[str, Tensor] = {}
        for other in others:
            seen = [other(crop[None]) for crop in crops]
            targets |= {
                "conv" + tap[4:]: torch.cat([s[tap] for s in seen]).cpu() for tap in seen[0]
            }
        if isinstance(self.net, Compact):
            fit_bottlenecks(self.net, teacher, crops, targets)
        else:
            fit_layers(self.net, teacher, crops, targets)
        for tap in bank.features:
            rows, answers = [], []
            for index in torch.split(torch.arange(len(crops)), 8):
                student, theirs = self.sampled(bank, index, tap)
                rows.append(student[:, :128].flatten(0, 1))
                answers.append(theirs[:, :128].flatten(0, 1))
            weight, bias = ridge(torch.cat(rows), torch.cat(answers))
            linear = self.maps[tap]
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)

    def sampled(self, bank: Bank, index: Tensor, tap: str) -> tuple[Tensor, Tensor]:
        """Student's and teacher's features at the bank's positions, ``(B, p, C)`` each."""
        crops = self._crops(bank, index)
        return self._gather(self.net(crops, [tap])[tap], bank, index, tap)

    def _crops(self, bank: Bank, index: Tensor) -> Tensor:
        device = next(self.parameters()).device
        return arranged(bank.crops[index].to(device).float().div(255))

    def _gather(
        self, features: Tensor, bank: Bank, index: Tensor, tap: str
    ) -> tuple[Tensor, Tensor]:
        flat = features.float().flatten(2).transpose(1, 2)  # (B, N, C)
        positions = bank.positions[tap][index].to(flat.device).long()
        student = flat.gather(1, positions[..., None].expand(-1, -1, flat.shape[-1]))
        return student, bank.features[tap][index].to(flat.device).float()

    def losses(self, bank: Bank, index: Tensor, gram: bool = True) -> dict[str, dict[str, Tensor]]:
        """Per tap: ``map``, ``kernel``, ``gram`` (shares of variance not explained), ``unit``."""
        crops = self._crops(bank, index)
        out: dict[str, dict[str, Tensor]] = {}
        with _mixed(crops.device):
            seen = self.net(crops, bank.features)
        for tap, features in seen.items():
            student, teacher = self._gather(features, bank, index, tap)
            mapped = self.maps[tap](student)
            error = F.mse_loss(mapped, teacher) / bank.scale[tap]
            few = slice(0, max(1, 512 // len(index)))
            ours = student[:, few].flatten(0, 1)
            theirs = teacher[:, few].flatten(0, 1)
            kernel = ours @ ours.T / ours.shape[1]
            target = theirs @ theirs.T / theirs.shape[1]
            out[tap] = {
                "map": error,
                "kernel": F.mse_loss(kernel, target) / target.var(),
                "unit": (student.mean((0, 1)) - 1).square().mean(),
            }
            if gram:
                out[tap]["gram"] = _unseen(mapped, teacher)
        return out


def _unseen(mapped: Tensor, teacher: Tensor) -> Tensor:
    """Of ``(B, p, C)``: the squared part of Gram matrices in which ``mapped`` meets what it lacks.

    ``|P^T E + E^T P|^2 / |T^T T|^2`` for ``T = P + E``, mean over the crops.
    """
    with _mixed(mapped.device):
        cross = mapped.transpose(1, 2) @ (teacher - mapped)
        gram = teacher.transpose(1, 2) @ teacher
    missing = (cross + cross.transpose(1, 2)).float().square().sum((1, 2))
    return (missing / gram.float().square().sum((1, 2))).mean()


def _mixed(device: torch.device) -> AbstractContextManager[Any]:
    """Convolutions in bfloat16 where that is fast."""
    return mixed(device, choose_precision("auto", device))


def dream(net: Compact | VGG, crops: Tensor, rng: torch.Generator, taps: Sequence[str]) -> Tensor:
    """Pictures on the way of an optimisation through ``net``, ``(24, 3, H, W)`` uint8.

    Eight random crops take the Gram matrices of eight others at ``taps`` (Adam, 36 steps, weak
    content term), as in Gatys' method; three pictures of each are kept.
    """
    net.requires_grad_(False)
    kept: list[Tensor] = []
    deep = taps[-2]
    chosen = torch.randint(len(crops), (2, 8), generator=rng)
    device = next(net.parameters()).device
    content, style = (arranged(crops[index].float() / 255, device) for index in chosen)
    with torch.no_grad(), _mixed(device):
        seen = net(content, [deep])[deep]
        aim = {tap: Moments.of(f) for tap, f in net(style, taps).items()}
    x = content.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([x], 0.04, betas=(0.9, 0.99))
    for step in range(1, 37):
        optimizer.param_groups[0]["lr"] = 0.04 * min(1.0, (37 - step) / 18)
        with _mixed(device):
            features = net(x, taps)
        losses = [gram_loss(Moments.of(features[tap]), aim[tap]) for tap in taps]
        loss = 100 * torch.stack(losses).mean(0).sum() + content_loss(features[deep], seen)
        (x.grad,) = torch.autograd.grad(loss, x)
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
        if step % 12 == 0:
            kept.append((x.detach() * 255).round().to(torch.uint8))
    net.requires_grad_(True)
    return torch.cat(kept).cpu().contiguous()


@torch.no_grad()
def evaluate(trainee: nn.Module, bank: Bank, batch: int) -> dict[str, dict[str, float]]:
    """Mean losses over a bank; ``map`` and ``kernel`` are shares of variance not explained."""
    assert isinstance(trainee, _Trainee)
    sums: dict[str, dict[str, Tensor]] = {}
    chunks = torch.split(torch.arange(len(bank.crops)), batch)
    for index in chunks:
        for tap, losses in trainee.losses(bank, index).items():
            row = sums.setdefault(tap, {})
            for name, value in losses.items():
                row[name] = row.get(name, 0.0) + value * len(index) / len(bank.crops)
    return {tap: {name: float(value) for name, value in row.items()} for tap, row in sums.items()}


def distill(
    pictures: PictureSet,
    teachers: Sequence[Teacher],
    config: DistillConfig,
    run: Path,
    start: VGG | None = None,
    log: Callable[[str], None] = print,
    every: int = 250,
    device: torch.device = torch.device("cpu"),  # noqa: B008
    on_progress: OnProgress = lambda step, steps, loss: None,
) -> tuple[Compact | VGG, dict[str, dict[str, float]]]:
    """Train a student; an interrupted run goes on where its last checkpoint stands.

    Args:
        pictures: photographs and paintings.
        teachers: each maps ``(1, 3, H, W)`` to features by tap name.
        config: see :class:`DistillConfig`.
        run: folder of the bank (``bank.pt``), checkpoint (``last.pt``) and log (``log.jsonl``).
        start: the first teacher's network, on the CPU, for a start by least squares instead of
            random weights.
        log: called with a line of progress.
        every: steps between validations and checkpoints.
        device: where to compute.
        on_progress: see :data:`impasto.training.run.OnProgress`; while the teachers are asked, with
            no step done, too.

    Returns:
        The student, and its validation losses by tap.

    Raises:
        InputError: if the run folder holds a run of another configuration.
        Interrupted: if ``on_progress`` asked for the end.
    """
    run = path_of(run, "run")
    run.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(asdict(config), sort_keys=True)
    bank, held_out = _banks(pictures, teachers, config, run, log, on_progress)
    torch.manual_seed(config.seed)
    trainee = _Trainee(config, bank)
    rng = torch.Generator().manual_seed(config.seed)
    step = 0
    own: Bank | None = None
    checkpoint = run / "last.pt"
    kept: list[dict[str, Any]] | None = None
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["settings"] != settings:
            raise InputError(
                f"{run}: holds a run with other settings; choose another folder or delete it"
            )
        kept = state["optimizer"]
        trainee.load_state_dict(state["trainee"])
        rng.set_state(state["rng"])
        step = state["step"]
        own = None if state["own"] is None else Bank(**state["own"])
        log(f"going on at step {step}")
    elif start is not None:
        trainee.start(bank, start, teachers[1:])
    trainee.to(device)
    if kept is None and start is not None:
        log(_line("by least squares", evaluate(trainee, held_out, config.batch)))
    rule = _Rule(trainee, config)
    if kept is not None:
        rule.load(kept)
    weights = {"map": 1.0} | {name: getattr(config, name) for name in ("kernel", "gram", "unit")}
    began, loss = time.monotonic(), Latest()
    while step < config.steps:
        if config.dreams and step and step % config.dream_every == 0:
            latest = _dreams(trainee.net, bank, teachers, config, step)
            if step % every < config.dream_every:
                fooled = evaluate(trainee, latest, config.batch)
                log(_line("  pictures just optimised through it:", fooled))
            own = latest if own is None else _joined(latest, own, config.dreams)
        losses = trainee.losses(*_batch(bank, own, config.batch, rng), gram=config.gram > 0)
        total = torch.stack(
            [
                config.taps.get(tap, 1.0) * weights[name] * term
                for tap, row in losses.items()
                for name, term in row.items()
            ]
        ).sum()
        trainee.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trainee.parameters(), 5.0)
        warm = min(1.0, (step + 1) / 100)
        rule.step(warm * (1 + math.cos(math.pi * step / config.steps)) / 2)
        step += 1
        ends = on_progress(step, config.steps, loss(total.detach()))
        if step % every == 0 or step == config.steps:
            figures = evaluate(trainee, held_out, config.batch)
            seconds = time.monotonic() - began
            with open(run / "log.jsonl", "a", encoding="utf-8") as lines:
                lines.write(
                    json.dumps({"step": step, "train": float(total.detach()), "val": figures})
                    + "\n"
                )
            head = f"step {step}/{config.steps} {seconds:.0f} s  loss {float(total.detach()):.3f}"
            log(_line(head, figures))
        if ends or step % every == 0 or step == config.steps:
            state = {
                "settings": settings,
                "trainee": trainee.state_dict(),
                "optimizer": [optimizer.state_dict() for optimizer in rule.optimizers],
                "rng": rng.get_state(),
                "step": step,
                "own": None if own is None else vars(own),
            }
            save_state(checkpoint, state)
        if ends:
            raise Interrupted(step)
    figures = evaluate(trainee, held_out, config.batch)
    return trainee.net.cpu().eval().requires_grad_(False), figures


class _Rule:
    """How the weights follow their gradients, see :class:`DistillConfig`.

    torch's Muon takes matrices, so the kernels of a convolution are handed to it flattened, as
    views of the same memory.
    """

    def __init__(self, trainee: nn.Module, config: DistillConfig) -> None:
        rate = config.learning_rate
        self.matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        if config.optimizer == "adam":
            self.optimizers.append(torch.optim.Adam(trainee.parameters(), rate))
        else:
            weights = list(trainee.parameters())
            self.matrices = [
                (p, nn.Parameter(p.detach().flatten(1))) for p in weights if p.ndim > 1
            ]
            flat = [matrix for _, matrix in self.matrices]
            self.optimizers.append(
                torch.optim.Muon(flat, rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
            )
            self.optimizers.append(
                torch.optim.Adam([p for p in weights if p.ndim == 1], 0.3 * rate)
            )
        self.rates = [optimizer.defaults["lr"] for optimizer in self.optimizers]

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from a checkpoint."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)

    def step(self, share: float) -> None:
        """Follow the gradients at ``share`` of the learning rate."""
        for weight, matrix in self.matrices:
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()


def _dreams(
    net: Compact | VGG, bank: Bank, teachers: Sequence[Teacher], config: DistillConfig, step: int
) -> Bank:
    """The student's own pictures and what the teachers see in them."""
    rng = torch.Generator().manual_seed(config.seed + step)
    crops = dream(net, bank.crops, rng, list(bank.features))
    own = examine(crops, teachers, config.positions, rng, lambda done, total: None)
    own.scale = bank.scale
    return own


def _joined(latest: Bank, own: Bank, most: int) -> Bank:
    """The latest pictures and those before them, ``most`` in all."""
    return Bank(
        torch.cat([latest.crops, own.crops])[:most],
        {tap: torch.cat([p, own.positions[tap]])[:most] for tap, p in latest.positions.items()},
        {tap: torch.cat([f, own.features[tap]])[:most] for tap, f in latest.features.items()},
        own.scale,
    )


def _batch(bank: Bank, own: Bank | None, size: int, rng: torch.Generator) -> tuple[Bank, Tensor]:
    """A batch as a small bank with its indices; half of it from the student's own pictures."""
    index = torch.randint(len(bank.crops), (size,), generator=rng)
    if own is None:
        return bank, index
    parts = [(bank, index[size // 2 :])]
    parts.append((own, torch.randint(len(own.crops), (size // 2,), generator=rng)))

    def joined(field_name: str, tap: str) -> Tensor:
        return torch.cat([getattr(part, field_name)[tap][chosen] for part, chosen in parts])

    return (
        Bank(
            torch.cat([part.crops[chosen] for part, chosen in parts]),
            {tap: joined("positions", tap) for tap in bank.features},
            {tap: joined("features", tap) for tap in bank.features},
            bank.scale,
        ),
        torch.arange(size),
    )


def _line(head: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    """One line of progress: map and kernel error of every tap."""
    each = (f"{tap} {row['map']:.3f}/{row['kernel']:.3f}" for tap, row in figures.items())
    return f"{head}  {'  '.join(each)}"


def _banks(
    pictures: PictureSet,
    teachers: Sequence[Teacher],
    config: DistillConfig,
    run: Path,
    log: Callable[[str], None],
    on_progress: OnProgress,
) -> tuple[Bank, Bank]:
    path = run / "bank.pt"
    names = ("crops", "size", "noise", "blend", "positions", "validation", "seed")
    settings = {name: getattr(config, name) for name in names}
    if path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["settings"] == settings:
            return Bank(**saved["train"]), Bank(**saved["validation"])
        log("the bank was measured with other settings: measuring anew")

    def progress(done: int, total: int) -> None:
        if done % 500 == 0 or done == total:
            log(f"teachers measured on {done} of {total} crops")
        if on_progress(0, config.steps, math.nan):
            raise Interrupted(0)

    train = measure(pictures, teachers, config, False, progress)
    validation = measure(pictures, teachers, config, True, progress)
    saved = {"settings": settings, "train": vars(train), "validation": vars(validation)}
    save_state(path, saved)
    return train, validation
