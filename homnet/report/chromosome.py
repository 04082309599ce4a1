"""Draws chromosomes from their sequences, as SVG elements.

Shape suffixes: P homologs (2), C chromatids (2: left, right), L positions, W samples across a
chromosome.
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
from homnet.report.upright import Floats, Upright, stand_up

_FONT: Final = 'font-family="system-ui, Segoe UI, Roboto, Arial, sans-serif"'
_LIGHTEST: Final = 222
_DARKEST: Final = 18
"""Grey levels of the lightest and darkest band."""


@dataclass(frozen=True)
class Drawn:
    """Picture of a homolog; lengths are in SVG units."""

    slot: int
    """Homolog of the pair, 0 or 1."""
    grey: NDArray[np.uint8]
    """Pixels (height, width), 255 outside."""
    pixel: float
    """Length of a pixel."""
    width: float
    height: float
    centromere: float
    """Distance of the centromere from the upper end."""
    upright: Upright


class Sheet:
    """Homologs that become one picture, which is made faster and is smaller than one of each."""

    def __init__(self) -> None:
        self._placed: list[tuple[Drawn, int, int]] = []
        self._notches: list[str] = []

    def put(self, one: Drawn, x: float, top: float) -> tuple[float, float]:
        """Places a homolog with its upper left corner near (x, top), on a whole pixel.

        Returns:
            Where the corner is.
        """
        column, row = round(x / one.pixel), round(top / one.pixel)
        self._placed.append((one, column, row))
        return column * one.pixel, row * one.pixel

    def put_on_waist(self, one: Drawn, x: float, base: float) -> tuple[float, float]:
        """Places a homolog with its waist near height ``base``, and draws the waist.

        Returns:
            Where its upper left corner is.
        """
        x, top = self.put(one, x, base - one.centromere)
        base = top + one.centromere
        notch, half = one.width * 0.24, one.width * 0.22
        self._notches += [
            f"M{edge:.1f} {base - half:.1f}q{turn * 2 * notch:.1f} {half:.1f} 0 {2 * half:.1f}Z"
            for edge, turn in ((x - 0.3, 1), (x + one.width + 0.3, -1))
        ]
        return x, top

    def svg(self) -> list[str]:
        """Returns the picture, and the waists upon it.

        Raises:
            DataError: the homologs have pixels of different lengths.
        """
        if not self._placed:
            return []
        if len({one.pixel for one, _, _ in self._placed}) > 1:
            raise DataError("homologs of one picture need one scale; draw them with one unit")
        pixel = self._placed[0][0].pixel
        left = min(column for _, column, _ in self._placed)
        top = min(row for _, _, row in self._placed)
        height = max(row + one.grey.shape[0] for one, _, row in self._placed) - top
        width = max(column + one.grey.shape[1] for one, column, _ in self._placed) - left
        grey = np.full((height, width), 255, np.uint8)
        for one, column, row in self._placed:
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
        return parts


def draw_pair(
    pair_PCL: NDArray[np.uint8],
    chromosome: str,
    typical_F: Floats | None,
    samples_per_px: float,
    unit: float,
    *,
    coarse: bool = False,
) -> list[Drawn]:
    """Returns pictures of the homologs that are present.

    Args:
        pair_PCL: darkness (2, 2, 512).
        chromosome: type.
        typical_F: typical profile of the patient's homologs of the type; without it none is turned.
        samples_per_px: samples of a sequence per image pixel.
        unit: SVG units per sample.
        coarse: draw larger pixels, and the waist at the usual share of the length: in a quarter of
            the time.
    """
    # Coarse pictures are made of samples that are averaged first, the others are averaged last:
    # that smooths the round ends.
    shrink, first = (3, 3) if coarse else (2, 1)
    # Map the darkness range of the pair to the full grey range, alike for both homologs.
    light, dark = np.percentile(pair_PCL[pair_PCL > 0], (2, 99))
    width = round(CHROMOSOME_WIDTH_PX * samples_per_px / shrink) * shrink
    found = []
    for slot, sequence_CL in enumerate(pair_PCL):
        if not sequence_CL.any():
            continue
        upright = stand_up(sequence_CL, chromosome, typical_F, find_waist=not coarse)
        grey = chromosome_image(_averaged(upright.sequence_CL, first), width // first)
        stain = np.clip((255 - grey - light) / max(dark - light, 1.0), 0, 1)
        grey = np.where(grey < 255, _LIGHTEST - (_LIGHTEST - _DARKEST) * stain, 255.0)
        last = shrink // first
        rows = len(grey) // last
        small = grey[: rows * last].reshape(rows, last, -1, last).mean(axis=(1, 3))
        found.append(
            Drawn(
                slot=slot,
                grey=small.round().astype(np.uint8),
                pixel=shrink * unit,
                width=width * unit,
                height=upright.sequence_CL.shape[1] * unit,
                centromere=upright.centromere * unit,
                upright=upright,
            )
        )
    return found


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
