"""How often the band level of a cell is estimated rightly.

Simulated cells have known levels. Those of real ones are not known, but stretched cells show more
bands: the estimate, which knows nothing of lengths, must rise with the length of a cell; and it
must come out alike from either half of its chromosomes.

Shape suffixes: N chromosomes, G cells, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import spearmanr

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import pairs_of
from homnet.imaging.band_level import level_features, shipped_estimator
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOME_INDEX
from homnet.locations import Location
from homnet.realism.intervals import mean
from homnet.report.markdown import markdown_table
from homnet.report.tables import cell
from homnet.seeding import generator


@dataclass(frozen=True)
class WholeCells:
    """The chromosomes of whole cells."""

    features_NF: NDArray[np.float64]
    """What the estimator looks at."""
    type_N: NDArray[np.int64]
    """Indices of the types."""
    length_N: NDArray[np.int64]
    """Lengths in samples."""
    cell_N: NDArray[np.int64]
    """Numbers of the cells, from 0."""
    level_N: NDArray[np.int64]
    """Index of the band level that is stated for the cell of each chromosome."""
    people: tuple[str, ...]
    """Person of each cell."""

    @classmethod
    def of_tables(cls, tables: Sequence[pa.Table]) -> Self:
        """Takes all chromosomes of cohort tables; a cell is in one table."""
        parts: list[list[NDArray[Any]]] = []
        people: list[str] = []
        for table in tables:
            frame = table.select(["patient_id", "cell_id", "chromosome", "band_level"]).to_pandas()
            cells = frame.groupby(["patient_id", "cell_id"])
            cell_N = cells.ngroup().to_numpy() + len(people)
            people += [person for person, _ in cells.groups]
            pair_NPCL = pairs_of(table)
            there_NP = pair_NPCL.any(axis=(2, 3))
            row_N = np.nonzero(there_NP)[0]
            sequence_NCL = pair_NPCL[there_NP]
            parts.append(
                [
                    level_features(sequence_NCL),
                    frame["chromosome"].map(CHROMOSOME_INDEX).to_numpy(np.int64)[row_N],
                    np.count_nonzero(sequence_NCL.any(axis=1), axis=1),
                    cell_N[row_N],
                    np.searchsorted(BAND_LEVELS, frame["band_level"].to_numpy())[row_N],
                ]
            )
        features, type_N, length_N, cell_N, level_N = map(np.concatenate, zip(*parts, strict=True))
        return cls(features, type_N, length_N, cell_N, level_N, tuple(people))


def measure_levels(
    known: Location, real: Location | None, *, num_bootstrap: int, seed: int
) -> dict[str, Any]:
    """Estimates the levels of simulated cells of known level, and of real ones.

    Args:
        known: cohort of simulated people from whom the estimator did not learn.
        real: cohort of real people.
        num_bootstrap: number of replicates of the bootstrap over people.
        seed: seed of the bootstrap and of the halves of a cell.

    Returns:
        ``known``: by hospital, ``cells`` by stated and estimated level, and the shares that are
        ``exact`` and ``within_one`` level; ``real``: ``cells`` by estimated level, and rank
        correlations.
    """
    cohort = Cohort.open(known)
    figures: dict[str, Any] = {
        "known": {
            name: _known(
                [cohort.read(one) for one in cohort.files if one.hospital == name],
                num_bootstrap,
                seed,
            )
            for name in cohort.hospitals
        }
    }
    if real is not None:
        cohort = Cohort.open(real)
        figures["real"] = _real(
            WholeCells.of_tables([cohort.read(entry) for entry in cohort.files]), seed
        )
    return figures


def _known(tables: Sequence[pa.Table], num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Stated and estimated levels of the cells of one hospital."""
    cells, estimator = WholeCells.of_tables(tables), shipped_estimator()
    mean_G = estimator.mean_levels(cells.features_NF, cells.type_N, cells.cell_N)
    estimated_G = np.searchsorted(estimator.borders, mean_G)
    stated_G = np.zeros(len(cells.people), np.int64)
    stated_G[cells.cell_N] = cells.level_N
    count = np.zeros((len(BAND_LEVELS), len(BAND_LEVELS)), np.int64)
    np.add.at(count, (stated_G, estimated_G), 1)
    apart_G = np.abs(stated_G - estimated_G)
    rng = generator(seed, "levels")
    return {
        "cells": count.tolist(),
        "exact": mean(apart_G == 0, cells.people, num_bootstrap, rng),
        "within_one": mean(apart_G <= 1, cells.people, num_bootstrap, rng),
    }


def _real(cells: WholeCells, seed: int) -> dict[str, Any]:
    estimator = shipped_estimator()
    mean_G = estimator.mean_levels(cells.features_NF, cells.type_N, cells.cell_N)
    log_N = pd.Series(np.log(cells.length_N))
    relative_N = log_N - log_N.groupby(cells.type_N).transform("mean")
    length_G = relative_N.groupby(cells.cell_N).mean()
    half_N = generator(seed, "halves").integers(0, 2, len(cells.cell_N)).astype(bool)
    halves = []
    for own_N in (half_N, ~half_N):
        found = estimator.mean_levels(
            cells.features_NF[own_N], cells.type_N[own_N], cells.cell_N[own_N]
        )
        halves.append(found)
    level_G = np.searchsorted(estimator.borders, mean_G)
    return {
        "cells": np.bincount(level_G, minlength=len(BAND_LEVELS)).tolist(),
        "rank_correlation_with_length": float(spearmanr(mean_G, length_G).statistic),
        "rank_correlation_of_halves": float(spearmanr(halves[0], halves[1]).statistic),
        "median_relative_length": [
            float(np.exp(length_G[level_G == at].median())) if (level_G == at).any() else None
            for at in range(len(BAND_LEVELS))
        ],
    }


def levels_markdown(figures: Mapping[str, Any]) -> str:
    """Cells by stated and estimated level, and what is known of real ones."""
    rows: list[list[object]] = []
    for hospital, one in figures["known"].items():
        for at, count in enumerate(one["cells"]):
            exact = f"{count[at] / sum(count):.2f}" if sum(count) else "n/a"
            rows.append([f"{hospital}, {BAND_LEVELS[at]} bands", *count, exact])
        exact, within = (cell(one[key], 3) for key in ("exact", "within_one"))
        rows.append([f"{hospital}, all; within one level {within}", *[""] * 4, exact])
    text = ""
    if "real" in figures:
        real = figures["real"]
        rows.append(["real cells of unknown level", *real["cells"], "n/a"])
        text = (
            "\nThe estimate does not look at lengths. In the real set it has a rank correlation of "
            f"{real['rank_correlation_with_length']:.2f} with the lengths of the cells; the "
            "estimates from two halves of a cell's chromosomes have one of "
            f"{real['rank_correlation_of_halves']:.2f}.\n"
        )
    heads = ["Cells by their level", *(f"estimated {level}" for level in BAND_LEVELS), "exact"]
    return f"{markdown_table(heads, rows)}\n{text}"
