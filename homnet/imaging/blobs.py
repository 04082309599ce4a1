"""Blobs of a page with all ways to read them: as one chromosome, or as several that touch or cross.

Each chromosome that there may be is cut out and measured as an image of its own, and the type
classifier judges its bands. Which way is right, :mod:`homnet.imaging.places` decides.

Shape suffixes: H rows, W columns, C chromatids, L positions, N chromosomes, T types.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from homnet.imaging import separation
from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.imaging.page_parts import Box, Parts, middle, zoomed
from homnet.imaging.reading import Page
from homnet.imaging.type_classifier import shipped_classifier
from homnet.karyotype.chromosomes import CHROMOSOMES

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FLAT: Final = 1.0 / len(CHROMOSOMES)
"""Probability of a type without evidence."""
HALF_WIDTH_PX: Final = 7.8
"""Half width of chromosomes in the images that the classifier is used on."""
_EXTRACTION: Final = ExtractionConfig(samples_per_px=2.0)
"""How chromosomes are measured for the classifier: even the longest fits."""
_TOUCHING: Final = -1.0
"""Log prior weight of two chromosomes that touch, beside one."""
_CROSSED: Final = -4.0
"""Log prior weight of two chromosomes that cannot be separated, for a wide blob."""
_SPOILT: Final = 0.15
"""Share of chromosomes that touch another of which the bands say nothing."""
_SOFT: Final = 0.15
"""Blur of the edge along which a chromosome is cut out, in half widths."""
INSEPARABLE: Final = "it touches or crosses another chromosome and cannot be separated for certain"
_ROW_MARGIN: Final = 0.2
"""Share of a blob's height at its ends that may reach into another row."""


@dataclass
class Piece:
    """One chromosome on the small page, or half of a blob that cannot be divided."""

    mask_HW: Mask
    """Its pixels in its box."""
    box: Box
    fault: str = ""
    """Why it cannot be used."""
    image_HW: NDArray[np.uint8] | None = None
    sequence_CL: NDArray[np.uint8] | None = None
    width_px: float = np.nan
    """Its mean width at the scale of the classifier."""
    log_T: Floats | None = None
    """Log probabilities of the types by its bands; None if they cannot be judged."""

    @property
    def length_px(self) -> float:
        """Length at the scale of the classifier; 0 if unknown."""
        if self.sequence_CL is None:
            return 0.0
        return float(np.count_nonzero(self.sequence_CL[0])) / _EXTRACTION.samples_per_px


@dataclass(frozen=True)
class Way:
    """A way to read a blob: as one chromosome or as several."""

    log_weight: float
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Blob:
    """A blob on the small page."""

    box: Box
    row: int
    ways: tuple[Way, ...]
    """The first one reads it as one chromosome."""


def find_blobs(page: Page, parts: Parts) -> list[Blob]:
    """Finds the blobs in reading order, with all ways to read them, measured and judged."""
    blobs = []
    for number, (box, row) in enumerate(zip(parts.boxes, _rows(parts.boxes), strict=True), start=1):
        place = slice(box[0], box[2]), slice(box[1], box[3])
        piece = Piece(parts.blob_HW[place] == number, box)
        blobs.append(Blob(box, row, _ways(piece, parts)))
    for blob in blobs:
        for way in blob.ways:
            for piece in way.pieces:
                _measure(piece, page, parts)
    _judge(blobs)
    return sorted(blobs, key=lambda blob: (blob.row, middle(blob.box)[1]))


def _rows(boxes: Sequence[Box]) -> list[int]:
    """Row of each box: rows are where the middle parts of boxes overlap."""
    spans = []
    for number, (top, _, bottom, _) in enumerate(boxes):
        margin = _ROW_MARGIN * (bottom - top)
        spans.append((top + margin, bottom - margin, number))
    row, end = -1, float("-inf")
    found = [0] * len(boxes)
    for start, stop, number in sorted(spans):
        row += start > end
        found[number] = row
        end = max(end, stop)
    return found


def _ways(piece: Piece, parts: Parts, depth: int = 0) -> tuple[Way, ...]:
    """All ways to read a blob."""
    top, left, bottom, right = piece.box
    whole = Way(0.0, (piece,))
    if right - left < separation.WIDE * parts.half_width_px:
        return (whole,)
    seam = separation.find_seam(piece.mask_HW, parts.darkness_HW[top:bottom, left:right])
    crossed = Way(
        _CROSSED if seam is None else _CROSSED + seam.log_crossed,
        (Piece(piece.mask_HW, piece.box, fault=INSEPARABLE),) * 2,
    )
    if seam is None:
        return (whole, crossed) if depth == 0 else (whole,)
    sides = []
    for mask_HW in (seam.left_HW, seam.right_HW):
        rows, columns = np.nonzero(mask_HW)
        box = int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
        inside_HW = mask_HW[box[0] : box[2], box[1] : box[3]]
        side = Piece(inside_HW, (top + box[0], left + box[1], top + box[2], left + box[3]))
        # More than four chromosomes in one blob are not looked for.
        sides.append(_ways(side, parts, depth + 1) if depth == 0 else (Way(0.0, (side,)),))
    divided = [
        Way(
            _TOUCHING + seam.log_odds + one.log_weight + other.log_weight, one.pieces + other.pieces
        )
        for one in sides[0]
        for other in sides[1]
    ]
    return whole, *divided, *([crossed] if depth == 0 else [])


def _measure(piece: Piece, page: Page, parts: Parts) -> None:
    """Cuts the piece out of the page and measures it, at the scale of the classifier."""
    if piece.image_HW is not None:  # several ways may share a piece
        return
    piece.image_HW = _cut_out(piece, page, parts)
    if piece.fault:
        return
    factor = HALF_WIDTH_PX / (parts.half_width_px * parts.page_px)
    done = extract(resized(piece.image_HW, factor), _EXTRACTION)
    if done.sequence_CL is None:
        piece.fault = done.reason or "it cannot be measured"
        return
    piece.sequence_CL = done.sequence_CL
    piece.width_px = done.width_px


def _cut_out(piece: Piece, page: Page, parts: Parts) -> NDArray[np.uint8]:
    """The piece on the page's background, at the page's resolution, with its soft edge."""
    around = max(2, round(0.5 * parts.half_width_px))
    top, left, bottom, right = piece.box
    height, width = parts.blob_HW.shape
    box = (
        max(top - around, 0),
        max(left - around, 0),
        min(bottom + around, height),
        min(right + around, width),
    )
    place = slice(box[0], box[2]), slice(box[1], box[3])
    own_HW = np.zeros((box[2] - box[0], box[3] - box[1]), bool)
    own_HW[top - box[0] : bottom - box[0], left - box[1] : right - box[1]] = piece.mask_HW
    others_HW = (parts.darkness_HW[place] > 0.25) & ~own_HW
    # Its soft edge ends halfway to whatever stands beside it.
    to_own_HW = ndimage.distance_transform_edt(~own_HW)
    to_others_HW = (
        ndimage.distance_transform_edt(~others_HW)
        if others_HW.any()
        else np.full(own_HW.shape, np.inf)
    )
    soft_HW = own_HW | ((to_own_HW <= around) & (to_own_HW < to_others_HW))
    # A sharp cut would look like the edge of a picture, and is not how a chromosome ends.
    share_HW = ndimage.gaussian_filter(soft_HW.astype(np.float32), _SOFT * parts.half_width_px)
    page_box = zoomed(box, parts.page_px)
    place = slice(page_box[0], page_box[2]), slice(page_box[1], page_box[3])
    grey_HW, coloured_HW = page.grey_HW[place], page.coloured_HW[place]
    share = Image.fromarray(share_HW).resize(grey_HW.shape[::-1], Image.Resampling.BILINEAR)
    ground = round(parts.background)
    image_HW = ground + (grey_HW.astype(np.float32) - ground) * np.asarray(share)
    image_HW[coloured_HW] = ground
    return np.asarray(np.rint(np.clip(image_HW, 0, 255)), np.uint8)


def resized(image_HW: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """An image made larger or smaller by a factor."""
    height, width = image_HW.shape
    size = max(1, round(width * factor)), max(1, round(height * factor))
    kind = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image_HW).resize(size, kind))


def _judge(blobs: Sequence[Blob]) -> None:
    """Lets the type classifier judge all pieces; lengths are relative to those of the page."""
    likely = [max(blob.ways, key=lambda way: way.log_weight) for blob in blobs]
    known = [piece.length_px for way in likely for piece in way.pieces if piece.length_px]
    every = [piece for blob in blobs for way in blob.ways for piece in way.pieces]
    judged = {id(piece): piece for piece in every if piece.sequence_CL is not None}
    if not known:
        return
    log_NT = shipped_classifier().log_probabilities(
        np.stack([cast(NDArray[np.uint8], piece.sequence_CL) for piece in judged.values()]),
        np.array([piece.length_px for piece in judged.values()]) / np.mean(known),
    )
    for piece, log_T in zip(judged.values(), log_NT, strict=True):
        piece.log_T = log_T
    # Several ways may share a piece.
    touching = {id(one): one for blob in blobs for way in blob.ways[1:] for one in way.pieces}
    for piece in touching.values():
        if piece.log_T is not None:  # what it touches has changed its bands
            piece.log_T = np.logaddexp(piece.log_T + np.log(1 - _SPOILT), np.log(_SPOILT * FLAT))
