"""Checks that all that `import impasto` offers has a type which every type checker infers alike.

That is the public names, and through them whatever their signatures, attributes and bases are made
of. `basedpyright --verifytypes` judges every module; those that no public name reaches, such as
the networks of methods and all of training but `learn`, are internal and left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import impasto

BIN, SOURCES = Path(sys.executable).parent, Path(impasto.__file__).parent.parent


def symbols() -> list[dict[str, object]]:
    """What basedpyright says of each symbol."""
    # It looks for torch where the first python of the path finds it.
    paths = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(SOURCES)}
    command = ["basedpyright", "--verifytypes", "impasto", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env=os.environ | paths,
        capture_output=True,
        encoding="utf-8",
        check=False,  # it fails for the internal modules
    )
    return json.loads(done.stdout)["typeCompleteness"]["symbols"]


def main() -> int:
    """Print the score, and what is amiss; the exit status."""
    names = {f"impasto.{name}" for name in impasto.__all__}
    for name in impasto.__all__:
        offered = getattr(impasto, name)
        if hasattr(offered, "__qualname__"):
            names.add(f"{offered.__module__}.{offered.__qualname__}")
    found = [
        symbol
        for symbol in symbols()
        if symbol["name"] in names or str(symbol["name"]).rpartition(".")[0] in names
    ]
    assert len(found) > len(impasto.__all__)
    amiss = [each for each in found if each["isTypeAmbiguous"] or not each["isTypeKnown"]]
    for symbol in amiss:
        for fault in symbol["diagnostics"]:
            print(f"{symbol['name']}: {fault['message']}")
    share = 1 - len(amiss) / len(found)
    print(f"types of {len(found)} public names and members: {share:.1%} complete")
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main())
