"""Backbones by name, ready to give features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..tensors import load_tensors
from .base import CONVENTIONS, Backbone, Padding, Pooling, Stored, check_options
from .records import BACKBONES, KINDS, WEIGHTS, BackboneRecord, find_record
from .resnet import ResNet, Smooth
from .scaling import bring_to_unit_mean, digest, randomised
from .vgg import VGG
from .weights import fetch, find

__all__ = ["load_backbone", "load_vgg"]


def load_backbone(
    name: str | Backbone = "compact",
    weights: Path | str | None = None,
    *,
    convention: str | None = None,
    padding: Padding = "replicate",
    pooling: Pooling = "max",
    smooth: Smooth | Mapping[str, Smooth] = "none",
    normalise: bool = True,
    photos: Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Backbone:
    """A backbone, ready to give features: frozen, in evaluation mode, float32, on the CPU.

    Args:
        name: one of :data:`impasto.backbones.records.BACKBONES`, or a loaded network, of which a
            copy is returned and to which the options do not apply.
        weights: a file of weights with torchvision's key names (safetensors or pth), or one of
            :data:`impasto.backbones.records.KINDS`: ``imagenet`` and ``robust`` (a ResNet trained
            against perturbations of L2 norm 3) look in the cache, then download what a checksum is
            known of, ``random`` has learnt nothing. None stands for ``imagenet``, or what is
            bundled. A file that ends early serves the taps that it has.
        convention: ``caffe``, ``torchvision`` or ``plain``: what the file's weights expect of their
            input. None reads it from the file's header or knows it from the file's name.
        padding, pooling: see :class:`VGG`.
        smooth: of a ResNet, see :class:`ResNet`.
        normalise: bring every channel (of a ResNet, every layer) to unit mean activation over
            photographs, so that loss weights carry over between layers and networks; measured once
            and kept in the cache.
        photos: folder of photographs to normalise with; None takes scikit-image's samples, see
            :func:`photographs`.
        seed: of random weights.
        progress: show the download.

    Raises:
        InputError: for an unknown name, or weights that cannot be had or do not fit.
    """
    if isinstance(name, Backbone):
        net = copy.deepcopy(name)
        if not net.weights or net.as_loaded not in ("", digest(net)):  # learnt on, or changed
            net.weights, net.scaled_by = digest(net), ""
        return net.eval().requires_grad_(False)
    check_options(padding, pooling)
    record = find_record(name)
    if smooth != "none" and not record.smooths:
        raise InputError(f"--smooth is for resnet50 and resnet18, not for {name}: leave it out")
    if weights is not None and str(weights) in KINDS:
        weights = str(weights)
    if weights == "random" and record.file is None:
        stored = None
    else:
        stored = _stored(record, weights, convention, progress)
    net = _builder(record)(record, stored)
    net.padding, net.pooling = padding, pooling
    if isinstance(net, ResNet):
        net.smooth = net.smoothing(smooth)
    if weights == "random":
        return randomised(net, seed, photos)
    # Of the weights as they are in the file: measured means may differ in the last digit.
    net.weights = digest(net)
    if record.file is None and normalise:
        bring_to_unit_mean(net, photos)
    net.as_loaded = digest(net)
    return net.eval().requires_grad_(False)


def _builder(record: BackboneRecord) -> Callable[[BackboneRecord, Stored | None], Backbone]:
    build: Callable[[BackboneRecord, Stored | None], Backbone]
    build = import_module(f"{__package__}.{record.builder}").build
    return build


def _stored(
    record: BackboneRecord, weights: Path | str | None, convention: str | None, progress: bool
) -> Stored:
    """What a file, the bundled one, the cache or the network has for ``record``."""
    if convention not in (None, *CONVENTIONS):
        raise InputError(f"convention {convention!r} is unknown: use caffe or torchvision")
    known = [
        weight
        for weight in map(WEIGHTS.__getitem__, record.weights)
        if convention in (None, weight.convention)
    ]
    if record.file is not None and weights in (None, "random"):
        path = record.file
    elif weights in (None, *KINDS):
        kind = weights or "imagenet"
        if record.file is not None:
            raise InputError(
                f"there are no {kind} weights of {record.name}: it is bundled, or random"
            )
        known = [weight for weight in known if weight.kind == kind]
        if not known:
            raise InputError(
                f"there are no {kind} weights of {record.name}: see `impasto backbones`"
            )
        cached = [weight for weight in known if find(weight)]
        chosen = (cached or [weight for weight in known if weight.pinned] or known)[0]
        path = fetch(chosen, progress=progress)
        convention = chosen.convention
    else:
        path = Path(weights or "")
    tensors, header = load_tensors(path)
    if convention is None:
        by_name = {weight.filename: weight.convention for weight in known}
        convention = header.get("convention") or by_name.get(path.name)
    if convention not in CONVENTIONS:
        convention = record.convention
    if convention is None:
        raise InputError(
            f"{path}: say what input these weights expect: convention caffe (Oxford's own) "
            "or torchvision"
        )
    return Stored(tensors, header, CONVENTIONS[convention], str(path))


def load_vgg(name: str | Backbone = "slim", weights: Path | None = None, **options: Any) -> VGG:
    """As :func:`load_backbone`, for what goes by VGG's layers.

    Raises:
        InputError: also for a backbone of another shape.
    """
    other = isinstance(name, str) and name in BACKBONES and not BACKBONES[name].mirrored
    net = None if other else load_backbone(name, weights, **options)
    if not isinstance(net, VGG):
        label = name.name if isinstance(name, Backbone) else name
        raise InputError(f"{label} has other layers than wanted: use slim, vgg19 or vgg16")
    return net
