"""Page on the contents of a cohort: counts, one whole cell, and pairs of each hospital."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from homnet.cohorts.cohort import Cohort
from homnet.report.examples import draw_examples, pairs_by_cell
from homnet.report.html import render_page
from homnet.report.karyogram import single_pairs, whole_cell
from homnet.report.upright import typical_profiles


def render_contents(cohort: Cohort, counts: str, rng: np.random.Generator) -> str:
    """Returns the page as HTML.

    Args:
        cohort: cohort to show; one file per hospital is read, and one more for the cell.
        counts: as of :func:`homnet.cohorts.summary.counts_table`.
        rng: chooses the file of the cell, and the pairs.

    Raises:
        CohortError: a file is damaged.
    """
    examples = draw_examples(cohort, 2 * len(cohort.hospitals), rng)
    label = f"{len(examples)} pairs, homologs side by side."
    return render_page(
        "contents.html.j2",
        name=cohort.root.resolve().name,
        counts=counts,
        cell=_fullest_cell(cohort, rng),
        pairs_svg=single_pairs(examples, label=label) if examples else None,
    )


def _fullest_cell(cohort: Cohort, rng: np.random.Generator) -> dict[str, Any]:
    """Returns the cell with the most pairs in one file of the cohort, as a karyogram."""
    table = cohort.read(cohort.files[rng.integers(len(cohort.files))])
    cells = table.group_by(["patient_id", "cell_id"]).aggregate([([], "count_all")])
    keys = [("count_all", "descending"), ("patient_id", "ascending"), ("cell_id", "ascending")]
    first = cells.sort_by(keys).slice(0, 1).to_pylist()[0]
    patient, name = first["patient_id"], first["cell_id"]
    pairs = pairs_by_cell(table, patient)
    chosen = pc.and_(pc.equal(table["patient_id"], patient), pc.equal(table["cell_id"], name))
    rows = table.filter(chosen)
    hospital, level = rows["hospital"][0].as_py(), rows["band_level"][0].as_py()
    num_chromosomes = sum(1 + int(pair[1].any()) for pair in pairs[name].values())
    abnormal = rows.filter(rows["abnormal"])["chromosome"].to_pylist()
    title = (
        f"Cell {name} of patient {patient}, {hospital}: {level} bands, "
        f"{num_chromosomes} chromosomes"
    )
    return {
        "title": title,
        "abnormal": abnormal,
        "svg": whole_cell(
            pairs[name],
            abnormal,
            typical_profiles=typical_profiles(pairs.values()),
            samples_per_px=cohort.scale[hospital],
            label=f"Karyogram. {title}; abnormal: {', '.join(abnormal) or 'none'}.",
        ),
    }
