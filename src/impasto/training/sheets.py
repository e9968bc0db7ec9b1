"""Pictures of a training: its losses, and a sheet of what the network makes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..files import path_of, save

__all__ = ["draw_losses", "sheet"]

GAP = 4  # white pixels between pictures


def sheet(
    render: Callable[[Tensor, Tensor], Tensor],
    contents: Tensor,
    styles: Tensor | None,
    device: torch.device,
    columns: int = 1,
) -> Tensor:
    """A row for every content, a column for every style: ``(3, H, W)`` in 0..1 on the CPU.

    Args:
        render: contents and styles ``(B, 3, H, W)`` on ``device`` to results of that shape.
        contents, styles: ``(n, 3, H, W)`` and ``(m, 3, H, W)``; without styles there is no row of
            them.
        columns: of results, without styles.
    """
    blank = torch.ones_like(contents[:1])
    rows = [] if styles is None else [torch.cat([blank, styles])]
    for content in contents:
        against = content.expand(columns, *content.shape) if styles is None else styles
        same = content.expand_as(against)
        results = render(same.to(device), against.to(device))
        rows.append(torch.cat([content[None], results.float().cpu().clamp(0, 1)]))
    padded = [torch.nn.functional.pad(row, (0, GAP, 0, GAP), value=1.0) for row in rows]
    return torch.cat([torch.cat(list(row), -1) for row in padded], -2)


def draw_losses(history: Sequence[dict[str, float]], path: Path) -> None:
    """Draw every term of the loss over the steps, as PNG: training thin, validation thick.

    Args:
        history: rows with ``step`` and, where logged, ``train/TERM`` and ``validation/TERM``.
        path: replaced whole; nothing is drawn where Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # drawn without a window, whatever the system has
    except ImportError:
        return
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    names = sorted({name.split("/")[1] for row in history for name in row if "/" in name})
    for index, name in enumerate(names):
        for side, width, alpha in (("train", 0.8, 0.6), ("validation", 2.0, 1.0)):
            points = [(r["step"], r[f"{side}/{name}"]) for r in history if f"{side}/{name}" in r]
            if points:
                x, y = zip(*points, strict=True)
                label, color = f"{name}, {side}", f"C{index % 10}"
                mark = "." if side == "validation" else ""
                axes.plot(x, y, mark + "-", color=color, label=label, lw=width, alpha=alpha)
    values = [v for row in history for name, v in row.items() if "/" in name]
    if values and min(values) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if values:
        axes.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    save(path_of(path, "path"), stream.getvalue())
