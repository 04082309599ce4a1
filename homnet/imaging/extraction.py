"""Extracts the darkness of both chromatids along the axis from the grey image of one chromosome.

Steps: mask, largest component, centre line, both tips, perpendicular sampling, left and right means
(Wang et al. 2008; Ritter and Schreib 2000). Sequences are not stretched: a pixel of arc is always
``samples_per_px`` samples, so a longer chromosome has a longer sequence.

Shape suffixes: H rows, W columns, C chromatids (2: left, right), L positions (512), A samples along
the axis, T samples across it. Points are (row, column) in image pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from homnet.errors import ConfigError
from homnet.imaging.border import border_fault, ground_fault, margin_fault
from homnet.imaging.midline import arc_length, find_midline, points_at, project, tangents_at
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

BENT: Final = "bent"
BENT_BELOW: Final = 0.9
"""Chord over arc length below which real and simulated chromosomes are flagged ``bent``."""
TOO_LONG: Final = "too_long"
"""Flag of a chromosome with more samples than the sequence length."""
MAX_SIDE_PX: Final = 1024
"""Largest side of an image of a single chromosome."""
_PAD: Final = 6
"""Width of the empty margin added to an image, in pixels: crops often touch the chromosome."""
_SOFT_EDGE_PX: Final = 2
"""Width of the faint edge outside the mask that belongs to a chromosome."""
_MIN_LEVELS: Final = 3
"""Number of grey levels below which there are no bands; real chromosomes have a hundred."""
_MAX_AREA_PX: Final = 100_000
"""Area of a chromosome of 1,000 by 100 pixels; the centre line of a larger one takes seconds."""
_TWO_PARTS: Final = (
    "two dark parts of similar size: they are two chromosomes, or one in pieces; save one picture "
    "for each chromosome"
)
_ACROSS_PX: Final = 0.5
"""Spacing of samples across the axis, in pixels."""


@dataclass(frozen=True)
class ExtractionConfig:
    """Settings and quality limits of the extraction."""

    samples_per_px: float = 3.0
    """Samples per image pixel along the axis. One scale per hospital keeps lengths comparable."""
    edge_fraction: float = 0.25
    """Darkness of the chromosome's edge, as a fraction of its median darkness."""
    min_contrast: float = 20.0
    """Grey-level difference of background and chromosome below which an image is empty."""
    min_length_px: float = 8.0
    """Shorter chromosomes are unusable."""
    max_side_px: int = MAX_SIDE_PX
    """Larger images are rejected: they do not show a single chromosome."""
    bent_below: float = BENT_BELOW
    """Chord over arc length below which a chromosome is flagged ``bent``."""
    level_below: float = 0.3
    """Height between the tips, as a fraction of the length, below which a chromosome is flagged
    ``ends_level``: neither tip is clearly the upper one, that of the p-arm."""
    uneven_above: float = 0.35
    """Width variation above which it is flagged ``uneven_width``: satellites, overlaps, blobs."""
    part_above: float = 0.1
    """Area of the other components over the largest, above which ``several_parts`` is set."""
    two_above: float = 0.5
    """Area of the second largest part over the largest, above which the image shows two
    chromosomes and is unusable."""
    ring_above: float = 0.12
    """Area of the holes over the whole area, above which it is an unusable ``ring``, or a frame."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < math.inf:
                raise ConfigError(f"extraction.{name} is {value}; give a number above 0")


@dataclass(frozen=True)
class Extraction:
    """Result for one image."""

    sequence_CL: NDArray[np.uint8] | None
    """Darkness (2, 512), 1..255 on the chromosome and 0 beyond its end; None if unusable."""
    axis_A2: Floats
    """Centre of each sample, p-arm (upper end) first; empty without an axis."""
    straightness: float
    """Chord over arc length, 0..1; NaN without an axis."""
    width_px: float
    """Mean width in pixels; NaN without an axis."""
    width_variation: float
    """Standard deviation of the width over its mean; NaN without an axis."""
    flags: tuple[str, ...]
    """Any of bent, ends_level, uneven_width, several_parts, two_parts, ring and too_long."""
    reason: str | None
    """Why there is no sequence; None if there is one."""

    @classmethod
    def unusable(cls, reason: str, flags: Sequence[str] = ()) -> Self:
        """Result without axis and sequence."""
        nan = float("nan")
        return cls(None, np.empty((0, 2)), nan, nan, nan, tuple(flags), reason)


def extract(image_HW: NDArray[np.uint8], config: ExtractionConfig) -> Extraction:
    """Extracts the darkness of both chromatids of a chromosome on a light background.

    Darkness is the background's grey level minus the pixel's: 255 - grey on a white slide. The
    upper end of the axis is assumed to be the tip of the p-arm, as in a karyogram.

    Args:
        image_HW: grey levels of one chromosome, roughly upright.
        config: scale and limits.

    Returns:
        The sequence with its axis and quality; for an unusable image a reason and no sequence.
    """
    try:
        return _extract(image_HW, config)
    except MemoryError:  # says nothing of the image
        raise
    except Exception as error:  # one image that no step expects must not stop the others
        return Extraction.unusable(f"cannot be measured ({type(error).__name__})")


def isolate(image_HW: NDArray[np.uint8], config: ExtractionConfig) -> NDArray[np.uint8]:
    """Takes everything but the chromosome away from an image that :func:`extract` could measure.

    Args:
        image_HW: grey levels of one chromosome.
        config: as for :func:`extract`.

    Returns:
        Darkness (H, W) of the chromosome with its soft edge; 0 everywhere else.
    """
    levels = _grey_levels(image_HW, config)
    if levels is None:
        return np.zeros_like(image_HW)
    background, edge = levels
    darkness_HW = background - np.pad(image_HW.astype(float), _PAD, constant_values=background)
    blob_HW, _, _ = _segment(darkness_HW > background - edge, config)
    near_HW = ndimage.binary_dilation(blob_HW, iterations=_SOFT_EDGE_PX)
    alone_HW = np.where(near_HW, np.clip(np.rint(darkness_HW), 0, 255), 0).astype(np.uint8)
    return alone_HW[_PAD:-_PAD, _PAD:-_PAD]


def _extract(image_HW: NDArray[np.uint8], config: ExtractionConfig) -> Extraction:
    if image_HW.ndim != 2 or image_HW.dtype != np.uint8:
        return Extraction.unusable(
            f"not an 8-bit grey image ({image_HW.dtype}, {image_HW.ndim} dimensions)"
        )
    if max(image_HW.shape) > config.max_side_px:
        return Extraction.unusable(f"the image is larger than {config.max_side_px} pixels")
    levels = _grey_levels(image_HW, config)
    if levels is None:
        return Extraction.unusable("the image is empty")
    background, edge = levels
    contrast = (background - edge) / config.edge_fraction
    fault = border_fault(image_HW, background, edge, contrast)
    if fault is not None:
        return Extraction.unusable(fault)
    darkness_HW = background - np.pad(image_HW.astype(float), _PAD, constant_values=background)
    dark_HW = darkness_HW > background - edge
    blob_HW, mask_HW, flags = _segment(dark_HW, config)
    if (area_px := int(mask_HW.sum())) > _MAX_AREA_PX:
        return Extraction.unusable(
            f"the chromosome is too large: {area_px} pixels, at most {_MAX_AREA_PX}; "
            "make the image smaller",
            flags,
        )
    if (fault := ground_fault(darkness_HW, mask_HW, contrast)) is not None:
        return Extraction.unusable(fault, flags)
    points_N2 = np.argwhere(mask_HW).astype(float)
    if len(points_N2) < config.min_length_px**2 / 2:
        return Extraction.unusable("the chromosome is too small", flags)
    if "ring" in flags:
        return Extraction.unusable("ring-shaped or framed: the axis has no ends", flags)
    if "two_parts" in flags:
        return Extraction.unusable(_TWO_PARTS, flags)
    line_A2, width_px = find_midline(blob_HW, points_N2)
    along_N, across_N = project(points_N2, line_A2)
    start, stop = _tips(along_N, width_px)
    num_samples = int((stop - start) * config.samples_per_px)
    if num_samples < config.min_length_px * config.samples_per_px:
        return Extraction.unusable("the chromosome is too short", flags)
    if num_samples > SEQUENCE_LENGTH:
        fitting = math.floor(100 * SEQUENCE_LENGTH / (stop - start)) / 100  # never rounded up
        return Extraction.unusable(
            f"too long: {num_samples} samples do not fit into {SEQUENCE_LENGTH}; "
            f"--extraction.samples-per-px {fitting:g} would fit",
            [*flags, TOO_LONG],
        )
    if len(np.unique(darkness_HW[mask_HW])) < _MIN_LEVELS:
        return Extraction.unusable(
            "no bands: one or two grey levels, as a mask has; save the image with 256 levels", flags
        )
    if (fault := margin_fault(image_HW, background, edge, contrast)) is not None:
        return Extraction.unusable(fault, flags)
    middle = (start + stop) / 2
    from_middle = np.arange(num_samples, dtype=np.float64) - (num_samples - 1) / 2
    arc_A = middle + from_middle / config.samples_per_px
    position_HW = np.full(mask_HW.shape, np.inf)
    position_HW[mask_HW] = along_N
    reach_px = 1.1 * float(np.percentile(np.abs(across_N), 98))
    profile_CA, width_A = _sample(darkness_HW, position_HW, line_A2, arc_A, reach_px, width_px)

    axis_A2 = points_at(line_A2, arc_A)
    straightness = float(np.linalg.norm(axis_A2[-1] - axis_A2[0]) / arc_length(axis_A2)[-1])
    body_A = width_A[num_samples // 10 : num_samples - num_samples // 10]
    mean_width = float(body_A.mean())
    variation = float(body_A.std() / max(mean_width, 1.0))
    if straightness < config.bent_below:
        flags.append(BENT)
        # One that a pale band divides is straight; of two side by side, the line turns round from
        # one into the other.
        if _second_part(dark_HW & mask_HW) > config.two_above:
            return Extraction.unusable(_TWO_PARTS, [*flags, "two_parts"])
    if axis_A2[-1, 0] - axis_A2[0, 0] < config.level_below * (stop - start):
        flags.append("ends_level")
    if variation > config.uneven_above:
        flags.append("uneven_width")
    sequence_CL = np.zeros((2, SEQUENCE_LENGTH), np.uint8)
    sequence_CL[:, :num_samples] = np.clip(np.rint(profile_CA), 1, 255)
    return Extraction(
        sequence_CL, axis_A2 - _PAD, straightness, mean_width, variation, tuple(flags), None
    )


def _grey_levels(
    image_HW: NDArray[np.uint8], config: ExtractionConfig
) -> tuple[float, float] | None:
    """Grey levels of the background and of the chromosome's edge; None without contrast."""
    if image_HW.size == 0 or np.ptp(image_HW) < config.min_contrast:
        return None
    split = int(threshold_otsu(image_HW))
    light = image_HW[image_HW > split]
    counts = np.bincount(light, minlength=256).astype(float)
    background = float(np.argmax(ndimage.uniform_filter1d(counts, 3, mode="constant")))
    # Light bands are darker than the background, so levels above it are noise only.
    above = light[light >= background] - background
    noise = float(np.sqrt(np.mean(above**2)))
    contrast = background - float(np.median(image_HW[image_HW <= split]))
    if contrast < config.min_contrast:
        return None
    if 4 * noise > contrast / 2:
        # With hardly any background, the most frequent light level is that of light bands.
        contrast += float(light.max()) - background
        background, noise = float(light.max()), 0.0
    return background, background - max(4 * noise, config.edge_fraction * contrast)


def _segment(dark_HW: Mask, config: ExtractionConfig) -> tuple[Mask, Mask, list[str]]:
    """Returns the blob for the centre line, the mask to sample, and flags."""
    # Satellites and split chromatids are joined by faint pixels only: close gaps of 4 pixels.
    closed_HW = ndimage.binary_closing(dark_HW, np.ones((5, 5), bool))
    labels_HW, _ = ndimage.label(closed_HW, np.ones((3, 3), bool))
    area = np.bincount(labels_HW[dark_HW], minlength=2)
    area[0] = 0
    largest_HW = labels_HW == area.argmax()
    flags = []
    if area.sum() - area.max() > config.part_above * area.max():
        flags.append("several_parts")
    if np.sort(area)[-2] > config.two_above * area.max():
        flags.append("two_parts")
    blob_HW = ndimage.binary_fill_holes(largest_HW)
    mask_HW = dark_HW & largest_HW
    filled_HW = ndimage.binary_fill_holes(mask_HW)
    # All holes together: a chromosome that spans a frame leaves one on either side.
    if filled_HW.sum() - mask_HW.sum() > config.ring_above * filled_HW.sum():
        flags.append("ring")
    return blob_HW, filled_HW, flags


def _second_part(dark_HW: Mask) -> float:
    """Area of the second largest component over the largest; 0 if there is one."""
    labels_HW, _ = ndimage.label(dark_HW, np.ones((3, 3), bool))
    area = np.sort(np.bincount(labels_HW[dark_HW], minlength=2)[1:])
    return float(area[-2] / area[-1]) if len(area) > 1 else 0.0


def _tips(along_N: Floats, width_px: float) -> tuple[float, float]:
    """Start and end of the chromosome along its line, in pixels.

    With a microscope blur of one pixel, the mask's edge at a quarter of the darkness is about half
    a pixel outside the true edge. The outermost pixels may be noise: a fifth of a width of pixels
    is skipped. On drawings of known length the error is below 0.2 pixels.
    """
    order = np.sort(along_N)
    skip = min(int(0.2 * width_px), len(order) // 4)
    return float(order[skip]), float(order[-1 - skip])


def _sample(
    darkness_HW: Floats,
    position_HW: Floats,
    line_A2: Floats,
    arc_A: Floats,
    reach_px: float,
    width_px: float,
) -> tuple[Floats, Floats]:
    """Mean darkness left and right of the axis, and the width at each sample.

    ``position_HW`` is the position of each pixel along the line. With it, the perpendicular of one
    arm of a U-bend ignores the pixels of the other.
    """
    num_across = int(np.ceil(reach_px / _ACROSS_PX))
    offset_T = (np.arange(-num_across, num_across) + 0.5) * _ACROSS_PX
    tangent_A2 = tangents_at(line_A2, arc_A)
    normal_A2 = np.stack([-tangent_A2[:, 1], tangent_A2[:, 0]], axis=1)
    at_AT2 = points_at(line_A2, arc_A)[:, None] + offset_T[:, None] * normal_A2[:, None]
    at_2AT = np.moveaxis(at_AT2, -1, 0)
    darkness_AT = ndimage.map_coordinates(darkness_HW, at_2AT, order=1, mode="constant")
    row_AT, col_AT = np.rint(at_2AT).astype(int)
    height, width = position_HW.shape
    row_AT, col_AT = np.clip(row_AT, 0, height - 1), np.clip(col_AT, 0, width - 1)
    belongs_AT = np.abs(position_HW[row_AT, col_AT] - arc_A[:, None]) < max(0.75 * width_px, 4.0)
    sides = []
    for side in (slice(0, num_across), slice(num_across, None)):
        count_A = belongs_AT[:, side].sum(axis=1)
        mean_A = (darkness_AT[:, side] * belongs_AT[:, side]).sum(axis=1) / np.maximum(count_A, 1)
        # Where a chromatid ends before its sister, its last value is repeated.
        sides.append(_fill(mean_A, count_A >= 2))
    return np.stack(sides), belongs_AT.sum(axis=1) * _ACROSS_PX


def _fill(values_A: Floats, known_A: Mask) -> Floats:
    """Interpolates unknown values linearly; beyond the known ones, repeats the nearest."""
    if not known_A.any():
        return np.ones_like(values_A)
    at = np.arange(len(values_A))
    return np.interp(at, at[known_A], values_A[known_A])
