"""Log likelihood ratios: scales, weights of a second opinion, offsets of types."""

import numpy as np
import pytest

from homnet.calibration.likelihood_ratios import Scale, fit_offsets, fit_scale, fit_weight
from homnet.errors import DataError


def test_a_scale_finds_the_likelihood_ratio_whatever_the_prevalence() -> None:
    rng = np.random.default_rng(1)
    label_N = rng.random(40_000) < 0.1
    # Two normal distributions, 3 apart: the log likelihood ratio is 3 x - 4.5.
    score_N = rng.normal(0, 1, 40_000) + 3 * label_N
    scale = fit_scale(score_N, label_N)
    assert scale.factor == pytest.approx(3.0, rel=0.08)
    assert scale.shift == pytest.approx(-4.5, rel=0.1)


def test_a_scale_of_few_patients_stays_near_what_is_given() -> None:
    scale = fit_scale(np.array([-1.0, 1.0]), np.array([False, True]))
    assert 0.3 < scale.factor < 3


def test_a_hospital_of_few_patients_stays_near_all_hospitals() -> None:
    score_N, label_N = np.array([-1.0, 1.0]), np.array([False, True])
    everybody = Scale(0.2, -2.0)
    few = fit_scale(score_N, label_N, around=everybody)
    assert few.factor == pytest.approx(0.2, rel=0.3)
    assert few.shift == pytest.approx(-2.0, abs=0.3)
    # Many patients of its own outweigh them.
    rng = np.random.default_rng(1)
    label_N = rng.random(40_000) < 0.1
    score_N = rng.normal(0, 1, 40_000) + 3 * label_N
    many = fit_scale(score_N, label_N, around=everybody)
    assert many.factor == pytest.approx(3.0, rel=0.08)


def test_evidence_has_a_limit() -> None:
    scale = Scale(0.5, 1.0)
    assert scale.temperature == 2.0
    assert scale(np.array([-100.0, 0.0, 4.0, 100.0])).tolist() == [-12.0, 1.0, 3.0, 12.0]


def test_a_second_opinion_is_weighed_by_what_it_adds() -> None:
    rng = np.random.default_rng(2)
    abnormal_G = rng.random(4000) < 0.3
    logit_G, noise_G = (rng.normal(0, 1, 4000) for _ in range(2))
    logit_G = logit_G + 2 * abnormal_G
    assert fit_weight(logit_G, noise_G + 2 * abnormal_G, abnormal_G) == pytest.approx(1, abs=0.15)
    assert fit_weight(logit_G, noise_G, abnormal_G) == pytest.approx(0, abs=0.1)
    assert fit_weight(logit_G, -noise_G - 2 * abnormal_G, abnormal_G) == 0
    assert fit_weight(logit_G, np.zeros(4000), abnormal_G) == 0


def test_offsets_undo_what_types_differ_in() -> None:
    rng = np.random.default_rng(3)
    chromosome_G = np.tile(np.arange(10), 600)
    abnormal_G = rng.random(6000) < 0.2
    logit_G = rng.normal(-3, 1, 6000) + 4 * abnormal_G + 2 * (chromosome_G == 7)
    offset_T = np.array(fit_offsets(logit_G, abnormal_G, chromosome_G))
    assert len(offset_T) == 24
    assert offset_T[7] - np.delete(offset_T[:10], 7).mean() == pytest.approx(-2, abs=0.4)
    assert not offset_T[10:].any()
    assert offset_T[:10].mean() == pytest.approx(0, abs=1e-9)


def test_one_class_is_refused() -> None:
    score, label, kind = np.array([0.5, 1.0]), np.array([True, True]), np.array([0, 1])
    for fit in (
        lambda: fit_scale(score, label),
        lambda: fit_weight(score, score, label),
        lambda: fit_offsets(score, label, kind),
    ):
        with pytest.raises(DataError, match="normal and abnormal"):
            fit()
