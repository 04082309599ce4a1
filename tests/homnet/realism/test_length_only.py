import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from homnet.errors import DataError
from homnet.realism.length_only import (
    expected_recall,
    length_bags,
    length_change,
    length_only,
    length_table,
)

SD = 0.08


def made_up(change, *, num_people=40, num_cells=50, size_mb=60.0, seed=0):
    """Deletions of chromosome 8 in every second person, with normal deviations."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(num_people), num_cells)
    abnormal = person % 2 == 0
    side = rng.choice([-1, 1], len(person))
    return pd.DataFrame(
        {
            "hospital": "h",
            "patient_id": [f"p{number}" for number in person],
            "chromosome": "8",
            "abnormal": abnormal,
            "kind": np.where(abnormal, "deletion", None),
            "size_mb": np.where(abnormal, size_mb, np.nan),
            "log_ratio": rng.normal(0, SD, len(person)) + side * np.where(abnormal, change, 0.0),
        }
    )


def test_no_change_of_length_shows_nothing():
    found = length_only(made_up(0.0), num_bootstrap=60, seed=0)["hospitals"]["h"]
    assert found["pairs"]["value"] == pytest.approx(0.5, abs=0.04)
    assert found["bags"]["value"] == pytest.approx(0.5, abs=0.1)
    assert found["log_ratio_sd"] == pytest.approx(SD, rel=0.1)
    assert found["threshold"] == pytest.approx(2.58 * SD, rel=0.15)


def test_without_five_cells_there_are_no_bags():
    found = length_only(made_up(0.1, num_cells=3), num_bootstrap=60, seed=0)["hospitals"]["h"]
    assert found["num_abnormal_bags"] == 0
    assert found["bags"]["value"] is None
    assert found["pairs"]["value"] > 0.6


def test_bags_show_more_than_pairs():
    found = length_only(made_up(0.12), num_bootstrap=60, seed=0)["hospitals"]["h"]
    # The larger of two absolute normal deviations, one of them around 1.5 standard deviations.
    draw = np.random.default_rng(0).normal(size=(2, 200_000))
    expected = (np.abs(draw[0] + 0.12 / SD) > np.abs(draw[1])).mean()
    assert found["pairs"]["value"] == pytest.approx(expected, abs=0.02)
    assert found["bags"]["value"] > expected + 0.1
    assert found["num_abnormal_bags"] == 200


def test_recall_is_that_of_arithmetic():
    change = float(-length_change(["8"], ["deletion"], [30.0])[0])
    found = length_only(made_up(change, size_mb=30.0), num_bootstrap=60, seed=0)
    (of_class,) = found["sizes"]["deletion"]
    assert found["sizes"]["duplication"] == []
    assert (of_class["from_mb"], of_class["to_mb"]) == (20.0, 40.0)
    assert of_class["num_people"] == 20
    assert of_class["num_pairs"] == 1000
    assert 0.2 < of_class["expected"] < 0.9
    assert of_class["recall"] == pytest.approx(of_class["expected"], abs=0.1)


def test_changes_of_length():
    # Chromosome 8 has 145.1 Mb.
    lost, gained = length_change(["8", "8"], ["deletion", "duplication"], [14.51, 14.51])
    assert lost == pytest.approx(np.log(0.9), abs=1e-3)
    assert gained == pytest.approx(np.log(1.1), abs=1e-3)


def test_expected_recall_at_the_threshold_is_a_half():
    half, more = expected_recall(np.array([-2.5758 * SD, 3.5758 * SD]), SD)
    assert half == pytest.approx(0.5, abs=1e-3)
    assert more == pytest.approx(norm.cdf(1), abs=1e-3)


def test_bags_are_of_one_type_and_person():
    lengths = pd.concat([made_up(0.1, num_people=3, num_cells=7) for _ in range(2)])
    lengths["chromosome"] = np.repeat(["8", "9"], 21)
    bags = length_bags(lengths, np.random.default_rng(0))
    assert len(bags) == 3 * 2  # two pairs of each seven are left over
    assert (bags["size"] == 5).all()


def test_lengths_are_counted(table_of):
    table = table_of(num_patients=2, num_cells=1, chromosomes=("1", "5"), abnormal="5")
    found = length_table(table).set_index(["patient_id", "chromosome"])
    assert len(found) == 4
    assert found.loc[("h1-p0", "5"), "log_ratio"] == pytest.approx(np.log(3 / 2), abs=0.1)
    assert found.loc[("h1-p0", "5"), "kind"] == "deletion"
    assert abs(found.loc[("h1-p1", "5"), "log_ratio"]) < 0.1


def test_hospitals_without_abnormal_pairs_are_passed_over():
    normal = made_up(0.0).assign(abnormal=False, hospital="healthy")
    found = length_only(pd.concat([normal, made_up(0.1)]), num_bootstrap=0, seed=0)
    assert list(found["hospitals"]) == ["h"]
    with pytest.raises(DataError, match="no hospital has both normal and abnormal pairs"):
        length_only(normal, num_bootstrap=0, seed=0)
