"""Records of all backbones and weights, which need no torch.

To add a backbone, add a record here, and a module with the ``build`` function that it names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError

__all__ = [
    "BACKBONES",
    "BUNDLED",
    "KINDS",
    "WEIGHTS",
    "BackboneRecord",
    "WeightRecord",
    "find_record",
]

KINDS = ("imagenet", "robust", "random")  # kinds of weights besides files


@dataclass(frozen=True)
class WeightRecord:
    """A file of weights, which is downloaded if it is :attr:`pinned`.

    Attributes:
        name: its name, such as ``vgg19-caffe``.
        backbone: ``vgg19``, ``vgg16``, ``resnet50`` or ``resnet18``.
        filename: its name in the cache folder.
        address: its URL.
        size: bytes, if known.
        sha256: the digest, or only its first hex digits for a file that is not downloaded, or None.
        convention: the input that the weights expect, ``caffe`` or ``torchvision``.
        licence: licence of the weights.
        kind: ``imagenet``, or ``robust`` if trained against adversarial perturbations.
    """

    name: str
    backbone: str
    filename: str
    address: str
    size: int | None
    sha256: str | None
    convention: str
    licence: str
    kind: str = "imagenet"

    @property
    def pinned(self) -> bool:
        """Whether the complete checksum of the file is known."""
        return bool(re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256 or ""))


@dataclass(frozen=True)
class BackboneRecord:
    """A backbone by name.

    Attributes:
        name: its name.
        builder: module of this package whose ``build(record, stored)`` makes the network.
        taps: where features can be read, the shallowest first.
        style_layers, content_layers: taps that optimisation uses by default; of the content layers,
            it uses the first that the weights include.
        pooling: default pooling of optimisation, ``max`` (as trained) or ``average``.
        shape: arguments for ``build``, unless the header of the file gives the shape.
        convention: the input that weights expect if neither their file nor its name tells; None if
            the user must say it.
        weights: names in :data:`WEIGHTS`.
        file: path of the bundled weights.
        mirrored: whether it is a plain VGG, whose layers a decoder can mirror.
        smooths: whether its features can be smoothed, see :class:`impasto.backbones.ResNet`.
    """

    name: str
    builder: str
    taps: tuple[str, ...]
    style_layers: tuple[str, ...]
    content_layers: tuple[str, ...]
    pooling: Literal["max", "average"] = "max"
    shape: tuple[Any, ...] = ()
    convention: str | None = None
    weights: tuple[str, ...] = ()
    file: Path | None = None
    mirrored: bool = False
    smooths: bool = False


def find_record(name: str) -> BackboneRecord:
    """The record of a backbone. Raises InputError for an unknown name."""
    if name not in BACKBONES:
        raise InputError(
            f"backbone {name!r} is unknown: use one of {', '.join(BACKBONES)}", option="backbone"
        )
    return BACKBONES[name]


# Weights ---------------------------------------------------------------------------------------


def _robust(backbone: str) -> WeightRecord:
    # L2 perturbations up to 3 (Salman et al., "Do Adversarially Robust ImageNet Models Transfer
    # Better?", NeurIPS 2020); report 5 used Engstrom's similar weights. No checksum is known.
    filename = f"{backbone}_l2_eps3.ckpt"
    address = "https://huggingface.co/madrylab/robust-imagenet-models/resolve/main/" + filename
    licence = "MIT (Salman et al.), trained on ImageNet"
    name = f"{backbone}-robust"
    return WeightRecord(
        name, backbone, filename, address, None, None, "torchvision", licence, "robust"
    )


def _torchvision(backbone: str, size: int, sha256: str) -> WeightRecord:
    filename = f"{backbone}-{sha256[:8]}.pth"
    address = "https://download.pytorch.org/models/" + filename
    licence = "BSD-3-Clause (torchvision), trained on ImageNet"
    name = f"{backbone}-torchvision"
    return WeightRecord(name, backbone, filename, address, size, sha256, "torchvision", licence)


def _caffe(backbone: str, sha256: str) -> WeightRecord:
    # Input convention and addresses: github.com/jcjohnson/pytorch-vgg. Only the first digits of the
    # digest are known, from the file names.
    filename = f"{backbone}-{sha256}.pth"
    address = "https://web.eecs.umich.edu/~justincj/models/" + filename
    licence = "CC BY 4.0 (Simonyan & Zisserman, Oxford), converted by Justin Johnson"
    return WeightRecord(
        f"{backbone}-caffe", backbone, filename, address, None, sha256, "caffe", licence
    )


WEIGHTS: dict[str, WeightRecord] = {
    record.name: record
    for record in (
        _caffe("vgg19", "d01eb7cb"),
        _caffe("vgg16", "00b39a1b"),
        _torchvision(
            "vgg19", 574673361, "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44"
        ),
        _torchvision(
            "vgg16", 553433881, "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
        ),
        _torchvision(
            "resnet50",
            102530333,
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        ),
        _torchvision(
            "resnet18", 46830571, "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
        ),
        _robust("resnet50"),
        _robust("resnet18"),
    )
}


# Backbones -------------------------------------------------------------------------------------

Widths = tuple[tuple[int, ...], ...]
VGG19: Widths = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
VGG16: Widths = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
VGG_STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
VGG_CONTENT = ("relu4_2", "relu4_1", "relu3_1")
RESNET_TAPS = ("conv1", "rb1", "rb2", "rb3", "rb4")
RESNET_STYLE, RESNET_CONTENT = ("conv1", "rb1", "rb2", "rb3"), ("rb2", "rb1")
_MODELS = Path(__file__).parent.parent / "models"


def _bundled(name: str, mirrored: bool) -> BackboneRecord:
    layers = (VGG_STYLE, VGG_STYLE, VGG_CONTENT)
    file = _MODELS / f"{name}.safetensors"
    return BackboneRecord(
        name, "compact", *layers, convention="plain", file=file, mirrored=mirrored
    )


def _vgg(name: str, widths: Widths) -> BackboneRecord:
    taps = tuple(
        f"{kind}{block}_{index}"
        for block, block_widths in enumerate(widths, 1)
        for index in range(1, len(block_widths) + 1)
        for kind in ("conv", "relu")
    )
    weights = (f"{name}-caffe", f"{name}-torchvision")
    layers = (taps, VGG_STYLE, VGG_CONTENT)
    return BackboneRecord(name, "vgg", *layers, shape=(widths,), weights=weights, mirrored=True)


def _resnet(name: str, depths: tuple[int, ...], bottleneck: bool) -> BackboneRecord:
    return BackboneRecord(
        name,
        "resnet",
        *(RESNET_TAPS, RESNET_STYLE, RESNET_CONTENT),
        pooling="average",
        shape=(depths, bottleneck),
        convention="torchvision",  # used by all public weights
        weights=(f"{name}-torchvision", f"{name}-robust"),
        smooths=True,
    )


BACKBONES: dict[str, BackboneRecord] = {
    record.name: record
    for record in (
        _bundled("compact", mirrored=False),
        _bundled("slim", mirrored=True),
        _vgg("vgg19", VGG19),
        _vgg("vgg16", VGG16),
        _resnet("resnet18", (2, 2, 2, 2), bottleneck=False),
        _resnet("resnet50", (3, 4, 6, 3), bottleneck=True),
    )
}
BUNDLED = {name: record.file for name, record in BACKBONES.items() if record.file is not None}
