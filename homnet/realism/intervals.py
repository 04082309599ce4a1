"""Figures of rows that belong to people, with intervals from the patient bootstrap.

Shape suffixes: N rows.
"""

from collections.abc import Callable, Sequence
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
    """Area under the ROC curve, as :func:`homnet.evaluation.bootstrap.estimate` gives it.

    Args:
        score_N: higher for positive rows.
        positive_N: the class of each row.
        people: whose row it is.
        num_bootstrap: replicates.
        rng: draws them.
    """
    order = np.argsort(score_N, kind="stable")
    score_N, positive_N = score_N[order].astype(np.float64), positive_N[order]
    person_N = np.asarray(people)[order]

    def statistic(weights_RN: NDArray[np.float64]) -> NDArray[np.float64]:
        of_positive = weights_RN[:, positive_N]
        ranks = rank(
            of_positive, weights_RN[:, ~positive_N], score_N[positive_N], score_N[~positive_N]
        )
        return weighted_mean(ranks.placement, of_positive)

    scarcer = min(len(set(person_N[of_class])) for of_class in (positive_N, ~positive_N))
    return _estimate(statistic, person_N.tolist(), scarcer, num_bootstrap, rng)


def mean(
    value_N: NDArray[Any], people: Sequence[str], num_bootstrap: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Mean over rows, as :func:`homnet.evaluation.bootstrap.estimate` gives it."""
    value_1N = value_N.astype(np.float64)[None]
    return _estimate(
        lambda weights_RN: weighted_mean(value_1N, weights_RN),
        people,
        len(set(people)),
        num_bootstrap,
        rng,
    )


def _estimate(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    people: Sequence[str],
    num_people: int,
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """A statistic (R,) of the weights of rows (R, N), with its interval over people."""
    people_NK, total = index_people([(one,) for one in people])
    replicates = bootstrap_weights(people_NK, total, num_bootstrap, rng)
    values = [statistic(weights) for weights in (np.ones((1, len(people))), *replicates)]
    return estimate(np.concatenate(values), num_people)
