import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from homnet.realism import intervals


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.4
    score = np.round(rng.normal(size=300) + positive, 1)
    people = [f"p{number}" for number in rng.integers(25, size=300)]
    found = intervals.auc(score, positive, people, 100, rng)
    assert found["value"] == pytest.approx(roc_auc_score(positive, score))
    assert found["low"] < found["value"] < found["high"]


def test_interval_is_over_people():
    rng = np.random.default_rng(0)
    value = np.repeat(rng.random(20) < 0.5, 100)
    alike = [f"p{number}" for number in np.repeat(np.arange(20), 100)]
    apart = [f"p{number}" for number in range(2000)]
    of_20, of_2000 = (intervals.mean(value, one, 200, rng) for one in (alike, apart))
    assert of_20["value"] == of_2000["value"] == value.mean()
    assert of_20["high"] - of_20["low"] > 5 * (of_2000["high"] - of_2000["low"])
