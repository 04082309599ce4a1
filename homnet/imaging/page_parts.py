"""Separates what is on the page of a karyogram: chromosomes, printed words, and other ink.

Chromosomes are thick and banded. Letters, lines, frames and arrows are thin, logos have one level.
How thick a chromosome is on this page is learnt from the page: most of the dark area belongs to
chromosomes.

Shape suffixes: H rows, W columns, B blobs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from homnet.errors import DataError
from homnet.imaging.reading import Page

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Top, left, bottom and right, the latter two exclusive."""

_MAX_SIDE_PX: Final = 1200
"""A larger page is made smaller before it is divided."""
_EDGE: Final = 0.25
"""Darkness of a chromosome's edge, as a fraction of the contrast, as in the extraction."""
_MIN_CONTRAST: Final = 30.0
_MIN_GROUND: Final = 0.5
"""Share of the page that has the background's level."""
_MAX_SHARE: Final = 0.05
"""Largest share of the page that a pair of chromosomes covers."""
_FLAT: Final = 0.06
"""Largest difference of the darkest and the usual level in ink, as a fraction of the contrast."""
# Lengths in half widths of a chromosome.
_CLOSED: Final = 0.2
"""Half of the widest gap within a chromosome."""
_SPECK: Final = 0.3
"""Area of the largest speck that is joined to a chromosome, in half widths squared."""
_THIN: Final = 0.3
"""Half width of the thinnest part that is not a line."""
_GROWN: Final = 0.5
"""How far a thin end of a chromosome reaches beyond its thick part."""
_THICK: Final = 0.42
"""Half width of the thinnest chromosome."""
_SMALLEST: Final = 1.2
"""Area of the smallest chromosome, in half widths squared."""
_SHORTEST: Final = 1.2
"""Longer side of the smallest chromosome."""
_SATELLITE: Final = (0.3, 1.5, 3.0)
"""Smallest and largest area of a satellite, in half widths squared, and its longer side."""
_STALK: Final = 0.5
"""Longest gap between a chromosome and its satellite."""
_ABOVE: Final = 0.3
"""How far the middle of a satellite may lie below the upper end of its chromosome."""
_GLYPH: Final = (0.4, 5.0)
"""Smallest and largest height of a letter."""
_MAX_GLYPHS: Final = 1000
_BAR: Final = (3.0, 1.6)
"""Shortest length and largest height of a scale bar."""
_UNBROKEN: Final = 0.95
"""Share of a bar's length that is ink."""
_LETTER_GAP: Final = 0.45
"""Widest space between letters of a word, as a share of their height."""
_EIGHT: Final = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Word:
    """A printed word on the page."""

    box: Box
    """Where it is."""
    darkness_HW: Floats
    """Its darkness in that box, 0 to 1; other ink is removed."""


@dataclass(frozen=True)
class Bar:
    """A horizontal stroke, which may be a scale bar."""

    box: Box
    """Where it is."""
    length_px: float
    """Its length."""


@dataclass(frozen=True)
class Parts:
    """Parts of a page, which may have been made smaller. All pixels are those of the small page."""

    blob_HW: NDArray[np.int32]
    """Number of the blob at each pixel, from 1; 0 is no blob. A blob is a chromosome, or several
    that touch."""
    boxes: tuple[Box, ...]
    """Box of each blob."""
    darkness_HW: Floats
    """Darkness over the contrast, 0 on the background and on coloured pixels."""
    half_width_px: float
    """Half width of a typical chromosome."""
    words: tuple[Word, ...]
    """Everything that may be a word."""
    bars: tuple[Bar, ...]
    """Everything that may be a scale bar."""
    background: float
    """Grey level of the background."""
    page_px: float
    """Pixels of the page per pixel here, at least 1."""


def find_parts(page: Page) -> Parts:
    """Divides a page into its parts.

    Raises:
        DataError: the page is blank, has no uniform light ground, or nothing on it is as thick and
            banded as chromosomes are.
    """
    grey_HW, coloured_HW, page_px = _small(page)
    background, contrast, edge = _levels(grey_HW, coloured_HW)
    darkness_HW = np.maximum(background - grey_HW.astype(np.float32), 0) / contrast
    ink_HW = darkness_HW > edge
    darkness_HW[coloured_HW] = 0
    dark_HW = ink_HW & ~coloured_HW
    areas = _Areas.of(dark_HW)
    half_width_px = _half_width(areas, darkness_HW)
    closed_HW = _closed(areas, half_width_px)
    thick_HW = ndimage.distance_transform_edt(closed_HW)
    from_thick_HW = ndimage.distance_transform_edt(thick_HW <= _THIN * half_width_px)
    grown_HW = closed_HW & (from_thick_HW <= (_THIN + _GROWN) * half_width_px)
    blob_HW, boxes = _blobs(_Areas.of(grown_HW, thick_HW), darkness_HW, half_width_px)
    boxes = _add_satellites(blob_HW, boxes, dark_HW, half_width_px)
    near_HW = ndimage.binary_dilation(blob_HW > 0, _EIGHT)
    number_HW, places = _inks(ink_HW & ~near_HW)
    words = _words(number_HW, places, background, grey_HW, half_width_px)
    bars = _bars(number_HW, places, background, grey_HW, half_width_px)
    return Parts(blob_HW, boxes, darkness_HW, half_width_px, words, bars, background, page_px)


def _small(page: Page) -> tuple[NDArray[np.uint8], Mask, float]:
    """The page, no larger than ``_MAX_SIDE_PX``, and by how much it was made smaller."""
    height, width = page.grey_HW.shape
    page_px = max(1.0, max(width, height) / _MAX_SIDE_PX)
    if page_px == 1.0:
        return page.grey_HW, page.coloured_HW, page_px
    size = max(1, round(width / page_px)), max(1, round(height / page_px))
    grey = Image.fromarray(page.grey_HW).resize(size, Image.Resampling.BOX)
    if not page.coloured_HW.any():
        return np.asarray(grey), np.zeros(size[::-1], bool), page_px
    coloured = Image.fromarray(page.coloured_HW.view(np.uint8))
    coloured_HW = np.asarray(coloured.resize(size, Image.Resampling.BOX)) > 0
    return np.asarray(grey), coloured_HW, page_px


def _levels(grey_HW: NDArray[np.uint8], coloured_HW: Mask) -> tuple[float, float, float]:
    """Level of the background, contrast of the chromosomes, and darkness of their edge, 0..1.

    Raises:
        DataError: there is no contrast, or no uniform light ground.
    """
    grey = grey_HW[~coloured_HW]
    if grey.size == 0 or np.ptp(grey) < _MIN_CONTRAST:
        raise DataError("the page is blank")
    counts = np.bincount(grey, minlength=256).astype(float)
    background = float(np.argmax(ndimage.uniform_filter1d(counts, 3, mode="constant")))
    ground = counts[max(0, int(background) - 12) :].sum() / counts.sum()
    if background < 128:
        raise DataError("the page is dark; send a karyogram that is dark on white")
    if ground < _MIN_GROUND:
        raise DataError(
            "the page has no even light ground, as a photograph has none; send the karyogram alone"
        )
    dark = grey[grey <= threshold_otsu(grey)]
    contrast = background - float(np.median(dark))
    if contrast < _MIN_CONTRAST:
        raise DataError("the page is blank")
    above = grey[grey >= background] - background
    noise = float(np.sqrt(np.mean(np.square(above))))
    return background, contrast, max(_EDGE, 4 * noise / contrast)


@dataclass(frozen=True)
class _Areas:
    """Connected areas of a mask, numbered from 1; arrays (B) begin with area 1."""

    number_HW: NDArray[np.int32]
    thick_HW: NDArray[Any]
    """Distance of each pixel from the edge of its area."""
    area_B: NDArray[np.int64]
    """Number of pixels."""
    most_B: Floats
    """Largest distance from the edge."""

    @classmethod
    def of(cls, mask_HW: Mask, thick_HW: NDArray[Any] | None = None) -> Self:
        """Areas of a mask; distances are those of the mask unless given."""
        number_HW, num = ndimage.label(mask_HW, _EIGHT)
        if thick_HW is None:
            thick_HW = ndimage.distance_transform_edt(mask_HW)
        at = np.flatnonzero(mask_HW)
        number = number_HW.ravel()[at]
        most_B = np.zeros(num + 1, np.float32)
        np.maximum.at(most_B, number, thick_HW.ravel()[at].astype(np.float32))
        area_B = np.bincount(number, minlength=num + 1)
        return cls(number_HW.astype(np.int32, copy=False), thick_HW, area_B[1:], most_B[1:])

    def are_banded(self, of_B: Mask, darkness_HW: Floats, inside_px: float) -> Mask:
        """Which of some areas (B) are banded: ink has one level away from its edge.

        Args:
            of_B: areas to look at; the others are not banded.
            darkness_HW: darkness of the page.
            inside_px: distance from the edge.
        """
        found = ndimage.find_objects(self.number_HW)
        banded_B = np.zeros(len(of_B), bool)
        for number in np.flatnonzero(of_B):
            place = found[number]
            inside_HW = (self.number_HW[place] == number + 1) & (self.thick_HW[place] > inside_px)
            if inside_HW.any():
                usual, most = np.percentile(darkness_HW[place][inside_HW], (50, 95))
                banded_B[number] = most - usual > _FLAT
        return banded_B


def _half_width(areas: _Areas, darkness_HW: Floats) -> float:
    """Half width of a typical chromosome in pixels.

    Raises:
        DataError: nothing on the page is thick and banded.
    """
    usable_B = (areas.most_B >= 2) & (areas.area_B < _MAX_SHARE * darkness_HW.size)
    usable_B = areas.are_banded(usable_B, darkness_HW, 1.5)
    if not usable_B.any():
        raise DataError("nothing on the page looks like a chromosome")
    order = np.argsort(areas.most_B[usable_B])
    total = np.cumsum(areas.area_B[usable_B][order])
    return float(areas.most_B[usable_B][order][np.searchsorted(total, total[-1] / 2)])


def _closed(areas: _Areas, half_width_px: float) -> Mask:
    """Thick areas and specks beside them, gaps closed: lines and letters stay apart."""
    joined_B = (areas.most_B > _THIN * half_width_px) | (areas.area_B < _SPECK * half_width_px**2)
    num_steps = max(1, round(_CLOSED * half_width_px))
    padded_HW = np.pad(np.append(False, joined_B)[areas.number_HW], num_steps)
    closed_HW = ndimage.binary_closing(padded_HW, _EIGHT, iterations=num_steps)
    return np.asarray(closed_HW[num_steps:-num_steps, num_steps:-num_steps])


def _blobs(
    areas: _Areas, darkness_HW: Floats, half_width_px: float
) -> tuple[NDArray[np.int32], tuple[Box, ...]]:
    """Numbers the areas that may be chromosomes."""
    found = ndimage.find_objects(areas.number_HW)
    sides_B = np.array([max(_size(_box(place))) for place in found])
    kept_B = (
        (areas.most_B >= _THICK * half_width_px)
        & (areas.area_B >= _SMALLEST * half_width_px**2)
        & (areas.area_B < _MAX_SHARE * darkness_HW.size)
        & (sides_B >= _SHORTEST * half_width_px)
    )
    kept_B = areas.are_banded(kept_B, darkness_HW, max(1.5, _THIN * half_width_px))
    renumbered = np.zeros(len(kept_B) + 1, np.int32)
    renumbered[1:][kept_B] = np.arange(1, kept_B.sum() + 1)
    boxes = tuple(_box(place) for place, kept in zip(found, kept_B, strict=True) if kept)
    return renumbered[areas.number_HW], boxes


def _add_satellites(
    blob_HW: NDArray[np.int32], boxes: tuple[Box, ...], dark_HW: Mask, half_width_px: float
) -> tuple[Box, ...]:
    """Adds satellites, which a light stalk divides from the upper end of a chromosome.

    Returns:
        The boxes with their satellites; ``blob_HW`` is changed.
    """
    beside_HW = dark_HW & (blob_HW == 0)
    number_HW, places = _inks(beside_HW)
    area = np.bincount(number_HW.ravel())
    low, high, longest = _SATELLITE
    found = list(boxes)
    reach = math.ceil(_STALK * half_width_px) + 1
    for number, box in enumerate(places, start=1):
        inside = low <= area[number] / half_width_px**2 <= high
        if not inside or max(_size(box)) > longest * half_width_px:
            continue
        top, left = max(box[0] - reach, 0), max(box[1] - reach, 0)
        place = slice(top, box[2] + reach), slice(left, box[3] + reach)
        own_HW = number_HW[place] == number
        away_HW = ndimage.distance_transform_edt(~own_HW)
        near = blob_HW[place][(away_HW <= _STALK * half_width_px) & (blob_HW[place] > 0)]
        if not near.size or (near != near[0]).any():
            continue  # it belongs to nothing, or nobody knows to what
        blob = int(near[0])
        if (box[0] + box[2]) / 2 <= boxes[blob - 1][0] + _ABOVE * half_width_px:
            blob_HW[place][own_HW] = blob
            found[blob - 1] = around(found[blob - 1], box)
    return tuple(found)


def _inks(ink_HW: Mask) -> tuple[NDArray[np.int32], list[Box]]:
    """Numbers connected areas of ink from 1, with their boxes."""
    number_HW, _ = ndimage.label(ink_HW, _EIGHT)
    return number_HW.astype(np.int32, copy=False), [
        _box(place) for place in ndimage.find_objects(number_HW)
    ]


def _bars(
    number_HW: NDArray[np.int32],
    boxes: Sequence[Box],
    background: float,
    grey_HW: NDArray[np.uint8],
    half_width_px: float,
) -> tuple[Bar, ...]:
    """Horizontal strokes, with or without ticks at their ends."""
    found = []
    for number, box in enumerate(boxes, start=1):
        height, width = _size(box)
        if width < _BAR[0] * half_width_px or height > _BAR[1] * half_width_px:
            continue
        place = slice(box[0], box[2]), slice(box[1], box[3])
        own_HW = number_HW[place] == number
        row = int(own_HW.sum(axis=1).argmax())
        if own_HW[row].mean() < _UNBROKEN:
            continue
        # The soft ends of a stroke count by their darkness.
        dark_W = (background - grey_HW[box[0] + row, place[1]].astype(np.float32)).clip(0)
        found.append(Bar(box, float(dark_W.sum() / np.median(dark_W))))
    return tuple(found)


def _words(
    number_HW: NDArray[np.int32],
    boxes: Sequence[Box],
    background: float,
    grey_HW: NDArray[np.uint8],
    half_width_px: float,
) -> tuple[Word, ...]:
    """Joins letters that stand side by side."""
    low, high = (limit * half_width_px for limit in _GLYPH)
    letters: list[tuple[Box, list[int]]] = []
    for number, box in enumerate(boxes, start=1):
        height, width = _size(box)
        if low <= height <= high and 1 <= width <= high and width <= 4 * height:
            letters.append((box, [number]))
    if len(letters) > _MAX_GLYPHS:
        return ()
    letters.sort(key=lambda letter: letter[0][1])
    words: list[tuple[Box, list[int]]] = []
    for box, numbers in letters:
        for at in range(len(words) - 1, -1, -1):
            if _continues(words[at][0], box):
                words[at] = around(words[at][0], box), words[at][1] + numbers
                break
        else:
            words.append((box, numbers))
    found = []
    for box, numbers in words:
        place = slice(box[0], box[2]), slice(box[1], box[3])
        own_HW = ndimage.binary_dilation(np.isin(number_HW[place], numbers), _EIGHT)
        darkness_HW = (background - grey_HW[place].astype(np.float32)) * own_HW
        most = max(float(darkness_HW.max()), 1.0)
        found.append(Word(box, np.clip(darkness_HW / most, 0, 1)))
    return tuple(found)


def _continues(word: Box, letter: Box) -> bool:
    """Whether a letter stands behind a word, on its line and of its height."""
    tall, other = word[2] - word[0], letter[2] - letter[0]
    shared = min(word[2], letter[2]) - max(word[0], letter[0])
    return shared > 0.6 * max(tall, other) and letter[1] - word[3] <= max(
        2.0, _LETTER_GAP * max(tall, other)
    )


def around(one: Box, other: Box) -> Box:
    """The smallest box around two."""
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )


def _box(place: tuple[slice, ...]) -> Box:
    rows, columns = place
    return rows.start, columns.start, rows.stop, columns.stop


def _size(box: Box) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def middle(box: Box) -> tuple[float, float]:
    """Row and column of a box's middle."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def between(left: Box, right: Box) -> float:
    """Horizontal space between two boxes in pixels, negative where they overlap."""
    return right[1] - left[3]


def zoomed(box: Box, factor: float) -> Box:
    """The box on a page that is larger by a factor."""
    return (
        math.floor(box[0] * factor),
        math.floor(box[1] * factor),
        math.ceil(box[2] * factor),
        math.ceil(box[3] * factor),
    )
