"""The scorecard's own noise: two halves of the same people."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from homnet.realism import measures
from homnet.realism.scorecard import halves_that_disagree
from homnet.simulator.laboratory import Laboratory


@pytest.fixture
def measured(pairs_of_laboratory: Callable[..., measures.Pairs]) -> pd.DataFrame:
    return measures.measure(pairs_of_laboratory(0, Laboratory()), np.random.default_rng(0))


def test_halves_of_alike_people_disagree_less_than_halves_of_two_kinds(
    measured: pd.DataFrame,
) -> None:
    alike = halves_that_disagree(measured, np.random.default_rng(1), 4)
    assert len(alike["rows"]) == 4
    assert sum(alike["names"].values()) == sum(alike["rows"])
    people = sorted(measured["patient_id"].unique())
    longer = measured["patient_id"].isin(people[::2])
    for name in ("length_0", "length_1"):
        measured.loc[longer, name] *= 3
    mixed = halves_that_disagree(measured, np.random.default_rng(1), 4)
    assert np.mean(mixed["rows"]) > np.mean(alike["rows"])


def test_the_same_seed_halves_alike(measured: pd.DataFrame) -> None:
    first, second = (halves_that_disagree(measured, np.random.default_rng(3), 2) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("num_splits", [1, 3])
def test_as_many_splits_as_asked(measured: pd.DataFrame, num_splits: int) -> None:
    found = halves_that_disagree(measured, np.random.default_rng(0), num_splits)
    assert len(found["rows"]) == num_splits
