"""Statistics of rows grouped by person, with intervals from the patient bootstrap.

Shape suffixes: N rows.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homnet.evaluation.bootstrap import Floats, estimate, rank, replicates, weighted_mean


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

    def area(weights: Floats) -> Floats:
        of, others = weights[:, positive_N], weights[:, ~positive_N]
        ranks = rank(of, others, score_N[positive_N], score_N[~positive_N])
        return weighted_mean(ranks.placement, of)

    scarcer = min(len(np.unique(person_N[positive_N])), len(np.unique(person_N[~positive_N])))
    values_R, _ = replicates([(one,) for one in person_N.tolist()], area, num_bootstrap, rng)
    return estimate(values_R, scarcer)


def mean(
    value_N: NDArray[Any], people: Sequence[str], num_bootstrap: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Returns the mean over rows, as :func:`homnet.evaluation.bootstrap.estimate` does."""
    value_1N = value_N.astype(np.float64)[None]
    of_rows, each = [(one,) for one in people], partial(weighted_mean, value_1N)
    return estimate(*replicates(of_rows, each, num_bootstrap, rng))
