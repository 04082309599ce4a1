"""Counts of a cohort's pairs, cells and patients."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import SINGLE_HOMOLOG
from homnet.karyotype.chromosomes import CHROMOSOMES

_COLUMNS = ("patient_id", "cell_id", "chromosome", "band_level", "abnormal", "kind", "quality")


def summarise_cohort(cohort: Cohort) -> dict[str, Any]:
    """Counts pairs, cells and patients of each hospital.

    Returns:
        JSON values: ``fingerprint``, ``num_pairs``, ``num_patients``, ``provenance`` and
        ``hospitals``: counts, pairs by ``band_levels``, ``kinds`` (abnormal pairs) and quality
        ``flags``, and pairs with one homolog by chromosome (``num_single_homolog``).

    Raises:
        CohortError: a file is damaged.
    """
    hospitals = {}
    for hospital in cohort.hospitals:
        table = cohort.of_hospitals([hospital]).read(columns=_COLUMNS)
        abnormal = table.filter(table["abnormal"])
        cells = table.group_by(["patient_id", "cell_id"]).aggregate([])
        flags = pc.struct_field(table["quality"], "flags")
        single = table.filter(has_flag(flags, SINGLE_HOMOLOG))
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


def has_flag(flags: pa.ChunkedArray, wanted: str) -> pa.Array:
    """Whether each row has a flag; False for rows without quality."""
    return pa.array([wanted in (row or ()) for row in flags.to_pylist()], pa.bool_())


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Occurrences by value without missing values, in order of value or chromosome."""
    counted = Counter(value for value in values.to_pylist() if value is not None)
    order = {name: i for i, name in enumerate(CHROMOSOMES)}
    keys = sorted(counted, key=lambda key: (order.get(key, -1), key))
    return {str(key): counted[key] for key in keys}


def counts_table(summary: Mapping[str, Any]) -> str:
    """Formats the counts of :func:`summarise_cohort` as text.

    The number of chromosomes is twice the number of pairs, minus one for each pair with a single
    homolog.
    """
    columns = ("people", "carriers", "cells", "pairs", "abnormal", "share", "single")
    lines = [
        "counts of pairs of homologs (one pair is two chromosomes); carriers are people with an",
        "abnormality, single are pairs with one homolog, which are not assessed",
        f"{'':14}" + "".join(f"{name:>10}" for name in columns),
    ]
    for name, one in summary["hospitals"].items():
        single = sum(one["num_single_homolog"].values())
        numbers = (
            one["num_patients"],
            one["num_abnormal_patients"],
            one["num_cells"],
            one["num_pairs"],
            one["num_abnormal_pairs"],
            f"{one['num_abnormal_pairs'] / one['num_pairs']:.1%}",
            single,
        )
        lines.append(f"{name:14}" + "".join(f"{number:>10}" for number in numbers))
        lines.append(f"{'':16}band levels: {_listed(one['band_levels'])}")
        if one["kinds"]:
            lines.append(f"{'':16}abnormal pairs: {_listed(one['kinds'])}")
        if one["flags"]:
            lines.append(f"{'':16}quality: {_listed(one['flags'])}")
    num_chromosomes = 2 * summary["num_pairs"] - sum(
        sum(one["num_single_homolog"].values()) for one in summary["hospitals"].values()
    )
    lines.append(
        f"all: {summary['num_patients']} people, {summary['num_pairs']} pairs, "
        f"{num_chromosomes} chromosomes"
    )
    return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
