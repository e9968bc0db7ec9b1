"""Makes ``impasto/methods/keywords.py``, the types of keyword arguments, from the declared options.

``make keywords`` runs this; tests/test_types.py compares.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import impasto
from impasto.backbones.base import Padding, Pooling
from impasto.backbones.resnet import Smooth
from impasto.controls import Controls
from impasto.methods import METHODS
from impasto.methods.records import MethodRecord
from impasto.methods.records.base import DeviceOptions
from impasto.methods.records.gatys import REFINED
from impasto.options import Options

FILE = Path(impasto.__file__).with_name("methods") / "keywords.py"
HEAD = '''\
"""Types of keyword arguments, by method: `make keywords` makes them of the declared options.

``load`` takes ``GhiasiKeywords``, where ``method`` is a ``GhiasiName``; ``stylize`` and ``Session``
take ``GhiasiWithControls``, which has the controls and the options of a refinement too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from ..backbones import VGG, Backbone
    from ..controls import Controls
    from ..images import Source
    from .custom_loss import LossFunction
    from .gatys import Gatys
'''
# Names that annotations keep; the others are replaced by what they stand for.
KEPT = {name: type(name, (), {}) for name in ("VGG", "Backbone", "LossFunction", "Source")}
OTHERS = {"Padding": Padding, "Pooling": Pooling, "Smooth": Smooth}


def types_of(options: type[Options]) -> dict[str, str]:
    """Option -> what may be given for it, as text."""
    modules = [vars(sys.modules[cls.__module__]) for cls in reversed(options.__mro__)]
    names: dict[str, Any] = {}
    for module in modules:
        names |= module
    annotated = {each.name: eval(str(each.type), names | OTHERS | KEPT) for each in fields(options)}
    return {name: " | ".join(dict.fromkeys(parts(annotated[name]))) for name in options.declared()}


def parts(annotation: Any) -> Iterator[str]:
    """The parts of a union, as text; None comes last."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        for part in sorted(arguments, key=lambda part: part is NoneType):
            yield from parts(part)
    elif annotation is NoneType:
        yield "None"
    elif annotation is Path:
        yield from ("str", "PathLike[str]")
    elif origin is Literal:
        yield f"Literal[{', '.join(map(repr, arguments))}]"
    elif origin is not None:
        yield f"{origin.__name__}[{', '.join(' | '.join(parts(each)) for each in arguments)}]"
    else:
        yield annotation.__name__


def made() -> str:
    """The module's text, before ruff formats it."""
    records = sorted(METHODS.values(), key=lambda record: record.name)
    options = {record.name: types_of(record.Options) for record in records}
    refined = {name: options["gatys"][name] for name in REFINED}
    shared = {name for method in options if method != "gatys" for name in options[method]}
    common = {name: kind for name, kind in refined.items() if name not in shared}
    controls = types_of(Controls) | {"refine": "int | Gatys | None", "controls": "Controls | None"}
    text = HEAD
    for record in records:
        text += f"\n{title(record)}Name = Literal[{', '.join(map(repr, record.named()))}]"
    text += typed_dict("DeviceKeywords", "Those of every method.", types_of(DeviceOptions))
    text += typed_dict("ControlKeywords", "Those of a session with a loaded method.", controls)
    about = "Those of a session with any method by name."
    text += typed_dict("WithControls", about, {}, ["ControlKeywords", "DeviceKeywords"])
    text += typed_dict("RefinementKeywords", "Those of a refinement, of no method.", common)
    for record in records:
        own, name = options[record.name], title(record)
        about = f"Those of method ``{record.name}``."
        rest = {each: kind for each, kind in own.items() if each not in DeviceOptions.declared()}
        text += typed_dict(f"{name}Keywords", about, rest, ["DeviceKeywords"])
        bases, further = ["ControlKeywords", f"{name}Keywords"], {}
        if record.one_pass and not record.learns_styles:
            bases.append("RefinementKeywords")
            further = {each: refined[each] for each in refined.keys() - common.keys() - own.keys()}
        about = f"Those of method ``{record.name}`` in a session."
        text += typed_dict(f"{name}WithControls", about, dict(sorted(further.items())), bases)
    return text


def title(record: MethodRecord) -> str:
    """As the method's class is called."""
    return record.place.partition(":")[2]


def typed_dict(
    name: str, about: str, kinds: Mapping[str, str], bases: Iterable[str] = ("TypedDict",)
) -> str:
    """A TypedDict none of whose keys is required."""
    lines = "".join(f"    {key}: {kind}\n" for key, kind in kinds.items())
    head = f'class {name}({", ".join(bases)}, total=False):\n    """{about}"""\n'
    return f"\n\n{head}\n{lines}"


if __name__ == "__main__":
    FILE.write_text(made(), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(FILE)], check=True)
