"""The way of one picture: read, controls, method, finish."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from .controls import Controls
from .errors import InputError, check_whole
from .images import Source, read, read_settings
from .methods import (
    DEFAULT,
    METHODS,
    Method,
    OnStep,
    Step,
    check_options,
    load,
    options_of,
    record_of,
)
from .methods.gatys import Gatys
from .methods.records.gatys import REFINED, STARTS
from .options import Options, signature_of
from .paintings import StyleSource, read_style
from .progress import Bar
from .result import Result
from .transfer import Transfer, check_method, files_among

__all__ = ["load_refined", "recorded", "refiner", "stylize"]


def stylize(
    content: Source,
    style: StyleSource | Sequence[StyleSource],
    method: str | Method = DEFAULT,
    *,
    on_step: OnStep | None = None,
    progress: bool = False,
    **options: Any,
) -> Result:
    """Render ``content`` in the manner of ``style``.

    Args:
        content: a path, Pillow image, array ``(H, W, 3)`` or tensor ``(3, H, W)``.
        style: the same, a stored style, a name (of :func:`impasto.named_styles`, or of one that the
            method has learnt), or a list of them.
        method: a name (see :func:`impasto.list_methods`) or what :func:`impasto.load` returned.
        on_step: called after every iteration; returning True ends it with the picture so far.
        progress: draw a bar, which notebooks draw too.
        options: controls, see :class:`impasto.controls.Controls`, and options of the method, such
            as ``backbone`` or ``iterations``, and of its refinement; ``refine`` may also be a
            method, see :class:`Transfer`.

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
    refine = options.get("refine")
    finer = options.pop("refine") if isinstance(refine, Gatys) else None
    names = Controls.declared()
    controls = Controls(**{name: value for name, value in options.items() if name in names})
    options = {name: value for name, value in options.items() if name not in names}
    if not isinstance(method, str):
        check_method(method)
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step: a {type(on_step).__name__}: give a function of a Step")
    if isinstance(method, str):
        ready, made = load_refined(method, controls, options)
    elif options:
        raise InputError("options belong to load() when a loaded method is given")
    else:
        ready = method
        made = None if controls.refine is None else refiner(controls.refine, method)
    sources: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
    limits = controls.limits
    label = method if isinstance(method, str) else "stylize"
    with Bar(label, total=1) if progress else nullcontext() as bar:
        transfer = Transfer(
            ready,
            [read_style(source, controls.background, ready, **limits) for source in sources],
            controls,
            refine=finer or made,
            sources=files_among([*sources, *options.values()]),
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


stylize.__signature__ = signature_of(stylize, Controls)  # type: ignore[attr-defined]


# Options of Gatys about its backbone.
OF_BACKBONE = {"backbone", "backbone_weights", "convention"}


def load_refined(
    method: str,
    controls: Controls,
    options: Mapping[str, Any],
    spelled: Callable[[str], str] = repr,
) -> tuple[Method, Gatys | None]:
    """A method by name, and its refinement, if there is to be one.

    What both have an option for goes to both. The backbone is the refinement's alone where the
    method has no option ``backbone``.

    Args:
        method: see :func:`impasto.list_methods`.
        controls: say whether it is refined; their limits are those of a picture to start with too.
        options: of both.
        spelled: how messages write the name of an option.

    Raises:
        InputError: for an option that neither has, or a value out of range.
    """
    record = record_of(method)
    options = _bounded(options, controls)
    if controls.refine is None:
        check_options(f"method {method}", record, options, spelled)
        return load(method, **options), None
    known = set(options_of(method))
    check_options(f"method {method} with a refinement", known | REFINED, options, spelled)
    own = known if "backbone" in known else known - OF_BACKBONE
    ready = load(method, **{name: value for name, value in options.items() if name in own})
    finishing = {name: value for name, value in options.items() if name in REFINED}
    return ready, refiner(controls.refine, ready, **finishing)


def _bounded(options: Mapping[str, Any], controls: Controls) -> dict[str, Any]:
    """Options of a method whose ``start``, where that is a file, was read within the limits."""
    start = options.get("start")
    if not isinstance(start, (str, os.PathLike)) or start in STARTS:
        return dict(options)
    return {**options, "start": read(start, **controls.limits)}


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
    options = {"device": str(method.device), **options}
    return Gatys(sizes=[0], iterations=iterations, **options)


def recorded(picture: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Method and options by which a picture was made, from the record in it.

    ``stylize(photo, style, method, **options)`` makes it again. What is not in the record is where
    it was computed, and folders: of a model or a picture to start with it knows the name alone.

    Args:
        picture: written by impasto.

    Raises:
        InputError: for a picture without such a record, or of a method that there is not.
    """
    settings = read_settings(picture)
    method = record_of(settings.get("method", ""))
    refinement = settings.get("refinement") or {}
    shared = {name: refinement[name] for name in REFINED if name in refinement}
    sets: list[tuple[type[Options], Mapping[str, Any]]] = [
        (METHODS["gatys"].Options, shared),
        (Controls, settings),
        (method.Options, settings),
    ]
    options: dict[str, Any] = {}
    for kinds, values in sets:
        for name, declared in kinds.declared().items():
            if declared.recorded and values.get(name, declared.default) != declared.default:
                options[name] = declared.check(values[name])
    return method.name, options
