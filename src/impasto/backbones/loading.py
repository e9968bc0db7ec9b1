"""Loading of backbones by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError, spelled
from ..tensors import load_tensors
from .base import CONVENTIONS, Backbone, Padding, Pooling, Stored, check_options
from .records import BACKBONES, KINDS, WEIGHTS, BackboneRecord, find_record
from .resnet import ResNet, Smooth
from .scaling import bring_to_unit_mean, digest, randomised
from .vgg import VGG
from .weights import fetch, find

__all__ = ["load_backbone", "load_vgg", "outline"]


def load_backbone(
    name: str | Backbone = "compact",
    weights: Path | str | None = None,
    *,
    convention: Literal["caffe", "torchvision", "plain"] | None = None,
    padding: Padding = "replicate",
    pooling: Pooling = "max",
    smooth: Smooth | Mapping[str, Smooth] = "none",
    normalise: bool = True,
    photos: Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Backbone:
    """A backbone for inference: frozen, in evaluation mode, float32, on the CPU.

    Args:
        name: one of :data:`impasto.backbones.records.BACKBONES`, or a loaded network, which is
            copied and which the options do not apply to.
        weights: a file of weights with torchvision's key names (safetensors or pth), or one of
            :data:`impasto.backbones.records.KINDS`: ``imagenet`` and ``robust`` (a ResNet trained
            against perturbations of L2 norm 3) are taken from the cache, or downloaded if their
            checksum is known; ``random`` weights are not trained. None means the bundled weights,
            or ``imagenet``. A file with fewer layers serves only the taps that it has.
        convention: ``caffe``, ``torchvision`` or ``plain``: the input that the file's weights
            expect. None determines it from the file's header or name.
        padding, pooling: see :class:`VGG`.
        smooth: for a ResNet, see :class:`ResNet`.
        normalise: scale every channel (in a ResNet, every layer) to unit mean activation over
            photographs, so that loss weights are comparable between layers and networks. The means
            are measured once and cached.
        photos: folder of photographs to normalise with; None takes scikit-image's samples, see
            :func:`photographs`.
        seed: seed of random weights.
        progress: show the progress of a download.

    Raises:
        InputError: for an unknown name, or weights that are not available or do not fit.
        DownloadError: for weights that cannot be downloaded.
        DiskError: for a cache that cannot be written.
    """
    if isinstance(name, Backbone):
        net = copy.deepcopy(name)
        if not net.weights or net.as_loaded not in ("", digest(net)):  # trained or changed since
            net.weights, net.scaled_by = digest(net), ""
        return net.eval().requires_grad_(False)
    check_options(padding, pooling)
    record = find_record(name)
    if smooth != "none" and not record.smooths:
        raise InputError(
            f"{spelled('smooth')} is for resnet50 and resnet18, not for {name}: leave it out",
            option="smooth",
        )
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
    # The digest of the weights in the file, because measured means may differ in the last digit.
    net.weights = digest(net)
    if record.file is None and normalise:
        bring_to_unit_mean(net, photos)
    net.as_loaded = digest(net)
    return net.eval().requires_grad_(False)


def outline(name: str, pooling: Pooling | None = None) -> Backbone:
    """A backbone without its weights, which need not be there, to ask for its layers.

    Args:
        name: one of :data:`impasto.backbones.records.BACKBONES`.
        pooling: see :class:`VGG`; None takes the default of optimisation.

    Raises:
        InputError: for an unknown name or pooling.

    Example:
        >>> outline("vgg19").field("relu4_1")
        Field(size=68, stride=8, offset=-30)
    """
    record = find_record(name)
    pooling = record.pooling if pooling is None else pooling
    check_options("replicate", pooling)
    stored = None if record.file is None else _stored(record, None, None, False)
    net = _builder(record)(record, stored)
    net.pooling = pooling
    return net


def _builder(record: BackboneRecord) -> Callable[[BackboneRecord, Stored | None], Backbone]:
    build: Callable[[BackboneRecord, Stored | None], Backbone]
    build = import_module(f"{__package__}.{record.builder}").build
    return build


def _stored(
    record: BackboneRecord, weights: Path | str | None, convention: str | None, progress: bool
) -> Stored:
    """The weights of ``record``: from a file, bundled, cached or downloaded."""
    if convention not in (None, *CONVENTIONS):
        raise InputError(
            f"convention {convention!r} is unknown: use caffe or torchvision", option="convention"
        )
    candidates = [
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
        candidates = [weight for weight in candidates if weight.kind == kind]
        if not candidates:
            raise InputError(
                f"there are no {kind} weights of {record.name}: see `impasto backbones`"
            )
        cached = [weight for weight in candidates if find(weight)]
        pinned = [weight for weight in candidates if weight.pinned]
        chosen = (cached or pinned or candidates)[0]
        path = fetch(chosen, progress=progress)
        convention = chosen.convention
    else:
        path = Path(weights or "")
    tensors, header = load_tensors(path)
    if convention is None:
        by_name = {weight.filename: weight.convention for weight in candidates}
        convention = header.get("convention") or by_name.get(path.name)
    if convention not in CONVENTIONS:
        convention = record.convention
    if convention is None:
        raise InputError(
            f"{path}: say which input these weights expect: convention caffe (Oxford's original) "
            "or torchvision"
        )
    return Stored(tensors, header, CONVENTIONS[convention], str(path))


def load_vgg(name: str | Backbone = "slim", weights: Path | None = None, **options: Any) -> VGG:
    """As :func:`load_backbone`, for methods that need the layers of a VGG.

    Raises:
        InputError: also for a backbone that is no VGG.
    """
    no_vgg = isinstance(name, str) and name in BACKBONES and not BACKBONES[name].mirrored
    net = None if no_vgg else load_backbone(name, weights, **options)
    if not isinstance(net, VGG):
        label = name.name if isinstance(name, Backbone) else name
        raise InputError(f"{label} lacks the layers of a VGG: use slim, vgg19 or vgg16")
    return net
