"""From files to a result: read the pictures, apply the controls, run the method, refine.

:func:`stylize` does all of it. The other functions load a method with its refinement, and read the
settings that impasto has recorded in a picture.
"""

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
    check_options,
    load,
    options_of,
    record_of,
    resolved,
)
from .methods.gatys import Gatys
from .methods.records.gatys import OF_BACKBONE, REFINED, STARTS
from .options import Options, signature_of
from .paintings import StyleSource, read_style
from .progress import drawing
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
        style: a picture like ``content``, a stored style, a name (from
            :func:`impasto.named_styles`, or of a style that the method has learnt), or a list of
            these.
        method: a name (see :func:`impasto.list_methods`) or what :func:`impasto.load` returned.
        on_step: called after every iteration, and after every size, level, shift or strip of one
            pass; if it returns True, the work ends with the picture so far. See
            :data:`impasto.watch.OnStep`.
        progress: draw a bar, also in notebooks.
        options: controls, see :class:`impasto.controls.Controls`, and options of the method and of
            its refinement, such as ``backbone`` or ``iterations``. ``refine`` may also be a method,
            see :class:`Transfer`.

    Returns:
        The picture with its losses and settings, and why it ended early if it did
        (:attr:`Result.stopped`).

    Raises:
        InputError: for wrong input; the message says what is wrong and what to do.

    Example:
        >>> import numpy as np, impasto
        >>> rng = np.random.default_rng(0)
        >>> photo, painting = rng.random((40, 50, 3)), rng.random((48, 64, 3))
        >>> impasto.stylize(photo, painting, device="cpu").picture.rgb.shape
        torch.Size([3, 40, 50])
    """
    refine = options.get("refine")
    refinement = options.pop("refine") if isinstance(refine, Gatys) else None
    names = Controls.declared()
    controls = Controls(**{name: value for name, value in options.items() if name in names})
    options = {name: value for name, value in options.items() if name not in names}
    if not isinstance(method, str):
        check_method(method)
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step: a {type(on_step).__name__}: give a function of a Step")
    if isinstance(method, str):
        loaded, default_refinement = load_refined(method, controls, options)
    elif options:
        raise InputError("options belong to load() when a loaded method is given")
    else:
        loaded, default_refinement = method, None
        if controls.refine is not None:
            default_refinement = refiner(controls.refine, method)
    sources: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
    limits = controls.limits
    label = method if isinstance(method, str) else "stylize"
    with drawing(label, on_step) if progress else nullcontext(on_step) as told:
        transfer = Transfer(
            loaded,
            [read_style(source, controls.background, loaded, **limits) for source in sources],
            controls,
            refine=refinement or default_refinement,
            sources=files_among([*sources, *options.values()]),
        )
        return transfer(content, told)


stylize.__signature__ = signature_of(stylize, Controls, further=True)  # type: ignore[attr-defined]


def load_refined(
    method: str,
    controls: Controls,
    options: Mapping[str, Any],
    spelled: Callable[[str], str] = repr,
) -> tuple[Method, Gatys | None]:
    """Load a method by name, and its refinement if the controls ask for one.

    An option that both have is passed to both, as are those of a preset. If the method has no
    option ``backbone``, the options of a backbone are passed only to the refinement.

    Args:
        method: see :func:`impasto.list_methods`.
        controls: the controls; their limits also hold for an initial picture (``start``).
        options: options of the method and of the refinement.
        spelled: writes the name of an option for messages.

    Raises:
        InputError: for an option that neither has, or a value out of range.
    """
    record, chosen = resolved(method)
    options = _bounded(options, controls)
    if controls.refine is None:
        check_options(f"method {method}", record, options, spelled)
        return load(method, **options), None
    names = set(options_of(method))
    check_options(
        f"method {method} with a refinement",
        dict.fromkeys([*options_of(method), *REFINED]),
        options,
        spelled,
    )
    if "backbone" not in names:
        names -= OF_BACKBONE
    loaded = load(method, **{name: value for name, value in options.items() if name in names})
    options = {**chosen, **options}
    refining = {name: value for name, value in options.items() if name in REFINED}
    return loaded, refiner(controls.refine, loaded, **refining)


def _bounded(options: Mapping[str, Any], controls: Controls) -> dict[str, Any]:
    """Options with ``start`` read within the limits of the controls, if it is a file."""
    start = options.get("start")
    if not isinstance(start, (str, os.PathLike)) or start in STARTS:
        return dict(options)
    return {**options, "start": read(start, **controls.limits)}


def refiner(iterations: int, method: Method, /, **options: Any) -> Gatys:
    """Load Gatys' method as a refinement, which works only at the final size.

    Args:
        iterations: number of iterations, 1 or more.
        method: the method that is refined; the refinement runs on its device.
        options: options of :class:`Gatys`, such as ``backbone`` or ``style_weight``.

    Raises:
        InputError: for less than one iteration, an unknown option, or a value out of range.
    """
    check_options("a refinement", REFINED, options)
    check_whole("refine", iterations)
    options = {"device": str(method.device), **options}
    return Gatys(sizes=[0], iterations=iterations, **options)


def recorded(picture: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Read method and options of a picture from the settings recorded in it.

    ``stylize(photo, style, method, **options)`` makes the picture again. The record does not hold
    the device, nor folders: of a model file or an initial picture it holds only the name.

    Args:
        picture: file written by impasto.

    Raises:
        InputError: for a picture without recorded settings, or with an unknown method.
    """
    settings = read_settings(picture)
    if "preview" in settings:
        raise InputError(
            f"{picture}: a preview, which carries no settings; give a finished picture"
        )
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
