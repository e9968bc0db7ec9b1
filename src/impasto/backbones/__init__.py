"""Pretrained perceptual networks, by name.

``compact`` is bundled. ``vgg19`` and ``vgg16`` are read from a file, found in the cache, or
downloaded; see :mod:`impasto.backbones.weights`.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..images import fit, list_pictures, read, resize
from ..samples import PHOTOGRAPHS
from .compact import load_compact
from .vgg import (
    CAFFE,
    TORCHVISION,
    VGG,
    VGG16,
    VGG19,
    InputConvention,
    Padding,
    Pooling,
    check_options,
)
from .weights import RECORDS, fetch, find, home, load_tensors, save_tensors

__all__ = ["NAMES", "VGG", "build_vgg", "digest", "load_backbone", "photographs", "randomised"]

NAMES = ("compact", "vgg19", "vgg16")
_WIDTHS = {"vgg19": VGG19, "vgg16": VGG16}
_CONVENTIONS = {"caffe": CAFFE, "torchvision": TORCHVISION}


def load_backbone(
    name: str | VGG = "compact",
    weights: Path | None = None,
    *,
    convention: str | None = None,
    padding: Padding = "replicate",
    pooling: Pooling = "max",
    normalise: bool = True,
    photos: Path | None = None,
    progress: bool = True,
) -> VGG:
    """A backbone, ready to give features: frozen, in evaluation mode, float32, on the CPU.

    Args:
        name: ``compact``, ``vgg19`` or ``vgg16``, or a loaded network, of which a copy is returned
            and to which the options do not apply.
        weights: a file of weights with torchvision's key names (safetensors or pth); None looks
            in the cache, then downloads. A file that ends early serves the taps that it has.
        convention: ``caffe`` or ``torchvision``: what the file's weights expect of their input.
            None reads it from the file's header or knows it from the file's name.
        padding, pooling: see :class:`VGG`.
        normalise: bring every channel to unit mean activation over photographs, so that loss
            weights carry over between layers and networks; measured once and kept in the cache.
        photos: folder of photographs to normalise with; None takes scikit-image's samples.
        progress: show the download.

    Raises:
        InputError: for an unknown name, or weights that cannot be had or do not fit.
    """
    if isinstance(name, VGG):
        net = copy.deepcopy(name)
        net.fingerprint = net.fingerprint or f"{net.name}:{digest(net)}"
        return net.eval().requires_grad_(False)
    check_options(padding, pooling)
    if name not in NAMES:
        raise InputError(f"backbone {name!r} is unknown: use one of {', '.join(NAMES)}")
    if name == "compact":
        net = load_compact() if weights is None else load_compact(weights)
    else:
        net = _load_vgg(name, weights, convention, progress)
    # Of the weights as they are in the file: measured means may differ in the last digit.
    net.fingerprint = f"{name}:{padding}:{pooling}:{digest(net)}"
    if name != "compact" and normalise:
        scaled_by = "samples" if photos is None else _folder_digest(photos)
        net.scale_(_unit_means(net, photos, scaled_by))
        net.fingerprint += f":{scaled_by}"
    net.padding, net.pooling = padding, pooling
    return net.eval().requires_grad_(False)


def _load_vgg(
    name: str,
    weights: Path | None,
    convention: str | None,
    progress: bool,
) -> VGG:
    if convention not in (None, *_CONVENTIONS):
        raise InputError(f"convention {convention!r} is unknown: use caffe or torchvision")
    records = [
        record
        for record in RECORDS.values()
        if record.backbone == name and convention in (None, record.convention)
    ]
    if weights is None:
        record = next((record for record in records if find(record)), records[0])
        path = fetch(record, progress=progress)
        convention = record.convention
    else:
        path = Path(weights)
    tensors, metadata = load_tensors(path)
    if convention is None:
        known = {record.filename: record.convention for record in records}
        convention = metadata.get("convention") or known.get(path.name)
    if convention not in _CONVENTIONS:
        raise InputError(
            f"{path}: say what input these weights expect: convention caffe (Oxford's own) "
            "or torchvision"
        )
    return build_vgg(name, tensors, _CONVENTIONS[convention], source=str(path))


def randomised(net: VGG, seed: int = 0, photos: Path | None = None) -> VGG:
    """A copy of ``net`` that has learnt nothing: random weights, every layer brought to unit mean.

    He's initialisation, no biases. A layer is scaled as a whole: random channels that hardly ever
    fire would drown the others. Paper 5 reconstructs with such networks.

    Args:
        net: gives the layers.
        seed: of the weights.
        photos: see :func:`load_backbone`.
    """
    other = copy.deepcopy(net)
    other.served = None
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for conv in other.convs.values():
            assert isinstance(conv, torch.nn.Conv2d) and conv.bias is not None
            fan = conv.in_channels * 9
            weight = torch.randn(conv.weight.shape, generator=rng) * (2 / fan) ** 0.5
            conv.weight.copy_(weight)
            conv.bias.zero_()
    means = other.unit_means(photographs(photos))
    other.scale_({tap: mean.mean().expand_as(mean) for tap, mean in means.items()})
    other.served, other.name = net.served, "random"
    other.fingerprint = f"random:{net.name}:{digest(other)}"
    return other.eval().requires_grad_(False)


def build_vgg(
    name: str,
    tensors: dict[str, Tensor],
    convention: InputConvention,
    padding: Padding = "replicate",
    pooling: Pooling = "max",
    source: str = "weights",
) -> VGG:
    """A VGG from tensors with torchvision's names, ``features.N.weight``, as deep as they go.

    Raises:
        InputError: if the first layer is missing or a shape is not the network's.
    """
    prefix = "" if "0.weight" in tensors else "features."
    found: dict[str, int] = {}
    index = 0
    for block, block_widths in enumerate(_WIDTHS[name], 1):
        for position in range(1, len(block_widths) + 1):
            found[f"conv{block}_{position}"] = index
            index += 2  # convolution, ReLU
        index += 1  # pooling
    there = itertools.takewhile(lambda conv: f"{prefix}{found[conv]}.weight" in tensors, found)
    found = {conv: found[conv] for conv in there}
    depths = Counter(int(conv[4]) for conv in found)
    widths = [_WIDTHS[name][block - 1][:depth] for block, depth in depths.items()]
    if not found:
        raise InputError(
            f"{source}: not {name} weights (no {prefix}0.weight); see `impasto backbones`"
        )
    net = VGG(tuple(widths), convention, padding, pooling, name)
    state = {}
    for conv, number in found.items():
        for part in ("weight", "bias"):
            key = f"{prefix}{number}.{part}"
            expected = getattr(net.convs[conv], part).shape
            if key not in tensors or tensors[key].shape != expected:
                raise InputError(f"{source}: {key} does not fit {name}'s {conv}; use other weights")
            state[f"convs.{conv}.{part}"] = tensors[key].float()
    net.load_state_dict(state)
    return net.requires_grad_(False)


def photographs(folder: Path | None = None, short_side: int = 224) -> Iterable[Tensor]:
    """Photographs to normalise with, ``(1, 3, H, W)``.

    Up to 50 of a folder, spread evenly over the sorted names, or scikit-image's samples.
    """
    if folder is not None:
        paths = list_pictures(folder)
        count = min(50, len(paths))
        for path in (paths[i * len(paths) // count] for i in range(count)):
            rgb = read(path).rgb
            yield resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))[None]
        return
    try:
        from skimage import data
    except ImportError:
        raise InputError(
            "normalising this backbone needs photographs: pip install scikit-image, "
            "or name a folder of photographs"
        ) from None
    for name in PHOTOGRAPHS:
        rgb = read(getattr(data, name)()).rgb
        yield resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))[None]


def _unit_means(net: VGG, photos: Path | None, scaled_by: str) -> dict[str, Tensor]:
    """Measured with max pooling and replicated edges, whatever is used afterwards; kept."""
    path = home() / f"unit-means-{net.name}-{digest(net)}-{scaled_by}.safetensors"
    wanted = {tap for tap in net.taps if tap.startswith("relu")}
    with suppress(InputError):  # absent or damaged: measured anew
        means = load_tensors(path)[0]
        if set(means) == wanted:
            return means
    means = net.unit_means(photographs(photos))
    with suppress(InputError):  # a read-only cache costs a few seconds next time, nothing else
        save_tensors(path, means, {"what": "mean activation of every channel"})
    return means


def digest(net: VGG) -> str:
    """A few hex digits that stand for the weights and what they expect of their input."""
    sha = hashlib.sha256(repr(net.convention).encode())
    for name, parameter in net.named_parameters():
        sha.update(name.encode())
        sha.update(parameter.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return sha.hexdigest()[:12]


def _folder_digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in list_pictures(folder):
        sha.update(f"{path.name}:{path.stat().st_size};".encode())
    return sha.hexdigest()[:12]
