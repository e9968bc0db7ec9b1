"""The bundled encoder: VGG-shaped, distilled from VGG-19 by ``impasto train encoder``.

See :mod:`impasto.training.distill` for how, and ``models/CARD.md`` for its figures.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..errors import InputError
from .base import PLAIN
from .vgg import VGG
from .weights import load_tensors, save_tensors

__all__ = ["COMPACT", "load_compact", "save_compact"]

COMPACT = Path(__file__).parent.parent / "models" / "compact.safetensors"


def load_compact(path: Path = COMPACT) -> VGG:
    """The encoder in ``path``: its widths and taps stand in the file's header.

    Raises:
        InputError: if the file is no encoder written by :func:`save_compact`.
    """
    tensors, metadata = load_tensors(path)
    try:
        config = json.loads(metadata["config"])
        widths = tuple(tuple(int(w) for w in block) for block in config["widths"])
        net = VGG(widths, PLAIN, name="compact", served=tuple(config["taps"]))
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{path}: not an encoder made by `impasto train encoder`; name another file"
        ) from None
    return net.requires_grad_(False)


def save_compact(net: VGG, path: Path, figures: dict[str, object]) -> None:
    """Write ``net`` as float16 with its configuration and ``figures`` in the header."""
    config = {"widths": net.widths, "taps": net.taps, "convention": net.convention.name}
    header = {
        "config": json.dumps(config),
        "figures": json.dumps(figures),
        "format": "1",
        "licence": "MIT (impasto); distilled from VGG-19 (Simonyan & Zisserman, CC BY 4.0)",
        "training data": "photographs and paintings, see models/CARD.md",
    }
    tensors = {name: tensor.to(torch.float16) for name, tensor in net.state_dict().items()}
    save_tensors(path, tensors, header)
