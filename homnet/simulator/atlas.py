"""Position and darkness of the bands of each chromosome, as one laboratory shows them.

The ideogram tables give the nominal bands. On slides some bands differ: the :class:`BandAppearance`
of a laboratory holds the darkness and visible length of each band, measured on its own chromosomes.

Shape suffixes: V band levels, B bins of the atlas.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES
from homnet.simulator.genome import Segment

BIN_ISCN: Final = 20.0
"""Bin width of the density atlas, ISCN units: half a sample of the finest camera."""
_MARGIN_BINS: Final = 4
"""Number of copies of a chromosome's outermost bin, so that rounding never reads its neighbour."""
APPEARANCE_LEVEL: Final = 550
"""Band level of the table whose bands a :class:`BandAppearance` describes."""


@dataclass(frozen=True)
class BandAppearance:
    """Appearance of the bands of the 550 table in one laboratory, at all band levels.

    Both fields hold one tuple per type in the order of ``CHROMOSOMES``, with one number per band.
    """

    darkness: tuple[tuple[float, ...], ...]
    """Staining, 0 (white) to 1 (black); replaces that of the table."""
    stretch: tuple[tuple[float, ...], ...]
    """Ratio of the visible length to that of the table."""


@dataclass(frozen=True)
class Atlas:
    """Band densities of all types, concatenated; reference and visible positions of borders."""

    density_VB: NDArray[np.float32]
    """Density at each of the four band levels."""
    first_bin: dict[str, int]
    """First bin of each type."""
    borders: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    """Reference and visible positions of band borders by type, ISCN units."""

    def visible(self, chromosome: str, reference: float) -> float:
        """Returns the visible position of a reference position, both in ISCN units from p-ter."""
        return float(np.interp(reference, *self.borders[chromosome]))

    def visible_length(self, segment: Segment) -> float:
        """Returns the visible length of a segment, ISCN units."""
        start, stop = (self.visible(segment.chromosome, at) for at in (segment.start, segment.stop))
        return (stop - start) * segment.stretch


def band_lengths(chromosome: str) -> NDArray[np.float64]:
    """Returns the lengths of the bands that a :class:`BandAppearance` describes, ISCN units."""
    return np.diff(_borders(chromosome, APPEARANCE_LEVEL))


@cache
def atlas_of(appearance: BandAppearance | None) -> Atlas:
    """Returns the atlas of a laboratory; None gives that of the ideogram tables."""
    first_bin: dict[str, int] = {}
    borders: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    rows = []
    for level in BAND_LEVELS:
        pieces, at = [], 0
        for number, name in enumerate(CHROMOSOMES):
            shown = level if appearance is None else APPEARANCE_LEVEL
            reference = seen = _borders(name, shown)
            darkness = np.array([band.darkness for band in band_table(shown)[name].bands])
            if appearance is not None:
                lengths = np.diff(reference) * appearance.stretch[number]
                seen = np.concatenate([[0.0], np.cumsum(lengths)])
                darkness = np.array(appearance.darkness[number])
            middles = np.arange(BIN_ISCN / 2, seen[-1] + BIN_ISCN, BIN_ISCN)
            found = darkness[np.searchsorted(seen[1:-1], middles, side="right")]
            pieces.append(np.pad(found.astype(np.float32), _MARGIN_BINS, mode="edge"))
            borders[name] = (reference, seen)
            first_bin[name] = at + _MARGIN_BINS
            at += len(pieces[-1])
        rows.append(np.concatenate(pieces))
    return Atlas(np.stack(rows), first_bin, borders)


def _borders(chromosome: str, level: int) -> NDArray[np.float64]:
    """Borders of the bands at a level, ISCN units on the scale of the finest level.

    The tables of the levels place a band slightly differently; base positions are shared.
    """
    to_iscn = band_table(FINEST_LEVEL)[chromosome].to_iscn
    bands = band_table(level)[chromosome].bands
    return np.array([0.0, *(to_iscn(band.bp_stop) for band in bands)])
