"""Pictures of karyograms with their truth: chromosomes in rows, as systems print them.

The chromosomes are given as images, drawn or real. Around them stands what such pictures hold:
numbers, lines, frames, text about the patient, a scale bar, a logo, arrows. Positions are planned
in the pixels of the given images and multiplied by the picture's zoom.

Shape suffixes: H rows, W columns, 3 colour channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from homnet.imaging.karyogram import UM_PER_PX
from homnet.imaging.layouts import LAYOUTS, Layout
from homnet.karyotype.chromosomes import DENVER_GROUPS

Grey = NDArray[np.uint8]

CLUTTER: Final = ("frame", "lines", "text", "bar", "logo", "arrow", "groups")
"""What may stand around the chromosomes: a frame around all of it, a line under each pair, lines
about the patient, a scale bar, a logo, an arrow beside a chromosome, and letters of the groups."""
_GROUP_ENDS: Final = ("3", "5", "12", "15", "18", "20", "22")
_GROUP_LETTERS: Final = {members[0]: name for name, members in DENVER_GROUPS.items()}
_DARK: Final = 60
"""Darkness of a chromosome's edge in a given image, by which it is placed."""
_BETWEEN_PX: Final = 26
"""Mean space between neighbouring places."""
_EMPTY_PX: Final = 12.0
"""Width of a place without a chromosome."""
_LINE_PX: Final = 16
"""Height of a line of text, and space around it."""
_SPACE_ABOVE: Final = {"bottom": 1.0, "centre": 0.5, "top": 0.0}
"""Share of the space of a shorter chromosome that is above it, by alignment."""
_MARGIN_PX: Final = 30
_BAR_UM: Final = 10.0
_INK: Final = {False: ((0, 0, 0), (90, 90, 90)), True: ((190, 0, 0), (0, 60, 200))}
"""Colours of labels and of logos, without and with colour."""


@dataclass(frozen=True)
class KaryogramStyle:
    """How a system prints a karyogram."""

    layout: Layout = LAYOUTS[0]
    """Rows of types."""
    width_px: int = 1200
    """Width of the picture."""
    labels: Literal["below", "above", "none"] = "below"
    """Where the numbers stand."""
    font: str | None = None
    """Font file of all text; None is Pillow's own."""
    label_px: float = 13.0
    """Height of the font, in pixels of the given images."""
    align: Literal["bottom", "centre", "top"] = "bottom"
    """How the chromosomes of a row are aligned."""
    justified: bool = True
    """Whether every row fills the width, or places are packed to the left."""
    clutter: tuple[str, ...] = ()
    """Any of :data:`CLUTTER`."""
    touching: float = 0.0
    """Share of the pairs whose homologs touch."""
    overlap_px: tuple[float, float] = (0.0, 2.0)
    """How far touching homologs overlap, at least and at most, in pixels of the given images."""
    ground: int = 255
    """Grey level of the paper."""
    colour: bool = False
    """Whether the picture is stored as colour, with coloured labels and clutter."""


@dataclass(frozen=True)
class ChromosomeImage:
    """One chromosome, dark on white and upright."""

    chromosome: str
    """Type."""
    homolog: int
    """Place in the pair from the left, 0 or 1; 2 and more for further copies."""
    image_HW: Grey
    """Grey levels."""


@dataclass(frozen=True)
class DrawnKaryogram:
    """A picture with its truth."""

    image: Grey
    """Grey levels (H, W), or colours (H, W, 3)."""
    truth: pd.DataFrame
    """``chromosome``, ``homolog``, ``top``, ``left``, ``bottom``, ``right`` (of its dark pixels,
    bottom and right exclusive) and ``touching``, one row per chromosome in the given order."""
    px_per_um: float
    """Pixels of the picture per micrometre."""


@dataclass
class _Placed:
    """A chromosome on the page, in pixels of the given images."""

    number: int
    dark_HW: NDArray[np.bool_]
    left: float = 0.0
    top: float = 0.0
    touching: bool = False


def draw_karyogram(
    chromosomes: Sequence[ChromosomeImage], style: KaryogramStyle, draw: np.random.Generator
) -> DrawnKaryogram:
    """Lays the chromosomes of a cell out as a karyogram.

    Args:
        chromosomes: images of one scale; blank ones and types that the layout lacks are left out.
        style: how the karyogram looks.
        draw: source of spaces, of the touching pairs and of the clutter's places.
    """
    rows = [
        [_place(chromosomes, name, style, draw) for name in types] for types in style.layout.rows
    ]
    widths = [sum(max(_right(place), _EMPTY_PX) for place in row) for row in rows]
    inner = max(
        width + _BETWEEN_PX * (len(row) + _group_gaps(types))
        for width, row, types in zip(widths, rows, style.layout.rows, strict=True)
    )
    top: float = _MARGIN_PX + 3 * _LINE_PX * ("text" in style.clutter or "logo" in style.clutter)
    spots: list[tuple[str, float, float, float]] = []
    """Type, left, right and label line of each place."""
    for types, row, width in zip(style.layout.rows, rows, widths, strict=True):
        height = max((one.dark_HW.shape[0] for place in row for one in place), default=0)
        space = (inner - width) / (len(row) + _group_gaps(types))
        space = space if style.justified else min(space, _BETWEEN_PX)
        top += _LINE_PX + style.label_px * (style.labels == "above")
        left = _MARGIN_PX + space / 2
        for name, place in zip(types, row, strict=True):
            width_px = max(_right(place), _EMPTY_PX)
            for one in place:
                over = height - one.dark_HW.shape[0]
                one.top += top + over * _SPACE_ABOVE[style.align]
                one.left += left
            line = top - style.label_px - 6 if style.labels == "above" else top + height + 6
            spots.append((name, left, left + width_px, line))
            left += width_px + space * (1.0 + (name in _GROUP_ENDS and name != types[-1]))
        top += height + _LINE_PX + style.label_px * (style.labels == "below")
    page = (top + 3 * _LINE_PX + _MARGIN_PX, inner + 2 * _MARGIN_PX)
    zoom = style.width_px / page[1]
    canvas_HW = np.full((round(page[0] * zoom), style.width_px), 255, np.uint8)
    placed = sorted(
        (one for row in rows for place in row for one in place), key=lambda one: one.number
    )
    truth = [_paste(canvas_HW, chromosomes[one.number], one, zoom) for one in placed]
    on_ground_HW = np.rint(canvas_HW * (style.ground / 255)).astype(np.uint8)
    image = Image.fromarray(on_ground_HW).convert("RGB")
    _annotate(image, spots, truth, style, zoom, draw)
    return DrawnKaryogram(
        np.asarray(image if style.colour else image.convert("L")),
        pd.DataFrame(truth),
        zoom / UM_PER_PX,
    )


def _group_gaps(types: Sequence[str]) -> int:
    return sum(name in _GROUP_ENDS for name in types[:-1])


def _right(place: Sequence[_Placed]) -> float:
    return max((one.left + one.dark_HW.shape[1] for one in place), default=0.0)


def _place(
    chromosomes: Sequence[ChromosomeImage],
    name: str,
    style: KaryogramStyle,
    draw: np.random.Generator,
) -> list[_Placed]:
    """Puts the chromosomes of one type side by side, the first at 0, tops or bottoms level."""
    here = sorted(
        (one.homolog, number)
        for number, one in enumerate(chromosomes)
        if one.chromosome == name and (one.image_HW < 255 - _DARK).any()
    )
    place: list[_Placed] = []
    touch = draw.random() < style.touching
    for _, number in here:
        dark_HW = chromosomes[number].image_HW < 255 - _DARK
        rows, columns = np.flatnonzero(dark_HW.any(axis=1)), np.flatnonzero(dark_HW.any(axis=0))
        one = _Placed(number, dark_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        if place:
            before = place[-1]
            one.left = before.left + before.dark_HW.shape[1] + draw.uniform(5.0, 10.0)
            if touch:
                overlap = draw.uniform(*style.overlap_px)
                one.left -= _clear_px(before, one, style.align) + overlap
                one.touching = before.touching = True
        place.append(one)
    first = min((one.left for one in place), default=0.0)
    for one in place:
        one.left -= first
    return place


def _clear_px(before: _Placed, one: _Placed, align: str) -> float:
    """Smallest horizontal space between two neighbours."""
    heights = before.dark_HW.shape[0], one.dark_HW.shape[0]
    tall = max(heights)
    share = _SPACE_ABOVE[align]
    edge = []
    for side, of in ((1, before), (0, one)):
        over = int((tall - of.dark_HW.shape[0]) * share)
        at = np.full(tall, np.nan)
        rows = np.asarray(of.dark_HW.any(axis=1))
        columns = of.dark_HW[:, ::-1].argmax(axis=1) if side else of.dark_HW.argmax(axis=1)
        where = of.left + (of.dark_HW.shape[1] - columns if side else columns)
        at[over : over + len(rows)] = np.where(rows, where, np.nan)
        edge.append(at)
    return float(np.nanmin(edge[1] - edge[0]))


def _paste(
    canvas_HW: Grey, chromosome: ChromosomeImage, one: _Placed, zoom: float
) -> dict[str, Any]:
    """Puts a chromosome on the canvas; where two overlap, the darker pixel is seen."""
    grey_HW = chromosome.image_HW
    dark_HW = grey_HW < 255 - _DARK
    first = [int(np.flatnonzero(dark_HW.any(axis=axis))[0]) for axis in (1, 0)]
    size = round(grey_HW.shape[1] * zoom), round(grey_HW.shape[0] * zoom)
    kind = Image.Resampling.BICUBIC if zoom > 1 else Image.Resampling.LANCZOS
    seen_HW = np.asarray(Image.fromarray(grey_HW).resize((max(size[0], 1), max(size[1], 1)), kind))
    top, left = (
        max(round((at - offset) * zoom), 0)
        for at, offset in zip((one.top, one.left), first, strict=True)
    )
    seen_HW = seen_HW[: canvas_HW.shape[0] - top, : canvas_HW.shape[1] - left]
    part_HW = canvas_HW[top : top + seen_HW.shape[0], left : left + seen_HW.shape[1]]
    np.minimum(part_HW, seen_HW, out=part_HW)
    rows, columns = (np.flatnonzero((seen_HW < 255 - _DARK).any(axis=axis)) for axis in (1, 0))
    return {
        "chromosome": chromosome.chromosome,
        "homolog": chromosome.homolog,
        "top": top + int(rows[0]),
        "left": left + int(columns[0]),
        "bottom": top + int(rows[-1]) + 1,
        "right": left + int(columns[-1]) + 1,
        "touching": one.touching,
    }


def _annotate(
    image: Image.Image,
    spots: Sequence[tuple[str, float, float, float]],
    truth: Sequence[dict[str, Any]],
    style: KaryogramStyle,
    zoom: float,
    draw: np.random.Generator,
) -> None:
    """Draws labels and clutter in place, clear of the chromosomes."""
    pen = ImageDraw.Draw(image)
    ink, paint = _INK[style.colour]
    line_px = max(round(zoom), 1)
    font = _font(style.font, style.label_px * zoom)
    small = _font(style.font, 11 * zoom)
    width, height = image.size
    edge = round(8 * zoom)
    for name, left, right, line in spots:
        middle = (left + right) / 2 * zoom
        if style.labels != "none":
            pen.text((middle, line * zoom), name, ink, font, anchor="mt")
        if "lines" in style.clutter and style.labels != "above":
            at = (line - 3) * zoom
            pen.line(((left - 4) * zoom, at, (right + 4) * zoom, at), ink, line_px)
        if "groups" in style.clutter and style.labels == "below" and name in _GROUP_LETTERS:
            corner = (left - 12) * zoom, line * zoom
            pen.text(corner, _GROUP_LETTERS[name], paint, small, anchor="mt")
    if "frame" in style.clutter:
        pen.rectangle((edge, edge, width - edge, height - edge), outline=ink, width=line_px)
    if "text" in style.clutter:
        text = f"Case {draw.integers(1000, 9999)}/24   Slide {draw.integers(1, 9)}   46 chromosomes"
        pen.text((2 * edge, 2 * edge), text, ink, small)
    if "logo" in style.clutter:
        side = 30 * zoom
        pen.ellipse((width - side - 2 * edge, 2 * edge, width - 2 * edge, side + 2 * edge), paint)
    if "bar" in style.clutter:
        long_px, at = _BAR_UM * zoom / UM_PER_PX, height - 3 * edge
        right_px = width - 3 * edge
        pen.rectangle((right_px - long_px, at, right_px, at + 2 * line_px), ink)
        middle = right_px - long_px / 2
        unit = "µm" if style.font else "um"  # Pillow's own font has no µ
        pen.text((middle, at - 3 * zoom), f"{_BAR_UM:g} {unit}", ink, small, anchor="mb")
    if "arrow" in style.clutter:
        one = truth[int(draw.integers(len(truth)))]
        tip = one["left"] - 3 * zoom, (one["top"] + one["bottom"]) / 2
        pen.line((tip[0] - 7 * zoom, tip[1], *tip), paint, line_px)
        pen.line((tip[0] - 3 * zoom, tip[1] - 3 * zoom, *tip), paint, line_px)
        pen.line((tip[0] - 3 * zoom, tip[1] + 3 * zoom, *tip), paint, line_px)


def _font(path: str | None, size_px: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(path, size_px) if path else ImageFont.load_default(size_px)
