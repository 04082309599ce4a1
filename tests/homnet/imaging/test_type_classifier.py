"""The classifier names simulated types, either way up, and says when it does not know."""

import numpy as np
import pytest

from homnet.cohorts.pairs import pairs_of
from homnet.imaging.orientation import turn
from homnet.imaging.type_classifier import TypeClassifier, features, shipped_classifier
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, Laboratory


@pytest.fixture(scope="module")
def cells():
    """Sequences, relative lengths and types of two people's chromosomes."""
    hospital = HospitalConfig("h", Laboratory(), abnormal_fraction=0.0)
    sequences, lengths, types = [], [], []
    for number in range(2):
        table = simulate_person(21, hospital, number, 1.0)
        pair_NPCL = pairs_of(table)
        for row, (name, cell) in enumerate(
            zip(table["chromosome"].to_pylist(), table["cell_id"].to_pylist(), strict=True)
        ):
            if cell == table["cell_id"][0].as_py():
                for one in pair_NPCL[row][pair_NPCL[row, :, 0, 0] > 0]:
                    sequences.append(one)
                    lengths.append(np.count_nonzero(one[0]))
                    types.append(CHROMOSOMES.index(name))
    return np.stack(sequences), np.array(lengths) / np.mean(lengths), np.array(types)


def test_simulated_types_are_named_either_way_up(cells):
    sequence_NCL, length_N, type_N = cells
    for one_NCL, least in ((sequence_NCL, 0.7), (turn(sequence_NCL), 0.3)):
        log_NT = shipped_classifier().log_probabilities(one_NCL, length_N)
        np.testing.assert_allclose(np.exp(log_NT).sum(axis=1), 1.0)
        assert (log_NT.argmax(axis=1) == type_N).mean() > least
        # Even where it is wrong it leaves the truth some probability.
        assert log_NT[np.arange(len(type_N)), type_N].min() > np.log(0.03 / 24) - 1e-9


def test_features_do_not_depend_on_stain():
    profile = np.random.default_rng(0).random((3, 100))
    np.testing.assert_allclose(
        features(profile, np.ones(3)), features(50 + 90 * profile, np.ones(3)), atol=1e-9
    )
    assert features(profile, np.array([1.0, 2.0, 0.5]))[:, -1] == pytest.approx(
        3 * np.log([1.0, 2.0, 0.5])
    )


def test_a_type_that_was_not_learnt_is_never_named():
    draw = np.random.default_rng(0)
    for types in ([3, 7], [3, 7, 9]):
        features_NF = draw.normal(size=(300, 5))
        type_N = draw.choice(types, 300)
        features_NF[:, 0] += 4 * type_N
        classifier = TypeClassifier.fit(features_NF, type_N)
        named = classifier.logits(features_NF).argmax(axis=1)
        assert (named == type_N).mean() > 0.95
        assert set(named) <= set(types)


def test_the_file_keeps_the_classifier(tmp_path):
    path = tmp_path / "types.npz"
    path.write_bytes(shipped_classifier().to_bytes())
    with np.load(path) as arrays:
        again = TypeClassifier.of(arrays)
    np.testing.assert_array_equal(again.weight_TF, shipped_classifier().weight_TF)
    np.testing.assert_array_equal(again.bias_T, shipped_classifier().bias_T)
