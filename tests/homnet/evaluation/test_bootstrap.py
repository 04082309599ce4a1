"""The patient bootstrap: weights of bags, metrics of all replicates at once, intervals."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from homnet.evaluation.bootstrap import (
    bootstrap_weights,
    estimate,
    index_people,
    rank,
    weighted_mean,
)
from homnet.evaluation.metrics import sensitivity_at_specificity


def test_ranks_give_sklearn_metrics_with_weights_and_ties() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random(83) < 0.4
    scores = np.sort(np.round(rng.beta(2, 3, 83) + 0.2 * labels, 1))
    weights_RN = rng.multinomial(83, np.full(83, 1 / 83), size=7).astype(float)
    assert (weights_RN == 0).any()
    ranks = rank(weights_RN[:, labels], weights_RN[:, ~labels], scores[labels], scores[~labels])
    auc = weighted_mean(ranks.placement, weights_RN[:, labels])
    precision = weighted_mean(ranks.precision, weights_RN[:, labels])
    for specificity in (0.5, 0.8, 0.95):
        detected = (ranks.false_positive_rate <= 1 - specificity + 1e-12).astype(float)
        sensitivity = weighted_mean(detected, weights_RN[:, labels])
        for r, weights in enumerate(weights_RN):
            assert sensitivity[r] == pytest.approx(
                sensitivity_at_specificity(labels, scores, specificity, weights)
            )
    for r, weights in enumerate(weights_RN):
        assert auc[r] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
        assert precision[r] == pytest.approx(
            average_precision_score(labels, scores, sample_weight=weights)
        )


def test_multi_person_bags_weigh_the_product_of_multiplicities() -> None:
    patients = [["b", "a"], ["c"], ["a", "c", "d"], ["d", "d"]]
    people, num_people = index_people(patients)
    assert num_people == 4
    assert people.tolist() == [[0, 1, 4], [2, 4, 4], [0, 2, 3], [3, 4, 4]]
    (weights,) = bootstrap_weights(people, num_people, 11, np.random.default_rng(7))
    uniform = np.full(4, 0.25)
    a, b, c, d = np.random.default_rng(7).multinomial(4, uniform, size=11).T
    np.testing.assert_array_equal(weights, np.stack([a * b, c, a * c * d, d], axis=1))


def test_weights_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    people, num_people = index_people([["a"], ["b", "c"], ["d"]])
    (whole,) = bootstrap_weights(people, num_people, 10, np.random.default_rng(1))
    monkeypatch.setattr("homnet.evaluation.bootstrap._CHUNK_WEIGHTS", 12)
    chunks = list(bootstrap_weights(people, num_people, 10, np.random.default_rng(1)))
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_interval_covers_the_truth_where_bags_of_a_person_agree() -> None:
    # Scores are a property of the person, with 6 bags each: resampling bags would give intervals
    # that are too narrow by the square root of 6 and cover about half of the time.
    rng = np.random.default_rng(11)
    truth, covered, num_studies = 0.7602, 0, 150
    for _ in range(num_studies):
        abnormal = np.repeat(np.arange(40) % 2 == 1, 6)
        scores = np.repeat(rng.normal(size=40) + (np.arange(40) % 2), 6)
        order = np.argsort(scores)
        abnormal, scores = abnormal[order], scores[order]
        people, num_people = index_people([[f"{i}"] for i in np.repeat(np.arange(40), 6)[order]])
        values = []
        for weights in (np.ones((1, 240)), *bootstrap_weights(people, num_people, 200, rng)):
            part = weights[:, abnormal]
            ranks = rank(part, weights[:, ~abnormal], scores[abnormal], scores[~abnormal])
            values.append(weighted_mean(ranks.placement, part))
        interval = estimate(np.concatenate(values), 20)
        covered += interval["low"] <= truth <= interval["high"]
    assert 0.88 <= covered / num_studies <= 1.0


@pytest.mark.parametrize(
    ("num_good", "num_people", "given"), [(50, 3, True), (49, 3, False), (50, 2, False)]
)
def test_interval_needs_replicates_and_people(num_good: int, num_people: int, given: bool) -> None:
    values = np.concatenate([[0.5], np.linspace(0, 1, num_good), np.full(8, np.nan)])
    result = estimate(values, num_people)
    assert (result["low"] is not None) == given
    assert result["num_degenerate"] == 8
    assert result["value"] == 0.5
    if given:
        assert (result["low"], result["high"]) == pytest.approx((0.025, 0.975))


def test_replicates_that_all_agree_are_no_interval_of_width_0() -> None:
    result = estimate(np.ones(2001), 4)
    assert (result["value"], result["low"], result["high"]) == (1.0, None, None)
