"""Chromosomes as a karyogram shows them: short arm up, and a waist where the bands put it.

Shape suffixes: C chromatids (2: left, right), L positions, F positions on the reference.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from homnet.bands import band_table

_NUM_PLACES: Final = 128
_LEVEL: Final = 400
_BLUR: Final = 2.0
"""Standard deviation of the blur of the reference, in its positions."""
_REACH: Final = 0.14
"""How far from the usual share of the length the waist is looked for."""
_NUM_CANDIDATES: Final = 15
_FLIP_MARGIN: Final = 0.1
"""By how much the bands must fit better upside down before a chromosome is turned."""


@dataclass(frozen=True)
class Upright:
    """A chromosome with its short arm first."""

    sequence_CL: NDArray[np.uint8]
    """Darkness (2, L), cut off at its end."""
    flipped: bool
    """Whether it was turned."""
    centromere: int
    """Position where reference bands fit best when the arms are stretched one by one. An estimate
    for drawing; the width of a chromosome is not in its sequences."""


def stand_up(sequence_CL: NDArray[np.uint8], chromosome: str) -> Upright:
    """Turns a chromosome's short arm to the front and finds its centromere, by its bands.

    Args:
        sequence_CL: darkness (2, 512), 0 beyond the end; not empty.
        chromosome: type.
    """
    length = int(np.flatnonzero(sequence_CL.any(axis=0))[-1]) + 1
    own_CL = sequence_CL[:, :length]
    profile_L = own_CL.mean(axis=0)
    (fit, place), (turned_fit, turned_place) = (
        _fit(profile, chromosome) for profile in (profile_L, profile_L[::-1])
    )
    if turned_fit > fit + _FLIP_MARGIN:
        # Turned by 180 degrees, left and right change sides as well.
        return Upright(own_CL[::-1, ::-1], True, turned_place)
    return Upright(own_CL, False, place)


@cache
def _reference(chromosome: str) -> tuple[tuple[float, ...], float]:
    """Blurred darkness along the reference, and the centromere as a share of its length."""
    bands = band_table(_LEVEL)[chromosome]
    at_F = (np.arange(_NUM_PLACES) + 0.5) / _NUM_PLACES * bands.length_iscn
    darkness_F = np.array([bands.at(float(place)).darkness for place in at_F])
    blurred_F = gaussian_filter1d(darkness_F, _BLUR, mode="nearest")
    return tuple(blurred_F.tolist()), bands.centromere_iscn / bands.length_iscn


def _fit(profile_L: NDArray[np.float64], chromosome: str) -> tuple[float, int]:
    """Best correlation with the reference, and the position of the centromere that gives it."""
    reference, share = _reference(chromosome)
    reference_F = np.asarray(reference)
    at_F = (np.arange(_NUM_PLACES) + 0.5) / _NUM_PLACES
    length = len(profile_L)
    positions_L = (np.arange(length) + 0.5) / length
    best = (-np.inf, int(share * length))
    for candidate in np.linspace(
        max(0.02, share - _REACH), min(0.98, share + _REACH), _NUM_CANDIDATES
    ):
        mapped_F = np.interp(at_F, (0.0, share, 1.0), (0.0, float(candidate), 1.0))
        seen_F = np.interp(mapped_F, positions_L, profile_L)
        if seen_F.std() == 0:
            continue
        # Of equal fits the usual place is preferred: tips tell little of short arms.
        fit = float(np.corrcoef(seen_F, reference_F)[0, 1]) - 0.3 * abs(float(candidate) - share)
        if fit > best[0]:
            best = (fit, int(candidate * length))
    return best
