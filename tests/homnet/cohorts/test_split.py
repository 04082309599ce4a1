"""Splits are by patient, the same everywhere, in every hospital, and never empty without a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homnet.cohorts.split import TEST, TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError

ids = st.sets(st.text(min_size=1), min_size=5, max_size=60)


@given(ids, st.integers(0, 5))
def test_every_patient_is_in_exactly_one_split(patients: set[str], seed: int) -> None:
    splits = split_patients({"h": patients}, SplitConfig(validation=0.3, test=0.3, seed=seed))
    assert sorted(p for members in splits.values() for p in members) == sorted(patients)
    assert all(splits.values())


@given(ids, st.randoms())
def test_the_order_of_patients_does_not_matter(patients: set[str], random: object) -> None:
    shuffled = sorted(patients)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    config = SplitConfig()
    assert split_patients({"h": shuffled}, config) == split_patients({"h": patients}, config)


def test_one_hospital_does_not_change_the_splits_of_another() -> None:
    a, b = [f"a{i}" for i in range(21)], [f"b{i}" for i in range(30)]
    config = SplitConfig(validation=0.1, test=0.8)
    alone, together = split_patients({"a": a}, config), split_patients({"a": a, "b": b}, config)
    for name, (of_a, of_b) in {TRAIN: (2, 3), VALIDATION: (2, 3), TEST: (17, 24)}.items():
        assert alone[name] == together[name] & set(a)
        assert (len(alone[name]), len(together[name] & set(b))) == (of_a, of_b)


def test_seeds_differ() -> None:
    patients = {"h": [f"p{i}" for i in range(100)]}
    one, two = (split_patients(patients, SplitConfig(seed=s))[TEST] for s in (0, 1))
    assert one != two


def test_a_hospital_that_is_too_small_is_named() -> None:
    with pytest.raises(DataError, match="tiny has 2 patients"):
        split_patients({"tiny": ["a", "b"], "big": map(str, range(50))}, SplitConfig())


def test_one_person_in_two_hospitals_is_refused() -> None:
    shared = {"h1": ["x", *map(str, range(9))], "h2": ["x", "u", "v", "w"]}
    with pytest.raises(DataError, match="patient x of h2 is in another hospital"):
        split_patients(shared, SplitConfig())


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="must leave patients for training"):
        SplitConfig(validation=0.5, test=0.5)
    with pytest.raises(ConfigError, match="test nan must be 0 or more"):
        SplitConfig(test=float("nan"))
