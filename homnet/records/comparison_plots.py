"""Plots of the paper's tables: dots with intervals, and bars of seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from homnet.records.beside_paper import (
    HOMNET,
    METRICS,
    OF_HOSPITALS,
    PAPER_FORM,
    curves_of,
    of_paper,
)
from homnet.records.training_tables import arranged

_PAPER = "AUC in the paper (other data)"
_ENDS = ("value", "low", "high")


def draw_comparison(
    rows: Sequence[Mapping[str, Any]], path: Path, *, key: str = "method", fine_tuned: bool = True
) -> None:
    """Plots AUC and F1 of every line with intervals for each hospital, and the paper's AUC.

    Args:
        rows: one per line and hospital.
        path: output file.
        key: "method" or "variant".
        fine_tuned: see :func:`homnet.records.beside_paper.of_paper`.
    """
    names, hospitals, of = arranged(rows, key)
    figure = Figure(
        figsize=(2.2 + 2.6 * len(hospitals), 1.1 + 0.3 * len(names)), layout="constrained"
    )
    panels = figure.subplots(1, len(hospitals), sharey=True, squeeze=False)[0]
    for number, (axes, hospital) in enumerate(zip(panels, hospitals, strict=True)):
        for offset, colour, (metric, title) in zip(
            (-0.12, 0.12), ("C0", "C1"), METRICS, strict=True
        ):
            drawn = [
                (place + offset, *(one["value"] if one[end] is None else one[end] for end in _ENDS))
                for place, name in enumerate(names)
                if (one := of[name, hospital][metric])["value"] is not None
            ]
            if drawn:
                place_M, value_M, low_M, high_M = np.array(drawn).T
                axes.hlines(place_M, low_M, high_M, color=colour)
                axes.plot(value_M, place_M, "o", color=colour, markersize=4, label=title)
        theirs = [
            (place, value)
            for place, name in enumerate(names)
            if hospital != OF_HOSPITALS
            and (value := of_paper(name, number, "auc", fine_tuned=fine_tuned)) is not None
        ]
        if theirs:
            places, values = zip(*theirs, strict=True)
            axes.plot(values, places, "x", color="grey", label=_PAPER)
        axes.axvline(0.5, color="lightgrey", linewidth=0.8)
        axes.set(title=hospital, xlim=(0, 1.02))
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    _save(figure, path)


def draw_curves(figures: Mapping[str, Any], path: Path) -> None:
    """Plots the best validation AUC so far over the minutes of each training, with its bags.

    Args:
        figures: see :func:`homnet.records.beside_paper.curves_of`; nothing is drawn without curves.
        path: output file.
    """
    curves = curves_of(figures)
    if not curves:
        return
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, run) in enumerate(curves.items()):
        curve = np.maximum.accumulate(run["curve"])
        minutes = np.arange(1, len(curve) + 1) / len(curve) * run["cpu_seconds"] / 60
        axes.plot(
            minutes,
            curve,
            color=f"C{number % 10}",
            linestyle="-" if number < 10 else "--",
            marker="o" if name in (HOMNET, PAPER_FORM) else "",
            markersize=3,
            label=f"{name}, {run['bags']:,} bags",
        )
    axes.axhline(0.5, color="lightgrey", linewidth=0.8)
    axes.set(xlabel="minutes of one core", ylabel="best validation AUC so far")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    _save(figure, path)


def draw_running_time(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plots seconds of every method for 100 batches and until convergence, on logarithmic axes.

    Args:
        rows: rows of :func:`homnet_platform.records.running_time.time_methods`.
        path: output file.
    """
    names = [row["method"] for row in rows]
    figure = Figure(figsize=(8.5, 1.1 + 0.3 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(names))
    for metric, offset, label in (("train_100", -0.2, "learning"), ("score_100", 0.2, "scoring")):
        drawn = [(p + offset, row[metric]["p50"]) for p, row in enumerate(rows) if row[metric]]
        if drawn:
            left.barh([p for p, _ in drawn], [s for _, s in drawn], height=0.4, label=label)
    right.barh(
        places,
        [row["convergence"] for row in rows],
        height=0.6,
        color=["C2" if row["converged"] else "lightgrey" for row in rows],
    )
    left.set(xscale="log", xlabel="seconds for 100 batches")
    right.set(xscale="log", xlabel="seconds to convergence (grey: not reached)")
    left.set_yticks(places, names)
    left.invert_yaxis()
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
