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
_SHRINK: Final = 2
"""Number of samples per pixel of a picture, in both directions."""


@dataclass(frozen=True)
class Drawn:
    """Picture of a chromosome; lengths are in SVG units."""

    uri: str
    width: float
    height: float
    centromere: float
    """Distance of the centromere from the upper end."""
    upright: Upright

    def svg(self, x: float, top: float) -> str:
        """Returns the picture with its upper left corner at (x, top)."""
        return (
            f'<image href="{self.uri}" x="{x:.1f}" y="{top:.1f}" width="{self.width:.1f}" '
            f'height="{self.height:.1f}" preserveAspectRatio="none"/>'
        )

    def svg_on_waist(self, x: float, base: float) -> list[str]:
        """Returns the picture and its waist, with the waist at height ``base``."""
        notch, half = self.width * 0.24, self.width * 0.22
        sides = [
            f"M{edge:.1f} {base - half:.1f}Q{edge + turn * 2 * notch:.1f} {base:.1f} "
            f"{edge:.1f} {base + half:.1f}Z"
            for edge, turn in ((x - 0.3, 1), (x + self.width + 0.3, -1))
        ]
        return [self.svg(x, base - self.centromere), f'<path d="{"".join(sides)}" fill="#fff"/>']


def draw_pair(
    pair_PCL: NDArray[np.uint8],
    chromosome: str,
    typical_F: Floats | None,
    samples_per_px: float,
    unit: float,
) -> list[Drawn]:
    """Returns pictures of the homologs that are present.

    Args:
        pair_PCL: darkness (2, 2, 512).
        chromosome: type.
        typical_F: typical profile of the patient's homologs of the type; without it none is turned.
        samples_per_px: samples of a sequence per image pixel.
        unit: SVG units per sample.
    """
    # Map the darkness range of the pair to the full grey range, alike for both homologs.
    light, dark = np.percentile(pair_PCL[pair_PCL > 0], (2, 99))
    width = round(CHROMOSOME_WIDTH_PX * samples_per_px / _SHRINK) * _SHRINK
    found = []
    for sequence_CL in pair_PCL:
        if not sequence_CL.any():
            continue
        upright = stand_up(sequence_CL, chromosome, typical_F)
        grey = chromosome_image(upright.sequence_CL, width)
        stain = np.clip((255 - grey - light) / max(dark - light, 1.0), 0, 1)
        grey = np.where(grey < 255, _LIGHTEST - (_LIGHTEST - _DARKEST) * stain, 255.0)
        rows = len(grey) // _SHRINK * _SHRINK
        small = grey[:rows].reshape(rows // _SHRINK, _SHRINK, -1, _SHRINK).mean(axis=(1, 3))
        found.append(
            Drawn(
                uri=_png_uri(small),
                width=width * unit,
                height=len(grey) * unit,
                centromere=upright.centromere * unit,
                upright=upright,
            )
        )
    return found


def side_by_side(pair: Sequence[Drawn], middle: float, gap: float) -> list[float]:
    """Returns the left edges of homologs centred on ``middle``."""
    x = middle - (sum(one.width for one in pair) + gap * (len(pair) - 1)) / 2
    return [x + sum(one.width + gap for one in pair[:number]) for number in range(len(pair))]


def chromosome_image(sequence_CL: NDArray[np.uint8], width: int) -> NDArray[np.float64]:
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


def svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    """Returns an SVG of its parts; ``label`` is the text alternative for screen readers."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}" '
        f'{_FONT} xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _png_uri(grey: NDArray[np.float64]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(grey.round().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return data_uri(buffer.getvalue(), "png")
