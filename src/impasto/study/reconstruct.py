"""What a layer encodes: pictures reconstructed from noise by its features or statistics alone.

Reports 4 and 5 (Figures 3.2 and 3.3), after Mahendran & Vedaldi, CVPR 2015. A shallow layer
restores the picture, a deep one its objects without their colours; Gram matrices restore the
texture without the layout: those of all layers up to one (Gatys et al., CVPR 2016, Fig. 1), or of
one layer alone (report 5, Fig. 3.3). Random weights show what training adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from ..backbones import Backbone
from ..errors import InputError, check_finite, spelled
from ..images import Source
from ..methods import Step
from ..methods.gatys import Gatys
from ..progress import drawn
from .figures import labelled
from .inputs import at_size, check_side

__all__ = ["LAYERS", "Kind", "reconstruct"]

Kind = Literal["content", "style"]
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STAGES = ("conv1", "rb1", "rb2", "rb3", "rb4")

OnProgress = Callable[[int, int, str, Step], bool | None]
"""Called with the number of pictures done, the total, the current label and step; True stops."""


@drawn("reconstructing")
def reconstruct(
    picture: Source,
    nets: Mapping[str, Backbone],
    kind: Kind = "content",
    layers: Sequence[str] | None = None,
    *,
    single: bool = False,
    size: int = 224,
    iterations: int = 200,
    optimizer: Literal["lbfgs", "adam"] = "lbfgs",
    lr: float | None = None,
    seed: int = 0,
    device: str = "auto",
    on_progress: OnProgress = lambda done, total, name, step: None,
    progress: bool = False,
) -> Tensor:
    """A sheet ``(3, H, W)`` in 0..1: a row for each network, a column for each layer.

    Args:
        picture: the picture to reconstruct.
        nets: name -> network.
        kind: ``content`` matches the features of the layer itself; ``style`` matches the Gram
            matrices of the layer and of all layers before it in ``layers``, see ``single``.
        layers: shallow to deep; None takes those of :data:`LAYERS` that all networks have, or all
            stages of a ResNet.
        single: for ``style``, match the Gram matrix of the layer alone.
        size: short side in pixels.
        iterations: number of iterations for each picture; report 5 allows up to 5000.
        optimizer, lr: see :class:`impasto.methods.gatys.Gatys`; report 5 uses Adam at 0.05.
        seed: seed of the noise, which is Gaussian and the same for all pictures.
        device: see :mod:`impasto.device`.
        on_progress: see :data:`OnProgress`; after a stop the sheet has the pictures so far.
        progress: draw a progress bar, also in notebooks.

    Raises:
        InputError: for an unknown kind or layer, or a picture that cannot be read.
    """
    if kind not in get_args(Kind):
        raise InputError(f"kind {kind!r} is unknown: use content or style", option="kind")
    if single and kind == "content":
        raise InputError(
            "single is for kind style: content is always of one layer; leave it out",
            option="single",
        )
    if not isinstance(nets, Mapping) or not all(isinstance(n, nn.Module) for n in nets.values()):
        raise InputError("nets: give name -> backbone, such as load_backbone returns")
    if layers is not None and (isinstance(layers, str) or not isinstance(layers, Sequence)):
        raise InputError(f"layers: give a list of layers, such as [{str(layers)!r}]")
    check_side(size)
    if not (isinstance(iterations, int) and iterations >= 1):
        raise InputError(f"iterations = {iterations}: must be 1 or more", option="iterations")
    if lr is not None:
        check_finite(spelled("lr"), lr)
    if layers is None:
        taps = dict.fromkeys(tap for net in nets.values() for tap in net.taps)
        defaults = [tap for tap in taps if tap in LAYERS or tap in STAGES]
        layers = [tap for tap in defaults if all(tap in net.taps for net in nets.values())]
    if not (nets and layers):
        raise InputError("name at least one network and one layer")
    for net in nets.values():
        net.check(layers)
    rgb = at_size(picture, size)
    options: dict[str, Any] = {
        "start": "noise",
        "sizes": [0],
        "iterations": iterations,
        "tolerance": 0,
        "optimizer": optimizer,
        "lr": lr,
        "seed": seed,
        "device": device,
    }
    cells: list[tuple[str, Tensor]] = []
    total, stopped = len(nets) * len(layers), False
    for row, (name, net) in enumerate(nets.items()):
        cells.append(("picture", rgb))
        for column, layer in enumerate(layers):
            done, label = row * len(layers) + column, f"{name}, {layer}"
            if kind == "content":
                objective: dict[str, Any] = {"content_layers": [layer], "style_weight": 0}
            else:
                objective = {
                    "style_layers": [layer] if single else list(layers[: column + 1]),
                    "content_weight": 0,
                    "style_loss": "gram",
                }
            if stopped:
                cells.append(("", rgb.new_ones(rgb.shape)))
                continue
            method = Gatys(net, **options, **objective)

            def on_step(step: Step, done: int = done, label: str = label) -> bool:
                nonlocal stopped
                stopped = bool(on_progress(done, total, label, step))
                return stopped

            cells.append((label, method(rgb, method.prepare([rgb]), 1.0, on_step)))
    return labelled(cells, columns=1 + len(layers))
