"""Measurements of pairs that were made for it."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from homnet.errors import DataError
from homnet.realism.measures import (
    WAVELENGTHS_PX,
    Pairs,
    aligned,
    correlation,
    measure,
    residual_sd,
)

TableOf = Callable[..., pa.Table]


def waves(shift: float = 0.0) -> np.ndarray:
    """Two profiles of 100 points, the second twice as fast."""
    u_U = (np.arange(100) + 0.5) / 100 + shift
    return np.sin(np.array([[20.0], [40.0]]) * u_U).astype(np.float32)


def test_a_chromosome_that_is_a_little_shorter_fits_when_its_ends_are_moved() -> None:
    first, second = waves(), waves(0.04)
    np.testing.assert_allclose(correlation(first, first), 1.0, atol=1e-5)
    assert (correlation(first, second) < 0.8).all()
    best, moved = aligned(first, second)
    assert (best > 0.98).all()
    assert (correlation(first, moved) > 0.98).all()


def test_sequences_are_read_at_shares_of_their_length_and_at_their_ends(
    table_of: TableOf,
) -> None:
    pairs = Pairs.from_table(table_of(num_patients=1, num_cells=1, chromosomes=("5",)), 3.0)
    length = int(pairs.num_samples_NP[0, 0])
    middles = (np.arange(length) + 0.5) / length
    read = pairs.sampled(np.broadcast_to(middles, (1, 2, length)))
    np.testing.assert_allclose(read[0, 0], pairs.pair_NPCL[0, 0, :, :length], atol=0.02)
    ends = pairs.at_ends(2.0)
    assert ends[0, 0, 0].tolist() == [
        pairs.pair_NPCL[0, 0, 0, 6],
        pairs.pair_NPCL[0, 0, 0, length - 7],
    ]


def test_the_difference_of_the_chromatids_is_told_by_its_wavelength(table_of: TableOf) -> None:
    table = table_of(num_patients=1, num_cells=1, chromosomes=("1",))
    pairs = Pairs.from_table(table, 1.0)
    for band, wavelength_px in enumerate((20.0, 11.0, 5.0, 3.0)):
        pair = np.zeros((1, 2, 2, 512), np.uint8)
        pair[..., :200] = 100
        pair[:, :, 0, :200] += (
            np.rint(20 * np.sin(2 * np.pi * np.arange(200) / wavelength_px))
            .astype(np.int8)
            .view(np.uint8)
        )
        found = residual_sd(Pairs(pairs.frame, pair, 1.0))[0, 0]
        assert len(found) == len(WAVELENGTHS_PX)
        assert int(found.argmax()) == band
        assert found[band] == pytest.approx(20 / np.sqrt(2), rel=0.15)


def test_pairs_are_compared_with_other_people_and_other_types(table_of: TableOf) -> None:
    table = table_of(num_patients=4, num_cells=2, chromosomes=("4", "5", "21"))
    measured = measure(Pairs.from_table(table, 3.0), np.random.default_rng(0))
    assert (measured["other_person_correlation"] > 0.8).all()
    # The only type of its group in these cells has nothing to be compared with.
    alone = measured["chromosome"] == 20
    assert measured.loc[alone, "other_type_correlation"].isna().all()
    others = measured.loc[~alone, ["other_person_correlation", "other_type_correlation"]].mean()
    assert others["other_type_correlation"] < others["other_person_correlation"] - 0.02
    # One person with more than half of the pairs meets herself.
    one = measure(Pairs.from_table(table.slice(0, 5), 3.0), np.random.default_rng(0))
    assert 0 < one["other_person_correlation"].isna().sum() <= 5


def test_abnormal_and_single_pairs_are_left_out(table_of: TableOf) -> None:
    table = table_of(num_patients=1, num_cells=2, chromosomes=("5",), abnormal="5")
    with pytest.raises(DataError, match="no normal pair"):
        Pairs.from_table(table, 3.0)
