"""scikit-image's free sample photographs, and how samples are kept in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def keep(path: Path, rgb: Any, settings: dict[str, Any]) -> Path:
    """Write a sample; a picture of that name that is not one is somebody's own and stays."""
    from .. import images

    if path.exists():
        try:
            sample = "sample" in images.read_settings(path)
        except InputError:
            sample = False
        if not sample:
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
    """Write all of them as ``<name>.png``; return the paths.

    Raises InputError if scikit-image is not installed, or where a file cannot be written.
    """
    return [
        keep(folder / f"{name}.png", photograph(name), {"sample": name}) for name in PHOTOGRAPHS
    ]
