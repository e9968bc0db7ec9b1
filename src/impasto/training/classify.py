"""``impasto train encoder --backbone resnet18``: weights from labels, standard or robust.

Robust weights are trained on pictures that are perturbed, within a small distance, to increase the
loss (Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018).
Such a network relies on features that people see too. Report 5 finds that pictures reconstructed or
styled with such weights are cleaner (after Engstrom et al. 2019 and Nakano 2019).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones import ResNet
from ..backbones.records import BACKBONES
from ..errors import ImpastoError, InputError
from ..files import check_apart, path_of, paths_of
from ..progress import drawn
from ..tensors import load_tensors, save_tensors
from .accelerator import Accelerator, Hardware, choose_accelerator
from .attack import attack
from .crops import Window, below, cut
from .labels import labels_of
from .loop import Loop, OnProgress, Plan, Task
from .optimizers import warm_cosine
from .recipes import (
    build,
    changes_named,
    check,
    check_fields,
    given_twice,
    merged,
    nested,
    read_toml,
)
from .sets import decoded, place_of
from .stream import crops_of, seed_of, to_device

__all__ = ["Classifier", "ClassifyConfig", "Labelled", "classify"]

WARM_UP = 50  # steps in which the learning rate grows
WORKERS = 2  # threads that prepare crops
REFERENCE = 224  # pixels: the side of the pictures that epsilon refers to


@dataclass(frozen=True)
class ClassifyConfig:
    """The settings of a classifier's training; the keys of a recipe.

    Attributes:
        steps, batch: of stochastic gradient descent with momentum; batches are balanced between
            the classes on average.
        size: side of the crops, pixels.
        short_side: short side of the pictures before cropping, pixels.
        learning_rate: initial learning rate; a cosine schedule reduces it to zero.
        momentum, weight_decay: of SGD.
        classes: the classes to tell apart; none named means all that there are.
        precision: of the training's convolutions: ``float32``, ``bfloat16``, or ``auto``, bfloat16
            where the hardware multiplies it natively.
        adversarial: train on attacked pictures.
        epsilon: maximum L2 norm of an attack on a 224x224 picture in 0..1 (3 in report 5); it is
            proportional to the side for other sizes.
        grow: steps in which epsilon grows from zero; a network attacked in full from the start may
            learn nothing.
        attacks: gradient steps of an attack in training.
        test_attacks: gradient steps of an attack on the held-out pictures.
        validation: share (0..1) of the pictures that are held out.
        checkpoint_every: steps between checkpoints and validations.
        seed: random seed of weights and data.

    Raises:
        InputError: for values out of range or of another type.
    """

    steps: int = 1000
    batch: int = 32
    size: int = 112
    short_side: int = 160
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    classes: tuple[str, ...] = ()
    precision: str = "auto"
    adversarial: bool = False
    epsilon: float = 3.0
    grow: int = 0
    attacks: int = 3
    test_attacks: int = 20
    validation: float = 0.2
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("steps", "batch", "attacks", "test_attacks", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: must be 1 or more")
        for name in ("learning_rate", "epsilon"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)}: must be above 0")
        if not 32 <= self.size <= self.short_side:
            raise InputError(
                f"size = {self.size}: give 32 or more pixels, at most short_side = "
                f"{self.short_side}"
            )
        if self.grow < 0:
            raise InputError(f"grow = {self.grow}: must be 0 or more")
        if not 0 <= self.validation < 1:
            raise InputError(f"validation = {self.validation}: give a share from 0, below 1")

    @property
    def radius(self) -> float:
        """Maximum L2 norm of an attack on a crop."""
        return self.epsilon * self.size / REFERENCE


class Labelled:
    """Decoded pictures by class; a hash of the name selects those for validation.

    Args:
        classes: see :func:`labels_of`.
        config: see :class:`ClassifyConfig`.
        warn: called with a line for each file that cannot be read; it is skipped.

    Raises:
        InputError: if a class has no training picture.
    """

    def __init__(
        self,
        classes: dict[str, list[Path]],
        config: ClassifyConfig,
        warn: Callable[[str], None],
    ) -> None:
        self.config, self.names = config, list(classes)
        self.train: list[list[Tensor]] = []
        self.validation: list[tuple[Tensor, int]] = []
        for label, (name, paths) in enumerate(classes.items()):
            training = []
            for path, picture in zip(paths, decoded(paths, config.short_side), strict=True):
                if isinstance(picture, ImpastoError):
                    warn(f"skipped: {picture}")
                elif place_of(path) < config.validation:
                    self.validation.append((picture, label))
                else:
                    training.append(picture)
            if not training:
                raise InputError(f"class {name}: no pictures to train on; add some to its folder")
            self.train.append(training)

    def labels(self, step: int) -> Tensor:
        """Random labels ``(B,)`` of the batch of a step."""
        rng = torch.Generator().manual_seed(seed_of(self.config.seed, "labels", step))
        return torch.randint(len(self.train), (self.config.batch,), generator=rng)

    def windows(self, step: int) -> list[Window]:
        """The windows that the crops of the batch are made from."""
        rng = torch.Generator().manual_seed(seed_of(self.config.seed, "crops", step))
        pools = [self.train[label] for label in self.labels(step).tolist()]
        return [cut(pool[below(len(pool), rng)], self.config.size, rng) for pool in pools]

    def batches(
        self, start: int, device: torch.device
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Crops ``(B, 3, size, size)`` in 0..1 and labels ``(B,)`` for all steps from ``start``."""
        crops = crops_of(self.windows, self.config.size, start, WORKERS, device)
        for step, batch in enumerate(crops, start):
            yield batch, to_device(self.labels(step), device)

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Centre crops of the held-out pictures and their labels, in batches."""
        size = self.config.size
        for start in range(0, len(self.validation), self.config.batch):
            batch = self.validation[start : start + self.config.batch]
            crops = []
            for picture, _ in batch:
                top, left = ((side - size) // 2 for side in picture.shape[-2:])
                crops.append(picture[:, top : top + size, left : left + size].float() / 255)
            yield torch.stack(crops), torch.tensor([label for _, label in batch])


class Classifier(nn.Module):
    """A ResNet, global average pooling of its last features, and a linear map to classes."""

    def __init__(self, net: ResNet, classes: int) -> None:
        super().__init__()
        self.net = net
        self.fc = nn.Linear(net.channels(net.every_tap[-1]), classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores ``(B, classes)`` of pictures ``(B, 3, H, W)`` in 0..1."""
        x = pictures
        for _, x in self.net.stages(self.net.normalised(pictures)):  # noqa: B007
            pass
        scores: Tensor = self.fc(x.mean((-2, -1)))
        return scores


def accuracy(model: Classifier, pictures: Labelled, config: ClassifyConfig) -> dict[str, float]:
    """Accuracy (0..1) on the held-out pictures, ``clean`` and ``attacked``."""
    device = next(model.parameters()).device
    correct = {name: torch.zeros((), device=device) for name in ("clean", "attacked")}
    count = 0
    model.eval()
    torch.manual_seed(config.seed)  # of the attacks' starts
    for crops, labels in pictures.held_out():
        crops, labels = crops.to(device), labels.to(device)
        attacked = attack(model, crops, labels, config.radius, config.test_attacks)
        with torch.no_grad():
            correct["clean"] += (model(crops).argmax(1) == labels).sum()
            correct["attacked"] += (model(attacked).argmax(1) == labels).sum()
        count += len(labels)
    return {name: float(value) / max(count, 1) for name, value in correct.items()}


def weights_of(model: Classifier) -> dict[str, Tensor]:
    """A classifier's weights by torchvision's names."""
    return {**model.net.state_dict(), **model.fc.state_dict(prefix="fc.")}


def load_weights(model: Classifier, path: Path, classes: list[str]) -> None:
    """Take the weights that :func:`classify` wrote to ``path``.

    Raises:
        InputError: for a file of other classes or of another network.
    """
    stored, header = load_tensors(path)
    if json.loads(header.get("recipe", "{}")).get("classes") != classes:
        raise InputError(f"{path}: not weights for the classes {', '.join(classes)}; leave it out")
    weights = weights_of(model)
    shapes = [{k: tensor.shape for k, tensor in each.items()} for each in (stored, weights)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{path}: not weights of {model.net.name}; leave it out")
    for key, tensor in weights.items():
        tensor.copy_(stored[key])


class Classification(Task):
    """A classifier in training."""

    network: Classifier

    def __init__(self, model: Classifier, pictures: Labelled, config: ClassifyConfig) -> None:
        self.network, self.pictures, self.config = model, pictures, config
        self.schedule = warm_cosine(config.steps, WARM_UP)

    def optimizers(self, device: torch.device) -> list[torch.optim.Optimizer]:
        config = self.config
        return [
            torch.optim.SGD(
                self.network.parameters(),
                config.learning_rate,
                config.momentum,
                weight_decay=config.weight_decay,
                nesterov=config.momentum > 0,
            )
        ]

    def batches(
        self, start: int, accelerator: Accelerator
    ) -> Generator[tuple[Tensor, Tensor, float], None, None]:
        config = self.config
        for step, batch in enumerate(self.pictures.batches(start, accelerator.device), start):
            yield *batch, config.radius * min(1.0, (step + 1) / max(config.grow, 1))

    def loss(self, crops: Tensor, labels: Tensor, radius: float) -> dict[str, Tensor]:
        if self.config.adversarial:
            crops = attack(self.network, crops, labels, radius, self.config.attacks)
        return {"cross_entropy": F.cross_entropy(self.network(crops), labels)}

    def report(self, step: int, steps: int, loss: float, validation: Mapping[str, float]) -> str:
        return f"step {step}/{steps}  loss {loss:.3f}"


@drawn("training")
def classify(
    name: str,
    folders: Sequence[Path],
    recipe: Path | None,
    run: Path,
    out: Path,
    *,
    start: Path | None = None,
    adversarial: bool | None = None,
    steps: int | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    on_progress: OnProgress = lambda step, steps, loss: None,
    progress: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, float]:
    """Train a ResNet on labelled pictures and write its weights to ``out``.

    An interrupted run resumes from the checkpoint in ``run``.

    Args:
        name: ``resnet18`` or ``resnet50``.
        folders: see :func:`labels_of`.
        recipe: TOML with the keys of :class:`ClassifyConfig`; None uses the defaults.
        run: folder of the checkpoint.
        out: the ``.safetensors`` file to write, for ``impasto ... --backbone-weights``.
        start: weights of an earlier training of the same classes to begin with.
        adversarial, steps: override the recipe.
        changes: override further keys of the recipe: key -> value.
        device: see :mod:`impasto.device`.
        on_progress: see :data:`impasto.training.loop.OnProgress`.
        progress: draw a progress bar, in notebooks too.
        log: called with each log line.

    Returns:
        Accuracy on the held-out pictures, see :func:`accuracy`.

    Raises:
        InputError: if a folder, a file or the recipe cannot be used, or an input file would be
            overwritten.
        Interrupted: if ``on_progress`` returned True.
    """
    folders = paths_of(folders, "folders")
    run, out = path_of(run, "run"), path_of(out, "out")
    recipe = None if recipe is None else path_of(recipe, "recipe")
    record = BACKBONES.get(name)
    if record is None or record.builder != "resnet":
        raise InputError(f"backbone {name!r}: give resnet18 or resnet50")
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name of an encoder ends in .safetensors")
    changed = nested(changes or {})
    check(
        changed, {field.name: str(field.type) for field in fields(ClassifyConfig)}, changes_named()
    )
    flags = {"adversarial": adversarial, "steps": steps}
    conflicts = [key for key, value in flags.items() if value is not None and key in changed]
    if conflicts:
        raise given_twice(conflicts[0], conflicts[0])
    table = merged({} if recipe is None else read_toml(recipe), changed)
    by = changes_named()
    source = str(recipe) if not changed else f"{recipe} with {by}" if recipe else by
    config = build(ClassifyConfig, table, source)
    if adversarial is not None:
        config = replace(config, adversarial=adversarial)
    if steps is not None:
        config = replace(config, steps=steps)
    start = None if start is None else path_of(start, "start")
    check_apart([out, run / "last.pt"], [recipe, start])
    classes = labels_of(folders, log, config.classes)
    accelerator = choose_accelerator(Hardware(device, config.precision))
    settings = {"backbone": name, **asdict(config), "classes": list(classes)}
    pictures = Labelled(classes, config, log)
    pools = zip(classes, pictures.train, strict=True)
    counts = ", ".join(f"{label} {len(pool)}" for label, pool in pools)
    log(f"{counts} for training, {len(pictures.validation)} held out")
    torch.manual_seed(config.seed)
    depths, bottleneck = record.shape
    model = Classifier(ResNet(depths, bottleneck, name=name), len(classes))
    if start is not None:
        settings["start"] = start.name
        load_weights(model, start, list(classes))
    plan = Plan(
        steps=config.steps,
        validate_every=config.checkpoint_every,
        log_every=10,
        checkpoint_every=config.checkpoint_every,
        samples_every=0,
        seed=config.seed,
    )
    task = Classification(model, pictures, config)
    Loop(task, plan, accelerator, run / "last.pt", settings, True, on_progress, log).train()
    figures = accuracy(model, pictures, config)
    log("accuracy: " + ", ".join(f"{kind} {share:.1%}" for kind, share in figures.items()))
    weights = {
        # Normalisations stay float32: float16 would lose their small variances.
        key: tensor.half() if tensor.ndim > 1 else tensor
        for key, tensor in weights_of(model).items()
    }
    header = {"backbone": name, "convention": model.net.convention.name, "format": "1"}
    header |= {"figures": json.dumps(figures), "recipe": json.dumps(settings)}
    save_tensors(out, weights, header)
    log(f"{out}  ({out.stat().st_size / 1e6:.1f} MB)")
    return figures
