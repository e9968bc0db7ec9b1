"""Load a method with its refinement, an optimisation that starts from the method's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .controls import Controls
from .errors import check_whole, spelled
from .images import read
from .methods import Method, check_options, load, options_of, resolved
from .methods.gatys import Gatys
from .methods.records.gatys import OF_BACKBONE, REFINED, STARTS

__all__ = ["load_refined", "refiner"]


def load_refined(
    method: str,
    controls: Controls,
    options: Mapping[str, Any],
) -> tuple[Method, Gatys | None]:
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
    check_whole(spelled("refine"), iterations)
    options = {"device": str(method.device), **options}
    return Gatys(sizes=[0], iterations=iterations, **options)
