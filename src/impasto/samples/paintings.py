"""The sample paintings by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .oils import pointillism, stained_glass, swirls
from .photographs import write_sample
from .prints import ink_wash, woodcut
from .sheet import ASPECT, Array, Sheet

SMALLEST, LARGEST = 64, 4096
FULL_DETAIL = 1280  # pictures are drawn at twice their size up to this height, for smooth edges
STYLES: dict[str, str] = {
    "swirls": "thick oil strokes turning in blue and gold whorls",
    "stained_glass": "jewel-coloured glass in lead lines around a sun",
    "ink_wash": "mountains in mist, brush and ink on rice paper",
    "pointillism": "a bay at evening in dots of pure colour",
    "woodcut": "hills and sun in engraved black line with indigo and rust",
}
_PAINTERS: dict[str, Callable[[Sheet], Array]] = {
    "swirls": swirls,
    "stained_glass": stained_glass,
    "ink_wash": ink_wash,
    "pointillism": pointillism,
    "woodcut": woodcut,
}


def draw(name: str, size: int = 768, seed: int = 0) -> Image.Image:
    """Draw a sample painting: an RGB picture ``size`` high and 4/3 as wide.

    A seed always gives the same picture, and nearly the same at every size (64 to 4096). At 768 it
    takes a few seconds and about 500 MB. Raises InputError for a name that is not in STYLES, and
    for a size or seed out of range.
    """
    if name not in STYLES:
        close = difflib.get_close_matches(name, STYLES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the styles are {', '.join(STYLES)}"
        raise InputError(f"no sample painting is called {name!r}; {hint}")
    if not SMALLEST <= size <= LARGEST:
        raise InputError(f"a sample painting's size must be {SMALLEST} to {LARGEST}, not {size}")
    if seed < 0:
        raise InputError(f"a sample painting's seed must be 0 or more, not {seed}")
    sheet = Sheet(max(size, min(2 * size, FULL_DETAIL)), seed)
    pixels = np.clip(_PAINTERS[name](sheet) * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((round(size * ASPECT), size), Image.Resampling.LANCZOS)


def write_samples(folder: Path, size: int = 768, seed: int = 0) -> list[Path]:
    """Write every style as ``<name>.png`` into a folder, which is created; return the paths.

    Raises InputError as `draw` does, and if a file cannot be written.
    """
    # imported here, because drawing needs neither torch nor the readers of picture files
    import torch

    from ..images.places import check_place

    check_place(folder / f"{max(STYLES, key=len)}.png")  # before minutes of drawing
    paths = []
    for name in STYLES:
        pixels = torch.from_numpy(np.array(draw(name, size, seed)))
        settings = {"sample": name, "size": size, "seed": seed}
        paths.append(
            write_sample(folder / f"{name}.png", pixels.permute(2, 0, 1).float() / 255, settings)
        )
    return paths
