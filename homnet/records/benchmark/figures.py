"""Plots of cost against size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter


def draw_scaling(figures: Mapping[str, Any], path: Path) -> None:
    """Plots seconds per training step against merge range, cells per bag and bags per batch."""
    entries = figures["scaling"]
    names = list(dict.fromkeys(entry["what"] for entry in entries))
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        own = [entry for entry in entries if entry["what"] == name]
        values = [entry["value"] for entry in own]
        axes.loglog(values, [entry["seconds"] for entry in own], "o-", label="measured")
        # Time of three forward passes at the speed of a large matrix product.
        best = figures["limits"]["float32_gflop_per_s"] * 1e9
        floor = [3 * entry["forward_flops"] / best for entry in own]
        axes.loglog(values, floor, "--", color="grey", label="matrix products alone, at best")
        axes.set_xticks(values)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds per training step")
    figure.axes[0].legend()
    figure.savefig(path, dpi=150, metadata={"Software": None})
