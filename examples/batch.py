"""A folder of photographs in the style of a painting.

    python examples/batch.py photos/ painting.jpg painted/ --size 512

The method is loaded once. A photograph that cannot be painted does not stop the others and is named
at the end. After an interruption the same command goes on: pictures are written whole or not at
all, and those that are there are left as they are. Another style or size needs another folder.
"""

import argparse
import sys
from pathlib import Path

from impasto import ImpastoError, Session
from impasto.images import list_pictures
from impasto.progress import bar


def paint_folder(session: Session, folder: Path, out: Path) -> dict[Path, str]:
    """Paint the photographs of `folder` that `out` lacks; returns what was wrong, by file."""
    # With the whole name: a.jpg and a.png are two photographs.
    targets = {photo: out / f"{photo.name}.png" for photo in list_pictures(folder)}
    todo = [photo for photo, target in targets.items() if not target.exists()]
    out.mkdir(parents=True, exist_ok=True)
    faults: dict[Path, str] = {}
    with bar("painting") as show:
        for done, photo in enumerate(todo):
            try:
                result = session(
                    photo,
                    on_step=lambda step, done=done, photo=photo: show(
                        round(done + step.share, 2), len(todo), photo.name
                    ),
                )
            except ImpastoError as fault:
                faults[photo] = str(fault)
            else:
                # Outside of `try`: when the disk is full, the others fail too.
                result.save(targets[photo])
            show(done + 1, len(todo), photo.name)
    return faults


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("style", help="a painting, a stored style or a name, such as monet")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--method", default="ghiasi")
    parser.add_argument("--size", type=int, help="shorter side in pixels")
    args = parser.parse_args()
    if args.out.resolve() == args.photos.resolve():
        parser.error("write to another folder: the next run would paint the results")
    try:
        with Session(args.method, args.style, size=args.size) as session:
            faults = paint_folder(session, args.photos, args.out)
    except ImpastoError as fault:  # of the style, the folder or the disk
        sys.exit(str(fault))
    for message in faults.values():
        print(message, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
