"""The base class of all methods: options, device, and checks of the content picture.

Pictures are read and checked here, once. All code below this class works on tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..device import check_process, choose_device, choose_precision, describe
from ..errors import InputError, check_strength
from ..images import MIN_SIDE, Source, read
from ..styles import LearntStyle
from .records.base import DeviceOptions

__all__ = ["Face"]


class Face:
    """All of :class:`impasto.methods.base.Method` except preparing and rendering.

    Args:
        name: name of the method.
        options: options of the method.
        precision: replaces the precision of ``options``.

    Raises:
        InputError: for a device or a precision that is not available.
    """

    name: str
    options: DeviceOptions
    device: torch.device
    dtype: torch.dtype

    def __init__(self, name: str, options: DeviceOptions, precision: str | None = None) -> None:
        self.name, self.options = name, options
        self.device = choose_device(options.device)
        self.dtype = choose_precision(precision or options.precision, self.device)
        self.notes: list[str] = []
        self.sources: Sequence[Source] = ()
        self.learnt: Mapping[str, LearntStyle] | None = None
        self.settings: Mapping[str, object] = {}

    def record(self, **resolved: object) -> None:
        """Record in ``settings`` the options, the values they were resolved to, and the device."""
        device = describe(self.device, self.dtype)
        options = {"method": self.name, **self.options.record()}
        self.settings = {**options, "resolved": resolved, "device": device}

    def find(self, style: object) -> LearntStyle:
        """See :class:`impasto.methods.base.Method`."""
        raise InputError(f"method {self.name} takes any painting and has learnt none by name")

    def checked(self, content: Source, strength: float) -> Tensor:
        """Return ``content`` as ``(3, H, W)`` in 0..1.

        Raises:
            InputError: if it cannot be read or is too small, or ``strength`` is out of range.
        """
        check_process(self.device)
        check_strength(strength)
        rgb = read(content).rgb
        height, width = rgb.shape[-2:]
        if min(height, width) < MIN_SIDE:
            raise InputError(
                f"the picture is {width}x{height}: the short side must be {MIN_SIDE} pixels or more"
            )
        return rgb
