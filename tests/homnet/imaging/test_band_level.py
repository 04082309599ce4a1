"""Band levels of simulated cells are estimated rightly, whatever the scale and the hospital."""

from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import pairs_of
from homnet.imaging.band_level import (
    LevelEstimator,
    level_features,
    levels_apart,
    shipped_estimator,
)
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOME_INDEX, CHROMOSOMES
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import hospitals


@pytest.fixture(scope="module")
def cells():
    """Sequences, types and cells of the four hospitals' chromosomes, and the cells' levels."""
    table = pa.concat_tables(
        [simulate_person(31, one, number, 9.0) for one in hospitals() for number in range(2)]
    )
    frame = table.select(["patient_id", "cell_id", "chromosome", "band_level"]).to_pandas()
    cell_N = frame.groupby(["patient_id", "cell_id"]).ngroup().to_numpy(np.int64)
    level_G = np.zeros(cell_N.max() + 1, np.int64)
    level_G[cell_N] = frame["band_level"]
    pair_NPCL = pairs_of(table)
    there_NP = pair_NPCL.any(axis=(2, 3))
    row_N = np.nonzero(there_NP)[0]
    type_N = frame["chromosome"].map(CHROMOSOME_INDEX).to_numpy(np.int64)
    return pair_NPCL[there_NP], type_N[row_N], cell_N[row_N], level_G


def steps(one_G: np.ndarray, other_G: np.ndarray) -> np.ndarray:
    return np.array([levels_apart(*both) for both in zip(one_G, other_G, strict=True)])


def test_most_levels_are_exact_and_hardly_any_is_two_away(cells) -> None:
    sequence_NCL, type_N, cell_N, level_G = cells
    assert set(level_G.tolist()) == set(BAND_LEVELS)
    apart_G = steps(shipped_estimator().estimate(sequence_NCL, type_N, cell_N), level_G)
    assert (apart_G == 0).mean() > 0.75
    assert (apart_G <= 1).mean() > 0.97


def test_half_the_scale_or_half_the_chromosomes_change_little(cells) -> None:
    sequence_NCL, type_N, cell_N, _ = cells
    whole_G = shipped_estimator().estimate(sequence_NCL, type_N, cell_N)
    small_NCL = np.zeros_like(sequence_NCL)
    small_NCL[..., :256] = sequence_NCL[..., ::2]
    small_G = shipped_estimator().estimate(small_NCL, type_N, cell_N)
    half_G = shipped_estimator().estimate(sequence_NCL[::2], type_N[::2], cell_N[::2])
    for other_G in (small_G, half_G):
        assert (other_G == whole_G).mean() > 0.8
        assert steps(other_G, whole_G).max() == 1


def test_one_chromosome_says_less_than_a_cell_but_something(cells) -> None:
    sequence_NCL, type_N, cell_N, level_G = cells
    alone_N = shipped_estimator().estimate(sequence_NCL, type_N, np.arange(len(type_N)))
    apart_N = steps(alone_N, level_G[cell_N])
    assert 0.4 < (apart_N == 0).mean() < 0.75
    assert (apart_N <= 1).mean() > 0.8


def test_it_learns_its_borders_and_survives_its_file() -> None:
    """Four shapes with noise, one per level, of every type."""
    rng = np.random.default_rng(0)
    num, size = 40, len(CHROMOSOMES)
    level_G = np.arange(num) % len(BAND_LEVELS)
    at_L = np.arange(200) / 200
    wave_GL = 120 + 50 * np.sin(np.pi * at_L * (6 + 6 * level_G[:, None]))
    sequence_NCL = np.zeros((num * size, 2, 512), np.uint8)
    noisy = np.repeat(wave_GL, size, axis=0)[:, None] + rng.normal(0, 40, (num * size, 2, 200))
    sequence_NCL[..., :200] = np.clip(noisy, 1, 255)
    cell_N, type_N = np.repeat(np.arange(num), size), np.tile(np.arange(size), num)
    features_NF = level_features(sequence_NCL)
    found = LevelEstimator.fit(features_NF, type_N, level_G[cell_N], cell_N)
    assert (np.diff(found.borders) > 0).all()
    with np.load(BytesIO(found.to_bytes())) as arrays:
        again = LevelEstimator.of(arrays)
    level = again.estimate(sequence_NCL, type_N, cell_N)
    assert level.tolist() == [BAND_LEVELS[at] for at in level_G]


@pytest.mark.parametrize(("one", "other", "apart"), [(300, 300, 0), (550, 400, 1), (300, 700, 3)])
def test_levels_apart(one: int, other: int, apart: int) -> None:
    assert levels_apart(one, other) == levels_apart(other, one) == apart
