"""Chromosomes that lie upside down are found; turning one turns the answer."""

import numpy as np
import pytest
from numpy.typing import NDArray

from homnet.imaging.orientation import Orientation, turn
from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import CHROMOSOMES

CLEAR = [CHROMOSOMES.index(name) for name in ("1", "9", "12", "13", "18", "X", "Y")]


def drawn(chromosome: int, num: int, seed: int = 0) -> NDArray[np.uint8]:
    """Chromosomes (N, 2, 512) with the bands of the ideogram and noise, of different lengths."""
    rng = np.random.default_rng(seed)
    bands = band_table(550)[CHROMOSOMES[chromosome]]
    sequence_NCL = np.zeros((num, 2, 512), np.uint8)
    for one_CL in sequence_NCL:
        length = int(rng.integers(150, 260))
        place_L = (np.arange(length) + 0.5) / length * bands.length_iscn
        dark_L = np.array([bands.at(place).darkness for place in place_L])
        noisy_CL = 60 + 120 * dark_L + rng.normal(0, 15, (2, length))
        one_CL[:, :length] = np.clip(noisy_CL, 1, 255)
    return sequence_NCL


def oriented(sequence_NCL: NDArray[np.uint8], chromosome: int) -> Orientation:
    num = len(sequence_NCL)
    return Orientation.of(sequence_NCL, np.full(num, chromosome), np.zeros(num, np.int64))


def test_turning_reverses_within_the_length_and_swaps_the_chromatids() -> None:
    sequence_NCL = drawn(0, 3)
    turned_NCL = turn(sequence_NCL)
    for one_CL, turned_CL in zip(sequence_NCL, turned_NCL, strict=True):
        length = int(one_CL.any(axis=0).sum())
        np.testing.assert_array_equal(turned_CL[:, :length], one_CL[::-1, length - 1 :: -1])
        assert not turned_CL[:, length:].any()
    np.testing.assert_array_equal(turn(turned_NCL), sequence_NCL)
    full_NCL = np.random.default_rng(0).integers(1, 256, (1, 2, 512), dtype=np.uint8)
    np.testing.assert_array_equal(turn(full_NCL), full_NCL[:, ::-1, ::-1])


@pytest.mark.parametrize("chromosome", CLEAR)
@pytest.mark.parametrize("which", [[], [3], [2, 3], [0, 2, 4, 6, 8]])
def test_those_upside_down_are_found_and_turned_ones_stay(
    chromosome: int, which: list[int]
) -> None:
    """One, a pair, one homolog of every cell: of five cells."""
    sequence_NCL = drawn(chromosome, 10)
    sequence_NCL[which] = turn(sequence_NCL[which])
    found = oriented(sequence_NCL, chromosome)
    assert np.flatnonzero(found.upside_down_N).tolist() == which
    assert not found.uncertain_N.any()
    sequence_NCL[which] = turn(sequence_NCL[which])
    assert not oriented(sequence_NCL, chromosome).upside_down_N.any()


def test_turning_one_negates_its_score() -> None:
    sequence_NCL = drawn(8, 6)
    before = oriented(sequence_NCL, 8).score_N
    sequence_NCL[2:3] = turn(sequence_NCL[2:3])
    after = oriented(sequence_NCL, 8).score_N
    np.testing.assert_allclose(after[2], -before[2], atol=1e-6)
    np.testing.assert_allclose(np.delete(after, 2), np.delete(before, 2), atol=1e-6)


def test_what_looks_the_same_both_ways_is_uncertain() -> None:
    sequence_NCL = drawn(8, 6)
    sequence_NCL[1] = 0
    sequence_NCL[1, :, :200] = 100
    found = oriented(sequence_NCL, 8)
    assert np.flatnonzero(found.uncertain_N).tolist() == [1]
    assert not found.upside_down_N.any()


def test_an_inverted_homolog_is_not_turned() -> None:
    """A pericentric inversion makes one homolog of every cell different."""
    sequence_NCL = drawn(8, 10)
    for one_CL in sequence_NCL[::2]:
        length = int(one_CL.any(axis=0).sum())
        low, high = int(0.2 * length), int(0.5 * length)
        one_CL[:, low:high] = one_CL[::-1, low:high][:, ::-1]
    assert not oriented(sequence_NCL, 8).upside_down_N.any()


def test_groups_are_compared_apart_and_in_any_order() -> None:
    parts = [drawn(chromosome, 4, seed=chromosome) for chromosome in (0, 8, 22)]
    parts[1][2:3] = turn(parts[1][2:3])
    together = np.concatenate(parts)
    type_N, group_N = np.repeat([0, 8, 22], 4), np.repeat([7, 1, 4], 4)
    order = np.random.default_rng(0).permutation(12)
    found = Orientation.of(together[order], type_N[order], group_N[order])
    alone = np.concatenate(
        [oriented(part, name).score_N for part, name in zip(parts, (0, 8, 22), strict=True)]
    )
    np.testing.assert_allclose(found.score_N, alone[order], atol=1e-6)
    assert np.flatnonzero(alone < 0).tolist() == [6]
    empty = Orientation.of(together[:0], type_N[:0], group_N[:0])
    assert not len(empty.score_N)


def on_karyogram(sequence_NCL: NDArray[np.uint8], chromosome: int) -> Orientation:
    num = len(sequence_NCL)
    groups = np.full(num, chromosome), np.zeros(num, np.int64)
    return Orientation.of(sequence_NCL, *groups, on_karyogram=True)


@pytest.mark.parametrize("chromosome", CLEAR)
def test_on_a_karyogram_most_of_a_type_stand_upright(chromosome: int) -> None:
    """Whatever the ideogram says; one that lies otherwise is found."""
    sequence_NCL = drawn(chromosome, 10)
    sequence_NCL[3:4] = turn(sequence_NCL[3:4])
    found = on_karyogram(sequence_NCL, chromosome)
    assert np.flatnonzero(found.upside_down_N).tolist() == [3]
    against_NCL = turn(sequence_NCL)
    assert oriented(against_NCL, chromosome).upside_down_N.sum() == 9
    assert on_karyogram(against_NCL, chromosome).upside_down_N.sum() <= 1


def test_a_chromosome_of_a_karyogram_needs_a_stronger_reason() -> None:
    score_N = np.array([-0.2, -0.1, -0.05, 0.05, 0.2])
    alone, placed = Orientation(score_N), Orientation(score_N, on_karyogram=True)
    assert alone.upside_down_N.tolist() == [True, True, False, False, False]
    assert alone.uncertain_N.tolist() == [False, False, True, True, False]
    assert placed.upside_down_N.tolist() == [True, False, False, False, False]
    assert placed.uncertain_N.tolist() == [False, True, False, False, False]
