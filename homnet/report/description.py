"""A cohort at a glance: its chromosomes drawn as a karyogram.

Shape suffixes: C chromatids (2: left, right), L positions, W samples across a chromosome.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import pairs_of
from homnet.errors import DataError
from homnet.karyotype.chromosomes import CHROMOSOME_WIDTH_PX, KARYOGRAM_ROWS

_GAP: Final = 12
"""Samples between homologs."""
_SPACING: Final = 130
"""Samples from one pair to the next."""
_EVENT: Final = "#D55E00"


def draw_cohort(cohort: Cohort, generator: np.random.Generator) -> Figure:
    """Draws the most complete cell of one file as a karyogram, and an abnormal pair per hospital.

    Args:
        cohort: where to look; one file per hospital is read, more where it has no abnormal pair.
        generator: picks the file and the abnormal pairs.

    Raises:
        CohortError: a file is damaged.
    """
    examples = [
        found
        for hospital in cohort.hospitals
        if (found := _abnormal_row(cohort.of_hospitals([hospital]), generator)) is not None
    ]
    heights = [11, 4] if examples else [11]
    figure = Figure(figsize=(11, sum(heights)), dpi=110, layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    _draw_karyogram(figure.add_subfigure(grid[0]).subplots(), cohort, generator)
    if examples:
        lower = figure.add_subfigure(grid[1])
        lower.suptitle("one abnormal pair per hospital; the line marks the event", fontsize=10)
        panels = lower.subplots(1, len(examples), squeeze=False)[0]
        for axes, row in zip(panels, examples, strict=True):
            _draw_example(axes, row, cohort.scale[row["hospital"]])
    return figure


def chromosome_image(sequence_CL: NDArray[np.uint8], width: int) -> NDArray[np.float64]:
    """A chromosome as grey levels (L', W), as long as its sequences, both ends rounded.

    Args:
        sequence_CL: darkness of both chromatids (2, L), 0 beyond the end.
        width: samples across, W.

    Returns:
        Grey levels, 255 outside.

    Raises:
        DataError: the sequence is empty.
    """
    length = int(np.count_nonzero(sequence_CL.any(axis=0)))
    if length == 0:
        raise DataError("an empty sequence has no chromosome to draw; check the pair's homologs")
    across_W = (np.arange(width) + 0.5) / width
    right_W = np.clip((across_W - 0.4) / 0.2, 0.0, 1.0)
    left_L, right_L = sequence_CL[:, :length].astype(float)
    darkness_LW = left_L[:, None] * (1 - right_W) + right_L[:, None] * right_W
    end_L = np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5)
    radius = 0.6 * width / 2
    round_L = np.sqrt(1 - np.clip(1 - end_L / radius, 0.0, 1.0) ** 2)
    inside_LW = np.abs(2 * across_W - 1)[None] <= np.maximum(round_L, 0.3)[:, None]
    return np.where(inside_LW, 255.0 - darkness_LW, 255.0)


def _draw_karyogram(axes: Axes, cohort: Cohort, generator: np.random.Generator) -> None:
    table = cohort.read(cohort.files[generator.integers(len(cohort.files))])
    cells = table.group_by("cell_id").aggregate([("chromosome", "count")])
    full = cells.sort_by([("chromosome_count", "descending"), ("cell_id", "ascending")])
    table = table.filter(pc.equal(table["cell_id"], full["cell_id"][0]))
    hospital = table["hospital"][0].as_py()
    width = round(CHROMOSOME_WIDTH_PX * cohort.scale[hospital])
    pairs = dict(zip(table["chromosome"].to_pylist(), pairs_of(table), strict=True))
    bottom = 0.0
    for names in KARYOGRAM_ROWS:
        lengths = [_length(pairs[name]) for name in names if name in pairs]
        bottom += max(lengths, default=0) + 60
        for column, name in enumerate(names):
            x = column * (_SPACING * 7 / len(names))
            if name in pairs:
                _draw_pair(axes, pairs[name], x, bottom, width)
            axes.text(x + width + _GAP / 2, bottom + 8, name, ha="center", va="top", fontsize=10)
    axes.set_xlim(-20, 7 * _SPACING)
    axes.set_ylim(bottom + 40, 0)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(
        f"one cell of {hospital}, {table['band_level'][0].as_py()} bands, "
        f"{sum(2 if pair[1].any() else 1 for pair in pairs.values())} chromosomes",
        fontsize=11,
    )


def _draw_pair(
    axes: Axes, pair: NDArray[np.uint8], x: float, bottom: float, width: int
) -> list[tuple[float, float]]:
    """Draws the homologs of a pair side by side and gives the upper left corner of each."""
    corners = []
    darkest = float(np.percentile(pair[pair > 0], 99.5))
    for sequence_CL in pair:
        if not sequence_CL.any():
            continue
        image = chromosome_image(sequence_CL, width)
        top = bottom - len(image)
        axes.imshow(
            image,
            cmap="gray",
            vmin=255 - darkest,
            vmax=255,
            extent=(x, x + width, bottom, top),
            interpolation="bilinear",
        )
        corners.append((x, top))
        x += width + _GAP
    return corners


def _draw_example(axes: Axes, row: Mapping[str, Any], samples_per_px: float) -> None:
    width = round(CHROMOSOME_WIDTH_PX * samples_per_px)
    pair = row["pair"]
    longest = _length(pair)
    corners = _draw_pair(axes, pair, 0, longest, width)
    if row["homolog"] is not None and row["start"] is not None and row["stop"] is not None:
        x, top = corners[row["homolog"]]
        x += -6 if row["homolog"] == 0 else width + 6
        # The junction that a deletion leaves is a point: its mark is kept visible.
        ends = (top + row["start"] - 3, top + row["stop"] + 3)
        axes.plot([x, x], ends, color=_EVENT, lw=3, solid_capstyle="butt")
    axes.set_xlim(-30, 2 * width + _GAP + 30)
    axes.set_ylim(longest + 10, -10)
    axes.set_aspect("equal")
    axes.set_axis_off()
    kind = row["kind"] or "abnormal"
    axes.set_title(
        f"{row['hospital']}\nchr {row['chromosome']}, {row['band_level']} bands\n{kind}", fontsize=9
    )


def _abnormal_row(cohort: Cohort, generator: np.random.Generator) -> dict[str, Any] | None:
    for i in generator.permutation(len(cohort.files)):
        table = cohort.read(cohort.files[i])
        found = np.flatnonzero(table["abnormal"].to_numpy())
        if len(found):
            row = table.slice(int(generator.choice(found)), 1)
            values: dict[str, Any] = row.drop_columns(["pair", "quality"]).to_pylist()[0]
            return {**values, "pair": pairs_of(row)[0]}
    return None


def _length(pair: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(pair.any(axis=(0, 1))))
