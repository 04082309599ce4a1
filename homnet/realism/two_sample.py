"""Classifier two-sample test: how well a classifier separates simulated from real pairs.

An AUC of 0.5 means that no measurement separates the two sets; 1 means that every pair is
recognised (Lopez-Paz and Oquab 2017). Permutation importance identifies the measurements.

Shape suffixes: N pairs, U points along a chromosome stretched to unit length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import StratifiedGroupKFold

from homnet.errors import DataError
from homnet.imaging.orientation import standardised
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.intervals import auc
from homnet.realism.measures import NUM_POINTS, Pairs
from homnet.seeding import generator

PROFILE: Final = "profile"
"""Prefix of the features that hold the darkness at points along a pair."""
TIPS: Final = ("tip", "below_tip", "stagger_tip", "stagger")
"""Measurements next to the tips."""

_NUM_FOLDS: Final = 5
_NUM_PROFILE: Final = 20
_NUM_IMPORTANT: Final = 10
_NUM_REPEATS: Final = 2
_NOT_FEATURES: Final = (
    "patient_id",
    "cell_id",
    "other_person_correlation",
    "other_type_correlation",
)
"""Excluded: names, and comparisons with other pairs, which reveal the set."""
_UNSIGNED: Final = ("gain", "offset", "chromatid_offset_0", "chromatid_offset_1")
"""Measurements whose sign depends only on the order of homologs or chromatids."""


@dataclass(frozen=True)
class TwoSampleConfig:
    """Configuration of the test."""

    num_trees: int = 100
    """Number of boosted trees of a classifier."""
    num_bootstrap: int = 1000
    """Number of replicates of the patient bootstrap."""
    seed: int = 0
    """Seed of folds, classifiers and bootstrap."""


def pair_features(pairs: Pairs, measured: pd.DataFrame) -> pd.DataFrame:
    """Returns features of each pair for the classifier, independent of the homolog order.

    Args:
        pairs: N pairs.
        measured: their measurements by :func:`homnet.realism.measures.measure`.

    Returns:
        N rows: measurements of one homolog as minimum and maximum, the type as a category, and the
        standardised mean profile of both homologs at twenty points.
    """
    found = measured.drop(columns=list(_NOT_FEATURES)).assign(
        **{name: measured[name].abs() for name in _UNSIGNED}
    )
    names = [str(name) for name in found.columns]
    for name in [name.removesuffix("_0") for name in names if name.endswith("_0")]:
        both = found[[f"{name}_0", f"{name}_1"]].to_numpy()
        found = found.drop(columns=[f"{name}_0", f"{name}_1"])
        found[f"{name}_low"], found[f"{name}_high"] = np.sort(both, axis=1).T
    shape_NU = standardised(pairs.stretched_NPCU().mean(axis=2)).mean(axis=1)
    points = shape_NU.reshape(len(pairs), _NUM_PROFILE, NUM_POINTS // _NUM_PROFILE).mean(axis=2)
    for number, values in enumerate(points.T):
        found[f"{PROFILE}_{number:02d}"] = values
    types = pd.CategoricalDtype(list(range(len(CHROMOSOMES))))
    return found.assign(chromosome=found["chromosome"].astype(types))


def without(features: pd.DataFrame, *, profile: bool = False, tips: bool = False) -> pd.DataFrame:
    """Returns the features without the profile, or without the tips (also those of the profile)."""
    dropped = [f"{name}_{end}" for name in TIPS if tips for end in ("low", "high")]
    names = [str(name) for name in features.columns]
    points = [name for name in names if name.startswith(f"{PROFILE}_")]
    dropped += points if profile else [points[0], points[-1]] if tips else []
    return features.drop(columns=dropped)


def two_sample_test(
    first: pd.DataFrame,
    second: pd.DataFrame,
    first_people: Sequence[str],
    second_people: Sequence[str],
    config: TwoSampleConfig,
) -> dict[str, Any]:
    """Classifies the pairs of two sets, with cross-validation over people.

    Args:
        first: features of the pairs of one set.
        second: the same of the other set.
        first_people: person of each row of the first set.
        second_people: person of each row of the second set; disjoint from the first.
        config: configuration of the test; folds are by person.

    Returns:
        ``auc`` with its interval over people, and the features with the largest permutation
        ``importance``, each with the decrease of the AUC.

    Raises:
        DataError: a set has fewer people than there are folds.
    """
    people = np.array(
        [*(f"1/{one}" for one in first_people), *(f"2/{one}" for one in second_people)]
    )
    is_first = np.arange(len(people)) < len(first)
    for of_set in (is_first, ~is_first):
        found = len(set(people[of_set]))
        if found < _NUM_FOLDS:
            raise DataError(
                f"a set of {found} people is too small to tell it from another; give pairs of at "
                f"least {_NUM_FOLDS} people"
            )
    features = pd.concat([first, second], ignore_index=True)
    score_N = np.zeros(len(features))
    falls = []
    folds = StratifiedGroupKFold(_NUM_FOLDS, shuffle=True, random_state=config.seed)
    for taught, judged in folds.split(features, is_first, people):
        classifier = HistGradientBoostingClassifier(
            max_iter=config.num_trees, early_stopping=False, random_state=config.seed
        )
        classifier.fit(features.iloc[taught], is_first[taught])
        score_N[judged] = classifier.predict_proba(features.iloc[judged])[:, 1]
        falls.append(
            permutation_importance(
                classifier,
                features.iloc[judged],
                is_first[judged],
                scoring="roc_auc",
                n_repeats=_NUM_REPEATS,
                random_state=config.seed,
            ).importances_mean
        )
    fall = pd.Series(np.mean(falls, axis=0), index=features.columns).nlargest(_NUM_IMPORTANT)
    rng = generator(config.seed, "two-sample")
    return {
        "auc": auc(score_N, is_first, people.tolist(), config.num_bootstrap, rng),
        "importance": {str(name): float(value) for name, value in fall.items()},
        "num_pairs": [len(first), len(second)],
    }
