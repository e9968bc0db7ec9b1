"""A method with prepared styles and controls, loaded once: it renders picture after picture.

This is where size and colour controls act: before the method, on content and painting; after it, on
the result. The method itself knows nothing of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial, wraps
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from torch import Tensor

from . import __version__
from . import color as colors
from .controls import Controls
from .device import check_process, release
from .errors import ImpastoError, InputError, lacks_memory, out_of_memory
from .files import files_among
from .images import Picture, Source, check_size, fit, read, resize
from .methods import Method, OnStep, Step, record_of
from .methods.base import StyleT
from .methods.checkpoint import checkpoints, is_checkpoint, names_of
from .methods.gatys import Gatys
from .methods.learnt import Learnt
from .methods.records.gatys import GatysOptions
from .options import renamed, renames_of, signature_of
from .paintings import AnyStyle, Styles, read_styles
from .progress import drawing
from .refinement import check_controls, check_method, check_styles, load_refined, refiner
from .result import Result
from .statistics import Moments
from .styles import Style
from .watch import Cancelled, Watch

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .methods import keywords as kw

__all__ = ["Session"]

FIRST = 0.1  # rough share of the method in the work of a refined picture, for the progress
Function = TypeVar("Function", bound=Callable[..., Any])


def _while_open(function: Function) -> Function:
    """A decorator of what a session does: not after it is closed, and memory that runs out is said.

    What is running when the session is closed ends as if it was not.
    """

    @wraps(function)
    def wrapped(self: Session, *args: Any, **keywords: Any) -> Any:
        with self._lock:
            if self._closed:
                raise InputError("this session is closed: make another, impasto.Session(...)")
            self._running += 1
        try:
            return function(self, *args, **keywords)
        except Exception as fault:
            if lacks_memory(fault) and not isinstance(fault, ImpastoError):
                raise out_of_memory() from fault
            raise
        finally:
            with self._lock:
                self._running -= 1
                self._free_if_done()

    return cast("Function", wrapped)


class Session:
    """A method with its styles and controls, loaded once: call it with picture after picture.

    It may be called from several threads at once, and gives each what it would give it alone: what
    calls share, weights and measured styles, does not change but by being filled. Steps are told
    to the ``on_step`` of their own call.

    Args:
        method: a name (see ``impasto.methods()``), or what :func:`impasto.load` returned.
        styles: one or a list of whatever :func:`impasto.stylize` takes as a style.
        controls: the controls, the same for every picture; ``options`` override them.
        refine: number of iterations that improve the result, or the method that does so from it,
            only at the final size: ``Gatys(sizes=[0], iterations=N)``.
        options: options of :class:`impasto.controls.Controls`, and, of a method by name, its own.

    Attributes:
        method: the loaded method.
        styles: the styles as they were read.
        controls: the controls.
        sources: files that the styles and options came from, for :attr:`Result.sources`.

    Raises:
        InputError: for options or controls that do not exist or cannot be used with a stored style,
            and for styles and weights that do not fit.

    Example:
        >>> import numpy as np, impasto
        >>> photos = np.random.default_rng(0).random((3, 40, 50, 3))
        >>> with impasto.Session("ghiasi", "monet", size=32, device="cpu") as session:
        ...     [session(photo).image.size for photo in photos]
        [(40, 32), (40, 32), (40, 32)]
    """

    @overload
    def __init__(
        self, method: kw.GhiasiName, styles: Styles, **options: Unpack[kw.GhiasiWithControls]
    ) -> None: ...
    @overload
    def __init__(
        self, method: kw.GatysName, styles: Styles, **options: Unpack[kw.GatysWithControls]
    ) -> None: ...
    @overload
    def __init__(
        self, method: kw.AdaINName, styles: Styles, **options: Unpack[kw.AdaINWithControls]
    ) -> None: ...
    @overload
    def __init__(
        self, method: kw.ArtFlowName, styles: Styles, **options: Unpack[kw.ArtFlowWithControls]
    ) -> None: ...
    @overload
    def __init__(
        self, method: kw.StyleFlowName, styles: Styles, **options: Unpack[kw.StyleFlowWithControls]
    ) -> None: ...
    @overload
    def __init__(
        self, method: kw.WCTName, styles: Styles, **options: Unpack[kw.WCTWithControls]
    ) -> None: ...
    @overload
    def __init__(
        self, method: kw.JohnsonName, styles: Styles, **options: Unpack[kw.JohnsonWithControls]
    ) -> None: ...
    @overload
    def __init__(self, method: str, styles: Styles, **options: Unpack[kw.WithControls]) -> None: ...
    @overload
    def __init__(
        self, method: Method[StyleT], styles: Styles, **options: Unpack[kw.ControlKeywords]
    ) -> None: ...
    def __init__(
        self,
        method: str | Method[StyleT],
        styles: Styles,
        *,
        controls: Controls | None = None,
        refine: int | Gatys | None = None,
        **options: Any,
    ) -> None:
        check_process()
        if not isinstance(method, str):
            check_method(method)
        names = Controls.declared()
        sets = [record_of(method).Options, GatysOptions] if isinstance(method, str) else []
        options = renamed(options, renames_of(Controls, *sets))
        chosen = {name: options.pop(name) for name in list(options) if name in names}
        if refine is not None and not isinstance(refine, Gatys):
            chosen["refine"] = refine
        if controls is not None and not isinstance(controls, Controls):
            fault = f"controls: a {type(controls).__name__} where Controls belong"
            raise InputError(fault, option="controls")
        controls = replace(controls or Controls(), **chosen)
        check_controls(controls)
        self._lock, self._running, self._closed = threading.Lock(), 0, False
        self._owned = isinstance(method, str)
        self.refine: Gatys | None = refine if isinstance(refine, Gatys) else None
        self.method: Method[object]
        if isinstance(method, str):
            self.method, refining = load_refined(method, controls, options)
            self.refine = self.refine or refining
        elif options:
            raise InputError(
                f"option {next(iter(options))!r} belongs to impasto.load() when a loaded method is "
                "given",
                option=next(iter(options)),
            )
        else:
            self.method = cast("Method[object]", method)
            if self.refine is None and controls.refine is not None:
                self.refine = refiner(controls.refine, method)
        sources: list[Any] = list(styles) if isinstance(styles, (list, tuple)) else [styles]
        self.sources: tuple[Path, ...] = files_among([*sources, *options.values()])
        self.styles: list[AnyStyle]
        self.styles, weights = read_styles(
            *(sources, controls.weights, controls.background, self.method), **controls.limits
        )
        self.controls: Controls = replace(controls, weights=weights)
        check_styles(self.styles, self.controls, self.refine)
        whole = sources[0] if len(sources) == 1 and isinstance(sources[0], Style) else None
        self._prepared: tuple[Any, Any] | None = None
        if not self.controls.recolors:
            if whole is None or self.controls.color == "luminance":
                self._prepared = self._prepare(self._paintings(), weights)
            else:  # with what was measured of it
                self._prepared = self._prepare([whole], None)

    def close(self) -> None:
        """Free the model, and the device's memory that it used; the session cannot be called again.

        A method that was given loaded stays with whoever gave it. Calls that are running end first.
        """
        with self._lock:
            self._closed = True
            self._free_if_done()

    def _free_if_done(self) -> None:
        if not self._closed or self._running or not hasattr(self, "method"):
            return
        device = self.method.device if self._owned else None
        del self.method, self.refine, self._prepared
        if device is not None:
            release(device)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    @_while_open
    def __call__(
        self,
        content: Source,
        on_step: OnStep | None = None,
        *,
        progress: bool = False,
        checkpoint: str | PathLike[str] | None = None,
    ) -> Result:
        """Render one content.

        Args:
            content: anything that :func:`impasto.read` takes.
            on_step: see :data:`impasto.methods.OnStep`.
            progress: draw a bar, also in notebooks.
            checkpoint: a file in which an optimisation of more than a minute keeps its state, and
                from which the same call goes on if this one is interrupted. It goes when the result
                is saved, unless that was cancelled. Work of one pass keeps none.

        Raises:
            InputError: if it cannot be read, or the session is closed.
            OutOfMemoryError: if it needs more memory than is free.
        """
        if on_step is not None and not callable(on_step):
            raise InputError(f"on_step: a {type(on_step).__name__}: give a function of a Step")
        label = str(self.method.settings.get("method", "rendering"))
        with drawing(label, on_step) if progress else nullcontext(on_step) as told:
            return self._rendered(content, told, checkpoint)

    def _rendered(
        self,
        content: Source,
        on_step: OnStep | None,
        checkpoint: str | PathLike[str] | None,
    ) -> Result:
        start_time = time.monotonic()
        sources = (*files_among([content, *self.method.sources]), *self.sources)
        first, last = checkpoints(checkpoint, sources, refined=self.refine is not None)
        check_process()
        picture = self.read(content)
        # What is no longer needed is not held: a large picture is gigabytes.
        chroma = picture.rgb if self.controls.color == "luminance" else None
        colored, style, refining_style = self._controlled(picture.rgb)
        # As a Picture, because a method does not copy one.
        named = Picture(colored, None, picture.name)
        name = picture.name
        made = partial(Picture, alpha=picture.alpha, name=name, metadata=picture.metadata)
        del picture

        def told(step: Step) -> bool:
            if on_step is None:
                return False
            return bool(on_step(replace(step, picture=lambda: finish(step.picture()))))

        def finish(out: Tensor) -> Tensor:
            if chroma is None:
                return out
            return colors.restore_chroma(out, resize(chroma, (out.shape[-2], out.shape[-1])))

        out, strength, method_settings = colored, self.controls.strength, self.method.settings
        refine: Gatys | None = None
        watch = Watch(told)
        losses = watch.losses
        watch.checkpoint = first
        watch.start(colored)
        with suppress(Cancelled):
            with watch.portion(1.0 if self.refine is None else FIRST):
                out = self.method(named, style, strength, watch)
                watch.painted = watch.painted or bool(losses) or not watch.cancelled
                method_settings = watch.recorded(self.method.settings)
                watch.start(out)
            if self.refine is not None and not watch.cancelled:
                refine = self.refine
                losses.clear()
                watch.stopped, watch.resolved, watch.checkpoint = None, {}, last
                out = refine(colored, refining_style, strength, watch, start=out)
            watch.finish()
        del colored, named
        if chroma is not None:
            out = colors.luminance_of(out)
        watch.start(out)  # it held the method's result
        out = finish(out)
        settings = {
            "impasto": __version__,
            "content": name,
            "styles": [
                f"{style.name} (learnt)" if isinstance(style, Learnt) else style.name
                for style in self.styles
            ],
            "pixels": f"{out.shape[-1]}x{out.shape[-2]}",
            **self.controls.record(),
            **method_settings,
            **({"refinement": watch.recorded(refine.settings)} if refine else {}),
            "seconds": round(time.monotonic() - start_time + watch.earlier, 2),
            **({"iterations_done": len(losses), "final_loss": losses[-1][0]} if losses else {}),
            **({"stopped": watch.stopped} if watch.stopped else {}),
        }
        columns = [list(column) for column in zip(*losses, strict=True)] or [[], [], []]
        names = () if checkpoint is None else names_of(checkpoint)
        files = tuple(filter(is_checkpoint, names))  # also of work that was refined before
        ended = (self.controls.background, sources, watch.stopped, watch.painted, files)
        return Result(made(out), columns[0], columns[1], columns[2], settings, *ended)

    def read(self, content: Source) -> Picture:
        """Read a content, with its alpha, at the size of the result; errors as of a call."""
        picture = read(
            content,
            self.controls.background,
            size=self.controls.size,
            **self.controls.limits,
        )
        size = self.size_of(picture)
        if size == (picture.height, picture.width):
            return picture
        check_size(*size, picture.name)
        alpha = None if picture.alpha is None else resize(picture.alpha, size)
        return replace(picture, rgb=resize(picture.rgb, size), alpha=alpha)

    def size_of(self, content: Picture) -> tuple[int, int]:
        """The size ``(H, W)`` of the result."""
        if self.controls.size is None:
            return content.height, content.width
        return fit(content.height, content.width, self.controls.size)

    def _paintings(self) -> list[AnyStyle]:
        """The styles for all colour modes in which they do not depend on the content."""
        if self.controls.color != "luminance":
            return list(self.styles)
        return [
            replace(style, rgb=colors.as_grey(style.rgb)) if isinstance(style, Picture) else style
            for style in self.styles
        ]

    def _prepare(
        self, styles: Sequence[AnyStyle | Style], weights: Sequence[float] | None
    ) -> tuple[Any, Any]:
        """Prepare styles for the method and for the refinement (None without one)."""
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
                colors.moments_of(style.rgb) if isinstance(style, Picture) else style.color
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
        return colored, *self._prepare(styles, self.controls.weights)


Session.__signature__ = signature_of(Session, Controls, further=True)  # type: ignore[attr-defined]
