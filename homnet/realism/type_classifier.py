"""Tests whether a chromosome type classifier trained on one set works on another.

If bands, lengths and their variation are realistic, a classifier trained on simulated chromosomes
is nearly as accurate on real ones as one trained on real people.

Shape suffixes: N chromosomes, U points along a chromosome stretched to unit length.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from homnet.errors import DataError
from homnet.imaging.type_classifier import TypeClassifier, features
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.intervals import mean
from homnet.realism.measures import Floats, Pairs
from homnet.seeding import generator

CHANCE: Final = 1 / len(CHROMOSOMES)


@dataclass(frozen=True)
class Chromosomes:
    """Features of N single chromosomes."""

    features_NF: Floats
    """Standardised profile, and the log length relative to the cell's mean."""
    type_N: NDArray[np.int64]
    """Index of the type."""
    people: NDArray[np.str_]
    """Person of each chromosome."""

    @classmethod
    def of_pairs(cls, pairs: Pairs) -> Self:
        """Takes the homologs of all pairs, including single ones."""
        length_NP = pairs.num_samples_NP
        present_NP = length_NP > 0
        cell = pairs.frame.groupby(["patient_id", "cell_id"]).ngroup().to_numpy()
        total = np.bincount(cell, length_NP.sum(axis=1))
        mean_N = (total / np.bincount(cell, present_NP.sum(axis=1)))[cell]
        relative = np.broadcast_to(mean_N[:, None], length_NP.shape)[present_NP]
        profile_NU = pairs.stretched_NPCU().mean(axis=2)[present_NP]
        row_N = np.nonzero(present_NP)[0]
        return cls(
            features(profile_NU, length_NP[present_NP] / relative).astype(np.float32),
            pairs.frame["chromosome"].to_numpy()[row_N],
            pairs.frame["patient_id"].to_numpy(str)[row_N],
        )


def classify(
    taught: Chromosomes, judged: Chromosomes, *, num_bootstrap: int, seed: int
) -> dict[str, Any]:
    """Trains a type classifier on one set and applies it to another.

    Args:
        taught: training chromosomes.
        judged: chromosomes of other people.
        num_bootstrap: number of replicates of the bootstrap over the judged people.
        seed: seed of the bootstrap.

    Returns:
        ``accuracy`` with its interval, ``recall`` by type, and the numbers of chromosomes.

    Raises:
        DataError: a person is in both sets, or there are fewer than two types in ``taught``.
    """
    both = sorted(set(taught.people.tolist()) & set(judged.people.tolist()))
    if both:
        raise DataError(f"patient {both[0]} would be learnt from and judged; give disjoint sets")
    if len(np.unique(taught.type_N)) < 2:
        raise DataError("there is only one type of chromosome to learn from; give whole cells")
    classifier = TypeClassifier.fit(taught.features_NF, taught.type_N)
    right_N = classifier.logits(judged.features_NF).argmax(axis=1) == judged.type_N
    rng = generator(seed, "type classifier")
    recall = {
        name: float(right_N[judged.type_N == number].mean())
        for number, name in enumerate(CHROMOSOMES)
        if (judged.type_N == number).any()
    }
    return {
        "accuracy": mean(right_N, judged.people.tolist(), num_bootstrap, rng),
        "recall": recall,
        "num_chromosomes": [len(taught.type_N), len(judged.type_N)],
    }
