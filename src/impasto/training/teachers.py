"""Teachers for the distillation of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..tensors import load_tensors

__all__ = ["CollaborativeTeacher"]


class CollaborativeTeacher:
    """The published 16-times-smaller VGG-19 of Wang et al. (Collaborative Distillation, 2020).

    A 1x1 convolution transforms RGB in 0..1, then 3x3 convolutions with reflection padding follow.
    ``convK1_aux`` (1x1) maps the features after ``convK1`` to VGG-19's width, in the unit-mean
    scale. It has relu5_1, which truncated VGG-19 files lack.

    Args:
        path: a safetensors file with the published names.
        taps: the layers to return, of ``relu1_1 .. relu5_1``.
        device: the device of the network.

    Raises:
        InputError: if the file does not hold this network.
    """

    def __init__(
        self,
        path: Path,
        taps: tuple[str, ...] = ("relu5_1",),
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        tensors = load_tensors(path)[0]
        self.device = device
        self.tensors: Mapping[str, Tensor] = {k: t.to(device) for k, t in tensors.items()}
        if "conv51_aux.weight" not in self.tensors:
            raise InputError(f"{path}: not a 16-times-smaller VGG-19 with its conv51_aux map")
        self.taps = taps

    def __call__(self, picture: Tensor) -> dict[str, Tensor]:
        """Features mapped to VGG-19's width: tap -> ``(B, C, H, W)``, after a ReLU."""
        conv: Callable[..., Tensor] = F.conv2d
        t = self.tensors
        x = conv(picture.to(self.device), t["conv0.weight"], t["conv0.bias"])
        features: dict[str, Tensor] = {}
        for block, depth in enumerate((2, 2, 4, 4, 1), 1):
            if block > 1:
                x = F.max_pool2d(x, 2)
            for index in range(1, depth + 1):
                name = f"conv{block}{index}"
                x = F.pad(x, (1, 1, 1, 1), mode="reflect")
                x = F.relu(conv(x, t[f"{name}.weight"], t[f"{name}.bias"]))
                tap = f"relu{block}_{index}"
                if tap in self.taps:
                    aux = conv(x, t[f"{name}_aux.weight"], t[f"{name}_aux.bias"])
                    features[tap] = F.relu(aux)
        return features
