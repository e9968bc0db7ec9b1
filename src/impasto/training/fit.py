"""Training any method's network, on Lightning.

Training is counted in optimiser steps, and a step depends on the seed, its number and the weights
alone: data and random numbers are drawn anew for every step (:func:`seed_of`). So a run that was
killed goes on from its last checkpoint to the same losses, bit for bit on a CPU.

A run is a folder: ``last.ckpt``, logs in ``log/`` (CSV) and ``tensorboard/``, ``losses.png``,
``samples-STEP.png``, and when it has ended ``network.safetensors``. Its checkpoint is a pickle:
trust a run's folder that comes from elsewhere as you would a program.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torch.utils.data import default_collate

from .. import __version__
from ..device import arranged, choose_device, choose_precision, describe
from ..errors import InputError, Interrupted
from ..files import PARTS, part_name, path_of
from ..images import write
from ..tensors import load_tensors, save_tensors
from .data import Pairs, Split, Stream, seed_of
from .methods.base import Trainable
from .recipes import check_fields
from .run import OnProgress
from .sheets import draw_losses, sheet

try:
    import lightning.pytorch as pl
    import matplotlib  # noqa: F401, used when losses are drawn
    import tensorboard  # type: ignore[import-untyped]  # noqa: F401, used by its logger
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    from lightning.pytorch.utilities import rank_zero_only
except ImportError as error:
    raise InputError(
        "training needs Lightning, TensorBoard and Matplotlib, and "
        f'{error.name} is not here: pip install "impasto[train]"'
    ) from None

__all__ = [
    "Fit",
    "Hardware",
    "OnProgress",
    "TrainingConfig",
    "fit",
    "history",
    "is_main",
]

Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "inverse", "halving", "cosine", "plateau"]
CHECKPOINT, NETWORK = "last.ckpt", "network.safetensors"
SHEET = 4  # contents and styles of a sample sheet


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the table ``[training]`` of a recipe.

    Attributes:
        steps: of the optimiser, in all; a run may go on with others, unless its schedule is
            ``cosine``.
        batch: pairs in a step, over all processes.
        start: crops that the method's start in closed form is fitted to; 0 starts with the weights
            as they are.
        optimizer: ``adam``, or ``sgd`` with ``momentum``.
        learning_rate: at the start.
        momentum: of SGD.
        schedule: of the learning rate: ``constant``; ``inverse``, divided by ``1 + decay step``
            (Huang & Belongie); ``halving``, halved every ``every`` steps; ``cosine``, falling to
            zero over ``steps`` as half a wave; ``plateau``, multiplied by ``factor`` when the
            validation loss has not fallen for ``patience`` validations.
        decay, every, factor, patience: see ``schedule``.
        clip: greatest norm of the gradient; 0 does not clip.
        average: decay of the moving average of the weights, which then is what is validated and
            saved; 0 saves the weights themselves.
        validate_every: steps between validations; validation: pairs in one, the same every time.
        log_every, checkpoint_every, samples_every: steps between entries in the logs, between
            checkpoints and between sample sheets; 0 draws no sheets.
        seed: of initial weights, data and whatever a loss draws.

    Raises:
        InputError: for values out of range or of another type.
    """

    steps: int = 10000
    batch: int = 8
    start: int = 0
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    schedule: Schedule = "constant"
    decay: float = 5e-5
    every: int = 10000
    factor: float = 0.5
    patience: int = 5
    clip: float = 0.0
    average: float = 0.0
    validate_every: int = 500
    validation: int = 64
    log_every: int = 50
    checkpoint_every: int = 500
    samples_every: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name, known in (("optimizer", get_args(Optimizer)), ("schedule", get_args(Schedule))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} = {getattr(self, name)!r}: use {', '.join(known)}")
        counts = ("steps", "batch", "every", "validate_every", "validation", "log_every")
        for name in (*counts, "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 1 or more")
        for name in ("decay", "patience", "clip", "samples_every", "seed", "start"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate = {self.learning_rate}: must be above 0")
        for name in ("momentum", "average", "factor"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 0 or more, below 1")


# What a run may be gone on with differently: it changes neither what was learnt nor what will be.
FREE = {"steps", "log_every", "checkpoint_every", "samples_every", "memory", "workers"}


@dataclass(frozen=True)
class Hardware:
    """Where to train; handed on to Lightning.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto``, ``float32``, or mixed with ``bfloat16`` or ``float16`` (CUDA).
        devices: processes on a machine, each with its device; nodes: machines, which must share
            the folder of the run.
        strategy: of Lightning, such as ``ddp``.

    Raises:
        InputError: for several processes on one numbered device, or values of another type.
    """

    device: str = "auto"
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if ":" in self.device and self.devices > 1:
            raise InputError(
                f"device {self.device} is one, and --devices {self.devices} are asked for: use "
                f"--device {self.device.split(':')[0]}, or --devices 1"
            )


class Fit(pl.LightningModule):
    """A method in training: its loss, its network, and what happens every so many steps.

    Args:
        method: see :class:`Trainable`; frozen networks of its own are no part of a checkpoint.
        pairs: what it learns from.
        config: see :class:`TrainingConfig`.
        run: the folder that everything goes to.
        settings: what must be the same for a run to go on; kept in the checkpoint.
        on_progress: see :data:`OnProgress`.
        report: called with a line at every validation.
    """

    def __init__(
        self,
        method: Trainable,
        pairs: Pairs,
        config: TrainingConfig,
        run: Path,
        settings: Mapping[str, object],
        on_progress: OnProgress = lambda step, steps, loss: None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__()
        self.method, self.pairs, self.config, self.run = method, pairs, config, run
        self.settings, self.on_progress, self.report = settings, on_progress, report
        self.network = method.network
        self.average: AveragedModel | None = None
        if config.average:
            mean = get_ema_avg_fn(config.average)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.network, avg_fn=mean)
            self.average.requires_grad_(False)
        self.terms: dict[str, Tensor] = {}
        self.loss = math.nan  # the latest logged

    def on_fit_start(self) -> None:
        """Move what the loss needs besides the network to where the network is."""
        for net in filter(None, (self.network, self.average)):
            arranged(net, self.device)
        self.method.to(self.device)

    def train_dataloader(self) -> Stream:
        """Batches from the next step on; Lightning has restored the number of steps by now."""
        place = (self.global_rank, self.trainer.world_size, self.device.type == "cuda")
        self.stream = Stream(self.pairs, self.config.batch, self.global_step, *place)
        return self.stream

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, as Lightning wants them."""
        config = self.config
        weights = self.network.parameters()
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(weights, config.learning_rate, config.momentum)
        else:
            optimizer = torch.optim.Adam(weights, config.learning_rate)
        if config.schedule == "plateau":
            plateau = ReduceLROnPlateau(optimizer, "min", config.factor, config.patience)
            # validate() takes its steps; an epoch of Lightning's, which has no end here, does not.
            scheduler = {"scheduler": plateau, "interval": "epoch", "monitor": "validation"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}
        factors: dict[str, Callable[[int], float]] = {
            "constant": lambda step: 1.0,
            "inverse": lambda step: 1 / (1 + config.decay * step),
            "halving": lambda step: 0.5 ** (step // config.every),
            "cosine": lambda step: (1 + math.cos(math.pi * step / config.steps)) / 2,
        }
        schedule = LambdaLR(optimizer, factors[config.schedule])
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The sum of the loss's terms."""
        torch.manual_seed(seed_of(self.config.seed, "step", self.global_step, self.global_rank))
        contents, styles = map(arranged, batch)
        terms = self.method.loss(contents, styles)
        self.terms = {name: term.detach() for name, term in terms.items()}
        return torch.stack([term.float() for term in terms.values()]).sum()

    def on_train_batch_end(self, outputs: object, batch: object, index: int) -> None:
        """Average, log, validate, draw and keep, in this order, so that a checkpoint holds all."""
        config, step = self.config, self.global_step
        if self.average is not None:
            self.average.update_parameters(self.network)
        keep = step % config.checkpoint_every == 0 or step == config.steps
        if keep or step == 1 or step % config.log_every == 0:
            self._log_step()
        if step % config.validate_every == 0:
            self._validate()
        if config.samples_every and step % config.samples_every == 0:
            self._draw()
        stop = bool(self.on_progress(step, config.steps, self.loss))
        stop = self.trainer.strategy.reduce_boolean_decision(stop, all=False)
        if keep or stop:
            self._keep()
        if stop:
            raise Interrupted(step)

    def _measure(self) -> dict[str, float]:
        """The step's terms, mean over the processes. Raises InputError if the loss is lost."""
        reduce = self.trainer.strategy.reduce
        row = {name: float(reduce(term, reduce_op="mean")) for name, term in self.terms.items()}
        self.loss = sum(row.values())
        if not math.isfinite(self.loss):
            raise InputError(
                f"{self.run}: the loss is {self.loss} at step {self.global_step}; lower "
                "learning_rate or set clip, and start anew in another folder"
            )
        return row

    def _log_step(self) -> None:
        row = {f"train/{name}": value for name, value in self._measure().items()}
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        others = {"learning_rate": rate, "waiting": self.stream.waiting}
        self._log({"train": self.loss, **row, **others})

    def _log(self, row: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics(row, self.global_step)

    def _validate(self) -> None:
        row = self.evaluate("validation")
        total = sum(row.values())
        self._log({"validation": total, **{f"validation/{k}": v for k, v in row.items()}})
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(total)
        self._measure()
        step = f"step {self.global_step} of {self.config.steps}"
        self.report(f"{step}: loss {self.loss:.4g}, validation {total:.4g}")

    def _draw(self) -> None:
        """Losses so far, and what the network makes of pictures that it does not learn from."""
        if not self.trainer.is_global_zero:
            return
        contents, styles = default_collate([self.pairs.of("validation")[i] for i in range(SHEET)])
        alone = self.pairs.paintings is None
        with self._as_saved():
            columns = getattr(self.method, "columns", 1)
            shown = None if alone else styles
            picture = sheet(self.method.render, contents, shown, self.device, columns)
        write(self.run / f"samples-{self.global_step}.png", picture)
        self._flush()
        draw_losses(history(self.run), self.run / "losses.png")

    def _keep(self) -> None:
        """Write the checkpoint; a kill at any moment leaves the one before whole."""
        self._measure()  # a lost loss is not kept
        self._flush()
        # All processes must use the same name.
        part = self.run / str(self.trainer.strategy.broadcast(part_name()))
        try:
            self.trainer.save_checkpoint(part)
            if self.trainer.is_global_zero:
                part.replace(self.run / CHECKPOINT)
        except OSError as fault:
            raise InputError(
                f"{self.run}: cannot write the checkpoint ({fault.strerror or fault}); free some "
                "space, and go on by --resume"
            ) from fault
        finally:
            if self.trainer.is_global_zero:
                part.unlink(missing_ok=True)

    def _flush(self) -> None:
        for logger in self.loggers:
            logger.save()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the settings."""
        checkpoint["settings"] = json.dumps(self.settings)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Mean of every term of the loss over pairs of a split, the same pairs every time.

        Every process evaluates all of them, so that all go on alike.
        """
        config, pairs = self.config, self.pairs.of(split)
        share = config.batch // self.trainer.world_size
        sums: dict[str, Tensor] = {}
        with self._as_saved():
            for start in range(0, config.validation, share):
                samples = [pairs[i] for i in range(start, min(start + share, config.validation))]
                contents, styles = (x.to(self.device) for x in default_collate(samples))
                torch.manual_seed(seed_of(config.seed, split, start))
                for name, term in self.method.loss(contents, styles).items():
                    mean = term.float() * (len(contents) / config.validation)
                    sums[name] = sums.get(name, 0.0) + mean
        return {name: float(total) for name, total in sums.items()}

    @contextmanager
    def _as_saved(self) -> Iterator[None]:
        """The network as it is saved: averaged, in evaluation mode, without gradients; and the
        precision of training."""
        self.exchange()
        self.network.eval()
        try:
            with torch.no_grad(), self.trainer.precision_plugin.forward_context():
                yield
        finally:
            self.network.train()
            self.exchange()

    def exchange(self) -> None:
        """Swap the weights with their average, if one is kept."""
        if self.average is not None:
            theirs = self.average.module.parameters()
            for ours, other in zip(self.network.parameters(), theirs, strict=True):
                ours.data, other.data = other.data, ours.data


def fit(
    method: Trainable,
    pairs: Pairs,
    config: TrainingConfig,
    run: Path,
    *,
    settings: Mapping[str, object] | None = None,
    resume: bool = False,
    hardware: Hardware | None = None,
    on_progress: OnProgress = lambda step, steps, loss: None,
    log: Callable[[str], None] = print,
) -> dict[str, object]:
    """Train ``method`` in place.

    Args:
        method: see :class:`Trainable`.
        pairs: what to learn from.
        config: see :class:`TrainingConfig`.
        run: folder of the checkpoint, logs and pictures.
        settings: what else, besides ``config`` and the data's, must be the same to go on.
        resume: go on with what ``run`` holds; without it, a folder that holds a run is refused.
        hardware: see :class:`Hardware`; None chooses.
        on_progress: see :data:`OnProgress`; the loss is the latest logged.
        log: called with a line of progress.

    Returns:
        Figures: losses of validation and test, the share of time spent waiting for data, steps,
        seed, versions and machine.

    Raises:
        InputError: if the run, the settings or the hardware cannot be used, or the loss is lost.
        Interrupted: if ``on_progress`` asked for the end.
    """
    hardware, run = hardware or Hardware(), path_of(run, "run")
    fixed = _fixed(config, pairs) | dict(settings or {})
    # As JSON keeps it, so that it can be compared with what was kept.
    module = Fit(method, pairs, config, run, json.loads(json.dumps(fixed)), on_progress, log)
    checkpoint = run / CHECKPOINT
    trainer, machine = _trainer(config, run, hardware)
    if config.batch % trainer.world_size:
        raise InputError(
            f"batch = {config.batch} cannot be shared by {trainer.world_size} processes: give a "
            "multiple of their number"
        )
    check_run(run, resume)
    if is_main():
        for part in run.glob(PARTS):  # of runs that were killed while they wrote
            part.unlink(missing_ok=True)
    done = finished(run) if resume else None
    if done is not None and done["steps"] == config.steps:  # else more steps are asked for now
        tensors, header = load_tensors(run / NETWORK)
        _check_settings(run, header["settings"], module.settings)
        method.network.load_state_dict(tensors)
        return done
    module.train()
    going_on = resume and checkpoint.exists()
    if going_on:
        _check_settings(run, _kept_settings(checkpoint), module.settings)
        log(f"{run}: going on from {checkpoint.name}")
    elif config.start:
        contents, styles = default_collate([pairs[i] for i in range(config.start)])
        both = pairs.paintings is not None
        method.start(torch.cat([contents[::2], styles[1::2]]) if both else contents)
    try:
        with warnings.catch_warnings():  # of what Lightning 2.6 uses of torch
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            trainer.fit(module, ckpt_path=checkpoint if going_on else None, weights_only=True)
    except SystemExit:  # Lightning's answer to KeyboardInterrupt
        raise KeyboardInterrupt from None
    waiting = module.stream.waiting  # before the clock runs on
    device = trainer.strategy.root_device
    module.to(device)
    method.to(device)
    test = module.evaluate("test")
    validation = module.evaluate("validation")
    module.exchange()
    method.network.eval()
    figures: dict[str, object] = {
        "validation": validation,
        "test": test,
        "waiting": round(waiting, 4),
        "steps": trainer.global_step,
        "seed": config.seed,
        "machine": f"{trainer.world_size} x {machine}" if trainer.world_size > 1 else machine,
        "versions": {
            "impasto": __version__,
            "torch": torch.__version__,
            "lightning": version("lightning"),
            "python": platform.python_version(),
        },
    }
    if trainer.is_global_zero:
        draw_losses(history(run), run / "losses.png")
        tensors = dict(method.network.state_dict())
        header = {"figures": json.dumps(figures), "settings": json.dumps(module.settings)}
        save_tensors(run / NETWORK, tensors, header)
    return figures


def check_run(run: Path, resume: bool) -> None:
    """Raise InputError if the folder holds a run that is not to be gone on with."""
    if (run / CHECKPOINT).exists() and not resume and is_main():
        raise InputError(
            f"{run}: holds a run; go on with it by --resume, choose another --run, or delete it"
        )


def _fixed(config: TrainingConfig, pairs: Pairs) -> dict[str, object]:
    """What must be the same for a run to go on, named as in the recipe."""
    free = FREE - {"steps"} if config.schedule == "cosine" else FREE
    tables = {"training": asdict(config), "data": asdict(pairs.config)}
    fixed: dict[str, object] = {
        f"{table}.{name}": value
        for table, values in tables.items()
        for name, value in values.items()
        if name not in free
    }
    paintings = len(pairs.paintings.train) if pairs.paintings else 0
    return {**fixed, "photos": len(pairs.photos.train), "paintings": paintings}


def _kept_settings(checkpoint: Path) -> str:
    """The settings in a checkpoint. Raises InputError if it cannot be read."""
    try:
        kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
        return str(kept["settings"])
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # a broken file can raise anything
        raise InputError(
            f"{checkpoint} is damaged or cut off: put a copy of it in its place, or delete "
            f"{checkpoint.parent} and train anew"
        ) from error


def _check_settings(run: Path, kept: str, settings: Mapping[str, object]) -> None:
    """Raise InputError if the settings kept, as JSON, are others."""
    before: dict[str, object] = json.loads(kept)
    names = sorted({*before, *settings})
    other = [name for name in names if before.get(name) != settings.get(name)]
    if other:
        raise InputError(
            f"{run}: holds a run with other settings ({', '.join(other)}); choose another folder "
            "or delete it"
        )


def finished(run: Path) -> dict[str, object] | None:
    """The figures of a run that has ended; None if it has not, or has not begun."""
    run = path_of(run, "run")
    if not (run / NETWORK).exists():
        return None
    figures: dict[str, object] = json.loads(load_tensors(run / NETWORK)[1]["figures"])
    return figures


def is_main() -> bool:
    """Whether this is the process that writes and speaks, of those that train together."""
    return int(getattr(rank_zero_only, "rank", None) or 0) == 0


def history(run: Path) -> list[dict[str, float]]:
    """The logged losses of a run, by step, over all its resumptions.

    Returns:
        Rows with ``step`` and what was logged at it, such as ``train`` and ``train/content``.
    """
    rows: dict[int, dict[str, float]] = {}
    folders = sorted(
        (path_of(run, "run") / "log").glob("version_*"), key=lambda f: int(f.name.split("_")[1])
    )
    for folder in folders:
        if (folder / "metrics.csv").exists():  # else killed before its first entry
            with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
                whole = (line for line in file if line.endswith("\n"))  # a kill may tear the last
                for row in csv.DictReader(whole):
                    seen = {name: float(value) for name, value in row.items() if value}
                    rows.setdefault(int(row["step"]), {}).update(seen)
    return [rows[step] for step in sorted(rows)]


def _trainer(config: TrainingConfig, run: Path, hardware: Hardware) -> tuple[pl.Trainer, str]:
    """Lightning's trainer, and the machine in words."""
    device = choose_device(hardware.device)
    if hardware.precision == "float16":
        if device.type != "cuda":
            raise InputError("precision float16 needs CUDA: use auto, bfloat16 or float32")
        dtype = torch.float16
    else:
        dtype = choose_precision(hardware.precision, device)
    precision: Any = {torch.float16: "16-mixed", torch.bfloat16: "bf16-mixed"}.get(dtype, "32-true")
    chosen = [device.index] if device.index is not None else hardware.devices
    for name in ("lightning.pytorch", "lightning.fabric"):  # their notes are not for people
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=chosen,
            num_nodes=hardware.nodes,
            strategy=hardware.strategy,
            precision=precision,
            max_steps=config.steps,
            gradient_clip_val=config.clip or None,
            logger=[CSVLogger(run, "log"), TensorBoardLogger(run, "tensorboard")],
            limit_val_batches=0,  # evaluate() validates, between Lightning's steps
            use_distributed_sampler=False,  # Stream gives every process its share
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=run,
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot train so ({reason}); see --devices and --strategy") from None
    return trainer, describe(device, dtype)
