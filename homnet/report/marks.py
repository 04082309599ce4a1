"""Marks beside chromosomes: bars and strips that follow the axis, as SVG elements.

Shape suffixes: L positions, X borders of samples along the axis (L + 1). Points are (x, y).
"""

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from homnet.report.chromosome import Drawn
from homnet.report.html import MARK
from homnet.report.upright import Floats

_STEP = 6
"""Samples between two points of a mark that may bend."""
_AWAY = 4.5
"""Distance of a mark's middle from the chromosome's edge."""


def regions(score_L: NDArray[np.float32], one: Drawn, x: float, top: float) -> list[str]:
    """Returns bars along the places of a homolog that are more likely abnormal than not.

    Args:
        score_L: score along the homolog as it is drawn.
        one: the homolog.
        x: its left edge.
        top: its upper edge.
    """
    beside_X2 = _beside(one, x, top)
    edges = np.flatnonzero(np.diff(score_L >= 0.5, prepend=False, append=False)).reshape(-1, 2)
    return [
        f'<path class="region" d="{_path(beside_X2, start, stop)}" fill="none" stroke="{MARK}" '
        'stroke-width="4"/>'
        for start, stop in edges.tolist()
    ]


def strip(score_L: NDArray[np.float32], one: Drawn, x: float, top: float) -> list[str]:
    """Returns the score along a homolog, as a strip with the score as opacity; see above."""
    beside_X2 = _beside(one, x, top)
    # One opacity for each few samples, in tenths: equal neighbours are one path without seams.
    means = [float(score_L[at : at + _STEP].mean()) for at in range(0, len(score_L), _STEP)]
    parts, start = [], 0
    for tenths, run in groupby(round(10 * mean) for mean in means):
        stop = min(start + _STEP * len(list(run)), len(score_L))
        if tenths:
            parts.append(
                f'<path d="{_path(beside_X2, start, stop)}" fill="none" stroke="{MARK}" '
                f'stroke-width="4" stroke-opacity="{tenths / 10:g}"/>'
            )
        start = stop
    return parts


def _beside(one: Drawn, x: float, top: float) -> Floats:
    """Returns the line along which a homolog is marked: left of the first, right of the second."""
    tangent_X2 = np.gradient(one.border_X2, axis=0)
    tangent_X2 /= np.linalg.norm(tangent_X2, axis=1, keepdims=True)
    left_X2 = np.stack([-tangent_X2[:, 1], tangent_X2[:, 0]], axis=1)
    away = (one.half_width + _AWAY) * (1 if one.slot == 0 else -1)
    return np.asarray(one.border_X2 + away * left_X2 + (x, top))


def _path(line_X2: Floats, start: int, stop: int) -> str:
    """Returns a part of a line as path data; straight lines as two points."""
    points = line_X2[[*range(start, stop, _STEP), stop]]
    if np.ptp(points[:, 0]) < 0.05:
        points = points[[0, -1]]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
