"""Places on a chromosome: shares of its length, megabases, positions in views and sequences.

A *share* is a place as a fraction of the visible length, 0 at the tip of the short arm and 1 at the
tip of the long arm. On the reference chromosome it is a fraction of the ISCN length, so the band
tables convert it to megabases; the relation is not linear.

Shape suffixes: N chromosomes, L sequence positions (512), S stretched positions.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH

Floats = NDArray[np.float64]


@cache
def share_of_mb(chromosome: str, mb: float) -> float:
    """The share of a place given in megabases from the tip of the short arm."""
    bands = band_table(FINEST_LEVEL)[chromosome]
    # Exactly, because rounding would make the tip an inner place: 64.444167 times a million.
    if mb >= bands.length_bp / 1e6:
        return 1.0
    return bands.to_iscn(mb * 1e6) / bands.length_iscn


def mb_of_share(chromosome: str, share: float) -> float:
    """The inverse of :func:`share_of_mb`."""
    bands = band_table(FINEST_LEVEL)[chromosome]
    return bands.to_bp(share * bands.length_iscn) / 1e6


def unstretched(score_NS: Floats, length_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Maps scores of the stretched view to the positions of the sequences.

    Stretched position s is the middle of the interval of shares from s / S to (s + 1) / S, as in
    :func:`homnet.model.views.stretch`. Scores are interpolated linearly between two middles and
    constant beyond the first and the last.

    Args:
        score_NS: scores along the stretched view.
        length_N: number of positions of each chromosome.

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
