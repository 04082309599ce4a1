import dataclasses

import numpy as np
import pytest

from homnet.cohorts.pairs import pair_table
from homnet.errors import DataError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.measures import Pairs
from homnet.realism.type_classifier import Chromosomes, classify
from homnet.simulator.laboratory import hospitals


@pytest.fixture(scope="module")
def two_sets(pairs_of_laboratory):
    best = hospitals()[3].laboratory
    return [
        Chromosomes.of_pairs(pairs_of_laboratory(seed, best, 60, with_single=True))
        for seed in (1, 2)
    ]


def test_types_of_other_people_are_named(two_sets):
    found = classify(*two_sets, num_bootstrap=60, seed=0)
    assert found["accuracy"]["value"] > 0.9
    assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]
    assert set(found["recall"]) == set(CHROMOSOMES)
    assert found["recall"]["1"] > 0.95
    taught, judged = two_sets
    weights = [(judged.type_N == CHROMOSOMES.index(name)).sum() for name in found["recall"]]
    overall = np.average([*found["recall"].values()], weights=weights)
    assert overall == pytest.approx(found["accuracy"]["value"])
    assert found["num_chromosomes"] == [len(taught.type_N), len(judged.type_N)]


def test_wrong_types_teach_nothing(two_sets):
    taught, judged = two_sets
    shuffled = np.random.default_rng(0).permutation(taught.type_N)
    found = classify(dataclasses.replace(taught, type_N=shuffled), judged, num_bootstrap=60, seed=0)
    assert found["accuracy"]["value"] < 0.15


def test_length_is_relative_to_the_cell():
    pairs = Pairs.from_table(_cell(lengths=(200, 100)), 3.0, with_single=True)
    chromosomes = Chromosomes.of_pairs(pairs)
    # The mean of 200, 200, 100 (whose partner is missing) is 166.7.
    expected = 3 * np.log(np.array([200, 200, 100]) / (500 / 3))
    np.testing.assert_allclose(chromosomes.features_NF[:, -1], expected, rtol=1e-5)
    assert chromosomes.type_N.tolist() == [0, 0, 7]


def _cell(lengths):
    pair = np.zeros((2, 2, 2, 512), np.uint8)
    pair[0, :, :, : lengths[0]] = np.arange(lengths[0]) + 20
    pair[1, 0, :, : lengths[1]] = np.arange(lengths[1]) + 20
    return pair_table(
        hospital=["h", "h"],
        patient_id=["p", "p"],
        cell_id=["c", "c"],
        chromosome=["1", "8"],
        band_level=[550, 550],
        pair=pair,
        abnormal=[False, False],
        quality=[{"straightness": 1.0, "width_variation": 0.1, "flags": []}] * 2,
    )


def test_who_taught_is_not_judged(two_sets):
    with pytest.raises(DataError, match="would be learnt from and judged"):
        classify(two_sets[0], two_sets[0], num_bootstrap=0, seed=0)
