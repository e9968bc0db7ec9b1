"""`impasto style`, `learn`, `styles` and `suggest`: store, learn, list and rank styles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..controls import Controls
from ..errors import InputError
from ..files import check_apart, shown
from ..methods import METHODS
from .console import begin, say
from .declared import of_methods, typed, values_of, was
from .running import running, stop

if TYPE_CHECKING:
    from torch import Tensor

    from ..methods import Method
    from ..study.suggest import Suggestion
    from ..styles import LearntStyle, StoredStyle

__all__ = ["learn", "style", "styles", "suggest"]

THUMB = 200  # short side in pixels of a picture on the sheet of `impasto styles`
WEIGHTS = Controls.declared()["weights"]
# Options that change what is stored of a painting.
OPTIONS = of_methods(
    (
        *("backbone", "backbone_weights", "convention", "padding", "pooling", "smooth"),
        *("style_layers", "device"),
    )
)
NETWORK = METHODS["johnson"].Options.declared()["network"]
DEVICE = of_methods(("device", "precision"))
PLACE = of_methods(("device",))


@typed(OPTIONS)
def style(
    paintings: Annotated[list[Path], typer.Argument(help="One painting or several.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, NAME.style.")],
    weights: Annotated[
        str | None, typer.Option(help=WEIGHTS.help, metavar=WEIGHTS.kind.metavar)
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="Store only for this method, in a smaller file; may be repeated. Default: "
            "every method that accepts any painting.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="With one --for: a model from `impasto train`, not the bundled one."),
    ] = None,
    **options: Any,
) -> None:
    """Store a style: what methods need of a painting, in a file that replaces the painting.

    The file holds the features of each method's network at several sizes of the painting. The
    options of a backbone are for gatys.

    Examples:

        impasto style starry_night.jpg -o starry.style

        impasto style wave.jpg night.jpg --weights 1,3 -o mixed.style

        impasto style starry_night.jpg -o small.style --for adain

        impasto style starry_night.jpg -o vgg.style --for gatys --backbone vgg19
    """
    from ..images.places import check_place
    from ..paintings import store_style
    from ..styles import SUFFIX

    if out.suffix != SUFFIX:
        raise InputError(
            f"{shown(out)}: the name of a stored style ends in {SUFFIX}: use {shown(out.stem)}"
            f"{SUFFIX}"
        )
    if model is not None and len(methods or ()) != 1:
        raise InputError("--model: belongs to one method: name it, --for METHOD")
    check_place(out)
    check_apart(out, [*paintings, model, options["backbone_weights"]])
    begin()
    chosen = values_of(OPTIONS, options) | ({} if model is None else {"model": model})
    with running(out.name, "stopping without it") as work:
        stored = store_style(
            paintings,
            out.stem,
            None if weights is None else cast("list[float]", WEIGHTS.parse(weights)),
            methods,
            on_progress=work.show,
            **chosen,
        )
    stored.save(out)
    say.print(f"{shown(out)}  ({out.stat().st_size / 1e6:.1f} MB, for {', '.join(stored.methods)})")


@typed(DEVICE)
def learn(
    painting: Annotated[Path, typer.Argument(help="The painting to learn.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs to learn on. Default: free sample photographs."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Approximate minutes. Default: 5, enough on two cores.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps, instead of minutes.", min=0)
    ] = None,
    size: Annotated[
        int,
        typer.Option(help="Short side in pixels at which strokes are learnt.", min=64, max=1024),
    ] = 384,
    mixable: Annotated[
        bool,
        typer.Option(
            "--mixable", help="Keep the last layers fixed, so that the style can be mixed."
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(help="A model from `impasto train ghiasi`, instead of the bundled one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of crops and noise.", min=0, max=2**63 - 1)] = 0,
    **options: Any,
) -> None:
    """Learn one painting for method ghiasi: a file that it accepts in place of the painting.

    Starts from the network's prediction for the painting and optimises it for some minutes. Ctrl-C
    keeps what was learnt so far.

    Examples:

        impasto learn starry_night.jpg -o mine.safetensors

        impasto learn starry_night.jpg -o mine.safetensors --photos holiday/ --minutes 10

        impasto learn starry_night.jpg -o mine.safetensors --mixable

        impasto stylize photo.jpg mine.safetensors -o out.png
    """
    from ..images import list_pictures
    from ..images.places import check_place
    from ..methods.learnt import checked, is_learnt
    from ..training.learn import MINUTES, WARM
    from ..training.learn import learn as study

    if minutes is not None and steps is not None:
        raise InputError("--minutes and --steps: leave one of them out")
    check_place(checked(out))
    check_apart(out, [painting, model, *(list_pictures(photos, True) if photos else [])])
    if out.exists() and not is_learnt(out):
        raise InputError(f"{shown(out)}: exists and is no learnt style; name another file")
    begin()
    share = 0.0
    with running(painting.name, "keeping what was learnt so far") as work:

        def on_progress(done: int, total: int, loss: float) -> bool:
            nonlocal share
            share = done / max(1, total)
            return work.show(done, total, f"loss {loss:.4g}")

        learnt = study(
            *(painting, photos),
            minutes=MINUTES if minutes is None else minutes,
            steps=steps,
            size=size,
            mixable=mixable,
            model=model,
            seed=seed,
            on_progress=on_progress,
            **values_of(DEVICE, options),
        )
        stopped = work.interrupted()
    if stopped and share < WARM:
        stop("interrupted before anything was learnt; nothing is written")
    learnt.save(out)
    figures = learnt.figures
    say.print(f"{shown(out)}  (steps: {figures['steps']}, {figures['seconds']} s)")
    if stopped:
        stop("interrupted; what was learnt is written")


@was(network="kind")
def styles(
    model: Annotated[
        Path | None,
        typer.Option(help="A model from `impasto train johnson`, instead of the bundled one."),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help=NETWORK.help, metavar=NETWORK.kind.metavar)
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a picture that shows --photo in every style.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="Photograph of the sheet. Default: a free sample.")
    ] = None,
) -> None:
    """List the styles that can be used by name.

    Lists the bundled styles, which every method that accepts paintings can use, and those that
    method johnson has learnt. With --model or --network, lists only those of that johnson network.

    Examples:

        impasto styles

        impasto styles --sheet styles.jpg --photo me.jpg

        impasto styles --network bottleneck --sheet learnt.png
    """
    from ..methods import load
    from ..methods.johnson import Johnson, learnt_names
    from ..styles import named_styles

    if photo is not None and sheet is None:
        raise InputError("--photo is for the sheet: name one, --sheet OUT")
    if sheet is not None:
        from ..images import check_output

        check_apart(sheet, [photo, model])
        check_output(sheet)
        begin()
    if model is None and network is None:
        named = named_styles()
        if sheet is not None:
            _write_sheet(sheet, photo, load(), named)
        rows = [(name, style.title, style.painter, style.year) for name, style in named.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())
        print(f"\nwith --method johnson: {', '.join(learnt_names())}")
        return
    method = Johnson(model, network=network)
    if sheet is not None:
        _write_sheet(sheet, photo, method, method.learnt)
    for name in method.learnt:
        print(name)


def _write_sheet(
    sheet: Path,
    photo: Path | None,
    method: Method[Any],
    styles: Mapping[str, StoredStyle | LearntStyle],
) -> None:
    """Write a sheet of a photograph in every style, rendered at 512 pixels and then reduced."""
    from ..images import fit, read, resize, write
    from ..samples import photograph
    from ..study.figures import labelled

    rgb = photograph("coffee") if photo is None else read(photo).rgb
    height, width = rgb.shape[-2:]
    content = resize(rgb, fit(height, width, min(512, height, width)))

    def small(picture: Tensor) -> Tensor:
        return resize(picture, fit(height, width, THUMB))

    tiles = [("photograph", small(content))]
    with running("", "stopping without the sheet") as work:
        for number, (name, style) in enumerate(styles.items()):
            if work.show(number, len(styles), label=name):
                stop("interrupted")
            tiles.append((name, small(method(content, method.prepare([style])))))
    columns = min((6, 5, 4), key=lambda count: -len(tiles) % count)  # the fewest gaps
    write(sheet, labelled(tiles, columns), quality=80)


@typed(PLACE)
def suggest(
    photo: Annotated[Path, typer.Argument(help="A photograph.")],
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of paintings and stored styles. Default: the named styles."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(help="Print only so many, the best ones. Default: all.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    sheet: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a picture of the photograph and these paintings."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search the folder's subfolders too.")
    ] = False,
    size: Annotated[
        int, typer.Option(help="Short side in pixels at which pictures are compared.", min=16)
    ] = 256,
    **options: Any,
) -> None:
    """Rank paintings by how well they suit a photograph: by distance of colours and of texture.

    The farther a painting is from a photograph, the more details of the photograph tend to be lost.
    Distances are in standard deviations over the folder: 0 is its mean, and less is nearer.

    Examples:

        impasto suggest photo.jpg paintings/

        impasto suggest photo.jpg paintings/ --top 5 -o best.png

        impasto suggest photo.jpg --json
    """
    from ..images import check_output, write
    from ..study.suggest import sheet as sheet_of
    from ..study.suggest import suggest as study
    from ..styles import list_paintings

    if sheet is not None:
        check_apart(sheet, [photo, *(list_paintings(folder, recursive) if folder else [])])
        check_output(sheet)
    begin()
    skipped: list[str] = []

    def warn(line: str) -> None:
        skipped.append(line)
        say.print(f"impasto: {line}")

    with running("comparing", "ranking the paintings so far") as work:
        ranked = study(
            *(photo, folder),
            recursive=recursive,
            size=size,
            on_progress=work.count,
            warn=warn,
            **values_of(PLACE, options),
        )
        stopped = work.interrupted()
    best = ranked[:top]
    if as_json:
        rows = [{"rank": rank, **_row(each)} for rank, each in enumerate(best, 1)]
        print(json.dumps(rows, indent=2))
    elif best:
        width = max(len("painting"), *(len(shown(each.name)) for each in best))
        print(f"rank  {'painting':{width}}  color  texture  total")
        for rank, each in enumerate(best, 1):
            figures = f"{each.color:5.2f}  {each.texture:7.2f}  {each.total:5.2f}"
            print(f"{rank:4}  {shown(each.name):{width}}  {figures}")
    if sheet is not None and best:
        write(sheet, sheet_of(photo, best))
        say.print(shown(sheet))
    if stopped:
        stop("interrupted; only some of the paintings were compared")
    if skipped:
        raise typer.Exit(1)


def _row(suggestion: Suggestion) -> dict[str, str | float]:
    """For JSON."""
    figures = {name: round(getattr(suggestion, name), 3) for name in ("color", "texture", "total")}
    return {"style": str(suggestion.style), **figures}
