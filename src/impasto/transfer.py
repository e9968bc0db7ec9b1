"""A method with prepared styles and controls, which renders one content after another.

This is where size and colour controls act: before the method, on content and painting; after it, on
the result. The method itself knows nothing of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from . import __version__
from . import color as colors
from .controls import Controls
from .device import check_process
from .errors import InputError
from .images import MIN_SIDE, Picture, Source, check_size, fit, read, resize
from .methods import Method, OnStep, Step
from .methods.gatys import Gatys
from .methods.learnt import Learnt
from .paintings import AnyStyle
from .progress import drawing
from .result import Result
from .statistics import Moments
from .styles import LearntStyle, StoredStyle, check_list, style_shares
from .watch import Cancelled, Watch

__all__ = ["Transfer", "check_controls", "check_method", "files_among"]


FIRST = 0.1  # rough share of the method in the work of a refined picture, for the progress


class Transfer:
    """A method with its styles and controls: call it with one content after another.

    Args:
        method: as :func:`impasto.load` returns it.
        styles: paintings or stored styles, as :func:`impasto.paintings.read_style` returns them.
        controls: the controls, the same for every content.
        refine: an optimisation that starts from the method's result, only at the final size:
            ``Gatys(sizes=[0], iterations=N)``; used in place of the number in ``controls``.
        sources: files that the styles came from, for :attr:`Result.sources`.
        options: options of :class:`impasto.controls.Controls`, used in place of ``controls``.

    Raises:
        InputError: for controls that do not exist or cannot be used with a stored style, and for
            styles and weights that do not fit.
    """

    def __init__(
        self,
        method: Method,
        styles: Sequence[AnyStyle],
        controls: Controls | None = None,
        *,
        refine: Gatys | None = None,
        sources: Sequence[Path] = (),
        **options: Any,
    ) -> None:
        check_process()
        check_method(method)
        check_list(styles)
        for style in styles:
            if not isinstance(style, (Picture, StoredStyle, LearntStyle)):
                raise InputError(
                    f"styles: a {type(style).__name__}: give what read_style() returned, or use "
                    "impasto.stylize()"
                )
        controls = controls or Controls.of("a transfer", options)
        check_controls(controls)
        self.method, self.styles, self.controls = method, styles, controls
        self.refine, self.sources = refine, sources
        for style in styles:
            if isinstance(style, StoredStyle) and controls.color in ("match", "luminance"):
                raise InputError(
                    f"style {style.name}: a stored style, or one by name, cannot be recoloured for "
                    f"color {controls.color}; give the painting, or use color match-style"
                )
            if isinstance(style, LearntStyle) and self._recolors:
                raise InputError(
                    f"style {style.name}: a learnt style cannot be recoloured; use color "
                    "match-style or luminance, without match-luminance"
                )
            if isinstance(style, LearntStyle) and refine is not None:
                raise InputError(
                    f"style {style.name}: a refinement needs the painting, which a network that "
                    "has learnt it has not; leave refine out, or "
                    + ("give the painting" if style.method else "use method ghiasi")
                )
        style_shares(len(styles), controls.weights)
        self._prepared = None if self._recolors else self._prepare(self._paintings())

    def __call__(
        self, content: Source, on_step: OnStep | None = None, *, progress: bool = False
    ) -> Result:
        """Render one content.

        Args:
            content: anything that :func:`impasto.images.read` takes.
            on_step: see :data:`impasto.methods.OnStep`.
            progress: draw a bar, also in notebooks.
        """
        if progress:
            with drawing(str(self.method.settings.get("method", "rendering")), on_step) as drawn:
                return self(content, drawn)
        start_time = time.monotonic()
        check_process()
        picture = self.read(content)
        rgb = picture.rgb
        if self.controls.size is not None:
            height, width = self.size_of(picture)
            check_size(height, width, picture.name)
            rgb = resize(rgb, (height, width))
        losses: list[tuple[float, float, float]] = []

        def told(step: Step) -> bool:
            if step.iterations:
                losses.append((step.loss, step.content, step.style))
            if on_step is None:
                return False
            return bool(on_step(replace(step, picture=lambda: finish(step.picture()))))

        def finish(out: Tensor) -> Tensor:
            if self.controls.color != "luminance":
                return out
            return colors.restore_chroma(out, resize(rgb, (out.shape[-2], out.shape[-1])))

        colored, style, refining_style = self._controlled(rgb)
        # As a Picture, because a method does not copy one.
        named = Picture(colored, None, picture.name)
        out, strength = colored, self.controls.strength
        refine: Gatys | None = None
        watch = Watch(told)
        watch.start(colored)
        with suppress(Cancelled):
            with watch.portion(1.0 if self.refine is None else FIRST):
                out = self.method(named, style, strength, watch)
                watch.start(out)
            if self.refine is not None and not watch.cancelled:
                refine = self.refine
                losses.clear()
                watch.stopped = None
                out = refine(colored, refining_style, strength, watch, start=out)
            watch.finish()
        out = finish(out)
        alpha = picture.alpha
        if alpha is not None:
            alpha = resize(alpha, (out.shape[-2], out.shape[-1]))
        settings = {
            "impasto": __version__,
            "content": picture.name,
            "styles": [
                f"{style.name} (learnt)" if isinstance(style, Learnt) else style.name
                for style in self.styles
            ],
            "pixels": f"{out.shape[-1]}x{out.shape[-2]}",
            **self.controls.record(),
            **self.method.settings,
            **({"refinement": refine.settings} if refine else {}),
            "seconds": round(time.monotonic() - start_time, 2),
            **({"iterations_done": len(losses), "final_loss": losses[-1][0]} if losses else {}),
            **({"stopped": watch.stopped} if watch.stopped else {}),
        }
        total, content_losses, style_losses = (
            map(list, zip(*losses, strict=True)) if losses else ([], [], [])
        )
        return Result(
            replace(picture, rgb=out, alpha=alpha),
            total,
            content_losses,
            style_losses,
            settings,
            self.controls.background,
            (*files_among([content, *self.method.sources]), *self.sources),
            watch.stopped,
        )

    def read(self, content: Source) -> Picture:
        """Read a content, reduced roughly but not yet resized to the exact size of the result."""
        return read(
            content,
            self.controls.background,
            size=self.controls.size,
            **self.controls.limits,
        )

    def size_of(self, content: Picture) -> tuple[int, int]:
        """The size ``(H, W)`` of the result."""
        if self.controls.size is None:
            return content.height, content.width
        return fit(content.height, content.width, self.controls.size)

    @property
    def _recolors(self) -> bool:
        """Whether styles depend on the content; then they are prepared for each content."""
        return self.controls.color == "match" or self.controls.match_luminance

    def _paintings(self) -> list[AnyStyle]:
        """The styles for all colour modes in which they do not depend on the content."""
        if self.controls.color != "luminance":
            return list(self.styles)
        return [
            replace(style, rgb=colors.as_grey(style.rgb)) if isinstance(style, Picture) else style
            for style in self.styles
        ]

    def _prepare(self, styles: Sequence[AnyStyle]) -> tuple[Any, Any]:
        """Prepare styles for the method and for the refinement (None without one)."""
        weights = self.controls.weights
        refining = None if self.refine is None else self.refine.prepare(styles, weights)
        return self.method.prepare(styles, weights), refining

    def _controlled(self, content: Tensor) -> tuple[Tensor, Any, Any]:
        """The recoloured content, and the styles prepared for the method and the refinement."""
        if self._prepared is None:
            return self._recolored(content)
        if self.controls.color == "luminance":
            return colors.as_grey(content), *self._prepared
        if self.controls.color == "match-style":
            palettes = [
                Moments.of(style.rgb.double()) if isinstance(style, Picture) else style.color
                for style in self.styles
            ]
            target = Moments.mix(palettes, self.controls.weights)
            return colors.match(content, target, self.controls.color_variant), *self._prepared
        return content, *self._prepared

    def _recolored(self, content: Tensor) -> tuple[Tensor, Any, Any]:
        """As :meth:`_controlled`, for styles that depend on the content."""
        paintings = [style for style in self.styles if isinstance(style, Picture)]
        if self.controls.color == "match":
            colored, variant = content, self.controls.color_variant
            recolored = [colors.match(painting.rgb, content, variant) for painting in paintings]
        else:
            colored = colors.as_grey(content)
            recolored = [colors.match_luminance(painting.rgb, content) for painting in paintings]
        styles = [
            replace(painting, rgb=rgb) for painting, rgb in zip(paintings, recolored, strict=True)
        ]
        return colored, *self._prepare(styles)


def check_controls(controls: Controls) -> None:
    """Raise InputError for controls that are invalid for any style."""
    if controls.match_luminance and controls.color != "luminance":
        raise InputError("match-luminance goes with color luminance: add it")
    size = controls.size
    if size is not None and size < MIN_SIDE:
        raise InputError(f"size is {size}: the short side needs {MIN_SIDE} pixels or more")


def files_among(sources: Iterable[object]) -> tuple[Path, ...]:
    """Absolute paths of those ``sources`` that are files."""
    paths = [Path(source) for source in sources if isinstance(source, (str, os.PathLike))]
    return tuple(path.absolute() for path in paths if os.path.isfile(path))


def check_method(method: object) -> None:
    """Raise InputError unless ``method`` is a loaded method."""
    if isinstance(method, type) or not (callable(method) and hasattr(method, "prepare")):
        raise InputError(
            f"method: a {type(method).__name__} where a method belongs: give a name, or what "
            "impasto.load() returned"
        )
