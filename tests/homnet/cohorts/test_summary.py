from pathlib import Path

import numpy as np
import pytest

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.pairs import SINGLE_HOMOLOG, pair_table
from homnet.cohorts.summary import counts_table, summarise_cohort


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Two hospitals, 2 and 1 patients, 3 cells each, chromosomes 4 and X; one X is single."""
    rng = np.random.default_rng(0)
    tables = []
    for hospital, num_patients in (("north", 2), ("south", 1)):
        for patient in range(num_patients):
            rows = [(chromosome, cell) for chromosome in ("4", "X") for cell in range(3)]
            pair = np.zeros((6, 2, 2, 512), np.uint8)
            pair[..., :80] = rng.integers(1, 200, (6, 2, 2, 80))
            single = [hospital == "south" and name == "X" for name, _ in rows]
            pair[single, 1] = 0
            abnormal = [patient == 1 and name == "4" for name, _ in rows]
            tables.append(
                pair_table(
                    hospital=[hospital] * 6,
                    patient_id=[f"{hospital}-{patient}"] * 6,
                    cell_id=[f"c{cell}" for _, cell in rows],
                    chromosome=[name for name, _ in rows],
                    band_level=[400, 400, 550] * 2,
                    pair=pair,
                    abnormal=abnormal,
                    kind=["deletion" if one else None for one in abnormal],
                    homolog=[1 if one else None for one in abnormal],
                    start=[10 if one else None for one in abnormal],
                    stop=[30 if one else None for one in abnormal],
                    quality=[
                        {
                            "straightness": 0.9,
                            "width_variation": 0.1,
                            "flags": [SINGLE_HOMOLOG, "bent"] if one else [],
                        }
                        if i != 1
                        else None
                        for i, one in enumerate(single)
                    ],
                )
            )
    scale = {"north": 1.0, "south": 1.2}
    return write_cohort(tmp_path / "cohort", tables, scale=scale, provenance={"job": "test"})


def test_summary_counts_pairs_cells_and_people(cohort: Cohort) -> None:
    summary = summarise_cohort(cohort)
    assert summary["fingerprint"] == cohort.fingerprint
    assert (summary["num_pairs"], summary["num_patients"]) == (18, 3)
    assert summary["provenance"] == {"job": "test"}
    north, south = summary["hospitals"]["north"], summary["hospitals"]["south"]
    assert north == {
        "num_patients": 2,
        "num_abnormal_patients": 1,
        "num_cells": 6,
        "num_pairs": 12,
        "num_abnormal_pairs": 3,
        "num_single_homolog": {},
        "band_levels": {"400": 8, "550": 4},
        "kinds": {"deletion": 3},
        "flags": {},
    }
    assert south["num_single_homolog"] == {"X": 3}
    assert south["flags"] == {SINGLE_HOMOLOG: 3, "bent": 3}
    assert south["num_abnormal_patients"] == 0


def test_the_table_counts_pairs_and_says_so(cohort: Cohort) -> None:
    text = counts_table(summarise_cohort(cohort))
    assert "one pair is two chromosomes" in text
    assert "all: 3 people, 18 pairs, 33 chromosomes" in text  # three X have no partner
    row = next(line for line in text.splitlines() if line.startswith("north"))
    assert row.split() == ["north", "2", "1", "6", "12", "3", "25.0%", "0"]
