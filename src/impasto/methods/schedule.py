"""The sizes of an optimisation, coarse to fine, and the iterations of each."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..images import MIN_SIDE, fit

__all__ = ["schedule"]

COARSE = 1024  # short side in pixels up to which the optimisation is to converge
FEW = 16  # iterations of a larger size, which only add detail


def schedule(
    height: int,
    width: int,
    sizes: Sequence[int] | None = None,
    iterations: int | Sequence[int] | None = None,
) -> list[tuple[tuple[int, int], int]]:
    """Sizes ``(H, W)`` with their iterations, coarse to fine.

    By default most iterations are at coarse sizes, where strokes and forms are made and an
    iteration costs least; sizes above 1,024 px get few, which add detail (report 3, section V.B,
    makes 600 and 100).

    Args:
        height, width: of the result, the last size.
        sizes: short sides, of which 0 stands for the last one; None for the default.
        iterations: of every size, or of each; None for the default.

    Raises:
        InputError: for sizes that do not end with the last one, or another number of iterations.

    Example:
        >>> schedule(300, 400)
        [((150, 200), 80), ((300, 400), 52)]
    """
    final = min(height, width)
    if sizes is None:
        shorts = [final]
        while shorts[0] >= 256:
            shorts.insert(0, round(shorts[0] / 2))
    else:
        shorts = [short or final for short in sizes]
        if not shorts or shorts[-1] != final or min(shorts) < MIN_SIDE:
            chosen = ", ".join(map(str, sizes))
            raise InputError(
                f"sizes {chosen}: must be {MIN_SIDE} or more and end with the picture's short "
                f"side, {final} (or 0, which stands for it)",
                option="sizes",
            )
    if iterations is None:
        counts = [
            FEW if short > COARSE else max(30, round(80 * 0.65**k))
            for k, short in enumerate(shorts)
        ]
    elif not isinstance(iterations, Sequence):
        counts = [int(iterations)] * len(shorts)
    else:
        counts = list(iterations)
    if len(counts) != len(shorts) or min(counts) < 1:
        raise InputError(
            f"iterations {', '.join(map(str, counts))}: give one positive number, or one for "
            f"each of the {len(shorts)} sizes ({', '.join(map(str, shorts))})",
            option="iterations",
        )
    return [
        ((height, width) if short == final else fit(height, width, short), count)
        for short, count in zip(shorts, counts, strict=True)
    ]
