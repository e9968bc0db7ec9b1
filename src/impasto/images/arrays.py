"""Rasters from arrays and tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .picture import check_pixels
from .raster import Floats, Raster, Request, check_decoding
from .values import as_shares, white_of


def from_array(array: NDArray[Any], label: str, request: Request) -> Raster:
    """A raster from an array ``(H, W)`` or ``(H, W, 1|3|4)``."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            f"{label}: its shape is {array.shape}; give (H, W), (H, W, 3) or (H, W, 4)"
        )
    return _from_planes(
        *(array.shape[0], array.shape[1], array.shape[2], array.dtype.name),
        lambda top, bottom: np.moveaxis(array[top:bottom], 2, 0),
        label,
        request,
    )


def from_tensor(tensor: Tensor, request: Request) -> Raster:
    """A raster from a tensor ``(1|3|4, H, W)`` or ``(1, 1|3|4, H, W)`` on any device."""
    label = "the tensor"
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or planes.shape[0] not in (1, 3, 4):
        raise InputError(f"{label}: its shape is {tuple(tensor.shape)}; give one (3, H, W)")

    def strip(top: int, bottom: int) -> NDArray[Any]:
        part = planes[:, top:bottom].detach().cpu()
        if part.is_floating_point() and part.dtype not in (torch.float32, torch.float64):
            part = part.float()  # numpy lacks some types of torch
        array: NDArray[Any] = part.resolve_conj().resolve_neg().numpy()
        return array

    kind = str(tensor.dtype).removeprefix("torch.")
    return _from_planes(
        *(planes.shape[1], planes.shape[2], planes.shape[0], kind), strip, label, request
    )


def _from_planes(
    height: int,
    width: int,
    channels: int,
    dtype: str,
    strip: Callable[[int, int], NDArray[Any]],
    label: str,
    request: Request,
) -> Raster:
    check_pixels(height, width, label, request.max_pixels)
    check_decoding((height, width), channels == 4, label, request)
    fixed = {"bool": 1, "uint8": 255, "uint16": 65535}.get(dtype)
    levels: tuple[float, ...] = {
        "int8": (127,),
        "int16": (255, 32767),
        "int32": (255, 65535),
        "int64": (255, 65535),
        "uint32": (255, 65535, 2**32 - 1),
        "uint64": (255, 65535, 2**32 - 1),
    }.get(dtype, ())
    if "float" in dtype and "complex" not in dtype:
        levels = (1,)
    if fixed is None and not levels:
        raise InputError(f"{label}: its type is {dtype}; give float in 0..1, or uint8")
    white = white_of(strip, (height, width), label, *levels, fixed=fixed)

    def rows(top: int, bottom: int) -> Floats:
        return as_shares(strip(top, bottom), white).clip(0, 1)

    return Raster(height, width, channels == 4, rows)
