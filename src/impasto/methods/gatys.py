"""Style transfer by optimisation.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016; the
method of papers 3, 4 and 5. The pixels of the picture are changed until a backbone sees in them the
content of the photograph and the statistics of the painting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..backbones import Backbone, load_backbone
from ..backbones.records import BACKBONES, BUNDLED
from ..backbones.resnet import Smooth
from ..color import match, own_colors, with_colors_of
from ..device import (
    arranged,
    check_memory,
    check_process,
    choose_device,
    choose_precision,
    describe,
    unmixed,
)
from ..errors import InputError, check_finite, check_scale, check_strength, check_whole
from ..images import MIN_SIDE, Source, fit, read, resize
from ..losses import gram_loss, moments_loss
from ..statistics import Moments
from ..styles import (
    LayerMoments,
    LearntStyle,
    StoredStyle,
    Style,
    check_prepared,
    prepared,
)
from .base import OnStep
from .descent import HISTORY, LBFGS, Adam
from .level import Level, Objective, Progress, usable

__all__ = ["STARTS", "Gatys"]

STARTS = ("recoloured", "content", "content+noise", "noise", "grey")
OPTIMIZERS = {"lbfgs": 1.0, "adam": 0.02}  # with their default learning rates
STYLE_LOSSES: Mapping[str, Callable[[Moments, Moments], Tensor]] = {
    "gram": gram_loss,
    "moments": moments_loss,
}


class Gatys:
    """Style transfer by optimisation of the pixels, coarse to fine.

    The loss is ``content_weight * C + style_weight * sum_l w_l S_l + tv_weight * TV``, with
    ``sum w_l = 1`` and every term relative to its target (see :mod:`impasto.losses`), so the
    defaults serve any backbone, layers and size.

    Args:
        backbone: ``compact`` or ``slim`` (bundled), ``vgg19``, ``vgg16``, ``resnet50`` or
            ``resnet18``, or a loaded :class:`Backbone`, to which the next five do not apply.
        weights_file, convention, padding, smooth: see :func:`impasto.backbones.load_backbone`.
        pooling: see there; None takes ``max``, but of a ResNet ``average``, for the sake of clean
            pixels.
        content_layers, style_layers: taps, or tap -> weight for unequal weights. None takes the
            backbone's, or those of them that the weights have: relu4_2 (relu4_1 for the bundled)
            and relu1_1..relu5_1; of a ResNet rb2 and conv1..rb3. The style layers ``paper5`` are a
            ResNet's rb1..rb4 with the weights of paper 5, section 3.1.
        content_weight, style_weight: alpha and beta of paper 3, Eq. 4.
        style_loss: ``gram`` (Gatys) or ``moments`` (mean and deviation); None takes ``gram``, but
            of a ResNet ``moments``.
        tv_weight: total variation, for smoother pictures.
        start: ``recoloured``, the content with the style's colour statistics, which is so near
            that it saves half of the iterations; ``content`` (paper 3), ``content+noise``,
            ``noise`` (paper 4), ``grey``, or a picture.
        optimizer: ``lbfgs`` (better in the same number of iterations: papers 3 and 5) or ``adam``.
        lr: learning rate; None for 1 (L-BFGS) or 0.02 (Adam).
        sizes: short sides in pixels, coarse to fine (paper 3, section V.B); the last must be the
            content's or 0, which stands for it. None halves the content's size as long as it
            is 256 or more.
        iterations: for every size, or one number for each.
        style_scale: size of the style's features relative to the content; 0.5 gives finer strokes.
        tolerance: a size is done when the mean loss of its last 10 iterations is less than this
            share below that of the 10 before (0: never stop early). Paper 4 finds it "difficult to
            estimate a good epoch"; this does.
        time_limit: seconds in all, shared out over the sizes by their cost; None for no limit.
        seed: of the noise.
        device, precision: see :mod:`impasto.device`.

    Raises:
        InputError: for an option out of its range, or a backbone that cannot be had.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        backbone: str | Backbone = "compact",
        weights_file: Path | str | None = None,
        convention: str | None = None,
        padding: Literal["replicate", "reflect", "zero"] = "replicate",
        pooling: Literal["max", "average"] | None = None,
        smooth: Smooth | Mapping[str, Smooth] | None = None,
        content_layers: Sequence[str] | Mapping[str, float] | None = None,
        style_layers: str | Sequence[str] | Mapping[str, float] | None = None,
        content_weight: float = 1.0,
        style_weight: float = 100.0,
        style_loss: Literal["gram", "moments"] | None = None,
        tv_weight: float = 0.0,
        start: str | Source = "recoloured",
        optimizer: Literal["lbfgs", "adam"] = "lbfgs",
        lr: float | None = None,
        sizes: Sequence[int] | None = None,
        iterations: int | Sequence[int] | None = None,
        style_scale: float = 1.0,
        tolerance: float = 0.01,
        time_limit: float | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        _positive("content-weight", content_weight, zero=True)
        _positive("style-weight", style_weight, zero=True)
        _positive("tv-weight", tv_weight, zero=True)
        _positive("lr", 1.0 if lr is None else lr)
        check_scale(style_scale)
        _positive("tolerance", tolerance, zero=True)
        _positive("time-limit", 1.0 if time_limit is None else time_limit)
        check_whole("seed", seed, 0)
        if seed >= 2**63:
            raise InputError(f"seed is {seed}: must be below 2^63")
        for name, numbers in (("sizes", sizes), ("iterations", iterations)):
            if name == "sizes" and not (numbers is None or isinstance(numbers, Sequence)):
                raise InputError(f"sizes are {numbers!r}: give a list of short sides")
            for number in numbers if isinstance(numbers, Sequence) else [numbers]:
                if number is not None:
                    check_whole(name, number, 0)
        _among("style-loss", style_loss or "gram", STYLE_LOSSES)
        _among("optimizer", optimizer, OPTIMIZERS)
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        net = load_backbone(
            *(backbone, weights_file),
            convention=convention,
            padding=padding,
            pooling=pooling or (BACKBONES[backbone].pooling if backbone in BACKBONES else "max"),
            smooth=smooth or "none",
        )
        self.notes: list[str] = []
        self.style_layers = self._layers(net, style_layers, net.style_layers, every=True)
        self.content_layers = self._layers(
            net, content_layers, dict.fromkeys(net.content_layers, 1.0), every=False
        )
        self.net = arranged(net.to(self.dtype), self.device)
        self.content_weight = content_weight
        self.style_weight = style_weight
        compared = style_loss or net.style_loss
        self.style_loss = STYLE_LOSSES[compared]
        self.tv_weight = tv_weight
        self.start = start
        if not (isinstance(start, str) and start in STARTS):
            self.start = read(start).rgb
            self.sources = [start]  # which is not to be overwritten
        self.optimizer = optimizer
        self.lr = OPTIMIZERS[optimizer] if lr is None else lr
        self.sizes = sizes
        self.iterations = iterations
        self.style_scale = style_scale
        self.tolerance = tolerance
        self.time_limit = time_limit
        self.seed = seed
        self.settings: dict[str, Any] = {
            "method": "gatys",
            "backbone": net.fingerprint,
            "content_layers": self.content_layers,
            "style_layers": self.style_layers,
            "content_weight": content_weight,
            "style_weight": style_weight,
            "style_loss": compared,
            "tv_weight": tv_weight,
            "start": start if isinstance(start, str) and start in STARTS else "picture",
            "optimizer": optimizer,
            "lr": self.lr,
            "sizes": None if sizes is None else list(sizes),
            "iterations": iterations,
            "style_scale": style_scale,
            "tolerance": tolerance,
            "time_limit": time_limit,
            "seed": seed,
            "device": describe(self.device, self.dtype),
        }

    def _layers(
        self,
        net: Backbone,
        given: str | Sequence[str] | Mapping[str, float] | None,
        default: Mapping[str, float],
        every: bool,
    ) -> dict[str, float]:
        """Layers with weights that sum to one; the defaults fall back to what ``net`` has."""
        given = [given] if isinstance(given, str) else given
        if not (given is None or isinstance(given, Iterable)):
            raise InputError(f"layers are {given!r}: give a list of names")
        if every and given is not None and len(given) == 1:
            given = net.presets.get(next(iter(given)), given)
        if given is not None:
            weights = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
            net.check(weights)
            for tap, weight in weights.items():
                check_finite(f"the weight of layer {tap}", weight)
            if not weights or sum(weights.values()) <= 0 or min(weights.values()) < 0:
                raise InputError("layer weights must not be negative and not all zero")
        else:
            there = [tap for tap in default if tap in net.taps]
            chosen = there if every else there[:1]
            if not chosen:
                raise InputError(f"{net.name} has none of the default layers: name layers it has")
            wanted = list(default) if every else list(default)[:1]
            if net.name not in BUNDLED and chosen != wanted:
                self.notes.append(
                    f"{net.name}'s weights end at {net.taps[-1]}: "
                    f"{'style' if every else 'content'} layers are {', '.join(chosen)}"
                )
            weights = {tap: default[tap] for tap in chosen}
        total = sum(weights.values())
        return {tap: weight / total for tap, weight in weights.items()}

    @torch.inference_mode(False)
    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle],
        weights: Sequence[float] | None = None,
    ) -> Style:
        """Get ready for one or several styles; see :func:`impasto.styles.prepared`."""
        taps = list(self.style_layers)
        return prepared(styles, weights, "gatys", self.net.fingerprint, taps, self.measure)

    @torch.inference_mode(False)
    @torch.no_grad()
    @unmixed()
    def measure(self, picture: Tensor) -> LayerMoments:
        """Normalised moments of a picture ``(3, H, W)`` at the style layers."""
        features = self.net(self._on_device(picture), self.style_layers)
        return {tap: Moments.of(features[tap][0]).normalised() for tap in self.style_layers}

    @torch.inference_mode(False)
    @torch.enable_grad()
    @unmixed()
    def __call__(
        self,
        content: Source,
        style: Style,
        strength: float = 1.0,
        on_step: OnStep | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Render ``content`` ``(3, H, W)`` in 0..1; the result has its size and is on the CPU.

        ``strength`` mixes the moments aimed at: ``s * style + (1 - s) * content``; at 0 the content
        itself is the optimum, above 1 the style is exaggerated. ``start`` is a picture to begin
        with, ``(3, H, W)``, instead of the option's.

        A loss that is not finite, or far above the best, takes the picture back to the best one
        and halves the learning rate; after five such events the best picture is returned with a
        warning.

        A grey photograph in a grey painting stays grey: the best of the pictures is looked for that
        have the photograph's colours.

        Raises:
            InputError: if the picture is too small or needs more memory than there is, or ``style``
                is not what :meth:`prepare` returned.
        """
        check_process(self.device)
        check_strength(strength)
        check_prepared(style, "gatys", self.net.fingerprint, list(self.style_layers))
        content = usable(read(content).rgb)
        colored = own_colors(content, style.color)
        grey = colored == 0
        plan = self._plan(content.shape[-2], content.shape[-1])
        check_memory(max(size for size, _ in plan), self.bytes_per_pixel(), self.device)
        cost = sum(size[0] * size[1] * count for size, count in plan)
        began, begun, spent, done = time.monotonic(), 0.0, 0.0, 0
        planned = sum(count for _, count in plan)
        picture: Tensor | None = None
        objective = self._objective()
        for size, count in plan:
            here = resize(content, size)
            spent += size[0] * size[1] * count / cost
            level = Level(
                *(objective, self._on_device(here), self._aim(style, here, strength), grey)
            )
            if picture is None:
                picture = self._first(here, style, strength) if start is None else usable(start)
            picture = resize(picture, size)
            if grey:
                picture = with_colors_of(here, picture)
            picture, stopped = level.optimise(
                self._on_device(picture),
                count,
                None if self.time_limit is None else began + self.time_limit * spent,
                on_step,
                Progress(done, planned, begun, size[0] * size[1] / cost),
            )
            done += count
            begun = spent
            if stopped:
                break
        assert picture is not None
        picture = resize(picture, (content.shape[-2], content.shape[-1]))
        return with_colors_of(content, picture, 1.0 if grey else colored)

    def _objective(self) -> Objective:
        descent = LBFGS if self.optimizer == "lbfgs" else Adam
        return Objective(
            *(self.net, self.content_layers, self.style_layers),
            *(self.content_weight, self.style_weight, self.style_loss, self.tv_weight),
            *(self.tolerance, partial(descent, self.lr)),
        )

    def _plan(self, height: int, width: int) -> list[tuple[tuple[int, int], int]]:
        """Sizes ``(H, W)`` with their iterations, coarse to fine."""
        final = min(height, width)
        if final < MIN_SIDE:
            raise InputError(
                f"the picture is {width}x{height}: the short side must be {MIN_SIDE} pixels or more"
            )
        if self.sizes is None:
            shorts = [final]
            while shorts[0] >= 256:
                shorts.insert(0, round(shorts[0] / 2))
        else:
            shorts = [short or final for short in self.sizes]
            if not shorts or shorts[-1] != final or min(shorts) < MIN_SIDE:
                raise InputError(
                    f"sizes {', '.join(map(str, self.sizes))}: must be {MIN_SIDE} or more and end "
                    f"with the picture's short side, {final} (or 0, which stands for it)"
                )
        if self.iterations is None:
            counts = [max(30, round(80 * 0.65**k)) for k in range(len(shorts))]
        elif not isinstance(self.iterations, Sequence):
            counts = [int(self.iterations)] * len(shorts)
        else:
            counts = list(self.iterations)
        if len(counts) != len(shorts) or min(counts) < 1:
            raise InputError(
                f"iterations {', '.join(map(str, counts))}: give one positive number, or one for "
                f"each of the {len(shorts)} sizes ({', '.join(map(str, shorts))})"
            )
        return [
            ((height, width) if short == final else fit(height, width, short), count)
            for short, count in zip(shorts, counts, strict=True)
        ]

    def _aim(self, style: Style, content: Tensor, strength: float) -> dict[str, Moments]:
        aim = style.at(max(MIN_SIDE, round(min(content.shape[-2:]) * self.style_scale)))
        aim = {tap: usable(aim[tap].to(self.device)) for tap in self.style_layers}
        if strength == 1.0:
            return aim
        own = self.measure(content)
        return {tap: Moments.mix([aim[tap], own[tap]], [strength, 1 - strength]) for tap in aim}

    def _first(self, content: Tensor, style: Style, strength: float) -> Tensor:
        if isinstance(self.start, Tensor):
            return resize(self.start, (content.shape[-2], content.shape[-1]))
        if self.start == "recoloured":
            # A tenth of the content stays, to begin with something where the style is flat.
            recoloured = match(content, style.color, "monge")
            return content.lerp(recoloured, 0.9 * min(strength, 1.0))
        if self.start == "content":
            return content
        if self.start == "grey":
            return torch.full_like(content, 0.5)
        rng = torch.Generator("cpu").manual_seed(self.seed)
        noise = torch.randn(content.shape, generator=rng, dtype=torch.float32, device="cpu")
        base = content if self.start == "content+noise" else torch.full_like(content, 0.5)
        return (base + 0.2 * noise).clamp(0, 1)

    def _on_device(self, picture: Tensor) -> Tensor:
        x = picture.unsqueeze(0) if picture.ndim == 3 else picture
        return arranged(x.to(torch.float32), self.device)

    def bytes_per_pixel(self) -> float:
        """Memory that the optimisation takes for each pixel, about (within a third, measured)."""
        taps = set(self.style_layers) | set(self.content_layers)
        deepest = max(taps, key=lambda tap: self.net.taps.index(tap))
        values = self.net.numbers_per_pixel(deepest)
        return values * torch.finfo(self.dtype).bits / 8 + 3 * 4 * (2 * HISTORY + 12)


def _positive(name: str, value: float, zero: bool = False) -> None:
    check_finite(name, value)
    if value < 0 or (value == 0 and not zero):
        raise InputError(f"{name} is {value}: must be {'0 or more' if zero else 'above 0'}")


def _among(name: str, value: str, known: Mapping[str, object]) -> None:
    if value not in known:
        raise InputError(f"{name} {value!r} is unknown: use one of {', '.join(known)}")
