"""Figures of a comparison: scorecard, length-only detection, and chromosomes side by side.

Shape suffixes: N pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homnet.karyotype.chromosomes import CHROMOSOME_WIDTH_PX, CHROMOSOMES
from homnet.realism.measures import Pairs
from homnet.realism.scorecard import TOLERANCE, Row
from homnet.report.chromosome import chromosome_image
from homnet.report.figures import COLOURS
from homnet.report.html import MUTED

_NUM_SHOWN: Final = 50
_PER_LINE: Final = 10
_LARGEST: Final = 4.0
"""Limit of the scorecard's axis."""


def draw_chromosomes(simulated: Pairs, real: Pairs, rng: np.random.Generator) -> Figure:
    """Draws fifty simulated chromosomes beside fifty real ones, of the same types and one scale.

    Args:
        simulated: normal pairs.
        real: normal pairs.
        rng: chooses chromosomes of a type, from different people as far as possible.
    """
    types = sorted(set(simulated.frame["chromosome"]) & set(real.frame["chromosome"]))
    shown = sorted(np.resize(types, _NUM_SHOWN).tolist())
    num_lines = _NUM_SHOWN // _PER_LINE
    figure = Figure(figsize=(12, 10.5), dpi=110, layout="constrained")
    halves = figure.subfigures(1, 2, wspace=0.04, squeeze=False)[0]
    longest_px = np.full(num_lines, 1.0)
    drawn = []
    for pairs in (simulated, real):
        chosen = _choose(pairs, shown, rng)
        drawn.append(chosen)
        length_px = pairs.num_samples_NP[chosen, 0] / pairs.samples_per_px
        longest_px = np.maximum(longest_px, length_px.reshape(num_lines, _PER_LINE).max(axis=1))
    for half, title, pairs, chosen in zip(
        halves, ("simulated", "real"), (simulated, real), drawn, strict=True
    ):
        half.suptitle(title)
        lines = half.subplots(num_lines, 1, gridspec_kw={"height_ratios": longest_px + 8})
        for number, axes in enumerate(lines):
            places = slice(number * _PER_LINE, (number + 1) * _PER_LINE)
            _draw_line(axes, pairs, chosen[places], shown[places], longest_px[number])
    return figure


def draw_scorecard(simulated: Sequence[Row], real: Sequence[Row]) -> Figure:
    """Draws the deviation of each simulated figure from the real one; the band marks agreement."""
    figure = Figure(figsize=(9, 0.24 * len(real) + 1), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-1, 1, color=COLOURS[2], alpha=0.15, lw=0)
    axes.axvline(0, color=MUTED, lw=0.8)
    for number, (found, wanted) in enumerate(zip(simulated, real, strict=True)):
        deviation = _deviation(found, wanted)
        if np.isfinite(deviation):
            at = float(np.clip(deviation, -_LARGEST, _LARGEST))
            colour = COLOURS[2] if abs(deviation) <= 1 else COLOURS[1]
            marker = "o" if at == deviation else ">" if at > 0 else "<"
            axes.plot(at, number, marker, color=colour, ms=5, clip_on=False)
    axes.set_yticks(range(len(real)), [row.name for row in real], fontsize=8)
    axes.set_ylim(len(real) - 0.5, -0.5)
    axes.set_xlim(-_LARGEST, _LARGEST)
    axes.set_xlabel(
        f"simulated less real: quartiles of the real set, or {TOLERANCE:.0%} of its figure, are "
        "at -1 and 1",
        fontsize=8,
    )
    axes.grid(axis="y", lw=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def draw_recall(sizes: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draws observed and expected recall by length alone against the size of the abnormality.

    Args:
        sizes: ``sizes`` of :func:`homnet.realism.length_only.length_only`.
    """
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axes, (kind, classes) in zip(panels, sizes.items(), strict=True):
        size_mb = [one["median_mb"] for one in classes]
        axes.plot(
            size_mb, [one["expected"] for one in classes], "--", color=MUTED, label="arithmetic"
        )
        axes.plot(
            size_mb, [one["recall"] for one in classes], "o-", color=COLOURS[0], label="simulated"
        )
        for one in classes:
            axes.annotate(
                str(one["num_pairs"]),
                (one["median_mb"], one["recall"]),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                fontsize=7,
                color=MUTED,
            )
        axes.set_title(f"{kind}, by length alone (numbers are of pairs)", fontsize=9)
        axes.set_xscale("log")
        axes.set_xlim(2, 150)
        axes.set_xticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        axes.set_xlabel("size, Mb")
        axes.set_ylim(-0.02, 1.1)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("recall of pairs at 99 % specificity")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _deviation(found: Row, wanted: Row) -> float:
    """Returns the deviation in units of the tolerance on its side; nan if undefined."""
    off = found.value - wanted.value
    tolerated = TOLERANCE * abs(wanted.value)
    if wanted.quartiles is not None:
        lower, upper = wanted.quartiles
        tolerated = upper - wanted.value if off > 0 else wanted.value - lower
    return off / tolerated if tolerated > 0 else float("nan")


def _choose(pairs: Pairs, types: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Chooses a pair per wanted type; repeats a pair or person of a type only if none is left."""
    frame = pairs.frame
    order = rng.permutation(len(frame))
    shuffled = frame.iloc[order].assign(row=order)
    # A person's second pair of a type comes after the first pairs of all people.
    shuffled["turn"] = shuffled.groupby(["chromosome", "patient_id"]).cumcount()
    shuffled = shuffled.sort_values("turn", kind="stable")
    chosen = []
    for number, kind in enumerate(types):
        rows = shuffled.loc[shuffled["chromosome"] == kind, "row"].to_numpy()
        earlier = list(types[:number]).count(kind)
        chosen.append(int(rows[earlier % len(rows)]))
    return chosen


def _draw_line(
    axes: Axes, pairs: Pairs, rows: Sequence[int], types: Sequence[int], longest_px: float
) -> None:
    """Draws homolog 0 of some pairs side by side, in image pixels."""
    width = round(CHROMOSOME_WIDTH_PX * pairs.samples_per_px)
    for place, (row, kind) in enumerate(zip(rows, types, strict=True)):
        image = chromosome_image(pairs.pair_NPCL[row, 0], width)
        left, height_px = 2 * place * CHROMOSOME_WIDTH_PX, len(image) / pairs.samples_per_px
        axes.imshow(
            image,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(left, left + CHROMOSOME_WIDTH_PX, longest_px, longest_px - height_px),
            interpolation="bilinear",
        )
        axes.text(
            left + CHROMOSOME_WIDTH_PX / 2,
            longest_px + 2,
            CHROMOSOMES[kind],
            ha="center",
            va="top",
            size=8,
        )
    axes.set_xlim(-CHROMOSOME_WIDTH_PX / 2, (2 * _PER_LINE - 0.5) * CHROMOSOME_WIDTH_PX)
    axes.set_ylim(longest_px + 8, 0)
    axes.set_aspect("equal")
    axes.set_axis_off()
