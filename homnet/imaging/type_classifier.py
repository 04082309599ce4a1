"""Names the types of single chromosomes from their bands and lengths.

A linear discriminant classifier. The one that comes with the package learnt from simulated cells
(``jobs/records/ship_classifiers.py``), so its probabilities for real chromosomes are too sharp;
they are softened by a factor found on real ones.

Shape suffixes: N chromosomes, U points along a chromosome stretched to unit length, F features, T
types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from homnet.imaging.orientation import profiles, standardised, turn
from homnet.karyotype.chromosomes import CHROMOSOMES

Floats = NDArray[np.float64]

NUM_POINTS: Final = 100
"""Points of a stretched chromosome."""
FILE: Final = "type_classifier.npz"
"""Name of the classifier that comes with the package, beside this module."""
_SHRINKAGE: Final = 0.02
"""Shrinkage of the covariance to a multiple of the identity: neighbouring points are correlated."""
_LENGTH_WEIGHT: Final = 3.0
"""Factor on the log length, which shrinkage would otherwise suppress beside a hundred points."""
_SOFTENING: Final = 0.4
"""Factor on the logits for real chromosomes."""
_UNLIKE: Final = 0.03
"""Share of chromosomes of which the bands say nothing."""
_TURNED: Final = 0.03
"""Share of chromosomes that lie upside down."""


def features(profile_NU: NDArray[Any], relative_length_N: NDArray[Any]) -> Floats:
    """Features (N, F) of chromosomes: standardised profile and log length.

    Args:
        profile_NU: darkness of each chromosome stretched to ``NUM_POINTS`` points.
        relative_length_N: length over the mean length of the chromosomes of its cell.
    """
    standard_NU = standardised(profile_NU)
    log_length_N1 = _LENGTH_WEIGHT * np.log(relative_length_N)[:, None]
    return np.concatenate([standard_NU, log_length_N1], axis=1).astype(np.float64)


@dataclass(frozen=True)
class TypeClassifier:
    """A linear classifier of chromosome types."""

    weight_TF: Floats
    """Weights of the features."""
    bias_T: Floats
    """Bias of each type, in the order of :data:`CHROMOSOMES`."""

    @classmethod
    def fit(cls, features_NF: NDArray[Any], type_N: NDArray[np.int64]) -> Self:
        """Learns from chromosomes of at least two types; a type without any is never named.

        Args:
            features_NF: from :func:`features`.
            type_N: indices of the types.
        """
        # Here and not above: readers never learn, and importing scikit-learn takes a second.
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=_SHRINKAGE)
        model.fit(features_NF, type_N)
        weight_TF = np.zeros((len(CHROMOSOMES), features_NF.shape[1]))
        bias_T = np.full(len(CHROMOSOMES), -np.inf)
        coefficient, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
        if len(model.classes_) == 2:  # scikit-learn keeps the second one's only
            coefficient = np.stack([np.zeros_like(coefficient[0]), coefficient[0]])
            intercept = np.array([0.0, intercept[0]])
        weight_TF[model.classes_], bias_T[model.classes_] = coefficient, intercept
        return cls(weight_TF, bias_T)

    def logits(self, features_NF: NDArray[Any]) -> Floats:
        """Logits (N, T) of the types."""
        return np.asarray(features_NF @ self.weight_TF.T + self.bias_T, np.float64)

    def log_probabilities(
        self, sequence_NCL: NDArray[np.uint8], relative_length_N: NDArray[Any]
    ) -> Floats:
        """Log probabilities (N, T) of the types of real chromosomes, either way up.

        Args:
            sequence_NCL: darkness, 0 beyond the end of a chromosome; none is empty.
            relative_length_N: length over the mean length of the chromosomes of its cell.
        """
        ways = [
            log_softmax(_SOFTENING * self.logits(features(profile_NU, relative_length_N)), axis=1)
            for profile_NU in (
                profiles(sequence_NCL, NUM_POINTS),
                profiles(turn(sequence_NCL), NUM_POINTS),
            )
        ]
        likely_NT = (1 - _TURNED) * np.exp(ways[0]) + _TURNED * np.exp(ways[1])
        return np.log((1 - _UNLIKE) * likely_NT + _UNLIKE / len(CHROMOSOMES))

    def to_bytes(self) -> bytes:
        """The content of its file."""
        buffer = BytesIO()
        np.savez(buffer, weight=self.weight_TF.astype("<f4"), bias=self.bias_T.astype("<f4"))
        return buffer.getvalue()

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From the arrays of its file."""
        return cls(arrays["weight"].astype(np.float64), arrays["bias"].astype(np.float64))


@cache
def shipped_classifier() -> TypeClassifier:
    """The classifier that comes with the package."""
    content = files(__package__).joinpath(FILE).read_bytes()
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return TypeClassifier.of(arrays)
