"""Weights of a model's logit and of its search."""

import numpy as np
import pytest
from scipy.special import expit

from homnet.training.logit_weights import fit_logit_weights


def test_the_weights_that_made_the_labels_are_found() -> None:
    generator = np.random.default_rng(0)
    own, searched = generator.normal(size=40_000), generator.normal(size=(40_000, 2)) * [1.0, 4.0]
    logit = 0.5 * own + searched @ [0.8, 0.2] - 0.3
    weights = fit_logit_weights(own, searched, generator.random(40_000) < expit(logit))
    assert weights.own == pytest.approx(0.5, abs=0.08)
    assert weights.weight_F == pytest.approx([0.8, 0.2], rel=0.06)
    assert weights.bias == pytest.approx(-0.3, abs=0.08)
    expected = weights.own * own + searched @ weights.weight_F + weights.bias
    np.testing.assert_allclose(weights.logits(own, searched), expected)


def test_families_count_alike_in_units_of_their_spread_over_normal_bags() -> None:
    """Also one that these abnormal bags do not show."""
    generator = np.random.default_rng(1)
    label = generator.random(4_000) < 0.5
    searched = generator.normal(size=(4_000, 2)) * [1.0, 3.0] + np.outer(label, [1.5, 0.0])
    weights = fit_logit_weights(generator.normal(size=4_000), searched, label)
    spread = searched[~label].std(axis=0)
    assert weights.weight_F[0] > 0.1
    assert weights.weight_F * spread == pytest.approx(weights.weight_F[0] * spread[0], rel=0.01)


def test_no_score_is_a_sign_of_health() -> None:
    generator = np.random.default_rng(1)
    own, searched = generator.normal(size=2_000), generator.normal(size=(2_000, 2))
    weights = fit_logit_weights(own, searched, own - searched.sum(axis=1) > 0)
    assert weights.own > 0
    assert (weights.weight_F == 0).all()


def test_separated_classes_have_finite_weights() -> None:
    own = np.array([-3.0, -2.0, 2.0, 3.0])
    weights = fit_logit_weights(own, np.zeros((4, 2)), own > 0)
    assert np.isfinite(weights.logits(own, np.zeros((4, 2)))).all()
