"""A painting that the network of method ``ghiasi`` was fine-tuned for, stored in a file.

The network predicts the scales and shifts of a painting's style. ``impasto learn`` improves these
for one painting by gradient descent. The result is a small file that is used like a painting; see
:mod:`.ghiasi`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, float16

from ..errors import ImpastoError, InputError, spelled
from ..files import path_of, shown
from ..statistics import Moments
from ..styles import LearntStyle
from ..tensors import load_tensors, read_header, save_tensors

__all__ = ["SUFFIX", "Learnt", "is_learnt"]

SUFFIX = ".safetensors"
KIND = "impasto learnt style"


@dataclass(frozen=True, repr=False, eq=False)
class Learnt(LearntStyle):
    """A painting learnt by ``impasto learn``; method ``ghiasi`` takes it in place of a painting.

    Attributes:
        model: digest of the model that the style was learnt with.
        rows: scale and shift of every normalisation layer, one layer after the other, ``(2, n)``.
        layers: the network's last layers by name, if they were learnt too; such a style cannot be
            mixed with others.
        figures: settings and results of the learning.
    """

    method: ClassVar[str] = "ghiasi"
    model: str
    rows: Tensor
    layers: Mapping[str, Tensor]
    figures: Mapping[str, object]

    def __repr__(self) -> str:
        mixable = "" if self.layers else ", mixable"
        return f"<style {self.name} learnt for {self.method} {self.model}{mixable}>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to ``path`` (safetensors, float16), whole or not at all.

        Raises:
            InputError: if it cannot be written, or its name does not end in ``.safetensors``.
        """
        file = checked(path)
        layers = {f"layers.{name}": layer for name, layer in self.layers.items()}
        tensors = {name: t.to(float16) for name, t in {"rows": self.rows, **layers}.items()}
        header = {
            "kind": KIND,
            "format": "1",
            "method": self.method,
            "name": self.name,
            "model": self.model,
            "mixable": json.dumps(not self.layers),
            "figures": json.dumps(self.figures),
        }
        save_tensors(file, tensors | self.color.tensors("color"), header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Learnt:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: for anything else.
        """
        file = checked(path)
        tensors, header = load_tensors(file)
        try:
            if header["kind"] != KIND or header["method"] != cls.method:
                raise KeyError
            color = Moments.from_tensors(tensors, "color")
            if color.channels != 3 or not color.weight > 0:
                raise KeyError
            layers = {
                name.removeprefix("layers."): tensor.float()
                for name, tensor in tensors.items()
                if name.startswith("layers.")
            }
            if json.loads(header["mixable"]) != (not layers) or len(tensors["rows"]) != 2:
                raise KeyError
            if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                raise InputError(
                    f"{shown(file)}: is damaged (it holds NaN or infinity); learn it again"
                )
            figures = json.loads(header["figures"])
            rows = tensors["rows"].float()
            return cls(header["name"], color, header["model"], rows, layers, figures)
        except ImpastoError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            model = f"; a model is given by {spelled('model')}" if "config" in header else ""
            raise InputError(
                f"{shown(file)}: not a style learnt by `impasto learn`{model}; give such a file, "
                "or the painting"
            ) from None


def is_learnt(path: Path) -> bool:
    """Whether a file is a learnt style; only its header is read."""
    return read_header(path).get("kind") == KIND


def checked(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with the suffix of a learnt style. Raises InputError for another suffix."""
    file = path_of(path, "style")
    if file.suffix.lower() != SUFFIX:
        raise InputError(
            f"{shown(file)}: the name of a learnt style ends in {SUFFIX}: use "
            f"{shown(file.with_suffix(SUFFIX).name)}"
        )
    return file
