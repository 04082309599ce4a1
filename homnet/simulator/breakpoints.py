"""Sampling of the breakpoints of structural abnormalities.

Breakpoints are three times as frequent in light (G-negative) bands as elsewhere, at equal length
(Warburton 1991). Positions are drawn in megabases and stored in ISCN units on the reference
chromosome.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import FINEST_LEVEL, Band, band_table
from homnet.karyotype.chromosomes import ACROCENTRICS
from homnet.karyotype.nomenclature import band_name

_LIGHT_WEIGHT: Final = 3.0
_NUM_CANDIDATES: Final = 64
"""Number of candidate positions per event; one is drawn by weight."""
_TIP_MARGIN_MB: Final = 2.0
"""Minimum distance of a breakpoint from a tip."""
_MAX_SHARE: Final = 0.8
"""Maximum event size as a share of the arm or chromosome that contains it."""


@dataclass(frozen=True)
class Breakpoint:
    """A breakpoint on a chromosome type."""

    chromosome: str
    """Type."""
    iscn: float
    """Position on the reference chromosome, ISCN units."""
    centromeric: str | None = None
    """``"p10"`` or ``"q10"`` for the centromere as the end of that arm, outside any band; else
    None."""

    @classmethod
    def of_arm(cls, chromosome: str, arm: str) -> Self:
        """Returns the centromere as the inner end of the arm that is kept."""
        return cls(chromosome, band_table(FINEST_LEVEL)[chromosome].centromere_iscn, f"{arm}10")

    @property
    def arm(self) -> str:
        """``"p"`` or ``"q"``."""
        if self.centromeric is not None:
            return self.centromeric[0]
        return "p" if self.iscn < band_table(FINEST_LEVEL)[self.chromosome].centromere_iscn else "q"

    @property
    def mb(self) -> float:
        """Position on the reference chromosome, megabases."""
        return band_table(FINEST_LEVEL)[self.chromosome].to_bp(self.iscn) / 1e6

    @property
    def end_mb(self) -> float:
        """Distance to the tip of its arm, megabases."""
        length_mb = band_table(FINEST_LEVEL)[self.chromosome].length_bp / 1e6
        return self.mb if self.arm == "p" else length_mb - self.mb

    def band(self, level: int) -> str:
        """Returns its band at a level, for example ``"q21.3"``; ``"q10"`` for a centromere."""
        return self.centromeric or band_name(self.chromosome, self.mb, level)


class Site:
    """Draws breakpoints on one chromosome type."""

    def __init__(self, generator: np.random.Generator, chromosome: str) -> None:
        """Prepares drawing on a chromosome type."""
        self.chromosome = chromosome
        self._generator = generator
        self._bands = band_table(FINEST_LEVEL)[chromosome]
        self._length_mb = self._bands.length_bp / 1e6
        self._centromere_mb = self._bands.centromere_bp / 1e6

    def arm(self) -> str:
        """Draws an arm in proportion to length; short arms of acrocentrics are excluded."""
        if self.chromosome in ACROCENTRICS:
            return "q"
        upper = self._generator.random() < self._centromere_mb / self._length_mb
        return "p" if upper else "q"

    def end(self, arm: str, size_mb: float) -> Breakpoint:
        """Draws a breakpoint that cuts off an end of about the given size."""
        arm_mb = self._centromere_mb if arm == "p" else self._length_mb - self._centromere_mb
        size_mb = min(size_mb, _MAX_SHARE * arm_mb)
        # Sizes vary slightly, so that light bands can be preferred.
        sizes = size_mb * self._generator.uniform(0.8, 1.25, _NUM_CANDIDATES)
        sizes = np.maximum(sizes, _TIP_MARGIN_MB)
        (place,) = self._choose(sizes if arm == "p" else self._length_mb - sizes)
        return place

    def point(self) -> Breakpoint:
        """Draws a breakpoint anywhere on the chromosome."""
        (place,) = self._choose(self._uniform(_TIP_MARGIN_MB, self._length_mb - _TIP_MARGIN_MB))
        return place

    def interval(self, arm: str, size_mb: float) -> tuple[Breakpoint, Breakpoint]:
        """Draws two breakpoints in one arm, about ``size_mb`` apart, the upper one first."""
        low = self._centromere_mb if arm == "q" else _TIP_MARGIN_MB
        high = self._centromere_mb if arm == "p" else self._length_mb - _TIP_MARGIN_MB
        size_mb = min(size_mb, _MAX_SHARE * (high - low))
        starts = self._uniform(low, high - size_mb)
        first, last = self._choose(starts, starts + size_mb)
        return first, last

    def around_centromere(self, size_mb: float) -> tuple[Breakpoint, Breakpoint]:
        """Draws two breakpoints about ``size_mb`` apart, on either side of the centromere."""
        low, high = _TIP_MARGIN_MB, self._length_mb - _TIP_MARGIN_MB
        size_mb = min(size_mb, _MAX_SHARE * (high - low))
        first = max(low, self._centromere_mb - 0.95 * size_mb)
        last = min(high - size_mb, self._centromere_mb - 0.05 * size_mb)
        starts = self._uniform(first, max(first, last))
        upper, lower = self._choose(starts, starts + size_mb)
        return upper, lower

    def within(self, band: str) -> Breakpoint:
        """Draws a breakpoint in a band, by its label at any level, outside the tip margin."""
        bands = bands_within(self.chromosome, band)
        low = max(bands[0].bp_start / 1e6, _TIP_MARGIN_MB)
        high = min(bands[-1].bp_stop / 1e6, self._length_mb - _TIP_MARGIN_MB)
        (place,) = self._choose(self._uniform(low, high))
        return place

    def _uniform(self, low: float, high: float) -> NDArray[np.float64]:
        return self._generator.uniform(low, high, _NUM_CANDIDATES)

    def _choose(self, *places_mb: NDArray[np.float64]) -> list[Breakpoint]:
        """Draws one candidate, weighted by the bands of all its breakpoints."""
        weights = np.prod([self._lightness(places) for places in places_mb], axis=0)
        chosen = int(self._generator.choice(_NUM_CANDIDATES, p=weights / weights.sum()))
        return [
            Breakpoint(self.chromosome, self._bands.to_iscn(places[chosen] * 1e6))
            for places in places_mb
        ]

    def _lightness(self, places_mb: NDArray[np.float64]) -> NDArray[np.float64]:
        stops_mb = [band.bp_stop / 1e6 for band in self._bands.bands[:-1]]
        weights = np.array(
            [_LIGHT_WEIGHT if band.stain == "gneg" else 1.0 for band in self._bands.bands]
        )
        return np.take(weights, np.searchsorted(stops_mb, places_mb, side="right"))


def bands_within(chromosome: str, label: str) -> list[Band]:
    """Returns the finest bands that make up a band, for example of ``"q21"`` or ``"q21.3"``.

    Raises:
        KeyError: the chromosome has no such band.
    """
    divider = "" if "." in label else "."
    found = [
        band
        for band in band_table(FINEST_LEVEL)[chromosome].bands
        if band.label == label or band.label.startswith(label + divider)
    ]
    if not found:
        raise KeyError(f"chromosome {chromosome} has no band {label}")
    return found
