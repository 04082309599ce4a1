"""Metrics of scores per hospital, kind and chromosome group, with intervals over patients.

The input is a table of scores (:mod:`homnet.evaluation.score_table`), one row per bag.

Sham bags are structurally normal but were cut and pasted: a model that detects the seams gives them
high scores. They are excluded from pooled metrics and compared separately, as the seam control.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from homnet.errors import DataError
from homnet.evaluation.bootstrap import (
    Floats,
    bootstrap_weights,
    divide,
    estimate,
    index_people,
    rank,
    weighted_mean,
)
from homnet.evaluation.score_table import check_scores
from homnet.karyotype.chromosomes import DENVER_GROUP_OF, DENVER_GROUPS
from homnet.karyotype.kinds import SHAM

SPECIFICITY: Final = 0.99
"""Specificity at which sensitivity is reported: one false call in 100 normal bags."""

DETECTION_SPECIFICITY: Final = 0.999
"""Specificity of the detection limit: one false call in 43 patients, with 23 bags per patient."""

EVENT_SIZES_MB: Final = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Lower bounds of the classes of event size, in megabases."""

EVENT_SIZES_PERCENT: Final = (0.0, 10.0, 20.0, 40.0)
"""Lower bounds of the classes of event size, in per cent of the chromosome."""

ENOUGH_FOR_A_THRESHOLD: Final = 10
"""Minimum number of abnormal validation people for a hospital's own threshold. With fewer, the
threshold of all hospitals' validation people gave a higher F1 on other people (LAB.md)."""

NUM_CALIBRATION_BINS: Final = 10

_ROUNDING: Final = 1e-12


def evaluate(
    scores: pd.DataFrame | pa.Table, *, seed: int, num_bootstrap: int = 1000
) -> dict[str, Any]:
    """All metrics of one table of scores.

    Thresholds are chosen on validation bags only: those of the hospital if it has enough abnormal
    people among them (:data:`ENOUGH_FOR_A_THRESHOLD`), else those of all hospitals. Sensitivity at
    99 % specificity is a point of the test ROC curve.

    Args:
        scores: table of :mod:`homnet.evaluation.score_table`, pandas or Arrow.
        seed: seed of the bootstrap.
        num_bootstrap: number of replicates; 0 for values without intervals.

    Returns:
        JSON values: ``num_bootstrap``, ``seed``, ``specificity``, ``validation`` (counts),
        ``thresholds`` by hospital, and the scopes ``overall``, ``hospitals`` and
        ``chromosome_groups`` (Denver groups). A scope has counts, ``prevalence`` (PR-AUC by
        chance), ``metrics``, ``kinds`` (each against all normal bags of the scope),
        ``kind_balanced_auc`` (mean over kinds), ``event_sizes`` (shares of the chromosome),
        ``event_sizes_mb`` (the detection limit: ``detection`` is the sensitivity at 99.9 %
        specificity) and ``seam_control``. An estimate has value, low, high (95 %), num_replicates
        and num_degenerate. Metrics of a scope with a single class are None.

    Raises:
        DataError: the table is malformed, a person is in both splits, or a split lacks a class.
    """
    frame = check_scores(scores)
    rng = np.random.default_rng(seed)
    validation = frame[(frame["split"] == "validation") & (frame["kind"] != SHAM)]
    test = frame[frame["split"] == "test"].copy()
    _require_both_classes(test[test["kind"] != SHAM], "test", "no metric can be computed")
    thresholds = _thresholds(validation, sorted(test["hospital"].unique()))
    by_hospital = {name: chosen["threshold"] for name, chosen in thresholds.items()}
    test["called"] = test["score"] >= test["hospital"].map(by_hospital)
    group_of = test["chromosome"].map(DENVER_GROUP_OF)
    return {
        "seed": seed,
        "num_bootstrap": num_bootstrap,
        "specificity": SPECIFICITY,
        "thresholds": thresholds,
        "validation": _counts(validation),
        "overall": _scope(test, num_bootstrap, rng),
        "hospitals": {
            str(name): _scope(part, num_bootstrap, rng) for name, part in test.groupby("hospital")
        },
        "chromosome_groups": {
            group: _scope(test[group_of == group], num_bootstrap, rng)
            for group in DENVER_GROUPS
            if (group_of == group).any()
        },
    }


def hospital_samples(
    scores: pd.DataFrame | pa.Table, *, seed: int, num_bootstrap: int
) -> dict[str, dict[str, Floats]]:
    """AUC and F1 of each hospital on the test bags (first) and on each replicate.

    Replicates of one seed draw the same people for every model, so values of several models or
    runs can be averaged and compared per replicate.

    Returns:
        By hospital and metric: (1 + replicates,).

    Raises:
        DataError: as :func:`evaluate`.
    """
    frame = check_scores(scores)
    frame = frame[frame["kind"] != SHAM]
    test = frame[frame["split"] == "test"].copy()
    _require_both_classes(test, "test", "no metric can be computed")
    hospitals = sorted(test["hospital"].unique())
    thresholds = _thresholds(frame[frame["split"] == "validation"], hospitals)
    chosen = {name: entry["threshold"] for name, entry in thresholds.items()}
    test["called"] = test["score"] >= test["hospital"].map(chosen)
    test = test.sort_values("score", kind="stable")
    found = {}
    for name in hospitals:
        own = test[test["hospital"] == name].reset_index(drop=True)
        normal, abnormal = np.zeros(len(own), bool), own["abnormal"].to_numpy()
        rng = np.random.default_rng(seed)
        samples = _samples(own, abnormal, normal, {}, num_bootstrap, rng)
        found[str(name)] = {metric: samples[metric] for metric in ("auc", "f1")}
    return found


def threshold_for_f1(validation: pd.DataFrame) -> float:
    """The threshold with the highest F1 on validation bags; bags at or above it are abnormal.

    It is midway between two adjacent scores. Of several best thresholds the highest is returned,
    which gives the fewest false alarms.

    Args:
        validation: rows with ``abnormal`` and ``score``, of both classes.

    Raises:
        DataError: one of the classes is absent.
    """
    _require_both_classes(validation, "validation", "no threshold can be chosen")
    labels, scores = validation["abnormal"].to_numpy(bool), validation["score"].to_numpy(float)
    precision, recall, candidates = precision_recall_curve(labels, scores)
    f1 = divide(2 * precision * recall, precision + recall)[:-1]
    best = int(np.flatnonzero(f1 >= np.nanmax(f1) - _ROUNDING)[-1])
    lower = scores[scores < candidates[best]]
    return float((candidates[best] + lower.max()) / 2 if lower.size else candidates[best])


def sensitivity_at_specificity(
    labels: ArrayLike,
    scores: ArrayLike,
    specificity: float = SPECIFICITY,
    weights: ArrayLike | None = None,
) -> float:
    """The highest sensitivity among thresholds with at least this specificity; no interpolation.

    Args:
        labels: whether each bag is abnormal (N,).
        scores: score of each bag (N,).
        specificity: minimum share of normal bags called normal.
        weights: weights of the bags (N,), all 1 by default.

    Raises:
        DataError: one of the classes is absent.
    """
    labels = np.asarray(labels, bool)
    if labels.all() or not labels.any():
        raise DataError(
            "Sensitivity at a specificity needs normal and abnormal bags; add the rest."
        )
    false_rate, true_rate, _ = roc_curve(
        labels, scores, sample_weight=weights, drop_intermediate=False
    )
    return float(true_rate[false_rate <= 1 - specificity + _ROUNDING].max())


def expected_calibration_error(
    labels: ArrayLike, scores: ArrayLike, num_bins: int = NUM_CALIBRATION_BINS
) -> float:
    """Mean absolute difference of score and share of abnormal bags, over bins of equal mass.

    Equal scores share a bin, so the result does not depend on the order of the bags.
    """
    labels, scores = np.asarray(labels, float), np.asarray(scores, float)
    edges = np.unique(np.quantile(scores, np.arange(1, num_bins) / num_bins, method="higher"))
    bins = np.searchsorted(edges, scores, side="right")
    gaps = np.bincount(bins, weights=scores - labels)
    return float(np.abs(gaps).sum() / len(scores))


def calibration_error_by_chance(scores: ArrayLike, rng: np.random.Generator) -> dict[str, float]:
    """The calibration error by chance: that of the same scores, if all were perfectly calibrated.

    Args:
        scores: probabilities.
        rng: random generator for the labels.

    Returns:
        ``value`` (mean), ``low`` and ``high`` (central 95 % of the draws).
    """
    scores = np.asarray(scores, float)
    errors = [
        expected_calibration_error(rng.random(len(scores)) < scores, scores) for _ in range(1000)
    ]
    low, high = np.quantile(errors, [0.025, 0.975])
    return {"value": float(np.mean(errors)), "low": float(low), "high": float(high)}


def _thresholds(validation: pd.DataFrame, hospitals: Sequence[str]) -> dict[str, dict[str, Any]]:
    overall = threshold_for_f1(validation)
    chosen = {}
    for hospital in hospitals:
        own = validation[validation["hospital"] == hospital]
        num_abnormal = _num_people(own[own["abnormal"]])
        enough = num_abnormal >= ENOUGH_FOR_A_THRESHOLD and not own["abnormal"].all()
        alone = enough or len(own) == len(validation)
        chosen[hospital] = {
            "threshold": threshold_for_f1(own) if alone else overall,
            "chosen_on": "own validation bags" if alone else "validation bags of all hospitals",
            "num_people": _num_people(own if alone else validation),
        }
    return chosen


def _scope(test: pd.DataFrame, num_bootstrap: int, rng: np.random.Generator) -> dict[str, Any]:
    """Counts and metrics of the test bags of one scope, with sham bags as a separate control."""
    test = test.sort_values("score", kind="stable", ignore_index=True)
    sham = (test["kind"] == SHAM).to_numpy()
    abnormal = test["abnormal"].to_numpy()
    pooled = test[~sham]
    events = test[abnormal]
    groups: dict[str, dict[str, NDArray[np.bool_]]] = {
        "kinds": {
            kind: (events["kind"] == kind).to_numpy() for kind in sorted(set(events["kind"]))
        },
        "event_sizes": size_classes(100 * events["event_fraction"], EVENT_SIZES_PERCENT, "%"),
        "event_sizes_mb": size_classes(events["size_mb"], EVENT_SIZES_MB, "Mb"),
    }
    samples = _samples(test, abnormal, sham, groups, num_bootstrap, rng)
    # Every metric needs enough people of both classes.
    num_normal = _num_people(pooled[~pooled["abnormal"]])

    def estimated(name: Hashable, rows: pd.DataFrame) -> dict[str, Any]:
        return estimate(samples[name], min(num_normal, _num_people(rows)))

    counts = _counts(pooled)
    one_class = not (counts["num_abnormal_bags"] and counts["num_normal_bags"])
    scope: dict[str, Any] = counts | {
        "prevalence": counts["num_abnormal_bags"] / max(counts["num_bags"], 1),
        "metrics": None
        if one_class
        else {name: estimated(name, events) for name in samples if isinstance(name, str)}
        | {"ece": expected_calibration_error(pooled["abnormal"], pooled["score"])},
        "kind_balanced_auc": None,
        "seam_control": None,
    }
    for table, masks in groups.items():
        scope[table] = {
            name: {
                "num_bags": int(mask.sum()),
                "num_people": _num_people(events[mask]),
                **{
                    of: estimated((table, name, of), events[mask])
                    for of in ("auc", "recall", "sensitivity", "detection")
                },
                "median_mb": _median(events["size_mb"][mask]),
            }
            for name, mask in masks.items()
            if not one_class
        }
    if scope["kinds"]:
        kinds = [samples["kinds", kind, "auc"] for kind in groups["kinds"]]
        fewest = min(entry["num_people"] for entry in scope["kinds"].values())
        scope["kind_balanced_auc"] = estimate(np.mean(kinds, axis=0), min(num_normal, fewest))
    if sham.any() and counts["num_normal_bags"]:
        scope["seam_control"] = {
            "num_bags": int(sham.sum()),
            "num_people": _num_people(test[sham]),
            "auc": estimated(("seam", "auc"), test[sham]),
        }
    return scope


def _samples(
    test: pd.DataFrame,
    abnormal: NDArray[np.bool_],
    sham: NDArray[np.bool_],
    groups: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[Hashable, Floats]:
    """Every metric on the data itself (first) and on each replicate; rows are sorted by score."""
    normal = ~abnormal & ~sham
    scores = test["score"].to_numpy(float)
    called = test["called"].to_numpy(float)
    squared_error = (scores - abnormal) ** 2
    people_NK, num_people = index_people(list(test["patients"]))
    collected: dict[Hashable, list[Floats]] = {}

    def add(name: Hashable, values: Floats) -> None:
        collected.setdefault(name, []).append(values)

    itself = np.ones((1, len(test)))
    for weights in (itself, *bootstrap_weights(people_NK, num_people, num_bootstrap, rng)):
        of_abnormal, of_normal = weights[:, abnormal], weights[:, normal]
        ranks = rank(of_abnormal, of_normal, scores[abnormal], scores[normal])
        detected, detected_999 = (
            np.where(
                np.isnan(ranks.false_positive_rate),
                np.nan,
                ranks.false_positive_rate <= 1 - specificity + _ROUNDING,
            )
            for specificity in (SPECIFICITY, DETECTION_SPECIFICITY)
        )
        caught = of_abnormal @ called[abnormal]
        alarms = of_normal @ called[normal]
        num_abnormal, num_normal = of_abnormal.sum(axis=1), of_normal.sum(axis=1)
        one_class = np.where((num_abnormal > 0) & (num_normal > 0), 1.0, np.nan)
        pooled = weights[:, ~sham]
        add("auc", weighted_mean(ranks.placement, of_abnormal))
        add("pr_auc", weighted_mean(ranks.precision, of_abnormal) * one_class)
        add("f1", divide(2 * caught, num_abnormal + caught + alarms) * one_class)
        add("precision", divide(caught, caught + alarms) * one_class)
        add("recall", divide(caught, num_abnormal) * one_class)
        add("specificity", divide(num_normal - alarms, num_normal) * one_class)
        add("sensitivity", weighted_mean(detected, of_abnormal))
        add("brier", divide(pooled @ squared_error[~sham], pooled.sum(axis=1)) * one_class)
        for table, masks in groups.items():
            for name, mask in masks.items():
                part = of_abnormal[:, mask]
                hits = divide(part @ called[abnormal][mask], part.sum(axis=1))
                add((table, name, "auc"), weighted_mean(ranks.placement[:, mask], part))
                add((table, name, "recall"), hits * one_class)
                add((table, name, "sensitivity"), weighted_mean(detected[:, mask], part))
                add((table, name, "detection"), weighted_mean(detected_999[:, mask], part))
        if sham.any():
            seam = rank(weights[:, sham], of_normal, scores[sham], scores[normal])
            add(("seam", "auc"), weighted_mean(seam.placement, weights[:, sham]))
    return {name: np.concatenate(values) for name, values in collected.items()}


def size_classes(
    sizes: "pd.Series[float]", lower_ends: Sequence[float], unit: str
) -> dict[str, NDArray[np.bool_]]:
    """Masks of the non-empty classes of event size; events of unknown size are in no class."""
    classes = class_of_size(sizes, lower_ends, unit).cat.remove_unused_categories()
    return {name: (classes == name).to_numpy() for name in classes.cat.categories}


def class_of_size(
    sizes: "pd.Series[float]", lower_ends: Sequence[float], unit: str
) -> "pd.Series[Any]":
    """Name of the class of each event size, as a category; NaN for unknown sizes."""
    names = [
        f"{low:.0f} to {high:.0f} {unit}" if np.isfinite(high) else f"{low:.0f} {unit} and more"
        for low, high in itertools.pairwise((*lower_ends, np.inf))
    ]
    return pd.cut(sizes, [*lower_ends, np.inf], right=False, labels=names)


def _median(values: "pd.Series[float]") -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None


def _counts(frame: pd.DataFrame) -> dict[str, int]:
    abnormal = frame["abnormal"]
    return {
        "num_bags": len(frame),
        "num_abnormal_bags": int(abnormal.sum()),
        "num_normal_bags": int((~abnormal).sum()),
        "num_people": _num_people(frame),
        "num_abnormal_people": _num_people(frame[abnormal]),
        "num_normal_people": _num_people(frame[~abnormal]),
        "num_pairs": int(frame["num_pairs"].sum()),
    }


def _num_people(frame: pd.DataFrame) -> int:
    return len({name for bag in frame["patients"] for name in bag})


def _require_both_classes(frame: pd.DataFrame, split: str, consequence: str) -> None:
    num_abnormal = int(frame["abnormal"].sum())
    if num_abnormal in (0, len(frame)):
        raise DataError(
            f"The {split} split has {num_abnormal} abnormal and {len(frame) - num_abnormal} normal "
            f"bags, so {consequence}; put people of both classes in it."
        )
