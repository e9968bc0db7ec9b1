"""The way of one picture: read, controls, method, finish."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from . import __version__
from . import color as colors
from .device import check_process
from .errors import InputError, check_strength, check_whole
from .files import same_file
from .images import (
    MIN_SIDE,
    Picture,
    Source,
    check_size,
    encode,
    fit,
    read,
    resize,
    write,
)
from .methods import DEFAULT, STORED, Method, OnStep, Step, check_options, load, options_of
from .methods.gatys import STARTS, Gatys
from .methods.learnt import SUFFIX as LEARNT
from .methods.learnt import Learnt
from .progress import Bar, drawn
from .statistics import Moments
from .styles import (
    SUFFIX,
    LearntStyle,
    StoredStyle,
    check_list,
    find_named,
    is_name,
    read_painting,
    style_shares,
)

__all__ = [
    "Result",
    "StyleSource",
    "Transfer",
    "bounded",
    "check_controls",
    "load_refined",
    "read_style",
    "refiner",
    "store_style",
    "stylize",
]

StyleSource = Source | StoredStyle | Learnt
AnyStyle = Picture | StoredStyle | LearntStyle
SHOWN = 1024
"""The longest side, in pixels, of what a notebook shows of a Result."""


@dataclass(frozen=True)
class Result:
    """A rendered picture with how it came about.

    Attributes:
        picture: ``rgb (3, H, W)`` in 0..1, and ``alpha`` if the content had one.
        losses: total loss before every iteration; empty for methods of one pass.
        content_losses, style_losses: its terms, without their weights.
        settings: what it was made from and how, with timings.
        background: what transparent parts were composited over.
        sources: files that it was made from; :meth:`save` leaves them alone.

    In a notebook it shows itself, reduced where it is large.
    """

    picture: Picture = field(repr=False)
    losses: list[float] = field(repr=False)
    content_losses: list[float] = field(repr=False)
    style_losses: list[float] = field(repr=False)
    settings: dict[str, Any]
    background: str = "white"
    sources: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def image(self) -> Image.Image:
        """As a Pillow image, RGB or RGBA."""
        return self.picture.to_pil()

    @property
    def array(self) -> NDArray[np.uint8]:
        """As an array, ``(H, W, 3 or 4)`` uint8."""
        return np.asarray(self.image)

    def save(
        self,
        path: str | os.PathLike[str],
        quality: int = 95,
        depth: int = 8,
        keep_gps: bool = False,
        metadata: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Write to ``path``, whole or not at all, with the settings embedded.

        Alpha is composited over the background where the format has none.

        Args:
            path: its suffix names the format.
            quality, depth, keep_gps, metadata: see :func:`impasto.images.write`.
            overwrite: also where ``path`` is one of :attr:`sources`.

        Raises:
            InputError: if it cannot be written, or is one of them.
        """
        if not overwrite and any(same_file(path, source) for source in self.sources):
            raise InputError(
                f"{path}: the picture was made from this file; save it under another name, or with "
                "overwrite=True"
            )
        return write(
            *(path, self.picture.rgb, self.picture.alpha, self.settings, self.background, quality),
            depth=depth,
            source=self.picture.metadata,
            metadata=metadata,
            keep_gps=keep_gps,
        )

    def encode(
        self,
        suffix: str = ".png",
        quality: int = 95,
        depth: int = 8,
        keep_gps: bool = False,
        metadata: bool = True,
    ) -> bytes:
        """What :meth:`save` would write into a file with that suffix."""
        return encode(
            *(suffix, self.picture.rgb, self.picture.alpha, self.settings, self.background),
            quality,
            depth=depth,
            source=self.picture.metadata,
            metadata=metadata,
            keep_gps=keep_gps,
        )

    def _repr_png_(self) -> bytes:
        rgb, alpha = self.picture.rgb, self.picture.alpha
        height, width = rgb.shape[-2:]
        share = SHOWN / max(height, width)
        if share < 1:
            rgb = resize(rgb, (max(1, round(height * share)), max(1, round(width * share))))
        if alpha is not None:
            alpha = resize(alpha, (rgb.shape[-2], rgb.shape[-1]))
        return encode(".png", rgb, alpha)


@dataclass
class Transfer:
    """A method with its styles and controls: call it with one content after another.

    Args:
        method: as :func:`impasto.load` returns it.
        styles: paintings or stored styles, as :func:`read_style` returns them.
        weights: share of each style; None for equal shares.
        strength: 0 leaves the content as it is, 1 is the full style.
        size: short side of the result in pixels; None keeps the content's size.
        color: None, ``match`` (the style recoloured to the content's colours before),
            ``match-style`` (the content recoloured to the style's before) or ``luminance``
            (lightness alone is transferred, the content's chroma kept exactly).
        color_variant: ``eigenvalue``, ``cholesky`` or ``monge``: how colours are matched.
        match_luminance: in luminance mode, give the style the content's mean and deviation of
            luminance before.
        background: what transparent parts are composited over.
        refine: an optimisation for which the method's result is the start, at the final size alone:
            ``Gatys(sizes=[0], iterations=N)``. It takes the first texture in one pass and its
            finish where it matters.
        max_pixels, accept_truncated: of contents, see :func:`impasto.images.read`.
        sources: files that the styles came from, for :attr:`Result.sources`.

    Raises:
        InputError: for controls that do not exist or do not go with a stored style, and for styles
            and weights that do not fit.
    """

    method: Method
    styles: Sequence[AnyStyle]
    weights: Sequence[float] | None = None
    strength: float = 1.0
    size: int | None = None
    color: str | None = None
    color_variant: colors.Variant = "eigenvalue"
    match_luminance: bool = False
    background: str = "white"
    refine: Gatys | None = None
    max_pixels: int | None = None
    accept_truncated: bool = False
    sources: Sequence[Path] = ()

    def __post_init__(self) -> None:
        check_process()
        _check_method(self.method)
        check_list(self.styles)
        for style in self.styles:
            if not isinstance(style, (Picture, StoredStyle, LearntStyle)):
                raise InputError(
                    f"styles: a {type(style).__name__}: give what read_style() returned, or use "
                    "impasto.stylize()"
                )
        check_controls(
            self.color, self.color_variant, self.match_luminance, self.size, self.strength
        )
        for style in self.styles:
            if isinstance(style, StoredStyle) and self.color in ("match", "luminance"):
                raise InputError(
                    f"style {style.name}: a stored style, or one by name, cannot be recoloured for "
                    f"color {self.color}; give the painting, or use color match-style"
                )
            if isinstance(style, LearntStyle) and self._recolors:
                raise InputError(
                    f"style {style.name}: a learnt style cannot be recoloured; use color "
                    "match-style or luminance, without match-luminance"
                )
            if isinstance(style, LearntStyle) and self.refine is not None:
                raise InputError(
                    f"style {style.name}: a refinement needs the painting, which a network that "
                    "has learnt it has not; leave refine out, or "
                    + ("give the painting" if style.method else "use method ghiasi")
                )
        style_shares(len(self.styles), self.weights)
        self._prepared = None if self._recolors else self._prepare(self._paintings())

    def __call__(self, content: Source, on_step: OnStep | None = None) -> Result:
        """Render one content.

        Args:
            content: whatever :func:`impasto.images.read` takes.
            on_step: see :data:`impasto.methods.OnStep`.
        """
        began = time.monotonic()
        check_process()
        picture = self.read(content)
        rgb = picture.rgb
        if self.size is not None:
            height, width = self.size_of(picture)
            check_size(height, width, picture.name)
            rgb = resize(rgb, (height, width))
        losses: list[tuple[float, float, float]] = []
        stopped = False

        def watch(step: Step) -> bool:
            nonlocal stopped
            losses.append((step.loss, step.content, step.style))
            if on_step is not None:
                stopped = bool(on_step(replace(step, picture=lambda: finish(step.picture()))))
            return stopped

        def finish(out: Tensor) -> Tensor:
            return colors.restore_chroma(out, rgb) if self.color == "luminance" else out

        seen, style, finer = self._controlled(rgb)
        # As a Picture, for a method makes no copy of one.
        out = self.method(Picture(seen, None, picture.name), style, self.strength, watch)
        refine = None if stopped else self.refine
        if refine is not None:
            losses.clear()
            out = refine(seen, finer, self.strength, watch, start=out)
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
            "weights": None if self.weights is None else list(self.weights),
            "strength": self.strength,
            "size": f"{out.shape[-1]}x{out.shape[-2]}",
            "color": self.color,
            **({"color_variant": self.color_variant} if self.color else {}),
            **({"match_luminance": True} if self.match_luminance else {}),
            **self.method.settings,
            **({"refine": refine.settings} if refine else {}),
            "seconds": round(time.monotonic() - began, 2),
            **({"iterations_done": len(losses), "final_loss": losses[-1][0]} if losses else {}),
            **({"stopped": True} if stopped else {}),
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
            self.background,
            (*_files([content, *getattr(self.method, "sources", ())]), *self.sources),
        )

    def read(self, content: Source) -> Picture:
        """A content as it will be rendered, but not yet reduced to the very size."""
        return read(
            content,
            self.background,
            size=self.size,
            max_pixels=self.max_pixels,
            accept_truncated=self.accept_truncated,
        )

    def size_of(self, content: Picture) -> tuple[int, int]:
        """The size ``(H, W)`` of the result."""
        if self.size is None:
            return content.height, content.width
        return fit(content.height, content.width, self.size)

    @property
    def _recolors(self) -> bool:
        """Whether styles take something from the content: they are prepared for each anew."""
        return self.color == "match" or self.match_luminance

    def _paintings(self) -> list[Tensor | StoredStyle | LearntStyle]:
        """The styles as they are in all colour modes that do not take from the content."""
        grey = self.color == "luminance"
        return [
            style
            if not isinstance(style, Picture)
            else colors.as_grey(style.rgb)
            if grey
            else style.rgb
            for style in self.styles
        ]

    def _prepare(self, styles: Sequence[Tensor | StoredStyle | LearntStyle]) -> tuple[Any, Any]:
        """The styles as the method sees them, and as the refinement does."""
        finer = None if self.refine is None else self.refine.prepare(styles, self.weights)
        return self.method.prepare(styles, self.weights), finer

    def _controlled(self, content: Tensor) -> tuple[Tensor, Any, Any]:
        """The content and the prepared styles that method and refinement get to see."""
        if self._prepared is None:
            return self._recolored(content)
        if self.color == "luminance":
            return colors.as_grey(content), *self._prepared
        if self.color == "match-style":
            palettes = [
                Moments.of(style.rgb.double()) if isinstance(style, Picture) else style.color
                for style in self.styles
            ]
            target = Moments.mix(palettes, self.weights)
            return colors.match(content, target, self.color_variant), *self._prepared
        return content, *self._prepared

    def _recolored(self, content: Tensor) -> tuple[Tensor, Any, Any]:
        """As :meth:`_controlled`, for styles that take something from the content."""
        paintings = [style.rgb for style in self.styles if isinstance(style, Picture)]
        if self.color == "match":
            recolored = [colors.match(rgb, content, self.color_variant) for rgb in paintings]
            return content, *self._prepare(recolored)
        recolored = [colors.match_luminance(rgb, content) for rgb in paintings]
        return colors.as_grey(content), *self._prepare(recolored)


def _check_method(method: object) -> None:
    if isinstance(method, type) or not (callable(method) and hasattr(method, "prepare")):
        raise InputError(
            f"method: a {type(method).__name__} where a method belongs: give a name, or what "
            "impasto.load() returned"
        )


def check_controls(
    color: str | None,
    color_variant: str,
    match_luminance: bool,
    size: int | None,
    strength: float,
) -> None:
    """Raise InputError for controls that no styles could be used with; see :class:`Transfer`."""
    if color not in (None, *colors.MODES):
        raise InputError(f"color {color!r} is unknown: use {', '.join(colors.MODES)}")
    if color_variant not in get_args(colors.Variant):
        known = ", ".join(get_args(colors.Variant))
        raise InputError(f"color-variant {color_variant!r} is unknown: use {known}")
    if match_luminance and color != "luminance":
        raise InputError("match-luminance goes with color luminance: add it")
    if size is not None:
        check_whole("size", size)
        if size < MIN_SIDE:
            raise InputError(f"size is {size}: the short side needs {MIN_SIDE} pixels or more")
    check_strength(strength)


def read_style(
    source: StyleSource,
    background: str = "white",
    method: Any = None,
    *,
    max_pixels: int | None = None,
    accept_truncated: bool = False,
) -> AnyStyle:
    """A painting, a style stored by ``impasto style`` or learnt by ``impasto learn``, or a name.

    The name is that of a bundled style, or of one that ``method`` has learnt.

    A file wins over one of :func:`impasto.named_styles` that is called like it. ``max_pixels`` and
    ``accept_truncated`` are those of :func:`impasto.images.read`. Raises InputError if it is none
    of these.
    """
    find = getattr(method, "find", None)
    if find is not None:
        learnt: LearntStyle = find(source)
        return learnt
    if isinstance(source, (StoredStyle, Learnt)):
        return source
    if isinstance(source, (str, os.PathLike)):
        if Path(source).suffix.lower() == SUFFIX:
            return StoredStyle.load(Path(source))
        if Path(source).suffix.lower() == LEARNT:
            return Learnt.load(Path(source))
        if is_name(source):
            return find_named(str(source))
    return read_painting(
        source, background, max_pixels=max_pixels, accept_truncated=accept_truncated
    )


@drawn("storing")
def store_style(
    paintings: Sequence[Source],
    name: str,
    weights: Sequence[float] | None = None,
    methods: Sequence[str] | None = None,
    *,
    on_progress: Callable[[int, int, str], object] = lambda done, total, name: None,
    progress: bool = False,
    spelled: Callable[[str], str] = repr,
    **options: Any,
) -> StoredStyle:
    """What methods need of one painting, or of a mixture, to keep in a file.

    Args:
        paintings: whatever :func:`impasto.images.read` takes.
        name: of the style, for messages.
        weights: share of each painting; None for equal shares.
        methods: names of those that it is for; None for all that take any painting, each with its
            own network (about 4 MB in a file).
        on_progress: called with the networks done, those in all, and what comes next.
        progress: draw a bar.
        spelled: how messages write the name of an option.
        options: of the methods, such as another ``backbone`` of ``gatys`` or a ``model``; each goes
            to those that have it.

    Returns:
        The style: ``save(path)`` writes it.

    Raises:
        InputError: for a method that takes no painting, an option that none has, or pictures that
            cannot be read.

    Example:
        >>> import numpy as np
        >>> painting = np.random.default_rng(0).random((48, 64, 3))
        >>> store_style([painting], "noise", methods=["adain"])
        <style noise for adain; 48 to 48 px>
    """
    check_list(paintings)
    if not (isinstance(name, str) and name.strip()):
        raise InputError(f"the name of a style is {name!r}: give a word")
    if isinstance(methods, str):
        raise InputError(f"methods: a name where a list belongs: give [{methods!r}, ...]")
    for method in methods or ():
        options_of(method)
        if method not in STORED:
            raise InputError(
                f"method {method} paints what it has learnt alone: no style is stored for it"
            )
    wanted = [method for method in STORED if method in (methods or STORED)]
    known = dict.fromkeys(option for method in wanted for option in options_of(method))
    check_options(f"method {' or '.join(wanted)}", known, options, spelled)
    read = [read_painting(painting) for painting in paintings]
    given_one = "model" in options  # of which there are no variants
    runs = [(method, own) for method in wanted for own in (({},) if given_one else STORED[method])]
    stored: StoredStyle | None = None
    for number, (method, own) in enumerate(runs):
        on_progress(number, len(runs), method)
        given = {key: value for key, value in options.items() if key in options_of(method)}
        ready = load(method, **{"precision": "float32", **own, **given})
        stored = ready.prepare(read, weights).store(name, stored)
    on_progress(len(runs), len(runs), "")
    assert stored is not None
    return stored


def stylize(
    content: Source,
    style: StyleSource | Sequence[StyleSource],
    method: str | Method = DEFAULT,
    *,
    weights: Sequence[float] | None = None,
    strength: float = 1.0,
    size: int | None = None,
    color: str | None = None,
    color_variant: colors.Variant = "eigenvalue",
    match_luminance: bool = False,
    background: str = "white",
    refine: int | Gatys | None = None,
    max_pixels: int | None = None,
    accept_truncated: bool = False,
    on_step: OnStep | None = None,
    progress: bool = False,
    **options: Any,
) -> Result:
    """Render ``content`` in the manner of ``style``.

    Args:
        content: a path, Pillow image, array ``(H, W, 3)`` or tensor ``(3, H, W)``.
        style: the same, a stored style, a name (of :func:`impasto.named_styles`, or of one that the
            method has learnt), or a list of them.
        method: a name (see :func:`impasto.methods`) or what :func:`impasto.load` returned.
        weights, strength, size, color, color_variant, match_luminance, background: see
            :class:`Transfer`.
        refine: iterations of Gatys' method that begin with the method's result, see
            :func:`load_refined`; or such a method, see :class:`Transfer`.
        max_pixels, accept_truncated: of content and styles, see :func:`impasto.images.read`.
        on_step: called after every iteration; returning True ends it with the picture so far.
        progress: draw a bar, which notebooks draw too.
        options: of the method, such as ``backbone`` or ``iterations``, and of its refinement.

    Returns:
        The picture with its losses and settings.

    Raises:
        InputError: if something given is wrong; the message says what and what to do.

    Example:
        >>> import numpy as np, impasto
        >>> rng = np.random.default_rng(0)
        >>> photo, painting = rng.random((40, 50, 3)), rng.random((48, 64, 3))
        >>> impasto.stylize(photo, painting, device="cpu").picture.rgb.shape
        torch.Size([3, 40, 50])
    """
    finer = refine if isinstance(refine, Gatys) else None
    count = None if isinstance(refine, Gatys) else refine
    if count is not None:
        check_whole("refine", count)
    if not isinstance(method, str):
        _check_method(method)
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step: a {type(on_step).__name__}: give a function of a Step")
    if isinstance(method, str):
        ready, made = load_refined(method, count, bounded(options, max_pixels, accept_truncated))
    elif options:
        raise InputError("options belong to load() when a loaded method is given")
    else:
        ready, made = method, None if count is None else refiner(count, method)
    sources: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
    limits: dict[str, Any] = {"max_pixels": max_pixels, "accept_truncated": accept_truncated}
    label = method if isinstance(method, str) else "stylize"
    with Bar(label, total=1) if progress else nullcontext() as bar:
        transfer = Transfer(
            ready,
            [read_style(source, background, ready, **limits) for source in sources],
            weights,
            strength,
            size,
            color,
            color_variant,
            match_luminance,
            background,
            finer or made,
            **limits,
            sources=_files([*sources, *options.values()]),
        )
        if bar is None:
            return transfer(content, on_step)

        last: list[Any] = [1]

        def each(step: Step) -> bool:
            last[:] = [step.iterations, step.loss]
            bar(step.iteration, step.iterations, step.loss)
            return bool(on_step(step)) if on_step is not None else False

        result = transfer(content, each)
        bar(last[0], *last)  # it may have come to its end before all that was planned
        return result


def _files(sources: Iterable[object]) -> tuple[Path, ...]:
    """Those that are files."""
    paths = [Path(source) for source in sources if isinstance(source, (str, os.PathLike))]
    return tuple(path.absolute() for path in paths if os.path.isfile(path))


# Options of Gatys that a refinement leaves open, and those of them about its backbone.
REFINED = set(options_of("gatys")) - {"sizes", "iterations", "start"}
OF_BACKBONE = {"backbone", "weights_file", "convention"}


def bounded(
    options: Mapping[str, Any], max_pixels: int | None, accept_truncated: bool
) -> dict[str, Any]:
    """Options of a method whose ``start``, where that is a file, was read within these limits."""
    start = options.get("start")
    is_file = isinstance(start, (str, os.PathLike)) and start not in STARTS
    if start is None or not is_file or (max_pixels is None and not accept_truncated):
        return dict(options)
    limits: dict[str, Any] = {"max_pixels": max_pixels, "accept_truncated": accept_truncated}
    return {**options, "start": read(start, **limits)}


def load_refined(
    method: str,
    refine: int | None,
    options: Mapping[str, Any],
    spelled: Callable[[str], str] = repr,
) -> tuple[Method, Gatys | None]:
    """A method by name, and its refinement, if there is to be one.

    What both have an option for goes to both. The backbone is the refinement's alone where the
    method has no option ``backbone``.

    Args:
        method: see :func:`impasto.methods`.
        refine: iterations of the refinement; None for no refinement.
        options: of both.
        spelled: how messages write the name of an option.

    Raises:
        InputError: for an option that neither has, or a value out of range.
    """
    known = set(options_of(method))
    if refine is None:
        check_options(f"method {method}", options_of(method), options, spelled)
        return load(method, **options), None
    check_options(f"method {method} with a refinement", known | REFINED, options, spelled)
    own = known if "backbone" in known else known - OF_BACKBONE
    ready = load(method, **{name: value for name, value in options.items() if name in own})
    finishing = {name: value for name, value in options.items() if name in REFINED}
    return ready, refiner(refine, ready, **finishing)


def refiner(iterations: int, method: Method, /, **options: Any) -> Gatys:
    """Gatys' method as a refinement: so many iterations, at the final size alone.

    Args:
        iterations: 1 or more.
        method: the method that is refined; the refinement runs on its device.
        options: of :class:`Gatys`, such as ``backbone`` or ``style_weight``.

    Raises:
        InputError: for no iterations, or an option that there is not or that is out of its range.
    """
    check_options("a refinement", REFINED, options)
    check_whole("refine", iterations)
    options = {"device": str(getattr(method, "device", "auto")), **options}
    return Gatys(sizes=[0], iterations=iterations, **options)
