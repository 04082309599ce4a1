"""Chromosomes as a karyogram shows them: short arm up, and a waist where the bands put it.

A homolog is compared with the typical profile of the patient's own homologs of its type: they
resemble each other far more than an ideogram, and few of them lie upside down.

Shape suffixes: C chromatids (2: left, right), L positions, F places along a chromosome.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import band_table

Floats = NDArray[np.float64]

_NUM_PLACES: Final = 96
_AT_F: Final = (np.arange(_NUM_PLACES) + 0.5) / _NUM_PLACES
_FEWEST: Final = 4
"""Fewest homologs that give a typical profile."""
_FLIP_MARGIN: Final = 0.25
"""Gain in correlation from which a chromosome is turned. Only one in fifty is upside down: with a
smaller margin most of those that are turned would have been upright."""
_REACH: Final = 0.12
"""Largest distance of the waist from its usual place, as a share of the length."""
_NUM_CANDIDATES: Final = 13
_MOVED: Final = 0.5
"""Gain in correlation that moving the waist must bring, per share of the length."""


@dataclass(frozen=True)
class Upright:
    """A chromosome with its short arm first."""

    sequence_CL: NDArray[np.uint8]
    """Darkness (2, L), cut off at its end."""
    flipped: bool
    """Whether it was turned."""
    centromere: int
    """Where the waist is drawn. The width of a chromosome is not in its sequences: this is where
    its bands fit those of the patient's other homologs when the arms are stretched one by one."""


def typical_profile(sequences: Iterable[NDArray[np.uint8]]) -> Floats | None:
    """Mean profile (F) of a patient's homologs of one type, all put the same way up.

    Args:
        sequences: darkness (2, 512) of each homolog; empty ones are skipped.

    Returns:
        The profile; None if there are too few homologs.
    """
    profile_NF = np.array([_profile(_cut(one).mean(axis=0)) for one in sequences if one.any()])
    if len(profile_NF) < _FEWEST:
        return None
    mean_F = profile_NF.mean(axis=0)
    for _ in range(2):
        turned_N = _similar(profile_NF[:, ::-1], mean_F) > _similar(profile_NF, mean_F)
        upright_NF = np.where(turned_N[:, None], profile_NF[:, ::-1], profile_NF)
        # Most of them lie as the laboratory put them.
        if turned_N.mean() > 0.5:
            upright_NF = upright_NF[:, ::-1]
        mean_F = upright_NF.mean(axis=0)
    return np.asarray(mean_F)


def typical_profiles(
    cells: Iterable[Mapping[str, NDArray[np.uint8]]],
) -> dict[str, Floats | None]:
    """The :func:`typical_profile` of each type.

    Args:
        cells: the pairs (2, 2, 512) of each cell of a patient, by type.
    """
    of_type: dict[str, list[NDArray[np.uint8]]] = {}
    for cell in cells:
        for chromosome, pair_PCL in cell.items():
            of_type.setdefault(chromosome, []).extend(pair_PCL)
    return {chromosome: typical_profile(found) for chromosome, found in of_type.items()}


def stand_up(sequence_CL: NDArray[np.uint8], chromosome: str, typical_F: Floats | None) -> Upright:
    """Puts a chromosome the same way up as the others, and finds its waist.

    Args:
        sequence_CL: darkness (2, 512), 0 beyond the end; not empty.
        chromosome: type.
        typical_F: typical profile of the patient's homologs of the type; without it nothing is
            turned and the waist is at the usual share of the length.
    """
    own_CL = _cut(sequence_CL)
    bands = band_table(400)[chromosome]
    share = bands.centromere_iscn / bands.length_iscn
    if typical_F is None:
        return Upright(own_CL, False, int(share * own_CL.shape[1]))
    profile_F = _profile(own_CL.mean(axis=0))
    up, down = _similar(np.stack([profile_F, profile_F[::-1]]), typical_F)
    flipped = bool(down > up + _FLIP_MARGIN)
    if flipped:
        # Turned by 180 degrees, left and right change sides as well.
        own_CL = own_CL[::-1, ::-1]
    waist = _waist(own_CL.mean(axis=0), share, typical_F)
    return Upright(own_CL, flipped, int(waist * own_CL.shape[1]))


def _cut(sequence_CL: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A sequence without what lies beyond its end."""
    return sequence_CL[:, : int(np.flatnonzero(sequence_CL.any(axis=0))[-1]) + 1]


def _profile(profile_L: Floats, border: tuple[float, float] = (0.5, 0.5)) -> Floats:
    """A profile at F places, standardised; ``border`` maps a share of the length to another."""
    at_F = np.interp(_AT_F, (0.0, border[0], 1.0), (0.0, border[1], 1.0))
    positions_L = (np.arange(len(profile_L)) + 0.5) / len(profile_L)
    seen_F = np.interp(at_F, positions_L, profile_L)
    return np.asarray((seen_F - seen_F.mean()) / max(float(seen_F.std()), 1e-9))


def _similar(profile_NF: Floats, typical_F: Floats) -> Floats:
    """Correlation of standardised profiles with a typical profile."""
    centred_F = typical_F - typical_F.mean()
    return np.asarray(profile_NF @ centred_F / (_NUM_PLACES * max(float(centred_F.std()), 1e-9)))


def _waist(profile_L: Floats, share: float, typical_F: Floats) -> float:
    """The share of the length at which the arms, each stretched by itself, fit best."""
    candidates = np.linspace(max(0.02, share - _REACH), min(0.98, share + _REACH), _NUM_CANDIDATES)
    candidates = np.append(candidates, share)
    stretched_NF = np.stack([_profile(profile_L, (share, float(one))) for one in candidates])
    fit_N = _similar(stretched_NF, typical_F) - _MOVED * np.abs(candidates - share)
    return float(candidates[int(fit_N.argmax())])
