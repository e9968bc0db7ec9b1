"""Pretrained perceptual networks, by name.

``compact`` and ``slim`` are bundled. ``vgg19``, ``vgg16``, ``resnet50`` and ``resnet18`` are read
from a file, found in the cache, or downloaded, see :mod:`impasto.backbones.weights`; or they are
random.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..color import recolored
from ..device import blank
from ..errors import InputError
from ..files import home
from ..images import fit, list_pictures, read, resize
from ..samples import PHOTOGRAPHS
from ..tensors import digest as tensors_digest
from ..tensors import load_tensors, save_tensors
from .base import (
    CAFFE,
    PLAIN,
    TORCHVISION,
    Backbone,
    InputConvention,
    Padding,
    Pooling,
    check_options,
)
from .compact import BUNDLED, Compact, load_encoder
from .resnet import RESNETS, ResNet, Smooth
from .vgg import VGG, VGG16, VGG19
from .weights import RECORDS, fetch, find

__all__ = [
    "KINDS",
    "NAMES",
    "VGG",
    "Backbone",
    "Compact",
    "ResNet",
    "build_resnet",
    "build_vgg",
    "digest",
    "load_backbone",
    "load_vgg",
    "photographs",
    "randomised",
]

_WIDTHS = {"vgg19": VGG19, "vgg16": VGG16}
NAMES = (*BUNDLED, *_WIDTHS, *RESNETS)
KINDS = ("imagenet", "robust", "random")  # of weights, besides files
_CONVENTIONS = {"caffe": CAFFE, "torchvision": TORCHVISION, "plain": PLAIN}


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
        name: one of :data:`NAMES`, or a loaded network, of which a copy is returned and to which
            the options do not apply.
        weights: a file of weights with torchvision's key names (safetensors or pth), or one of
            :data:`KINDS`: ``imagenet`` and ``robust`` (a ResNet trained against perturbations of
            L2 norm 3) look in the cache, then download what a checksum is known of, ``random`` has
            learnt nothing. None stands for ``imagenet``. A file that ends early serves the taps
            that it has.
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
    if name not in NAMES:
        raise InputError(f"backbone {name!r} is unknown: use one of {', '.join(NAMES)}")
    if name not in RESNETS and smooth != "none":
        raise InputError(f"--smooth is for resnet50 and resnet18, not for {name}: leave it out")
    if weights is not None and str(weights) in KINDS:
        weights = str(weights)
    if name in BUNDLED and weights in ("imagenet", "robust"):
        raise InputError(f"there are no {weights} weights of {name}: it is bundled, or random")
    if name in BUNDLED:
        net = load_encoder(name, None if weights in (None, "random") else Path(weights))
    elif weights == "random":
        net = _untrained(name)
    else:
        net = _load(name, weights, convention, progress)
    net.padding, net.pooling = padding, pooling
    if isinstance(net, ResNet):
        net.smooth = net.smoothing(smooth)
    if weights == "random":
        return randomised(net, seed, photos)
    # Of the weights as they are in the file: measured means may differ in the last digit.
    net.weights = digest(net)
    if name not in BUNDLED and normalise:
        scaled_by = "colors" if photos is None else _folder_digest(photos)
        net.scale_(_unit_means(net, photos, scaled_by))
        net.scaled_by = scaled_by
    net.as_loaded = digest(net)
    return net.eval().requires_grad_(False)


def load_vgg(name: str | Backbone = "slim", weights: Path | None = None, **options: Any) -> VGG:
    """As :func:`load_backbone`, for what goes by VGG's layers.

    Raises:
        InputError: also for a backbone of another shape.
    """
    other = name == "compact" or name in RESNETS
    net = None if other else load_backbone(name, weights, **options)
    if not isinstance(net, VGG):
        label = name.name if isinstance(name, Backbone) else name
        raise InputError(f"{label} has other layers than wanted: use slim, vgg19 or vgg16")
    return net


def _untrained(name: str) -> Backbone:
    """With weights that are still to be drawn."""
    if name in RESNETS:
        return blank(lambda: ResNet(*RESNETS[name], name=name))
    return blank(lambda: VGG(_WIDTHS[name], TORCHVISION, name=name))


def _load(
    name: str, weights: Path | str | None, convention: str | None, progress: bool
) -> Backbone:
    """From a file, the cache or the network."""
    if convention not in (None, *_CONVENTIONS):
        raise InputError(f"convention {convention!r} is unknown: use caffe or torchvision")
    records = [
        record
        for record in RECORDS.values()
        if record.backbone == name and convention in (None, record.convention)
    ]
    if weights in (None, *KINDS):
        kind = weights or "imagenet"
        records = [record for record in records if record.kind == kind]
        if not records:
            raise InputError(f"there are no {kind} weights of {name}: see `impasto backbones`")
        here = [record for record in records if find(record)]
        record = (here or [record for record in records if record.pinned] or records)[0]
        path = fetch(record, progress=progress)
        convention = record.convention
    else:
        path = Path(weights or "")
    tensors, metadata = load_tensors(path)
    if convention is None:
        known = {record.filename: record.convention for record in records}
        convention = metadata.get("convention") or known.get(path.name)
    if convention not in _CONVENTIONS and name in RESNETS:
        convention = "torchvision"  # all that are about
    if convention not in _CONVENTIONS:
        raise InputError(
            f"{path}: say what input these weights expect: convention caffe (Oxford's own) "
            "or torchvision"
        )
    if name in RESNETS:
        return build_resnet(name, tensors, _CONVENTIONS[convention], str(path))
    return build_vgg(name, tensors, _CONVENTIONS[convention], source=str(path))


AnyBackbone = TypeVar("AnyBackbone", bound=Backbone)


@torch.no_grad()
def randomised(net: AnyBackbone, seed: int = 0, photos: Path | None = None) -> AnyBackbone:
    """A copy of ``net`` that has learnt nothing: random weights, every layer brought to unit mean.

    He's initialisation, no biases. A layer is scaled as a whole: random channels that hardly ever
    fire would drown the others. A ResNet's normalisations take the statistics of photographs. Paper
    5 reconstructs with such networks.

    Args:
        net: gives the layers.
        seed: of the weights.
        photos: see :func:`load_backbone`.
    """
    other = copy.deepcopy(net)
    other.served = None
    rng = torch.Generator("cpu").manual_seed(seed)
    for module in other.modules():
        if isinstance(module, nn.Conv2d):
            gain = (2 / module.weight[0].numel()) ** 0.5
            size = module.weight.shape
            drawn = torch.randn(size, generator=rng, dtype=torch.float32, device="cpu")
            module.weight.copy_(drawn * gain)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.momentum = None  # the mean of all pictures
    pictures = list(photographs(photos))
    if isinstance(other, ResNet):
        other.train()
        for picture in pictures:
            for _ in other.stages(other.normalised(picture)):
                pass
        other.eval()
    means = other.unit_means(pictures)
    if isinstance(other, VGG | Compact):
        means = {tap: mean.mean().expand_as(mean) for tap, mean in means.items()}
    other.scale_(means)
    other.served, other.name = net.served, f"random:{net.name}"
    other.weights = other.as_loaded = digest(other)
    other.scaled_by = ""
    return other.eval().requires_grad_(False)


def build_resnet(
    name: str,
    tensors: Mapping[str, Tensor],
    convention: InputConvention = TORCHVISION,
    source: str = "weights",
) -> ResNet:
    """A ResNet from tensors with torchvision's names, as many stages as there are.

    Names may begin with ``module.`` or ``module.model.``, as those of networks trained on several
    GPUs and of the robust ones do.

    Raises:
        InputError: if the first layer is missing or a shape is not the network's.
    """
    stem = next((key for key in tensors if key in _stems("conv1.weight")), None)
    if stem is None:
        raise InputError(f"{source}: not {name} weights (no conv1.weight); see `impasto backbones`")
    prefix = stem.removesuffix("conv1.weight")
    found = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    net = blank(lambda: ResNet(*RESNETS[name], convention, name=name))
    state = net.state_dict()
    taps = ["conv1"]
    for tap in net.every_tap[1:]:
        own = [key for key in state if key.startswith(f"layer{tap[2:]}.")]
        if not all(key in found or key.endswith("num_batches_tracked") for key in own):
            break
        taps.append(tap)
    for key, wanted in state.items():
        served = not key.startswith("layer") or f"rb{key[5]}" in taps
        if not served or key.endswith("num_batches_tracked"):
            continue
        if key not in found or found[key].shape != wanted.shape:
            raise InputError(f"{source}: {key} does not fit {name}; use other weights")
        state[key] = found[key].float()
    net.load_state_dict(state)
    net.served = None if len(taps) == len(net.every_tap) else tuple(taps)
    return net.eval().requires_grad_(False)


def _stems(key: str) -> list[str]:
    return [prefix + key for prefix in ("", "module.", "model.", "module.model.")]


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
    net = blank(lambda: VGG(tuple(widths), convention, padding, pooling, name))
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

    Up to 50 of a folder and all below it, spread evenly over the sorted names, or scikit-image's
    samples, each in four other colours too: as they are, a channel that looks for a colour that
    none of them has would hardly fire, and be blown up.
    """
    if folder is not None:
        paths = list_pictures(folder, recursive=True)
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
        picture = resize(rgb, fit(rgb.shape[-2], rgb.shape[-1], short_side))[None]
        yield picture
        rng = torch.Generator("cpu").manual_seed(0)
        yield from recolored(picture.expand(4, -1, -1, -1), 1.0, rng)[:, None]


def _unit_means(net: Backbone, photos: Path | None, scaled_by: str) -> dict[str, Tensor]:
    """Measured with max pooling and replicated edges, whatever is used afterwards; kept."""
    path = home() / f"unit-means-{net.name}-{digest(net)}-{scaled_by}.safetensors"
    wanted = {tap for tap in net.taps if not tap.startswith("conv") or tap == "conv1"}
    with suppress(InputError):  # absent or damaged: measured anew
        means = load_tensors(path)[0]
        if set(means) == wanted:
            return means
    means = net.unit_means(photographs(photos))
    with suppress(InputError):  # a read-only cache costs a few seconds next time, nothing else
        save_tensors(path, means, {"what": "mean activation of every channel"})
    return means


def digest(net: Backbone) -> str:
    """A few hex digits that stand for the weights and what they expect of their input."""
    return tensors_digest(net.state_dict().items(), start=repr(net.convention))


def _folder_digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in list_pictures(folder, recursive=True):
        sha.update(f"{path.name}:{path.stat().st_size};".encode())
    return sha.hexdigest()[:12]
