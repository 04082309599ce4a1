import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from homnet.errors import DataError
from homnet.evaluation.metrics import (
    ENOUGH_FOR_A_THRESHOLD,
    calibration_error_by_chance,
    evaluate,
    expected_calibration_error,
    hospital_samples,
    sensitivity_at_specificity,
    threshold_for_f1,
)
from homnet.evaluation.score_table import SCORE_COLUMNS


def make_scores(
    *,
    seed: int = 0,
    hospitals: tuple[str, ...] = ("north", "south"),
    num_people: int = 8,
    bags_per_person: int = 5,
    people_per_bag: int = 1,
    with_sham: bool = False,
) -> pd.DataFrame:
    """Scores of people, each normal or with one kind; coarse scores make many ties."""
    rng = np.random.default_rng(seed)
    rows = []
    for hospital in hospitals:
        for split in ("validation", "test"):
            people = [f"{hospital}-{split}-{i}" for i in range(num_people)]
            for i, person in enumerate(people):
                for _ in range(bags_per_person):
                    others = rng.choice(people, people_per_bag - 1, replace=False).tolist()
                    kinds = ["normal", "deletion", "inversion"] + ["sham"] * with_sham
                    kind = kinds[i % len(kinds)]
                    abnormal = kind in ("deletion", "inversion")
                    lift = {"deletion": 0.4, "inversion": 0.2}.get(kind, 0.0)
                    rows.append(
                        {
                            "bag": len(rows),
                            "hospital": hospital,
                            "patients": [person, *others],
                            "chromosome": str(rng.choice(["1", "9", "21"])),
                            "num_pairs": 5,
                            "band_level": 400,
                            "kind": kind,
                            "abnormal": abnormal,
                            "event_fraction": rng.uniform(0.05, 0.6) if abnormal else None,
                            "size_mb": 25.0 if abnormal else None,
                            "score": round(min(rng.beta(2, 4) + lift, 1.0), 2),
                            "split": split,
                        }
                    )
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def hand_made(values: list[tuple[str, str, str, bool, float]]) -> pd.DataFrame:
    """Rows from (split, person, kind, abnormal, score)."""
    return pd.DataFrame(
        {
            "bag": i,
            "hospital": "north",
            "patients": [person],
            "chromosome": "9",
            "num_pairs": 5,
            "band_level": 550,
            "kind": kind,
            "abnormal": abnormal,
            "event_fraction": None,
            "size_mb": None,
            "score": score,
            "split": split,
        }
        for i, (split, person, kind, abnormal, score) in enumerate(values)
    )


VALIDATION = [("validation", "v0", "normal", False, 0.2), ("validation", "v1", "ring", True, 0.6)]


def test_evaluate_gives_sklearn_metrics_overall_by_hospital_and_by_kind() -> None:
    frame = make_scores(hospitals=("north", "south", "west"))
    result = evaluate(frame, seed=1, num_bootstrap=0)
    test = frame[frame["split"] == "test"]
    threshold = test["hospital"].map({h: t["threshold"] for h, t in result["thresholds"].items()})
    scopes = [(result["overall"], test)] + [
        (result["hospitals"][name], part) for name, part in test.groupby("hospital")
    ]
    assert len(scopes) == 4
    for scope, part in scopes:
        labels, scores = part["abnormal"].to_numpy(), part["score"].to_numpy()
        called = scores >= threshold[part.index]
        metrics = {
            name: m["value"] if isinstance(m, dict) else m for name, m in scope["metrics"].items()
        }
        assert metrics == pytest.approx(
            {
                "auc": roc_auc_score(labels, scores),
                "pr_auc": average_precision_score(labels, scores),
                "f1": f1_score(labels, called),
                "precision": precision_score(labels, called),
                "recall": recall_score(labels, called),
                "specificity": recall_score(~labels, ~called),
                "sensitivity": sensitivity_at_specificity(labels, scores, 0.99),
                "brier": brier_score_loss(labels, scores),
                "ece": expected_calibration_error(labels, scores),
            }
        )
        assert scope["prevalence"] == pytest.approx(labels.mean())
        for kind in ("deletion", "inversion"):
            rows = part[part["kind"].isin(["normal", kind])]
            got = scope["kinds"][kind]
            assert got["auc"]["value"] == pytest.approx(
                roc_auc_score(rows["abnormal"], rows["score"])
            )
            assert got["recall"]["value"] == pytest.approx(
                called[(part["kind"] == kind).to_numpy()].mean()
            )
            assert got["num_bags"] == (part["kind"] == kind).sum()
        balanced = np.mean([scope["kinds"][k]["auc"]["value"] for k in scope["kinds"]])
        assert scope["kind_balanced_auc"]["value"] == pytest.approx(balanced)
    sizes = result["overall"]["event_sizes"]
    assert sum(entry["num_bags"] for entry in sizes.values()) == test["abnormal"].sum()
    assert list(sizes) == ["0 to 10 %", "10 to 20 %", "20 to 40 %", "40 % and more"]
    for one in result["overall"]["event_sizes_mb"].values():
        assert one["median_mb"] == 25.0
        rows = test[test["kind"] != "sham"]
        assert one["detection"]["value"] == pytest.approx(
            sensitivity_at_specificity(rows["abnormal"], rows["score"], 0.999)
        )
    assert list(result["overall"]["event_sizes_mb"]) == ["20 to 40 Mb"]
    group = test[test["chromosome"] == "21"]
    assert list(result["chromosome_groups"]) == ["A", "C", "G"]
    assert result["chromosome_groups"]["G"]["metrics"]["auc"]["value"] == pytest.approx(
        roc_auc_score(group["abnormal"], group["score"])
    )


def test_samples_of_a_hospital_are_those_of_the_evaluation() -> None:
    frame = make_scores()
    result = evaluate(frame, seed=0, num_bootstrap=60)
    samples = hospital_samples(frame, seed=5, num_bootstrap=60)
    assert set(samples) == set(result["hospitals"])
    for name, scope in result["hospitals"].items():
        for metric in ("auc", "f1"):
            assert len(samples[name][metric]) == 61
            assert samples[name][metric][0] == pytest.approx(scope["metrics"][metric]["value"])
    # Equal seeds draw equal people, whatever the scores: a better model is so in each replicate.
    better = frame.assign(score=frame["score"].where(~frame["abnormal"], 1.0))
    others = hospital_samples(better, seed=5, num_bootstrap=60)
    for name in samples:
        assert (others[name]["auc"] >= samples[name]["auc"] - 1e-12).all()


def test_hand_made_case() -> None:
    frame = hand_made(
        [
            *VALIDATION,
            ("test", "a", "normal", False, 0.1),
            ("test", "b", "normal", False, 0.3),
            ("test", "c", "normal", False, 0.5),
            ("test", "d", "ring", True, 0.5),
            ("test", "e", "ring", True, 0.9),
            ("test", "f", "deletion", True, 0.2),
        ]
    )
    result = evaluate(frame, seed=0, num_bootstrap=0)
    # Halfway between the validation scores 0.2 and 0.6.
    assert result["thresholds"]["north"]["threshold"] == pytest.approx(0.4)
    metrics = {k: v["value"] for k, v in result["overall"]["metrics"].items() if k != "ece"}
    # Placements of 0.5, 0.9, 0.2 among 0.1, 0.3, 0.5: 2.5/3, 3/3, 1/3.
    assert metrics["auc"] == pytest.approx(6.5 / 9)
    assert result["overall"]["kinds"]["ring"]["auc"]["value"] == pytest.approx(5.5 / 6)
    assert result["overall"]["kinds"]["deletion"]["auc"]["value"] == pytest.approx(1 / 3)
    assert result["overall"]["kind_balanced_auc"]["value"] == pytest.approx((5.5 / 6 + 1 / 3) / 2)
    # Without a false call only 0.9 is above every normal bag.
    assert metrics["sensitivity"] == pytest.approx(1 / 3)
    assert metrics["precision"] == pytest.approx(2 / 3)
    assert metrics["recall"] == pytest.approx(2 / 3)
    assert metrics["specificity"] == pytest.approx(2 / 3)
    assert result["overall"]["num_people"] == 6
    assert result["overall"]["num_abnormal_people"] == 3
    assert result["overall"]["num_pairs"] == 30


def test_sham_is_in_no_pooled_metric_and_has_its_own_comparison() -> None:
    frame = make_scores(with_sham=True)
    frame.loc[frame["kind"] == "sham", "score"] = 0.99
    result = evaluate(frame, seed=2, num_bootstrap=60)
    without = evaluate(frame[frame["kind"] != "sham"], seed=2, num_bootstrap=0)
    assert result["thresholds"] == without["thresholds"]
    for name, metric in without["overall"]["metrics"].items():
        got = result["overall"]["metrics"][name]
        assert (got if name == "ece" else got["value"]) == pytest.approx(
            metric if name == "ece" else metric["value"]
        )
    assert without["overall"]["seam_control"] is None
    seam = result["overall"]["seam_control"]
    assert seam["auc"]["value"] == 1.0
    assert seam["num_bags"] == 20
    assert "sham" not in result["overall"]["kinds"]
    assert result["overall"]["num_bags"] == without["overall"]["num_bags"]


def test_normal_variants_count_as_normal() -> None:
    frame = make_scores()
    frame.loc[frame["kind"] == "normal", "kind"] = "inv(9)"
    result = evaluate(frame, seed=2, num_bootstrap=0)
    assert "inv(9)" not in result["overall"]["kinds"]
    assert result["overall"]["num_normal_bags"] == 30


def test_threshold_comes_from_validation_alone() -> None:
    frame = make_scores()
    before = evaluate(frame, seed=0, num_bootstrap=0)["thresholds"]
    frame.loc[frame["split"] == "test", "score"] = 1 - frame["score"]
    assert evaluate(frame, seed=0, num_bootstrap=0)["thresholds"] == before


def test_few_abnormal_people_borrow_the_threshold_of_all_hospitals() -> None:
    frame = make_scores(num_people=20)
    south = (frame["hospital"] == "south") & (frame["split"] == "validation") & frame["abnormal"]
    person = frame["patients"].str[0]
    nine = sorted(set(person[south]))[: ENOUGH_FOR_A_THRESHOLD - 1]
    frame = frame[~south | person.isin(nine)]
    frame.loc[frame["hospital"] == "south", "score"] /= 2
    chosen = evaluate(frame, seed=0, num_bootstrap=0)["thresholds"]
    validation = frame[frame["split"] == "validation"]
    assert chosen["south"]["threshold"] == threshold_for_f1(validation)
    assert chosen["south"]["chosen_on"] == "validation bags of all hospitals"
    assert chosen["south"]["num_people"] == validation["patients"].explode().nunique()
    assert chosen["north"]["num_people"] == 20
    north = validation[validation["hospital"] == "north"]
    assert chosen["north"]["threshold"] == threshold_for_f1(north)
    assert chosen["north"]["threshold"] != chosen["south"]["threshold"]


def test_threshold_has_the_highest_f1_and_is_the_highest_of_equals() -> None:
    frame = make_scores(seed=5)
    threshold = threshold_for_f1(frame)
    labels, scores = frame["abnormal"], frame["score"]
    best = max(f1_score(labels, scores >= value) for value in scores.unique())
    assert f1_score(labels, scores >= threshold) == pytest.approx(best)
    # F1 is 2/3 at 0.9 (one of two events, no false call) and at 0.6 (both, two false calls).
    tied = pd.DataFrame({"abnormal": [True, False, False, True], "score": [0.9, 0.8, 0.7, 0.6]})
    assert threshold_for_f1(tied) == pytest.approx(0.85)
    useless = pd.DataFrame({"abnormal": [False, True, True], "score": [0.9, 0.3, 0.2]})
    assert threshold_for_f1(useless) == 0.2


def test_interval_is_wider_by_person_than_by_bag() -> None:
    frame = make_scores(num_people=30, bags_per_person=6)
    person_score = frame["patients"].map(lambda bag: hash_free_score(bag[0]))
    frame["score"] = (person_score + 0.25 * frame["abnormal"]).clip(0, 1)
    by_person = evaluate(frame, seed=0, num_bootstrap=200)["overall"]["metrics"]["auc"]
    frame["patients"] = [[f"{row.split}-{row.bag}"] for row in frame.itertuples()]
    by_bag = evaluate(frame, seed=0, num_bootstrap=200)["overall"]["metrics"]["auc"]
    assert by_person["value"] == by_bag["value"]
    assert by_person["high"] - by_person["low"] > 1.8 * (by_bag["high"] - by_bag["low"])


def hash_free_score(name: str) -> float:
    """A score in 0..0.75 that depends on the name alone."""
    return (sum(ord(letter) * 37**i for i, letter in enumerate(name)) % 101) / 135


def test_degenerate_replicates_are_counted_and_left_out() -> None:
    people = [("test", f"n{i}", "normal", False, 0.1 + i / 50) for i in range(5)]
    people += [("test", f"p{i}", "ring", True, 0.15 + i / 20) for i in range(3)]
    auc = evaluate(hand_made([*VALIDATION, *people]), seed=3, num_bootstrap=400)["overall"][
        "metrics"
    ]["auc"]
    # A draw of 8 people misses all 3 abnormal ones with probability (5/8)^8 = 2.3 %.
    assert 1 <= auc["num_degenerate"] <= 30
    assert auc["num_replicates"] + auc["num_degenerate"] == 400
    assert auc["low"] <= auc["value"] <= auc["high"]


def test_intervals_equal_those_of_sklearn_one_replicate_at_a_time() -> None:
    frame = make_scores(hospitals=("north",), num_people=7, people_per_bag=2, with_sham=True)
    result = evaluate(frame, seed=9, num_bootstrap=90)
    test = frame[frame["split"] == "test"].reset_index(drop=True)
    threshold = result["thresholds"]["north"]["threshold"]
    people = sorted({name for bag in test["patients"] for name in bag})
    values: dict[str, list[float]] = {}
    for drawn in np.random.default_rng(9).multinomial(7, np.full(7, 1 / 7), size=90):
        times = dict(zip(people, drawn, strict=True))
        weights = np.array(
            [np.prod([times[name] for name in set(bag)]) for bag in test["patients"]]
        )
        rows = test.assign(weight=weights)[(weights > 0) & (test["kind"] != "sham")]
        labels, scores, weight = rows["abnormal"], rows["score"], rows["weight"]
        if labels.nunique() < 2:
            continue
        called = scores >= threshold
        replicate = {
            "auc": roc_auc_score(labels, scores, sample_weight=weight),
            "pr_auc": average_precision_score(labels, scores, sample_weight=weight),
            "f1": f1_score(labels, called, sample_weight=weight),
            "recall": recall_score(labels, called, sample_weight=weight),
            "specificity": recall_score(~labels, ~called, sample_weight=weight),
            "brier": brier_score_loss(labels, scores, sample_weight=weight),
            "sensitivity": sensitivity_at_specificity(labels, scores, 0.99, weight),
        }
        if called.any():
            replicate["precision"] = precision_score(labels, called, sample_weight=weight)
        for name, value in replicate.items():
            values.setdefault(name, []).append(value)
    assert len(values["auc"]) < 90
    for name, expected in values.items():
        got = result["overall"]["metrics"][name]
        assert got["num_replicates"] == len(expected), name
        assert got["num_degenerate"] == 90 - len(expected)
        bounds = np.quantile(expected, [0.025, 0.975])
        assert (got["low"], got["high"]) == pytest.approx(tuple(bounds)), name
    assert set(values) == set(result["overall"]["metrics"]) - {"ece"}


def test_one_class_hospital_has_counts_but_no_metrics() -> None:
    frame = make_scores()
    healthy = (frame["hospital"] == "south") & frame["abnormal"]
    result = evaluate(frame[~healthy], seed=0, num_bootstrap=0)
    assert result["hospitals"]["south"]["metrics"] is None
    assert result["hospitals"]["south"]["kinds"] == {}
    assert result["hospitals"]["south"]["num_normal_bags"] == 15
    assert result["hospitals"]["north"]["metrics"] is not None


def test_result_is_json_and_repeatable_and_free_of_row_order() -> None:
    frame = make_scores(with_sham=True, people_per_bag=3)
    first = evaluate(frame, seed=4, num_bootstrap=80)
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert evaluate(pa.Table.from_pandas(frame), seed=4, num_bootstrap=80) == first
    shuffled = evaluate(frame.sample(frac=1, random_state=1), seed=4, num_bootstrap=80)
    for name in ("auc", "pr_auc", "f1"):
        assert shuffled["overall"]["metrics"][name] == pytest.approx(
            first["overall"]["metrics"][name]
        )
    other = evaluate(frame, seed=5, num_bootstrap=80)
    assert other["overall"]["metrics"]["auc"]["low"] != first["overall"]["metrics"]["auc"]["low"]


def test_calibration_error() -> None:
    labels = np.repeat([0, 0, 1, 0, 1], 20)
    perfect = np.repeat([0.0, 0.0, 1.0, 0.0, 1.0], 20)
    assert expected_calibration_error(labels, perfect) == 0
    # One bin: the mean score 0.5 against 40 % abnormal.
    assert expected_calibration_error(labels, np.full(100, 0.5)) == pytest.approx(0.1)
    # Two bins of equal mass: |0.2 - 0.5| and |0.9 - 0.0|.
    labels = np.array([0, 1, 0, 0])
    assert expected_calibration_error(labels, [0.2, 0.2, 0.9, 0.9], 2) == pytest.approx(0.6)


def test_chance_alone_gives_a_calibration_error() -> None:
    rng = np.random.default_rng(0)
    few, many = (calibration_error_by_chance(np.full(number, 0.5), rng) for number in (100, 10_000))
    # One bin: the mean distance of a share from 0.5 is sqrt(2 / pi) standard deviations.
    assert few["value"] == pytest.approx(np.sqrt(2 / np.pi) * 0.05, rel=0.1)
    assert many["value"] == pytest.approx(few["value"] / 10, rel=0.15)
    assert few["low"] < few["value"] < few["high"]
    assert calibration_error_by_chance([0.0, 1.0], rng)["high"] == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: f[~(f["abnormal"] & (f["split"] == "test"))],
            "The test split has 0 abnormal and 30 normal bags",
        ),
        (
            lambda f: f[f["abnormal"] | (f["split"] == "test")],
            "The validation split has 50 abnormal and 0 normal bags",
        ),
        (lambda f: f[f["split"] == "test"], "The validation split has 0 abnormal and 0 normal"),
    ],
)
def test_splits_of_one_class_are_refused(spoil, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        evaluate(spoil(make_scores()), seed=0, num_bootstrap=0)


def test_sensitivity_needs_both_classes() -> None:
    with pytest.raises(DataError, match="needs normal and abnormal bags"):
        sensitivity_at_specificity([True, True], [0.1, 0.2])
