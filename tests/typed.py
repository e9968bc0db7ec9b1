"""Right and wrong uses of the public names: `make lint` checks it with type checkers, none runs it.

A wrong use has a ``type: ignore``: were it no error, the checkers would call that needless.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from typing_extensions import assert_type

import impasto
from impasto.images import Picture
from impasto.methods import Method
from impasto.methods.gatys import Gatys
from impasto.styles import StoredStyle


def of_one_method() -> None:
    """Each name has its own options."""
    assert_type(impasto.load("gatys", iterations=[200, 100], optimizer="adam"), Gatys)
    assert_type(impasto.load("gatys-report3", style_layers={"conv1_1": 1.0}), Gatys)
    assert_type(impasto.load(brush=2, degrid=False), Method[impasto.Style])
    assert_type(impasto.load("artflow-rbmad", shifts=4), Method[impasto.Style])
    assert_type(impasto.load("johnson-bottleneck", network="bottleneck"), Method[Tensor])
    impasto.load("wct", variant="monge", model=Path("wct.safetensors"))
    impasto.load("ghiasi", iterations=20)  # type: ignore[call-overload]
    impasto.load("gatys", iteratoins=20)  # type: ignore[call-overload]
    impasto.load("gatys", brush=2)  # type: ignore[call-overload]
    impasto.load("gatys", optimizer="sgd")  # type: ignore[call-overload]
    impasto.load("styleflow", operator="wct")  # type: ignore[call-overload]
    impasto.load("adain", precision="float16")  # type: ignore[call-overload]
    impasto.load("artflow", shifts=3)  # type: ignore[call-overload]


def of_controls() -> None:
    """The controls are everyone's, and a refinement's options belong to methods of one pass."""
    impasto.stylize("photo.jpg", "monet", color="match", size=512, strength=0.5)
    impasto.stylize("photo.jpg", ["monet", b"painting"], "gatys", iterations=50, weights=[2, 1])
    impasto.stylize("photo.jpg", "monet", "adain", refine=20, style_weight=50, backbone="slim")
    impasto.stylize("photo.jpg", "monet", refine=impasto.load("gatys", sizes=[0]))
    impasto.stylize("photo.jpg", "monet", "gatys", checkpoint=Path("out.checkpoint"))
    impasto.stylize("photo.jpg", "monet", "gatys", checkpoint=1)  # type: ignore[call-overload]
    impasto.stylize("photo.jpg", "monet", "ghiasi", iterations=50)  # type: ignore[call-overload]
    impasto.stylize("photo.jpg", "monet", color="luminosity")  # type: ignore[call-overload]
    impasto.stylize("photo.jpg", "monet", on_step=print, progress="yes")  # type: ignore[call-overload]
    impasto.Session("wct", "monet", layers=["relu4_1"], color="match-style")
    impasto.Session("wct", "monet", levles=["relu4_1"])  # type: ignore[call-overload]
    impasto.Session("johnson", "night", style_weight=50)  # type: ignore[call-overload]


def of_a_loaded_method(name: str) -> None:
    """Its own options belong to ``load``; those of a name not known beforehand are the shared."""
    gatys = impasto.load("gatys")
    style = assert_type(gatys.prepare(["monet"]), impasto.Style)
    assert_type(gatys("photo.jpg", style, 0.5), Tensor)
    impasto.load("johnson")("photo.jpg", style)  # type: ignore[arg-type]
    impasto.stylize("photo.jpg", "monet", gatys, size=512)
    impasto.stylize("photo.jpg", "monet", gatys, iterations=50)  # type: ignore[call-overload]
    impasto.Session(impasto.load(name, device="cpu"), style, refine=gatys)
    impasto.stylize("photo.jpg", "monet", name, device="cuda", size=512)
    impasto.Session(name, "monet", device="cuda", iterations=50)  # type: ignore[call-overload]


def of_a_result(result: impasto.Result) -> None:
    """Pictures, settings and files."""
    result.save("out.tif", depth=16, overwrite=True)
    assert_type(result.to_bytes("jpeg", quality=90), bytes)
    assert_type(result.settings, Mapping[str, object])
    result.save("out.png", depth=10)  # type: ignore[arg-type]
    result.to_bytes("jpeg", qualty=90)  # type: ignore[call-arg]
    assert_type(impasto.read("photo.jpg"), Picture)
    assert_type(impasto.named_styles(), dict[str, StoredStyle])
    impasto.learn("painting.jpg", precision="bfloat16", minutes=1).save("learnt.safetensors")
    impasto.learn("painting.jpg", precision="half")  # type: ignore[arg-type]
    impasto.load_backbone("vgg19", convention="caffe", smooth={"rb3": "softmax"})
    impasto.load_backbone("vgg19", pooling="mean")  # type: ignore[arg-type]
    impasto.styleize  # type: ignore[attr-defined]  # noqa: B018
