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


def test_halves_disagree_where_they_differ(measured: pd.DataFrame) -> None:
    """Two people: halves are one and the other, whatever the draw."""
    first, second = measured.assign(patient_id="a"), measured.assign(patient_id="b")
    same = halves_that_disagree(pd.concat([first, second]), np.random.default_rng(1), 3)
    # One person has no spread between people, which agrees with nothing.
    assert same == {"rows": [1, 1, 1], "names": {"darkness between people, sd": 3}}
    longer = second.assign(length_0=3 * second["length_0"], length_1=3 * second["length_1"])
    found = halves_that_disagree(pd.concat([first, longer]), np.random.default_rng(1), 3)
    lengths = {name for name in found["names"] if name.startswith("length of chromosome")}
    assert len(lengths) == 6
    assert set(found["names"].values()) == {3}
    assert found["rows"] == [len(found["names"])] * 3


def test_the_same_seed_halves_alike(measured: pd.DataFrame) -> None:
    first, second = (halves_that_disagree(measured, np.random.default_rng(3), 2) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("num_splits", [1, 3])
def test_as_many_splits_as_asked(measured: pd.DataFrame, num_splits: int) -> None:
    found = halves_that_disagree(measured, np.random.default_rng(0), num_splits)
    assert len(found["rows"]) == num_splits
