"""scikit-image's free sample photographs, and writing of samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImpastoError, InputError

if TYPE_CHECKING:
    from torch import Tensor


PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def write_sample(path: Path, rgb: Any, settings: dict[str, Any]) -> Path:
    """Write a sample. Raises InputError rather than overwrite a file that is no sample."""
    from .. import images

    if path.exists():
        try:
            is_sample = "sample" in images.read_settings(path)
        except ImpastoError:
            is_sample = False
        if not is_sample:
            raise InputError(f"{path}: exists and is no sample; choose another folder")
    return images.write(path, rgb, settings=settings)


def photograph(name: str) -> Tensor:
    """One of scikit-image's free sample photographs (:data:`PHOTOGRAPHS`), ``(3, H, W)`` in 0..1.

    Raises InputError if scikit-image is not installed.
    """
    from .. import images

    try:
        from skimage import data
    except ImportError:
        raise InputError(
            "the sample photographs need scikit-image: pip install scikit-image"
        ) from None
    return images.read(getattr(data, name)()).rgb


def write_photographs(folder: Path) -> list[Path]:
    """Write all photographs as ``<name>.png``; return the paths.

    Raises InputError if scikit-image is not installed, or if a file cannot be written.
    """
    return [
        write_sample(folder / f"{name}.png", photograph(name), {"sample": name})
        for name in PHOTOGRAPHS
    ]
