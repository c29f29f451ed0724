"""Draw the metrics of a run as a PNG."""

import io
from collections.abc import Sequence
from typing import Any

PANELS = {
    "loss": ("loss",),
    "accuracy": ("rewards/accuracies",),
    "reward": ("rewards/chosen", "rewards/rejected", "rewards/margins"),
    "log-probability, nats": ("logps/chosen", "logps/rejected"),
}
"""Title -> the metrics drawn together."""

COLUMNS = 2


def draw_curves(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """A PNG of the metrics by step: pale lines are training batches, lines with points the held-out rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {name: metrics for name, metrics in PANELS.items() if any(metrics[0] in row for row in rows)}
    lines = -(-len(panels) // COLUMNS)
    columns = min(COLUMNS, len(panels))
    figure = Figure(figsize=(5.5 * columns, 3.5 * lines + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: pale lines are training batches, points are held-out rows", fontsize="medium")
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, (name, metrics) in zip(grid, panels.items(), strict=True):
        for index, metric in enumerate(metrics):
            color, label = f"C{index}", metric.rpartition("/")[2]
            draw_line(axes, rows, metric, color=color, alpha=0.35, linewidth=1)
            draw_line(axes, rows, f"eval_{metric}", color=color, marker="o", markersize=4, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        if len(metrics) > 1 and axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, ncols=len(metrics), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def draw_line(axes: Any, rows: Sequence[dict[str, Any]], key: str, **style: Any) -> None:
    """One line of a panel, where anything was measured."""
    points = [(row["step"], row[key]) for row in rows if key in row]
    if points:
        axes.plot(*zip(*points, strict=True), **style)
