"""Commands that print information (methods, backbones, settings, doctor) or write samples."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import spelled
from ..methods import METHODS
from .console import say

__all__ = ["backbones", "doctor", "methods", "samples", "show"]


def show(
    picture: Annotated[Path, typer.Argument(help="A picture that impasto wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the settings that a picture was made with.

    Examples:

        impasto show out.png

        impasto show out.jpg --json
    """
    from ..images import read_settings

    settings = read_settings(picture)
    if as_json:
        print(json.dumps(settings, indent=2))
        return
    for name, value in settings.items():
        # JSON escapes control characters: an untrusted picture must not send them to the terminal.
        print(f"{json.dumps(name)[1:-1]:18} {json.dumps(value)}")


def methods() -> None:
    """List the methods, with their variants and presets.

    Example:

        impasto methods
    """
    for name in sorted(METHODS):
        record = METHODS[name]
        missing = "" if record.ready else f" Train it first: impasto train {name}"
        print(f"{name:12} {record.title}{missing}")
        for variant, options in record.models.items():
            if options:
                words = " ".join(spelled(option, value) for option, value in options.items())
                print(f"  {variant}: {name} with {words}")
        for preset, value in record.presets.items():
            print(f"  {preset}: {value.title}")


def backbones(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A backbone, whose layers are listed.", show_default=False
        ),
    ] = None,
) -> None:
    """List the backbones: what is installed, where, and how large. Or list the layers of one.

    Of a layer are listed its channels, its stride (pixels from one feature to the next) and its
    receptive field (pixels on a side that a feature depends on).

    Examples:

        impasto backbones

        impasto backbones vgg19
    """
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
    if name is not None:
        _layers(name, console)
        return
    from ..backbones.records import BUNDLED, WEIGHTS
    from ..backbones.weights import find
    from ..files import home

    table = Table(box=None, pad_edge=False)
    for heading in ("weights", "backbone", "state", "MB", "licence"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    for name, file in BUNDLED.items():
        megabytes = f"{file.stat().st_size / 1e6:.1f}"
        table.add_row(name, name, f"bundled, {escape(str(file))}", megabytes, "as impasto")
    for record in WEIGHTS.values():
        path = find(record)
        size = path.stat().st_size if path else record.size
        absent = "not downloaded" if record.pinned else "download by hand"
        table.add_row(
            record.name,
            record.backbone,
            escape(str(path)) if path else f"{absent}: {record.address}",
            f"{size / 1e6:.1f}" if size else "?",
            record.licence,
        )
    console.print(table)
    console.print(f"cache folder: {home()} (IMPASTO_HOME)")


def _layers(name: str, console: Console) -> None:
    """List the layers of a backbone, shallow to deep."""
    from ..backbones import outline

    net = outline(name)
    layers = sorted(
        dict.fromkeys([*net.convolutions, *net.taps]), key=lambda tap: len(net.windows(tap))
    )
    content = [tap for tap in net.content_layers if tap in net.taps][:1]
    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "channels", "stride", "receptive field", "by default for"):
        numbers = heading in ("channels", "stride", "receptive field")
        table.add_column(heading, justify="right" if numbers else "left")
    for tap in layers:
        field = net.field(tap)
        uses = [
            use for use, taps in (("style", net.style_layers), ("content", content)) if tap in taps
        ]
        table.add_row(
            *(tap, str(net.channels(tap)), str(field.stride)),
            *(f"{field.size}x{field.size}", ", ".join(uses)),
        )
    console.print(table)
    console.print(f"with {net.pooling} pooling; names for --style-layers and --content-layers")


def doctor() -> None:
    """Print what a bug report needs: versions, devices, the choice of auto, what is missing.

    Needs no network, writes nothing, and shows your home folder as ~. The exit code is always 0.

    Examples:

        impasto doctor

        impasto doctor > doctor.txt
    """
    from ..doctor import laid_out, report

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(laid_out(report(), width))


def samples(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; created if missing.")],
    size: Annotated[int, typer.Option(help="Height in pixels; the width is 4/3 of it.")] = 768,
    seed: Annotated[int, typer.Option(help="Random seed; each seed draws other pictures.")] = 0,
    photos: Annotated[
        bool, typer.Option("--photos", help="Also write scikit-image's free photographs.")
    ] = False,
) -> None:
    """Write sample paintings, which impasto draws itself, and free photographs.

    Examples:

        impasto samples paintings/

        impasto samples paintings/ --size 1200 --seed 3

        impasto samples tryout/ --photos
    """
    from ..samples import write_photographs, write_samples

    written = write_samples(folder, size, seed)
    for path in written + (write_photographs(folder) if photos else []):
        say.print(str(path))
