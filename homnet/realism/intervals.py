"""Statistics of rows grouped by person, with intervals from the patient bootstrap.

Shape suffixes: N rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homnet.evaluation.bootstrap import (
    bootstrap_weights,
    estimate,
    index_people,
    rank,
    weighted_mean,
)


def auc(
    score_N: NDArray[Any],
    positive_N: NDArray[np.bool_],
    people: Sequence[str],
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Returns the area under the ROC curve, as :func:`homnet.evaluation.bootstrap.estimate` does.

    Args:
        score_N: scores, higher for positive rows.
        positive_N: whether each row is positive.
        people: person of each row.
        num_bootstrap: number of replicates.
        rng: random generator of the bootstrap.
    """
    order = np.argsort(score_N, kind="stable")
    score_N, positive_N = score_N[order].astype(np.float64), positive_N[order]
    person_N = np.asarray(people)[order]
    people_NK, num_people = index_people([(one,) for one in person_N])
    values = [
        weighted_mean(
            rank(
                weights[:, positive_N],
                weights[:, ~positive_N],
                score_N[positive_N],
                score_N[~positive_N],
            ).placement,
            weights[:, positive_N],
        )
        for weights in (
            np.ones((1, len(score_N))),
            *bootstrap_weights(people_NK, num_people, num_bootstrap, rng),
        )
    ]
    scarcer = min(len(np.unique(person_N[positive_N])), len(np.unique(person_N[~positive_N])))
    return estimate(np.concatenate(values), scarcer)


def mean(
    value_N: NDArray[Any], people: Sequence[str], num_bootstrap: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Returns the mean over rows, as :func:`homnet.evaluation.bootstrap.estimate` does."""
    people_NK, num_people = index_people([(one,) for one in people])
    value_1N = value_N.astype(np.float64)[None]
    values = [
        weighted_mean(value_1N, weights)
        for weights in (
            np.ones((1, len(value_N))),
            *bootstrap_weights(people_NK, num_people, num_bootstrap, rng),
        )
    ]
    return estimate(np.concatenate(values), num_people)
