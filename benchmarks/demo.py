"""One sheet: a photograph, a painting, and the photograph in its manner, in one pass and by Gatys.

    python benchmarks/demo.py FOLDER

FOLDER holds what `impasto samples FOLDER --photos` wrote; writes FOLDER/result.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gallery import HEIGHT, WIDTH, crop

from impasto import stylize, tune
from impasto.images import read, write
from impasto.study.figures import labelled


def main() -> None:
    tune()  # as the command line does
    folder = Path(sys.argv[1])
    photo, painting = (
        crop(read(folder / f"{name}.png").rgb, HEIGHT, WIDTH) for name in ("coffee", "swirls")
    )
    sheet = [("a photograph", photo), ("a painting", painting)]
    for label, method in (("one pass", "ghiasi"), ("optimised", "gatys")):
        result = stylize(photo, painting, method, progress=True)
        seconds = result.settings["seconds"]
        sheet.append((f"{label}: method {method}, {seconds} s", result.picture.rgb))
    write(folder / "result.png", labelled(sheet, columns=2))


if __name__ == "__main__":
    main()
