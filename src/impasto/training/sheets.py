"""Pictures of a run: loss curves, and sheets of the network's results."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import path_of, save

__all__ = ["draw_losses", "sheet"]

GAP = 4  # white pixels between pictures
MARKERS = "osD^v"  # of the terms of a loss, which differ in more than hue


def sheet(
    render: Callable[[Tensor, Tensor], Tensor],
    contents: Tensor,
    styles: Tensor | None,
    device: torch.device,
    columns: int = 1,
) -> Tensor:
    """A sheet of results ``(3, H, W)`` in 0..1 on the CPU: a row per content, a column per style.

    Args:
        render: maps contents and styles ``(B, 3, H, W)`` on ``device`` to results of that shape.
        contents, styles: ``(n, 3, H, W)`` and ``(m, 3, H, W)``; None omits the row of styles.
        device: the device of the network.
        columns: number of results per content, if there are no styles.
    """
    blank = torch.ones_like(contents[:1])
    rows = [] if styles is None else [torch.cat([blank, styles])]
    for content in contents:
        row_styles = content.expand(columns, *content.shape) if styles is None else styles
        row_contents = content.expand_as(row_styles)
        results = render(row_contents.to(device), row_styles.to(device))
        rows.append(torch.cat([content[None], results.float().cpu().clamp(0, 1)]))
    padded = [torch.nn.functional.pad(row, (0, GAP, 0, GAP), value=1.0) for row in rows]
    return torch.cat([torch.cat(list(row), -1) for row in padded], -2)


def draw_losses(history: Sequence[dict[str, float]], path: Path) -> None:
    """Plot every term of the loss over the steps as PNG: training thin, validation thick.

    Args:
        history: rows with ``step`` and, where logged, ``train/TERM`` and ``validation/TERM``.
        path: written atomically; without Matplotlib nothing is written.
    """
    try:
        from matplotlib.figure import Figure  # needs no window
    except ImportError:
        return
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    names = sorted({name.split("/")[1] for row in history for name in row if "/" in name})
    for index, name in enumerate(names):
        for split, width, alpha in (("train", 0.8, 0.6), ("validation", 2.0, 1.0)):
            key = f"{split}/{name}"
            points = [(row["step"], row[key]) for row in history if key in row]
            if points:
                x, y = zip(*points, strict=True)
                marker = MARKERS[index % len(MARKERS)]
                series: dict[str, Any] = {
                    "color": f"C{index % 10}",
                    "marker": marker,
                    "ms": 3 + 2 * width,
                }
                every = max(1, len(x) // 8) if split == "train" else 1
                label = f"{name}, {split}"
                axes.plot(x, y, **series, markevery=every, label=label, lw=width, alpha=alpha)
    values = [value for row in history for name, value in row.items() if "/" in name]
    if values and min(values) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if values:
        axes.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    save(path_of(path, "path"), stream.getvalue())
