"""Style transfer by optimisation.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016; the
method of reports 3, 4 and 5. A pretrained backbone turns a picture into features. Deep features of
the photograph are its content; the moments of features of the painting are its style. The pixels of
the picture are optimised by gradient descent until its features match both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ..backbones import Backbone, load_backbone
from ..backbones.records import BACKBONES
from ..color import match, own_colors, with_colors_of
from ..device import arranged, sparing, trim, unmixed
from ..errors import InputError, spelled
from ..images import MIN_SIDE, Source, read, resize
from ..options import name_of, takes
from ..statistics import Moments
from ..styles import (
    LayerMoments,
    LearntStyle,
    StoredStyle,
    Style,
    check_prepared,
    prepared,
)
from ..watch import OnStep, portion, watching
from .checkpoint import Checkpoint, identified
from .custom_loss import LossFunction, style_by_function
from .descent import HISTORY
from .face import Face
from .layers import weighted_layers
from .level import Level, Objective, Progress, usable
from .published import LOSSES, PublishedLevel
from .records.gatys import BETAS, DEFAULTS, STARTS, GatysOptions
from .schedule import schedule
from .style_loss import (
    OF_FEATURES,
    OF_MOMENTS,
    SORTING,
    ByMoments,
    LayerLoss,
    by_features,
    check_paintings,
)
from .tiled import TiledSums
from .tiling import Needs, Reach, Tiling, costs_of, planned, reach_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .keywords import GatysKeywords

__all__ = ["Gatys"]


@takes(GatysOptions)
class Gatys(Face):
    """Style transfer by optimisation of the pixels, coarse to fine.

    The loss is ``content_weight * C + style_weight * sum_l w_l S_l + tv_weight * TV``, with
    ``sum w_l = 1``. Every term is relative to its target (see :mod:`impasto.losses`), so that the
    default weights suit any backbone, layers and size.

    Args:
        backbone: one of :mod:`impasto.backbones`, or a loaded backbone (then the options for
            loading do not apply); None takes ``compact``.
        options: see :class:`impasto.methods.records.gatys.GatysOptions`.

    Sizes must end with the size of the content, or with 0, which means the same (coarse to fine:
    report 3, section V.B). Report 4 finds it "difficult to estimate a good epoch"; ``tolerance``
    does that. L-BFGS is better than Adam in the same number of iterations (reports 3 and 5). The
    style layers ``paper5`` are rb1..rb4 of a ResNet with the weights of report 5, section 3.1.

    Raises:
        InputError: for an option out of its range, or a backbone that is not available.
    """

    options: GatysOptions

    @torch.inference_mode(False)
    def __init__(
        self, backbone: str | Backbone | None = None, /, **options: Unpack[GatysKeywords]
    ) -> None:
        if backbone is not None:
            options["backbone"] = backbone
        chosen = GatysOptions.of("method gatys", options)
        # Nothing damps the rounding errors of published losses: their first steps are tiny.
        exact = chosen.absolute and chosen.precision == "auto"
        super().__init__("gatys", chosen, "float32" if exact else None)
        record = BACKBONES.get(chosen.backbone) if isinstance(chosen.backbone, str) else None
        net = load_backbone(
            *(chosen.backbone, chosen.backbone_weights),
            convention=chosen.convention,
            padding=chosen.padding,
            pooling=chosen.pooling or ("max" if record is None else record.pooling),
            smooth=chosen.smooth,
            normalise=not chosen.absolute,  # published weights are for the network as trained
        )
        styles, contents = chosen.style_layers, chosen.content_layers
        default = dict.fromkeys(net.content_layers, 1.0)
        self.style_layers: Mapping[str, float]
        self.content_layers: Mapping[str, float]
        self.style_layers, style_note = weighted_layers(
            net, styles, net.style_layers, every=True, absolute=chosen.absolute
        )
        self.content_layers, content_note = weighted_layers(
            net, contents, default, every=False, absolute=chosen.absolute
        )
        self.notes.extend(filter(None, [style_note, content_note]))
        self.net: Backbone = arranged(net.to(self.dtype), self.device)
        self.start: str | Source = chosen.start
        if not (isinstance(chosen.start, str) and chosen.start in STARTS):
            self.start = read(chosen.start).rgb
            self.sources: Sequence[Source] = [chosen.start]  # must not be overwritten
        self.style_loss: str | LossFunction = (
            "gram" if chosen.absolute else chosen.style_loss or net.style_loss
        )
        first, second = chosen.betas or BETAS
        self.objective: Objective = Objective(
            self.net,
            self.content_layers,
            self.style_layers,
            chosen.value("content_weight"),
            chosen.value("style_weight"),
            chosen.tv_weight,
            chosen.value("tolerance"),
            chosen.optimizer,
            chosen.value("lr"),
            (first, second),
            chosen.losses,
            chosen.content_loss,
        )
        self.reach: Reach = reach_of(self.net, {*self.content_layers, *self.style_layers})
        if isinstance(chosen.tile, int):
            if self._untiled():
                raise InputError(
                    f"tile {chosen.tile}: {self._untiled()}; leave {spelled('tile')} out",
                    option="tile",
                )
            self.reach.check(chosen.tile)
        layers = {"content_layers": self.content_layers, "style_layers": self.style_layers}
        resolved = {name: chosen.value(name) for name in DEFAULTS[chosen.losses]}
        loss = name_of(self.style_loss) if callable(self.style_loss) else self.style_loss
        self.record(
            features=net.fingerprint, **layers, style_loss=loss, betas=(first, second), **resolved
        )

    @torch.inference_mode(False)
    def prepare(
        self,
        styles: Sequence[Source | StoredStyle | LearntStyle | Style],
        weights: Sequence[float] | None = None,
    ) -> Style:
        """Measure one or several styles; see :func:`impasto.styles.prepared`."""
        taps = list(self.style_layers)
        style = prepared(styles, weights, "gatys", self.net.fingerprint, taps, self.measure)
        if callable(self.style_loss) or self.style_loss in OF_FEATURES:
            check_paintings(style)
        return style

    @torch.inference_mode(False)
    @torch.no_grad()
    @unmixed()
    def measure(self, picture: Tensor, tiling: Tiling | None = None) -> LayerMoments:
        """Normalised moments of a picture ``(3, H, W)`` at the style layers, or of it in tiles."""
        if tiling is not None:
            moments = TiledSums(self.net, tiling, list(self.style_layers))(self._on_device(picture))
            return {tap: each.normalised() for tap, each in moments[1].items()}
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
        """Render ``content``. The result, ``(3, H, W)`` in 0..1, has its size and is on the CPU.

        ``strength`` mixes the target moments: ``s * style + (1 - s) * content``. At 0 the content
        itself is the optimum; above 1 the style is exaggerated. The losses of features, ``swd`` and
        ``remd``, mix samples of both in these shares, up to 1; of a function, the values for both.
        ``start`` is the initial picture, ``(3, H, W)``; it replaces the one of the option.

        If the loss is not finite, or far above the best, the optimisation goes back to the best
        picture and halves the learning rate. After five such setbacks in a row, the best picture is
        returned with a warning.

        If photograph and painting are grey, the result is grey: only lightness is optimised.

        If ``on_step`` is a :class:`Watch` with a ``checkpoint``, the state is kept there, and
        interrupted work goes on from it.

        Raises:
            InputError: if the picture is too small or needs more memory than is available, or
                ``style`` is not what :meth:`prepare` returned.
        """
        check_prepared(style, "gatys", self.net.fingerprint, list(self.style_layers))
        content = usable(self.checked(content, strength))
        colored = own_colors(content, style.color)
        grey = colored == 0
        options = self.options
        plan = schedule(content.shape[-2], content.shape[-1], options.sizes, options.iterations)
        sizes = [size for size, _ in plan]
        needs = self._needs()
        total = sum(count for _, count in plan)
        progress = Progress(count=0, planned=total, end=0.0)
        picture: Tensor | None = None
        with watching(on_step, content) as watch:
            checkpoint = Checkpoint(watch, partial(self._inputs, content, style, strength, start))
            choice = checkpoint.tiles or options.tile
            tilings = planned(choice, sizes, self.reach, needs, self.device)
            checkpoint.tiles = [tiling.side if tiling else None for tiling in tilings]
            watch.resolved["tile"] = [side or "none" for side in checkpoint.tiles]
            if any(tilings):
                watch.resolved["halo"] = self.reach.halo
            costs = costs_of(plan, tilings)
            # The heap keeps what tiles use, but not whole pictures.
            pixels = max(map(math.prod, sizes)) if any(tilings) else 0
            with sparing(pixels, block=1 << 25):
                for number, ((size, count), tiling) in enumerate(
                    zip(plan, tilings, strict=True), 1
                ):
                    progress = Progress(
                        done=progress.done + progress.count,
                        count=count,
                        planned=total,
                        begin=progress.end,
                        end=progress.end + costs[number - 1] / sum(costs),
                        stage=f"size {number}/{len(plan)}",
                    )
                    if number < checkpoint.size:
                        continue  # it was done before the work was interrupted
                    checkpoint.size = number
                    if tiling is not None:
                        trim()  # what sizes in one piece have left in the heap
                    resized = resize(content, size)
                    with portion(0):  # the work counts in iterations
                        style_losses = self._style_losses(style, resized, strength, tiling)
                        level = (PublishedLevel if options.absolute else Level)(
                            self.objective, self._on_device(resized), style_losses, grey, tiling
                        )
                    if checkpoint.interrupted:
                        picture = resized  # until the state is read
                    elif picture is None:
                        picture = (
                            self._initial(resized, style, strength)
                            if start is None
                            else usable(start)
                        )
                    picture = resize(picture, size)
                    if grey:
                        picture = with_colors_of(resized, picture)
                    begun = [self._on_device(picture)]
                    del picture, resized  # nothing here keeps the start in memory
                    limit = options.time_limit
                    picture, stopped = level.optimise(
                        begun.pop(),
                        count,
                        None if limit is None else checkpoint.begin + limit * progress.end,
                        watch,
                        progress,
                        checkpoint,
                    )
                    if stopped or checkpoint.stopped != "time":  # which holds for all sizes
                        checkpoint.stopped = stopped
                    if watch.cancelled or (stopped == "diverged" and options.absolute):
                        break
            watch.stopped = checkpoint.stopped
        assert picture is not None
        picture = resize(picture, (content.shape[-2], content.shape[-1]))
        return with_colors_of(content, picture, 1.0 if grey else colored)

    def _inputs(
        self, content: Tensor, style: Style, strength: float, start: Tensor | None
    ) -> dict[str, object]:
        """All that the picture depends on, by name; see :class:`Checkpoint`."""
        given = self.start if start is None else start
        resolved = cast("Mapping[str, object]", self.settings["resolved"])
        return {
            **self.options.record(),
            **resolved,
            "device": f"{self.device.type}, {self.dtype}",
            "strength": strength,
            "photograph": identified(content),
            "style": style.fingerprint,
            "start": identified(given) if isinstance(given, Tensor) else given,
        }

    def _style_losses(
        self, style: Style, content: Tensor, strength: float, tiling: Tiling | None = None
    ) -> Mapping[str, LayerLoss]:
        """The loss of each style layer, for ``content`` ``(3, H, W)`` at its size."""

        def features_of(picture: Tensor) -> Mapping[str, Tensor]:
            features: Mapping[str, Tensor] = self.net(self._on_device(picture), self.style_layers)
            return features

        loss, size = self.style_loss, self._style_size(content)
        if callable(loss):
            return style_by_function(loss, style, content, size, strength, features_of)
        if loss in OF_FEATURES:
            rng = torch.Generator(self.device).manual_seed(self.options.seed)
            drawing = OF_FEATURES[loss](rng)
            return by_features(drawing, style, content, size, strength, features_of, rng)
        published = LOSSES.get(self.options.losses)
        of_moments = OF_MOMENTS[loss] if published is None else published.style
        target = self._target(style, content, strength, tiling)
        return {tap: ByMoments(of_moments, target[tap]) for tap in target}

    def _style_size(self, content: Tensor) -> int:
        """Short side in pixels to which paintings are reduced."""
        return max(MIN_SIDE, round(min(content.shape[-2:]) * self.options.style_scale))

    def _target(
        self, style: Style, content: Tensor, strength: float, tiling: Tiling | None = None
    ) -> dict[str, Moments]:
        """Target moments at the style layers."""
        layers = style.at(self._style_size(content))
        target = {tap: usable(layers[tap].to(self.device)) for tap in self.style_layers}
        if strength == 1.0:
            return target
        content_moments = self.measure(content, tiling)
        shares = [strength, 1 - strength]
        return {tap: Moments.mix([target[tap], content_moments[tap]], shares) for tap in target}

    def _initial(self, content: Tensor, style: Style, strength: float) -> Tensor:
        """The picture that the optimisation starts from."""
        if isinstance(self.start, Tensor):
            return resize(self.start, (content.shape[-2], content.shape[-1]))
        if self.start == "recoloured":
            # A tenth of the content stays, so that the start is not flat where the style is.
            recolored = match(content, style.color, "monge")
            return content.lerp(recolored, 0.9 * min(strength, 1.0))
        if self.start == "content":
            return content
        if self.start == "grey":
            return torch.full_like(content, 0.5)
        rng = torch.Generator("cpu").manual_seed(self.options.seed)
        noise = torch.randn(content.shape, generator=rng, dtype=torch.float32, device="cpu")
        base = content if self.start == "content+noise" else torch.full_like(content, 0.5)
        return (base + 0.2 * noise).clamp(0, 1)

    def _on_device(self, picture: Tensor) -> Tensor:
        x = picture.unsqueeze(0) if picture.ndim == 3 else picture
        return arranged(x.to(torch.float32), self.device)

    def bytes_per_pixel(self) -> float:
        """Estimate of the memory per pixel (measured; correct within a third)."""
        loss = SORTING if self.style_loss == "swd" else 0.0
        if callable(self.style_loss):  # a painting's features, as float32
            loss = 4 * sum(map(self._numbers_at, self.style_layers))
        return self._activations + 3 * 4 * 12 + self._remembered(4 * HISTORY) + loss

    def _needs(self) -> Needs:
        """Estimate of the memory in one piece and in tiles."""
        remembered = self._remembered((4 if self.options.absolute else 1) * HISTORY)
        targets = self.dtype.itemsize * sum(map(self._numbers_at, self.content_layers))
        picture = 3 * 4 * 10 + remembered + targets
        tile = 1.7 * self._activations  # with the sums, which are in float32: measured
        return Needs(self.bytes_per_pixel(), picture, tile, self._untiled())

    def _remembered(self, pairs: float) -> float:
        """Bytes per pixel of what the optimiser remembers, for L-BFGS ``pairs`` of bytes."""
        return 3 * 2 * (4 if self.options.optimizer == "adam" else pairs)

    @property
    def _activations(self) -> float:
        """Bytes per pixel of a pass through the network and back."""
        taps = {*self.style_layers, *self.content_layers}
        return max(map(self.net.numbers_per_pixel, taps)) * self.dtype.itemsize

    def _numbers_at(self, tap: str) -> float:
        """Features at a layer, per pixel of the picture."""
        return self.net.channels(tap) / self.net.field(tap).stride ** 2

    def _untiled(self) -> str:
        """Why pictures cannot be computed in tiles, as a clause; empty if they can."""
        loss = self.style_loss if self.style_loss not in OF_MOMENTS else self.options.content_loss
        if loss is None:
            return ""
        name = name_of(loss) if callable(loss) else loss
        return f"{name} compares features of the whole picture, and needs it in one piece"
