"""The course of a run as a picture."""

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


def curves(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """A PNG of training (a line) and held-out (points) metrics by step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {name: metrics for name, metrics in PANELS.items() if any(metrics[0] in row for row in rows)}
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (name, metrics) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for index, metric in enumerate(metrics):
            for key, style in ((metric, "-"), (f"eval_{metric}", "o:")):
                points = [(row["step"], row[key]) for row in rows if key in row]
                if points:
                    label = metric + (" (held out)" if key != metric else "")
                    axes.plot(*zip(*points, strict=True), style, color=f"C{index}", label=label, markersize=4)
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
