"""Patients in blocks: everybody once, and of one file each."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.errors import DataError
from homnet_platform.patients.blocks import patient_blocks, read_block


@pytest.fixture
def cohort(tmp_path: Path, table_of: Callable[..., pa.Table]) -> Cohort:
    """One file of 23 patients and one of 2."""
    tables = [
        table_of(name, num_patients=number, num_cells=1, chromosomes=("3",))
        for name, number in (("h1", 23), ("h2", 2))
    ]
    return write_cohort(
        tmp_path / "cohort",
        tables,
        scale=dict.fromkeys(("h1", "h2", "h3", "healthy"), 3.0),
        provenance={},
    )


def test_everybody_is_in_one_block_of_at_most_twenty_people_of_one_file(cohort: Cohort) -> None:
    blocks = patient_blocks(cohort, None)
    assert [(block.file, len(block.patients)) for block in blocks] == [(0, 20), (0, 3), (1, 2)]
    found = [name for block in blocks for name in block.patients]
    assert sorted(found) == sorted({f"h1-p{n}" for n in range(23)} | {"h2-p0", "h2-p1"})


def test_a_block_holds_the_rows_of_its_wanted_patients_alone(cohort: Cohort) -> None:
    (block,) = patient_blocks(cohort, frozenset({"h1-p7", "h1-p21"}))
    assert set(read_block(cohort, block)["patient_id"].to_pylist()) == {"h1-p7", "h1-p21"}


def test_nobody_to_look_at_is_refused(cohort: Cohort) -> None:
    with pytest.raises(DataError, match="nobody to look at"):
        patient_blocks(cohort, frozenset({"h3-p0"}))
