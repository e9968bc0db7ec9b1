"""From files to a result, in one call; and back, from a picture to the options that made it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from .controls import Controls
from .errors import InputError
from .images import Source, read_settings
from .methods import DEFAULT, METHODS, Method, OnStep, record_of
from .methods.base import StyleT
from .methods.records.gatys import REFINED
from .options import Options, renamed, renames_of, signature_of
from .paintings import Styles
from .progress import drawing
from .result import Result
from .session import Session

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .methods import keywords as kw

__all__ = ["recorded", "stylize"]


@overload
def stylize(
    content: Source,
    style: Styles,
    method: kw.GhiasiName = ...,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.GhiasiWithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: kw.GatysName,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.GatysWithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: kw.AdaINName,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.AdaINWithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: kw.ArtFlowName,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.ArtFlowWithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: kw.StyleFlowName,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.StyleFlowWithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: kw.WCTName,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.WCTWithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: kw.JohnsonName,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.JohnsonWithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: str,
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.WithControls],
) -> Result: ...
@overload
def stylize(
    content: Source,
    style: Styles,
    method: Method[StyleT],
    *,
    on_step: OnStep | None = ...,
    progress: bool = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    **options: Unpack[kw.ControlKeywords],
) -> Result: ...
def stylize(
    content: Source,
    style: Styles,
    method: str | Method[StyleT] = DEFAULT,
    *,
    on_step: OnStep | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Result:
    """Render ``content`` in the manner of ``style``.

    Every call loads the method anew, and measures the style. For picture after picture use
    :class:`impasto.Session`, which does both once.

    Args:
        content: a path, bytes, file object, Pillow image, array ``(H, W, 3)`` or tensor
            ``(3, H, W)``: whatever :func:`impasto.read` takes.
        style: a picture like ``content``, a stored style, a name (from
            :func:`impasto.named_styles`, or of a style that the method has learnt), what
            ``prepare`` of a method returned, or a list of these.
        method: a name (see ``impasto.methods()``) or what :func:`impasto.load` returned.
        on_step: called after every iteration, and after every size, layer, tile, shift or strip of
            one pass; if it returns True, the work ends with the picture so far. See
            :data:`impasto.watch.OnStep`.
        progress: draw a bar, also in notebooks.
        checkpoint: a file in which an optimisation keeps its state, see
            :meth:`impasto.Session.__call__`.
        options: controls, see :class:`impasto.controls.Controls`, and options of the method and of
            its refinement, such as ``backbone`` or ``iterations``. ``refine`` may also be a method,
            see :class:`impasto.Session`.

    Returns:
        The picture with its losses and settings, and why it ended early if it did
        (:attr:`Result.stopped`).

    Raises:
        InputError: for wrong input; the message says what is wrong and what to do.
        ImpastoError: of another kind, for no memory, a full disk, a failed download, or a device
            that is missing.

    Example:
        >>> import numpy as np, impasto
        >>> rng = np.random.default_rng(0)
        >>> photo, painting = rng.random((40, 50, 3)), rng.random((48, 64, 3))
        >>> impasto.stylize(photo, painting, device="cpu").picture.rgb.shape
        torch.Size([3, 40, 50])
    """
    label = method if isinstance(method, str) else "stylize"
    with (
        drawing(label, on_step) if progress else nullcontext(on_step) as told,
        Session(method, style, **options) as session,
    ):
        return session(content, told, checkpoint=checkpoint)


stylize.__signature__ = signature_of(stylize, Controls, further=True)  # type: ignore[attr-defined]


def recorded(
    picture: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO,
) -> tuple[str, dict[str, Any]]:
    """Read method and options of a picture from the settings recorded in it.

    ``stylize(photo, style, method, **options)`` makes the picture again. The record does not hold
    the device, nor folders: of a model file or an initial picture it holds only the name.

    Args:
        picture: a file written by impasto: its path, its bytes or a file object.

    Raises:
        InputError: for a picture without recorded settings, or with an unknown method.
    """
    settings = read_settings(picture)
    if "preview" in settings:
        name = str(picture) if isinstance(picture, (str, os.PathLike)) else "the picture"
        raise InputError(f"{name}: a preview, which carries no settings; give a finished picture")
    method = record_of(settings.get("method", ""))
    refinement = settings.get("refinement") or {}
    shared = {name: refinement[name] for name in REFINED if name in refinement}
    sets: list[tuple[type[Options], Mapping[str, Any]]] = [
        (METHODS["gatys"].Options, shared),
        (Controls, settings),
        (method.Options, settings),
    ]
    options: dict[str, Any] = {}
    for kinds, values in sets:
        values = renamed(values, renames_of(kinds), silent=True)
        for name, declared in kinds.declared().items():
            if declared.recorded and values.get(name, declared.default) != declared.default:
                options[name] = declared.check(values[name])
    return method.name, options
