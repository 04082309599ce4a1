"""Orients chromosomes as in a karyogram: short arm up, with the waist inferred from the bands.

A homolog is compared with the typical profile of the patient's own homologs of its type: they are
far more similar to each other than to an ideogram, and few are upside down.

Shape suffixes: C chromatids (2: left, right), L positions, F points along a chromosome.
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
"""Minimum number of homologs for a typical profile."""
_FLIP_MARGIN: Final = 0.25
"""Minimum gain in correlation for turning a chromosome. Only one in fifty is upside down: with a
smaller margin most turned chromosomes would have been upright."""
_REACH: Final = 0.12
"""Maximum distance of the waist from its usual position, as a share of the length."""
_NUM_CANDIDATES: Final = 13
_MOVED: Final = 0.5
"""Required gain in correlation for moving the waist, per share of the length."""


@dataclass(frozen=True)
class Upright:
    """A chromosome with its short arm first."""

    sequence_CL: NDArray[np.uint8]
    """Darkness (2, L), truncated at its end."""
    flipped: bool
    """Whether it was turned."""
    centromere: int
    """Position of the waist. Sequences do not contain the width, so this is where the bands fit
    those of the patient's other homologs best when each arm is stretched separately."""


def typical_profile(sequences: Iterable[NDArray[np.uint8]]) -> Floats | None:
    """Returns the mean profile (F) of a patient's homologs of one type, all in one orientation.

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
        # Most homologs have the orientation given by the laboratory.
        if turned_N.mean() > 0.5:
            upright_NF = upright_NF[:, ::-1]
        mean_F = upright_NF.mean(axis=0)
    return np.asarray(mean_F)


def typical_profiles(
    cells: Iterable[Mapping[str, NDArray[np.uint8]]],
) -> dict[str, Floats | None]:
    """Returns the :func:`typical_profile` of each type.

    Args:
        cells: the pairs (2, 2, 512) of each cell of a patient, by type.
    """
    of_type: dict[str, list[NDArray[np.uint8]]] = {}
    for cell in cells:
        for chromosome, pair_PCL in cell.items():
            of_type.setdefault(chromosome, []).extend(pair_PCL)
    return {chromosome: typical_profile(found) for chromosome, found in of_type.items()}


def stand_up(
    sequence_CL: NDArray[np.uint8],
    chromosome: str,
    typical_F: Floats | None,
    *,
    find_waist: bool = True,
) -> Upright:
    """Orients a chromosome like the others of its type, and locates its waist.

    Args:
        sequence_CL: darkness (2, 512), 0 beyond the end; not empty.
        chromosome: type.
        typical_F: typical profile of the patient's homologs of the type; without it nothing is
            turned and the waist is at the usual share of the length.
        find_waist: whether to look for the waist, which takes most of the time; otherwise it is at
            the usual share of the length.
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
        # Turning by 180 degrees also swaps left and right.
        own_CL = own_CL[::-1, ::-1]
    waist = _waist(own_CL.mean(axis=0), share, typical_F) if find_waist else share
    return Upright(own_CL, flipped, int(waist * own_CL.shape[1]))


def _cut(sequence_CL: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a sequence truncated at its end."""
    return sequence_CL[:, : int(np.flatnonzero(sequence_CL.any(axis=0))[-1]) + 1]


def _profile(profile_L: Floats, border: tuple[float, float] = (0.5, 0.5)) -> Floats:
    """Returns a standardised profile at F points; ``border`` maps a share of length to another."""
    at_F = np.interp(_AT_F, (0.0, border[0], 1.0), (0.0, border[1], 1.0))
    positions_L = (np.arange(len(profile_L)) + 0.5) / len(profile_L)
    seen_F = np.interp(at_F, positions_L, profile_L)
    return np.asarray((seen_F - seen_F.mean()) / max(float(seen_F.std()), 1e-9))


def _similar(profile_NF: Floats, typical_F: Floats) -> Floats:
    """Returns the correlation of standardised profiles with a typical profile."""
    centred_F = typical_F - typical_F.mean()
    return np.asarray(profile_NF @ centred_F / (_NUM_PLACES * max(float(centred_F.std()), 1e-9)))


def _waist(profile_L: Floats, share: float, typical_F: Floats) -> float:
    """Returns the share of the length at which the arms, stretched separately, fit best."""
    candidates = np.linspace(max(0.02, share - _REACH), min(0.98, share + _REACH), _NUM_CANDIDATES)
    candidates = np.append(candidates, share)
    stretched_NF = np.stack([_profile(profile_L, (share, float(one))) for one in candidates])
    fit_N = _similar(stretched_NF, typical_F) - _MOVED * np.abs(candidates - share)
    return float(candidates[int(fit_N.argmax())])
