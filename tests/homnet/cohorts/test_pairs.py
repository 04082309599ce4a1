"""Rows of pairs: the bytes of a column are the pixels of its pairs."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import pair_table, pairs_of
from homnet.errors import CohortError


def test_pairs_of_a_slice_are_those_of_the_slice(table_of: Callable[..., pa.Table]) -> None:
    table = table_of(num_patients=1)
    np.testing.assert_array_equal(pairs_of(table.slice(7, 3)), pairs_of(table)[7:10])


def test_pairs_of_another_shape_are_refused() -> None:
    with pytest.raises(CohortError, match=r"uint8 of shape \(1, 2, 2, 512\), got float64"):
        pair_table(
            hospital=["h"],
            patient_id=["p"],
            cell_id=["c"],
            chromosome=["1"],
            band_level=[550],
            pair=np.zeros((1, 2, 2, 512)),
            abnormal=[False],  # type: ignore[arg-type]
        )
