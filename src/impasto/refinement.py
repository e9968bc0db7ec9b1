"""Load a method with its refinement, an optimisation that starts from the method's result.

What a session is given beside the method's options is checked here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .controls import Controls
from .errors import InputError, check_whole, spelled
from .images import MIN_SIDE, read
from .methods import Method, check_options, load, options_of, resolved
from .methods.gatys import Gatys
from .methods.records.gatys import OF_BACKBONE, REFINED, STARTS
from .styles import LearntStyle, StoredStyle

__all__ = ["check_controls", "check_method", "check_styles", "load_refined", "refiner"]


def load_refined(
    method: str,
    controls: Controls,
    options: Mapping[str, Any],
) -> tuple[Method[object], Gatys | None]:
    """Load a method by name, and its refinement if the controls ask for one.

    An option that both have is passed to both, as are those of a preset. If the method has no
    option ``backbone``, the options of a backbone are passed only to the refinement.

    Args:
        method: see ``impasto.methods()``.
        controls: the controls; their limits also hold for an initial picture (``start``).
        options: options of the method and of the refinement.

    Raises:
        InputError: for an option that neither has, or a value out of range.
    """
    record, chosen = resolved(method)
    options = _bounded(options, controls)
    if controls.refine is None:
        check_options(f"method {method}", record, options)
        return load(method, **options), None
    names = set(options_of(method))
    check_options(
        f"method {method} with a refinement",
        dict.fromkeys([*options_of(method), *REFINED]),
        options,
    )
    if "backbone" not in names:
        names -= OF_BACKBONE
    loaded = load(method, **{name: value for name, value in options.items() if name in names})
    options = {**chosen, **options}
    refining = {name: value for name, value in options.items() if name in REFINED}
    return loaded, refiner(controls.refine, loaded, **refining)


def _bounded(options: Mapping[str, Any], controls: Controls) -> dict[str, Any]:
    """Options with ``start`` read within the limits of the controls, if it is a picture."""
    start = options.get("start")
    if start is None or (isinstance(start, str) and start in STARTS):
        return dict(options)
    return {**options, "start": read(start, **controls.limits)}


def refiner(iterations: int, method: Method[Any], /, **options: Any) -> Gatys:
    """Load Gatys' method as a refinement, which works only at the final size.

    Args:
        iterations: number of iterations, 1 or more.
        method: the method that is refined; the refinement runs on its device.
        options: options of :class:`Gatys`, such as ``backbone`` or ``style_weight``.

    Raises:
        InputError: for less than one iteration, an unknown option, or a value out of range.
    """
    check_options("a refinement", REFINED, options)
    check_whole(spelled("refine"), iterations)
    options = {"device": str(method.device), **options}
    return Gatys(sizes=[0], iterations=iterations, **options)


def check_controls(controls: Controls) -> None:
    """Raise InputError for controls that are invalid for any style."""
    if controls.match_luminance and controls.color != "luminance":
        raise InputError(
            f"{spelled('match_luminance')} goes with {spelled('color', 'luminance')}: add it",
            option="match_luminance",
        )
    size = controls.size
    if size is not None and size < MIN_SIDE:
        raise InputError(
            f"{spelled('size')} is {size}: the short side needs {MIN_SIDE} pixels or more",
            option="size",
        )


def check_method(method: object) -> None:
    """Raise InputError unless ``method`` is a loaded method."""
    if isinstance(method, type) or not (callable(method) and hasattr(method, "prepare")):
        raise InputError(
            f"method: a {type(method).__name__} where a method belongs: give a name, or what "
            "impasto.load() returned",
            option="method",
        )


def check_styles(styles: Sequence[object], controls: Controls, refine: Gatys | None) -> None:
    """Raise InputError for controls and a refinement that a style cannot be used with."""
    color = controls.color
    for style in styles:
        if isinstance(style, StoredStyle) and color in ("match", "luminance"):
            raise InputError(
                f"style {style.name}: a stored style, or one by name, cannot be recoloured for "
                f"color {color}; give the painting, or use color match-style",
                option="color",
            )
        if isinstance(style, LearntStyle) and controls.recolors:
            raise InputError(
                f"style {style.name}: a learnt style cannot be recoloured; use color "
                f"match-style or luminance, without {spelled('match_luminance')}",
                option="color",
            )
        if isinstance(style, LearntStyle) and refine is not None:
            raise InputError(
                f"style {style.name}: a refinement needs the painting, which a network that "
                f"has learnt it has not; leave {spelled('refine')} out, or "
                + ("give the painting" if style.method else "use method ghiasi"),
                option="refine",
            )
