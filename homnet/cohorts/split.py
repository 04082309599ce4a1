"""Patient-disjoint splits, computed from patient ids and a seed and never stored.

The patients of each hospital are sorted by a hash of id and seed, and cut at the given shares. So
every hospital is in every split, however small it is; assigning each patient by its own hash would
leave one in eight hospitals of twenty without validation patients. Adding patients can move a few
others to another split. A checkpoint therefore keeps digests of the patients it was trained on, and
evaluation refuses to score them.
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
    """Shares of the patients; the rest is for training."""

    validation: float = 0.1
    """Share of patients for early stopping and thresholds."""
    test: float = 0.1
    """Share of patients for the final figures."""
    seed: int = 0
    """Seed of the assignment."""

    def __post_init__(self) -> None:
        if not (min(self.validation, self.test) >= 0 and self.validation + self.test < 1):  # NaN
            raise ConfigError(
                f"split shares must leave patients for training: validation {self.validation} and "
                f"test {self.test} must be 0 or more, and together below 1"
            )


def split_patients(
    patients: Mapping[str, Iterable[str]], config: SplitConfig
) -> Mapping[str, frozenset[str]]:
    """Patients of each split, hospital by hospital.

    Args:
        patients: ids of all patients, by hospital.
        config: shares and seed.

    Raises:
        DataError: a hospital has no patient left for training, or two hospitals share an id.
    """
    splits: dict[str, set[str]] = {TRAIN: set(), VALIDATION: set(), TEST: set()}
    for hospital, members in sorted(patients.items()):
        ordered = in_split_order(members, config.seed)
        taken = set().union(*splits.values()).intersection(ordered)
        if taken:
            raise DataError(f"patient {min(taken)} of {hospital} is in another hospital too")
        # A share above zero gives at least one patient.
        num_test = max(round(config.test * len(ordered)), int(config.test > 0))
        num_validation = max(round(config.validation * len(ordered)), int(config.validation > 0))
        if num_test + num_validation >= len(ordered):
            raise DataError(
                f"{hospital} has {len(ordered)} patients; {num_test} for test and "
                f"{num_validation} for validation leave none for training; give more "
                "patients or other shares"
            )
        splits[TEST].update(ordered[:num_test])
        splits[VALIDATION].update(ordered[num_test : num_test + num_validation])
        splits[TRAIN].update(ordered[num_test + num_validation :])
    return {name: frozenset(members) for name, members in splits.items()}


def in_split_order(patients: Iterable[str], seed: int) -> list[str]:
    """Patients in an order that depends only on their ids and the seed."""
    return sorted(set(patients), key=lambda patient: _place(patient, seed))


def _place(patient: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{patient}".encode(), digest_size=8).digest()
