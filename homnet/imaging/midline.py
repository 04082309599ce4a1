"""The centre line of an elongated blob: a principal curve (Hastie and Stuetzle, 1989).

Skeletons fail on real chromosomes: short ones get spurs in their corners, and separated sister
chromatids give two parallel paths. A principal curve passes through the mean of the pixels that
project onto it, so both chromatids have equal weight.

Points are (row, column) in pixels; pixel centres have integer coordinates.
Shape suffixes: N points of the blob, A points of the line, one pixel apart.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import solveh_banded
from scipy.spatial import cKDTree
from skimage.graph import MCP_Geometric

Floats = NDArray[np.float64]

_STIFFNESS: Final = 0.25
"""Shortest bend that is not smoothed away, in widths; chosen on drawings with a known line."""
_STIFFER_WHEN_SHORT: Final = 0.15
"""Relative increase of the stiffness per width by which a blob is shorter than four widths."""
_NUM_REFINEMENTS: Final = 3
_COMPACT: Final = 2.2
"""Length in widths below which a blob's longest path connects corners instead of tips."""


def find_midline(blob_HW: NDArray[np.bool_], points_N2: Floats) -> tuple[Floats, float]:
    """Finds the centre line of a blob, with straight extensions at both ends.

    Args:
        blob_HW: the blob, connected and without holes.
        points_N2: pixels to which the line is fitted.

    Returns:
        The line (A, 2) from the upper end to the lower one, and the blob's mean width in pixels.
    """
    widest = 2 * float(np.percentile(ndimage.distance_transform_edt(blob_HW)[blob_HW], 90))
    if len(points_N2) < _COMPACT * widest**2:
        line_A2 = _upright_line(points_N2)
    else:
        line_A2 = _longest_path(blob_HW, points_N2, widest)
    width_px = max(len(points_N2) / (len(line_A2) + widest / 2), 3.0)
    # Every other pixel, in a chessboard pattern, gives the same line in half the time.
    half_N2 = points_N2[points_N2.sum(axis=1) % 2 == 0]
    for _ in range(_NUM_REFINEMENTS):
        line_A2 = _refine(line_A2, half_N2, width_px)
        width_px = max(len(points_N2) / arc_length(line_A2)[-1], 3.0)
    line_A2 = _prolong(line_A2, width_px)
    return (line_A2 if line_A2[0, 0] <= line_A2[-1, 0] else line_A2[::-1]), width_px


def arc_length(line_A2: Floats) -> Floats:
    """Distance (A) of each point of a line from the first, along the line, in the line's unit."""
    steps = np.linalg.norm(np.diff(line_A2, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def points_at(line_A2: Floats, arc_px: Floats) -> Floats:
    """Points of a line at given distances along it."""
    arc_A = arc_length(line_A2)
    return np.stack([np.interp(arc_px, arc_A, line_A2[:, k]) for k in (0, 1)], axis=1)


def tangents_at(line_A2: Floats, arc_px: Floats) -> Floats:
    """Directions of unit length at given distances along a line."""
    arc_A, tangent_A2 = arc_length(line_A2), unit_tangents(line_A2)
    tangent = np.stack([np.interp(arc_px, arc_A, tangent_A2[:, k]) for k in (0, 1)], axis=1)
    unit: Floats = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
    return unit


def unit_tangents(line_A2: Floats) -> Floats:
    """Directions of unit length along a line (A, 2)."""
    tangent_A2 = np.gradient(line_A2, axis=0)
    unit_A2: Floats = tangent_A2 / np.linalg.norm(tangent_A2, axis=1, keepdims=True)
    return unit_A2


def project(points_N2: Floats, line_A2: Floats) -> tuple[Floats, Floats]:
    """Projects points onto a line.

    Returns:
        Distance along the line (N), and distance from it (N): negative on the left, which is the
        side of smaller columns where the line goes down the image.
    """
    tangent_A2 = unit_tangents(line_A2)
    _, nearest = cKDTree(line_A2).query(points_N2)
    away = points_N2 - line_A2[nearest]
    tangent = tangent_A2[nearest]
    along = np.clip(away[:, 0] * tangent[:, 0] + away[:, 1] * tangent[:, 1], -0.75, 0.75)
    across = away[:, 1] * tangent[:, 0] - away[:, 0] * tangent[:, 1]
    return arc_length(line_A2)[nearest] + along, across


def _upright_line(points_N2: Floats) -> Floats:
    """A straight line through the centres of the upper and the lower half."""
    middle = points_N2.mean(axis=0)
    upper = points_N2[:, 0] < middle[0]
    direction = points_N2[~upper].mean(axis=0) - points_N2[upper].mean(axis=0)
    direction /= np.linalg.norm(direction)
    reach = np.ptp(points_N2[:, 0]) / 2
    line_A2: Floats = middle + np.arange(-reach, reach + 1)[:, None] * direction
    return line_A2


def _longest_path(blob_HW: NDArray[np.bool_], points_N2: Floats, widest: float) -> Floats:
    """The path inside the blob between its two farthest points, kept away from the edges."""
    flat = MCP_Geometric(np.where(blob_HW, 1.0, -1.0))
    end: tuple[int, ...] = tuple(points_N2[0].astype(int))
    for _ in range(2):
        start = end
        cost_HW = flat.find_costs([start])[0]
        cost_HW[~np.isfinite(cost_HW)] = -1.0
        end = tuple(int(i) for i in np.unravel_index(np.argmax(cost_HW), cost_HW.shape))
    depth_HW = ndimage.distance_transform_edt(blob_HW)
    deep = MCP_Geometric(np.where(blob_HW, 1.0 / np.maximum(depth_HW, 0.5), -1.0))
    deep.find_costs([start], [end])
    path_A2 = np.asarray(deep.traceback(end), np.float64)
    # The ends are in corners: drop them; the refinement extends the line to the tips again.
    corner = round(widest / 2)
    if len(path_A2) > 4 * corner:
        path_A2 = path_A2[corner : len(path_A2) - corner]
    smooth_A2: Floats = ndimage.gaussian_filter1d(
        path_A2, max(widest / 5, 1.0), axis=0, mode="nearest"
    )
    return smooth_A2


def _refine(line_A2: Floats, points_N2: Floats, width_px: float) -> Floats:
    """One iteration of the principal curve: project, average per pixel of arc, smooth."""
    long_A2 = _prolong(line_A2, 1.5 * width_px)
    along_N, across_N = project(points_N2, long_A2)
    near_N = np.abs(across_N) < 1.6 * width_px
    points_N2, across_N = points_N2[near_N], across_N[near_N]
    bin_N = np.rint(along_N[near_N]).astype(int)
    num_bins = int(arc_length(long_A2)[-1]) + 3
    # More pixels project onto a piece of line from the outside of a bend than from the inside.
    turn_N = _curvature(long_A2)[np.minimum(bin_N, len(long_A2) - 1)]
    share_N = 1.0 / np.clip(1.0 - turn_N * across_N, 0.4, 2.5)
    count_A = np.bincount(bin_N, share_N, minlength=num_bins)
    sums = [np.bincount(bin_N, share_N * points_N2[:, k], minlength=num_bins) for k in (0, 1)]
    mean_A2 = np.stack(sums, axis=1) / np.maximum(count_A, 1e-9)[:, None]
    first, last = np.flatnonzero(count_A)[[0, -1]]
    # Corners truncate the slices at the ends, which would bias a tilted line.
    at = np.arange(num_bins)
    from_end = np.clip(np.minimum(at - first, last - at) / (0.5 * width_px), 0.1, 1.0)
    weight_A = np.minimum(2 * count_A / width_px, 1.0) * from_end
    widths_short = np.clip(4.0 - (last - first) / width_px, 0.0, 2.0)
    bend_px = _STIFFNESS * (1.0 + _STIFFER_WHEN_SHORT * widths_short) * width_px
    return _even(_smooth(mean_A2, weight_A, bend_px**4)[first : last + 1])


def _curvature(line_A2: Floats) -> Floats:
    """Curvature of a line in radians per pixel; positive towards larger columns, going down."""
    tangent_A2 = unit_tangents(line_A2)
    second_A2 = np.gradient(tangent_A2, axis=0)
    turn_A = second_A2[:, 1] * tangent_A2[:, 0] - second_A2[:, 0] * tangent_A2[:, 1]
    smooth_A: Floats = ndimage.uniform_filter1d(turn_A, 5)
    return smooth_A


def _smooth(values_A2: Floats, weight_A: Floats, stiffness: float) -> Floats:
    """Whittaker smoothing: penalises second differences; continues straight where weights are 0."""
    num = len(weight_A)
    bands = np.zeros((3, num))
    bands[0, 2:] = 1.0
    bands[1, 1:] = -4.0
    bands[1, [1, -1]] = -2.0
    bands[2] = 6.0
    bands[2, [0, -1]] = 1.0
    bands[2, [1, -2]] = 5.0
    bands *= stiffness
    bands[2] += weight_A
    return solveh_banded(bands, values_A2 * weight_A[:, None], check_finite=False)


def _prolong(line_A2: Floats, by_px: float) -> Floats:
    """Adds straight ends to a line of unit steps, in unit steps."""
    inner = min(4, len(line_A2) - 1)
    before = line_A2[0] - line_A2[inner]
    after = line_A2[-1] - line_A2[-1 - inner]
    step = np.arange(1, int(by_px) + 3)[:, None]
    return np.concatenate(
        [
            (line_A2[0] + step * before / np.linalg.norm(before))[::-1],
            line_A2,
            line_A2[-1] + step * after / np.linalg.norm(after),
        ]
    )


def _even(line_A2: Floats) -> Floats:
    """Resamples a line to equal steps as close to one pixel as its length allows."""
    total = arc_length(line_A2)[-1]
    return points_at(line_A2, np.linspace(0.0, total, max(round(total), 4) + 1))
