"""Scores of patients with the truth: joined, chosen from, kept as JSON."""

import json

import numpy as np

from homnet.calibration.labelled_scores import LabelledScores


def _scores(hospital: str, num_patients: int, seed: int) -> LabelledScores:
    """Patients of two types of three cells; the second type of every second one is abnormal."""
    rng = np.random.default_rng(seed)
    patient_G = np.repeat(np.arange(num_patients), 2)
    abnormal_G = np.tile([False, True], num_patients) & (patient_G % 2 == 1)
    type_N = np.repeat(np.arange(len(patient_G)), 3)
    return LabelledScores(
        hospital_J=(hospital,) * num_patients,
        abnormal_J=np.arange(num_patients) % 2 == 1,
        patient_G=patient_G,
        chromosome_G=np.tile([4, 8], num_patients),
        num_cells_G=np.full(len(patient_G), 3),
        logit_G=rng.normal(size=len(patient_G)),
        read_G=np.zeros(len(patient_G)),
        abnormal_G=abnormal_G,
        patient_N=patient_G[type_N],
        logit_N=rng.normal(size=len(type_N)),
        abnormal_N=abnormal_G[type_N],
    )


def _assert_equal(one: LabelledScores, other: LabelledScores) -> None:
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(other, name), value, err_msg=name)
        assert name == "hospital_J" or getattr(other, name).dtype == value.dtype


def test_parts_are_joined_and_taken_apart_again() -> None:
    parts = [_scores("east", 3, seed=0), _scores("west", 4, seed=1)]
    joined = LabelledScores.concatenate(parts)
    assert joined.hospital_J == ("east",) * 3 + ("west",) * 4
    assert joined.patient_G.tolist() == sorted(2 * list(range(7)))
    for part in parts:
        _assert_equal(part, joined.of(np.array(joined.hospital_J) == part.hospital_J[0]))


def test_patients_are_numbered_anew() -> None:
    scores = _scores("east", 5, seed=2)
    chosen = scores.of(np.array([False, True, False, True, True]))
    assert chosen.abnormal_J.tolist() == [True, True, False]
    assert chosen.patient_G.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(chosen.logit_G, scores.logit_G[[2, 3, 6, 7, 8, 9]])
    assert len(chosen.logit_N) == 18


def test_json_keeps_scores() -> None:
    scores = _scores("east", 3, seed=3)
    _assert_equal(scores, LabelledScores.from_json(json.loads(json.dumps(scores.to_json()))))
