"""Shows chromosomes as SVG elements: their photographs, or drawn from their sequences.

Shape suffixes: P homologs (2), C chromatids (2: left, right), L positions, X borders of positions
(L + 1), W samples across a chromosome. Points of borders are (x, y).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from homnet.errors import DataError
from homnet.karyotype.chromosomes import CHROMOSOME_WIDTH_PX
from homnet.report.html import INK, data_uri
from homnet.report.photograph import Photograph
from homnet.report.upright import Floats, Upright, stand_up

_FONT: Final = 'font-family="system-ui, Segoe UI, Roboto, Arial, sans-serif"'
_LIGHTEST: Final = 222
_DARKEST: Final = 18
"""Grey levels of the lightest and darkest band."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture made of a sequence."""

    grey: NDArray[np.uint8]
    """Pixels (height, width), 255 outside."""
    pixel: float
    """Length of a pixel in SVG units."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A homolog as it is shown; lengths are in SVG units."""

    slot: int
    """Homolog of the pair, 0 or 1."""
    picture: Drawing | Photograph
    width: float
    height: float
    border_X2: Floats
    """Where the samples of the upright sequence begin and end, from the upper left corner."""
    half_width: float
    """Distance of the edge from the axis."""
    upright: Upright

    @property
    def centromere(self) -> float:
        """Distance of the centromere from the upper edge."""
        return float(self.border_X2[self.upright.centromere, 1])

    @property
    def length(self) -> float:
        """Length along the axis."""
        return float(np.linalg.norm(np.diff(self.border_X2, axis=0), axis=1).sum())


class Sheet:
    """Homologs of one SVG.

    Drawings become one picture, which is made faster and is smaller than one of each; photographs
    are taken from the page's album.
    """

    def __init__(self) -> None:
        self._drawings: list[tuple[Drawing, int, int]] = []
        self._photographs: list[str] = []
        self._notches: list[str] = []

    def put(self, one: Drawn, x: float, top: float) -> tuple[float, float]:
        """Places a homolog with its upper left corner at (x, top); drawings on a whole pixel.

        Returns:
            Where the corner is.
        """
        if isinstance(one.picture, Photograph):
            zoom = one.width / one.picture.width_px
            # Turning by 180 degrees is a negative scale.
            corner = (x + one.width, top + one.height) if one.upright.flipped else (x, top)
            self._photographs.append(
                f'<use href="#{one.picture.name}" transform="translate({corner[0]:.1f} '
                f'{corner[1]:.1f}) scale({-zoom if one.upright.flipped else zoom:.4g})"/>'
            )
            return x, top
        pixel = one.picture.pixel
        column, row = round(x / pixel), round(top / pixel)
        self._drawings.append((one.picture, column, row))
        return column * pixel, row * pixel

    def put_on_waist(self, one: Drawn, x: float, base: float) -> tuple[float, float]:
        """Places a homolog with its waist near height ``base``, and draws the waist of a drawing.

        Returns:
            Where its upper left corner is.
        """
        x, top = self.put(one, x, base - one.centromere)
        if isinstance(one.picture, Photograph):
            return x, top
        base = top + one.centromere
        notch, half = one.width * 0.24, one.width * 0.22
        self._notches += [
            f"M{edge:.1f} {base - half:.1f}q{turn * 2 * notch:.1f} {half:.1f} 0 {2 * half:.1f}Z"
            for edge, turn in ((x - 0.3, 1), (x + one.width + 0.3, -1))
        ]
        return x, top

    def svg(self) -> list[str]:
        """Returns the picture of the drawings, the waists upon it, and the photographs.

        Raises:
            DataError: the drawings have pixels of different lengths.
        """
        if not self._drawings:
            return self._photographs
        if len({one.pixel for one, _, _ in self._drawings}) > 1:
            raise DataError("homologs of one picture need one scale; draw them with one unit")
        pixel = self._drawings[0][0].pixel
        left = min(column for _, column, _ in self._drawings)
        top = min(row for _, _, row in self._drawings)
        height = max(row + one.grey.shape[0] for one, _, row in self._drawings) - top
        width = max(column + one.grey.shape[1] for one, column, _ in self._drawings) - left
        grey = np.full((height, width), 255, np.uint8)
        for one, column, row in self._drawings:
            rows, columns = one.grey.shape
            part = grey[row - top : row - top + rows, column - left : column - left + columns]
            np.minimum(part, one.grey, out=part)
        parts = [
            f'<image href="{_png_uri(grey)}" x="{left * pixel:.2f}" y="{top * pixel:.2f}" '
            f'width="{width * pixel:.2f}" height="{height * pixel:.2f}" '
            'preserveAspectRatio="none"/>'
        ]
        if self._notches:
            parts.append(f'<path d="{"".join(self._notches)}" fill="#fff"/>')
        return [*parts, *self._photographs]


def draw_pair(
    pair_PCL: NDArray[np.uint8],
    chromosome: str,
    typical_F: Floats | None,
    samples_per_px: float,
    unit: float,
    *,
    photographs: Sequence[Photograph | None] = (None, None),
    coarse: bool = False,
) -> list[Drawn]:
    """Returns pictures of the homologs that are present.

    Args:
        pair_PCL: darkness (2, 2, 512).
        chromosome: type.
        typical_F: typical profile of the patient's homologs of the type; without it none is turned.
        samples_per_px: samples of a sequence per image pixel.
        unit: SVG units per sample.
        photographs: of the homologs; those without one are drawn.
        coarse: draw larger pixels, and the waist at the usual share of the length: in a quarter of
            the time.
    """
    # Map the darkness range of the pair to the full grey range, alike for both homologs.
    light, dark = np.percentile(pair_PCL[pair_PCL > 0], (2, 99))
    found = []
    for slot, (sequence_CL, photograph) in enumerate(zip(pair_PCL, photographs, strict=True)):
        if not sequence_CL.any():
            continue
        upright = stand_up(sequence_CL, chromosome, typical_F, find_waist=not coarse)
        if photograph is None:
            picture, width = _drawing(
                upright.sequence_CL, samples_per_px, unit, light, dark, coarse=coarse
            )
            border_L = np.arange(upright.sequence_CL.shape[1] + 1) * unit
            border_X2 = np.stack([np.full(len(border_L), width / 2), border_L], axis=1)
            found.append(Drawn(slot, picture, width, border_L[-1], border_X2, width / 2, upright))
            continue
        zoom = unit * samples_per_px
        width, height = zoom * photograph.width_px, zoom * photograph.height_px
        border_X2 = zoom * photograph.border_X2
        if upright.flipped:
            border_X2 = (width, height) - border_X2[::-1]
        half_width = zoom * photograph.half_width_px
        found.append(Drawn(slot, photograph, width, height, border_X2, half_width, upright))
    return found


def _drawing(
    sequence_CL: NDArray[np.uint8],
    samples_per_px: float,
    unit: float,
    light: float,
    dark: float,
    *,
    coarse: bool,
) -> tuple[Drawing, float]:
    """Draws a sequence (2, L), and returns the picture and its width."""
    # Coarse pictures are made of samples that are averaged first, the others are averaged last:
    # that smooths the round ends.
    shrink, first = (3, 3) if coarse else (2, 1)
    width = round(CHROMOSOME_WIDTH_PX * samples_per_px / shrink) * shrink
    # A picture has one row of pixels at least, however short the sequence is.
    missing = max(0, shrink - sequence_CL.shape[1])
    sequence_CL = np.pad(sequence_CL, ((0, 0), (0, missing)), mode="edge")
    grey = chromosome_image(_averaged(sequence_CL, first), width // first)
    stain = np.clip((255 - grey - light) / max(dark - light, 1.0), 0, 1)
    grey = np.where(grey < 255, _LIGHTEST - (_LIGHTEST - _DARKEST) * stain, 255.0)
    last = shrink // first
    rows = len(grey) // last
    small = grey[: rows * last].reshape(rows, last, -1, last).mean(axis=(1, 3))
    return Drawing(small.round().astype(np.uint8), shrink * unit), width * unit


def side_by_side(pair: Sequence[Drawn], middle: float, gap: float) -> list[float]:
    """Returns the left edges of homologs centred on ``middle``."""
    x = middle - (sum(one.width for one in pair) + gap * (len(pair) - 1)) / 2
    return [x + sum(one.width + gap for one in pair[:number]) for number in range(len(pair))]


def _averaged(
    sequence_CL: NDArray[np.uint8], num_samples: int
) -> NDArray[np.uint8] | NDArray[np.float64]:
    """Returns a sequence with each ``num_samples`` samples averaged; a rest is left out."""
    if num_samples == 1:
        return sequence_CL
    length = sequence_CL.shape[1] // num_samples
    parts_CLX = sequence_CL[:, : length * num_samples].reshape(2, length, num_samples)
    return np.asarray(parts_CLX.mean(axis=2))


def chromosome_image(
    sequence_CL: NDArray[np.uint8] | NDArray[np.float64], width: int
) -> NDArray[np.float64]:
    """Returns a chromosome as grey levels (L', W), cut to its length, with both ends rounded.

    Args:
        sequence_CL: darkness of both chromatids (2, L), 0 beyond the end.
        width: number of samples across, W.

    Returns:
        Grey levels, 255 outside.

    Raises:
        DataError: the sequence is empty.
    """
    length = int(np.count_nonzero(sequence_CL.any(axis=0)))
    if length == 0:
        raise DataError("an empty sequence has no chromosome to draw; check the pair's homologs")
    across_W = (np.arange(width) + 0.5) / width
    right_W = np.clip((across_W - 0.4) / 0.2, 0.0, 1.0)
    left_L, right_L = sequence_CL[:, :length].astype(float)
    darkness_LW = left_L[:, None] * (1 - right_W) + right_L[:, None] * right_W
    end_L = np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5)
    radius = 0.6 * width / 2
    round_L = np.sqrt(1 - np.clip(1 - end_L / radius, 0.0, 1.0) ** 2)
    inside_LW = np.abs(2 * across_W - 1)[None] <= np.maximum(round_L, 0.3)[:, None]
    return np.where(inside_LW, 255.0 - darkness_LW, 255.0)


def text(
    x: float,
    y: float,
    words: str,
    *,
    fill: str = INK,
    size: int = 10,
    bold: bool = False,
    anchor: str = "middle",
) -> str:
    """Returns a line of text; ``anchor`` says whether its start, middle or end is at ``x``."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}" '
        f'font-weight="{700 if bold else 400}">{escape(words)}</text>'
    )


def svg(width: float, height: float, parts: Sequence[str], label: str, role: str = "img") -> str:
    """Returns an SVG of its parts.

    Args:
        width: in SVG units.
        height: likewise.
        parts: elements.
        label: text alternative for screen readers.
        role: ``"img"``, or ``"group"`` if it holds links.
    """
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="{role}" aria-label="{escape(label)}" '
        f'{_FONT} xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _png_uri(grey: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG", compress_level=6)
    return data_uri(buffer.getvalue(), "png")
