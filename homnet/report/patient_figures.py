"""Figures of the report on a cohort of diagnosed patients, as SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from homnet.report.figures import COLOURS, STYLE, svg_bytes
from homnet.report.html import MUTED


@mpl.rc_context(STYLE)
def reliability_figure(bins: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns the share of abnormal patients against their mean probability, per bin, as SVG.

    Args:
        bins: ``reliability`` of :func:`homnet.patients.metrics.measure_patients`.
    """
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (1, 3)))
    for one in bins:
        ends = [one["abnormal"]["low"], one["abnormal"]["high"]]
        axes.plot([one["probability"]] * 2, ends, color=COLOURS[0], lw=2, alpha=0.4)
    axes.plot(
        [one["probability"] for one in bins],
        [one["abnormal"]["value"] for one in bins],
        "o-",
        color=COLOURS[0],
    )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel("Mean probability of the patients of a bin")
    axes.set_ylabel("Share who are abnormal")
    axes.grid()
    return svg_bytes(figure)


@mpl.rc_context(STYLE)
def detection_curve(sizes: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Returns the share of abnormal patients found, by the size of the rearranged segment, as SVG.

    Args:
        sizes: ``sizes_mb`` of :func:`homnet.patients.metrics.measure_patients`, ascending.
    """
    figure = Figure(figsize=(6.2, 3.2), layout="constrained")
    axes = figure.subplots()
    values = [one["sensitivity"] for one in sizes.values()]
    for x, one in enumerate(values):
        axes.plot([x, x], [one["low"], one["high"]], color=COLOURS[0], lw=2, alpha=0.4)
    axes.plot(range(len(values)), [one["value"] for one in values], "o-", color=COLOURS[0])
    axes.axhline(0.9, color=MUTED, lw=1, ls=(0, (1, 3)))
    axes.set_xticks(
        range(len(values)),
        [
            f"{name.removesuffix(' Mb')}\n({one['total']})"
            for name, one in zip(sizes, values, strict=True)
        ],
    )
    axes.set(ylim=(-0.02, 1.02))
    axes.set_xlabel("Size of the rearranged segment, Mb (patients)")
    axes.set_ylabel("Share found")
    axes.grid(axis="y")
    return svg_bytes(figure)
