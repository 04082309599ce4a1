"""Reads a picture of one cell's karyogram: chromosomes with type, homolog and outline.

The page is divided into blobs and printed words (:mod:`homnet.imaging.page_parts`). Blobs of
chromosomes that touch are separated where a light seam runs between them. Each chromosome is
measured as an image of its own, and the type classifier judges its bands. Places, printed numbers
and bands together give the probability of its type (:mod:`homnet.imaging.places`). A chromosome
whose type is not certain is left out and listed with the reason.

Shape suffixes: H rows, W columns, N chromosomes in reading order, T types, K points of an outline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, Final, cast

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from skimage.measure import find_contours

from homnet.errors import DataError
from homnet.imaging.band_level import shipped_estimator
from homnet.imaging.blobs import FLAT, HALF_WIDTH_PX, INSEPARABLE, Blob, Piece, Way, find_blobs
from homnet.imaging.layouts import Layout
from homnet.imaging.page_parts import Box, Parts, between, find_parts, middle, zoomed
from homnet.imaging.page_scale import Scale, find_scale
from homnet.imaging.places import BlobEvidence, Places, Reading, find_places
from homnet.imaging.printed_numbers import log_likelihoods
from homnet.imaging.reading import Page, read_page
from homnet.karyotype.bands import FINEST_LEVEL, LENGTH_PER_LEVEL, band_table
from homnet.karyotype.chromosomes import CHROMOSOME_INDEX, CHROMOSOMES, DENVER_GROUP_OF
from homnet.locations import Location

Floats = NDArray[np.float64]

MAX_SIDE_PX: Final = 8000
"""Largest side of a page."""
MAX_BYTES: Final = 128 * 2**20
"""Largest file of a page."""
PX_PER_ISCN: Final = 0.0078
"""Pixels per ISCN unit of images of single chromosomes at the common scale: that of the simulated
laboratories, on which the model that comes with the package was trained."""
UM_PER_PX: Final = 0.0645
"""Micrometres per pixel at that scale: a camera of 6.45 µm at a magnification of 100."""
_USUAL_LEVEL: Final = 494
"""Band level of a cell of those laboratories whose chromosomes have that length: the mean of the
logarithm."""
CERTAIN: Final = 0.95
"""Probability of a type from which a chromosome is used."""
SEPARATED: Final = "separated"
"""Flag of a chromosome that touched another."""
UNLIKE_ITS_TYPE: Final = "unlike_its_type"
"""Flag of a chromosome whose bands the classifier gives to another Denver group."""
_MIN_BLOBS: Final = 15
_MAX_BLOBS: Final = 120
_WIDTHS: Final = ((1.0, 0.16), (1.65, 0.25))
"""Width of one chromosome, and of several, over the usual one, and standard deviation of its log.
"""
_PART_WIDTH: Final = (0.83, 0.22)
"""The same of the parts that touch."""
_MOST_WIDTH: Final = 5.0
"""Largest loss of log likelihood by an unusual width."""
_MIN_CELL: Final = 20
"""Fewest chromosomes of certain type in a karyogram."""
_MIN_PLACED: Final = 0.6
"""Share of the chromosomes on a page whose type must be certain."""
_MOST_UNLIKE: Final = 0.5
"""Share of the chromosomes whose Denver group the classifier may doubt."""
_SLOPE: Final = 2.5
"""Log odds of a gap between places per half width beyond the usual gap within one."""
_MOST_ODDS: Final = 3.0
_LABEL_REACH: Final = 6.0
"""Distance of a number from its row in half widths, at most."""
_LABEL_ASIDE: Final = 3.0
"""Horizontal distance of a number from a chromosome's middle in half widths, at most."""
_ASTRAY: Final = 0.03
"""Probability that the nearest number is not that of the chromosome."""
_BELOW: Final = 1
_ABOVE: Final = 2


@dataclass(frozen=True)
class FoundChromosome:
    """A chromosome on a page, used or left out."""

    box: Box
    """Top, left, bottom and right on the page, in its pixels."""
    outline_K2: NDArray[np.float64]
    """Its outline: rows and columns on the page; the last point is the first."""
    chromosome: str
    """Type; empty if none is certain."""
    homolog: int
    """Number from the left among those of its type that are used: 0, 1, or more for further
    copies."""
    probability: float
    """Probability of the most probable type."""
    flags: tuple[str, ...]
    """Any of ``separated`` and ``unlike_its_type``."""
    reason: str
    """Why it is left out; empty if it is used."""
    length_px: float
    """Length of its axis in pixels of the page; 0 if it could not be measured."""
    sequence_CL: NDArray[np.uint8] | None
    """Its darkness as the type classifier saw it; None if it could not be measured."""
    image_HW: NDArray[np.uint8]
    """The chromosome alone, on the page's background."""

    @property
    def is_one(self) -> bool:
        """Whether it is one chromosome and was measured: only such can be given a type."""
        return self.length_px > 0 and self.reason != INSEPARABLE


@dataclass(frozen=True)
class Karyogram:
    """The chromosomes of one cell."""

    chromosomes: tuple[FoundChromosome, ...]
    """In reading order."""
    layout: Layout
    """How they are arranged."""
    scale: Scale
    """Pixels of the page per micrometre."""

    @property
    def used(self) -> tuple[FoundChromosome, ...]:
        """Chromosomes of certain type."""
        return tuple(one for one in self.chromosomes if not one.reason)

    @property
    def band_level(self) -> int:
        """Band level of the cell, estimated from the chromosomes of certain type, at least one."""
        return _band_level(self.used)

    @property
    def left_out(self) -> tuple[FoundChromosome, ...]:
        """Chromosomes without a certain type."""
        return tuple(one for one in self.chromosomes if one.reason)


def read_picture(source: Location | IO[bytes]) -> Page:
    """Reads the file of a karyogram.

    Raises:
        DataError: it cannot be read, or is too large.
    """
    return read_page(source, max_side_px=MAX_SIDE_PX, max_bytes=MAX_BYTES)


def find_chromosomes(page: Page, layout: Layout | None = None) -> Karyogram:
    """Finds the chromosomes of a karyogram.

    Args:
        page: the picture, dark on white.
        layout: how the laboratory arranges its karyograms; None tries the common layouts.

    Raises:
        DataError: the page does not show a human karyogram.
    """
    try:
        return _find(page, layout)
    except (DataError, MemoryError):  # a lack of memory says nothing of the page
        raise
    except Exception as error:  # one page that no step expects must not stop the others
        raise DataError(f"the page cannot be read ({type(error).__name__})") from None


def _find(page: Page, layout: Layout | None) -> Karyogram:
    parts = find_parts(page)
    if not _MIN_BLOBS <= len(parts.boxes) <= _MAX_BLOBS:
        raise DataError(
            f"not a karyogram: {len(parts.boxes)} objects on the page look like chromosomes"
        )
    blobs = find_blobs(page, parts)
    places = _best_places(blobs, parts, layout)
    found = _result(blobs, places, parts)
    _refuse_others(found)
    on_page = [replace(bar, length_px=bar.length_px * parts.page_px) for bar in parts.bars]
    scale = find_scale(_px_per_um(found), on_page, parts.words, page.px_per_um)
    return Karyogram(found, places.layout, scale)


def _band_level(used: Sequence[FoundChromosome]) -> int:
    """Band level by all chromosomes that were measured; at least one was."""
    measured = [one for one in used if one.sequence_CL is not None]
    (level,) = shipped_estimator().estimate(
        np.stack([cast(NDArray[np.uint8], one.sequence_CL) for one in measured]),
        np.array([CHROMOSOME_INDEX[one.chromosome] for one in measured], np.int64),
        np.zeros(len(measured), np.int64),
    )
    return int(level)


def _px_per_um(found: Sequence[FoundChromosome]) -> float:
    """Pixels of the page per micrometre, estimated from the lengths of the chromosomes."""
    tables = band_table(FINEST_LEVEL)
    used = [one for one in found if not one.reason]
    px_per_iscn = np.median(
        [one.length_px / tables[one.chromosome].length_iscn for one in used if one.length_px > 0]
    )
    longer = (_band_level(used) / _USUAL_LEVEL) ** LENGTH_PER_LEVEL
    return float(px_per_iscn / (PX_PER_ISCN * longer * UM_PER_PX))


def _best_places(blobs: Sequence[Blob], parts: Parts, layout: Layout | None) -> Places:
    """Places of the chromosomes, with numbers below, above, or none: whichever explains most."""
    new_row = [at == 0 or one.row != blobs[at - 1].row for at, one in enumerate(blobs)]
    gaps = _gap_odds(blobs, new_row, parts.half_width_px)
    log_words_NT = log_likelihoods(parts.words)
    flat_T = np.zeros(len(CHROMOSOMES))
    single = [blob.ways[0].pieces[0].width_px for blob in blobs if len(blob.ways) == 1]
    usual_px = float(np.nanmedian([*single, 2 * HALF_WIDTH_PX]))
    found = []
    for side in (_BELOW, _ABOVE, None):
        lines = _lines(blobs, parts, log_words_NT, side)
        evidence = [
            BlobEvidence(
                new_row[at],
                gaps[at],
                tuple(
                    Reading(
                        way.log_weight + _log_width(blob, way, usual_px),
                        np.stack(
                            [
                                (flat_T if piece.log_T is None else piece.log_T - np.log(FLAT))
                                + _number(piece, lines[blob.row], parts.half_width_px)
                                for piece in way.pieces
                            ]
                        ),
                    )
                    for way in blob.ways
                ),
            )
            for at, blob in enumerate(blobs)
        ]
        found.append(find_places(evidence, layout))
    return max(found, key=lambda places: places.log_evidence)


def _log_width(blob: Blob, way: Way, usual_px: float) -> float:
    """Log likelihood of the width of a blob, measured as one, and of the widths of its parts.

    The chromatids of one chromosome are only half as wide as homologs.
    """
    whole, spread = _WIDTHS[min(len(way.pieces), 2) - 1]
    pairs = [(blob.ways[0].pieces[0].width_px / usual_px, whole, spread)]
    if len(way.pieces) > 1:
        parts = np.mean([piece.width_px for piece in way.pieces]) / usual_px
        pairs.append((float(parts), *_PART_WIDTH))
    return sum(
        -min(0.5 * float(np.log(width / usual) / spread) ** 2, _MOST_WIDTH)
        for width, usual, spread in pairs
        if not np.isnan(width)
    )


def _gap_odds(blobs: Sequence[Blob], new_row: Sequence[bool], half_width_px: float) -> list[float]:
    """Log odds of another place for each gap between neighbours; two kinds of gap are expected."""
    gap_N = np.array(
        [
            0.0 if at == 0 else between(blobs[at - 1].box, blob.box) / half_width_px
            for at, blob in enumerate(blobs)
        ]
    )
    inside = np.clip(gap_N[~np.array(new_row)], -1.0, 8.0)
    if len(inside) < 4 or np.ptp(inside) < 0.3:
        return [0.0] * len(blobs)
    split = float(threshold_otsu(inside))
    apart = float(inside[inside > split].mean() - inside[inside <= split].mean())
    most = _MOST_ODDS * min(1.0, apart / 1.5)
    return [float(odds) for odds in np.clip(_SLOPE * (gap_N - split), -most, most)]


_Line = list[tuple[float, Floats]]
"""Middle column and log likelihoods (T) of each printed number of a row."""


def _lines(
    blobs: Sequence[Blob], parts: Parts, log_words_NT: Floats, side: int | None
) -> list[_Line]:
    """The numbers below or above each row."""
    lines: list[_Line] = []
    reach = _LABEL_REACH * parts.half_width_px
    for row in range(blobs[-1].row + 1):
        top = min(blob.box[0] for blob in blobs if blob.row == row)
        bottom = max(blob.box[2] for blob in blobs if blob.row == row)
        line: _Line = []
        for word, log_T in zip(parts.words, log_words_NT, strict=True):
            height, column = middle(word.box)
            away = height - bottom if side == _BELOW else top - height
            if side and -0.5 * parts.half_width_px < away < reach and log_T.max() > 0:
                line.append((column, log_T))
        lines.append(line)
    return lines


def _number(piece: Piece, line: _Line, half_width_px: float) -> Floats:
    """Log likelihood ratio (T) of the types from the nearest number of the row."""
    _, column = middle(piece.box)
    away, log_T = min(
        ((abs(at - column), log_T) for at, log_T in line),
        key=lambda one: one[0],
        default=(np.inf, np.zeros(len(CHROMOSOMES))),
    )
    if away > _LABEL_ASIDE * half_width_px:
        return np.zeros(len(CHROMOSOMES))
    # Of a word that names no type nothing follows.
    probability_T = np.exp(log_T - np.logaddexp(0.0, np.logaddexp.reduce(log_T)))
    other = 1.0 - float(probability_T.sum()) * (1.0 - _ASTRAY)
    return np.asarray(np.log(other + (1.0 - _ASTRAY) * probability_T / FLAT))


def _result(blobs: Sequence[Blob], places: Places, parts: Parts) -> tuple[FoundChromosome, ...]:
    """The chromosomes with their types, or the reasons why they have none."""
    found: list[FoundChromosome] = []
    for at, blob in enumerate(blobs):
        chosen = int(np.argmax(places.reading[at]))
        pieces = blob.ways[chosen].pieces
        if places.reading[at][chosen] < CERTAIN:
            # Nothing certain is known of its parts: it is listed as a whole.
            pieces, chosen = blob.ways[0].pieces, 0
            pieces[0].fault = pieces[0].fault or INSEPARABLE
        for piece, probability_T in zip(pieces, places.probability[at][chosen], strict=True):
            found.append(_chromosome(piece, probability_T, len(pieces), parts))
    return numbered(found)


def numbered(chromosomes: Sequence[FoundChromosome]) -> tuple[FoundChromosome, ...]:
    """The chromosomes, the homologs that are used numbered from the left, the others 0."""
    copies: dict[str, int] = {}
    found = []
    for one in chromosomes:
        homolog = 0
        if not one.reason:
            homolog = copies.get(one.chromosome, 0)
            copies[one.chromosome] = homolog + 1
        found.append(replace(one, homolog=homolog))
    return tuple(found)


def _chromosome(
    piece: Piece,
    probability_T: Floats,
    num_pieces: int,
    parts: Parts,
) -> FoundChromosome:
    """What is said of one chromosome, before homologs are numbered."""
    number = int(probability_T.argmax())
    name, reason = CHROMOSOMES[number], piece.fault
    certain = bool(probability_T[number] >= CERTAIN)
    flags = [SEPARATED] * (num_pieces > 1 and not piece.fault)
    if certain:
        likely = number if piece.log_T is None else int(piece.log_T.argmax())
        if DENVER_GROUP_OF[CHROMOSOMES[likely]] != DENVER_GROUP_OF[name]:
            flags.append(UNLIKE_ITS_TYPE)
    elif not reason:
        names = [
            CHROMOSOMES[other]
            for other in np.argsort(-probability_T)[:2]
            if probability_T[other] > 0.01
        ]
        reason = f"its type is not certain: {' or '.join(names) or 'it fits no place'}"
    return FoundChromosome(
        zoomed(piece.box, parts.page_px),
        _outline(piece, parts),
        name if certain else "",
        0,
        float(probability_T[number]),
        tuple(flags),
        reason,
        piece.length_px * parts.half_width_px * parts.page_px / HALF_WIDTH_PX,
        piece.sequence_CL,
        cast(NDArray[np.uint8], piece.image_HW),
    )


def _outline(piece: Piece, parts: Parts) -> NDArray[np.float64]:
    """The longest contour of a piece on the page, with a few points for each half width."""
    contours = find_contours(np.pad(piece.mask_HW, 1).astype(float), 0.5)
    step = max(1, round(0.3 * parts.half_width_px))
    longest = max(contours, key=len)
    outline_K2 = np.concatenate([longest[:-1:step], longest[-1:]])
    shift = np.array([piece.box[0] - 0.5, piece.box[1] - 0.5])
    return np.asarray((outline_K2 + shift) * parts.page_px, np.float64)


def _refuse_others(found: Sequence[FoundChromosome]) -> None:
    """Refuses pages that hold something else than a human cell's chromosomes in order.

    Raises:
        DataError: few chromosomes have a place, or their bands are not those of their types.
    """
    used = [one for one in found if not one.reason]
    if len(used) < max(_MIN_CELL, _MIN_PLACED * len(found)):
        raise DataError(
            f"not a karyogram of a known layout: {len(used)} of {len(found)} dark shapes have a "
            "certain place in the order of chromosomes; if it is one, give the laboratory's layout"
        )
    unlike = sum(UNLIKE_ITS_TYPE in one.flags for one in used)
    if unlike > _MOST_UNLIKE * len(used):
        raise DataError(
            "not a human karyogram: the bands of most chromosomes are not those of their places"
        )
