"""Separates chromosomes that touch, where a light seam runs between them.

Where two chromosomes touch, their pale edges lie together, so a line from the notch above to the
notch below crosses little darkness. Where they lie across each other there is no such line.

Shape suffixes: H rows, W columns.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

WIDE: Final = 3.0
"""Width in half widths of a chromosome from which a blob may be several."""
_LEAST_SHARE: Final = 0.25
"""Smallest share of the area on either side of a seam."""
_ASIDE: Final = 2.0
"""Relative cost added to a line that leaves :data:`_LEAST_SHARE` on one side. Homologs share the
area evenly; the line between two chromatids, as light, has a quarter on one side."""
_FREE: Final = 0.004
"""Cost of a pixel outside the blob; a line may wind a little to find its notch."""
_ALIKE: Final = 0.53
"""Darkness along the contact at which one chromosome is as likely as two. Through a single one it
is .73 with a standard deviation of .12, between two .31 and .17 (real chromosomes)."""
_SLOPE: Final = 25.0
"""Log odds of two per unit of that darkness."""
_CROSSED_ALIKE: Final = 0.79
"""The same for two that lie across each other: the darkest lines run through them."""
_CROSSED_SLOPE: Final = 8.0
_MOST_ODDS: Final = 8.0
"""Log odds beyond which the darkness of a line counts no more."""


@dataclass(frozen=True)
class Seam:
    """The best line that divides a blob in two."""

    left_HW: Mask
    """Pixels of the left part."""
    right_HW: Mask
    """Pixels of the right part."""
    darkness: float
    """Mean darkness along the contact over the median darkness of the blob."""
    lightest: float
    """The same along the lightest line of all, which may be nearer to a side."""

    @property
    def log_odds(self) -> float:
        """Log likelihood ratio of two chromosomes against one."""
        return float(np.clip(_SLOPE * (_ALIKE - self.darkness), -_MOST_ODDS, _MOST_ODDS))

    @property
    def log_crossed(self) -> float:
        """Log likelihood ratio of two that lie across each other against one."""
        return float(np.clip(_CROSSED_SLOPE * (self.lightest - _CROSSED_ALIKE), -_MOST_ODDS, 1.0))


def find_seam(blob_HW: Mask, darkness_HW: Floats) -> Seam | None:
    """Finds the lightest line from top to bottom through a blob, near the middle of its area.

    Args:
        blob_HW: pixels of the blob in its box.
        darkness_HW: darkness in that box.

    Returns:
        The seam, None if there is no such line.
    """
    blob_HW = np.pad(blob_HW, 2)
    darkness_HW = np.pad(darkness_HW, 2)
    share_W = np.cumsum(blob_HW.sum(axis=0)) / blob_HW.sum()
    columns = np.flatnonzero((share_W > _LEAST_SHARE) & (share_W < 1 - _LEAST_SHARE))
    if len(columns) < 2:
        return None
    inside = slice(columns[0], columns[-1] + 1)
    cost_HW = np.where(blob_HW, np.square(darkness_HW) + 0.02, _FREE)
    aside_W = (share_W - 0.5) / (0.5 - _LEAST_SHARE)
    line_HW = _line(cost_HW * (1 + _ASIDE * np.square(aside_W)), inside)
    # 4-connected areas cannot cross an 8-connected line.
    number_HW, _ = ndimage.label(~line_HW)
    left_HW = blob_HW & (number_HW == number_HW[-1, 0])
    right_HW = blob_HW & ~left_HW & ~line_HW
    if not left_HW.any() or not right_HW.any():
        return None
    typical = max(float(np.median(darkness_HW[blob_HW])), 1e-3)
    contact, lightest = (darkness_HW[blob_HW & line] for line in (line_HW, _line(cost_HW, inside)))
    return Seam(
        left_HW[2:-2, 2:-2],
        right_HW[2:-2, 2:-2],
        *(float(dark.mean()) / typical if len(dark) else 0.0 for dark in (contact, lightest)),
    )


def _line(cost_HW: Floats, inside: slice) -> Mask:
    """The cheapest 8-connected line from top to bottom, within some columns."""
    search = MCP_Geometric(cost_HW[:, inside])
    width = inside.stop - inside.start
    total_HW, _ = search.find_costs([(0, column) for column in range(width)])
    rows, columns = np.array(search.traceback((len(cost_HW) - 1, int(total_HW[-1].argmin())))).T
    line_HW = np.zeros(cost_HW.shape, bool)
    line_HW[rows, columns + inside.start] = True
    return line_HW
