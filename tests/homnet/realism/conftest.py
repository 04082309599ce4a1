"""Normal pairs of a few simulated people, made once."""

from collections.abc import Callable
from functools import cache

import pyarrow as pa
import pytest

from homnet.realism.measures import Pairs
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, Laboratory


@cache
def simulated_pairs(
    seed: int, laboratory: Laboratory, num_people: int = 24, *, with_single: bool = False
) -> Pairs:
    hospital = HospitalConfig("h", laboratory, abnormal_fraction=0.0)
    table = pa.concat_tables(
        simulate_person(seed, hospital, number, 1.0) for number in range(num_people)
    )
    return Pairs.from_table(table, laboratory.samples_per_px, with_single=with_single)


@pytest.fixture(scope="session")
def pairs_of_laboratory() -> Callable[..., Pairs]:
    """Pairs by seed and laboratory."""
    return simulated_pairs
