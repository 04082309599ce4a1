"""Share of a patient's cells that show an abnormality, and whether it is clonal or mosaic.

ISCN defines a clone as at least two cells with the same structural abnormality. The share of
abnormal cells is estimated from the evidence of every cell, however weak, so that a cell without
clear evidence does not count as normal.

Shape suffixes: K cells.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MIN_CLONE: Final = 2
"""Cells that must share a structural abnormality (ISCN 2020, section on clones)."""
_MAX_EVIDENCE: Final = 3.0
"""Limit of the absolute log likelihood ratio of a cell, because cells can be mixed up."""
_DROP: Final = 1.92
"""Fall of the log likelihood at the ends of a 95 % interval (half the chi-square quantile)."""
_GRID: Final = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Clone:
    """Clone of one type of one patient."""

    num_cells: int
    """Cells that were assessed."""
    num_abnormal: int
    """Cells with a positive log likelihood ratio."""
    share: float
    """Maximum-likelihood share of abnormal cells, 0..1."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""

    @property
    def clonal(self) -> bool:
        """Whether at least :data:`MIN_CLONE` cells are abnormal."""
        return self.num_abnormal >= MIN_CLONE

    @property
    def mosaic(self) -> bool:
        """Whether the interval implies both abnormal and normal cells."""
        return self.num_abnormal > 0 and self.low > 0.0 and self.high < 1.0

    def describe(self) -> str:
        """Formats counts and share for a report."""
        cells = f"{self.num_abnormal} of {self.num_cells} cells"
        if not self.num_abnormal:
            return cells
        interval = f"{self.low:.0%} to {self.high:.0%}"
        if self.mosaic:
            return f"{cells}; mosaic, about {self.share:.0%} of the cells ({interval})"
        if self.low >= 0.5:
            return f"{cells}; no sign of a mosaic"
        return f"{cells}; whether it is a mosaic is open ({interval} of the cells)"


def estimate_clone(evidence_K: NDArray[np.float64]) -> Clone:
    """Estimates the share of abnormal cells.

    Args:
        evidence_K: log likelihood ratio of each cell, abnormal over normal.
    """
    if not len(evidence_K):
        return Clone(0, 0, 0.0, 0.0, 1.0)
    ratio_K = np.exp(np.clip(evidence_K, -_MAX_EVIDENCE, _MAX_EVIDENCE))
    likelihood_F = np.log(_GRID[:, None] * ratio_K + 1 - _GRID[:, None]).sum(axis=1)
    best = int(likelihood_F.argmax())
    within = _GRID[likelihood_F >= likelihood_F[best] - _DROP]
    return Clone(
        num_cells=len(evidence_K),
        num_abnormal=int((evidence_K > 0).sum()),
        share=float(_GRID[best]),
        low=float(within[0]),
        high=float(within[-1]),
    )
