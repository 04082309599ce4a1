"""Places on a chromosome: positions of a sequence, of the stretched view, megabases and bands.

A *share* is a place as a part of the visible length, 0 at the tip of the short arm and 1 at that of
the long arm. On the reference chromosome it is a share of the ISCN length, so it goes to megabases
and bands through the band tables and never linearly.

Shape suffixes: N chromosomes, L sequence positions (512), S stretched positions.
"""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH

Floats = NDArray[np.float64]

DECIMALS: Final = 9
"""Decimals of a share: what rounding adds must not carry a border of a band across it."""


@cache
def share_of_mb(chromosome: str, mb: float, level: int = FINEST_LEVEL) -> float:
    """The share of a place given in megabases from the tip of the short arm."""
    bands = band_table(level)[chromosome]
    return bands.to_iscn(mb * 1e6) / bands.length_iscn


def mb_of_share(chromosome: str, share: float, level: int = FINEST_LEVEL) -> float:
    """The inverse of :func:`share_of_mb`."""
    bands = band_table(level)[chromosome]
    return bands.to_bp(share * bands.length_iscn) / 1e6


def band_of_share(chromosome: str, share: float, level: int) -> str:
    """The band of a place at a level, for example ``"q21.3"``; beyond a tip the outermost band."""
    bands = band_table(level)[chromosome]
    return bands.at(round(share * bands.length_iscn, DECIMALS)).label


def share_of_position(position: float, length: int) -> float:
    """The share of the middle of a sequence position on a chromosome of ``length`` positions."""
    return (position + 0.5) / length


def position_of_share(share: float, length: int) -> int:
    """The sequence position in which a share lies."""
    return int(np.clip(np.floor(share * length), 0, length - 1))


def unstretched(score_NS: Floats, length_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Carries scores of the stretched view back to the positions of the sequences.

    Stretched position s is the middle of the share from s / S to (s + 1) / S, as
    :func:`homnet.model.network.stretch` has it; between two middles scores are linear, outside them
    level.

    Args:
        score_NS: scores along the stretched view.
        length_N: positions of each chromosome.

    Returns:
        Scores (N, 512); 0 beyond the chromosome's end.
    """
    num_stretched = score_NS.shape[1]
    position_L = np.arange(SEQUENCE_LENGTH)
    length_N1 = np.maximum(length_N, 1)[:, None]
    place_NL = (position_L + 0.5) / length_N1 * num_stretched - 0.5
    place_NL = place_NL.clip(0, num_stretched - 1)
    left_NL = np.minimum(place_NL.astype(np.int64), num_stretched - 2)
    part_NL = place_NL - left_NL
    found_NL = (1 - part_NL) * np.take_along_axis(score_NS, left_NL, 1)
    found_NL += part_NL * np.take_along_axis(score_NS, left_NL + 1, 1)
    on_NL = position_L < length_N[:, None]
    return np.where(on_NL, found_NL, 0.0).astype(np.float32)
