"""The layers of the losses of Gatys' method, with their weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..backbones import Backbone
from ..backbones.records import BUNDLED
from ..errors import InputError, check_finite, spelled

__all__ = ["check_layers", "weighted_layers"]


def weighted_layers(
    net: Backbone,
    layers: str | Sequence[str] | Mapping[str, float] | None,
    default: Mapping[str, float],
    *,
    every: bool,
    absolute: bool,
) -> tuple[dict[str, float], str]:
    """Layers with weights that sum to one, and a note about default layers that ``net`` lacks.

    Args:
        net: the backbone.
        layers: value of the option; None takes those of the default layers that ``net`` has.
        default: default layers with their weights.
        every: use all default layers, for the style; else only the first, for the content.
        absolute: weights are used as they are, but layers that all weigh 1 share it.

    Raises:
        InputError: for layers that ``net`` lacks, and invalid weights.
    """
    note = ""
    layers = [layers] if isinstance(layers, str) else layers
    if not (layers is None or isinstance(layers, Iterable)):
        raise InputError(f"layers are {layers!r}: give a list of names")
    if every and layers is not None and len(layers) == 1:
        layers = net.presets.get(next(iter(layers)), layers)
    if layers is not None:
        weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
        check_layers(net, weights, "style_layers" if every else "content_layers")
        for tap, weight in weights.items():
            check_finite(f"the weight of layer {tap}", weight)
        if not weights or sum(weights.values()) <= 0 or min(weights.values()) < 0:
            raise InputError("layer weights must not be negative and not all zero")
    else:
        available = [tap for tap in default if tap in net.taps]
        chosen = available if every else available[:1]
        if not chosen:
            raise InputError(f"{net.name} has none of the default layers: name layers it has")
        expected = list(default) if every else list(default)[:1]
        if net.name not in BUNDLED and chosen != expected:
            note = (
                f"{net.name}'s weights end at {net.taps[-1]}: "
                f"{'style' if every else 'content'} layers are {', '.join(chosen)}"
            )
        weights = {tap: default[tap] for tap in chosen}
    shared = not absolute or set(weights.values()) == {1.0}
    total = sum(weights.values()) if shared else 1.0
    return {tap: weight / total for tap, weight in weights.items()}, note


def check_layers(net: Backbone, layers: Iterable[str], option: str) -> None:
    """As :meth:`Backbone.check`, with the option by which layers that exist are chosen."""
    layers, existing = list(layers), [*net.convolutions, *net.taps]
    try:
        net.check(layers)
    except InputError as error:
        kinds = {str(tap).rstrip("0123456789_") for tap in layers}
        alike = [tap for tap in existing if tap.rstrip("0123456789_") in kinds]
        example = [tap for tap in layers if tap in existing] or alike[-1:]
        remedy = f": {spelled(option, example)}" if example else ""
        raise InputError(f"{error}{remedy}", option=option) from None
