"""Scaling of a backbone's channels to mean activation 1 over photographs, and random weights.

The scaling makes loss weights comparable between layers and networks.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..color import recolored
from ..errors import InputError
from ..files import home
from ..images import fit, list_pictures, read, resize
from ..samples import PHOTOGRAPHS
from ..tensors import digest as digest_of
from ..tensors import load_tensors, save_tensors
from .base import Backbone
from .resnet import ResNet

__all__ = ["bring_to_unit_mean", "digest", "photographs", "randomised"]


AnyBackbone = TypeVar("AnyBackbone", bound=Backbone)


@torch.no_grad()
def randomised(net: AnyBackbone, seed: int = 0, photos: Path | None = None) -> AnyBackbone:
    """An untrained copy of ``net``: random weights, and every layer scaled to unit mean.

    He's initialisation, no biases. A layer is scaled as a whole; scaling by channel would amplify
    random channels that are almost never active. A ResNet's normalisations use the statistics of
    photographs. Report 5 reconstructs with such networks.

    Args:
        net: the network to copy.
        seed: seed of the weights.
        photos: see :func:`load_backbone`.
    """
    untrained = copy.deepcopy(net)
    untrained.served = None
    rng = torch.Generator("cpu").manual_seed(seed)
    for module in untrained.modules():
        if isinstance(module, nn.Conv2d):
            gain = (2 / module.weight[0].numel()) ** 0.5
            size = module.weight.shape
            normal = torch.randn(size, generator=rng, dtype=torch.float32, device="cpu")
            module.weight.copy_(normal * gain)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.momentum = None  # the mean of all pictures
    pictures = list(photographs(photos))
    if isinstance(untrained, ResNet):
        untrained.train()
        for picture in pictures:
            for _ in untrained.stages(untrained.normalised(picture)):
                pass
        untrained.eval()
    means = untrained.unit_means(pictures)
    if not isinstance(untrained, ResNet):
        means = {tap: mean.mean().expand_as(mean) for tap, mean in means.items()}
    untrained.scale_(means)
    untrained.served, untrained.name = net.served, f"random:{net.name}"
    untrained.weights = untrained.as_loaded = digest(untrained)
    untrained.scaled_by = ""
    return untrained.eval().requires_grad_(False)


def photographs(folder: Path | None = None, short_side: int = 224) -> Iterable[Tensor]:
    """Photographs to normalise with, ``(1, 3, H, W)``.

    Up to 50 from a folder and its subfolders, spread evenly over the sorted names, or
    scikit-image's samples, each also in four other colours. Otherwise a channel for a colour that
    no sample has would be almost inactive, and be amplified.
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


def bring_to_unit_mean(net: Backbone, photos: Path | None = None) -> None:
    """Scale ``net`` in place by means that are measured once and cached.

    Args:
        net: a network with its :attr:`Backbone.weights` set.
        photos: folder of photographs; None takes scikit-image's samples.
    """
    scaled_by = "colors" if photos is None else _folder_digest(photos)
    net.scale_(_unit_means(net, photos, scaled_by))
    net.scaled_by = scaled_by


def _unit_means(net: Backbone, photos: Path | None, scaled_by: str) -> dict[str, Tensor]:
    """Means from the cache, or measured with max pooling and replicate padding, and cached."""
    path = home() / f"unit-means-{net.name}-{digest(net)}-{scaled_by}.safetensors"
    taps = {tap for tap in net.taps if not tap.startswith("conv") or tap == "conv1"}
    with suppress(InputError):  # measured again if absent or damaged
        means = load_tensors(path)[0]
        if set(means) == taps:
            return means
    means = net.unit_means(photographs(photos))
    with suppress(InputError):  # with a read-only cache they are measured each time
        save_tensors(path, means, {"what": "mean activation of every channel"})
    return means


def digest(net: Backbone) -> str:
    """A few hex digits that identify the weights and the input that they expect."""
    return digest_of(net.state_dict().items(), start=repr(net.convention))


def _folder_digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in list_pictures(folder, recursive=True):
        sha.update(f"{path.name}:{path.stat().st_size};".encode())
    return sha.hexdigest()[:12]
