"""Paints a picture of any size, such as a gigapixel, that is never in memory whole.

    python recipes/gigapixel.py PHOTO STYLE -o OUT.tif [--megapixels 1000] [--method ghiasi] \
        [--brush 1] [--strength 1] [--depth 8] [--compression deflate] [--pyramid]

PHOTO is read in parts, and enlarged in parts with --megapixels; what is painted is collected on
the disk, and at the end written to OUT: a tiled TIFF (a BigTIFF above 4 GB), a PNG, or a JPEG of at
most 65,500 px a side. STYLE is a painting, a stored style, or one by name. It takes a method of one
pass that works in tiles, the extra ``huge`` (pip install "impasto[huge]"), and room: beside OUT for
twice its pixels, and in the folder of temporary files (TMPDIR) for what the method keeps meanwhile.
Settings are embedded as by ``impasto stylize``; metadata of the photograph is not.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from impasto import __version__, load, tune
from impasto.errors import ImpastoError, InputError, check_finite, typed_names
from impasto.files import check_apart, files_among
from impasto.images.canvas import Canvas, Resized
from impasto.images.picture import check_pixels
from impasto.images.streams import CanvasWriter, FileCanvas
from impasto.methods import DEFAULT
from impasto.paintings import read_styles
from impasto.progress import bar, drawing

MOST = 100_000  # megapixels


def enlarged(size: tuple[int, int], megapixels: float) -> tuple[int, int]:
    """``(H, W)`` in the proportion of ``size``, of that many megapixels."""
    check_finite("--megapixels", megapixels)
    if not 0 < megapixels <= MOST:
        raise InputError(f"--megapixels is {megapixels:g}: must be above 0, and {MOST} at most")
    scale = math.sqrt(megapixels * 1e6 / (size[0] * size[1]))
    height, width = (round(side * scale) for side in size)
    check_pixels(height, width, f"--megapixels {megapixels:g}")
    return height, width


def paint(args: argparse.Namespace) -> Path:
    """Paint the picture that the arguments describe."""
    canvas: Canvas = FileCanvas(args.photo)
    size = canvas.size if args.megapixels is None else enlarged(canvas.size, args.megapixels)
    check_apart(args.out, files_among([args.photo, args.style]))
    how = {"compression": args.compression, "pyramid": args.pyramid, "quality": args.quality}
    writer = CanvasWriter(args.out, size, args.depth, **how)
    if size != canvas.size:
        canvas = Resized(canvas, size)
    options = {"brush": args.brush} if "brush" in args else {}
    method: Any = load(args.method, device=args.device, **options)
    if not hasattr(method, "streamed"):
        others = f"{DEFAULT}, adain or wct"
        raise InputError(f"method {args.method} needs the picture whole: use {others}")
    styles, _ = read_styles([args.style], None, "white", method)
    prepared = method.prepare(styles)
    began = time.monotonic()
    with writer:
        with drawing("painting") as on_step:
            method.streamed(canvas, prepared, writer.put, args.strength, on_step)
        settings = {
            "impasto": __version__,
            "content": Path(args.photo).stem,
            "styles": [style.name for style in styles],
            "pixels": f"{size[1]}x{size[0]}",
            "strength": args.strength,
            **method.settings,
            "seconds": round(time.monotonic() - began, 2),
        }
        with bar("writing") as on_progress:
            return writer.finish(settings, on_progress)


def brush_of(text: str) -> float | None:
    """A number, or ``none`` for one pass at the pixel."""
    return None if text == "none" else float(text)


def main(words: Sequence[str] | None = None) -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photo", metavar="PHOTO")
    parser.add_argument("style", metavar="STYLE")
    parser.add_argument("-o", "--out", required=True, metavar="OUT")
    parser.add_argument("--megapixels", type=float, help="of OUT, else as PHOTO")
    parser.add_argument("--method", default=DEFAULT)
    parser.add_argument(
        "--brush", type=brush_of, default=argparse.SUPPRESS, help="size of the strokes, or none"
    )
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--depth", type=int, choices=(8, 16), default=8)
    parser.add_argument("--quality", type=int, default=95, help="of JPEG")
    parser.add_argument(
        "--compression", choices=("deflate", "lzw", "jpeg", "none"), default="deflate"
    )
    parser.add_argument("--pyramid", action="store_true", help="smaller sizes in the TIFF too")
    args = parser.parse_args(words)
    tune()
    try:
        with typed_names():
            print(paint(args))
    except ImpastoError as error:
        parser.exit(2, f"gigapixel: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "gigapixel: interrupted; nothing is written\n")


if __name__ == "__main__":
    main()
