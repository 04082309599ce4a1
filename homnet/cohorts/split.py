"""Patient-disjoint splits: a function of the patients of a hospital and a seed, stored nowhere.

The patients of each hospital are put in an order that depends on their ids and the seed alone, and
cut at the wanted shares. Every hospital is therefore in every split, however small it is; cutting
each patient by its own hash would leave a hospital of twenty without validation patients every
eighth time. When patients are added later, a few of the others can change sides: a checkpoint
therefore keeps the digests of the patients it learnt from, and evaluation refuses to score them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from homnet.errors import ConfigError, DataError

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"


@dataclass(frozen=True)
class SplitConfig:
    """Shares of the patients; what is neither validation nor test is for training."""

    validation: float = 0.1
    """Share of patients for early stopping and thresholds."""
    test: float = 0.1
    """Share of patients for the final figures, never used before."""
    seed: int = 0
    """Another seed puts other patients into each split."""

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise ConfigError(
                f"split shares must leave patients for training: validation {self.validation} and "
                f"test {self.test} must be 0 or more, and together below 1"
            )


def split_patients(
    patients: Mapping[str, Iterable[str]], config: SplitConfig
) -> Mapping[str, frozenset[str]]:
    """Patients of each split, hospital by hospital.

    Args:
        patients: ids by hospital, all patients of each.
        config: shares and seed.

    Raises:
        DataError: a hospital has too few patients for one in each split, or two hospitals share an
            id.
    """
    splits: dict[str, set[str]] = {TRAIN: set(), VALIDATION: set(), TEST: set()}
    for hospital, members in sorted(patients.items()):
        ordered = in_split_order(members, config.seed)
        taken = set().union(*splits.values()).intersection(ordered)
        if taken:
            raise DataError(f"patient {min(taken)} of {hospital} is in another hospital as well")
        # A share above zero is at least one patient.
        num_test = max(round(config.test * len(ordered)), int(config.test > 0))
        num_validation = max(round(config.validation * len(ordered)), int(config.validation > 0))
        if num_test + num_validation >= len(ordered):
            raise DataError(
                f"{hospital} has {len(ordered)} patients, of whom {num_test} would be for test and "
                f"{num_validation} for validation, which leaves none to learn from; give more "
                "patients or other shares"
            )
        splits[TEST].update(ordered[:num_test])
        splits[VALIDATION].update(ordered[num_test : num_test + num_validation])
        splits[TRAIN].update(ordered[num_test + num_validation :])
    return {name: frozenset(members) for name, members in splits.items()}


def in_split_order(patients: Iterable[str], seed: int) -> list[str]:
    """Patients in an order that depends on their ids and the seed alone."""
    return sorted(set(patients), key=lambda patient: _place(patient, seed))


def _place(patient: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{patient}".encode(), digest_size=8).digest()
