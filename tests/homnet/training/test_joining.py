"""Weights of a model's logit and of its search."""

import numpy as np
import pytest
from scipy.special import expit

from homnet.training.joining import join


def test_the_weights_that_made_the_labels_are_found() -> None:
    generator = np.random.default_rng(0)
    own, searched = generator.normal(size=40_000), generator.normal(size=(40_000, 2))
    logit = 0.5 * own + searched @ [1.5, 0.8] - 0.3
    joint = join(own, searched, generator.random(40_000) < expit(logit))
    assert joint.own == pytest.approx(0.5, abs=0.08)
    assert joint.weight_F == pytest.approx([1.5, 0.8], abs=0.08)
    assert joint.bias == pytest.approx(-0.3, abs=0.08)
    expected = joint.own * own + searched @ joint.weight_F + joint.bias
    np.testing.assert_allclose(joint.logits(own, searched), expected)


def test_evidence_never_speaks_against_an_abnormality() -> None:
    generator = np.random.default_rng(1)
    own, searched = generator.normal(size=2_000), generator.normal(size=(2_000, 2))
    joint = join(own, searched, own - searched[:, 1] > 0)
    assert joint.own > 0
    assert joint.weight_F[1] == 0


def test_separated_classes_have_finite_weights() -> None:
    own = np.array([-3.0, -2.0, 2.0, 3.0])
    joint = join(own, np.zeros((4, 2)), own > 0)
    assert np.isfinite(joint.logits(own, np.zeros((4, 2)))).all()
