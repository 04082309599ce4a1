"""Estimates the band level of a cell from the bands of its chromosomes.

The finer the bands that a chromosome shows, the higher its level. Each chromosome, stretched to
unit length, gives its type's discriminant a probability of each level; the mean level over all
chromosomes of the cell decides. A chromosome of a real slide fits no drawing of a level exactly:
alone it may be far off, and one outlier has a bounded part in the mean. The scale of the images
does not matter.

Shape suffixes: N chromosomes, G cells, U points along a chromosome stretched to unit length, F
features, T types, B band levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.special import softmax

from homnet.imaging.orientation import profiles, standardised
from homnet.imaging.type_classifier import NUM_POINTS
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES

Floats = NDArray[np.float64]

FILE: Final = "band_level.npz"
"""Name of the estimator that comes with the package, beside this module."""
FAR_APART: Final = 2
"""Difference in levels from which a stated level and the estimated one do not agree."""
_SHRINKAGE: Final = 0.02
"""Shrinkage of the covariance to a multiple of the identity: neighbouring points are correlated."""
_FREQUENCIES: Final = (1, 4, 8, 12, 16, 20, 25, 30, 36, 45, 60)
"""Borders of the bands of half cycles per chromosome whose power is measured: the shares of coarse
and fine bands, wherever they are."""
_LEAST_POWER: Final = 1e-3


def level_features(sequence_NCL: NDArray[np.uint8]) -> Floats:
    """Features (N, F) of chromosomes: standardised profile and log power of its frequencies.

    Args:
        sequence_NCL: darkness, 0 beyond the end of a chromosome; none is empty.
    """
    profile_NU = standardised(profiles(sequence_NCL, NUM_POINTS))
    power_NU = np.square(dct(profile_NU, norm="ortho", axis=1))
    power_NF = np.add.reduceat(power_NU, _FREQUENCIES, axis=1)[:, :-1] / np.diff(_FREQUENCIES)
    return np.concatenate([profile_NU, np.log(_LEAST_POWER + power_NF)], axis=1)


@dataclass(frozen=True)
class LevelEstimator:
    """A discriminant of the band levels for each type, and where their means divide."""

    weight_TFB: Floats
    """Weights of the features."""
    bias_TB: Floats
    """Bias of each level."""
    borders: Floats
    """Mean levels of a cell, as indices, at which one level ends and the next begins."""

    @classmethod
    def fit(
        cls,
        features_NF: NDArray[Any],
        type_N: NDArray[np.int64],
        level_N: NDArray[np.int64],
        cell_N: NDArray[np.int64],
    ) -> Self:
        """Learns from cells of known level, with chromosomes of all types at all levels.

        Args:
            features_NF: from :func:`level_features`.
            type_N: indices of the types.
            level_N: indices of the band levels.
            cell_N: numbers of the cells, from 0.
        """
        # Here and not above: readers never learn, and importing scikit-learn takes a second.
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        num_levels = len(BAND_LEVELS)
        weights, biases = [], []
        for number in range(len(CHROMOSOMES)):
            own_N = type_N == number
            model = LinearDiscriminantAnalysis(
                solver="lsqr", shrinkage=_SHRINKAGE, priors=np.full(num_levels, 1 / num_levels)
            )
            model.fit(features_NF[own_N], level_N[own_N])
            weights.append(np.asarray(model.coef_).T)
            biases.append(np.asarray(model.intercept_))
        found = cls(np.stack(weights), np.stack(biases), np.zeros(num_levels - 1))
        mean_G = found.mean_levels(features_NF, type_N, cell_N)
        known_G = np.zeros(len(mean_G), np.int64)
        known_G[cell_N] = level_N
        middle, spread = (
            np.array([of(mean_G[known_G == level]) for level in range(num_levels)])
            for of in (np.mean, np.std)
        )
        # As many spreads from the mean of the one level as from that of the next.
        below, above = np.maximum(spread[:-1], 1e-6), np.maximum(spread[1:], 1e-6)
        borders = (middle[:-1] * above + middle[1:] * below) / (below + above)
        return cls(found.weight_TFB, found.bias_TB, borders)

    def mean_levels(
        self, features_NF: NDArray[Any], type_N: NDArray[np.int64], cell_N: NDArray[np.int64]
    ) -> Floats:
        """Mean level (G) of each cell's chromosomes as an index between 0 and 3."""
        logit_NB = np.empty((len(features_NF), len(BAND_LEVELS)))
        for number in np.unique(type_N):
            own_N = type_N == number
            logit_NB[own_N] = features_NF[own_N] @ self.weight_TFB[number] + self.bias_TB[number]
        level_N = softmax(logit_NB, axis=1) @ np.arange(len(BAND_LEVELS), dtype=np.float64)
        return np.bincount(cell_N, level_N) / np.bincount(cell_N)

    def estimate(
        self,
        sequence_NCL: NDArray[np.uint8],
        type_N: NDArray[np.int64],
        cell_N: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Band levels (G) of cells: 300, 400, 550 or 700.

        Args:
            sequence_NCL: darkness of the chromosomes, 0 beyond their ends; none is empty.
            type_N: indices of their types.
            cell_N: numbers of their cells, 0..G-1; each has a chromosome.
        """
        mean_G = self.mean_levels(level_features(sequence_NCL), type_N, cell_N)
        return np.asarray(BAND_LEVELS)[np.searchsorted(self.borders, mean_G)]

    def to_bytes(self) -> bytes:
        """The content of its file."""
        buffer = BytesIO()
        np.savez_compressed(
            buffer,
            weight=self.weight_TFB.astype("<f4"),
            bias=self.bias_TB.astype("<f4"),
            borders=self.borders,
        )
        return buffer.getvalue()

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From the arrays of its file."""
        return cls(*(arrays[name].astype(np.float64) for name in ("weight", "bias", "borders")))


@cache
def shipped_estimator() -> LevelEstimator:
    """The estimator that comes with the package."""
    content = files(__package__).joinpath(FILE).read_bytes()
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return LevelEstimator.of(arrays)


def levels_apart(one: int, other: int) -> int:
    """Number of steps between two band levels."""
    return abs(BAND_LEVELS.index(one) - BAND_LEVELS.index(other))
