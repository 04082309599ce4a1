"""The patient bootstrap: intervals that treat people, not bags, as the independent observations.

Bags of one patient resemble each other, so bags must not be resampled. People are drawn with
replacement, and the weight of a bag in a replicate is the product of the multiplicities of its
distinct people. For bags of one person that is the ordinary cluster bootstrap. For bags that pool
several people it is the bootstrap of a U-statistic (Arcones and Gine 1992): the bags that the drawn
people can form are rebuilt. As only a sample of all possible bags was scored, few of them survive
in a replicate, and the interval is too wide rather than too narrow: in simulations of 25 people it
was 1.2 times as wide as needed with 3 people to a bag and 1,000 bags, 1.6 times with 5 people and
2,000 bags, and 2.7 times with 5 people and 400 bags. More bags narrow it.

Every replicate is a row of weights, so a metric is computed for all replicates at once from one
sorting of the scores. ``sklearn.metrics`` with ``sample_weight`` gives the same values, one
replicate at a time; the tests hold the two equal.

Shape suffixes: R replicates, N bags, K people of a bag, A abnormal bags, O ordinary (normal) bags.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_REPLICATES: Final = 50
"""Fewer usable replicates than this give no interval."""

MIN_PEOPLE: Final = 3
"""Fewer people than this on either side say nothing about how people differ: no interval."""

_LEVEL: Final = 0.95
_CHUNK_WEIGHTS: Final = 2_000_000


def index_people(patients: Sequence[Sequence[str]]) -> tuple[Ints, int]:
    """Numbers the people of each bag.

    Args:
        patients: the people whose pairs are in each of N bags; repetitions count once.

    Returns:
        people (N, K), padded with the number of people, and the number of people. Numbers follow
        the sorted names, so they do not depend on the order of the bags.
    """
    distinct = [set(people) for people in patients]
    number = {name: i for i, name in enumerate(sorted(set().union(*distinct)))}
    width = max((len(people) for people in distinct), default=0)
    people_NK = np.full((len(distinct), width), len(number), np.int64)
    for row, people in zip(people_NK, distinct, strict=True):
        row[: len(people)] = sorted(number[name] for name in people)
    return people_NK, len(number)


def bootstrap_weights(
    people_NK: Ints, num_people: int, num_replicates: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Draws the weights of the bags, in chunks of replicates that fit in little memory.

    Args:
        people_NK: people of each bag (N, K) from :func:`index_people`.
        num_people: people to draw from, and to draw.
        num_replicates: replicates, over all chunks.
        rng: source of the draws; the chunking does not change them.

    Yields:
        Weights (R, N) of the next R replicates.
    """
    num_bags, width = people_NK.shape
    uniform = np.full(num_people, 1 / num_people)
    step = max(1, _CHUNK_WEIGHTS // max(num_bags, 1))
    for begin in range(0, num_replicates, step):
        num_rows = min(step, num_replicates - begin)
        drawn = rng.multinomial(num_people, uniform, size=num_rows).astype(np.float64)
        # The padding index points at a column of ones, which leaves a product as it is.
        drawn = np.concatenate([drawn, np.ones((num_rows, 1))], axis=1)
        weights_RN = drawn[:, people_NK[:, 0]]
        for k in range(1, width):
            weights_RN *= drawn[:, people_NK[:, k]]
        yield weights_RN


@dataclass(frozen=True)
class Ranks:
    """What each abnormal bag contributes to the ranking metrics, per replicate.

    AUC, average precision and sensitivity at a specificity are weighted means of these over
    abnormal bags; over the abnormal bags of one kind they are the metrics of that kind.
    """

    placement: Floats
    """Share of normal bags scored lower, ties counting half (R, A)."""
    precision: Floats
    """Precision when this bag's score is the threshold (R, A)."""
    false_positive_rate: Floats
    """Share of normal bags called abnormal when this bag's score is the threshold (R, A)."""


def rank(weights_RA: Floats, weights_RO: Floats, scores_A: Floats, scores_O: Floats) -> Ranks:
    """Places abnormal bags among the normal ones, for all replicates at once.

    Args:
        weights_RA: weights of the abnormal bags (R, A).
        weights_RO: weights of the normal bags (R, O).
        scores_A: scores of the abnormal bags, ascending.
        scores_O: scores of the normal bags, ascending.

    Returns:
        The placements; NaN in replicates without a normal bag.
    """
    normal_below = _cumulate(weights_RO)
    abnormal_below = _cumulate(weights_RA)
    lower = normal_below[:, np.searchsorted(scores_O, scores_A, side="left")]
    not_higher = normal_below[:, np.searchsorted(scores_O, scores_A, side="right")]
    total = normal_below[:, -1:]
    false_positives = total - lower
    first_of_ties = np.searchsorted(scores_A, scores_A, side="left")
    true_positives = abnormal_below[:, -1:] - abnormal_below[:, first_of_ties]
    return Ranks(
        placement=divide(lower + not_higher, 2 * total),
        precision=divide(true_positives, true_positives + false_positives),
        false_positive_rate=divide(false_positives, total),
    )


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient that is NaN, silently, where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def weighted_mean(values_RA: Floats, weights_RA: Floats) -> Floats:
    """Weighted mean over bags (R,); NaN where all weights are 0. Values of weight 0 may be NaN."""
    summed = np.where(weights_RA > 0, values_RA * weights_RA, 0.0).sum(axis=1)
    return divide(summed, weights_RA.sum(axis=1))


def estimate(values_R: Floats, num_people: int) -> dict[str, Any]:
    """A value with its 95 % percentile interval, as plain types.

    Args:
        values_R: the value on the data itself first, then one value per replicate; NaN where a
            replicate was degenerate (one class, or none of the kind), which leaves it out.
        num_people: people on the scarcer side of the comparison.

    Returns:
        value, low, high (None where undefined), num_replicates (used) and num_degenerate.
    """
    value, replicates = float(values_R[0]), values_R[1:]
    good = replicates[np.isfinite(replicates)]
    enough = len(good) >= MIN_REPLICATES and num_people >= MIN_PEOPLE and np.isfinite(value)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(good, [tail, 1 - tail]).tolist() if enough else (None, None)
    return {
        "value": value if np.isfinite(value) else None,
        "low": low,
        "high": high,
        "num_replicates": len(good),
        "num_degenerate": len(replicates) - len(good),
    }


def _cumulate(weights_RN: Floats) -> Floats:
    """Total weight of the first n bags (R, N + 1)."""
    out = np.zeros((weights_RN.shape[0], weights_RN.shape[1] + 1))
    np.cumsum(weights_RN, axis=1, out=out[:, 1:])
    return out
