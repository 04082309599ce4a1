"""Calibration of patients: fits, thresholds, and what they promise."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from homnet.calibration.labelled_scores import LabelledScores
from homnet.calibration.likelihood_ratios import fit_offsets, fit_scale
from homnet.calibration.patients import (
    ALL_HOSPITALS,
    PatientCalibration,
    combine,
    fit_hospitals,
    fit_patients,
    threshold_for_specificity,
)
from homnet.errors import CheckpointError, DataError


def _scores(
    num_normal: int,
    num_abnormal: int,
    *,
    hospital: str = "east",
    seed: int = 0,
    gap: float = 6.0,
    read: float | None = None,
) -> LabelledScores:
    """Patients of 23 types of three cells; the first type of a carrier is abnormal.

    ``gap`` and ``read`` are how far its logit, and the reader's log odds, lie above the others'.
    """
    rng = np.random.default_rng(seed)
    num = num_normal + num_abnormal
    abnormal_J = np.arange(num) >= num_normal
    patient_G = np.repeat(np.arange(num), 23)
    abnormal_G = abnormal_J[patient_G] & (np.tile(np.arange(23), num) == 0)
    logit_G = rng.normal(-3, 1, len(patient_G)) + gap * abnormal_G
    read_G = np.zeros(len(logit_G))
    if read is not None:
        read_G = np.random.default_rng(seed + 100).normal(0, 1, len(logit_G)) + read * abnormal_G
    type_N = np.repeat(np.arange(len(patient_G)), 3)
    abnormal_N = abnormal_G[type_N]
    return LabelledScores(
        hospital_J=(hospital,) * num,
        abnormal_J=abnormal_J,
        patient_G=patient_G,
        chromosome_G=np.tile(np.arange(23), num),
        num_cells_G=np.full(len(patient_G), 3),
        logit_G=logit_G,
        read_G=read_G,
        abnormal_G=abnormal_G,
        patient_N=patient_G[type_N],
        logit_N=rng.normal(-1, 1, len(type_N)) + 2 * abnormal_N,
        abnormal_N=abnormal_N,
    )


def test_a_hospital_whose_carriers_cannot_be_counted_borrows() -> None:
    thin = _scores(6, 6, hospital="west", seed=1)
    thin = replace(thin, num_cells_G=np.where(thin.abnormal_G, 1, thin.num_cells_G))
    found = fit_hospitals(LabelledScores.concatenate([_scores(60, 30), thin]), min_cells=2)
    assert found["west"] == found[ALL_HOSPITALS] != found["east"]


def test_a_second_opinion_counts_as_much_as_it_is_worth() -> None:
    alone = fit_patients(_scores(300, 150, gap=2.0), min_cells=2)
    assert (alone.reader, alone.read_weight) == ("none", 0.0)
    worthless = fit_patients(_scores(300, 150, gap=2.0, read=0.0), min_cells=2, reader="v1")
    assert worthless.read_weight == pytest.approx(0.0, abs=0.1)
    # As far apart, as noisy and independent: as much worth as the first.
    scores = _scores(300, 150, gap=2.0, read=2.0)
    both = fit_patients(scores, min_cells=2, reader="v1")
    assert both.reader == "v1"
    assert both.read_weight == pytest.approx(1.0, abs=0.2)

    def found(one: PatientCalibration) -> float:
        evidence_G = one.type_evidence(scores.logit_G, scores.chromosome_G, scores.read_G)
        score_J = combine(evidence_G, scores.patient_G, len(scores.hospital_J))
        return float(np.mean(score_J[scores.abnormal_J] >= one.threshold))

    assert found(both) > found(alone) + 0.2
    # A hospital takes the weight that all have found.
    few = _scores(6, 6, hospital="west", seed=1, gap=2.0, read=0.0)
    west = fit_hospitals(LabelledScores.concatenate([scores, few]), min_cells=2)["west"]
    assert west.read_weight == pytest.approx(both.read_weight, abs=0.1)


def test_what_is_not_read_counts_as_little_and_costs_little() -> None:
    fitted, fresh = (
        _scores(300, 150, gap=3.0, read=3.0),
        _scores(300, 150, gap=3.0, read=3.0, seed=7),
    )

    def judged(one: PatientCalibration) -> tuple[float, float, float]:
        chosen_G = one.to_read(fresh.logit_G, fresh.chromosome_G, fresh.num_cells_G)
        read_G = np.where(chosen_G, fresh.read_G, np.nan)
        evidence_G = one.type_evidence(fresh.logit_G, fresh.chromosome_G, read_G)
        assert (evidence_G[~chosen_G] == one.unread_evidence).all()
        called_J = combine(evidence_G, fresh.patient_G, 450) >= one.threshold
        found = called_J[fresh.abnormal_J].mean()
        return chosen_G[~fresh.abnormal_G].mean(), found, called_J[~fresh.abnormal_J].mean()

    everything, found, alarms = judged(fit_patients(fitted, min_cells=2, reader="v", read_share=1))
    assert everything == 1.0
    some = fit_patients(fitted, min_cells=2, reader="v", read_share=0.2)
    share, found_by_some, alarms_by_some = judged(some)
    assert share == pytest.approx(0.2, abs=0.02)
    assert some.unread_evidence < -2
    assert found_by_some == pytest.approx(found, abs=0.03)
    assert alarms_by_some == pytest.approx(alarms, abs=0.015)
    # Types that are read keep their evidence: that of being read is in their scale.
    assert PatientCalibration.from_json(some.to_json()) == some


def test_without_a_reader_nothing_is_read() -> None:
    scores = _scores(60, 30)
    one = fit_patients(scores, min_cells=2)
    assert one.read_from is None
    assert not one.to_read(scores.logit_G, scores.chromosome_G, scores.num_cells_G).any()


def test_hospitals_are_fitted_around_all_of_them() -> None:
    scores = LabelledScores.concatenate([_scores(60, 30), _scores(6, 6, hospital="west", seed=1)])
    found = fit_hospitals(scores, min_cells=2)
    west, pooled = found["west"], found[ALL_HOSPITALS]
    alone = fit_patients(scores.of(np.array(scores.hospital_J) == "west"), min_cells=2)
    assert west.type_offsets == pooled.type_offsets

    def distance(one: PatientCalibration) -> float:
        return abs(math.log(one.patient_scale.factor / pooled.patient_scale.factor))

    assert distance(west) < distance(alone)


def test_a_hospital_like_all_of_them_has_their_scale_where_a_reader_reads_a_share() -> None:
    scores = _scores(12, 6, gap=3.0, read=3.0)
    found = fit_hospitals(scores, min_cells=2, reader="v", read_share=0.2)
    east, pooled = found["east"], found[ALL_HOSPITALS]
    assert pooled.unread_evidence < -0.5  # being read is evidence, too: it must not count twice
    assert east.type_scale.shift == pytest.approx(pooled.type_scale.shift, abs=0.3)


def test_hospitals_are_fitted_with_all_settings() -> None:
    scores = _scores(40, 20, gap=3.0, read=3.0)
    settings: dict[str, Any] = {
        "min_cells": 3,
        "specificity": 0.9,
        "reader": "v",
        "read_share": 0.5,
    }
    for one in fit_hospitals(scores, **settings).values():
        assert (one.min_cells, one.specificity, one.reader) == (3, 0.9, "v")
        assert one.read_from is not None
        chosen_G = one.to_read(scores.logit_G, scores.chromosome_G, scores.num_cells_G)
        assert chosen_G[~scores.abnormal_G].mean() == pytest.approx(0.5, abs=0.01)


def test_combining_one_of_many_types_is_its_ratio_over_their_number() -> None:
    evidence_G = np.array([math.log(46.0), -30.0, -30.0, math.log(5.0)])
    score_J = combine(evidence_G, np.array([0, 0, 2, 2]), 3)
    assert score_J[0] == pytest.approx(math.log(23.0))
    assert np.isnan(score_J[1])
    assert score_J[2] == pytest.approx(math.log(2.5))


def test_two_abnormal_types_are_more_than_either() -> None:
    one = combine(np.array([3.0, -5.0, -5.0]), np.zeros(3, int), 1)[0]
    two = combine(np.array([3.0, 3.0, -5.0]), np.zeros(3, int), 1)[0]
    assert two == pytest.approx(one + math.log(2), abs=1e-3)


def test_the_threshold_promises_specificity_for_the_next_patient() -> None:
    normal_J = np.arange(199.0)
    # The next of 200 must exceed the 198th lowest in at most 1 case of 100.
    threshold = threshold_for_specificity(normal_J, 0.99)
    assert 197.0 < threshold < 197.0001
    rng = np.random.default_rng(0)
    alarms = [
        (rng.normal(size=50) >= threshold_for_specificity(rng.normal(size=199), 0.99)).mean()
        for _ in range(400)
    ]
    assert np.mean(alarms) == pytest.approx(0.01, abs=0.003)


def test_too_few_healthy_referrals_put_the_threshold_above_all_of_them() -> None:
    threshold = threshold_for_specificity(np.array([3.0, 1.0, 2.0]), 0.99)
    assert 3.0 < threshold < 3.0001
    calibration = fit_patients(_scores(20, 10), min_cells=2)
    assert not calibration.supported
    assert calibration.supported_specificity == pytest.approx(20 / 21)
    assert fit_patients(_scores(99, 10), min_cells=2).supported


def test_probabilities_mean_what_they_say_and_follow_the_prevalence() -> None:
    fitted = fit_patients(_scores(300, 100, gap=3.0), min_cells=2)
    fresh = _scores(3000, 1000, gap=3.0, seed=5)
    evidence_G = fitted.type_evidence(fresh.logit_G, fresh.chromosome_G, fresh.read_G)
    score_J = combine(evidence_G, fresh.patient_G, 4000)
    probability_J = np.array(
        [fitted.patient_probability(score, fitted.prevalence) for score in score_J]
    )
    assert probability_J.mean() == pytest.approx(0.25, abs=0.03)
    high = probability_J > 0.5
    assert fresh.abnormal_J[high].mean() == pytest.approx(probability_J[high].mean(), abs=0.05)
    rare = fitted.patient_probability(2.0, 0.02)
    usual = fitted.patient_probability(2.0, 0.25)
    odds = (usual / (1 - usual)) / (rare / (1 - rare))
    assert odds == pytest.approx((0.25 / 0.75) / (0.02 / 0.98), rel=1e-6)
    type_prior = fitted.type_prior(0.23)
    assert type_prior == pytest.approx(0.01)
    assert fitted.type_probability(np.zeros(1), 0.23)[0] == pytest.approx(
        expit(np.log(0.01 / 0.99)), rel=1e-6
    )


def test_a_hospital_with_few_patients_borrows_and_one_left_out_gives_nothing() -> None:
    scores = LabelledScores.concatenate(
        [_scores(30, 20), _scores(25, 2, hospital="west", seed=3, gap=4.0)]
    )
    found = fit_hospitals(scores, min_cells=2)
    assert found["east"].hospitals == ("east",)
    assert found["west"] == found[ALL_HOSPITALS]
    assert found["west"].hospitals == ("east", "west")
    left_out = fit_hospitals(scores, min_cells=2, leave_out=True)
    assert left_out["west"].hospitals == ("east",)
    assert left_out["west"].num_normal == found["east"].num_normal


def test_types_with_too_few_cells_do_not_count() -> None:
    scores = _scores(20, 10)
    few: NDArray[np.int64] = np.where(np.arange(30 * 23) % 23 == 5, 1, 3)
    lonely = LabelledScores(**{**vars(scores), "num_cells_G": few})
    assert fit_patients(lonely, min_cells=2) != fit_patients(scores, min_cells=2)
    moved = replace(lonely, logit_G=lonely.logit_G + np.where(few == 1, 50.0, 0.0))
    assert fit_patients(moved, min_cells=2) == fit_patients(lonely, min_cells=2)
    # Exactly as many as are needed is enough.
    exactly = fit_patients(scores, min_cells=3)
    assert replace(exactly, min_cells=2) == fit_patients(scores, min_cells=2)
    with pytest.raises(DataError, match="min_cells"):
        fit_patients(scores, min_cells=4)


@pytest.mark.parametrize("read_share", [0.2, 1.0])
def test_types_with_too_few_cells_are_not_read(read_share: float) -> None:
    scores = _scores(60, 30, read=3.0)
    one = fit_patients(scores, min_cells=2, reader="v", read_share=read_share)
    high = np.full(3, 50.0)
    chosen_G = one.to_read(high, np.arange(3), np.array([1, 2, 3]))
    assert chosen_G.tolist() == [False, True, True]


def test_a_calibration_needs_both_classes() -> None:
    with pytest.raises(DataError, match="normal and abnormal"):
        fit_patients(_scores(20, 0), min_cells=2)
    with pytest.raises(DataError, match="normal and abnormal"):
        fit_patients(_scores(20, 0, read=1.0), min_cells=2, reader="v1")


def test_json_keeps_the_calibration() -> None:
    scores = _scores(4, 3)
    fitted = fit_patients(scores, min_cells=2)
    assert PatientCalibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    with pytest.raises(CheckpointError, match="not a calibration"):
        PatientCalibration.from_json({"hospitals": []})


def test_a_type_that_varies_in_healthy_people_does_not_set_the_threshold() -> None:
    """As the acrocentrics do: with offsets, more carriers are above all healthy referrals."""
    rng = np.random.default_rng(7)
    num = 300
    chromosome_G = np.tile(np.arange(23), num)
    abnormal_J = np.arange(num) % 3 == 0
    patient_G = np.repeat(np.arange(num), 23)
    where_J = rng.integers(0, 23, num)
    abnormal_G = abnormal_J[patient_G] & (chromosome_G == where_J[patient_G])
    logit_G = rng.normal(-3, 1, len(patient_G)) + 5 * abnormal_G + 3 * (chromosome_G == 20)
    offsets = fit_offsets(logit_G, abnormal_G, chromosome_G)
    assert min(offsets) == offsets[20] < -1.0
    assert np.abs(np.delete(offsets, 20)).max() < 1.0
    assert sum(offsets) == pytest.approx(0.0, abs=1e-9)

    def found(offset_T: NDArray[np.float64]) -> float:
        moved_G = logit_G + offset_T[chromosome_G]
        score_J = combine(fit_scale(moved_G, abnormal_G)(moved_G), patient_G, num)
        threshold = threshold_for_specificity(score_J[~abnormal_J], 0.99)
        return float((score_J[abnormal_J] >= threshold).mean())

    assert found(np.array(offsets)) > found(np.zeros(24)) + 0.1
