"""Pretrained perceptual networks, by name.

``compact`` and ``slim`` are bundled. ``vgg19``, ``vgg16``, ``resnet50`` and ``resnet18`` are read
from a file, found in the cache, or downloaded, see :mod:`impasto.backbones.weights`; or they are
random. :mod:`impasto.backbones.records` describes them without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Backbone, Field
    from .compact import Compact
    from .loading import load_backbone, load_vgg, outline
    from .resnet import ResNet, build_resnet
    from .scaling import digest, photographs, randomised
    from .vgg import VGG, build_vgg

__all__ = [
    "VGG",
    "Backbone",
    "Compact",
    "Field",
    "ResNet",
    "build_resnet",
    "build_vgg",
    "digest",
    "load_backbone",
    "load_vgg",
    "outline",
    "photographs",
    "randomised",
]
_MODULES = {
    "base": ("Backbone", "Field"),
    "compact": ("Compact",),
    "loading": ("load_backbone", "load_vgg", "outline"),
    "resnet": ("ResNet", "build_resnet"),
    "scaling": ("digest", "photographs", "randomised"),
    "vgg": ("VGG", "build_vgg"),
}


def __dir__() -> list[str]:
    return __all__


def _loaded(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            found: object = getattr(import_module(f".{module}", __name__), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if not TYPE_CHECKING:  # to type checkers every name would be there
    __getattr__ = _loaded
