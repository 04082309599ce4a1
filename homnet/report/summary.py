"""What a cohort holds, counted, and a few of its pairs to look at."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from homnet.chromosomes import CHROMOSOMES
from homnet.cohort import Cohort
from homnet.pairs import SINGLE_HOMOLOG, pairs_of
from homnet.report.figures import Example

_COLUMNS = ("patient_id", "cell_id", "chromosome", "band_level", "abnormal", "kind", "quality")


def summarise_cohort(cohort: Cohort) -> dict[str, Any]:
    """Counts pairs, cells and patients of a cohort, hospital by hospital.

    Returns:
        JSON-able: ``fingerprint``, ``num_pairs``, ``num_patients``, ``provenance`` and
        ``hospitals``: counts, pairs by ``band_levels``, by ``kinds`` (abnormal ones) and by quality
        ``flags``, and those with one homolog, ``num_single_homolog``, by chromosome.

    Raises:
        CohortError: a file is damaged.
    """
    hospitals = {}
    for hospital in cohort.hospitals:
        table = cohort.of_hospitals([hospital]).read(columns=_COLUMNS)
        abnormal = table.filter(table["abnormal"])
        cells = table.group_by(["patient_id", "cell_id"]).aggregate([])
        flags = pc.struct_field(table["quality"], "flags")
        single = table.filter(_has_flag(flags, SINGLE_HOMOLOG))
        hospitals[hospital] = {
            "num_patients": pc.count_distinct(table["patient_id"]).as_py(),
            "num_abnormal_patients": pc.count_distinct(abnormal["patient_id"]).as_py(),
            "num_cells": cells.num_rows,
            "num_pairs": table.num_rows,
            "num_abnormal_pairs": abnormal.num_rows,
            "num_single_homolog": _counts(single["chromosome"]),
            "band_levels": _counts(table["band_level"]),
            "kinds": _counts(abnormal["kind"]),
            "flags": _counts(pc.list_flatten(flags)),
        }
    return {
        "fingerprint": cohort.fingerprint,
        "num_pairs": cohort.num_pairs,
        "num_patients": cohort.num_patients,
        "hospitals": hospitals,
        "provenance": dict(cohort.provenance),
    }


def draw_examples(cohort: Cohort, num_examples: int, rng: np.random.Generator) -> list[Example]:
    """Draws pairs to look at: one normal and one abnormal pair per hospital in turn.

    Args:
        cohort: where to draw; one file per hospital is read.
        num_examples: pairs to return, fewer if the hospitals run out of them.
        rng: source of the draws.
    """
    found: list[Example] = []
    tables = []
    for hospital in cohort.hospitals:
        files = cohort.of_hospitals([hospital]).files
        table = cohort.read(files[rng.integers(len(files))])
        whole = pc.invert(_has_flag(pc.struct_field(table["quality"], "flags"), SINGLE_HOMOLOG))
        table = table.filter(whole)
        labels = table["abnormal"].to_numpy()
        tables.append(
            (table, [rng.permutation(np.flatnonzero(labels == b)) for b in (False, True)])
        )
    for turn in range(num_examples):
        for table, orders in tables:
            rows = [order[turn] for order in orders if turn < len(order)]
            found += [_example(table.slice(int(row), 1)) for row in rows]
        if len(found) >= num_examples:
            break
    found = found[:num_examples]
    return sorted(found, key=lambda one: (one.hospital, CHROMOSOMES.index(one.chromosome)))


def _example(row: pa.Table) -> Example:
    values = row.drop_columns(["pair"]).to_pylist()[0]
    names = ("hospital", "chromosome", "band_level", "kind", "homolog", "start", "stop")
    return Example(pair=pairs_of(row)[0], **{name: values[name] for name in names})


def _has_flag(flags: pa.ChunkedArray, wanted: str) -> pa.Array:
    """Whether each row has a flag; rows without any quality have none."""
    return pa.array([wanted in (row or ()) for row in flags.to_pylist()], pa.bool_())


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Occurrences by value, missing values left out, in order of value or of the chromosomes."""
    counted = Counter(value for value in values.to_pylist() if value is not None)
    order = {name: i for i, name in enumerate(CHROMOSOMES)}
    keys = sorted(counted, key=lambda key: (order.get(key, -1), key))
    return {str(key): counted[key] for key in keys}
