"""Accuracy of verdicts on patients: abnormal patients found, healthy ones cleared, abstentions.

A patient is one observation, so intervals of shares are exact binomial ones (Clopper and Pearson
1934). Each question has two shares. Among all patients, one who was not assessed counts as an
error: an abnormal one was not found, a healthy one was not cleared. Among assessed patients, only
the verdicts given count, so abstaining improves this share and worsens the other.
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from homnet.evaluation.bootstrap import bootstrap_weights, estimate
from homnet.evaluation.metrics import (
    EVENT_SIZES_MB,
    calibration_error_by_chance,
    class_of_size,
    expected_calibration_error,
    sensitivity_at_specificity,
)
from homnet.patients.tables import KEY, truth_of_patients

_NUM_BINS: Final = 10
_OTHERS_FALSE_RATE: Final = 0.01
"""False-positive rate of other normal types at which that of normal variants is reported."""


def measure_patients(
    patients: pd.DataFrame,
    types: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    seed: int,
    num_bootstrap: int = 1000,
) -> dict[str, Any]:
    """Computes all figures of a set of verdicts.

    ``sensitivity`` is the share of all abnormal patients who were called abnormal, and ``cleared``
    the share of all healthy ones in whom no abnormality was found; ``sensitivity_of_assessed`` and
    ``specificity_of_assessed`` are the same among those with a verdict (see :func:`share`).

    Args:
        patients: rows of :data:`homnet.patients.tables.PATIENTS`.
        types: rows of :data:`homnet.patients.tables.TYPES`.
        truth: truth of the types, from :func:`homnet.patients.tables.truth_of_types`.
        seed: seed of the bootstrap of AUC and calibration error.
        num_bootstrap: number of bootstrap replicates.

    Returns:
        JSON-able: ``overall``, ``hospitals``, ``kinds``, ``sizes_mb``, ``band_levels``, ``cells``,
        ``mosaics``, ``reliability`` and ``variants``.
    """
    joined = join_truth(patients, truth)
    typed = types.merge(truth, on=[*KEY, "chromosome"], how="left")
    rng = np.random.default_rng(seed)
    carriers = joined[joined["true_abnormal"]]
    sizes = class_of_size(carriers["true_size_mb"], EVENT_SIZES_MB, "Mb")
    levels = joined["band_level"].map(lambda level: f"{level:.0f} bands")
    cells = pd.cut(
        joined["num_cells"],
        [0, 5, 8, 12, np.inf],
        labels=["1 to 5 cells", "6 to 8 cells", "9 to 12 cells", "13 cells and more"],
    )
    shares = pd.cut(
        carriers["true_share"],
        [0, 0.25, 0.5, 0.75, 0.999, 1.0],
        labels=["up to 25 %", "25 to 50 %", "50 to 75 %", "75 % to nearly all", "all cells"],
    )
    return {
        "overall": _scope(joined, typed, rng, num_bootstrap),
        "hospitals": {
            str(name): _scope(own, typed[typed["hospital"] == name], rng, num_bootstrap)
            for name, own in joined.groupby("hospital")
        },
        "kinds": _found_by(carriers, carriers["true_kind"].fillna("unspecified")),
        "sizes_mb": _found_by(carriers, sizes),
        "band_levels": _both_by(joined, levels),
        "cells": _both_by(joined, cells),
        "mosaics": _found_by(carriers, shares),
        "reliability": _reliability(joined),
        "variants": _variants(typed),
    }


def join_truth(patients: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Joins verdicts and truth, one row per patient, and adds ``called`` and ``judged``.

    A patient without a pair in the cohort, of whom no picture could be used, has no truth and no
    row.
    """
    joined = patients.merge(truth_of_patients(truth), on=KEY, how="inner", validate="1:1")
    joined["called"] = joined["decision"] == "abnormal"
    joined["judged"] = joined["decision"] != "not_assessed"
    joined["right_type"] = [
        bool(set(flagged) & set(types))
        for flagged, types in zip(joined["flagged"], joined["true_types"], strict=True)
    ]
    return joined


def share(count: int, total: int) -> dict[str, Any]:
    """A share with its exact 95 % interval (Clopper and Pearson); None if the total is 0."""
    if total == 0:
        return {"value": None, "low": None, "high": None, "count": 0, "total": 0}
    low = float(beta.ppf(0.025, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, total - count)) if count < total else 1.0
    return {"value": count / total, "low": low, "high": high, "count": count, "total": total}


def _scope(
    joined: pd.DataFrame, typed: pd.DataFrame, rng: np.random.Generator, num_bootstrap: int
) -> dict[str, Any]:
    abnormal, called = joined["true_abnormal"], joined["called"]
    judged = joined["judged"]
    found: dict[str, Any] = {
        "num_patients": len(joined),
        "num_abnormal": int(abnormal.sum()),
        "num_normal": int((~abnormal).sum()),
        **_rates(joined),
        "abstained": {
            "abnormal": share(int((abnormal & ~judged).sum()), int(abnormal.sum())),
            "normal": share(int((~abnormal & ~judged).sum()), int((~abnormal).sum())),
            "reasons": dict(sorted(Counter(itertools.chain(*joined["abstentions"])).items())),
        },
        "right_type": share(
            int((joined["right_type"] & called & abnormal).sum()), int((called & abnormal).sum())
        ),
        "auc": None,
        "sensitivity_at_specificity": None,
        "calibration_error": None,
        "calibration_error_by_chance": None,
        "brier": None,
        "type_calibration_error": None,
    }
    scored = joined[joined["score"].notna()]
    labels = scored["true_abnormal"].to_numpy(bool)
    if labels.any() and not labels.all():
        found["auc"] = _bootstrapped(scored, "score", roc_auc_score, rng, num_bootstrap)
        found["sensitivity_at_specificity"] = sensitivity_at_specificity(labels, scored["score"])
        found["calibration_error"] = _bootstrapped(
            scored, "probability", expected_calibration_error, rng, num_bootstrap
        )
        # A separate generator keeps the draws of the bootstrap unchanged.
        found["calibration_error_by_chance"] = calibration_error_by_chance(
            scored["probability"], rng.spawn(1)[0]
        )
        found["brier"] = float(((scored["probability"] - labels) ** 2).mean())
    counted = typed[typed["evidence"].notna()]
    if len(counted):
        found["type_calibration_error"] = expected_calibration_error(
            counted["true_abnormal"].eq(True), counted["probability"]
        )
    return found


def _bootstrapped(
    scored: pd.DataFrame,
    column: str,
    metric: Any,
    rng: np.random.Generator,
    num_bootstrap: int,
) -> dict[str, Any]:
    """A patient-level metric with its bootstrap interval."""
    labels = scored["true_abnormal"].to_numpy(bool)
    values = scored[column].to_numpy(float)
    people = np.arange(len(scored))[:, None]
    samples = [float(metric(labels, values))]
    for weights_RN in bootstrap_weights(people, len(scored), num_bootstrap, rng):
        for weights in weights_RN.astype(int):
            rows = np.repeat(np.arange(len(scored)), weights)
            drawn = labels[rows]
            samples.append(
                float(metric(drawn, values[rows])) if drawn.any() and not drawn.all() else np.nan
            )
    return estimate(np.array(samples), int(min(labels.sum(), (~labels).sum())))


def _found_by(carriers: pd.DataFrame, by: "pd.Series[Any]") -> dict[str, Any]:
    """Share of abnormal patients found, by group."""
    return {
        str(name): {
            "sensitivity": share(int(own["called"].sum()), len(own)),
            "abstained": int((~own["judged"]).sum()),
            "right_type": share(
                int((own["called"] & own["right_type"]).sum()), int(own["called"].sum())
            ),
        }
        for name, own in carriers.groupby(by, observed=True)
    }


def _both_by(joined: pd.DataFrame, by: "pd.Series[Any]") -> dict[str, Any]:
    """:func:`_rates` and the number of abstentions, by group."""
    return {
        str(name): {**_rates(own), "abstained": int((~own["judged"]).sum())}
        for name, own in joined.groupby(by, observed=True)
    }


def _rates(joined: pd.DataFrame) -> dict[str, Any]:
    """Abnormal patients found and healthy ones cleared, of all and of those with a verdict."""
    carriers, healthy = joined[joined["true_abnormal"]], joined[~joined["true_abnormal"]]
    found = int(carriers["called"].sum())
    cleared = int((healthy["judged"] & ~healthy["called"]).sum())
    return {
        "sensitivity": share(found, len(carriers)),
        "sensitivity_of_assessed": share(found, int(carriers["judged"].sum())),
        "cleared": share(cleared, len(healthy)),
        "specificity_of_assessed": share(cleared, int(healthy["judged"].sum())),
    }


def _reliability(joined: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean probability and share of abnormal patients, in bins of equal numbers of patients."""
    scored = joined[joined["probability"].notna()].sort_values("probability")
    bins = np.array_split(np.arange(len(scored)), min(_NUM_BINS, max(len(scored), 1)))
    return [
        {
            "probability": float(scored["probability"].iloc[rows].mean()),
            "abnormal": share(int(scored["true_abnormal"].iloc[rows].sum()), len(rows)),
        }
        for rows in bins
        if len(rows)
    ]


def _variants(typed: pd.DataFrame) -> Mapping[str, Any]:
    """False alarms on types with harmless variants and on all other normal types."""
    normal = typed[typed["evidence"].notna() & ~typed["true_abnormal"].eq(True)]
    # This includes the normal types of abnormal patients.
    with_variant = normal["variant"].notna()
    others = normal[~with_variant]
    cut = float(np.quantile(others["evidence"], 1 - _OTHERS_FALSE_RATE)) if len(others) else np.inf

    def rates(own: pd.DataFrame) -> dict[str, Any]:
        return {
            "over_threshold": share(int(own["alone"].sum()), len(own)),
            "at_one_percent_of_others": share(int((own["evidence"] > cut).sum()), len(own)),
        }

    named = normal[with_variant].assign(family=normal["variant"][with_variant].map(_variant_family))
    carried = rates(normal[with_variant])
    base = rates(others)
    rate, usual = (each["at_one_percent_of_others"]["value"] for each in (carried, base))
    return {
        "variants": carried,
        "others": base,
        "ratio": rate / usual if rate is not None and usual else None,
        "families": {str(name): rates(own) for name, own in named.groupby("family")},
    }


def _variant_family(names: str) -> str:
    """Groups inversions by chromosome; heterochromatin and satellites are one family each."""
    first = names.split(",")[0]
    if first.startswith("inv("):
        return first[: first.index(")") + 1]
    return "qh+" if first.endswith("qh+") else "pstk+ (satellites and stalks)"
