"""Draws the grey image of one chromosome with a given profile and centre line.

Shape suffixes: H rows, W columns, C chromatids (2: left, right), L positions along the axis.
Points are (row, column) in pixels; pixel centres have integer coordinates.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]

_SUBPIXELS: Final = 3
"""Sub-samples per pixel and direction, because camera pixels average light over their area."""


@dataclass(frozen=True)
class Drawing:
    """An image and its ground truth."""

    image_HW: NDArray[np.uint8]
    """Grey levels, dark on white."""
    axis_L2: Floats
    """Centre of each profile position, (row, column) in image pixels."""


def centre_line(heading_L: Floats, step_px: float) -> Floats:
    """Integrates a heading into a curve of points ``step_px`` apart.

    Args:
        heading_L: direction at each point in radians: 0 is down the image, positive to the right.
        step_px: distance between neighbouring points.

    Returns:
        Points (L, 2), the first at the origin.
    """
    # The mean heading of two neighbours is the direction between them (midpoint rule).
    between = (heading_L[1:] + heading_L[:-1]) / 2
    steps = step_px * np.stack([np.cos(between), np.sin(between)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def draw_chromosome(
    profile_CL: Floats,
    axis_L2: Floats,
    half_width_px: float | Floats,
    *,
    samples_per_px: float,
    generator: np.random.Generator,
    gap_px: float | Floats = 0.0,
    roundness: float = 0.0,
    blur_sigma_px: float = 1.0,
    noise_sd: float = 2.0,
    margin_px: int = 8,
) -> Drawing:
    """Draws a chromosome along a curve.

    Args:
        profile_CL: darkness (255 - grey) of the left and the right chromatid, p-arm first.
        axis_L2: centre line, one point per profile position, ``1 / samples_per_px`` apart; left is
            the side of smaller columns where the line runs down the image.
        half_width_px: distance from the centre line to either edge, one number or one per position;
            smaller at the centromere. The rounded tips lie inside the profile's length.
        samples_per_px: profile positions per pixel of arc.
        generator: source of the noise.
        gap_px: width of the light gap between the chromatids, one number or one per position.
        roundness: relative loss of darkness at the edges of a chromatid, where it is thinner; 0
            draws it flat.
        blur_sigma_px: standard deviation of the microscope's point spread.
        noise_sd: standard deviation of the camera's noise in grey levels.
        margin_px: empty pixels around the chromosome.

    Returns:
        The image and the centre line in its pixels.

    Raises:
        ValueError: the profile, the line and the widths have different lengths.
    """
    num_positions = profile_CL.shape[1]
    if profile_CL.shape != (2, num_positions) or axis_L2.shape != (num_positions, 2):
        raise ValueError(
            f"profile (2, L) and axis (L, 2) need the same L, got {profile_CL.shape} and "
            f"{axis_L2.shape}"
        )
    half_width_L = np.broadcast_to(np.asarray(half_width_px, float), num_positions)
    gap_L = np.broadcast_to(np.asarray(gap_px, float), num_positions)
    reach = margin_px + np.ceil(half_width_L.max())
    axis_L2 = axis_L2 - np.floor(axis_L2.min(axis=0)) + reach
    height, width = (np.ceil(axis_L2.max(axis=0)) + reach + 1).astype(int)

    grid = [(np.arange(n * _SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5 for n in (height, width)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    position, offset = _locate(points, axis_L2, samples_per_px)
    nearest = np.clip(np.rint(position), 0, num_positions - 1).astype(int)
    inside = np.abs(offset) <= _with_round_tips(half_width_L, position, nearest, samples_per_px)
    inside &= np.abs(offset) >= gap_L[nearest] / 2
    side = (offset > 0).astype(int)
    inner, outer = gap_L[nearest] / 2, half_width_L[nearest]
    from_middle = 2 * (np.abs(offset) - inner) / np.maximum(outer - inner, 1e-6) - 1
    thickness = 1.0 - roundness * np.minimum(from_middle**2, 1.0)
    darkness = np.where(inside, profile_CL[side, nearest] * thickness, 0.0)
    darkness = darkness.reshape(height, _SUBPIXELS, width, _SUBPIXELS).mean(axis=(1, 3))
    grey = 255.0 - ndimage.gaussian_filter(darkness, blur_sigma_px)
    grey += generator.normal(0.0, noise_sd, grey.shape)
    return Drawing(np.clip(np.rint(grey), 0, 255).astype(np.uint8), axis_L2)


def _locate(points: Floats, axis_L2: Floats, samples_per_px: float) -> tuple[Floats, Floats]:
    """Returns profile position and signed distance (right is positive) of points near the line."""
    tangent = np.gradient(axis_L2, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    _, nearest = cKDTree(axis_L2).query(points)
    away = points - axis_L2[nearest]
    along = np.einsum("ij,ij->i", away, tangent[nearest])
    across = away[:, 1] * tangent[nearest, 0] - away[:, 0] * tangent[nearest, 1]
    return nearest + along * samples_per_px, across


def _with_round_tips(
    half_width_L: Floats, position: Floats, nearest: NDArray[np.intp], samples_per_px: float
) -> Floats:
    """Returns the half width at points: elliptic over the last 0.6 half widths, 0 beyond tips."""
    full = half_width_L[nearest]
    # Positions are sample centres: the tips lie half a sample beyond the first and the last.
    from_tip = np.minimum(position + 0.5, len(half_width_L) - 0.5 - position) / samples_per_px
    rounding = np.clip(from_tip / (0.6 * full), 0.0, 1.0)
    return np.where(from_tip > 0, full * np.sqrt(rounding * (2 - rounding)), -1.0)
