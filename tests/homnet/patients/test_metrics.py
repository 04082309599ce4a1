"""Measures of verdicts on patients, against counts by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from homnet.patients.metrics import measure_patients, share


def _frames() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Forty patients of two hospitals; ten carriers, of whom seven are found."""
    rng = np.random.default_rng(2)
    patients, types, truth = [], [], []
    for number in range(40):
        carrier = number < 10
        found = number < 7
        abstained = number in {9, 39}
        alarm = number == 20
        who: dict[str, Any] = {"hospital": f"h{number % 2}", "patient_id": f"p{number}"}
        called = (found or alarm) and not abstained
        score = 6.0 + number / 100 if called else -2.0 + number / 100
        patients.append(
            who
            | {
                "decision": "not_assessed"
                if abstained
                else "abnormal"
                if called
                else "no_abnormality_found",
                "abstentions": ["too_few_cells"] if abstained else [],
                "score": score,
                "threshold": 5.0,
                "probability": 0.9 if called else 0.05,
                "flagged": ["3"] if called and number != 6 else ["4"] if called else [],
                "num_cells": 5 if number < 20 else 13,
                "band_level": 400 if number % 4 else 550,
            }
        )
        for chromosome in ("1", "3", "9"):
            abnormal = carrier and chromosome == "3"
            variant = "inv(9)(p12q13)" if chromosome == "9" and number % 5 == 0 else None
            types.append(
                who
                | {
                    "chromosome": chromosome,
                    "evidence": rng.normal(),
                    "probability": 0.1,
                    "alone": False,
                }
            )
            truth.append(
                who
                | {
                    "chromosome": chromosome,
                    "true_abnormal": abnormal,
                    "true_share": 0.4 if abnormal and number == 0 else float(abnormal),
                    "true_kind": "deletion" if abnormal else None,
                    "true_size_mb": (8.0 if number < 5 else 25.0) if abnormal else np.nan,
                    "true_iscn": None,
                    "variant": variant,
                }
            )
    return pd.DataFrame(patients), pd.DataFrame(types), pd.DataFrame(truth)


def test_who_has_no_pair_has_no_truth() -> None:
    patients, types, truth = _frames()
    # The pictures of one who was not assessed could not be read: the cohort does not know her.
    less = truth[truth["patient_id"] != "p9"]
    overall = measure_patients(patients, types, less, seed=0, num_bootstrap=60)["overall"]
    assert (overall["num_patients"], overall["num_abnormal"]) == (39, 9)
    assert overall["cleared"]["total"] == 30


def test_counts_are_those_by_hand() -> None:
    figures = measure_patients(*_frames(), seed=0, num_bootstrap=60)
    overall = figures["overall"]
    # A patient who is not assessed is neither found nor cleared.
    assert overall["sensitivity"]["count"] == 7
    assert overall["sensitivity"]["total"] == 10
    assert overall["sensitivity_of_assessed"]["total"] == 9
    assert (overall["cleared"]["count"], overall["cleared"]["total"]) == (28, 30)
    assert overall["specificity_of_assessed"]["value"] == pytest.approx(28 / 29)
    assert overall["abstained"]["abnormal"]["count"] == 1
    assert overall["abstained"]["normal"]["count"] == 1
    assert overall["abstained"]["reasons"] == {"too_few_cells": 2}
    assert overall["right_type"]["count"] == 6
    assert overall["sensitivity_at_specificity"] == pytest.approx(0.0)
    assert overall["auc"]["low"] < overall["auc"]["value"] < overall["auc"]["high"]
    assert set(figures["hospitals"]) == {"h0", "h1"}
    assert sum(one["sensitivity"]["total"] for one in figures["hospitals"].values()) == 10


def test_abstaining_on_everybody_clears_nobody() -> None:
    patients, types, truth = _frames()
    patients["decision"] = "not_assessed"
    patients["flagged"] = [[] for _ in range(len(patients))]
    overall = measure_patients(patients, types, truth, seed=0, num_bootstrap=0)["overall"]
    for name, total in (("sensitivity", 10), ("cleared", 30)):
        assert (overall[name]["value"], overall[name]["total"]) == (0.0, total)
    for name in ("sensitivity_of_assessed", "specificity_of_assessed"):
        assert (overall[name]["value"], overall[name]["total"]) == (None, 0)


def test_parts_add_up_to_the_whole() -> None:
    figures = measure_patients(*_frames(), seed=0, num_bootstrap=0)
    assert figures["sizes_mb"]["5 to 10 Mb"]["sensitivity"]["count"] == 5
    assert figures["sizes_mb"]["20 to 40 Mb"]["sensitivity"]["count"] == 2
    assert figures["mosaics"]["25 to 50 %"]["sensitivity"]["total"] == 1
    assert figures["mosaics"]["all cells"]["sensitivity"]["total"] == 9
    assert figures["kinds"]["deletion"]["sensitivity"]["total"] == 10
    for part in ("band_levels", "cells"):
        assert sum(one["cleared"]["total"] for one in figures[part].values()) == 30
        assert sum(one["specificity_of_assessed"]["total"] for one in figures[part].values()) == 29
    assert sum(one["abnormal"]["total"] for one in figures["reliability"]) == 40


def test_calibration_error_is_the_distance_from_the_truth() -> None:
    figures = measure_patients(*_frames(), seed=0, num_bootstrap=0)
    error = figures["overall"]["calibration_error"]["value"]
    # Eight were called at 0.9, of whom seven are carriers; of the others 3 of 32 are, at 0.05.
    expected = (8 * abs(0.9 - 7 / 8) + 32 * abs(0.05 - 3 / 32)) / 40
    assert error == pytest.approx(expected)
    # Eight people at 0.9 and 32 at 0.05 are rarely off by more than that, and rarely not at all.
    chance = figures["overall"]["calibration_error_by_chance"]
    assert 0 < chance["low"] < error < chance["high"] < 0.15


def test_measures_of_scores_are_those_by_hand() -> None:
    patients, types, truth = _frames()
    overall = measure_patients(patients, types, truth, seed=0, num_bootstrap=0)["overall"]
    # Of 30 healthy people, seven carriers are above all but one, and three are above nobody.
    assert overall["auc"]["value"] == pytest.approx(7 * 29 / 300)
    # Seven right and one wrong at 0.9; three wrong and 29 right at 0.05.
    brier = (7 * 0.1**2 + 0.9**2 + 3 * 0.95**2 + 29 * 0.05**2) / 40
    assert overall["brier"] == pytest.approx(brier)
    # Ten of 120 types are abnormal, and each is said to be with 0.1.
    assert overall["type_calibration_error"] == pytest.approx(0.1 - 10 / 120)


def test_who_or_what_has_no_score_is_in_no_measure_of_scores() -> None:
    patients, types, truth = _frames()
    # Two healthy people, and a normal type of everybody.
    patients.loc[patients["patient_id"].isin(["p20", "p30"]), ["score", "probability"]] = np.nan
    types.loc[types["chromosome"] == "1", "evidence"] = np.nan
    types.loc[types["chromosome"] == "1", "probability"] = 0.9
    overall = measure_patients(patients, types, truth, seed=0, num_bootstrap=0)["overall"]
    assert overall["auc"]["value"] == pytest.approx(7 * 28 / 280)
    assert overall["brier"] == pytest.approx((7 * 0.1**2 + 3 * 0.95**2 + 28 * 0.05**2) / 38)
    assert overall["type_calibration_error"] == pytest.approx(10 / 80 - 0.1)


def test_variants_have_a_rate_of_their_own() -> None:
    patients, types, truth = _frames()
    marked = truth["variant"].notna()
    types.loc[marked, "evidence"] = 9.0
    types.loc[marked.to_numpy().nonzero()[0][:2], "alone"] = True
    variants = measure_patients(patients, types, truth, seed=0, num_bootstrap=0)["variants"]
    assert variants["variants"]["over_threshold"]["count"] == 2
    assert variants["variants"]["at_one_percent_of_others"]["value"] == 1.0
    assert variants["others"]["over_threshold"]["count"] == 0
    assert variants["ratio"] > 20
    assert list(variants["families"]) == ["inv(9)"]


def test_intervals_are_exact() -> None:
    # Nine of twelve: the interval of the published clinical figure.
    found = share(9, 12)
    assert found["low"] == pytest.approx(0.428, abs=0.001)
    assert found["high"] == pytest.approx(0.945, abs=0.001)
    assert share(0, 10)["low"] == 0.0
    assert share(10, 10)["high"] == 1.0
    assert share(0, 0)["value"] is None
