"""Models and patients for the tests of load and drills."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED
from homnet.model.checkpoint import Checkpoint
from homnet_serve.records.material import Material, MaterialConfig, make_material

TableOf = Callable[..., pa.Table]


@pytest.fixture(scope="package")
def read_material() -> Material:
    """Random models whose calibrations name a random reader."""
    return make_material(MaterialConfig(num_hospitals=2, num_patients=5, num_cells=2, seed=5))


@pytest.fixture(scope="module")
def material(family: Callable[..., list[Checkpoint]], table_of: TableOf) -> Material:
    """Models without a reader."""
    tables = [
        table_of(hospital, num_patients=1, num_cells=2, chromosomes=("1", "21"), seed=seed)
        for seed, hospital in enumerate(("h1", "h2"))
    ]
    return Material(
        dict(zip(("h1", "h2"), family(2), strict=True)),
        {},
        [table.select(MEASURED.names) for table in tables],
    )
