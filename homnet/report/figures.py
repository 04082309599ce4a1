"""Figures of the evaluation report, each as SVG bytes.

Colours are the colour-blind-safe palette of Okabe and Ito; line styles repeat the colour code.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from homnet.karyotype.kinds import SHAM
from homnet.report.html import INK, MUTED
from homnet.report.tables import ALL_HOSPITALS, cell, metric, number

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES: Final = ("-", "--", "-.", ":")
STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": "#e3e7eb",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "homnet",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


@mpl.rc_context(STYLE)
def roc_figure(scores: pd.DataFrame, evaluation: Mapping[str, Any]) -> bytes:
    """Returns ROC curves of the test bags, per hospital and overall, as SVG."""
    figure, axes = _square("Share of normal bags called abnormal", "Share of abnormal bags found")
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (1, 3)), label="no skill: 0.500")
    for name, bags, scope, style in _curves(scores, evaluation):
        false_rate, true_rate, _ = roc_curve(bags["abnormal"], bags["score"])
        label = f"{name}: {number(scope['metrics']['auc']['value'])}"
        axes.plot(false_rate, true_rate, label=label, **style)
    figure.legend(loc="outside lower left", ncols=2, title="AUC", alignment="left")
    return svg_bytes(figure)


@mpl.rc_context(STYLE)
def precision_recall_figure(scores: pd.DataFrame, evaluation: Mapping[str, Any]) -> bytes:
    """Returns precision-recall curves of the test bags, per hospital and overall, as SVG."""
    figure, axes = _square("Recall: share of abnormal bags found", "Precision of the calls")
    prevalence = evaluation["overall"]["prevalence"]
    label = f"no skill, all bags: {number(prevalence)}"
    axes.axhline(prevalence, color=MUTED, lw=1, ls=(0, (1, 3)), label=label)
    for name, bags, scope, style in _curves(scores, evaluation):
        precision, recall, _ = precision_recall_curve(
            bags["abnormal"], bags["score"], drop_intermediate=True
        )
        label = f"{name}: {number(scope['metrics']['pr_auc']['value'])}"
        axes.plot(recall, precision, drawstyle="steps-post", label=label, **style)
    figure.legend(loc="outside lower left", ncols=2, title="PR-AUC", alignment="left")
    return svg_bytes(figure)


@mpl.rc_context(STYLE)
def kinds_figure(evaluation: Mapping[str, Any]) -> bytes:
    """Returns AUC per kind of abnormality with its interval, over all hospitals, as SVG."""
    overall = evaluation["overall"]
    rows = [
        (kind.replace("_", " "), entry["auc"], COLOURS[0])
        for kind, entry in overall["kinds"].items()
    ]
    rows.sort(key=lambda row: row[1]["value"], reverse=True)
    if overall["seam_control"] is not None:
        rows.append(("seam control", overall["seam_control"]["auc"], COLOURS[1]))
    figure = Figure(figsize=(7, 0.9 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, (_, estimate, colour) in enumerate(rows):
        if estimate["low"] is not None:
            axes.plot([estimate["low"], estimate["high"]], [y, y], color=colour, lw=2)
        axes.plot(estimate["value"], y, "o", color=colour, ms=6)
        axes.annotate(cell(estimate), (1.02, y), xycoords=("axes fraction", "data"), va="center")
    axes.axvline(0.5, color=MUTED, lw=1, ls=(0, (1, 3)))
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], color=INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    lows = [estimate["value" if estimate["low"] is None else "low"] for _, estimate, _ in rows]
    axes.set_xlim(min(0.45, *lows) - 0.02, 1.01)
    axes.set_xlabel("AUC against the normal bags (0.5: no skill)")
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return svg_bytes(figure)


@mpl.rc_context(STYLE)
def detection_figure(evaluation: Mapping[str, Any]) -> bytes:
    """Returns sensitivity at 99.9 % specificity against the size of the event, as SVG."""
    rows = evaluation["overall"]["event_sizes_mb"].values()
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    size_mb = [row["median_mb"] for row in rows]
    found = [row["detection"]["value"] for row in rows]
    for x, row in zip(size_mb, rows, strict=True):
        if row["detection"]["low"] is not None:
            ends = [row["detection"]["low"], row["detection"]["high"]]
            axes.plot([x, x], ends, color=COLOURS[0], lw=2, alpha=0.5)
    axes.plot(size_mb, found, "o-", color=COLOURS[0])
    axes.set(xscale="log", ylim=(-0.02, 1.02))
    axes.set_xlabel("Size of the event, Mb (median of its class)")
    axes.set_ylabel("Share of abnormal bags found")
    axes.set_xticks(size_mb, [f"{x:.0f}" for x in size_mb], minor=False)
    axes.minorticks_off()
    axes.grid()
    return svg_bytes(figure)


@mpl.rc_context(STYLE)
def score_histogram(scores: pd.DataFrame, evaluation: Mapping[str, Any]) -> bytes:
    """Returns score histograms of normal and abnormal test bags per hospital, as SVG."""
    test = scores[scores["split"] == "test"]
    names = list(evaluation["hospitals"])
    num_columns = min(len(names), 4)
    num_rows = -(-len(names) // num_columns)
    bins = np.linspace(0, 1, 21)
    figure = Figure(figsize=(2.6 * max(num_columns, 2), 2.5 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharex=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        bags = test[test["hospital"] == name]
        sham = bags["kind"] == SHAM
        parts = (
            ("normal", bags[~bags["abnormal"] & ~sham], COLOURS[0]),
            ("abnormal", bags[bags["abnormal"]], COLOURS[1]),
        )
        for label, part, colour in parts:
            share = np.full(len(part), 1 / max(len(part), 1))
            counts = np.histogram(part["score"], bins, weights=share)[0]
            axes.stairs(counts, bins, fill=True, alpha=0.3, color=colour)
            axes.stairs(counts, bins, color=colour, lw=1.5, label=f"{label} ({len(part)})")
        threshold = evaluation["thresholds"][name]["threshold"]
        axes.axvline(threshold, color=INK, lw=1, ls="--", label=f"threshold {threshold:.2f}")
        axes.set_title(name)
        axes.legend(loc="upper center", fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.45)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("Score", fontsize=10)
    figure.supylabel("Share of the bags", fontsize=10)
    return svg_bytes(figure)


@mpl.rc_context(STYLE)
def training_figure(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Returns training loss and validation AUC per epoch, one line per stage, as SVG."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = figure.subplots(1, 2)
    quantities = (("train_loss", "Training loss"), ("validation_auc", "Validation AUC"))
    for axes, (key, title) in zip(panels, quantities, strict=True):
        for i, (stage, epochs) in enumerate(histories.items()):
            points = [(one["epoch"] + 1, one[key]) for one in epochs if one.get(key) is not None]
            if not points:
                continue
            x, y = zip(*points, strict=True)
            style = _line_style(i)
            axes.plot(x, y, marker=".", label=stage, **style)
            if key == "validation_auc":
                best = int(np.argmax(y))
                axes.plot(x[best], y[best], "o", ms=9, mfc="none", mec=style["color"])
        axes.set_title(title)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid()
    handles = {
        label: line
        for axes in panels
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside right upper")
    return svg_bytes(figure)


def _curves(
    scores: pd.DataFrame, evaluation: Mapping[str, Any]
) -> list[tuple[str, pd.DataFrame, Mapping[str, Any], dict[str, Any]]]:
    """Returns name, bags, scope and line style of each hospital with both classes, and overall."""
    test = scores[(scores["split"] == "test") & (scores["kind"] != SHAM)]
    found = [
        (name, test[test["hospital"] == name], scope, _line_style(i))
        for i, (name, scope) in enumerate(evaluation["hospitals"].items())
        if metric(scope, "auc") is not None
    ]
    if len(evaluation["hospitals"]) > 1:
        found.append((ALL_HOSPITALS, test, evaluation["overall"], {"color": INK, "lw": 2.4}))
    return found


def _line_style(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "ls": _DASHES[i % len(_DASHES)], "lw": 1.6}


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid()
    return figure, axes


def svg_bytes(figure: Figure) -> bytes:
    """Returns a figure as SVG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Omit the date, so that equal reports are equal files.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
