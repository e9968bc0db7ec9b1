"""The way of one picture: read, controls, method, finish."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
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
from .errors import InputError, check_finite
from .images import MIN_SIDE, Picture, Source, check_size, fit, read, resize, write
from .methods import DEFAULT, STORED, Method, OnStep, Step, check_options, load, options_of
from .methods.gatys import Gatys
from .statistics import Moments
from .styles import (
    SUFFIX,
    LearntStyle,
    StoredStyle,
    check_list,
    read_painting,
    style_shares,
)

__all__ = [
    "Result",
    "StyleSource",
    "Transfer",
    "load_refined",
    "read_style",
    "refiner",
    "store_style",
    "stylize",
]

StyleSource = Source | StoredStyle
AnyStyle = Picture | StoredStyle | LearntStyle


@dataclass(frozen=True)
class Result:
    """A rendered picture with how it came about.

    Attributes:
        picture: ``rgb (3, H, W)`` in 0..1, and ``alpha`` if the content had one.
        losses: total loss before every iteration; empty for methods of one pass.
        content_losses, style_losses: its terms, without their weights.
        settings: what it was made from and how, with timings.
        background: what transparent parts were composited over.
    """

    picture: Picture
    losses: list[float] = field(repr=False)
    content_losses: list[float] = field(repr=False)
    style_losses: list[float] = field(repr=False)
    settings: dict[str, Any]
    background: str = "white"

    @property
    def image(self) -> Image.Image:
        """As a Pillow image, RGB or RGBA."""
        return self.picture.to_pil()

    @property
    def array(self) -> NDArray[np.uint8]:
        """As an array, ``(H, W, 3 or 4)`` uint8."""
        return np.asarray(self.image)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to ``path``, whole or not at all, with the settings embedded.

        Alpha is composited over the background where the format has none.
        """
        return write(path, self.picture.rgb, self.picture.alpha, self.settings, self.background)


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

    def __post_init__(self) -> None:
        if self.color not in (None, *colors.MODES):
            raise InputError(f"color {self.color!r} is unknown: use {', '.join(colors.MODES)}")
        for style in self.styles:
            if isinstance(style, StoredStyle) and self.color in ("match", "luminance"):
                raise InputError(
                    f"style {style.name}: a stored style cannot be recoloured for color "
                    f"{self.color}; give the painting, or use color match-style"
                )
            if isinstance(style, LearntStyle) and self._recolors:
                raise InputError(
                    f"style {style.name}: a learnt style cannot be recoloured; use color "
                    "match-style or luminance, without match-luminance"
                )
            if isinstance(style, LearntStyle) and self.refine is not None:
                raise InputError(
                    f"style {style.name}: a refinement needs the painting, which a network that "
                    "has learnt it has not; leave refine out, or use method adain"
                )
        if self.color_variant not in get_args(colors.Variant):
            known = ", ".join(get_args(colors.Variant))
            raise InputError(f"color-variant {self.color_variant!r} is unknown: use {known}")
        if self.match_luminance and self.color != "luminance":
            raise InputError("match-luminance goes with color luminance: add it")
        if self.size is not None and self.size < MIN_SIDE:
            raise InputError(f"size is {self.size}: the short side needs {MIN_SIDE} pixels or more")
        check_finite("strength", self.strength)
        if self.strength < 0:
            raise InputError(f"strength is {self.strength}: must be 0 or more")
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
        picture = read(content, self.background)
        rgb = picture.rgb
        if self.size is not None:
            height, width = fit(picture.height, picture.width, self.size)
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
            "styles": [style.name for style in self.styles],
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
        }
        total, content_losses, style_losses = (
            map(list, zip(*losses, strict=True)) if losses else ([], [], [])
        )
        return Result(
            Picture(out, alpha, picture.name),
            total,
            content_losses,
            style_losses,
            settings,
            self.background,
        )

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


def read_style(source: StyleSource, background: str = "white", method: Any = None) -> AnyStyle:
    """A painting, a style stored by ``impasto style``, or one that ``method`` has learnt.

    Raises InputError if it is none of these.
    """
    find = getattr(method, "find", None)
    if find is not None:
        learnt: LearntStyle = find(source)
        return learnt
    if isinstance(source, StoredStyle):
        return source
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix == SUFFIX:
        return StoredStyle.load(Path(source))
    return read_painting(source, background)


def store_style(
    paintings: Sequence[Source],
    name: str,
    weights: Sequence[float] | None = None,
    methods: Sequence[str] | None = None,
    *,
    on_progress: Callable[[int, int, str], bool | None] = lambda done, total, name: None,
    **options: Any,
) -> StoredStyle:
    """What methods need of one painting, or of a mixture, to keep in a file.

    Args:
        paintings: whatever :func:`impasto.images.read` takes.
        name: of the style, for messages.
        weights: share of each painting; None for equal shares.
        methods: names of those that it is for; None for all that take any painting, each with its
            own network (about 4 MB in a file).
        on_progress: called with the networks done, those in all, and what comes next; True ends the
            work, by KeyboardInterrupt.
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
    for method in methods or ():
        options_of(method)
        if method not in STORED:
            raise InputError(
                f"method {method} paints what it has learnt alone: no style is stored for it"
            )
    wanted = [method for method in STORED if method in (methods or STORED)]
    known = dict.fromkeys(option for method in wanted for option in options_of(method))
    check_options(f"method {' or '.join(wanted)}", known, options)
    read = [read_painting(painting) for painting in paintings]
    runs = [(method, own) for method in wanted for own in STORED[method]]
    stored: StoredStyle | None = None
    for number, (method, own) in enumerate(runs):
        if on_progress(number, len(runs), method):
            raise KeyboardInterrupt
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
    on_step: OnStep | None = None,
    **options: Any,
) -> Result:
    """Render ``content`` in the manner of ``style``.

    Args:
        content: a path, Pillow image, array ``(H, W, 3)`` or tensor ``(3, H, W)``.
        style: the same, a stored style, the name of one that the method has learnt, or a list of
            them.
        method: a name (see :func:`impasto.methods`) or what :func:`impasto.load` returned.
        weights, strength, size, color, color_variant, match_luminance, background: see
            :class:`Transfer`.
        refine: iterations of Gatys' method that begin with the method's result, see
            :func:`load_refined`; or such a method, see :class:`Transfer`.
        on_step: called after every iteration; returning True ends it with the picture so far.
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
    count = refine if isinstance(refine, int) else None
    finer = None if isinstance(refine, int) else refine
    if isinstance(method, str):
        ready, made = load_refined(method, count, options)
    elif options:
        raise InputError("options belong to load() when a loaded method is given")
    else:
        ready, made = method, None if count is None else refiner(count, method)
    sources: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
    transfer = Transfer(
        ready,
        [read_style(source, background, ready) for source in sources],
        weights,
        strength,
        size,
        color,
        color_variant,
        match_luminance,
        background,
        finer or made,
    )
    return transfer(content, on_step)


# Options of Gatys that a refinement leaves open, and those of them about its backbone.
REFINED = set(options_of("gatys")) - {"sizes", "iterations", "start"}
OF_BACKBONE = {"backbone", "weights_file", "convention"}


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
    if iterations < 1:
        raise InputError(f"refine is {iterations}: must be 1 or more iterations")
    options = {"device": str(getattr(method, "device", "auto")), **options}
    return Gatys(sizes=[0], iterations=iterations, **options)
