"""Patients in blocks: who is looked at together, and how a worker gets their pairs and model."""

from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from homnet.cohorts.cohort import Cohort
from homnet.errors import DataError

_PATIENTS_PER_BLOCK: Final = 20
"""A minute of work with pages: little enough to lose when a worker dies."""


class PatientBlock(NamedTuple):
    """Some patients of one file of a cohort."""

    file: int
    """Number of the file."""
    patients: tuple[str, ...]
    """Their names."""


def patient_blocks(cohort: Cohort, patients: frozenset[str] | None) -> list[PatientBlock]:
    """Runs of patients of one file each.

    Args:
        cohort: where they are.
        patients: whom to look at; everybody for None.

    Raises:
        DataError: there is nobody.
    """
    found = []
    for number, entry in enumerate(cohort.files):
        own = [name for name in entry.patients if patients is None or name in patients]
        found += [
            PatientBlock(number, tuple(own[start : start + _PATIENTS_PER_BLOCK]))
            for start in range(0, len(own), _PATIENTS_PER_BLOCK)
        ]
    if not found:
        raise DataError(f"{cohort.root}: nobody to look at; choose other hospitals or patients")
    return found


def read_block(cohort: Cohort, block: PatientBlock) -> pa.Table:
    """All rows of the patients of a block.

    Raises:
        CohortError: the file is damaged.
    """
    table = cohort.read(cohort.files[block.file])
    return table.filter(pc.is_in(table["patient_id"], pa.array(block.patients)))
