"""Scale a backbone so that its channels have mean activation 1 over photographs.

Then loss weights can be compared between layers and networks. Also here: random weights.
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
    if not isinstance(other, ResNet):
        means = {tap: mean.mean().expand_as(mean) for tap, mean in means.items()}
    other.scale_(means)
    other.served, other.name = net.served, f"random:{net.name}"
    other.weights = other.as_loaded = digest(other)
    other.scaled_by = ""
    return other.eval().requires_grad_(False)


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


def bring_to_unit_mean(net: Backbone, photos: Path | None = None) -> None:
    """Scale ``net`` in place, by means that are measured once and kept in the cache.

    Args:
        net: has its :attr:`Backbone.weights`.
        photos: folder of photographs; None takes scikit-image's samples.
    """
    scaled_by = "colors" if photos is None else _folder_digest(photos)
    net.scale_(_unit_means(net, photos, scaled_by))
    net.scaled_by = scaled_by


def _unit_means(net: Backbone, photos: Path | None, scaled_by: str) -> dict[str, Tensor]:
    """Means from the cache, else measured with max pooling and replicate padding, and cached."""
    path = home() / f"unit-means-{net.name}-{digest(net)}-{scaled_by}.safetensors"
    taps = {tap for tap in net.taps if not tap.startswith("conv") or tap == "conv1"}
    with suppress(InputError):  # absent or damaged: measured anew
        means = load_tensors(path)[0]
        if set(means) == taps:
            return means
    means = net.unit_means(photographs(photos))
    with suppress(InputError):  # a read-only cache costs a few seconds next time, nothing else
        save_tensors(path, means, {"what": "mean activation of every channel"})
    return means


def digest(net: Backbone) -> str:
    """A few hex digits that stand for the weights and what they expect of their input."""
    return digest_of(net.state_dict().items(), start=repr(net.convention))


def _folder_digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in list_pictures(folder, recursive=True):
        sha.update(f"{path.name}:{path.stat().st_size};".encode())
    return sha.hexdigest()[:12]
