"""Tells whether the border of an image is background: a dark border is measured as chromosome.

A real chromosome that touches the border is banded there, and its edge is soft. What is laid around
a chromosome has one level: the ground of an inverted or cut-out image, the corners of a rotation, a
frame. The limits were chosen on real images so treated (``results/images-treated.json``).

Shape suffixes: H rows, W columns, N pixels of the border, clockwise.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Greys = NDArray[np.int16]

_DARK_BORDER: Final = (
    "the border is dark: the image is light on dark, cut out on a dark ground, or framed; send "
    "dark on white"
)
_DARK_CORNER: Final = (
    "a dark area touches the border: it has one level, as corners of a rotation and frames have; "
    "fill it with the background"
)
_TWO_GROUNDS: Final = (
    "there are two backgrounds: a grey image was framed, turned or cut out; give both one level"
)
_MIN_LIGHT: Final = 0.2
"""Share of the border that is background; in untouched real images it is at least 0.39."""
_FLAT: Final = 0.02
"""Range of grey levels of an area of one level, as a fraction of the contrast."""
_MAX_CORNER: Final = 0.65
"""Darkness of a corner pixel, as a fraction of the contrast; chromosomes hardly ever reach one."""
_CORNER_FLAT: Final = 0.12
"""As ``_FLAT``, for the pixels around a corner: noise is allowed for."""
_CORNER_PX: Final = 5
"""Number of border pixels around a corner, and the shortest run."""
_MAX_RUN: Final = 0.1
"""Longest dark piece of one level, as a fraction of the border."""
_LIGHTER: Final = 0.15
"""Height above the background, as a fraction of the contrast, that noise seldom reaches."""
_MAX_LIGHTER: Final = 0.01
"""Share of pixels above it."""
_MAX_GROUND: Final = 0.1
"""Share of dark pixels that have the commonest level, if nearly all others are darker."""
_MAX_ABOVE: Final = 0.05
"""Share of the dark pixels lighter than that level, below which nearly all others are darker."""
_MIN_BELOW: Final = 0.3
"""Share of the dark pixels clearly darker, which a chromosome drawn in one level has not."""
_MIN_GROUND: Final = 0.3
"""Share of the border of its box that has one level on a dark ground."""
_OUTLINE_PX: Final = 3
"""Width of the outline in which the dark bands of a chromosome reach its edge."""
_MIN_FILLED: Final = 0.87
"""Share of its smallest box that a rectangle fills at least; 1 % of real chromosomes do."""
_BANDS_ABOVE: Final = 0.3
"""Difference of bands from the level of the outline, as a fraction of the contrast."""
_MIN_STEP: Final = 0.75
"""Darkness of the outermost pixels of a sharp edge, as a fraction of that of the next ones. Optics
blur the edge of a chromosome: real ones that fill a rectangle reach 0.5, at twice the size 0.72."""
_LIGHTEST: Final = 20
"""Percentile of their darkness that is compared: elsewhere a chromosome may touch the edge."""
_MAX_REACHING: Final = 0.5
"""Share of bands in the outline, relative to the inside, below which they keep away."""


def border_fault(
    image_HW: NDArray[np.uint8], background: float, edge: float, contrast: float
) -> str | None:
    """Says why the border is not background; None if it is.

    Args:
        image_HW: grey levels.
        background: grey level of the background.
        edge: grey level of the chromosome's edge; lighter pixels are background.
        contrast: difference of the levels of background and chromosome.
    """
    grey_HW = image_HW.astype(np.int16)
    border_N = _border(grey_HW)
    if (fault := _dark_fault(grey_HW, background, edge, contrast)) is not None:
        return fault
    dark = grey_HW[grey_HW <= edge]
    reach = _reach(contrast)
    level = _commonest(dark, reach)
    ground, lighter, darker = (
        np.mean(which)
        for which in (
            np.abs(dark - level) <= reach,
            dark > level + reach,
            dark < level - _LIGHTER * contrast,
        )
    )
    # With low contrast there are few levels, and each has a larger share.
    most = max(_MAX_GROUND, 3 * (2 * reach + 1) / contrast)
    touches = bool((border_N <= edge).any())
    if touches and ground > most and lighter < _MAX_ABOVE and darker > _MIN_BELOW:
        return _TWO_GROUNDS
    if np.mean(grey_HW > background + _LIGHTER * contrast) > _MAX_LIGHTER:
        return _TWO_GROUNDS
    return None


def margin_fault(
    image_HW: NDArray[np.uint8], background: float, edge: float, contrast: float
) -> str | None:
    """Says that a margin of background was laid around a dark border; None if it was not.

    The arguments are those of :func:`border_fault`. The box of what is darker than the edge is
    looked at as an image of its own. A real chromosome does not fill the corners of its box, and
    one that is drawn as a bar has bands there, where a ground has one level.
    """
    place = ndimage.find_objects((image_HW <= edge).astype(np.int8))[0]
    grey_HW = image_HW[place].astype(np.int16)
    border_N, reach = _border(grey_HW), _reach(contrast)
    level = _commonest(border_N[border_N <= edge], reach)
    if np.mean(np.abs(border_N - level) <= reach) < _MIN_GROUND:
        return None
    return _dark_fault(grey_HW, background, edge, contrast)


def ground_fault(
    darkness_HW: NDArray[np.float64], mask_HW: NDArray[np.bool_], contrast: float
) -> str | None:
    """Says that what was taken for a chromosome is a ground with a chromosome on it; else None.

    Such a ground fills a rectangle, has a sharp edge, and the bands stay away from it: dark ones
    from a grey ground, light ones from a dark ground. The edge of a chromosome is soft, however
    compact and dark it is, and the bands of a bar that is drawn as one reach its edge.

    Args:
        darkness_HW: background minus grey level.
        mask_HW: the pixels taken for a chromosome.
        contrast: difference of the levels of background and chromosome.
    """
    core_HW = ndimage.binary_erosion(mask_HW, iterations=_OUTLINE_PX)
    outline_HW = mask_HW & ~core_HW
    if not core_HW.any():
        return None
    points_2N = np.argwhere(outline_HW).T
    angle_A = np.deg2rad(np.arange(0, 90, 3))
    along_AN = np.outer(np.cos(angle_A), points_2N[0]) + np.outer(np.sin(angle_A), points_2N[1])
    across_AN = np.outer(np.cos(angle_A), points_2N[1]) - np.outer(np.sin(angle_A), points_2N[0])
    box_A = (np.ptp(along_AN, axis=1) + 1) * (np.ptp(across_AN, axis=1) + 1)
    if mask_HW.sum() < _MIN_FILLED * box_A.min():
        return None
    inner_HW = ndimage.binary_erosion(mask_HW)
    outermost, next_ones = (
        np.percentile(darkness_HW[ring_HW], _LIGHTEST)
        for ring_HW in (mask_HW & ~inner_HW, inner_HW & ~ndimage.binary_erosion(inner_HW))
    )
    if outermost <= _MIN_STEP * next_ones:
        return None
    above_HW = (darkness_HW - np.median(darkness_HW[outline_HW])) / contrast
    for bands_HW in (above_HW > _BANDS_ABOVE, above_HW < -_BANDS_ABOVE):
        if bands_HW[outline_HW].mean() < _MAX_REACHING * bands_HW[core_HW].mean():
            return _TWO_GROUNDS
    return None


def _reach(contrast: float) -> int:
    """Largest difference from the level of an area of one level."""
    return max(round(_FLAT * contrast / 2), 1)


def _commonest(grey_N: Greys, reach: int) -> int:
    """The level that most pixels have, within ``reach``."""
    counts = np.bincount(grey_N, minlength=256).astype(float)
    return int(ndimage.uniform_filter1d(counts, 2 * reach + 1, mode="constant").argmax())


def _border(grey_HW: Greys) -> Greys:
    sides = grey_HW[0, :-1], grey_HW[:-1, -1], grey_HW[-1, :0:-1], grey_HW[:0:-1, 0]
    return np.concatenate(sides) if min(grey_HW.shape) > 1 else grey_HW.ravel()


def _dark_fault(grey_HW: Greys, background: float, edge: float, contrast: float) -> str | None:
    if np.mean(_border(grey_HW) > edge) < _MIN_LIGHT:
        return _DARK_BORDER
    return _DARK_CORNER if _has_dark_corner(grey_HW, background, edge, contrast) else None


def _has_dark_corner(grey_HW: Greys, background: float, edge: float, contrast: float) -> bool:
    border_N = _border(grey_HW)
    height, width = grey_HW.shape
    corners = np.array([0, width - 1, width + height - 2, 2 * width + height - 3]) % len(border_N)
    run_px = max(min(round(_MAX_RUN * len(border_N)) + 1, height, width), _CORNER_PX)
    flat_N, corner_N = (
        (ndimage.maximum_filter1d(border_N, size, mode="wrap") <= edge)
        & (_range(border_N, size) <= max(fraction * contrast, 2))
        for size, fraction in ((run_px, _FLAT), (_CORNER_PX, _CORNER_FLAT))
    )
    black = border_N[corners].min() < background - _MAX_CORNER * contrast
    return bool(black or flat_N.any() or corner_N[corners].any())


def _range(border_N: Greys, size: int) -> Greys:
    largest: Greys = ndimage.maximum_filter1d(border_N, size, mode="wrap")
    return largest - ndimage.minimum_filter1d(border_N, size, mode="wrap")
