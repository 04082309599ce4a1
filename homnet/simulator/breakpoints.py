"""Where a structural abnormality may break a chromosome.

Breakpoints fall three times as often into light (G-negative) bands as elsewhere, not by length
alone (Warburton 1991). Places are drawn in megabases and given in ISCN units along the homolog.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.bands import FINEST_LEVEL, band_table
from homnet.chromosomes import ACROCENTRICS
from homnet.simulator.genome import Homolog

_LIGHT_WEIGHT: Final = 3.0
_NUM_CANDIDATES: Final = 64
"""Places that are drawn and weighed for each event."""
_TIP_MARGIN_MB: Final = 2.0
"""Nearest that a breakpoint comes to a tip."""
_MAX_SHARE: Final = 0.8
"""Largest event as a share of what it lies in: an arm, or the chromosome."""


class Site:
    """One homolog on which an event of a given size is to be placed."""

    def __init__(
        self,
        generator: np.random.Generator,
        name: str,
        index: int,
        homolog: Homolog,
        size_mb: float,
    ) -> None:
        """Takes the homolog with number ``index`` of type ``name``, and the size of the event."""
        self.name = name
        self.index = index
        self.homolog = homolog
        self._generator = generator
        self._size_mb = size_mb
        self._bands = band_table(FINEST_LEVEL)[name]
        self._length_mb = self._bands.length_bp / 1e6
        self._centromere_mb = self._bands.centromere_bp / 1e6

    def arm(self) -> str:
        """An arm, by length; the short arms of acrocentrics carry no events."""
        if self.name in ACROCENTRICS:
            return "q"
        upper = self._generator.random() < self._centromere_mb / self._length_mb
        return "p" if upper else "q"

    def end(self) -> tuple[float, bool]:
        """A breakpoint that cuts off an end of about the size, and whether it is the upper end."""
        tip = self.arm() == "p"
        arm_mb = self._centromere_mb if tip else self._length_mb - self._centromere_mb
        size_mb = min(self._size_mb, _MAX_SHARE * arm_mb)
        # The size gives way a little, so that light bands can be preferred.
        sizes = size_mb * self._generator.uniform(0.8, 1.25, _NUM_CANDIDATES)
        sizes = np.maximum(sizes, _TIP_MARGIN_MB)
        (place,) = self._choose(sizes if tip else self._length_mb - sizes)
        return place, tip

    def point(self) -> float:
        """A breakpoint anywhere."""
        (place,) = self._choose(self._uniform(_TIP_MARGIN_MB, self._length_mb - _TIP_MARGIN_MB))
        return place

    def interval(self, arm: str) -> tuple[float, float]:
        """Two breakpoints at the distance of the size, in one arm."""
        low = self._centromere_mb if arm == "q" else _TIP_MARGIN_MB
        high = self._centromere_mb if arm == "p" else self._length_mb - _TIP_MARGIN_MB
        size_mb = min(self._size_mb, _MAX_SHARE * (high - low))
        return self._interval(self._uniform(low, high - size_mb), size_mb)

    def around_centromere(self) -> tuple[float, float]:
        """Two breakpoints at the distance of the size, with the centromere between them."""
        low, high = _TIP_MARGIN_MB, self._length_mb - _TIP_MARGIN_MB
        size_mb = min(self._size_mb, _MAX_SHARE * (high - low))
        first = max(low, self._centromere_mb - 0.95 * size_mb)
        last = min(high - size_mb, self._centromere_mb - 0.05 * size_mb)
        return self._interval(self._uniform(first, max(first, last)), size_mb)

    def _uniform(self, low: float, high: float) -> NDArray[np.float64]:
        return self._generator.uniform(low, high, _NUM_CANDIDATES)

    def _interval(self, starts_mb: NDArray[np.float64], size_mb: float) -> tuple[float, float]:
        places = self._choose(starts_mb, starts_mb + size_mb)
        # Within an inversion the reference runs backwards.
        return min(places), max(places)

    def _choose(self, *places_mb: NDArray[np.float64]) -> list[float]:
        """Draws one candidate by the bands of all its breakpoints; positions in ISCN units."""
        weights = np.prod([self._lightness(places) for places in places_mb], axis=0)
        chosen = int(self._generator.choice(_NUM_CANDIDATES, p=weights / weights.sum()))
        return [
            self.homolog.position_of(self.name, self._bands.to_iscn(places[chosen] * 1e6))
            for places in places_mb
        ]

    def _lightness(self, places_mb: NDArray[np.float64]) -> NDArray[np.float64]:
        stops_mb = [band.bp_stop / 1e6 for band in self._bands.bands[:-1]]
        weights = np.array(
            [_LIGHT_WEIGHT if band.stain == "gneg" else 1.0 for band in self._bands.bands]
        )
        return np.take(weights, np.searchsorted(stops_mb, places_mb, side="right"))
