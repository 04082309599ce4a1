"""Whether a classifier of chromosome types trained on one set works on another.

If bands, lengths and their variation are simulated well, a classifier trained on simulated
chromosomes names real ones nearly as well as one trained on real people.

Shape suffixes: N chromosomes, U points along a chromosome stretched to unit length.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from homnet.errors import DataError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.intervals import mean
from homnet.realism.measures import Floats, Pairs, standardised
from homnet.seeding import generator

CHANCE: Final = 1 / len(CHROMOSOMES)

_SHRINKAGE: Final = 0.02
"""Of the covariance towards a multiple of the identity: neighbouring points are nearly equal."""
_LENGTH_WEIGHT: Final = 3.0
"""Factor on the log length, which shrinkage would otherwise suppress beside a hundred points."""


@dataclass(frozen=True)
class Chromosomes:
    """N single chromosomes as the classifier sees them."""

    features_NF: Floats
    """Standardised profile, and the log length relative to the cell's mean."""
    type_N: NDArray[np.int64]
    """Index of the type."""
    people: NDArray[np.str_]
    """Whose chromosome it is."""

    @classmethod
    def of_pairs(cls, pairs: Pairs) -> Self:
        """Takes the homologs of all pairs, single ones too."""
        length_NP = pairs.num_samples_NP
        present_NP = length_NP > 0
        cell = pairs.frame.groupby(["patient_id", "cell_id"]).ngroup().to_numpy()
        total = np.bincount(cell, length_NP.sum(axis=1))
        mean_N = (total / np.bincount(cell, present_NP.sum(axis=1)))[cell]
        relative = np.broadcast_to(mean_N[:, None], length_NP.shape)[present_NP]
        profile_NU = standardised(pairs.stretched_NPCU().mean(axis=2)[present_NP])
        log_length_N1 = _LENGTH_WEIGHT * np.log(length_NP[present_NP] / relative)[:, None]
        row_N = np.nonzero(present_NP)[0]
        return cls(
            np.concatenate([profile_NU, log_length_N1], axis=1).astype(np.float32),
            pairs.frame["chromosome"].to_numpy()[row_N],
            pairs.frame["patient_id"].to_numpy(str)[row_N],
        )


def classify(
    taught: Chromosomes, judged: Chromosomes, *, num_bootstrap: int, seed: int
) -> dict[str, Any]:
    """Learns the types from one set and names the chromosomes of another.

    Args:
        taught: chromosomes to learn from.
        judged: chromosomes of other people.
        num_bootstrap: replicates of the bootstrap over the judged people.
        seed: of the bootstrap.

    Returns:
        ``accuracy`` with its interval, ``recall`` by type, and the numbers of chromosomes.

    Raises:
        DataError: a person is in both sets, or there are fewer than two types to learn.
    """
    both = sorted(set(taught.people.tolist()) & set(judged.people.tolist()))
    if both:
        raise DataError(f"patient {both[0]} would be learnt from and judged; give disjoint sets")
    if len(np.unique(taught.type_N)) < 2:
        raise DataError("there is only one type of chromosome to learn from; give whole cells")
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=_SHRINKAGE)
    classifier.fit(taught.features_NF, taught.type_N)
    right_N = classifier.predict(judged.features_NF) == judged.type_N
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
