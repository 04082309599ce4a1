"""Finds chromosomes that lie upside down and turns them.

Diagrams of a laboratory may be turned over (paper, section 2.1), and a turned chromosome looks like
a rearranged one. The chromosomes of one type of one patient resemble each other more than they
resemble any drawing of the type. So each is compared, as it is and turned, with the mean of the
others, to which the bands of the ideogram are added. Turning a chromosome negates its score, so the
answer does not depend on the way it came. One arm may be stretched more than the other: the middle
is moved until it fits best.

If all chromosomes of a type are turned together, they fit each other as before. Most chromosomes
arrive upright, and the ideogram tells the ends of most types apart: both decide. On a karyogram a
person has set the chromosomes upright: there most of a type are right, whatever the ideogram says,
and one that lies otherwise needs a stronger reason.

Shape suffixes: N chromosomes, C chromatids (2: left, right), L positions, U points along a
chromosome stretched to unit length, F frequencies, V positions of the middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import CHROMOSOMES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FloatT = TypeVar("FloatT", np.float32, np.float64)

_NUM_POINTS: Final = 64
_NUM_FREQUENCIES: Final = 28
_FREQUENCY_GROWTH: Final = 20.0
"""Weights grow by e per so many frequencies: staining, blur and the ends of the axis disturb the
slow changes along a chromosome most."""
_MIDDLES: Final = (-0.05, -0.025, 0.0, 0.025, 0.05)
"""Positions of the middle, as shares of the length from where it is."""
_BAND_LEVELS: Final = (400, 550)
"""Band tables whose mean is the ideogram."""
_BLUR_ISCN: Final = 308.0
"""Blur of the ideogram in ISCN units: two pixels on a slide."""
_FINE: Final = 8
"""Points of the ideogram before blurring, per point after it."""
_IDEOGRAM_WEIGHT: Final = 3.0
"""Weight of the ideogram beside each of the others."""
_UPRIGHT: Final = 2.0
"""Log odds that a chromosome arrives upright: less than the 97 % counted on real images, because
chromosomes of one cell may be turned together."""
_UPRIGHT_ON_KARYOGRAM: Final = 200.0
"""The same on a karyogram: the ideogram decides only if as many lie one way as the other."""
_DRAWN: Final = 80.0
"""Log odds of an orientation of all chromosomes, per difference in correlation with the
ideogram."""
_LEFT: Final = 0.15
"""A chromosome joins the mean turned only if its score is below minus this."""
CERTAIN: Final = 0.075
"""Difference of two correlations above which an orientation is certain. See
results/orientation.json for how often it is right."""
CERTAIN_ON_KARYOGRAM: Final = 0.15
"""The same for turning a chromosome of a karyogram, of which one in 70 lies upside down."""
_ENOUGH: Final = 10
"""Number of chromosomes of a type from which on scores are not made smaller: their mean is known
well enough."""
_ROUNDS: Final = 3


@dataclass(frozen=True)
class Orientation:
    """Which of N chromosomes lie upside down."""

    score_N: Floats
    """Correlation with the others as it is minus the same when turned, -2..2, smaller where the
    others are few; turning a chromosome negates it."""
    on_karyogram: bool = False
    """Whether they were cut out of karyograms."""

    @property
    def upside_down_N(self) -> Bools:
        """Chromosomes that certainly lie upside down."""
        return self.score_N <= -(CERTAIN_ON_KARYOGRAM if self.on_karyogram else CERTAIN)

    @property
    def uncertain_N(self) -> Bools:
        """Chromosomes that may lie upside down or not.

        On a karyogram they are those that look upside down, but not certainly so.
        """
        if self.on_karyogram:
            return (self.score_N <= -CERTAIN) & ~self.upside_down_N
        return np.abs(self.score_N) < CERTAIN

    @classmethod
    def of(
        cls,
        sequence_NCL: NDArray[np.uint8],
        chromosome_N: Sequence[int] | NDArray[np.int64],
        group_N: NDArray[np.int64],
        *,
        on_karyogram: bool = False,
    ) -> Self:
        """Compares the chromosomes of each group with each other.

        Args:
            sequence_NCL: darkness, 0 beyond the end of a chromosome; none is empty.
            chromosome_N: index of the type, 0..23; the same within a group.
            group_N: number of the group: the chromosomes of one type of one patient.
            on_karyogram: whether they were cut out of karyograms.
        """
        upright = _UPRIGHT_ON_KARYOGRAM if on_karyogram else _UPRIGHT
        score_N = np.zeros(len(group_N))
        order = np.argsort(group_N, kind="stable")
        borders = np.flatnonzero(np.diff(group_N[order])) + 1
        profile_NU = profiles(sequence_NCL)
        for rows in np.split(order, borders) if len(order) else ():
            ideogram_F = _ideogram(int(chromosome_N[rows[0]]))
            score_N[rows] = _scores(profile_NU[rows], ideogram_F, upright)
        return cls(score_N, on_karyogram)


def turn(sequence_NCL: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turns chromosomes by 180 degrees: reversed within their length, left and right swapped.

    Args:
        sequence_NCL: darkness (N, 2, L), 0 beyond the end of a chromosome.
    """
    size = sequence_NCL.shape[-1]
    # Beyond the first position the index wraps, and reads the background behind the end.
    at_NL = (_lengths(sequence_NCL)[:, None] - 1 - np.arange(size)) % size
    return np.take_along_axis(sequence_NCL[:, ::-1], at_NL[:, None], axis=2)


def profiles(sequence_NCL: NDArray[np.uint8], num_points: int = _NUM_POINTS) -> Floats:
    """Mean darkness of both chromatids at ``num_points`` along each chromosome (N, U)."""
    length_N1 = _lengths(sequence_NCL)[:, None]
    at_NU = (np.arange(num_points) + 0.5) / num_points * length_N1 - 0.5
    at_NU = np.clip(at_NU, 0, length_N1 - 1)
    low_NU = np.minimum(at_NU.astype(np.int64), sequence_NCL.shape[-1] - 2)
    mean_NL = sequence_NCL.mean(axis=1, dtype=np.float32)
    share_NU = at_NU - low_NU
    low, high = (np.take_along_axis(mean_NL, at, axis=1) for at in (low_NU, low_NU + 1))
    return np.asarray(low * (1 - share_NU) + high * share_NU, np.float64)


def standardised(profile_NU: NDArray[FloatT]) -> NDArray[FloatT]:
    """Profiles scaled to mean 0 and standard deviation 1 along the last axis."""
    centred_NU = profile_NU - profile_NU.mean(axis=-1, keepdims=True)
    return np.asarray(centred_NU / np.maximum(centred_NU.std(axis=-1, keepdims=True), 1e-6))


def _lengths(sequence_NCL: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of samples of each chromosome."""
    filled_NL = np.asarray(sequence_NCL.any(axis=1))
    return np.asarray(filled_NL.shape[1] - filled_NL[:, ::-1].argmax(axis=1), np.int64)


def _scores(profile_NU: Floats, ideogram_F: Floats, upright: float) -> Floats:
    """Scores (N) of the chromosomes of one group; see :class:`Orientation`.

    Args:
        profile_NU: their profiles.
        ideogram_F: spectrum of the bands of their type.
        upright: log odds that a chromosome arrives upright.
    """
    up_NVF, down_NVF = _spectra(profile_NU), _spectra(profile_NU[:, ::-1])
    middle, row_N = len(_MIDDLES) // 2, np.arange(len(profile_NU))
    upright_N = _split(up_NVF[:, middle] - down_NVF[:, middle])
    chosen_NF, turned_NF = (
        np.where(one_N[:, None], up_NVF[:, middle], down_NVF[:, middle])
        for one_N in (upright_N, ~upright_N)
    )
    drawn = float((_unit(chosen_NF.sum(axis=0)) - _unit(turned_NF.sum(axis=0))) @ ideogram_F)
    if upright * (2 * upright_N.sum() - len(upright_N)) + _DRAWN * drawn < 0:
        chosen_NF = turned_NF
    score_N = np.zeros(len(profile_NU))
    for _ in range(_ROUNDS):
        others_NF = _unit(chosen_NF.sum(axis=0) - chosen_NF + _IDEOGRAM_WEIGHT * ideogram_F)
        fit_up_NV = np.einsum("nvf,nf->nv", up_NVF, others_NF)
        fit_down_NV = np.einsum("nvf,nf->nv", down_NVF, others_NF)
        score_N = fit_up_NV.max(axis=1) - fit_down_NV.max(axis=1)
        chosen_NF = np.where(
            (score_N > -_LEFT)[:, None],
            up_NVF[row_N, fit_up_NV.argmax(axis=1)],
            down_NVF[row_N, fit_down_NV.argmax(axis=1)],
        )
    return score_N * float(np.sqrt(min(1.0, len(score_N) / _ENOUGH)))


def _split(odd_NF: Floats) -> Bools:
    """Divides the chromosomes of a group into those of one orientation and those of the other.

    The odd part of a profile changes its sign when the chromosome is turned. The first eigenvector
    of the products of different chromosomes has the signs that make them agree.
    """
    product_NN = odd_NF @ odd_NF.T
    np.fill_diagonal(product_NN, 0.0)
    return np.asarray(np.linalg.eigh(product_NN)[1][:, -1] >= 0)


def _spectra(profile_NU: Floats) -> Floats:
    """Spectra (N, V, F) of profiles with the middle moved, each of length 1."""
    flat = profile_NU @ _stretched_spectrum()
    return _unit(flat.reshape(len(profile_NU), len(_MIDDLES), _NUM_FREQUENCIES))


@cache
def _stretched_spectrum() -> Floats:
    """Matrix (U, V * F): moves the middle, and takes the weighted cosine transform."""
    at_U = (np.arange(_NUM_POINTS) + 0.5) / _NUM_POINTS
    frequency_F = np.arange(1, _NUM_FREQUENCIES + 1)
    cosine_UF = np.cos(np.pi * at_U[:, None] * frequency_F) * np.exp(
        frequency_F / _FREQUENCY_GROWTH
    )
    parts = []
    for middle in _MIDDLES:
        from_U = np.interp(at_U, (0.0, 0.5, 1.0), (0.0, 0.5 + middle, 1.0))
        linear_UU = np.array([np.interp(from_U, at_U, one) for one in np.eye(_NUM_POINTS)])
        parts.append(linear_UU @ cosine_UF)
    return np.concatenate(parts, axis=1)


@cache
def _ideogram(chromosome: int) -> Floats:
    """Spectrum (F) of the bands of a type, blurred, with background beyond the tips."""
    num = _NUM_POINTS * _FINE
    profile_U = np.zeros(_NUM_POINTS)
    for level in _BAND_LEVELS:
        bands = band_table(level)[CHROMOSOMES[chromosome]]
        step = bands.length_iscn / num
        fine = np.array([bands.at((i + 0.5) * step).darkness for i in range(num)])
        blurred = gaussian_filter1d(fine, _BLUR_ISCN / step, mode="constant")
        mean_U = blurred.reshape(_NUM_POINTS, _FINE).mean(axis=1)
        profile_U += (mean_U - mean_U.mean()) / mean_U.std()
    return np.asarray(_spectra(profile_U[None])[0, len(_MIDDLES) // 2])


def _unit(values: Floats) -> Floats:
    """Scales the last axis to length 1; zeros stay."""
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12))
