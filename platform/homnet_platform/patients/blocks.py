"""Divides patients into blocks of work, and reads the pairs of a block."""

from typing import Final, NamedTuple

import pyarrow as pa

from homnet.cohorts.cohort import Cohort
from homnet.errors import DataError
from homnet_platform.data import rows_of

_PATIENTS_PER_BLOCK: Final = 20
"""About a minute of work with pages: a small loss if a worker dies."""


class PatientBlock(NamedTuple):
    """Patients of one cohort file."""

    file: int
    """Index of the file."""
    patients: tuple[str, ...]
    """Their names."""


def patient_blocks(cohort: Cohort, patients: frozenset[str] | None) -> list[PatientBlock]:
    """Divides patients, or all if they are None, into blocks that each lie in one file.

    Raises:
        DataError: there are no patients.
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
    return rows_of(cohort.read(cohort.files[block.file]), block.patients)
